"""MOSE: ``{train,valid}/{JPEGImages,Annotations}/<video>/%05d.{jpg,png}`` and nothing else.

Palette masks of the objects given in frame 0, with gaps in their ids. The public ``valid`` has the mask of
frame 0 alone; the miniature owns its ground truth and writes every mask.
"""

from collections.abc import Iterable
from pathlib import Path

from preprocessing.layouts.davis_2017 import sequence_ids
from preprocessing.layouts.encoding import write_jpeg, write_palette_png
from preprocessing.layouts.vis_json import FOLDERS
from preprocessing.worlds import Split, World

ID_STEP = 2
"""Every second id is used, as objects that annotators dropped have left gaps in the real set."""


def write(root: Path, split: Split, worlds: Iterable[World]) -> None:
    """Write every world as a video with masks of the objects of its first frame."""
    folder = root / FOLDERS[split]
    for world in worlds:
        masks = (ID_STEP * sequence_ids(world))[world.ids]
        for frame, pixels in enumerate(masks):
            name = f"{world.video_id}/{frame:05d}"
            write_jpeg(folder / "JPEGImages" / f"{name}.jpg", world.frames[frame])
            write_palette_png(folder / "Annotations" / f"{name}.png", pixels)
