import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from mlflow import MlflowClient

from jobs.artifacts import digest_file, read_record, verify_outputs, write_record
from jobs.curriculum import stage_identity
from jobs.tracking import PARENT_TAG
from jobs.training_log import read_log
from pipelines.recipes import stage1, stage2, stage3

# The first test that needs it waits for the quickstart.
pytestmark = pytest.mark.timeout(900)

CHECKOUT = Path(__file__).parents[2]
FULL_SIZE = ("resnet50", "swin_tiny", "swin_base", "swin_large")
NOWHERE = {"RAY_ADDRESS": "127.0.0.1:1", "MLFLOW_TRACKING_URI": "http://127.0.0.1:9"}
OFTEN = ("--checkpoint-every-steps", "2")


def files_under(root: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in root.rglob("*") if path.is_file()}


def runs_by_name(root: Path, experiment: str = "smoke") -> dict[str, list]:
    client = MlflowClient(f"sqlite:///{root}/mlflow.db")
    found: dict[str, list] = {}
    for run in client.search_runs([client.get_experiment_by_name(experiment).experiment_id]):
        found.setdefault(run.info.run_name, []).append(run)
    return found


# Dry run


def test_dry_run_prints_configuration_and_plan_and_touches_nothing(run_script, tmp_path):
    done = run_script(
        "pipelines/stage2.py",
        "--recipe",
        "smoke",
        "--dry-run",
        UNIVS_RUN_ROOT=str(tmp_path / "runs"),
        RAY_TMPDIR=str(tmp_path / "ray"),
        **NOWHERE,
    )
    assert (done.returncode, done.stderr) == (0, "")
    config, end = json.JSONDecoder().raw_decode(done.stdout)
    assert config["previous"]["stage"] == "stage1"
    assert {key: value for key, value in config.items() if key != "previous"} == {
        key: value for key, value in stage_identity(stage2.smoke()).items() if key != "previous"
    }
    assert done.stdout[end:].splitlines()[1] == "stage2 of 'smoke': to be trained"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("recipe", FULL_SIZE)
@pytest.mark.parametrize("stage", ["stage1", "stage2", "stage3"])
def test_dry_run_of_a_full_size_recipe_needs_neither_data_nor_gpu(run_here, tmp_path, stage, recipe):
    ended = run_here(stage, "--recipe", recipe, "--dry-run", UNIVS_RUN_ROOT=str(tmp_path / "runs"), **NOWHERE)
    assert (ended.code, ended.err) == (0, "")
    assert "x 1 GPU, bf16" in ended.out
    assert "MISSING, build it with pipelines/preprocess.py" in ended.out
    assert list(tmp_path.iterdir()) == []


def test_override_reaches_configuration_and_plan(run_here, tmp_path):
    flags = ("--recipe", "smoke", "--dry-run", "--train.num-steps", "12", "--previous.train.seed", "3")
    ended = run_here("stage2", *flags, UNIVS_RUN_ROOT=str(tmp_path))
    config, end = json.JSONDecoder().raw_decode(ended.out)
    assert (config["train"]["num_steps"], config["previous"]["train"]["seed"]) == (12, 3)
    assert "train      12 steps" in ended.out[end:]


# Mistakes


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        ("--recipe smokey", "--recipe smokey: no such recipe, expected one of miniature, smoke, "),
        ("--train.nmu-steps 3", "--train.nmu-steps: no such option, did you mean --train.num-steps?"),
        ("--train.num-steps many", "--train.num-steps: expected an integer, got 'many'"),
        ("--train.num-steps 0", "train: num_steps"),
        ("--checkpoint-every-steps 7", "StageConfig: checkpoint_every_steps 7 must be a multiple of"),
        ("--sources.0.weight 2", "--sources.0.weight reaches into a tuple, which only a recipe can change"),
        ("--workers.use-gpu perhaps", "invalid choice 'perhaps' for argument '--workers.use-gpu'"),
    ],
)
def test_wrong_command_line_is_one_line_and_exit_code_two(run_here, tmp_path, flags, line):
    ended = run_here("stage2", *flags.split(), UNIVS_RUN_ROOT=str(tmp_path / "runs"), **NOWHERE)
    assert (ended.code, ended.out, ended.err.count("\n")) == (2, "", 1)
    assert ended.err.startswith(f"error: {line}")
    assert list(tmp_path.iterdir()) == []


def test_unreachable_ray_is_one_line(run_script, tmp_path):
    done = run_script(
        "pipelines/stage2.py",
        "--recipe",
        "smoke",
        UNIVS_RUN_ROOT=str(tmp_path / "runs"),
        RAY_ADDRESS="127.0.0.1:1",
    )
    assert done.returncode == 1
    assert done.stderr == (
        "error: no Ray answers at RAY_ADDRESS=127.0.0.1:1 ([Errno 111] Connection refused); start one with "
        "`ray start --head`, correct the address, or unset it to run on this machine\n"
    )
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def refuse(ray_local, run_here, tmp_path):
    """Run a stage that must end in one line and leave nothing; give the line."""

    def run(script: str, *flags: object, **environment: str) -> str:
        root = tmp_path / "runs"
        before = files_under(root)
        ended = run_here(script, *flags, UNIVS_RUN_ROOT=str(root), **environment)
        assert ended.code == 1
        assert "Traceback" not in ended.err
        assert ended.err.count("error: ") == 1
        assert files_under(root) == before
        return ended.err.splitlines()[-1]

    return run


def test_unreachable_mlflow_is_one_line(refuse):
    line = refuse("stage2", "--recipe", "smoke", MLFLOW_TRACKING_URI="http://127.0.0.1:9")
    assert line == (
        "error: no MLflow server answers at MLFLOW_TRACKING_URI=http://127.0.0.1:9 ([Errno 111] Connection "
        "refused); start it with `mlflow server`, correct the address, or unset it to use an SQLite file"
    )


@pytest.mark.parametrize("stage", ["stage1", "stage2", "stage3"])
def test_release_that_is_missing_is_named_with_the_command_that_builds_it(refuse, tmp_path, stage):
    line = refuse(stage, "--recipe", "resnet50")
    module = {"stage1": stage1, "stage2": stage2, "stage3": stage3}[stage]
    # The stage's own data, before any earlier stage is trained.
    dataset, releases = module.resnet50().sources[0].dataset, tmp_path / "runs/releases"
    assert line == (
        f"error: {releases}/{dataset}/train: no whole release of {dataset}/train; build it with `python "
        f"pipelines/preprocess.py --dataset {dataset} --split train --source DIR --out {releases}`"
    )


def test_file_that_is_no_checkpoint_is_no_start(refuse, tmp_path):
    path = tmp_path / "notes.txt"
    assert "no such file" in refuse("stage2", "--recipe", "smoke", "--init-from", path)
    path.write_text("not a checkpoint")
    line = refuse("stage2", "--recipe", "smoke", "--init-from", path)
    assert line.startswith(f"error: {path}: not a safetensors file")


def test_checkpoint_of_another_architecture_is_no_start(refuse, run_here, smoke_run):
    start = smoke_run.root / "smoke/stage1/checkpoint.safetensors"
    line = refuse("stage2", "--recipe", "smoke", "--init-from", start, "--model.hidden-dim", "32")
    assert line.startswith(f"error: {start}: its weights do not fit the recipe's model (size mismatch for ")
    assert line.endswith("; choose the recipe of its training")


def test_other_configuration_under_the_same_name_is_refused(refuse, tmp_path):
    folder = tmp_path / "runs/smoke/stage1"
    folder.mkdir(parents=True)
    write_record(folder, kind="checkpoint", config=stage_identity(stage1.smoke()), inputs={}, outputs={})
    line = refuse("stage1", "--recipe", "smoke", "--train.seed", "1")
    assert line == (
        f"error: {folder}: holds a checkpoint of another configuration of stage1; give this one another "
        "--name, or remove the folder to train it again"
    )


# Training


def test_trained_stage_is_left_alone(ray_local, run_here, smoke_run):
    before = {path: ns for path, ns in files_under(smoke_run.root).items() if path.name != "mlflow.db"}
    runs = {name: len(found) for name, found in runs_by_name(smoke_run.root).items()}
    ended = run_here("stage2", "--recipe", "smoke", UNIVS_RUN_ROOT=str(smoke_run.root))
    path = smoke_run.root / "smoke/stage2/checkpoint.safetensors"
    assert ended.code == 0
    assert ended.out.splitlines()[0] == "stage2 of 'smoke': already trained"
    assert ended.out.splitlines()[-1] == str(path)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert {name: len(found) for name, found in runs_by_name(smoke_run.root).items()} == runs


@dataclass(frozen=True)
class Resumed:
    """A stage that was killed once and then run to its end."""

    root: Path
    killed_at: list[int]
    """Steps in the log when it was killed."""
    stderr: str
    """Of the second run."""


@pytest.fixture(scope="module")
def resumed(run_script, tmp_path_factory) -> Resumed:
    """Kill stage 2, with all it started, as soon as its first checkpoint is there, and run it again."""
    root = tmp_path_factory.mktemp("resumed")
    flags = ("--recipe", "smoke", *OFTEN)
    log = root / "smoke/stage2/steps.jsonl"
    with started([CHECKOUT / "pipelines/stage2.py", *flags], UNIVS_RUN_ROOT=str(root)) as driver:
        wait_for_line(log, driver)
        os.killpg(driver.pid, signal.SIGKILL)
    killed_at = [step.step for step in read_log(log)]
    assert not (root / "smoke/stage2/record.json").exists()
    done = run_script("pipelines/stage2.py", *flags, UNIVS_RUN_ROOT=str(root))
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == f"{root}/smoke/stage2/checkpoint.safetensors"
    return Resumed(root=root, killed_at=killed_at, stderr=done.stderr)


@contextmanager
def started(arguments: list[object], **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """Start a script in a session of its own; on leaving, end it and whatever it has started."""
    env = {**os.environ, "RAY_ADDRESS": "", "MLFLOW_TRACKING_URI": "", "UNIVS_NUM_CPUS": "2", **environment}
    command = [sys.executable, *map(str, arguments)]
    with subprocess.Popen(command, env=env, start_new_session=True, stderr=subprocess.DEVNULL) as driver:
        family = psutil.Process(driver.pid)
        descendants: list[psutil.Process] = []
        try:
            yield driver
        finally:
            if family.is_running():
                descendants = family.children(recursive=True)
                driver.kill()
            for process in descendants:
                process.kill()


def wait_for_line(log: Path, driver: subprocess.Popen[bytes]) -> None:
    deadline_s = time.monotonic() + 200
    while not read_log(log):
        assert driver.poll() is None, "training ended before it could be killed"
        assert time.monotonic() < deadline_s, "no checkpoint in time"
        time.sleep(0.01)


@pytest.mark.cluster
def test_killed_stage_goes_on_from_its_checkpoint(resumed):
    lines = [
        json.loads(line) for line in (resumed.root / "smoke/stage2/steps.jsonl").read_text().splitlines()
    ]
    steps = [line["step"] for line in lines]
    assert resumed.killed_at[0] == 2
    assert resumed.killed_at[-1] < 6
    assert steps.count(2) == 1
    assert steps[-2:] == [4, 6]


@pytest.mark.cluster
def test_stage_before_a_killed_one_is_not_trained_again(resumed):
    assert "stage1: already trained" in resumed.stderr
    assert "stage1: starting" not in resumed.stderr
    assert "stage2: starting 1 workers" in resumed.stderr


@pytest.mark.cluster
def test_resumed_checkpoint_is_that_of_an_uninterrupted_run_bit_for_bit(resumed, smoke_run):
    for stage in ("stage1", "stage2"):
        name = f"smoke/{stage}/checkpoint.safetensors"
        assert digest_file(resumed.root / name) == digest_file(smoke_run.root / name)


@pytest.mark.cluster
def test_resumed_stage_is_one_whole_artifact_and_one_run(resumed):
    folder = resumed.root / "smoke/stage2"
    record = read_record(folder, "checkpoint")
    verify_outputs(folder, record)
    assert record.inputs["start"] == digest_file(resumed.root / "smoke/stage1/checkpoint.safetensors")
    assert {path.name for path in folder.iterdir()} == {
        "checkpoint.safetensors",
        "steps.jsonl",
        "record.json",
    }
    runs = runs_by_name(resumed.root)
    assert {name: len(found) for name, found in runs.items()} == {"smoke": 1, "stage1": 1, "stage2": 1}
    (parent,), (run,) = runs["smoke"], runs["stage2"]
    assert run.data.tags[PARENT_TAG] == parent.info.run_id
    assert run.info.run_id == record.mlflow_run_id
    assert {found[0].info.status for found in runs.values()} == {"FINISHED"}
    client = MlflowClient(f"sqlite:///{resumed.root}/mlflow.db")
    steps = [metric.step for metric in client.get_metric_history(run.info.run_id, "learning_rate")]
    assert sorted(set(steps)) == [2, 4, 6]
    assert steps.count(2) == 1
