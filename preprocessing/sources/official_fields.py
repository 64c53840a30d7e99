"""Keep what official annotations say beside the masks: boxes, areas, unknown fields and where they stood."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from preprocessing.errors import ItemError
from preprocessing.masks import mask_area
from univs.schema import Box, canonical_json


@contextmanager
def located(file: str, pointer: str = "") -> Iterator[None]:
    """Say in which official file, and where in it, an item was found to be wrong.

    An error that already names a file or a place in it keeps them.
    """
    try:
        yield
    except ItemError as error:
        if error.file and error.pointer:
            raise
        raise ItemError(error.code, error.message, error.file or file, error.pointer or pointer) from error


def extra_json(official: Mapping[str, Any], held: Mapping[str, Any]) -> str:
    """Serialize the official fields that ``held`` does not give with the same value; ``""`` without any."""
    rest = {name: value for name, value in official.items() if name not in held or held[name] != value}
    return canonical_json(rest).decode() if rest else ""


def keep_boxes(
    given: Sequence[Any] | None, rles: Sequence[str | None], height: int, width: int, where: str
) -> tuple[Box | None, ...]:
    """Pass official boxes on if they say more than the masks do, none otherwise.

    Raises:
        ItemError: E110 if there is not one, or null, per frame.
        ValueError, TypeError: one is not four numbers.
    """
    if given is None:
        return ()
    _require_length(given, rles, f"{where}: bboxes")
    boxes = tuple(None if box is None else _four_numbers(box) for box in given)
    return () if boxes == tuple(tight_box(rle, height, width) for rle in rles) else boxes


def keep_areas(
    given: Sequence[Any] | None, rles: Sequence[str | None], height: int, width: int, where: str
) -> tuple[float | None, ...]:
    """Pass official areas on if they are not the masks' pixel counts, none otherwise.

    Raises:
        ItemError: E110 if there is not one, or null, per frame.
        TypeError: one is not a number.
    """
    if given is None:
        return ()
    _require_length(given, rles, f"{where}: areas")
    areas = tuple(None if area is None else _number(area) for area in given)
    counted = tuple(None if rle is None else mask_area(rle, height, width) for rle in rles)
    return () if areas == counted else areas


@lru_cache(maxsize=1024)
def tight_box(rle: str | None, height: int, width: int) -> Box | None:
    """Measure the box of a mask that is not empty: x, y, width, height in pixels.

    Readers ask for it, and the checks of the same item once more.
    """
    if rle is None:
        return None
    box = np.asarray(coco_mask.toBbox({"size": [height, width], "counts": rle.encode("ascii")}))
    x, y, box_width, box_height = (int(side) for side in box)
    return (x, y, box_width, box_height)


def _require_length(given: Sequence[Any], rles: Sequence[str | None], what: str) -> None:
    if len(given) != len(rles):
        raise ItemError("E110", f"{what} has {len(given)} entries, expected {len(rles)}")


def _four_numbers(box: Sequence[Any]) -> Box:
    x, y, width, height = (_number(side) for side in box)
    return (x, y, width, height)


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{value!r} is not a number")
    return value
