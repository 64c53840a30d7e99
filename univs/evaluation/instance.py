"""Instance segmentation: average precision and recall of tracks, or of the masks of an image.

The rules of YouTube-VIS (2019, 2021 and 2022), OVIS and COCO, whose images are videos of one frame.

Legend: D detections, G truths, A strata, J IoU thresholds.
"""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from univs.evaluation.precision import (
    RECALLS,
    Curves,
    Matches,
    match_ranked,
    mean_of_known,
    own_curves,
    rank_curves,
)
from univs.evaluation.track_masks import TrackMasks, covered_shares, read_masks, track_ious
from univs.predictions import InstanceTrack, InstanceVideo

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
MAX_DETECTIONS = (1, 10, 100)
_MAX_ALONE = 256
"""Videos with a class that are scored at once: their arrays stay in the processor's cache."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Stratum:
    """Truths that are scored on their own; both ends belong to a range."""

    name: str
    area: tuple[float, float] = (0.0, 1e10)
    """Mean over visible frames, in pixels. A detection outside it is ignored unless it finds something."""
    occlusion: tuple[float, float] | None = None
    """Of truths; detections have none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class InstanceRules:
    """What benchmarks do differently."""

    strata: tuple[Stratum, ...]
    """The first one holds everything."""
    crowds_take_parts: bool = False
    """A crowd is found by what lies inside it: the overlap is divided by the detection's area alone."""


@dataclass(frozen=True, kw_only=True, slots=True)
class InstancePartial:
    """What one video or image adds to AP and AR."""

    video_id: str
    classes: tuple[Matches, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassScores:
    """Averages of one class as fractions; NaN where there is nothing to find but crowds."""

    ap: float
    ap50: float
    ar100: float
    recalls: tuple[float, ...]
    """At each of the IoU thresholds, of 100 detections."""


@dataclass(frozen=True, kw_only=True, slots=True)
class InstanceScores:
    """Averages as fractions; NaN where there is nothing to find."""

    ap: tuple[float, ...]
    """By stratum, at 100 detections."""
    ar: tuple[float, ...]
    """By stratum, at 100 detections."""
    ap50: float
    ap75: float
    ar1: float
    ar10: float
    threshold_ap: tuple[float, ...]
    """AP at each of the IoU thresholds."""
    classes: Mapping[int, ClassScores]
    """By label, those that the truth holds."""


def _by_area(small: float, large: float) -> tuple[Stratum, ...]:
    return (
        Stratum(name="all"),
        Stratum(name="small", area=(0.0, small**2)),
        Stratum(name="medium", area=(small**2, large**2)),
        Stratum(name="large", area=(large**2, 1e10)),
    )


YTVIS_RULES = InstanceRules(strata=_by_area(128, 256))
OVIS_RULES = InstanceRules(
    strata=(
        *YTVIS_RULES.strata,
        Stratum(name="occ_light", occlusion=(0.0, 0.25)),
        Stratum(name="occ_medium", occlusion=(0.25, 0.5)),
        Stratum(name="occ_heavy", occlusion=(0.5, 1.0)),
    )
)
COCO_RULES = InstanceRules(strata=_by_area(32, 96), crowds_take_parts=True)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Side:
    """The tracks of one video, of one of both sides."""

    masks: TrackMasks
    labels: NDArray[np.int64]
    """[N]."""
    is_crowd: NDArray[np.bool_]
    """[N]."""
    is_findable: NDArray[np.bool_]
    """[N]."""
    outside: NDArray[np.bool_]
    """[A, N] of the stratum's areas."""
    hidden: NDArray[np.bool_]
    """[A, N] outside the stratum's occlusion."""


def metric_names(rules: InstanceRules = YTVIS_RULES) -> tuple[str, ...]:
    """Name what is measured: those that papers print first, then by stratum."""
    names = [stratum.name for stratum in rules.strata[1:]]
    return (
        *("map", "ap50", "ap75", "ar1", "ar10"),
        *(f"ap_{name}" for name in names),
        "ar100",
        *(f"ar_{name}" for name in names),
    )


def evaluate_instances(
    prediction: InstanceVideo,
    truth: InstanceVideo,
    rules: InstanceRules = YTVIS_RULES,
    sources: tuple[str, str] = ("prediction", "truth"),
) -> InstancePartial:
    """Match the detections of one video to its true tracks, class by class.

    Args:
        prediction: detections; the best 100 of a class take part.
        truth: true tracks.
        rules: the benchmark's.
        sources: where both come from, for messages.

    Raises:
        ValueError: the videos differ in size, or a mask is broken.
    """
    size = (truth.height, truth.width)
    if (prediction.height, prediction.width) != size:
        raise ValueError(
            f"video {truth.video_id!r}: prediction is {prediction.height}x{prediction.width}, "
            f"expected {truth.height}x{truth.width}: predict at the original size"
        )
    ranked = _rank(prediction.tracks)
    ours = _side(ranked, size, rules, f"{sources[0]}: video {truth.video_id}")
    theirs = _side(truth.tracks, size, rules, f"{sources[1]}: video {truth.video_id}")
    ious = _compare(ours, theirs, rules)
    scores = np.asarray([track.score for track in ranked], np.float64)
    return InstancePartial(video_id=truth.video_id, classes=tuple(_match_classes(scores, ours, theirs, ious)))


def score_instances(
    partials: Sequence[InstancePartial], rules: InstanceRules = YTVIS_RULES
) -> InstanceScores:
    """Merge partials of distinct videos; their order does not matter (equal scores rank by video id)."""
    by_label = _curves(partials)
    curves = list(by_label.values())
    shape = (len(curves), len(rules.strata), IOU_THRESHOLDS.size)
    precision = np.asarray([curve.precision for curve in curves]).reshape(*shape, RECALLS.size)
    recall = np.asarray([curve.recall for curve in curves]).reshape(*shape, len(MAX_DETECTIONS))
    return InstanceScores(
        ap=tuple(mean_of_known(precision[:, a]) for a in range(shape[1])),
        ar=tuple(mean_of_known(recall[:, a, :, -1]) for a in range(shape[1])),
        ap50=mean_of_known(precision[:, 0, 0]),
        ap75=mean_of_known(precision[:, 0, 5]),
        ar1=mean_of_known(recall[:, 0, :, 0]),
        ar10=mean_of_known(recall[:, 0, :, 1]),
        threshold_ap=tuple(mean_of_known(cells) for cells in precision[:, 0].swapaxes(0, 1)),
        classes={label: _class_scores(curve) for label, curve in by_label.items()},
    )


def score_alone(partials: Sequence[InstancePartial]) -> list[dict[str, float]]:
    """Score each video as if there were no other, by the names of ``metric_names`` that have no stratum."""
    rows = [row for part in partials for row in part.classes if row.num_truths[0]]
    owners = np.repeat(
        np.arange(len(partials)),
        [sum(bool(row.num_truths[0]) for row in part.classes) for part in partials],
    )
    chunks = [rows[at : at + _MAX_ALONE] for at in range(0, len(rows), _MAX_ALONE)]
    cells = [np.zeros((0, 6)), *(_whole_scores(own_curves(chunk, MAX_DETECTIONS)) for chunk in chunks)]
    sums = np.zeros((len(partials), 6))
    np.add.at(sums, owners, np.concatenate(cells))
    num_classes = np.bincount(owners, minlength=len(partials))
    sums[num_classes == 0] = np.nan
    names = (*("map", "ap50", "ap75"), *("ar1", "ar10", "ar100"))
    return [
        dict(zip(names, row, strict=True)) for row in (sums / np.maximum(num_classes, 1)[:, None]).tolist()
    ]


def named_scores(scores: InstanceScores, rules: InstanceRules = YTVIS_RULES) -> dict[str, float]:
    """Give the scores by the names of ``metric_names``, as fractions."""
    head = (scores.ap[0], scores.ap50, scores.ap75, scores.ar1, scores.ar10)
    return dict(zip(metric_names(rules), (*head, *scores.ap[1:], *scores.ar), strict=True))


def _curves(partials: Sequence[InstancePartial]) -> dict[int, Curves]:
    """Join videos class by class, those that are asked for."""
    by_label: dict[int, list[Matches]] = {}
    for part in sorted(partials, key=lambda part: _video_order(part.video_id)):
        for row in part.classes:
            by_label.setdefault(row.label, []).append(row)
    return {
        label: rank_curves(rows, MAX_DETECTIONS)
        for label, rows in sorted(by_label.items())
        if any(row.num_truths[0] for row in rows)
    }


def _class_scores(curve: Curves) -> ClassScores:
    return ClassScores(
        ap=mean_of_known(curve.precision[0]),
        ap50=mean_of_known(curve.precision[0, 0]),
        ar100=mean_of_known(curve.recall[0, :, -1]),
        recalls=tuple(curve.recall[0, :, -1].tolist()),
    )


def _whole_scores(curves: Curves) -> NDArray[np.float64]:
    """Average the curves of groups alone: AP, AP50, AP75 and the recalls, [N, 6]."""
    by_threshold = curves.precision.mean(axis=2)
    precision = np.stack((by_threshold.mean(axis=1), by_threshold[:, 0], by_threshold[:, 5]), axis=1)
    return np.concatenate((precision, curves.recall.mean(axis=1)), axis=1)


def _rank(tracks: Sequence[InstanceTrack]) -> list[InstanceTrack]:
    """Order tracks by score, equal ones as they come, and keep the best 100 of each class."""
    ranked = sorted(tracks, key=lambda track: -track.score)
    if len(ranked) <= MAX_DETECTIONS[-1]:
        return ranked
    seen: Counter[int] = Counter()
    kept = []
    for track in ranked:
        seen[track.label] += 1
        if seen[track.label] <= MAX_DETECTIONS[-1]:
            kept.append(track)
    return kept


def _side(tracks: Sequence[InstanceTrack], size: tuple[int, int], rules: InstanceRules, where: str) -> _Side:
    masks = read_masks([track.rles for track in tracks], size, where)
    stated = np.asarray([math.nan if track.area is None else track.area for track in tracks])
    areas = np.where(np.isnan(stated), masks.mean_areas, stated)
    occlusions = np.asarray([math.nan if track.occlusion is None else track.occlusion for track in tracks])
    return _Side(
        masks=masks,
        labels=np.asarray([track.label for track in tracks], np.int64),
        is_crowd=np.asarray([track.is_crowd for track in tracks], bool),
        is_findable=np.asarray([track.is_findable for track in tracks], bool),
        outside=_outside(areas, [stratum.area for stratum in rules.strata]),
        hidden=_outside(occlusions, [stratum.occlusion for stratum in rules.strata]),
    )


def _outside(values: NDArray[np.float64], ranges: Sequence[tuple[float, float] | None]) -> NDArray[np.bool_]:
    """Tell what lies outside each of the ranges, [A, N]; ``None`` holds everything, a range no NaN."""
    low, high = np.asarray([bounds or (-math.inf, math.inf) for bounds in ranges]).T[..., None]
    outside: NDArray[np.bool_] = ~((values >= low) & (values <= high))
    outside[[bounds is None for bounds in ranges]] = False
    return outside


def _compare(ours: _Side, theirs: _Side, rules: InstanceRules) -> NDArray[np.float64]:
    """Give how well detections fit truths of their class, [D, G]."""
    labels = (ours.labels, theirs.labels)
    ious = track_ious(ours.masks, theirs.masks, labels)
    if rules.crowds_take_parts and theirs.is_crowd.any():
        covered = covered_shares(ours.masks, theirs.masks, labels)
        return np.where(theirs.is_crowd, covered, ious)
    return ious


def _match_classes(
    scores: NDArray[np.float64], ours: _Side, theirs: _Side, ious: NDArray[np.float64]
) -> Iterator[Matches]:
    """Match all classes at once: what differs in class does not fit."""
    crowd = theirs.is_crowd
    skip = theirs.outside | theirs.hidden | crowd
    fits = np.where(ours.labels[:, None] == theirs.labels, ious, -1.0)
    matched, chosen = match_ranked(fits, skip, crowd, IOU_THRESHOLDS)
    on_skipped = np.zeros_like(matched)
    if crowd.size:
        on_skipped = matched & np.take_along_axis(skip[:, None], chosen, axis=2)
        matched = matched & theirs.is_findable[chosen]
    ignored = on_skipped | (~matched & ours.outside[:, None])
    order = np.argsort(ours.labels, kind="stable")
    scores, matched, ignored = scores[order], matched[..., order], ignored[..., order]
    labels = np.unique(np.concatenate((ours.labels, theirs.labels)))
    bounds = [np.searchsorted(ours.labels[order], labels, side=side).tolist() for side in ("left", "right")]
    num_truths = (~skip).astype(np.int64) @ (theirs.labels[:, None] == labels)
    for k, (label, start, stop) in enumerate(zip(labels.tolist(), *bounds, strict=True)):
        yield Matches(
            label=label,
            scores=scores[start:stop],
            matched=matched[..., start:stop],
            ignored=ignored[..., start:stop],
            num_truths=num_truths[:, k],
        )


def _video_order(video_id: str) -> tuple[int, str]:
    return (int(video_id), "") if video_id.isdecimal() else (0, video_id)
