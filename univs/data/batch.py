"""One training batch: clips of a single dataset, hence of a single task and label space.

Legend: B clips, T frames, N objects, E expressions, K categories, H W the padded size (a multiple of 32).
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from univs.labels import LabelSpace
from univs.schema import Task


@dataclass(frozen=True, kw_only=True)
class ClipTargets:
    """Ground truth of one clip; row i of every field is the same object."""

    masks: Tensor
    """[N, T, H, W] bool on the padded canvas."""
    labels: Tensor
    """[N] int64 labels in the batch's label space, -1 = class-less."""
    object_ids: Tensor
    """[N] int64, unique in the clip."""
    is_thing: Tensor
    """[N] bool; class-less objects are things."""
    expression_objects: Tensor
    """[E] int64, row of ``masks`` each expression names (several objects are one merged row)."""
    expressions: tuple[str, ...]
    """E strings; empty unless the task is grounding."""
    ignore: Tensor
    """[T, H, W] bool: void, crowd and padding pixels; no loss is taken there."""
    judged_labels: Tensor | None = None
    """[K] bool, the categories of which a pixel without an object shows that there is none: in a federated
    dataset, those that annotators looked for in this item. ``None`` means all. Of any other category
    nothing is known, so it is no negative, neither for a query nor as a prompt."""

    @property
    def visible(self) -> Tensor:
        """[N, T] bool, whether the object has a pixel in the frame."""
        return self.masks.flatten(2).any(-1)

    def slice_frames(self, start: int, stop: int) -> "ClipTargets":
        """Keep frames start..stop-1; rows stay, so identities do too."""
        return replace(self, masks=self.masks[:, start:stop], ignore=self.ignore[start:stop])


@dataclass(frozen=True, kw_only=True)
class ClipBatch:
    """What one training step consumes."""

    step: int
    dataset: str
    task: Task
    label_space: LabelSpace | None
    frames: Tensor
    """[B, T, 3, H, W] float32, normalized, zero-padded at the bottom and right."""
    frame_indices: Tensor
    """[B, T] int64 positions in the source video."""
    image_sizes: Tensor
    """[B, 2] int64 (height, width) before padding."""
    targets: tuple[ClipTargets, ...]
    keys: tuple[str, ...]
    """Sample keys, for tracing a loss back to its data."""

    def to(self, device: torch.device) -> "ClipBatch":
        """Move every tensor to a device."""
        targets = tuple(_targets_to(target, device) for target in self.targets)
        return replace(
            self,
            frames=self.frames.to(device, non_blocking=True),
            frame_indices=self.frame_indices.to(device, non_blocking=True),
            image_sizes=self.image_sizes.to(device, non_blocking=True),
            targets=targets,
        )

    def slice_frames(self, start: int, stop: int) -> "ClipBatch":
        """Keep frames start..stop-1 of every clip."""
        return replace(
            self,
            frames=self.frames[:, start:stop],
            frame_indices=self.frame_indices[:, start:stop],
            targets=tuple(target.slice_frames(start, stop) for target in self.targets),
        )


def _targets_to(targets: ClipTargets, device: torch.device) -> ClipTargets:
    judged = targets.judged_labels
    return replace(
        targets,
        masks=targets.masks.to(device, non_blocking=True),
        labels=targets.labels.to(device, non_blocking=True),
        object_ids=targets.object_ids.to(device, non_blocking=True),
        is_thing=targets.is_thing.to(device, non_blocking=True),
        expression_objects=targets.expression_objects.to(device, non_blocking=True),
        ignore=targets.ignore.to(device, non_blocking=True),
        judged_labels=None if judged is None else judged.to(device, non_blocking=True),
    )
