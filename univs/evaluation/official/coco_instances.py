"""COCO instance segmentation: average precision and recall of masks, as pycocotools computes them.

Ground truth: ``instances_val2017.json`` (images, categories, annotations). Predictions: a list of masks, each
with ``image_id``, ``category_id``, ``score`` and ``segmentation``. Masks are run lengths or polygons.

An image without any mask is not missing: a detector may find nothing. Such images are listed all the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from univs.evaluation.instance import COCO_RULES, InstancePartial, evaluate_instances, metric_names
from univs.evaluation.official.case import Case, Comparison, OfficialBenchmark, ScoreOptions, Scores
from univs.evaluation.official.coco_style import (
    NUMBER,
    Item,
    Row,
    merge_instances,
    read_files,
    read_masks,
)
from univs.evaluation.official.files import field_of, find_json, read_frame
from univs.labels import LabelSpace
from univs.predictions import InstanceTrack, InstanceVideo

_GT_NAMES = ("instances_val2017.json", "instances_val.json", "instances.json")
_PRED_NAMES = ("instances_results.json", "coco_instances_results.json", "results.json")
_BOX_LENGTH = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class CocoInstancesCase:
    """An opened case of instance segmentation."""

    gt: Path
    """The file, as ``pred``."""
    pred: Path
    labels: LabelSpace
    images: tuple[Item, ...]
    mends: frozenset[str]
    have_boxes: bool
    """Whether the predictions have boxes, whose areas are then taken for those of the masks."""

    @property
    def names(self) -> tuple[str, ...]:
        """Ids of the images."""
        return tuple(str(image.item_id) for image in self.images)

    @property
    def missing(self) -> tuple[str, ...]:
        """Images in which nothing is detected."""
        return tuple(str(image.item_id) for image in self.images if not image.detections)

    def compare(self, index: int) -> InstancePartial:
        """Match the detections of one image."""
        truth, prediction = self._sides(self.images[index])
        return evaluate_instances(prediction, truth, COCO_RULES, (str(self.pred), str(self.gt)))

    def score(self, partials: Sequence[InstancePartial]) -> Scores:
        """Merge the images; their order does not matter."""
        return merge_instances(partials, COCO_RULES, self.labels)

    def show(self, index: int, num_frames: int) -> Comparison:
        """Give the image with all masks."""
        del num_frames
        image = self.images[index]
        truth, prediction = self._sides(image)
        frame = read_frame(self.gt.parent / "val2017" / image.file_names[0], (image.height, image.width))
        return Comparison(truth=truth, prediction=prediction, frames=[frame], labels=self.labels)

    def _sides(self, image: Item) -> tuple[InstanceVideo, InstanceVideo]:
        truths = _read_masks(image, image.truths, f"{self.gt}: annotation")
        found = _read_masks(image, image.detections, f"{self.pred}: item")
        truth, prediction = (
            InstanceVideo(
                video_id=str(image.item_id), height=image.height, width=image.width, tracks=tuple(tracks)
            )
            for tracks in (
                [self._truth(*row, mask) for row, mask in zip(image.truths, truths, strict=True)],
                [self._detection(*row, mask) for row, mask in zip(image.detections, found, strict=True)],
            )
        )
        return truth, prediction

    def _truth(self, place: int, row: Row, mask: str | None) -> InstanceTrack:
        believed = "area" in row and "stated-areas" not in self.mends
        return InstanceTrack(
            label=self.labels.label_of[row["category_id"]],
            score=1.0,
            rles=(mask,),
            is_crowd=bool(row.get("iscrowd", 0)),
            area=float(field_of(row, "area", NUMBER, f"{self.gt}: annotation {place}")) if believed else None,
            is_findable=row["id"] != 0 or "truth-id-0" in self.mends,
        )

    def _detection(self, place: int, row: Row, mask: str | None) -> InstanceTrack:
        believed = self.have_boxes and "box-areas" not in self.mends
        return InstanceTrack(
            label=self.labels.label_of[row["category_id"]],
            score=float(row["score"]),
            rles=(mask,),
            area=_box_area(row, f"{self.pred}: item {place}") if believed else None,
        )


def open_coco_instances(gt: Path, pred: Path, options: ScoreOptions) -> Case:
    """Read both files and group their masks by image."""
    gt, pred = (
        find_json(gt, _GT_NAMES, "the annotations"),
        find_json(pred, _PRED_NAMES, "the predicted masks"),
    )
    files = read_files(gt, pred, "coco", "image")
    return CocoInstancesCase(
        gt=gt,
        pred=pred,
        labels=files.labels,
        images=files.items,
        mends=frozenset(options.mends),
        have_boxes=bool(files.found and files.found[0].get("bbox")),
    )


def _read_masks(image: Item, rows: Sequence[tuple[int, Row]], where: str) -> tuple[str | None, ...]:
    masks = [row.get("segmentation") for _, row in rows]
    if None in masks:
        place, row = rows[masks.index(None)]
        field_of(row, "segmentation", (dict, list), f"{where} {place}")
    return read_masks(masks, [image.height, image.width], lambda n: f"{where} {rows[n][0]}")


def _box_area(row: Row, where: str) -> float:
    box = field_of(row, "bbox", list, where)
    if len(box) != _BOX_LENGTH or not all(isinstance(side, NUMBER) for side in box):
        raise ValueError(f"{where}: 'bbox' is {box!r:.80}, expected [x, y, width, height]")
    return float(box[2] * box[3])


COCO_INSTANCES = OfficialBenchmark(
    name="coco_instances",
    title="COCO, instance segmentation",
    metrics=metric_names(COCO_RULES),
    primary="map",
    gt_layout="instances_val2017.json with images, categories and annotations",
    pred_layout="instances_results.json, a list of masks",
    marks=("instances*.json",),
    open=open_coco_instances,
    mends={
        "box-areas": "areas of detections are counted in their masks; officially those of their boxes, if "
        "they have some, decide which detections are small",
        "stated-areas": "areas of truth are counted in its masks; officially 'area' is believed",
        "truth-id-0": "truth of id 0 can be found; officially what finds it is a false alarm",
    },
)
