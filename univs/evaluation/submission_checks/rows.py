"""What the objects of submitted JSON files have in common: numbers, scores and run-length masks."""

import math
from collections.abc import Container
from typing import Any

import numpy as np

from univs.evaluation.official.files import field_of

_LOW_BITS, _CONTINUES, _IS_NEGATIVE = 0x1F, 0x20, 0x10


def integer_of(row: Any, key: str, where: str) -> int:
    """Give a field that holds a whole number.

    Raises:
        ValueError: it is missing, or something else.
    """
    value: int = field_of(row, key, int, where)
    if isinstance(value, bool):
        raise ValueError(f"{where}: {key!r} is {value}, expected int")
    return value


def member_of(row: Any, key: str, known: Container[int], what: str, where: str) -> int:
    """Give a field that holds one of the ids that are known; ``what`` says which these are.

    Raises:
        ValueError: it is missing, or another.
    """
    value = integer_of(row, key, where)
    if value not in known:
        raise ValueError(f"{where}: {key!r} is {value}, expected {what}")
    return value


def check_score(row: Any, where: str) -> None:
    """Refuse a score that cannot be sorted by.

    Raises:
        ValueError: it is missing, no number, or not finite.
    """
    value = field_of(row, "score", (int, float), where)
    if isinstance(value, bool) or not math.isfinite(value):
        raise ValueError(f"{where}: 'score' is {value}, expected a finite number")


def check_mask(mask: Any, size: tuple[int, int], where: str) -> None:
    """Refuse what is no compressed run-length mask of a frame of this height and width.

    Raises:
        ValueError: it is none; the line says why.
    """
    found = field_of(mask, "size", list, where)
    if found != list(size):
        raise ValueError(f"{where}: 'size' is {found}, expected {list(size)} (height, width)")
    check_counts(field_of(mask, "counts", (str, list), where), size, where)


def check_counts(counts: Any, size: tuple[int, int], where: str) -> None:
    """Refuse run lengths that are not compressed or do not cover the frame.

    Raises:
        ValueError: they do not.
    """
    if isinstance(counts, list):
        raise ValueError(f"{where}: 'counts' is a list of numbers, expected compressed text")
    covered = count_pixels(counts)
    if covered != size[0] * size[1]:
        found = "are no run lengths" if covered is None else f"cover {covered} pixels"
        raise ValueError(f"{where}: the runs {found}, expected {size[0]} x {size[1]} = {size[0] * size[1]}")


def count_pixels(counts: str) -> int | None:
    """Sum the run lengths of COCO's compressed text, without decoding the mask; ``None`` if it is malformed.

    Every character holds five bits, the lowest first, and whether more follow; the sign is the last one's
    fifth bit. From the fourth number on, each is the difference to the one before the last.
    """
    codes = np.frombuffer(counts.encode("ascii", "replace"), np.uint8).astype(np.int64) - 48
    if not len(codes) or codes.min() < 0 or codes.max() > (_LOW_BITS | _CONTINUES) or codes[-1] & _CONTINUES:
        return None
    ends = np.flatnonzero(codes & _CONTINUES == 0)
    starts = np.concatenate(([0], ends[:-1] + 1))
    if (ends - starts).max() > 6:
        return None
    places = np.arange(len(codes)) - np.repeat(starts, ends - starts + 1)
    numbers = np.add.reduceat((codes & _LOW_BITS) << 5 * places, starts)
    numbers -= np.where(codes[ends] & _IS_NEGATIVE, 1 << 5 * (ends - starts + 1), 0)
    return _sum_runs(numbers)


def _sum_runs(numbers: np.ndarray[Any, np.dtype[np.int64]]) -> int | None:
    """Undo the differences: runs of one color add up, the first of the background does not count for it."""
    runs = numbers.copy()
    runs[1::2] = np.cumsum(runs[1::2])
    runs[2::2] = np.cumsum(runs[2::2])
    return None if runs.min() < 0 else int(runs.sum())
