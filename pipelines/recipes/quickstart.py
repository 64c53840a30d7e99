"""The quickstart's curricula."""

from collections.abc import Callable, Mapping
from dataclasses import replace

from jobs.quickstart import QuickstartConfig
from pipelines.recipes import evaluate, stage3


def miniature() -> QuickstartConfig:
    """Train the miniature through all stages and score it after each: eight minutes on two CPU cores."""
    evaluation = replace(evaluate.miniature().evaluation, benchmarks=_BENCHMARKS)
    return QuickstartConfig(last_stage=stage3.miniature(), evaluation=evaluation)


def smoke() -> QuickstartConfig:
    """Run all of it on a handful of worlds for a few steps: for tests, its scores mean nothing."""
    evaluation = replace(miniature().evaluation, max_items=1)
    return QuickstartConfig(last_stage=stage3.smoke(), evaluation=evaluation)


RECIPES: Mapping[str, Callable[[], QuickstartConfig]] = {"miniature": miniature, "smoke": smoke}

_BENCHMARKS = "coco_panoptic,ytvis_2021,vipseg,vspw,davis_2017,refytvos"
