"""Stage 1: joint training on images, where video frames count as images too."""

from collections.abc import Callable, Mapping

from jobs.config import StageConfig, StageSource, WorkerConfig
from pipelines.recipes import models
from pipelines.recipes.augmentation import square
from pipelines.recipes.miniature import WORLDS, augmentation, shorten, training
from pipelines.recipes.mixtures import image_sources
from univs.config import ModelConfig
from univs.data.loader import LoaderConfig
from univs.training.config import LossConfig, OptimizerConfig, PromptSampling, TrainConfig


def miniature() -> StageConfig:
    """Train the miniature on single images: about two minutes on two CPU cores.

    python pipelines/stage1.py
    """
    return StageConfig(
        name="miniature",
        stage="stage1",
        model=models.miniature(),
        sources=(
            StageSource(dataset="coco_panoptic", weight=2.0),
            StageSource(dataset="vipseg", weight=1.0, as_images=True),
            StageSource(dataset="sa_1b", weight=1.0),
            StageSource(dataset="refytvos", weight=1.0, as_images=True),
        ),
        loader=LoaderConfig(
            batch_size=8, frames_per_clip=1, max_objects=8, augment=augmentation(), num_workers=0
        ),
        train=training(num_steps=480, frames_per_clip=1, learning_rate=1e-3),
        workers=WorkerConfig(cpus_per_worker=2),
        checkpoint_every_steps=160,
        miniature=WORLDS,
    )


def smoke() -> StageConfig:
    """Take a few steps of the miniature, to see that everything works: seconds of training."""
    return shorten(miniature())


def resnet50() -> StageConfig:
    """Train UniVS R50 on images, with the paper's settings, on 16 GPUs.

    ray job submit --working-dir . -- python pipelines/stage1.py --recipe resnet50 --init-from MASK2FORMER
    """
    return _released(models.released("resnet50"), reid_weight=0.5)


def swin_tiny() -> StageConfig:
    """Train UniVS Swin-T on images, with the paper's settings, on 16 GPUs."""
    return _released(models.released("swin_t", drop_path=0.3), reid_weight=0.25)


def swin_base() -> StageConfig:
    """Train UniVS Swin-B on images, with the paper's settings, on 16 GPUs."""
    return _released(models.released("swin_b", drop_path=0.3), reid_weight=0.25)


def swin_large() -> StageConfig:
    """Train UniVS Swin-L on images, with the paper's settings, on 16 GPUs."""
    return _released(models.released("swin_l", drop_path=0.3), reid_weight=0.25)


RECIPES: Mapping[str, Callable[[], StageConfig]] = {
    "miniature": miniature,
    "smoke": smoke,
    "resnet50": resnet50,
    "swin_tiny": swin_tiny,
    "swin_base": swin_base,
    "swin_large": swin_large,
}


def _released(model: ModelConfig, *, reid_weight: float) -> StageConfig:
    return StageConfig(
        name=model.backbone.name,
        stage="stage1",
        model=model,
        sources=image_sources(),
        loader=LoaderConfig(
            batch_size=16,
            max_objects=60,
            augment=square(),
        ),
        train=TrainConfig(
            num_steps=354_000,
            losses=LossConfig(reid_weight=reid_weight),
            prompts=PromptSampling(max_objects=30),
            optimizer=OptimizerConfig(learning_rate=5e-5, milestones=(0.966,)),
            precision="bf16",
            report_every_steps=50,
        ),
        workers=WorkerConfig(num_workers=16, use_gpu=True, cpus_per_worker=6),
        checkpoint_every_steps=5000,
    )
