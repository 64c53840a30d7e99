"""COCO 2017 panoptic: one RGB-coded PNG per image, and one JSON per split.

- ``{train2017,val2017}/%012d.jpg`` and ``annotations/panoptic_{train,val}2017{.json,/%012d.png}``.
- The PNG holds a segment id per pixel, ``R + 256 G + 65536 B``; 0 is void. Ids are listed in
  ``segments_info`` with category, area, box [x, y, w, h] and ``iscrowd`` (COCO panoptic task definition).
- Category ids are sparse: things below 92, stuff from 92 on.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from preprocessing.layouts.encoding import box, write_jpeg, write_json, write_png
from preprocessing.worlds import CLASS_NAMES, THING_NAMES, Split, World

CATEGORY_IDS = (1, 3, 17, 44, 100, 123, 151)
"""Official-like ids by class index."""

_ID_SPREAD = 0x9E3779B1


def write(root: Path, split: Split, worlds: Iterable[World]) -> None:
    """Write the first frame of every world as an image."""
    folder, name = root / f"{split}2017", f"panoptic_{split}2017"
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for position, world in enumerate(worlds):
        image_id = 2 * position + (1 if split == "train" else 2)
        stem = f"{image_id:012d}"
        segment_ids = _segment_ids(image_id, world.ids[0])
        write_jpeg(folder / f"{stem}.jpg", world.frames[0])
        write_png(root / "annotations" / name / f"{stem}.png", _to_rgb(segment_ids))
        height, width = segment_ids.shape
        images.append({"id": image_id, "file_name": f"{stem}.jpg", "height": height, "width": width})
        segments = _segments(image_id, world)
        annotations.append({"image_id": image_id, "file_name": f"{stem}.png", "segments_info": segments})
    body = {
        "info": {"description": "UniVS miniature"},
        "licenses": [],
        "images": images,
        "annotations": annotations,
        "categories": _categories(),
    }
    write_json(root / "annotations" / f"{name}.json", body)


def _segment_ids(image_id: int, ids: NDArray[np.int32]) -> NDArray[np.int64]:
    """Spread (image, object) over 24 bits; multiplying by an odd number keeps ids apart and off 0."""
    return (image_id * 256 + ids.astype(np.int64)) * _ID_SPREAD & 0xFFFFFF


def _to_rgb(segment_ids: NDArray[np.int64]) -> NDArray[np.uint8]:
    return np.stack([segment_ids >> shift & 255 for shift in (0, 8, 16)], axis=2).astype(np.uint8)


def _segments(image_id: int, world: World) -> list[dict[str, Any]]:
    ids = world.ids[0]
    segments = []
    for entry in world.objects:
        mask = ids == entry.object_id
        if mask.any():
            segment_id = int(_segment_ids(image_id, np.array(entry.object_id, dtype=np.int32)))
            category_id, area = CATEGORY_IDS[entry.class_index], int(mask.sum())
            segment = {"id": segment_id, "category_id": category_id, "area": area, "bbox": box(mask)}
            segments.append({**segment, "iscrowd": 0})
    return segments


def _categories() -> list[dict[str, Any]]:
    return [
        {
            "id": category_id,
            "name": name,
            "supercategory": "shape" if name in THING_NAMES else "ground",
            "isthing": int(name in THING_NAMES),
        }
        for category_id, name in zip(CATEGORY_IDS, CLASS_NAMES, strict=True)
    ]
