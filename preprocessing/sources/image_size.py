"""Sizes of images as annotations state them."""

from collections.abc import Mapping
from typing import Any

MAX_SIDE_PX = 65_535
"""What a JPEG can hold. Filling a polygon takes as long as the stated size is large, so it is bounded."""


def parse_image_size(body: Mapping[str, Any]) -> tuple[int, int]:
    """Give ``height`` and ``width`` of an entry.

    Raises:
        KeyError, TypeError: one is missing, or no number.
        ValueError: one is out of range.
    """
    height, width = int(body["height"]), int(body["width"])
    if not (1 <= height <= MAX_SIDE_PX and 1 <= width <= MAX_SIDE_PX):
        raise ValueError(f"size {width:.6g}x{height:.6g} (w x h); expected sides of 1 to {MAX_SIDE_PX}")
    return height, width
