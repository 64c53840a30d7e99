import json

import pytest
from mlflow import MlflowClient

from jobs.tracking import Tracking
from jobs.training_log import LoggedStep, TrainingLog, read_log


def make_report(step, dataset="vipseg", task="detection", loss=8.0, **changes):
    """Report a step as a rank does: 4 clips of 3 frames in half a second, a tenth of it spent waiting."""
    report = {
        "step": step,
        "dataset": dataset,
        "task": task,
        "loss": loss,
        "losses": {"mask": loss / 4, "class": 3 * loss / 4},
        "learning_rate": 1e-3,
        "grad_norm": 2.0,
        "data_wait_s": 0.05,
        "step_s": 0.5,
        "num_clips": 4,
        "num_frames": 12,
    }
    return {**report, **changes}


@pytest.fixture(scope="module")
def tracking(tmp_path_factory):
    return Tracking(uri=f"sqlite:///{tmp_path_factory.mktemp('tracking')}/mlflow.db", experiment="log")


def log(tracking, run_id, path, *rounds):
    """Write rounds of reports, each a list of the reports of every rank."""
    training_log = TrainingLog(tracking, run_id, path)
    for ranks in rounds:
        training_log.after_report(None, [{"reports": reports} for reports in ranks], None)


def test_log_averages_ranks_and_counts_the_mixture(tracking, tmp_path):
    run_id = tracking.start_run("stage", key="averages")
    first = [
        [make_report(0, loss=8.0), make_report(1, "refytvos", "grounding", 2.0)],
        [make_report(0, loss=16.0, data_wait_s=0.15), make_report(1, "refytvos", "grounding", 4.0)],
    ]
    second = [[make_report(2, learning_rate=5e-4)], [make_report(2, grad_norm=4.0)]]
    log(tracking, run_id, tmp_path / "steps.jsonl", first, second)
    one, two = read_log(tmp_path / "steps.jsonl")
    assert one == LoggedStep(
        step=2,
        metrics={
            "learning_rate": 1e-3,
            "grad_norm": 2.0,
            "clips_per_s": 16.0,
            "frames_per_s": 48.0,
            "data_wait_share": pytest.approx(0.15),
            "loss/detection": 12.0,
            "loss_detection/mask": 3.0,
            "loss_detection/class": 9.0,
            "loss/grounding": 3.0,
            "loss_grounding/mask": 0.75,
            "loss_grounding/class": 2.25,
            "mixture/vipseg": 0.5,
            "mixture/refytvos": 0.5,
        },
    )
    assert two.step == 3
    assert two.metrics["grad_norm"] == 3.0
    assert "loss/grounding" not in two.metrics
    assert two.metrics["mixture/vipseg"] == pytest.approx(2 / 3)
    client = MlflowClient(tracking.uri)
    history = client.get_metric_history(run_id, "loss/detection")
    assert [(metric.step, metric.value) for metric in history] == [(2, 12.0), (3, 8.0)]
    assert client.get_run(run_id).data.metrics == {**one.metrics, **two.metrics}


def test_line_being_written_is_left_out(tmp_path):
    path = tmp_path / "steps.jsonl"
    path.write_text('{"step": 2, "a": 1.0}\n{"step": 4, "a"')
    assert read_log(path) == [LoggedStep(step=2, metrics={"a": 1.0})]


def test_log_that_is_not_there_yet_is_empty(tmp_path):
    assert read_log(tmp_path / "steps.jsonl") == []


def test_lines_of_a_resumed_run_replace_those_it_takes_again(tmp_path):
    path = tmp_path / "steps.jsonl"
    written = [(2, 0.1), (4, 0.2), (6, 0.3), (8, 0.4), (5, 0.5), (7, 0.6)]
    path.write_text("".join(json.dumps({"step": step, "a": value}) + "\n" for step, value in written))
    assert [(logged.step, logged.metrics["a"]) for logged in read_log(path)] == [
        (2, 0.1),
        (4, 0.2),
        (5, 0.5),
        (7, 0.6),
    ]


def test_mixture_of_a_resumed_run_counts_the_steps_before_it(tracking, tmp_path):
    run_id, path = tracking.start_run("stage", key="resumed"), tmp_path / "steps.jsonl"
    steps = [make_report(step, "vspw" if step == 1 else "vipseg") for step in range(6)]
    log(tracking, run_id, path, [steps[:4]], [steps[4:]])
    # Killed after step 6 and taken up again from a checkpoint at step 4.
    log(tracking, run_id, path, [[make_report(4, "davis_2017"), make_report(5, "davis_2017")]])
    shares = {
        name: value for name, value in read_log(path)[-1].metrics.items() if name.startswith("mixture/")
    }
    assert shares == pytest.approx(
        {"mixture/vipseg": 3 / 6, "mixture/vspw": 1 / 6, "mixture/davis_2017": 2 / 6}
    )
