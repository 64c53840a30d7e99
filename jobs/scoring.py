"""Score prediction files against official ground truth on this machine: no model, no Ray.

Items are compared in forked processes, which share the opened case; what comes back is small.
"""

import logging
import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from jobs.errors import mistakes_travel
from univs.evaluation.official.case import Case, OfficialBenchmark, ScoreOptions, Scores
from univs.evaluation.official.catalog import OFFICIAL, open_case

logger = logging.getLogger(__name__)

_opened: list[Case] = []
"""The case that forked workers inherit."""


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

    def __post_init__(self) -> None:
        """Refuse names and numbers that cannot be."""
        if self.benchmark not in OFFICIAL:
            raise ValueError(f"--benchmark {self.benchmark}: expected one of {', '.join(OFFICIAL)}")
        if self.jobs < 1:
            raise ValueError(f"--jobs {self.jobs}: expected at least 1")


@dataclass(frozen=True, kw_only=True, slots=True)
class Scored:
    """A finished scoring."""

    benchmark: OfficialBenchmark
    case: Case
    scores: Scores


def score_files(config: ScoreConfig) -> Scored:
    """Open, compare and merge.

    Raises:
        ValueError: a file is missing or does not hold what it should; the line names it.
    """
    benchmark = OFFICIAL[config.benchmark]
    options = ScoreOptions(missing=config.missing, mends=config.mend)
    case = open_case(benchmark, config.gt, config.pred, options)
    if not case.names:
        raise ValueError(f"--gt {config.gt}: holds nothing to score, expected {benchmark.gt_layout}")
    logger.info("%s: %d items, %d missing", benchmark.name, len(case.names), len(case.missing))
    return Scored(benchmark=benchmark, case=case, scores=case.score(_compare_all(case, config.jobs)))


def _compare_all(case: Case, num_processes: int) -> list[Any]:
    indices = range(len(case.names))
    if num_processes == 1:
        return [case.compare(index) for index in indices]
    with _inherited(case), multiprocessing.get_context("fork").Pool(num_processes) as pool:
        return list(pool.imap_unordered(_compare, indices))


@contextmanager
def _inherited(case: Case) -> Iterator[None]:
    _opened.append(case)
    try:
        yield
    finally:
        _opened.pop()


def _compare(index: int) -> Any:
    with mistakes_travel():
        return _opened[-1].compare(index)
