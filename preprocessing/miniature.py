"""Miniature datasets: rendered worlds written in each dataset's official layout.

They let the quickstart, the tests and the docs run without a download, through the same readers as the real
sets. Every dataset and every split has worlds of its own.
"""

import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from itertools import count, islice
from pathlib import Path
from typing import Literal

from preprocessing.layouts import (
    ade20k,
    burst,
    coco_instances,
    coco_panoptic,
    davis_2016,
    davis_2017,
    entityseg,
    lvis,
    mose,
    ovis,
    refcoco,
    refdavis,
    refytvos,
    sa_1b,
    viposeg,
    vipseg,
    vipseg_720p,
    vspw,
    ytvis_2019,
    ytvis_2021,
    ytvis_2022,
    ytvos,
)
from preprocessing.worlds import Split, World, WorldConfig, render_world

MARKER_NAME = "MINIATURE"
"""File in a finished dataset that says what it was built from; it has no suffix, so no reader takes it."""

_BUILDER_VERSION = 4
"""Raise whenever the same configuration gives other bytes."""

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class MiniatureConfig:
    """How many worlds of which size each miniature dataset has."""

    train_images: int = 120
    val_images: int = 40
    train_videos: int = 24
    val_videos: int = 8
    world: WorldConfig = field(default_factory=WorldConfig)
    """Worlds of the video datasets; images are worlds of one frame."""
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse empty datasets."""
        counts = (self.train_images, self.val_images, self.train_videos, self.val_videos)
        if min(counts) < 1:
            raise ValueError(f"a miniature needs at least one item per split and kind, got {counts}")

    def num_items(self, kind: Literal["image", "video"], split: Split) -> int:
        """Count the worlds of one split of a dataset of this kind."""
        if kind == "image":
            return self.train_images if split == "train" else self.val_images
        return self.train_videos if split == "train" else self.val_videos


@dataclass(frozen=True, kw_only=True, slots=True)
class _Layout:
    """How one dataset is written."""

    kind: Literal["image", "video"]
    write: Callable[[Path, Split, Iterable[World]], None]
    splits: tuple[Split, ...] = ("train", "val")
    accepts: Callable[[World], bool] = lambda world: True
    """Whether the layout can express the world; another is drawn in place of one it cannot."""


def _has_expression(world: World) -> bool:
    return any(entry.expressions for entry in world.things)


def _has_first_frame_object(world: World) -> bool:
    return bool(davis_2017.sequence_ids(world).any())


_LAYOUTS = {
    "coco_panoptic": _Layout(kind="image", write=coco_panoptic.write),
    "coco_instances": _Layout(kind="image", write=coco_instances.write),
    "lvis": _Layout(kind="image", write=lvis.write_v1),
    "lvis_v05": _Layout(kind="image", write=lvis.write_v05),
    "refcoco": _Layout(kind="image", write=refcoco.write_refcoco, accepts=_has_expression),
    "refcocoplus": _Layout(kind="image", write=refcoco.write_refcocoplus, accepts=_has_expression),
    "refcocog": _Layout(kind="image", write=refcoco.write_refcocog, accepts=_has_expression),
    "sa_1b": _Layout(kind="image", write=sa_1b.write, splits=("train",)),
    "entityseg": _Layout(kind="image", write=entityseg.write),
    "ade20k": _Layout(kind="image", write=ade20k.write),
    "ytvis_2019": _Layout(kind="video", write=ytvis_2019.write),
    "ytvis_2021": _Layout(kind="video", write=ytvis_2021.write),
    "ytvis_2022": _Layout(kind="video", write=ytvis_2022.write, splits=("val",)),
    "ovis": _Layout(kind="video", write=ovis.write),
    "vipseg": _Layout(kind="video", write=vipseg.write),
    "vipseg_720p": _Layout(kind="video", write=vipseg_720p.write),
    "vspw": _Layout(kind="video", write=vspw.write),
    "viposeg": _Layout(kind="video", write=viposeg.write),
    "ytvos_2018": _Layout(kind="video", write=ytvos.write),
    "ytvos_2019": _Layout(kind="video", write=ytvos.write),
    "refytvos": _Layout(kind="video", write=refytvos.write, accepts=_has_expression),
    "mose": _Layout(kind="video", write=mose.write, accepts=_has_first_frame_object),
    "burst": _Layout(kind="video", write=burst.write),
    "davis_2016": _Layout(kind="video", write=davis_2016.write, accepts=_has_first_frame_object),
    "davis_2017": _Layout(kind="video", write=davis_2017.write, accepts=_has_first_frame_object),
    "refdavis": _Layout(kind="video", write=refdavis.write, accepts=refdavis.has_described_object),
}

DATASETS = tuple(_LAYOUTS)
"""Names of the miniature datasets; also their folders."""


def build(root: Path, config: MiniatureConfig, datasets: Iterable[str] = DATASETS) -> dict[str, Path]:
    """Write the miniature datasets under ``root``, each one whole or not at all.

    Datasets that are already there, of the same configuration, are left as they are.

    Args:
        root: Parent of the dataset folders; made if missing.
        config: What to draw.
        datasets: Names out of ``DATASETS``.

    Returns:
        The source root of every dataset, by name.

    Raises:
        ValueError: a name is unknown, or a folder holds something else than this miniature.
    """
    roots = {name: root / name for name in datasets}
    unknown = sorted(set(roots) - set(DATASETS))
    if unknown:
        raise ValueError(f"no miniature of {', '.join(unknown)}: choose out of {', '.join(DATASETS)}")
    root.mkdir(parents=True, exist_ok=True)
    for name, target in roots.items():
        if not _is_complete(target, config):
            _build_dataset(name, target, config)
    return roots


def draw_worlds(name: str, split: Split, config: MiniatureConfig) -> Iterator[World]:
    """Render the worlds of one split of one dataset, in the order they are written."""
    layout = _LAYOUTS[name]
    world_config = replace(config.world, num_frames=1) if layout.kind == "image" else config.world
    digest = hashlib.blake2b(f"{config.seed}|{name}".encode(), digest_size=8).digest()
    seed = int.from_bytes(digest)
    worlds = (render_world(world_config, split, index, seed) for index in count())
    return islice(filter(layout.accepts, worlds), config.num_items(layout.kind, split))


def _build_dataset(name: str, target: Path, config: MiniatureConfig) -> None:
    """Write one dataset aside and move it into place."""
    layout = _LAYOUTS[name]
    aside = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=target.parent))
    try:
        for split in layout.splits:
            layout.write(aside, split, draw_worlds(name, split, config))
        (aside / MARKER_NAME).write_bytes(_marker(config))
        aside.chmod(0o755)
        _move_into_place(aside, target, config)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    _logger.info("built the miniature of %s in %s", name, target)


def _move_into_place(aside: Path, target: Path, config: MiniatureConfig) -> None:
    """Rename, unless another process has built the same dataset meanwhile."""
    try:
        os.rename(aside, target)
    except OSError:
        if not _is_complete(target, config):
            raise


def _is_complete(target: Path, config: MiniatureConfig) -> bool:
    """Tell whether the dataset is there; refuse a folder that holds something else."""
    if not target.exists():
        return False
    marker = target / MARKER_NAME
    found = marker.read_bytes() if marker.is_file() else b""
    if found != _marker(config):
        what = "a miniature of another configuration" if found else "no miniature"
        raise ValueError(
            f"{target}: holds {what}, expected this one or nothing: remove it or choose another folder"
        )
    return True


def _marker(config: MiniatureConfig) -> bytes:
    body = {"builder_version": _BUILDER_VERSION, "config": asdict(config)}
    return json.dumps(body, sort_keys=True, indent=1).encode()
