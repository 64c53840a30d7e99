"""Panoptic quality of images (PQ) and of videos (VPQ).

Formulas of Kirillov et al. 2019 and Kim et al. 2020, as computed by the evaluators of COCO panoptic and
VIPSeg. A window's statistics are sums of its frames' histograms, so no pixel is looked at twice.

Legend: G true segments, P predicted segments, K classes, W window lengths, N window positions; ``histogram``
explains the two special rows and columns.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from univs.evaluation.histogram import SPECIAL, SegmentPairs, segment_labels
from univs.predictions import Segment

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


def evaluate_panoptic(
    pairs: SegmentPairs, num_classes: int, windows: Sequence[int] = (1,)
) -> PanopticPartial:
    """Match one video in every window of each length; ``windows=(1,)`` is the PQ of images.

    A true and a predicted segment of one class match at IoU > 0.5, void pixels left out of the union.
    Unmatched crowds are forgiven, and so are unmatched predictions that lie by more than half on void or on
    the crowd of their class (the last listed, where it has several). Areas are counted from the maps.
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


def mean_quality(
    qualities: Sequence[WindowQuality], group: Literal["every", "things", "stuff"] = "every"
) -> float:
    """Average PQ over window lengths: VPQ. Lengths at which no class was seen are left out."""
    values = [getattr(quality, group).pq for quality in qualities]
    seen = [value for value in values if not math.isnan(value)]
    return math.fsum(seen) / len(seen) if seen else math.nan


def _match_windows(
    pairs: SegmentPairs, window: int, num_classes: int
) -> tuple[NDArray[np.float64], NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
    """Give summed IoUs, true positives, false positives and false negatives, [K] each."""
    sums = _window_sums(pairs.counts, window)
    true_labels, labels = segment_labels(pairs.truth), segment_labels(pairs.prediction)
    crowd = np.asarray([segment.is_crowd for segment in pairs.truth], bool)
    true_areas, areas = sums.sum(axis=2)[:, SPECIAL:], sums.sum(axis=1)[:, SPECIAL:]
    overlaps, on_void = sums[:, SPECIAL:, SPECIAL:], sums[:, 1, SPECIAL:]
    unions = true_areas[:, :, None] + areas[:, None, :] - overlaps - on_void[:, None, :]
    ious = overlaps / np.maximum(unions, 1)
    matched = (ious > 0.5) & (true_labels[:, None] == labels) & ~crowd[:, None]
    forgiven = on_void + _crowd_overlaps(sums, _listing_order(pairs.counts, window), pairs.truth, labels)
    hits = true_labels[np.nonzero(matched)[1]]
    missed = (true_areas > 0) & ~crowd & ~matched.any(axis=2)
    spurious = (areas > 0) & ~matched.any(axis=1) & (forgiven / np.maximum(areas, 1) <= 0.5)
    return (
        np.bincount(hits, ious[matched], minlength=num_classes).astype(np.float64),
        np.bincount(hits, minlength=num_classes),
        np.bincount(labels[np.nonzero(spurious)[1]], minlength=num_classes),
        np.bincount(true_labels[np.nonzero(missed)[1]], minlength=num_classes),
    )


def _window_sums(histogram: NDArray[np.int64], window: int) -> NDArray[np.int64]:
    if window > len(histogram):
        return np.zeros((0, *histogram.shape[1:]), np.int64)
    running = np.concatenate((np.zeros_like(histogram[:1]), np.cumsum(histogram, axis=0)))
    return running[window:] - running[:-window]


def _crowd_overlaps(
    sums: NDArray[np.int64], order: NDArray[np.intp], truth: Sequence[Segment], labels: NDArray[np.intp]
) -> NDArray[np.int64]:
    """Give [N, P] pixels that each prediction has on the crowd of its class in each window."""
    crowds = [g for g, segment in enumerate(truth) if segment.is_crowd]
    overlaps = np.zeros((len(sums), labels.size), np.int64)
    for label in {truth[g].label for g in crowds}:
        of_class = np.asarray([g for g in crowds if truth[g].label == label], np.intp)
        last = of_class[np.argmax(order[:, of_class], axis=1)]
        columns = np.flatnonzero(labels == label)
        positions = np.arange(len(sums))[:, None]
        overlaps[:, columns] = sums[positions, last[:, None] + SPECIAL, columns + SPECIAL]
    return overlaps


def _listing_order(histogram: NDArray[np.int64], window: int) -> NDArray[np.intp]:
    """Give [N, G] ranks by first frame in the window, then listing; -1 where not in the window."""
    present = histogram[:, SPECIAL:].sum(axis=2) > 0
    num_frames, num_segments = present.shape
    here = np.where(present, np.arange(num_frames)[:, None], num_frames)
    following = np.minimum.accumulate(here[::-1], axis=0)[::-1]
    starts = np.arange(max(num_frames - window + 1, 0))
    first = following[starts]
    inside = first < starts[:, None] + window
    return np.where(inside, first * num_segments + np.arange(num_segments), -1)


def _window_quality(
    window: int, iou_sums: NDArray[np.float64], counts: NDArray[np.int64], things: NDArray[np.bool_]
) -> WindowQuality:
    seen = counts.sum(axis=0) > 0
    weights = np.where(seen, counts[0] + 0.5 * counts[1] + 0.5 * counts[2], 1.0)
    pq = iou_sums / weights
    values = np.stack((pq, iou_sums / np.maximum(counts[0], 1), counts[0] / weights))
    return WindowQuality(
        window=window,
        every=_class_mean(values[:, seen]),
        things=_class_mean(values[:, seen & things]),
        stuff=_class_mean(values[:, seen & ~things]),
        class_pq=np.where(seen, pq, np.nan),
    )


def _class_mean(values: NDArray[np.float64]) -> Quality:
    count = values.shape[1]
    pq, sq, rq = values.mean(axis=1) if count else (math.nan, math.nan, math.nan)
    return Quality(pq=float(pq), sq=float(sq), rq=float(rq), num_classes=count)
