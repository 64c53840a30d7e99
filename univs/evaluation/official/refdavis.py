"""Ref-DAVIS17: DAVIS 2017's unsupervised protocol for the expressions of each of four annotators.

Ground truth: ``[DAVIS/]Annotations_unsupervised/480p/<sequence>/<frame>.png`` and
``[DAVIS/]ImageSets/2017/val.txt``. Predictions: ``anno_<0..3>/<sequence>/<frame>.png``, one map for all
expressions of an annotator. All frames are judged, and void (255) is cut out of both maps. At most 20 objects
may be predicted; they are assigned to the true ones of a sequence by the mean of J and F, so which expression
an object was found for does not matter. Scores are means over the annotators.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from univs.evaluation.benchmarks import BENCHMARKS
from univs.evaluation.jaccard import mean_of
from univs.evaluation.objects import LabelMap, ObjectPartial, compare_label_pairs, trace_map
from univs.evaluation.official.case import OfficialBenchmark, ScoreOptions, Scores
from univs.evaluation.official.davis import (
    DECAY,
    DECAY_TEXT,
    VOID,
    davis_root,
    open_sequences,
    resolution_of,
    without_void,
)
from univs.evaluation.official.files import read_indexed, settle_missing
from univs.evaluation.official.label_trees import LabelCase, LabelVideo, object_values, unpredicted

_METRICS = BENCHMARKS["davis_2017"].metrics
ANNOTATORS = ("anno_0", "anno_1", "anno_2", "anno_3")
_MOST_OBJECTS = 20

RefDavisPartial = tuple[ObjectPartial, ...]
"""One sequence, by annotator; objects are named by their position among the predicted ones."""


def _open(gt: Path, pred: Path, options: ScoreOptions) -> LabelCase[RefDavisPartial]:
    root = davis_root(gt)
    annotations = resolution_of(root / "Annotations_unsupervised")
    trees = [open_sequences(root, annotations, pred / name, 2017) for name in ANNOTATORS]
    missing = [
        f"{name}/{one}" for name, tree in zip(ANNOTATORS, trees, strict=True) for one in unpredicted(tree)
    ]
    sequences = list(zip(*trees, strict=True))
    return LabelCase(
        videos=tuple(trees[0]),
        missing=settle_missing(pred, missing, options.missing),
        judge=lambda index: _judge(sequences[index]),
        summarize=partial(_score, is_decay_mended=DECAY in options.mends),
    )


def _judge(sequence: Sequence[LabelVideo]) -> RefDavisPartial:
    """Compare the maps of all annotators with the truth; true maps are decoded and traced once."""
    first = read_indexed(sequence[0].truth / f"{sequence[0].stems[0]}.png")
    num_theirs = int(without_void(first).max())
    num_ours = [0] * len(sequence)
    scores: list[list[NDArray[np.float64]]] = [[] for _ in sequence]
    for maps in zip(*(video.read() for video in sequence), strict=True):
        raw = maps[0][1]
        theirs = trace_map(without_void(raw))
        for k, (ours, _) in enumerate(maps):
            num_ours[k] = max(num_ours[k], _highest(sequence[k], len(scores[k]), ours))
            cut = trace_map(ours * (raw != VOID))
            scores[k].append(compare_label_pairs(cut, theirs, max(_MOST_OBJECTS, num_theirs), num_theirs))
    return tuple(
        _assign(sequence[k].name, np.stack(scores[k], axis=-1)[:, : max(num_ours[k], num_theirs)])
        for k in range(len(sequence))
    )


def _highest(video: LabelVideo, frame_index: int, ours: LabelMap) -> int:
    highest = int(ours.max())
    if highest > _MOST_OBJECTS:
        raise ValueError(
            f"{video.prediction / video.stems[frame_index]}.png: id {highest}, expected at most "
            f"{_MOST_OBJECTS} objects; number them from 1"
        )
    return highest


def _assign(name: str, scores: NDArray[np.float64]) -> ObjectPartial:
    """Choose the predicted objects that fit best, from [2, P, N, T] scores; their order stays."""
    quality = (scores[0].mean(axis=2) + scores[1].mean(axis=2)) / 2
    rows, columns = linear_sum_assignment(-quality)
    return ObjectPartial(
        video_id=name,
        object_ids=tuple(str(n + 1) for n in range(len(rows))),
        jaccards=scores[0, rows, columns],
        boundaries=scores[1, rows, columns],
    )


def _score(partials: Sequence[RefDavisPartial], *, is_decay_mended: bool) -> Scores:
    def average(parts: Sequence[RefDavisPartial]) -> dict[str, float]:
        by_annotator = [
            object_values(tree, is_decay_mended=is_decay_mended, metrics=_METRICS)
            for tree in zip(*parts, strict=True)
        ]
        return {name: mean_of(values[name] for values in by_annotator) for name in _METRICS}

    return Scores(values=average(partials), items={part[0].video_id: average([part]) for part in partials})


REFDAVIS = OfficialBenchmark(
    name="refdavis",
    title="Ref-DAVIS17, referring video object segmentation, four annotators",
    metrics=_METRICS,
    primary="jf",
    gt_layout=(
        "[DAVIS/]Annotations_unsupervised/480p/<sequence>/<frame>.png and [DAVIS/]ImageSets/2017/val.txt"
    ),
    pred_layout="anno_<0..3>/<sequence>/<frame>.png",
    marks=("Annotations_unsupervised|DAVIS/Annotations_unsupervised", "ImageSets/2017|DAVIS/ImageSets/2017"),
    open=_open,
    mends={DECAY: DECAY_TEXT},
)
