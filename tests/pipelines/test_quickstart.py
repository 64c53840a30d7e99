import base64
import io
import json
import re
import time

import av
import numpy as np
import pytest
from mlflow import MlflowClient

from jobs.artifacts import digest_file, read_record, verify_outputs
from jobs.tracking import PARENT_TAG
from univs.evaluation.benchmarks import BENCHMARKS

# The first test waits for the quickstart.
pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

COLUMNS = ["untrained", "stage1", "stage2", "stage3"]
SCORED = ("coco_panoptic", "ytvis_2021", "vipseg", "vspw", "davis_2017", "refytvos")


@pytest.fixture(scope="module")
def report(smoke_run):
    return json.loads((smoke_run.root / "report.json").read_text())


@pytest.fixture(scope="module")
def page(smoke_run):
    return (smoke_run.root / "report.html").read_text()


def embedded(page, mime):
    """The contents of all media of one type."""
    return [
        base64.b64decode(text) for text in re.findall(rf'src="data:{re.escape(mime)};base64,([^"]+)"', page)
    ]


def test_report_has_every_metric_of_every_checkpoint(report):
    assert sorted(report["benchmarks"]) == sorted(SCORED)
    for name, metrics in report["benchmarks"].items():
        assert BENCHMARKS[name].primary in metrics
        assert set(metrics) <= set(BENCHMARKS[name].metrics)
        for metric, values in metrics.items():
            assert sorted(values) == sorted(COLUMNS)
            # Decay is a difference.
            lowest = -100 if metric.endswith("_decay") else 0
            assert all(lowest <= value <= 100 for value in values.values())


def test_report_says_what_it_took(report, smoke_run):
    assert 1 < report["seconds"] <= smoke_run.seconds
    assert 500e6 < report["peak_rss_bytes"] < 64e9
    assert report["mlflow_uri"] == f"sqlite:///{smoke_run.root}/mlflow.db"
    assert report["facts"]["machine"].startswith("1 nodes, 2 CPUs")


def test_page_is_self_contained(page):
    sources = re.findall(r'(?:src|href|data|poster)\s*=\s*"([^"]*)"', page)
    assert sources
    assert all(source.startswith("data:") for source in sources)
    assert not re.search(r"url\(|@import|<script|<link|<iframe", page)
    assert "http://" not in page
    assert "https://" not in page


def test_page_has_scores_plots_pictures_and_films(page, report):
    rows = re.findall(r"<tr[^>]*>\s*<td>(\w+)</td>\s*<td>(\w+)</td>(.*?)</tr>", page, re.DOTALL)
    cells = {(name, metric): re.findall(r"<td>([^<]*)</td>", rest) for name, metric, rest in rows}
    for name, metrics in report["benchmarks"].items():
        for metric, values in metrics.items():
            assert cells[name, metric] == [f"{values[column]:.1f}" for column in COLUMNS]
    plots = embedded(page, "image/svg+xml")
    assert len(plots) == 3
    assert all(b">detection<" in plot and b">sot<" in plot for plot in plots)
    films = embedded(page, "video/mp4")
    assert len(films) == 5
    assert len(embedded(page, "image/png")) == 6
    for film in films:
        with av.open(io.BytesIO(film)) as container:
            frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        assert len(frames) == 12
        assert any(not np.array_equal(frames[0], frame) for frame in frames[1:])


def test_record_of_the_report_verifies_and_names_the_checkpoints(smoke_run):
    record = read_record(smoke_run.root, "report")
    verify_outputs(smoke_run.root, record)
    assert set(record.outputs) == {"report.json", "report.html"}
    assert record.inputs == {
        stage: digest_file(smoke_run.root / "smoke" / stage / "checkpoint.safetensors")
        for stage in COLUMNS[1:]
    }


def test_every_release_has_a_record_that_verifies(smoke_run):
    folders = sorted(path.parent for path in smoke_run.root.glob("releases/*/*/manifest.json"))
    assert len(folders) == 12
    for folder in folders:
        verify_outputs(folder, read_record(folder, "release"))


def test_curriculum_in_mlflow_holds_stages_evaluations_and_report(smoke_run, report):
    client = MlflowClient(report["mlflow_uri"])
    runs = {
        run.info.run_name: run
        for run in client.search_runs([client.get_experiment_by_name("smoke").experiment_id])
    }
    assert set(runs) == {"smoke", *COLUMNS[1:], *(f"evaluate {column}" for column in COLUMNS)}
    parent = runs.pop("smoke")
    assert {run.data.tags[PARENT_TAG] for run in runs.values()} == {parent.info.run_id}
    assert {run.info.status for run in [parent, *runs.values()]} == {"FINISHED"}
    for column in COLUMNS:
        expected = {
            f"{name}/{metric}": values[column]
            for name, metrics in report["benchmarks"].items()
            for metric, values in metrics.items()
        }
        assert runs[f"evaluate {column}"].data.metrics == pytest.approx(expected)
    logged = {artifact.path for artifact in client.list_artifacts(parent.info.run_id)}
    assert logged == {"report.json", "report.html"}


def test_terminal_shows_scores_report_and_dashboard(smoke_run):
    lines = smoke_run.stdout.splitlines()
    assert lines[0].split() == ["benchmark", "metric", *COLUMNS]
    assert {line.split()[0] for line in lines[2:-2]} == set(SCORED)
    assert lines[-2:] == [
        f"report     {smoke_run.root}/report.html",
        "dashboard  .venv/bin/mlflow server --host 127.0.0.1 "
        f"--backend-store-uri sqlite:///{smoke_run.root}/mlflow.db",
    ]
    assert "Traceback" not in smoke_run.stderr
    assert "WARNING" not in smoke_run.stderr


def test_second_run_trains_nothing_and_finds_the_same(ray_local, run_here, smoke_run, report):
    def lasting():
        """What a second run must leave alone: releases, checkpoints and their records."""
        return {
            path: path.stat().st_mtime_ns
            for folder in ("releases", "raw", "smoke")
            for path in (smoke_run.root / folder).rglob("*")
            if path.is_file()
        }

    def count_runs():
        client = MlflowClient(report["mlflow_uri"])
        return len(client.search_runs([client.get_experiment_by_name("smoke").experiment_id]))

    before, num_runs, start = lasting(), count_runs(), time.monotonic()
    ended = run_here("quickstart", "--recipe", "smoke", UNIVS_RUN_ROOT=str(smoke_run.root))
    assert ended.code == 0, ended.err
    assert time.monotonic() - start < smoke_run.seconds
    assert lasting() == before
    assert count_runs() == num_runs
    assert ended.out == smoke_run.stdout
    assert ": starting" not in ended.err
    again = json.loads((smoke_run.root / "report.json").read_text())
    assert again["benchmarks"] == report["benchmarks"]
    verify_outputs(smoke_run.root, read_record(smoke_run.root, "report"))


# Without running anything


def test_dry_run_prints_the_configuration_and_touches_nothing(run_here, tmp_path):
    root = tmp_path / "runs"
    ended = run_here("quickstart", "--dry-run", UNIVS_RUN_ROOT=str(root), RAY_ADDRESS="127.0.0.1:1")
    assert (ended.code, ended.err) == (0, "")
    assert json.loads(ended.out)["last_stage"]["stage"] == "stage3"
    assert not root.exists()


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (
            "--recipe smok",
            "--recipe smok: no such recipe, expected one of miniature, smoke, did you mean smoke?",
        ),
        ("--last-stage.train.num-steps x", "--last-stage.train.num-steps: expected an integer, got 'x'"),
        ("--evaluation.benchmarks vspv", "evaluation: --benchmarks vspv: no benchmark 'vspv', expected "),
    ],
)
def test_wrong_command_line_is_one_line_and_exit_code_two(run_here, tmp_path, flags, line):
    ended = run_here("quickstart", *flags.split(), UNIVS_RUN_ROOT=str(tmp_path / "runs"))
    assert (ended.code, ended.out, ended.err.count("\n")) == (2, "", 1)
    assert ended.err.startswith(f"error: {line}")


def test_run_root_with_another_curriculum_is_refused_before_anything_is_built(
    ray_local, run_here, smoke_run, tmp_path
):
    (tmp_path / "smoke").symlink_to(smoke_run.root / "smoke")
    ended = run_here(
        "quickstart", "--recipe", "smoke", "--last-stage.train.seed", "1", UNIVS_RUN_ROOT=str(tmp_path)
    )
    assert ended.code == 1
    line = f"error: {tmp_path}/smoke/stage3: holds a checkpoint of another configuration of stage3; "
    assert ended.err.splitlines()[-1].startswith(line)
    assert [path.name for path in tmp_path.iterdir()] == ["smoke"]
