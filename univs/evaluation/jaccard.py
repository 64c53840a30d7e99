"""Region similarity J of masks, and how scores of one object over its frames are summed up.

Definitions of the DAVIS 2017 benchmark (Pont-Tuset et al. 2017). Legend: H, W size, L labels.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from univs.evaluation.confusion import count_pairs

_MOST_FRAMES = 256
"""The official script keeps borders of quarters in 8 bits."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SequenceStatistics:
    """One object's scores over its frames, as fractions."""

    mean: float
    recall: float
    """Share of frames above 0.5."""
    decay: float
    """Mean of the first quarter of the frames minus mean of the last."""


def count_overlaps(
    ours: NDArray[np.uint8], theirs: NDArray[np.uint8], num_labels: int = 1
) -> NDArray[np.int64]:
    """Count the pixels of each pair (true, predicted) of labels of two [H, W] maps, as [L, L].

    L is at least ``num_labels``.
    """
    side = max(int(ours.max()) + 1, int(theirs.max()) + 1, num_labels)
    return count_pairs(theirs, ours, (side, side))


def jaccards(
    counts: NDArray[np.int64], rows: NDArray[np.intp], columns: NDArray[np.intp]
) -> NDArray[np.float64]:
    """Compute the IoU of true and predicted labels out of counted pairs; 1 where both are empty.

    ``rows`` and ``columns`` are labels of any shapes that broadcast; so is the result.
    """
    inner = counts[rows, columns]
    unions = counts.sum(axis=1)[rows] + counts.sum(axis=0)[columns] - inner
    return np.where(unions > 0, inner / np.maximum(unions, 1), 1.0)


def summarize(values: NDArray[np.float64], *, is_decay_mended: bool = False) -> SequenceStatistics:
    """Sum up one object's scores; neighboring quarters share the frame between them.

    Args:
        values: a score per frame; frames of NaN do not count.
        is_decay_mended: as the official script keeps the borders of quarters in 8 bits, its decay is NaN or
            wrong from 256 frames on; that is the default here, too, and this mends it.
    """
    valid = values[~np.isnan(values)]
    return SequenceStatistics(
        mean=mean_of(valid),
        recall=mean_of(valid > 0.5),
        decay=_decay(valid, is_decay_mended=is_decay_mended),
    )


def _decay(values: NDArray[np.float64], *, is_decay_mended: bool) -> float:
    borders = (np.round(np.linspace(1, values.size, 5) + 1e-10) - 1).astype(np.intp)
    ends = borders + 1
    if not is_decay_mended:
        borders, ends = borders % _MOST_FRAMES, ends % _MOST_FRAMES
    return mean_of(values[borders[0] : ends[1]]) - mean_of(values[borders[3] : ends[4]])


def mean_of(values: Iterable[float]) -> float:
    """Give the mean, independent of the order; NaN of nothing."""
    parts = tuple(values)
    return math.fsum(parts) / len(parts) if parts else math.nan
