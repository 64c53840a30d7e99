"""Draw any prediction, or truth, of a benchmark over its frames."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from univs.data.masks import decode_rle
from univs.draw import Frame, enlarge, overlay, overlay_labels, side_by_side
from univs.evaluation.benchmarks import Prediction
from univs.labels import LabelSpace
from univs.predictions import InstanceTrack, InstanceVideo, ObjectVideo, PanopticVideo, SemanticVideo

Value = TypeVar("Value", bound=np.generic)

_MIN_SCORE = 0.3
"""VIS lists many unlikely tracks; pictures show those a user would keep."""


def draw_prediction(
    prediction: Prediction, frames: Sequence[Frame], labels: LabelSpace | None, factor: int = 1
) -> list[Frame]:
    """Tint every frame by the prediction, enlarged ``factor`` times; names are written at the final size."""
    names = labels.names if labels else ()
    large = [enlarge(frame, factor) for frame in frames]
    match prediction:
        case PanopticVideo(maps=maps, segments=segments):
            by_id = {segment.segment_id: names[segment.label] for segment in segments}
            return [overlay_labels(f, _enlarge(m, factor), by_id) for f, m in zip(large, maps, strict=True)]
        case SemanticVideo(labels=maps):
            by_label = dict(enumerate(names))
            return [
                overlay_labels(f, _enlarge(m, factor), by_label, ignore=-1)
                for f, m in zip(large, maps, strict=True)
            ]
        case InstanceVideo():
            return _draw_tracks(prediction, large, names, factor)
        case ObjectVideo(masks=masks, object_ids=object_ids):
            return [
                overlay(frame, _enlarge(masks[:, t], factor), object_ids) for t, frame in enumerate(large)
            ]


def draw_comparison(
    truth: Prediction, prediction: Prediction, frames: Sequence[Frame], labels: LabelSpace | None, factor: int
) -> list[Frame]:
    """Put truth and prediction side by side, frame by frame; segments that match have one color."""
    if isinstance(truth, PanopticVideo) and isinstance(prediction, PanopticVideo):
        prediction = _recolor(prediction, truth)
    if isinstance(truth, ObjectVideo) and isinstance(prediction, ObjectVideo):
        truth = _spread(truth, prediction.frame_names)
    pairs = zip(
        draw_prediction(truth, frames, labels, factor),
        draw_prediction(prediction, frames, labels, factor),
        strict=True,
    )
    return [side_by_side(pair, ("truth", "prediction")) for pair in pairs]


def thin_out(prediction: Prediction, step: int) -> Prediction:
    """Keep every ``step``-th row and column, for pictures smaller than the frames."""
    match prediction:
        case PanopticVideo():
            return replace(prediction, maps=prediction.maps[:, ::step, ::step])
        case SemanticVideo():
            return replace(prediction, labels=prediction.labels[:, ::step, ::step])
        case ObjectVideo():
            return replace(prediction, masks=prediction.masks[..., ::step, ::step])
        case InstanceVideo(height=height, width=width, tracks=tracks):
            return replace(
                prediction,
                height=-(-height // step),
                width=-(-width // step),
                tracks=tuple(_thin_track(track, height, width, step) for track in tracks),
            )


def _thin_track(track: InstanceTrack, height: int, width: int, step: int) -> InstanceTrack:
    masks = [_mask_at(track, t, height, width)[::step, ::step] for t in range(len(track.rles))]
    found = [coco_mask.encode(np.asfortranarray(mask, np.uint8))["counts"].decode("ascii") for mask in masks]
    return replace(track, rles=tuple(found))


def _recolor(prediction: PanopticVideo, truth: PanopticVideo) -> PanopticVideo:
    """Give each segment the id, hence the color, of the true one of its class that it overlaps most."""
    classes = {segment.segment_id: segment.label for segment in truth.segments}
    ours = {segment.segment_id: segment.label for segment in prediction.segments}
    pairs, counts = np.unique(
        np.stack((prediction.maps, truth.maps)).reshape(2, -1), axis=1, return_counts=True
    )
    renamed: dict[int, int] = {}
    for found, true in pairs[:, np.argsort(-counts, kind="stable")].T.tolist():
        if found in ours and ours[found] == classes.get(true) and true not in renamed.values():
            renamed.setdefault(found, true)
    start = 1 + max((0, *classes, *ours))
    fresh = [value for value in np.unique(prediction.maps).tolist() if value and value not in renamed]
    renamed |= {value: start + n for n, value in enumerate(fresh)} | {0: 0}
    values, positions = np.unique(prediction.maps, return_inverse=True)
    ids = np.asarray([renamed[value] for value in values.tolist()], np.int32)
    return replace(
        prediction,
        maps=ids[positions].reshape(prediction.maps.shape),
        segments=tuple(
            replace(segment, segment_id=renamed[segment.segment_id])
            for segment in prediction.segments
            if segment.segment_id in renamed
        ),
    )


def _spread(truth: ObjectVideo, frame_names: Sequence[str]) -> ObjectVideo:
    """Give truth, which holds labelled frames only, a place for every frame."""
    if truth.frame_names == tuple(frame_names):
        return truth
    masks = np.zeros((len(truth.object_ids), len(frame_names), *truth.masks.shape[2:]), bool)
    masks[:, [frame_names.index(name) for name in truth.frame_names]] = truth.masks
    return replace(truth, masks=masks, frame_names=tuple(frame_names))


def _draw_tracks(
    video: InstanceVideo, frames: Sequence[Frame], names: Sequence[str], factor: int
) -> list[Frame]:
    shown = [track for track in video.tracks if track.score >= _MIN_SCORE]
    titles = [f"{names[track.label]} {track.score:.0%}" for track in shown]
    drawn = []
    for t, frame in enumerate(frames):
        masks = np.zeros((len(shown), video.height, video.width), bool)
        for row, track in enumerate(shown):
            masks[row] = _mask_at(track, t, video.height, video.width)
        drawn.append(overlay(frame, _enlarge(masks, factor), titles))
    return drawn


def _mask_at(track: InstanceTrack, t: int, height: int, width: int) -> NDArray[np.bool_]:
    counts = track.rles[t]
    if counts is None:
        return np.zeros((height, width), bool)
    return decode_rle(counts, height, width)


def _enlarge(maps: NDArray[Value], factor: int) -> NDArray[Value]:
    return maps.repeat(factor, axis=-2).repeat(factor, axis=-1)
