"""Read the files of official layouts; every complaint names the file, what it holds and what was expected.

Legend: H, W size.
"""

import gc
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import orjson
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from univs.draw import Frame

_NUM_NAMED = 3
_DEPTH_AND_COLOR = slice(24, 26)
"""Bytes of a PNG that hold its bit depth and color type."""
_GRAY, _RGB, _RGBA = b"\x08\x00", b"\x08\x02", b"\x08\x06"
_ID_WEIGHTS = np.asarray((1 << 16, 1 << 8, 1), np.int32)


def read_json(path: Path) -> Any:
    """Parse a JSON file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not JSON, or truncated.
    """
    data = path.read_bytes()
    try:
        with _uncollected():
            return orjson.loads(data)
    except orjson.JSONDecodeError:
        return _read_lenient_json(path, data)


def find_json(folder: Path, names: Sequence[str], what: str) -> Path:
    """Find the JSON file of a folder: the first of ``names`` that is there, else the only one.

    Raises:
        ValueError: there is none, or more than one.
    """
    if folder.is_file():
        return folder
    for name in names:
        if (folder / name).is_file():
            return folder / name
    found = sorted(folder.glob("*.json"))
    if len(found) != 1:
        listed = name_some([path.name for path in found]) if found else "none"
        raise ValueError(f"{folder}: JSON files: {listed}; expected {what} in {' or '.join(names)}")
    return found[0]


def field_of(row: Mapping[str, Any], key: str, kind: type | tuple[type, ...], where: str) -> Any:
    """Give a field of a JSON object, checked.

    Raises:
        ValueError: it is missing or of another type; ``where`` says which object of which file.
    """
    if isinstance(row, dict) and key in row and isinstance(row[key], kind):
        return row[key]
    expected = " or ".join(k.__name__ for k in (kind if isinstance(kind, tuple) else (kind,)))
    if not isinstance(row, Mapping) or key not in row:
        raise ValueError(f"{where}: no {key!r}, expected {expected}")
    raise ValueError(f"{where}: {key!r} is {row[key]!r:.80}, expected {expected}")


def read_indexed(path: Path) -> NDArray[np.uint8]:
    """Read the [H, W] values of an indexed or gray 8-bit PNG.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no picture, truncated, or in color.
    """
    data = path.read_bytes()
    if data[_DEPTH_AND_COLOR] == _GRAY:
        # OpenCV reads gray faster, and the values of an index not at all.
        pixels = _decode(data)
        if pixels is None:
            raise ValueError(f"{path}: not a readable PNG of {len(data)} bytes; write it again")
        if pixels.ndim == 2:
            return np.asarray(pixels, np.uint8)
    try:
        with Image.open(io.BytesIO(data)) as image:
            if image.mode not in ("P", "L", "1"):
                raise ValueError(
                    f"{path}: mode {image.mode}, expected an indexed (P) or gray (L) PNG of 8 bits "
                    "whose values are ids; write it without colors"
                )
            return np.asarray(image, np.uint8)
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise ValueError(f"{path}: not a readable PNG ({error}); write it again") from error


def read_colors(path: Path) -> NDArray[np.uint8]:
    """Read the [H, W, 3] colors of an RGB PNG, blue first, which ``to_ids`` makes segment ids of.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no picture, truncated, or not in color.
    """
    data = path.read_bytes()
    pixels = _decode(data)
    if pixels is None:
        raise ValueError(f"{path}: not a readable PNG of {len(data)} bytes; write it again")
    if data[_DEPTH_AND_COLOR] not in (_RGB, _RGBA):
        raise ValueError(
            f"{path}: {pixels.dtype} pixels of shape {pixels.shape}, not stored as 8-bit colors; expected an "
            "RGB PNG whose colors are R + 256 G + 65536 B"
        )
    return np.ascontiguousarray(pixels[:, :, :3])


def to_ids(colors: NDArray[np.integer]) -> NDArray[np.int32]:
    """Make segment ids, R + 256 G + 65536 B, of [..., 3] colors, blue first."""
    ids: NDArray[np.int32] = colors.astype(np.int32) @ _ID_WEIGHTS
    return ids


def _decode(data: bytes) -> NDArray[Any] | None:
    if not data:
        return None
    pixels: NDArray[Any] | None = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    return pixels


def check_size(path: Path, found: tuple[int, ...], expected: tuple[int, ...]) -> None:
    """Refuse a map that is not as large as the ground truth.

    Raises:
        ValueError: the sizes differ.
    """
    if found[:2] != expected[:2]:
        raise ValueError(
            f"{path}: {found[0]}x{found[1]} pixels (height x width), expected {expected[0]}x{expected[1]}; "
            "predict at the size of the ground truth"
        )


def read_frame(path: Path | None, size: tuple[int, int]) -> Frame:
    """Read a picture to draw on, gray where there is none or it is of another size."""
    pixels = None if path is None or not path.is_file() else cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)
    if pixels is None or pixels.shape[:2] != size:
        return np.full((*size, 3), 128, np.uint8)
    return np.asarray(pixels, np.uint8)


def spread(names: Sequence[str], num: int) -> list[str]:
    """Choose at most ``num`` names, evenly spread, the first and the last among them."""
    at = np.unique(np.linspace(0, len(names) - 1, min(num, len(names))).round().astype(int))
    return [names[i] for i in at]


def name_some(names: Sequence[str]) -> str:
    """Name a few of many in a message: ``12, first 'a', 'b', 'c'``."""
    shown = ", ".join(repr(name) for name in names[:_NUM_NAMED])
    return shown if len(names) <= _NUM_NAMED else f"{len(names)}, first {shown}"


def list_folders(parent: Path) -> list[str]:
    """List the folders in a folder by name.

    Raises:
        ValueError: there is none.
    """
    names = sorted(path.name for path in parent.iterdir() if path.is_dir()) if parent.is_dir() else []
    if not names:
        raise ValueError(f"{parent}: no folders, expected one per video; unpack the archive whole")
    return names


def name_unpredicted(item: str, frames: Sequence[str], predicted: Sequence[object]) -> list[str]:
    """Name the frames of an item whose entry in ``predicted`` is false or ``None``; the item, if all are."""
    lost = [frame for frame, found in zip(frames, predicted, strict=True) if not found]
    return [item] if frames and len(lost) == len(frames) else [f"{item}/{frame}" for frame in lost]


def settle_missing(where: Path, names: Sequence[str], missing: str) -> tuple[str, ...]:
    """Refuse what is not predicted, or accept it as empty, as asked; give its names.

    Raises:
        ValueError: something is missing, and ``missing`` is ``refuse``.
    """
    if names and missing == "refuse":
        raise ValueError(
            f"{where}: not predicted: {name_some(names)}; predict everything, or pass --missing empty "
            "to score what is missing as empty"
        )
    return tuple(names)


def _read_lenient_json(path: Path, data: bytes) -> Any:
    """Parse what Python writes and strict JSON does not know, NaN for example."""
    try:
        return json.loads(data)
    except ValueError as error:
        raise ValueError(
            f"{path}: {len(data)} bytes that are not whole JSON ({error}); write it again"
        ) from error


@contextmanager
def _uncollected() -> Iterator[None]:
    """Keep the garbage collector from what is made meanwhile, for good.

    A parsed file holds no cycles, yet looking for some takes as long as parsing it, and happens again and
    again.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_enabled:
            gc.enable()
