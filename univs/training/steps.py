"""The training loop, as a generator of reports."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from time import perf_counter

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_
from torch.optim import Optimizer

from univs.data.batch import ClipBatch
from univs.schema import Task
from univs.training.config import TrainConfig
from univs.training.ema import Ema
from univs.training.optimizer import learning_rate, set_learning_rate


@dataclass(frozen=True, kw_only=True, slots=True)
class StepReport:
    """What a step did, on this rank."""

    step: int
    """The step, counted from 0."""
    dataset: str
    task: Task
    loss: float
    losses: Mapping[str, float]
    """Weighted terms; they sum to ``loss``."""
    learning_rate: float
    grad_norm: float
    """Norm of the gradient before clipping."""
    data_wait_s: float
    """Wait for the batch."""
    step_s: float
    """Duration, waiting included: the mean of the steps reported together, between which nothing waits."""
    num_clips: int
    num_frames: int
    """Frames of all clips together."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Taken:
    """A step whose numbers are still on the device."""

    step: int
    dataset: str
    task: Task
    keys: tuple[str, ...]
    num_clips: int
    num_frames: int
    losses: Mapping[str, Tensor]
    grad_norm: Tensor
    data_wait_s: float


def train_steps(
    objective: nn.Module,
    batches: Iterator[ClipBatch],
    optimizer: Optimizer,
    config: TrainConfig,
    device: torch.device,
    start_step: int = 0,
    ema: Ema | None = None,
) -> Iterator[tuple[StepReport, ...]]:
    """Train from ``start_step`` to the end of the run; report the steps every ``report_every_steps`` of them.

    Everything random in a step follows from (seed, step, rank), so a resumed run does what the first would
    have done. To that end the global generators of torch are seeded at every step.

    Args:
        objective: An ``Objective``, bare or wrapped for data parallelism.
        batches: Batches of the steps from ``start_step`` on, in order.
        optimizer: From ``build_optimizer``.
        config: The run.
        device: Where the objective is.
        start_step: Steps already taken.
        ema: Averages to update after every step.

    Raises:
        FloatingPointError: a loss is not finite; noticed at the next report.
        ValueError: a batch is of another step, or there are too few.
    """
    objective.train()
    taken: list[_Taken] = []
    since = perf_counter()
    for step in range(start_step, config.num_steps):
        batch, data_wait_s = _next_batch(batches, step)
        losses, grad_norm = _take_step(objective, batch.to(device), optimizer, config)
        if ema is not None:
            ema.update()
        taken.append(_remember(batch, losses, grad_norm, data_wait_s))
        if (step + 1) % config.report_every_steps == 0 or step + 1 == config.num_steps:
            reports = _report(taken, since, config)
            taken, since = [], perf_counter()
            yield reports


def step_generator(seed: int, step: int, rank: int) -> torch.Generator:
    """Give the CPU generator of one step on one rank."""
    state = np.random.SeedSequence([seed, step, rank]).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0]))


def _next_batch(batches: Iterator[ClipBatch], step: int) -> tuple[ClipBatch, float]:
    start = perf_counter()
    batch = next(batches, None)
    if batch is None:
        raise ValueError(f"batches ended before step {step}: the loader must reach num_steps")
    if batch.step != step:
        raise ValueError(
            f"got the batch of step {batch.step} at step {step}: start the loader at the same step"
        )
    return batch, perf_counter() - start


def _take_step(
    objective: nn.Module, batch: ClipBatch, optimizer: Optimizer, config: TrainConfig
) -> tuple[dict[str, Tensor], Tensor]:
    """Train on one batch; give detached losses and the gradient norm, without waiting for the device."""
    rank = dist.get_rank() if dist.is_available() and dist.is_initialized() else 0
    generator = step_generator(config.seed, batch.step, rank)
    torch.manual_seed(int(torch.randint(2**62, (), generator=generator)))
    set_learning_rate(optimizer, learning_rate(config, batch.step))
    is_bf16 = config.precision == "bf16"
    with torch.autocast(batch.frames.device.type, dtype=torch.bfloat16, enabled=is_bf16):
        losses = objective(batch, generator)
    optimizer.zero_grad(set_to_none=True)
    torch.stack(list(losses.values())).sum().backward()
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    grad_norm = clip_grad_norm_(parameters, config.optimizer.max_grad_norm)
    optimizer.step()
    return {name: loss.detach() for name, loss in losses.items()}, grad_norm


def _remember(
    batch: ClipBatch, losses: Mapping[str, Tensor], grad_norm: Tensor, data_wait_s: float
) -> _Taken:
    """Keep what a report needs, but not the frames."""
    num_clips, frames_per_clip = batch.frames.shape[:2]
    return _Taken(
        step=batch.step,
        dataset=batch.dataset,
        task=batch.task,
        keys=batch.keys,
        num_clips=num_clips,
        num_frames=num_clips * frames_per_clip,
        losses=losses,
        grad_norm=grad_norm,
        data_wait_s=data_wait_s,
    )


def _report(taken: list[_Taken], since: float, config: TrainConfig) -> tuple[StepReport, ...]:
    """Fetch the numbers of all steps taken in one transfer, check them and report them."""
    rows = [torch.stack([*step.losses.values(), step.grad_norm]) for step in taken]
    fetched = torch.cat(rows).double().cpu().split([len(row) for row in rows])
    step_s = (perf_counter() - since) / len(taken)
    return tuple(
        _report_step(step, values.tolist(), step_s, learning_rate(config, step.step))
        for step, values in zip(taken, fetched, strict=True)
    )


def _report_step(step: _Taken, values: list[float], step_s: float, rate: float) -> StepReport:
    _check_finite(step, values)
    return StepReport(
        step=step.step,
        dataset=step.dataset,
        task=step.task,
        loss=sum(values[:-1]),
        losses=dict(zip(step.losses, values[:-1], strict=True)),
        learning_rate=rate,
        grad_norm=values[-1],
        data_wait_s=step.data_wait_s,
        step_s=step_s,
        num_clips=step.num_clips,
        num_frames=step.num_frames,
    )


def _check_finite(step: _Taken, values: list[float]) -> None:
    names = [*step.losses, "grad_norm"]
    odd = [f"{name}={value}" for name, value in zip(names, values, strict=True) if not np.isfinite(value)]
    if odd:
        raise FloatingPointError(
            f"step {step.step}: {', '.join(odd)} on dataset {step.dataset!r}, samples {list(step.keys)}"
        )
