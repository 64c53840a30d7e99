"""YouTube-VIS 2019, 2021 and 2022 and OVIS: average precision and recall of tracks.

Ground truth: one JSON file in COCO's style, with ``videos``, ``categories`` and ``annotations``; an
annotation is a track, whose ``segmentations`` and ``areas`` have an entry per frame, null where it is not
visible. OVIS adds ``occlusion`` per frame. Predictions: ``results.json``, a list of tracks, each with
``video_id``, ``category_id``, ``score`` and ``segmentations``. Masks are run lengths or polygons. The owners
withhold the ground truth of the official validation sets; held-out parts of the training sets have the same
layout.

A video without any track is not missing: a detector may find nothing. Such videos are listed all the same.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from univs.evaluation.instance import (
    OVIS_RULES,
    YTVIS_RULES,
    InstancePartial,
    InstanceRules,
    evaluate_instances,
    metric_names,
)
from univs.evaluation.official.case import Case, Comparison, OfficialBenchmark, ScoreOptions, Scores
from univs.evaluation.official.coco_style import Item, Row, merge_instances, read_files, read_masks
from univs.evaluation.official.files import field_of, find_json, read_frame, spread
from univs.evaluation.track_masks import Track
from univs.labels import LabelSpace
from univs.predictions import InstanceTrack, InstanceVideo

_OCCLUSIONS = {"no_occlusion": 0.0, "slight_occlusion": 0.25, "severe_occlusion": 0.75}
_GT_NAMES = ("instances.json", "valid.json", "annotations_valid.json", "annotations.json")


@dataclass(frozen=True, kw_only=True, slots=True)
class VisCase:
    """An opened case of video instance segmentation."""

    gt: Path
    """The file, as ``pred``."""
    pred: Path
    rules: InstanceRules
    labels: LabelSpace
    videos: tuple[Item, ...]
    mends: frozenset[str]

    @property
    def names(self) -> tuple[str, ...]:
        """Ids of the videos."""
        return tuple(str(video.item_id) for video in self.videos)

    @property
    def missing(self) -> tuple[str, ...]:
        """Videos in which nothing is detected."""
        return tuple(str(video.item_id) for video in self.videos if not video.detections)

    def compare(self, index: int) -> InstancePartial:
        """Match the detections of one video."""
        video = self.videos[index]
        sources = (str(self.pred), str(self.gt))
        return evaluate_instances(self._prediction(video), self._truth(video), self.rules, sources)

    def score(self, partials: Sequence[InstancePartial]) -> Scores:
        """Merge the videos; their order does not matter."""
        return merge_instances(partials, self.rules, self.labels)

    def show(self, index: int, num_frames: int) -> Comparison:
        """Give some frames of a video with all tracks."""
        video = self.videos[index]
        at = [int(t) for t in spread([str(t) for t in range(len(video.file_names))], num_frames)]
        truth, prediction = (_choose(side, at) for side in (self._truth(video), self._prediction(video)))
        paths = [self.gt.parent / "JPEGImages" / video.file_names[t] for t in at]
        frames = [read_frame(path, (video.height, video.width)) for path in paths]
        return Comparison(truth=truth, prediction=prediction, frames=frames, labels=self.labels)

    def _truth(self, video: Item) -> InstanceVideo:
        tracks = [
            self._true_track(video, row, f"{self.gt}: annotation {place}") for place, row in video.truths
        ]
        return _instance_video(video, tracks)

    def _prediction(self, video: Item) -> InstanceVideo:
        tracks = [
            self._detection(video, row, f"{self.pred}: item {place}") for place, row in video.detections
        ]
        return _instance_video(video, tracks)

    def _true_track(self, video: Item, row: Row, where: str) -> InstanceTrack:
        rles = _read_track(video, row, where)
        if len(rles) != len(video.file_names):
            raise ValueError(f"{where}: {len(rles)} masks, expected one per frame, {len(video.file_names)}")
        believed = "areas" in row and "stated-areas" not in self.mends
        return InstanceTrack(
            label=self.labels.label_of[row["category_id"]],
            score=1.0,
            rles=rles,
            is_crowd=bool(row.get("iscrowd", 0)),
            area=_mean_area(row["areas"], where) if believed else None,
            occlusion=_occlusion(row, where) if self.rules == OVIS_RULES else None,
            is_findable=row["id"] != 0 or "truth-id-0" in self.mends,
        )

    def _detection(self, video: Item, row: Row, where: str) -> InstanceTrack:
        rles = _read_track(video, row, where)
        num_missing = len(video.file_names) - len(rles)
        if num_missing < 0:
            raise ValueError(f"{where}: {len(rles)} masks, expected one per frame, {len(video.file_names)}")
        if "short-tracks" in self.mends:
            rles += (None,) * num_missing
        return InstanceTrack(
            label=self.labels.label_of[row["category_id"]], score=float(row["score"]), rles=rles
        )


def open_vis(name: str, rules: InstanceRules, gt: Path, pred: Path, options: ScoreOptions) -> Case:
    """Read both files and group their tracks by video."""
    gt = find_json(gt, _GT_NAMES, "the annotations")
    pred = find_json(pred, ("results.json",), "the predicted tracks")
    files = read_files(gt, pred, name, "video")
    return VisCase(
        gt=gt,
        pred=pred,
        rules=rules,
        labels=files.labels,
        videos=files.items,
        mends=frozenset(options.mends),
    )


def _instance_video(video: Item, tracks: Sequence[InstanceTrack]) -> InstanceVideo:
    return InstanceVideo(
        video_id=str(video.item_id), height=video.height, width=video.width, tracks=tuple(tracks)
    )


def _read_track(video: Item, row: Row, where: str) -> Track:
    masks = field_of(row, "segmentations", list, where)
    return read_masks(masks, [video.height, video.width], lambda t: f"{where}, frame {t}")


def _mean_area(areas: Any, where: str) -> float:
    """Average the stated areas that are neither null nor 0."""
    if not isinstance(areas, list):
        raise ValueError(f"{where}: 'areas' is {areas!r:.80}, expected a list")
    stated = [area for area in areas if area]
    return math.fsum(stated) / len(stated) if stated else 0.0


def _occlusion(row: Row, where: str) -> float:
    """Score the occlusion of a track: the mean of the more occluded half of its frames."""
    levels = [level for level in field_of(row, "occlusion", list, where) if level is not None]
    unknown = [level for level in levels if level not in _OCCLUSIONS]
    if unknown or not levels:
        found = repr(unknown[0]) if unknown else "no level"
        raise ValueError(f"{where}: 'occlusion' holds {found}, expected some of {', '.join(_OCCLUSIONS)}")
    ranked = sorted(_OCCLUSIONS[level] for level in levels)
    upper = ranked[-math.ceil(len(ranked) / 2) :]
    return sum(upper) / len(upper)


def _choose(video: InstanceVideo, at: Sequence[int]) -> InstanceVideo:
    tracks = [
        replace(track, rles=tuple(track.rles[t] if t < len(track.rles) else None for t in at))
        for track in video.tracks
    ]
    return replace(video, tracks=tuple(tracks))


_MENDS = {
    "short-tracks": "a predicted track that lists fewer frames than the video is not visible in the rest; "
    "officially the rest does not count, for truth neither",
    "stated-areas": "areas of true tracks are counted in their masks; officially 'areas' is believed",
    "truth-id-0": "a true track of id 0 can be found; officially what finds it is a false alarm",
}


def _benchmark(name: str, title: str, rules: InstanceRules) -> OfficialBenchmark:
    return OfficialBenchmark(
        name=name,
        title=f"{title}, video instance segmentation",
        metrics=metric_names(rules),
        primary="map",
        gt_layout="instances.json (or the only JSON file) with videos, categories and annotations",
        pred_layout="results.json, a list of tracks",
        marks=("*.json",),
        open=partial(open_vis, name, rules),
        mends=_MENDS,
    )


YTVIS_2019 = _benchmark("ytvis_2019", "YouTube-VIS 2019", YTVIS_RULES)
YTVIS_2021 = _benchmark("ytvis_2021", "YouTube-VIS 2021", YTVIS_RULES)
YTVIS_2022 = _benchmark("ytvis_2022", "YouTube-VIS 2022, long videos", YTVIS_RULES)
OVIS = _benchmark("ovis", "OVIS", OVIS_RULES)
