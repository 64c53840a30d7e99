"""Masks as COCO compressed run-length strings: encode, check, measure and decode.

Run lengths walk the mask column by column and start with background. The string packs each run (from the
fourth on, its difference to the run two before) as 5-bit groups, lowest first, offset by 48, as described
in the COCO API's ``maskApi.c``. Shapes: label maps and masks are [H, W].
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

_CHARACTER_OFFSET = 48
_BITS_PER_CHARACTER = 5
_MORE_BIT, _SIGN_BIT, _VALUE_BITS = 0x20, 0x10, 0x1F
_MAX_POLYGON_OVERHANG = 4
_MAX_CHARACTERS_PER_RUN = 7  # 7 x 5 bits hold any signed 32-bit difference


def encode_label_map(labels: NDArray[Any]) -> dict[int, str]:
    """Encode every value of an integer [H, W] map in one pass, keyed by value in ascending order."""
    height, width = labels.shape
    pixels = labels.ravel(order="F")
    edges = np.flatnonzero(pixels[1:] != pixels[:-1]) + 1
    starts = np.concatenate(([0], edges))
    ends = np.concatenate((edges, [pixels.size]))
    values = pixels[starts]
    order = np.argsort(values, kind="stable")
    cuts = np.flatnonzero(values[order][1:] != values[order][:-1]) + 1
    return {
        int(values[runs[0]]): _encode_runs(starts[runs], ends[runs], height, width)
        for runs in np.split(order, cuts)
    }


def encode_mask(mask: NDArray[np.bool_]) -> str:
    """Encode one [H, W] mask."""
    return _text(coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8)))


def compress_counts(counts: Sequence[int], height: int, width: int) -> str:
    """Compress uncompressed run lengths.

    Raises:
        ValueError: a run is negative or the runs do not sum to ``height * width``.
    """
    runs = np.asarray(counts, dtype=np.int64)
    _check_runs(runs, height, width)
    return _text(coco_mask.frPyObjects({"size": [height, width], "counts": runs.tolist()}, height, width))


def rasterize_polygons(polygons: Sequence[Sequence[float]], height: int, width: int) -> str:
    """Fill the union of flat ``[x, y, x, y, ...]`` polygons, as the COCO API does.

    Raises:
        ValueError: there is none, or one has fewer than 6 values, an odd number of them, or one that is not
            finite or far outside the image.
    """
    if not polygons:
        raise ValueError("no polygon, expected at least one")
    # pycocotools walks every point of the outline, so one wild coordinate would exhaust the memory.
    limit = _MAX_POLYGON_OVERHANG * max(height, width)
    for index, polygon in enumerate(polygons):
        points = np.asarray(polygon, dtype=np.float64)
        if points.ndim != 1 or points.size < 6 or points.size % 2:
            raise ValueError(f"polygon {index} has {points.size} values, expected an even number >= 6")
        if not (np.abs(points) <= limit).all():
            raise ValueError(f"polygon {index} has a value that is not within -{limit}..{limit}")
    return _text(coco_mask.merge(coco_mask.frPyObjects(list(polygons), height, width)))


def decode_mask(counts: str, height: int, width: int) -> NDArray[np.bool_]:
    """Decode to a bool [H, W] mask.

    Raises:
        ValueError: the string is corrupt or of another size.
    """
    mask_area(counts, height, width)
    return np.asarray(coco_mask.decode(_object(counts, height, width)), dtype=np.bool_)


def mask_area(counts: str, height: int, width: int) -> int:
    """Count the pixels of a compressed mask without decoding it.

    pycocotools reads past the end of a corrupt string, so the runs are checked here first.

    Raises:
        ValueError: the string is corrupt or its runs do not sum to ``height * width``.
    """
    runs = _parse_counts(counts)
    _check_runs(runs, height, width)
    return int(runs[1::2].sum())


def _encode_runs(starts: NDArray[np.int64], ends: NDArray[np.int64], height: int, width: int) -> str:
    edges = np.empty(2 * starts.size + 2, dtype=np.int64)
    edges[0], edges[-1] = 0, height * width
    edges[1:-1:2], edges[2:-1:2] = starts, ends
    runs = np.diff(edges)
    if runs[-1] == 0:  # the encoder of pycocotools writes no empty closing run
        runs = runs[:-1]
    return _text(coco_mask.frPyObjects({"size": [height, width], "counts": runs}, height, width))


def _parse_counts(counts: str) -> NDArray[np.int64]:
    codes = np.frombuffer(counts.encode("ascii"), dtype=np.uint8).astype(np.int64) - _CHARACTER_OFFSET
    if codes.size == 0 or codes.min() < 0 or codes.max() > 63 or codes[-1] & _MORE_BIT:
        raise ValueError(f"not a compressed run-length string: {counts[:24]!r} ({len(counts)} characters)")
    last = np.flatnonzero(codes & _MORE_BIT == 0)
    first = np.concatenate(([0], last[:-1] + 1))
    lengths = last - first + 1
    if lengths.max() > _MAX_CHARACTERS_PER_RUN:
        raise ValueError(f"a run spans {lengths.max()} characters, expected <= {_MAX_CHARACTERS_PER_RUN}")
    position = np.arange(codes.size) - np.repeat(first, lengths)
    runs = np.add.reduceat((codes & _VALUE_BITS) << (_BITS_PER_CHARACTER * position), first)
    negative = codes[last] & _SIGN_BIT != 0
    runs -= np.where(negative, np.int64(1) << (_BITS_PER_CHARACTER * lengths), 0)
    runs[1::2] = np.cumsum(runs[1::2])
    runs[2::2] = np.cumsum(runs[2::2])
    return runs


def _check_runs(runs: NDArray[np.int64], height: int, width: int) -> None:
    if runs.size and runs.min() < 0:
        raise ValueError(f"run {int(runs.argmin())} is {int(runs.min())}, expected >= 0")
    if int(runs.sum()) != height * width:
        raise ValueError(f"runs sum to {int(runs.sum())}, expected {height} x {width} = {height * width}")


def _object(counts: str, height: int, width: int) -> Mapping[str, Any]:
    return {"size": [height, width], "counts": counts.encode("ascii")}


def _text(rle: Mapping[str, Any]) -> str:
    return str(rle["counts"], "ascii")
