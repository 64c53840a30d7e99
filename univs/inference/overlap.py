"""Masks and boxes against one another: quality, IoU, suppression, competition for pixels.

Legend: N M objects, D detections, T frames, P pixels.
"""

import torch
from torch import Tensor

from univs.model.regions import mask_boxes


def mask_quality(mask_logits: Tensor) -> Tensor:
    """Measure how sure masks are: share of the pixels above -1 that are above 1; [N, ...] to [N]."""
    flat = mask_logits.flatten(1)
    return (flat > 1).sum(1) / (flat > -1).sum(1).clamp(min=1)


def frame_ious(first: Tensor, second: Tensor) -> Tensor:
    """Mask IoU per frame: bool [N, T, ...] and [M, T, ...] to [N, M, T]; 0 where both are empty."""
    intersections, unions = _overlaps(first, second)
    return intersections / unions.clamp(min=1)


def clip_ious(first: Tensor, second: Tensor) -> Tensor:
    """Mask IoU of whole tubes: bool [N, T, ...] and [M, T, ...] to [N, M]; 0 where both are empty."""
    intersections, unions = _overlaps(first, second)
    return intersections.sum(-1) / unions.sum(-1).clamp(min=1)


def box_ious(first: Tensor, second: Tensor) -> Tensor:
    """Box IoU: [..., N, 4] and [..., M, 4] to [..., N, M]; 0 for empty boxes."""
    corner = torch.maximum(first[..., :, None, :2], second[..., None, :, :2])
    opposite = torch.minimum(first[..., :, None, 2:], second[..., None, :, 2:])
    intersections = (opposite - corner).clamp(min=0).prod(-1)
    areas = [(boxes[..., 2:] - boxes[..., :2]).prod(-1) for boxes in (first, second)]
    unions = areas[0][..., :, None] + areas[1][..., None, :] - intersections
    return intersections / unions.clamp(min=1e-6)


def box_overlaps(masks: Tensor) -> Tensor:
    """Largest IoU of the boxes of tubes in any frame: bool [D, T, H, W] to [D, D]."""
    boxes = mask_boxes(masks).transpose(0, 1).float()
    return box_ious(boxes, boxes).amax(0)


def suppress(scores: Tensor, overlaps: Tensor, threshold: float) -> Tensor:
    """Drop whatever overlaps a better one, itself dropped or not: [D], [D, D] to bool [D].

    Equal scores are ordered by position.
    """
    better = scores[None] > scores[:, None]
    index = torch.arange(scores.numel(), device=scores.device)
    better |= (scores[None] == scores[:, None]) & (index[None] < index[:, None])
    return ~((overlaps >= threshold) & better).any(1)


def pixel_owners(scores: Tensor, mask_logits: Tensor) -> tuple[Tensor, Tensor]:
    """Let objects compete for pixels by score times mask probability.

    Args:
        scores: [N], weights.
        mask_logits: [N, ...].

    Returns:
        Owner index [...], -1 where no mask holds the pixel, and the share [N] of its own pixels that each
        object wins, 0 without pixels.
    """
    held = mask_logits > 0
    weights = scores.view(-1, *[1] * (mask_logits.dim() - 1))
    claims = torch.where(held, weights * mask_logits.sigmoid(), -1.0)
    best, owners = claims.max(0)
    owners = torch.where(best >= 0, owners, -1)
    won = torch.bincount(owners[owners >= 0], minlength=scores.numel())
    return owners, won / held.flatten(1).sum(1).clamp(min=1)


def _overlaps(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    # [T, N, P] x [T, P, M]: counts stay exact in float32 up to 2^24 pixels
    one = first.flatten(2).transpose(0, 1).float()
    other = second.flatten(2).transpose(0, 1).float()
    with torch.autocast(one.device.type, enabled=False):
        intersections = one @ other.transpose(1, 2)
    unions = one.sum(-1)[:, :, None] + other.sum(-1)[:, None] - intersections
    return intersections.permute(1, 2, 0), unions.permute(1, 2, 0)
