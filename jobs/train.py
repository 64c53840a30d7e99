"""Train a stage of the curriculum through Ray Train, tracked in MLflow, and publish its checkpoint.

Everything a stage needs and does not find is made first: the stage before it, and the miniature's releases.
Running the same command again continues where a killed run stopped, or does nothing.
"""

import logging
import shutil
from dataclasses import replace
from pathlib import Path

from ray.train import CheckpointConfig, FailureConfig, Result, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer

from jobs.artifacts import code_commit, digest_file, digest_files, write_record
from jobs.config import StageConfig
from jobs.curriculum import (
    CHECKPOINT_NAME,
    LOG_NAME,
    Places,
    curriculum_id,
    is_trained,
    mixture_of,
    places_of,
    releases_of,
    run_digest,
    stage_identity,
    untrained_checkpoint,
)
from jobs.errors import UserError
from jobs.progress import follow
from jobs.releases import build_miniature, missing_releases, require_releases
from jobs.session import Session
from jobs.tracking import Tracking
from jobs.train_worker import AVERAGED, WEIGHTS, WorkerPlan, build_model, train_worker
from jobs.training_log import TrainingLog
from jobs.waiting import interrupts_are_raised
from preprocessing.atomic import atomic_write

logger = logging.getLogger(__name__)


def train_stage(config: StageConfig, session: Session) -> Path:
    """Train one stage and all it starts from; give its checkpoint file.

    Raises:
        UserError: an input is missing or unfit, a folder holds something else, or MLflow does not answer.
        TrainingFailedError: the workers failed more often than ``max_failures``.
    """
    run_root = session.cluster.run_root
    places = places_of(config, run_root)
    if is_trained(config, run_root):
        logger.info("%s: already trained, %s", config.stage, places.checkpoint)
        return places.checkpoint
    _check_given(config, places)
    tracking = Tracking(uri=session.cluster.mlflow_uri, experiment=config.name)
    tracking.check_reachable(session.cluster.connect_timeout_s)
    start = _starting_checkpoint(config, session)
    inputs = {"start": digest_file(start), **_prepare_releases(config, places, session)}
    run_id = _start_run(config, places, tracking, inputs)
    try:
        result = _fit(
            config, places, start, run_digest(config, inputs), TrainingLog(tracking, run_id, _log(places))
        )
        _publish(config, places, result, inputs, run_id)
    except BaseException:
        tracking.finish(run_id, "FAILED")
        raise
    tracking.finish(run_id)
    return places.checkpoint


def _check_given(config: StageConfig, places: Places) -> None:
    """Find out now, not after the stages before have been trained, that an input is missing or unfit."""
    if config.init_from:
        build_model(config, Path(config.init_from).absolute())
    if config.miniature is None:
        require_releases(places.releases, releases_of(config))


def _starting_checkpoint(config: StageConfig, session: Session) -> Path:
    if config.init_from:
        return Path(config.init_from).absolute()
    if config.previous is not None:
        return train_stage(config.previous, session)
    return untrained_checkpoint(config, session.cluster.run_root)


def _prepare_releases(config: StageConfig, places: Places, session: Session) -> dict[str, str]:
    names = releases_of(config)
    missing = missing_releases(places.releases, names)
    if missing and config.miniature is not None:
        build_miniature(config.miniature, missing, places.releases, session)
    return require_releases(places.releases, names)


def _start_run(config: StageConfig, places: Places, tracking: Tracking, inputs: dict[str, str]) -> str:
    """Open the stage's run under the curriculum's; both are found again when the job is run again."""
    identity = curriculum_id(places.curriculum)
    parent = tracking.start_run(config.name, key=identity, tags={"univs.folder": str(places.curriculum)})
    run_id = tracking.start_run(
        config.stage,
        key=f"{identity}/{config.stage}/{run_digest(config, inputs)}",
        parent_run_id=parent,
        tags={
            "univs.commit": code_commit(),
            **{f"univs.input.{name}": value for name, value in inputs.items()},
        },
    )
    tracking.log_config(run_id, replace(config, previous=None))
    # It only groups its children, so it is over whenever no child runs.
    tracking.finish(parent)
    return run_id


def _fit(config: StageConfig, places: Places, start: Path, digest: str, log: TrainingLog) -> Result:
    sources = mixture_of(config, places)
    storage, workers = places.stage / "ray", config.workers
    storage.mkdir(parents=True, exist_ok=True)
    if not (storage / digest).exists():
        _log(places).unlink(missing_ok=True)
    trainer = TorchTrainer(
        train_worker,
        train_loop_config={"plan": WorkerPlan(config=config, start=start, sources=sources)},
        scaling_config=ScalingConfig(
            num_workers=workers.num_workers,
            use_gpu=workers.use_gpu,
            resources_per_worker={"CPU": workers.cpus_per_worker, **({"GPU": 1} if workers.use_gpu else {})},
        ),
        # The name is a digest of all that decides the result: the same job resumes, another one starts anew.
        run_config=RunConfig(
            name=digest,
            storage_path=str(storage),
            failure_config=FailureConfig(max_failures=workers.max_failures),
            checkpoint_config=CheckpointConfig(num_to_keep=2),
            # Ray declares callbacks by its tuner's type; what it runs is a UserCallback.
            callbacks=[log],  # type: ignore[list-item]
        ),
    )
    logger.info("%s: starting %d workers", config.stage, workers.num_workers)
    with interrupts_are_raised(), follow(_log(places), config.stage, config.train.num_steps):
        return trainer.fit()


def _publish(
    config: StageConfig, places: Places, result: Result, inputs: dict[str, str], run_id: str
) -> None:
    """Copy the last checkpoint's weights (their average where one is kept) to where the next stage looks."""
    if result.checkpoint is None:
        raise UserError(f"{places.stage}: training ended without a checkpoint; run the command again")
    with result.checkpoint.as_directory() as folder, atomic_write(places.checkpoint) as temporary:
        shutil.copyfile(Path(folder) / (AVERAGED if config.train.ema_decay else WEIGHTS), temporary)
    outputs = digest_files(places.stage, [CHECKPOINT_NAME, LOG_NAME])
    write_record(
        places.stage,
        kind="checkpoint",
        config=stage_identity(config),
        inputs=inputs,
        outputs=outputs,
        mlflow_run_id=run_id,
    )
    shutil.rmtree(places.stage / "ray", ignore_errors=True)
    logger.info("%s: checkpoint %s", config.stage, places.checkpoint)


def _log(places: Places) -> Path:
    return places.stage / LOG_NAME
