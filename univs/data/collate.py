"""Clips of different sizes into one padded batch.

Legend: B clips, T frames, H W padded size, h w size of one clip.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import pad

from univs.data.batch import ClipBatch, ClipTargets
from univs.data.clips import ClipSample
from univs.data.images import round_up, to_tensor
from univs.schema import Manifest


def collate(samples: Sequence[ClipSample], step: int, manifest: Manifest) -> ClipBatch:
    """Normalize, pad to the largest clip rounded up to the backbone's stride, and stack.

    Padding pixels are zero (the mean color), belong to no object and are marked ``ignore``.
    """
    height = round_up(max(sample.height for sample in samples))
    width = round_up(max(sample.width for sample in samples))
    frames = torch.zeros(len(samples), len(samples[0].frame_indices), 3, height, width)
    for canvas, sample in zip(frames, samples, strict=True):
        canvas[..., : sample.height, : sample.width] = to_tensor(sample.frames)
    return ClipBatch(
        step=step,
        dataset=manifest.dataset,
        task=manifest.task,
        label_space=manifest.label_space,
        frames=frames,
        frame_indices=torch.stack([sample.frame_indices for sample in samples]),
        image_sizes=torch.tensor([[sample.height, sample.width] for sample in samples]),
        targets=tuple(_pad_targets(sample.targets, height, width) for sample in samples),
        keys=tuple(sample.key for sample in samples),
    )


def _pad_targets(targets: ClipTargets, height: int, width: int) -> ClipTargets:
    return replace(
        targets,
        masks=_extend(targets.masks, height, width, value=False),
        ignore=_extend(targets.ignore, height, width, value=True),
    )


def _extend(masks: Tensor, height: int, width: int, *, value: bool) -> Tensor:
    return pad(masks, (0, width - masks.shape[-1], 0, height - masks.shape[-2]), value=value)
