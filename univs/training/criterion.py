"""Losses of one clip from predictions of learnable queries and prompts, and how losses add up.

Legend: L layers, B clips, T frames, Q learnable queries, N objects, M kept objects, P prompts, S points per
frame, C channels, K categories, R tokens (one per query or prompt and frame).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from univs.model.types import Predictions
from univs.training.config import LossConfig
from univs.training.losses import Term, class_term, mask_terms, query_labels, semantic_term
from univs.training.matching import assign, class_costs, ignored_share, query_costs
from univs.training.points import draw_points, feature_rows, point_logits, sample_masks, sample_rows
from univs.training.reid import Tokens, interclip_terms, reid_terms, token_relation
from univs.training.targets import BatchTargets, PromptTargets

Terms = dict[str, Term]

SHARED_LOSSES = ("class", "mask", "dice", "reid", "reid_aux")
"""Losses that learnable queries and prompts both have; those of prompts are named ``prompt_...``."""


@dataclass(frozen=True, kw_only=True)
class Identities:
    """Tokens of one clip that stand for a known object."""

    tokens: Tokens
    objects: Tensor
    """[R] int64, clip times N plus row: the same number for the same object in every clip of a video."""


@dataclass(frozen=True, kw_only=True)
class ClipLosses:
    """What one clip contributes."""

    terms: Terms
    identities: tuple[Identities, ...]


@dataclass(frozen=True, kw_only=True)
class _Stack:
    """Predictions of one group of queries with the layers stacked."""

    embeddings: Tensor
    """[L, B, Q, T, C]."""
    mask_embeddings: Tensor
    """[L, B, Q, T, C]."""
    class_logits: Tensor
    """[L, B, Q, K]."""

    @classmethod
    def of(cls, predictions: Predictions, start: int, stop: int | None) -> "_Stack":
        """Stack all layers for the queries from start to stop."""
        layers = predictions.layers
        return cls(
            embeddings=torch.stack([layer.embeddings[:, start:stop] for layer in layers]).float(),
            mask_embeddings=torch.stack([layer.mask_embeddings[:, start:stop] for layer in layers]).float(),
            class_logits=torch.stack([layer.class_logits[:, start:stop] for layer in layers]).float(),
        )

    def take(self, queries: Tensor) -> "_Stack":
        """Pick one query per object: ``queries`` [L, B, M]."""
        wide = queries[..., None, None].expand(-1, -1, -1, *self.embeddings.shape[3:])
        return _Stack(
            embeddings=self.embeddings.gather(2, wide),
            mask_embeddings=self.mask_embeddings.gather(2, wide),
            class_logits=self.class_logits,
        )


@dataclass(frozen=True, kw_only=True)
class _Points:
    """Where the masks of one clip are compared."""

    mask_features: Tensor
    """[B, T, C, h, w] what is read there."""
    places: Tensor
    """[B, T, S, 2] x y fractions."""
    truth: Tensor
    """[B, T, N, S] ground truth in [0, 1]."""
    weight: Tensor
    """[B, T, S] 0 where a pixel that is read is ignored, else 1."""

    def logits(self, mask_embeddings: Tensor) -> Tensor:
        """Read masks of embeddings [L, B, M, T, C] there: [B, T, L, M, S]."""
        return point_logits(mask_embeddings, self.mask_features, self.places)


def clip_losses(
    predictions: Predictions,
    targets: BatchTargets,
    prompted: PromptTargets | None,
    config: LossConfig,
    generator: torch.Generator,
) -> ClipLosses:
    """Compare the predictions for one clip with its ground truth."""
    num_learnable = predictions.num_learnable
    learnable = _Stack.of(predictions, 0, num_learnable)
    points = _read_points(predictions.mask_features, targets, config, generator)
    queries, judged = _match(learnable, points, targets, config)
    terms, own = _learnable_terms(learnable, queries, points, targets, config, generator)
    if learnable.class_logits.shape[-1]:
        labels, weight = query_labels(queries, targets.labels, targets.kept, judged)
        terms["class"] = class_term(learnable.class_logits, labels, weight, config, targets.judged_labels)
    if prompted is None:
        return ClipLosses(terms=terms, identities=(own,))
    prompts = _Stack.of(predictions, num_learnable, None)
    prompt_terms = _prompt_terms(prompts, points, targets, prompted, config, generator)
    link_terms, asked = _link_terms(own, prompts, targets, prompted, config, generator)
    identities = (own,) if prompted.kind == "category" else (own, asked)
    return ClipLosses(terms=terms | prompt_terms | link_terms, identities=identities)


def interclip_losses(
    identities: Sequence[Identities], num_objects: int, config: LossConfig, generator: torch.Generator
) -> Terms:
    """Compare the tokens of all clips of the videos; the initial queries (layer 0) are left out.

    ``num_objects`` is B times N.
    """
    tokens = Tokens(
        embeddings=torch.cat([part.tokens.embeddings[1:] for part in identities], dim=1),
        valid=torch.cat([part.tokens.valid for part in identities]),
    )
    objects = torch.cat([part.objects for part in identities])
    sizes = (config.num_interclip_columns, config.num_interclip_positives)
    contrast, aux = interclip_terms(tokens, objects, num_objects, sizes, generator)
    return {"reid_interclip": contrast, "reid_interclip_aux": aux}


def join_terms(clips: Sequence[Terms]) -> Terms:
    """Add up the terms of the clips of a batch; all have the same names."""
    return {
        name: Term(
            total=torch.stack([terms[name].total for terms in clips]).sum(),
            count=torch.stack([terms[name].count for terms in clips]).sum(),
        )
        for name in clips[0]
    }


def weigh(terms: Terms, config: LossConfig) -> dict[str, Tensor]:
    """Divide the terms by their counts and weigh them.

    Mask losses are divided by the mean count over ranks. Of a loss that learnable queries and prompts both
    have the mean is taken, unless only one of them has any target.
    """
    weights = _weights(config)
    divisors = _divisors(terms)
    return {
        name: term.total / divisors[name].clamp(min=1) * weights[name] * _share(name, terms)
        for name, term in terms.items()
    }


def _read_points(
    mask_features: Tensor, targets: BatchTargets, config: LossConfig, generator: torch.Generator
) -> _Points:
    num_clips, num_frames = mask_features.shape[:2]
    points = draw_points(num_clips, num_frames, config.num_sampled, generator).to(mask_features.device)
    ignored = sample_masks(targets.ignore[:, None], points)[:, :, 0]
    return _Points(
        mask_features=mask_features,
        places=points,
        truth=sample_masks(targets.masks, points),
        weight=(ignored == 0).float(),
    )


@torch.no_grad()
def _match(
    learnable: _Stack, points: _Points, targets: BatchTargets, config: LossConfig
) -> tuple[Tensor, Tensor]:
    """Compare all queries at the first ``num_points`` points, which are uniform.

    Returns:
        The query [L, B, N] of each object, and which queries [L, B, Q] bool lie in pixels that are judged.
    """
    shared = slice(0, config.num_points)
    truth, weight = points.truth[..., shared], points.weight[..., shared]
    maps = points.mask_features
    size = (maps.shape[-2], maps.shape[-1])
    features = sample_rows(feature_rows(maps), size, points.places[:, :, shared]).transpose(2, 3)
    costs, judged = [], torch.ones(learnable.class_logits.shape[:3], dtype=torch.bool, device=maps.device)
    some_ignored = bool((weight == 0).any())
    for layer, embeddings in enumerate(learnable.mask_embeddings):
        costs.append(query_costs(embeddings, features, truth, weight, config))
        if some_ignored:
            logits = (embeddings.transpose(1, 2) @ features)[:, :, None]
            judged[layer] = ignored_share(logits, weight)[0] <= config.max_ignored_share
    classes = None
    if learnable.class_logits.shape[-1]:
        classes = class_costs(learnable.class_logits, targets.labels, config)
    queries = assign(torch.stack(costs), classes, targets.present, targets.kept, config)
    return queries, judged


def _learnable_terms(
    learnable: _Stack,
    queries: Tensor,
    points: _Points,
    targets: BatchTargets,
    config: LossConfig,
    generator: torch.Generator,
) -> tuple[Terms, Identities]:
    """Give mask and identity losses of learnable queries; ``queries`` [L, B, N] are those of the objects."""
    rows = targets.kept_rows
    kept_queries = queries.gather(2, rows.expand(len(queries), -1, -1))
    matched = (kept_queries >= 0) & targets.kept_valid
    chosen = learnable.take(kept_queries.clamp(min=0))
    truth = points.truth.gather(2, rows[:, None, :, None].expand(-1, *_frames_and_points(points)))
    logits = points.logits(chosen.mask_embeddings)
    terms: Terms = {}
    terms["mask"], terms["dice"] = mask_terms(logits, truth, points.weight, matched.transpose(0, 1), config)
    shown = targets.visible.gather(1, rows[..., None].expand(-1, -1, targets.visible.shape[2]))
    own = _identify(chosen.embeddings, matched.all(0)[..., None] & shown, rows, targets)
    same = torch.eye(rows.shape[1], dtype=torch.bool, device=rows.device).expand(len(rows), -1, -1)
    relation = token_relation(same, shown.shape[2])
    terms["reid"], terms["reid_aux"] = reid_terms(
        own.tokens, own.tokens, relation, config.num_reid_columns, generator
    )
    return terms, own


def _prompt_terms(
    prompts: _Stack,
    points: _Points,
    targets: BatchTargets,
    prompted: PromptTargets,
    config: LossConfig,
    generator: torch.Generator,
) -> Terms:
    """Give the losses of prompts; each is assigned to its own target."""
    positive = prompted.positive(targets.present)
    truth = (prompted.members[:, None].float() @ points.truth).clamp(max=1)
    logits = points.logits(prompts.mask_embeddings)
    mask, dice = mask_terms(logits, truth, points.weight, positive[:, None], config)
    terms = {"prompt_mask": mask, "prompt_dice": dice}
    if prompted.kind == "category":
        terms["prompt_semantic"] = semantic_term(logits, truth, points.weight, prompted.valid, config)
    if prompts.class_logits.shape[-1]:
        labels = prompted.labels.masked_fill(~positive, -1)
        weight = prompted.used(targets.present) & (positive == (labels >= 0))
        terms["prompt_class"] = class_term(
            prompts.class_logits, labels[None], weight[None].float(), config, targets.judged_labels
        )
    num_frames = points.weight.shape[1]
    tokens = Tokens.of(prompts.embeddings, positive[..., None].expand(-1, -1, num_frames))
    members = prompted.members.float()
    relation = token_relation((members @ members.transpose(1, 2)) > 0, num_frames)
    terms["prompt_reid"], terms["prompt_reid_aux"] = reid_terms(
        tokens, tokens, relation, config.num_reid_columns, generator
    )
    return terms


def _link_terms(
    own: Identities,
    prompts: _Stack,
    targets: BatchTargets,
    prompted: PromptTargets,
    config: LossConfig,
    generator: torch.Generator,
) -> tuple[Terms, Identities]:
    """Give the losses between learnable queries and prompts of the same object, and the prompts' identities.

    A category is no identity, so category prompts only have the contrastive loss.
    """
    num_frames = targets.visible.shape[2]
    used = prompted.used(targets.present)[..., None].expand(-1, -1, num_frames)
    asked = _identify(prompts.embeddings, used, prompted.members.int().argmax(-1), targets)
    rows = targets.kept_rows[:, None].expand(-1, prompted.members.shape[1], -1)
    linked = prompted.members.gather(2, rows).transpose(1, 2)
    relation = token_relation(linked, num_frames)
    contrast, aux = reid_terms(own.tokens, asked.tokens, relation, config.num_reid_columns, generator)
    terms = {"reid_l2p": contrast}
    if prompted.kind != "category":
        terms["reid_l2p_aux"] = aux
    return terms, asked


def _identify(embeddings: Tensor, valid: Tensor, rows: Tensor, targets: BatchTargets) -> Identities:
    """Name the object of every token of [L, B, M, T, C]; ``valid`` [B, M, T], ``rows`` [B, M]."""
    num_clips, num_objects = targets.labels.shape
    first = torch.arange(num_clips, device=rows.device)[:, None] * num_objects
    objects = (first + rows)[..., None].expand(valid.shape).flatten()
    return Identities(tokens=Tokens.of(embeddings, valid), objects=objects)


def _frames_and_points(points: _Points) -> tuple[int, int, int]:
    """Sizes for ``expand`` of an index [B, 1, M, 1] into ``points.truth``."""
    return points.truth.shape[1], -1, points.truth.shape[3]


def _weights(config: LossConfig) -> dict[str, float]:
    own = {
        "class": config.class_weight,
        "mask": config.mask_weight,
        "dice": config.dice_weight,
        "reid": config.reid_weight,
        "reid_aux": config.reid_weight,
    }
    linked = ("reid_l2p", "reid_l2p_aux", "reid_interclip", "reid_interclip_aux")
    return (
        own
        | {f"prompt_{name}": weight for name, weight in own.items()}
        | dict.fromkeys(linked, config.reid_weight)
        | {"prompt_semantic": config.mask_weight}
    )


def _divisors(terms: Terms) -> dict[str, Tensor]:
    """Give the divisor of each term; every rank communicates exactly once, whatever its task."""
    zero = torch.zeros_like(terms["mask"].count)
    prompts = terms["prompt_mask"].count if "prompt_mask" in terms else zero
    masks = torch.stack([terms["mask"].count, prompts])
    if dist.is_available() and dist.is_initialized():
        dist.all_reduce(masks)
        masks = masks / dist.get_world_size()
    averaged = {"mask": masks[0], "dice": masks[0], "prompt_mask": masks[1], "prompt_dice": masks[1]}
    return {name: term.count for name, term in terms.items()} | averaged


def _share(name: str, terms: Terms) -> Tensor | float:
    """Give 1/2 to a loss whose partner (learnable or prompt) has targets on this rank, too, else 1."""
    partners = {f"prompt_{shared}": shared for shared in SHARED_LOSSES}
    partners |= {shared: f"prompt_{shared}" for shared in SHARED_LOSSES} | {"prompt_semantic": "mask"}
    partner = partners.get(name)
    if partner is None or partner not in terms:
        return 1.0
    return 1 - 0.5 * (terms[partner].count > 0).float()
