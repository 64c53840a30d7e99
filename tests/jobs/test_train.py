from dataclasses import replace

import pytest
import torch
from mlflow import MlflowClient

from jobs.artifacts import digest_file, read_record, verify_outputs
from jobs.config import WorkerConfig
from jobs.curriculum import run_digest, stage_identity
from jobs.releases import ReleaseName, require_releases
from jobs.session import ClusterConfig
from jobs.tracking import KEY_TAG, PARENT_TAG, flatten_config
from jobs.train import train_stage
from jobs.training_log import read_log
from pipelines.recipes import stage1, stage2, stage3
from univs.model.weights import load_checkpoint

# The first test that needs it waits for the quickstart.
pytestmark = pytest.mark.timeout(900)

STAGES = {"stage1": stage1.smoke(), "stage2": stage2.smoke(), "stage3": stage3.smoke()}


@pytest.fixture(scope="module")
def runs(smoke_run):
    """The MLflow runs of a whole curriculum by name."""
    client = MlflowClient(f"sqlite:///{smoke_run.root}/mlflow.db")
    found = client.search_runs([client.get_experiment_by_name("smoke").experiment_id])
    assert len({run.info.run_name for run in found}) == len(found)
    return {run.info.run_name: run for run in found}


def histories(smoke_run, run, name):
    client = MlflowClient(f"sqlite:///{smoke_run.root}/mlflow.db")
    return [(metric.step, metric.value) for metric in client.get_metric_history(run.info.run_id, name)]


@pytest.mark.cluster
def test_two_workers_train_one_stage(ray_local, smoke_releases, tmp_path):
    (tmp_path / "releases").symlink_to(smoke_releases)
    config = replace(STAGES["stage1"], name="pair", workers=WorkerConfig(num_workers=2, cpus_per_worker=1))
    session = replace(ray_local, cluster=ClusterConfig(run_root=tmp_path))
    path = train_stage(config, session)
    assert path == tmp_path / "pair/stage1/checkpoint.safetensors"
    verify_outputs(path.parent, read_record(path.parent, "checkpoint"))
    trained = load_checkpoint(path).state_dict()
    start = load_checkpoint(tmp_path / "pair/untrained/checkpoint.safetensors").state_dict()
    assert all(torch.isfinite(tensor).all() for tensor in trained.values() if tensor.is_floating_point())
    assert any(not torch.equal(trained[name], start[name]) for name in start)
    # Two ranks with 8 clips each: losses of 16 clips make one line.
    steps = read_log(path.parent / "steps.jsonl")
    assert [step.step for step in steps] == [2, 4, 6]
    shares = [value for name, value in steps[-1].metrics.items() if name.startswith("mixture/")]
    assert sum(shares) == pytest.approx(1.0)


@pytest.mark.parametrize("stage", STAGES)
def test_checkpoint_names_what_it_was_made_from(smoke_run, stage):
    config, folder = STAGES[stage], smoke_run.root / "smoke" / stage
    record = read_record(folder, "checkpoint")
    verify_outputs(folder, record)
    before = "untrained" if config.previous is None else config.previous.stage
    names = [ReleaseName(dataset=source.dataset, split="train") for source in config.sources]
    releases = require_releases(smoke_run.root / "releases", names)
    assert record.config == stage_identity(config)
    assert record.inputs == {
        "start": digest_file(smoke_run.root / "smoke" / before / "checkpoint.safetensors"),
        **releases,
    }
    assert {path.name for path in folder.iterdir()} == {
        "checkpoint.safetensors",
        "steps.jsonl",
        "record.json",
    }
    assert load_checkpoint(folder / "checkpoint.safetensors").config == config.model


@pytest.mark.parametrize("stage", STAGES)
def test_stage_is_a_finished_child_of_its_curriculum(smoke_run, runs, stage):
    run, parent = runs[stage], runs["smoke"]
    record = read_record(smoke_run.root / "smoke" / stage)
    assert record.mlflow_run_id == run.info.run_id
    assert run.data.tags[PARENT_TAG] == parent.info.run_id
    assert run.data.tags[KEY_TAG] == (
        f"{parent.data.tags[KEY_TAG]}/{stage}/{run_digest(STAGES[stage], dict(record.inputs))}"
    )
    assert run.data.tags["univs.input.start"] == record.inputs["start"]
    assert run.data.tags["univs.commit"] == record.commit
    assert (run.info.status, parent.info.status) == ("FINISHED", "FINISHED")


@pytest.mark.parametrize("stage", STAGES)
def test_parameters_are_the_whole_configuration(runs, stage):
    params = runs[stage].data.params
    assert params == flatten_config(replace(STAGES[stage], previous=None))
    assert params["train.num_steps"] == "6"
    assert params["sources.0.dataset"] == STAGES[stage].sources[0].dataset


@pytest.mark.parametrize("stage", STAGES)
def test_metrics_follow_training(smoke_run, runs, stage):
    run, config = runs[stage], STAGES[stage]
    for name in ("learning_rate", "grad_norm", "clips_per_s", "frames_per_s", "data_wait_share"):
        points = histories(smoke_run, run, name)
        assert [step for step, _ in points] == [2, 4, 6]
        assert all(value > 0 for _, value in points)
    rates = [value for _, value in histories(smoke_run, run, "learning_rate")]
    # A warm-up of 50 steps; a tenth after three quarters of the run.
    full = config.train.optimizer.learning_rate
    assert rates == pytest.approx([full * 2 / 50, full * 4 / 50, full * 6 / 50 / 10])
    metrics = run.data.metrics
    assert metrics["data_wait_share"] < 1
    assert metrics["frames_per_s"] == pytest.approx(config.loader.frames_per_clip * metrics["clips_per_s"])
    tasks = {name.removeprefix("loss/") for name in metrics if name.startswith("loss/")}
    assert tasks == {"detection", "sot", "grounding"}
    for task in tasks:
        terms = [value for name, value in metrics.items() if name.startswith(f"loss_{task}/")]
        assert {f"loss_{task}/mask", f"loss_{task}/prompt_dice"} <= set(metrics)
        assert metrics[f"loss/{task}"] <= sum(terms) + 1e-6
    shares = {name: value for name, value in metrics.items() if name.startswith("mixture/")}
    assert sum(shares.values()) == pytest.approx(1.0)
    assert set(shares) <= {f"mixture/{source.dataset}" for source in config.sources}


@pytest.mark.parametrize("stage", STAGES)
def test_log_on_disk_is_what_mlflow_has(smoke_run, runs, stage):
    steps = read_log(smoke_run.root / "smoke" / stage / "steps.jsonl")
    for name in ("learning_rate", "loss/detection", "mixture/vipseg"):
        written = [(step.step, step.metrics[name]) for step in steps if name in step.metrics]
        assert histories(smoke_run, runs[stage], name) == written
