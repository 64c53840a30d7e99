"""Video instance segmentation: classed, scored tracks.

Legend: N entities, D detections, Q learnable queries, K categories, T frames, H W the original size.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from univs.inference.config import InferenceConfig
from univs.inference.engine import ClipStream, inference_on
from univs.inference.entity import EntityRules, FinishedFrames, track_entities
from univs.inference.frames import Geometry, VideoInput, restore_logits
from univs.inference.outputs import QueryOutputs
from univs.inference.overlap import box_overlaps, suppress
from univs.inference.tracks import EntitySummary
from univs.label_spaces import category_texts
from univs.labels import LabelSpace
from univs.model.univs import UniVS
from univs.predictions import InstanceTrack, InstanceVideo

_MIN_CLASS_PROBABILITY = 0.005
"""An entity is reported under every class at least this probable."""
_LIKELY_CLASS_PROBABILITY = 0.05
"""Results above this set the length of the list: 1.5 times their number, if above ``max_detections``."""


def segment_vis(
    model: UniVS,
    video: VideoInput,
    label_space: LabelSpace,
    config: InferenceConfig,
    generator: torch.Generator | None = None,
) -> InstanceVideo:
    """Find, class and follow the instances of a video.

    Args:
        model: the model; its training mode is restored.
        video: frames are read once, in order.
        label_space: the classes to look for.
        config: see ``vis_defaults``.
        generator: draws the prompted pixels; the same state gives the same result.
    """
    with inference_on(model, config):
        stream = ClipStream(model, video, config)
        bank = model.text.bank(category_texts(label_space))
        rles: dict[int, list[str | None]] = {}
        summaries: tuple[EntitySummary, ...] = ()
        rules = EntityRules(select=select_instances, competes=True)
        for finished in track_entities(model, stream, bank, rules, config, generator):
            _store(rles, finished, stream.geometry, video.num_frames)
            summaries = finished.tracks.summaries()
    height, width = stream.geometry.original
    tracks = _report(summaries, rles, config.max_detections)
    return InstanceVideo(video_id=video.video_id, height=height, width=width, tracks=tracks)


def select_instances(candidates: QueryOutputs, config: InferenceConfig) -> Tensor:
    """Keep stable queries, the best of them, and of overlapping ones the better: indices [D]."""
    order = candidates.scores.argsort(descending=True, stable=True)
    stable = order[candidates.quality[order] > config.stability_threshold][: config.max_detections]
    overlaps = box_overlaps(candidates.mask_logits[stable] > 0)
    return stable[suppress(candidates.scores[stable], overlaps, config.box_nms_threshold)]


def final_scores(summaries: tuple[EntitySummary, ...]) -> Tensor:
    """Score entities: class probability times quality, [N, K].

    Quality is summed over an entity's masks and divided by the masks of the entity that has most, so that
    what is seen in few clips counts less.
    """
    most = max(max(summary.num_masks for summary in summaries), 1)
    rows = [summary.class_probabilities * (summary.quality_sum / most) for summary in summaries]
    return torch.stack(rows)


def ranked_classes(probabilities: Tensor, scores: Tensor, max_detections: int) -> list[tuple[int, int]]:
    """Choose which (entity, class) pairs of [N, K] to report, best first."""
    likely = int((probabilities > _LIKELY_CLASS_PROBABILITY).sum())
    limit = max(int(1.5 * likely), max_detections)
    flat = torch.where(probabilities >= _MIN_CLASS_PROBABILITY, scores, -1.0).flatten()
    order = flat.argsort(descending=True, stable=True)[:limit]
    num_classes = scores.shape[1]
    return [divmod(index, num_classes) for index in order[flat[order] >= 0].tolist()]


def _report(
    summaries: tuple[EntitySummary, ...], rles: dict[int, list[str | None]], max_detections: int
) -> tuple[InstanceTrack, ...]:
    visible = tuple(summary for summary in summaries if summary.entity_id in rles)
    if not visible:
        return ()
    probabilities = torch.stack([summary.class_probabilities for summary in visible])
    scores = final_scores(visible).clamp(0, 1)
    return tuple(
        InstanceTrack(
            label=label,
            score=float(scores[row, label]),
            rles=tuple(rles[visible[row].entity_id]),
        )
        for row, label in ranked_classes(probabilities, scores, max_detections)
    )


def _store(
    rles: dict[int, list[str | None]], finished: FinishedFrames, geometry: Geometry, num_frames: int
) -> None:
    """Encode the finished frames of all entities."""
    ids = finished.tracks.ids.tolist()
    for position in range(finished.mask_logits.shape[1]):
        masks = restore_logits(finished.mask_logits[:, position], geometry) > 0
        visible = masks.flatten(1).any(1).nonzero()[:, 0].tolist()
        for row, counts in zip(visible, _encode(masks[visible].cpu().numpy()), strict=True):
            track = rles.setdefault(ids[row], [None] * num_frames)
            track[finished.start + position] = counts


def _encode(masks: NDArray[np.bool_]) -> list[str]:
    """Compress masks [N, H, W]."""
    from pycocotools import mask as coco_mask

    pixels = np.asfortranarray(masks.transpose(1, 2, 0), dtype=np.uint8)
    return [rle["counts"].decode() for rle in coco_mask.encode(pixels)]
