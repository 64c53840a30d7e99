import json
import zipfile

import pytest
import ray
from mlflow import MlflowClient

from jobs.artifacts import digest_file, digest_release, read_record, verify_outputs
from jobs.tracking import PARENT_TAG
from preprocessing.index import read_manifest
from univs.evaluation.benchmarks import BENCHMARKS

# The first test waits for the quickstart.
pytestmark = pytest.mark.timeout(900)

SCORED = ("coco_panoptic", "ytvis_2021", "vipseg", "vspw", "davis_2017", "refytvos")


def flags_for(smoke_run, out, benchmarks):
    return (
        *("--checkpoint", smoke_run.root / "smoke/stage3/checkpoint.safetensors"),
        *("--benchmarks", benchmarks, "--data", smoke_run.root / "releases", "--out", out),
    )


@pytest.fixture(scope="module")
def everything(run_script, ray_local, smoke_run, tmp_path_factory):
    """Score one item of every benchmark, as the README says, on a Ray that runs already."""
    root = tmp_path_factory.mktemp("evaluation")
    flags = (*flags_for(smoke_run, root / "out", "all"), "--evaluation.max-items", 1)
    address = ray.get_runtime_context().gcs_address
    done = run_script("pipelines/evaluate.py", *flags, UNIVS_RUN_ROOT=str(root), RAY_ADDRESS=address)
    assert done.returncode == 0, done.stderr
    return root, done


def test_every_benchmark_with_a_release_is_reported(everything, smoke_run):
    root, done = everything
    body = json.loads((root / "out/report.json").read_text())
    assert tuple(body["benchmarks"]) == tuple(sorted(SCORED))
    for name, metrics in body["benchmarks"].items():
        assert BENCHMARKS[name].primary in metrics
        assert all(list(values) == ["checkpoint"] for values in metrics.values())
    missing = ", ".join(name for name in BENCHMARKS if name not in SCORED)
    warning = f"not evaluated, no release under {smoke_run.root}/releases: {missing}\n"
    assert done.stderr.count(warning) == 1
    assert done.stdout.splitlines()[-1] == f"report {root}/out/report.html"
    assert "<video" in (root / "out/report.html").read_text()


def test_scores_are_those_of_the_quickstart(everything, smoke_run):
    root, _ = everything
    ours = json.loads((root / "out/report.json").read_text())["benchmarks"]
    theirs = json.loads((smoke_run.root / "report.json").read_text())["benchmarks"]
    for name, metrics in theirs.items():
        for metric, values in metrics.items():
            assert ours[name][metric]["checkpoint"] == pytest.approx(values["stage3"], abs=1e-9)


def test_submission_of_every_benchmark_is_a_zip(everything):
    root, _ = everything
    found = sorted(path.stem for path in (root / "out/submissions").glob("*.zip"))
    assert found == sorted(SCORED)
    for name in found:
        with zipfile.ZipFile(root / "out/submissions" / f"{name}.zip") as archive:
            assert archive.testzip() is None
            assert archive.namelist()


def test_record_reaches_checkpoint_and_releases(everything, smoke_run):
    root, _ = everything
    record = read_record(root / "out", "evaluation")
    verify_outputs(root / "out", record)
    assert set(record.outputs) == {
        "report.json",
        "report.html",
        *(f"submissions/{name}.zip" for name in SCORED),
    }
    trained = smoke_run.root / "smoke/stage3"
    assert record.inputs == {
        "checkpoint": read_record(trained).outputs["checkpoint.safetensors"],
        **{
            f"{name}/val": digest_release(read_manifest(smoke_run.root / "releases" / name / "val"))
            for name in SCORED
        },
    }
    assert record.config["evaluation"]["benchmarks"] == "all"


def test_scores_are_in_mlflow_by_checkpoint(everything, smoke_run):
    root, _ = everything
    client = MlflowClient(f"sqlite:///{root}/mlflow.db")
    runs = client.search_runs([client.get_experiment_by_name("evaluation").experiment_id])
    (run,) = (run for run in runs if PARENT_TAG in run.data.tags)
    digest = digest_file(smoke_run.root / "smoke/stage3/checkpoint.safetensors")
    assert run.info.run_name == f"evaluate {digest[:12]}"
    body = json.loads((root / "out/report.json").read_text())["benchmarks"]
    assert run.data.metrics == pytest.approx(
        {f"{name}/{metric}": v["checkpoint"] for name, m in body.items() for metric, v in m.items()}
    )


def test_one_benchmark_is_scored_alone(ray_local, run_here, smoke_run, tmp_path):
    out = tmp_path / "out"
    ended = run_here(
        "evaluate", *flags_for(smoke_run, out, "davis_2017"), UNIVS_RUN_ROOT=str(tmp_path / "runs")
    )
    assert ended.code == 0, ended.err
    assert list(json.loads((out / "report.json").read_text())["benchmarks"]) == ["davis_2017"]
    assert [path.name for path in (out / "submissions").glob("*.zip")] == ["davis_2017.zip"]
    assert list(read_record(out).inputs) == ["checkpoint", "davis_2017/val"]
    assert {line.split()[0] for line in ended.out.splitlines()[2:-1]} == {"davis_2017"}


def test_dry_run_prints_the_configuration_and_touches_nothing(run_here, tmp_path):
    flags = ("--dry-run", "--benchmarks=vspw", "--out", tmp_path / "out")
    ended = run_here("evaluate", *flags, UNIVS_RUN_ROOT=str(tmp_path / "runs"), RAY_ADDRESS="127.0.0.1:1")
    assert (ended.code, ended.err) == (0, "")
    assert json.loads(ended.out)["evaluation"]["benchmarks"] == "vspw"
    assert list(tmp_path.iterdir()) == []


# Mistakes


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (
            "--benchmarks davis",
            "evaluation: --benchmarks davis: no benchmark 'davis', expected some of coco_panoptic, ",
        ),
        ("--recipe full", "--recipe full: no such recipe, expected one of miniature, "),
        ("--benchmark vspw", "--benchmark: no such option"),
        ("--evaluation.max-items few", "--evaluation.max-items: expected an integer, got 'few'"),
        ("--evaluation.num-actors 0", "evaluation: num_actors 0 and cpus_per_actor 1 must be at least 1"),
        ("--evaluation.split test", "invalid choice 'test' for argument '--evaluation.split'"),
    ],
)
def test_wrong_command_line_is_one_line_and_exit_code_two(run_here, tmp_path, flags, line):
    ended = run_here("evaluate", *flags.split(), UNIVS_RUN_ROOT=str(tmp_path / "runs"))
    assert (ended.code, ended.out, ended.err.count("\n")) == (2, "", 1)
    assert ended.err.startswith(f"error: {line}")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def refuse(ray_local, run_here, smoke_run, tmp_path):
    """Run an evaluation that must end in one line and write no report; give the line."""

    def run(*flags, **environment):
        given = flags_for(smoke_run, tmp_path / "out", "davis_2017")
        pairs = {
            **dict(zip(given[::2], given[1::2], strict=True)),
            **dict(zip(flags[::2], flags[1::2], strict=True)),
        }
        settings = {"UNIVS_RUN_ROOT": str(tmp_path / "runs"), **environment}
        ended = run_here("evaluate", *(part for pair in pairs.items() for part in pair), **settings)
        assert ended.code == 1
        assert "Traceback" not in ended.err
        assert ended.err.count("error: ") == 1
        assert not (tmp_path / "out").exists()
        return ended.err.splitlines()[-1]

    return run


def test_benchmark_without_a_release_is_named(refuse, smoke_run):
    folder = smoke_run.root / "releases/davis_2016/val"
    line = f"error: {folder}: no whole release to score on; build it with pipelines/preprocess.py"
    assert refuse("--benchmarks", "vspw,davis_2016") == line
    nowhere = refuse("--benchmarks", "all", "--data", "/nowhere")
    assert nowhere.startswith("error: /nowhere/coco_panoptic/val: no whole release to score on")


def test_file_that_is_no_checkpoint_is_named(refuse, tmp_path):
    path = tmp_path / "notes.txt"
    assert refuse("--checkpoint", path) == f"error: {path}: no such file, expected a checkpoint"
    path.write_text("not a checkpoint")
    assert refuse("--checkpoint", path).startswith(f"error: {path}: not a safetensors file")


def test_unreachable_mlflow_is_one_line(refuse):
    line = refuse(MLFLOW_TRACKING_URI="http://127.0.0.1:9")
    assert line.startswith("error: no MLflow server answers at MLFLOW_TRACKING_URI=http://127.0.0.1:9 ")


def test_unreachable_ray_is_one_line(run_script, smoke_run, tmp_path):
    flags = flags_for(smoke_run, tmp_path / "out", "all")
    done = run_script(
        "pipelines/evaluate.py", *flags, UNIVS_RUN_ROOT=str(tmp_path), RAY_ADDRESS="127.0.0.1:1"
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: no Ray answers at RAY_ADDRESS=127.0.0.1:1 ")
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
