"""The histogram of segment pairs that every panoptic metric starts from.

Legend: T frames, G true segments, P predicted segments. Rows and columns 0 and 1 of a histogram are special:
0 = an id that is not listed, 1 = id 0 (void, or nothing predicted); segment s is at s + SPECIAL.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from univs.evaluation.confusion import count_pairs
from univs.predictions import PanopticVideo, Segment

SPECIAL = 2
_NUM_IDS = 1 << 24
"""Ids that a color can hold."""


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
    frames = zip(prediction.maps, truth.maps, strict=True)
    return count_segment_pairs_of_frames(truth.video_id, prediction.segments, truth.segments, frames)


def count_segment_pairs_of_frames(
    video_id: str,
    prediction: tuple[Segment, ...],
    truth: tuple[Segment, ...],
    frames: Iterable[tuple[NDArray[np.int32], NDArray[np.int32]]],
) -> SegmentPairs:
    """Count pairs of segments in a stream of (predicted, true) maps [H, W], one frame in memory at a time.

    Raises:
        ValueError: as ``count_segment_pairs``.
    """
    rows, columns = _index_of_id(video_id, truth), _index_of_id(video_id, prediction)
    shape = (len(truth) + SPECIAL, len(prediction) + SPECIAL)
    counts = []
    for ours, theirs in frames:
        _check_ids(video_id, ours, theirs)
        counts.append(count_pairs(rows[theirs], columns[ours], shape))
        if counts[-1][:, 0].any():
            raise ValueError(
                f"video {video_id!r}: predicted pixels of frame {len(counts) - 1} have ids "
                "that no segment lists"
            )
    return SegmentPairs(video_id=video_id, truth=truth, prediction=prediction, counts=np.stack(counts))


def segment_labels(segments: Sequence[Segment]) -> NDArray[np.intp]:
    """Give the label of each segment, in listing order."""
    return np.asarray([segment.label for segment in segments], np.intp)


def _index_of_id(video_id: str, segments: Sequence[Segment]) -> NDArray[np.int32]:
    """Give the row of every id; pages of the table are only touched where ids lie, so it costs little."""
    ids = [segment.segment_id for segment in segments]
    if ids and not 0 < min(ids) <= max(ids) < _NUM_IDS:
        raise ValueError(
            f"video {video_id!r}: segment ids are {min(ids)}..{max(ids)}, expected 1..{_NUM_IDS - 1}"
        )
    if len(set(ids)) < len(ids):
        raise ValueError(f"video {video_id!r}: a segment id is listed twice: list each segment once")
    table = np.zeros(_NUM_IDS, np.int32)
    table[0] = 1
    table[ids] = np.arange(len(ids)) + SPECIAL
    return table


def _check_ids(video_id: str, *maps: NDArray[np.int32]) -> None:
    lowest, highest = min(int(ids.min()) for ids in maps), max(int(ids.max()) for ids in maps)
    if lowest < 0 or highest >= _NUM_IDS:
        raise ValueError(
            f"video {video_id!r}: segment ids of pixels are {lowest}..{highest}, "
            f"expected 1..{_NUM_IDS - 1}, 0 for none"
        )
