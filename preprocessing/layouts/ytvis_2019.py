"""YouTube-VIS 2019: ``{train,valid}/JPEGImages/<video>/%05d.jpg`` with ``{train,valid}.json`` beside them.

Its classes are those of 2021 under other ids, as the same integer means other classes in the real releases.
"""

from collections.abc import Iterable
from pathlib import Path

from preprocessing.layouts.vis_json import FOLDERS, VisStyle, write_videos
from preprocessing.worlds import THING_NAMES, Split, World

CLASS_NAMES = tuple(sorted(THING_NAMES))


def write(root: Path, split: Split, worlds: Iterable[World]) -> None:
    """Write every world as a video with one track per thing."""
    images = root / FOLDERS[split] / "JPEGImages"
    style = VisStyle(class_names=CLASS_NAMES)
    write_videos(root / f"{FOLDERS[split]}.json", images, worlds, style)
