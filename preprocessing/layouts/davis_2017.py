"""DAVIS 2017, semi-supervised: palette masks of the objects given in the first frame.

- ``JPEGImages/480p/<sequence>/%05d.jpg``, ``Annotations/480p/<sequence>/%05d.png`` (object ids, 0
  background) for every frame, and ``ImageSets/2017/{train,val}.txt``, one sequence a line.
- A sequence's objects are those annotated in frame 0, numbered from 1; what appears later is background.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from preprocessing.layouts.encoding import write_jpeg, write_palette_png
from preprocessing.worlds import Split, World

MIN_FIRST_AREA_PX = 16
"""Smallest mask in frame 0 that says which object is meant."""


def write(root: Path, split: Split, worlds: Iterable[World]) -> None:
    """Write every world as a sequence and list it in the image set."""
    sequences = []
    for world in worlds:
        sequences.append(world.video_id)
        masks = sequence_ids(world)[world.ids]
        for frame, pixels in enumerate(masks):
            name = f"{world.video_id}/{frame:05d}"
            write_jpeg(root / "JPEGImages" / "480p" / f"{name}.jpg", world.frames[frame])
            write_palette_png(root / "Annotations" / "480p" / f"{name}.png", pixels)
    image_set = root / "ImageSets" / "2017" / f"{split}.txt"
    image_set.parent.mkdir(parents=True, exist_ok=True)
    image_set.write_text("".join(f"{name}\n" for name in sequences), encoding="utf-8")


def sequence_ids(world: World) -> NDArray[np.uint8]:
    """Map object id of the world to object id of the sequence; 0 for what the sequence leaves out."""
    areas = np.bincount(world.ids[0].ravel(), minlength=len(world.objects) + 1)
    ids = np.zeros(len(world.objects) + 1, dtype=np.uint8)
    given = [entry.object_id for entry in world.things if areas[entry.object_id] >= MIN_FIRST_AREA_PX]
    ids[given] = np.arange(1, len(given) + 1)
    return ids
