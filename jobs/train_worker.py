"""What runs inside every training worker: the same code for one CPU and for a GPU cluster."""

import logging
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import ray.train
import ray.train.torch
import torch
from ray.train import Checkpoint
from torch.optim import Optimizer

from jobs.config import StageConfig
from univs.data.loader import MixtureSource, make_loader
from univs.model.univs import UniVS
from univs.model.weights import load_checkpoint, save_checkpoint
from univs.training.ema import Ema
from univs.training.objective import Objective
from univs.training.optimizer import build_optimizer
from univs.training.state import load_training_state, save_training_state
from univs.training.steps import StepReport, train_steps

logger = logging.getLogger(__name__)

WEIGHTS, AVERAGED, STATE = "weights.safetensors", "averaged.safetensors", "state.pt"
"""Files of a resumable checkpoint: the trained weights, their average where one is kept, the optimizer."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerPlan:
    """All a worker needs to know."""

    config: StageConfig
    start: Path
    """Checkpoint whose weights the stage starts from."""
    sources: tuple[MixtureSource, ...]


@dataclass(frozen=True, kw_only=True)
class Run:
    """The mutable parts of a training run."""

    model: UniVS
    optimizer: Optimizer
    ema: Ema | None
    start_step: int


def train_worker(loop: Mapping[str, WorkerPlan]) -> None:
    """Train one stage, or the rest of it after a restart; every rank reports equally often."""
    plan = loop["plan"]
    config, context = plan.config, ray.train.get_context()
    torch.set_num_threads(config.workers.cpus_per_worker)
    device = ray.train.torch.get_device()
    run = _restore(plan, device)
    objective = ray.train.torch.prepare_model(
        Objective(run.model, config.train),
        # A batch has one task, and each task leaves some prompt parameters without a gradient.
        parallel_strategy_kwargs={"find_unused_parameters": True},
    )
    batches = make_loader(
        plan.sources,
        config.loader,
        seed=config.train.seed,
        start_step=run.start_step,
        rank=context.get_world_rank(),
        world_size=context.get_world_size(),
        device=device,
    )
    steps = train_steps(objective, batches, run.optimizer, config.train, device, run.start_step, run.ema)
    for reports in steps:
        _report(plan, run, reports, is_writer=context.get_world_rank() == 0)


def _restore(plan: WorkerPlan, device: torch.device) -> Run:
    """Build the model with the start's weights, or continue where the last checkpoint was written."""
    config = plan.config
    model = build_model(config, plan.start).to(device)
    optimizer = build_optimizer(model, config.train.optimizer)
    ema = Ema(model, config.train.ema_decay) if config.train.ema_decay else None
    last = ray.train.get_checkpoint()
    if last is None:
        return Run(model=model, optimizer=optimizer, ema=ema, start_step=0)
    with last.as_directory() as folder:
        model.load_state_dict(load_checkpoint(Path(folder) / WEIGHTS).state_dict())
        start_step = load_training_state(Path(folder) / STATE, optimizer, ema)
    logger.info("%s resumes at step %d", config.stage, start_step)
    return Run(model=model, optimizer=optimizer, ema=ema, start_step=start_step)


def build_model(config: StageConfig, start: Path) -> UniVS:
    """Build the stage's model, with its own frozen parts, around the weights of ``start``.

    Raises:
        ValueError: the checkpoint is not one, or of another architecture.
    """
    model = UniVS(config.model)
    found = load_checkpoint(start)
    try:
        model.load_state_dict(found.state_dict())
    except RuntimeError as error:
        line = str(error).split("\n")[1 if "\n" in str(error) else 0].strip()
        raise ValueError(
            f"{start}: its weights do not fit the recipe's model ({line}); choose the recipe of its training"
        ) from error
    return model


def _report(plan: WorkerPlan, run: Run, reports: Sequence[StepReport], *, is_writer: bool) -> None:
    """Send the steps' reports to the controller, with a checkpoint when one is due."""
    body = {"reports": [asdict(report) for report in reports]}
    done = reports[-1].step + 1
    is_due = done % plan.config.checkpoint_every_steps == 0 or done == plan.config.train.num_steps
    if not (is_due and is_writer):
        ray.train.report(body)
        return
    with tempfile.TemporaryDirectory() as folder:
        _write_checkpoint(Path(folder), run, done)
        ray.train.report(body, checkpoint=Checkpoint.from_directory(folder))


def _write_checkpoint(folder: Path, run: Run, step: int) -> None:
    save_checkpoint(folder / WEIGHTS, run.model)
    save_training_state(folder / STATE, step, run.optimizer, run.ema)
    if run.ema is not None:
        with run.ema.swap():
            save_checkpoint(folder / AVERAGED, run.model)
