"""Find entities with learnable queries and follow them with visual prompts, for VIS and VPS.

In every clip the known entities are prompted with their own earlier masks; learnable queries then find what
is new, and confirm, complete or bring back what is known.

Legend: N entities, D detections, T frames of a clip, K categories, q a quarter of the padded size.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from univs.inference.association import match
from univs.inference.config import InferenceConfig
from univs.inference.engine import Clip, ClipRange, ClipStream
from univs.inference.frames import upsample_masks
from univs.inference.memory import encode_masks, spread_slots
from univs.inference.outputs import QueryOutputs, learnable_outputs, prompt_outputs
from univs.inference.overlap import clip_ious, frame_ious, pixel_owners
from univs.inference.tracks import EntityTracks
from univs.model.types import Predictions, Prompts
from univs.model.univs import UniVS


@dataclass(frozen=True, kw_only=True, slots=True)
class EntityRules:
    """What VIS and VPS do differently."""

    select: Callable[[QueryOutputs, InferenceConfig], Tensor]
    """Chooses detections worth keeping among learnable queries: indices [D]."""
    competes: bool
    """Whether a known entity must win its pixels against the others to stay in a clip."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FinishedFrames:
    """Final masks of the frames that leave the window, and the entities as they are known by then."""

    start: int
    """Position of the first of them in the video."""
    mask_logits: Tensor
    """[N, F, hq, wq]."""
    tracks: EntityTracks


@dataclass(frozen=True, kw_only=True, slots=True)
class Matches:
    """How detections relate to known entities."""

    detection: Tensor
    """[N] index of each entity's detection, -1 without one."""
    fused: Tensor
    """[N] bool, whether that detection's mask is also this entity's."""


def track_entities(
    model: UniVS,
    stream: ClipStream,
    bank: Tensor,
    rules: EntityRules,
    config: InferenceConfig,
    generator: torch.Generator | None,
) -> Iterator[FinishedFrames]:
    """Go through a video and hand out its frames as soon as their masks are final.

    Entities not seen for ``patience_clips`` are given up; the last item's tracks lists those, too, among
    ``retired``.
    """
    tracks = EntityTracks.empty(
        num_classes=len(bank), size=stream.geometry.quarter, config=config, model=model
    )
    for clip in stream:
        span = clip.range
        tracks = tracks.moved(span.start, span.stop)
        prompts = _prompt_entities(model, clip, tracks, generator)
        predictions = model.decode(clip.features, prompts, bank)
        tracks = _follow(tracks, predictions, span, rules, config)
        tracks = _detect(tracks, predictions, rules, config).aged()
        yield FinishedFrames(
            start=span.start,
            mask_logits=tracks.window.mean_logits()[:, : span.num_finished],
            tracks=tracks,
        )
        if not span.is_last:
            tracks = _remember_finished(model, clip, tracks, generator).without_lost(config.patience_clips)


def match_detections(tracks: EntityTracks, detections: QueryOutputs, config: InferenceConfig) -> Matches:
    """Assign detections to entities by embedding; fuse masks only where they do not contradict.

    An entity that already has a mask in the clip takes a detection's mask only if the two overlap well;
    one that lost its mask takes it on the embedding's word.
    """
    similarity = tracks.identity.similarity(detections.embeddings)
    alike = tracks.identity.agreements(detections.embeddings) >= config.consistency_threshold
    detection = match(torch.where(alike, similarity, 0.0), config.new_object_threshold)
    if not len(detections):
        return Matches(detection=detection, fused=detection >= 0)
    chosen = detection.clamp(min=0)
    rows = torch.arange(len(tracks), device=chosen.device)
    masks = tracks.window.mean_logits() > 0
    ious = clip_ious(masks, detections.mask_logits > 0)[rows, chosen]
    fits = (ious >= config.match_iou_threshold) | ~masks.flatten(1).any(1)
    sure = similarity[rows, chosen] > config.fuse_factor * config.new_object_threshold
    return Matches(detection=detection, fused=(detection >= 0) & sure & fits)


def new_detections(
    tracks: EntityTracks, detections: QueryOutputs, matches: Matches, config: InferenceConfig
) -> Tensor:
    """Choose the detections that start an entity, best first, as many as there are places: indices."""
    if not len(tracks):
        fresh = detections.scores > config.class_threshold
    else:
        known = tracks.window.mean_logits() > 0
        overlap = frame_ious(known, detections.mask_logits > 0).amax((0, 2))
        fresh = detections.scores > config.new_entity_factor * config.class_threshold
        fresh &= overlap < config.match_iou_threshold
        fresh[matches.detection[matches.fused]] = False
    fresh &= (detections.mask_logits > 0).flatten(1).any(1)
    order = detections.scores.argsort(descending=True, stable=True)
    return order[fresh[order]][: max(config.max_objects - len(tracks), 0)]


def _prompt_entities(
    model: UniVS, clip: Clip, tracks: EntityTracks, generator: torch.Generator | None
) -> Prompts | None:
    """Prompt known entities with their masks on the frames the clip shares with the one before."""
    if not len(tracks):
        return None
    span = clip.range
    frames = torch.arange(max(span.overlap_stop - span.start, 1), device=tracks.ids.device)
    masks = upsample_masks(tracks.window.mean_logits()[:, frames] > 0)
    tokens = encode_masks(model, clip.features, masks, frames, generator)
    current = spread_slots(tokens, frames, span.num_frames, tracks.memory.newest())
    valid = torch.ones_like(tracks.ids, dtype=torch.bool)[None]
    return model.prompt(clip.features, current, valid, task="detection", memory=tracks.memory.slots())


def _follow(
    tracks: EntityTracks,
    predictions: Predictions,
    span: ClipRange,
    rules: EntityRules,
    config: InferenceConfig,
) -> EntityTracks:
    """Believe the prompts that look like their entities did, and hold their ground."""
    if not len(tracks):
        return tracks
    outputs = prompt_outputs(predictions)
    agreement = tracks.identity.agreement(outputs.embeddings)
    # identity is still settling while the first clip's frames are in the window
    leniency = 0.5 if span.start < config.frames_per_clip else 1.0
    accepted = agreement > config.consistency_threshold * leniency
    accepted &= (outputs.mask_logits > 0).flatten(1).any(1)
    if rules.competes:
        scores = tracks.mean_probabilities.amax(1) * agreement.clamp(min=0) * outputs.quality
        _, won = pixel_owners(scores, outputs.mask_logits)
        accepted &= won > config.overlap_threshold
    tracks = tracks.accumulated(outputs, accepted)
    return replace(tracks, identity=tracks.identity.pushed(outputs.mean_embeddings, accepted))


def _detect(
    tracks: EntityTracks, predictions: Predictions, rules: EntityRules, config: InferenceConfig
) -> EntityTracks:
    """Let learnable queries confirm known entities and start new ones."""
    candidates = learnable_outputs(predictions)
    detections = candidates.selected(rules.select(candidates, config))
    matches = match_detections(tracks, detections, config)
    new = new_detections(tracks, detections, matches, config)
    return _confirm(tracks, detections, matches).started(detections.selected(new))


def _confirm(tracks: EntityTracks, detections: QueryOutputs, matches: Matches) -> EntityTracks:
    """Blend matched detections into their entities."""
    if not len(tracks) or not len(detections):
        return tracks
    chosen = detections.selected(matches.detection.clamp(min=0))
    matched = matches.detection >= 0
    tracks = tracks.accumulated(chosen, matches.fused).reclassified(chosen.class_probabilities, matched)
    return replace(tracks, identity=tracks.identity.blended(chosen.mean_embeddings, matched))


def _remember_finished(
    model: UniVS, clip: Clip, tracks: EntityTracks, generator: torch.Generator | None
) -> EntityTracks:
    """Encode the frames that leave the window with their final masks."""
    if not len(tracks):
        return tracks
    frames = torch.arange(clip.range.num_finished, device=tracks.ids.device)
    masks = upsample_masks(tracks.window.mean_logits()[:, frames] > 0)
    tokens = encode_masks(model, clip.features, masks, frames, generator)
    return replace(tracks, memory=tracks.memory.pushed(tokens))
