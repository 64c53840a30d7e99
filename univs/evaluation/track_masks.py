"""Masks of the tracks of one video as run lengths: checked, measured and compared without decoding.

Legend: N tracks, U distinct tracks, T frames; D and G those of detections and truths.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from univs.run_lengths import measure_runs

Track = tuple[str | None, ...]
"""COCO compressed ``counts`` per frame, ``None`` where not visible."""


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

    def at(self, frame: int, among: NDArray[np.intp]) -> list[dict[str, Any]]:
        """Give masks of one frame as pycocotools takes them."""
        return [{"size": self.size, "counts": self.distinct[row][frame]} for row in among.tolist()]


def read_masks(tracks: Sequence[Track], size: tuple[int, int], where: str) -> TrackMasks:
    """Check and measure the masks of a video.

    Raises:
        ValueError: a mask is broken or of another size; the line starts with ``where``.
    """
    rows = {track: row for row, track in enumerate(dict.fromkeys(tracks))}
    distinct = tuple(rows)
    areas = np.zeros((len(distinct), max(map(len, distinct), default=0)))
    shown = [
        (u, t) for u, track in enumerate(distinct) for t, counts in enumerate(track) if counts is not None
    ]
    measured = measure_runs([distinct[u][t] or "" for u, t in shown], size[0] * size[1])
    if measured.size and measured.min() < 0:
        u, t = shown[int(measured.argmin())]
        raise ValueError(
            f"{where}: track {tracks.index(distinct[u])}, frame {t}: {distinct[u][t]!r:.40} is no run-length "
            f"mask of {size[0]}x{size[1]} pixels (height x width); write it again"
        )
    if shown:
        areas[tuple(np.asarray(shown).T)] = measured
    return TrackMasks(
        size=size, distinct=distinct, rows=np.asarray([rows[track] for track in tracks], np.intp), areas=areas
    )


def frame_overlaps(
    detections: TrackMasks, truths: TrackMasks, frame: int
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float64]]:
    """Give the distinct detections and truths that are visible, and the [D, G] pixels they share."""
    d, g = np.flatnonzero(detections.areas[:, frame]), np.flatnonzero(truths.areas[:, frame])
    if not (d.size and g.size):
        return d, g, np.zeros((d.size, g.size))
    # With "crowd" truths the library divides the intersection by the detection's area, so multiplying gives
    # the exact number of pixels back.
    shares = coco_mask.iou(detections.at(frame, d), truths.at(frame, g), [1] * g.size)
    return d, g, np.rint(shares * detections.areas[d, frame, None])


def track_overlaps(detections: TrackMasks, truths: TrackMasks) -> NDArray[np.float64]:
    """Count the [U, V] pixels that distinct detections and truths share over all frames."""
    pixels = np.zeros((len(detections.distinct), len(truths.distinct)))
    for frame in range(min(detections.areas.shape[1], truths.areas.shape[1])):
        d, g, shared = frame_overlaps(detections, truths, frame)
        pixels[d[:, None], g] += shared
    return pixels


def track_ious(detections: TrackMasks, truths: TrackMasks) -> NDArray[np.float64]:
    """Compute [D, G] IoUs of tracks: intersections over unions, both summed over the frames they share.

    Where one track lists fewer frames than the other, the other's remaining frames are left out, as in the
    official evaluator. Two tracks that are empty everywhere have IoU 0.
    """
    overlaps = track_overlaps(detections, truths)
    unions = _shared_areas(detections, truths) + _shared_areas(truths, detections).T - overlaps
    ious = overlaps / np.maximum(unions, 1)
    return np.asarray(ious[detections.rows[:, None], truths.rows])


def covered_shares(detections: TrackMasks, truths: TrackMasks) -> NDArray[np.float64]:
    """Compute the [D, G] parts of detections that lie inside truths."""
    shares = track_overlaps(detections, truths) / np.maximum(_shared_areas(detections, truths), 1)
    return np.asarray(shares[detections.rows[:, None], truths.rows])


def _shared_areas(tracks: TrackMasks, others: TrackMasks) -> NDArray[np.float64]:
    """Sum the areas of tracks over the frames that both they and others list, [U, V]."""
    upto = np.zeros((len(tracks.distinct), tracks.areas.shape[1] + 1))
    np.cumsum(tracks.areas, axis=1, out=upto[:, 1:])
    return np.asarray(upto[:, np.minimum(others.num_listed, tracks.areas.shape[1])])
