"""BURST: frames of TAO and JSONs of per-frame masks, all classes of things with the ids of LVIS v0.5.

- ``frames/{train,val}/<dataset>/<sequence>/frame%04d.jpg`` and ``annotations/{train,val}/all_classes.json``.
- ``segmentations`` holds, per annotated frame, masks by track id (text, from "1" in each sequence); an RLE
  string has no size. Train is annotated in every frame, and where ``is_gt`` is false a machine did it, with a
  ``score``; val is annotated in every second frame.
- ``annotations/val/first_frame_annotations.json`` repeats each track's first mask, with its box and a point.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from preprocessing.layouts.encoding import box, compressed_rle, write_jpeg, write_json
from preprocessing.worlds import THING_NAMES, Split, World

CATEGORY_IDS = (12, 81, 235, 1107)
"""Ids of the things; those of LVIS have gaps."""
SOURCES = ("LaSOT", "YFCC100M")
RATE = 30
VAL_STEP, GT_STEP = 2, 3
MACHINE_SCORE = 0.75


def write(root: Path, split: Split, worlds: Iterable[World]) -> None:
    """Write every world as a sequence; things that no annotated frame shows are not tracks."""
    sequences = [_write_sequence(root, split, number, world) for number, world in enumerate(worlds, start=1)]
    folder = root / "annotations" / split
    categories = [
        {"id": category_id, "name": name, "synset": f"{name}.n.01", "def": name, "synonyms": [name]}
        for category_id, name in zip(CATEGORY_IDS, THING_NAMES, strict=True)
    ]
    body = {"sequences": sequences, "categories": categories, "split": split}
    write_json(folder / "all_classes.json", body)
    if split == "val":
        first = [{**sequence, "segmentations": _first_masks(sequence)} for sequence in sequences]
        write_json(folder / "first_frame_annotations.json", {**body, "sequences": first})


def _write_sequence(root: Path, split: Split, number: int, world: World) -> dict[str, Any]:
    source = SOURCES[number % len(SOURCES)]
    names = [f"frame{frame + 1:04d}.jpg" for frame in range(len(world.frames))]
    for name, frame in zip(names, world.frames, strict=True):
        write_jpeg(root / "frames" / split / source / world.video_id / name, frame)
    step = VAL_STEP if split == "val" else 1
    frames = [_masks(world, frame, split) for frame in range(0, len(names), step)]
    shown = {object_id for masks in frames for object_id in masks}
    tracks = [entry for entry in world.things if str(entry.object_id) in shown]
    present = {CATEGORY_IDS[entry.class_index] for entry in tracks}
    height, width = world.ids.shape[1:]
    return {
        "id": number,
        "seq_name": world.video_id,
        "dataset": source,
        "width": width,
        "height": height,
        "fps": RATE,
        "all_image_paths": names,
        "annotated_image_paths": names[::step],
        "neg_category_ids": sorted(set(CATEGORY_IDS) - present)[:1],
        "not_exhaustive_category_ids": sorted(present)[:1],
        "track_category_ids": {str(e.object_id): CATEGORY_IDS[e.class_index] for e in tracks},
        "segmentations": frames,
    }


def _masks(world: World, frame: int, split: Split) -> dict[str, dict[str, Any]]:
    """Encode the things of one frame; a machine made those of train, but for every third frame."""
    is_gt = split == "val" or frame % GT_STEP == 0
    score = {} if is_gt else {"score": MACHINE_SCORE}
    masks = ((entry.object_id, world.ids[frame] == entry.object_id) for entry in world.things)
    return {
        str(object_id): {"rle": compressed_rle(mask)["counts"], "is_gt": is_gt, **score}
        for object_id, mask in masks
        if mask.any()
    }


def _first_masks(sequence: dict[str, Any]) -> list[dict[str, dict[str, Any]]]:
    """Keep each track's first mask, and add its box and one of its pixels."""
    size = (sequence["height"], sequence["width"])
    given: set[str] = set()
    frames = []
    for frame in sequence["segmentations"]:
        new = {track: body for track, body in frame.items() if track not in given}
        given |= new.keys()
        frames.append({track: {**body, **_box_and_point(body["rle"], size)} for track, body in new.items()})
    return frames


def _box_and_point(rle: str, size: tuple[int, int]) -> dict[str, list[int]]:
    mask = coco_mask.decode({"size": list(size), "counts": rle.encode("ascii")}).astype(np.bool_)
    pixels = np.argwhere(mask)
    y, x = pixels[len(pixels) // 2]
    return {"bbox": box(mask), "point": [int(x), int(y)]}
