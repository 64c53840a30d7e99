"""Turn evaluations, training logs and the machine into the parts of a report."""

import platform
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil
import torch

from jobs.evaluate import Evaluation
from jobs.evaluator import Picture
from jobs.report import Media
from jobs.session import Session
from jobs.training_log import read_log
from univs.draw import curves


def score_columns(evaluations: Mapping[str, Evaluation]) -> dict[str, dict[str, dict[str, float]]]:
    """Lay the scores of several checkpoints out as benchmark -> metric -> column."""
    table: dict[str, dict[str, dict[str, float]]] = {}
    for column, evaluation in evaluations.items():
        for benchmark in evaluation.benchmarks:
            for metric, value in benchmark.scores.items():
                table.setdefault(benchmark.name, {}).setdefault(metric, {})[column] = value
    return table


def loss_plots(logs: Mapping[str, Path]) -> tuple[Media, ...]:
    """Plot each stage's loss by task."""
    return tuple(_loss_plot(title, path) for title, path in logs.items())


def picture_media(pictures: Sequence[Picture]) -> tuple[Media, ...]:
    """Embed the overlays: a video where there is one, else a picture."""
    pictures = sorted(pictures, key=lambda picture: (picture.benchmark, picture.item_id))
    return tuple(
        Media(caption=f"{picture.benchmark} {picture.item_id}", mime="video/mp4", content=picture.mp4)
        if picture.mp4
        else Media(caption=f"{picture.benchmark} {picture.item_id}", mime="image/png", content=picture.png)
        for picture in pictures
    ) + tuple(
        Media(
            caption=f"{picture.benchmark} {picture.item_id}, middle frame",
            mime="image/png",
            content=picture.png,
        )
        for picture in pictures
        if picture.mp4
    )


def machine_facts(session: Session) -> dict[str, str]:
    """Say on what the figures were measured."""
    gpus = f", {session.num_gpus} x {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    memory_gib = psutil.virtual_memory().total / 2**30
    return {
        "machine": f"{session.num_nodes} nodes, {session.num_cpus} CPUs ({platform.machine()}){gpus}, "
        f"{memory_gib:.0f} GiB",
        "software": f"Python {platform.python_version()}, torch {torch.__version__}",
    }


def _loss_plot(title: str, path: Path) -> Media:
    series: dict[str, list[tuple[float, float]]] = {}
    for logged in read_log(path):
        for name, value in logged.metrics.items():
            if name.startswith("loss/"):
                series.setdefault(name.removeprefix("loss/"), []).append((logged.step, value))
    return Media(caption=f"{title}: loss by task", mime="image/svg+xml", content=curves(series, title))
