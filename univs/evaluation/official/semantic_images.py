"""Semantic segmentation of images with the formulas of detectron2: mIoU, fwIoU, mACC, pACC.

Ground truth: one gray PNG per image. Predictions: a PNG of the same name in ``--pred`` with classes from 0.

- ADE20K: ``annotations/validation/*.png`` as released, 0 "other" and 1..150, or detectron2's
  ``annotations_detectron2/validation/*.png``, 0..149 and 255.
- COCO: the panoptic annotations as classes, ``panoptic_semseg_<split>/*.png`` as Mask2Former prepares them or
  any folder named like it, 0..132 and 255.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from univs.evaluation.confusion import to_confusion
from univs.evaluation.official.case import Comparison, OfficialBenchmark, ScoreOptions, Scores, in_percent
from univs.evaluation.official.files import name_some, read_frame, settle_missing
from univs.evaluation.official.label_files import (
    NUM_BYTES,
    LabelCode,
    add_values,
    class_values,
    read_pair,
    to_labels,
    to_matrix,
)
from univs.evaluation.official.panoptic_files import pngs_in
from univs.evaluation.semantic import SemanticPartial, SemanticScores, score_semantic
from univs.label_spaces import builtin_spaces
from univs.labels import LabelSpace
from univs.predictions import SemanticVideo

_METRICS = ("miou", "fwiou", "macc", "pacc")


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelFolder:
    """One way in which a benchmark's ground truth is stored."""

    pattern: str
    """Of the folder, relative to ``--gt``."""
    code: LabelCode


@dataclass(frozen=True, kw_only=True, slots=True)
class SemanticImagesCase:
    """Opened label images."""

    labels: LabelSpace
    code: LabelCode
    masks: tuple[Path, ...]
    predictions: tuple[Path | None, ...]
    missing: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """File stems of the images."""
        return tuple(mask.stem for mask in self.masks)

    def compare(self, index: int) -> SemanticPartial:
        """Count the classes of one image."""
        mask, prediction = self.masks[index], self.predictions[index]
        histogram = np.zeros((NUM_BYTES, NUM_BYTES + 1), np.int64)
        add_values(histogram, read_pair(mask, prediction), self.code, mask)
        matrix, outside = to_matrix(histogram, self.code)
        wrong = np.flatnonzero(outside.any(axis=0)) + self.code.num_classes
        if wrong.size:
            raise ValueError(
                f"{prediction}: labelled pixels have values {name_some([*map(str, wrong)])}, expected "
                f"0..{self.code.num_classes - 1}; give every pixel a class"
            )
        return SemanticPartial(video_id=mask.stem, confusion=to_confusion(matrix))

    def score(self, partials: Sequence[SemanticPartial]) -> Scores:
        """Merge the images; their order does not matter."""
        scores = score_semantic(partials)
        return Scores(
            values=_values(scores),
            items={part.video_id: _values(score_semantic([part])) for part in partials},
            classes=class_values(self.labels.distinct_names, scores),
        )

    def show(self, index: int, num_frames: int) -> Comparison:
        """Read an image with both maps; the photos are not part of the layout."""
        pair = read_pair(self.masks[index], self.predictions[index])
        true = to_labels(pair.true, self.code)[None]
        predicted = np.full_like(true, -1)
        if pair.predicted is not None:
            predicted[0] = np.where(pair.predicted < self.code.num_classes, pair.predicted, predicted[0])
        name = self.names[index]
        return Comparison(
            truth=SemanticVideo(video_id=name, labels=true),
            prediction=SemanticVideo(video_id=name, labels=predicted),
            frames=[read_frame(None, pair.true.shape)],
            labels=self.labels,
        )


def open_semantic_images(
    gt: Path, pred: Path, options: ScoreOptions, *, table: str, folders: tuple[LabelFolder, ...]
) -> SemanticImagesCase:
    """List the images of the ground truth and look for each prediction.

    Args:
        gt: Folder of the ground truth.
        pred: Folder of the predictions.
        options: What is missing, and what to mend.
        table: Built-in label space.
        folders: Where the ground truth may lie, the first found counts.

    Raises:
        ValueError: there is no ground truth, or something is not predicted.
    """
    found = [
        (path, entry.code) for entry in folders for path in sorted(gt.glob(entry.pattern)) if path.is_dir()
    ]
    if not found:
        raise ValueError(f"{gt}: no folder {' or '.join(entry.pattern for entry in folders)}")
    folder, code = found[0]
    names = sorted(path.name for path in folder.glob("*.png"))
    predictions = pngs_in(pred, names) if _has_pngs(pred) else pngs_in(pred / folder.name, names)
    missing = [Path(name).stem for name, path in zip(names, predictions, strict=True) if path is None]
    return SemanticImagesCase(
        labels=builtin_spaces()[table].labels,
        code=code,
        masks=tuple(folder / name for name in names),
        predictions=predictions,
        missing=settle_missing(pred, missing, options.missing),
    )


def _has_pngs(folder: Path) -> bool:
    return any(True for _ in folder.glob("*.png"))


def _values(scores: SemanticScores) -> dict[str, float]:
    values = (scores.miou, scores.fwiou, scores.macc, scores.pacc)
    return in_percent(dict(zip(_METRICS, values, strict=True)))


def _benchmark(
    name: str, title: str, table: str, folders: tuple[LabelFolder, ...], mark: str
) -> OfficialBenchmark:
    opening: Callable[[Path, Path, ScoreOptions], SemanticImagesCase] = partial(
        open_semantic_images, table=table, folders=folders
    )
    last = folders[0].code.num_classes - 1
    return OfficialBenchmark(
        name=name,
        title=title,
        metrics=_METRICS,
        primary="miou",
        gt_layout=" or ".join(f"{entry.pattern}/*.png" for entry in folders),
        pred_layout=f"*.png with values 0..{last}, there or in a folder named like the ground truth's",
        marks=(mark,),
        open=opening,
    )


ADE20K = _benchmark(
    "ade20k",
    "ADE20K, semantic segmentation of images",
    "ade20k",
    (
        LabelFolder(pattern="annotations/validation", code=LabelCode(num_classes=150, first=1, void=(0,))),
        LabelFolder(
            pattern="annotations_detectron2/validation", code=LabelCode(num_classes=150, first=0, void=(255,))
        ),
    ),
    "annotations*/validation",
)
COCO_SEMANTIC = _benchmark(
    "coco_semantic",
    "COCO, semantic segmentation of images by the panoptic classes",
    "coco_panoptic",
    (LabelFolder(pattern="*semseg*", code=LabelCode(num_classes=133, first=0, void=(255,))),),
    "*semseg*",
)
