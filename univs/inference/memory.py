"""Prompt memory: what every object looked like in its first frame and in the last ones it was seen in.

Tokens of a frame are always taken from the features of that very frame, while it is still in the window.

Legend: N objects (the P of the model's types, B = 1), K T frames, R tokens per slot, C channels, h w the
padded size.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from univs.model.regions import mask_regions
from univs.model.types import Features, RegionTokens
from univs.model.univs import UniVS


@dataclass(frozen=True, kw_only=True, slots=True)
class PromptMemory:
    """Tokens of each object: one slot of its first appearance and a ring of its last appearances."""

    first: RegionTokens
    """[1, N, 1, R, C], invalid until the object's first frame has left the window."""
    recent: RegionTokens
    """[1, N, M, R, C], newest last; frames in which the object has no pixel take no slot."""

    @classmethod
    def empty(cls, num_objects: int, memory_frames: int, like: RegionTokens) -> "PromptMemory":
        """Remember nothing, in the token count, width, type and device of ``like``."""
        return cls(first=_blank(like, num_objects, 1), recent=_blank(like, num_objects, memory_frames))

    def pushed(self, tokens: RegionTokens) -> "PromptMemory":
        """Append slots [1, N, S, R, C], oldest first; each object forgets as many as it gained."""
        first, recent = self.first, self.recent
        for slot in range(tokens.valid.shape[2]):
            new = _slots(tokens, slot, slot + 1)
            seen = new.valid.any(-1, keepdim=True)
            first = _where(seen & ~first.valid.any(-1, keepdim=True), new, first)
            recent = _where(seen, _slots(recent, 1, None).cat(new), recent)
        return PromptMemory(first=first, recent=recent)

    def slots(self) -> RegionTokens:
        """Give all slots, the first appearance at the front: [1, N, 1 + M, R, C]."""
        return self.first.cat(self.recent)

    def newest(self) -> RegionTokens:
        """Give the newest slot of each object: [1, N, 1, R, C]."""
        return _slots(self.recent, -1, None)

    def grown(self, num_objects: int) -> "PromptMemory":
        """Append rows that remember nothing."""
        memory_frames = self.recent.valid.shape[2]
        new = self.empty(num_objects, memory_frames, self.first)
        return PromptMemory(first=_rows_cat(self.first, new.first), recent=_rows_cat(self.recent, new.recent))

    def selected(self, rows: Tensor) -> "PromptMemory":
        """Keep some rows."""
        return PromptMemory(
            first=_map(self.first, lambda x: x[:, rows]), recent=_map(self.recent, lambda x: x[:, rows])
        )


def encode_masks(
    model: UniVS, features: Features, masks: Tensor, frames: Tensor, generator: torch.Generator | None
) -> RegionTokens:
    """Take tokens inside masks: bool [N, K, h, w] at clip positions ``frames`` [K] to [1, N, K, R, C].

    Slots of empty masks come back invalid. One frame at a time, so that the full-size masks of all frames
    are never needed in float together.
    """
    slots = [
        model.region_tokens(
            features, mask_regions(masks[None, :, index], frame.expand(1, len(masks))), generator
        )
        for index, frame in enumerate(frames)
    ]
    return RegionTokens(
        features=torch.cat([slot.features for slot in slots], dim=2),
        positions=torch.cat([slot.positions for slot in slots], dim=2),
        valid=torch.cat([slot.valid for slot in slots], dim=2),
    )


def spread_slots(
    tokens: RegionTokens, frames: Tensor, num_frames: int, fallback: RegionTokens
) -> RegionTokens:
    """Give every frame of the clip the newest slot known by then.

    Frames before an object's first slot take that one; an object without any takes ``fallback``.

    Args:
        tokens: [1, N, K, R, C] slots of the known frames.
        frames: [K] their positions in the clip, ascending.
        num_frames: T.
        fallback: [1, N, 1, R, C].

    Returns:
        [1, N, T, R, C].
    """
    known = tokens.valid[0].any(-1)
    sources = _slot_sources(known, frames, num_frames)
    candidates = tokens.cat(fallback)
    return _map(candidates, lambda x: _take_slots(x, sources))


def _slot_sources(known: Tensor, frames: Tensor, num_frames: int) -> Tensor:
    """Choose for [N, K] known slots the source of each of T frames: [N, T], K means none."""
    num_slots = known.shape[1]
    slots = torch.arange(num_slots, device=known.device)
    times = torch.arange(num_frames, device=known.device)
    past = known[:, None] & (frames[None, None] <= times[None, :, None])
    newest = (
        torch.where(past, slots, -1).amax(-1) if num_slots else times.new_full((len(known), num_frames), -1)
    )
    earliest = torch.where(known, slots, num_slots).amin(-1) if num_slots else newest[:, 0] + 1
    return torch.where(newest >= 0, newest, earliest[:, None])


def _take_slots(values: Tensor, sources: Tensor) -> Tensor:
    """Index [1, N, S, R, ...] by [N, T] into [1, N, T, R, ...]."""
    rows = torch.arange(len(sources), device=sources.device)[:, None]
    return values[0][rows, sources][None]


def _slots(tokens: RegionTokens, start: int, stop: int | None) -> RegionTokens:
    return _map(tokens, lambda x: x[:, :, start:stop])


def _blank(like: RegionTokens, num_objects: int, num_slots: int) -> RegionTokens:
    return _map(like, lambda x: x.new_zeros((1, num_objects, num_slots, *x.shape[3:])))


def _rows_cat(first: RegionTokens, second: RegionTokens) -> RegionTokens:
    return RegionTokens(
        features=torch.cat([first.features, second.features], dim=1),
        positions=torch.cat([first.positions, second.positions], dim=1),
        valid=torch.cat([first.valid, second.valid], dim=1),
    )


def _where(rows: Tensor, new: RegionTokens, old: RegionTokens) -> RegionTokens:
    """Take ``new`` for the objects in ``rows`` bool [1, N, 1, 1]."""
    return RegionTokens(
        features=torch.where(rows[..., None], new.features, old.features),
        positions=torch.where(rows[..., None], new.positions, old.positions),
        valid=torch.where(rows, new.valid, old.valid),
    )


def _map(tokens: RegionTokens, function: Callable[[Tensor], Tensor]) -> RegionTokens:
    return RegionTokens(
        features=function(tokens.features),
        positions=function(tokens.positions),
        valid=function(tokens.valid),
    )
