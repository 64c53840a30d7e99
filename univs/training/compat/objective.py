"""The original's objective for clips and long videos: a batch in, unweighted terms of every clip out.

Legend: L layers, B clips, T frames, P prompts, R tokens, K categories, D text channels.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from univs.data.batch import ClipBatch
from univs.draws import Draws
from univs.model.regions_compat import KeyFrame
from univs.model.types import Features, Prompts, RegionTokens, TextFeatures
from univs.model.univs import UniVS
from univs.training.clips import slice_features
from univs.training.compat.criterion import ClipLosses, clip_losses
from univs.training.compat.points import Sampling
from univs.training.compat.prompts import draw_mask_tokens, draw_tokens
from univs.training.compat.reid import interclip_terms, join_layers
from univs.training.compat.targets import BatchGoals, prepare_goals
from univs.training.config import LossConfig, TrainConfig


@dataclass(frozen=True, kw_only=True)
class VideoTerms:
    """Unweighted losses of a batch of videos."""

    clips: tuple[ClipLosses, ...]
    interclip: dict[str, Tensor]
    """[L - 1] each, without the initial queries; empty for videos of a single clip."""


@dataclass(frozen=True, kw_only=True)
class Scene:
    """One clip of every video of a batch."""

    features: Features
    goals: BatchGoals


def video_terms(
    model: UniVS,
    batch: ClipBatch,
    bank: Tensor | None,
    clips: Sequence[tuple[int, int]],
    config: TrainConfig,
    sampling: Sampling,
) -> VideoTerms:
    """Run the clips (start, stop) of a batch in order, later ones with a memory of the first one's prompts.

    Raises:
        ValueError: several videos of more than one clip; the original trains those one by one.
    """
    if len(clips) > 1 and len(batch.targets) > 1:
        raise ValueError(f"long videos train one at a time with reference_compat, got {len(batch.targets)}")
    draws = sampling.draws
    features = model.encode(batch.frames, batch.frame_indices)
    goals = prepare_goals(batch, config.prompts.max_objects, draws)
    losses: list[ClipLosses] = []
    memory: RegionTokens | None = None
    for index, (start, stop) in enumerate(clips):
        scene = Scene(features=slice_features(features, start, stop), goals=goals.slice_frames(start, stop))
        scene, prompts = _prompt(model, batch, scene, bank, memory, draws)
        predictions = model.decode(scene.features, prompts, bank, draws)
        with torch.autocast(batch.frames.device.type, enabled=False):
            losses.append(clip_losses(predictions, scene.goals, sampling))
        if index == 0 and len(clips) > 1 and goals.kind != "category":
            goals = goals.with_rows([clip.prompt_rows for clip in scene.goals.clips])
            memory = _remember(model, scene, draws)
    return VideoTerms(clips=tuple(losses), interclip=_interclip(losses, sampling))


def weigh_video(terms: VideoTerms, config: LossConfig) -> dict[str, Tensor]:
    """Average the clips, sum over layers and weigh."""
    weights = {"class": config.class_weight, "mask": config.mask_weight, "dice": config.dice_weight}
    means = {
        name: torch.stack([clip.terms[name] for clip in terms.clips]).mean(0) for name in terms.clips[0].terms
    }
    return {
        name: layers.sum() * weights.get(name, config.reid_weight)
        for name, layers in (means | terms.interclip).items()
    }


def _prompt(
    model: UniVS,
    batch: ClipBatch,
    scene: Scene,
    bank: Tensor | None,
    memory: RegionTokens | None,
    draws: Draws,
) -> tuple[Scene, Prompts | None]:
    """Turn the goals of a clip into prompts, choosing the prompted rows where they are not yet known."""
    goals = scene.goals
    if goals.kind == "visual":
        goals, tokens = _region_prompts(model, scene, draws)
        scene = replace(scene, goals=goals)
        if tokens is None:
            return scene, None
        valid = tokens.valid.any(-1).any(-1)
        return scene, model.prompt(scene.features, tokens, valid, task=batch.task, memory=memory, draws=draws)
    if goals.kind == "category":
        labels = torch.stack([clip.prompt_labels for clip in goals.clips])
        if bank is None:
            raise ValueError(f"dataset {batch.dataset!r} has no text features for category prompts")
        return scene, model.prompt(scene.features, bank[labels])
    text = _expressions(model, goals)
    valid = torch.ones(text.sentences.shape[:2], dtype=torch.bool, device=text.sentences.device)
    return scene, model.prompt(scene.features, text, valid, memory=memory)


def _region_prompts(model: UniVS, scene: Scene, draws: Draws) -> tuple[BatchGoals, RegionTokens | None]:
    """Draw a key frame of every clip, the objects to prompt there and their tokens [B, P, 1, R, C].

    A clip without an object in its key frame turns off the prompts of the whole batch.
    """
    goals = scene.goals
    rows, parts = [], []
    for index, clip in enumerate(goals.clips):
        device = clip.masks.device
        key_frame = int(draws.randperm(clip.masks.shape[1])[0])
        chosen = clip.prompt_rows
        if not len(chosen) and len(clip.masks):
            shown = (clip.ids[:, key_frame] >= 0).nonzero()[:, 0]
            chosen = shown[draws.randperm(len(shown), device=device)[: goals.num_prompts]]
        if not len(chosen) or bool((chosen < 0).any()):
            rows.append(torch.full((goals.num_prompts,), -1, device=device))
            continue
        frame = _key_frame(model, scene.features, index, key_frame)
        num_tokens = model.config.prompts.tokens_per_object
        features, positions = draw_tokens(frame, clip.masks[chosen, key_frame], num_tokens, draws)
        num_prompts = len(chosen) if len(goals.clips) == 1 else goals.num_prompts
        turn = torch.arange(max(num_prompts, len(chosen)), device=device) % len(chosen)
        rows.append(chosen[turn])
        parts.append((features[turn], positions[turn]))
    goals = goals.with_rows(rows)
    return goals, _as_tokens(parts) if len(parts) == len(goals.clips) else None


def _remember(model: UniVS, scene: Scene, draws: Draws) -> RegionTokens | None:
    """Point with masks in the last frames of a clip: at least a third of it plus one.

    The original numbers the frames from 0 here, whatever their place in the video.
    """
    (clip,) = scene.goals.clips
    num_frames = clip.masks.shape[1]
    drawn = int(draws.randperm(num_frames)[0])
    if not len(clip.prompt_rows) or bool((clip.prompt_rows < 0).any()):
        return None
    indices = scene.features.frame_indices
    local = replace(scene.features, frame_indices=torch.arange(num_frames, device=indices.device)[None])
    slots = []
    for key_frame in range(num_frames - max(drawn, num_frames // 3 + 1), num_frames):
        frame = _key_frame(model, local, 0, key_frame)
        frame = replace(frame, time=model.positions.time(indices)[0, key_frame])
        masks = clip.masks[clip.prompt_rows, key_frame]
        num_tokens = model.config.prompts.tokens_per_object
        slots.append(_as_tokens([draw_mask_tokens(frame, masks, num_tokens, draws, extremes=False)]))
    return RegionTokens(
        features=torch.cat([slot.features for slot in slots], dim=2),
        positions=torch.cat([slot.positions for slot in slots], dim=2),
        valid=torch.cat([slot.valid for slot in slots], dim=2),
    )


def _as_tokens(parts: Sequence[tuple[Tensor, Tensor]]) -> RegionTokens:
    """Stack features and positions [P, R, C] of the clips; blank ones count as valid, too."""
    features = torch.stack([part[0] for part in parts])[:, :, None]
    positions = torch.stack([part[1] for part in parts])[:, :, None]
    valid = torch.ones(features.shape[:-1], dtype=torch.bool, device=features.device)
    return RegionTokens(features=features, positions=positions, valid=valid)


def _key_frame(model: UniVS, features: Features, clip: int, frame: int) -> KeyFrame:
    source = features.levels[2][clip, frame].detach().float()
    times = model.positions.time(features.frame_indices)[clip, frame]
    grid = model.positions.grid(source.shape[1], source.shape[2], source.device)
    return KeyFrame(source=source, cell_positions=grid + times, time=times, positions=model.positions)


def _expressions(model: UniVS, goals: BatchGoals) -> TextFeatures:
    """Encode the expressions of all clips [B, P]; zeros where a clip shows none of their objects."""
    strings = [text for clip in goals.clips for text in clip.expressions]
    encoded = model.text.encode(strings or [""])
    starts = iter(encoded.sentences.split(goals.num_prompts) if strings else ())
    words = iter(encoded.words.split(goals.num_prompts) if strings else ())
    shape = (goals.num_prompts, *encoded.words.shape[1:])
    sentences, per_word = [], []
    for clip in goals.clips:
        sentences.append(
            next(starts) if clip.expressions else encoded.sentences.new_zeros(shape[0], shape[2])
        )
        per_word.append(next(words) if clip.expressions else encoded.words.new_zeros(shape))
    stacked = torch.stack(per_word)
    valid = torch.ones(stacked.shape[:-1], dtype=torch.bool, device=stacked.device)
    return TextFeatures(sentences=torch.stack(sentences), words=stacked, word_valid=valid)


def _interclip(losses: Sequence[ClipLosses], sampling: Sampling) -> dict[str, Tensor]:
    """Compare the tokens of all clips of a video, layer by layer; nothing for a single clip."""
    if len(losses) == 1:
        return {}
    tokens = join_layers([clip.tokens for clip in losses])
    identities = join_layers([clip.identities for clip in losses])
    pairs = [
        interclip_terms(layer, identity, sampling)
        for layer, identity in zip(tokens[1:], identities[1:], strict=True)
    ]
    return {
        "reid_interclip": torch.stack([pair[0] for pair in pairs]),
        "reid_interclip_aux": torch.stack([pair[1] for pair in pairs]),
    }
