"""Class and mask losses of all layers at once.

Every loss is a ``Term``: a sum and the number it has to be divided by, so that clips and ranks add up
first. All arithmetic is fp32.

Legend: L layers, B clips, T frames, M objects or prompts with a prediction each, Q queries, S points per
frame, K categories.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import sigmoid_focal_loss

from univs.training.config import LossConfig
from univs.training.points import select_uncertain

_NEVER = -1e4
"""Logit of a prompt that nothing is."""


@dataclass(frozen=True, kw_only=True)
class Term:
    """A loss before division."""

    total: Tensor
    """Scalar sum over layers and items."""
    count: Tensor
    """Scalar number of items (not times layers)."""


def mask_terms(
    logits: Tensor, truth: Tensor, weight: Tensor, valid: Tensor, config: LossConfig
) -> tuple[Term, Term]:
    """Take binary cross-entropy and dice at each pair's own uncertain points plus uniform ones.

    Args:
        logits: [B, T, L, M, S] mask logits.
        truth: [B, T, M, S] ground truth in [0, 1].
        weight: [B, T, S] 0 at ignored points, else 1.
        valid: [B, L, M] (or [B, 1, M]) bool, pairs that count; a frame without valid points counts for none.
        config: numbers of points.
    """
    logits, truth, weight = _select_points(logits, truth, weight, config)
    labelled = weight.amax(-1)
    pairs = valid[:, None] * labelled
    cross_entropy = F.binary_cross_entropy_with_logits(logits, truth, weight=weight, reduction="none").sum(-1)
    cross_entropy = cross_entropy / weight.sum(-1).clamp(min=1)
    probabilities = logits.sigmoid() * weight
    areas = probabilities.sum(-1) + (truth * weight).sum(-1)
    dice = 1 - (2 * (probabilities * truth).sum(-1) + 1) / (areas + 1)
    count = pairs[:, :, 0].sum()
    return (
        Term(total=(cross_entropy * pairs).sum(), count=count),
        Term(total=(dice * pairs).sum(), count=count),
    )


def semantic_term(logits: Tensor, truth: Tensor, weight: Tensor, valid: Tensor, config: LossConfig) -> Term:
    """Take the cross-entropy, per point, of choosing the right category prompt among all prompts of the clip.

    Points are where the strongest prompt is least certain, plus uniform ones; points of no prompted category
    are left out, and so are prompts that are padding. The mean over points is one item per layer. Shapes as
    in ``mask_terms``, but ``valid`` [B, M].
    """
    logits = logits.masked_fill(~valid[:, None, None, :, None], _NEVER)
    strongest = logits.detach().amax(-2)
    covered = (truth.amax(2) > 0.5) * weight
    uncertainty = _uncertainty(strongest, covered[:, :, None])
    index = select_uncertain(uncertainty, config.num_candidates, config.num_uncertain)
    wide = index[..., None, :].expand(*logits.shape[:-1], -1)
    chosen = logits.gather(-1, wide).transpose(-1, -2)
    labels = truth.argmax(-2)[:, :, None].expand_as(strongest).gather(-1, index)
    kept = covered[:, :, None].expand_as(strongest).gather(-1, index)
    losses = F.cross_entropy(chosen.flatten(0, -2), labels.flatten(), reduction="none").view_as(labels)
    per_layer = kept.sum((0, 1, 3))
    means = (losses * kept).sum((0, 1, 3)) / per_layer.clamp(min=1)
    return Term(total=means.sum(), count=(per_layer > 0).any().float())


def class_term(
    class_logits: Tensor,
    labels: Tensor,
    weight: Tensor,
    config: LossConfig,
    judged_labels: Tensor | None = None,
) -> Term:
    """Take focal loss over all queries plus softmax cross-entropy over positives, per positive.

    Clips without a positive are left out: they may not be annotated at all.

    Args:
        class_logits: [L, B, M, K].
        labels: [L, B, M] (or [1, B, M]) int64, -1 for negatives.
        weight: like ``labels``, 0 for queries that are neither.
        config: shape of the focal loss.
        judged_labels: [B, K] bool, categories that were looked for (``None``: all); others are no negatives.
    """
    logits = class_logits.float()
    positive = (labels >= 0) * weight
    counted = weight * (positive.sum(-1, keepdim=True) > 0)
    categories = torch.arange(logits.shape[-1], device=logits.device)
    own = (labels[..., None] == categories).expand_as(logits)
    focal = sigmoid_focal_loss(logits, own.float(), alpha=config.focal_alpha, gamma=config.focal_gamma)
    if judged_labels is not None:
        counts = own | judged_labels[:, None]
        focal, logits = focal * counts, logits.masked_fill(~counts, -torch.inf)
    nll = -logits.log_softmax(-1).masked_fill(~own, 0).sum(-1)
    total = (focal.sum(-1) * counted).sum() + (nll * positive).sum()
    return Term(total=total, count=positive[0].sum())


def query_labels(queries: Tensor, labels: Tensor, kept: Tensor, judged: Tensor) -> tuple[Tensor, Tensor]:
    """Turn a matching into class targets of queries.

    Args:
        queries: [L, B, N] query of each object, -1 for none.
        labels: [B, N] labels of objects, -1 for class-less ones.
        kept: [B, N] bool, false for objects dropped by the cap.
        judged: [L, B, Q] bool, queries that are negatives if they have no object.

    Returns:
        Labels [L, B, Q] (-1 for negatives) and weights [L, B, Q]: queries matched to dropped or class-less
        objects weigh nothing.
    """
    num_queries = judged.shape[2]
    slots = torch.where(queries >= 0, queries, num_queries)
    known = (kept & (labels >= 0)).expand_as(slots)
    shape = (*queries.shape[:2], num_queries + 1)
    query_label = torch.full(shape, -1, device=queries.device)
    query_label = query_label.scatter(2, slots, torch.where(known, labels, -1))
    weight = F.pad(judged.float(), (0, 1)).scatter(2, slots, known.float())
    return query_label[..., :-1], weight[..., :-1]


def _select_points(
    logits: Tensor, truth: Tensor, weight: Tensor, config: LossConfig
) -> tuple[Tensor, Tensor, Tensor]:
    """Keep ``num_points`` points of every (layer, object, frame): all [B, T, L, M, P]."""
    uncertainty = _uncertainty(logits.detach(), weight[:, :, None, None])
    index = select_uncertain(uncertainty, config.num_candidates, config.num_uncertain)
    truth = truth[:, :, None].expand_as(logits).gather(-1, index)
    weight = weight[:, :, None, None].expand_as(logits).gather(-1, index)
    return logits.gather(-1, index), truth, weight


def _uncertainty(logits: Tensor, weight: Tensor) -> Tensor:
    """Highest where the logit is nearest 0; points of no weight come last."""
    return (-logits.abs()).masked_fill(weight == 0, -torch.inf)
