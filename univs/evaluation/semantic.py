"""Semantic segmentation of videos: mean and frequency-weighted IoU, and video consistency (VC).

Formulas as computed by the VSPW evaluators (Miao et al. 2021). Legend: T frames, H, W size, K classes.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from univs.evaluation.confusion import Confusion, class_ious, count_pairs, sum_confusions, to_confusion
from univs.predictions import SemanticVideo

CONSISTENCY_WINDOWS = (8, 16)
"""Window lengths in frames of VC8 and VC16."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SemanticPartial:
    """What one video adds to mIoU and VC."""

    video_id: str
    confusion: Confusion
    """[K, K] pixels by class, void left out."""
    windows: tuple[int, ...]
    consistency: tuple[NDArray[np.float64], ...]
    """Per window length, the consistency of each window of the video."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SemanticScores:
    """Scores as fractions."""

    miou: float
    fwiou: float
    class_ious: NDArray[np.float64]
    """[K], NaN for classes that are not in the truth."""
    consistency: tuple[float, ...]
    """VC per window length, NaN where no video is long enough."""


def evaluate_semantic(
    prediction: SemanticVideo,
    truth: SemanticVideo,
    num_classes: int,
    windows: tuple[int, ...] = CONSISTENCY_WINDOWS,
) -> SemanticPartial:
    """Count one video's class confusion and measure the consistency of its windows.

    Raises:
        ValueError: sizes differ, or a label is outside 0..K-1 (-1 is void, in the truth only).
    """
    _check(prediction, truth, num_classes)
    confusion = np.zeros((num_classes, num_classes), np.int64)
    for true, predicted in zip(truth.labels, prediction.labels, strict=True):
        valid = true >= 0
        confusion += count_pairs(true[valid], predicted[valid], confusion.shape)
    return SemanticPartial(
        video_id=truth.video_id,
        confusion=to_confusion(confusion),
        windows=windows,
        consistency=_consistency(prediction.labels, truth.labels, windows),
    )


def score_semantic(partials: Sequence[SemanticPartial]) -> SemanticScores:
    """Merge partials of distinct videos; their order does not matter.

    The class mean is over classes that the truth holds. VC is the mean over all windows of all videos.
    """
    matrix = sum_confusions(part.confusion for part in partials)
    ious, _ = class_ious(matrix)
    frequency = matrix.sum(axis=1)
    present = frequency > 0
    if not present.any():
        return SemanticScores(
            miou=math.nan,
            fwiou=math.nan,
            class_ious=np.full(len(ious), np.nan),
            consistency=_mean_consistency(partials),
        )
    return SemanticScores(
        miou=float(ious[present].mean()),
        fwiou=float((frequency / frequency.sum() * ious).sum()),
        class_ious=np.where(present, ious, np.nan),
        consistency=_mean_consistency(partials),
    )


def _check(prediction: SemanticVideo, truth: SemanticVideo, num_classes: int) -> None:
    if prediction.labels.shape != truth.labels.shape:
        raise ValueError(
            f"video {truth.video_id!r}: prediction has shape {prediction.labels.shape}, "
            f"expected {truth.labels.shape}: predict every frame at its original size"
        )
    for video, lowest, role in ((prediction, 0, "prediction"), (truth, -1, "truth")):
        low, high = int(video.labels.min()), int(video.labels.max())
        if low < lowest or high >= num_classes:
            raise ValueError(
                f"video {truth.video_id!r}: {role} labels {low}..{high}, expected {lowest}..{num_classes - 1}"
            )


def _consistency(
    predicted: NDArray[np.int16], true: NDArray[np.int16], windows: Sequence[int]
) -> tuple[NDArray[np.float64], ...]:
    """Measure, per window, the share of truly constant pixels whose predicted label is constant too.

    As in the official script, the predicted label need not be the true one, void is a label like any other,
    the last possible window is left out, and windows without a constant pixel do not count.
    """
    values: list[list[float]] = [[] for _ in windows]
    true_since = np.zeros(true.shape[1:], np.int32)
    predicted_since = np.zeros_like(true_since)
    for last in range(len(true) - 1):
        if last:
            true_since[true[last] != true[last - 1]] = last
            predicted_since[predicted[last] != predicted[last - 1]] = last
        for window, row in zip(windows, values, strict=True):
            first = last - window + 1
            constant = true_since <= first
            total = np.count_nonzero(constant)
            if first >= 0 and total:
                row.append(np.count_nonzero(constant & (predicted_since <= first)) / total)
    return tuple(np.asarray(row, np.float64) for row in values)


def _mean_consistency(partials: Sequence[SemanticPartial]) -> tuple[float, ...]:
    means = []
    for w in range(len(partials[0].windows)):
        values = np.concatenate([part.consistency[w] for part in partials])
        means.append(math.fsum(values) / values.size if values.size else math.nan)
    return tuple(means)
