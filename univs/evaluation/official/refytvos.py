"""Refer-YouTube-VOS: J and F of every expression, as MeViS' public script averages them.

Ground truth: ``meta_expressions/valid/meta_expressions.json`` (the expressions and frames of each video),
``Annotations/<video>/<frame>.png`` (object ids) and, where the expressions have no ``obj_id``,
``expression_to_object.json`` ({video: {expression: object}}). Predictions:
``[Annotations/]<video>/<expression>/<frame>.png``, the object where the value is not 0. All listed frames are
judged; means are over frames, then over expressions.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from univs.evaluation.benchmarks import BENCHMARKS
from univs.evaluation.objects import LabelMap, ObjectPartial, compare_labels, trace_map
from univs.evaluation.official.case import Comparison, OfficialBenchmark, ScoreOptions, Scores
from univs.evaluation.official.files import field_of, read_indexed, read_json, settle_missing, spread
from univs.evaluation.official.label_trees import (
    LabelVideo,
    open_video,
    prediction_root,
    read_like,
    read_pictures,
    score_videos,
    unpredicted,
)
from univs.predictions import ObjectVideo

_SPEC = BENCHMARKS["refytvos"]
_EXPRESSIONS = "meta_expressions/valid/meta_expressions.json"
_OBJECTS = "expression_to_object.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class _Expression:
    name: str
    object_id: int
    files: LabelVideo


@dataclass(frozen=True, kw_only=True, slots=True)
class _Video:
    name: str
    stems: tuple[str, ...]
    expressions: tuple[_Expression, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class RefYtvosCase:
    """An opened Refer-YouTube-VOS case."""

    gt: Path
    videos: tuple[_Video, ...]
    missing: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the videos."""
        return tuple(video.name for video in self.videos)

    def compare(self, index: int) -> ObjectPartial:
        """Score all expressions of a video; each true map is decoded and traced once."""
        video = self.videos[index]
        scores = np.zeros((2, len(video.expressions), len(video.stems)))
        for t, stem in enumerate(video.stems):
            theirs = trace_map(read_indexed(self.gt / "Annotations" / video.name / f"{stem}.png"))
            for n, one in enumerate(video.expressions):
                ours = trace_map(_read_object(one, t, theirs.labels))
                scores[:, n, t] = compare_labels(ours, theirs, (one.object_id,))[:, 0]
        return ObjectPartial(
            video_id=video.name,
            object_ids=tuple(one.name for one in video.expressions),
            jaccards=scores[0],
            boundaries=scores[1],
        )

    def score(self, partials: Sequence[ObjectPartial]) -> Scores:
        """Merge the videos; their order does not matter."""
        return score_videos(partials, is_decay_mended=False, metrics=_SPEC.metrics)

    def show(self, index: int, num_frames: int) -> Comparison:
        """Read some frames of a video with the masks of all expressions."""
        video = self.videos[index]
        stems = spread(video.stems, num_frames)
        maps = [read_indexed(self.gt / "Annotations" / video.name / f"{stem}.png") for stem in stems]
        at = [video.stems.index(stem) for stem in stems]
        theirs = [[m == one.object_id for m in maps] for one in video.expressions]
        ours = [
            [_read_object(one, t, m) > 0 for t, m in zip(at, maps, strict=True)] for one in video.expressions
        ]
        truth, prediction = (
            ObjectVideo(
                video_id=video.name,
                object_ids=tuple(one.name for one in video.expressions),
                masks=np.asarray(masks).reshape(-1, len(stems), *maps[0].shape),
                frame_names=tuple(stems),
            )
            for masks in (theirs, ours)
        )
        frames = read_pictures(self.gt / "valid/JPEGImages" / video.name, stems, maps[0].shape)
        return Comparison(truth=truth, prediction=prediction, frames=frames, labels=None)


def _read_object(expression: _Expression, frame_index: int, theirs: LabelMap) -> LabelMap:
    """Read the mask of an expression, with the id of the object that it names."""
    files = expression.files
    if not files.is_predicted[frame_index]:
        return np.zeros_like(theirs)
    mask = read_like(files.prediction / f"{files.stems[frame_index]}.png", theirs) > 0
    return mask * np.uint8(expression.object_id)


def _open(gt: Path, pred: Path, options: ScoreOptions) -> RefYtvosCase:
    path, ours = gt / _EXPRESSIONS, prediction_root(pred)
    objects = read_json(gt / _OBJECTS) if (gt / _OBJECTS).exists() else {}
    bodies = field_of(read_json(path), "videos", dict, str(path))
    read = partial(_open_video, gt, ours, objects=objects)
    videos = tuple(read(name, body) for name, body in sorted(bodies.items()))
    missing = [name for video in videos for name in unpredicted([one.files for one in video.expressions])]
    return RefYtvosCase(gt=gt, videos=videos, missing=settle_missing(ours, missing, options.missing))


def _open_video(
    gt: Path, pred: Path, name: str, body: Mapping[str, Any], objects: Mapping[str, Mapping[str, Any]]
) -> _Video:
    where = f"{gt / _EXPRESSIONS}: video {name!r}"
    stems = field_of(body, "frames", list, where)
    expressions = field_of(body, "expressions", dict, where)
    return _Video(
        name=name,
        stems=tuple(stems),
        expressions=tuple(
            _Expression(
                name=expression,
                object_id=_object_of(gt, name, expression, entry, objects),
                files=open_video(
                    f"{name}/{expression}", gt / "Annotations" / name, pred / name / expression, stems
                ),
            )
            for expression, entry in expressions.items()
        ),
    )


def _object_of(
    gt: Path, name: str, expression: str, entry: Mapping[str, Any], objects: Mapping[str, Mapping[str, Any]]
) -> int:
    value = entry.get("obj_id", objects.get(name, {}).get(expression))
    if value is None or not str(value).isdecimal() or not 0 < int(value) < 256:
        raise ValueError(
            f"{gt / _OBJECTS}: expression {expression!r} of video {name!r} names object {value!r}, "
            "expected an id of 1..255"
        )
    return int(value)


REFYTVOS = OfficialBenchmark(
    name="refytvos",
    title="Refer-YouTube-VOS, referring video object segmentation",
    metrics=_SPEC.metrics,
    primary=_SPEC.primary,
    gt_layout=f"{_EXPRESSIONS}, Annotations/<video>/<frame>.png and {_OBJECTS}",
    pred_layout="[Annotations/]<video>/<expression>/<frame>.png",
    marks=("meta_expressions/valid/meta_expressions.json", "Annotations"),
    open=_open,
)
