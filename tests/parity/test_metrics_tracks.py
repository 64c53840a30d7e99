"""Metrics of tracks and instances against numbers recorded from the official evaluators, from file to score.

Takes every case below UNIVS_EVAL_GOLDEN_DIR (default: tests/golden/eval), as test_metrics.py does.
"""

import json
import math
import os
from pathlib import Path

import numpy as np
import pytest

from univs.evaluation.hota import FIELDS, merge_hota, score_hota
from univs.evaluation.instance import IOU_THRESHOLDS, score_instances
from univs.evaluation.official.case import ScoreOptions
from univs.evaluation.official.catalog import OFFICIAL, open_case
from univs.evaluation.track_map import STRATA

GOLDEN = Path(os.environ.get("UNIVS_EVAL_GOLDEN_DIR") or Path(__file__).parents[1] / "golden" / "eval")
TOLERANCE = 1e-9
STATS = {
    "AP": "map", "AP50": "ap50", "AP75": "ap75", "APs": "ap_small", "APm": "ap_medium", "APl": "ap_large",
    "AR1": "ar1", "AR10": "ar10", "AR100": "ar100", "ARs": "ar_small", "ARm": "ar_medium", "ARl": "ar_large",
    "AP_occ_light": "ap_occ_light", "AP_occ_medium": "ap_occ_medium", "AP_occ_heavy": "ap_occ_heavy",
    "AR_occ_light": "ar_occ_light", "AR_occ_medium": "ar_occ_medium", "AR_occ_heavy": "ar_occ_heavy",
}  # fmt: skip


def _cases(folder):
    found = [path.parent for path in sorted(GOLDEN.glob(f"**/{folder}/**/expected.json"))]
    skip = pytest.mark.skip(reason=f"no {folder} case below {GOLDEN}: set UNIVS_EVAL_GOLDEN_DIR")
    return [pytest.param(path, id=str(path.relative_to(GOLDEN))) for path in found] or [
        pytest.param(None, marks=skip)
    ]


def _open(benchmark, folder, *mends):
    case = open_case(
        OFFICIAL[benchmark], folder / "gt", folder / "pred", ScoreOptions(missing="empty", mends=mends)
    )
    return case, [case.compare(index) for index in reversed(range(len(case.names)))]


def _expected(folder):
    return json.loads((folder / "expected.json").read_text())


def _close(value, expected):
    if expected in ("nan", -1, -1.0):
        assert math.isnan(value)
    else:
        assert value == pytest.approx(expected, abs=TOLERANCE)


def _check_stats(values, stats):
    assert len(values) == len(stats)
    for name, expected in stats.items():
        _close(values[STATS[name]] / 100, expected)


def _check_classes(case, partials, expected):
    found = score_instances(partials, case.rules)
    classes, labels = found.classes, case.labels.label_of
    for category, row in expected["per_category"].items():
        ours = classes.get(labels[int(category)])
        if ours is None:
            assert row["AP"] == "nan"
            continue
        _close(ours.ap, row["AP"])
        _close(ours.ap50, row["AP50"])
        _close(ours.ar100, row["AR100"])
        assert ours.recalls == pytest.approx(row["recall_at_iou"], abs=TOLERANCE)
    assert sorted(classes) == sorted(
        labels[int(k)] for k, row in expected["per_category"].items() if row["AP"] != "nan"
    )
    by_threshold = dict(zip((f"{iou:.2f}" for iou in IOU_THRESHOLDS), found.threshold_ap, strict=True))
    assert by_threshold == pytest.approx(expected["AP_per_iou"], abs=TOLERANCE)


def _matches_at_half(partials):
    """Give which detections find something at IoU 0.5, and which do not count, by video and label."""
    return {
        (int(part.video_id), row.label): (
            row.scores.tolist(),
            row.matched[0, 0].tolist(),
            row.ignored[0, 0].tolist(),
        )
        for part in partials
        for row in part.classes
    }


@pytest.mark.parametrize("folder", _cases("ytvis"))
@pytest.mark.parametrize("benchmark", ["ytvis_2019", "ytvis_2021", "ytvis_2022"])
def test_youtube_vis_matches_ytvoseval(benchmark, folder):
    expected = _expected(folder)
    case, partials = _open(benchmark, folder)
    _check_stats(case.score(partials).values, expected["stats"])
    _check_classes(case, partials, expected)


@pytest.mark.parametrize("folder", _cases("ytvis"))
def test_matched_detections_are_those_of_ytvoseval(folder):
    case, partials = _open("ytvis_2021", folder)
    ours = _matches_at_half(partials)
    for cell in _expected(folder)["matches_iou50_area_all"]:
        key = (cell["video_id"], case.labels.label_of[cell["category_id"]])
        expected = (
            cell["dt_order_scores"],
            [bool(found) for found in cell["dt_matched_gt_id"]],
            cell["dt_ignore"],
        )
        assert ours.get(key, ([], [], [])) == expected


@pytest.mark.parametrize("folder", _cases("ovis"))
def test_ovis_matches_oviseval_and_ytvoseval(folder):
    expected = _expected(folder)
    case, partials = _open("ovis", folder)
    _check_stats(case.score(partials).values, expected["official_oviseval_stats"])
    plain, plain_partials = _open("ytvis_2021", folder)
    _check_stats(plain.score(plain_partials).values, expected["univs_ytvoseval"]["stats"])
    for opened in ((case, partials), (plain, plain_partials)):
        _check_classes(*opened, expected["univs_ytvoseval"])


@pytest.mark.parametrize("folder", _cases("coco"))
def test_instances_of_images_match_pycocotools(folder):
    case, partials = _open("coco_instances", folder)
    _check_stats(case.score(partials).values, _expected(folder)["instance_segm"])


def _check_hota(sums, expected):
    scores = score_hota(sums)
    for name, value in expected["HOTA_mean"].items():
        _close(float(scores[name.lower()].mean()), value)
    _close_all(scores["hota"], expected["HOTA_per_alpha"])
    _close_all(sums.right, expected["TP_per_alpha"])
    _close_all(sums.missed, expected["FN_per_alpha"])
    _close_all(sums.wrong, expected["FP_per_alpha"])


def _close_all(values, expected):
    np.testing.assert_allclose(values, expected, rtol=0, atol=TOLERANCE)


def _check_tracks(values, expected):
    assert len(expected) == 2 * len(STRATA)
    for name, value in expected.items():
        ours = {"AP_all": "map", "AR_all": "ar"}.get(name, name.lower())
        _close(values[ours] / 100, value)


@pytest.mark.parametrize("folder", _cases("burst"))
@pytest.mark.parametrize(
    ("benchmark", "key"), [("burst", "class_guided"), ("burst_exemplar", "exemplar_guided")]
)
def test_burst_matches_trackeval(benchmark, key, folder):
    expected = _expected(folder)[key]
    case, partials = _open(benchmark, folder)
    scores = case.score(partials)
    combined = {name: expected.pop(name) for name in ("cls_comb_cls_av", "cls_comb_det_av")}
    assert scores.classes.keys() == expected.keys()
    sums = {}
    for label, name in case.class_names.items():
        sums[label] = merge_hota([part.classes[label].hota for part in partials if label in part.classes])
        _check_hota(sums[label], expected[name])
        _check_tracks(scores.classes[name], expected[name]["TrackMAP"])
    _check_hota(merge_hota(list(sums.values())), combined["cls_comb_det_av"])
    for suffix, row in (("", combined["cls_comb_cls_av"]), ("_det", combined["cls_comb_det_av"])):
        for field in FIELDS:
            (value,) = [v for name, v in row["HOTA_mean"].items() if name.lower() == field]
            _close(scores.values[f"{field}{suffix}"] / 100, value)
        _check_tracks(scores.values, row["TrackMAP"])


@pytest.mark.parametrize("folder", _cases("burst"))
def test_burst_by_masks_matches_hota_of_masks(folder):
    expected = _expected(folder)["exemplar_guided_mask_iou"]
    case, partials = _open("burst_exemplar", folder, "mask-iou")
    scores = case.score(partials)
    for key, values, suffix in (
        ("cls_comb_cls_av", scores.values, ""),
        ("cls_comb_det_av", scores.values, "_det"),
        *((name, row, "") for name, row in scores.classes.items()),
    ):
        for name, value in expected[key].items():
            _close(values[f"{name.lower()}{suffix}"] / 100, value)
