"""LVIS: over a thousand thing classes on COCO's images, of which each image is checked for some.

v1 has 100,170 train, 19,809 val and 19,822 test images and 1,203 categories; its images have no
``file_name``: the last two parts of ``coco_url`` are folder and file (val has images of COCO's ``train2017``
too). v0.5 has a table of 1,230 categories of its own, which TAO and BURST use, 5,000 val images and names of
COCO 2014 files. There are no crowds: an image lists the categories verified to be absent and those of which
not every instance is annotated; any other that has no object is unknown. Counts of objects are those of the
published annotation files. ``item_id`` is the COCO image id, the frame's name is folder and file.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from preprocessing.errors import malformed_as_item_error
from preprocessing.sources.coco_json import CocoFiles, parse_entry
from preprocessing.sources.coco_record import LICENSE, read_record
from preprocessing.sources.files import OfficialFile
from preprocessing.sources.official_fields import located
from preprocessing.sources.source import ExpectedCounts, Item, SourceSpec, SourceVideo, require_split
from univs.labels import LabelSpace
from univs.schema import Completeness

_LISTS = ("neg_category_ids", "not_exhaustive_category_ids")


@dataclass(frozen=True, kw_only=True, slots=True)
class Lvis:
    """Reader of one version of LVIS."""

    spec: SourceSpec
    files: CocoFiles

    def label_space(self, root: Path) -> LabelSpace:
        """Read the categories from the smallest annotation file that is there."""
        return self.files.label_space(root)

    def scan(self, root: Path, split: str) -> Iterator[Item]:
        """List the images by id; also annotations of unknown images, which ``read`` rejects."""
        require_split(self.spec, split)
        yield from self.files.scan(root, split)

    def read(self, root: Path, split: str, item: Item) -> SourceVideo:
        """Fill the polygons and find the image by its address."""
        with located(self.files.files[split].path), malformed_as_item_error(item.item_id):
            entry = parse_entry(item.item_id, json.loads(item.payload)["entry"])
            with located(entry.file, entry.pointer), malformed_as_item_error(item.item_id):
                name = "/".join(entry.image["coco_url"].split("/")[-2:])
            rest = {field: value for field, value in entry.image.items() if field not in _LISTS}
            record, findings = read_record(self.spec, split, item.item_id, entry, name, rest)
            record = replace(record, completeness=_read_completeness(entry.image))
            return SourceVideo(record=record, frame_paths=(root / name,), findings=findings)


def _read_completeness(image: Mapping[str, Any]) -> Completeness:
    negative, not_exhaustive = (tuple(image.get(field, ())) for field in _LISTS)
    return Completeness(
        is_federated=True,
        negative_category_ids=negative,
        not_exhaustive_category_ids=not_exhaustive,
    )


def _files(label_space_name: str, names: Mapping[str, str]) -> CocoFiles:
    files = {
        split: OfficialFile(path=name, expected="the LVIS annotations", remedy=f"put {name} there")
        for split, name in names.items()
    }
    return CocoFiles(
        label_space_name=label_space_name,
        files=files,
        without_truth=frozenset({"test"}),
        category_lists=_LISTS,
    )


LVIS_V1 = Lvis(
    spec=SourceSpec(
        name="lvis",
        task="detection",
        kind="image",
        needs="{train,val,test}2017/*.jpg of COCO, lvis_v1_{train,val}.json and "
        "lvis_v1_image_info_test_dev.json",
        expects="100,170 train, 19,809 val and 19,822 test images, 1,203 categories",
        license=LICENSE,
        splits=("train", "val", "test"),
        counts={
            "train": ExpectedCounts(num_items=100_170, num_objects=1_270_141),
            "val": ExpectedCounts(num_items=19_809, num_objects=244_707),
            "test": ExpectedCounts(num_items=19_822),
        },
        label_space_name="lvis",
    ),
    files=_files(
        "lvis",
        {
            "train": "lvis_v1_train.json",
            "val": "lvis_v1_val.json",
            "test": "lvis_v1_image_info_test_dev.json",
        },
    ),
)

LVIS_V05 = Lvis(
    spec=SourceSpec(
        name="lvis_v05",
        task="detection",
        kind="image",
        needs="{train,val}2017/*.jpg of COCO and lvis_v0.5_{train,val}.json",
        expects="about 57,000 train and 5,000 val images, 1,230 categories",
        license=LICENSE,
        splits=("train", "val"),
        counts={"val": ExpectedCounts(num_items=5_000)},
        label_space_name="lvis_v0.5",
    ),
    files=_files("lvis_v0.5", {"train": "lvis_v0.5_train.json", "val": "lvis_v0.5_val.json"}),
)
