"""Tell the configuration of a checkpoint in the original's layout from its names and shapes."""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from univs.config import BackboneConfig, DecoderConfig, ModelConfig, PixelDecoderConfig, TextConfig
from univs.model.backbone import SWIN_SETTINGS
from univs.model.keys import PIXEL_DECODER, PREDICTOR
from univs.model.pixel_decoder import NUM_LEVELS

RESNETS: Mapping[tuple[int, tuple[int, ...]], str] = {
    (2, (2, 2, 2, 2)): "resnet18",
    (2, (3, 4, 6, 3)): "resnet34",
    (3, (2, 2, 2, 2)): "resnet26",
    (3, (3, 4, 6, 3)): "resnet50",
    (3, (3, 4, 23, 3)): "resnet101",
    (3, (3, 8, 36, 3)): "resnet152",
}
"""timm's names by convolutions per block and blocks per stage."""
NUM_HEADS = 8
"""Attention heads of both decoders; no shape tells them, and the originals have no other number."""

CHANNELS_PER_TEXT_HEAD = 64
"""In all of CLIP's text towers."""


def recognize(state: Mapping[str, Tensor], num_heads: int = NUM_HEADS) -> ModelConfig:
    """Give the configuration of a UniVS or Mask2Former checkpoint.

    Args:
        state: Tensors under the original's names.
        num_heads: Attention heads of the pixel decoder and of the decoder.

    Raises:
        ValueError: The tensors are not those of such a model; one line says what is missing or strange.
    """
    num_queries, hidden_dim = _shape(state, f"{PREDICTOR}.query_feat.weight", 2)
    return ModelConfig(
        hidden_dim=hidden_dim,
        backbone=BackboneConfig(name=_backbone(state)),
        pixel_decoder=_pixel_decoder(state, num_heads),
        decoder=DecoderConfig(
            num_queries=num_queries,
            num_layers=_count(state, rf"{PREDICTOR}\.transformer_cross_attention_layers"),
            num_heads=num_heads,
            ffn_dim=_shape(state, f"{PREDICTOR}.transformer_ffn_layers.0.linear1.weight", 2)[0],
        ),
        text=_text(state),
    )


def _pixel_decoder(state: Mapping[str, Tensor], num_heads: int) -> PixelDecoderConfig:
    layer = f"{PIXEL_DECODER}.transformer.encoder.layers"
    name = f"{layer}.0.self_attn.attention_weights.weight"
    num_samples = _shape(state, name, 2)[0]
    if num_samples % (num_heads * NUM_LEVELS):
        raise ValueError(
            f"tensor {name} has {num_samples} rows, expected a multiple of {num_heads} heads "
            f"times {NUM_LEVELS} levels"
        )
    return PixelDecoderConfig(
        num_layers=_count(state, re.escape(layer)),
        num_heads=num_heads,
        num_points=num_samples // (num_heads * NUM_LEVELS),
        ffn_dim=_shape(state, f"{layer}.0.linear1.weight", 2)[0],
    )


def _text(state: Mapping[str, Tensor]) -> TextConfig:
    """Take the text width from the projections to it; Mask2Former has none and gets the usual tower.

    The tower itself is not in the file: it is as wide as its features, as in CLIP but for one of its models.
    """
    name = f"{PREDICTOR}.vis2text_projection.weight"
    if name not in state:
        return TextConfig()
    width = _shape(state, name, 2)[0]
    num_heads = max(1, width // CHANNELS_PER_TEXT_HEAD)
    return replace(TextConfig(), width=width, embed_dim=width, num_heads=num_heads)


def _backbone(state: Mapping[str, Tensor]) -> str:
    if "backbone.patch_embed.proj.weight" in state:
        return _swin(state)
    if "backbone.stem.conv1.weight" in state:
        return _resnet(state)
    found = next((name for name in state if name.startswith("backbone.")), "no tensor of a backbone")
    raise ValueError(f"holds {found}, expected a ResNet (backbone.stem) or a Swin (backbone.patch_embed)")


def _resnet(state: Mapping[str, Tensor]) -> str:
    num_convolutions = 3 if "backbone.res2.0.conv3.weight" in state else 2
    num_blocks = tuple(_count(state, rf"backbone\.res{stage}") for stage in range(2, 6))
    if (num_convolutions, num_blocks) not in RESNETS:
        known = ", ".join(RESNETS.values())
        raise ValueError(
            f"its ResNet has {'-'.join(map(str, num_blocks))} blocks of {num_convolutions} convolutions, "
            f"expected one of {known}"
        )
    return RESNETS[num_convolutions, num_blocks]


def _swin(state: Mapping[str, Tensor]) -> str:
    table = "attn.relative_position_bias_table"
    tables = [_shape(state, f"backbone.layers.{stage}.blocks.0.{table}", 2) for stage in range(4)]
    found: dict[str, Any] = {
        "embed_dim": _shape(state, "backbone.patch_embed.proj.weight", 4)[0],
        "depths": [_count(state, rf"backbone\.layers\.{stage}\.blocks") for stage in range(4)],
        "num_heads": [heads for _, heads in tables],
        "window_size": (round(tables[0][0] ** 0.5) + 1) // 2,
    }
    for name, settings in SWIN_SETTINGS.items():
        if settings == found:
            return name
    settings_text = ", ".join(f"{key} {value}" for key, value in found.items())
    raise ValueError(f"its Swin has {settings_text}, expected one of {', '.join(SWIN_SETTINGS)}")


def _shape(state: Mapping[str, Tensor], name: str, num_dims: int) -> tuple[int, ...]:
    if name not in state:
        raise ValueError(f"tensor {name} is missing, is this a UniVS or Mask2Former checkpoint?")
    shape = tuple(state[name].shape)
    if len(shape) != num_dims:
        raise ValueError(f"tensor {name} has shape {shape}, expected {num_dims} numbers")
    return shape


def _count(state: Mapping[str, Tensor], prefix: str) -> int:
    """Count what is numbered behind a prefix, which is a pattern, and leave no number out."""
    matches = (re.match(rf"({prefix})\.(\d+)\.", name) for name in state)
    found = {int(match[2]): match[1] for match in matches if match}
    for index, name in enumerate(found.values()):
        if index not in found:
            raise ValueError(f"tensors of {name}.{index} are missing")
    return len(found)
