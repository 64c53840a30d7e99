"""EntitySeg v1.0: things and stuff of an image in COCO's schema, masks as compressed run lengths.

- ``images/entity_01_11580/<name>.jpg`` (the folder's name is the real part's size) and
  ``annotations/entity_segmentation/entityv2_010203_entity_{train,val}.json``.
- A category has ``type`` thing or stuff; ids count from 0, which is "unknown". Masks do not overlap.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from preprocessing.layouts.encoding import box, compressed_rle, write_jpeg, write_json
from preprocessing.worlds import CLASS_NAMES, THING_NAMES, Split, World

PART_FOLDER = "entity_01_11580"
ANNOTATIONS = "annotations/entity_segmentation/entityv2_010203_entity_{split}.json"


def write(root: Path, split: Split, worlds: Iterable[World]) -> None:
    """Write the first frame of every world as an image with all its entities."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for image_id, world in enumerate(worlds):
        name = f"{PART_FOLDER}/{world.video_id}.jpg"
        write_jpeg(root / "images" / name, world.frames[0])
        height, width = world.ids[0].shape
        images.append({"file_name": name, "height": height, "width": width, "id": image_id})
        for entity in _entities(world):
            annotations.append({"id": len(annotations) + 1, "image_id": image_id, **entity})
    body = {"images": images, "annotations": annotations, "categories": _categories()}
    write_json(root / ANNOTATIONS.format(split=split), body)


def _entities(world: World) -> Iterable[dict[str, Any]]:
    for entry in world.objects:
        mask = world.ids[0] == entry.object_id
        if mask.any():
            yield {
                "category_id": entry.class_index + 1,
                "iscrowd": 0,
                "area": int(mask.sum()),
                "bbox": box(mask),
                "segmentation": compressed_rle(mask),
            }


def _categories() -> list[dict[str, Any]]:
    rows = [{"supercategory": "entity", "id": 0, "name": "unknown", "type": "thing"}]
    for category_id, name in enumerate(CLASS_NAMES, start=1):
        kind = "thing" if name in THING_NAMES else "stuff"
        family = "shape" if kind == "thing" else "ground"
        rows.append({"supercategory": family, "id": category_id, "name": name, "type": kind})
    return rows
