"""Ground truth as the original prepares it: the first objects are kept, the others become background.

Legend: B clips, N objects, E expressions, P prompts, S present categories, T frames, H W the padded size.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from univs.data.batch import ClipBatch, ClipTargets
from univs.draws import Draws

PromptKind = Literal["visual", "category", "expression"]

VISUAL_THRESHOLD = 0.5
"""A detection batch is prompted by regions where a *normal* number exceeds this: in 31 % of the steps."""
SUBSAMPLED_DATASET = "sa_1b"
"""Of its images, twice the objects that are kept are drawn before the first ones are kept."""


@dataclass(frozen=True, kw_only=True)
class ClipGoals:
    """What one clip is trained on; row i of masks, ids and labels is an object, or an expression's object."""

    masks: Tensor
    """[N, T, H, W] bool."""
    ids: Tensor
    """[N, T] int64 identities, -1 in frames that do not show the object."""
    labels: Tensor
    """[N] int64, -1 for class-less objects."""
    category_masks: Tensor
    """[S, T, H, W] bool union of the objects of each present category, for category prompts."""
    prompt_rows: Tensor
    """[P] int64 row of ``masks`` (category prompts: of ``category_masks``) of each prompt, -1 for negatives.
    Empty for region prompts before they are drawn."""
    prompt_labels: Tensor
    """[P] int64 labels of category prompts."""
    expressions: tuple[str, ...]
    """P strings of expression prompts; empty where the clip shows none of their objects."""

    def slice_frames(self, start: int, stop: int) -> "ClipGoals":
        """Keep frames start..stop-1; rows stay."""
        return replace(
            self,
            masks=self.masks[:, start:stop],
            ids=self.ids[:, start:stop],
            category_masks=self.category_masks[:, start:stop],
        )


@dataclass(frozen=True, kw_only=True)
class BatchGoals:
    """What a batch is trained on."""

    kind: PromptKind
    num_prompts: int
    """P to which the prompts of every clip of a batch are padded."""
    clips: tuple[ClipGoals, ...]

    def slice_frames(self, start: int, stop: int) -> "BatchGoals":
        """Keep frames start..stop-1 of every clip."""
        return replace(self, clips=tuple(clip.slice_frames(start, stop) for clip in self.clips))

    def with_rows(self, rows: Sequence[Tensor]) -> "BatchGoals":
        """Set the prompted rows [P] of every clip."""
        clips = zip(self.clips, rows, strict=True)
        return replace(self, clips=tuple(replace(clip, prompt_rows=row) for clip, row in clips))


def prepare_goals(batch: ClipBatch, max_objects: int, draws: Draws) -> BatchGoals:
    """Choose the kind of prompts and prepare every clip, with at most ``max_objects`` rows and prompts."""
    kind = _choose_kind(batch, draws)
    targets = [_subsample(batch, target, max_objects, draws) for target in batch.targets]
    if kind == "expression":
        num_prompts = min(max(len(target.expressions) for target in targets), max_objects)
        clips = [_expression_goals(target, num_prompts, max_objects) for target in targets]
    elif kind == "category":
        present = [target.labels[target.visible.any(-1)].unique() for target in targets]
        num_prompts = min(max(len(labels) for labels in present), max_objects)
        clips = [_category_goals(batch, target, num_prompts, max_objects, draws) for target in targets]
    else:
        num_prompts = min(max(len(target.masks) for target in targets), max_objects)
        clips = [_object_goals(target, max_objects) for target in targets]
    return BatchGoals(kind=kind, num_prompts=num_prompts, clips=tuple(clips))


def _choose_kind(batch: ClipBatch, draws: Draws) -> PromptKind:
    if batch.task == "grounding":
        return "expression"
    if batch.task != "detection" or batch.label_space is None:
        return "visual"
    return "visual" if bool(draws.randn(1) > VISUAL_THRESHOLD) else "category"


def _subsample(batch: ClipBatch, targets: ClipTargets, max_objects: int, draws: Draws) -> ClipTargets:
    num_objects = len(targets.masks)
    if batch.dataset != SUBSAMPLED_DATASET or num_objects <= 2 * max_objects:
        return targets
    rows = draws.randperm(num_objects, device=targets.masks.device)[: 2 * max_objects]
    return replace(
        targets, masks=targets.masks[rows], labels=targets.labels[rows], object_ids=targets.object_ids[rows]
    )


def _object_goals(targets: ClipTargets, max_objects: int) -> ClipGoals:
    visible = targets.visible
    ids = targets.object_ids[:, None].masked_fill(~visible, -1)
    rows = visible.any(-1).nonzero()[:, 0][:max_objects]
    none = targets.labels.new_empty(0)
    return ClipGoals(
        masks=targets.masks[rows],
        ids=ids[rows],
        labels=targets.labels[rows],
        category_masks=targets.masks[:0],
        prompt_rows=none,
        prompt_labels=none,
        expressions=(),
    )


def _category_goals(
    batch: ClipBatch, targets: ClipTargets, num_prompts: int, max_objects: int, draws: Draws
) -> ClipGoals:
    """Prompt by the present categories in label order, then by absent ones.

    Categories of objects that the clip does not show are neither.
    """
    goals = _object_goals(targets, max_objects)
    if batch.label_space is None:
        raise ValueError(f"dataset {batch.dataset!r} has no label space to draw category prompts from")
    device = targets.labels.device
    present = targets.labels[targets.visible.any(-1)].unique()
    known = torch.arange(len(batch.label_space.names), device=device)
    absent = known[~torch.isin(known, targets.labels)]
    absent = absent[draws.randperm(len(absent), device=device)]
    num_absent = max(num_prompts - len(present), 0)
    absent = absent.repeat(num_absent)[:num_absent]
    rows = torch.cat([torch.arange(len(present), device=device), torch.full_like(absent, -1)])
    members = present[:, None] == targets.labels
    return replace(
        goals,
        category_masks=torch.stack([targets.masks[of].any(0) for of in members])
        if len(present)
        else targets.masks[:0],
        prompt_rows=rows[:num_prompts],
        prompt_labels=torch.cat([present, absent])[:num_prompts],
    )


def _expression_goals(targets: ClipTargets, num_prompts: int, max_objects: int) -> ClipGoals:
    """Give every expression a row, numbered by object in the order in which the objects are first named.

    The original then takes those numbers for rows: an object that is named after one with two expressions is
    supervised by the mask of the latter.
    """
    named = targets.expression_objects
    shown = targets.visible.any(-1)[named]
    rows = named[shown]
    number: dict[int, int] = {}
    for object_id in targets.object_ids[rows].tolist():
        number.setdefault(object_id, len(number))
    numbers = [number[object_id] for object_id in targets.object_ids[rows].tolist()]
    identity = torch.tensor(numbers, dtype=torch.int64, device=named.device)
    strings = [text for text, is_shown in zip(targets.expressions, shown.tolist(), strict=True) if is_shown]
    turn = torch.arange(num_prompts, device=named.device) % max(len(strings), 1)
    kept = rows[:max_objects]
    return ClipGoals(
        masks=targets.masks[kept],
        ids=identity[:max_objects, None].masked_fill(~targets.visible[kept], -1),
        labels=targets.labels[kept],
        category_masks=targets.masks[:0],
        prompt_rows=identity[turn] if strings else torch.full_like(turn, -1),
        prompt_labels=targets.labels.new_empty(0),
        expressions=tuple(strings[index] for index in turn.tolist()) if strings else (),
    )
