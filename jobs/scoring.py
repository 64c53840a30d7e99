"""Score prediction files against official ground truth on this machine: no model, no Ray.

Items are compared in forked processes, which share the opened case; what comes back is small.
"""

import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np

from jobs.forks import map_forked
from univs.evaluation.official.case import Case, OfficialBenchmark, ScoreOptions, Scores
from univs.evaluation.official.catalog import OFFICIAL, open_case

logger = logging.getLogger(__name__)

_PROGRESS_S = 10.0
_LARGEST_BLOCK_BYTES = 31 << 20
"""Just below the 32 MiB up to which glibc adapts."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoreConfig:
    """What to score."""

    benchmark: str
    """Name of the benchmark; --list shows all."""
    gt: Path
    """Folder of the official ground truth."""
    pred: Path
    """Folder of the predictions, in the benchmark's official format."""
    out: Path = Path("scores.json")
    """JSON file to write; the HTML report goes beside it."""
    jobs: int = 1
    """Processes that compare items."""
    missing: Literal["refuse", "empty"] = "refuse"
    """What becomes of items that are not predicted: an error, or scored as empty and counted."""
    mend: tuple[str, ...] = ()
    """Quirks of the official evaluator to mend; --list names them."""
    pictures: int = 6
    """Items to draw in the report, those with the lowest scores."""

    def __post_init__(self) -> None:
        """Refuse names and numbers that cannot be."""
        require_benchmark(self.benchmark, tuple(OFFICIAL))
        if self.jobs < 1:
            raise ValueError(f"--jobs {self.jobs}: expected at least 1")
        if self.pictures < 0:
            raise ValueError(f"--pictures {self.pictures}: expected at least 0")
        if self.out.suffix != ".json":
            raise ValueError(f"--out {self.out}: expected a name that ends in .json; the HTML goes beside it")


@dataclass(frozen=True, kw_only=True, slots=True)
class Scored:
    """A finished scoring."""

    config: ScoreConfig
    benchmark: OfficialBenchmark
    case: Case
    scores: Scores
    """Its items are in the order of the ground truth."""
    seconds: float


def require_benchmark(name: str, known: tuple[str, ...]) -> None:
    """Refuse a benchmark that is not known.

    Raises:
        ValueError: it is not.
    """
    if name not in known:
        raise ValueError(f"--benchmark {name}: expected one of {', '.join(known)}")


def open_config(config: ScoreConfig) -> Case:
    """Open ground truth and predictions, which checks that everything is there.

    Raises:
        ValueError: a file is missing or does not hold what it should, or there is nothing to score.
    """
    if config.out.is_dir():
        raise ValueError(f"--out {config.out}: is a folder, expected a file to write")
    benchmark = OFFICIAL[config.benchmark]
    case = open_case(
        benchmark, config.gt, config.pred, ScoreOptions(missing=config.missing, mends=config.mend)
    )
    if not case.names:
        raise ValueError(f"--gt {config.gt}: holds nothing to score, expected {benchmark.gt_layout}")
    return case


def score_files(config: ScoreConfig) -> Scored:
    """Open, compare and merge.

    Raises:
        ValueError: a file is missing or does not hold what it should; the line names it.
    """
    start = time.monotonic()
    keep_freed_memory()
    # One thread each; and threads that OpenCV has started would be missing in forked processes.
    cv2.setNumThreads(1)
    case = open_config(config)
    config.out.parent.mkdir(parents=True, exist_ok=True)
    logger.info("%s: %d items, %d missing", config.benchmark, len(case.names), len(case.missing))
    scores = case.score(list(_compare_all(case, config.jobs)))
    return Scored(
        config=config,
        benchmark=OFFICIAL[config.benchmark],
        case=case,
        scores=_in_order(scores, case),
        seconds=time.monotonic() - start,
    )


def keep_freed_memory() -> None:
    """Keep the allocator from handing freed memory back: for every frame anew, that costs half its decoding.

    glibc raises its limits for that once a larger block is freed; elsewhere nothing happens.
    """
    np.empty(_LARGEST_BLOCK_BYTES, np.uint8)


def _compare_all(case: Case, num_processes: int) -> Iterator[Any]:
    shown = time.monotonic()
    for done, partial in enumerate(map_forked(case.compare, case.names, num_processes), start=1):
        if time.monotonic() - shown >= _PROGRESS_S:
            logger.info("compared %d/%d items", done, len(case.names))
            shown = time.monotonic()
        yield partial


def _in_order(scores: Scores, case: Case) -> Scores:
    position = {name: index for index, name in enumerate(case.names)}
    names = sorted(scores.items, key=lambda name: (position.get(name, len(position)), name))
    return replace(scores, items={name: scores.items[name] for name in names})
