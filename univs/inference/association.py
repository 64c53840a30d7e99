"""Who is who between clips: embeddings of objects over time, and matching detections to them.

Legend: N objects, V remembered clips, D detections, T frames, C channels.
"""

from dataclasses import dataclass

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn import functional

_MIN_NORM = 1e-3
_MATCHED_SLOTS = 3
"""Newest remembered clips that take part in matching."""


@dataclass(frozen=True, kw_only=True, slots=True)
class IdentityMemory:
    """Embeddings of each object in the last clips that accepted it, newest last."""

    embeddings: Tensor
    """[N, V, C] clip means."""
    valid: Tensor
    """[N, V] bool; filled from the end."""

    @classmethod
    def empty(cls, num_objects: int, num_slots: int, channels: int, device: torch.device) -> "IdentityMemory":
        """Remember nothing of some objects."""
        return cls(
            embeddings=torch.zeros((num_objects, num_slots, channels), device=device),
            valid=torch.zeros((num_objects, num_slots), dtype=torch.bool, device=device),
        )

    def pushed(self, embeddings: Tensor, accepted: Tensor) -> "IdentityMemory":
        """Append the clip means [N, C] of the accepted [N] objects, forgetting their oldest."""
        shifted = torch.cat([self.embeddings[:, 1:], embeddings[:, None].to(self.embeddings.dtype)], dim=1)
        valid = torch.cat([self.valid[:, 1:], accepted[:, None]], dim=1)
        return IdentityMemory(
            embeddings=torch.where(accepted[:, None, None], shifted, self.embeddings),
            valid=torch.where(accepted[:, None], valid, self.valid),
        )

    def blended(self, embeddings: Tensor, matched: Tensor) -> "IdentityMemory":
        """Average the newest slot of the matched [N] objects with embeddings [N, C]."""
        newest = self.embeddings[:, -1]
        mean = torch.where(self.valid[:, -1:], (newest + embeddings) / 2, embeddings)
        newest = torch.where(matched[:, None], mean, newest)
        return IdentityMemory(
            embeddings=torch.cat([self.embeddings[:, :-1], newest[:, None]], dim=1),
            valid=torch.cat([self.valid[:, :-1], self.valid[:, -1:] | matched[:, None]], dim=1),
        )

    def grown(self, num_objects: int) -> "IdentityMemory":
        """Append rows that remember nothing."""
        _, slots, channels = self.embeddings.shape
        new = self.empty(num_objects, slots, channels, self.embeddings.device)
        return IdentityMemory(
            embeddings=torch.cat([self.embeddings, new.embeddings]), valid=torch.cat([self.valid, new.valid])
        )

    def selected(self, rows: Tensor) -> "IdentityMemory":
        """Keep some rows."""
        return IdentityMemory(embeddings=self.embeddings[rows], valid=self.valid[rows])

    def agreement(self, embeddings: Tensor) -> Tensor:
        """Cosine agreement [N] with this clip's embeddings [N, T, C] of the same objects."""
        return cosine_agreement(self.embeddings, self.valid, embeddings)

    def agreements(self, embeddings: Tensor) -> Tensor:
        """Cosine agreement [N, D] with the embeddings [D, T, C] of detections."""
        return pairwise_agreement(self.embeddings, self.valid, embeddings)

    def similarity(self, embeddings: Tensor) -> Tensor:
        """Bi-softmax similarity [N, D] with the embeddings [D, T, C] of detections."""
        recent = slice(-_MATCHED_SLOTS, None)
        return bisoftmax_similarity(self.embeddings[:, recent], self.valid[:, recent], embeddings)


def identity_slots(memory_frames: int, clip_stride: int) -> int:
    """Clips an object's identity is remembered for: as many as its frames, at least three."""
    return max(memory_frames // clip_stride, _MATCHED_SLOTS)


def temporal_weights(valid: Tensor) -> Tensor:
    """Weigh remembered clips, the newest most: exp(5 v / V) on valid slots, rows sum to 1; [N, V]."""
    num_slots = valid.shape[1]
    ranks = torch.arange(1, num_slots + 1, device=valid.device) / num_slots
    weights = (5 * ranks).exp() * valid
    return weights / weights.sum(1, keepdim=True).clamp(min=_MIN_NORM)


def cosine_agreement(memory: Tensor, valid: Tensor, embeddings: Tensor) -> Tensor:
    """Agree over time: mean over frames of the cosine with each slot, then weighted over slots.

    Args:
        memory: [N, V, C].
        valid: [N, V] bool.
        embeddings: [N, T, C] of the same objects.

    Returns:
        [N] in [-1, 1], 0 for objects without memory.
    """
    cosines = (_normalized(memory) * _normalized(embeddings).mean(1)[:, None]).sum(-1)
    return (cosines * temporal_weights(valid)).sum(1)


def pairwise_agreement(memory: Tensor, valid: Tensor, embeddings: Tensor) -> Tensor:
    """Cosine agreement of every object [N, V, C] with every detection [D, T, C]: [N, D]."""
    with torch.autocast(memory.device.type, enabled=False):
        cosines = _normalized(memory) @ _normalized(embeddings).mean(1).T
    return (cosines * temporal_weights(valid)[..., None]).sum(1)


def bisoftmax_similarity(memory: Tensor, valid: Tensor, embeddings: Tensor) -> Tensor:
    """Match both ways: mean of the softmax over detections and the softmax over objects.

    Every pair (slot, frame) is one vote; an object's empty slots do not vote.

    Args:
        memory: [N, V, C].
        valid: [N, V] bool.
        embeddings: [D, T, C].

    Returns:
        [N, D] in [0, 1], 0 for objects without memory.
    """
    with torch.autocast(memory.device.type, enabled=False):
        products = torch.einsum("nvc,dtc->nvtd", memory.float(), embeddings.float())
    voting = valid[:, :, None, None]
    over_objects = products.masked_fill(~voting, -torch.inf).softmax(0).nan_to_num(0.0)
    votes = (products.softmax(-1) + over_objects) / 2 * voting
    return votes.mean(2).sum(1) / valid.sum(1, keepdim=True).clamp(min=1)


def match(similarity: Tensor, threshold: float) -> Tensor:
    """Assign detections to objects one to one, for the largest sum above the threshold.

    Returns:
        [N] index of each object's detection, -1 without one.
    """
    assigned = torch.full((similarity.shape[0],), -1, dtype=torch.int64, device=similarity.device)
    if not similarity.numel():
        return assigned
    kept = torch.where(similarity > threshold, similarity, 0.0)
    rows, columns = (
        torch.from_numpy(index).to(similarity.device)
        for index in linear_sum_assignment(kept.cpu().numpy(), maximize=True)
    )
    assigned[rows] = torch.where(kept[rows, columns] > 0, columns, -1)
    return assigned


def _normalized(embeddings: Tensor) -> Tensor:
    return functional.normalize(embeddings.float(), dim=-1, eps=_MIN_NORM)
