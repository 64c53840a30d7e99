"""COCO compressed run-length strings: parsed, checked and measured without decoding, many at once.

Run lengths walk a mask column by column and start with background. The string packs each run (from the
fourth on, its difference to the run two before) as 5-bit groups, lowest first, offset by 48, as described
in the COCO API's ``maskApi.c``. That code trusts its input: on a string that ends early it reads past the
end or never returns, so whatever comes from a file is measured here first.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_CHARACTER_OFFSET = 48
_BITS_PER_CHARACTER = 5
_MORE_BIT, _SIGN_BIT, _VALUE_BITS = 0x20, 0x10, 0x1F
MAX_CHARACTERS_PER_RUN = 7  # 7 x 5 bits hold any signed 32-bit difference
_CHARACTERS = bytes(range(_CHARACTER_OFFSET, _CHARACTER_OFFSET + 64))
_MAX_CHARACTERS_AT_ONCE = 1 << 17
"""Strings are parsed together up to this length: their arrays stay in the processor's cache."""


@dataclass(frozen=True, kw_only=True, slots=True)
class JoinedRuns:
    """The runs of N masks, one mask after the other; background and foreground take turns."""

    lengths: NDArray[np.int64]
    """[2 P] in pixels; behind a last run of background stands an empty one of foreground."""
    first: NDArray[np.int64]
    """[N] the pair of runs, out of P, that each mask begins with."""
    num_characters: NDArray[np.int64]
    """[N] of the longest number of each mask; beyond ``MAX_CHARACTERS_PER_RUN`` it was not read whole."""


def measure_runs(counts: Sequence[str], num_pixels: int) -> NDArray[np.int64]:
    """Give the area of each mask in pixels, -1 where the string is no mask of ``num_pixels`` pixels."""
    if not counts:
        return np.zeros(0, np.int64)
    return np.concatenate([_measure_any(group, num_pixels) for group in _group(counts)])


def parse_runs(counts: str) -> NDArray[np.int64]:
    """Give the run lengths of one mask.

    Raises:
        ValueError: the string is not well-formed.
    """
    if not _is_well_formed(counts):
        raise ValueError(f"not a compressed run-length string: {counts[:24]!r} ({len(counts)} characters)")
    runs, last, lengths = _parse_values(np.frombuffer(counts.encode("ascii"), dtype=np.uint8))
    longest = int(lengths.max())
    if longest > MAX_CHARACTERS_PER_RUN:
        raise ValueError(f"a run spans {longest} characters, expected <= {MAX_CHARACTERS_PER_RUN}")
    runs[1::2] = np.cumsum(runs[1::2])
    runs[2::2] = np.cumsum(runs[2::2])
    return runs


def count_pixels(counts: str) -> int | None:
    """Give the pixels, background and all, that the runs of one mask cover; ``None`` if it is no mask."""
    try:
        runs = parse_runs(counts)
    except ValueError:
        return None
    return None if runs.min() < 0 else int(runs.sum())


def _is_well_formed(counts: str) -> bool:
    """Whether all characters are legal and the last one ends a run."""
    is_legal = counts.isascii() and not counts.encode("ascii").translate(None, _CHARACTERS)
    return bool(counts) and is_legal and ord(counts[-1]) < _CHARACTER_OFFSET + _MORE_BIT


def _parse_values(
    codes: NDArray[np.uint8],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Give the number each group of characters stands for, the last position, and how many there are."""
    last = np.flatnonzero(codes < _CHARACTER_OFFSET + _MORE_BIT)
    bits = (codes & np.uint8(_VALUE_BITS)) ^ np.uint8(_CHARACTER_OFFSET & _VALUE_BITS)
    # The last character holds the highest bits and the sign; few numbers have more than one.
    values = (bits[last].astype(np.int64) ^ _SIGN_BIT) - _SIGN_BIT
    lengths = np.empty_like(last)
    lengths[:1] = last[:1] + 1
    np.subtract(last[1:], last[:-1], out=lengths[1:])
    longer = np.flatnonzero(lengths > 1)
    for place in range(1, MAX_CHARACTERS_PER_RUN):
        values[longer] = values[longer] << _BITS_PER_CHARACTER | bits[last[longer] - place]
        longer = longer[lengths[longer] > place + 1]
        if not longer.size:
            break
    return values, last, lengths


def _group(counts: Sequence[str]) -> Iterator[Sequence[str]]:
    """Split strings into groups of bounded length; those of an image mostly fit one."""
    if sum(map(len, counts)) < _MAX_CHARACTERS_AT_ONCE:
        yield counts
        return
    ends = np.cumsum(np.fromiter(map(len, counts), np.int64, len(counts)))
    starts = np.flatnonzero(np.diff(ends // _MAX_CHARACTERS_AT_ONCE, prepend=-1))
    for start, stop in zip(starts.tolist(), [*starts[1:].tolist(), len(counts)], strict=True):
        yield counts[start:stop]


def join_runs(counts: Sequence[str]) -> JoinedRuns | None:
    """Parse the runs of many masks at once; ``None`` where a string is not well-formed."""
    sizes = np.fromiter(map(len, counts), np.int64, len(counts))
    text = "".join(counts)
    codes = np.frombuffer(text.encode("ascii", "replace"), np.uint8)
    if not (text.isascii() and _are_well_formed(codes, sizes)):
        return None
    values, last, num_characters = _parse_values(codes)
    stops = np.searchsorted(last, np.cumsum(sizes))
    starts = np.concatenate(([0], stops[:-1]))
    longest = np.maximum.reduceat(num_characters, starts)
    # With an empty foreground run behind an odd number of runs, background and foreground take turns.
    is_odd = (stops - starts) % 2 == 1
    pairs = np.insert(values, stops[is_odd], 0)
    stops = stops + np.cumsum(is_odd)
    first = np.concatenate(([0], stops[:-1])) // 2
    lengths = _undo_differences(pairs, first)
    lengths[stops[is_odd] - 1] = 0
    return JoinedRuns(lengths=lengths, first=first, num_characters=longest)


def _undo_differences(pairs: NDArray[np.int64], first: NDArray[np.int64]) -> NDArray[np.int64]:
    """Turn numbers into run lengths, masks beginning at the pairs ``first``; the numbers are spoiled."""
    lengths = np.empty_like(pairs)
    # The first run of background is no part of the running sum, see the module's docstring.
    opening = pairs[2 * first]
    pairs[2 * first] = 0
    for numbers, sums in ((pairs[0::2], lengths[0::2]), (pairs[1::2], lengths[1::2])):
        # Running sums begin anew with each mask.
        numbers[first[1:]] -= np.add.reduceat(numbers, first)[:-1]
        numbers.cumsum(out=sums)
    lengths[2 * first] = opening
    return lengths


def _measure_any(counts: Sequence[str], num_pixels: int) -> NDArray[np.int64]:
    """Measure strings that need not be well-formed."""
    runs = join_runs(counts)
    if runs is not None:
        return _measure(runs, num_pixels)
    is_formed = np.asarray([_is_well_formed(text) for text in counts])
    areas = np.full(len(counts), -1)
    if is_formed.any():
        areas[is_formed] = _measure_any([counts[n] for n in np.flatnonzero(is_formed).tolist()], num_pixels)
    return areas


def _are_well_formed(codes: NDArray[np.uint8], sizes: NDArray[np.int64]) -> bool:
    """Whether joined strings are all well-formed: what ``_is_well_formed`` tells of each, far faster."""
    offset, limit = np.uint8(_CHARACTER_OFFSET), np.uint8(len(_CHARACTERS))
    is_legal = sizes.all() and (codes - offset < limit).all()
    return bool(is_legal and (codes[np.cumsum(sizes) - 1] < _CHARACTER_OFFSET + _MORE_BIT).all())


def _measure(runs: JoinedRuns, num_pixels: int) -> NDArray[np.int64]:
    """Give areas, -1 where the runs are not sound."""
    background, foreground = runs.lengths[0::2], runs.lengths[1::2]
    areas = np.add.reduceat(foreground, runs.first)
    lowest = np.minimum.reduceat(np.minimum(background, foreground), runs.first)
    is_whole = areas + np.add.reduceat(background, runs.first) == num_pixels
    is_sound = is_whole & (lowest >= 0) & (runs.num_characters <= MAX_CHARACTERS_PER_RUN)
    return np.where(is_sound, areas, -1)
