"""The JSON of video instance segmentation, as YouTube-VIS and OVIS write it: one track per thing.

``segmentations``, ``bboxes`` and ``areas`` of a track run parallel to the ``file_names`` of its video and
hold null where the object is not visible. The real files of validation sets have no annotations (they are
kept by the server); the miniature owns its ground truth and writes them.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from preprocessing.layouts.encoding import box, uncompressed_rle, write_jpeg, write_json
from preprocessing.worlds import THING_NAMES, Split, World, WorldObject

FRAME_STEP = 5
FOLDERS: dict[Split, str] = {"train": "train", "val": "valid"}


def youtube_name(frame: int) -> str:
    """Name a frame by its number in the source video, of which every fifth is kept."""
    return f"{FRAME_STEP * frame:05d}.jpg"


def no_fields(world: World, entry: WorldObject) -> dict[str, Any]:
    """Add nothing to a track."""
    return {}


@dataclass(frozen=True, kw_only=True, slots=True)
class VisStyle:
    """How the releases differ."""

    class_names: tuple[str, ...] = THING_NAMES
    """Class names in order of their ids 1, 2, ..."""
    frame_name: Callable[[int], str] = youtube_name
    encode: Callable[[NDArray[np.bool_]], dict[str, Any]] = uncompressed_rle
    track_fields: Callable[[World, WorldObject], dict[str, Any]] = no_fields
    """Fields of a track that only this release has."""


def write_videos(annotation: Path, images: Path, worlds: Iterable[World], style: VisStyle) -> None:
    """Write every world as a video with one track per thing.

    Args:
        annotation: The JSON file.
        images: Folder of the video folders.
        worlds: The videos, numbered from 1.
        style: What the release does in its own way.
    """
    videos: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for video_id, world in enumerate(worlds, start=1):
        names = [f"{world.video_id}/{style.frame_name(frame)}" for frame in range(len(world.frames))]
        for name, frame in zip(names, world.frames, strict=True):
            write_jpeg(images / name, frame)
        size = _size(world)
        videos.append({"id": video_id, **size, "file_names": names})
        for entry in world.things:
            track = _track(world, entry, style)
            annotations.append({"id": len(annotations) + 1, "video_id": video_id, **size, **track})
    body = {
        "info": {"description": "UniVS miniature"},
        "licenses": [],
        "videos": videos,
        "categories": [
            {"id": category_id, "name": name, "supercategory": "object"}
            for category_id, name in enumerate(style.class_names, start=1)
        ],
        "annotations": annotations,
    }
    write_json(annotation, body)


def _size(world: World) -> dict[str, int]:
    length, height, width = world.ids.shape
    return {"width": width, "height": height, "length": length}


def _track(world: World, entry: WorldObject, style: VisStyle) -> dict[str, Any]:
    masks = [mask if mask.any() else None for mask in world.ids == entry.object_id]
    return {
        "category_id": style.class_names.index(entry.class_name) + 1,
        "iscrowd": 0,
        "segmentations": [None if mask is None else style.encode(mask) for mask in masks],
        "bboxes": [None if mask is None else box(mask) for mask in masks],
        "areas": [None if mask is None else int(mask.sum()) for mask in masks],
        **style.track_fields(world, entry),
    }
