"""Masks of the tracks of one video as run lengths: checked, measured and compared without decoding.

Legend: N tracks, U distinct tracks, T frames; D and G those of detections and truths.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from univs.run_lengths import measure_runs

Track = tuple[str | None, ...]
"""COCO compressed ``counts`` per frame, ``None`` where not visible."""
Labels = tuple[NDArray[np.int64], NDArray[np.int64]]
"""Classes of detections and of truths, [D] and [G]."""


_PAIRS_PER_CALL = 50
"""Comparing so many pairs of masks takes as long as calling pycocotools once more."""


@dataclass(frozen=True, kw_only=True)
class TrackMasks:
    """Tracks whose masks are sound.

    Detectors often give one track several classes, so equal tracks are measured and compared once.
    """

    size: tuple[int, int]
    """Height and width."""
    distinct: tuple[Track, ...]
    """[U]."""
    rows: NDArray[np.intp]
    """[N] which of the distinct ones a track is."""
    areas: NDArray[np.float64]
    """[U, T] in pixels, 0 where not visible."""

    @cached_property
    def num_listed(self) -> NDArray[np.int64]:
        """[U] frames that a track lists; those beyond are unknown."""
        return np.asarray([len(track) for track in self.distinct], np.int64)

    @cached_property
    def mean_areas(self) -> NDArray[np.float64]:
        """[N] over the frames where the track is visible, 0 without any."""
        means = self.areas.sum(axis=1) / np.maximum((self.areas > 0).sum(axis=1), 1)
        return np.asarray(means[self.rows])

    @cached_property
    def objects(self) -> tuple[list[dict[str, Any]], ...]:
        """[U] tracks, [T] masks each, as pycocotools takes them; what is not visible is an empty mask."""
        height, width = self.size
        empty = coco_mask.frPyObjects({"size": self.size, "counts": [height * width]}, height, width)
        num_frames = self.areas.shape[1]
        return tuple(
            [
                empty if counts is None else {"size": self.size, "counts": counts}
                for counts in (*track, *(None,) * (num_frames - len(track)))
            ]
            for track in self.distinct
        )


def read_masks(tracks: Sequence[Track], size: tuple[int, int], where: str) -> TrackMasks:
    """Check and measure the masks of a video.

    Raises:
        ValueError: a mask is broken or of another size; the line starts with ``where``.
    """
    seen: dict[Track, int] = {}
    rows = [seen.setdefault(track, len(seen)) for track in tracks]
    distinct = tuple(seen)
    lengths = np.asarray([len(track) for track in distinct], np.int64)
    masks = list(chain.from_iterable(distinct))
    shown = [n for n, counts in enumerate(masks) if counts is not None]
    pixels = np.zeros(len(masks))
    pixels[shown] = measure_runs([counts for counts in masks if counts is not None], size[0] * size[1])
    areas = np.zeros((len(distinct), lengths.max(initial=0)))
    areas[np.arange(areas.shape[1]) < lengths[:, None]] = pixels
    for u, t in np.argwhere(areas < 0).tolist():
        raise ValueError(
            f"{where}: track {tracks.index(distinct[u])}, frame {t}: {distinct[u][t]!r:.40} is no run-length "
            f"mask of {size[0]}x{size[1]} pixels (height x width); write it again"
        )
    return TrackMasks(size=size, distinct=distinct, rows=np.asarray(rows, np.intp), areas=areas)


def track_ious(
    detections: TrackMasks, truths: TrackMasks, labels: Labels | None = None
) -> NDArray[np.float64]:
    """Compute [D, G] IoUs of tracks: intersections over unions, both summed over the frames they share.

    Where one track lists fewer frames than the other, the other's remaining frames are left out, as in the
    official evaluator. Two tracks that are empty everywhere have IoU 0.

    Args:
        detections: tracks.
        truths: tracks.
        labels: classes of both; IoUs across classes need not be right.
    """
    overlaps = _overlaps(detections, truths, labels)
    unions = _shared_areas(detections, truths) + _shared_areas(truths, detections).T - overlaps
    ious = overlaps / np.maximum(unions, 1)
    return np.asarray(ious[detections.rows[:, None], truths.rows])


def covered_shares(
    detections: TrackMasks, truths: TrackMasks, labels: Labels | None = None
) -> NDArray[np.float64]:
    """Compute the [D, G] parts of detections that lie inside truths; ``labels`` as above."""
    shares = _overlaps(detections, truths, labels) / np.maximum(_shared_areas(detections, truths), 1)
    return np.asarray(shares[detections.rows[:, None], truths.rows])


def _overlaps(detections: TrackMasks, truths: TrackMasks, labels: Labels | None) -> NDArray[np.float64]:
    """Count the [U, V] pixels that distinct detections and truths share over all frames."""
    pixels = np.zeros((len(detections.distinct), len(truths.distinct)))
    for d, g in _blocks(detections, truths, labels):
        pixels[d[:, None], g] = _block_overlaps(detections, truths, d, g)
    return pixels


def _blocks(
    detections: TrackMasks, truths: TrackMasks, labels: Labels | None
) -> list[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Choose which tracks to compare: those of one class at a time, or all at once if that is hardly more."""
    whole = (np.arange(len(detections.distinct)), np.arange(len(truths.distinct)))
    num_whole = whole[0].size * whole[1].size
    if labels is None or num_whole <= 2 * _PAIRS_PER_CALL:
        return [whole]
    by_class = [
        (np.unique(detections.rows[labels[0] == label]), np.unique(truths.rows[labels[1] == label]))
        for label in np.intersect1d(*labels).tolist()
    ]
    num_pairs = sum(d.size * g.size for d, g in by_class)
    return by_class if num_whole - num_pairs > _PAIRS_PER_CALL * len(by_class) else [whole]


def _block_overlaps(
    detections: TrackMasks, truths: TrackMasks, d: NDArray[np.intp], g: NDArray[np.intp]
) -> NDArray[np.float64]:
    """Count the pixels that each of some detections shares with each of some truths."""
    pixels = np.zeros((d.size, g.size))
    ours, theirs = (
        zip(*(side.objects[row] for row in among.tolist()), strict=True)
        for side, among in ((detections, d), (truths, g))
    )
    # With "crowd" truths the library divides the intersection by the detection's area, so multiplying gives
    # the exact number of pixels back.
    crowd = [1] * g.size
    for frame, frame_truths, areas in zip(ours, theirs, detections.areas[d].T[..., None], strict=False):
        pixels += np.rint(coco_mask.iou(list(frame), list(frame_truths), crowd) * areas)
    return pixels


def _shared_areas(tracks: TrackMasks, others: TrackMasks) -> NDArray[np.float64]:
    """Sum the areas of tracks over the frames that both they and others list, [U, V]."""
    upto = np.zeros((len(tracks.distinct), tracks.areas.shape[1] + 1))
    np.cumsum(tracks.areas, axis=1, out=upto[:, 1:])
    return np.asarray(upto[:, np.minimum(others.num_listed, tracks.areas.shape[1])])
