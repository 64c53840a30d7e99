"""Read checkpoints of UniVS and Mask2Former, whatever their packing, under the original's names."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from univs.model.architecture import NUM_HEADS
from univs.model.hugging_face import HUB_ID, download, read_model
from univs.model.keys import PIXEL_DECODER, PREDICTOR
from univs.model.unpickling import read_file

Kind = Literal["UniVS", "Mask2Former"]

AVERAGES = {"backbone_t.": "backbone.", "sem_seg_head_t.": "sem_seg_head."}
"""What UniVS puts in front of the running averages of its weights, and in front of the weights."""
OLD_QUERIES, QUERIES = f"{PREDICTOR}.static_query.", f"{PREDICTOR}.query_feat."
DOUBLED = f"{PIXEL_DECODER}.pixel_decoder."
"""What detectron2 makes of a Mask2Former file whose version it cannot tell."""
UNUSED = re.compile(r"criterion\.|pixel_(mean|std)$|.*\.(num_batches_tracked|relative_position_index)$")
"""Entries that no output depends on, or that follow from others."""
FILE_SUFFIXES = {".pth", ".pt", ".pkl", ".bin", ".safetensors"}
"""What no hub id ends in, so that a wrong path is not looked for on the hub."""
ONLY_UNIVS = re.compile(
    rf"{re.escape(PREDICTOR)}\.(prompt_|transformer_prompt|vis2text|text2vis|lang2vision)"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Foreign:
    """A checkpoint of another project."""

    kind: Kind
    state: Mapping[str, Tensor]
    """float32 tensors under the original's names."""
    num_heads: int
    dropped: tuple[str, ...]
    """Entries of the file that were left out."""
    notes: tuple[str, ...]
    """What was done to the names."""


def read_foreign(source: str, *, ema: bool) -> Foreign:
    """Read a file, a folder of Hugging Face's, or a model of its hub.

    Args:
        source: Path or hub id.
        ema: Take the running averages of a UniVS file.

    Raises:
        ValueError: One line that names the file, and the tensor if it is one, and what is wrong.
    """
    path = Path(source)
    if not path.exists() and HUB_ID.fullmatch(source) and path.suffix not in FILE_SUFFIXES:
        path = download(source)
    if path.is_dir():
        model = read_model(path)
        return _tidy(path, model.state, model.num_heads, ema=ema)
    return _tidy(path, _tensors(path, read_file(path)), NUM_HEADS, ema=ema)


def _tensors(path: Path, body: object) -> dict[str, Tensor]:
    """Take the tensors out of ``{"model": ...}`` or a bare state dict."""
    if isinstance(body, Mapping) and isinstance(body.get("model"), Mapping):
        body = body["model"]
    if not isinstance(body, Mapping) or not body:
        raise ValueError(
            f"{path}: holds a {type(body).__name__}, expected tensors by name, or by it in 'model'"
        )
    return {str(name): _tensor(path, str(name), value) for name, value in body.items()}


def _tensor(path: Path, name: str, value: object) -> Tensor:
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        native = value.astype(value.dtype.newbyteorder("="))
        return torch.from_numpy(np.ascontiguousarray(native).reshape(value.shape))
    if isinstance(value, Tensor):
        return value.detach()
    kind = f"array of {value.dtype}" if isinstance(value, np.ndarray) else type(value).__name__
    raise ValueError(
        f"{path}: {name} is no tensor but of type {kind}, expected weights by name, or in 'model'"
    )


def _tidy(path: Path, state: Mapping[str, Tensor], num_heads: int, *, ema: bool) -> Foreign:
    notes: list[str] = []
    state = _choose_twins(path, _strip_module(state), notes, ema=ema)
    state = _mend_names(path, state, notes)
    kept = {name: tensor for name, tensor in state.items() if not UNUSED.match(name)}
    for name, tensor in kept.items():
        _check_values(path, name, tensor)
    return Foreign(
        kind="UniVS" if any(ONLY_UNIVS.match(name) for name in kept) else "Mask2Former",
        state={name: tensor.to(torch.float32) for name, tensor in kept.items()},
        num_heads=num_heads,
        dropped=tuple(sorted(set(state) - set(kept))),
        notes=tuple(notes),
    )


def _strip_module(state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    return {name.removeprefix("module."): tensor for name, tensor in state.items()}


def _choose_twins(
    path: Path, state: Mapping[str, Tensor], notes: list[str], *, ema: bool
) -> Mapping[str, Tensor]:
    """Keep the weights or, under their names, the running averages."""
    averages = {
        plain + name.removeprefix(prefix): tensor
        for name, tensor in state.items()
        for prefix, plain in AVERAGES.items()
        if name.startswith(prefix)
    }
    if ema and not averages:
        raise ValueError(f"{path}: holds no running averages ({', '.join(AVERAGES)}), leave out --ema")
    if averages:
        notes.append("running averages taken" if ema else "running averages left out, --ema takes them")
    if ema:
        return averages
    return {name: tensor for name, tensor in state.items() if not name.startswith(tuple(AVERAGES))}


def _mend_names(path: Path, state: Mapping[str, Tensor], notes: list[str]) -> Mapping[str, Tensor]:
    """Undo what old or careless tools did to names."""
    renamed = dict(state)
    for wrong, right in ((OLD_QUERIES, QUERIES), (DOUBLED, f"{PIXEL_DECODER}.")):
        found = [name for name in state if name.startswith(wrong)]
        for name in found:
            mended = name.replace(wrong, right, 1)
            if mended in renamed:
                raise ValueError(f"{path}: holds both {name} and {mended}, which are names of one tensor")
            renamed[mended] = renamed.pop(name)
        if found:
            notes.append(f"{wrong}* renamed to {right}*")
    return renamed


def _check_values(path: Path, name: str, tensor: Tensor) -> None:
    if tensor.is_quantized or tensor.layout != torch.strided or not tensor.is_floating_point():
        raise ValueError(f"{path}: tensor {name} is of type {tensor.dtype}, expected floating-point numbers")
    if not bool(tensor.isfinite().all()):
        raise ValueError(f"{path}: tensor {name} holds values that are no finite numbers")
