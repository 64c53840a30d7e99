"""Region similarity J of masks, and how scores of one object over its frames are summed up.

Definitions of the DAVIS 2017 benchmark (Pont-Tuset et al. 2017).
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True, slots=True)
class SequenceStatistics:
    """One object's scores over its frames, as fractions."""

    mean: float
    recall: float
    """Share of frames above 0.5."""
    decay: float
    """Mean of the first quarter of the frames minus mean of the last."""


def jaccard(prediction: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    """Compute the IoU of two [H, W] masks; 1 if both are empty."""
    union = np.count_nonzero(prediction | truth)
    return np.count_nonzero(prediction & truth) / union if union else 1.0


def summarize(values: NDArray[np.float64]) -> SequenceStatistics:
    """Sum up one object's scores; neighboring quarters share the frame between them.

    The official script keeps the quarter borders in 8 bits, so its decay is wrong beyond 256 frames; here it
    is right.

    Raises:
        ValueError: there is no frame.
    """
    if not values.size:
        raise ValueError(
            "expected at least one evaluated frame, got none: DAVIS leaves out the first and last"
        )
    borders = (np.round(np.linspace(1, values.size, 5) + 1e-10) - 1).astype(np.intp)
    first, last = values[: borders[1] + 1], values[borders[3] : borders[4] + 1]
    return SequenceStatistics(
        mean=math.fsum(values) / values.size,
        recall=np.count_nonzero(values > 0.5) / values.size,
        decay=float(first.mean() - last.mean()),
    )
