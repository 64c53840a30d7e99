"""Video panoptic segmentation: every pixel one segment, things told apart through the video.

Legend: N entities, D detections, Q learnable queries, K categories, T frames, H W the original size.
"""

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from univs.inference.config import InferenceConfig
from univs.inference.engine import ClipStream, inference_on
from univs.inference.entity import EntityRules, FinishedFrames, track_entities
from univs.inference.frames import Geometry, VideoInput, restore_logits
from univs.inference.outputs import QueryOutputs
from univs.inference.overlap import box_overlaps, clip_ious, pixel_owners, suppress
from univs.label_spaces import category_texts
from univs.labels import LabelSpace
from univs.model.univs import UniVS
from univs.predictions import PanopticVideo, Segment

_THING_SHARE = 0.7
"""Share of ``max_detections`` that things may take."""
_KNOWN_FACTOR = 0.5
"""A thing already painted needs only this share of ``overlap_threshold``."""


def segment_vps(
    model: UniVS,
    video: VideoInput,
    label_space: LabelSpace,
    config: InferenceConfig,
    generator: torch.Generator | None = None,
) -> PanopticVideo:
    """Label all pixels of a video with things and stuff.

    Args:
        model: the model; its training mode is restored.
        video: frames are read once, in order.
        label_space: the classes to look for.
        config: see ``vps_defaults``.
        generator: draws the prompted pixels; the same state gives the same result.
    """
    with inference_on(model, config) as device:
        stream = ClipStream(model, video, config)
        bank = model.text.bank(category_texts(label_space))
        is_thing = torch.tensor(label_space.is_thing, device=device)
        entity_maps = np.zeros((video.num_frames, *stream.geometry.original), dtype=np.int32)
        rules = EntityRules(select=partial(select_segments, is_thing), competes=False)
        labels: dict[int, int] = {}
        painted: set[int] = set()
        for finished in track_entities(model, stream, bank, rules, config, generator):
            painted |= _paint(entity_maps, finished, stream.geometry, painted, is_thing, config)
            labels = {s.entity_id: int(s.class_probabilities.argmax()) for s in finished.tracks.summaries()}
    maps, segments = name_segments(entity_maps, labels, label_space.is_thing)
    return PanopticVideo(video_id=video.video_id, maps=maps, segments=segments)


def select_segments(is_thing: Tensor, candidates: QueryOutputs, config: InferenceConfig) -> Tensor:
    """Keep the best things and the best stuff, each without near-duplicates: indices [D].

    Things are compared by box, stuff by mask.
    """
    order = candidates.scores.argsort(descending=True, stable=True)
    order = order[candidates.quality[order] > config.stability_threshold][: config.max_detections]
    num_things = int(_THING_SHARE * config.max_detections)
    thing_rows = is_thing[candidates.labels[order]]
    things = order[thing_rows][:num_things]
    stuff = order[~thing_rows][: config.max_detections - num_things]
    masks = candidates.mask_logits > 0
    kept_things = suppress(candidates.scores[things], box_overlaps(masks[things]), config.box_nms_threshold)
    ious = clip_ious(masks[stuff], masks[stuff])
    kept_stuff = suppress(candidates.scores[stuff], ious, config.mask_nms_threshold)
    return torch.cat([things[kept_things], stuff[kept_stuff]])


def name_segments(
    entity_maps: NDArray[np.int32], labels: Mapping[int, int], is_thing: Sequence[bool]
) -> tuple[NDArray[np.int32], tuple[Segment, ...]]:
    """Turn maps of entity id + 1 into panoptic segments: stuff of one label is one segment.

    Args:
        entity_maps: [T, H, W], 0 = nothing.
        labels: label of each entity id.
        is_thing: by label.
    """
    lookup = np.zeros(max(labels, default=-1) + 2, dtype=np.int32)
    stuff: dict[int, int] = {}
    segments: list[Segment] = []
    for value in np.flatnonzero(np.bincount(entity_maps.ravel())[1:]) + 1:
        label = labels[int(value) - 1]
        lookup[value] = int(value) if is_thing[label] else stuff.setdefault(label, int(value))
        if lookup[value] == value:
            segments.append(Segment(segment_id=int(value), label=label))
    return lookup[entity_maps], tuple(segments)


def _paint(
    entity_maps: NDArray[np.int32],
    finished: FinishedFrames,
    geometry: Geometry,
    painted: set[int],
    is_thing: Tensor,
    config: InferenceConfig,
) -> set[int]:
    """Fill the finished frames with entity id + 1; give the entities they show."""
    tracks = finished.tracks
    best, labels = tracks.mean_probabilities.max(1)
    things = is_thing[labels]
    scores = best * tracks.mean_quality * torch.where(things, 1.0, config.stuff_score_factor)
    known = torch.isin(tracks.ids, torch.tensor(sorted(painted), dtype=torch.int64, device=things.device))
    needed = torch.where(known, _KNOWN_FACTOR, 1.0) * config.overlap_threshold * things
    shown: set[int] = set()
    for position in range(finished.mask_logits.shape[1]):
        logits = restore_logits(finished.mask_logits[:, position], geometry)
        values = paint_frame(scores, logits, needed, tracks.ids)
        entity_maps[finished.start + position] = values.cpu().numpy()
        shown.update((values.unique() - 1).tolist())
    return shown - {-1}


def paint_frame(scores: Tensor, mask_logits: Tensor, needed: Tensor, ids: Tensor) -> Tensor:
    """Give each pixel of one frame to an entity: int32 [H, W] of entity id + 1, 0 for none.

    Args:
        scores: [N] weights in the competition.
        mask_logits: [N, H, W].
        needed: [N] share of its own pixels an entity must win to be painted.
        ids: [N] entity ids.
    """
    if not len(ids):
        return torch.zeros(mask_logits.shape[1:], dtype=torch.int32)
    owners, won = pixel_owners(scores, mask_logits)
    shown = (owners >= 0) & (won >= needed)[owners.clamp(min=0)]
    return torch.where(shown, ids[owners.clamp(min=0)] + 1, 0).int()
