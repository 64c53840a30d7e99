"""MOSE: J and F by the DAVIS protocol, as vos-benchmark computes them.

Ground truth: ``[valid/]Annotations/<video>/<frame>.png``; only the server has that of valid beyond the first
frames. Predictions: ``<video>/<frame>.png``. Stored values are object ids; there is no void.

The first and the last frame are not judged. An object counts from the first judged frame in which ground
truth or prediction shows it, and only if the ground truth of a judged frame ever does.
"""

from collections.abc import Collection, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from univs.evaluation.objects import LabelMap, ObjectPartial, evaluate_label_maps
from univs.evaluation.official.case import OfficialBenchmark, ScoreOptions
from univs.evaluation.official.files import list_folders, settle_missing
from univs.evaluation.official.label_trees import (
    LabelCase,
    LabelVideo,
    list_stems,
    open_video,
    prediction_root,
    score_videos,
    unpredicted,
)

_EVERY_FRAME = "first-and-last-frame"
_METRICS = ("j", "f", "jf")


def _open(gt: Path, pred: Path, options: ScoreOptions) -> LabelCase[ObjectPartial]:
    root, ours = gt / "valid" if (gt / "valid").is_dir() else gt, prediction_root(pred)
    judged = slice(None) if _EVERY_FRAME in options.mends else slice(1, -1)
    videos = tuple(_open_video(root, ours, name, judged) for name in list_folders(root / "Annotations"))
    return LabelCase(
        videos=videos,
        missing=settle_missing(ours, unpredicted(videos), options.missing),
        judge=lambda index: _judge(videos[index]),
        summarize=partial(score_videos, is_decay_mended=False, metrics=_METRICS),
    )


def _open_video(root: Path, pred: Path, name: str, judged: slice) -> LabelVideo:
    truth = root / "Annotations" / name
    pictures = root / "JPEGImages" / name
    return open_video(name, truth, pred / name, list_stems(truth)[judged], pictures)


def _judge(video: LabelVideo) -> ObjectPartial:
    seen: set[int] = set()
    true: set[int] = set()

    def frames() -> Iterator[tuple[LabelMap, LabelMap, Collection[int]]]:
        for ours, theirs in video.read():
            true.update(np.unique(theirs[theirs > 0]).tolist())
            seen.update(true, np.unique(ours[ours > 0]).tolist())
            yield ours, theirs, sorted(seen)

    every = evaluate_label_maps(video.name, frames())
    rows = [n for n, object_id in enumerate(every.object_ids) if int(object_id) in true]
    return replace(
        every,
        object_ids=tuple(every.object_ids[n] for n in rows),
        jaccards=every.jaccards[rows],
        boundaries=every.boundaries[rows],
    )


MOSE = OfficialBenchmark(
    name="mose",
    title="MOSE, semi-supervised video object segmentation",
    metrics=_METRICS,
    primary="jf",
    gt_layout="[valid/]Annotations/<video>/<frame>.png, every frame",
    pred_layout="<video>/<frame>.png",
    marks=("Annotations/*/*.png|valid/Annotations/*/*.png",),
    open=_open,
    mends={_EVERY_FRAME: "judge the first and the last frame, too, which the DAVIS protocol leaves out"},
)
