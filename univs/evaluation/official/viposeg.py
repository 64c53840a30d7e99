"""VIPOSeg: mask and boundary IoU of things and stuff that are followed, of seen and unseen classes.

Ground truth: ``[valid/]Annotations/<video>/<frame>.png`` (only frames in which objects first appear),
``[valid/]Annotations_gt/<video>/<frame>.png`` (all) and ``[valid/]obj_class.json`` ({video: {object: class}},
VIPSeg's classes from 0). Predictions: ``[Annotations/]<video>/<frame>.png``. Stored values are object ids.

An object is judged in all frames after the one in which ``Annotations`` shows it; one that a second frame of
``Annotations`` shows again is counted twice from there on.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from univs.evaluation.followed import (
    METRICS,
    RATES,
    SUBSETS,
    FollowedPartial,
    evaluate_followed,
    score_classes,
    score_followed,
)
from univs.evaluation.jaccard import mean_of
from univs.evaluation.objects import LabelMap
from univs.evaluation.official.case import OfficialBenchmark, ScoreOptions, Scores, in_percent
from univs.evaluation.official.files import list_folders, read_indexed, read_json, settle_missing
from univs.evaluation.official.label_trees import (
    LabelCase,
    LabelVideo,
    list_stems,
    open_video,
    prediction_root,
    unpredicted,
)
from univs.label_spaces import builtin_spaces

_ONCE = "repeated-objects"
_CLASSES = "obj_class.json"


def _open(gt: Path, pred: Path, options: ScoreOptions) -> LabelCase[FollowedPartial]:
    root, ours = gt / "valid" if (gt / "valid").is_dir() else gt, prediction_root(pred)
    classes = read_json(root / _CLASSES)
    videos = tuple(
        open_video(name, root / "Annotations_gt" / name, ours / name, pictures=root / "JPEGImages" / name)
        for name in list_folders(root / "Annotations_gt")
    )
    class_of = [_classes_of(root / _CLASSES, classes, video.name) for video in videos]
    return LabelCase(
        videos=videos,
        missing=settle_missing(ours, unpredicted(videos), options.missing),
        judge=lambda index: _judge(videos[index], root, class_of[index], _ONCE in options.mends),
        summarize=_score,
    )


def _judge(
    video: LabelVideo, root: Path, class_of: Mapping[int, int], is_counted_once: bool
) -> FollowedPartial:
    folder = root / "Annotations" / video.name
    given = {stem: np.unique(read_indexed(folder / f"{stem}.png")).tolist() for stem in list_stems(folder)}
    if not set(given) & set(video.stems):
        raise ValueError(
            f"{folder}: no PNG of a frame of the ground truth, expected first masks; unpack it whole"
        )
    unknown = sorted({i for ids in given.values() for i in ids if i} - class_of.keys())
    if unknown:
        raise ValueError(
            f"{root / _CLASSES}: no class of object {unknown[0]} of video {video.name!r}, which "
            f"{folder} shows; expected one for every object"
        )

    def frames() -> Iterator[tuple[LabelMap, LabelMap, Sequence[int]]]:
        followed: list[int] = []
        for stem, (ours, theirs) in zip(video.stems, video.read(), strict=True):
            yield ours, theirs, tuple(followed)
            shown = [i for i in given.get(stem, ()) if i]
            followed += [i for i in shown if not (is_counted_once and i in followed)]

    return evaluate_followed(video.name, frames(), class_of)


def _classes_of(path: Path, classes: Mapping[str, Any], name: str) -> dict[int, int]:
    rows = classes.get(name) if isinstance(classes, dict) else None
    if not isinstance(rows, dict):
        raise ValueError(
            f"{path}: no video {name!r}, expected {{video: {{object: class}}}}; take it from the archive"
        )
    try:
        return {int(number): int(class_id) for number, class_id in rows.items()}
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: video {name!r}: {error}, expected whole numbers") from error


def _score(partials: Sequence[FollowedPartial]) -> Scores:
    space = builtin_spaces()["vipseg"].labels
    names = {category.category_id: category.name for category in space.categories}
    return Scores(
        values=in_percent(score_followed(partials), RATES),
        items={part.video_id: _of_video(part) for part in partials},
        classes={
            names.get(class_id, str(class_id)): in_percent(values, RATES)
            for class_id, values in score_classes(partials).items()
        },
    )


def _of_video(part: FollowedPartial) -> dict[str, float]:
    """Score a video alone; where it lacks a subset, its G is of the others."""
    values = score_followed([part])
    own = [values[subset] for subset in SUBSETS]
    return in_percent(values | {"g": mean_of(value for value in own if value == value)}, RATES)


VIPOSEG = OfficialBenchmark(
    name="viposeg",
    title="VIPOSeg, panoptic video object segmentation",
    metrics=METRICS,
    primary="g",
    gt_layout=(
        "[valid/]Annotations_gt/<video>/<frame>.png, [valid/]Annotations/<video>/<frame>.png and "
        f"[valid/]{_CLASSES}"
    ),
    pred_layout="[Annotations/]<video>/<frame>.png",
    marks=("valid/Annotations_gt|Annotations_gt", f"valid/{_CLASSES}|{_CLASSES}"),
    open=_open,
    mends={
        _ONCE: "count an object once that several frames of Annotations show; the official script repeats it"
    },
    rates=RATES,
)
