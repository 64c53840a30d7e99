"""Write what training reports: to MLflow, and to a file of lines that a terminal and the report read.

It runs once per run, on Ray Train's controller, so there is one writer whatever the number of workers.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray.train import Checkpoint, UserCallback

from jobs.tracking import Tracking

_SHARE = "mixture/"
"""What the share of the steps a dataset has had is logged under."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LoggedStep:
    """The metrics of the steps between two reports."""

    step: int
    """Steps taken so far."""
    metrics: Mapping[str, float]


class TrainingLog(UserCallback):
    """Average the ranks' reports and write them."""

    def __init__(self, tracking: Tracking, run_id: str, path: Path) -> None:
        """Take the MLflow run to write to, and the file to append lines to."""
        self._tracking = tracking
        self._run_id = run_id
        self._path = path
        self._draws: Counter[str] = Counter()

    def after_report(
        self, run_context: Any, metrics: list[dict[str, Any]], checkpoint: Checkpoint | None
    ) -> None:
        """Write one point per report."""
        reports = [report for rank in metrics for report in rank["reports"]]
        if not self._draws:
            self._draws = _earlier_draws(self._path, reports[0]["step"])
        self._draws.update(report["dataset"] for report in metrics[0]["reports"])
        logged = LoggedStep(step=reports[-1]["step"] + 1, metrics=self._summarize(reports, len(metrics)))
        self._tracking.log_metrics(self._run_id, logged.metrics, step=logged.step)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": logged.step, **logged.metrics}) + "\n")

    def _summarize(self, reports: Sequence[Mapping[str, Any]], num_ranks: int) -> dict[str, float]:
        last, total = reports[-1], sum(self._draws.values())
        step_s = _mean([report["step_s"] for report in reports])
        shares = {f"{_SHARE}{name}": count / total for name, count in self._draws.items()}
        return {
            "learning_rate": last["learning_rate"],
            "grad_norm": _mean([report["grad_norm"] for report in reports]),
            "clips_per_s": num_ranks * _mean([report["num_clips"] for report in reports]) / step_s,
            "frames_per_s": num_ranks * _mean([report["num_frames"] for report in reports]) / step_s,
            "data_wait_share": _mean([report["data_wait_s"] for report in reports]) / step_s,
            **_mean_losses(reports),
            **shares,
        }


def read_log(path: Path) -> list[LoggedStep]:
    """Read the lines written so far; one still being written is left out.

    A resumed run takes some steps again: its lines replace all that were written from there on.
    """
    steps: list[LoggedStep] = []
    for line in _whole_lines(path):
        body = json.loads(line)
        step = int(body.pop("step"))
        while steps and steps[-1].step >= step:
            steps.pop()
        steps.append(LoggedStep(step=step, metrics=body))
    return steps


def _earlier_draws(path: Path, step: int) -> Counter[str]:
    """Count the draws of each dataset in the steps before ``step``, one a step, from the lines of the log."""
    earlier = [logged for logged in read_log(path) if logged.step <= step]
    shares = earlier[-1].metrics if earlier else {}
    return Counter(
        {
            name.removeprefix(_SHARE): round(share * earlier[-1].step)
            for name, share in shares.items()
            if name.startswith(_SHARE)
        }
    )


def _whole_lines(path: Path) -> Iterator[str]:
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    yield from text[: text.rfind("\n") + 1].splitlines()


def _mean_losses(reports: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    values: dict[str, list[float]] = defaultdict(list)
    for report in reports:
        values[f"loss/{report['task']}"].append(report["loss"])
        for term, value in report["losses"].items():
            values[f"loss_{report['task']}/{term}"].append(value)
    return {name: _mean(found) for name, found in values.items()}


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
