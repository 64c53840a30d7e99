"""MOSE: 1,507 train, 311 valid and 331 test videos of crowded scenes, 5,200 objects in all, without classes.

``{train,valid,test}/{JPEGImages,Annotations}/<video>/%05d.{jpg,png}``, palette PNGs of object ids, no
``meta.json`` and no category file: the 36 categories of the paper are not published. Train is annotated in
every frame, 431,725 masks with those kept by the server; valid and test only in frame 0, so objects are
unknown elsewhere and are prompted by their first mask. A copy of valid with a PNG for every frame counts as
full ground truth. Some train videos have a single frame (330ac20d, 9eb92f21, a4287634, ce1ea47c), and ids
may have gaps. The rate of the frames is not stated. ``item_id`` is the video's folder name.
"""

import json
from collections.abc import Iterator
from pathlib import Path

from preprocessing.errors import Finding, ItemError, MissingFileError, malformed_as_item_error
from preprocessing.sources.files import list_names, require_root, require_safe_name
from preprocessing.sources.first_masks import mask_prompts, unknown_elsewhere
from preprocessing.sources.official_fields import located
from preprocessing.sources.source import ExpectedCounts, Item, SourceSpec, SourceVideo, require_split
from preprocessing.sources.tracks import build_frames, build_tracks
from preprocessing.sources.video_folders import LabelVideo, require_dense_labels, scan_video_folders
from preprocessing.sources.vos_folders import BACKGROUND, read_sparse_labels
from preprocessing.sources.ytvos import FOLDER_OF_SPLIT
from univs.schema import Completeness, VideoRecord


class Mose:
    """Reader of ``{train,valid,test}/{JPEGImages,Annotations}``."""

    spec = SourceSpec(
        name="mose",
        task="sot",
        kind="video",
        needs="{train,valid,test}/JPEGImages/<video>/*.jpg and {train,valid,test}/Annotations/<video>/*.png",
        expects="1,507 train, 311 val and 331 test videos; first masks only in val and test",
        license="CC-BY-NC-SA-4.0",
        splits=("train", "val", "test"),
        counts={
            "train": ExpectedCounts(num_items=1507),
            "val": ExpectedCounts(num_items=311),
            "test": ExpectedCounts(num_items=331),
        },
        prompts=("mask",),
    )

    def label_space(self, root: Path) -> None:
        """MOSE publishes no classes."""

    def scan(self, root: Path, split: str) -> Iterator[Item]:
        """List the folders of frames and of labels by name."""
        require_split(self.spec, split)
        require_root(root)
        folder = root / FOLDER_OF_SPLIT[split]
        names = {path.name for part in ("JPEGImages", "Annotations") for path in _folders(folder / part)}
        if not names:
            raise MissingFileError(
                f"--source {root}: {folder.name}/JPEGImages has no folders; expected one per video of MOSE; "
                f"unpack the archive of {folder.name}"
            )
        return scan_video_folders(names, lambda name: folder / "JPEGImages" / name)

    def read(self, root: Path, split: str, item: Item) -> SourceVideo:
        """Decode the label PNGs that exist."""
        labels = f"{FOLDER_OF_SPLIT[split]}/Annotations/{item.item_id}"
        with located(labels), malformed_as_item_error(item.item_id):
            return self._read_video(root, split, item)

    def _read_video(self, root: Path, split: str, item: Item) -> SourceVideo:
        name, folder = require_safe_name(item.item_id, item.item_id), FOLDER_OF_SPLIT[split]
        frames = json.loads(item.payload)["frames"]
        labels, findings = _read_labels(root, f"{folder}/Annotations/{name}", name, frames, split)
        is_full = None not in labels.frames
        tracks = build_tracks(labels.frames, dict.fromkeys(labels.values - {BACKGROUND}))
        objects = tracks if is_full else unknown_elsewhere(tracks)
        record = VideoRecord(
            dataset=self.spec.name,
            split=split,
            item_id=name,
            kind="video",
            height=labels.height,
            width=labels.width,
            label_space=None,
            frames=build_frames(frames, [frame is not None for frame in labels.frames]),
            objects=objects,
            prompts=() if split == "train" else mask_prompts(objects),
            completeness=Completeness(is_partial=True),
            ground_truth="full" if is_full else "first_frame",
            license=self.spec.license,
            group=f"mose:{name}",
        )
        paths = tuple(root / folder / "JPEGImages" / name / frame for frame in frames)
        return SourceVideo(record=record, frame_paths=paths, findings=findings)


def _folders(parent: Path) -> list[Path]:
    return [path for path in parent.iterdir() if path.is_dir()] if parent.is_dir() else []


def _read_labels(
    root: Path, folder: str, name: str, frames: list[str], split: str
) -> tuple[LabelVideo, tuple[Finding, ...]]:
    if split == "train":
        require_dense_labels(name, frames, list_names(root / folder, ".png"))
    elif not frames:
        raise ItemError("E153", f"{name}: no frames on disk; unpack the images of {Path(folder).parts[0]}")
    return read_sparse_labels(root, folder, name, frames)
