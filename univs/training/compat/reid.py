"""Identity losses of the original: large gaps are cut, where the mended ones are summed in logs.

Legend: N rows (tokens with a positive), K columns (tokens), J drawn columns, p positives, C channels.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from univs.training.compat.points import Sampling

LARGEST_GAP = 10.0
"""Gaps between similarities are cut here before they are exponentiated; beyond it there is no gradient."""


def identity_terms(rows: Tensor, columns: Tensor, same: Tensor, sampling: Sampling) -> tuple[Tensor, Tensor]:
    """Give the contrastive and the auxiliary loss of tokens [N, C] against [K, C]; ``same`` [N, K] bool."""
    if not same.numel():
        return rows.new_zeros(()), rows.new_zeros(())
    anchored = same.any(1)
    rows, same = rows[anchored], same[anchored]
    contrast = _contrast(_products(rows, columns), same, sampling)
    return contrast, _agreement(_cosines(rows, columns), same, sampling)


def interclip_terms(tokens: Tensor, identity: Tensor, sampling: Sampling) -> tuple[Tensor, Tensor]:
    """Contrast one token per object with tokens [K, C] of all clips of a video, of objects ``identity`` [K].

    Positives are drawn with replacement, and may be the anchor itself.
    """
    if not len(identity):
        return tokens.new_zeros(()), tokens.new_zeros(())
    order = sampling.draws.randperm(len(identity), device=identity.device)
    tokens, identity = tokens[order], identity[order]
    same = identity.unique()[:, None] == identity
    anchors = tokens[same.int().argmax(1)]
    products = _products(anchors, tokens)
    picks = [row.nonzero()[:, 0] for row in same]
    picks = [
        rows[sampling.draws.choices(len(rows), sampling.config.num_interclip_positives, device=rows.device)]
        for rows in picks
    ]
    positives = products.gather(1, torch.stack(picks))
    columns = _any_columns(len(identity), sampling, identity.device)
    contrast = _cut_contrast(positives, products[:, columns], same[:, columns])
    columns = _any_columns(len(identity), sampling, identity.device)
    cosines = _cosines(anchors, tokens)[:, columns].clamp(min=0)
    aux = F.smooth_l1_loss(cosines, same[:, columns].float(), reduction="sum") / len(anchors)
    return contrast, aux


def join_layers(clips: Sequence[Sequence[Tensor]]) -> list[Tensor]:
    """Join tensors that every clip has for every layer: one per layer."""
    return [torch.cat(parts) for parts in zip(*clips, strict=True)]


def _contrast(products: Tensor, same: Tensor, sampling: Sampling) -> Tensor:
    """Contrast with the drawn columns; the positives of a row are its first one and the mean of all."""
    first = products.gather(1, same.int().argmax(1, keepdim=True))
    mean = (products * same).sum(1, keepdim=True) / same.sum(1, keepdim=True).clamp(min=1)
    columns = _columns(same, sampling)
    return _cut_contrast(torch.cat([first, mean], dim=1), products[:, columns], same[:, columns])


def _agreement(cosines: Tensor, same: Tensor, sampling: Sampling) -> Tensor:
    columns = _columns(same, sampling)
    loss = F.smooth_l1_loss(cosines[:, columns].clamp(min=0), same[:, columns].float(), reduction="sum")
    return loss / max(len(same), 1)


def _cut_contrast(positives: Tensor, others: Tensor, same: Tensor) -> Tensor:
    """Give the mean over rows of log(1 + sum of exp(other - positive)): [N, p] and [N, J]."""
    apart = ~same[:, :, None]
    gaps = (others[:, :, None] - positives[:, None]) * apart
    pairs = gaps.clamp(max=LARGEST_GAP).exp() * apart
    return (1 + pairs.flatten(1).sum(1)).log().sum() / max(len(positives), 1)


def _columns(same: Tensor, sampling: Sampling) -> Tensor:
    """Draw columns: three quarters related to some row, one quarter to none; fewer where rows are few."""
    budget = min(sampling.config.num_reid_columns, 3 * len(same))
    related = same.any(0)
    near, far = related.nonzero()[:, 0], (~related).nonzero()[:, 0]
    near = near[sampling.draws.randperm(len(near), device=near.device)[: int(0.75 * budget)]]
    far = far[sampling.draws.randperm(len(far), device=far.device)[: int(0.25 * budget)]]
    return torch.cat([near, far]).sort().values


def _any_columns(num_columns: int, sampling: Sampling, device: torch.device) -> Tensor:
    return sampling.draws.randperm(num_columns, device=device)[: sampling.config.num_interclip_columns]


def _products(rows: Tensor, columns: Tensor) -> Tensor:
    return rows @ columns.T / rows.shape[1] ** 0.5


def _cosines(rows: Tensor, columns: Tensor) -> Tensor:
    return F.normalize(rows, dim=-1) @ F.normalize(columns, dim=-1).T
