"""Pixel features taken inside prompted regions, for all prompts of a batch at once.

Legend: B clips, T frames, P prompts, R tokens per prompt, C channels, h w the stride-8 map.
"""

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from univs.model.position import SinePosition
from univs.model.types import Features, RegionTokens, VisualRegions

MASK_KIND, BOX_KIND, POINT_KIND, SCRIBBLE_KIND = 0, 1, 2, 3
CELL_TOLERANCE = 1e-4
"""Fraction of a cell that rounding of box coordinates may cost or add."""


@torch.no_grad()
def region_tokens(
    features: Features,
    regions: VisualRegions,
    positions: SinePosition,
    num_tokens: int,
    generator: torch.Generator | None,
) -> RegionTokens:
    """Take ``num_tokens`` cells of each region from the stride-8 level of its key frame.

    Masks, boxes and scribbles give random cells inside them, repeated in turn where there are fewer; a
    point gives its bilinear sample, repeated. The slot axis of the result has length 1.
    """
    source = features.levels[2].detach().float()
    inside = cells_inside(regions, source.shape[-2], source.shape[-1])
    cells = choose_cells(inside, num_tokens, generator)
    is_point = (regions.kinds == POINT_KIND)[..., None, None]
    times = _at_key_frames(positions.time(features.frame_indices), regions.key_frames)
    grid = positions.grid(source.shape[-2], source.shape[-1], source.device)
    token_positions = torch.where(
        is_point, positions.points(regions.points, times)[:, :, None], grid[cells] + times[:, :, None]
    )
    tokens = torch.where(is_point, _sample_points(source, regions), _take_cells(source, regions, cells))
    found = torch.where(regions.kinds == POINT_KIND, _in_image(regions.points), inside.any(-1))
    has_token = found & regions.valid
    valid = has_token[..., None].expand(cells.shape)
    return RegionTokens(
        features=(tokens * valid[..., None])[:, :, None],
        positions=(token_positions * valid[..., None])[:, :, None],
        valid=valid[:, :, None],
    )


def mask_regions(masks: Tensor, key_frames: Tensor) -> VisualRegions:
    """Prompt with masks [B, P, H, W] at clip positions [B, P]; empty ones are not valid."""
    boxes = tight_boxes(masks)
    return VisualRegions(
        masks=masks,
        boxes=boxes,
        points=(boxes[..., :2] + boxes[..., 2:]) / 2,
        kinds=torch.full(masks.shape[:2], MASK_KIND, device=masks.device),
        key_frames=key_frames,
        valid=masks.flatten(2).any(-1),
    )


def scribble_regions(scribbles: Tensor, key_frames: Tensor) -> VisualRegions:
    """Prompt with thin masks [B, P, H, W] at clip positions [B, P]; empty ones are not valid."""
    return replace(mask_regions(scribbles, key_frames), kinds=torch.full_like(key_frames, SCRIBBLE_KIND))


def box_regions(boxes: Tensor, key_frames: Tensor, size: tuple[int, int]) -> VisualRegions:
    """Prompt with boxes [B, P, 4], x1 y1 x2 y2 fractions of the padded ``size``; empty ones are not valid."""
    return VisualRegions(
        masks=_no_masks(key_frames, size),
        boxes=boxes,
        points=(boxes[..., :2] + boxes[..., 2:]) / 2,
        kinds=torch.full_like(key_frames, BOX_KIND),
        key_frames=key_frames,
        valid=(boxes[..., 2:] > boxes[..., :2]).all(-1),
    )


def point_regions(points: Tensor, key_frames: Tensor, size: tuple[int, int]) -> VisualRegions:
    """Prompt with points [B, P, 2], x y as fractions of the padded ``size``; those outside are not valid."""
    return VisualRegions(
        masks=_no_masks(key_frames, size),
        boxes=torch.cat([points, points], dim=-1),
        points=points,
        kinds=torch.full_like(key_frames, POINT_KIND),
        key_frames=key_frames,
        valid=_in_image(points),
    )


def _no_masks(key_frames: Tensor, size: tuple[int, int]) -> Tensor:
    return torch.zeros((), dtype=torch.bool, device=key_frames.device).expand(*key_frames.shape, *size)


def _in_image(points: Tensor) -> Tensor:
    return ((points >= 0) & (points <= 1)).all(-1)


def tight_boxes(masks: Tensor) -> Tensor:
    """Bound masks [..., H, W] by half-open boxes x1 y1 x2 y2 as fractions [..., 4], zeros if empty."""
    height, width = masks.shape[-2:]
    return mask_boxes(masks) / torch.tensor([width, height, width, height], device=masks.device)


def mask_boxes(masks: Tensor) -> Tensor:
    """Bound masks [..., H, W] by half-open boxes x1 y1 x2 y2 in pixels [..., 4], zeros if empty."""
    x1, x2 = _extent(masks.any(-2))
    y1, y2 = _extent(masks.any(-1))
    return torch.stack([x1, y1, x2, y2], dim=-1)


def _extent(occupied: Tensor) -> tuple[Tensor, Tensor]:
    """Give first and last-plus-one true position of [..., n]; zeros if none is."""
    first = occupied.int().argmax(-1)
    stop = occupied.shape[-1] - occupied.flip(-1).int().argmax(-1)
    return first, torch.where(occupied.any(-1), stop, first)


def cells_inside(regions: VisualRegions, height: int, width: int) -> Tensor:
    """Tell the cells of a map that lie inside each mask, scribble or box: [B, P, h * w] bool.

    A mask owns the cells it fills by half, and where it fills none so far, those it fills most: an object
    of a single pixel still has a cell. A box and a scribble own every cell they touch.
    """
    area = F.adaptive_avg_pool2d(regions.masks.float(), (height, width)).flatten(2)
    is_scribble = (regions.kinds == SCRIBBLE_KIND)[..., None]
    fills = area >= area.amax(-1, keepdim=True).clamp(max=0.5)
    in_mask = (area > 0) & (fills | is_scribble)
    is_box = (regions.kinds == BOX_KIND)[..., None]
    return torch.where(is_box, _cells_in_boxes(regions.boxes, height, width), in_mask)


def _cells_in_boxes(boxes: Tensor, height: int, width: int) -> Tensor:
    columns = torch.arange(width, device=boxes.device)
    rows = torch.arange(height, device=boxes.device)
    x1, y1, x2, y2 = boxes.float()[..., None].unbind(2)
    in_columns = (columns + 1 > x1 * width + CELL_TOLERANCE) & (columns < x2 * width - CELL_TOLERANCE)
    in_rows = (rows + 1 > y1 * height + CELL_TOLERANCE) & (rows < y2 * height - CELL_TOLERANCE)
    return (in_rows[..., None] & in_columns[..., None, :]).flatten(2)


def choose_cells(inside: Tensor, num_tokens: int, generator: torch.Generator | None) -> Tensor:
    """Draw distinct cells inside [..., S], starting over where there are too few: [..., R] indices.

    Rows with no cell inside get arbitrary cells.
    """
    source_device = inside.device if generator is None else generator.device
    keys = torch.rand(inside.shape, generator=generator, device=source_device).to(inside.device)
    # Keys lie in [0, 1), so whatever is outside sorts after everything inside.
    order = keys.sub(inside.logical_not().float()).topk(min(num_tokens, inside.shape[-1]), dim=-1).indices
    num_inside = inside.sum(-1, keepdim=True).clamp(1, order.shape[-1])
    turn = torch.arange(num_tokens, device=inside.device) % num_inside
    return order.gather(-1, turn)


def _at_key_frames(values: Tensor, key_frames: Tensor) -> Tensor:
    """Pick [B, T, C] at [B, P] -> [B, P, C]."""
    return values.gather(1, key_frames[..., None].expand(-1, -1, values.shape[-1]))


def _take_cells(source: Tensor, regions: VisualRegions, cells: Tensor) -> Tensor:
    """Read the cells [B, P, R] of the key frames of [B, T, C, h, w] -> [B, P, R, C]."""
    num_cells = source.shape[-2] * source.shape[-1]
    rows = source.flatten(3).transpose(2, 3).flatten(1, 2)
    index = (cells + num_cells * regions.key_frames[..., None]).flatten(1)
    taken = rows.gather(1, index[..., None].expand(-1, -1, rows.shape[-1]))
    return taken.unflatten(1, cells.shape[1:])


def _sample_points(source: Tensor, regions: VisualRegions) -> Tensor:
    """Read the points of the key frames of [B, T, C, h, w] bilinearly -> [B, P, 1, C]."""
    depth = (2 * regions.key_frames.float() + 1) / source.shape[1] - 1
    grid = torch.cat([2 * regions.points.float() - 1, depth[..., None]], dim=-1)
    volume = source.transpose(1, 2)
    samples = F.grid_sample(volume, grid[:, :, None, None], padding_mode="zeros", align_corners=False)
    return samples.flatten(2).transpose(1, 2)[:, :, None]
