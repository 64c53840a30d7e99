"""Scores J, F and J&F of given objects (VOS) and of expressions (RefVOS).

Legend: N objects or expressions, P predicted objects, T frames, V evaluated frames, H, W size.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from univs.evaluation.boundary import Points, boundary_f, matching_radius, trace
from univs.evaluation.jaccard import SequenceStatistics, count_overlaps, jaccards, mean_of, summarize
from univs.predictions import ObjectVideo

Protocol = Literal["davis", "mose", "appearing", "referring"]
"""DAVIS leaves out the first frame, whose masks are given, and the last; RefVOS takes every frame. MOSE is as
DAVIS, but an object counts from the first of these frames that shows it, on either side, if ground truth ever
does. Objects that may appear late (YouTube-VOS) count after the first frame that shows them."""

REGION_METRICS = ("j", "f", "jf", "j_recall", "j_decay", "f_recall", "f_decay")
LabelMap = NDArray[np.uint8]
"""[H, W] object ids, 0 for none."""
Box = tuple[slice, slice]


@dataclass(frozen=True, kw_only=True, slots=True)
class ObjectPartial:
    """J and F of the objects of one video."""

    video_id: str
    object_ids: tuple[str, ...]
    jaccards: NDArray[np.float64]
    """[N, V]; NaN where an object does not count in a frame."""
    boundaries: NDArray[np.float64]
    """[N, V]; NaN where an object does not count in a frame."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ObjectScores:
    """Means over objects, as fractions."""

    j: SequenceStatistics
    f: SequenceStatistics
    jf: float
    """Mean of the J mean and the F mean."""

    @property
    def by_metric(self) -> dict[str, float]:
        """All of them, by ``REGION_METRICS``."""
        j, f = self.j, self.f
        values = (j.mean, f.mean, self.jf, j.recall, j.decay, f.recall, f.decay)
        return dict(zip(REGION_METRICS, values, strict=True))


@dataclass(frozen=True, kw_only=True, slots=True)
class TracedMap:
    """A map whose boundaries are found, to be compared with any number of others."""

    labels: LabelMap
    boundaries: Mapping[int, Points]
    """By label; labels without boundary are left out."""


def trace_map(labels: LabelMap) -> TracedMap:
    """Find the boundaries of all labels of a map."""
    return TracedMap(labels=labels, boundaries=trace(labels))


def compare_labels(
    ours: TracedMap, theirs: TracedMap, ids: Sequence[int], radius: int | None = None
) -> NDArray[np.float64]:
    """Give J and F, [2, N], of the objects ``ids`` in one frame, from the predicted and the true map.

    ``radius`` is that of the whole image, where the maps are cut out of it.
    """
    at = np.asarray(ids, np.intp)
    counts = count_overlaps(ours.labels, theirs.labels, max(ids, default=0) + 1)
    radius = matching_radius(theirs.labels.shape) if radius is None else radius
    contours = [boundary_f(ours.boundaries.get(i), theirs.boundaries.get(i), radius) for i in ids]
    return np.stack([jaccards(counts, at, at), np.asarray(contours, np.float64)])


def compare_label_pairs(
    ours: TracedMap, theirs: TracedMap, num_ours: int, num_theirs: int
) -> NDArray[np.float64]:
    """Give J and F, [2, P, N], of every predicted object 1..P with every true object 1..N in one frame."""
    columns, rows = range(1, num_ours + 1), range(1, num_theirs + 1)
    counts = count_overlaps(ours.labels, theirs.labels, max(num_ours, num_theirs) + 1)
    radius = matching_radius(theirs.labels.shape)
    contours = [
        boundary_f(ours.boundaries.get(i), theirs.boundaries.get(k), radius) for i in columns for k in rows
    ]
    ious = jaccards(counts, np.asarray(rows, np.intp), np.asarray(columns, np.intp)[:, None])
    return np.stack([ious, np.reshape(np.asarray(contours, np.float64), ious.shape)])


def evaluate_label_maps(
    video_id: str, frames: Iterable[tuple[LabelMap, LabelMap, Collection[int]]]
) -> ObjectPartial:
    """Score a stream of frames, one in memory at a time: predicted map, true map, objects that count."""
    columns = [
        dict(zip(ids, compare_labels(trace_map(ours), trace_map(theirs), tuple(ids)).T, strict=True))
        for ours, theirs, ids in frames
    ]
    ids = sorted({i for column in columns for i in column})
    absent = np.full(2, np.nan)
    scores = np.asarray([[column.get(i, absent) for column in columns] for i in ids])
    scores = scores.reshape(len(ids), len(columns), 2)
    return ObjectPartial(
        video_id=video_id,
        object_ids=tuple(map(str, ids)),
        jaccards=scores[..., 0],
        boundaries=scores[..., 1],
    )


def evaluate_objects(prediction: ObjectVideo, truth: ObjectVideo, protocol: Protocol) -> ObjectPartial:
    """Score one video's objects frame by frame; an object that is not predicted counts as empty.

    Frames are paired by name, and the truth's frames decide. Masks may overlap.

    Raises:
        ValueError: the prediction lacks a frame, is of another size, or has an object the truth lacks.
    """
    frames = truth.frame_names[1:-1] if protocol in ("davis", "mose") else truth.frame_names
    if not frames:
        raise ValueError(
            f"video {truth.video_id!r}: {len(truth.frame_names)} frames leave none to judge by {protocol!r}"
        )
    check_objects(prediction, truth, frames)
    scores = np.asarray(
        [
            _evaluate_object(_mask_pairs(prediction, truth, name, frames), protocol)
            for name in truth.object_ids
        ]
    ).reshape(len(truth.object_ids), len(frames), 2)
    judged = np.flatnonzero(~np.isnan(scores).all(axis=(1, 2)))
    return ObjectPartial(
        video_id=truth.video_id,
        object_ids=tuple(truth.object_ids[n] for n in judged),
        jaccards=scores[judged, :, 0],
        boundaries=scores[judged, :, 1],
    )


def score_objects(partials: Sequence[ObjectPartial], *, is_decay_mended: bool = False) -> ObjectScores:
    """Merge partials of distinct objects into means over objects; their order does not matter.

    Decay is the official script's, NaN or wrong from 256 frames on, unless it is to be mended.
    """
    j, f = (
        _mean_statistics([summarize(row, is_decay_mended=is_decay_mended) for rows in parts for row in rows])
        for parts in ([part.jaccards for part in partials], [part.boundaries for part in partials])
    )
    return ObjectScores(j=j, f=f, jf=(j.mean + f.mean) / 2)


def object_means(partial: ObjectPartial) -> Iterator[tuple[str, float, float]]:
    """Give the means of J and F of every object over the frames in which it counts."""
    for object_id, j, f in zip(partial.object_ids, partial.jaccards, partial.boundaries, strict=True):
        yield object_id, mean_of(j[~np.isnan(j)]), mean_of(f[~np.isnan(f)])


def _mask_pairs(
    prediction: ObjectVideo, truth: ObjectVideo, object_id: str, frames: Sequence[str]
) -> list[tuple[NDArray[np.bool_], NDArray[np.bool_]]]:
    """Pair the predicted and true masks of one object in some frames."""
    theirs = truth.masks[truth.object_ids.index(object_id)]
    at = [(prediction.frame_names.index(name), truth.frame_names.index(name)) for name in frames]
    if object_id not in prediction.object_ids:
        return [(np.zeros_like(theirs[s]), theirs[s]) for _, s in at]
    ours = prediction.masks[prediction.object_ids.index(object_id)]
    return [(ours[t], theirs[s]) for t, s in at]


def _evaluate_object(
    pairs: Sequence[tuple[NDArray[np.bool_], NDArray[np.bool_]]], protocol: Protocol
) -> NDArray[np.float64]:
    """Give J and F of one object, [V, 2]; NaN where it does not count."""
    scores = np.asarray([_compare_masks(*pair) for pair in pairs])
    shown = np.asarray([[mask.any() for mask in pair] for pair in pairs])
    scores[~_is_counted(shown, protocol)] = np.nan
    return scores


def _is_counted(shown: NDArray[np.bool_], protocol: Protocol) -> NDArray[np.bool_]:
    """Say in which frames an object counts that prediction and truth show as [V, 2] says."""
    if protocol == "mose":
        return np.logical_or.accumulate(shown.any(axis=1)) & shown[:, 1].any()
    if protocol == "appearing":
        seen = np.logical_or.accumulate(shown[:, 1])
        return np.concatenate((np.zeros(1, bool), seen[:-1]))
    return np.ones(len(shown), bool)


def _compare_masks(ours: NDArray[np.bool_], theirs: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Give J and F of two [H, W] masks; only the box around both is looked at."""
    box = _box_around(ours | theirs)
    if box is None:
        return np.ones(2)
    radius = matching_radius(theirs.shape)
    a, b = (trace_map(np.ascontiguousarray(mask[box]).view(np.uint8)) for mask in (ours, theirs))
    return compare_labels(a, b, (1,), radius)[:, 0]


def _box_around(mask: NDArray[np.bool_]) -> Box | None:
    """Give the box of a mask plus one pixel, which keeps the rule of the last row and column intact."""
    left, top, width, height = cv2.boundingRect(mask.view(np.uint8))
    if not width:
        return None
    return slice(max(top - 1, 0), top + height + 1), slice(max(left - 1, 0), left + width + 1)


def _mean_statistics(rows: Sequence[SequenceStatistics]) -> SequenceStatistics:
    return SequenceStatistics(
        mean=mean_of(row.mean for row in rows),
        recall=mean_of(row.recall for row in rows),
        decay=mean_of(row.decay for row in rows),
    )


def check_objects(prediction: ObjectVideo, truth: ObjectVideo, frames: Sequence[str]) -> None:
    """Refuse a prediction that lacks one of ``frames``, is of another size or has an object the truth lacks.

    Raises:
        ValueError: so it is.
    """
    missing = sorted(set(frames) - set(prediction.frame_names))
    if missing:
        raise ValueError(
            f"video {truth.video_id!r}: prediction lacks {len(missing)} of {len(frames)} frames, "
            f"first {missing[0]!r}: predict every evaluated frame"
        )
    if prediction.masks.shape[2:] != truth.masks.shape[2:]:
        raise ValueError(
            f"video {truth.video_id!r}: prediction masks are {prediction.masks.shape[2:]}, "
            f"expected {truth.masks.shape[2:]}: predict at the original size"
        )
    unknown = sorted(set(prediction.object_ids) - set(truth.object_ids))
    if unknown:
        raise ValueError(
            f"video {truth.video_id!r}: predicted objects {unknown[:5]} are not evaluated, "
            f"expected some of {list(truth.object_ids)[:5]}: predict only given objects"
        )
