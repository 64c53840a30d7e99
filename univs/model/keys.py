"""Parameter names: ours beside those of the original's checkpoints.

One table maps our names to the original's; reading goes through the same table, from the names that are
wanted. The original's names for the text tower carry the prefix ``lang_encoder.``.
"""

import re
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

TEXT_PREFIX = "text."
RESNET, SWIN, SWIN_BLOCK = (
    r"backbone\.body",
    r"backbone\.body\.swin",
    r"encoder\.layers\.(\d+)\.blocks\.(\d+)",
)
PIXEL_DECODER, PREDICTOR = "sem_seg_head.pixel_decoder", "sem_seg_head.predictor"

Row = tuple[str, str]
"""A pattern of whole leading components of our names, and what the original calls them."""


def _resnet_stage(stage: int) -> tuple[Row, ...]:
    ours, theirs = rf"{RESNET}\.layer{stage}\.(\d+)", rf"backbone.res{stage + 1}.\1"
    return (
        (rf"{ours}\.conv(\d)", rf"{theirs}.conv\2"),
        (rf"{ours}\.bn(\d)", rf"{theirs}.conv\2.norm"),
        (rf"{ours}\.downsample\.0", rf"{theirs}.shortcut"),
        (rf"{ours}\.downsample\.1", rf"{theirs}.shortcut.norm"),
    )


RESNET_ROWS: tuple[Row, ...] = (
    (rf"{RESNET}\.conv1", "backbone.stem.conv1"),
    (rf"{RESNET}\.bn1", "backbone.stem.conv1.norm"),
    *(row for stage in range(1, 5) for row in _resnet_stage(stage)),
)
SWIN_ROWS: tuple[Row, ...] = (
    (rf"{SWIN}\.embeddings\.patch_embeddings\.projection", "backbone.patch_embed.proj"),
    (rf"{SWIN}\.embeddings\.norm", "backbone.patch_embed.norm"),
    (rf"{SWIN}\.{SWIN_BLOCK}\.layernorm_before", r"backbone.layers.\1.blocks.\2.norm1"),
    (rf"{SWIN}\.{SWIN_BLOCK}\.layernorm_after", r"backbone.layers.\1.blocks.\2.norm2"),
    (rf"{SWIN}\.{SWIN_BLOCK}\.attention\.[qkv]_proj", r"backbone.layers.\1.blocks.\2.attn.qkv"),
    (rf"{SWIN}\.{SWIN_BLOCK}\.attention\.o_proj", r"backbone.layers.\1.blocks.\2.attn.proj"),
    (rf"{SWIN}\.{SWIN_BLOCK}\.attention\.relative_position_bias", r"backbone.layers.\1.blocks.\2.attn"),
    (rf"{SWIN}\.{SWIN_BLOCK}\.mlp", r"backbone.layers.\1.blocks.\2.mlp"),
    (rf"{SWIN}\.encoder\.layers\.(\d+)\.downsample", r"backbone.layers.\1.downsample"),
    *((rf"{RESNET}\.hidden_states_norms\.stage{stage + 1}", f"backbone.norm{stage}") for stage in range(4)),
)
PIXEL_DECODER_ROWS: tuple[Row, ...] = (
    (r"pixel_decoder\.input_proj", f"{PIXEL_DECODER}.input_proj"),
    (r"pixel_decoder\.level_embed", f"{PIXEL_DECODER}.transformer.level_embed"),
    (r"pixel_decoder\.layers", f"{PIXEL_DECODER}.transformer.encoder.layers"),
    (r"pixel_decoder\.lateral", f"{PIXEL_DECODER}.adapter_1"),
    (r"pixel_decoder\.lateral_norm", f"{PIXEL_DECODER}.adapter_1.norm"),
    (r"pixel_decoder\.output", f"{PIXEL_DECODER}.layer_1"),
    (r"pixel_decoder\.output_norm", f"{PIXEL_DECODER}.layer_1.norm"),
    (r"pixel_decoder\.mask_features", f"{PIXEL_DECODER}.mask_features"),
)
PROMPT_ROWS: tuple[Row, ...] = (
    (r"prompt_encoder\.text_norm", f"{PREDICTOR}.text_norm"),
    (r"prompt_encoder\.text_to_vision", f"{PREDICTOR}.text2vis_projection"),
    (
        r"prompt_encoder\.image_attention\.attention",
        f"{PREDICTOR}.lang2vision_cross_attention_layer.multihead_attn",
    ),
    (r"prompt_encoder\.image_attention\.norm", f"{PREDICTOR}.lang2vision_cross_attention_layer.norm"),
    (r"prompt_encoder\.(sot|detection|grounding)_vector", rf"{PREDICTOR}.prompt_\1"),
)


def _decoder_attention(ours: str, theirs: str, attention: str) -> tuple[Row, ...]:
    prefix = rf"{PREDICTOR}.transformer_{theirs}_layers.\1"
    return (
        (rf"decoder\.layers\.(\d+)\.{ours}\.attention", f"{prefix}.{attention}"),
        (rf"decoder\.layers\.(\d+)\.{ours}\.norm", f"{prefix}.norm"),
    )


DECODER_ROWS: tuple[Row, ...] = (
    (r"level_embed", f"{PREDICTOR}.level_embed"),
    (r"decoder\.query_features", f"{PREDICTOR}.query_feat"),
    (r"decoder\.query_positions", f"{PREDICTOR}.query_embed"),
    *_decoder_attention("prompt_attention", "prompt_self_attention", "multihead_attn"),
    *_decoder_attention("image_attention", "cross_attention", "multihead_attn"),
    *_decoder_attention("self_attention", "self_attention", "self_attn"),
    (r"decoder\.layers\.(\d+)\.ffn", rf"{PREDICTOR}.transformer_ffn_layers.\1"),
    (r"decoder\.heads\.norm", f"{PREDICTOR}.decoder_norm"),
    (r"decoder\.heads\.mask_embed", f"{PREDICTOR}.mask_embed.layers"),
    (r"decoder\.heads\.vision_to_text", f"{PREDICTOR}.vis2text_projection"),
    (r"decoder\.heads\.class_embed", f"{PREDICTOR}.class_embed"),
    (r"decoder\.heads\.class_temperature", f"{PREDICTOR}.cls_temp"),
)
TEXT_ROWS: tuple[Row, ...] = (
    (r"text\.layers\.(\d+)\.(c_fc|c_proj)", r"lang_encoder.transformer.resblocks.\1.mlp.\2"),
    (r"text\.layers\.(\d+)\.(ln_1|ln_2|attn)", r"lang_encoder.transformer.resblocks.\1.\2"),
    (
        r"text\.(token_embedding|positional_embedding|ln_final|text_projection)",
        r"lang_encoder.\1",
    ),
)
ROWS = RESNET_ROWS + SWIN_ROWS + PIXEL_DECODER_ROWS + PROMPT_ROWS + DECODER_ROWS + TEXT_ROWS
PATTERNS = tuple((re.compile(rf"{ours}(?=\.|$)"), theirs) for ours, theirs in ROWS)

SPLIT_PROJECTION = re.compile(r".*\.attention\.([qkv])_proj\.(weight|bias)")
"""Swin's projections, which the original keeps in one matrix of three row blocks."""
CLASS_TEMPERATURE, REID_TEMPERATURE = f"{PREDICTOR}.cls_temp.weight", f"{PREDICTOR}.reid_temp.weight"
"""Two names of one tensor in the original, where the second is loaded last, so its value counts."""
BIAS_TABLE, BIAS_INDEX = "relative_position_bias_table", "relative_position_index"


def reference_name(name: str) -> str:
    """Give the original's name of one of our parameters or buffers.

    Raises:
        ValueError: The original has no such parameter, as with a backbone it does not know.
    """
    for pattern, theirs in PATTERNS:
        match = pattern.match(name)
        if match:
            return match.expand(theirs) + name[match.end() :]
    raise ValueError(f"{name} has no counterpart in the original UniVS, which has ResNet and Swin backbones")


def to_reference(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename our tensors, but for the text tower's, to the original's; Swin's q, k, v become one."""
    return _rename({name: tensor for name, tensor in state.items() if not name.startswith(TEXT_PREFIX)})


def text_to_reference(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the tensors of the text tower (``text.``) to the original's (``lang_encoder.``)."""
    return _rename({name: tensor for name, tensor in state.items() if name.startswith(TEXT_PREFIX)})


def from_reference(state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the original's tensors to ours, but for the text tower.

    Args:
        state: The original's tensors. The two kinds of entries that follow from others are not needed.
        expected: Our state dict, which gives names and shapes.

    Raises:
        ValueError: A tensor is missing, has another shape or is unknown; one line names it.
    """
    if REID_TEMPERATURE in state:
        state = {**state, CLASS_TEMPERATURE: state[REID_TEMPERATURE]}
    wanted = {name: tensor for name, tensor in expected.items() if not name.startswith(TEXT_PREFIX)}
    return _select({name: tensor for name, tensor in state.items() if not _is_derived(name)}, wanted)


def text_from_reference(state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the text tower's tensors (``lang_encoder.``) to ours; as ``from_reference``."""
    return _select(state, {name: tensor for name, tensor in expected.items() if name.startswith(TEXT_PREFIX)})


def derived_entries(reference_state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Make the entries that the original keeps beside those they follow from.

    Its loader does not need them; a file that is to hold exactly the original's entries does.
    """
    derived = {
        name.replace(BIAS_TABLE, BIAS_INDEX): _relative_position_index(tensor)
        for name, tensor in reference_state.items()
        if name.endswith(BIAS_TABLE)
    }
    if CLASS_TEMPERATURE in reference_state:
        derived[REID_TEMPERATURE] = reference_state[CLASS_TEMPERATURE].clone()
    return derived


def _is_derived(name: str) -> bool:
    return name == REID_TEMPERATURE or name.endswith(BIAS_INDEX)


def _relative_position_index(bias_table: Tensor) -> Tensor:
    """Give the table row of each pair of cells in a window of w x w, for a table of (2 w - 1)^2 rows."""
    side = round(bias_table.shape[0] ** 0.5)
    axis = torch.arange((side + 1) // 2)
    rows, columns = torch.meshgrid(axis, axis, indexing="ij")
    offsets = [cells.flatten()[:, None] - cells.flatten() + len(axis) - 1 for cells in (rows, columns)]
    return offsets[0] * side + offsets[1]


def _part(name: str) -> int | None:
    """Tell which third of a fused projection a name stands for."""
    match = SPLIT_PROJECTION.fullmatch(name)
    return "qkv".index(match[1]) if match else None


def _rename(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    renamed: dict[str, Tensor] = {}
    fused: dict[str, dict[int, Tensor]] = {}
    for name, tensor in state.items():
        theirs, part = reference_name(name), _part(name)
        if part is None:
            renamed[theirs] = tensor
            continue
        fused.setdefault(theirs, {})[part] = tensor
        if len(fused[theirs]) == 3:
            renamed[theirs] = torch.cat([fused[theirs][index] for index in range(3)])
    incomplete = [name for name, parts in fused.items() if len(parts) < 3]
    if incomplete:
        raise ValueError(f"{incomplete[0]} needs a query, a key and a value projection, one is missing")
    return renamed


def _select(state: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    known = {reference_name(name) for name in wanted}
    selected = dict(_pick(state, wanted))
    unknown = sorted(set(state) - known)
    if unknown:
        raise ValueError(f"tensor {unknown[0]} is unknown, expected only those of this architecture")
    return selected


def _pick(state: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    for name, like in wanted.items():
        theirs, part = reference_name(name), _part(name)
        if theirs not in state:
            raise ValueError(f"tensor {theirs} is missing")
        shape = like.shape if part is None else (3 * like.shape[0], *like.shape[1:])
        if tuple(state[theirs].shape) != tuple(shape):
            shapes = f"{tuple(state[theirs].shape)}, expected {tuple(shape)}"
            raise ValueError(f"tensor {theirs} has shape {shapes}")
        yield name, state[theirs] if part is None else state[theirs].chunk(3)[part]
