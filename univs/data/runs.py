"""COCO run-length masks painted straight at the size of the clip, eight masks to a byte.

Decoding a mask costs its source pixels; what training sees is a fraction of them. Here only the ends of the
runs are touched: each toggles one bit at the first sampled row below it, and one cumulative XOR down the
columns, on eight pixels at a time, fills all masks of a frame at once.

Legend: N masks, K toggles, H W source size, T frames of M masks each, h w painted size, P = ceil(M / 8)
planes. Runs go down the columns: position = column * H + row.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_BITS = np.left_shift(np.uint8(1), np.arange(8, dtype=np.uint8))
_MAX_DIGITS = 12
"""Of five bits each, in one number; more would not fit 64 bits."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Toggles:
    """Where N masks of one size begin and end to cover pixels."""

    positions: NDArray[np.int64]
    """[K] ascending within each mask."""
    owners: NDArray[np.int64]
    """[K] which mask; ascending."""
    num_masks: int
    height: int
    width: int

    @classmethod
    def parse(cls, counts: Sequence[str | None], height: int, width: int) -> "Toggles":
        """Read compressed ``counts``, all masks in one go; ``None`` is a mask without pixels.

        Raises:
            ValueError: a string is no run-length mask, or overruns the size.
        """
        given = [(index, text) for index, text in enumerate(counts) if text is not None]
        if not given:
            none = np.zeros(0, dtype=np.int64)
            return cls(positions=none, owners=none, num_masks=len(counts), height=height, width=width)
        values, owners = _parse_values([text for _, text in given])
        positions, places = _sum_runs(values, owners)
        if positions.max() > height * width:
            raise ValueError(
                f"run-length mask does not fit {height}x{width}: it runs to pixel {positions.max()} "
                f"of {height * width}"
            )
        lengths = np.bincount(owners, minlength=len(given))[owners]
        # After the last run nothing more begins: an odd number of runs ends with pixels outside.
        stray = (places == lengths - 1) & (lengths % 2 == 1)
        kept = ~stray & (positions < height * width)
        return cls(
            positions=positions[kept],
            owners=np.array([index for index, _ in given])[owners[kept]],
            num_masks=len(counts),
            height=height,
            width=width,
        )

    def part(self, start: int, stop: int) -> "Toggles":
        """Keep masks start..stop-1."""
        first, last = np.searchsorted(self.owners, (start, stop))
        return Toggles(
            positions=self.positions[first:last],
            owners=self.owners[first:last] - start,
            num_masks=stop - start,
            height=self.height,
            width=self.width,
        )

    def pixel(self, mask: int, share: float) -> tuple[int, int] | None:
        """Give x, y of the pixel that ``share`` (0..1) of a mask's pixels come before; ``None`` if empty."""
        ends = self.positions[self.owners == mask]
        if len(ends) % 2:
            ends = np.append(ends, self.height * self.width)
        starts, lengths = ends[0::2], ends[1::2] - ends[0::2]
        covered = lengths.cumsum()
        if not len(covered) or covered[-1] == 0:
            return None
        rank = min(int(share * covered[-1]), int(covered[-1]) - 1)
        run = int(np.searchsorted(covered, rank, side="right"))
        x, y = divmod(int(starts[run]) + rank - int(covered[run] - lengths[run]), self.height)
        return x, y


@dataclass(frozen=True, kw_only=True, slots=True)
class Grid:
    """Which source pixels a painted frame shows: a row and a column of them, each ascending."""

    rows: NDArray[np.int64]
    """[h] source row of each painted row."""
    columns: NDArray[np.int64]
    """[w] source column of each painted column, left to right before mirroring."""
    is_flipped: bool = False

    @classmethod
    def whole(cls, height: int, width: int, step: int = 1) -> "Grid":
        """Take every ``step``-th pixel of a source."""
        rows, columns = (np.arange(length // step) * step + step // 2 for length in (height, width))
        return cls(rows=rows, columns=columns)


def num_planes(num_masks: int) -> int:
    """Give the bytes per pixel that hold so many masks."""
    return -(-num_masks // 8)


def paint(toggles: Toggles, grid: Grid, planes: NDArray[np.uint8]) -> None:
    """Paint the masks of T frames, T * M in number, into zeros [P, T, >= h, >= w].

    Mask m of a frame is bit m % 8 of plane m // 8. The last axis must be contiguous and a multiple of eight.
    """
    if not len(toggles.positions):
        return
    area = planes[:, :, : len(grid.rows)]
    column = toggles.positions // toggles.height
    _paint_starts(toggles, column, grid, area)
    _paint_toggles(toggles, column, grid, area)
    words = area.view(np.uint64)
    np.bitwise_xor.accumulate(words, axis=2, out=words)


def _parse_values(counts: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Split strings into their signed numbers: little-endian digits of five bits, the sixth says "more"."""
    digits = np.frombuffer("".join(counts).encode("latin-1", "replace"), np.uint8) - np.uint8(48)
    string_ends = np.fromiter(map(len, counts), np.int64, len(counts)).cumsum()
    is_more = (digits & 32).astype(bool)
    if not all(counts) or digits.max() > 63 or is_more[string_ends - 1].any():
        raise ValueError(f"run-length mask is cut off or damaged: {min(counts, key=len)[:20]!r}")
    stops = np.flatnonzero(~is_more)
    sizes = np.diff(stops, prepend=-1)
    if sizes.max() > _MAX_DIGITS:
        raise ValueError(f"run-length mask is damaged: a run of {sizes.max()} digits")
    values = (digits[stops] & 31).astype(np.int64)
    values -= (values & 16) << 1
    for distance in range(1, int(sizes.max())):
        # One more digit of the numbers that have it: each is five bits lower than the one after.
        longer = np.flatnonzero(sizes > distance)
        values[longer] = values[longer] << 5 | digits[stops[longer] - distance] & 31
    num_values = np.diff(np.searchsorted(stops, string_ends - 1, side="right"), prepend=0)
    return values, np.repeat(np.arange(len(counts)), num_values)


def _sum_runs(
    values: NDArray[np.int64], owners: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Turn numbers into run ends [K] and the place of each run in its mask [K].

    From the fourth run on, a number is the difference to the run before the last one.
    """
    num_runs = np.bincount(owners)
    first = (num_runs.cumsum() - num_runs)[owners]
    places = np.arange(len(values)) - first
    is_odd = (places & 1).astype(bool)
    odd = _sum_within(np.where(is_odd, values, 0), first)
    even = _sum_within(np.where(is_odd | (places == 0), 0, values), first)
    lengths = np.where(is_odd, odd, np.where(places == 0, values, even))
    if lengths.min() < 0:
        raise ValueError("run-length mask is damaged: a run of negative length")
    return _sum_within(lengths, first), places


def _sum_within(values: NDArray[np.int64], first: NDArray[np.int64]) -> NDArray[np.int64]:
    """Cumulate values anew from each ``first`` index."""
    sums = values.cumsum()
    return np.asarray(sums - (sums - values)[first])


def _paint_starts(toggles: Toggles, column: NDArray[np.int64], grid: Grid, area: NDArray[np.uint8]) -> None:
    """Set the top row to the masks that cover the top of each sampled column."""
    crossing = np.flatnonzero(~_ends_in_column(toggles, column))
    if not len(crossing):
        return
    num_frames, width = area.shape[1], toggles.width
    tops = np.zeros((len(area), num_frames, width + 1), dtype=np.uint8)
    frame, mask, bits = _places(toggles.owners[crossing], toggles.num_masks // num_frames)
    # A toggle holds from the top of the next column on.
    place = ((mask >> 3) * num_frames + frame) * (width + 1) + column[crossing] + 1
    np.bitwise_xor.at(tops.reshape(-1), place, bits)
    np.bitwise_xor.accumulate(tops, axis=2, out=tops)
    shown = tops[..., grid.columns]
    area[:, :, 0, : len(grid.columns)] = shown[..., ::-1] if grid.is_flipped else shown


def _ends_in_column(toggles: Toggles, column: NDArray[np.int64]) -> NDArray[np.bool_]:
    """[K] whether a toggle is one end of a run within one column, which no other column's top sees."""
    owners = toggles.owners
    rank = np.arange(len(owners)) - np.searchsorted(owners, np.arange(toggles.num_masks))[owners]
    pairs = (rank[:-1] & 1 == 0) & (column[1:] == column[:-1]) & (owners[1:] == owners[:-1])
    inside = np.zeros(len(owners), dtype=bool)
    inside[:-1] |= pairs
    inside[1:] |= pairs
    return inside


def _paint_toggles(toggles: Toggles, column: NDArray[np.int64], grid: Grid, area: NDArray[np.uint8]) -> None:
    """Toggle each mask's bit where its runs begin and end inside the sampled columns."""
    row = toggles.positions - column * toggles.height
    frame, mask, bits = _places(toggles.owners, toggles.num_masks // area.shape[1])
    sampled_from = np.searchsorted(grid.columns, np.arange(toggles.width + 1))
    row_below = np.searchsorted(grid.rows, np.arange(toggles.height))
    strides = area.strides
    x, y = sampled_from[column], row_below[row]
    place = (mask >> 3) * strides[0] + frame * strides[1] + y * strides[2]
    repeats = np.where(y < len(grid.rows), np.diff(sampled_from)[column], 0)
    flat = np.lib.stride_tricks.as_strided(area, (_reach_bytes(area),), (1,))
    for nth in range(int(repeats.max(initial=0))):
        # A source column may be shown by several.
        which = np.flatnonzero(repeats > nth)
        shown = x[which] + nth
        shown = len(grid.columns) - 1 - shown if grid.is_flipped else shown
        np.bitwise_xor.at(flat, place[which] + shown, bits[which])


def _places(
    owners: NDArray[np.int64], num_masks: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.uint8]]:
    """Give frame, mask of the frame and its bit [K] of every toggle."""
    frames, masks = np.divmod(owners, num_masks)
    return frames, masks, _BITS[masks & 7]


def _reach_bytes(area: NDArray[np.uint8]) -> int:
    """Give the bytes from the first to behind the last pixel of an area."""
    return 1 + sum(int((size - 1) * stride) for size, stride in zip(area.shape, area.strides, strict=True))
