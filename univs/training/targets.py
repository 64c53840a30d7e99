"""What a batch is trained on: padded ground truth, the objects it is capped to, and its prompts.

Legend: B clips, N objects (padded), P prompts (padded), T frames, K categories, E expressions, D text
channels, W words, H W the padded size.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from univs.data.batch import ClipTargets
from univs.model.types import TextFeatures


@dataclass(frozen=True, kw_only=True)
class BatchTargets:
    """Ground truth of all clips of a batch, objects padded to the same number (at least one)."""

    masks: Tensor
    """[B, N, T, H, W] bool."""
    visible: Tensor
    """[B, N, T] bool, whether the object has a pixel in the frame; false in padded rows."""
    labels: Tensor
    """[B, N] int64, -1 for class-less objects and padding."""
    ignore: Tensor
    """[B, T, H, W] bool, pixels without a loss."""
    kept_rows: Tensor
    """[B, P] int64, distinct rows of the objects with mask and identity losses."""
    kept_valid: Tensor
    """[B, P] bool, false where the clip has fewer objects than P."""
    judged_labels: Tensor | None = None
    """[B, K] bool, categories that were looked for in the clip; ``None`` where all were."""

    @property
    def present(self) -> Tensor:
        """[B, N] bool, objects visible in some frame."""
        return self.visible.any(-1)

    @property
    def kept(self) -> Tensor:
        """[B, N] bool, present objects that survived the cap; the others are ignored, not background."""
        chosen = torch.zeros_like(self.present).scatter(1, self.kept_rows, self.kept_valid)
        return chosen & self.present

    def slice_frames(self, start: int, stop: int) -> "BatchTargets":
        """Keep frames start..stop-1; rows and the choice of objects stay."""
        return replace(
            self,
            masks=self.masks[:, :, start:stop],
            visible=self.visible[:, :, start:stop],
            ignore=self.ignore[:, start:stop],
        )


@dataclass(frozen=True, kw_only=True)
class PromptTargets:
    """What each prompt of a batch stands for, fixed for all clips of its videos."""

    kind: Literal["visual", "category", "expression"]
    members: Tensor
    """[B, P, N] bool, the objects whose union the prompt segments."""
    labels: Tensor
    """[B, P] int64, -1 for class-less prompts and padding."""
    valid: Tensor
    """[B, P] bool, false rows are padding."""
    sentences: Tensor | None = None
    """[B, P, D] text features of category prompts."""
    text: TextFeatures | None = None
    """Of expression prompts: sentences [B, P, D], words [B, P, W, D], word_valid [B, P, W]."""

    def positive(self, present: Tensor) -> Tensor:
        """[B, P] bool: prompts for something that is there, given present objects [B, N]."""
        return self.valid & (self.members & present[:, None]).any(-1)

    def used(self, present: Tensor) -> Tensor:
        """[B, P] bool: prompts that enter the model; absent categories do, absent objects do not."""
        return self.valid if self.kind == "category" else self.positive(present)


def choose_targets(
    targets: Sequence[ClipTargets], max_objects: int, generator: torch.Generator
) -> BatchTargets:
    """Pad the targets of a batch and draw at most ``max_objects`` visible objects per clip."""
    masks = _pad([target.masks for target in targets], False)
    labels = _pad([target.labels for target in targets], -1)
    visible = masks.flatten(3).any(-1)
    rows, valid = draw_rows(visible.any(-1), max_objects, generator)
    return BatchTargets(
        masks=masks,
        visible=visible,
        labels=labels,
        ignore=torch.stack([target.ignore for target in targets]),
        kept_rows=rows,
        kept_valid=valid,
        judged_labels=_stack_judged([target.judged_labels for target in targets]),
    )


def _stack_judged(parts: Sequence[Tensor | None]) -> Tensor | None:
    """Join what was looked for in each clip, [K] bool or ``None`` for all, to [B, K], or ``None``."""
    known = [part for part in parts if part is not None]
    if not known:
        return None
    everything = torch.ones_like(known[0])
    return torch.stack([everything if part is None else part for part in parts])


def draw_rows(candidates: Tensor, max_rows: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw up to ``max_rows`` true entries per row of ``candidates`` [B, N], uniformly.

    Returns:
        Indices [B, P] and whether each is a candidate [B, P], candidates first; P = min(max_rows, N).
    """
    scores = torch.rand(candidates.shape, generator=generator, device=generator.device).to(candidates.device)
    scores = scores.masked_fill(~candidates, -1)
    values, rows = scores.topk(min(max_rows, candidates.shape[1]), dim=1)
    return rows, values >= 0


def visual_targets(targets: BatchTargets) -> PromptTargets:
    """Prompt every kept object by a region."""
    return PromptTargets(
        kind="visual",
        members=_members_of_rows(targets.kept_rows, targets.kept_valid, targets.labels.shape[1]),
        labels=targets.labels.gather(1, targets.kept_rows).masked_fill(~targets.kept_valid, -1),
        valid=targets.kept_valid,
    )


def category_targets(
    targets: BatchTargets, bank: Tensor, max_prompts: int, generator: torch.Generator
) -> PromptTargets:
    """Prompt by category names: present classes first, then absent ones drawn at random.

    Of a federated dataset only categories that were looked for are taken for absent.

    Args:
        targets: ground truth; all present objects of a class make up its mask, capped or not.
        bank: [K, D] text features of the label space.
        max_prompts: prompts per clip; also at most K.
        generator: source of the choice.
    """
    classed = targets.present & (targets.labels >= 0)
    there = torch.zeros(len(targets.labels), len(bank), device=bank.device)
    there.scatter_add_(1, targets.labels.clamp(min=0), classed.float())
    scores = torch.rand(there.shape, generator=generator, device=generator.device).to(bank.device)
    if targets.judged_labels is not None:
        scores = scores.masked_fill(~targets.judged_labels, -1)
    best = torch.where(there > 0, scores + 3, scores).topk(min(max_prompts, len(bank)), dim=1)
    labels = best.indices
    return PromptTargets(
        kind="category",
        members=(targets.labels[:, None] == labels[..., None]) & classed[:, None],
        labels=labels,
        valid=best.values >= 0,
        sentences=bank[labels],
    )


def draw_expressions(
    targets: Sequence[ClipTargets], max_prompts: int, generator: torch.Generator
) -> list[list[int]]:
    """Draw at most ``max_prompts`` expression indices per clip (CPU generator)."""
    return [
        torch.randperm(len(target.expressions), generator=generator)[:max_prompts].tolist()
        for target in targets
    ]


def expression_targets(
    targets: Sequence[ClipTargets], chosen: Sequence[Sequence[int]], text: TextFeatures, num_rows: int
) -> PromptTargets:
    """Prompt by expressions; each is supervised by the object row that it names.

    Args:
        targets: the clips.
        chosen: expressions taken of each clip.
        text: features of the chosen expressions, clips one after the other.
        num_rows: N of the padded targets.
    """
    device = text.sentences.device
    position = torch.arange(len(text.sentences)).split([len(clip) for clip in chosen])
    gather = pad_sequence(list(position), batch_first=True).to(device)
    valid = pad_sequence([torch.ones_like(p, dtype=torch.bool) for p in position], batch_first=True).to(
        device
    )
    picks = [torch.tensor(clip, dtype=torch.long).to(device) for clip in chosen]
    rows = [target.expression_objects[pick] for target, pick in zip(targets, picks, strict=True)]
    return PromptTargets(
        kind="expression",
        members=_members_of_rows(pad_sequence(rows, batch_first=True), valid, num_rows),
        labels=torch.full(valid.shape, -1, device=device),
        valid=valid,
        text=TextFeatures(
            sentences=text.sentences[gather], words=text.words[gather], word_valid=text.word_valid[gather]
        ),
    )


def _members_of_rows(rows: Tensor, valid: Tensor, num_rows: int) -> Tensor:
    """[B, P, N] bool with one true entry per valid prompt."""
    return (rows[..., None] == torch.arange(num_rows, device=rows.device)) & valid[..., None]


def _pad(parts: list[Tensor], value: float) -> Tensor:
    """Stack along a new batch axis, padding the first axis to the longest, at least one."""
    if not any(len(part) for part in parts):
        parts = [part.new_full((1, *part.shape[1:]), value) for part in parts]
    return pad_sequence(parts, batch_first=True, padding_value=value)
