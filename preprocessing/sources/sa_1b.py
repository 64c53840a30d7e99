"""SA-1B: 11,185,362 images in 1,000 tars, class-less overlapping masks, no split.

A tar holds ``sa_N.jpg`` and ``sa_N.json`` side by side; many people keep them in ``images/`` and
``annotations/``. Both layouts are read. Whole masks of a few tens of pixels are normal and kept; masks of
area 0 are left out with a warning, as SAM 2's own loader does. ``item_id`` is the file stem.
"""

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from preprocessing.errors import ItemError, SourceError, malformed_as_item_error
from preprocessing.masks import mask_area
from preprocessing.sources.files import index_by, list_names, require_root, to_payload
from preprocessing.sources.segmentation import segmentation_to_rle
from preprocessing.sources.source import Item, SourceSpec, SourceVideo, require_split
from preprocessing.sources.tracks import build_frames
from univs.schema import VISIBLE, ObjectTrack, VideoRecord

logger = logging.getLogger(__name__)


class Sa1b:
    """Reader of ``*.jpg`` with ``*.json`` side by side, or in ``images/`` and ``annotations/``."""

    spec = SourceSpec(
        name="sa_1b",
        task="sot",
        kind="image",
        needs="sa_*.jpg with sa_*.json side by side, or images/sa_*.jpg with annotations/sa_*.json",
        expects="11,185,362 images in the whole release; any part of it is fine",
        license="SA-1B Dataset Research License",
        splits=("train",),
    )

    def label_space(self, root: Path) -> None:
        """SA-1B masks have no class."""

    def scan(self, root: Path, split: str) -> Iterator[Item]:
        """List every stem that has an image or an annotation, in natural order."""
        require_split(self.spec, split)
        images, annotations = _folders(root)
        stems = {Path(name).stem for name in list_names(images, ".jpg")}
        stems |= {Path(name).stem for name in list_names(annotations, ".json")}
        if not stems:
            raise SourceError(
                f"--source {root}: no *.jpg found; expected {self.spec.needs}; unpack a tar there"
            )
        for stem in sorted(stems, key=lambda stem: (len(stem), stem)):
            yield Item(item_id=stem, num_frames=1, payload=to_payload(stem=stem))

    def read(self, root: Path, split: str, item: Item) -> SourceVideo:
        """Parse the image's own JSON file."""
        with malformed_as_item_error(item.item_id):
            images, annotations = _folders(root)
            body = _load_annotation(annotations / f"{item.item_id}.json", item.item_id)
            height, width = int(body["image"]["height"]), int(body["image"]["width"])
            record = VideoRecord(
                dataset=self.spec.name,
                split=split,
                item_id=item.item_id,
                kind="image",
                height=height,
                width=width,
                label_space=None,
                frames=build_frames([f"{item.item_id}.jpg"]),
                objects=_read_objects(item.item_id, body["annotations"], height, width),
                license=self.spec.license,
            )
            return SourceVideo(record=record, frame_paths=(images / f"{item.item_id}.jpg",))


def _folders(root: Path) -> tuple[Path, Path]:
    require_root(root)
    if (root / "images").is_dir():
        return root / "images", root / "annotations"
    return root, root


def _load_annotation(path: Path, item_id: str) -> Any:
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise ItemError(
            "E151", f"{item_id}: {path.name} not found; expected one beside each image"
        ) from error
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ItemError(
            "E100", f"{item_id}: {path.name} ({len(content)} bytes) is not JSON: {error}"
        ) from error


def _read_objects(item_id: str, entries: list[Any], height: int, width: int) -> tuple[ObjectTrack, ...]:
    masks = {
        source_id: segmentation_to_rle(
            entry["segmentation"], height, width, f"{item_id}: annotation {source_id}"
        )
        for source_id, entry in index_by(entries, "id").items()
    }
    kept = [i for i in sorted(masks) if mask_area(masks[i], height, width) > 0]
    if masks and not kept:
        raise ItemError("E113", f"{item_id}: all {len(masks)} masks have area 0")
    if len(kept) < len(masks):
        logger.warning(
            "%s: %d of %d masks have area 0, left out", item_id, len(masks) - len(kept), len(masks)
        )
    return tuple(
        ObjectTrack(object_id=index, source_id=str(i), category_id=None, states=VISIBLE, rles=(masks[i],))
        for index, i in enumerate(kept, start=1)
    )
