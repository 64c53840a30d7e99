"""Mask logits of the frames in the current clip, summed over the clips that saw them.

Legend: N objects, T frames in the window, q a quarter of the padded size.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

UNSEEN_LOGIT = -20.0
"""Logit of a mask that no clip predicted: no pixel of it survives a threshold."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MaskWindow:
    """A sliding window of accumulated mask logits."""

    start: int
    """Position in the video of the first frame held."""
    sums: Tensor
    """[N, T, hq, wq] sum of the accepted logits."""
    counts: Tensor
    """[N, T] how many predictions are in the sum."""

    @classmethod
    def empty(cls, num_objects: int, size: tuple[int, int], device: torch.device) -> "MaskWindow":
        """Make a window of no frames."""
        return cls(
            start=0,
            sums=torch.zeros((num_objects, 0, *size), device=device),
            counts=torch.zeros((num_objects, 0), device=device),
        )

    @property
    def stop(self) -> int:
        """Position in the video after the last frame held."""
        return self.start + self.counts.shape[1]

    def moved(self, start: int, stop: int) -> "MaskWindow":
        """Drop the frames before ``start`` and append blank ones up to ``stop``."""
        dropped, added = start - self.start, stop - max(self.stop, start)
        return MaskWindow(
            start=start,
            sums=functional.pad(self.sums[:, dropped:], (0, 0, 0, 0, 0, added)),
            counts=functional.pad(self.counts[:, dropped:], (0, added)),
        )

    def accumulated(self, mask_logits: Tensor, accepted: Tensor) -> "MaskWindow":
        """Add the logits [N, T, hq, wq] of the accepted [N, T] objects and frames."""
        weights = accepted.to(self.counts.dtype)
        added = torch.where(accepted[..., None, None], mask_logits.to(self.sums.dtype), 0.0)
        return replace(self, sums=self.sums + added, counts=self.counts + weights)

    def grown(self, num_objects: int) -> "MaskWindow":
        """Append blank rows for new objects."""
        return replace(
            self,
            sums=torch.cat([self.sums, self.sums.new_zeros((num_objects, *self.sums.shape[1:]))]),
            counts=torch.cat([self.counts, self.counts.new_zeros((num_objects, self.counts.shape[1]))]),
        )

    def selected(self, rows: Tensor) -> "MaskWindow":
        """Keep some rows."""
        return replace(self, sums=self.sums[rows], counts=self.counts[rows])

    def mean_logits(self) -> Tensor:
        """Average over the predictions: [N, T, hq, wq], ``UNSEEN_LOGIT`` where there is none."""
        counts = self.counts[..., None, None]
        return torch.where(counts > 0, self.sums / counts.clamp(min=1), UNSEEN_LOGIT)
