"""YouTube-VOS, 2018 and 2019 alike: palette masks of every fifth source frame, and ``meta.json``.

- ``{train,valid}/JPEGImages/<video>/%05d.jpg`` and ``Annotations/<video>/%05d.png`` (object ids, 0
  background); ``{train,valid}/meta.json`` lists each object's category and the frames it is visible in.
- The public ``valid`` has a mask only where an object first appears; the miniature owns its ground truth and
  writes every mask.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from preprocessing.layouts.encoding import write_jpeg, write_json, write_palette_png
from preprocessing.layouts.vis_json import FOLDERS, FRAME_STEP
from preprocessing.worlds import Split, World


def write(root: Path, split: Split, worlds: Iterable[World]) -> None:
    """Write every world as a video with masks of its things."""
    folder = root / FOLDERS[split]
    videos: dict[str, Any] = {}
    for world in worlds:
        names = frame_stems(world)
        things = np.where(world.ids <= len(world.things), world.ids, 0).astype(np.uint8)
        for frame, name in enumerate(names):
            write_jpeg(folder / "JPEGImages" / world.video_id / f"{name}.jpg", world.frames[frame])
            label = folder / "Annotations" / world.video_id / f"{name}.png"
            write_palette_png(label, things[frame], is_youtube=True)
        videos[world.video_id] = {"objects": _objects(world, names)}
    write_json(folder / "meta.json", {"videos": videos})


def frame_stems(world: World) -> list[str]:
    """Name the frames of a world by their numbers in the source video."""
    return [f"{FRAME_STEP * frame:05d}" for frame in range(len(world.frames))]


def _objects(world: World, names: list[str]) -> dict[str, Any]:
    entries = {}
    for entry in world.things:
        seen = (world.ids == entry.object_id).any(axis=(1, 2))
        frames = [name for name, is_visible in zip(names, seen, strict=True) if is_visible]
        entries[str(entry.object_id)] = {"category": entry.class_name, "frames": frames}
    return entries
