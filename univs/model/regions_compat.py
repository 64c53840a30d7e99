"""Region tokens as the original takes them at inference, for parity with its numbers (``reference_compat``).

What differs from ``regions``: masks are read off every eighth pixel; boxes are shifted by a cell; a region
without a cell gives blank tokens at a random place, and blank tokens are attended to. Sampling goes object by
object, since the original draws numbers that way.

Legend: B clips, T frames, P prompts, S slots, R tokens of a slot, C channels, h w the stride-8 map.
"""

from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F
from torch import Tensor

from univs.draws import Draws
from univs.model.position import SinePosition
from univs.model.regions import BOX_KIND, POINT_KIND, SCRIBBLE_KIND, cells_inside
from univs.model.types import Features, RegionTokens, VisualRegions

CELL_STRIDE = 8
MASK_THRESHOLD = 0.5
CENTRAL_SHARE = 0.25
"""How far from the center, in sizes of the box, lies the place of a region without cells."""


@dataclass(frozen=True, kw_only=True)
class KeyFrame:
    """What the prompts at one frame read from."""

    source: Tensor
    """[C, h, w] features at stride 8."""
    cell_positions: Tensor
    """[h * w, C] encodings of its cells."""
    time: Tensor
    """[C] encoding of its time, for points."""
    positions: SinePosition

    def take(self, cells: Tensor) -> tuple[Tensor, Tensor]:
        """Read features and positions [R, C] of cells [R]."""
        return self.source.flatten(1).T[cells], self.cell_positions[cells]

    def read(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Read features and positions [P, C] at points [P, 2] (x y fractions)."""
        grid = (2 * points.float() - 1)[None, :, None]
        samples = F.grid_sample(self.source[None], grid, padding_mode="zeros", align_corners=False)
        return samples[0, :, :, 0].T, self.positions.points(points, self.time)


@torch.no_grad()
def original_region_tokens(
    features: Features, regions: VisualRegions, positions: SinePosition, num_tokens: int, draws: Draws
) -> RegionTokens:
    """Take tokens [B, P, 1, R, C] as the original does at inference.

    Invalid regions are padding, which the original does not have; an object out of sight is a valid one.
    """
    source = features.levels[2].detach().float()
    size = (source.shape[-2], source.shape[-1])
    cell_positions = positions.cells(features.frame_indices, *size)
    times = positions.time(features.frame_indices)
    touched = cells_inside(regions, *size)
    clips = []
    for clip in range(len(source)):
        frames = [
            KeyFrame(source=picture, cell_positions=cells, time=time, positions=positions)
            for picture, cells, time in zip(source[clip], cell_positions[clip], times[clip], strict=True)
        ]
        clips.append(_clip_tokens(frames, _clip_regions(regions, clip), touched[clip], num_tokens, draws))
    content, places = (torch.stack([clip[part] for clip in clips])[:, :, None] for part in range(2))
    present = torch.stack([_present(_clip_regions(regions, clip)) for clip in range(len(source))])
    return RegionTokens(
        features=content, positions=places, valid=present[:, :, None, None].expand(content.shape[:-1])
    )


def mean_of_nonzero(tokens: Tensor) -> Tensor:
    """Average tokens [B, P, S, R, C] over those that are not all zero."""
    counts = (tokens != 0).any(-1, keepdim=True).sum(3)
    return tokens.sum(3) / counts.clamp(min=1)


def first_clip_slots(current: RegionTokens, num_frames: int) -> RegionTokens:
    """Lay out the keys of a video's first clip: the slot of the first appearance, then one per frame."""
    slots = [0, *(slot % current.valid.shape[2] for slot in range(num_frames))]
    return RegionTokens(
        features=current.features[:, :, slots],
        positions=current.positions[:, :, slots],
        valid=current.valid[:, :, slots],
    )


def corner_cells(masks: Tensor) -> Tensor:
    """Tell the cells whose first pixel lies in each mask [P, H, W]: [P, h * w] bool.

    The threshold is shared: where no mask has a cell, every cell is in all of them.
    """
    corners = masks[:, ::CELL_STRIDE, ::CELL_STRIDE].flatten(1).float()
    return corners >= F.pad(corners, (0, 0, 0, 1)).amax().clamp(max=MASK_THRESHOLD)


def shifted_box_cells(boxes: Tensor, height: int, width: int) -> Tensor:
    """Tell the cells in boxes [P, 4], one too far to the right and down: [P, h * w] bool."""
    columns = torch.arange(width, device=boxes.device)
    rows = torch.arange(height, device=boxes.device)
    x1, y1, x2, y2 = boxes[..., None].unbind(1)
    in_columns = (columns > (x1 * width).floor()) & (columns <= (x2 * width).ceil())
    in_rows = (rows > (y1 * height).floor()) & (rows <= (y2 * height).ceil())
    return (in_rows[:, :, None] & in_columns[:, None]).flatten(1)


def choose_inside(inside: Tensor, num_tokens: int, draws: Draws) -> Tensor:
    """Choose cells [R] of those inside [h * w]: all in turn where there are fewer, else random ones."""
    cells = inside.nonzero()[:, 0]
    if len(cells) < num_tokens:
        return cells[torch.arange(num_tokens, device=cells.device) % len(cells)]
    return cells[draws.randperm(len(cells), device=cells.device)[:num_tokens]]


def central_pixel(mask: Tensor, box: Tensor, draws: Draws) -> Tensor:
    """Draw the center [2] of a pixel of a mask [H, W], a central one if it can be; of any if it is empty."""
    height, width = mask.shape
    rows, columns = (mask if mask.any() else torch.ones_like(mask)).nonzero().T
    points = torch.stack([(columns + 0.5) / width, (rows + 0.5) / height], dim=-1)
    center, size = (box[:2] + box[2:]) / 2, box[2:] - box[:2]
    central = points[((points - center).abs() < CENTRAL_SHARE * size).all(1)]
    points = central if len(central) else points
    return points[draws.randperm(len(points), device=points.device)[0]]


def _clip_regions(regions: VisualRegions, clip: int) -> VisualRegions:
    """Give the regions of one clip, without the leading axis."""
    return VisualRegions(**{field.name: getattr(regions, field.name)[clip] for field in fields(regions)})


def _clip_tokens(
    frames: list[KeyFrame], regions: VisualRegions, touched: Tensor, num_tokens: int, draws: Draws
) -> tuple[Tensor, Tensor]:
    """Sample the prompts of one clip: content and places [P, R, C].

    ``touched`` [P, h * w] tells the cells of scribbles, which the original does not know.
    """
    source = frames[0].source
    shape = (len(regions.kinds), num_tokens, source.shape[0])
    content, places = source.new_zeros(shape), source.new_zeros(shape)
    inside = _inside(regions, touched, source.shape[1], source.shape[2])
    spots, present = _box_spots(regions, draws), _present(regions)
    for row in regions.valid.nonzero()[:, 0].tolist():
        frame, kind = frames[int(regions.key_frames[row])], int(regions.kinds[row])
        if kind == POINT_KIND:
            tokens = frame.read(regions.points[row, None])
        elif inside[row].any():
            tokens = frame.take(choose_inside(inside[row], num_tokens, draws))
        elif kind == BOX_KIND:
            tokens = frame.read(spots[row, None])
        else:
            _, place = frame.read(central_pixel(regions.masks[row], regions.boxes[row], draws)[None])
            tokens = (torch.zeros_like(place), place)
        content[row], places[row] = tokens[0] * present[row], tokens[1] * present[row]
    return content, places


def _inside(regions: VisualRegions, touched: Tensor, height: int, width: int) -> Tensor:
    """Tell the cells inside each mask, scribble or box: [P, h * w] bool."""
    kinds = regions.kinds[:, None]
    others = (kinds == BOX_KIND) | (kinds == POINT_KIND) | (kinds == SCRIBBLE_KIND) | ~regions.valid[:, None]
    in_mask = corner_cells(regions.masks & ~others[..., None])
    in_region = torch.where(kinds == SCRIBBLE_KIND, touched, in_mask)
    return torch.where(kinds == BOX_KIND, shifted_box_cells(regions.boxes, height, width), in_region)


def _box_spots(regions: VisualRegions, draws: Draws) -> Tensor:
    """Draw a point [P, 2] near the center of each box prompt; zeros for other prompts."""
    is_box = (regions.kinds == BOX_KIND) & regions.valid
    boxes, spots = regions.boxes[is_box], torch.zeros_like(regions.points)
    if len(boxes):
        offsets = 2 * draws.rand(len(boxes), 1, 2, device=boxes.device)[:, 0] - 1
        size = boxes[:, 2:] - boxes[:, :2]
        spots[is_box] = (boxes[:, :2] + boxes[:, 2:]) / 2 + offsets * CENTRAL_SHARE * size
    return spots


def _present(regions: VisualRegions) -> Tensor:
    """Tell which prompts show something in their frame: [P] bool."""
    has_area = (regions.boxes[:, 2:] > regions.boxes[:, :2]).all(-1)
    in_image = ((regions.points >= 0) & (regions.points <= 1)).all(-1)
    shown = torch.where(regions.kinds == BOX_KIND, has_area, regions.masks.flatten(1).any(-1))
    return torch.where(regions.kinds == POINT_KIND, in_image, shown) & regions.valid
