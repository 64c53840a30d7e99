"""Tokens that stand for known objects, and the losses between learnable queries and prompts.

Legend: B clips, T frames, M queries or prompts, P prompts, R tokens, C channels.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from univs.training.compat.points import Sampling
from univs.training.compat.reid import identity_terms
from univs.training.compat.targets import BatchGoals

Matches = Sequence[tuple[Tensor, Tensor]]
"""Per clip, queries and the rows of the objects that they are matched to."""


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """Tokens of a group of queries that take part in an identity loss."""

    embeddings: Tensor
    """[R, C]."""
    ids: Tensor
    """[R]."""
    clips: Tensor
    """[R] number of the clip in the batch."""

    def same(self, other: "Tokens") -> Tensor:
        """[R, R'] bool, same id in the same clip."""
        return (self.ids[:, None] == other.ids) & (self.clips[:, None] == other.clips)

    @classmethod
    def cat(cls, parts: Sequence["Tokens"]) -> "Tokens":
        """Join tokens."""
        return cls(
            embeddings=torch.cat([part.embeddings for part in parts]),
            ids=torch.cat([part.ids for part in parts]),
            clips=torch.cat([part.clips for part in parts]),
        )


def link_terms(
    learnable: Tensor, prompts: Tensor, matches: Matches, goals: BatchGoals, sampling: Sampling
) -> tuple[dict[str, Tensor], Tokens]:
    """Give the losses between learnable and prompt embeddings [B, M, T, C].

    Returns:
        The terms, and the tokens that those of other clips are to be compared with.
    """
    own = matched_tokens(learnable, matches, goals)
    zero = own.embeddings.new_zeros(())
    if not prompts.shape[1]:
        return {"reid_l2p": zero, "reid_l2p_aux": zero}, own
    if goals.kind == "category":
        named = matched_tokens(learnable, matches, goals, by_label=True)
        asked = take_tokens(prompts, _category_ids(goals, prompts.shape[2]))
        contrast, _ = identity_terms(named.embeddings, asked.embeddings, named.same(asked), sampling)
        return {"reid_l2p": contrast, "reid_l2p_aux": zero}, own
    ids = [F.pad(clip.ids, (0, 0, 0, 1), value=-1)[clip.prompt_rows] for clip in goals.clips]
    asked = take_tokens(prompts, torch.stack(ids))
    contrast, aux = identity_terms(own.embeddings, asked.embeddings, own.same(asked), sampling)
    return {"reid_l2p": contrast, "reid_l2p_aux": aux}, Tokens.cat([asked, own])


def take_tokens(embeddings: Tensor, ids: Tensor, first_clip: int = 0) -> Tokens:
    """Keep the tokens of [B, M, T, C] whose id [B, M, T] is not negative; clips count from ``first_clip``."""
    clips = torch.arange(first_clip, first_clip + len(ids), device=ids.device)[:, None, None].expand_as(ids)
    kept = ids >= 0
    return Tokens(embeddings=embeddings[kept], ids=ids[kept], clips=clips[kept])


def matched_tokens(embeddings: Tensor, matches: Matches, goals: BatchGoals, by_label: bool = False) -> Tokens:
    """Take the matched queries of [B, M, T, C] in the frames that show their object.

    ``by_label`` takes them in all frames and calls an object by its label.
    """
    parts = []
    for index, (queries, rows) in enumerate(matches):
        clip = goals.clips[index]
        ids = clip.labels[rows, None].expand(-1, clip.ids.shape[1]) if by_label else clip.ids[rows]
        parts.append(take_tokens(embeddings[index : index + 1, queries], ids[None], index))
    return Tokens.cat(parts)


def _category_ids(goals: BatchGoals, num_frames: int) -> Tensor:
    """Label every category prompt [B, P, T], -1 for absent categories."""
    ids = [clip.prompt_labels.masked_fill(clip.prompt_rows < 0, -1) for clip in goals.clips]
    return torch.stack(ids)[..., None].expand(-1, -1, num_frames)
