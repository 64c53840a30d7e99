import json
import shutil
from pathlib import Path

import pytest

from jobs.score_report import scores_body, scores_table
from jobs.scoring import ScoreConfig, open_config, score_files

CASE = Path(__file__).parents[1] / "golden" / "eval" / "vipseg"


def make_config(folder, **changes):
    flags = {"gt": CASE / "gt", "pred": CASE / "pred", "out": folder / "scores.json"}
    return ScoreConfig(**{"benchmark": "vipseg", **flags, **changes})


@pytest.fixture
def without_one(tmp_path):
    """Predictions that lack a video."""
    pred = tmp_path / "pred"
    shutil.copytree(CASE / "pred", pred)
    body = json.loads((pred / "pred.json").read_text())
    gone = body["annotations"].pop(1)["video_id"]
    (pred / "pred.json").write_text(json.dumps(body))
    return pred, gone


def test_processes_change_nothing(tmp_path):
    one, two = (scores_body(score_files(make_config(tmp_path, jobs=jobs))) for jobs in (1, 2))
    for body in (one, two):
        del body["seconds"], body["jobs"]
    assert one == two


def test_items_are_in_the_order_of_the_ground_truth(tmp_path):
    scored = score_files(make_config(tmp_path, jobs=2))
    assert list(scored.scores.items) == list(scored.case.names)


def test_missing_video_is_refused_or_scored_as_empty_and_listed(tmp_path, without_one):
    pred, gone = without_one
    with pytest.raises(ValueError, match=f"{pred}: not predicted: '{gone}'; .*--missing empty"):
        open_config(make_config(tmp_path, pred=pred))
    scored = score_files(make_config(tmp_path, pred=pred, missing="empty"))
    body = scores_body(scored)
    assert (body["missing"], body["missing_policy"]) == ([gone], "empty")
    assert ", 1 not predicted, scored as empty, percent" in scores_table(scored).splitlines()[0]
    assert body["counts"] == {"items": len(scored.case.names), "missing": 1, "classes": 16}
    assert body["items"][gone]["vpq"] == 0


def test_mistake_in_an_item_names_its_file_in_every_process(tmp_path):
    pred = tmp_path / "pred"
    shutil.copytree(CASE / "pred", pred)
    broken = next((pred / "pan_pred").rglob("*.png"))
    broken.write_bytes(broken.read_bytes()[:40])
    for jobs in (1, 2):
        with pytest.raises(ValueError, match=f"^{broken}: not a readable PNG of 40 bytes; write it again$"):
            score_files(make_config(tmp_path, pred=pred, jobs=jobs))


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"benchmark": "vipsegg"}, "--benchmark vipsegg: expected one of .*vipseg"),
        ({"jobs": 0}, "--jobs 0: expected at least 1"),
        ({"pictures": -1}, "--pictures -1: expected at least 0"),
        ({"out": Path("scores.html")}, r"--out scores.html: expected a name that ends in \.json"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_read(tmp_path, changes, line):
    with pytest.raises(ValueError, match=f"^{line}"):
        make_config(tmp_path, **changes)


def test_out_that_is_a_folder_is_refused(tmp_path):
    (tmp_path / "scores.json").mkdir()
    with pytest.raises(ValueError, match=r"^--out .*scores\.json: is a folder"):
        open_config(make_config(tmp_path))
