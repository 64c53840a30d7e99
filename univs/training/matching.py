"""Assign learnable queries to objects by Hungarian matching at shared random points.

Legend: L layers, B clips, Q learnable queries, N objects, T frames, S points per frame, K categories.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from univs.training.config import LossConfig

_MIN_LOGIT = -80.0
"""The probability of a lower logit is 0 in fp32, and has no logarithm."""
_LAST_RESORT_COST = 1000.0
"""Added to objects dropped by the cap: they are matched, but never at the expense of a kept one."""


@torch.no_grad()
def match(
    logits: Tensor,
    truth: Tensor,
    weight: Tensor,
    class_costs: Tensor | None,
    present: Tensor,
    kept: Tensor,
    config: LossConfig,
) -> Tensor:
    """Find the query of every present object, for every layer; waits once for the device.

    Args:
        logits: [B, T, L, Q, S] mask logits at points.
        truth: [B, T, N, S] ground truth in [0, 1] there.
        weight: [B, T, S] 0 at ignored points, else 1.
        class_costs: [L, B, Q, N], or none for class-less data.
        present: [B, N] bool, objects to match.
        kept: [B, N] bool, objects that must be matched before the others.
        config: the cost weights.

    Returns:
        [L, B, N] int64 query indices, -1 for unmatched objects.
    """
    return assign(mask_costs(logits, truth, weight, config), class_costs, present, kept, config)


@torch.no_grad()
def assign(
    costs: Tensor, class_costs: Tensor | None, present: Tensor, kept: Tensor, config: LossConfig
) -> Tensor:
    """Do what ``match`` says, given its mask costs [L, B, Q, N]."""
    if class_costs is not None:
        costs = costs + config.match_class_weight * class_costs
    costs = costs.nan_to_num(nan=1e6, posinf=1e6, neginf=-1e6)
    costs = costs + _LAST_RESORT_COST * (~kept[:, None])
    costs = costs.masked_fill(~present[:, None], torch.inf)
    return torch.from_numpy(_assign(costs.cpu().numpy())).to(costs.device)


def mask_costs(logits: Tensor, truth: Tensor, weight: Tensor, config: LossConfig) -> Tensor:
    """Weigh binary cross-entropy and dice between all queries and objects: [L, B, Q, N].

    Both are taken over the points of all frames together.
    """
    num_layers = logits.shape[2]
    objects = (truth * weight[:, :, None]).transpose(-1, -2)
    # One product sums each query over the points of all objects, and over all points.
    columns = torch.cat([objects, weight[..., None]], dim=-1)
    rows = logits.flatten(2, 3).clamp(min=_MIN_LOGIT)
    probabilities = rows.sigmoid()
    logit_sums, overlaps = (rows @ columns).sum(1), (probabilities @ columns).sum(1)
    # softplus(x) = x - log(sigmoid(x)), in a third of the time.
    logs = (probabilities.log_() @ weight[..., None]).sum(1)
    num_points = weight.sum((1, 2)).clamp(min=1)[:, None, None]
    cross_entropy = (logit_sums[..., -1:] - logs - logit_sums[..., :-1]) / num_points
    areas = overlaps[..., -1:] + objects.sum((1, 2))[:, None]
    dice = 1 - (2 * overlaps[..., :-1] + 1) / (areas + 1)
    costs = config.match_mask_weight * cross_entropy + config.match_dice_weight * dice
    return costs.unflatten(1, (num_layers, -1)).transpose(0, 1)


@torch.no_grad()
def class_costs(class_logits: Tensor, labels: Tensor, config: LossConfig) -> Tensor:
    """Cost of calling query q what object n is: class_logits [L, B, Q, K], labels [B, N] -> [L, B, Q, N].

    Class-less objects cost nothing.
    """
    scores = (config.match_class_sharpness * class_logits.float().sigmoid()).softmax(-1)
    index = labels.clamp(min=0)[None, :, None].expand(*scores.shape[:3], -1)
    return -scores.gather(-1, index).masked_fill((labels < 0)[:, None], 0)


@torch.no_grad()
def ignored_share(logits: Tensor, weight: Tensor) -> Tensor:
    """Tell how much of each predicted mask lies in ignored pixels: [L, B, Q], 0 for empty masks.

    ``logits`` [B, T, L, Q, S] and ``weight`` [B, T, S] as for ``match``.
    """
    inside = (logits > 0).float().flatten(2, 3)
    ignored = (inside @ (1 - weight)[..., None]).sum((1, 3))
    share = ignored / inside.sum((1, 3)).clamp(min=1)
    return share.unflatten(1, (logits.shape[2], -1)).transpose(0, 1)


def _assign(costs: NDArray[np.float32]) -> NDArray[np.int64]:
    """Solve every [Q, N] problem of [L, B, Q, N]; columns of infinite cost are left out."""
    num_layers, num_clips, _, num_objects = costs.shape
    queries = np.full((num_layers, num_clips, num_objects), -1, dtype=np.int64)
    for clip in range(num_clips):
        columns = np.flatnonzero(np.isfinite(costs[0, clip, 0]))
        for layer in range(num_layers):
            rows, chosen = linear_sum_assignment(costs[layer, clip][:, columns])
            queries[layer, clip, columns[chosen]] = rows
    return queries
