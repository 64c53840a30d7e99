"""The histogram of segment pairs that every panoptic metric starts from.

Legend: T frames, S segments of either side, G true segments, P predicted segments, N positions of a window.
Rows and columns 0 and 1 of a histogram are special: 0 = an id that is not listed, 1 = id 0 (void, or nothing
predicted); segment s is at s + SPECIAL.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from univs.evaluation.confusion import Runs, find_runs
from univs.predictions import PanopticVideo, Segment

SPECIAL = 2
UNLISTED = -1
"""Label of a segment in frames that do not list it."""
NUM_IDS = 1 << 24
"""Ids that a color can hold."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Listing:
    """The segments of one side of a video, as each frame lists them; an id may change its class."""

    segment_ids: tuple[int, ...]
    """By first listing."""
    labels: NDArray[np.intp]
    """[T, S], UNLISTED where the frame does not list the segment."""
    is_crowd: NDArray[np.bool_]
    """[T, S]."""
    ranks: NDArray[np.intp]
    """[T, S] place in the list of the frame."""
    areas: NDArray[np.int64] | None = None
    """[T, S] pixels as annotated, 0 where not listed; ``None`` to count them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SegmentPairs:
    """How the true and the predicted segments of one video overlap."""

    video_id: str
    truth: Listing
    prediction: Listing
    counts: NDArray[np.int64]
    """[T, G + 2, P + 2] pixels."""


def count_segment_pairs(prediction: PanopticVideo, truth: PanopticVideo) -> SegmentPairs:
    """Count the pixels of each (true segment, predicted segment) pair; a frame lists the segments it shows.

    Raises:
        ValueError: sizes differ, a segment id is not in 1..2^24-1 or listed twice, or a predicted pixel has
            an id that is not listed.
    """
    if prediction.maps.shape != truth.maps.shape:
        raise ValueError(
            f"video {truth.video_id!r}: prediction has shape {prediction.maps.shape}, "
            f"expected {truth.maps.shape}: predict every frame at its original size"
        )
    frames = map(find_runs, truth.maps, prediction.maps)
    true_ids, ids = (_ids_of(truth.video_id, video.segments) for video in (truth, prediction))
    counts = count_id_pairs(truth.video_id, true_ids, ids, frames)
    unlisted = np.flatnonzero(counts[:, :, 0].any(axis=1))
    if unlisted.size:
        raise ValueError(
            f"video {truth.video_id!r}: predicted pixels of frame {unlisted[0]} have ids "
            "that no segment lists"
        )
    return SegmentPairs(
        video_id=truth.video_id,
        truth=_list_visible(truth.segments, counts[:, SPECIAL:].sum(axis=2) > 0),
        prediction=_list_visible(prediction.segments, counts[:, :, SPECIAL:].sum(axis=1) > 0),
        counts=counts,
    )


def count_id_pairs(
    video_id: str, true_ids: Sequence[int], ids: Sequence[int], frames: Iterable[Runs]
) -> NDArray[np.int64]:
    """Count [T, G + 2, P + 2] pairs in a stream of frames, cut into runs of true (left) and predicted ids.

    Raises:
        ValueError: a listed id, or that of a pixel, is not in 1..2^24-1.
    """
    rows, columns = _index_of_id(video_id, true_ids), _index_of_id(video_id, ids)
    shape = (len(true_ids) + SPECIAL, len(ids) + SPECIAL)
    counts = [np.zeros((0, *shape), np.int64)]
    for runs in frames:
        _check_ids(video_id, runs.left, runs.right)
        cells = rows[runs.left] * shape[1] + columns[runs.right]
        pixels = np.bincount(cells, runs.lengths, minlength=shape[0] * shape[1])
        counts.append(pixels.astype(np.int64).reshape(1, *shape))
    return np.concatenate(counts)


def first_listed(listing: Listing, window: int) -> NDArray[np.intp]:
    """Give, per position of a window and segment, the first frame in it that lists the segment: [N, S].

    UNLISTED where none does.
    """
    num_frames = len(listing.labels)
    here = np.where(listing.labels > UNLISTED, np.arange(num_frames)[:, None], num_frames)
    following = np.minimum.accumulate(here[::-1], axis=0)[::-1]
    starts = np.arange(max(num_frames - window + 1, 0))
    first = following[starts]
    return np.where(first < starts[:, None] + window, first, UNLISTED)


def _list_visible(segments: Sequence[Segment], visible: NDArray[np.bool_]) -> Listing:
    """List segments in the frames that show them, [T, S]."""
    labels = np.asarray([segment.label for segment in segments], np.intp)
    crowds = np.asarray([segment.is_crowd for segment in segments], bool)
    return Listing(
        segment_ids=tuple(segment.segment_id for segment in segments),
        labels=np.where(visible, labels, UNLISTED),
        is_crowd=visible & crowds,
        ranks=np.broadcast_to(np.arange(len(segments)), visible.shape),
    )


def _ids_of(video_id: str, segments: Sequence[Segment]) -> tuple[int, ...]:
    ids = tuple(segment.segment_id for segment in segments)
    if len(set(ids)) < len(ids):
        raise ValueError(f"video {video_id!r}: a segment id is listed twice: list each segment once")
    return ids


def _index_of_id(video_id: str, ids: Sequence[int]) -> NDArray[np.int32]:
    """Give the row of every id; pages of the table are only touched where ids lie, so it costs little."""
    if ids and not 0 < min(ids) <= max(ids) < NUM_IDS:
        raise ValueError(
            f"video {video_id!r}: segment ids are {min(ids)}..{max(ids)}, expected 1..{NUM_IDS - 1}"
        )
    table = np.zeros(NUM_IDS, np.int32)
    table[0] = 1
    table[list(ids)] = np.arange(len(ids)) + SPECIAL
    return table


def _check_ids(video_id: str, *values: NDArray[np.integer]) -> None:
    lowest, highest = min(int(ids.min()) for ids in values), max(int(ids.max()) for ids in values)
    if lowest < 0 or highest >= NUM_IDS:
        raise ValueError(
            f"video {video_id!r}: segment ids of pixels are {lowest}..{highest}, "
            f"expected 1..{NUM_IDS - 1}, 0 for none"
        )
