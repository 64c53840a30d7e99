"""What the objects of submitted JSON files have in common: numbers, scores and run-length masks."""

import math
from collections.abc import Container
from typing import Any

from univs.evaluation.official.files import field_of
from univs.run_lengths import count_pixels


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
