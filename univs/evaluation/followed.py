"""VIPOSeg's scores of objects that are followed: things and stuff, of seen and unseen classes, and the decay.

Legend: R rows, one per object and judged frame.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from univs.evaluation.boundary_iou import compare_bands
from univs.evaluation.jaccard import mean_of
from univs.evaluation.objects import check_objects
from univs.label_spaces import builtin_spaces
from univs.labels import LabelSpace
from univs.predictions import ObjectVideo

SUBSETS = ("thing_seen", "thing_unseen", "stuff_seen", "stuff_unseen")
MEASURES = ("miou", "biou")
METRICS = ("g", *SUBSETS, *(f"{subset}_{measure}" for measure in MEASURES for subset in SUBSETS), "decay")
RATES = frozenset(("decay",))
"""What is no share of one."""

_UNSEEN = (
    *(5, 6, 9, 17, 20, 25, 26, 34, 38, 46, 47, 55, 57, 58, 61, 64, 71, 72, 81, 86, 94, 95, 96, 97, 99, 100),
    *(101, 102, 109, 112, 113, 116, 118, 120),
)
"""Classes that training never shows."""
_OTHER_MACHINE = 98
"""A class that counts as unseen in the videos that show a kind of machine which training never shows."""
_UNSEEN_MACHINES = (
    *("187_WUZUSD4477I", "319_l1Dz12fxQzQ", "320_nhKXemkIvh4", "517_AWvYuplla_s", "532_QmZyJuLlEec"),
    *("774_devdFjIpDcc", "1016_HG0AsTOxI5g", "1017_IAU0WGB9VPw", "1020_TgCIv6bp3XM", "1021_cPOxAMo28yk"),
    *("1022_emSaDd2ddj0", "1033_sh81AwYuihg", "1065_d2sHRyAHKqI", "1067_fk3jhxBi1pA", "1068_gxnZkf0LQfk"),
    *("1069_jFHRbZxswz8", "1070_uTJB31tuYes", "1072_zvNEdUk5k0Q", "1230_AGY-gQ_3O8Y", "1333__iprMPKLdOQ"),
    *("1334_qlmfvYA3_rk", "2004_1btxeVbyojs", "2005_83KrhWajwfw"),
)
_MOST_OBJECTS = 60
"""Frames with as many objects, or more, are left out of the decay."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FollowedPartial:
    """The judged objects of one video."""

    video_id: str
    frame_indices: NDArray[np.int32]
    """[R]."""
    object_ids: NDArray[np.int32]
    """[R]."""
    class_ids: NDArray[np.int32]
    """[R]."""
    num_followed: NDArray[np.int32]
    """[R], how many objects are followed in the frame."""
    scores: NDArray[np.float64]
    """[2, R], mask IoU and boundary IoU."""


def evaluate_followed(
    video_id: str,
    frames: Iterable[tuple[NDArray[np.uint8], NDArray[np.uint8], Sequence[int]]],
    class_of: Mapping[int, int],
) -> FollowedPartial:
    """Score a stream of frames, one of them in memory at a time: predicted map, true map, objects followed.

    An object that is listed twice counts twice.
    """
    rows: list[tuple[int, int, int, int]] = []
    scores = [np.zeros((2, 0))]
    for t, (ours, theirs, ids) in enumerate(frames):
        rows.extend((t, i, class_of[i], len(ids)) for i in ids)
        scores.append(compare_bands(ours, theirs, ids))
    columns = np.asarray(rows, np.int32).reshape(len(rows), 4).T
    return FollowedPartial(
        video_id=video_id,
        frame_indices=columns[0],
        object_ids=columns[1],
        class_ids=columns[2],
        num_followed=columns[3],
        scores=np.concatenate(scores, axis=1),
    )


def evaluate_followed_masks(
    prediction: ObjectVideo, truth: ObjectVideo, labels: LabelSpace
) -> FollowedPartial:
    """Score one video's objects, each in all frames after the first in which the truth shows it.

    Raises:
        ValueError: the prediction lacks a frame or is of another size.
    """
    check_objects(prediction, truth, truth.frame_names)
    ids = [int(object_id) for object_id in truth.object_ids]
    starts = [np.flatnonzero([*mask.any(axis=(1, 2)), True])[0] for mask in truth.masks]

    def frames() -> Iterator[tuple[NDArray[np.uint8], NDArray[np.uint8], Sequence[int]]]:
        for t, name in enumerate(truth.frame_names):
            ours = to_label_map(prediction, prediction.frame_names.index(name))
            followed = tuple(i for i, start in zip(ids, starts, strict=True) if start < t)
            yield ours, to_label_map(truth, t), followed

    categories = [labels.categories[label].category_id for label in truth.labels]
    return evaluate_followed(truth.video_id, frames(), dict(zip(ids, categories, strict=True)))


def to_label_map(video: ObjectVideo, frame_index: int) -> NDArray[np.uint8]:
    """Paint the masks of one frame by object id, [H, W]; where masks overlap, the last is kept."""
    painted = np.zeros(video.masks.shape[2:], np.uint8)
    for object_id, mask in zip(video.object_ids, video.masks[:, frame_index], strict=True):
        painted[mask] = int(object_id)
    return painted


def score_followed(partials: Sequence[FollowedPartial]) -> dict[str, float]:
    """Give ``METRICS`` over all rows, in any order of the partials; NaN where a subset is empty."""
    scores = np.concatenate([part.scores for part in partials], axis=1)
    subsets = np.concatenate([_subsets(part) for part in partials])
    means = {
        f"{subset}_{measure}": mean_of(scores[m, subsets == s])
        for m, measure in enumerate(MEASURES)
        for s, subset in enumerate(SUBSETS)
    }
    own = {subset: mean_of(means[f"{subset}_{measure}"] for measure in MEASURES) for subset in SUBSETS}
    decay = _decay(np.concatenate([part.num_followed for part in partials]), scores.mean(axis=0))
    return {"g": mean_of(own.values()), **own, **means, "decay": decay}


def score_classes(partials: Sequence[FollowedPartial]) -> dict[int, dict[str, float]]:
    """Give mask and boundary IoU of every class that occurs, by class id."""
    scores = np.concatenate([part.scores for part in partials], axis=1)
    classes = np.concatenate([part.class_ids for part in partials])
    return {
        int(class_id): {
            measure: mean_of(scores[m, classes == class_id]) for m, measure in enumerate(MEASURES)
        }
        for class_id in np.unique(classes)
    }


def _decay(num_followed: NDArray[np.int32], ious: NDArray[np.float64]) -> float:
    """Fit exp(-decay n / 100) to the mean scores by number of objects n; infinite where one of them is 0."""
    counts = [n for n in np.unique(num_followed) if n < _MOST_OBJECTS]
    if not counts:
        return float("nan")
    x = np.asarray(counts) / 100
    with np.errstate(divide="ignore"):
        y = -np.log([mean_of(ious[num_followed == n]) for n in counts])
    return float(x @ y / (x @ x))


def _subsets(part: FollowedPartial) -> NDArray[np.intp]:
    """Give the position in ``SUBSETS`` of each row, -1 for a class outside the label space."""
    of_class = {int(c): _subset(int(c), part.video_id) for c in np.unique(part.class_ids)}
    return np.asarray([of_class[int(c)] for c in part.class_ids], np.intp)


def _subset(class_id: int, video_id: str) -> int:
    is_thing = _is_thing().get(class_id)
    if is_thing is None:
        return -1
    is_unseen = video_id in _UNSEEN_MACHINES if class_id == _OTHER_MACHINE else class_id in _UNSEEN
    return (0 if is_thing else 2) + is_unseen


@cache
def _is_thing() -> Mapping[int, bool]:
    space = builtin_spaces()["vipseg"].labels
    return {category.category_id: category.is_thing for category in space.categories}
