"""Frames on their way into the model, and masks on their way back to the original size.

Legend: T frames, N objects, H W the original size, h w the padded size, q a quarter of the padded size.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from univs.data.images import pad_to_multiple, round_up, to_tensor
from univs.data.view import ClipView, Window, output_size


class FrameSource(Protocol):
    """Random access to the decoded frames of a video; a list or an array will do."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> NDArray[np.uint8]: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class VideoInput:
    """One video to segment."""

    video_id: str
    frames: FrameSource
    """Frame t is uint8 [H, W, 3] RGB; each is read once, in order."""
    frame_names: Sequence[str] | None = None
    """File stems; ``00000``, ``00001``, ... by default."""

    def __post_init__(self) -> None:
        """Refuse empty videos and names that do not match the frames."""
        if len(self.frames) == 0:
            raise ValueError(f"video {self.video_id!r} has no frames")
        if self.frame_names is not None and len(self.frame_names) != len(self.frames):
            raise ValueError(
                f"video {self.video_id!r}: {len(self.frame_names)} frame names for {len(self.frames)} frames"
            )

    @property
    def num_frames(self) -> int:
        """Length of the video."""
        return len(self.frames)

    @property
    def stems(self) -> tuple[str, ...]:
        """Frame names, the given ones or numbers of five digits."""
        if self.frame_names is not None:
            return tuple(self.frame_names)
        return tuple(f"{index:05d}" for index in range(self.num_frames))


@dataclass(frozen=True, kw_only=True, slots=True)
class Geometry:
    """The three sizes of a frame, each (height, width) in pixels."""

    original: tuple[int, int]
    resized: tuple[int, int]
    padded: tuple[int, int]

    @property
    def quarter(self) -> tuple[int, int]:
        """Size of mask logits."""
        return self.padded[0] // 4, self.padded[1] // 4


def plan_geometry(height: int, width: int, short_edge_px: int, max_long_edge_px: int) -> Geometry:
    """Plan the sizes of a video's frames; the same rule as for training clips."""
    resized = output_size(height, width, short_edge_px, max_long_edge_px)
    padded = (round_up(resized[0]), round_up(resized[1]))
    return Geometry(original=(height, width), resized=resized, padded=padded)


def prepare_frame(frame: NDArray[np.uint8], geometry: Geometry) -> Tensor:
    """Resize, normalize and pad one frame: uint8 [H, W, 3] to float32 [3, h, w].

    Raises:
        ValueError: the frame has not the size the video began with.
    """
    if frame.shape != (*geometry.original, 3):
        raise ValueError(
            f"frame has shape {frame.shape}, expected {(*geometry.original, 3)}: "
            f"all frames of a video must have one size"
        )
    (height, width), (to_height, to_width) = geometry.original, geometry.resized
    whole = Window(left=0, top=0, width=width, height=height)
    resized = ClipView(windows=(whole,), height=to_height, width=to_width).warp_frame(frame, 0)
    return pad_to_multiple(to_tensor(resized[None]))[0]


def prepare_mask(mask: NDArray[np.bool_], geometry: Geometry) -> Tensor:
    """Resize and pad a given mask: [H, W] to bool [h, w]; a mask with pixels never vanishes."""
    if mask.shape != geometry.original:
        raise ValueError(f"mask has shape {mask.shape}, its frame {geometry.original}")
    pixels = torch.from_numpy(np.ascontiguousarray(mask)).float()[None, None]
    share = functional.interpolate(pixels, size=geometry.resized, mode="area")[0, 0]
    resized = share >= 0.5
    if not resized.any():
        resized = share > 0
    height, width = geometry.resized
    bottom, right = geometry.padded[0] - height, geometry.padded[1] - width
    return functional.pad(resized, (0, right, 0, bottom))


def restore_logits(mask_logits: Tensor, geometry: Geometry) -> Tensor:
    """Bring mask logits back to the original size: [N, hq, wq] to [N, H, W]."""
    height, width = geometry.resized
    full = _resize(mask_logits, geometry.padded)[:, :height, :width]
    return full if geometry.resized == geometry.original else _resize(full, geometry.original)


def upsample_masks(masks: Tensor) -> Tensor:
    """Repeat the cells of quarter-size masks: bool [..., hq, wq] to [..., h, w]."""
    return masks.repeat_interleave(4, dim=-1).repeat_interleave(4, dim=-2)


def _resize(logits: Tensor, size: tuple[int, int]) -> Tensor:
    if logits.shape[0] == 0:
        return logits.new_zeros((0, *size))
    return functional.interpolate(logits[None], size=size, mode="bilinear", align_corners=False)[0]
