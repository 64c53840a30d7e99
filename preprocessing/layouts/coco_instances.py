"""COCO 2017 instances: things only, one JSON per split.

- ``{train2017,val2017}/%012d.jpg`` and ``annotations/instances_{train,val}2017.json``.
- Every fourth image shows a group as COCO does: where two of its things are of one class, these are one
  annotation with ``iscrowd`` 1 and uncompressed run lengths.
"""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from preprocessing.layouts.coco_json import (
    LICENSES,
    group_annotation,
    image_entry,
    thing_annotations,
    thing_categories,
)
from preprocessing.layouts.coco_panoptic import CATEGORY_IDS
from preprocessing.layouts.encoding import write_jpeg, write_json
from preprocessing.worlds import Split, World

_FIRST_ID: dict[Split, int] = {"train": 100_001, "val": 150_001}
"""Of the images: another than in any other miniature over COCO's images, for these are other pictures."""
_GROUP_EVERY = 4


def write(root: Path, split: Split, worlds: Iterable[World]) -> None:
    """Write the first frame of every world as an image with its things."""
    folder = f"{split}2017"
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    next_id = 1
    for image_id, world in enumerate(worlds, start=_FIRST_ID[split]):
        name = f"{image_id:012d}.jpg"
        write_jpeg(root / folder / name, world.frames[0])
        images.append(image_entry(image_id, name, folder, world))
        annotations += _annotations(image_id, next_id, world)
        next_id += len(world.things)
    body = {
        "info": {"description": "UniVS miniature"},
        "licenses": LICENSES,
        "images": images,
        "annotations": annotations,
        "categories": thing_categories(),
    }
    write_json(root / "annotations" / f"instances_{folder}.json", body)


def _annotations(image_id: int, first_id: int, world: World) -> list[dict[str, Any]]:
    ((class_index, count),) = Counter(thing.class_index for thing in world.things).most_common(1)
    entries = thing_annotations(image_id, first_id, world)
    if count < 2 or image_id % _GROUP_EVERY:
        return entries
    category_id = CATEGORY_IDS[class_index]
    single = [entry for entry in entries if entry["category_id"] != category_id]
    group_id = min(entry["id"] for entry in entries if entry["category_id"] == category_id)
    return [*single, group_annotation(image_id, group_id, world, class_index)]
