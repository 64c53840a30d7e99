"""The whole product in one run: worlds, releases, three stages, every benchmark after each, one report."""

import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from jobs.artifacts import code_commit, digest_file, digest_files, to_plain, write_record
from jobs.config import EvaluateConfig, StageConfig
from jobs.curriculum import (
    LOG_NAME,
    UNTRAINED,
    curriculum_id,
    is_trained,
    places_of,
    releases_of,
    untrained_checkpoint,
)
from jobs.evaluate import Evaluation, evaluator_pool, log_scores
from jobs.memory import PeakMemory, peak_memory
from jobs.releases import ReleaseName, build_miniature, missing_releases
from jobs.report import Report, write_report
from jobs.report_parts import loss_plots, machine_facts, picture_media, score_columns
from jobs.session import Session
from jobs.tracking import Tracking
from jobs.train import train_stage
from univs.evaluation.benchmarks import BENCHMARKS

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class QuickstartConfig:
    """The curriculum's last stage, which names the earlier ones, and how each checkpoint is scored."""

    last_stage: StageConfig
    evaluation: EvaluateConfig

    def __post_init__(self) -> None:
        """Refuse a curriculum that brings no worlds of its own."""
        if self.last_stage.miniature is None:
            raise ValueError("the quickstart runs on generated worlds: choose a recipe that has a miniature")

    @property
    def stages(self) -> tuple[StageConfig, ...]:
        """All stages, first to last."""
        found = [self.last_stage]
        while (previous := found[0].previous) is not None:
            found.insert(0, previous)
        return tuple(found)


def run_quickstart(config: QuickstartConfig, session: Session) -> Report:
    """Run everything under the session's run root and write ``report.json`` and ``report.html`` there."""
    start = time.monotonic()
    _check(config, session)
    with peak_memory() as peak:
        _build_releases(config, session)
        evaluations = dict(_train_and_evaluate(config, session))
        report = _make_report(config, session, evaluations, time.monotonic() - start, peak)
    run_root = session.cluster.run_root
    write_report(run_root, report)
    _publish(config, session)
    return report


def _check(config: QuickstartConfig, session: Session) -> None:
    """Find out first what would stop the run in the middle."""
    for stage in config.stages:
        is_trained(stage, session.cluster.run_root)
    _tracking(config, session).check_reachable(session.cluster.connect_timeout_s)


def _build_releases(config: QuickstartConfig, session: Session) -> None:
    """Render and preprocess all datasets at once, for training and for held-out evaluation."""
    worlds = config.last_stage.miniature
    if worlds is None:
        raise ValueError("the quickstart runs on generated worlds")
    names = {name: None for stage in config.stages for name in releases_of(stage)}
    held_out = [ReleaseName(dataset=s, split=config.evaluation.split) for s in config.evaluation.names]
    root = places_of(config.last_stage, session.cluster.run_root).releases
    missing = missing_releases(root, [*names, *held_out])
    if missing:
        build_miniature(worlds, missing, root, session)


def _train_and_evaluate(config: QuickstartConfig, session: Session) -> Iterator[tuple[str, Evaluation]]:
    """Score the untrained weights and every stage's, each as soon as it is there."""
    run_root = session.cluster.run_root
    checkpoint = untrained_checkpoint(config.stages[0], run_root)
    yield UNTRAINED, _evaluate(config, session, UNTRAINED, checkpoint)
    for stage in config.stages:
        checkpoint = train_stage(stage, session)
        yield stage.stage, _evaluate(config, session, stage.stage, checkpoint)


def _evaluate(config: QuickstartConfig, session: Session, column: str, checkpoint: Path) -> Evaluation:
    places = places_of(config.last_stage, session.cluster.run_root)
    is_last = column == config.last_stage.stage
    submissions = session.cluster.run_root.absolute() / "submissions" if is_last else None
    logger.info("%s: evaluating on %d benchmarks", column, len(config.evaluation.names))
    with evaluator_pool(config.evaluation, session) as pool:
        evaluation = pool.evaluate(checkpoint, places.releases, submissions)
    log_scores(evaluation, column, curriculum_id(places.curriculum), _tracking(config, session))
    return evaluation


def _make_report(
    config: QuickstartConfig,
    session: Session,
    evaluations: dict[str, Evaluation],
    seconds: float,
    peak: PeakMemory,
) -> Report:
    last = evaluations[config.last_stage.stage]
    run_root = session.cluster.run_root
    logs: dict[str, Path] = {
        stage.stage: places_of(stage, run_root).stage / LOG_NAME for stage in config.stages
    }
    return Report(
        title="UniVS quickstart",
        columns=tuple(evaluations),
        scores=score_columns(evaluations),
        primary={name: spec.primary for name, spec in BENCHMARKS.items()},
        facts={"commit": code_commit(), **machine_facts(session)},
        plots=loss_plots(logs),
        overlays=picture_media(last.pictures),
        seconds=seconds,
        peak_rss_bytes=peak.rss_bytes,
        mlflow_uri=session.cluster.mlflow_uri,
    )


def _publish(config: QuickstartConfig, session: Session) -> None:
    """Give the report a record, and log it to the curriculum's MLflow run."""
    run_root = session.cluster.run_root
    places = places_of(config.last_stage, run_root)
    inputs: dict[str, str] = {
        stage.stage: digest_file(places_of(stage, run_root).checkpoint) for stage in config.stages
    }
    write_record(
        run_root,
        kind="report",
        config=to_plain(config.evaluation),
        inputs=inputs,
        outputs=digest_files(run_root, ["report.json", "report.html"]),
    )
    tracking = _tracking(config, session)
    parent = tracking.start_run(config.last_stage.name, key=curriculum_id(places.curriculum))
    for name in ("report.json", "report.html"):
        tracking.log_artifact(parent, run_root / name)
    tracking.finish(parent)


def _tracking(config: QuickstartConfig, session: Session) -> Tracking:
    return Tracking(uri=session.cluster.mlflow_uri, experiment=config.last_stage.name)
