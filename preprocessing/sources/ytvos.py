"""YouTube-VOS 2018 and 2019: palette masks of every fifth frame, objects with a category word.

``<split>/{JPEGImages,Annotations}/<video>/%05d.{jpg,png}`` and ``<split>/meta.json`` (per video its
objects, each with ``category`` and the ``frames`` it must be segmented in). 2018 has 3,471 train, 474 valid
and 508 test videos; 2019 has 3,471, 507 and 541, and its valid set contains that of 2018. Train has 5,945
objects of 65 categories, valid 26 unseen categories more. Train is annotated throughout. The PNGs of valid
and test exist only where some object first appears, so objects are unknown in all other frames and are
prompted by that mask; a copy with a PNG for every frame counts as full ground truth. The ``*_all_frames``
archives hold all frames of 30 per second, of which every fifth is annotated. ``item_id`` is the video's
folder name.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from preprocessing.errors import ItemError, malformed_as_item_error
from preprocessing.sources.files import OfficialFile, list_names, require_safe_name, to_payload
from preprocessing.sources.first_masks import mask_prompts, unknown_elsewhere
from preprocessing.sources.official_fields import extra_json, located
from preprocessing.sources.source import ExpectedCounts, Item, SourceSpec, SourceVideo, require_split
from preprocessing.sources.tracks import build_frames, build_tracks
from preprocessing.sources.video_folders import scan_video_folders
from preprocessing.sources.vos_folders import (
    BACKGROUND,
    Declared,
    join_declared,
    load_declared,
    read_sparse_labels,
    stored_rate,
)
from univs.schema import Completeness, VideoRecord

FOLDER_OF_SPLIT = {"train": "train", "val": "valid", "test": "test"}


@dataclass(frozen=True, kw_only=True, slots=True)
class YouTubeVos:
    """Reader of ``{train,valid,test}/{JPEGImages,Annotations,meta.json}``; the years share the layout."""

    spec: SourceSpec

    def label_space(self, root: Path) -> None:
        """Objects are tracked without a class; their category words stay in ``extra``."""

    def scan(self, root: Path, split: str) -> Iterator[Item]:
        """List the videos of ``meta.json`` by name."""
        require_split(self.spec, split)
        folder = FOLDER_OF_SPLIT[split]
        declared = load_declared(root, meta_file(folder))
        for item in scan_video_folders(declared, lambda name: root / folder / "JPEGImages" / name):
            frames = json.loads(item.payload)["frames"]
            payload = to_payload(frames=frames, declared=declared[item.item_id])
            yield Item(item_id=item.item_id, num_frames=item.num_frames, payload=payload)

    def read(self, root: Path, split: str, item: Item) -> SourceVideo:
        """Decode the label PNGs that exist."""
        folder = FOLDER_OF_SPLIT[split]
        with located(f"{folder}/meta.json", f"/videos/{item.item_id}"), malformed_as_item_error(item.item_id):
            return self._read_video(root, split, item)

    def _read_video(self, root: Path, split: str, item: Item) -> SourceVideo:
        name, folder = require_safe_name(item.item_id, item.item_id), FOLDER_OF_SPLIT[split]
        payload = json.loads(item.payload)
        frames, declared = payload["frames"], payload["declared"]
        if not frames:
            raise ItemError("E153", f"{name}: no frames on disk; unpack the images of {folder}")
        if split == "train":
            _require_declared_labels(name, declared, root, f"{folder}/Annotations/{name}")
        labels, strays = read_sparse_labels(root, f"{folder}/Annotations/{name}", name, frames)
        tracks = build_tracks(labels.frames, dict.fromkeys(labels.values - {BACKGROUND}))
        joined = join_declared(name, tracks, declared, labels, f"{folder}/meta.json")
        is_full = split == "train" or None not in labels.frames
        objects = joined.objects if is_full else unknown_elsewhere(joined.objects)
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
            group=f"ytvos:{name}",
            frames_per_second=stored_rate(frames),
            extra=extra_json({"left_out": joined.never_visible} if joined.never_visible else {}, {}),
        )
        paths = tuple(root / folder / "JPEGImages" / name / frame for frame in frames)
        return SourceVideo(record=record, frame_paths=paths, findings=(*strays, *joined.findings))


def meta_file(folder: str) -> OfficialFile:
    """Describe the list of objects of one split."""
    return OfficialFile(
        path=f"{folder}/meta.json",
        expected="the YouTube-VOS object list",
        remedy=f"unpack the YouTube-VOS archive of {folder} whole",
    )


def _require_declared_labels(name: str, declared: Declared, root: Path, folder: str) -> None:
    """Training videos are annotated in every frame that their objects are declared in."""
    present = {Path(label).stem for label in list_names(root / folder, ".png")}
    for source_id, body in sorted(declared.items()):
        missing = sorted(set(body["frames"]) - present)
        if missing:
            message = f"{name}: object {source_id} is declared in frame {missing[0]}, which has no label file"
            raise ItemError("E151", message, f"{folder}/{missing[0]}.png")


def _spec(year: int, num_val: int, num_test: int) -> SourceSpec:
    return SourceSpec(
        name=f"ytvos_{year}",
        task="sot",
        kind="video",
        needs="{train,valid,test}/{JPEGImages,Annotations}/<video>/ and {train,valid,test}/meta.json",
        expects=f"3,471 train, {num_val} val and {num_test} test videos; first masks only in val and test",
        license="CC-BY-4.0 (annotations); videos under YouTube terms",
        splits=("train", "val", "test"),
        counts={
            "train": ExpectedCounts(num_items=3471, num_objects=5945 if year == 2018 else None),
            "val": ExpectedCounts(num_items=num_val),
            "test": ExpectedCounts(num_items=num_test),
        },
        prompts=("mask",),
    )


YTVOS_2018 = YouTubeVos(spec=_spec(2018, 474, 508))
YTVOS_2019 = YouTubeVos(spec=_spec(2019, 507, 541))
