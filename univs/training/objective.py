"""The training objective: a batch in, weighted loss terms out.

Legend: B clips, T frames, P prompts, K categories, D text channels.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from univs.data.batch import ClipBatch
from univs.draws import Draws
from univs.label_spaces import category_texts
from univs.model.types import Features, Prompts, RegionTokens
from univs.model.univs import UniVS
from univs.training.clips import cut_clips, slice_features
from univs.training.compat.objective import video_terms, weigh_video
from univs.training.compat.points import Sampling
from univs.training.config import TrainConfig
from univs.training.criterion import ClipLosses, clip_losses, interclip_losses, join_terms, weigh
from univs.training.prompting import draw_regions, fold_slots, memory_regions
from univs.training.targets import (
    BatchTargets,
    PromptTargets,
    category_targets,
    choose_targets,
    draw_expressions,
    expression_targets,
    visual_targets,
)


@dataclass(frozen=True, kw_only=True)
class _Clip:
    """One clip of every video of the batch."""

    features: Features
    targets: BatchTargets


@dataclass(frozen=True, kw_only=True)
class _Draws:
    """Sources of randomness of one step."""

    host: torch.Generator
    """For what the host has to know, so that no decision waits for the device."""
    device: torch.Generator
    """For everything else."""


class Objective(nn.Module):
    """UniVS with its losses, in one forward pass (so that it can be wrapped for data parallelism)."""

    def __init__(self, model: UniVS, config: TrainConfig) -> None:
        super().__init__()
        self.model = model
        self.config = config

    def forward(self, batch: ClipBatch, generator: torch.Generator) -> dict[str, Tensor]:
        """Give weighted loss terms, summed over layers; their sum is the loss.

        Args:
            batch: Clips of one task; more than ``frames_per_clip`` frames are trained as overlapping clips
                with a memory of prompts, each frame being encoded once.
            generator: CPU generator, the only source of randomness of the losses and the prompts.
        """
        if self.model.config.reference_compat:
            return self._original_losses(batch, Draws(generator))
        draws = _Draws(host=generator, device=torch.Generator(batch.frames.device))
        draws.device.manual_seed(int(torch.randint(2**62, (), generator=generator)))
        targets = choose_targets(batch.targets, self.config.prompts.max_objects, draws.device)
        bank = self._bank(batch)
        prompted = self._prompt_targets(batch, targets, bank, draws)
        losses = self._video_losses(batch, targets, prompted, bank, draws)
        with torch.autocast(batch.frames.device.type, enabled=False):
            return self._join(losses, targets, draws)

    def _original_losses(self, batch: ClipBatch, draws: Draws) -> dict[str, Tensor]:
        """Give the weighted terms of the original's objective; those of prompts are among the others."""
        clips = cut_clips(batch.frames.shape[1], self.config.frames_per_clip)
        sampling = Sampling(self.config.losses, draws)
        terms = video_terms(self.model, batch, self._bank(batch), clips, self.config, sampling)
        return weigh_video(terms, self.config.losses)

    def _join(self, losses: list[ClipLosses], targets: BatchTargets, draws: _Draws) -> dict[str, Tensor]:
        """Add up the clips of a batch, compare them with one another and weigh."""
        terms = join_terms([clip.terms for clip in losses])
        if len(losses) > 1:
            identities = [part for clip in losses for part in clip.identities]
            num_objects = targets.labels.numel()
            terms |= interclip_losses(identities, num_objects, self.config.losses, draws.device)
        return weigh(terms, self.config.losses)

    def _video_losses(
        self,
        batch: ClipBatch,
        targets: BatchTargets,
        prompted: PromptTargets | None,
        bank: Tensor | None,
        draws: _Draws,
    ) -> list[ClipLosses]:
        """Run the clips of a video in order, later ones with a memory of earlier ones."""
        features = self.model.encode(batch.frames, batch.frame_indices)
        losses: list[ClipLosses] = []
        memory: RegionTokens | None = None
        previous: _Clip | None = None
        for start, stop in cut_clips(batch.frames.shape[1], self.config.frames_per_clip):
            clip = _Clip(
                features=slice_features(features, start, stop), targets=targets.slice_frames(start, stop)
            )
            if previous is not None and prompted is not None and prompted.kind != "category":
                memory = self._remember(previous, prompted, memory, draws)
            prompts = self._prompts(batch, clip, prompted, memory, draws)
            predictions = self.model.decode(clip.features, prompts, bank)
            with torch.autocast(batch.frames.device.type, enabled=False):
                losses.append(
                    clip_losses(predictions, clip.targets, prompted, self.config.losses, draws.device)
                )
            previous = clip
        return losses

    def _bank(self, batch: ClipBatch) -> Tensor | None:
        """Give the text features [K, D] of the batch's categories, if it has a class loss."""
        if batch.label_space is None or batch.task == "grounding":
            return None
        return self.model.text.bank(category_texts(batch.label_space))

    def _prompt_targets(
        self, batch: ClipBatch, targets: BatchTargets, bank: Tensor | None, draws: _Draws
    ) -> PromptTargets | None:
        """Choose the prompts of the batch; detection flips a coin between regions and category names."""
        max_prompts = self.config.prompts.max_objects
        if batch.task == "grounding":
            chosen = draw_expressions(batch.targets, max_prompts, draws.host)
            return self._expression_targets(batch, targets, chosen)
        if batch.task == "detection" and bank is not None:
            coin = float(torch.rand((), generator=draws.host))
            if coin >= self.config.prompts.visual_probability:
                return category_targets(targets, bank, max_prompts, draws.device)
        return visual_targets(targets)

    def _expression_targets(
        self, batch: ClipBatch, targets: BatchTargets, chosen: list[list[int]]
    ) -> PromptTargets | None:
        """Encode the chosen expressions of each clip; no prompts where no clip has any."""
        strings = [
            target.expressions[index]
            for target, indices in zip(batch.targets, chosen, strict=True)
            for index in indices
        ]
        if not strings:
            return None
        text = self.model.text.encode(strings)
        return expression_targets(batch.targets, chosen, text, targets.labels.shape[1])

    def _prompts(
        self,
        batch: ClipBatch,
        clip: _Clip,
        prompted: PromptTargets | None,
        memory: RegionTokens | None,
        draws: _Draws,
    ) -> Prompts | None:
        """Turn prompt targets into queries of a clip."""
        if prompted is None:
            return None
        used = prompted.used(clip.targets.present)
        if prompted.sentences is not None:
            return self.model.prompt(clip.features, prompted.sentences, used)
        if prompted.text is not None:
            return self.model.prompt(clip.features, prompted.text, used, memory=memory)
        regions = draw_regions(clip.targets, self.config.prompts, draws.device)
        tokens = self.model.region_tokens(clip.features, regions, draws.device)
        return self.model.prompt(clip.features, tokens, used, task=batch.task, memory=memory)

    def _remember(
        self, clip: _Clip, prompted: PromptTargets, memory: RegionTokens | None, draws: _Draws
    ) -> RegionTokens:
        """Add tokens of the prompted objects in the last frames of a clip to the memory.

        As in the original, at least a third of the clip plus one frame is taken, up to all but one.
        """
        num_frames = clip.features.frame_indices.shape[1]
        drawn = int(torch.randint(num_frames, (), generator=draws.host))
        num_recent = max(drawn, num_frames // 3 + 1)
        regions = memory_regions(clip.targets, prompted.members, num_recent)
        tokens = fold_slots(self.model.region_tokens(clip.features, regions, draws.device), num_recent)
        return tokens if memory is None else memory.cat(tokens)
