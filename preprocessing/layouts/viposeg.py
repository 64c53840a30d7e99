"""VIPOSeg: video object segmentation of things and stuff, VIPSeg's classes.

- ``{train,valid}/JPEGImages/<video>/%08d.jpg`` and ``Annotations/<video>/%08d.png`` (object ids, 0
  background); ``{train,valid}/obj_class.json`` gives VIPSeg's class, counted from 0, of each object.
- In ``valid``, ``Annotations`` holds each object in its first frame only, ``Annotations_gt`` all, and
  ``meta.json`` the frames that show it.
- The real set has no table of class names; the miniature's classes are its own, so VIPSeg's file is beside
  it.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from preprocessing.layouts.encoding import write_jpeg, write_json, write_palette_png
from preprocessing.layouts.vipseg import FRAME_STEP, categories, class_number, first_frame_number
from preprocessing.layouts.vis_json import FOLDERS
from preprocessing.worlds import Split, World


def write(root: Path, split: Split, worlds: Iterable[World]) -> None:
    """Write every world as a video with the masks of all its objects."""
    folder = root / FOLDERS[split]
    classes: dict[str, dict[str, int]] = {}
    objects: dict[str, Any] = {}
    for position, world in enumerate(worlds):
        start = first_frame_number(position)
        stems = [f"{start + FRAME_STEP * frame:08d}" for frame in range(len(world.frames))]
        for stem, frame in zip(stems, world.frames, strict=True):
            write_jpeg(folder / "JPEGImages" / world.video_id / f"{stem}.jpg", frame)
        _write_masks(folder, split, world, stems)
        classes[world.video_id] = {str(e.object_id): class_number(e.class_index) - 1 for e in world.objects}
        objects[world.video_id] = {"objects": _objects(world, stems)}
    write_json(folder / "obj_class.json", classes)
    if split == "val":
        write_json(folder / "meta.json", {"videos": objects})
    write_json(root / "panoVIPSeg_categories.json", categories())


def _write_masks(folder: Path, split: Split, world: World, stems: list[str]) -> None:
    ids = world.ids.astype(np.uint8)
    for stem, frame in zip(stems, ids, strict=True):
        name = "Annotations" if split == "train" else "Annotations_gt"
        write_palette_png(folder / name / world.video_id / f"{stem}.png", frame)
    if split == "train":
        return
    first = [int((world.ids == entry.object_id).any(axis=(1, 2)).argmax()) for entry in world.objects]
    for frame in sorted(set(first)):
        given = [e.object_id for e, begin in zip(world.objects, first, strict=True) if begin == frame]
        mask = np.where(np.isin(ids[frame], given), ids[frame], 0).astype(np.uint8)
        write_palette_png(folder / "Annotations" / world.video_id / f"{stems[frame]}.png", mask)


def _objects(world: World, stems: list[str]) -> dict[str, Any]:
    entries = {}
    for entry in world.objects:
        seen = (world.ids == entry.object_id).any(axis=(1, 2))
        entries[str(entry.object_id)] = {
            "frames": [stem for stem, is_visible in zip(stems, seen, strict=True) if is_visible]
        }
    return entries
