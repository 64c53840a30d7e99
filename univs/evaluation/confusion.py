"""Joint histograms of two labellings: what every pixel metric here is computed from.

Legend: R rows (truth), C columns (prediction).
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True, slots=True)
class Confusion:
    """A confusion matrix kept sparse, so thousands of per-video ones travel and add up cheaply."""

    shape: tuple[int, int]
    """Rows (truth) and columns (prediction)."""
    cells: NDArray[np.int64]
    """Flat indices of the cells that are not zero, ascending."""
    counts: NDArray[np.int64]
    """Pixels in each of those cells."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Runs:
    """Two labellings of the same pixels, cut where either changes.

    Label maps seldom change along a line, so work per run costs a fraction of work per pixel.
    """

    left: NDArray[np.integer]
    """[N] value of each run; [N, C] for colors."""
    right: NDArray[np.integer]
    lengths: NDArray[np.intp]
    """[N] pixels."""


def find_runs(left: NDArray[np.integer], right: NDArray[np.integer]) -> Runs:
    """Cut two labellings of one size, [H, W] values or [H, W, C] colors, into runs."""
    channels = left.shape[2] if left.ndim == 3 else 1
    left, right = left.reshape(-1), right.reshape(-1)
    changed = left[channels:] != left[:-channels]
    changed |= right[channels:] != right[:-channels]
    # Channels of one pixel that change follow each other, and give its number more than once.
    pixels = np.flatnonzero(changed) // channels + 1
    pixels = pixels[np.diff(pixels, prepend=0) > 0]
    starts = np.concatenate((np.zeros(min(left.size, 1), np.intp), pixels))
    shape = (-1, channels) if channels > 1 else (-1,)
    return Runs(
        left=left.reshape(shape)[starts],
        right=right.reshape(shape)[starts],
        lengths=np.diff(starts, append=left.size // channels),
    )


def count_pairs(
    rows: NDArray[np.integer], columns: NDArray[np.integer], shape: tuple[int, int]
) -> NDArray[np.int64]:
    """Count how often each (row, column) pair occurs, as a dense [R, C] matrix; one pass over the pixels."""
    runs = find_runs(rows, columns)
    cells = runs.left.astype(np.intp) * shape[1] + runs.right
    # Weights are summed as float64, which is exact for fewer than 2^53 pixels.
    pixels = np.bincount(cells, runs.lengths, minlength=shape[0] * shape[1])
    return pixels.astype(np.int64).reshape(shape)


def to_confusion(counts: NDArray[np.int64]) -> Confusion:
    """Keep only the cells of a dense [R, C] matrix that are not zero."""
    cells = np.flatnonzero(counts)
    rows, columns = counts.shape
    return Confusion(shape=(rows, columns), cells=cells, counts=counts.ravel()[cells])


def sum_confusions(confusions: Iterable[Confusion]) -> NDArray[np.int64]:
    """Add confusions exactly into one dense [R, C] matrix.

    Raises:
        ValueError: there is none, or their shapes differ (they come from different label spaces).
    """
    parts = tuple(confusions)
    shapes = {part.shape for part in parts}
    if len(shapes) != 1:
        raise ValueError(f"expected confusions of one shape, got {sorted(shapes)}: use one label space")
    shape = shapes.pop()
    total = np.zeros(shape[0] * shape[1], np.int64)
    for part in parts:
        total[part.cells] += part.counts
    return total.reshape(shape)


def class_ious(matrix: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Give each class's IoU (0 where the union is empty) and union size from a square [K, K] matrix."""
    hits = matrix.diagonal()
    unions = matrix.sum(axis=0) + matrix.sum(axis=1) - hits
    return hits / np.maximum(unions, 1), unions
