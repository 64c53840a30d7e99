"""Sampling of maps at points as in the original: what lies beyond the border counts as zero.

Legend: R maps, K channels, S points, h w a map.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from univs.draws import Draws
from univs.training.config import LossConfig


def sample(maps: Tensor, points: Tensor, mode: Literal["bilinear", "nearest"] = "bilinear") -> Tensor:
    """Read maps [R, K, h, w] at points [R, S, 2], x y in [0, 1]: [R, K, S]."""
    grid = (2 * points - 1)[:, :, None]
    return F.grid_sample(maps, grid, mode=mode, padding_mode="zeros", align_corners=False)[..., 0]


class Sampling:
    """How many points and tokens a step's losses look at, and where the random numbers for them come from."""

    def __init__(self, config: LossConfig, draws: Draws) -> None:
        """Sample as ``config`` says, by the numbers of ``draws``."""
        self.config = config
        self.draws = draws

    def shared_points(self, device: torch.device) -> Tensor:
        """Draw points [1, S, 2] for all maps of a clip."""
        return self.draws.rand(1, self.config.num_points, 2, device=device)

    @torch.no_grad()
    def uncertain_points(self, logits: Tensor) -> Tensor:
        """Choose points [R, S, 2] for maps [R, h, w]: those nearest to a logit of 0, then uniform ones."""
        config, device = self.config, logits.device
        candidates = self.draws.rand(len(logits), config.num_candidates, 2, device=device)
        certainty = sample(logits[:, None], candidates)[:, 0].abs()
        index = certainty.topk(config.num_uncertain, dim=1, largest=False).indices
        chosen = candidates.gather(1, index[..., None].expand(-1, -1, 2))
        num_uniform = config.num_points - config.num_uncertain
        if not num_uniform:
            return chosen
        return torch.cat([chosen, self.draws.rand(len(logits), num_uniform, 2, device=device)], dim=1)
