"""Semantic segmentation of videos and images: IoU, accuracy, and how steady videos are (VC).

Formulas as computed by the VSPW evaluators (Miao et al. 2021); those of detectron2 for images are the same.
Legend: T frames, H, W size, K classes.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from univs.evaluation.confusion import Confusion, class_ious, find_runs, sum_confusions, to_confusion
from univs.predictions import SemanticVideo

CONSISTENCY_WINDOWS = (8, 16)
"""Window lengths in frames of VC8 and VC16."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SemanticPartial:
    """What one video or image adds to IoU and VC."""

    video_id: str
    confusion: Confusion
    """[K + 1, K + 1] pixels by class, void left out; class K is no class."""
    windows: tuple[int, ...] = ()
    consistency: tuple[NDArray[np.float64], ...] = ()
    """Per window length, the consistency of each window of the video."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SemanticScores:
    """Scores as fractions."""

    miou: float
    fwiou: float
    macc: float
    """Accuracy averaged over the classes of the truth."""
    pacc: float
    """Share of the labelled pixels that are right."""
    class_ious: NDArray[np.float64]
    """[K], NaN for classes that are not in the truth."""
    class_accuracies: NDArray[np.float64]
    """[K], likewise."""
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
    confusion = np.zeros((num_classes + 1, num_classes + 1), np.int64)
    meter = ConsistencyMeter(windows)
    for true, predicted in zip(truth.labels, prediction.labels, strict=True):
        meter.add(predicted, true)
        runs = find_runs(true, predicted)
        valid = runs.left >= 0
        cells = runs.left[valid].astype(np.intp) * len(confusion) + runs.right[valid]
        np.add.at(confusion.reshape(-1), cells, runs.lengths[valid])
    return SemanticPartial(
        video_id=truth.video_id,
        confusion=to_confusion(confusion),
        windows=windows,
        consistency=meter.finish(),
    )


def score_semantic(partials: Sequence[SemanticPartial]) -> SemanticScores:
    """Merge partials of distinct videos; their order does not matter.

    The class mean is over classes that the truth holds. VC is the mean over all windows of all videos.
    """
    matrix = sum_confusions(part.confusion for part in partials)
    ious, _ = class_ious(matrix)
    frequency, hits = matrix.sum(axis=1), matrix.diagonal()
    present = frequency > 0
    accuracies = hits / np.maximum(frequency, 1)
    total = int(frequency.sum())
    return SemanticScores(
        miou=float(ious[present].mean()) if total else math.nan,
        fwiou=float((frequency * ious).sum() / total) if total else math.nan,
        macc=float(accuracies[present].mean()) if total else math.nan,
        pacc=float(hits.sum() / total) if total else math.nan,
        class_ious=np.where(present, ious, np.nan)[:-1],
        class_accuracies=np.where(present, accuracies, np.nan)[:-1],
        consistency=_mean_consistency(partials),
    )


class ConsistencyMeter:
    """Measures, window by window, the share of truly constant pixels whose predicted label is constant, too.

    As in the official script, the predicted label need not be the true one, void is a label like any other,
    the last possible window is left out, and windows without a constant pixel do not count. Only the frame
    before is remembered, and only pixels that change cost anything.
    """

    def __init__(self, windows: Sequence[int], *, with_last: bool = False) -> None:
        """Choose window lengths in frames; ``with_last`` measures the last possible window, too."""
        self._windows, self._with_last = tuple(windows), with_last
        self._values: list[list[float]] = [[] for _ in windows]
        self._before: tuple[NDArray[np.integer] | None, NDArray[np.integer]] | None = None
        self._truth, self._both = _Steadiness(0), _Steadiness(0)

    def add(self, predicted: NDArray[np.integer] | None, true: NDArray[np.integer]) -> None:
        """Take the next frame, [H, W] labels; a frame without prediction is steady in no window.

        Raises:
            ValueError: the sizes of frames differ.
        """
        if self._before is None:
            self._truth, self._both = _Steadiness(true.size), _Steadiness(true.size)
        else:
            self._measure()
            changed = _changes(self._before[1], true)
            self._truth.change(np.flatnonzero(changed))
            changed |= _changes(self._before[0], predicted)
            self._both.change(np.flatnonzero(changed))
        self._before = predicted, true

    def finish(self) -> tuple[NDArray[np.float64], ...]:
        """Give the consistency of each window, per window length; no frame can be added any more."""
        if self._with_last and self._before is not None:
            self._measure()
        return tuple(np.asarray(row, np.float64) for row in self._values)

    def _measure(self) -> None:
        for window, row in zip(self._windows, self._values, strict=True):
            constant = self._truth.num_constant(window)
            if constant:
                row.append(self._both.num_constant(window) / constant)


class _Steadiness:
    """Knows how many pixels have not changed for how long."""

    def __init__(self, num_pixels: int) -> None:
        """Take the first frame."""
        self._since = np.zeros(num_pixels, np.int32)
        self._counts = np.asarray([num_pixels], np.int64)
        """Pixels by the frame of their last change."""

    def change(self, pixels: NDArray[np.intp]) -> None:
        """Take a frame in which these pixels change."""
        frame = len(self._counts)
        kept = self._counts - np.bincount(self._since[pixels], minlength=frame)
        self._since[pixels] = frame
        self._counts = np.append(kept, pixels.size)

    def num_constant(self, window: int) -> int:
        """Count pixels that kept their value in the last ``window`` frames; 0 where there are not as many."""
        first = len(self._counts) - window
        return int(self._counts[: first + 1].sum()) if first >= 0 else 0


def _changes(before: NDArray[np.integer] | None, now: NDArray[np.integer] | None) -> Any:
    """Give where the label is another, [H * W]; everywhere, where there is none."""
    if before is None or now is None:
        return True
    if before.shape != now.shape:
        raise ValueError(f"a frame has shape {now.shape}, expected {before.shape} as the frame before")
    return (before != now).ravel()


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


def _mean_consistency(partials: Sequence[SemanticPartial]) -> tuple[float, ...]:
    means = []
    for w in range(len(partials[0].windows)):
        values = np.concatenate([part.consistency[w] for part in partials])
        means.append(math.fsum(values) / values.size if values.size else math.nan)
    return tuple(means)
