"""Read label PNGs without changing a value, and sizes of images without decoding them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from preprocessing.errors import DAMAGED_FILE_ERRORS, ItemError, describe_damage

INDEX_MODES = ("P", "L")
"""Pillow modes whose pixels are object ids as stored; converting RGB to P would renumber them."""
SIXTEEN_BIT_MODES = ("I;16", "I;16B", "I", "L")
"""Pillow modes of gray PNGs up to 16 bits, read exactly."""
COLOR_MODES = ("RGB",)


def read_label_image(path: Path, modes: tuple[str, ...], where: str) -> NDArray[Any]:
    """Decode a label PNG to its stored values: [H, W], or [H, W, 3] for ``COLOR_MODES``.

    Raises:
        ItemError: E151 missing, E102 not decodable, E130 another mode.
    """
    return _decode(path, modes, where, np.asarray)


def read_segment_ids(path: Path, where: str) -> NDArray[np.int32]:
    """Decode a color label PNG to one number per pixel, R + 256 G + 65536 B: [H, W].

    Raises:
        ItemError: E151 missing, E102 not decodable, E130 another mode.
    """
    return _decode(path, COLOR_MODES, where, _join_channels)


def _decode(
    path: Path, modes: tuple[str, ...], where: str, to_array: Callable[[Image.Image], NDArray[Any]]
) -> NDArray[Any]:
    try:
        with Image.open(path) as image:
            image.load()
            mode = image.mode
            labels = to_array(image) if mode in modes else None
    except FileNotFoundError as error:
        raise ItemError("E151", f"{where}: label image {path.name} not found") from error
    except DAMAGED_FILE_ERRORS as error:
        raise ItemError("E102", f"{where}: label image {path.name}: {describe_damage(error)}") from error
    if labels is None:
        raise ItemError(
            "E130", f"{where}: label image {path.name} has mode {mode}; expected {' or '.join(modes)}"
        )
    return labels


def _join_channels(image: Image.Image) -> NDArray[np.int32]:
    """Read the four bytes Pillow keeps per RGB pixel as one little-endian number, less the unused last one.

    That takes a tenth of the time of widening three channels and adding them up.
    """
    pixels = np.frombuffer(image.tobytes("raw", "RGBX"), dtype="<u4").reshape(image.height, image.width)
    return (pixels & np.uint32(0xFFFFFF)).view(np.int32)


def require_label_size(labels: NDArray[Any], height: int, width: int, where: str) -> None:
    """Check a label image against its item.

    Raises:
        ItemError: E131 if the sizes differ.
    """
    found_height, found_width = labels.shape[:2]
    if (found_height, found_width) != (height, width):
        raise ItemError(
            "E131", f"{where}: label image {found_width}x{found_height}; expected {width}x{height} (w x h)"
        )


def read_image_size(path: Path, where: str) -> tuple[int, int]:
    """Read height and width from an image's header.

    Raises:
        ItemError: E101 missing, E102 not an image.
    """
    try:
        with Image.open(path) as image:
            return image.height, image.width
    except FileNotFoundError as error:
        raise ItemError("E101", f"{where}: {path.name} not found") from error
    except DAMAGED_FILE_ERRORS as error:
        raise ItemError("E102", f"{where}: {path.name}: {describe_damage(error)}") from error
