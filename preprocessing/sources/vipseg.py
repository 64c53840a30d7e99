"""VIPSeg: 2,806 train and 343 val videos, 58 thing and 66 stuff classes, panoptic labels on every frame.

A label pixel holds 0 for void, ``class`` for stuff, ``class * 100 + instance`` for things, where ``class`` is
the 0-based id of ``panoVIPSeg_categories.json`` plus 1; instances keep their value through the video. Values
reach 12,499, so the PNGs are read as 16 bits. Frame numbers have gaps (frames were taken from VSPW).
"""

import json
import logging
from collections.abc import Iterator
from pathlib import Path

from preprocessing.errors import ItemError, SourceError, malformed_as_item_error
from preprocessing.sources.files import OfficialFile, list_names, load_json, read_lines, require_safe_name
from preprocessing.sources.label_images import SIXTEEN_BIT_MODES
from preprocessing.sources.source import Item, SourceSpec, SourceVideo, require_split
from preprocessing.sources.tracks import build_frames, build_region, build_tracks
from preprocessing.sources.video_folders import (
    LabelVideo,
    read_label_video,
    require_dense_labels,
    scan_video_folders,
)
from univs.labels import Category, LabelSpace
from univs.schema import VideoRecord

logger = logging.getLogger(__name__)

VOID = 0
_INSTANCES_PER_CLASS = 100
_CATEGORIES = OfficialFile(
    path="panoVIPSeg_categories.json",
    expected="the list of 124 categories with id, name and isthing",
    remedy="take it from the VIPSeg repository",
)


class VipSeg:
    """Reader of ``imgs/<video>/*.jpg`` with ``panomasks/<video>/*.png``."""

    spec = SourceSpec(
        name="vipseg",
        task="detection",
        kind="video",
        needs="imgs/<video>/*.jpg, panomasks/<video>/*.png, {train,val}.txt and panoVIPSeg_categories.json",
        expects="2,806 train and 343 val videos, 124 categories",
        license="VIPSeg non-commercial research",
        splits=("train", "val"),
    )

    def label_space(self, root: Path) -> LabelSpace:
        """Read ``panoVIPSeg_categories.json``; ids are 0-based as in the file."""
        body = load_json(root, _CATEGORIES)
        try:
            rows = sorted((int(row["id"]), str(row["name"]), bool(row["isthing"])) for row in body)
            categories = tuple(Category(category_id=i, name=n, is_thing=t) for i, n, t in rows)
            return LabelSpace(name="vipseg", categories=categories)
        except (KeyError, TypeError, ValueError) as error:
            raise SourceError(
                f"--source {root}: {_CATEGORIES.path} is malformed ({type(error).__name__}: {error}); "
                f"expected {_CATEGORIES.expected}; {_CATEGORIES.remedy}"
            ) from error

    def scan(self, root: Path, split: str) -> Iterator[Item]:
        """List the split's videos by name."""
        require_split(self.spec, split)
        official = OfficialFile(
            path=f"{split}.txt", expected="the list of video names", remedy="take it from the VIPSeg archive"
        )
        return scan_video_folders(read_lines(root, official), lambda name: root / "imgs" / name)

    def read(self, root: Path, split: str, item: Item) -> SourceVideo:
        """Decode the video's label PNGs."""
        with malformed_as_item_error(item.item_id):
            return self._read_video(root, split, item)

    def _read_video(self, root: Path, split: str, item: Item) -> SourceVideo:
        name = require_safe_name(item.item_id, item.item_id)
        frames: list[str] = json.loads(item.payload)["frames"]
        require_dense_labels(name, frames, list_names(root / "panomasks" / name, ".png"))
        space = self.label_space(root)
        paths = [root / "panomasks" / name / f"{Path(frame).stem}.png" for frame in frames]
        labels = read_label_video(paths, name, SIXTEEN_BIT_MODES)
        record = VideoRecord(
            dataset=self.spec.name,
            split=split,
            item_id=name,
            kind="video",
            height=labels.height,
            width=labels.width,
            label_space=space.name,
            frames=build_frames(frames),
            objects=build_tracks(labels.frames, _categories_of(name, labels, space)),
            regions=build_region(labels.frames, VOID, "void"),
            is_partition=True,
            license=self.spec.license,
        )
        return SourceVideo(record=record, frame_paths=tuple(root / "imgs" / name / frame for frame in frames))


def category_of_value(value: int, space: LabelSpace) -> int | None:
    """Give the category id of a non-void pixel value, ``None`` if the value is illegal."""
    is_bare = value <= max(space.label_of) + 1
    category_id = (value if is_bare else value // _INSTANCES_PER_CLASS) - 1
    if category_id not in space.label_of:
        return None
    is_thing = space.categories[space.label_of[category_id]].is_thing
    return category_id if is_bare or is_thing else None


def _categories_of(name: str, labels: LabelVideo, space: LabelSpace) -> dict[int, int | None]:
    values = sorted(labels.values - {VOID})
    categories = {value: category_of_value(value, space) for value in values}
    for value, category_id in categories.items():
        if category_id is None:
            raise ItemError(
                "E132",
                f"{name}: value {value}: not void, not a class 1..{max(space.label_of) + 1}, "
                "not thing class * 100 + instance",
            )
        if value <= max(space.label_of) + 1 and space.categories[space.label_of[category_id]].is_thing:
            logger.warning("%s: thing class %d without an instance number, kept as one object", name, value)
    return categories
