"""VSPW: semantic segmentation of videos; mIoU, frequency-weighted IoU, accuracies, and consistency (VC).

Ground truth: ``val.txt`` with names of videos, and ``data/<video>/mask/<frame>.png``, in ``--gt`` or in
``--gt/VSPW_480p``: 1..124 the classes, 0 "others" and 255 void, which both do not count. Predictions:
``<video>/<frame>.png`` with 0..123.

The official VC takes 0 and 255 for different labels, and the official confusion matrix wraps: pixel value v
on class c (from 0) is counted at position 124 c + v, so 255 falls on (c + 2, 7).
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from univs.evaluation.benchmarks import BENCHMARKS, score
from univs.evaluation.confusion import to_confusion
from univs.evaluation.official.case import Comparison, OfficialBenchmark, ScoreOptions, Scores
from univs.evaluation.official.files import (
    name_unpredicted,
    read_frame,
    read_indexed,
    settle_missing,
    spread,
)
from univs.evaluation.official.label_files import (
    NUM_BYTES,
    LabelCode,
    add_values,
    class_values,
    read_pair,
    to_labels,
    to_matrix,
)
from univs.evaluation.official.panoptic_files import need_pngs, pngs_in
from univs.evaluation.semantic import (
    CONSISTENCY_WINDOWS,
    ConsistencyMeter,
    SemanticPartial,
    score_semantic,
)
from univs.label_spaces import SHARED_TABLES, builtin_spaces
from univs.labels import LabelSpace
from univs.predictions import SemanticVideo

logger = logging.getLogger(__name__)

CODE = LabelCode(num_classes=124, first=1, void=(0, 255))
_VOID, _OUTSIDE, _LAST = "void-codes", "values-above-123", "last-window"
_SPEC = BENCHMARKS["vspw"]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Video:
    name: str
    masks: tuple[Path, ...]
    predictions: tuple[Path | None, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class VspwPartial:
    """What one video adds."""

    semantic: SemanticPartial
    num_outside: int
    """Labelled pixels whose predicted value is no class."""


@dataclass(frozen=True, kw_only=True, slots=True)
class VspwCase:
    """An opened VSPW case."""

    labels: LabelSpace
    videos: tuple[_Video, ...]
    missing: tuple[str, ...]
    mends: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the videos."""
        return tuple(video.name for video in self.videos)

    def compare(self, index: int) -> VspwPartial:
        """Count classes and measure consistency, frame by frame."""
        video = self.videos[index]
        histogram = np.zeros((NUM_BYTES, NUM_BYTES + 1), np.int64)
        meter = ConsistencyMeter(CONSISTENCY_WINDOWS, with_last=_LAST in self.mends)
        for mask, prediction in zip(video.masks, video.predictions, strict=True):
            pair = read_pair(mask, prediction)
            add_values(histogram, pair, CODE, mask)
            true = pair.true
            if _VOID in self.mends:
                true = np.where(true == CODE.void[1], np.uint8(CODE.void[0]), true)
            _add_frame(meter, pair.predicted, true, mask)
        matrix, outside = to_matrix(histogram, CODE)
        _place_outside(matrix, outside, video, is_mended=_OUTSIDE in self.mends)
        semantic = SemanticPartial(
            video_id=video.name,
            confusion=to_confusion(matrix),
            windows=CONSISTENCY_WINDOWS,
            consistency=meter.finish(),
        )
        return VspwPartial(semantic=semantic, num_outside=int(outside.sum()))

    def score(self, partials: Sequence[VspwPartial]) -> Scores:
        """Merge the videos; their order does not matter."""
        self._warn(partials)
        parts = [part.semantic for part in partials]
        return Scores(
            values=score(_SPEC, parts, self.labels),
            items={part.video_id: score(_SPEC, [part], self.labels) for part in parts},
            classes=class_values(self.labels.distinct_names, score_semantic(parts)),
        )

    def show(self, index: int, num_frames: int) -> Comparison:
        """Read some frames of a video with both maps."""
        video = self.videos[index]
        frames = [int(t) for t in spread([str(t) for t in range(len(video.masks))], num_frames)]
        pairs = [read_pair(video.masks[t], video.predictions[t]) for t in frames]
        true = np.stack([to_labels(pair.true, CODE) for pair in pairs])
        predicted = np.stack([_drawable(pair.predicted, pair.true.shape) for pair in pairs])
        pictures = [_picture_of(video.masks[t]) for t in frames]
        return Comparison(
            truth=SemanticVideo(video_id=video.name, labels=true),
            prediction=SemanticVideo(video_id=video.name, labels=predicted),
            frames=[read_frame(path, true.shape[1:]) for path in pictures],
            labels=self.labels,
        )

    def _warn(self, partials: Sequence[VspwPartial]) -> None:
        videos = [part for part in partials if part.num_outside]
        if videos:
            does = (
                "they count as wrong"
                if _OUTSIDE in self.mends
                else (
                    "as in the official evaluator they fall on cells of other classes; "
                    f"--mend {_OUTSIDE} counts them as wrong"
                )
            )
            pixels = sum(part.num_outside for part in videos)
            logger.warning(
                "vspw: %d labelled pixels of %d videos are not 0..123: %s", pixels, len(videos), does
            )


def open_vspw(gt: Path, pred: Path, options: ScoreOptions) -> VspwCase:
    """List the videos of the split and look for every PNG.

    Raises:
        ValueError: a video of the list, or something predicted, is not there.
    """
    root = gt / "VSPW_480p" if (gt / "VSPW_480p").is_dir() else gt
    videos = tuple(_list_video(root, pred, name) for name in _read_split(root / "val.txt"))
    missing = [
        name
        for video in videos
        for name in name_unpredicted(video.name, [mask.stem for mask in video.masks], video.predictions)
    ]
    return VspwCase(
        labels=builtin_spaces()[SHARED_TABLES["vspw"]].labels,
        videos=videos,
        missing=settle_missing(pred, missing, options.missing),
        mends=options.mends,
    )


def _read_split(path: Path) -> list[str]:
    if not path.is_file():
        raise ValueError(
            f"{path}: not there, expected a list of videos, one a line; take it from the archive"
        )
    lines = (line.strip() for line in path.read_text().splitlines())
    return [line for line in lines if line and not line.startswith(".")]


def _list_video(root: Path, pred: Path, name: str) -> _Video:
    folder = root / "data" / name / "mask"
    names = sorted(path.name for path in folder.glob("[!.]*.png"))
    if not names:
        raise ValueError(f"{folder}: no PNG, expected the masks of a video of val.txt; unpack it again")
    return _Video(name=name, masks=need_pngs(folder, names), predictions=pngs_in(pred / name, names))


def _add_frame(
    meter: ConsistencyMeter, predicted: NDArray[np.uint8] | None, true: NDArray[np.uint8], mask: Path
) -> None:
    try:
        meter.add(predicted, true)
    except ValueError as error:
        raise ValueError(f"{mask}: {error}") from error


def _place_outside(
    matrix: NDArray[np.int64], outside: NDArray[np.int64], video: _Video, *, is_mended: bool
) -> None:
    """Count predicted values that are no class: as the official evaluator does, or as no class."""
    if is_mended:
        matrix[:-1, -1] += outside.sum(axis=1)
        return
    true, above = np.nonzero(outside)
    rows, columns = np.divmod(true * CODE.num_classes + above + CODE.num_classes, CODE.num_classes)
    if rows.size and rows.max() >= CODE.num_classes:
        worst = rows.argmax()
        value = int(above[worst]) + CODE.num_classes
        raise ValueError(
            f"{_first_with(value, video)}: value {value}, in the video on pixels of class "
            f"{true[worst] + CODE.first}, where the official evaluator fails; expected "
            f"0..{CODE.num_classes - 1}; label every pixel, or pass --mend {_OUTSIDE} to count them as wrong"
        )
    np.add.at(matrix, (rows, columns), outside[true, above])


def _first_with(value: int, video: _Video) -> Path | None:
    paths = (path for path in video.predictions if path is not None)
    return next((path for path in paths if (read_indexed(path) == value).any()), None)


def _drawable(predicted: NDArray[np.uint8] | None, size: tuple[int, ...]) -> NDArray[np.int16]:
    if predicted is None:
        return np.full(size, -1, np.int16)
    return np.where(predicted < CODE.num_classes, predicted.astype(np.int16), np.int16(-1))


def _picture_of(mask: Path) -> Path:
    return mask.parent.parent / "origin" / f"{mask.stem}.jpg"


VSPW = OfficialBenchmark(
    name="vspw",
    title="VSPW, semantic segmentation of videos",
    metrics=_SPEC.metrics,
    primary=_SPEC.primary,
    gt_layout="val.txt and data/<video>/mask/<frame>.png, there or in VSPW_480p/",
    pred_layout="<video>/<frame>.png with values 0..123",
    marks=("**/data/*/mask",),
    open=open_vspw,
    mends={
        _VOID: "VC takes 0 and 255 for the one void that they are, as UniVS does",
        _OUTSIDE: "predicted values above 123 count as wrong instead of as other classes",
        _LAST: "VC also measures the last possible window of a video",
    },
)
