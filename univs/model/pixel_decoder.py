"""The multi-scale deformable pixel decoder.

Legend: N images, S cells of all levels, C hidden channels.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from univs.config import PixelDecoderConfig
from univs.model.deformable import DeformableAttention
from univs.model.linear import feed_forward
from univs.model.position import Shapes, grid_encoding
from univs.model.recompute import recomputed

NUM_LEVELS = 3


def _group_norm(num_channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(math.gcd(32, num_channels), num_channels)


class PixelDecoderLayer(nn.Module):
    """Deformable self-attention and a feed-forward network, both post-norm."""

    def __init__(self, num_channels: int, config: PixelDecoderConfig) -> None:
        super().__init__()
        self.self_attn = DeformableAttention(num_channels, config.num_heads, NUM_LEVELS, config.num_points)
        self.norm1 = nn.LayerNorm(num_channels)
        self.linear1 = nn.Linear(num_channels, config.ffn_dim)
        self.linear2 = nn.Linear(config.ffn_dim, num_channels)
        self.norm2 = nn.LayerNorm(num_channels)
        for linear in (self.linear1, self.linear2):
            nn.init.xavier_uniform_(linear.weight)

    def forward(self, x: Tensor, positions: Tensor, shapes: Shapes) -> Tensor:
        """Update the cells [N, S, C]."""
        x = recomputed(self._attend, x, positions, shapes, kept=[torch.ops.univs.deformable_sample.default])
        return self.norm2(x + feed_forward(x, self.linear1, self.linear2))

    def _attend(self, x: Tensor, positions: Tensor, shapes: Shapes) -> Tensor:
        return self.norm1(x + self.self_attn(x, positions, shapes))


class PixelDecoder(nn.Module):
    """Turn backbone maps into three C-channel levels and the mask features."""

    def __init__(
        self, backbone_channels: Sequence[int], num_channels: int, config: PixelDecoderConfig
    ) -> None:
        super().__init__()
        coarse_to_fine = list(backbone_channels)[:0:-1]
        self.input_proj = nn.ModuleList(
            nn.Sequential(nn.Conv2d(channels, num_channels, 1), _group_norm(num_channels))
            for channels in coarse_to_fine
        )
        self.level_embed = nn.Parameter(torch.randn(NUM_LEVELS, num_channels))
        self.layers = nn.ModuleList(PixelDecoderLayer(num_channels, config) for _ in range(config.num_layers))
        self.lateral = nn.Conv2d(backbone_channels[0], num_channels, 1, bias=False)
        self.lateral_norm = _group_norm(num_channels)
        self.output = nn.Conv2d(num_channels, num_channels, 3, padding=1, bias=False)
        self.output_norm = _group_norm(num_channels)
        self.mask_features = nn.Conv2d(num_channels, num_channels, 1)
        self._reset_convolutions()

    def _reset_convolutions(self) -> None:
        for convolution in (self.lateral, self.output, self.mask_features):
            nn.init.kaiming_uniform_(convolution.weight, a=1)
        for convolution in (child for child in self.input_proj.modules() if isinstance(child, nn.Conv2d)):
            nn.init.xavier_uniform_(convolution.weight)
        for convolution in (child for child in self.modules() if isinstance(child, nn.Conv2d)):
            if convolution.bias is not None:
                nn.init.zeros_(convolution.bias)

    def forward(self, maps: Sequence[Tensor]) -> tuple[tuple[Tensor, Tensor, Tensor], Tensor]:
        """Decode backbone maps at strides 4, 8, 16, 32.

        Returns:
            The levels at strides 32, 16, 8 and the mask features at stride 4, each [N, C, h, w]. All of
            it is computed in float32, as sampling locations need more than bfloat16's eight bits.
        """
        with torch.autocast(maps[0].device.type, enabled=False):
            maps = [feature_map.float() for feature_map in maps]
            levels = self._encode(maps[:0:-1])
            finest = recomputed(self._refine, maps[0], levels[2])
            return levels, recomputed(self._finish, finest)

    def _refine(self, fine: Tensor, coarse: Tensor) -> Tensor:
        """Add the level at stride 8 to the map at stride 4 and smooth."""
        finest = self.lateral_norm(self.lateral(fine))
        upsampled = F.interpolate(coarse, finest.shape[-2:], mode="bilinear", align_corners=False)
        return self.output(finest + upsampled)

    def _finish(self, finest: Tensor) -> Tensor:
        """Turn what ``_refine`` gives into mask features."""
        return self.mask_features(F.relu(self.output_norm(finest)))

    def _encode(self, maps: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Run the deformable layers over strides 32, 16, 8."""
        projected = [
            projection(feature_map) for projection, feature_map in zip(self.input_proj, maps, strict=True)
        ]
        shapes: Shapes = tuple((level.shape[-2], level.shape[-1]) for level in projected)
        x = torch.cat([level.flatten(2).transpose(1, 2) for level in projected], dim=1)
        positions = torch.cat(
            [
                grid_encoding(height, width, x.shape[-1], x.device) + self.level_embed[index]
                for index, (height, width) in enumerate(shapes)
            ]
        )
        for layer in self.layers:
            x = layer(x, positions, shapes)
        sizes = [height * width for height, width in shapes]
        coarse, middle, fine = (
            level.transpose(1, 2).unflatten(-1, shape)
            for level, shape in zip(x.split(sizes, dim=1), shapes, strict=True)
        )
        return coarse, middle, fine
