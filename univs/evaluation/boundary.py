"""Contour accuracy F of masks, as DAVIS 2017 defines it.

A boundary pixel differs from its right, lower or lower right neighbor. Two boundaries match where one lies
within a disk of 0.8 % of the image diagonal around the other.
"""

import math
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

TOLERANCE = 0.008
"""Radius of the matching disk, as a share of the image diagonal."""

Box = tuple[slice, slice]


def boundary_f(prediction: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    """Compute the F measure of the boundaries of two [H, W] masks.

    It is 1 if both have no boundary and 0 if only one has. Only the box around both masks is looked at.
    """
    box = _box_around(prediction | truth)
    if box is None:
        return 1.0
    radius = math.ceil(TOLERANCE * math.hypot(*truth.shape))
    ours, theirs = boundary(prediction[box]), boundary(truth[box])
    num_ours, num_theirs = np.count_nonzero(ours), np.count_nonzero(theirs)
    if not (num_ours and num_theirs):
        return float(num_ours == num_theirs)
    precision = np.count_nonzero(ours & _dilate(theirs, radius)) / num_ours
    recall = np.count_nonzero(theirs & _dilate(ours, radius)) / num_theirs
    total = precision + recall
    return 2 * precision * recall / total if total else 0.0


def boundary(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Mark the boundary pixels of an [H, W] mask.

    The last row is compared to the right only, the last column downward only, the last pixel not at all.
    """
    edges = np.zeros_like(mask)
    edges[:, :-1] = mask[:, :-1] != mask[:, 1:]
    edges[:-1] |= mask[:-1] != mask[1:]
    edges[:-1, :-1] |= mask[:-1, :-1] != mask[1:, 1:]
    return edges


def _box_around(mask: NDArray[np.bool_]) -> Box | None:
    """Give the box of a mask plus one pixel, which keeps the rule of the last row and column intact."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not rows.size:
        return None
    return (
        slice(max(int(rows[0]) - 1, 0), int(rows[-1]) + 2),
        slice(max(int(columns[0]) - 1, 0), int(columns[-1]) + 2),
    )


def _dilate(edges: NDArray[np.bool_], radius: int) -> NDArray[np.bool_]:
    return cv2.dilate(edges.view(np.uint8), _disk(radius)).view(bool)


@cache
def _disk(radius: int) -> NDArray[np.uint8]:
    y, x = np.ogrid[-radius : radius + 1, -radius : radius + 1]
    disk: NDArray[np.uint8] = (x * x + y * y <= radius * radius).astype(np.uint8)
    return disk
