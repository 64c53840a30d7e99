"""Losses of one clip as the original takes them, layer by layer.

Legend: L layers, B clips, T frames, Q queries, M queries with a target, P prompts, R tokens, C channels,
K categories, h w the mask map.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from univs.model.types import LayerPrediction, Predictions
from univs.training.compat.identities import Matches, Tokens, link_terms, matched_tokens, take_tokens
from univs.training.compat.matching import match_objects
from univs.training.compat.points import Sampling, sample
from univs.training.compat.reid import identity_terms
from univs.training.compat.targets import BatchGoals
from univs.training.losses import class_term

LayerTerms = dict[str, Tensor]
HALVED = ("class", "mask", "dice", "reid", "reid_aux")
"""Losses of learnable queries and of prompts: the mean of both is taken, also where there are no prompts."""


@dataclass(frozen=True, kw_only=True)
class ClipLosses:
    """What one clip contributes."""

    terms: dict[str, Tensor]
    """[L] each, not weighted."""
    matches: tuple[Matches, ...]
    """Per layer, which queries have which objects."""
    tokens: tuple[Tensor, ...]
    """Per layer, [R, C] embeddings that stand for a known object."""
    identities: tuple[Tensor, ...]
    """Per layer, [R] int64 its id."""


@dataclass(frozen=True, kw_only=True)
class _Group:
    """One layer's predictions of learnable queries, or of prompts."""

    embeddings: Tensor
    """[B, Q, T, C]."""
    mask_embeddings: Tensor
    """[B, Q, T, C]."""
    class_logits: Tensor
    """[B, Q, K]."""

    @classmethod
    def of(cls, layer: LayerPrediction, start: int, stop: int | None) -> "_Group":
        return cls(
            embeddings=layer.embeddings[:, start:stop].float(),
            mask_embeddings=layer.mask_embeddings[:, start:stop].float(),
            class_logits=layer.class_logits[:, start:stop].float(),
        )


def clip_losses(predictions: Predictions, goals: BatchGoals, sampling: Sampling) -> ClipLosses:
    """Compare the predictions for one clip of every video of a batch with its goals."""
    maps = predictions.mask_features.float()
    num_masks = _count_masks(goals, maps)
    rows: list[LayerTerms] = []
    matched: list[Matches] = []
    known: list[Tokens] = []
    for layer in predictions.layers:
        learnable = _Group.of(layer, 0, predictions.num_learnable)
        prompts = _Group.of(layer, predictions.num_learnable, None)
        matches = match_objects(learnable.mask_embeddings, learnable.class_logits, maps, goals, sampling)
        own = _learnable_terms(learnable, maps, matches, goals, float(num_masks[0]), sampling)
        asked = _prompt_terms(prompts, maps, goals, float(num_masks[1]), sampling)
        linked, tokens = link_terms(learnable.embeddings, prompts.embeddings, matches, goals, sampling)
        rows.append({name: 0.5 * (own[name] + asked[name]) for name in HALVED} | linked)
        matched.append(matches)
        known.append(tokens)
    return ClipLosses(
        terms={name: torch.stack([row[name] for row in rows]) for name in rows[0]},
        matches=tuple(matched),
        tokens=tuple(tokens.embeddings for tokens in known),
        identities=tuple(tokens.ids for tokens in known),
    )


def _learnable_terms(
    group: _Group,
    maps: Tensor,
    matches: Matches,
    goals: BatchGoals,
    num_masks: float,
    sampling: Sampling,
) -> LayerTerms:
    labels = torch.full(group.embeddings.shape[:2], -1, device=maps.device)
    for index, (queries, rows) in enumerate(matches):
        labels[index, queries] = goals.clips[index].labels[rows]
    logits = _dense_logits(group.mask_embeddings, maps, [queries for queries, _ in matches])
    truth = torch.cat([clip.masks[rows] for clip, (_, rows) in zip(goals.clips, matches, strict=True)])
    mask, dice = mask_terms(logits, truth, num_masks, sampling)
    tokens = matched_tokens(group.embeddings, matches, goals)
    reid, aux = identity_terms(tokens.embeddings, tokens.embeddings, tokens.same(tokens), sampling)
    return {
        "class": _class_loss(group, labels, sampling),
        "mask": mask,
        "dice": dice,
        "reid": reid,
        "reid_aux": aux,
    }


def _prompt_terms(
    group: _Group, maps: Tensor, goals: BatchGoals, num_masks: float, sampling: Sampling
) -> LayerTerms:
    zero = maps.new_zeros(())
    if not group.embeddings.shape[1]:
        return dict.fromkeys(HALVED, zero)
    known = torch.stack([clip.prompt_rows for clip in goals.clips])
    logits = _dense_logits(group.mask_embeddings, maps, [(rows >= 0).nonzero()[:, 0] for rows in known])
    truth = torch.cat([masks[rows[rows >= 0]] for masks, rows in zip(_truths(goals), known, strict=True)])
    mask, dice = mask_terms(logits, truth, num_masks, sampling)
    if goals.kind == "category":
        mask = mask + _semantic_loss(group, maps, goals, sampling)
    num_frames = maps.shape[1]
    tokens = take_tokens(group.embeddings, known[..., None].expand(-1, -1, num_frames))
    reid, aux = identity_terms(tokens.embeddings, tokens.embeddings, tokens.same(tokens), sampling)
    loss = _class_loss(group, _prompt_labels(goals, known), sampling)
    return {"class": loss, "mask": mask, "dice": dice, "reid": reid, "reid_aux": aux}


def mask_terms(logits: Tensor, truth: Tensor, num_masks: float, sampling: Sampling) -> tuple[Tensor, Tensor]:
    """Give cross-entropy and dice of logits [M, T, h, w] for masks [M, T, H, W], each map at own points."""
    maps, masks = logits.flatten(0, 1), truth.flatten(0, 1)
    if not len(maps):
        return logits.sum(), logits.sum()
    points = sampling.uncertain_points(maps)
    logits = sample(maps[:, None], points)[:, 0]
    labels = sample(masks[:, None].float(), points)[:, 0]
    cross_entropy = F.binary_cross_entropy_with_logits(logits, labels, reduction="none").mean(1)
    probabilities = logits.sigmoid()
    areas = probabilities.sum(1) + labels.sum(1)
    dice = 1 - (2 * (probabilities * labels).sum(1) + 1) / (areas + 1)
    return cross_entropy.sum() / num_masks, dice.sum() / num_masks


def _semantic_loss(group: _Group, maps: Tensor, goals: BatchGoals, sampling: Sampling) -> Tensor:
    """Choose among all prompts, absent ones too, at points that some prompted category covers."""
    logits = torch.einsum("bptc,btchw->btphw", group.mask_embeddings, maps).flatten(0, 1)
    labels = torch.stack([_semantic_labels(clip.category_masks, clip.prompt_rows) for clip in goals.clips])
    points = sampling.uncertain_points(logits.detach().amax(1))
    truth = sample(labels.flatten(0, 1)[:, None].float(), points, mode="nearest").flatten().long()
    chosen = sample(logits, points).transpose(1, 2).flatten(0, 1)
    covered = truth != -1
    losses = F.cross_entropy(chosen[covered], truth[covered], reduction="none")
    return losses.sum() / max(1, len(losses))


def _semantic_labels(masks: Tensor, rows: Tensor) -> Tensor:
    """Number the prompted category that covers each pixel: masks [S, T, H, W] -> [T, H, W], -1 for none."""
    chosen = masks[rows[rows >= 0]]
    if not len(chosen):
        return torch.full(masks.shape[1:], -1, device=masks.device)
    return chosen.int().argmax(0).masked_fill(~chosen.any(0), -1)


def _class_loss(group: _Group, labels: Tensor, sampling: Sampling) -> Tensor:
    """Take the class loss for labels [B, Q], -1 for negatives; 0 without categories."""
    if not group.class_logits.shape[-1]:
        return group.class_logits.new_zeros(())
    weight = torch.ones_like(labels, dtype=torch.float32)
    term = class_term(group.class_logits[None], labels[None], weight[None], sampling.config)
    return term.total / term.count.clamp(min=1)


def _dense_logits(mask_embeddings: Tensor, maps: Tensor, queries: Sequence[Tensor]) -> Tensor:
    """Multiply out the masks of the given queries of each clip: [M, T, h, w]."""
    parts = [
        torch.einsum("qtc,tchw->qthw", mask_embeddings[index, chosen], maps[index])
        for index, chosen in enumerate(queries)
    ]
    return torch.cat(parts)


def _prompt_labels(goals: BatchGoals, known: Tensor) -> Tensor:
    """Give the class targets of prompts [B, P], -1 for negatives."""
    if goals.kind == "category":
        labels = [clip.prompt_labels for clip in goals.clips]
    else:
        labels = [F.pad(clip.labels, (0, 1), value=-1)[clip.prompt_rows] for clip in goals.clips]
    return torch.stack(labels).masked_fill(known < 0, -1)


def _truths(goals: BatchGoals) -> list[Tensor]:
    """Give the masks that prompt rows number, per clip."""
    return [clip.category_masks if goals.kind == "category" else clip.masks for clip in goals.clips]


@torch.no_grad()
def _count_masks(goals: BatchGoals, like: Tensor) -> Tensor:
    """Count objects and prompts times frames, averaged over ranks [2]; negative prompts and padding count."""
    counts = [
        sum(len(clip.labels) for clip in goals.clips),
        sum(len(clip.prompt_rows) for clip in goals.clips),
    ]
    counted = torch.tensor(counts, dtype=torch.float32, device=like.device)
    if dist.is_available() and dist.is_initialized():
        dist.all_reduce(counted)
        counted = counted / dist.get_world_size()
    return counted.clamp(min=1) * like.shape[1]
