"""Ref-YouTube-VOS: YouTube-VOS images and palette masks, and a JSON of expressions per split.

- ``{train,valid}/JPEGImages/<video>/%05d.jpg`` and ``Annotations/<video>/%05d.png`` (object ids, 0
  background) with every fifth source frame; ``{train,valid}/meta.json`` lists each object's category and the
  frames it is visible in.
- ``meta_expressions/{train,valid}/meta_expressions.json``: per video ``frames`` and ``expressions``
  ({"0": {"exp", "obj_id"}}); all ids are text. An object may have no expression, as in the real set.
- The public ``valid`` files have no ``obj_id`` and no masks; the miniature owns its ground truth and writes
  both.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from preprocessing.layouts.encoding import write_jpeg, write_json, write_palette_png
from preprocessing.layouts.ytvis_2021 import FOLDERS, FRAME_STEP
from preprocessing.worlds import Split, World


def write(root: Path, split: Split, worlds: Iterable[World]) -> None:
    """Write every world as a video with masks of its things and their expressions."""
    folder = root / FOLDERS[split]
    objects: dict[str, Any] = {}
    expressions: dict[str, Any] = {}
    for world in worlds:
        names = [f"{FRAME_STEP * frame:05d}" for frame in range(len(world.frames))]
        things = np.where(world.ids <= len(world.things), world.ids, 0).astype(np.uint8)
        for frame, name in enumerate(names):
            write_jpeg(folder / "JPEGImages" / world.video_id / f"{name}.jpg", world.frames[frame])
            write_palette_png(folder / "Annotations" / world.video_id / f"{name}.png", things[frame])
        objects[world.video_id] = {"objects": _objects(world, names)}
        expressions[world.video_id] = {"expressions": _expressions(world), "frames": names}
    write_json(folder / "meta.json", {"videos": objects})
    write_json(root / "meta_expressions" / FOLDERS[split] / "meta_expressions.json", {"videos": expressions})


def _objects(world: World, names: list[str]) -> dict[str, Any]:
    entries = {}
    for entry in world.things:
        seen = (world.ids == entry.object_id).any(axis=(1, 2))
        frames = [name for name, is_visible in zip(names, seen, strict=True) if is_visible]
        entries[str(entry.object_id)] = {"category": entry.class_name, "frames": frames}
    return entries


def _expressions(world: World) -> dict[str, dict[str, str]]:
    pairs = [(text, entry.object_id) for entry in world.things for text in entry.expressions]
    return {str(number): {"exp": text, "obj_id": str(owner)} for number, (text, owner) in enumerate(pairs)}
