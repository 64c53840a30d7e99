"""OVIS: ``{train,valid}/<video>/img_%07d.jpg`` and ``annotations_{train,valid}.json`` like YouTube-VIS.

Frames are numbered from 1; masks are compressed RLE. Each track has a field that YouTube-VIS does not know:
how much of the object is hidden in each frame.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from preprocessing.layouts.encoding import compressed_rle
from preprocessing.layouts.vis_json import FOLDERS, VisStyle, write_videos
from preprocessing.worlds import Split, World, WorldObject

_SLIGHT_FRACTION, _SEVERE_FRACTION = 0.9, 0.5
"""Visible parts, of the most that is ever seen of the object, below which it counts as occluded."""


def write(root: Path, split: Split, worlds: Iterable[World]) -> None:
    """Write every world as a video with one track per thing."""
    style = VisStyle(frame_name=_frame_name, encode=compressed_rle, track_fields=_occlusion)
    write_videos(root / f"annotations_{FOLDERS[split]}.json", root / FOLDERS[split], worlds, style)


def _frame_name(frame: int) -> str:
    return f"img_{frame + 1:07d}.jpg"


def _occlusion(world: World, entry: WorldObject) -> dict[str, Any]:
    areas = (world.ids == entry.object_id).sum(axis=(1, 2))
    return {"occlusion": [_level(area / areas.max()) if area else None for area in areas]}


def _level(fraction: float) -> str:
    if fraction >= _SLIGHT_FRACTION:
        return "no_occlusion"
    return "slight_occlusion" if fraction >= _SEVERE_FRACTION else "severe_occlusion"
