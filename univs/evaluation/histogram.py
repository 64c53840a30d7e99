"""The histogram of segment pairs that every panoptic metric starts from.

Legend: T frames, G true segments, P predicted segments. Rows and columns 0 and 1 of a histogram are special:
0 = an id that is not listed, 1 = id 0 (void, or nothing predicted); segment s is at s + SPECIAL.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from univs.evaluation.confusion import count_pairs
from univs.predictions import PanopticVideo, Segment

SPECIAL = 2
_MAX_SEGMENT_ID = 1 << 24


@dataclass(frozen=True, kw_only=True, slots=True)
class SegmentPairs:
    """How the true and the predicted segments of one video overlap."""

    video_id: str
    truth: tuple[Segment, ...]
    prediction: tuple[Segment, ...]
    counts: NDArray[np.int64]
    """[T, G + 2, P + 2] pixels."""


def count_segment_pairs(prediction: PanopticVideo, truth: PanopticVideo) -> SegmentPairs:
    """Count the pixels of each (true segment, predicted segment) pair in every frame.

    Raises:
        ValueError: sizes differ, a segment id is not in 1..2^24-1 or listed twice, or a predicted pixel has
            an id that is not listed.
    """
    if prediction.maps.shape != truth.maps.shape:
        raise ValueError(
            f"video {truth.video_id!r}: prediction has shape {prediction.maps.shape}, "
            f"expected {truth.maps.shape}: predict every frame at its original size"
        )
    rows, columns = _index_of_id(truth), _index_of_id(prediction)
    shape = (len(truth.segments) + SPECIAL, len(prediction.segments) + SPECIAL)
    frames = zip(truth.maps, prediction.maps, strict=True)
    counts = np.stack([count_pairs(rows[theirs], columns[ours], shape) for theirs, ours in frames])
    if counts[:, :, 0].any():
        raise ValueError(f"video {truth.video_id!r}: predicted pixels have ids that no segment lists")
    return SegmentPairs(
        video_id=truth.video_id, truth=truth.segments, prediction=prediction.segments, counts=counts
    )


def segment_labels(segments: Sequence[Segment]) -> NDArray[np.intp]:
    """Give the label of each segment, in listing order."""
    return np.asarray([segment.label for segment in segments], np.intp)


def _index_of_id(video: PanopticVideo) -> NDArray[np.intp]:
    ids = np.asarray([segment.segment_id for segment in video.segments], np.intp)
    lowest, highest = int(video.maps.min(initial=0)), int(video.maps.max(initial=0))
    highest = max(highest, int(ids.max(initial=0)))
    if lowest < 0 or highest >= _MAX_SEGMENT_ID or ids.min(initial=1) < 1:
        raise ValueError(
            f"video {video.video_id!r}: segment ids must be in 1..{_MAX_SEGMENT_ID - 1} and 0 for none, "
            f"got {min(lowest, int(ids.min(initial=1)))}..{highest}"
        )
    if len(set(ids.tolist())) < ids.size:
        raise ValueError(f"video {video.video_id!r}: a segment id is listed twice: list each segment once")
    # Zero pages are only touched where ids lie, so a table up to the largest id costs little.
    table = np.zeros(highest + 1, np.intp)
    table[0] = 1
    table[ids] = np.arange(ids.size) + SPECIAL
    return table
