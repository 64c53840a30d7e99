"""How checkpoints are scored: the published inference settings, and the miniature's."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from jobs.config import BenchmarkConfig, EvaluateConfig, EvaluateJob
from pipelines.recipes.miniature import FRAME_HEIGHT_PX, REAL_SHORT_EDGE_PX
from univs.inference.config import (
    InferenceConfig,
    image_defaults,
    refvos_defaults,
    vis_defaults,
    vos_defaults,
    vps_defaults,
    vss_defaults,
)

_PUBLISHED: Mapping[str, InferenceConfig] = {
    "coco_panoptic": image_defaults(),
    "ade20k": image_defaults(),
    "ytvis_2021": vis_defaults(),
    "ytvis_2019": vis_defaults(),
    "ytvis_2022": vis_defaults(),
    "ovis": replace(vis_defaults(), max_detections=50, class_threshold=0.2),
    "vipseg": vps_defaults(),
    "vipseg_720p": vps_defaults(),
    "vspw": vss_defaults(),
    "davis_2017": vos_defaults(),
    "davis_2016": vos_defaults(),
    "mose": vos_defaults(),
    "ytvos_2018": vos_defaults(),
    "ytvos_2019": vos_defaults(),
    "viposeg": vos_defaults(),
    "refytvos": refvos_defaults(),
}


def miniature() -> EvaluateJob:
    """Score a miniature checkpoint at the miniature's size.

    python pipelines/evaluate.py --checkpoint FILE --data runs/demo/releases --out OUT
    """
    settings = tuple(
        BenchmarkConfig(name=name, inference=_shrink(config, FRAME_HEIGHT_PX))
        for name, config in _PUBLISHED.items()
    )
    return _job(EvaluateConfig(settings=settings))


def small_real() -> EvaluateJob:
    """Score a checkpoint of stage 2's small_real recipe at the size it was trained on."""
    names = ("coco_panoptic", "davis_2016")
    settings = tuple(
        BenchmarkConfig(name=name, inference=_shrink(_PUBLISHED[name], REAL_SHORT_EDGE_PX)) for name in names
    )
    return _job(EvaluateConfig(settings=settings))


def released() -> EvaluateJob:
    """Score a full-size checkpoint with the published settings, one model per GPU."""
    settings = tuple(BenchmarkConfig(name=name, inference=config) for name, config in _PUBLISHED.items())
    return _job(EvaluateConfig(settings=settings, num_actors=8, cpus_per_actor=4, gpus_per_actor=1.0))


RECIPES: Mapping[str, Callable[[], EvaluateJob]] = {
    "miniature": miniature,
    "small_real": small_real,
    "released": released,
}


def _job(evaluation: EvaluateConfig) -> EvaluateJob:
    return EvaluateJob(
        checkpoint=Path("runs/miniature/stage3/checkpoint.safetensors"),
        data=Path("runs/releases"),
        out=Path("runs/evaluation"),
        evaluation=evaluation,
    )


def _shrink(config: InferenceConfig, short_edge_px: int) -> InferenceConfig:
    """Keep the task's thresholds; cut frames and clips to what the miniature was trained on."""
    frames_per_clip = min(config.frames_per_clip, 3)
    return replace(
        config,
        frames_per_clip=frames_per_clip,
        clip_stride=min(config.clip_stride, frames_per_clip),
        memory_frames=3,
        short_edge_px=short_edge_px,
        max_long_edge_px=2 * short_edge_px,
    )
