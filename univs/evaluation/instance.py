"""Video instance segmentation: average precision and recall of tracks, as YouTube-VIS 2019 and 2021 have it.

Detections of one video are matched to its true tracks once, at every IoU threshold and area range; scoring
only sorts what all videos matched.

Legend: D detections, G true tracks, T frames, A area ranges, J IoU thresholds.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from univs.predictions import InstanceTrack, InstanceVideo

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0.0, 1.0, 101)
MAX_DETECTIONS = (1, 10, 100)
AREA_RANGES = ((0.0, 1e10), (0.0, 128.0**2), (128.0**2, 256.0**2), (256.0**2, 1e10))
"""All, small, medium and large, in pixels per frame; both ends belong to a range."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassMatches:
    """Matching of one class in one video, detections in descending score."""

    label: int
    scores: NDArray[np.float64]
    """[D], at most 100."""
    matched: NDArray[np.bool_]
    """[A, J, D]."""
    ignored: NDArray[np.bool_]
    """[A, J, D] neither right nor wrong."""
    num_truths: NDArray[np.int64]
    """[A] true tracks to be found."""


@dataclass(frozen=True, kw_only=True, slots=True)
class InstancePartial:
    """What one video adds to AP and AR."""

    video_id: str
    classes: tuple[ClassMatches, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class InstanceScores:
    """Averages as fractions; NaN where there is nothing to find."""

    ap: float
    ap50: float
    ap75: float
    ap_small: float
    ap_medium: float
    ap_large: float
    ar1: float
    ar10: float
    ar100: float
    class_ap: dict[int, float]
    """By label, over the classes that the truth holds."""


def track_ious(
    detections: Sequence[InstanceTrack], truths: Sequence[InstanceTrack], size: tuple[int, int]
) -> NDArray[np.float64]:
    """Compute [D, G] IoUs of tracks: intersections over unions, both summed over the frames they share.

    Where one track lists fewer frames than the other, the other's remaining frames are left out, as in the
    official evaluator. Two tracks that are empty everywhere have IoU 0.
    """
    num_frames = max((len(track.rles) for track in (*detections, *truths)), default=0)
    areas, true_areas = (_areas(tracks, size, num_frames) for tracks in (detections, truths))
    listed, true_listed = (_listed(tracks, num_frames) for tracks in (detections, truths))
    overlaps = np.zeros((len(detections), len(truths)))
    for t in range(num_frames):
        rows, columns = np.flatnonzero(areas[:, t]).tolist(), np.flatnonzero(true_areas[:, t]).tolist()
        if not (rows and columns):
            continue
        # With "crowd" truths the library divides the intersection by the detection's area, so multiplying
        # gives the exact number of pixels back, all pairs of a frame in one call.
        shares = coco_mask.iou(
            [_rle(detections[d].rles[t], size) for d in rows],
            [_rle(truths[g].rles[t], size) for g in columns],
            [1] * len(columns),
        )
        overlaps[np.ix_(rows, columns)] += np.rint(shares * areas[rows, t][:, None])
    unions = areas @ true_listed.T + listed @ true_areas.T - overlaps
    return overlaps / np.maximum(unions, 1)


def evaluate_instances(prediction: InstanceVideo, truth: InstanceVideo) -> InstancePartial:
    """Match the detections of one video to its true tracks, class by class.

    Raises:
        ValueError: the videos differ in size.
    """
    size = (truth.height, truth.width)
    if (prediction.height, prediction.width) != size:
        raise ValueError(
            f"video {truth.video_id!r}: prediction is {prediction.height}x{prediction.width}, "
            f"expected {truth.height}x{truth.width}: predict at the original size"
        )
    labels = sorted({track.label for track in (*prediction.tracks, *truth.tracks)})
    rows = []
    for label in labels:
        ours = [track for track in prediction.tracks if track.label == label]
        ours = sorted(ours, key=lambda track: -track.score)[: MAX_DETECTIONS[-1]]
        theirs = [track for track in truth.tracks if track.label == label]
        rows.append(_match_class(label, ours, theirs, size))
    return InstancePartial(video_id=truth.video_id, classes=tuple(rows))


def score_instances(partials: Sequence[InstancePartial]) -> InstanceScores:
    """Merge partials of distinct videos; their order does not matter (equal scores rank by video id)."""
    ordered = sorted(partials, key=lambda part: _video_order(part.video_id))
    by_label: dict[int, list[ClassMatches]] = {}
    for part in ordered:
        for row in part.classes:
            by_label.setdefault(row.label, []).append(row)
    labels = [label for label, rows in sorted(by_label.items()) if any(row.num_truths.any() for row in rows)]
    curves = [[_curves(by_label[label], a) for a in range(len(AREA_RANGES))] for label in labels]
    shape = (len(labels), len(AREA_RANGES), IOU_THRESHOLDS.size)
    precision = np.asarray([[cell[0] for cell in row] for row in curves]).reshape(*shape, RECALLS.size)
    recall = np.asarray([[cell[1] for cell in row] for row in curves]).reshape(*shape, len(MAX_DETECTIONS))
    return InstanceScores(
        ap=_mean(precision[:, 0]),
        ap50=_mean(precision[:, 0, 0]),
        ap75=_mean(precision[:, 0, 5]),
        ap_small=_mean(precision[:, 1]),
        ap_medium=_mean(precision[:, 2]),
        ap_large=_mean(precision[:, 3]),
        ar1=_mean(recall[:, 0, :, 0]),
        ar10=_mean(recall[:, 0, :, 1]),
        ar100=_mean(recall[:, 0, :, 2]),
        class_ap={label: _mean(row[0]) for label, row in zip(labels, precision, strict=True)},
    )


def _rle(counts: str | None, size: tuple[int, int]) -> dict[str, Any]:
    return {"size": list(size), "counts": (counts or "").encode()}


def _areas(tracks: Sequence[InstanceTrack], size: tuple[int, int], num_frames: int) -> NDArray[np.float64]:
    areas = np.zeros((len(tracks), num_frames))
    for track, row in zip(tracks, areas, strict=True):
        shown = [t for t, counts in enumerate(track.rles) if counts is not None]
        if shown:
            row[shown] = coco_mask.area([_rle(track.rles[t], size) for t in shown])
    return areas


def _listed(tracks: Sequence[InstanceTrack], num_frames: int) -> NDArray[np.float64]:
    lengths = np.asarray([len(track.rles) for track in tracks], np.intp)
    return (np.arange(num_frames) < lengths[:, None]).astype(np.float64)


def _mean_areas(tracks: Sequence[InstanceTrack], size: tuple[int, int]) -> NDArray[np.float64]:
    areas = _areas(tracks, size, max((len(track.rles) for track in tracks), default=0))
    means: NDArray[np.float64] = areas.sum(axis=1) / np.maximum((areas > 0).sum(axis=1), 1)
    return means


def _outside_ranges(areas: NDArray[np.float64]) -> NDArray[np.bool_]:
    ranges = np.asarray(AREA_RANGES)
    outside: NDArray[np.bool_] = (areas < ranges[:, :1]) | (areas > ranges[:, 1:])
    return outside


def _match_class(
    label: int, detections: Sequence[InstanceTrack], truths: Sequence[InstanceTrack], size: tuple[int, int]
) -> ClassMatches:
    ious = track_ious(detections, truths, size)
    crowd = np.asarray([track.is_crowd for track in truths], bool)
    skip = _outside_ranges(_mean_areas(truths, size)) | crowd
    outside = _outside_ranges(_mean_areas(detections, size))
    matched = np.zeros((len(AREA_RANGES), IOU_THRESHOLDS.size, len(detections)), bool)
    ignored = np.zeros_like(matched)
    for a in range(len(AREA_RANGES)):
        matched[a], on_skipped = _match_detections(ious, skip[a], crowd)
        ignored[a] = on_skipped | (~matched[a] & outside[a])
    return ClassMatches(
        label=label,
        scores=np.asarray([track.score for track in detections], np.float64),
        matched=matched,
        ignored=ignored,
        num_truths=(~skip).sum(axis=1),
    )


def _match_detections(
    ious: NDArray[np.float64], skip: NDArray[np.bool_], crowd: NDArray[np.bool_]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Give [J, D] whether each detection, best first, finds a track, and whether that track is a skipped one.

    A free track that counts wins over skipped ones; among equals the highest IoU, then the later track.
    Crowds can be found again and again.
    """
    num_detections, num_truths = ious.shape
    matched = np.zeros((IOU_THRESHOLDS.size, num_detections), bool)
    on_skipped = np.zeros_like(matched)
    if not num_truths:
        return matched, on_skipped
    taken = np.zeros((IOU_THRESHOLDS.size, num_truths), bool)
    least = np.minimum(IOU_THRESHOLDS, 1 - 1e-10)[:, None]
    rows = np.arange(IOU_THRESHOLDS.size)
    for d in range(num_detections):
        fits = (ious[d] >= least) & (~taken | crowd)
        counted = fits & ~skip
        fits = np.where(counted.any(axis=1, keepdims=True), counted, fits)
        best = num_truths - 1 - np.argmax(np.where(fits, ious[d], -1.0)[:, ::-1], axis=1)
        matched[:, d] = fits[rows, best]
        on_skipped[:, d] = matched[:, d] & skip[best]
        taken[rows, best] |= matched[:, d]
    return matched, on_skipped


def _curves(rows: Sequence[ClassMatches], area: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Give precision [J, 101] at 100 detections and final recall [J, 3] at each limit; NaN without truth."""
    num_truths = sum(int(row.num_truths[area]) for row in rows)
    precision = np.full((IOU_THRESHOLDS.size, RECALLS.size), np.nan)
    recall = np.full((IOU_THRESHOLDS.size, len(MAX_DETECTIONS)), np.nan)
    if not num_truths:
        return precision, recall
    for m, limit in enumerate(MAX_DETECTIONS):
        order = np.argsort(-np.concatenate([row.scores[:limit] for row in rows]), kind="stable")
        matched = np.concatenate([row.matched[area, :, :limit] for row in rows], axis=1)[:, order]
        ignored = np.concatenate([row.ignored[area, :, :limit] for row in rows], axis=1)[:, order]
        right = np.cumsum(matched & ~ignored, axis=1)
        wrong = np.cumsum(~matched & ~ignored, axis=1)
        recall[:, m] = right[:, -1] / num_truths if order.size else 0.0
    precision[:] = [_sample_precision(*pair, num_truths) for pair in zip(right, wrong, strict=True)]
    return precision, recall


def _sample_precision(
    right: NDArray[np.int64], wrong: NDArray[np.int64], num_truths: int
) -> NDArray[np.float64]:
    values = right / (right + wrong + np.spacing(1))
    envelope = np.maximum.accumulate(values[::-1])[::-1]
    at = np.searchsorted(right / num_truths, RECALLS, side="left")
    return np.append(envelope, 0.0)[np.minimum(at, right.size)]


def _video_order(video_id: str) -> tuple[int, str]:
    return (int(video_id), "") if video_id.isdecimal() else (0, video_id)


def _mean(values: NDArray[np.float64]) -> float:
    known = values[~np.isnan(values)]
    return math.fsum(known) / known.size if known.size else math.nan
