"""Assign learnable queries to objects by Hungarian matching at shared random points.

Legend: L layers, B clips, Q learnable queries, N objects, T frames, S points per frame, K categories.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn.functional import logsigmoid

from univs.training.config import LossConfig

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
    sums = _point_sums(logits.flatten(2, 3), _columns(truth, weight)).sum(1)
    return _costs(sums, truth, weight, config).unflatten(1, logits.shape[2:4]).transpose(0, 1)


def query_costs(
    mask_embeddings: Tensor, features: Tensor, truth: Tensor, weight: Tensor, config: LossConfig
) -> Tensor:
    """Give the mask costs [B, Q, N] of one layer's embeddings [B, Q, T, C], features at points [B, T, C, S].

    Frame by frame, as the logits of all queries at all points are the largest tensors of a step.
    """
    frames = (mask_embeddings.transpose(1, 2), features, _columns(truth, weight))
    parts = [
        _point_sums(embeddings @ feature, column)
        for embeddings, feature, column in zip(*(part.flatten(0, 1) for part in frames), strict=True)
    ]
    sums = torch.stack(parts).unflatten(0, features.shape[:2]).sum(1)
    return _costs(sums, truth, weight, config)


def _columns(truth: Tensor, weight: Tensor) -> Tensor:
    """Put the objects' shares of points and, last, the points' weights side by side: [B, T, S, N + 1]."""
    objects = (truth * weight[:, :, None]).transpose(-1, -2)
    return torch.cat([objects, weight[..., None]], dim=-1)


def _point_sums(logits: Tensor, columns: Tensor) -> Tensor:
    """Sum logits [..., Q, S] and probabilities by column, log-probabilities by weight: [..., Q, 2N + 3]."""
    logs = logsigmoid(logits)
    log_sums = logs @ columns[..., -1:]
    return torch.cat([logits @ columns, logs.exp() @ columns, log_sums], dim=-1)


def _costs(sums: Tensor, truth: Tensor, weight: Tensor, config: LossConfig) -> Tensor:
    """Turn the sums of [B, Q] queries over all frames into costs [B, Q, N]."""
    num_objects = truth.shape[2]
    logit_sums, overlaps, log_sums = sums.split([num_objects + 1, num_objects + 1, 1], dim=-1)
    num_points = weight.sum((1, 2)).clamp(min=1)[:, None, None]
    # -log(1 - p) = x - log(p)
    cross_entropy = (logit_sums[..., -1:] - log_sums - logit_sums[..., :-1]) / num_points
    areas = overlaps[..., -1:] + (truth * weight[:, :, None]).sum((1, 3))[:, None]
    dice = 1 - (2 * overlaps[..., :-1] + 1) / (areas + 1)
    return config.match_mask_weight * cross_entropy + config.match_dice_weight * dice


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
