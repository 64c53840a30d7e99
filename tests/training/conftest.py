"""A miniature model and synthetic clips for the training tests."""

from collections.abc import Callable

import pytest
import torch

from univs.config import (
    BackboneConfig,
    DecoderConfig,
    ModelConfig,
    PixelDecoderConfig,
    PromptConfig,
    TextConfig,
)
from univs.data.batch import ClipBatch, ClipTargets
from univs.labels import Category, LabelSpace
from univs.model.univs import UniVS
from univs.training.config import LossConfig, OptimizerConfig, PromptSampling, TrainConfig

HEIGHT, WIDTH = 64, 96
EXPRESSIONS = ("the red square", "a green square", "the blue square moving right")
SPACE = LabelSpace(
    name="squares",
    categories=tuple(
        Category(category_id=i + 1, name=name, is_thing=True)
        for i, name in enumerate(("red", "green", "blue", "sky"))
    ),
)


def build_config(**changes) -> TrainConfig:
    """Build a miniature run."""
    losses = LossConfig(**{"num_points": 256} | changes.pop("losses", {}))
    prompts = PromptSampling(**{"max_objects": 4} | changes.pop("prompts", {}))
    optimizer = {"learning_rate": 1e-3, "max_grad_norm": 1.0} | changes.pop("optimizer", {})
    base = {"num_steps": 6, "frames_per_clip": 3, "report_every_steps": 1}
    return TrainConfig(
        losses=losses, prompts=prompts, optimizer=OptimizerConfig(**optimizer), **base | changes
    )


def build_model(seed: int = 0) -> UniVS:
    """Build a miniature model, the same one for the same seed."""
    torch.manual_seed(seed)
    return UniVS(
        ModelConfig(
            hidden_dim=32,
            backbone=BackboneConfig(name="resnet10t"),
            pixel_decoder=PixelDecoderConfig(num_layers=1, num_heads=4, ffn_dim=64),
            decoder=DecoderConfig(num_queries=8, num_layers=2, num_heads=4, ffn_dim=64),
            prompts=PromptConfig(tokens_per_object=8),
            text=TextConfig(width=32, num_layers=1, num_heads=2, embed_dim=32, num_templates=1),
        )
    )


def build_targets(
    num_objects: int = 3, num_frames: int = 3, expressions: tuple[int, ...] = ()
) -> ClipTargets:
    """Draw squares that move to the right; ``expressions`` are the rows they name."""
    masks = torch.zeros(num_objects, num_frames, HEIGHT, WIDTH, dtype=torch.bool)
    for row in range(num_objects):
        for frame in range(num_frames):
            top, left = 4 + 20 * (row % 3), 8 + 28 * (row // 3) + 4 * frame
            masks[row, frame, top : top + 16, left : left + 16] = True
    return ClipTargets(
        masks=masks,
        labels=torch.arange(num_objects) % 3,
        object_ids=torch.arange(num_objects) + 1,
        is_thing=torch.ones(num_objects, dtype=torch.bool),
        expression_objects=torch.tensor(expressions, dtype=torch.long),
        expressions=tuple(EXPRESSIONS[row] for row in expressions),
        ignore=torch.zeros(num_frames, HEIGHT, WIDTH, dtype=torch.bool),
    )


def build_batch(task: str = "detection", num_frames: int = 3, step: int = 0, counts=(3, 2)) -> ClipBatch:
    """Paint clips of ``counts`` colored squares into a batch of a task."""
    clips = [
        build_targets(count, num_frames, tuple(range(count)) if task == "grounding" else ())
        for count in counts
    ]
    return ClipBatch(
        step=step,
        dataset="squares",
        task=task,
        label_space=SPACE if task == "detection" else None,
        frames=torch.stack([_paint(clip.masks, torch.eye(3) * 3 - 1) for clip in clips]),
        frame_indices=torch.arange(num_frames).expand(len(clips), -1),
        image_sizes=torch.tensor([[HEIGHT, WIDTH]] * len(clips)),
        targets=tuple(clips),
        keys=tuple(f"squares-train-{i}" for i in range(len(clips))),
    )


def _paint(masks: torch.Tensor, colors: torch.Tensor) -> torch.Tensor:
    """Color masks [N, T, H, W] onto a black background: [T, 3, H, W]."""
    palette = colors[torch.arange(len(masks)) % len(colors)]
    return torch.einsum("nthw,nc->tchw", masks.float(), palette)


@pytest.fixture
def make_config() -> Callable[..., TrainConfig]:
    return build_config


@pytest.fixture
def make_model() -> Callable[..., UniVS]:
    return build_model


@pytest.fixture
def make_targets() -> Callable[..., ClipTargets]:
    return build_targets


@pytest.fixture
def make_batch() -> Callable[..., ClipBatch]:
    return build_batch
