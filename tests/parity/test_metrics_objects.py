"""Scores of VOS and RefVOS against numbers recorded from the official evaluators.

Takes every case below UNIVS_EVAL_GOLDEN_DIR (default: tests/golden/eval), as ``test_metrics.py`` says, and
scores it as ``pipelines/score.py`` does.
"""

import json
import math
import os
from pathlib import Path

import numpy as np
import pytest

from univs.evaluation.objects import object_means
from univs.evaluation.official.case import ScoreOptions
from univs.evaluation.official.catalog import OFFICIAL, open_case

GOLDEN = Path(os.environ.get("UNIVS_EVAL_GOLDEN_DIR") or Path(__file__).parents[1] / "golden" / "eval")
TOLERANCE = 1e-9


def _cases(folder):
    found = [path.parent for path in sorted(GOLDEN.glob(f"**/{folder}/**/expected.json"))]
    skip = pytest.mark.skip(reason=f"no {folder} case below {GOLDEN}: set UNIVS_EVAL_GOLDEN_DIR")
    return [pytest.param(path, id=str(path.relative_to(GOLDEN))) for path in found] or [
        pytest.param(None, marks=skip)
    ]


def _expected(case):
    return json.loads((case / "expected.json").read_text())


def _score(case, name, *mends):
    opened = open_case(OFFICIAL[name], case / "gt", case / "pred", ScoreOptions(mends=mends))
    partials = [opened.compare(index) for index in reversed(range(len(opened.names)))]
    return partials, opened.score(partials)


def _close(value, expected, tolerance=TOLERANCE):
    expected = float(expected)
    if math.isnan(expected):
        assert math.isnan(value)
    else:
        assert value == pytest.approx(expected, abs=tolerance)


def _check_statistics(values, expected, decay):
    _close(values["jf"], 100 * expected["J&F-Mean"])
    for letter in "JF":
        _close(values[letter.lower()], 100 * expected[f"{letter}-Mean"])
        _close(values[f"{letter.lower()}_recall"], 100 * expected[f"{letter}-Recall"])
        _close(values[f"{letter.lower()}_decay"], 100 * float(expected[f"{letter}-{decay}"]))


def _check_frames(partial, rows, separator):
    for object_id, j, f in zip(partial.object_ids, partial.jaccards, partial.boundaries, strict=True):
        row = rows[f"{partial.video_id}{separator}{object_id}"]
        assert j.tolist() == pytest.approx(row["J_per_frame"], abs=TOLERANCE)
        assert f.tolist() == pytest.approx(row["F_per_frame"], abs=TOLERANCE)


DECAYS = pytest.mark.parametrize(
    ("mends", "decay"), [((), "Decay"), (("decay-beyond-256-frames",), "Decay_if_int64_bins")]
)


@pytest.mark.parametrize("case", _cases("davis17"))
@DECAYS
def test_davis_2017(case, mends, decay):
    expected = _expected(case)
    partials, scores = _score(case, "davis_2017", *mends)
    assert sum(len(part.object_ids) for part in partials) == len(expected["per_object"])
    for part in partials:
        _check_frames(part, expected["per_object"], "_")
    _check_statistics(scores.values, expected["global"], decay)
    for name, values in scores.items.items():
        rows = [row for key, row in expected["per_object"].items() if key.rpartition("_")[0] == name]
        _close(values["j"], 100 * np.mean([row["J"]["mean"] for row in rows]))
        _close(values["f"], 100 * np.mean([row["F"]["mean"] for row in rows]))


@pytest.mark.parametrize("case", _cases("refdavis"))
@DECAYS
def test_ref_davis(case, mends, decay):
    expected = _expected(case)
    partials, scores = _score(case, "refdavis", *mends)
    for part in partials:
        for annotator, tree in enumerate(part):
            _check_frames(tree, expected[f"anno_{annotator}"]["per_object"], "_")
    _check_statistics(scores.values, expected["mean_over_annotators"], decay)


@pytest.mark.parametrize("case", _cases("mose"))
@pytest.mark.parametrize(
    ("mends", "key"), [((), "skip_first_and_last"), (("first-and-last-frame",), "all_frames")]
)
def test_mose(case, mends, key):
    expected = _expected(case)[key]
    partials, scores = _score(case, "mose", *mends)
    for metric, name in (("j", "J"), ("f", "F"), ("jf", "J&F")):
        _close(scores.values[metric], expected[name])
    for part in partials:
        rows = expected["per_object_J_F"][part.video_id]
        assert rows.keys() == set(part.object_ids)
        for object_id, *means in object_means(part):
            assert [100 * mean for mean in means] == pytest.approx(rows[object_id], abs=TOLERANCE)


@pytest.mark.parametrize("name", ["ytvos_2018", "ytvos_2019"])
@pytest.mark.parametrize("case", _cases("ytvos1[89]"))
@pytest.mark.parametrize(
    ("mends", "key"),
    [
        ((), "after_first_all_frames"),
        (("listed-frames",), "after_first_frames_listed_in_meta"),
        (("given-frame",), "including_first_all_frames"),
    ],
)
def test_youtube_vos(case, name, mends, key):
    expected = _expected(case)[key]
    partials, scores = _score(case, name, *mends)
    for metric, recorded in (
        ("g", "G"),
        *((m.lower(), m) for m in ("J_seen", "J_unseen", "F_seen", "F_unseen")),
    ):
        _close(scores.values[metric], 100 * float(expected[recorded]))
    rows = expected["per_object_J_F_split"]
    found = {f"{part.video_id}/{row[0]}": row[1:] for part in partials for row in object_means(part)}
    assert found.keys() == {key for key, row in rows.items() if not math.isnan(float(row[0]))}
    for key, means in found.items():
        assert means == pytest.approx(tuple(map(float, rows[key][:2])), abs=TOLERANCE)


@pytest.mark.parametrize("case", _cases("refytvos"))
def test_refer_youtube_vos(case):
    expected = _expected(case)
    partials, scores = _score(case, "refytvos")
    for metric, name in (("j", "J"), ("f", "F"), ("jf", "J&F")):
        _close(scores.values[metric], 100 * expected[name])
    assert sum(len(part.object_ids) for part in partials) == len(expected["per_expression"])
    for part in partials:
        _check_frames(part, expected["per_expression"], "/")


@pytest.mark.parametrize("case", _cases("viposeg"))
def test_viposeg(case):
    expected = _expected(case)
    partials, scores = _score(case, "viposeg")
    for metric in scores.values.keys() - {"g", "decay"}:
        name = metric if metric.endswith("iou") else f"{metric}_iou"
        _close(scores.values[metric], 100 * float(expected[name]))
    _close(scores.values["g"], 100 * float(expected["overall_iou"]))
    _close(scores.values["decay"], expected["decay"])
    stems = {
        path.name: sorted(file.name for file in path.iterdir())
        for path in case.glob("gt/valid/Annotations_gt/*")
    }
    columns = ("object_ids", "num_followed")
    found = {
        (part.video_id, stems[part.video_id][t], row): (*map(int, ids), *pair)
        for part in partials
        for row, (t, *ids, pair) in enumerate(
            zip(part.frame_indices, *(getattr(part, c) for c in columns), part.scores.T.tolist(), strict=True)
        )
    }
    rows = expected["rows_video_frame_object_numobjs_miou_biou"]
    assert [(name, frame) for name, frame, _ in sorted(found)] == sorted((row[0], row[1]) for row in rows)
    recorded = sorted(rows, key=lambda row: (row[0], row[1]))
    for key, row in zip(sorted(found), recorded, strict=True):
        assert found[key] == pytest.approx(tuple(row[2:]), abs=TOLERANCE)
