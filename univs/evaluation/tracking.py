"""Segmentation and tracking quality (STQ) of panoptic videos, after Weber et al. 2021.

Legend: T frames, S segments of either side, K classes; ``histogram`` explains the special rows and columns.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from univs.evaluation.confusion import Confusion, class_ious, sum_confusions, to_confusion
from univs.evaluation.histogram import SPECIAL, UNLISTED, Listing, SegmentPairs

InstanceNumbering = Literal["official", "from_one"]


@dataclass(frozen=True, kw_only=True, slots=True)
class TrackingPartial:
    """What one video adds to STQ."""

    video_id: str
    confusion: Confusion
    """[K + 1, K + 1] pixels by class; class K is no class."""
    association_sum: float
    """Association quality summed over the video's true tubes."""
    num_tubes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class TrackingQuality:
    """STQ and its two factors, as fractions."""

    stq: float
    sq: float
    aq: float
    class_ious: NDArray[np.float64]
    """[K + 1], NaN for classes that were neither there nor predicted; the last is no class."""


def evaluate_tracking(
    pairs: SegmentPairs, is_thing: Sequence[bool], numbering: InstanceNumbering = "official"
) -> TrackingPartial:
    """Count the class confusion and the tube overlaps of one video.

    The official VIPSeg evaluator numbers the segments of a video from 0 in listing order and reads number 0
    as a crowd: the first listed segment, if it is a thing, takes no part in the association. ``numbering``
    keeps that by default; ``from_one`` lets every thing take part. Both ignore crowd flags, as it does, and
    take a pixel as what its frame lists it as.
    """
    things = np.asarray(is_thing, bool)
    truth, prediction = _tubes(pairs.truth), _tubes(pairs.prediction)
    totals = _tube_overlaps(pairs.counts, truth, prediction)
    true_thing = things[truth.labels]
    judged = np.ones(len(totals), bool)
    if numbering == "official":
        judged[SPECIAL:] = ~(true_thing & (truth.segments == 0))
    quality = _association(totals, true_thing, things[prediction.labels], judged)
    return TrackingPartial(
        video_id=pairs.video_id,
        confusion=to_confusion(_class_confusion(totals, truth, prediction, things.size)),
        association_sum=math.fsum(quality),
        num_tubes=len(quality),
    )


def score_tracking(partials: Sequence[TrackingPartial]) -> TrackingQuality:
    """Merge partials of distinct videos into STQ; their order does not matter.

    As in the official evaluator, the class mean also holds classes that were only predicted, and "no class"
    if any labelled pixel was left unpredicted, both with IoU 0.
    """
    ious, unions = class_ious(sum_confusions(part.confusion for part in partials))
    num_seen = int(np.count_nonzero(unions))
    sq = math.fsum(ious) / num_seen if num_seen else math.nan
    num_tubes = sum(part.num_tubes for part in partials)
    aq = math.fsum(part.association_sum for part in partials) / max(num_tubes, 1)
    return TrackingQuality(
        stq=math.sqrt(aq * sq), sq=sq, aq=aq, class_ious=np.where(unions > 0, ious, np.nan)
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Tubes:
    """The tubes of one side: a segment as one class; a segment that changes its class is several."""

    segments: NDArray[np.intp]
    """Place of each tube's segment in the listing."""
    labels: NDArray[np.intp]
    rows: NDArray[np.intp]
    """[T, S + 2] row of the tube that each row of the frame's histogram adds to."""


def _tubes(listing: Listing) -> _Tubes:
    frames, segments = np.nonzero(listing.labels > UNLISTED)
    keys = np.stack((segments, listing.labels[frames, segments]))
    unique, tube = np.unique(keys, axis=1, return_inverse=True)
    rows = np.zeros((len(listing.labels), listing.labels.shape[1] + SPECIAL), np.intp)
    rows[:, 1] = 1
    rows[frames, segments + SPECIAL] = tube + SPECIAL
    return _Tubes(segments=unique[0], labels=unique[1], rows=rows)


def _tube_overlaps(counts: NDArray[np.int64], truth: _Tubes, prediction: _Tubes) -> NDArray[np.int64]:
    """Add the frames up: pixels of each pair of tubes, with the special rows and columns of a histogram."""
    totals = np.zeros((truth.labels.size + SPECIAL, prediction.labels.size + SPECIAL), np.int64)
    np.add.at(totals, (truth.rows[:, :, None], prediction.rows[:, None, :]), counts)
    return totals


def _class_confusion(
    totals: NDArray[np.int64], truth: _Tubes, prediction: _Tubes, num_classes: int
) -> NDArray[np.int64]:
    """Give [K + 1, K + 1] pixels by class; void and unlisted pixels of the truth are left out."""
    no_class = [num_classes] * SPECIAL
    rows = np.asarray([*no_class, *truth.labels], np.intp)
    columns = np.asarray([*no_class, *prediction.labels], np.intp)
    confusion = np.zeros((num_classes + 1, num_classes + 1), np.int64)
    np.add.at(confusion, (rows[:, None], columns[None, :]), totals)
    confusion[num_classes] = 0
    return confusion


def _association(
    totals: NDArray[np.int64],
    true_thing: NDArray[np.bool_],
    thing: NDArray[np.bool_],
    judged: NDArray[np.bool_],
) -> NDArray[np.float64]:
    """Give the association quality of each true tube; predictions on others do not exist."""
    tubes = true_thing & judged[SPECIAL:] & (totals[SPECIAL:].sum(axis=1) > 0)
    overlaps = totals[SPECIAL:, SPECIAL:][np.ix_(tubes, thing)]
    areas = totals[judged].sum(axis=0)[SPECIAL:][thing]
    true_areas = totals[SPECIAL:][tubes].sum(axis=1)
    unions = true_areas[:, None] + areas - overlaps
    per_tube: NDArray[np.float64] = (overlaps * (overlaps / np.maximum(unions, 1))).sum(axis=1)
    shares: NDArray[np.float64] = per_tube / true_areas
    return shares
