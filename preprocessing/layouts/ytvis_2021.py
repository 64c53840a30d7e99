"""YouTube-VIS 2021: ``{train,valid}/JPEGImages/<video>/%05d.jpg`` and ``{train,valid}/instances.json``.

Every fifth source frame is kept (00000, 00005, ...); masks are uncompressed RLE.
"""

from collections.abc import Iterable
from pathlib import Path

from preprocessing.layouts.vis_json import FOLDERS, VisStyle, write_videos
from preprocessing.worlds import Split, World


def write(root: Path, split: Split, worlds: Iterable[World]) -> None:
    """Write every world as a video with one track per thing."""
    folder = root / FOLDERS[split]
    write_videos(folder / "instances.json", folder / "JPEGImages", worlds, VisStyle())
