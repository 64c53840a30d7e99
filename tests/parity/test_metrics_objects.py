"""Scores of VOS and RefVOS against numbers recorded from the official evaluators.

Takes every case below UNIVS_EVAL_GOLDEN_DIR (default: tests/golden/eval), as ``test_metrics.py`` says, and scores it
as ``pipelines/score.py`` does.
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


def _check_frames(partial, rows):
    for object_id, j, f in zip(partial.object_ids, partial.jaccards, partial.boundaries, strict=True):
        row = rows(object_id)
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
        _check_frames(part, lambda object_id: expected["per_object"][f"{part.video_id}_{object_id}"])
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
            rows = expected[f"anno_{annotator}"]["per_object"]
            _check_frames(tree, lambda object_id: rows[f"{tree.video_id}_{object_id}"])
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
@pytest.mark.parametrize("case", [*_cases("ytvos18"), *_cases("ytvos19")])
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
    for metric, recorded in (("g", "G"), *((m.lower(), m) for m in ("J_seen", "J_unseen", "F_seen", "F_unseen"))):
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
        _check_frames(part, lambda name: expected["per_expression"][f"{part.video_id}/{name}"])
