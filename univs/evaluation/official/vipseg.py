"""VIPSeg: video panoptic quality (VPQ) and segmentation and tracking quality (STQ).

Ground truth: ``panoptic_gt_VIPSeg_val.json`` (annotated videos with frames and segments, categories) and
``panomasksRGB/<video>/<frame>.png``. Predictions, as the official scripts read them: ``pred.json`` and
``pan_pred/<video>/<frame>.png``. A predicted frame is found by its ``file_name``, or by its place where rows
have none.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from univs.evaluation.benchmarks import VideoPanopticPartial
from univs.evaluation.official.case import Comparison, OfficialBenchmark, ScoreOptions, Scores, in_percent
from univs.evaluation.official.files import field_of, name_some, name_unpredicted, read_json, settle_missing
from univs.evaluation.official.panoptic_files import (
    AREAS,
    NOTHING,
    PanopticItem,
    PanopticSide,
    index_rows,
    match_segments,
    need_pngs,
    pair_segments,
    pngs_in,
    read_label_space,
    refuse_unknown,
    show_item,
)
from univs.evaluation.panoptic import (
    VIDEO_WINDOWS,
    WindowQuality,
    named_qualities,
    score_panoptic,
)
from univs.evaluation.tracking import InstanceNumbering, TrackingQuality, evaluate_tracking, score_tracking
from univs.labels import LabelSpace

_INDEX = "panoptic_gt_VIPSeg_val.json"
_FIRST_THING = "first-thing"
_METRICS = (
    *("vpq", "stq", "vpq_things", "vpq_stuff"),
    *(f"vpq_1246{suffix}" for suffix in ("", "_things", "_stuff")),
    *(f"vpq{window}{suffix}" for window in VIDEO_WINDOWS for suffix in ("", "_things", "_stuff")),
    *("sq", "aq"),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class VipsegCase:
    """An opened VIPSeg case."""

    gt: Path
    labels: LabelSpace
    videos: tuple[PanopticItem, ...]
    missing: tuple[str, ...]
    mends: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the videos."""
        return tuple(video.name for video in self.videos)

    def compare(self, index: int) -> VideoPanopticPartial:
        """Count how the segments of one video overlap, frame by frame."""
        video = self.videos[index]
        pairs = pair_segments(video, self.labels, count_areas=AREAS in self.mends)
        numbering: InstanceNumbering = "from_one" if _FIRST_THING in self.mends else "official"
        return VideoPanopticPartial(
            video_id=pairs.video_id,
            panoptic=match_segments(video, pairs, self.labels, VIDEO_WINDOWS),
            tracking=evaluate_tracking(pairs, self.labels.is_thing, numbering),
        )

    def score(self, partials: Sequence[VideoPanopticPartial]) -> Scores:
        """Merge the videos; their order does not matter."""
        qualities, tracking = self._merge(partials)
        return Scores(
            values=_values(qualities, tracking),
            items={part.video_id: _values(*self._merge([part])) for part in partials},
            classes=_class_values(self.labels.distinct_names, qualities, tracking),
        )

    def show(self, index: int, num_frames: int) -> Comparison:
        """Read some frames of a video with both maps."""
        video = self.videos[index]
        folder = self.gt / "images" / video.name
        pictures = [folder / f"{path.stem}.jpg" for path in video.truth.pngs if path is not None]
        return show_item(video, self.labels, num_frames, pictures)

    def _merge(
        self, partials: Sequence[VideoPanopticPartial]
    ) -> tuple[tuple[WindowQuality, ...], TrackingQuality]:
        qualities = score_panoptic([part.panoptic for part in partials], self.labels.is_thing)
        return qualities, score_tracking([part.tracking for part in partials])


def open_vipseg(gt: Path, pred: Path, options: ScoreOptions) -> VipsegCase:
    """Read both indexes, pair their videos and frames, and look for every PNG."""
    index, ours = gt / _INDEX, pred / "pred.json"
    body = read_json(index)
    rows, found = index_rows(body, "video_id", index), index_rows(read_json(ours), "video_id", ours)
    refuse_unknown(ours, found, rows, "video_id")
    videos, missing = [], []
    for name, row in rows.items():
        truth = _truth_of(row, index)
        stems = [path.stem for path in truth.pngs if path is not None]
        prediction = _prediction_of(stems, found.get(name), ours)
        videos.append(PanopticItem(name=name, truth=truth, prediction=prediction))
        missing += name_unpredicted(name, stems, prediction.pngs)
    return VipsegCase(
        gt=gt,
        labels=read_label_space(body, "vipseg", index),
        videos=tuple(videos),
        missing=settle_missing(pred, missing, options.missing),
        mends=options.mends,
    )


def _truth_of(row: Mapping[str, Any], index: Path) -> PanopticSide:
    where = f"{index}: video {row['video_id']!r}"
    frames = field_of(row, "annotations", list, where)
    names = [f"{Path(field_of(frame, 'file_name', str, where)).stem}.png" for frame in frames]
    pngs = need_pngs(index.parent / "panomasksRGB" / row["video_id"], names)
    return PanopticSide(source=index, rows=tuple(frames), pngs=pngs)


def _prediction_of(stems: Sequence[str], row: Mapping[str, Any] | None, ours: Path) -> PanopticSide:
    """Find what is predicted for the frames of a video."""
    if row is None:
        return PanopticSide(source=ours, rows=(NOTHING,) * len(stems), pngs=(None,) * len(stems))
    name = row["video_id"]
    frames = field_of(row, "annotations", list, f"{ours}: video {name!r}")
    by_stem = _by_stem(frames, stems, f"{ours}: video {name!r}")
    found = pngs_in(ours.parent / "pan_pred" / name, [f"{stem}.png" for stem in stems])
    pngs = tuple(path if stem in by_stem else None for stem, path in zip(stems, found, strict=True))
    rows = tuple(by_stem[stem] if path else NOTHING for stem, path in zip(stems, pngs, strict=True))
    return PanopticSide(source=ours, rows=rows, pngs=pngs)


def _by_stem(
    frames: Sequence[Mapping[str, Any]], stems: Sequence[str], where: str
) -> dict[str, Mapping[str, Any]]:
    if not all(isinstance(frame, Mapping) and "file_name" in frame for frame in frames):
        if len(frames) != len(stems):
            raise ValueError(f"{where} has {len(frames)} frames without file_name, expected {len(stems)}")
        return dict(zip(stems, frames, strict=True))
    found = {Path(field_of(frame, "file_name", str, where)).stem: frame for frame in frames}
    unknown = sorted(found.keys() - set(stems))
    if unknown:
        raise ValueError(f"{where}: predicts frames {name_some(unknown)}, expected those of the ground truth")
    return found


def _values(qualities: Sequence[WindowQuality], tracking: TrackingQuality) -> dict[str, float]:
    values = {**named_qualities(qualities), "stq": tracking.stq, "sq": tracking.sq, "aq": tracking.aq}
    return in_percent({metric: values[metric] for metric in _METRICS})


def _class_values(
    names: Sequence[str], qualities: Sequence[WindowQuality], tracking: TrackingQuality
) -> dict[str, dict[str, float]]:
    """Give what was there or predicted, class by class."""
    table = {}
    for label, name in enumerate(names):
        by_window = {f"vpq{quality.window}": float(quality.class_pq[label]) for quality in qualities}
        seen = [value for value in by_window.values() if not math.isnan(value)]
        iou = float(tracking.class_ious[label])
        if seen or not np.isnan(iou):
            mean = math.fsum(seen) / len(seen) if seen else math.nan
            row = {"vpq": mean, **by_window, "iou": iou}
            table[name] = in_percent(row)
    return table


VIPSEG = OfficialBenchmark(
    name="vipseg",
    title="VIPSeg, video panoptic segmentation",
    metrics=_METRICS,
    primary="vpq",
    gt_layout=f"{_INDEX} and panomasksRGB/<video>/<frame>.png",
    pred_layout="pred.json and pan_pred/<video>/<frame>.png",
    marks=(_INDEX, "panomasksRGB"),
    open=open_vipseg,
    mends={
        AREAS: "VPQ counts the areas of true segments in their PNGs, as UniVS does, not those of the JSON",
        _FIRST_THING: "STQ numbers segments from 1, so the first listed thing of a video is not left out",
    },
)
