"""Clips and batches as they travel from worker to trainer: bytes, unpacked on the device that trains.

Masks are eight to a byte and frames are what the decoder gave, so a batch is five to eight times smaller
than what the model takes in, and normalization costs no CPU.

Legend: B clips, T frames, N objects, E expressions, P planes of eight masks, K categories, H W the padded
size, h w the size of one clip.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from univs.data.batch import ClipBatch, ClipTargets
from univs.data.images import normalize_colored
from univs.labels import LabelSpace
from univs.schema import Task


@dataclass(frozen=True, kw_only=True)
class PackedTargets:
    """Ground truth of one clip; row i of every field is the same object."""

    planes: Tensor
    """[P, T, H, >= W] uint8, eight masks each; what is right of W is zero."""
    width: int
    """W"""
    members: Tensor
    """[N + 1, P] uint8 bits whose union is the object; the last row is the ignored pixels. On the CPU."""
    labels: Tensor
    """[N] int64; likewise below, see ``ClipTargets``."""
    object_ids: Tensor
    is_thing: Tensor
    expression_objects: Tensor
    expressions: tuple[str, ...]
    judged_labels: Tensor | None

    def unpack(self, height: int, width: int, device: torch.device | None = None) -> ClipTargets:
        """Give the targets of a clip of this size on a device."""
        planes = self.planes.to(device, non_blocking=True)[..., : self.width]
        masks = _unpack_masks(planes, self.members)
        ignore = masks[-1] & ~masks[:-1].any(0)
        ignore[:, height:] = True
        ignore[:, :, width:] = True
        judged = self.judged_labels
        return ClipTargets(
            masks=masks[:-1],
            labels=self.labels.to(device, non_blocking=True),
            object_ids=self.object_ids.to(device, non_blocking=True),
            is_thing=self.is_thing.to(device, non_blocking=True),
            expression_objects=self.expression_objects.to(device, non_blocking=True),
            expressions=self.expressions,
            ignore=ignore,
            judged_labels=None if judged is None else judged.to(device, non_blocking=True),
        )


@dataclass(frozen=True, kw_only=True)
class PackedBatch:
    """One rank's part of a step; see ``ClipBatch``."""

    step: int
    dataset: str
    task: Task
    label_space: LabelSpace | None
    frames: Tensor
    """[B, T, H, W, 3] uint8 RGB."""
    colors: Tensor
    """[B, 3, 4] float32 maps of RGB, the last column added: what normalization does besides."""
    frame_indices: Tensor
    image_sizes: Tensor
    targets: tuple[PackedTargets, ...]
    keys: tuple[str, ...]

    def unpack(self, device: torch.device | None = None) -> ClipBatch:
        """Normalize frames and spread masks on a device."""
        sizes: list[list[int]] = self.image_sizes.tolist()
        return ClipBatch(
            step=self.step,
            dataset=self.dataset,
            task=self.task,
            label_space=self.label_space,
            frames=self._finish(self.frames.to(device, non_blocking=True), sizes),
            frame_indices=self.frame_indices.to(device, non_blocking=True),
            image_sizes=self.image_sizes.to(device, non_blocking=True),
            targets=tuple(
                target.unpack(height, width, device)
                for target, (height, width) in zip(self.targets, sizes, strict=True)
            ),
            keys=self.keys,
        )

    def pin_memory(self) -> "PackedBatch":
        """Move the pixels to memory that a GPU copies from without waiting."""
        targets = tuple(replace(target, planes=target.planes.pin_memory()) for target in self.targets)
        return replace(self, frames=self.frames.pin_memory(), targets=targets)

    def _finish(self, frames: Tensor, sizes: list[list[int]]) -> Tensor:
        """Color and normalize [B, T, H, W, 3] to float32 [B, T, 3, H, W]; padding is zero, the mean color."""
        finished = torch.stack(
            [normalize_colored(clip, color) for clip, color in zip(frames, self.colors, strict=True)]
        )
        for clip, (height, width) in zip(finished, sizes, strict=True):
            clip[..., height:, :] = 0
            clip[..., width:] = 0
        return finished


def _unpack_masks(planes: Tensor, members: Tensor) -> Tensor:
    """Spread planes [P, T, H, W] to bool [N + 1, T, H, W]; every row is the union of its bits."""
    masks = torch.zeros(len(members), *planes.shape[1:], dtype=torch.bool, device=planes.device)
    for index, plane in enumerate(planes):
        for row in members[:, index].nonzero()[:, 0].tolist():
            masks[row] |= (plane & int(members[row, index])) != 0
    return masks
