"""VSPW: semantic video, one 8 bit PNG per frame.

- ``data/<video>/origin/%08d.jpg``, ``data/<video>/mask/%08d.png``, ``{train,val}.txt`` and
  ``label_num_dic_final.json`` ({name: "number"}).
- Pixel values: 0 others, 1.. the class whether thing or stuff, 255 void.
- Frames keep the numbers they have in the source video, without gaps.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from preprocessing.layouts.encoding import write_jpeg, write_json, write_png
from preprocessing.layouts.vipseg import class_number, first_frame_number, label_numbers
from preprocessing.worlds import Split, World


def write(root: Path, split: Split, worlds: Iterable[World]) -> None:
    """Write every world as a semantic video and list it in the split file."""
    video_ids = []
    for position, world in enumerate(worlds):
        numbers = [0, *(class_number(entry.class_index) for entry in world.objects)]
        folder = root / "data" / world.video_id
        video_ids.append(world.video_id)
        for frame, pixels in enumerate(np.array(numbers, dtype=np.uint8)[world.ids]):
            name = f"{first_frame_number(position) + frame:08d}"
            write_jpeg(folder / "origin" / f"{name}.jpg", world.frames[frame])
            write_png(folder / "mask" / f"{name}.png", pixels)
    (root / f"{split}.txt").write_text("".join(f"{video_id}\n" for video_id in video_ids), encoding="utf-8")
    write_json(root / "label_num_dic_final.json", label_numbers())
