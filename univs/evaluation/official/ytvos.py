"""YouTube-VOS 2018 and 2019: J and F of seen and unseen categories, and their mean G.

The server's script is not public; this is the published definition, with DAVIS' J and F. Ground truth:
``Annotations_all/<video>/<frame>.png`` of every judged frame (the server's own), ``valid/meta.json``
(category and frames of every object), ``valid/Annotations/<video>/<frame>.png`` (the first mask of every
object) and which categories were seen in training: ``category_split.json`` ({"seen", "unseen"}), or else
those of ``train/meta.json``. Predictions: ``[Annotations/]<video>/<frame>.png``. Stored values are object
ids, with gaps.

An object counts in every frame after the one in which it is given, also where it is gone.
"""

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from univs.evaluation.jaccard import mean_of
from univs.evaluation.objects import LabelMap, ObjectPartial, evaluate_label_maps, object_means
from univs.evaluation.official.case import OfficialBenchmark, ScoreOptions, Scores, in_percent
from univs.evaluation.official.files import field_of, read_indexed, read_json, settle_missing
from univs.evaluation.official.label_trees import (
    LabelCase,
    LabelVideo,
    list_stems,
    open_video,
    prediction_root,
    unpredicted,
)

_METRICS = ("g", "j_seen", "j_unseen", "f_seen", "f_unseen")
_LISTED = "listed-frames"
_GIVEN = "given-frame"


@dataclass(frozen=True, kw_only=True, slots=True)
class _Object:
    category: str
    frames: frozenset[str]
    """Those that the list of objects names."""
    first: str
    """The frame in which it is given."""


def _open(gt: Path, pred: Path, options: ScoreOptions) -> LabelCase[ObjectPartial]:
    objects, ours = _read_objects(gt), prediction_root(pred)
    videos = tuple(
        open_video(name, gt / "Annotations_all" / name, ours / name, pictures=gt / "valid/JPEGImages" / name)
        for name in sorted(objects)
    )
    counted = [_count(video, objects[video.name], options.mends) for video in videos]
    return LabelCase(
        videos=videos,
        missing=settle_missing(ours, unpredicted(videos), options.missing),
        judge=lambda index: _judge(videos[index], counted[index]),
        summarize=partial(_score, is_seen=_seen_objects(gt, objects)),
    )


def _judge(video: LabelVideo, counted: Mapping[str, Collection[int]]) -> ObjectPartial:
    def frames() -> Iterator[tuple[LabelMap, LabelMap, Collection[int]]]:
        for stem, (ours, theirs) in zip(video.stems, video.read(), strict=True):
            yield ours, theirs, counted[stem]

    return evaluate_label_maps(video.name, frames())


def _count(video: LabelVideo, objects: Mapping[int, _Object], mends: Sequence[str]) -> dict[str, list[int]]:
    """List the objects that count, by frame."""
    return {
        stem: [
            number
            for number, one in objects.items()
            if (stem > one.first or (_GIVEN in mends and stem == one.first))
            and (_LISTED not in mends or stem in one.frames)
        ]
        for stem in video.stems
    }


def _score(partials: Sequence[ObjectPartial], *, is_seen: Mapping[tuple[str, str], bool]) -> Scores:
    return Scores(
        values=_values(_parts(partials, is_seen)),
        items={part.video_id: _values_of_video(_parts([part], is_seen)) for part in partials},
    )


def _parts(partials: Sequence[ObjectPartial], is_seen: Mapping[tuple[str, str], bool]) -> list[float]:
    """Give J of seen and unseen objects, then F."""
    rows = [
        (is_seen[part.video_id, object_id], means)
        for part in partials
        for object_id, *means in object_means(part)
    ]
    return [mean_of(row[1][k] for row in rows if row[0] is kind) for k in (0, 1) for kind in (True, False)]


def _values(parts: Sequence[float]) -> dict[str, float]:
    return in_percent(dict(zip(_METRICS, (mean_of(parts), *parts), strict=True)))


def _values_of_video(parts: Sequence[float]) -> dict[str, float]:
    """Give a video that lacks seen or unseen objects a G of those it has."""
    return _values(parts) | {"g": 100 * mean_of(part for part in parts if not math.isnan(part))}


def _seen_objects(gt: Path, objects: Mapping[str, Mapping[int, _Object]]) -> dict[tuple[str, str], bool]:
    """Say of each object of each video whether its category was seen in training."""
    seen = _read_seen(gt, {one.category for own in objects.values() for one in own.values()})
    return {
        (name, str(number)): one.category in seen
        for name, own in objects.items()
        for number, one in own.items()
    }


def _read_seen(gt: Path, categories: Collection[str]) -> frozenset[str]:
    split, train = gt / "category_split.json", gt / "train/meta.json"
    if not split.exists():
        videos = field_of(read_json(train), "videos", dict, str(train))
        return frozenset(one["category"] for body in videos.values() for one in body["objects"].values())
    body = read_json(split)
    seen, unseen = (frozenset(field_of(body, kind, list, str(split))) for kind in ("seen", "unseen"))
    neither = sorted(set(categories) - seen - unseen)
    if neither:
        raise ValueError(
            f"{split}: category {neither[0]!r} is missing, expected under 'seen' or 'unseen'; add it"
        )
    return seen


def _read_objects(gt: Path) -> dict[str, dict[int, _Object]]:
    path = gt / "valid/meta.json"
    videos = field_of(read_json(path), "videos", dict, str(path))
    return {name: _read_video(gt, name, body, f"{path}: video {name!r}") for name, body in videos.items()}


def _read_video(gt: Path, name: str, body: Mapping[str, object], where: str) -> dict[int, _Object]:
    firsts = _read_firsts(gt / "valid/Annotations" / name)
    found = {}
    for number, row in field_of(body, "objects", dict, where).items():
        if not number.isdecimal() or int(number) not in firsts:
            raise ValueError(
                f"{where}: object {number!r} is in no PNG of {gt / 'valid/Annotations' / name}, expected the "
                "mask in its first frame; unpack the annotations whole"
            )
        found[int(number)] = _Object(
            category=field_of(row, "category", str, f"{where}, object {number}"),
            frames=frozenset(field_of(row, "frames", list, f"{where}, object {number}")),
            first=firsts[int(number)],
        )
    return found


def _read_firsts(folder: Path) -> dict[int, str]:
    firsts: dict[int, str] = {}
    for stem in list_stems(folder):
        for number in np.unique(read_indexed(folder / f"{stem}.png")).tolist():
            firsts.setdefault(number, stem)
    return firsts


def _benchmark(year: int) -> OfficialBenchmark:
    return OfficialBenchmark(
        name=f"ytvos_{year}",
        title=f"YouTube-VOS {year}, semi-supervised video object segmentation",
        metrics=_METRICS,
        primary="g",
        gt_layout=(
            "Annotations_all/<video>/<frame>.png, valid/meta.json, valid/Annotations/<video>/<frame>.png "
            "and category_split.json or train/meta.json"
        ),
        pred_layout="[Annotations/]<video>/<frame>.png",
        marks=("Annotations_all", "valid/meta.json", "category_split.json|train/meta.json"),
        open=_open,
        mends={
            _LISTED: "judge an object only in frames that meta.json lists for it",
            _GIVEN: "judge an object also in the frame in which it is given",
        },
    )


YTVOS_2018 = _benchmark(2018)
YTVOS_2019 = _benchmark(2019)
