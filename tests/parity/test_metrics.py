"""Metrics against numbers recorded from the official evaluators.

Takes every case below UNIVS_EVAL_GOLDEN_DIR (default: tests/golden/eval): a folder with ``expected.json``,
``gt`` and ``pred`` in a benchmark's official formats, it or a folder above it named after the benchmark.
"""

import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from univs.evaluation.instance import evaluate_instances, score_instances
from univs.evaluation.objects import evaluate_objects, score_objects
from univs.predictions import (
    InstanceTrack,
    InstanceVideo,
    ObjectVideo,
)

GOLDEN = Path(os.environ.get("UNIVS_EVAL_GOLDEN_DIR") or Path(__file__).parents[1] / "golden" / "eval")
TOLERANCE = 1e-9


def _cases(benchmark):
    found = [path.parent for path in sorted(GOLDEN.glob(f"**/{benchmark}/**/expected.json"))]
    skip = pytest.mark.skip(reason=f"no {benchmark} case below {GOLDEN}: set UNIVS_EVAL_GOLDEN_DIR")
    return [pytest.param(path, id=str(path.relative_to(GOLDEN))) for path in found] or [
        pytest.param(None, marks=skip)
    ]


def _json(path):
    return json.loads(path.read_text())


def _close(value, expected, tolerance=TOLERANCE):
    if expected in ("nan", -1, -1.0):
        assert math.isnan(value)
    else:
        assert value == pytest.approx(expected, abs=tolerance)


def _indexed(path):
    return np.asarray(Image.open(path))


def _counts(segmentation, height, width):
    if segmentation is None:
        return None
    if isinstance(segmentation, dict) and isinstance(segmentation["counts"], str):
        return segmentation["counts"]
    if isinstance(segmentation, list):
        rle = coco_mask.merge(coco_mask.frPyObjects(segmentation, height, width))
    else:
        rle = coco_mask.frPyObjects(segmentation, height, width)
    return rle["counts"].decode()


def _instance_video(video, rows, labels):
    height, width = video["height"], video["width"]
    tracks = [
        InstanceTrack(
            label=labels[row["category_id"]],
            score=row.get("score", 1.0),
            rles=tuple(_counts(s, height, width) for s in row["segmentations"]),
            is_crowd=bool(row.get("iscrowd", 0)),
        )
        for row in rows
        if row["video_id"] == video["id"]
    ]
    return InstanceVideo(video_id=str(video["id"]), height=height, width=width, tracks=tuple(tracks))


@pytest.mark.parametrize("case", [*_cases("ytvis"), *_cases("ovis")])
def test_instance_precision_and_recall_match_youtube_vis(case):
    (path,) = (case / "gt").glob("*.json")
    truth, results = _json(path), _json(case / "pred/results.json")
    expected = _json(case / "expected.json")
    expected = expected.get("univs_ytvoseval", expected)
    labels = {row["id"]: label for label, row in enumerate(truth["categories"])}
    for row in results:
        labels.setdefault(row["category_id"], len(labels))
    scores = score_instances(
        [
            evaluate_instances(
                _instance_video(video, results, labels), _instance_video(video, truth["annotations"], labels)
            )
            for video in reversed(truth["videos"])
        ]
    )
    fields = {
        "AP": "ap", "AP50": "ap50", "AP75": "ap75", "APs": "ap_small", "APm": "ap_medium", "APl": "ap_large",
        "AR1": "ar1", "AR10": "ar10", "AR100": "ar100",
    }  # fmt: skip
    for name, field in fields.items():
        _close(getattr(scores, field), expected["stats"][name])
    for category, row in expected.get("per_category", {}).items():
        _close(scores.class_ap.get(labels[int(category)], math.nan), row["AP"])


def _palette_video(name, maps, ids, stems):
    masks = np.stack([maps == number for number in ids])
    return ObjectVideo(
        video_id=name, object_ids=tuple(str(number) for number in ids), masks=masks, frame_names=tuple(stems)
    )


@pytest.mark.parametrize("case", _cases("davis17"))
def test_region_and_contour_scores_match_davis(case):
    expected, root = _json(case / "expected.json"), case / "gt/DAVIS"
    partials = []
    for name in (root / "ImageSets/2017/val.txt").read_text().split():
        paths = sorted((root / "Annotations/480p" / name).glob("*.png"))
        maps = np.stack([_indexed(path) for path in paths])
        maps = np.where(maps == 255, 0, maps)
        ids = range(1, int(maps[0].max()) + 1)
        stems = [path.stem for path in paths]
        ours = np.stack([_indexed(case / "pred" / name / path.name) for path in paths[1:-1]])
        prediction = _palette_video(name, np.where(ours == 255, 0, ours), ids, stems[1:-1])
        partials.append(evaluate_objects(prediction, _palette_video(name, maps, ids, stems), "davis"))
    for partial in partials:
        for n, object_id in enumerate(partial.object_ids):
            row = expected["per_object"][f"{partial.video_id}_{object_id}"]
            assert partial.jaccards[n].tolist() == pytest.approx(row["J_per_frame"], abs=TOLERANCE)
            assert partial.boundaries[n].tolist() == pytest.approx(row["F_per_frame"], abs=TOLERANCE)
    scores, overall = score_objects(partials), expected["global"]
    _close(scores.jf, overall["J&F-Mean"])
    for statistics, letter in ((scores.j, "J"), (scores.f, "F")):
        _close(statistics.mean, overall[f"{letter}-Mean"])
        _close(statistics.recall, overall[f"{letter}-Recall"])
        # The official decay overflows beyond 256 frames; this is its value with borders that do not.
        _close(statistics.decay, overall[f"{letter}-Decay_if_int64_bins"])


@pytest.mark.parametrize("case", _cases("refytvos"))
def test_expression_scores_match_referring_youtube_vos(case):
    expected = _json(case / "expected.json")
    videos = _json(case / "gt/meta_expressions/valid/meta_expressions.json")["videos"]
    objects = _json(case / "gt/expression_to_object.json")
    partials = []
    for name, body in videos.items():
        maps = np.stack([_indexed(case / "gt/Annotations" / name / f"{f}.png") for f in body["frames"]])
        ids = tuple(body["expressions"])
        truth = np.stack([maps == int(objects[name][i]) for i in ids])
        folder = case / "pred/Annotations" / name
        ours = np.stack([[_indexed(folder / i / f"{f}.png") > 0 for f in body["frames"]] for i in ids])
        theirs, prediction = (
            ObjectVideo(video_id=name, object_ids=ids, masks=m, frame_names=tuple(body["frames"]))
            for m in (truth, ours)
        )
        partials.append(evaluate_objects(prediction, theirs, "referring"))
    scores = score_objects(partials)
    _close(scores.j.mean, expected["J"])
    _close(scores.f.mean, expected["F"])
    _close(scores.jf, expected["J&F"])
    for partial in partials:
        for n, i in enumerate(partial.object_ids):
            row = expected["per_expression"][f"{partial.video_id}/{i}"]
            assert partial.jaccards[n].tolist() == pytest.approx(row["J_per_frame"], abs=TOLERANCE)
            assert partial.boundaries[n].tolist() == pytest.approx(row["F_per_frame"], abs=TOLERANCE)
