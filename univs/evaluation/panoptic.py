"""Panoptic quality of images (PQ) and of videos (VPQ).

Formulas of Kirillov et al. 2019 and Kim et al. 2020, as computed by the evaluators of COCO panoptic and
VIPSeg. A window's statistics are sums of its frames' histograms, so no pixel is looked at twice.

Legend: G true segments, P predicted segments, K classes, W window lengths, N window positions; ``histogram``
explains the two special rows and columns.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from univs.evaluation.histogram import SPECIAL, UNLISTED, SegmentPairs, first_listed

Group = Literal["every", "things", "stuff"]
_GROUPS: Mapping[str, Group] = {"": "every", "_things": "things", "_stuff": "stuff"}
"""By suffix of a metric's name."""
VIDEO_WINDOWS = (1, 2, 4, 6, 8)
"""Window lengths of the VIPSeg scripts; the papers' text names the first four."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PanopticPartial:
    """Matches of one video, by window length and class."""

    video_id: str
    windows: tuple[int, ...]
    iou_sums: NDArray[np.float64]
    """[W, K] summed IoU of the true positives."""
    true_positives: NDArray[np.int64]
    """[W, K]."""
    false_positives: NDArray[np.int64]
    """[W, K]."""
    false_negatives: NDArray[np.int64]
    """[W, K]."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Quality:
    """Panoptic quality averaged over classes, as fractions; NaN where no class was seen."""

    pq: float
    sq: float
    rq: float
    num_classes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class WindowQuality:
    """Panoptic quality at one window length."""

    window: int
    every: Quality
    things: Quality
    stuff: Quality
    class_pq: NDArray[np.float64]
    """[K] quality per class, NaN for classes that were neither there nor predicted."""
    class_sq: NDArray[np.float64]
    """[K] mean IoU of the true positives."""
    class_rq: NDArray[np.float64]
    """[K] F1 of the matches."""


def evaluate_panoptic(
    pairs: SegmentPairs, num_classes: int, windows: Sequence[int] = (1,)
) -> PanopticPartial:
    """Match one video in every window of each length; ``windows=(1,)`` is the PQ of images.

    A true and a predicted segment of one class match at IoU > 0.5, void pixels left out of the union.
    Unmatched crowds are forgiven, and so are unmatched predictions that lie by more than half on void or on
    the crowd of their class (the last listed, where it has several). An id has the class and crowd flag of
    its first listing in a window. Areas of the truth are those of its listing; without any they are counted.

    Raises:
        ValueError: an area of the listing is too small for what is shown.
    """
    rows = [_match_windows(pairs, window, num_classes) for window in windows]
    return PanopticPartial(
        video_id=pairs.video_id,
        windows=tuple(windows),
        iou_sums=np.stack([row[0] for row in rows]),
        true_positives=np.stack([row[1] for row in rows]),
        false_positives=np.stack([row[2] for row in rows]),
        false_negatives=np.stack([row[3] for row in rows]),
    )


def score_panoptic(
    partials: Sequence[PanopticPartial], is_thing: Sequence[bool]
) -> tuple[WindowQuality, ...]:
    """Merge partials of distinct videos into the quality per window length; their order does not matter."""
    things = np.asarray(is_thing, bool)
    iou_sums = np.stack([part.iou_sums for part in partials])
    outcomes = ("true_positives", "false_positives", "false_negatives")
    counts = np.stack([sum(getattr(part, name) for part in partials) for name in outcomes])
    qualities = []
    for w, window in enumerate(partials[0].windows):
        exact = np.asarray([math.fsum(column) for column in iou_sums[:, w].T])
        qualities.append(_window_quality(window, exact, counts[:, w], things))
    return tuple(qualities)


def mean_quality(qualities: Sequence[WindowQuality], group: Group = "every") -> float:
    """Average PQ over window lengths: VPQ. Lengths at which no class was seen are left out."""
    values = [getattr(quality, group).pq for quality in qualities]
    seen = [value for value in values if not math.isnan(value)]
    return math.fsum(seen) / len(seen) if seen else math.nan


def named_qualities(qualities: Sequence[WindowQuality]) -> dict[str, float]:
    """Name VPQ over all windows (``vpq``), those of the papers (``vpq_1246``) and each one, also by group."""
    values = {}
    for suffix, group in _GROUPS.items():
        values[f"vpq{suffix}"] = mean_quality(qualities, group)
        values[f"vpq_1246{suffix}"] = mean_quality(qualities[:-1], group)
        for quality in qualities:
            values[f"vpq{quality.window}{suffix}"] = getattr(quality, group).pq
    return values


@dataclass(frozen=True, kw_only=True, slots=True)
class _Windows:
    """The segments of a video in every position of a window, with the labels of their first listing."""

    true_labels: NDArray[np.intp]
    """[N, G], UNLISTED where no frame of the window lists the segment."""
    labels: NDArray[np.intp]
    """[N, P]."""
    is_crowd: NDArray[np.bool_]
    """[N, G]."""
    order: NDArray[np.intp]
    """[N, G] rank of the listing."""
    sums: NDArray[np.int64]
    """[N, G + 2, P + 2] pixels."""
    true_areas: NDArray[np.int64]
    """[N, G]."""


def _match_windows(
    pairs: SegmentPairs, window: int, num_classes: int
) -> tuple[NDArray[np.float64], NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
    """Give summed IoUs, true positives, false positives and false negatives, [K] each."""
    windows = _cut_windows(pairs, window)
    areas, on_void = windows.sums.sum(axis=1)[:, SPECIAL:], windows.sums[:, 1, SPECIAL:]
    ious = _ious(pairs, windows, areas - on_void)
    matched = ious > 0.5
    hits = np.broadcast_to(windows.true_labels[:, :, None], matched.shape)[matched]
    missed = (windows.true_labels > UNLISTED) & ~windows.is_crowd & ~matched.any(axis=2)
    forgiven = (on_void + _crowd_overlaps(windows)) / np.maximum(areas, 1) > 0.5
    spurious = (windows.labels > UNLISTED) & ~matched.any(axis=1) & ~forgiven
    return (
        np.bincount(hits, ious[matched], minlength=num_classes).astype(np.float64),
        np.bincount(hits, minlength=num_classes),
        np.bincount(windows.labels[spurious], minlength=num_classes),
        np.bincount(windows.true_labels[missed], minlength=num_classes),
    )


def _cut_windows(pairs: SegmentPairs, window: int) -> _Windows:
    true_first, first = first_listed(pairs.truth, window), first_listed(pairs.prediction, window)
    sums, annotated = _window_sums(pairs.counts, window), pairs.truth.areas
    segments, listed = np.arange(true_first.shape[1]), true_first > UNLISTED
    order = true_first * len(segments) + pairs.truth.ranks[true_first, segments]
    return _Windows(
        true_labels=np.where(listed, pairs.truth.labels[true_first, segments], UNLISTED),
        labels=np.where(
            first > UNLISTED, pairs.prediction.labels[first, np.arange(first.shape[1])], UNLISTED
        ),
        is_crowd=listed & pairs.truth.is_crowd[true_first, segments],
        order=np.where(listed, order, UNLISTED),
        sums=sums,
        true_areas=sums.sum(axis=2)[:, SPECIAL:] if annotated is None else _window_sums(annotated, window),
    )


def _ious(pairs: SegmentPairs, windows: _Windows, areas: NDArray[np.int64]) -> NDArray[np.float64]:
    """Give [N, G, P] IoUs of segments that may match, 0 for others; ``areas`` [N, P] leave void out."""
    overlaps = windows.sums[:, SPECIAL:, SPECIAL:]
    unions = windows.true_areas[:, :, None] + areas[:, None, :] - overlaps
    same = windows.true_labels[:, :, None] == windows.labels[:, None, :]
    eligible = (
        same & (overlaps > 0) & ~windows.is_crowd[:, :, None] & (windows.true_labels > UNLISTED)[:, :, None]
    )
    impossible = eligible & (unions >= 0) & (unions < overlaps)
    if impossible.any():
        position, segment, _ = np.argwhere(impossible)[0]
        raise ValueError(
            f"video {pairs.video_id!r}: true segment {pairs.truth.segment_ids[segment]} has an "
            f"annotated area of {windows.true_areas[position, segment]} pixels in a window of frames from "
            f"{position}, fewer than are shown: an IoU would be above 1; count the areas instead"
        )
    return np.where(eligible, overlaps / np.where(unions == 0, 1, unions), 0.0)


def _window_sums(values: NDArray[np.int64], window: int) -> NDArray[np.int64]:
    if window > len(values):
        return np.zeros((0, *values.shape[1:]), np.int64)
    running = np.concatenate((np.zeros_like(values[:1]), np.cumsum(values, axis=0)))
    return running[window:] - running[:-window]


def _crowd_overlaps(windows: _Windows) -> NDArray[np.int64]:
    """Give [N, P] pixels that each prediction has on the last listed crowd of its class in each window."""
    if not windows.is_crowd.any():
        return np.zeros_like(windows.labels, np.int64)
    of_class = windows.is_crowd[:, :, None] & (windows.true_labels[:, :, None] == windows.labels[:, None, :])
    last = np.where(of_class, windows.order[:, :, None], UNLISTED).argmax(axis=1)[:, None]
    overlaps = np.take_along_axis(windows.sums[:, SPECIAL:, SPECIAL:], last, axis=1)[:, 0]
    return np.where(of_class.any(axis=1), overlaps, 0)


def _window_quality(
    window: int, iou_sums: NDArray[np.float64], counts: NDArray[np.int64], things: NDArray[np.bool_]
) -> WindowQuality:
    seen = counts.sum(axis=0) > 0
    weights = np.where(seen, counts[0] + 0.5 * counts[1] + 0.5 * counts[2], 1.0)
    values = np.stack((iou_sums / weights, iou_sums / np.maximum(counts[0], 1), counts[0] / weights))
    class_pq, class_sq, class_rq = np.where(seen, values, np.nan)
    return WindowQuality(
        window=window,
        every=_class_mean(values[:, seen]),
        things=_class_mean(values[:, seen & things]),
        stuff=_class_mean(values[:, seen & ~things]),
        class_pq=class_pq,
        class_sq=class_sq,
        class_rq=class_rq,
    )


def _class_mean(values: NDArray[np.float64]) -> Quality:
    count = values.shape[1]
    pq, sq, rq = values.mean(axis=1) if count else (math.nan, math.nan, math.nan)
    return Quality(pq=float(pq), sq=float(sq), rq=float(rq), num_classes=count)
