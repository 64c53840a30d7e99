"""EntitySeg v1.0: 31,913 train and 1,314 val images of high resolution, 644 classes of things and stuff.

- Files in COCO's schema, run lengths, with a ``type`` of thing or stuff in the categories, ids 0..643 where 0
  is "unknown" (the repositories of EntitySeg-Dataset and Entity): one file of all images, or three parts. The
  parts may name images without their folder ``entity_0N_*``. Image ids are unique in a file only.
- ``*_lr.json`` belong to ``images_lr``: short side 800, long side 1333 at most, masks to the nearest pixel.
- Masks are at the size in the JSON. An image of another size, as many copies hold, is rejected (E103): its
  bytes are stored as they are, and masks that were scaled to it would be no official ground truth. Both
  resolutions are published, so the pair that belongs together can be had.
- Where an annotation has ``category_id_ori``, that is its class, and ``category_id`` only says "entity".

``item_id`` is the image's path in the image folder, without suffix.
"""

import json
from collections.abc import Iterator
from pathlib import Path

from preprocessing.errors import MissingFileError, malformed_as_item_error
from preprocessing.sources.coco_json import parse_entry
from preprocessing.sources.coco_record import read_objects
from preprocessing.sources.entityseg_files import find_files, parse_label_space, scan_file
from preprocessing.sources.files import OfficialFile, load_json, require_safe_name
from preprocessing.sources.official_fields import extra_json, located
from preprocessing.sources.source import ExpectedCounts, Item, SourceSpec, SourceVideo, require_split
from preprocessing.sources.tracks import build_frames
from univs.labels import LabelSpace
from univs.schema import VideoRecord


class EntitySeg:
    """Reader of one resolution: the original's files are preferred to those of ``images_lr``."""

    spec = SourceSpec(
        name="entityseg",
        task="detection",
        kind="image",
        needs=(
            "annotations/entity_segmentation/entityv2_{010203,01,02,03}_entity_{train,val}.json or "
            "annotations/entityseg_train_{01,02,03}.json with images/entity_0*/, or *_lr.json with images_lr/"
        ),
        expects="31,913 train and 1,314 val images, 644 categories",
        license="Adobe Research License, non-commercial (annotations); images under their own licenses",
        splits=("train", "val"),
        counts={"train": ExpectedCounts(num_items=31_913), "val": ExpectedCounts(num_items=1_314)},
        label_space_name="entityseg_panoptic",
    )

    def label_space(self, root: Path) -> LabelSpace:
        """Read the categories from the smallest file that is there."""
        files = [file for split in self.spec.splits for file in _files_if_any(root, split)]
        files = files or list(find_files(root, "train").files)
        official = min(files, key=lambda file: (root / file.path).stat().st_size)
        return parse_label_space(root, official, load_json(root, official, ("categories",)))

    def scan(self, root: Path, split: str) -> Iterator[Item]:
        """List the images file by file, by id; annotations of an unlisted image make an item too."""
        require_split(self.spec, split)
        found, space = find_files(root, split), self.label_space(root)
        for official in found.files:
            yield from scan_file(root, official, found.images, space)

    def read(self, root: Path, split: str, item: Item) -> SourceVideo:
        """Turn the image's entries into objects."""
        payload = json.loads(item.payload)
        with malformed_as_item_error(item.item_id):
            entry = parse_entry(item.item_id, payload["entry"])
            with located(entry.file, f"/images/{entry.image_index}"):
                name = require_safe_name(item.item_id, payload["name"])
            size = int(entry.image["height"]), int(entry.image["width"])
            objects, left_out, findings = read_objects(item.item_id, entry, size)
            official = {**entry.image, "left_out": left_out}
            record = VideoRecord(
                dataset=self.spec.name,
                split=split,
                item_id=item.item_id,
                kind="image",
                height=size[0],
                width=size[1],
                label_space=self.spec.label_space_name,
                frames=build_frames([name]),
                objects=objects,
                license=self.spec.license,
                group=f"{self.spec.name}:{item.item_id}",
                extra=extra_json(
                    official, {"height": size[0], "width": size[1], "file_name": name, "left_out": []}
                ),
            )
            return SourceVideo(
                record=record, frame_paths=(root / payload["images"] / name,), findings=findings
            )


def _files_if_any(root: Path, split: str) -> tuple[OfficialFile, ...]:
    try:
        return find_files(root, split).files
    except MissingFileError:
        return ()
