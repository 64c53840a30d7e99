"""Predictions and ground truth at points, so that only the masks of a few queries are multiplied out.

Bilinear sampling is linear: the logit at a point is the mask embedding times the feature sampled there. Both
predictions and ground truth are sampled with border padding, pixel centers at half-integers.

Legend: B clips, T frames, N objects, M queries matched to objects (or prompts), L layers, S points per frame,
C channels, H W the padded size. Tensors at points are laid out [B, T, L, M, S].
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from univs.model.sparse_sampling import sparse_product


def draw_points(num_clips: int, num_frames: int, num_points: int, generator: torch.Generator) -> Tensor:
    """Draw uniform points [B, T, S, 2], x y in [0, 1), on the generator's device."""
    shape = (num_clips, num_frames, num_points, 2)
    return torch.rand(shape, generator=generator, device=generator.device)


def feature_rows(features: Tensor) -> Tensor:
    """List the cells of features [B, T, C, h, w] as rows [B, T, h w, C] in fp32."""
    return features.float().flatten(3).transpose(2, 3)


def sample_rows(rows: Tensor, size: tuple[int, int], points: Tensor) -> Tensor:
    """Read maps of cells [B, T, h w, C], h and w in ``size``, at points [B, T, S, 2]: [B, T, S, C]."""
    if rows.device.type != "cpu":
        maps = rows.transpose(2, 3).unflatten(-1, size).flatten(0, 1)
        grid = (2 * points - 1).flatten(0, 1)[:, None]
        sampled = F.grid_sample(maps, grid, mode="bilinear", padding_mode="border", align_corners=False)
        return sampled.squeeze(2).transpose(1, 2).unflatten(0, points.shape[:2])
    cells, weights = _bilinear_entries(points, size)
    first = torch.arange(0, rows.shape[:3].numel(), rows.shape[2], dtype=torch.int32)
    cells = cells + first.view(*rows.shape[:2], 1, 1)
    sampled = sparse_product(rows.flatten(0, 2), cells.flatten(0, 2), weights.flatten(0, 2))
    return sampled.view(*points.shape[:3], -1)


def _bilinear_entries(points: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Give the four cells (int32) around points [..., 2], and their weights: two [..., 4]."""
    height, width = size
    left, right, across = _neighbors(points[..., 0], width)
    top, bottom, down = _neighbors(points[..., 1], height)
    corners = ((top, left), (top, right), (bottom, left), (bottom, right))
    cells = torch.stack([row * width + column for row, column in corners], dim=-1)
    upper, lower = 1 - down, down
    weights = [upper * (1 - across), upper * across, lower * (1 - across), lower * across]
    return cells.int(), torch.stack(weights, dim=-1)


def sample_masks(masks: Tensor, points: Tensor) -> Tensor:
    """Read masks [B, N, T, H, W] bool at points [B, T, S, 2]: [B, T, N, S] in [0, 1].

    Gathers the four neighbors instead of converting whole masks to float.
    """
    height, width = masks.shape[-2:]
    left, right, across = _neighbors(points[..., 0], width)
    top, bottom, down = _neighbors(points[..., 1], height)
    pixels = masks.transpose(1, 2).flatten(3)

    def read(rows: Tensor, columns: Tensor) -> Tensor:
        index = (rows * width + columns)[:, :, None].expand(-1, -1, pixels.shape[2], -1)
        return pixels.gather(-1, index).float()

    upper = torch.lerp(read(top, left), read(top, right), across[:, :, None])
    lower = torch.lerp(read(bottom, left), read(bottom, right), across[:, :, None])
    return torch.lerp(upper, lower, down[:, :, None])


def point_logits(mask_embeddings: Tensor, mask_features: Tensor, points: Tensor) -> Tensor:
    """Read the masks of a few queries at points: [B, T, L, M, S] in fp32.

    Their masks are multiplied out, which takes less than reading all channels of the features at the points.

    Args:
        mask_embeddings: [L, B, M, T, C].
        mask_features: [B, T, C, h, w].
        points: [B, T, S, 2].
    """
    num_layers, _, num_queries, _, _ = mask_embeddings.shape
    columns = mask_embeddings.float().permute(1, 3, 4, 0, 2).flatten(3)
    dense = feature_rows(mask_features) @ columns
    size = (mask_features.shape[-2], mask_features.shape[-1])
    sampled = sample_rows(dense, size, points).transpose(2, 3).contiguous()
    return sampled.unflatten(2, (num_layers, num_queries))


def select_uncertain(scores: Tensor, num_candidates: int, num_uncertain: int) -> Tensor:
    """Choose point indices [..., num_uncertain + S - num_candidates].

    The first are the candidates (points before ``num_candidates``) with the highest uncertainty in
    ``scores`` [..., S]; the rest are all later points, which are uniform.
    """
    uncertain = scores[..., :num_candidates].topk(num_uncertain, dim=-1, sorted=False).indices
    uniform = torch.arange(num_candidates, scores.shape[-1], device=scores.device)
    return torch.cat([uncertain, uniform.expand(*scores.shape[:-1], -1)], dim=-1)


def _neighbors(position: Tensor, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Split positions in [0, 1] into the pixel before, the pixel after and the fraction between."""
    pixel = (position * size - 0.5).clamp(0, size - 1)
    before = pixel.floor()
    first = before.long()
    return first, (first + 1).clamp(max=size - 1), pixel - before
