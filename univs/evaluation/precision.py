"""Average precision of ranked detections, as COCO and its offspring have it.

Detections of one group (a video and a class) are matched to the truth at every IoU threshold; curves only
sort what all groups matched.

Legend: D detections, G truths, A strata of the truth, J IoU thresholds, N truths to be found.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

RECALLS = np.linspace(0.0, 1.0, 101)


@dataclass(frozen=True, kw_only=True, slots=True)
class Matches:
    """Matched detections of one class in one video or image, in descending score."""

    label: int
    scores: NDArray[np.float64]
    """[D]."""
    matched: NDArray[np.bool_]
    """[A, J, D]."""
    ignored: NDArray[np.bool_]
    """[A, J, D] neither right nor wrong."""
    num_truths: NDArray[np.int64]
    """[A] to be found."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Curves:
    """Precision and recall of one class over all groups; NaN where nothing is to be found."""

    precision: NDArray[np.float64]
    """[A, J, 101] at the recalls, made to fall."""
    recall: NDArray[np.float64]
    """[A, J, L] in the end, at each limit of detections."""


def match_ranked(
    ious: NDArray[np.float64],
    skip: NDArray[np.bool_],
    again: NDArray[np.bool_],
    thresholds: NDArray[np.float64],
    slack: float = 0.0,
) -> tuple[NDArray[np.bool_], NDArray[np.intp]]:
    """Match detections, best first, to the truths that are free: [A, J, D] whether, and which.

    A truth that counts wins over skipped ones; among equals the highest IoU, then the later truth.

    Args:
        ious: [D, G].
        skip: [A, G] truths that are not asked for in a stratum.
        again: [G] or [D, G] truths that can be matched again and again; the latter, if this detection
            leaves them free.
        thresholds: [J].
        slack: how far below an IoU still counts as equal to it.
    """
    num_detections, num_truths = ious.shape
    matched = np.zeros((len(skip), thresholds.size, num_detections), bool)
    chosen = np.zeros(matched.shape, np.intp)
    least = np.minimum(thresholds, 1 - 1e-10)[:, None] - slack
    taken = np.zeros((len(skip), thresholds.size, num_truths), bool)
    again = np.broadcast_to(again, ious.shape)
    near = ious[:, None] >= least
    a, j = np.arange(len(skip))[:, None], np.arange(thresholds.size)
    # Truths that count come first: a skipped one is as if its IoU were far lower, yet above what fits not.
    ranked = np.where(skip, ious[:, None] - 2, ious[:, None])[:, :, None]
    for d in np.flatnonzero(near.any(axis=(1, 2))).tolist():
        values = np.where(near[d] & ~taken, ranked[d], -9.0)
        top = values >= values.max(axis=2, keepdims=True) - slack
        best = num_truths - 1 - top[..., ::-1].argmax(axis=2)
        found = values[a, j, best] > -9.0
        matched[:, :, d], chosen[:, :, d] = found, best
        taken[a, j, best] |= found & ~again[d, best]
    return matched, chosen


def rank_curves(rows: Sequence[Matches], limits: Sequence[int]) -> Curves:
    """Join the groups of one class; equal scores keep the groups' order.

    ``limits`` are numbers of detections per group, ascending; precision is that at the last one.
    """
    num_truths = np.sum([row.num_truths for row in rows], axis=0)
    hits = [row.matched & ~row.ignored for row in rows]
    order = np.argsort(-np.concatenate([row.scores for row in rows]), kind="stable")
    right = np.concatenate(hits, axis=2)[:, :, order]
    wrong = np.concatenate([~(row.matched | row.ignored) for row in rows], axis=2)[:, :, order]
    found = [sum(hit[:, :, :limit].sum(axis=2) for hit in hits) for limit in limits]
    with np.errstate(divide="ignore", invalid="ignore"):
        recall = np.stack(found, axis=2) / num_truths[:, None, None]
    recall[num_truths == 0] = np.nan
    precision = [_sample(*cells) for cells in zip(right, wrong, num_truths.tolist(), strict=True)]
    return Curves(precision=np.stack(precision), recall=recall)


def mean_of_known(values: NDArray[np.float64]) -> float:
    """Average what is not NaN; NaN where nothing is known."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else math.nan


def _sample(right: NDArray[np.bool_], wrong: NDArray[np.bool_], num_truths: int) -> NDArray[np.float64]:
    """Give the precision of one stratum at the recalls, [J, 101].

    Precision rises at hits only, so its envelope at the k-th hit, the best of that and later hits, is all
    that can be sampled.
    """
    if not num_truths:
        return np.full((len(right), RECALLS.size), np.nan)
    num_right, num_wrong = right.cumsum(axis=1), wrong.cumsum(axis=1)
    at_hits = np.where(right, num_right / (num_right + num_wrong + np.spacing(1)), 0.0)
    envelope = np.maximum.accumulate(at_hits[:, ::-1], axis=1)[:, ::-1]
    by_hits = np.zeros((len(right), num_truths + 1))
    # Where truths can be found again there may be more hits than truths.
    j, d = np.nonzero(right & (num_right <= num_truths))
    by_hits[j, num_right[j, d]] = envelope[j, d]
    by_hits[:, 0] = at_hits.max(axis=1, initial=0.0)
    return by_hits[:, _hits_needed(num_truths)]


@lru_cache(maxsize=4096)
def _hits_needed(num_truths: int) -> NDArray[np.intp]:
    """Give the number of hits at which each of the recalls is reached."""
    return np.searchsorted(np.arange(num_truths + 1) / num_truths, RECALLS, side="left")
