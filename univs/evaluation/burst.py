"""Judge sequences of BURST: HOTA and track mAP, class by class, with truth that is not exhaustive.

Legend: N tracks, T frames that are annotated, G and D true and predicted masks of a frame, A thresholds.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask
from scipy.optimize import linear_sum_assignment

from univs.evaluation.hota import FIELDS, HotaFrame, HotaSums, evaluate_hota, merge_hota, score_hota
from univs.evaluation.precision import Matches, mean_of_known
from univs.evaluation.track_map import STRATA, TrackSizes, match_tracks, track_curves
from univs.evaluation.track_masks import TrackMasks, track_ious

_EPSILON = float(np.finfo(np.float64).eps)
_SAME = 0.5
"""Similarity from which a mask is known to be an object, where others are not judged."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BurstTracks:
    """The tracks of one sequence, in the order in which they first appear."""

    ids: NDArray[np.int64]
    """[N]."""
    labels: NDArray[np.int64]
    """[N] class of a track's first mask."""
    scores: NDArray[np.float64]
    """[N] mean over its masks."""
    lengths: NDArray[np.float64]
    """[N] frames that list a track."""
    frames: tuple[NDArray[np.intp], ...]
    """[T] tracks that a frame lists, in its order."""
    frame_labels: tuple[NDArray[np.int64], ...]
    """[T] their classes there."""
    masks: TrackMasks


@dataclass(frozen=True, kw_only=True, slots=True)
class BurstSequence:
    """One sequence with both sides and what is known about its classes."""

    name: str
    truth: BurstTracks
    prediction: BurstTracks
    absent: frozenset[int]
    """Classes that are known not to be there."""
    unsure: frozenset[int]
    """Classes of which not every object is labelled."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BurstRules:
    """What tasks and mended quirks do differently."""

    judges_all: bool
    """Exemplars give the classes: every predicted mask is judged."""
    by_masks: bool = False
    """HOTA compares masks rather than their bounding boxes."""
    zero_is_free: bool = False
    """A predicted track of id 0 leaves what it matches to the next one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassPartial:
    """What one class of a sequence adds."""

    hota: HotaSums
    tracks: Matches | None
    """``None`` where there are no tracks to match."""

    @property
    def num_truths(self) -> int:
        """True masks."""
        return int(self.hota.right[0] + self.hota.missed[0])


@dataclass(frozen=True, kw_only=True, slots=True)
class BurstPartial:
    """What one sequence adds."""

    name: str
    classes: Mapping[int, ClassPartial]


@dataclass(frozen=True, kw_only=True, slots=True)
class BurstScores:
    """Fractions by metric; NaN where there is nothing to find."""

    values: Mapping[str, float]
    classes: Mapping[int, Mapping[str, float]]


_TRACK_METRICS = ("map", "ar", *(f"{kind}_{name}" for name in STRATA[1:] for kind in ("ap", "ar")))
METRICS = (*FIELDS, *(f"{field}_det" for field in FIELDS), *_TRACK_METRICS)
"""HOTA averaged over classes, then over all their detections, then precision and recall of tracks."""


def evaluate_sequence(sequence: BurstSequence, rules: BurstRules) -> BurstPartial:
    """Match one sequence, class by class."""
    truth, prediction = sequence.truth, sequence.prediction
    similarity = _frame_similarities(truth, prediction, by_masks=rules.by_masks)
    ious = track_ious(prediction.masks, truth.masks, (prediction.labels, truth.labels))
    labels = np.unique(np.concatenate((truth.labels, prediction.labels, *prediction.frame_labels))).tolist()
    return BurstPartial(
        name=sequence.name,
        classes={
            label: ClassPartial(
                hota=_class_hota(sequence, label, similarity, rules),
                tracks=_class_tracks(sequence, label, ious, rules),
            )
            for label in labels
        },
    )


def score_sequences(partials: Sequence[BurstPartial], labels: Sequence[int]) -> BurstScores:
    """Merge sequences over the classes that are judged; the order of partials does not matter."""
    # Equal scores of tracks rank by the names under which TrackEval files the sequences.
    ranked = sorted(partials, key=lambda part: part.name.replace("/", "-"))
    rows = {k: [part.classes[k] for part in ranked if k in part.classes] for k in labels}
    sums = {k: merge_hota([row.hota for row in own]) for k, own in rows.items()}
    classes = {k: {name: float(value.mean()) for name, value in score_hota(sums[k]).items()} for k in labels}
    pooled = score_hota(merge_hota(list(sums.values())))
    tracks = {k: _track_scores([row.tracks for row in own if row.tracks]) for k, own in rows.items()}
    values = {
        **{name: float(np.mean([row[name] for row in classes.values()])) for name in FIELDS},
        **{f"{name}_det": float(value.mean()) for name, value in pooled.items()},
        **{
            name: mean_of_known(np.asarray([row[name] for row in tracks.values()])) for name in _TRACK_METRICS
        },
    }
    return BurstScores(values=values, classes={k: {**classes[k], **tracks[k]} for k in labels})


def _class_hota(
    sequence: BurstSequence, label: int, similarity: Sequence[NDArray[np.float64]], rules: BurstRules
) -> HotaSums:
    frames = list(_class_frames(sequence, label, similarity, rules))
    truths, true_places = np.unique(
        np.concatenate([np.zeros(0, np.intp), *(frame.truths for frame in frames)]), return_inverse=True
    )
    detections, places = np.unique(
        np.concatenate([np.zeros(0, np.intp), *(frame.detections for frame in frames)]), return_inverse=True
    )
    true_ends = np.cumsum([frame.truths.size for frame in frames])[:-1]
    ends = np.cumsum([frame.detections.size for frame in frames])[:-1]
    packed = [
        HotaFrame(truths=g, detections=d, similarity=frame.similarity)
        for frame, g, d in zip(
            frames, np.split(true_places, true_ends), np.split(places, ends), strict=bool(frames)
        )
    ]
    return evaluate_hota(packed, truths.size, detections.size)


def _class_frames(
    sequence: BurstSequence, label: int, similarity: Sequence[NDArray[np.float64]], rules: BurstRules
) -> Iterator[HotaFrame]:
    """Give one class's masks in frames that hold any true object, without those that are not judged."""
    truth, prediction = sequence.truth, sequence.prediction
    places = zip(similarity, _places(truth, label), _places(prediction, label), strict=True)
    for t, (shared, g, d) in enumerate(places):
        if not truth.frames[t].size or not (g.size or d.size):
            continue
        similarity_here = shared[g[:, None], d]
        if not rules.judges_all:
            is_judged = _are_judged(similarity_here, sequence, label)
            d, similarity_here = d[is_judged], similarity_here[:, is_judged]
        yield HotaFrame(
            truths=truth.frames[t][g], detections=prediction.frames[t][d], similarity=similarity_here
        )


def _places(tracks: BurstTracks, label: int) -> list[NDArray[np.intp]]:
    """Give where each frame lists masks of a class."""
    sizes = [frame.size for frame in tracks.frames]
    starts = np.cumsum([0, *sizes])
    at = np.flatnonzero(np.concatenate(tracks.frame_labels) == label)
    bounds = np.searchsorted(at, starts).tolist()
    return [at[bounds[t] : bounds[t + 1]] - starts[t] for t in range(len(sizes))]


def _are_judged(shared: NDArray[np.float64], sequence: BurstSequence, label: int) -> NDArray[np.bool_]:
    """Tell which predicted masks of a class and frame are right or wrong, rather than neither, [D]."""
    num_truths, num_found = shared.shape
    if num_truths == 0 and label not in sequence.absent:
        return np.zeros(num_found, bool)
    judged = np.ones(num_found, bool)
    if label in sequence.unsure:
        near = np.where(shared < _SAME - _EPSILON, 0.0, shared)
        g, d = linear_sum_assignment(-near)
        judged[:] = False
        judged[d] = near[g, d] > _EPSILON
    return judged


def _class_tracks(
    sequence: BurstSequence, label: int, ious: NDArray[np.float64], rules: BurstRules
) -> Matches | None:
    truth, prediction = sequence.truth, sequence.prediction
    g, d = np.flatnonzero(truth.labels == label), np.flatnonzero(prediction.labels == label)
    if not g.size and label not in sequence.absent:
        return None
    d = d[np.argsort(-prediction.scores[d], kind="stable")]
    return match_tracks(
        label,
        ious[d[:, None], g],
        prediction.scores[d],
        _sizes(prediction, d),
        _sizes(truth, g),
        is_exhaustive=label not in sequence.unsure,
        leaves_free=(prediction.ids[d] == 0) & rules.zero_is_free,
    )


def _sizes(tracks: BurstTracks, among: NDArray[np.intp]) -> TrackSizes:
    lengths = tracks.lengths[among]
    return TrackSizes(
        areas=tracks.masks.areas[tracks.masks.rows[among]].sum(axis=1) / lengths, lengths=lengths
    )


def _track_scores(rows: Sequence[Matches]) -> dict[str, float]:
    if not rows:
        return dict.fromkeys(_TRACK_METRICS, float("nan"))
    curves = track_curves(rows)
    values = [
        mean_of_known(cells) for pair in zip(curves.precision, curves.recall, strict=True) for cells in pair
    ]
    return dict(zip(_TRACK_METRICS, values, strict=True))


def _frame_similarities(
    truth: BurstTracks, prediction: BurstTracks, *, by_masks: bool
) -> list[NDArray[np.float64]]:
    """Compare the masks of each frame, [T] times [G, D]."""
    sides = (
        (_masks_of(truth), _masks_of(prediction)) if by_masks else (_boxes_of(truth), _boxes_of(prediction))
    )
    shapes = [(g.size, d.size) for g, d in zip(truth.frames, prediction.frames, strict=True)]
    return [
        np.asarray(coco_mask.iou(g, d, [0] * shape[1])) if all(shape) else np.zeros(shape)
        for shape, g, d in zip(shapes, *sides, strict=True)
    ]


def _masks_of(tracks: BurstTracks) -> Sequence[Sequence[Any]]:
    """Give the masks of each frame as pycocotools takes them."""
    return [
        [tracks.masks.objects[row][t] for row in tracks.masks.rows[frame].tolist()]
        for t, frame in enumerate(tracks.frames)
    ]


def _boxes_of(tracks: BurstTracks) -> Sequence[Any]:
    """Give the bounding boxes of each frame's masks: x, y, width and height."""
    masks = [mask for frame in _masks_of(tracks) for mask in frame]
    boxes = np.asarray(coco_mask.toBbox(masks)) if masks else np.zeros((0, 4))
    return np.split(boxes, np.cumsum([frame.size for frame in tracks.frames])[:-1])
