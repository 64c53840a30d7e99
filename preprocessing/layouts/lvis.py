"""LVIS v1 and v0.5: things outlined by polygons, each image checked for some categories only.

- COCO's ``{train2017,val2017}/%012d.jpg``, and ``lvis_v1_{train,val}.json`` or ``lvis_v0.5_{train,val}.json``
  beside these folders. Images of v1 have no ``file_name``; those of v0.5 have that of COCO 2014.
- ``neg_category_ids`` are verified to be absent: here every second of the absent classes.
  ``not_exhaustive_category_ids`` have instances without an annotation: here all but one of a class that is
  there more than once.
- No ``iscrowd``. Every second val image is one of COCO's ``train2017``, as in the real val split.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from preprocessing.layouts.coco_json import LICENSES, image_entry, outlined, visible_things
from preprocessing.layouts.encoding import write_jpeg, write_json
from preprocessing.worlds import THING_NAMES, Split, World

_V1_IDS = (12, 207, 793, 1101)
_V05_IDS = (9, 215, 811, 1130)
"""Category ids of the things; the two versions have tables of their own."""
_FIRST_ID: dict[Split, int] = {"train": 200_001, "val": 250_001}
_V05_OFFSET = 100_000
"""The images have other ids than in any other miniature over COCO's, for they are other pictures."""


def write_v1(root: Path, split: Split, worlds: Iterable[World]) -> None:
    """Write the first frame of every world as an image of LVIS v1."""
    images, annotations = _write_images(root, split, worlds, _V1_IDS, _FIRST_ID[split])
    for image in images:
        del image["file_name"]
    _write_body(root / f"lvis_v1_{split}.json", images, annotations, _V1_IDS)


def write_v05(root: Path, split: Split, worlds: Iterable[World]) -> None:
    """Write the first frame of every world as an image of LVIS v0.5."""
    first_id = _FIRST_ID[split] + _V05_OFFSET
    images, annotations = _write_images(root, split, worlds, _V05_IDS, first_id)
    for image in images:
        image["file_name"] = f"COCO_{split}2014_{image['id']:012d}.jpg"
    _write_body(root / f"lvis_v0.5_{split}.json", images, annotations, _V05_IDS)


Entries = list[dict[str, Any]]


def _write_images(
    root: Path, split: Split, worlds: Iterable[World], category_ids: tuple[int, ...], first_id: int
) -> tuple[Entries, Entries]:
    images: Entries = []
    annotations: Entries = []
    for image_id, world in enumerate(worlds, start=first_id):
        folder = "train2017" if image_id % 2 else f"{split}2017"
        name = f"{image_id:012d}.jpg"
        write_jpeg(root / folder / name, world.frames[0])
        things = visible_things(world)
        counts = Counter(category_ids[thing.class_index] for thing in things)
        absent = [category_id for category_id in category_ids if category_id not in counts]
        repeated = [category_id for category_id, count in counts.items() if count > 1]
        entry = image_entry(image_id, name, folder, world)
        images.append({**entry, "neg_category_ids": absent[::2], "not_exhaustive_category_ids": repeated})
        chosen = {category_ids[thing.class_index]: thing for thing in things}
        for category_id, thing in chosen.items():
            annotations.append(
                {
                    **outlined(world.ids[0] == thing.object_id),
                    "image_id": image_id,
                    "category_id": category_id,
                    "id": len(annotations) + 1,
                }
            )
    return images, annotations


def _write_body(path: Path, images: Entries, annotations: Entries, category_ids: tuple[int, ...]) -> None:
    body = {
        "info": {"description": "UniVS miniature"},
        "licenses": LICENSES,
        "images": images,
        "annotations": annotations,
        "categories": [_category(i, name) for i, name in zip(category_ids, THING_NAMES, strict=True)],
    }
    write_json(path, body)


def _category(category_id: int, name: str) -> Mapping[str, Any]:
    return {
        "id": category_id,
        "name": name,
        "synset": f"{name}.n.01",
        "synonyms": [name],
        "def": f"a flat shape: a {name}",
        "frequency": "f",
    }
