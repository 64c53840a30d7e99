"""What one benchmark offers to whoever scores prediction files: a case, opened from two folders.

A case is compared item by item (a video or an image), in any order and process; the small partials merge into
the scores exactly.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from univs.draw import Frame
from univs.evaluation.benchmarks import Prediction
from univs.labels import LabelSpace


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoreOptions:
    """How to judge what official tools leave open."""

    missing: Literal["refuse", "empty"] = "refuse"
    """What becomes of items and frames that are not predicted: an error, or scored as empty and counted."""
    mends: tuple[str, ...] = ()
    """Quirks of the official evaluator to mend, out of the benchmark's ``mends``."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Scores:
    """All that is measured: percentages, save for metrics that ``OfficialBenchmark.rates`` names."""

    values: Mapping[str, float]
    """By metric; NaN where there was nothing to measure."""
    items: Mapping[str, Mapping[str, float]]
    """By video or image, then by metric: what it would score alone."""
    classes: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """By name of the class, then by metric; empty for benchmarks without classes."""


def in_percent(values: Mapping[str, float], rates: Collection[str] = ()) -> dict[str, float]:
    """Turn fractions into percentages, but for ``rates``."""
    return {name: value if name in rates else 100 * value for name, value in values.items()}


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """Frames of one item with truth and prediction, ready to be drawn."""

    truth: Prediction
    prediction: Prediction
    frames: Sequence[Frame]
    """The pictures, where the ground truth comes with them, else gray."""
    labels: LabelSpace | None


class Case(Protocol):
    """Ground truth and predictions of one benchmark, opened.

    Opening checks that everything is there; the large files are read item by item.
    """

    @property
    def names(self) -> Sequence[str]:
        """Names of the items, unique, in the order of the ground truth."""

    @property
    def missing(self) -> Sequence[str]:
        """What is not predicted and scored as empty: names of items, or ``item/frame``."""

    def compare(self, index: int) -> Any:
        """Compare one item: a small partial that can travel between processes.

        Raises:
            ValueError: a file of the item does not hold what it should; the line names it.
        """

    def score(self, partials: Sequence[Any]) -> Scores:
        """Merge the partials of all items; their order does not matter."""

    def show(self, index: int, num_frames: int) -> Comparison:
        """Give at most ``num_frames`` frames of an item, spread evenly over it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class OfficialBenchmark:
    """One benchmark whose files can be scored."""

    name: str
    """As in the catalog of datasets."""
    title: str
    """Its name in papers, with its task."""
    metrics: tuple[str, ...]
    """Names of the scores, those that papers print first."""
    primary: str
    """The score that ranks submissions, and items from worst to best."""
    gt_layout: str
    """Files of the ground truth, relative to ``--gt``."""
    pred_layout: str
    """Files of the predictions, relative to ``--pred``."""
    marks: tuple[str, ...]
    """Patterns below ``--gt`` that all match where the ground truth is this benchmark's; ``a|b``: either."""
    open: Callable[[Path, Path, ScoreOptions], Case]
    mends: Mapping[str, str] = field(default_factory=dict)
    """Quirks of the official evaluator that can be mended, and what is measured then."""
    rates: frozenset[str] = frozenset()
    """Metrics that are no percentages."""

    def __post_init__(self) -> None:
        """Refuse a primary score that is not measured."""
        if self.primary not in self.metrics:
            raise ValueError(f"benchmark {self.name!r}: primary {self.primary!r} is not in {self.metrics}")
