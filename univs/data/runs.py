"""COCO run-length masks painted straight at the size of the clip, eight masks to a byte.

Decoding a mask costs its source pixels; what training sees is a fraction of them. Here only the ends of the
runs are touched: a mask's bit is added at the first sampled row of a run and taken away at the first below
it, and one cumulative sum down the columns, over eight pixels at a time, fills all masks of a frame at once.

Legend: N masks, K toggles, H W source size, T frames of M masks each, h w painted size, P = ceil(M / 8)
planes. Runs go down the columns: position = column * H + row.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from univs.run_lengths import MAX_CHARACTERS_PER_RUN, join_runs

_CACHE_LINE_BYTES = 64


@dataclass(frozen=True, kw_only=True, slots=True)
class Toggles:
    """Where N masks of one size begin and end to cover pixels."""

    positions: NDArray[np.int64]
    """[K] ascending within each mask: a run's first pixel, the one after its last, the next run's first."""
    offsets: NDArray[np.int64]
    """[N + 1] mask n has toggles offsets[n] .. offsets[n + 1] - 1, an even number."""
    height: int
    width: int

    @classmethod
    def parse(cls, counts: Sequence[str | None], height: int, width: int) -> "Toggles":
        """Read compressed ``counts``, all masks in one go; ``None`` is a mask without pixels.

        Raises:
            ValueError: a string is no run-length mask, or not one of this size.
        """
        given = [index for index, text in enumerate(counts) if text is not None]
        offsets = np.zeros(len(counts) + 1, dtype=np.int64)
        if not given:
            none = np.zeros(0, dtype=np.int64)
            return cls(positions=none, offsets=offsets, height=height, width=width)
        positions, ends = _read([text for text in counts if text is not None], height * width)
        wrong = np.flatnonzero(positions[ends - 1] != height * width)
        if len(wrong):
            raise ValueError(
                f"run-length mask does not fit {height}x{width}: it runs to pixel "
                f"{positions[ends[wrong[0]] - 1]} of {height * width}"
            )
        offsets[np.add(given, 1)] = np.diff(ends, prepend=0)
        return cls(positions=positions, offsets=offsets.cumsum(), height=height, width=width)

    @property
    def num_masks(self) -> int:
        """How many masks there are."""
        return len(self.offsets) - 1

    def part(self, start: int, stop: int) -> "Toggles":
        """Keep masks start..stop-1."""
        first, last = self.offsets[start], self.offsets[stop]
        return Toggles(
            positions=self.positions[first:last],
            offsets=self.offsets[start : stop + 1] - first,
            height=self.height,
            width=self.width,
        )

    def pixel(self, mask: int, share: float) -> tuple[int, int] | None:
        """Give x, y of the pixel that ``share`` (0..1) of a mask's pixels come before; ``None`` if empty."""
        ends = self.positions[self.offsets[mask] : self.offsets[mask + 1]]
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


def row_bytes(width: int) -> int:
    """Give the length of rows that hold so many pixels and are quick to sum down the columns.

    An odd number of cache lines: rows a power of two apart would share a few sets of the cache, which takes
    three times as long.
    """
    return (-(-width // _CACHE_LINE_BYTES) | 1) * _CACHE_LINE_BYTES


def paint(toggles: Toggles, grid: Grid, planes: NDArray[np.uint8]) -> None:
    """Paint the masks of T frames, T * M in number, over planes [P, T, >= h, >= w]; the rest becomes zero.

    Mask m of a frame is bit m % 8 of plane m // 8. The last axis must be contiguous and a multiple of eight.
    """
    brush = _Brush.of(grid, toggles.height, toggles.width)
    num_masks = toggles.num_masks // planes.shape[1]
    # One plane after the other stays in the processor's cache from its first zero to its last sum.
    for frame, number in np.ndindex(planes.shape[1], planes.shape[0]):
        start, end = (frame * num_masks + min(8 * n, num_masks) for n in (number, number + 1))
        _paint_plane(toggles.part(start, end), brush, planes[number, frame])


def _read(counts: Sequence[str], num_pixels: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Give where all runs end [K], and where those of each mask end [N]."""
    runs = join_runs(counts)
    if runs is None:
        raise ValueError(f"run-length mask is cut off or damaged: {min(counts, key=len)[:20]!r}")
    longest = runs.num_characters.max()
    if longest > MAX_CHARACTERS_PER_RUN:
        raise ValueError(f"run-length mask is damaged: a run of {longest} digits")
    lengths = runs.lengths
    if lengths.min() < 0:
        raise ValueError("run-length mask is damaged: a run of negative length")
    lengths[2 * runs.first[1:]] -= num_pixels
    return lengths.cumsum(), 2 * np.append(runs.first[1:], len(lengths) // 2)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Brush:
    """Where source pixels fall in a painted plane, looked up by row or column."""

    height: int
    width: int
    is_flipped: bool
    row_below: NDArray[np.int64]
    """[H] painted rows above each source row: where a toggle in it takes effect."""
    columns_before: NDArray[np.int64]
    """[W + 2] painted columns to the left of each source column, mirroring aside."""

    @classmethod
    def of(cls, grid: Grid, height: int, width: int) -> "_Brush":
        """Prepare for a source size."""
        return cls(
            height=len(grid.rows),
            width=len(grid.columns),
            is_flipped=grid.is_flipped,
            row_below=np.searchsorted(grid.rows, np.arange(height)),
            columns_before=np.searchsorted(grid.columns, np.arange(width + 2)),
        )

    def mirror(self, columns: NDArray[np.int64]) -> NDArray[np.int64]:
        """Number painted columns as they are shown."""
        return self.width - 1 - columns if self.is_flipped else columns


def _paint_plane(toggles: Toggles, brush: _Brush, plane: NDArray[np.uint8]) -> None:
    """Paint up to eight masks over [>= h, >= w]."""
    plane[:] = 0
    if not len(toggles.positions):
        return
    bits = np.repeat(1 << np.arange(toggles.num_masks), np.diff(toggles.offsets))
    np.negative(bits[1::2], out=bits[1::2])
    column = toggles.positions // toggles.height
    tops = _sum_tops(column, bits, brush)
    plane[0, : brush.width] = tops[::-1] if brush.is_flipped else tops
    # Eight bytes are one number: sums carry from byte to byte on the way, but what they end as has none.
    words = plane[: brush.height].view(np.int64)
    _add_toggles(toggles, column, bits, brush, words)
    np.add.accumulate(words, axis=0, out=words)


def _sum_tops(column: NDArray[np.int64], bits: NDArray[np.int64], brush: _Brush) -> NDArray[np.int64]:
    """Give the masks that cover the top of each painted column [w], mirroring aside."""
    tops = np.zeros(brush.width + 1, dtype=np.int64)
    # A toggle holds from the top of the next column on.
    np.add.at(tops, brush.columns_before[1:].take(column), bits)
    return tops[:-1].cumsum()


def _add_toggles(
    toggles: Toggles,
    column: NDArray[np.int64],
    bits: NDArray[np.int64],
    brush: _Brush,
    words: NDArray[np.int64],
) -> None:
    """Add each mask's bit where its runs begin, and take it away where they end, in the painted columns."""
    y = brush.row_below.take(toggles.positions - column * toggles.height)
    num_shown = np.where(y < brush.height, np.diff(brush.columns_before).take(column), 0)
    flat, stride = words.reshape(-1), words.shape[1]
    for nth in range(int(num_shown.max())):
        # A source column may be shown by several.
        which = np.flatnonzero(num_shown > nth)
        x = brush.mirror(brush.columns_before.take(column.take(which)) + nth)
        np.add.at(flat, y.take(which) * stride + (x >> 3), bits.take(which) << ((x & 7) * 8))
