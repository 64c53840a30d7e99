"""Draw any prediction, or truth, of a benchmark over its frames."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

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
    """Put truth and prediction side by side, frame by frame."""
    if isinstance(truth, ObjectVideo) and isinstance(prediction, ObjectVideo):
        truth = _spread(truth, prediction.frame_names)
    pairs = zip(
        draw_prediction(truth, frames, labels, factor),
        draw_prediction(prediction, frames, labels, factor),
        strict=True,
    )
    return [side_by_side(pair, ("truth", "prediction")) for pair in pairs]


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
