"""Trees of masks: object ids in indexed PNGs, and one black and white PNG per expression."""

from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from univs.draw import palette
from univs.evaluation.submissions.files import inside, write_png
from univs.predictions import ObjectVideo

_YOUTUBE_VOS_COLORS = (
    *(0x000000, 0xEC5F67, 0xF99157, 0xFAC863, 0x99C794, 0x62B3B2, 0x6699CC, 0xC594C5),
    *(0xAB7967, 0xFFFFFF, 0x65737E),
)


@cache
def youtube_vos_palette() -> NDArray[np.uint8]:
    """Give the [256, 3] color table of YouTube-VOS masks: eleven colors, then grays of the id's own value."""
    table = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1)
    for value, color in enumerate(_YOUTUBE_VOS_COLORS):
        table[value] = (color >> 16, color >> 8 & 255, color & 255)
    table.flags.writeable = False
    return table


def write_object_masks(root: Path, video: ObjectVideo, colors: NDArray[np.uint8] | None = None) -> None:
    """Write ``ROOT/<video>/<frame>.png`` of DAVIS and its like: indexed PNGs whose values are the object ids.

    Where masks overlap, the object listed first owns the pixel. ``colors`` is the palette of the given masks,
    [256, 3]; that of DAVIS unless given.

    Raises:
        ValueError: an object id is not a number in 1..255.
    """
    ids = [int(name) if name.isdecimal() else 0 for name in video.object_ids]
    if not all(0 < number < 256 for number in ids):
        raise ValueError(
            f"video {video.video_id!r}: object ids {list(video.object_ids)[:8]} must be numbers in 1..255"
        )
    table = (palette() if colors is None else colors).tobytes()
    for t, name in enumerate(video.frame_names):
        pixels = np.zeros(video.masks.shape[2:], np.uint8)
        for n in reversed(range(len(ids))):
            pixels[video.masks[n, t]] = ids[n]
        image = Image.fromarray(pixels, "P")
        image.putpalette(table)
        write_png(inside(root, video.video_id, f"{name}.png"), image)


def write_expression_masks(root: Path, video: ObjectVideo) -> None:
    """Write ``ROOT/Annotations/<video>/<expression>/<frame>.png`` of Ref-YouTube-VOS, values 0 and 255."""
    for n, expression_id in enumerate(video.object_ids):
        for t, name in enumerate(video.frame_names):
            path = inside(root, "Annotations", video.video_id, expression_id, f"{name}.png")
            write_png(path, Image.fromarray(video.masks[n, t].astype(np.uint8) * 255))
