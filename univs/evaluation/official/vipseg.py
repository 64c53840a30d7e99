"""VIPSeg: video panoptic quality (VPQ) and segmentation and tracking quality (STQ).

Ground truth: ``panoptic_gt_VIPSeg_val.json`` (videos, their frames and segments, categories) and
``panomasksRGB/<video>/<frame>.png``. Predictions, as the official scripts read them: ``pred.json`` and
``pan_pred/<video>/<frame>.png``. Colors are segment ids, R + 256 G + 65536 B; 0 is void.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from univs.evaluation.benchmarks import BENCHMARKS, VideoPanopticPartial, evaluate_segment_pairs, score
from univs.evaluation.histogram import count_segment_pairs_of_frames
from univs.evaluation.official.case import Comparison, OfficialBenchmark, ScoreOptions, Scores
from univs.evaluation.official.files import (
    check_size,
    field_of,
    read_frame,
    read_ids,
    read_json,
    settle_missing,
    spread,
)
from univs.labels import Category, LabelSpace
from univs.predictions import PanopticVideo, Segment

_SPEC = BENCHMARKS["vipseg"]
_INDEX = "panoptic_gt_VIPSeg_val.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class _Video:
    name: str
    stems: tuple[str, ...]
    truth: tuple[Segment, ...]
    prediction: tuple[Segment, ...]
    """Empty, too, where the video is not predicted and scored as such."""
    is_predicted: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class VipsegCase:
    """An opened VIPSeg case."""

    gt: Path
    pred: Path
    labels: LabelSpace
    videos: tuple[_Video, ...]
    missing: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the videos."""
        return tuple(video.name for video in self.videos)

    def compare(self, index: int) -> VideoPanopticPartial:
        """Count how the segments of one video overlap, frame by frame."""
        video = self.videos[index]
        pairs = count_segment_pairs_of_frames(
            video.name, video.prediction, video.truth, self._maps(video, video.stems)
        )
        return evaluate_segment_pairs(pairs, self.labels)

    def score(self, partials: Sequence[VideoPanopticPartial]) -> Scores:
        """Merge the videos; their order does not matter."""
        return Scores(
            values=score(_SPEC, partials, self.labels),
            items={part.video_id: score(_SPEC, [part], self.labels) for part in partials},
            classes={},
        )

    def show(self, index: int, num_frames: int) -> Comparison:
        """Read some frames of a video with both maps."""
        video = self.videos[index]
        stems = spread(video.stems, num_frames)
        predicted, true = (np.stack(maps) for maps in zip(*self._maps(video, stems), strict=True))
        frames = [self.gt / "images" / video.name / f"{stem}.jpg" for stem in stems]
        return Comparison(
            truth=PanopticVideo(video_id=video.name, maps=true, segments=video.truth),
            prediction=PanopticVideo(video_id=video.name, maps=predicted, segments=video.prediction),
            frames=[read_frame(path, true.shape[1:]) for path in frames],
            labels=self.labels,
        )

    def _maps(
        self, video: _Video, stems: Sequence[str]
    ) -> Iterator[tuple[NDArray[np.int32], NDArray[np.int32]]]:
        """Read predicted and true ids of frames, [H, W] each."""
        for stem in stems:
            true = read_ids(self.gt / "panomasksRGB" / video.name / f"{stem}.png")
            if not video.is_predicted:
                yield np.zeros_like(true), true
                continue
            path = self.pred / "pan_pred" / video.name / f"{stem}.png"
            predicted = read_ids(path)
            check_size(path, predicted.shape, true.shape)
            yield predicted, true


def open_vipseg(gt: Path, pred: Path, options: ScoreOptions) -> VipsegCase:
    """Read both indexes and pair their videos."""
    index, ours = gt / _INDEX, pred / "pred.json"
    body = read_json(index)
    labels = _label_space(body, index)
    rows = {row["video_id"]: row for row in field_of(body, "annotations", list, str(index))}
    found = {row["video_id"]: row for row in field_of(read_json(ours), "annotations", list, str(ours))}
    missing = settle_missing(ours, [name for name in rows if name not in found], options.missing)
    return VipsegCase(
        gt=gt,
        pred=pred,
        labels=labels,
        videos=tuple(
            _Video(
                name=name,
                stems=tuple(Path(frame["file_name"]).stem for frame in row["annotations"]),
                truth=_segments(row, labels, index),
                prediction=_segments(found[name], labels, ours) if name in found else (),
                is_predicted=name in found,
            )
            for name, row in rows.items()
        ),
        missing=missing,
    )


def _label_space(body: Mapping[str, Any], path: Path) -> LabelSpace:
    rows = sorted(field_of(body, "categories", list, str(path)), key=lambda row: int(row["id"]))
    return LabelSpace(
        name="vipseg",
        categories=tuple(
            Category(category_id=row["id"], name=row["name"], is_thing=bool(row["isthing"])) for row in rows
        ),
    )


def _segments(row: Mapping[str, Any], labels: LabelSpace, path: Path) -> tuple[Segment, ...]:
    """List the segments of a video by first appearance, with the class of that frame."""
    listed: dict[int, Segment] = {}
    for frame in row["annotations"]:
        for info in frame["segments_info"]:
            if info["category_id"] not in labels.label_of:
                raise ValueError(
                    f"{path}: video {row['video_id']!r} lists category {info['category_id']}, "
                    f"expected one of the {len(labels.categories)} of the ground truth"
                )
            segment = Segment(
                segment_id=info["id"],
                label=labels.label_of[info["category_id"]],
                is_crowd=bool(info.get("iscrowd", 0)),
            )
            listed.setdefault(segment.segment_id, segment)
    return tuple(listed.values())


VIPSEG = OfficialBenchmark(
    name="vipseg",
    title="VIPSeg, video panoptic segmentation",
    metrics=_SPEC.metrics,
    primary=_SPEC.primary,
    gt_layout=f"{_INDEX} and panomasksRGB/<video>/<frame>.png",
    pred_layout="pred.json and pan_pred/<video>/<frame>.png",
    marks=(_INDEX, "panomasksRGB"),
    open=open_vipseg,
)
