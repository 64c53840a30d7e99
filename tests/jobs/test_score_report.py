import json
import math
import re
from dataclasses import replace
from pathlib import Path

import pytest

from jobs.score_report import scores_body, scores_table, write_scores
from jobs.scoring import ScoreConfig, score_files
from univs.evaluation.official.case import Scores

CASE = Path(__file__).parents[1] / "golden" / "eval" / "vipseg"


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "scores.json"
    config = ScoreConfig(benchmark="vipseg", gt=CASE / "gt", pred=CASE / "pred", out=out, pictures=2)
    return score_files(config)


def moved(scored, out, **scores):
    """The same scoring with other numbers."""
    body = {"values": scored.scores.values, "items": scored.scores.items, **scores}
    return replace(scored, config=replace(scored.config, out=out / "scores.json"), scores=Scores(**body))


def test_json_holds_every_number_with_its_unit(scored, tmp_path):
    write_scores(moved(scored, tmp_path))
    body = json.loads((tmp_path / "scores.json").read_text())
    assert body["scores"] == scored.scores.values
    for name, values in scored.scores.items.items():
        found = {
            metric: math.nan if value is None else value for metric, value in body["items"][name].items()
        }
        assert found == pytest.approx(values, rel=0, abs=0, nan_ok=True)
    assert set(body["units"].values()) == {"percent"}
    assert set(body["units"]) == set(scored.benchmark.metrics)
    assert (body["benchmark"], body["primary"], body["mends"], body["missing"]) == ("vipseg", "vpq", [], [])
    assert body["seconds"] > 0


def test_what_was_not_measured_is_null_and_infinity_is_text(scored, tmp_path):
    values = {"vpq": math.nan, "stq": math.inf}
    rates = replace(scored, benchmark=replace(scored.benchmark, rates=frozenset(["stq"])))
    body = scores_body(moved(rates, tmp_path, values=values, classes={"cat": {"iou": math.nan}}))
    assert body["scores"] == {"vpq": None, "stq": "inf"}
    assert body["units"] == {"vpq": "percent", "stq": "rate"}
    assert body["classes"] == {"cat": {"iou": None}}
    json.dumps(body, allow_nan=False)


def test_table_has_every_metric(scored):
    lines = scores_table(scored).splitlines()
    assert lines[0].endswith(f"{len(scored.case.names)} items, percent")
    found = {line.split()[0]: float(line.split()[1]) for line in lines[2:]}
    assert found == {metric: round(value, 3) for metric, value in scored.scores.values.items()}
    nothing = replace(scored, scores=replace(scored.scores, values={"vpq": math.nan}))
    assert scores_table(nothing).splitlines()[-1].split() == ["vpq", "-"]


def test_page_holds_everything_it_shows(scored, tmp_path):
    page = write_scores(moved(scored, tmp_path)).read_text()
    sources = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert all(source.startswith("data:image/") for source in sources)
    assert "@import" not in page
    assert "<script src" not in page
    for name in scored.case.names:
        assert f'<td data-value="{name}">' in page


def test_page_draws_the_worst_items_truth_beside_prediction(scored, tmp_path):
    page = write_scores(moved(scored, tmp_path)).read_text()
    ranked = sorted(scored.case.names, key=lambda name: scored.scores.items[name]["vpq"])
    assert re.findall(r"<h3>(\S+): vpq", page) == ranked[:2]
    assert page.count(": truth and prediction") == page.count("data:image/jpeg")
    assert page.count("data:image/jpeg") > 2


def test_item_that_was_not_measured_is_not_among_the_worst(scored, tmp_path):
    names = list(scored.case.names)
    items = {**scored.scores.items, names[0]: {"vpq": math.nan}}
    page = write_scores(moved(scored, tmp_path, items=items)).read_text()
    assert names[0] not in re.findall(r"<h3>(\S+): vpq", page)
    assert f'<td data-value="{names[0]}">{names[0]}</td><td class="number" data-value="">-</td>' in page


def test_page_shows_classes_where_there_are_some(scored, tmp_path):
    classes = {f"kind {n}": {"iou": float(n), "rate": math.inf} for n in range(50)}
    page = write_scores(moved(scored, tmp_path, classes=classes)).read_text()
    assert "<th>class</th>" in page
    assert '<td data-value="kind 7">' in page
    assert '<td class="number" data-value="Infinity">inf</td>' in page
    assert "iou of classes 1 to 40 of 50, lowest first" in page
    assert "iou of classes 41 to 50 of 50, lowest first" in page
    assert "<th>class</th>" not in write_scores(moved(scored, tmp_path)).read_text()


def test_names_are_escaped(scored, tmp_path):
    page = write_scores(moved(scored, tmp_path, classes={"<b>x": {"iou": 1.0}})).read_text()
    assert "<b>x" not in page


def test_failed_drawing_leaves_no_file(scored, tmp_path):
    gone = [
        replace(v, truth=replace(v.truth, pngs=(tmp_path / "gone.png",) * len(v.truth.pngs)))
        for v in scored.case.videos
    ]
    broken = replace(scored.case, videos=tuple(gone))
    with pytest.raises(FileNotFoundError):
        write_scores(replace(moved(scored, tmp_path), case=broken))
    assert list(tmp_path.iterdir()) == []
