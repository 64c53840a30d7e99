"""DAVIS 2016: one object per sequence, 0 and 255 in gray PNGs, and lists of image and mask pairs.

``JPEGImages/480p/<sequence>/%05d.jpg``, ``Annotations/480p/<sequence>/%05d.png`` and
``ImageSets/480p/{train,val}.txt``, a line for each frame. All things given in frame 0 are the one object.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from preprocessing.layouts.davis_2017 import sequence_ids
from preprocessing.layouts.encoding import write_jpeg, write_png
from preprocessing.worlds import Split, World

FOREGROUND = 255


def write(root: Path, split: Split, worlds: Iterable[World]) -> None:
    """Write every world as a sequence and list its frames."""
    lines = []
    for world in worlds:
        masks = np.where(sequence_ids(world)[world.ids] > 0, FOREGROUND, 0).astype(np.uint8)
        for frame, pixels in enumerate(masks):
            image = f"JPEGImages/480p/{world.video_id}/{frame:05d}.jpg"
            label = f"Annotations/480p/{world.video_id}/{frame:05d}.png"
            lines.append(f"/{image} /{label}\n")
            write_jpeg(root / image, world.frames[frame])
            write_png(root / label, pixels)
    image_set = root / "ImageSets" / "480p" / f"{split}.txt"
    image_set.parent.mkdir(parents=True, exist_ok=True)
    image_set.write_text("".join(lines), encoding="utf-8")
