"""Save and load what a run needs beside the model's weights to go on exactly: optimizer, averages, step."""

import os
from pathlib import Path

import torch
from torch.optim import Optimizer

from univs.training.ema import Ema

_FORMAT = "univs-training-state/1"


def save_training_state(path: Path, step: int, optimizer: Optimizer, ema: Ema | None) -> None:
    """Write the state after ``step`` steps, atomically."""
    body = {
        "format": _FORMAT,
        "step": step,
        "optimizer": optimizer.state_dict(),
        "ema": None if ema is None else ema.state_dict(),
    }
    partial = path.with_name(f".{path.name}.partial")
    torch.save(body, partial)
    os.replace(partial, path)


def load_training_state(path: Path, optimizer: Optimizer, ema: Ema | None) -> int:
    """Restore the optimizer and the averages; give the number of steps taken.

    Raises:
        ValueError: the file is no training state, or one of another model or with another use of averages.
    """
    body = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(body, dict) or body.get("format") != _FORMAT:
        raise ValueError(
            f"{path}: not a training state ({_FORMAT}); give the file written beside a checkpoint"
        )
    _check_names(path, body["optimizer"], optimizer)
    if (body["ema"] is None) != (ema is None):
        raise ValueError(
            f"{path}: averaged weights are {_on(body['ema'])} in the file, {_on(ema)} in the run"
        )
    optimizer.load_state_dict(body["optimizer"])
    if ema is not None:
        ema.load_state_dict(body["ema"])
    return int(body["step"])


def _check_names(path: Path, saved: dict[str, list[dict[str, list[str]]]], optimizer: Optimizer) -> None:
    """Compare parameter names: torch itself would load moments into whatever comes at the same place."""
    names = [name for group in saved["param_groups"] for name in group["param_names"]]
    expected = [name for group in optimizer.param_groups for name in group["param_names"]]
    if names != expected:
        odd = sorted(set(names) ^ set(expected))
        detail = f"first difference {odd[0]!r}" if odd else "in another order"
        raise ValueError(
            f"{path}: optimizer state of {len(names)} parameters, model has {len(expected)}, {detail}"
        )


def _on(value: object) -> str:
    return "off" if value is None else "on"
