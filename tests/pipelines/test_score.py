import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from pipelines.cli import join_repeated
from univs.evaluation.official.catalog import OFFICIAL
from univs.evaluation.submission_checks.catalog import FORMATS

CASE = Path(__file__).parents[1] / "golden" / "eval" / "vipseg"
FLAGS = ("--benchmark", "vipseg", "--gt", CASE / "gt", "--pred", CASE / "pred")


def test_score_prints_a_table_and_writes_json_and_page(run_here, tmp_path):
    ended = run_here("score", *FLAGS, "--out", tmp_path / "deep" / "x.json", "--jobs", 2)
    assert ended.code == 0
    body = json.loads((tmp_path / "deep" / "x.json").read_text())
    rows = dict(line.split()[:2] for line in ended.out.splitlines()[2:-1])
    assert rows == {metric: f"{value:.3f}" for metric, value in body["scores"].items()}
    assert sorted(path.name for path in (tmp_path / "deep").iterdir()) == ["x.html", "x.json"]


def test_dry_run_opens_the_case_and_writes_nothing(run_here, tmp_path):
    ended = run_here("score", *FLAGS, "--out", tmp_path / "deep" / "x.json", "--dry-run")
    count = len(json.loads((CASE / "gt" / "panoptic_gt_VIPSeg_val.json").read_text())["annotations"])
    assert (ended.code, ended.out.partition(",")[0]) == (0, f"would score {count} items of vipseg")
    assert list(tmp_path.iterdir()) == []


def test_list_names_every_benchmark_and_every_format(run_here):
    out = run_here("score", "--list").out
    for name in OFFICIAL:
        assert f"{name}: " in out
    for name in FORMATS:
        assert f"{name} --check-submission ZIP: " in out


@pytest.mark.parametrize(
    ("flags", "code", "line"),
    [
        (("--pred", "nowhere"), 1, "--pred nowhere: no such folder"),
        (("--mend", "x"), 1, "--mend x: not a quirk of vipseg"),
        (("--jobs", "0"), 2, "--jobs 0: expected at least 1"),
        (("--benchmark", "x"), 2, "--benchmark x: expected one of"),
        (("--missing", "x"), 2, "invalid choice"),
        (("--benchmarks", "x"), 2, "--benchmarks: no such option, did you mean --benchmark?"),
    ],
)
def test_mistake_is_one_line(run_here, tmp_path, flags, code, line):
    ended = run_here("score", *FLAGS, "--out", tmp_path / "x.json", *flags)
    assert (ended.code, ended.err.count("\n"), ended.out) == (code, 1, "")
    assert line in ended.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("--a 1 --mend x --mend y --b", "--a 1 --b --mend x y"),
        ("--mend=x --a 1 --mend y z", "--a 1 --mend x y z"),
        ("--a --mends x", "--a --mends x"),
    ],
)
def test_repeated_flag_keeps_all_values(given, expected):
    assert join_repeated(given.split(), "--mend") == expected.split()


def test_score_loads_no_cluster_and_no_torch(tmp_path):
    argv = ["score.py", *map(str, FLAGS), "--out", str(tmp_path / "x.json"), "--jobs", "2"]
    heavy = "{'ray', 'torch', 'mlflow', 'pandas'}"
    code = f"import sys; sys.argv = {argv}; import pipelines.score; pipelines.score.main(); "
    code += f"print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "[]")


@pytest.fixture
def results(tmp_path):
    """A split of one video, and a zip with results for it."""
    row = {"id": 1, "height": 6, "width": 8, "file_names": ["cat/00000.jpg"]}
    body = {"videos": [row], "categories": [{"id": 4, "name": "cat"}]}
    (tmp_path / "valid.json").write_text(json.dumps(body))
    track = {"video_id": 1, "category_id": 4, "score": 0.5, "segmentations": [None]}

    def pack(**changes):
        with zipfile.ZipFile(tmp_path / "results.zip", "w") as archive:
            archive.writestr("results.json", json.dumps([{**track, **changes}]))
        return ("--check-submission", tmp_path / "results.zip", "--benchmark", "ovis", "--gt", tmp_path)

    return pack


def test_submission_that_fits_is_one_line(run_here, results):
    ended = run_here("score", *results())
    assert (ended.code, ended.err, ended.out.count("\n")) == (0, "", 1)
    assert "results.zip: fits ovis: 1 videos (0 without a track), 1 tracks; 0.0 MB of 300 MB" in ended.out


def test_submission_that_a_server_would_refuse_is_one_line(run_here, results, tmp_path):
    ended = run_here("score", *results(category_id=5))
    assert (ended.code, ended.out) == (1, "")
    assert ended.err == (
        f"error: {tmp_path}/results.zip: results.json[0]: 'category_id' is 5, "
        "expected one of the 1 categories, 4..4\n"
    )


@pytest.mark.parametrize(
    ("flags", "code", "line"),
    [
        (("--max-mb", "1"), 0, "of 1 MB (--max-mb)"),
        (("--max-mb", "-1"), 2, "--max-mb -1: expected at least 0"),
        (("--benchmark", "sa_1b"), 2, "--benchmark sa_1b: expected one of ytvis_2019, "),
        (("--pred", "x"), 2, "--pred: no such option"),
    ],
)
def test_flags_of_the_check(run_here, results, flags, code, line):
    ended = run_here("score", *results(), *flags)
    assert ended.code == code
    assert line in ended.out + ended.err
