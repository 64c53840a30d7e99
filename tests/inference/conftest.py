"""A miniature model with random weights, and videos for it."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from univs.config import (
    BackboneConfig,
    DecoderConfig,
    ModelConfig,
    PixelDecoderConfig,
    PromptConfig,
    TextConfig,
)
from univs.labels import Category, LabelSpace
from univs.model.univs import UniVS

MakeFrames = Callable[[int], NDArray[np.uint8]]


@pytest.fixture(scope="session")
def model() -> UniVS:
    torch.manual_seed(0)
    config = ModelConfig(
        hidden_dim=32,
        backbone=BackboneConfig(name="resnet18"),
        pixel_decoder=PixelDecoderConfig(num_layers=1, num_heads=4, ffn_dim=64),
        decoder=DecoderConfig(num_queries=12, num_layers=3, num_heads=4, ffn_dim=64),
        prompts=PromptConfig(tokens_per_object=24),
        text=TextConfig(width=32, num_layers=1, num_heads=4, embed_dim=32, num_templates=2),
    )
    model = UniVS(config).eval()
    with torch.no_grad():
        # random weights give mask logits near 0; stretch them until masks are decided
        last = model.decoder.heads.mask_embed[2]
        last.weight.mul_(60)
        last.bias.normal_()
    return model


@pytest.fixture(scope="session")
def label_space() -> LabelSpace:
    names = ("person", "dog", "car", "sky", "road")
    categories = tuple(
        Category(category_id=index + 1, name=name, is_thing=index < 3) for index, name in enumerate(names)
    )
    return LabelSpace(name="tiny", categories=categories)


@pytest.fixture(scope="session")
def make_frames() -> MakeFrames:
    def make(num_frames: int) -> NDArray[np.uint8]:
        """Two bright squares move over a dark gradient, 64 x 96."""
        rng = np.random.default_rng(7)
        ramp = np.linspace(20, 90, 96)[None, None, :, None]
        frames = np.broadcast_to(ramp, (num_frames, 64, 96, 3)).astype(np.uint8) + rng.integers(
            0, 20, (num_frames, 64, 96, 3), dtype=np.uint8
        )
        for time in range(num_frames):
            left = 8 + time % 40
            frames[time, 8:32, left : left + 24] = (220, 60, 60)
            frames[time, 40:56, 60:76] = (60, 200, 90)
        return frames

    return make
