"""SA-1B: 11,185,362 images in 1,000 tars, class-less overlapping masks, no split.

- A tar ``sa_000000.tar`` holds ``sa_N.jpg`` and ``sa_N.json`` side by side; it is read in place. Unpacked,
  they lie in one folder, or in ``images/`` and ``annotations/``.
- An annotation has ``id``, ``segmentation`` (compressed run lengths), ``bbox`` [x, y, w, h], ``area``,
  ``predicted_iou``, ``stability_score``, ``crop_box`` (the crop it was found in) and ``point_coords``, the
  points it was prompted with (Segment Anything's dataset card). Boxes are a pixel smaller than the masks.
- Masks overlap and nest. Whole masks of a few tens of pixels are normal and kept; those of area 0 give no
  object, as in SAM 2's own loader, but a warning and an entry in the record's ``extra``.

``item_id`` is the file stem.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from preprocessing.errors import Finding, ItemError, malformed_as_item_error
from preprocessing.masks import mask_area
from preprocessing.sources.files import index_by
from preprocessing.sources.official_fields import extra_json, keep_areas, keep_boxes, located
from preprocessing.sources.pairs import load_annotation, locate_pair, place_name, scan_pairs
from preprocessing.sources.segmentation import measure_segmentations, segmentation_to_rle
from preprocessing.sources.source import ExpectedCounts, Item, SourceSpec, SourceVideo, require_split
from preprocessing.sources.tracks import build_frames
from univs.schema import VISIBLE, ObjectTrack, OfficialPrompt, VideoRecord, canonical_json

_HELD = ("id", "segmentation", "bbox", "area", "predicted_iou", "stability_score", "point_coords")
"""Fields of an annotation that have a place in the record."""


class Sa1b:
    """Reader of the tars, or of what they hold."""

    spec = SourceSpec(
        name="sa_1b",
        task="sot",
        kind="image",
        needs=(
            "sa_*.tar, or sa_*.jpg with sa_*.json side by side, or images/sa_*.jpg with annotations/sa_*.json"
        ),
        expects="11,185,362 images in the whole release; any part of it is fine",
        license="SA-1B Dataset Research License",
        splits=("train",),
        counts={"train": ExpectedCounts(num_items=11_185_362)},
        prompts=("point",),
    )

    def label_space(self, root: Path) -> None:
        """SA-1B masks have no class."""

    def scan(self, root: Path, split: str) -> Iterator[Item]:
        """List every stem that has an image or an annotation, in natural order, tar by tar."""
        require_split(self.spec, split)
        yield from scan_pairs(root, self.spec.needs)

    def read(self, root: Path, split: str, item: Item) -> SourceVideo:
        """Parse the image's own JSON file."""
        image, annotation = locate_pair(root, item)
        file = place_name(annotation, root)
        with located(file), malformed_as_item_error(item.item_id):
            record, findings = _read_record(
                self.spec, split, item.item_id, load_annotation(annotation, item.item_id), file
            )
            return SourceVideo(record=record, frame_paths=(image,), findings=findings)


def _read_record(
    spec: SourceSpec, split: str, item_id: str, body: dict[str, Any], file: str
) -> tuple[VideoRecord, tuple[Finding, ...]]:
    size = int(body["image"]["height"]), int(body["image"]["width"])
    entries = index_by(body["annotations"], "id")
    measure_segmentations((entry.get("segmentation") for entry in entries.values()), *size)
    masks = {i: _read_mask(item_id, place, entries[i], size) for place, i in enumerate(entries)}
    empty = [i for i, rle in masks.items() if mask_area(rle, *size) == 0]
    if masks and len(empty) == len(masks):
        raise ItemError("E113", f"{item_id}: all {len(masks)} masks have area 0", pointer="/annotations")
    kept = sorted(masks.keys() - set(empty))
    record = VideoRecord(
        dataset=spec.name,
        split=split,
        item_id=item_id,
        kind="image",
        height=size[0],
        width=size[1],
        label_space=None,
        frames=build_frames([f"{item_id}.jpg"]),
        objects=tuple(_to_track(n, entries[i], masks[i], size) for n, i in enumerate(kept, start=1)),
        prompts=tuple(p for n, i in enumerate(kept, start=1) for p in _to_prompts(n, entries[i])),
        license=spec.license,
        group=f"{spec.name}:{item_id}",
        extra=_item_extra(body, [entries[i] for i in empty]),
    )
    return record, tuple(
        Finding(
            code="W114",
            message=f"{item_id}: annotation {i}: area 0",
            file=file,
            pointer=f"/annotations/{place}/segmentation",
        )
        for place, i in enumerate(entries)
        if i in empty
    )


def _read_mask(item_id: str, place: int, entry: Mapping[str, Any], size: tuple[int, int]) -> str:
    with located("", f"/annotations/{place}/segmentation"):
        return segmentation_to_rle(entry["segmentation"], *size, f"{item_id}: annotation {entry['id']}")


def _to_track(object_id: int, entry: Mapping[str, Any], rle: str, size: tuple[int, int]) -> ObjectTrack:
    where = f"annotation {entry['id']}"
    return ObjectTrack(
        object_id=object_id,
        source_id=str(entry["id"]),
        category_id=None,
        states=VISIBLE,
        rles=(rle,),
        boxes=keep_boxes([entry["bbox"]] if "bbox" in entry else None, [rle], *size, where),
        areas=keep_areas([entry["area"]] if "area" in entry else None, [rle], *size, where),
        predicted_iou=float(entry["predicted_iou"]) if "predicted_iou" in entry else None,
        stability_score=float(entry["stability_score"]) if "stability_score" in entry else None,
        extra=extra_json(entry, {name: entry[name] for name in _HELD if name in entry}),
    )


def _to_prompts(object_id: int, entry: Mapping[str, Any]) -> Iterator[OfficialPrompt]:
    for x, y in entry.get("point_coords", ()):
        yield OfficialPrompt(kind="point", object_id=object_id, frame_index=0, coordinates=(x, y))


def _item_extra(body: Mapping[str, Any], left_out: list[Mapping[str, Any]]) -> str:
    """Keep what the file says of the image besides its size, and annotations that give no object."""
    image = {name: value for name, value in body["image"].items() if name not in ("height", "width")}
    rest = {name: value for name, value in body.items() if name not in ("image", "annotations")}
    return canonical_json({**rest, "image": image, **({"left_out": left_out} if left_out else {})}).decode()
