"""Mask IoU and boundary IoU of objects that are followed, as VIPOSeg defines them.

The boundary of a mask is the band of its pixels within 2 % of the image diagonal of its outline or of the
border of the image, by the larger of the distances along rows and columns. Only the boxes of objects are
looked at. Legend: N objects, H, W size.
"""

import math
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

BAND = 0.02
"""Width of the boundary, as a share of the image diagonal."""

Box = tuple[slice, ...]


def band_width(size: tuple[int, int]) -> int:
    """Give the width of boundaries in pixels in an image of size (H, W)."""
    return max(1, round(BAND * math.hypot(*size)))


def compare_bands(
    ours: NDArray[np.uint8], theirs: NDArray[np.uint8], ids: Sequence[int]
) -> NDArray[np.float64]:
    """Give mask IoU and boundary IoU, [2, N], of the objects ``ids`` in one frame.

    Both are 1 where neither map shows the object, and 0 where only one does.
    """
    highest, width = max(ids, default=1), band_width(theirs.shape)
    boxes = zip(ndimage.find_objects(ours, highest), ndimage.find_objects(theirs, highest), strict=True)
    pairs = dict(enumerate(boxes, start=1))
    return np.asarray([_compare(ours, theirs, i, pairs[i], width) for i in ids]).reshape(len(ids), 2).T


def _compare(
    ours: NDArray[np.uint8],
    theirs: NDArray[np.uint8],
    object_id: int,
    boxes: tuple[Box | None, Box | None],
    width: int,
) -> tuple[float, float]:
    own, true = boxes
    if own is None or true is None:
        return (1.0, 1.0) if own is true else (0.0, 0.0)
    a, b = ours[own] == object_id, theirs[true] == object_id
    overlap = _overlap(own, true)
    return _iou(a, b, own, true, overlap), _iou(_band(a, width), _band(b, width), own, true, overlap)


def _band(mask: NDArray[np.bool_], width: int) -> NDArray[np.bool_]:
    """Take off the inside of a mask that fills its box; beyond the box, nothing is of the mask."""
    square = np.ones((2 * width + 1, 2 * width + 1), np.uint8)
    inside = cv2.erode(mask.view(np.uint8), square, borderType=cv2.BORDER_CONSTANT, borderValue=0)
    band: NDArray[np.bool_] = mask & (inside == 0)
    return band


def _overlap(a: Box, b: Box) -> Box:
    pairs = zip(a, b, strict=True)
    return tuple(slice(start := max(p.start, q.start), max(start, min(p.stop, q.stop))) for p, q in pairs)


def _iou(a: NDArray[np.bool_], b: NDArray[np.bool_], own: Box, true: Box, overlap: Box) -> float:
    """Give the IoU of two masks that are cut out at ``own`` and ``true``; neither is empty."""
    inner = np.count_nonzero(a[_shift(overlap, own)] & b[_shift(overlap, true)])
    return inner / (np.count_nonzero(a) + np.count_nonzero(b) - inner)


def _shift(box: Box, origin: Box) -> Box:
    pairs = zip(box, origin, strict=True)
    return tuple(slice(part.start - own.start, part.stop - own.start) for part, own in pairs)
