"""Checkpoints in the original's names, listed by hand: an account of the format beside the importer's."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

Shapes = dict[str, tuple[int, ...]]

PIXEL_DECODER, PREDICTOR = "sem_seg_head.pixel_decoder", "sem_seg_head.predictor"
RESNETS = {"resnet18": (2, (2, 2, 2, 2)), "resnet50": (3, (3, 4, 6, 3)), "resnet101": (3, (3, 4, 23, 3))}
SWINS = {
    "swin_t": (96, (2, 2, 6, 2), 3, 7),
    "swin_s": (96, (2, 2, 18, 2), 3, 7),
    "swin_b": (128, (2, 2, 18, 2), 4, 12),
    "swin_l": (192, (2, 2, 18, 2), 6, 12),
}


def affine(name: str, *shape: int) -> Shapes:
    return {f"{name}.weight": shape, f"{name}.bias": shape[:1]}


def convolution(name: str, *shape: int) -> Shapes:
    norm = {f"{name}.norm.{part}": shape[:1] for part in ("weight", "bias", "running_mean", "running_var")}
    return {f"{name}.weight": shape, **norm}


def resnet(name: str) -> tuple[Shapes, tuple[int, ...]]:
    depth, blocks = RESNETS[name]
    expansion = 4 if depth == 3 else 1
    shapes, channels = convolution("backbone.stem.conv1", 64, 3, 7, 7), 64
    for stage, num_blocks in enumerate(blocks):
        width, out = 64 * 2**stage, 64 * 2**stage * expansion
        for block in range(num_blocks):
            prefix = f"backbone.res{stage + 2}.{block}"
            if block == 0 and channels != out:
                shapes |= convolution(f"{prefix}.shortcut", out, channels, 1, 1)
            if depth == 3:
                shapes |= convolution(f"{prefix}.conv1", width, channels, 1, 1)
                shapes |= convolution(f"{prefix}.conv2", width, width, 3, 3)
                shapes |= convolution(f"{prefix}.conv3", out, width, 1, 1)
            else:
                shapes |= convolution(f"{prefix}.conv1", width, channels, 3, 3)
                shapes |= convolution(f"{prefix}.conv2", out, width, 3, 3)
            channels = out
    return shapes, tuple(64 * 2**stage * expansion for stage in range(4))


def swin(name: str) -> tuple[Shapes, tuple[int, ...]]:
    embed_dim, depths, heads, window = SWINS[name]
    shapes = affine("backbone.patch_embed.proj", embed_dim, 3, 4, 4) | affine(
        "backbone.patch_embed.norm", embed_dim
    )
    for stage, depth in enumerate(depths):
        dim = embed_dim * 2**stage
        for block in range(depth):
            prefix = f"backbone.layers.{stage}.blocks.{block}"
            shapes |= affine(f"{prefix}.norm1", dim) | affine(f"{prefix}.norm2", dim)
            shapes |= affine(f"{prefix}.attn.qkv", 3 * dim, dim) | affine(f"{prefix}.attn.proj", dim, dim)
            table = ((2 * window - 1) ** 2, heads * 2**stage)
            shapes |= {f"{prefix}.attn.relative_position_bias_table": table}
            shapes |= {f"{prefix}.attn.relative_position_index": (window**2, window**2)}
            shapes |= affine(f"{prefix}.mlp.fc1", 4 * dim, dim) | affine(f"{prefix}.mlp.fc2", dim, 4 * dim)
        if stage < 3:
            shapes |= {f"backbone.layers.{stage}.downsample.reduction.weight": (2 * dim, 4 * dim)}
            shapes |= affine(f"backbone.layers.{stage}.downsample.norm", 4 * dim)
        shapes |= affine(f"backbone.norm{stage}", dim)
    return shapes, tuple(embed_dim * 2**stage for stage in range(4))


def pixel_decoder(channels: tuple[int, ...], dim: int, num_layers: int, ffn_dim: int) -> Shapes:
    shapes: Shapes = {f"{PIXEL_DECODER}.transformer.level_embed": (3, dim)}
    for index, size in enumerate(reversed(channels[1:])):
        shapes |= affine(f"{PIXEL_DECODER}.input_proj.{index}.0", dim, size, 1, 1)
        shapes |= affine(f"{PIXEL_DECODER}.input_proj.{index}.1", dim)
    for layer in range(num_layers):
        prefix = f"{PIXEL_DECODER}.transformer.encoder.layers.{layer}"
        # 8 heads, 3 levels, 4 points
        shapes |= affine(f"{prefix}.self_attn.sampling_offsets", 192, dim)
        shapes |= affine(f"{prefix}.self_attn.attention_weights", 96, dim)
        shapes |= affine(f"{prefix}.self_attn.value_proj", dim, dim)
        shapes |= affine(f"{prefix}.self_attn.output_proj", dim, dim)
        shapes |= affine(f"{prefix}.norm1", dim) | affine(f"{prefix}.norm2", dim)
        shapes |= affine(f"{prefix}.linear1", ffn_dim, dim) | affine(f"{prefix}.linear2", dim, ffn_dim)
    shapes |= affine(f"{PIXEL_DECODER}.mask_features", dim, dim, 1, 1)
    for name, shape in (("adapter_1", (dim, channels[0], 1, 1)), ("layer_1", (dim, dim, 3, 3))):
        shapes |= {f"{PIXEL_DECODER}.{name}.weight": shape} | affine(f"{PIXEL_DECODER}.{name}.norm", dim)
    return shapes


def attention(name: str, inner: str, dim: int) -> Shapes:
    shapes = {f"{name}.{inner}.in_proj_weight": (3 * dim, dim), f"{name}.{inner}.in_proj_bias": (3 * dim,)}
    return shapes | affine(f"{name}.{inner}.out_proj", dim, dim) | affine(f"{name}.norm", dim)


def predictor(dim: int, num_queries: int, num_layers: int, ffn_dim: int) -> Shapes:
    shapes: Shapes = {
        f"{PREDICTOR}.query_feat.weight": (num_queries, dim),
        f"{PREDICTOR}.query_embed.weight": (num_queries, dim),
        f"{PREDICTOR}.level_embed.weight": (3, dim),
    }
    for layer in range(num_layers):
        shapes |= attention(f"{PREDICTOR}.transformer_cross_attention_layers.{layer}", "multihead_attn", dim)
        shapes |= attention(f"{PREDICTOR}.transformer_self_attention_layers.{layer}", "self_attn", dim)
        ffn = f"{PREDICTOR}.transformer_ffn_layers.{layer}"
        shapes |= affine(f"{ffn}.linear1", ffn_dim, dim) | affine(f"{ffn}.linear2", dim, ffn_dim)
        shapes |= affine(f"{ffn}.norm", dim)
    shapes |= affine(f"{PREDICTOR}.decoder_norm", dim)
    for layer in range(3):
        shapes |= affine(f"{PREDICTOR}.mask_embed.layers.{layer}", dim, dim)
    return shapes


def only_univs(dim: int, num_layers: int, text_dim: int) -> Shapes:
    shapes = affine(f"{PREDICTOR}.vis2text_projection", text_dim, dim)
    shapes |= affine(f"{PREDICTOR}.text2vis_projection", dim, text_dim)
    shapes |= affine(f"{PREDICTOR}.text_norm", text_dim)
    for name in ("cls_temp", "reid_temp"):
        shapes |= {f"{PREDICTOR}.{name}.weight": (1, 1)}
    for name in ("detection", "sot", "grounding"):
        shapes |= {f"{PREDICTOR}.prompt_{name}.weight": (1, dim)}
    for layer in range(num_layers):
        name = f"{PREDICTOR}.transformer_prompt_self_attention_layers.{layer}"
        shapes |= attention(name, "multihead_attn", dim)
    return shapes | attention(f"{PREDICTOR}.lang2vision_cross_attention_layer", "multihead_attn", dim)


Original = Callable[..., dict[str, Tensor]]


@pytest.fixture(scope="session")
def original() -> Original:
    """Make the tensors of a UniVS or, with ``classes``, a Mask2Former checkpoint."""

    def make(
        backbone: str = "resnet18",
        *,
        dim: int = 32,
        num_queries: int = 6,
        num_layers: int = 2,
        pixel_layers: int = 1,
        ffn_dim: int = 48,
        pixel_ffn_dim: int = 40,
        text_dim: int = 64,
        classes: int = 0,
        hollow: bool = False,
    ) -> dict[str, Tensor]:
        """``hollow`` tensors are one number each, however big, for tests of names and shapes."""
        shapes, channels = swin(backbone) if backbone in SWINS else resnet(backbone)
        shapes = shapes | pixel_decoder(channels, dim, pixel_layers, pixel_ffn_dim)
        shapes |= predictor(dim, num_queries, num_layers, ffn_dim)
        if classes:
            shapes |= affine(f"{PREDICTOR}.class_embed", classes + 1, dim)
            shapes |= {"criterion.empty_weight": (classes + 1,)}
        else:
            shapes |= only_univs(dim, num_layers, text_dim)
        generator = torch.Generator().manual_seed(7)
        numbers = {
            name: torch.randn(1, generator=generator).expand(shape)
            if hollow
            else torch.randn(shape, generator=generator) * 0.1
            for name, shape in shapes.items()
        }
        for name, tensor in numbers.items():
            if name.endswith("running_var"):
                numbers[name] = 1 + tensor.abs()
            if name.endswith("position_index"):
                numbers[name] = tensor.long()
        return numbers

    return make
