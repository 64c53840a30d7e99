"""What is known of the entities of a video: identity, class, quality, masks in the window.

Legend: N entities, D detections, T frames in the window, K categories, C channels, q a quarter of the padded
size.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from univs.inference.association import IdentityMemory, identity_slots
from univs.inference.config import InferenceConfig
from univs.inference.memory import PromptMemory
from univs.inference.outputs import QueryOutputs
from univs.inference.window import MaskWindow
from univs.model.types import RegionTokens
from univs.model.univs import UniVS


@dataclass(frozen=True, kw_only=True, slots=True)
class EntitySummary:
    """The verdict on one entity."""

    entity_id: int
    """Counts from 0 in the order the entities were found."""
    class_probabilities: Tensor
    """[K] mean over its clips."""
    quality_sum: float
    """Sum of the mask qualities of all masks that were put together."""
    num_masks: int
    """How many those are."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EntityTracks:
    """Entities followed at the moment; row n of every tensor is the same entity."""

    ids: Tensor
    """[N] int64."""
    num_started: int
    """Entities so far, also those given up; the next id."""
    class_latest: Tensor
    """[N, K] probabilities as of the last clip that saw the entity with learnable queries."""
    class_sums: Tensor
    """[N, K] sum of ``class_latest`` over the clips since the entity was found."""
    num_clips: Tensor
    """[N] clips in that sum."""
    quality_sums: Tensor
    """[N] float64."""
    num_masks: Tensor
    """[N] int64 masks accepted so far."""
    num_unseen_clips: Tensor
    """[N] int64 clips since the last accepted mask; -1 right after one."""
    window: MaskWindow
    memory: PromptMemory
    identity: IdentityMemory
    retired: tuple[EntitySummary, ...] = ()

    @classmethod
    def empty(
        cls, *, num_classes: int, size: tuple[int, int], config: InferenceConfig, model: UniVS
    ) -> "EntityTracks":
        """Know nothing yet; masks have ``size``."""
        device = next(model.parameters()).device
        channels, num_tokens = model.config.hidden_dim, model.config.prompts.tokens_per_object
        blank = torch.zeros((1, 0, 1, num_tokens, channels), device=device)
        like = RegionTokens(features=blank, positions=blank, valid=blank[..., 0].bool())
        slots = identity_slots(config.memory_frames, config.clip_stride)
        counts = torch.zeros(0, dtype=torch.int64, device=device)
        classes = torch.zeros((0, num_classes), device=device)
        return cls(
            ids=counts,
            num_started=0,
            class_latest=classes,
            class_sums=classes,
            num_clips=counts,
            quality_sums=torch.zeros(0, dtype=torch.float64, device=device),
            num_masks=counts,
            num_unseen_clips=counts,
            window=MaskWindow.empty(0, size, device),
            memory=PromptMemory.empty(0, config.memory_frames, like),
            identity=IdentityMemory.empty(0, slots, channels, device),
        )

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def mean_probabilities(self) -> Tensor:
        """[N, K] class probabilities, averaged over clips."""
        return self.class_sums / self.num_clips.clamp(min=1)[:, None]

    @property
    def mean_quality(self) -> Tensor:
        """[N] mask quality, averaged over masks."""
        return (self.quality_sums / self.num_masks.clamp(min=1)).float()

    def moved(self, start: int, stop: int) -> "EntityTracks":
        """Move the window to frames start..stop-1."""
        return replace(self, window=self.window.moved(start, stop))

    def accumulated(self, outputs: QueryOutputs, accepted: Tensor) -> "EntityTracks":
        """Add the masks of one query per entity where accepted [N]."""
        num_frames = outputs.mask_logits.shape[1]
        return replace(
            self,
            window=self.window.accumulated(outputs.mask_logits, accepted[:, None].expand(-1, num_frames)),
            quality_sums=self.quality_sums + outputs.quality * accepted,
            num_masks=self.num_masks + accepted,
            num_unseen_clips=torch.where(accepted, -1, self.num_unseen_clips),
        )

    def reclassified(self, class_probabilities: Tensor, matched: Tensor) -> "EntityTracks":
        """Average the latest class probabilities with new ones [N, K] where matched [N]."""
        mean = (self.class_latest + class_probabilities) / 2
        return replace(self, class_latest=torch.where(matched[:, None], mean, self.class_latest))

    def started(self, detections: QueryOutputs) -> "EntityTracks":
        """Append detections as new entities."""
        count = len(detections)
        zeros = torch.zeros(count, dtype=torch.int64, device=self.ids.device)
        ids = self.num_started + torch.arange(count, device=self.ids.device)
        rows = torch.arange(len(self) + count, device=self.ids.device) >= len(self)
        num_frames = self.window.counts.shape[1]
        return replace(
            self,
            ids=torch.cat([self.ids, ids]),
            num_started=self.num_started + count,
            class_latest=torch.cat([self.class_latest, detections.class_probabilities]),
            class_sums=torch.cat([self.class_sums, torch.zeros_like(detections.class_probabilities)]),
            num_clips=torch.cat([self.num_clips, zeros]),
            quality_sums=torch.cat([self.quality_sums, detections.quality.double()]),
            num_masks=torch.cat([self.num_masks, zeros + 1]),
            num_unseen_clips=torch.cat([self.num_unseen_clips, zeros - 1]),
            window=self.window.grown(count).accumulated(
                _behind(detections.mask_logits, len(self)), rows[:, None].expand(-1, num_frames)
            ),
            memory=self.memory.grown(count),
            identity=self.identity.grown(count).pushed(_behind(detections.mean_embeddings, len(self)), rows),
        )

    def aged(self) -> "EntityTracks":
        """Close a clip: count it, with the class as known now."""
        return replace(
            self,
            class_sums=self.class_sums + self.class_latest,
            num_clips=self.num_clips + 1,
            num_unseen_clips=self.num_unseen_clips + 1,
        )

    def without_lost(self, patience_clips: int) -> "EntityTracks":
        """Retire the entities unseen for too long that have no mask left in the window."""
        lost = (self.num_unseen_clips > patience_clips) & ~self.window.counts.any(1)
        if not lost.any():
            return self
        kept = (~lost).nonzero()[:, 0]
        return replace(
            self,
            ids=self.ids[kept],
            class_latest=self.class_latest[kept],
            class_sums=self.class_sums[kept],
            num_clips=self.num_clips[kept],
            quality_sums=self.quality_sums[kept],
            num_masks=self.num_masks[kept],
            num_unseen_clips=self.num_unseen_clips[kept],
            window=self.window.selected(kept),
            memory=self.memory.selected(kept),
            identity=self.identity.selected(kept),
            retired=self.retired + self._summarize(lost.nonzero()[:, 0].tolist()),
        )

    def summaries(self) -> tuple[EntitySummary, ...]:
        """Judge every entity of the video so far, ordered by id."""
        everyone = self.retired + self._summarize(list(range(len(self))))
        return tuple(sorted(everyone, key=lambda summary: summary.entity_id))

    def _summarize(self, rows: list[int]) -> tuple[EntitySummary, ...]:
        probabilities = self.mean_probabilities
        return tuple(
            EntitySummary(
                entity_id=int(self.ids[row]),
                class_probabilities=probabilities[row],
                quality_sum=float(self.quality_sums[row]),
                num_masks=int(self.num_masks[row]),
            )
            for row in rows
        )


def _behind(values: Tensor, num_rows: int) -> Tensor:
    """Prepend zero rows."""
    return torch.cat([values.new_zeros((num_rows, *values.shape[1:])), values])
