"""VIPSeg: 2,806 train, 343 val and 387 test videos, 58 thing and 66 stuff classes, each frame labelled.

- A label pixel holds 0 for void, ``class`` for stuff, ``class * 100 + instance`` for things, where ``class``
  is the 0-based id of ``panoVIPSeg_categories.json`` plus 1 and ``instance`` counts from 0. Instances keep
  their value through the video. Values reach 12,499, so the PNGs are read as 16 bits.
- A thing class without instance, or a stuff class times 100, means no more than the class: kept, with a
  warning.
- Frames were taken from VSPW (15 frames per second), every third: file numbers have gaps.
- Masks of the test videos are not published.

Counts: VIPSeg paper and repository. ``item_id`` is the video's folder name.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from preprocessing.errors import malformed_as_item_error
from preprocessing.sources.files import OfficialFile, read_lines, require_safe_name
from preprocessing.sources.label_images import SIXTEEN_BIT_MODES
from preprocessing.sources.source import ExpectedCounts, Item, SourceSpec, SourceVideo, require_split
from preprocessing.sources.tracks import build_frames, build_region, build_tracks
from preprocessing.sources.video_folders import read_dense_video, scan_video_folders
from preprocessing.sources.vipseg_labels import (
    CATEGORY_FILE,
    VOID,
    categories_of,
    find_odd_values,
    read_label_space,
)
from univs.labels import LabelSpace
from univs.schema import VideoRecord

FRAMES_PER_SECOND = 5.0
COUNTS = {
    "train": ExpectedCounts(num_items=2_806, num_frames=66_767),
    "val": ExpectedCounts(num_items=343, num_frames=8_255),
    "test": ExpectedCounts(num_items=387, num_frames=9_728),
}
LISTS = f"{{train,val,test}}.txt and {CATEGORY_FILE}"


@dataclass(frozen=True, kw_only=True, slots=True)
class VipSeg:
    """Reader of a folder of frames and a folder of 16 bit label PNGs per video."""

    spec: SourceSpec
    folder: str = "."
    """Where images and masks lie, if it is there; else they lie in the source folder itself."""
    image_folders: tuple[str, ...] = ("imgs",)
    """Names that the folder of images may have."""

    def label_space(self, root: Path) -> LabelSpace:
        """Read ``panoVIPSeg_categories.json``; ids are 0-based as in the file."""
        return read_label_space(root, "vipseg")

    def scan(self, root: Path, split: str) -> Iterator[Item]:
        """List the split's videos by name."""
        require_split(self.spec, split)
        official = OfficialFile(
            path=f"{split}.txt", expected="the list of video names", remedy="take it from the VIPSeg archive"
        )
        images = self._images(root)
        return scan_video_folders(read_lines(root, official), lambda name: images / name)

    def read(self, root: Path, split: str, item: Item) -> SourceVideo:
        """Decode the video's label PNGs."""
        with malformed_as_item_error(item.item_id):
            return self._read_video(root, split, item)

    def _read_video(self, root: Path, split: str, item: Item) -> SourceVideo:
        name = require_safe_name(item.item_id, item.item_id)
        images = self._images(root) / name
        frame_paths = tuple(images / frame for frame in json.loads(item.payload)["frames"])
        masks = self._base(root) / "panomasks" / name
        has_truth = split != "test" or masks.is_dir()
        labels = read_dense_video(name, frame_paths, masks if has_truth else None, SIXTEEN_BIT_MODES, root)
        space = self.label_space(root)
        files = [(masks / f"{path.stem}.png").relative_to(root).as_posix() for path in frame_paths]
        record = VideoRecord(
            dataset=self.spec.name,
            split=split,
            item_id=name,
            kind="video",
            height=labels.height,
            width=labels.width,
            label_space=space.name,
            frames=build_frames([path.name for path in frame_paths], [has_truth] * len(frame_paths)),
            objects=build_tracks(labels.frames, categories_of(name, labels, space, files)),
            regions=build_region(labels.frames, VOID, "void"),
            ground_truth="full" if has_truth else "none",
            is_partition=has_truth,
            license=self.spec.license,
            group=f"vipseg:{name}",
            frames_per_second=FRAMES_PER_SECOND,
        )
        return SourceVideo(
            record=record,
            frame_paths=frame_paths,
            findings=tuple(find_odd_values(name, labels, space, files)),
        )

    def _base(self, root: Path) -> Path:
        return root / self.folder if (root / self.folder).is_dir() else root

    def _images(self, root: Path) -> Path:
        folders = [self._base(root) / name for name in self.image_folders]
        return next((folder for folder in folders if folder.is_dir()), folders[0])


VIPSEG = VipSeg(
    spec=SourceSpec(
        name="vipseg",
        task="detection",
        kind="video",
        needs=f"imgs/<video>/*.jpg, panomasks/<video>/*.png, {LISTS}",
        expects="2,806 train, 343 val and 387 test videos, 124 categories; test without masks",
        license="VIPSeg non-commercial research",
        splits=("train", "val", "test"),
        counts=COUNTS,
        label_space_name="vipseg",
    )
)
