"""Metrics against numbers recorded from the official evaluators.

Takes every case below UNIVS_EVAL_GOLDEN_DIR (default: tests/golden/eval): a folder with ``expected.json``,
``gt`` and ``pred`` in a benchmark's official formats, it or a folder above it named after the benchmark.
"""

import json
import math
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from univs.evaluation.histogram import count_segment_pairs
from univs.evaluation.objects import evaluate_objects, score_objects
from univs.evaluation.panoptic import VIDEO_WINDOWS, evaluate_panoptic, mean_quality, score_panoptic
from univs.evaluation.semantic import evaluate_semantic, score_semantic
from univs.evaluation.tracking import evaluate_tracking, score_tracking
from univs.predictions import (
    ObjectVideo,
    PanopticVideo,
    Segment,
    SemanticVideo,
)

GOLDEN = Path(os.environ.get("UNIVS_EVAL_GOLDEN_DIR") or Path(__file__).parents[1] / "golden" / "eval")
TOLERANCE = 1e-9
VSPW_CLASSES = 124


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


def _colored_ids(path):
    pixels = cv2.imread(str(path), cv2.IMREAD_COLOR).astype(np.int32)
    return pixels[..., 2] + 256 * pixels[..., 1] + 65536 * pixels[..., 0]


def _indexed(path):
    return np.asarray(Image.open(path))


def _panoptic(video_id, maps, infos, labels):
    listed = {}
    for info in infos:
        segment = Segment(
            segment_id=info["id"], label=labels[info["category_id"]], is_crowd=bool(info.get("iscrowd", 0))
        )
        assert listed.setdefault(info["id"], segment) == segment, "an id keeps its class through a video"
    return PanopticVideo(video_id=video_id, maps=np.stack(maps), segments=tuple(listed.values()))


def _categories(body):
    rows = sorted(body["categories"], key=lambda row: row["id"])
    return {row["id"]: label for label, row in enumerate(rows)}, [bool(row["isthing"]) for row in rows]


def _check_quality(quality, expected):
    _close(quality.pq, expected["pq"])
    _close(quality.sq, expected["sq"])
    _close(quality.rq, expected["rq"])
    assert quality.num_classes == expected["n"]


def _check_classes(quality, expected, labels):
    listed = {labels[int(category)]: row["pq"] for category, row in expected.items()}
    assert listed.keys() >= set(np.flatnonzero(~np.isnan(quality.class_pq)).tolist())
    for label, pq in listed.items():
        # panopticapi lists classes that were neither there nor predicted, with 0.
        _close(np.nan_to_num(quality.class_pq[label]), pq)


@pytest.mark.parametrize("case", _cases("coco"))
def test_panoptic_quality_of_images_matches_panopticapi(case):
    truth, expected = _json(case / "gt/panoptic_val.json"), _json(case / "expected.json")["pq"]
    labels, is_thing = _categories(truth)
    ours = {row["image_id"]: row for row in _json(case / "pred/panoptic.json")["annotations"]}
    partials = []
    for row in truth["annotations"]:
        theirs, other = (
            _panoptic(
                str(row["image_id"]),
                [_colored_ids(folder / body["file_name"])],
                body["segments_info"],
                labels,
            )
            for folder, body in (
                (case / "gt/panoptic_val", row),
                (case / "pred/panoptic", ours[row["image_id"]]),
            )
        )
        partials.append(evaluate_panoptic(count_segment_pairs(other, theirs), len(is_thing)))
    (quality,) = score_panoptic(partials, is_thing)
    for group, name in ((quality.every, "All"), (quality.things, "Things"), (quality.stuff, "Stuff")):
        _check_quality(group, expected[name])
    _check_classes(quality, expected["per_class"], labels)


def _vipseg_video(row, names, folder, labels):
    maps = [_colored_ids((folder / row["video_id"] / name).with_suffix(".png")) for name in names]
    infos = [info for frame in row["annotations"] for info in frame["segments_info"]]
    return _panoptic(row["video_id"], maps, infos, labels)


def _vipseg_pairs(case, prediction_file="pred.json"):
    truth = _json(case / "gt/panoptic_gt_VIPSeg_val.json")
    labels, is_thing = _categories(truth)
    ours = {row["video_id"]: row for row in _json(case / "pred" / prediction_file)["annotations"]}
    pairs = []
    for row in truth["annotations"]:
        if row["video_id"] not in ours:
            continue
        body = ours[row["video_id"]]
        names = [frame["file_name"] for frame in row["annotations"]]
        theirs = _vipseg_video(row, names, case / "gt/panomasksRGB", labels)
        pairs.append(count_segment_pairs(_vipseg_video(body, names, case / "pred/pan_pred", labels), theirs))
    return pairs, labels, is_thing


def _vipseg_qualities(pairs, is_thing):
    return score_panoptic([evaluate_panoptic(p, len(is_thing), VIDEO_WINDOWS) for p in pairs], is_thing)


def _check_means(qualities, expected):
    for group, name in (("every", "all"), ("things", "thing"), ("stuff", "stuff")):
        _close(100 * mean_quality(qualities, group), expected[f"vpq_{name}_mean_1_2_4_6_8"])
        _close(100 * mean_quality(qualities[:-1], group), expected[f"vpq_{name}_mean_1_2_4_6"])


@pytest.mark.parametrize("case", _cases("vipseg"))
def test_video_panoptic_quality_matches_vipseg(case):
    pairs, labels, is_thing = _vipseg_pairs(case)
    expected = _json(case / "expected.json")["vpq"]
    qualities = _vipseg_qualities(pairs, is_thing)
    _check_means(qualities, expected)
    for quality in qualities:
        window = expected["window"][str(quality.window)]
        for group, name in ((quality.every, "All"), (quality.things, "Things"), (quality.stuff, "Stuff")):
            _check_quality(group, window[name])
        _check_classes(quality, window["per_class"], labels)


@pytest.mark.parametrize("case", _cases("vipseg"))
def test_video_panoptic_quality_of_fewer_videos_matches_vipseg(case):
    expected = _json(case / "expected.json").get("vpq_missing_second_video_univs")
    if expected is None:
        pytest.skip("the case has no prediction with a missing video")
    pairs, _, is_thing = _vipseg_pairs(case, "variant_missing_second_video.json")
    _check_means(_vipseg_qualities(pairs, is_thing), expected)


@pytest.mark.parametrize("case", _cases("vipseg"))
@pytest.mark.parametrize(
    ("numbering", "key"), [("official", "stq"), ("from_one", "stq_if_instance_numbers_started_at_1")]
)
def test_tracking_quality_matches_vipseg(case, numbering, key):
    expected = _json(case / "expected.json")[key]
    pairs, _, is_thing = _vipseg_pairs(case)
    partials = [evaluate_tracking(pair, is_thing, numbering) for pair in pairs]
    scores = score_tracking(partials)
    _close(scores.stq, expected["STQ"])
    _close(scores.aq, expected["AQ"])
    _close(scores.sq, expected["IoU"])
    for partial, aq in zip(partials, expected["AQ_per_seq"], strict=True):
        _close(score_tracking([partial]).aq, aq)


@pytest.mark.parametrize("case", _cases("vspw"))
def test_semantic_scores_match_vspw(case):
    expected, root = _json(case / "expected.json"), case / "gt/VSPW_480p"
    partials = []
    for name in (root / "val.txt").read_text().split():
        masks = sorted((root / "data" / name / "mask").glob("*.png"))
        values = np.stack([_indexed(path) for path in masks]).astype(np.int16)
        truth = SemanticVideo(
            video_id=name, labels=np.where((values == 0) | (values == 255), -1, values - 1).astype(np.int16)
        )
        ours = np.stack([_indexed(case / "pred" / name / path.name) for path in masks]).astype(np.int16)
        partials.append(evaluate_semantic(SemanticVideo(video_id=name, labels=ours), truth, VSPW_CLASSES))
    scores = score_semantic(partials)
    _close(scores.miou, expected["miou"]["mIoU"])
    _close(scores.fwiou, expected["miou"]["fwIoU"])
    assert np.count_nonzero(~np.isnan(scores.class_ious)) == expected["miou"]["num_classes_in_gt"]
    for w, key in enumerate(("VC8", "VC16")):
        _close(scores.consistency[w], expected[key]["VC"])
        for partial in partials:
            row = expected[key]["per_video"].get(partial.video_id) or {"vc_per_window": []}
            assert partial.consistency[w].tolist() == pytest.approx(row["vc_per_window"], abs=TOLERANCE)


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
