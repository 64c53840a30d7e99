"""Score a checkpoint on benchmarks: every video is one piece of work for a pool of model actors.

The driver holds partial scores only. Of a prediction nothing leaves its actor but the partial, the files of a
submission and, for a few videos, pictures; so memory does not grow with the benchmark.
"""

import logging
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray

from jobs.config import BenchmarkConfig, EvaluateConfig
from jobs.errors import UserError
from jobs.evaluator import Evaluator, ItemResult, Picture, WorkItem
from jobs.session import Session
from jobs.submissions import finish_submission
from jobs.tracking import Tracking
from preprocessing.index import MANIFEST_NAME
from univs.data.release import Release
from univs.data.videos import iter_videos
from univs.evaluation.benchmarks import BENCHMARKS, score, score_each_video

logger = logging.getLogger(__name__)

_PROGRESS_S = 10.0


@dataclass(frozen=True, kw_only=True, slots=True)
class BenchmarkResult:
    """The scores of one benchmark."""

    name: str
    scores: Mapping[str, float]
    """Metrics in percent; those that the data cannot measure are left out."""
    per_item: Mapping[str, float]
    """Primary score of every video or image on its own."""
    num_items: int
    num_frames: int
    actor_s: float
    """Seconds actors spent on it, summed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """The scores of one checkpoint."""

    benchmarks: tuple[BenchmarkResult, ...]
    pictures: tuple[Picture, ...]
    seconds: float


class EvaluatorPool:
    """Model actors that may score several checkpoints, one after another."""

    def __init__(self, config: EvaluateConfig) -> None:
        """Start the actors; they import and wait."""
        self._config = config
        options = {"num_cpus": config.cpus_per_actor, "num_gpus": config.gpus_per_actor}
        remote = ray.remote(Evaluator).options(**options)
        self._actors: list[Any] = [remote.remote(config.cpus_per_actor) for _ in range(config.num_actors)]

    def evaluate(self, checkpoint: Path, releases: Path, submissions: Path | None = None) -> Evaluation:
        """Score one checkpoint.

        Args:
            checkpoint: File to load into every actor.
            releases: Folder of releases; those of the configured split are scored.
            submissions: Where predictions go in the official formats; ``None`` writes none.

        Raises:
            UserError: a release is missing, or the checkpoint is not one.
        """
        start = time.monotonic()
        work = _list_work(self._config, releases, submissions)
        for folder in {item.submissions for item in work if item.submissions is not None}:
            # Another checkpoint's predictions must not get into the zip.
            shutil.rmtree(folder, ignore_errors=True)
        _get([actor.load.remote(checkpoint) for actor in self._actors])
        results = list(self._run(work))
        if submissions is not None:
            _finish_submissions(self._config, releases, submissions, results)
        return Evaluation(
            benchmarks=tuple(
                _score(self._config, releases, name, found) for name, found in _by_name(results)
            ),
            pictures=tuple(picture for result in results for picture in result.pictures),
            seconds=time.monotonic() - start,
        )

    def close(self) -> None:
        """Stop the actors."""
        for actor in self._actors:
            ray.kill(actor)

    def _run(self, work: Sequence[WorkItem]) -> Iterator[ItemResult]:
        """Hand out items, longest first, one at a time per actor, so that none waits at the end."""
        queue = sorted(work, key=lambda item: -item.num_frames)
        idle, busy = list(self._actors), {}
        shown = time.monotonic()
        for done in range(len(queue)):
            while idle and queue:
                actor = idle.pop()
                busy[actor.evaluate.remote(queue.pop(0))] = actor
            (ready,), _ = ray.wait(list(busy), num_returns=1)
            idle.append(busy.pop(ready))
            yield _get(ready)
            if time.monotonic() - shown >= _PROGRESS_S:
                logger.info("evaluate: %d/%d items", done + 1, len(work))
                shown = time.monotonic()


@contextmanager
def evaluator_pool(config: EvaluateConfig, session: Session) -> Iterator[EvaluatorPool]:
    """Hold a pool of actors on the session's Ray."""
    if config.num_actors * config.cpus_per_actor > session.num_cpus:
        raise UserError(
            f"num_actors {config.num_actors} x cpus_per_actor {config.cpus_per_actor} is more than the "
            f"{session.num_cpus} CPUs of this Ray; lower one of them"
        )
    pool = EvaluatorPool(config)
    try:
        yield pool
    finally:
        pool.close()


def log_scores(evaluation: Evaluation, name: str, curriculum: str, tracking: Tracking) -> None:
    """Write the scores to a run of their own under the curriculum's."""
    parent = tracking.start_run(tracking.experiment, key=curriculum)
    run_id = tracking.start_run(f"evaluate {name}", key=f"{curriculum}/evaluate/{name}", parent_run_id=parent)
    metrics = {
        f"{benchmark.name}/{metric}": value
        for benchmark in evaluation.benchmarks
        for metric, value in benchmark.scores.items()
    }
    tracking.log_metrics(run_id, metrics, step=0)
    for finished in (run_id, parent):
        tracking.finish(finished)


def _list_work(config: EvaluateConfig, releases: Path, submissions: Path | None) -> list[WorkItem]:
    work: list[WorkItem] = []
    for setting in available(config, releases):
        videos = list(iter_videos(Release.open(release_folder(config, releases, setting.name))))
        for position, video in enumerate(videos[: config.max_items or None]):
            work.append(
                WorkItem(
                    benchmark=setting.name,
                    video=video,
                    num_frames=video.num_frames,
                    inference=setting.inference,
                    seed=config.seed,
                    is_drawn=position < config.pictures_per_benchmark,
                    submissions=submissions / setting.name if submissions else None,
                )
            )
    return work


def available(config: EvaluateConfig, releases: Path) -> list[BenchmarkConfig]:
    """Give the benchmarks asked for; with ``all``, those that have a release, saying which have none.

    Raises:
        UserError: a benchmark asked for by name has no release, or none has one.
    """
    chosen = [setting for setting in config.settings if setting.name in config.names]
    found = [s for s in chosen if (release_folder(config, releases, s.name) / MANIFEST_NAME).exists()]
    missing = [setting.name for setting in chosen if setting not in found]
    if missing and (config.benchmarks != "all" or not found):
        folder = release_folder(config, releases, missing[0])
        raise UserError(f"{folder}: no whole release to score on; build it with pipelines/preprocess.py")
    if missing:
        logger.warning("not evaluated, no release under %s: %s", releases, ", ".join(missing))
    return found


def release_folder(config: EvaluateConfig, releases: Path, benchmark: str) -> Path:
    """Where the release of a benchmark lies."""
    return releases / benchmark / config.split


def _by_name(results: Sequence[ItemResult]) -> Iterator[tuple[str, list[ItemResult]]]:
    for name in dict.fromkeys(sorted((result.benchmark for result in results), key=list(BENCHMARKS).index)):
        yield name, [result for result in results if result.benchmark == name]


def _finish_submissions(
    config: EvaluateConfig, releases: Path, submissions: Path, results: Sequence[ItemResult]
) -> None:
    for name, found in _by_name(results):
        manifest = Release.open(release_folder(config, releases, name)).manifest
        path = finish_submission(submissions / name, [result.submission for result in found], manifest)
        logger.info("submission %s", path)


def _score(
    config: EvaluateConfig, releases: Path, name: str, results: Sequence[ItemResult]
) -> BenchmarkResult:
    labels = Release.open(release_folder(config, releases, name)).manifest.label_space
    partials = [result.partial for result in results if result.partial is not None]
    spec = BENCHMARKS[name]
    values = score(spec, partials, labels) if partials else {}
    return BenchmarkResult(
        name=name,
        scores={metric: value for metric, value in values.items() if value == value},
        per_item=score_each_video(spec, partials, labels) if partials else {},
        num_items=len(results),
        num_frames=sum(result.num_frames for result in results),
        actor_s=sum(result.seconds for result in results),
    )


def _get(reference: Any) -> Any:
    """Wait for an actor; a user's mistake in it is raised as such, a bug with the actor's traceback."""
    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, UserError):
            raise UserError(str(error.cause)) from error
        raise
