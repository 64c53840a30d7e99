"""Image files and mask encodings that several official layouts share."""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as coco_mask

JPEG_QUALITY = 95
_JPEG_OPTIONS = [
    cv2.IMWRITE_JPEG_QUALITY,
    JPEG_QUALITY,
    # Marks of a few pixels would bleed into one another with halved color resolution.
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
]


def write_jpeg(path: Path, frame: NDArray[np.uint8]) -> None:
    """Write one RGB frame [H, W, 3], making its folder."""
    _write_image(path, cv2.cvtColor(frame, cv2.COLOR_RGB2BGR), _JPEG_OPTIONS)


def write_png(path: Path, pixels: NDArray[np.uint8] | NDArray[np.uint16]) -> None:
    """Write 8 or 16 bit values [H, W], or RGB [H, W, 3], unchanged, making the folder."""
    is_color = pixels.ndim == 3
    _write_image(path, cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR) if is_color else pixels, [])


def write_palette_png(path: Path, ids: NDArray[np.uint8], is_youtube: bool = False) -> None:
    """Write object ids [H, W] as a palette (mode P) PNG in the colors of DAVIS or YouTube-VOS."""
    image = Image.fromarray(ids)
    image.putpalette(_YOUTUBE_PALETTE if is_youtube else _DAVIS_PALETTE)
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


def write_json(path: Path, body: Any) -> None:
    """Write JSON with keys in the given order, making the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(body, allow_nan=False), encoding="utf-8")


def compressed_rle(mask: NDArray[np.bool_]) -> dict[str, Any]:
    """Encode a mask [H, W] as COCO compressed RLE; ``counts`` is text."""
    rle = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {"size": [int(side) for side in rle["size"]], "counts": rle["counts"].decode("ascii")}


def uncompressed_rle(mask: NDArray[np.bool_]) -> dict[str, Any]:
    """Encode a mask [H, W] as COCO uncompressed RLE: column-major run lengths, background first."""
    flat = np.concatenate([[False], mask.ravel(order="F")])
    starts = np.flatnonzero(flat[1:] != flat[:-1])
    counts = np.diff(np.concatenate([[0], starts, [mask.size]]))
    return {"size": [int(side) for side in mask.shape], "counts": [int(count) for count in counts]}


def box(mask: NDArray[np.bool_]) -> list[int]:
    """Give the tight box [x, y, width, height] of a mask [H, W] that is not empty."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    x, y = int(columns[0]), int(rows[0])
    return [x, y, int(columns[-1]) - x + 1, int(rows[-1]) - y + 1]


def _write_image(path: Path, pixels: NDArray[Any], options: list[int]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(path), pixels, options):
        raise OSError(f"{path}: the image could not be written")


def _davis_palette() -> list[int]:
    """Spread the bits of each id over the high bits of red, green and blue, as the VOC and DAVIS sets do."""
    colors = np.zeros((256, 3), dtype=np.int64)
    ids = np.arange(256)
    for step in range(8):
        for channel in range(3):
            colors[:, channel] |= (ids >> (3 * step + channel) & 1) << (7 - step)
    return [int(value) for value in colors.ravel()]


_DAVIS_PALETTE = _davis_palette()
_YOUTUBE_PALETTE = list(
    bytes.fromhex("000000ec5f67f99157fac86399c79462b3b26699ccc594c5ab7967ffffff65737e")
    + b"".join(bytes([value] * 3) for value in range(11, 256))
)
"""Eleven colors, then grays."""
