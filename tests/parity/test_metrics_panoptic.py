"""Panoptic and semantic metrics against numbers recorded from the official evaluators, from files to scores.

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

from univs.evaluation.confusion import sum_confusions
from univs.evaluation.official.case import ScoreOptions
from univs.evaluation.official.catalog import OFFICIAL, open_case
from univs.evaluation.panoptic import score_panoptic
from univs.evaluation.semantic import score_semantic

GOLDEN = Path(os.environ.get("UNIVS_EVAL_GOLDEN_DIR") or Path(__file__).parents[1] / "golden" / "eval")
TOLERANCE = 1e-9
GROUPS = (("All", "every", ""), ("Things", "things", "_things"), ("Stuff", "stuff", "_stuff"))


def _cases(benchmark):
    found = [path.parent for path in sorted(GOLDEN.glob(f"**/{benchmark}/**/expected.json"))]
    skip = pytest.mark.skip(reason=f"no {benchmark} case below {GOLDEN}: set UNIVS_EVAL_GOLDEN_DIR")
    return [pytest.param(path, id=str(path.relative_to(GOLDEN))) for path in found] or [
        pytest.param(None, marks=skip)
    ]


def _json(path):
    return json.loads(path.read_text())


def _close(value, expected):
    """Compare fractions."""
    if expected == "nan" or (isinstance(expected, float) and math.isnan(expected)):
        assert math.isnan(value)
    else:
        assert value == pytest.approx(expected, abs=TOLERANCE)


def _percent(value, expected):
    _close(value / 100, expected)


def _compare(name, gt, pred, *mends, missing="refuse"):
    case = open_case(OFFICIAL[name], gt, pred, ScoreOptions(mends=mends, missing=missing))
    return case, [case.compare(index) for index in reversed(range(len(case.names)))]


def _score(name, gt, pred, *mends):
    case, partials = _compare(name, gt, pred, *mends)
    return case.score(partials)


def _check_quality(quality, expected):
    for group, field, _ in GROUPS:
        ours, theirs = getattr(quality, field), expected[group]
        for metric in ("pq", "sq", "rq"):
            _close(getattr(ours, metric), theirs[metric])
        assert ours.num_classes == theirs["n"]


def _check_classes(quality, labels, expected):
    for category, row in expected.items():
        label = labels.label_of[int(category)]
        for metric in ("pq", "sq", "rq"):
            # The official tools list classes that were neither there nor predicted, with 0.
            _close(np.nan_to_num(getattr(quality, f"class_{metric}")[label]), row[metric])
    listed = {labels.label_of[int(category)] for category in expected}
    assert listed >= set(np.flatnonzero(~np.isnan(quality.class_pq)).tolist())


def _check_means(values, expected):
    for _, _, suffix in GROUPS:
        key = {"": "all", "_things": "thing", "_stuff": "stuff"}[suffix]
        _percent(values[f"vpq{suffix}"], expected[f"vpq_{key}_mean_1_2_4_6_8"] / 100)
        _percent(values[f"vpq_1246{suffix}"], expected[f"vpq_{key}_mean_1_2_4_6"] / 100)


@pytest.mark.parametrize("path", _cases("vipseg"))
def test_video_panoptic_quality_matches_vipseg(path):
    expected = _json(path / "expected.json")["vpq"]
    case, partials = _compare("vipseg", path / "gt", path / "pred")
    values = case.score(partials).values
    assert tuple(values) == OFFICIAL["vipseg"].metrics
    _check_means(values, expected)
    panoptic = [part.panoptic for part in partials]
    for w, quality in enumerate(score_panoptic(panoptic, case.labels.is_thing)):
        window = expected["window"][str(quality.window)]
        _check_quality(quality, window)
        _check_classes(quality, case.labels, window["per_class"])
        for group, _, suffix in GROUPS:
            _percent(values[f"vpq{quality.window}{suffix}"], window[group]["pq"])
        for category, row in window["per_class"].items():
            label = case.labels.label_of[int(category)]
            sums = [sum(getattr(part, name)[w, label] for part in panoptic) for name in
                    ("iou_sums", "true_positives", "false_positives", "false_negatives")]  # fmt: skip
            assert sums == pytest.approx([row["iou"], row["tp"], row["fp"], row["fn"]], abs=TOLERANCE)


@pytest.mark.parametrize("path", _cases("vipseg"))
@pytest.mark.parametrize(
    ("mends", "key"), [((), "stq"), (("first-thing",), "stq_if_instance_numbers_started_at_1")]
)
def test_tracking_quality_matches_vipseg(path, mends, key):
    expected = _json(path / "expected.json")
    case, partials = _compare("vipseg", path / "gt", path / "pred", *mends)
    scores = case.score(partials)
    for metric, name in (("stq", "STQ"), ("aq", "AQ"), ("sq", "IoU")):
        _percent(scores.values[metric], expected[key][name])
        by_video = dict(
            zip(expected["stq"]["video_ids"], expected[key].get(f"{name}_per_seq", ()), strict=False)
        )
        for video, value in by_video.items():
            _percent(scores.items[video][metric], value)


@pytest.mark.parametrize("path", _cases("vipseg"))
@pytest.mark.parametrize(
    ("mends", "key"),
    [((), "vpq_area_mismatch_official_script"), (("annotated-areas",), "vpq_area_mismatch_univs")],
)
def test_wrong_annotated_areas_count_as_in_vipseg_unless_mended(path, mends, key, tmp_path):
    expected = _json(path / "expected.json").get(key)
    if expected is None:
        pytest.skip("the case has no variant with wrong areas")
    (tmp_path / "panomasksRGB").symlink_to((path / "gt/panomasksRGB").absolute())
    (tmp_path / "panoptic_gt_VIPSeg_val.json").symlink_to((path / "gt/variant_area_mismatch.json").absolute())
    _check_means(_score("vipseg", tmp_path, path / "pred", *mends).values, expected)


@pytest.mark.parametrize("path", _cases("vipseg"))
def test_missing_video_is_refused_or_empty_and_the_others_match_univs(path, tmp_path):
    variant = path / "pred/variant_missing_second_video.json"
    if not variant.exists():
        pytest.skip("the case has no variant with a missing video")
    (tmp_path / "pan_pred").symlink_to((path / "pred/pan_pred").absolute())
    (tmp_path / "pred.json").symlink_to(variant.absolute())
    with pytest.raises(ValueError, match="not predicted"):
        _compare("vipseg", path / "gt", tmp_path)
    case, partials = _compare("vipseg", path / "gt", tmp_path, missing="empty")
    found = [part for part in partials if part.video_id not in case.missing]
    assert len(partials) - len(found) == len(case.missing) == 1
    _check_means(case.score(found).values, _json(path / "expected.json")["vpq_missing_second_video_univs"])
    assert case.score(partials).values["stq"] < case.score(found).values["stq"]


@pytest.mark.parametrize("path", _cases("vspw"))
def test_semantic_scores_match_vspw(path):
    expected = _json(path / "expected.json")
    case, partials = _compare("vspw", path / "gt", path / "pred")
    scores, miou = case.score(partials), expected["miou"]
    assert tuple(scores.values) == OFFICIAL["vspw"].metrics
    for metric, name in (("miou", "mIoU"), ("fwiou", "fwIoU"), ("pacc", "Acc"), ("macc", "Acc_class")):
        _percent(scores.values[metric], miou[name])
    assert len(scores.classes) == miou["num_classes_in_gt"]
    ious = score_semantic([part.semantic for part in partials]).class_ious
    for label, iou in miou["per_class_iou_of_gt_classes"].items():
        _close(ious[int(label)], iou)
    matrix = sum_confusions(part.semantic.confusion for part in partials)
    assert matrix.sum() == miou["total_valid_pixels"]
    spurious = {
        str(c): int(matrix[:, c].sum()) for c in np.flatnonzero(matrix.sum(1) == 0) if matrix[:, c].any()
    }
    assert spurious == miou["fp_pixels_of_classes_absent_from_gt"]
    for window in (8, 16):
        official = expected[f"VC{window}_official_VSPW_baseline_raw_labels"]
        _percent(scores.values[f"vc{window}"], official["VC"])


@pytest.mark.parametrize("path", _cases("vspw"))
def test_consistency_with_one_void_matches_univs(path):
    expected = _json(path / "expected.json")
    case, partials = _compare("vspw", path / "gt", path / "pred", "void-codes")
    scores = case.score(partials)
    for w, key in enumerate(("VC8", "VC16")):
        _percent(scores.values[key.lower()], expected[key]["VC"])
        for part in (partial.semantic for partial in partials):
            row = expected[key]["per_video"].get(part.video_id) or {"vc_per_window": []}
            assert part.consistency[w].tolist() == pytest.approx(row["vc_per_window"], abs=TOLERANCE)
            if len(row["vc_per_window"]):
                _percent(scores.items[part.video_id][key.lower()], np.mean(row["vc_per_window"]))


@pytest.mark.parametrize("path", _cases("vspw"))
def test_values_that_are_no_class_fall_where_the_official_matrix_puts_them(path, tmp_path):
    expected = _json(path / "expected.json").get("quirk_pred255")
    if expected is None:
        pytest.skip("the case does not record the quirk")
    gt = tmp_path / "gt/data/v/mask"
    for folder, values in ((gt, np.asarray(expected["gt"]) + 1), (tmp_path / "pred/v", expected["pred"])):
        folder.mkdir(parents=True)
        cv2.imwrite(str(folder / "0.png"), np.asarray(values, np.uint8).reshape(1, -1))
    (tmp_path / "gt/val.txt").write_text("v\n")
    _, (partial,) = _compare("vspw", tmp_path / "gt", tmp_path / "pred")
    rows, columns = np.divmod(partial.semantic.confusion.cells, partial.semantic.confusion.shape[1])
    found = np.stack((rows, columns, partial.semantic.confusion.counts), axis=1)
    assert found.tolist() == expected["nonzero_bins_gt_pred_count"]
    assert partial.num_outside == np.count_nonzero(np.asarray(expected["pred"]) == 255) > 0


@pytest.mark.parametrize("path", _cases("coco"))
def test_panoptic_quality_of_images_matches_panopticapi(path):
    expected = _json(path / "expected.json")["pq"]
    case, partials = _compare("coco_panoptic", path / "gt", path / "pred")
    (quality,) = score_panoptic(partials, case.labels.is_thing)
    _check_quality(quality, expected)
    _check_classes(quality, case.labels, expected["per_class"])
    values = case.score(partials).values
    for group, _, suffix in GROUPS:
        for metric in ("pq", "sq", "rq"):
            _percent(values[f"{metric}{suffix}"], expected[group][metric])


@pytest.mark.parametrize("path", _cases("coco"))
def test_semantic_scores_of_images_match_detectron2(path):
    expected = _json(path / "expected.json")["semseg_detectron2"]
    case, partials = _compare("coco_semantic", path / "gt", path / "pred")
    values = case.score(partials).values
    for metric in ("mIoU", "fwIoU", "mACC", "pACC"):
        _percent(values[metric.lower()], expected[metric])
    ious = score_semantic(partials).class_ious
    assert np.isnan(ious[len(expected["IoU"]) :]).all()
    for ours, theirs in zip(ious, expected["IoU"], strict=False):
        _close(ours, "nan" if theirs is None else theirs)
