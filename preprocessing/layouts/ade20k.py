"""ADE20K's SceneParse150: a PNG of classes and a PNG of instances per image.

- ``images/{training,validation}/ADE_{train,val}_%08d.jpg``; ``annotations/.../*.png``: 8 bit, the class from
  1, 0 is none of them; ``annotations_instance/.../*.png``: R the instance class from 1, G the instance in the
  image.
- ``objectInfo150.txt`` lists the classes with their share of the pixels and the number of images they are in;
  ``ade20k_instance_catid_mapping.txt`` says which class an instance class is. Only things have instances.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from preprocessing.layouts.encoding import write_jpeg, write_png
from preprocessing.layouts.vipseg import CLASS_TABLE, class_number
from preprocessing.worlds import THING_NAMES, Split, World

FOLDERS: dict[Split, str] = {"train": "training", "val": "validation"}
INSTANCE_CLASSES = tuple(name for name in CLASS_TABLE if name in THING_NAMES)
"""Names of the instance classes, in order of their classes; they count from 1."""


def write(root: Path, split: Split, worlds: Iterable[World]) -> None:
    """Write the first frame of every world as an image."""
    scenes: list[NDArray[np.uint8]] = []
    for number, world in enumerate(worlds, start=1):
        name = f"{FOLDERS[split]}/ADE_{split}_{number:08d}"
        scenes.append(_classes(world))
        write_jpeg(root / "images" / f"{name}.jpg", world.frames[0])
        write_png(root / "annotations" / f"{name}.png", scenes[-1])
        write_png(root / "annotations_instance" / f"{name}.png", _instances(world))
    _write_names(root / "objectInfo150.txt", split, scenes)
    rows = [
        f"{number}\t\t{CLASS_TABLE.index(name) + 1}\t\t{CLASS_TABLE.index(name) + 1}"
        for number, name in enumerate(INSTANCE_CLASSES, start=1)
    ]
    header = "Instacne100\tSceneParse150\tFullADE20K"  # as it is spelled in the real file
    (root / "ade20k_instance_catid_mapping.txt").write_text(
        "\n".join([header, *rows]) + "\n", encoding="utf-8"
    )


def _classes(world: World) -> NDArray[np.uint8]:
    numbers = [0, *(class_number(entry.class_index) for entry in world.objects)]
    return np.asarray(np.array(numbers, dtype=np.uint8)[world.ids[0]])


def _instances(world: World) -> NDArray[np.uint8]:
    """Give R, G, B [H, W, 3]."""
    colors = np.zeros((len(world.objects) + 1, 3), dtype=np.uint8)
    for entry in world.things:
        colors[entry.object_id, :2] = INSTANCE_CLASSES.index(entry.class_name) + 1, entry.object_id
    return np.asarray(colors[world.ids[0]])


def _write_names(path: Path, split: Split, scenes: list[NDArray[np.uint8]]) -> None:
    """Write the table of classes; the images of the other split are counted when it is written."""
    pixels = np.concatenate([scene.ravel() for scene in scenes])
    ratios = np.bincount(pixels, minlength=len(CLASS_TABLE) + 1) / pixels.size
    shown = [sum(bool((scene == number).any()) for scene in scenes) for number in range(len(ratios))]
    rows = path.read_text(encoding="utf-8").splitlines()[1:] if path.exists() else []
    before = [[int(value) for value in row.split("\t")[2:4]] for row in rows] or [[0, 0]] * len(CLASS_TABLE)
    lines = ["Idx\tRatio\tTrain\tVal\tName"]
    for number, (name, (train, val)) in enumerate(zip(CLASS_TABLE, before, strict=True), start=1):
        counts = (shown[number], val) if split == "train" else (train, shown[number])
        lines.append(f"{number}\t{ratios[number]:.4f}\t{counts[0]}\t{counts[1]}\t{name}")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
