"""Semantic labels as gray PNGs: the class of every pixel, void by values of its own.

Legend: K classes; V = 257 values that a predicted pixel can have: those of a byte, and NOT_PREDICTED.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from univs.evaluation.confusion import find_runs
from univs.evaluation.official.case import in_percent
from univs.evaluation.official.files import check_size, name_some, read_indexed
from univs.evaluation.semantic import SemanticScores

NUM_BYTES = 256
NOT_PREDICTED = NUM_BYTES
"""Column of a histogram for pixels of a frame that is not predicted."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelCode:
    """How the ground truth stores classes."""

    num_classes: int
    first: int
    """Value of class 0."""
    void: tuple[int, ...]

    def __post_init__(self) -> None:
        """Refuse codes that bytes cannot hold."""
        if not 0 <= self.first <= self.first + self.num_classes <= NUM_BYTES:
            raise ValueError(f"{self.num_classes} classes from {self.first}, expected values of a byte")

    @property
    def classes(self) -> slice:
        """The rows of a histogram that are classes."""
        return slice(self.first, self.first + self.num_classes)

    @property
    def text(self) -> str:
        """What the values may be, for messages."""
        void = " or ".join(map(str, self.void))
        return f"{self.first}..{self.first + self.num_classes - 1}, or {void} for void"


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelPair:
    """One frame or image with its labels read, [H, W]."""

    true: NDArray[np.uint8]
    predicted: NDArray[np.uint8] | None
    """``None`` where it is not predicted."""


def read_pair(true_path: Path, path: Path | None) -> LabelPair:
    """Read both label maps.

    Raises:
        ValueError: one is not readable, or they differ in size.
    """
    true = read_indexed(true_path)
    if path is None:
        return LabelPair(true=true, predicted=None)
    predicted = read_indexed(path)
    check_size(path, predicted.shape, true.shape)
    return LabelPair(true=true, predicted=predicted)


def add_values(histogram: NDArray[np.int64], pair: LabelPair, code: LabelCode, true_path: Path) -> None:
    """Count the values of one pair into a [256, V] histogram: true by predicted.

    Raises:
        ValueError: the ground truth holds a value that is neither a class nor void.
    """
    columns = pair.true if pair.predicted is None else pair.predicted
    runs = find_runs(pair.true, columns)
    allowed = np.zeros(NUM_BYTES, bool)
    allowed[code.classes] = allowed[list(code.void)] = True
    if not allowed[runs.left].all():
        wrong = sorted({int(value) for value in runs.left[~allowed[runs.left]]})
        raise ValueError(f"{true_path}: values {name_some([*map(str, wrong)])}, expected {code.text}")
    column = NOT_PREDICTED if pair.predicted is None else runs.right.astype(np.intp)
    cells = runs.left.astype(np.intp) * histogram.shape[1] + column
    np.add.at(histogram.reshape(-1), cells, runs.lengths)


def to_matrix(histogram: NDArray[np.int64], code: LabelCode) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Sort a histogram by class; void pixels are left out.

    Returns:
        The [K + 1, K + 1] confusion, not predicted pixels in its last column; and the [K, 256 - K] pixels by
        true class and by predicted value from K on, which are no class.
    """
    num_classes = code.num_classes
    valid = histogram[code.classes]
    matrix = np.zeros((num_classes + 1, num_classes + 1), np.int64)
    matrix[:-1, :-1] = valid[:, :num_classes]
    matrix[:-1, -1] = valid[:, NOT_PREDICTED]
    return matrix, valid[:, num_classes:NUM_BYTES]


def class_values(names: Sequence[str], scores: SemanticScores) -> dict[str, dict[str, float]]:
    """Give IoU and accuracy of each class that the truth holds, in percent."""
    columns = {"iou": scores.class_ious, "acc": scores.class_accuracies}
    return {
        name: in_percent({metric: float(column[label]) for metric, column in columns.items()})
        for label, name in enumerate(names)
        if scores.class_ious[label] >= 0
    }


def to_labels(values: NDArray[np.uint8], code: LabelCode) -> NDArray[np.int16]:
    """Turn true values into labels, -1 for void."""
    labels = np.full(NUM_BYTES, -1, np.int16)
    labels[code.classes] = np.arange(code.num_classes)
    return labels[values]
