"""Checkpoints: one safetensors file with the weights (text tower included) and the configuration."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import Any, get_type_hints

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from univs.config import ModelConfig
from univs.model.univs import UniVS

FORMAT = "univs-checkpoint/1"


def save_checkpoint(path: Path, model: UniVS, origin: Mapping[str, str] | None = None) -> None:
    """Write a model; the file appears whole or not at all.

    ``origin`` says where imported weights come from; it is kept for the reader and changes nothing.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    metadata = {"format": FORMAT, "config": json.dumps(asdict(model.config), sort_keys=True)}
    if origin is not None:
        metadata["origin"] = json.dumps(dict(origin), sort_keys=True)
    with whole_file(Path(path)) as temporary:
        save_file(tensors, temporary, metadata)
        _sort_metadata(temporary)


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a temporary path beside ``path`` that takes its place when the block succeeds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.touch()
        mode = temporary.stat().st_mode
        yield temporary
        # safetensors shuts others out of its files; a checkpoint is as open as any new file.
        temporary.chmod(mode)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _sort_metadata(path: Path) -> None:
    """Order the entries safetensors writes in an order of chance, so that equal models are equal files."""
    with path.open("r+b") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        ordered = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode().ljust(size)
        if len(ordered) != size:
            raise RuntimeError(f"{path}: header of {size} bytes became {len(ordered)} when it was ordered")
        file.seek(8)
        file.write(ordered)


def load_checkpoint(path: Path) -> UniVS:
    """Read a model in evaluation mode, on the CPU.

    Raises:
        ValueError: One line that names the file and what is wrong with it.
    """
    path = Path(path)
    metadata, tensors = _read(path)
    if metadata.get("format") != FORMAT:
        found = metadata.get("format", "no format")
        raise ValueError(f"{path}: metadata holds {found}, expected {FORMAT}; import foreign weights first")
    model = UniVS(_parse_config(path, metadata.get("config", "")))
    _check_tensors(path, model.state_dict(), tensors)
    model.load_state_dict(tensors)
    return model.eval()


def _read(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    if not path.is_file():
        raise ValueError(f"{path}: no such file, expected a checkpoint")
    try:
        with safe_open(path, framework="pt") as file:
            return file.metadata() or {}, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{path}: not a safetensors file ({error})") from error


def _parse_config(path: Path, text: str) -> ModelConfig:
    try:
        config = _build(ModelConfig, json.loads(text))
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: its configuration cannot be read ({error})") from error
    assert isinstance(config, ModelConfig)
    return config


def _build(kind: Any, body: dict[str, Any]) -> Any:
    """Build a dataclass from its JSON form; a field that is not there was added since and has its default."""
    if not isinstance(body, dict):
        raise TypeError(f"{kind.__name__} is {body!r}, expected an object")
    hints = get_type_hints(kind)
    unknown = sorted(set(body) - {field.name for field in fields(kind)})
    if unknown:
        raise ValueError(f"{kind.__name__} has no {', '.join(unknown)}")
    return kind(
        **{
            name: _build(hints[name], value) if is_dataclass(hints[name]) else value
            for name, value in body.items()
        }
    )


def _check_tensors(path: Path, expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> None:
    for name, tensor in expected.items():
        if name not in found:
            raise ValueError(f"{path}: tensor {name} is missing")
        if found[name].shape != tensor.shape:
            shapes = f"{tuple(found[name].shape)}, expected {tuple(tensor.shape)}"
            raise ValueError(f"{path}: tensor {name} has shape {shapes}")
    unknown = sorted(set(found) - set(expected))
    if unknown:
        raise ValueError(f"{path}: tensor {unknown[0]} is unknown")
