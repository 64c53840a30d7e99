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
_NEVER = -9.0
"""In place of the IoU of a truth that does not fit or is taken."""


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
    keeps = ~np.broadcast_to(again, ious.shape)
    near = ious[:, None] >= least
    fits = np.asarray(near.any(axis=1))
    num_options, first = fits.sum(axis=1).tolist(), fits.argmax(axis=1).tolist() if num_truths else []
    a, j = np.arange(len(skip))[:, None], np.arange(thresholds.size)
    # Truths that count come first: a skipped one is as if its IoU were far lower, yet above what fits not.
    ranked = np.where(skip, ious[:, None] - 2, ious[:, None])[:, :, None]
    for d in np.flatnonzero(fits.any(axis=1)).tolist():
        if num_options[d] == 1:
            # Most detections fit one truth: nothing to choose from.
            best = first[d]
            found = near[d, :, best] & ~taken[:, :, best]
            taken[:, :, best] |= found & keeps[d, best]
        else:
            best, found = _choose(np.where(near[d] & ~taken, ranked[d], _NEVER), slack)
            taken[a, j, best] |= found & keeps[d, best]
        matched[:, :, d], chosen[:, :, d] = found, best
    return matched, chosen


def _choose(values: NDArray[np.float64], slack: float) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """Give the best of [A, J, G] truths, the last of equals, and whether it can be chosen, [A, J]."""
    highest = values.max(axis=2)
    top = values >= highest[..., None] - slack
    return values.shape[2] - 1 - top[..., ::-1].argmax(axis=2), highest > _NEVER


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
    return _curves(right, wrong, np.stack(found, axis=2), num_truths)


def own_curves(rows: Sequence[Matches], limits: Sequence[int]) -> Curves:
    """Give the curves of each group alone in the first stratum, with groups for strata."""
    sizes = [row.scores.size for row in rows]
    owners = np.repeat(np.arange(len(rows)), sizes)
    places = np.concatenate([np.arange(size) for size in sizes])
    matched = np.concatenate([row.matched[0] for row in rows], axis=1).T
    ignored = np.concatenate([row.ignored[0] for row in rows], axis=1).T
    # What is neither right nor wrong changes no curve, so the shorter groups are filled up with that.
    right, wrong = np.zeros((2, len(rows), matched.shape[1], max(sizes)), bool)
    right[owners, :, places] = matched & ~ignored
    wrong[owners, :, places] = ~(matched | ignored)
    found = [right[:, :, :limit].sum(axis=2) for limit in limits]
    return _curves(right, wrong, np.stack(found, axis=2), np.asarray([row.num_truths[0] for row in rows]))


def mean_of_known(values: NDArray[np.float64]) -> float:
    """Average what is not NaN; NaN where nothing is known."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else math.nan


def _curves(
    right: NDArray[np.bool_],
    wrong: NDArray[np.bool_],
    found: NDArray[np.int64],
    num_truths: NDArray[np.int64],
) -> Curves:
    """Make curves of [A, J, D] ranked detections, [A, J, L] hits and [A] truths."""
    with np.errstate(divide="ignore", invalid="ignore"):
        recall = found / num_truths[:, None, None]
    precision = _sample(right, wrong, num_truths)
    recall[num_truths == 0] = precision[num_truths == 0] = np.nan
    return Curves(precision=precision, recall=recall)


def _sample(
    right: NDArray[np.bool_], wrong: NDArray[np.bool_], num_truths: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Give the precision at the recalls, [A, J, 101].

    Precision rises at hits only, so its envelope at the k-th hit, the best of that and later hits, is all
    that can be sampled.
    """
    num_right, num_wrong = right.cumsum(axis=2), wrong.cumsum(axis=2)
    at_hits = np.where(right, num_right / (num_right + num_wrong + np.spacing(1)), 0.0)
    envelope = np.maximum.accumulate(at_hits[..., ::-1], axis=2)[..., ::-1]
    by_hits = np.zeros((*right.shape[:2], int(num_truths.max()) + 1))
    # Where truths can be found again there may be more hits than truths.
    a, j, d = np.nonzero(right & (num_right <= num_truths[:, None, None]))
    by_hits[a, j, num_right[a, j, d]] = envelope[a, j, d]
    by_hits[..., 0] = at_hits.max(axis=2, initial=0.0)
    needed = np.stack([_hits_needed(number) for number in num_truths.tolist()])
    return np.take_along_axis(by_hits, needed[:, None], axis=2)


@lru_cache(maxsize=4096)
def _hits_needed(num_truths: int) -> NDArray[np.intp]:
    """Give the number of hits at which each of the recalls is reached."""
    return np.searchsorted(np.arange(num_truths + 1) / max(num_truths, 1), RECALLS, side="left")
