"""RefCOCO, RefCOCO+ and RefCOCOg in the layout of the ``refer`` repository.

- ``train2014/COCO_train2014_%012d.jpg``; ``<folder>/instances.json`` with the images and annotations of all
  splits; ``<folder>/refs(<partition>).p``, a pickle of protocol 2, as Python 2 writes it at best: a list of
  {ref_id, ann_id, image_id, category_id, split, file_name, sent_ids, sentences}.
- A sentence has ``raw`` as typed, ``sent`` cleaned, and its ``tokens``. An object without expressions has
  no ref.
"""

import json
import pickle
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from preprocessing.layouts.coco_json import (
    LICENSES,
    image_entry,
    thing_annotations,
    thing_categories,
    visible_things,
)
from preprocessing.layouts.encoding import write_jpeg, write_json
from preprocessing.worlds import Split, World

_PICKLE_PROTOCOL = 2
"""The newest that Python 2 knows."""


def write_refcoco(root: Path, split: Split, worlds: Iterable[World]) -> None:
    """Write the first frame of every world as an image of RefCOCO."""
    _write(root / "refcoco", "unc", 400_001, split, worlds)


def write_refcocoplus(root: Path, split: Split, worlds: Iterable[World]) -> None:
    """Write the first frame of every world as an image of RefCOCO+."""
    _write(root / "refcoco+", "unc", 500_001, split, worlds)


def write_refcocog(root: Path, split: Split, worlds: Iterable[World]) -> None:
    """Write the first frame of every world as an image of RefCOCOg."""
    _write(root / "refcocog", "umd", 600_001, split, worlds)


def _write(folder: Path, partition: str, first_id: int, split: Split, worlds: Iterable[World]) -> None:
    """Add a split to what the folder holds."""
    pickle_path, json_path = folder / f"refs({partition}).p", folder / "instances.json"
    refs: list[dict[str, Any]] = []
    body: dict[str, Any] = {
        "info": {"description": "UniVS miniature"},
        "licenses": LICENSES,
        "images": [],
        "annotations": [],
        "categories": thing_categories(),
    }
    if json_path.exists():
        body = json.loads(json_path.read_text(encoding="utf-8"))
        refs = pickle.loads(pickle_path.read_bytes())
    for image_id, world in enumerate(worlds, start=first_id + len(body["images"])):
        name = f"COCO_train2014_{image_id:012d}.jpg"
        write_jpeg(folder.parent / "train2014" / name, world.frames[0])
        body["images"].append(image_entry(image_id, name, "train2017", world))
        annotations = thing_annotations(image_id, len(body["annotations"]) + 1, world)
        body["annotations"] += annotations
        refs += _refs(split, refs, annotations, world)
    write_json(json_path, body)
    pickle_path.write_bytes(pickle.dumps(refs, protocol=_PICKLE_PROTOCOL))


def _refs(
    split: Split, before: list[dict[str, Any]], annotations: list[dict[str, Any]], world: World
) -> list[dict[str, Any]]:
    """Make a ref of every thing that has expressions; ids go on from those of the refs before."""
    refs: list[dict[str, Any]] = []
    num_sentences = sum(len(ref["sentences"]) for ref in before)
    for annotation, thing in zip(annotations, visible_things(world), strict=True):
        if not thing.expressions:
            continue
        sent_ids = [num_sentences + position for position in range(len(thing.expressions))]
        num_sentences += len(sent_ids)
        refs.append(
            {
                "ref_id": len(before) + len(refs),
                "ann_id": annotation["id"],
                "image_id": annotation["image_id"],
                "category_id": annotation["category_id"],
                "split": split,
                "file_name": f"COCO_train2014_{annotation['image_id']:012d}_{annotation['id']}.jpg",
                "sent_ids": sent_ids,
                "sentences": [_sentence(*pair) for pair in zip(sent_ids, thing.expressions, strict=True)],
            }
        )
    return refs


def _sentence(sent_id: int, text: str) -> dict[str, Any]:
    return {"sent_id": sent_id, "raw": f"{text.capitalize()}.", "sent": text, "tokens": text.split()}
