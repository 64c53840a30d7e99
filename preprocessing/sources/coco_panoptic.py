"""COCO 2017 panoptic: 118,287 train, 5,000 val and 40,670 test images, 80 thing and 53 stuff classes.

Format, from the panopticapi documentation: a label PNG holds ``id = R + 256 G + 65536 B`` per pixel, 0 is
void, and ``segments_info`` lists exactly the other ids with category, area, box and crowd flag. Category ids
are sparse (1..200). Thing crowds stay objects with their crowd flag. The test split has only an image list,
which names no stuff. ``item_id`` is the image's file stem.
"""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from preprocessing.errors import Finding, ItemError, malformed_as_item_error
from preprocessing.sources.coco_instances import IMAGE_LIST
from preprocessing.sources.coco_json import (
    CocoFiles,
    ImageEntry,
    image_entry,
    image_licenses,
    malformed_as_source_error,
    parse_entry,
    place_by,
    to_items,
    unlisted,
)
from preprocessing.sources.coco_record import LICENSE, file_name, read_record
from preprocessing.sources.coco_segments import add_segments
from preprocessing.sources.files import OfficialFile, load_json
from preprocessing.sources.official_fields import located
from preprocessing.sources.source import ExpectedCounts, Item, SourceSpec, SourceVideo, require_split
from univs.labels import LabelSpace

_FILES = CocoFiles(
    label_space_name="coco_panoptic",
    files={
        split: OfficialFile(
            path=f"annotations/panoptic_{split}2017.json",
            expected="the COCO 2017 panoptic annotations",
            remedy="unzip panoptic_annotations_trainval2017.zip there",
        )
        for split in ("train", "val")
    },
    has_stuff=True,
)


class CocoPanoptic:
    """Reader of ``{train,val}2017/`` with ``annotations/panoptic_{train,val}2017{.json,/}``."""

    spec = SourceSpec(
        name="coco_panoptic",
        task="detection",
        kind="image",
        needs="{train,val,test}2017/*.jpg, annotations/panoptic_{train,val}2017.json with folders of PNGs, "
        "and annotations/image_info_test2017.json",
        expects="118,287 train, 5,000 val and 40,670 test images, 133 categories",
        license=LICENSE,
        splits=("train", "val", "test"),
        counts={
            "train": ExpectedCounts(num_items=118_287),
            "val": ExpectedCounts(num_items=5_000),
            "test": ExpectedCounts(num_items=40_670),
        },
        label_space_name="coco_panoptic",
    )

    def label_space(self, root: Path) -> LabelSpace:
        """Read the categories from the smaller annotation file that is there."""
        return _FILES.label_space(root)

    def scan(self, root: Path, split: str) -> Iterator[Item]:
        """List the images by id; also annotations of unknown images, which ``read`` rejects."""
        require_split(self.spec, split)
        yield from to_items(_load_entries(root, split))

    def read(self, root: Path, split: str, item: Item) -> SourceVideo:
        """Decode the label PNG and match it with ``segments_info``."""
        with located(_official_file(split).path), malformed_as_item_error(item.item_id):
            entry = parse_entry(item.item_id, json.loads(item.payload)["entry"])
            if entry.annotations == []:
                message = f"{item.item_id}: images[] lists it, but no panoptic annotation does"
                raise ItemError("E151", message, pointer=entry.pointer)
            name = file_name(item.item_id, entry)
            bare = replace(entry, annotations=None, annotation_indices=())
            official = {**entry.image, **_leftover(item.item_id, entry)}
            record, _ = read_record(self.spec, split, item.item_id, bare, name, official)
            findings: tuple[Finding, ...] = ()
            if entry.annotations is not None:
                record, findings = add_segments(record, entry, root, f"annotations/panoptic_{split}2017")
            path = root / f"{split}2017" / name
            return SourceVideo(record=record, frame_paths=(path,), findings=findings)


def _official_file(split: str) -> OfficialFile:
    return _FILES.files.get(split, IMAGE_LIST)


def _load_entries(root: Path, split: str) -> dict[int, ImageEntry]:
    official = _official_file(split)
    if split not in _FILES.files:
        body, space = load_json(root, official, ("images",)), None
    else:
        body, space = _FILES.load_body(root, split)
    with malformed_as_source_error(root, official):
        images, licenses = place_by(body["images"], "id"), image_licenses(body)
        groups = place_by(body["annotations"], "image_id") if space else {}
        entries = {}
        for image_id in sorted(images.keys() | groups.keys()):
            group = [groups[image_id]] if image_id in groups else []
            entry = image_entry(official.path, images.get(image_id), licenses, group if space else None)
            unknown = unlisted(_named_categories(entry), space) if space else ()
            entries[image_id] = replace(entry, unknown_categories=unknown)
        return entries


def _named_categories(entry: ImageEntry) -> Iterator[tuple[str, Any]]:
    for index, annotation in zip(entry.annotation_indices, entry.annotations or (), strict=True):
        segments = annotation.get("segments_info")
        # What is no list of objects is left to ``read``, which rejects the one item.
        for position, segment in enumerate(segments if isinstance(segments, list) else ()):
            if isinstance(segment, dict):
                pointer = f"/annotations/{index}/segments_info/{position}/category_id"
                yield pointer, segment.get("category_id")


def _leftover(item_id: str, entry: ImageEntry) -> dict[str, Any]:
    """Keep what the image's annotation says beyond its segments, if it is more than its PNG's usual name."""
    for annotation in entry.annotations or ():
        usual = {"image_id": int(item_id), "file_name": f"{item_id}.png"}
        rest = {name: value for name, value in annotation.items() if usual.get(name) != value}
        rest.pop("segments_info", None)
        return {"annotation": rest} if rest else {}
    return {}
