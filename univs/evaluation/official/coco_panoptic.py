"""Panoptic quality (PQ) of images, in the format of COCO panoptic: COCO itself, and ADE20K converted to it.

Ground truth: ``panoptic_<split>.json`` with a folder of PNGs of the same name beside it, in ``--gt`` or in
``--gt/annotations``. Predictions: a JSON file, again with a folder of its name. Rows are paired by
``image_id``; each names its PNG in ``file_name``. As in panopticapi, areas of true segments are the JSON's.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from univs.evaluation.benchmarks import BENCHMARKS, score
from univs.evaluation.official.case import Comparison, OfficialBenchmark, ScoreOptions, Scores, in_percent
from univs.evaluation.official.files import field_of, name_some, read_json, settle_missing
from univs.evaluation.official.panoptic_files import (
    AREAS,
    NOTHING,
    PanopticItem,
    PanopticSide,
    index_rows,
    match_segments,
    need_pngs,
    pair_segments,
    pngs_in,
    read_label_space,
    refuse_unknown,
    show_item,
)
from univs.evaluation.panoptic import PanopticPartial, WindowQuality, score_panoptic
from univs.labels import LabelSpace

_SPEC = BENCHMARKS["coco_panoptic"]


@dataclass(frozen=True, kw_only=True, slots=True)
class CocoPanopticCase:
    """Opened panoptic images."""

    photos: Path
    """Folder of the pictures themselves; not needed."""
    labels: LabelSpace
    images: tuple[PanopticItem, ...]
    missing: tuple[str, ...]
    mends: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Ids of the images."""
        return tuple(image.name for image in self.images)

    def compare(self, index: int) -> PanopticPartial:
        """Match the segments of one image."""
        image = self.images[index]
        pairs = pair_segments(image, self.labels, count_areas=AREAS in self.mends)
        return match_segments(image, pairs, self.labels)

    def score(self, partials: Sequence[PanopticPartial]) -> Scores:
        """Merge the images; their order does not matter."""
        (quality,) = score_panoptic(partials, self.labels.is_thing)
        return Scores(
            values=score(_SPEC, partials, self.labels),
            items={part.video_id: score(_SPEC, [part], self.labels) for part in partials},
            classes=_class_values(self.labels.distinct_names, quality),
        )

    def show(self, index: int, num_frames: int) -> Comparison:
        """Read an image with both maps."""
        image = self.images[index]
        name = Path(image.truth.rows[0]["file_name"]).with_suffix(".jpg")
        return show_item(image, self.labels, num_frames, (self.photos / name,))


def open_coco_panoptic(
    gt: Path, pred: Path, options: ScoreOptions, *, name: str, prefix: str
) -> CocoPanopticCase:
    """Read both indexes, pair their images and look for every PNG.

    Args:
        gt: Folder of the ground truth.
        pred: Folder of the predictions.
        options: What is missing, and what to mend.
        name: Name of the benchmark.
        prefix: How the JSON file of the ground truth begins.

    Raises:
        ValueError: a file does not hold what it should.
    """
    index, ours = _index_of((gt / "annotations", gt), f"{prefix}*.json"), _index_of((pred,), "*.json")
    body = read_json(index)
    rows, found = index_rows(body, "image_id", index), index_rows(read_json(ours), "image_id", ours)
    refuse_unknown(ours, found, rows, "image_id")
    true_pngs = dict(zip(rows, need_pngs(index.with_suffix(""), _file_names(rows, index)), strict=True))
    pngs = dict(zip(found, pngs_in(ours.with_suffix(""), _file_names(found, ours)), strict=True))
    images = tuple(
        PanopticItem(
            name=str(number),
            truth=_side(index, row, true_pngs[number]),
            prediction=_side(ours, found.get(number, NOTHING), pngs.get(number)),
        )
        for number, row in rows.items()
    )
    missing = [image.name for image in images if image.prediction.pngs == (None,)]
    return CocoPanopticCase(
        photos=gt / index.stem.removeprefix(prefix),
        labels=read_label_space(body, name, index),
        images=images,
        missing=settle_missing(pred, missing, options.missing),
        mends=options.mends,
    )


def _side(source: Path, row: Mapping[str, Any], png: Path | None) -> PanopticSide:
    return PanopticSide(source=source, rows=(row if png else NOTHING,), pngs=(png,))


def _index_of(folders: Sequence[Path], pattern: str) -> Path:
    """Find the one JSON file with a folder of its name."""
    found = [
        path for folder in folders for path in sorted(folder.glob(pattern)) if path.with_suffix("").is_dir()
    ]
    validation = [path for path in found if "_val" in path.stem]
    chosen = validation if len(validation) == 1 else found
    if len(chosen) != 1:
        raise ValueError(
            f"{folders[-1]}: {len(found)} files {pattern} with a folder of PNGs of the same name"
            f"{': ' + name_some([path.name for path in found]) if found else ''}, expected one"
        )
    return chosen[0]


def _file_names(rows: Mapping[Any, Mapping[str, Any]], path: Path) -> list[str]:
    return [field_of(row, "file_name", str, f"{path}: image_id {number}") for number, row in rows.items()]


def _class_values(names: Sequence[str], quality: WindowQuality) -> dict[str, dict[str, float]]:
    columns = {"pq": quality.class_pq, "sq": quality.class_sq, "rq": quality.class_rq}
    return {
        name: in_percent({metric: float(column[label]) for metric, column in columns.items()})
        for label, name in enumerate(names)
        if quality.class_pq[label] >= 0
    }


def _benchmark(name: str, title: str, prefix: str) -> OfficialBenchmark:
    opening: Callable[[Path, Path, ScoreOptions], CocoPanopticCase] = partial(
        open_coco_panoptic, name=name, prefix=prefix
    )
    return OfficialBenchmark(
        name=name,
        title=title,
        metrics=_SPEC.metrics,
        primary=_SPEC.primary,
        gt_layout=f"{prefix}<split>.json and {prefix}<split>/*.png, there or in annotations/",
        pred_layout="NAME.json and NAME/*.png",
        marks=(f"**/{prefix}*.json",),
        open=opening,
        mends={AREAS: "areas of true segments are counted in their PNGs instead of taken from the JSON"},
    )


COCO_PANOPTIC = _benchmark("coco_panoptic", "COCO panoptic segmentation", "panoptic_")
ADE20K_PANOPTIC = _benchmark("ade20k_panoptic", "ADE20K panoptic segmentation", "ade20k_panoptic_")
