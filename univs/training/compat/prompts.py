"""Region prompts of the original in training: tokens of one key frame, drawn object by object.

Legend: P prompts, R tokens of a prompt, C channels, h w the stride-8 map, H W the padded size.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from univs.draws import Draws
from univs.model.regions import tight_boxes
from univs.model.regions_compat import (
    CENTRAL_SHARE,
    KeyFrame,
    central_pixel,
    choose_inside,
    corner_cells,
    shifted_box_cells,
)

POINT_SHARE, BOX_SHARE = 0.25, 0.25
"""Shares of prompts that are points and boxes; the others are masks."""
BOX_NOISE = 0.1
NOISY_AREA = 0.09
"""Boxes that cover more of the image than this are moved and resized by up to ``BOX_NOISE`` of their size."""

Tokens = tuple[Tensor, Tensor]
"""Features and positions, [R, C] of one prompt or [P, R, C] of all."""
TokenDraw = Callable[[KeyFrame, Tensor, int, Draws], Tokens]


@torch.no_grad()
def draw_tokens(frame: KeyFrame, masks: Tensor, num_tokens: int, draws: Draws) -> Tokens:
    """Point at the objects [P, H, W] with masks, points and boxes.

    Features stay in the order masks, points, boxes, whatever objects they are of; only positions are put
    back in the order of the objects. The released weights were trained so.
    """
    draw = draws.rand(len(masks), device=masks.device)
    is_point, is_mask = draw <= POINT_SHARE, draw > POINT_SHARE + BOX_SHARE
    groups: list[tuple[Tensor, TokenDraw]] = [
        (is_mask, draw_mask_tokens),
        (is_point, draw_point_tokens),
        (~is_point & ~is_mask, draw_box_tokens),
    ]
    drawn = [take(frame, masks[chosen], num_tokens, draws) for chosen, take in groups if chosen.any()]
    order = torch.cat([chosen.nonzero()[:, 0] for chosen, _ in groups]).argsort()
    features = torch.cat([part[0] for part in drawn])
    positions = torch.cat([part[1] for part in drawn])[order]
    return features, positions * masks.flatten(1).any(1)[:, None, None]


def draw_mask_tokens(
    frame: KeyFrame, masks: Tensor, num_tokens: int, draws: Draws, extremes: bool = True
) -> Tokens:
    """Point with masks: random cells of each; an object that has none gives a place without content.

    ``extremes`` puts the outermost cells first, which the original leaves out for its memory.
    """
    inside, boxes, tokens = corner_cells(masks), tight_boxes(masks), []
    for index, mask in enumerate(masks):
        if not mask.any():
            tokens.append(_blank(frame, num_tokens))
        elif inside[index].any():
            tokens.append(frame.take(_choose(frame, inside[index], num_tokens, extremes, draws)))
        else:
            _, place = frame.read(central_pixel(mask, boxes[index], draws)[None])
            tokens.append(_repeat((torch.zeros_like(place), place), num_tokens))
    return _stack(tokens)


def draw_point_tokens(frame: KeyFrame, masks: Tensor, num_tokens: int, draws: Draws) -> Tokens:
    """Point with a random pixel of each mask; its one token is repeated."""
    height, width = masks.shape[-2:]
    numbers = draws.randperm(height * width, device=masks.device)[: len(masks)]
    tokens = []
    for mask, number in zip(masks, numbers, strict=True):
        rows, columns = mask.nonzero().T
        if not len(rows):
            tokens.append(_blank(frame, num_tokens))
            continue
        pixel = number % len(rows)
        point = torch.stack([(columns[pixel] + 0.5) / width, (rows[pixel] + 0.5) / height])
        tokens.append(_repeat(frame.read(point[None]), num_tokens))
    return _stack(tokens)


def draw_box_tokens(frame: KeyFrame, masks: Tensor, num_tokens: int, draws: Draws) -> Tokens:
    """Point with noisy boxes: random cells of each, or a point near the center where it has none."""
    boxes = tight_boxes(masks)
    center, size = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    offsets = 2 * draws.rand(len(boxes), 1, 2, device=boxes.device)[:, 0] - 1
    features, positions = frame.read(center + offsets * CENTRAL_SHARE * size)
    inside = shifted_box_cells(_move(boxes, draws), *frame.source.shape[1:])
    tokens = []
    for index, cells in enumerate(inside):
        if not (size[index] > 0).all():
            tokens.append(_blank(frame, num_tokens))
        elif cells.any():
            tokens.append(frame.take(_choose(frame, cells, num_tokens, True, draws)))
        else:
            tokens.append(_repeat((features[index, None], positions[index, None]), num_tokens))
    return _stack(tokens)


def _move(boxes: Tensor, draws: Draws) -> Tensor:
    """Resize and move large boxes [P, 4]; corners may leave the image."""
    center, size = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    resize = 2 * draws.rand(len(boxes), 2, device=boxes.device) - 1
    shift = 2 * draws.rand(len(boxes), 2, device=boxes.device) - 1
    new_size = (size + BOX_NOISE * size * resize).clamp(0, 1)
    new_center = (center + BOX_NOISE * size * shift).clamp(0, 1)
    moved = torch.cat([new_center - 0.5 * new_size, new_center + 0.5 * new_size], dim=1)
    return torch.where(size.prod(1, keepdim=True) > NOISY_AREA, moved, boxes)


def _choose(frame: KeyFrame, inside: Tensor, num_tokens: int, extremes: bool, draws: Draws) -> Tensor:
    """Choose cells [R] inside [h * w]; of larger regions the first four are the outermost ones."""
    cells = choose_inside(inside, num_tokens, draws)
    if extremes and int(inside.sum()) >= num_tokens:
        outermost = extreme_cells(inside, frame.source.shape[2])[:num_tokens]
        cells[: len(outermost)] = outermost
    return cells


def extreme_cells(inside: Tensor, width: int) -> Tensor:
    """Find the leftmost, topmost, rightmost and lowest cell [4] of [h * w], each the first to be read."""
    cells = inside.nonzero()[:, 0]
    columns, rows = cells % width, cells.div(width, rounding_mode="floor")
    picks = [columns == columns.min(), rows == rows.min(), columns == columns.max(), rows == rows.max()]
    return torch.stack([cells[pick][0] for pick in picks])


def _repeat(token: Tokens, num_tokens: int) -> Tokens:
    """Repeat a token [1, C]: [R, C]."""
    return token[0].expand(num_tokens, -1), token[1].expand(num_tokens, -1)


def _blank(frame: KeyFrame, num_tokens: int) -> Tokens:
    zeros = frame.source.new_zeros(num_tokens, frame.source.shape[0])
    return zeros, zeros


def _stack(tokens: list[Tokens]) -> Tokens:
    return torch.stack([token[0] for token in tokens]), torch.stack([token[1] for token in tokens])
