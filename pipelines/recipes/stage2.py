"""Stage 2: joint training on short clips of videos, and on images made to move."""

from collections.abc import Callable, Mapping
from dataclasses import replace

from jobs.config import StageConfig, StageSource, WorkerConfig
from pipelines.recipes import stage1
from pipelines.recipes.augmentation import short_edge
from pipelines.recipes.miniature import WORLDS, augmentation, shorten, small_real_augmentation, training
from pipelines.recipes.mixtures import clip_sources
from univs.config import BackboneConfig
from univs.data.loader import LoaderConfig
from univs.training.config import PromptSampling


def miniature() -> StageConfig:
    """Train the miniature on clips of three frames: about two minutes on two CPU cores.

    python pipelines/stage2.py
    """
    previous = stage1.miniature()
    return StageConfig(
        name="miniature",
        stage="stage2",
        model=previous.model,
        sources=(
            StageSource(dataset="coco_panoptic", weight=0.5),
            StageSource(dataset="vipseg", weight=1.0, frame_range_frames=4),
            StageSource(dataset="ytvis_2021", weight=1.0, frame_range_frames=4),
            StageSource(dataset="davis_2017", weight=0.75, frame_range_frames=4),
            StageSource(dataset="refytvos", weight=1.0, frame_range_frames=4),
            StageSource(dataset="sa_1b", weight=0.25),
        ),
        loader=LoaderConfig(
            batch_size=4, frames_per_clip=3, max_objects=8, augment=augmentation(), num_workers=0
        ),
        train=training(num_steps=320, frames_per_clip=3, learning_rate=8e-4),
        workers=WorkerConfig(cpus_per_worker=2),
        checkpoint_every_steps=160,
        previous=previous,
        miniature=WORLDS,
    )


def smoke() -> StageConfig:
    """Take a few steps of the miniature, to see that everything works: seconds of training."""
    return shorten(miniature())


def small_real() -> StageConfig:
    """Train the miniature's model on real data of yours: a few hundred steps in minutes on two CPU cores.

    It needs the releases coco_panoptic/train and davis_2016/train; see pipelines/preprocess.py.

    python pipelines/stage2.py --recipe small_real
    """
    return StageConfig(
        name="small_real",
        stage="stage2",
        model=stage1.miniature().model,
        sources=(
            StageSource(dataset="coco_panoptic", weight=1.0),
            StageSource(dataset="davis_2016", weight=1.0, frame_range_frames=10),
        ),
        loader=LoaderConfig(
            batch_size=4, frames_per_clip=3, max_objects=16, augment=small_real_augmentation(), num_workers=0
        ),
        train=training(num_steps=400, frames_per_clip=3, learning_rate=1e-3),
        workers=WorkerConfig(cpus_per_worker=2),
        checkpoint_every_steps=100,
    )


def resnet50() -> StageConfig:
    """Train UniVS R50 on clips of 3 frames, its backbone frozen, on 8 GPUs.

    ray job submit --working-dir . -- python pipelines/stage2.py --recipe resnet50
    """
    config = _released(stage1.resnet50(), frames_per_clip=3, frozen_stages=5, max_objects=20)
    return replace(config, loader=replace(config.loader, augment=short_edge(max_long_edge_px=1024)))


def swin_tiny() -> StageConfig:
    """Train UniVS Swin-T on clips of 5 frames, all but the last backbone stage frozen, on 8 GPUs."""
    return _released(stage1.swin_tiny(), frames_per_clip=5, frozen_stages=4, max_objects=30)


def swin_base() -> StageConfig:
    """Train UniVS Swin-B on clips of 5 frames, all but the last backbone stage frozen, on 8 GPUs."""
    return _released(stage1.swin_base(), frames_per_clip=5, frozen_stages=4, max_objects=30)


def swin_large() -> StageConfig:
    """Train UniVS Swin-L on clips of 5 frames, all but the last backbone stage frozen, on 8 GPUs."""
    return _released(stage1.swin_large(), frames_per_clip=5, frozen_stages=4, max_objects=30)


RECIPES: Mapping[str, Callable[[], StageConfig]] = {
    "miniature": miniature,
    "smoke": smoke,
    "small_real": small_real,
    "resnet50": resnet50,
    "swin_tiny": swin_tiny,
    "swin_base": swin_base,
    "swin_large": swin_large,
}


def _released(
    previous: StageConfig, *, frames_per_clip: int, frozen_stages: int, max_objects: int
) -> StageConfig:
    backbone: BackboneConfig = replace(previous.model.backbone, frozen_stages=frozen_stages)
    return replace(
        previous,
        stage="stage2",
        model=replace(previous.model, backbone=backbone),
        sources=clip_sources(frames_per_clip),
        loader=replace(
            previous.loader, batch_size=8, frames_per_clip=frames_per_clip, max_objects=2 * max_objects
        ),
        train=replace(
            previous.train, frames_per_clip=frames_per_clip, prompts=PromptSampling(max_objects=max_objects)
        ),
        workers=replace(previous.workers, num_workers=8),
        previous=previous,
    )
