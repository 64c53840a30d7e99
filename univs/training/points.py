"""Predictions and ground truth at points, so that no dense mask is ever multiplied out.

Bilinear sampling is linear: the logit at a point is the mask embedding times the feature sampled there. Both
predictions and ground truth are sampled with border padding, pixel centers at half-integers.

Legend: B clips, T frames, N objects, M queries matched to objects (or prompts), L layers, S points per frame,
C channels, H W the padded size. Tensors at points are laid out [B, T, L, M, S].
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def draw_points(num_clips: int, num_frames: int, num_points: int, generator: torch.Generator) -> Tensor:
    """Draw uniform points [B, T, S, 2], x y in [0, 1), on the generator's device."""
    shape = (num_clips, num_frames, num_points, 2)
    return torch.rand(shape, generator=generator, device=generator.device)


def sample_features(features: Tensor, points: Tensor) -> Tensor:
    """Read features [B, T, C, h, w] at points [B, T, S, 2]: [B, T, C, S] in fp32."""
    grid = (2 * points - 1).flatten(0, 1)[:, None]
    maps = features.flatten(0, 1).float()
    sampled = F.grid_sample(maps, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return sampled.squeeze(2).unflatten(0, points.shape[:2])


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


def point_logits(mask_embeddings: Tensor, sampled_features: Tensor) -> Tensor:
    """Multiply embeddings [L, B, M, T, C] with sampled features [B, T, C, S]: [B, T, L, M, S] in fp32."""
    num_layers, _, num_queries, _, _ = mask_embeddings.shape
    rows = mask_embeddings.float().permute(1, 3, 0, 2, 4).flatten(2, 3)
    return (rows @ sampled_features).unflatten(2, (num_layers, num_queries))


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
