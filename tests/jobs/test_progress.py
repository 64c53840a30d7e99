import json
import logging

import pytest

from jobs.progress import follow, progress_line
from jobs.training_log import LoggedStep


def make_step(step):
    return LoggedStep(
        step=step,
        metrics={"loss/sot": 5.25, "loss/detection": 12.0, "loss_sot/mask": 1.0, "clips_per_s": 7.6},
    )


def append(path, step):
    with path.open("a") as file:
        file.write(json.dumps({"step": step, **make_step(step).metrics}) + "\n")


@pytest.mark.parametrize(
    ("step", "rate", "left"),
    [(20, 0.25, "5:20"), (20, 0.0, "unknown"), (20, -1.0, "unknown"), (100, 0.0, "0:00")],
)
def test_line_says_step_losses_rate_and_time_left(step, rate, left):
    assert progress_line("stage2", make_step(step), 100, rate) == (
        f"stage2: step {step}/100, loss detection 12.0, sot 5.2, 8 clips/s, ETA {left}"
    )


def test_run_that_ends_at_once_still_shows_its_last_step(tmp_path, caplog):
    path = tmp_path / "steps.jsonl"
    with caplog.at_level(logging.INFO, "jobs.progress"), follow(path, "stage1", 6):
        append(path, 2)
        append(path, 6)
    assert [record.message.partition(",")[0] for record in caplog.records] == ["stage1: step 6/6"]


def test_lines_of_a_killed_run_are_not_shown_again(tmp_path, caplog):
    path = tmp_path / "steps.jsonl"
    for step in (2, 4, 6):
        append(path, step)
    with caplog.at_level(logging.INFO, "jobs.progress"):
        with follow(path, "stage1", 8):
            pass
        assert not caplog.records
        with follow(path, "stage1", 8):
            append(path, 4)
    assert [record.message.partition(",")[0] for record in caplog.records] == ["stage1: step 4/8"]
