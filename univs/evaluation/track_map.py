"""Track mAP of TAO and BURST, as TrackEval computes it: precision of whole tracks by mask IoU over the video.

Legend: D predicted tracks, G true tracks.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from univs.evaluation.precision import Curves, Matches, match_ranked, rank_curves

IOU_THRESHOLDS = np.arange(0.5, 0.96, 0.05)
STRATA = ("all", "area_s", "area_m", "area_l", "time_s", "time_m", "time_l")
_AREAS = ((0.0, 32.0**2), (32.0**2, 96.0**2), (96.0**2, 1e10))
_LENGTHS = ((0.0, 3.0), (3.0, 10.0), (10.0, 1e5))
"""In frames; both ends belong to a range, as for areas."""
_SLACK = float(np.finfo(np.float64).eps)


@dataclass(frozen=True, kw_only=True, slots=True)
class TrackSizes:
    """What strata go by, [N] each."""

    areas: NDArray[np.float64]
    """Mean mask, in pixels."""
    lengths: NDArray[np.float64]
    """Frames that list the track."""

    def outside(self) -> NDArray[np.bool_]:
        """Tell which tracks lie outside each of ``STRATA``."""
        whole = np.zeros((1, self.areas.size), bool)
        return np.concatenate((whole, _outside(self.areas, _AREAS), _outside(self.lengths, _LENGTHS)))


def match_tracks(
    label: int,
    ious: NDArray[np.float64],
    scores: NDArray[np.float64],
    detections: TrackSizes,
    truths: TrackSizes,
    *,
    is_exhaustive: bool,
    leaves_free: NDArray[np.bool_],
) -> Matches:
    """Match the tracks of one class and video, all in descending score.

    Args:
        label: the class.
        ious: [D, G].
        scores: [D].
        detections: sizes of predicted tracks.
        truths: sizes of true tracks.
        is_exhaustive: whether all objects of the class are labelled; if not, no track is a false alarm.
        leaves_free: [D] tracks that do not take what they match.
    """
    skip = truths.outside()
    matched, chosen = match_ranked(ious, skip, leaves_free[:, None], IOU_THRESHOLDS, _SLACK)
    on_skipped = np.zeros_like(matched)
    if ious.shape[1]:
        on_skipped = matched & np.take_along_axis(skip[:, None], chosen, axis=2)
    outside = detections.outside() if is_exhaustive else np.ones((len(STRATA), scores.size), bool)
    return Matches(
        label=label,
        scores=scores,
        matched=matched,
        ignored=on_skipped | (~matched & outside[:, None]),
        num_truths=(~skip).sum(axis=1),
    )


def track_curves(rows: Sequence[Matches]) -> Curves:
    """Join the videos of one class; equal scores keep the videos' order."""
    return rank_curves(rows, (max(row.scores.size for row in rows),))


def _outside(values: NDArray[np.float64], ranges: Sequence[tuple[float, float]]) -> NDArray[np.bool_]:
    low, high = np.asarray(ranges).T[..., None]
    outside: NDArray[np.bool_] = (values < low) | (values > high)
    return outside
