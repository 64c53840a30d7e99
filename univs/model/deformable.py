"""Multi-scale deformable attention: a sparse product on the CPU, a Triton kernel on CUDA devices.

Legend: N images, S cells of all levels, h heads, d channels of one head, C = h d channels, L levels, K
points.
"""

import math
from collections.abc import Callable
from importlib.util import find_spec

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from univs.model.linear import linear
from univs.model.position import Shapes, cell_centers
from univs.model.sparse_sampling import sample_sparse

Sampler = Callable[[Tensor, Shapes, Tensor, Tensor], Tensor]
"""Like ``deformable_sample``."""

_HAS_TRITON = find_spec("triton") is not None


def deformable_sample(value: Tensor, shapes: Shapes, offsets: Tensor, weights: Tensor) -> Tensor:
    """Sum bilinear samples around the own place of each cell on every level; outside a map is zero.

    Args:
        value: [N, S, h, d].
        shapes: Sizes of the levels that make up S.
        offsets: [N, S, h, L, K, 2] x y from the cell's center, in cells of the level sampled.
        weights: [N, S, h, L, K].

    Returns:
        [N, S, h * d].
    """
    return _sampler(value.device)(value, shapes, offsets, weights)


def _sampler(device: torch.device) -> Sampler:
    """Choose by device. The ways differ in speed, and in numbers by rounding only."""
    if device.type == "cpu":
        return sample_sparse
    if device.type == "cuda" and _HAS_TRITON:
        # Imported here: only who has a GPU needs Triton.
        from univs.model.triton_sampling import sample_triton

        return sample_triton
    return sample_grid


def sample_grid(value: Tensor, shapes: Shapes, offsets: Tensor, weights: Tensor) -> Tensor:
    """Do what ``deformable_sample`` says with ``grid_sample``, level by level."""
    num_images, _, num_heads, _ = value.shape
    sizes_xy = offsets.new_tensor([(width, height) for height, width in shapes])
    centers = cell_centers(shapes, value.device)[:, None, None, None]
    grids = 2 * (centers + offsets / sizes_xy[:, None]) - 1
    grids = grids.permute(3, 0, 2, 1, 4, 5).flatten(1, 2)
    level_weights = weights.permute(3, 0, 2, 1, 4).flatten(1, 2)
    maps = value.permute(0, 2, 3, 1).flatten(0, 1).split([height * width for height, width in shapes], dim=-1)
    sums = [
        (_sample(level.unflatten(-1, shape), grid) * weight[:, None]).sum(-1)
        for level, shape, grid, weight in zip(maps, shapes, grids, level_weights, strict=True)
    ]
    total = torch.stack(sums).sum(0)
    return total.unflatten(0, (num_images, num_heads)).flatten(1, 2).transpose(1, 2)


def _sample(level: Tensor, grid: Tensor) -> Tensor:
    """Sample [N h, d, H, W] at [N h, S, K, 2] in -1..1 -> [N h, d, S, K]."""
    return F.grid_sample(level, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def _softmax(scores: Tensor) -> Tensor:
    """Give the softmax over the last axis, which is short.

    On the CPU torch goes row by row, which takes three times as long for a dozen numbers.
    """
    if scores.device.type != "cpu":
        return scores.softmax(-1)
    exponentials = (scores - scores.detach().amax(-1, keepdim=True)).exp()
    return exponentials / exponentials.sum(-1, keepdim=True)


class DeformableAttention(nn.Module):
    """Attend each cell to a few learned offsets on every level."""

    def __init__(self, num_channels: int, num_heads: int, num_levels: int, num_points: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.num_levels = num_levels
        self.num_points = num_points
        num_samples = num_heads * num_levels * num_points
        self.sampling_offsets = nn.Linear(num_channels, 2 * num_samples)
        self.attention_weights = nn.Linear(num_channels, num_samples)
        self.value_proj = nn.Linear(num_channels, num_channels)
        self.output_proj = nn.Linear(num_channels, num_channels)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Start from one direction per head, one cell further per point, all equally weighted."""
        for part in (self.sampling_offsets, self.attention_weights):
            nn.init.zeros_(part.weight)
            nn.init.zeros_(part.bias)
        for part in (self.value_proj, self.output_proj):
            nn.init.xavier_uniform_(part.weight)
            nn.init.zeros_(part.bias)
        angles = torch.arange(self.num_heads, dtype=torch.float32) * (2 * math.pi / self.num_heads)
        directions = torch.stack([angles.cos(), angles.sin()], dim=-1)
        directions = directions / directions.abs().amax(-1, keepdim=True)
        steps = torch.arange(1, self.num_points + 1, dtype=torch.float32)
        offsets = directions[:, None, None] * steps[None, None, :, None]
        with torch.no_grad():
            self.sampling_offsets.bias.copy_(offsets.expand(-1, self.num_levels, -1, -1).flatten())

    def forward(self, x: Tensor, positions: Tensor, shapes: Shapes) -> Tensor:
        """Attend the cells [N, S, C] at ``positions`` [S, C] to one another."""
        layout = (self.num_heads, self.num_levels, self.num_points)
        offsets, weights = self._locate(x, positions)
        weights = _softmax(weights.unflatten(-1, (self.num_heads, -1))).unflatten(-1, layout[1:])
        values = linear(x, self.value_proj.weight, self.value_proj.bias).unflatten(-1, (self.num_heads, -1))
        sampled = deformable_sample(values, shapes, offsets.unflatten(-1, (*layout, 2)), weights)
        return linear(sampled, self.output_proj.weight, self.output_proj.bias)

    def _locate(self, x: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Give offsets [N, S, 2 h L K] and weights before their softmax [N, S, h L K] of ``x + positions``.

        The product is linear, so that of the positions is taken once for all images and no sum is kept.
        """
        parts = (self.sampling_offsets, self.attention_weights)
        weight = torch.cat([part.weight for part in parts])
        own = linear(positions, weight, torch.cat([part.bias for part in parts]))
        both = linear(x, weight) + own
        offsets, weights = both.split([part.out_features for part in parts], dim=-1)
        return offsets, weights
