"""Clips of different sizes into one padded batch.

Legend: B clips, T frames, H W padded size, h w size of one clip.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import pad

from univs.data.clips import ClipSample
from univs.data.packed import PackedBatch, PackedTargets
from univs.schema import Manifest


def collate(samples: Sequence[ClipSample], step: int, manifest: Manifest) -> PackedBatch:
    """Pad to the largest canvas and stack; padding belongs to no object and is marked ``ignore``."""
    height = max(sample.frames.shape[1] for sample in samples)
    width = max(sample.frames.shape[2] for sample in samples)
    return PackedBatch(
        step=step,
        dataset=manifest.dataset,
        task=manifest.task,
        label_space=manifest.label_space,
        frames=_stack([_extend_frames(sample.frames, height, width) for sample in samples]),
        colors=torch.stack([sample.color for sample in samples]),
        frame_indices=torch.stack([sample.frame_indices for sample in samples]),
        image_sizes=torch.tensor([[sample.height, sample.width] for sample in samples]),
        targets=tuple(_extend_targets(sample.targets, height, width) for sample in samples),
        keys=tuple(sample.key for sample in samples),
    )


def _stack(clips: Sequence[Tensor]) -> Tensor:
    """Add a batch axis; a single clip, as stages 2 and 3 have per GPU, is not copied."""
    return clips[0][None] if len(clips) == 1 else torch.stack(list(clips))


def _extend_targets(targets: PackedTargets, height: int, width: int) -> PackedTargets:
    below, right = height - targets.planes.shape[2], max(0, width - targets.planes.shape[3])
    planes = pad(targets.planes, (0, right, 0, below)) if below or right else targets.planes
    return replace(targets, planes=planes, width=width)


def _extend_frames(frames: Tensor, height: int, width: int) -> Tensor:
    below, right = height - frames.shape[1], width - frames.shape[2]
    return pad(frames, (0, 0, 0, right, 0, below)) if below or right else frames
