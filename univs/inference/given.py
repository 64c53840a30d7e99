"""Masks given by the user, and how they stand against predicted ones.

Legend: N objects, K frames, T frames of a video, H W the original size, h w the padded size.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from univs.inference.frames import Geometry, VideoInput, prepare_mask, upsample_masks
from univs.inference.window import MaskWindow


@dataclass(frozen=True, kw_only=True, slots=True)
class FirstMask:
    """The mask an object is given by."""

    frame_index: int
    """Position in the video; the object is not looked for before it."""
    mask: NDArray[np.bool_]
    """[H, W]."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GivenMasks:
    """All first masks on the model's canvas."""

    frames: Tensor
    """[N] int64 positions in the video."""
    masks: Tensor
    """[N, h, w] bool."""

    def inside(self, start: int, stop: int) -> Tensor:
        """Tell the objects given in frames start..stop-1: [N] bool."""
        return (self.frames >= start) & (self.frames < stop)


def place_given(
    objects: Mapping[str, FirstMask], video: VideoInput, geometry: Geometry, device: torch.device
) -> GivenMasks:
    """Bring first masks to the model's canvas.

    Raises:
        ValueError: there is none, one is empty, or lies outside the video.
    """
    if not objects:
        raise ValueError(f"video {video.video_id!r} has no object to follow")
    for object_id, first in objects.items():
        if not 0 <= first.frame_index < video.num_frames or not first.mask.any():
            raise ValueError(
                f"video {video.video_id!r}, object {object_id!r}: expected a non-empty mask in one of "
                f"{video.num_frames} frames, got {int(first.mask.sum())} pixels in frame {first.frame_index}"
            )
    frames = torch.tensor([first.frame_index for first in objects.values()], device=device)
    masks = torch.stack([prepare_mask(first.mask, geometry) for first in objects.values()])
    return GivenMasks(frames=frames, masks=masks.to(device))


def known_masks(window: MaskWindow, given: GivenMasks, frames: Tensor) -> Tensor:
    """Give the masks known at some frames of the video: [K] to disjoint bool [N, K, h, w].

    A given mask stands as it is; the others make room for it.
    """
    claims = exclusive_masks(window.mean_logits()[:, frames - window.start])
    masks = upsample_masks(claims)
    is_given = given.frames[:, None] == frames[None]
    fixed = given.masks[:, None] & is_given[..., None, None]
    return fixed | (masks & ~fixed.any(0, keepdim=True) & ~is_given[..., None, None])


def exclusive_masks(mask_logits: Tensor) -> Tensor:
    """Give every pixel to the most probable object that holds it: [N, ...] to bool [N, ...]."""
    best, owners = mask_logits.max(0)
    index = torch.arange(len(mask_logits), device=mask_logits.device)
    return (owners[None] == index.view(-1, *[1] * owners.dim())) & (best > 0)[None]


def keep_given(masks: NDArray[np.bool_], objects: Mapping[str, FirstMask]) -> None:
    """Put the given masks back, in front of whatever was predicted there."""
    for first in objects.values():
        masks[:, first.frame_index] &= ~first.mask
    for row, first in enumerate(objects.values()):
        masks[row, first.frame_index] |= first.mask
