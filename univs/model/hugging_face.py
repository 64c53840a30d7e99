"""Read Hugging Face's ``Mask2FormerForUniversalSegmentation`` under the original's names.

Both spellings are known: that of the released files (transformers 4) and that of transformers 5.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from univs.model.keys import PIXEL_DECODER, PREDICTOR
from univs.model.unpickling import read_file

CONFIG_NAME = "config.json"
WEIGHT_NAMES = ("model.safetensors", "pytorch_model.bin")
"""Files of weights, the better one first; big models add ``.index.json``, which lists parts."""
HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
EXPECTED: Mapping[str, object] = {
    "pre_norm": False,
    "activation_function": "relu",
    "enforce_input_projection": False,
    "feature_strides": [4, 8, 16, 32],
}
"""Settings that change what the same tensors compute, at their default, where files leave them out."""
EXPECTED_SWIN: Mapping[str, object] = {
    "model_type": "swin",
    "hidden_act": "gelu",
    "use_absolute_embeddings": False,
    "layer_norm_eps": 1e-5,
}

S = TypeVar("S")

Row = tuple[str, str, int | None]
"""A pattern of a name's start, what the original calls it, and which third of a fused projection it is."""

ENCODER = r"model\.pixel_level_module\.encoder\.(?:swin\.)?"
BLOCK, OUR_BLOCK = rf"{ENCODER}encoder\.layers\.(\d+)\.blocks\.(\d+)", r"backbone.layers.\1.blocks.\2"
PIXELS, QUERIES = r"model\.pixel_level_module\.decoder", r"model\.transformer_module"
LAYER = rf"{QUERIES}\.decoder\.layers\.(\d+)"
SELF_ATTENTION = rf"{PREDICTOR}.transformer_self_attention_layers.\1"

SWIN_ROWS: tuple[Row, ...] = (
    (rf"{ENCODER}embeddings\.patch_embeddings\.projection", "backbone.patch_embed.proj", None),
    (rf"{ENCODER}embeddings\.norm", "backbone.patch_embed.norm", None),
    (rf"{BLOCK}\.layernorm_before", f"{OUR_BLOCK}.norm1", None),
    (rf"{BLOCK}\.layernorm_after", f"{OUR_BLOCK}.norm2", None),
    *(
        (rf"{BLOCK}\.attention\.(?:self\.{name}|{name[0]}_proj)", f"{OUR_BLOCK}.attn.qkv", part)
        for part, name in enumerate(("query", "key", "value"))
    ),
    (rf"{BLOCK}\.attention\.(?:output\.dense|o_proj)", f"{OUR_BLOCK}.attn.proj", None),
    (rf"{BLOCK}\.attention\.(?:self|relative_position_bias)(?=\.relative)", f"{OUR_BLOCK}.attn", None),
    (rf"{BLOCK}\.(?:intermediate\.dense|mlp\.fc1)", f"{OUR_BLOCK}.mlp.fc1", None),
    (rf"{BLOCK}\.(?:output\.dense|mlp\.fc2)", f"{OUR_BLOCK}.mlp.fc2", None),
    (rf"{ENCODER}encoder\.layers\.(\d+)\.downsample", r"backbone.layers.\1.downsample", None),
    *(
        (rf"{ENCODER}hidden_states_norms\.stage{stage + 1}", f"backbone.norm{stage}", None)
        for stage in range(4)
    ),
)
PIXEL_DECODER_LAYERS = rf"{PIXEL_DECODER}.transformer.encoder.layers.\1"
PIXEL_DECODER_ROWS: tuple[Row, ...] = (
    (rf"{PIXELS}\.input_projections", f"{PIXEL_DECODER}.input_proj", None),
    (rf"{PIXELS}\.level_embed", f"{PIXEL_DECODER}.transformer.level_embed", None),
    *(
        (rf"{PIXELS}\.encoder\.layers\.(\d+)\.{theirs}", f"{PIXEL_DECODER_LAYERS}.{ours}", None)
        for theirs, ours in (
            ("self_attn", "self_attn"),
            ("self_attn_layer_norm", "norm1"),
            ("fc1", "linear1"),
            ("fc2", "linear2"),
            ("final_layer_norm", "norm2"),
        )
    ),
    (rf"{PIXELS}\.mask_projection", f"{PIXEL_DECODER}.mask_features", None),
    *((rf"{PIXELS}\.{name}\.0", f"{PIXEL_DECODER}.{name}", None) for name in ("adapter_1", "layer_1")),
    *((rf"{PIXELS}\.{name}\.1", f"{PIXEL_DECODER}.{name}.norm", None) for name in ("adapter_1", "layer_1")),
)
PREDICTOR_ROWS: tuple[Row, ...] = (
    (rf"{QUERIES}\.queries_features", f"{PREDICTOR}.query_feat", None),
    (rf"{QUERIES}\.queries_embedder", f"{PREDICTOR}.query_embed", None),
    (rf"{QUERIES}\.level_embed", f"{PREDICTOR}.level_embed", None),
    *(
        (rf"{LAYER}\.self_attn\.{name}_proj\.(weight|bias)", rf"{SELF_ATTENTION}.self_attn.in_proj_\2", part)
        for part, name in enumerate("qkv")
    ),
    (rf"{LAYER}\.self_attn\.out_proj", f"{SELF_ATTENTION}.self_attn.out_proj", None),
    (rf"{LAYER}\.self_attn_layer_norm", f"{SELF_ATTENTION}.norm", None),
    (rf"{LAYER}\.cross_attn", rf"{PREDICTOR}.transformer_cross_attention_layers.\1.multihead_attn", None),
    (rf"{LAYER}\.cross_attn_layer_norm", rf"{PREDICTOR}.transformer_cross_attention_layers.\1.norm", None),
    (rf"{LAYER}\.fc1", rf"{PREDICTOR}.transformer_ffn_layers.\1.linear1", None),
    (rf"{LAYER}\.fc2", rf"{PREDICTOR}.transformer_ffn_layers.\1.linear2", None),
    (rf"{LAYER}\.final_layer_norm", rf"{PREDICTOR}.transformer_ffn_layers.\1.norm", None),
    (rf"{QUERIES}\.decoder\.layernorm", f"{PREDICTOR}.decoder_norm", None),
    (
        rf"{QUERIES}\.decoder\.mask_predictor\.mask_embedder\.(\d+)\.0",
        rf"{PREDICTOR}.mask_embed.layers.\1",
        None,
    ),
    (r"class_predictor", f"{PREDICTOR}.class_embed", None),
    (r"criterion\.empty_weight", "criterion.empty_weight", None),
)
PATTERNS = tuple(
    (re.compile(rf"{pattern}(?=\.|$)"), theirs, part)
    for pattern, theirs, part in SWIN_ROWS + PIXEL_DECODER_ROWS + PREDICTOR_ROWS
)
UNUSED = re.compile(rf"{ENCODER}layernorm\.")
"""The norm in front of the backbone's own classifier, which sees no map that is used."""


@dataclass(frozen=True, kw_only=True, slots=True)
class HubModel:
    """A model as its folder holds it."""

    state: Mapping[str, Tensor]
    """Tensors under the original's names."""
    num_heads: int


def read_model(folder: Path) -> HubModel:
    """Read a folder of ``config.json`` and weights.

    Raises:
        ValueError: One line that names the file and what is wrong with it.
    """
    config = _read_json(folder / CONFIG_NAME)
    _check_config(folder / CONFIG_NAME, config)
    num_heads = _setting(folder / CONFIG_NAME, config, "num_attention_heads", 8)
    weights = _weights_path(folder)
    try:
        state = rename(_read_weights(weights))
    except ValueError as error:
        known = str(error).startswith(str(folder))
        raise ValueError(str(error) if known else f"{weights}: {error}") from error
    return HubModel(state=state, num_heads=num_heads)


def download(hub_id: str) -> Path:
    """Give the folder of a model of the Hugging Face hub, after downloading what is not there yet.

    Raises:
        ValueError: The hub does not answer or has no such model.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        # One format of the weights: the second is asked for where the first is not there.
        for name in WEIGHT_NAMES:
            stem = name.partition(".")[0]
            patterns = [CONFIG_NAME, f"{stem}*{Path(name).suffix}", f"{name}.index.json"]
            folder = Path(snapshot_download(hub_id, allow_patterns=patterns))
            if any(folder.glob(f"{stem}*{Path(name).suffix}")):
                break
        return folder
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = " ".join(str(error).split())[:160]
        raise ValueError(
            f"{hub_id}: no file or folder here, and the Hugging Face hub did not give it "
            f"({type(error).__name__}: {reason}); download it elsewhere and give its folder"
        ) from error


def rename(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename Hugging Face's tensors to the original's; split projections become one.

    Raises:
        ValueError: A name is unknown, or one of three projections is missing.
    """
    renamed: dict[str, Tensor] = {}
    fused: dict[str, dict[int, Tensor]] = {}
    for name, tensor in state.items():
        if UNUSED.match(name):
            continue
        theirs, part = _reference_name(name)
        if part is None:
            renamed[theirs] = tensor
        else:
            fused.setdefault(theirs, {})[part] = tensor
    for name, parts in fused.items():
        if len(parts) < 3:
            raise ValueError(f"of the query, key and value projections of {name} only {len(parts)} are there")
        renamed[name] = torch.cat([parts[index] for index in range(3)])
    return renamed


def _reference_name(name: str) -> tuple[str, int | None]:
    for pattern, theirs, part in PATTERNS:
        match = pattern.match(name)
        if match:
            return match.expand(theirs) + name[match.end() :], part
    raise ValueError(f"tensor {name} is unknown, expected only those of a Mask2Former with a Swin backbone")


def _check_config(path: Path, config: Mapping[str, Any]) -> None:
    if config.get("model_type") != "mask2former":
        raise ValueError(f"{path}: model_type is {config.get('model_type')!r}, expected 'mask2former'")
    _check_settings(path, config, EXPECTED)
    names = ("feature_size", "mask_feature_size", "hidden_dim")
    widths = {name: _setting(path, config, name, 256) for name in names}
    if len(set(widths.values())) > 1:
        found = ", ".join(f"{name} {value}" for name, value in widths.items())
        raise ValueError(f"{path}: {found}, expected one width")
    _check_settings(path, _setting(path, config, "backbone_config", {}), EXPECTED_SWIN)


def _check_settings(path: Path, config: Mapping[str, Any], expected: Mapping[str, object]) -> None:
    for name, value in expected.items():
        if config.get(name, value) != value:
            raise ValueError(f"{path}: {name} is {config[name]!r}, expected {value!r}")


def _setting(path: Path, config: Mapping[str, Any], name: str, default: S) -> S:
    """Give a setting, which has the type of its default; numbers are at least 1."""
    value = config.get(name, default)
    if type(value) is not type(default) or (isinstance(value, int) and value < 1):
        raise ValueError(f"{path}: {name} is {value!r}, expected something like {default!r}")
    return value


def _read_json(path: Path) -> Mapping[str, Any]:
    if not path.is_file():
        raise ValueError(f"{path}: no such file, expected a folder of Hugging Face's Mask2Former")
    try:
        body = json.loads(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path}: not JSON ({error})") from error
    if not isinstance(body, dict):
        raise ValueError(f"{path}: holds a {type(body).__name__}, expected an object")
    return body


def _weights_path(folder: Path) -> Path:
    for name in WEIGHT_NAMES:
        for path in (folder / name, folder / f"{name}.index.json"):
            if path.is_file():
                return path
    raise ValueError(f"{folder}: holds no {' and no '.join(WEIGHT_NAMES)}")


def _read_weights(path: Path) -> dict[str, Tensor]:
    if path.suffix != ".json":
        return _read_part(path)
    weight_map: dict[str, object] = {}
    files = _setting(path, _read_json(path), "weight_map", weight_map).values()
    parts = sorted({Path(str(file)).name for file in files})
    return {name: tensor for part in parts for name, tensor in _read_part(path.parent / part).items()}


def _read_part(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise ValueError(f"{path}: no such file, but the index of the weights lists it")
    if path.suffix != ".safetensors":
        body = read_file(path)
        if not isinstance(body, dict):
            raise ValueError(f"{path}: holds a {type(body).__name__}, expected tensors by name")
        return body
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(
            f"{path}: not a safetensors file ({error}); is it whole? download it again"
        ) from error
