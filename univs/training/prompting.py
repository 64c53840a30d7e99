"""Draw region prompts from ground-truth masks.

Legend: B clips, N objects, P prompts, T frames, F memory frames, R tokens, C channels, H W the padded size.
"""

from dataclasses import replace

import torch
from torch import Tensor

from univs.model.regions import mask_regions, tight_boxes
from univs.model.types import RegionTokens, VisualRegions
from univs.training.config import PromptSampling
from univs.training.targets import BatchTargets


def draw_regions(
    targets: BatchTargets, sampling: PromptSampling, generator: torch.Generator
) -> VisualRegions:
    """Prompt every kept object of a clip at one of the frames that show it.

    The key frame is uniform over those frames, per object; an object that no frame shows is not valid.
    """
    rows = targets.kept_rows
    visible = _take(targets.visible, rows)
    draws = _rand(visible.shape, generator).to(rows.device)
    key_frames = draws.masked_fill(~visible, -1).argmax(-1)
    masks = targets.masks[torch.arange(len(rows), device=rows.device)[:, None], rows, key_frames]
    tight = tight_boxes(masks)
    return VisualRegions(
        masks=masks,
        boxes=jitter_boxes(tight, sampling, generator),
        points=draw_pixels(masks, generator),
        kinds=draw_kinds(rows.shape, sampling, generator).to(rows.device),
        key_frames=key_frames,
        valid=targets.kept_valid & visible.any(-1),
    )


def memory_regions(targets: BatchTargets, members: Tensor, num_frames: int) -> VisualRegions:
    """Give the ground-truth masks of the last ``num_frames`` frames of a clip as mask prompts.

    Args:
        targets: the clip.
        members: [B, P, N] bool, the object of each prompt.
        num_frames: F.

    Returns:
        Regions [B, P * F], frames varying fastest.
    """
    num_all = targets.masks.shape[2]
    rows = members.int().argmax(-1)
    recent = targets.masks[:, :, num_all - num_frames :]
    masks = _take(recent, rows).flatten(1, 2)
    frames = torch.arange(num_all - num_frames, num_all, device=rows.device)
    regions = mask_regions(masks, frames.repeat(rows.shape[1]).expand(len(rows), -1))
    known = members.any(-1).repeat_interleave(num_frames, dim=1)
    return replace(regions, valid=regions.valid & known)


def fold_slots(tokens: RegionTokens, num_frames: int) -> RegionTokens:
    """Turn tokens of P * F prompts with one slot [B, P*F, 1, R, C] into P prompts with F slots."""

    def fold(x: Tensor) -> Tensor:
        return x.squeeze(2).unflatten(1, (-1, num_frames))

    return RegionTokens(
        features=fold(tokens.features), positions=fold(tokens.positions), valid=fold(tokens.valid)
    )


def draw_kinds(shape: tuple[int, ...], sampling: PromptSampling, generator: torch.Generator) -> Tensor:
    """Draw prompt kinds: 0 mask, 1 box, 2 point."""
    draws = _rand(shape, generator)
    past_mask = draws >= sampling.mask_probability
    past_box = draws >= sampling.mask_probability + sampling.box_probability
    return past_mask.long() + past_box.long()


def draw_pixels(masks: Tensor, generator: torch.Generator) -> Tensor:
    """Draw the center of a uniform pixel of each mask [B, P, H, W]: [B, P, 2] x y fractions."""
    height, width = masks.shape[-2:]
    ranks = masks.flatten(2).cumsum(-1, dtype=torch.int32)
    counts = ranks[..., -1:]
    draws = _rand((*masks.shape[:2], 1), generator).to(masks.device)
    wanted = (draws * counts).int().clamp(max=counts - 1) + 1
    index = torch.searchsorted(ranks, wanted).clamp(max=height * width - 1)[..., 0]
    x = (index % width + 0.5) / width
    y = (index.div(width, rounding_mode="floor") + 0.5) / height
    return torch.stack([x, y], dim=-1)


def jitter_boxes(boxes: Tensor, sampling: PromptSampling, generator: torch.Generator) -> Tensor:
    """Move and resize large boxes [B, P, 4] at random; corners stay inside the image."""
    size = boxes[..., 2:] - boxes[..., :2]
    center = (boxes[..., 2:] + boxes[..., :2]) / 2
    draws = _rand((*boxes.shape[:2], 4), generator).to(boxes.device)
    noise = (2 * draws - 1) * sampling.box_jitter
    center = center + noise[..., :2] * size
    half = size * (1 + noise[..., 2:]) / 2
    moved = torch.cat([center - half, center + half], dim=-1).clamp(0, 1)
    large = size.prod(-1, keepdim=True) > sampling.jitter_min_area
    return torch.where(large, moved, boxes)


def _take(values: Tensor, rows: Tensor) -> Tensor:
    """Pick rows [B, P] of values [B, N, ...]: [B, P, ...]."""
    return values[torch.arange(len(rows), device=rows.device)[:, None], rows]


def _rand(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return torch.rand(shape, generator=generator, device=generator.device)
