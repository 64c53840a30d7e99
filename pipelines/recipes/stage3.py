"""Stage 3: long videos as overlapping clips, with a prompt memory between clips and averaged weights."""

from collections.abc import Callable, Mapping
from dataclasses import replace

from jobs.config import StageConfig, StageSource, WorkerConfig
from pipelines.recipes import stage2
from pipelines.recipes.augmentation import short_edge
from pipelines.recipes.miniature import WORLDS, augmentation, shorten, training
from pipelines.recipes.mixtures import video_sources
from univs.data.loader import LoaderConfig


def miniature() -> StageConfig:
    """Train the miniature on five frames as two overlapping clips: about a minute on two CPU cores.

    python pipelines/stage3.py
    """
    previous = stage2.miniature()
    return StageConfig(
        name="miniature",
        stage="stage3",
        model=previous.model,
        sources=(
            StageSource(dataset="vipseg", weight=1.0, frame_range_frames=6),
            StageSource(dataset="ytvis_2021", weight=1.0, frame_range_frames=6),
            StageSource(dataset="davis_2017", weight=0.75, frame_range_frames=6),
            StageSource(dataset="refytvos", weight=1.0, frame_range_frames=6),
        ),
        loader=LoaderConfig(
            batch_size=2, frames_per_clip=5, max_objects=8, augment=augmentation(), num_workers=0
        ),
        train=training(num_steps=80, frames_per_clip=3, learning_rate=3e-4, ema_decay=0.98),
        workers=WorkerConfig(cpus_per_worker=2),
        checkpoint_every_steps=40,
        previous=previous,
        miniature=WORLDS,
    )


def smoke() -> StageConfig:
    """Take a few steps of the miniature, to see that everything works: seconds of training."""
    return shorten(miniature())


def resnet50() -> StageConfig:
    """Train UniVS R50 on 7-frame videos as clips of 5, its backbone frozen, on 4 GPUs.

    ray job submit --working-dir . -- python pipelines/stage3.py --recipe resnet50
    """
    return _released(stage2.resnet50(), max_long_edge_px=1024)


def swin_tiny() -> StageConfig:
    """Train UniVS Swin-T on 7-frame videos as clips of 5, its backbone frozen, on 4 GPUs."""
    return _released(stage2.swin_tiny(), max_long_edge_px=1333)


def swin_base() -> StageConfig:
    """Train UniVS Swin-B on 7-frame videos as clips of 5, its backbone frozen, on 4 GPUs."""
    config = _released(stage2.swin_base(), max_long_edge_px=1333)
    # As the original trained this one size: more referring images, frames closer together.
    sources = video_sources(config.train.frames_per_clip, referring_images=0.75, range_frames=20)
    return replace(config, sources=sources)


def swin_large() -> StageConfig:
    """Train UniVS Swin-L on 7-frame videos as clips of 5, its backbone frozen, on 4 GPUs."""
    return _released(stage2.swin_large(), max_long_edge_px=1333)


RECIPES: Mapping[str, Callable[[], StageConfig]] = {
    "miniature": miniature,
    "smoke": smoke,
    "resnet50": resnet50,
    "swin_tiny": swin_tiny,
    "swin_base": swin_base,
    "swin_large": swin_large,
}


def _released(previous: StageConfig, *, max_long_edge_px: int) -> StageConfig:
    train = previous.train
    losses = replace(train.losses, reid_weight=train.losses.reid_weight / 2)
    optimizer = replace(train.optimizer, learning_rate=2.5e-5, milestones=(0.91,))
    return replace(
        previous,
        stage="stage3",
        model=replace(previous.model, backbone=replace(previous.model.backbone, frozen_stages=5)),
        sources=video_sources(previous.loader.frames_per_clip),
        loader=replace(
            previous.loader,
            batch_size=4,
            frames_per_clip=7,
            max_objects=40,
            augment=short_edge(max_long_edge_px),
        ),
        train=replace(
            train,
            num_steps=89_000,
            frames_per_clip=5,
            losses=losses,
            optimizer=optimizer,
            prompts=replace(train.prompts, max_objects=20),
            ema_decay=0.9999,
        ),
        workers=replace(previous.workers, num_workers=4),
        previous=previous,
    )
