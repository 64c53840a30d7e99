"""YouTube-VIS 2021: one JSON of tracks per split, things only.

- ``{train,valid}/JPEGImages/<video>/%05d.jpg`` with every fifth source frame (00000, 00005, ...), and
  ``{train,valid}/instances.json``.
- An annotation is a track: ``segmentations``, ``bboxes`` and ``areas`` run parallel to the video's
  ``file_names`` and hold null where the object is not visible; masks are uncompressed RLE.
- The real ``valid`` file has no annotations (they are kept by the server); the miniature owns its ground
  truth and writes them.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from preprocessing.layouts.encoding import box, uncompressed_rle, write_jpeg, write_json
from preprocessing.worlds import THING_NAMES, Split, World, WorldObject

FRAME_STEP = 5
FOLDERS: dict[Split, str] = {"train": "train", "val": "valid"}


def write(root: Path, split: Split, worlds: Iterable[World]) -> None:
    """Write every world as a video with one track per thing."""
    folder = root / FOLDERS[split]
    videos: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for video_id, world in enumerate(worlds, start=1):
        names = [f"{world.video_id}/{FRAME_STEP * frame:05d}.jpg" for frame in range(len(world.frames))]
        for name, frame in zip(names, world.frames, strict=True):
            write_jpeg(folder / "JPEGImages" / name, frame)
        size = _size(world)
        videos.append({"id": video_id, **size, "file_names": names})
        for entry in world.things:
            track = _track(world, entry)
            annotations.append({"id": len(annotations) + 1, "video_id": video_id, **size, **track})
    body = {
        "info": {"description": "UniVS miniature"},
        "licenses": [],
        "videos": videos,
        "categories": [
            {"id": category_id, "name": name, "supercategory": "object"}
            for category_id, name in enumerate(THING_NAMES, start=1)
        ],
        "annotations": annotations,
    }
    write_json(folder / "instances.json", body)


def _size(world: World) -> dict[str, int]:
    length, height, width = world.ids.shape
    return {"width": width, "height": height, "length": length}


def _track(world: World, entry: WorldObject) -> dict[str, Any]:
    masks = [mask if mask.any() else None for mask in world.ids == entry.object_id]
    return {
        "category_id": entry.class_index + 1,
        "iscrowd": 0,
        "segmentations": [None if mask is None else uncompressed_rle(mask) for mask in masks],
        "bboxes": [None if mask is None else box(mask) for mask in masks],
        "areas": [None if mask is None else int(mask.sum()) for mask in masks],
    }
