"""COCO run-length masks: to pixels, and area and box without pixels.

Legend: N masks, H W mask size in pixels.
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask


def decode_rles(counts: Sequence[str], height: int, width: int) -> NDArray[np.bool_]:
    """Decode compressed ``counts`` to bool [N, H, W].

    Raises:
        ValueError: the runs overrun the size.
    """
    if not counts:
        return np.zeros((0, height, width), dtype=bool)
    try:
        pixels = coco_mask.decode(_to_coco(counts, height, width))
    except ValueError as error:
        raise ValueError(f"run-length mask does not fit {height}x{width}: {error}") from error
    return np.asarray(pixels.view(bool).transpose(2, 0, 1))


def decode_rle(counts: str, height: int, width: int) -> NDArray[np.bool_]:
    """Decode one mask to bool [H, W]."""
    return np.asarray(decode_rles([counts], height, width)[0])


@lru_cache(maxsize=64)
def full_rle(height: int, width: int) -> str:
    """Give the mask that covers everything."""
    whole = coco_mask.frPyObjects({"size": [height, width], "counts": [0, height * width]}, height, width)
    return str(whole["counts"], "ascii")


def union_rle(counts: Sequence[str], height: int, width: int) -> str:
    """Merge masks into one without decoding them."""
    merged = coco_mask.merge(_to_coco(counts, height, width), intersect=False)
    return str(merged["counts"], "ascii")


def boxes_of(counts: Sequence[str], height: int, width: int) -> NDArray[np.int64]:
    """Bound each mask by x, y, width, height in whole pixels, [N, 4], without decoding.

    An empty mask has width and height 0.
    """
    if not counts:
        return np.zeros((0, 4), dtype=np.int64)
    return np.asarray(coco_mask.toBbox(_to_coco(counts, height, width)), dtype=np.int64)


def _to_coco(counts: Sequence[str], height: int, width: int) -> list[dict[str, object]]:
    return [{"size": [height, width], "counts": value} for value in counts]
