"""What the miniature's three stages share: worlds, augmentation and training settings."""

from dataclasses import replace

from jobs.config import StageConfig
from preprocessing.miniature import MiniatureConfig
from preprocessing.worlds import WorldConfig
from univs.data.augment import AugmentConfig
from univs.training.config import LossConfig, OptimizerConfig, PromptSampling, TrainConfig

FRAME_HEIGHT_PX = 96
REAL_SHORT_EDGE_PX = 160

WORLDS = MiniatureConfig(
    train_images=400,
    val_images=40,
    train_videos=60,
    val_videos=10,
    world=WorldConfig(min_size_fraction=0.25, max_size_fraction=0.5),
)
"""The generated datasets: large enough that held-out worlds are a fair test, rendered in a quarter minute.

Objects measure 24 to 48 pixels: three cells or more of the stride-8 map that visual prompts are read from.
"""

SMOKE_WORLDS = MiniatureConfig(train_images=8, val_images=2, train_videos=3, val_videos=2)
"""A handful of worlds, for tests."""


def augmentation() -> AugmentConfig:
    """Keep the worlds' own size; crop and drift a little."""
    return AugmentConfig(
        short_edges_px=(FRAME_HEIGHT_PX,),
        max_long_edge_px=2 * FRAME_HEIGHT_PX,
        crop_min_fraction=0.75,
        motion_shift=0.15,
        motion_zoom=0.15,
    )


def small_real_augmentation() -> AugmentConfig:
    """Shrink real frames to what the miniature's model can take in on a CPU."""
    return AugmentConfig(
        short_edges_px=(REAL_SHORT_EDGE_PX,), max_long_edge_px=2 * REAL_SHORT_EDGE_PX, crop_min_fraction=0.7
    )


def training(
    *, num_steps: int, frames_per_clip: int, learning_rate: float, ema_decay: float = 0.0
) -> TrainConfig:
    """Train from scratch: a higher learning rate for all parts, and fewer points on fewer pixels."""
    return TrainConfig(
        num_steps=num_steps,
        frames_per_clip=frames_per_clip,
        losses=LossConfig(num_points=512),
        prompts=PromptSampling(max_objects=8),
        optimizer=OptimizerConfig(
            learning_rate=learning_rate,
            backbone_multiplier=1.0,
            max_grad_norm=1.0,
            warmup_steps=50,
            milestones=(0.75,),
        ),
        ema_decay=ema_decay,
        report_every_steps=10,
    )


def shorten(config: StageConfig) -> StageConfig:
    """Cut a miniature stage, and the stages before it, to a few steps on a handful of worlds."""
    return replace(
        config,
        name="smoke",
        train=replace(config.train, num_steps=6, report_every_steps=2),
        checkpoint_every_steps=4,
        previous=None if config.previous is None else shorten(config.previous),
        miniature=SMOKE_WORLDS,
    )
