"""Masks as COCO compressed run-length strings: encode, check, measure and decode.

Run lengths walk the mask column by column and start with background. The string packs each run (from the
fourth on, its difference to the run two before) as 5-bit groups, lowest first, offset by 48, as described
in the COCO API's ``maskApi.c``. Shapes: label maps and masks are [H, W].
"""

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from univs.run_lengths import measure_runs, parse_runs

_MAX_POLYGON_OVERHANG = 4
_MAX_REMEMBERED = 16384
_MAX_OPENCV_BYTES = 4


def encode_label_map(labels: NDArray[Any]) -> dict[int, str]:
    """Encode every value of an integer [H, W] map in one pass, keyed by value in ascending order."""
    height, width = labels.shape
    pixels = _by_column(labels)
    edges = np.flatnonzero(pixels[1:] != pixels[:-1]) + 1
    starts = np.concatenate(([0], edges))
    values = pixels[starts]
    order = np.argsort(values, kind="stable")
    values, starts = values[order], starts[order]
    ends = np.concatenate((edges, [pixels.size]))[order]
    cuts = np.flatnonzero(values[1:] != values[:-1]) + 1
    first, stop = [0, *cuts.tolist()], [*cuts.tolist(), values.size]
    # Packing all segments' strings at once in numpy takes longer than pycocotools' C, one by one.
    encoded = {
        int(values[i]): _encode_runs(starts[i:j], ends[i:j], height, width)
        for i, j in zip(first, stop, strict=True)
    }
    _remember(list(encoded.values()), np.add.reduceat(ends - starts, first).tolist(), (height, width))
    return encoded


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
    text = _text(coco_mask.frPyObjects({"size": [height, width], "counts": runs}, height, width))
    _remember([text], [int(runs[1::2].sum())], (height, width))
    return text


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
    """Count the pixels of a compressed mask without decoding it; a mask asked for again is looked up.

    pycocotools reads past the end of a corrupt string, so the runs are checked here first.

    Raises:
        ValueError: the string is corrupt or its runs do not sum to ``height * width``.
    """
    known = _areas.get((counts, height, width))
    if known is None:
        runs = parse_runs(counts)
        _check_runs(runs, height, width)
        known = int(runs[1::2].sum())
        _remember([counts], [known], (height, width))
    return known


def measure_masks(counts: Sequence[str], height: int, width: int) -> None:
    """Check many masks together, so that ``mask_area`` of a sound one becomes a look-up.

    One call for all masks of an item takes a quarter of the time of one by one. Corrupt strings raise
    nothing here: ``mask_area`` says what is wrong with each.
    """
    unknown = [text for text in counts if (text, height, width) not in _areas]
    areas = measure_runs(unknown, height * width)
    sound = np.flatnonzero(areas >= 0).tolist()
    _remember([unknown[i] for i in sound], areas[sound].tolist(), (height, width))


_areas: dict[tuple[str, int, int], int] = {}
"""Areas of the masks last checked: readers and checks ask for the same ones several times."""


def _remember(counts: Sequence[str], areas: Sequence[int], size: tuple[int, int]) -> None:
    if len(_areas) + len(counts) > _MAX_REMEMBERED:
        _areas.clear()
    _areas.update(((text, *size), area) for text, area in zip(counts, areas, strict=True))


def _by_column(labels: NDArray[Any]) -> NDArray[Any]:
    """Give the pixels column by column; OpenCV transposes several times faster than numpy copies."""
    if labels.dtype.itemsize > _MAX_OPENCV_BYTES:
        return labels.ravel(order="F")
    pixels = np.ascontiguousarray(labels)
    signed = pixels.view(f"i{pixels.dtype.itemsize}")
    return np.asarray(cv2.transpose(signed)).view(pixels.dtype).ravel()


def _encode_runs(starts: NDArray[np.int64], ends: NDArray[np.int64], height: int, width: int) -> str:
    edges = np.empty(2 * starts.size + 2, dtype=np.int64)
    edges[0], edges[-1] = 0, height * width
    edges[1:-1:2], edges[2:-1:2] = starts, ends
    runs = edges[1:] - edges[:-1]
    if runs[-1] == 0:  # the encoder of pycocotools writes no empty closing run
        runs = runs[:-1]
    return _text(coco_mask.frPyObjects({"size": [height, width], "counts": runs}, height, width))


def _check_runs(runs: NDArray[np.int64], height: int, width: int) -> None:
    if runs.size and runs.min() < 0:
        raise ValueError(f"run {int(runs.argmin())} is {int(runs.min())}, expected >= 0")
    if int(runs.sum()) != height * width:
        raise ValueError(f"runs sum to {int(runs.sum())}, expected {height} x {width} = {height * width}")


def _object(counts: str, height: int, width: int) -> Mapping[str, Any]:
    return {"size": [height, width], "counts": counts.encode("ascii")}


def _text(rle: Mapping[str, Any]) -> str:
    return str(rle["counts"], "ascii")
