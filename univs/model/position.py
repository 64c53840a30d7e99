"""Positions: cell centers, and sine encodings of pixels, frames and points.

Legend: B clips, T frames, h w a feature map, S cells of all levels, C channels.
"""

import math
from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor

PositionMode = Literal["arbitrary_t", "fixed_t", "2d"]

TEMPERATURE = 10000.0
EPSILON = 1e-6
FRAMES_PER_TURN = 128
"""Frames in one turn of the time angle; later frames simply turn on."""


def sine(angles: Tensor, num_channels: int) -> Tensor:
    """Expand angles [...] to [..., num_channels]: sine on even channels, cosine on odd ones."""
    channel = torch.arange(num_channels, dtype=torch.float32, device=angles.device)
    period = TEMPERATURE ** (2 * torch.div(channel, 2, rounding_mode="floor") / num_channels)
    phase = angles.float()[..., None] / period
    return torch.stack([phase[..., 0::2].sin(), phase[..., 1::2].cos()], dim=-1).flatten(-2)


@lru_cache(maxsize=32)
def grid_encoding(height: int, width: int, num_channels: int, device: torch.device) -> Tensor:
    """Encode the cells of a map, row half first: [h * w, C]. Rows and columns count from 1."""
    with torch.inference_mode(False), torch.no_grad():
        rows = torch.arange(1, height + 1, dtype=torch.float32, device=device)
        columns = torch.arange(1, width + 1, dtype=torch.float32, device=device)
        row_half = sine(rows / (height + EPSILON) * (2 * math.pi), num_channels // 2)
        column_half = sine(columns / (width + EPSILON) * (2 * math.pi), num_channels // 2)
        row_half = row_half[:, None].expand(-1, width, -1)
        column_half = column_half[None].expand(height, -1, -1)
        return torch.cat([row_half, column_half], dim=-1).flatten(0, 1)


Shapes = tuple[tuple[int, int], ...]
"""(height, width) of each level of a feature pyramid."""


@lru_cache(maxsize=32)
def cell_centers(shapes: Shapes, device: torch.device) -> Tensor:
    """List the cell centers of all levels: [S, 2] x y as fractions of the map."""
    with torch.inference_mode(False), torch.no_grad():
        levels = []
        for height, width in shapes:
            y = (torch.arange(height, dtype=torch.float32, device=device) + 0.5) / height
            x = (torch.arange(width, dtype=torch.float32, device=device) + 0.5) / width
            rows, columns = torch.meshgrid(y, x, indexing="ij")
            levels.append(torch.stack([columns, rows], dim=-1).flatten(0, 1))
        return torch.cat(levels)


class SinePosition:
    """The position encoding of one model: space plus, unless ``2d``, time."""

    def __init__(self, num_channels: int, mode: PositionMode) -> None:
        self.num_channels = num_channels
        self.mode = mode

    def time(self, frame_indices: Tensor) -> Tensor:
        """Encode the frames of clips [B, T] -> [B, T, C]."""
        if self.mode == "2d":
            return torch.zeros(*frame_indices.shape, self.num_channels, device=frame_indices.device)
        if self.mode == "fixed_t":
            num_frames = frame_indices.shape[1]
            index = torch.arange(1, num_frames + 1, device=frame_indices.device).expand_as(frame_indices)
            return sine(index / (num_frames + EPSILON) * (2 * math.pi), self.num_channels)
        return sine(frame_indices.float() / FRAMES_PER_TURN * (2 * math.pi), self.num_channels)

    def grid(self, height: int, width: int, device: torch.device) -> Tensor:
        """Encode the cells of a map without time: [h * w, C], cached."""
        return grid_encoding(height, width, self.num_channels, device)

    def cells(self, frame_indices: Tensor, height: int, width: int) -> Tensor:
        """Encode every cell of every frame: [B, T, h * w, C]."""
        return self.grid(height, width, frame_indices.device) + self.time(frame_indices)[:, :, None]

    def points(self, xy: Tensor, time: Tensor) -> Tensor:
        """Encode points [..., 2] (x y fractions) at frames of encoding ``time`` [..., C]."""
        column_half = sine(xy[..., 0] * (2 * math.pi), self.num_channels // 2)
        row_half = sine(xy[..., 1] * (2 * math.pi), self.num_channels // 2)
        return torch.cat([row_half, column_half], dim=-1) + time
