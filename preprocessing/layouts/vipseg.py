"""VIPSeg: panoptic video, one 16 bit PNG per frame.

- ``imgs/<video>/%08d.jpg``, ``panomasks/<video>/%08d.png``, ``{train,val}.txt`` (one video a line) and
  ``panoVIPSeg_categories.json``, whose ids count from 0.
- Pixel values: 0 void; a stuff region holds its class (file id + 1); a thing holds ``class * 100 + k`` where
  ``k`` counts the instances of the class in the video from 0 and stays with the object.
- Frames keep the numbers they have in the source video, every third one.
"""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from preprocessing.layouts.encoding import write_jpeg, write_json, write_png
from preprocessing.worlds import CLASS_NAMES, COLORS, THING_NAMES, Split, World

CLASS_TABLE = ("grass", "disc", "square", "sand", "triangle", "cross", "water")
"""Class names in file order, things and stuff mixed as in the real table; pixels count from 1. The first is
stuff because ``1 * 100`` would read as a stuff value in the real table of 124 classes."""

FRAME_STEP = 3
_NUM_INSTANCES = 100


def write(
    root: Path, split: Split, worlds: Iterable[World], images: str = "imgs", masks: str = "panomasks"
) -> None:
    """Write every world as a panoptic video and list it in the split file.

    Args:
        root: The dataset's folder.
        split: Which list to write.
        worlds: The videos.
        images: Folder of the images, below ``root``.
        masks: Folder of the label PNGs, below ``root``.
    """
    video_ids = []
    for position, world in enumerate(worlds):
        values = pixel_values(world)[world.ids]
        video_ids.append(world.video_id)
        for frame, pixels in enumerate(values):
            name = f"{first_frame_number(position) + FRAME_STEP * frame:08d}"
            write_jpeg(root / images / world.video_id / f"{name}.jpg", world.frames[frame])
            write_png(root / masks / world.video_id / f"{name}.png", pixels)
    (root / f"{split}.txt").write_text("".join(f"{video_id}\n" for video_id in video_ids), encoding="utf-8")
    write_json(root / "panoVIPSeg_categories.json", categories())
    write_json(root / "label_num_dic_final.json", label_numbers())


def pixel_values(world: World) -> NDArray[np.uint16]:
    """Map object id to pixel value."""
    values = np.zeros(len(world.objects) + 1, dtype=np.uint16)
    num_instances: Counter[int] = Counter()
    for entry in world.objects:
        number = class_number(entry.class_index)
        if entry.is_thing:
            values[entry.object_id] = number * _NUM_INSTANCES + num_instances[number]
            num_instances[number] += 1
        else:
            values[entry.object_id] = number
    return values


def class_number(class_index: int) -> int:
    """Map a class index of the worlds to the number its pixels have in VIPSeg and VSPW."""
    return CLASS_TABLE.index(CLASS_NAMES[class_index]) + 1


def first_frame_number(position: int) -> int:
    """Give the source frame a video of the list begins at."""
    return 301 + 7 * position


def label_numbers() -> dict[str, str]:
    """Give ``label_num_dic_final.json``: class name to pixel number, as text."""
    return {"others": "0", **{name: str(number) for number, name in enumerate(CLASS_TABLE, start=1)}}


def categories() -> list[dict[str, object]]:
    """Give ``panoVIPSeg_categories.json``."""
    colors = [*COLORS.values(), (120, 120, 120)]
    return [
        {"id": file_id, "name": name, "isthing": int(name in THING_NAMES), "color": list(colors[file_id])}
        for file_id, name in enumerate(CLASS_TABLE)
    ]
