"""Scores J, F and J&F of given objects (VOS) and of expressions (RefVOS).

Legend: N objects or expressions, T frames, V evaluated frames, H, W size.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from univs.evaluation.boundary import boundary_f
from univs.evaluation.jaccard import SequenceStatistics, jaccard, summarize
from univs.predictions import ObjectVideo

Protocol = Literal["davis", "referring"]
"""DAVIS leaves out the first frame, whose masks are given, and the last; RefVOS takes every frame."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ObjectPartial:
    """J and F of the objects of one video."""

    video_id: str
    object_ids: tuple[str, ...]
    jaccards: NDArray[np.float64]
    """[N, V]."""
    boundaries: NDArray[np.float64]
    """[N, V]."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ObjectScores:
    """Means over objects, as fractions."""

    j: SequenceStatistics
    f: SequenceStatistics
    jf: float
    """Mean of the J mean and the F mean."""


def evaluate_objects(prediction: ObjectVideo, truth: ObjectVideo, protocol: Protocol) -> ObjectPartial:
    """Score one video's objects frame by frame; an object that is not predicted counts as empty.

    Frames are paired by name, and the truth's frames decide.

    Raises:
        ValueError: the prediction lacks a frame, is of another size, or has an object the truth lacks.
    """
    frames = truth.frame_names[1:-1] if protocol == "davis" else truth.frame_names
    if not frames:
        raise ValueError(
            f"video {truth.video_id!r}: {len(truth.frame_names)} frames leave none to judge by {protocol!r}"
        )
    _check(prediction, truth, frames)
    ours = [prediction.frame_names.index(name) for name in frames]
    theirs = [truth.frame_names.index(name) for name in frames]
    scores = np.zeros((2, len(truth.object_ids), len(frames)))
    empty = np.zeros(truth.masks.shape[2:], bool)
    for n, object_id in enumerate(truth.object_ids):
        found = prediction.object_ids.index(object_id) if object_id in prediction.object_ids else None
        for v, (t, s) in enumerate(zip(ours, theirs, strict=True)):
            mask = empty if found is None else prediction.masks[found, t]
            scores[:, n, v] = jaccard(mask, truth.masks[n, s]), boundary_f(mask, truth.masks[n, s])
    return ObjectPartial(
        video_id=truth.video_id, object_ids=truth.object_ids, jaccards=scores[0], boundaries=scores[1]
    )


def score_objects(partials: Sequence[ObjectPartial]) -> ObjectScores:
    """Merge partials of distinct objects into means over objects; their order does not matter."""
    j = _mean_statistics([summarize(row) for part in partials for row in part.jaccards])
    f = _mean_statistics([summarize(row) for part in partials for row in part.boundaries])
    return ObjectScores(j=j, f=f, jf=(j.mean + f.mean) / 2)


def _mean_statistics(rows: Sequence[SequenceStatistics]) -> SequenceStatistics:
    if not rows:
        return SequenceStatistics(mean=math.nan, recall=math.nan, decay=math.nan)
    return SequenceStatistics(
        mean=math.fsum(row.mean for row in rows) / len(rows),
        recall=math.fsum(row.recall for row in rows) / len(rows),
        decay=math.fsum(row.decay for row in rows) / len(rows),
    )


def _check(prediction: ObjectVideo, truth: ObjectVideo, frames: Sequence[str]) -> None:
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
