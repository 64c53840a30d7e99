"""COCO 2017 instances: 118,287 train, 5,000 val and 40,670 test images, 80 thing classes.

Category ids are sparse (1..90) and kept. A ``segmentation`` is polygons, or uncompressed run lengths of a
group where ``iscrowd`` is 1. About 1,000 train and 50 val images have no object and are kept. The test
split has only an image list. Counts of objects are those of the published annotation files. ``item_id`` is
the image's file stem.
"""

import json
from collections.abc import Iterator
from pathlib import Path

from preprocessing.errors import malformed_as_item_error
from preprocessing.sources.coco_json import CocoFiles, parse_entry
from preprocessing.sources.coco_record import LICENSE, file_name, read_record
from preprocessing.sources.files import OfficialFile
from preprocessing.sources.official_fields import located
from preprocessing.sources.source import ExpectedCounts, Item, SourceSpec, SourceVideo, require_split
from univs.labels import LabelSpace

IMAGE_LIST = OfficialFile(
    path="annotations/image_info_test2017.json",
    expected="the COCO 2017 list of test images",
    remedy="unzip image_info_test2017.zip there",
)
_ANNOTATED = {
    split: OfficialFile(
        path=f"annotations/instances_{split}2017.json",
        expected="the COCO 2017 instance annotations",
        remedy="unzip annotations_trainval2017.zip there",
    )
    for split in ("train", "val")
}
_FILES = CocoFiles(
    label_space_name="coco",
    files={**_ANNOTATED, "test": IMAGE_LIST},
    without_truth=frozenset({"test"}),
)


class CocoInstances:
    """Reader of ``{train,val,test}2017/`` with ``annotations/instances_{train,val}2017.json``."""

    spec = SourceSpec(
        name="coco_instances",
        task="detection",
        kind="image",
        needs="{train,val,test}2017/*.jpg, annotations/instances_{train,val}2017.json and "
        "image_info_test2017.json",
        expects="118,287 train, 5,000 val and 40,670 test images, 80 categories",
        license=LICENSE,
        splits=("train", "val", "test"),
        counts={
            "train": ExpectedCounts(num_items=118_287, num_objects=860_001),
            "val": ExpectedCounts(num_items=5_000, num_objects=36_781),
            "test": ExpectedCounts(num_items=40_670),
        },
        label_space_name=_FILES.label_space_name,
    )

    def label_space(self, root: Path) -> LabelSpace:
        """Read the categories from the smallest annotation file that is there."""
        return _FILES.label_space(root)

    def scan(self, root: Path, split: str) -> Iterator[Item]:
        """List the images by id; also annotations of unknown images, which ``read`` rejects."""
        require_split(self.spec, split)
        yield from _FILES.scan(root, split)

    def read(self, root: Path, split: str, item: Item) -> SourceVideo:
        """Fill the polygons and compress the run lengths."""
        with located(_FILES.files[split].path), malformed_as_item_error(item.item_id):
            entry = parse_entry(item.item_id, json.loads(item.payload)["entry"])
            name = file_name(item.item_id, entry)
            record, findings = read_record(self.spec, split, item.item_id, entry, name)
            path = root / f"{split}2017" / name
            return SourceVideo(record=record, frame_paths=(path,), findings=findings)
