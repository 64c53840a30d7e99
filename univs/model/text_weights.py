"""Import of CLIP text towers: RegionCLIP's, OpenAI's, open_clip's and transformers' files."""

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from univs.config import TextConfig
from univs.model.keys import text_from_reference
from univs.model.text import TextEncoder
from univs.model.torchscript import is_torchscript, read_torchscript
from univs.model.unpickling import DAMAGE, read_file

ARRAYS = (Tensor, np.ndarray)
WRAPPERS = ("model", "state_dict")
"""Entries that hold the tensors in files that hold more."""
TOWER = re.compile(
    r"(transformer\.resblocks|token_embedding|positional_embedding|ln_final|text_projection)\b"
)
"""Names of the tower in CLIP's layout; the same file may hold an image tower, a logit scale and more."""
TOKENS = "token_embedding.weight"
TRANSFORMERS_TOKENS = f"embeddings.{TOKENS}"
TRANSFORMERS_ROWS = (
    (r"embeddings\.token_embedding", "token_embedding"),
    (r"embeddings\.position_embedding\.weight", "positional_embedding"),
    (r"encoder\.layers\.(\d+)\.self_attn\.out_proj", r"transformer.resblocks.\1.attn.out_proj"),
    (r"encoder\.layers\.(\d+)\.mlp\.fc1", r"transformer.resblocks.\1.mlp.c_fc"),
    (r"encoder\.layers\.(\d+)\.mlp\.fc2", r"transformer.resblocks.\1.mlp.c_proj"),
    (r"encoder\.layers\.(\d+)\.layer_norm([12])", r"transformer.resblocks.\1.ln_\2"),
    (r"final_layer_norm", "ln_final"),
)
"""Names of transformers' tower and of CLIP's."""
TRANSFORMERS_QUERY = re.compile(r"encoder\.layers\.(\d+)\.self_attn\.q_proj\.(weight|bias)")


def load_text_weights(path: Path, config: TextConfig | None = None) -> dict[str, Tensor]:
    """Read a CLIP text tower, RN50x4 unless ``config`` says otherwise: float32 tensors by our names.

    Nothing in the file is run.

    Raises:
        ValueError: One line that names the file and what is wrong with it.
    """
    path = Path(path)
    state = _read(path)
    with torch.device("meta"):
        expected = TextEncoder(config or TextConfig()).state_dict()
    try:
        tower = {f"lang_encoder.{name}": tensor for name, tensor in _clip_names(state).items()}
        ours = text_from_reference(tower, {f"text.{name}": tensor for name, tensor in expected.items()})
    except (ValueError, RuntimeError) as error:
        raise ValueError(f"{path}: {_first_line(error)}") from error
    return {name.removeprefix("text."): tensor.float().contiguous() for name, tensor in ours.items()}


def _read(path: Path) -> dict[str, Tensor]:
    """Read the named tensors of a file, whatever wraps them."""
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        if is_torchscript(path):
            return read_torchscript(path)
    except (OSError, SafetensorError, *DAMAGE) as error:
        raise ValueError(f"{path}: not weights that can be read ({_first_line(error)})") from error
    try:
        body = read_file(path)
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error}); is it whole?") from error
    for wrapper in WRAPPERS:
        if isinstance(body, Mapping) and isinstance(body.get(wrapper), Mapping):
            body = body[wrapper]
    if not isinstance(body, Mapping):
        raise ValueError(f"{path}: holds {type(body).__name__}, expected tensors by name")
    tensors = {name: torch.as_tensor(value) for name, value in body.items() if isinstance(value, ARRAYS)}
    return {str(name): tensor for name, tensor in tensors.items()}


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]


def _clip_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Select the text tower and name its tensors as CLIP does."""
    found = min((name for name in state if name.endswith(TOKENS)), key=len, default=None)
    if found is None:
        raise ValueError(f"none of its {len(state)} tensors is a {TOKENS}, expected a CLIP text tower")
    if found.endswith(TRANSFORMERS_TOKENS):
        return _from_transformers(state, found.removesuffix(TRANSFORMERS_TOKENS))
    prefix = found.removesuffix(TOKENS)
    inner = {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
    return {name: tensor for name, tensor in inner.items() if TOWER.match(name)}


def _from_transformers(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Rename transformers' tensors: q, k, v become one, the projection of the text is transposed."""
    inner = {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
    renamed = {}
    for name, tensor in inner.items():
        query = TRANSFORMERS_QUERY.fullmatch(name)
        if query:
            parts = [inner.get(name.replace("q_proj", f"{part}_proj")) for part in "qkv"]
            fused = [part for part in parts if part is not None]
            renamed[f"transformer.resblocks.{query[1]}.attn.in_proj_{query[2]}"] = torch.cat(fused)
        for theirs, clip in TRANSFORMERS_ROWS:
            match = re.match(rf"{theirs}(?=\.|$)", name)
            if match:
                renamed[match.expand(clip) + name[match.end() :]] = tensor
    projection = state.get(f"{prefix.removesuffix('text_model.')}text_projection.weight")
    return renamed if projection is None else {**renamed, "text_projection": projection.T}
