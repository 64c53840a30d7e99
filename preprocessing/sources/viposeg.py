"""VIPOSeg: VIPSeg's train and val videos split anew, for video object segmentation of things and stuff.

- ``{train,valid}/JPEGImages/<video>/*.jpg`` and ``Annotations/<video>/*.png``: indexed PNGs of object ids, 0
  is background. ``obj_class.json`` gives the class of each object: ``{video: {object: class}}``, VIPSeg's ids
  from 0.
- ``valid/Annotations`` holds an object's mask in its first frame only; ``valid/Annotations_gt`` all masks,
  and ``valid/meta.json`` the frames each object is in. Without ``Annotations_gt`` the first masks are all
  there is.
- Objects are annotated exhaustively. Names of the classes are not part of it: they are taken from VIPSeg's
  ``panoVIPSeg_categories.json`` if it lies in the source folder, else from the built-in table.

Facts: VIPOSeg's repository. A video of its val may be one of VIPSeg's train. ``item_id`` is the folder name.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from preprocessing.errors import ItemError, SourceError, malformed_as_item_error
from preprocessing.sources.files import (
    OfficialFile,
    is_safe_name,
    list_names,
    load_json,
    require_root,
    require_safe_name,
    to_payload,
)
from preprocessing.sources.first_masks import unknown_elsewhere
from preprocessing.sources.source import Item, SourceSpec, SourceVideo, require_split
from preprocessing.sources.tracks import build_frames, build_tracks
from preprocessing.sources.video_folders import require_frames
from preprocessing.sources.viposeg_masks import read_masks, tell_different
from preprocessing.sources.vipseg_labels import CATEGORY_FILE, read_label_space
from preprocessing.sources.vos_folders import BACKGROUND, join_declared, load_declared
from univs.label_spaces import builtin_spaces
from univs.labels import LabelSpace
from univs.schema import ObjectTrack, VideoRecord, canonical_json

_FOLDER_OF_SPLIT = {"train": "train", "val": "valid"}


class VipoSeg:
    """Reader of both trees."""

    spec = SourceSpec(
        name="viposeg",
        task="sot",
        kind="video",
        needs=(
            "{train,valid}/{JPEGImages,Annotations}/<video>/, {train,valid}/obj_class.json, "
            "valid/meta.json and valid/Annotations_gt/<video>/"
        ),
        expects="videos of VIPSeg's train and val, 124 classes",
        license="VIPOSeg non-commercial research",
        splits=("train", "val"),
        label_space_name="viposeg",
        prompts=("mask",),
    )

    def label_space(self, root: Path) -> LabelSpace:
        """Read VIPSeg's table, or take the built-in one."""
        require_root(root)
        if (root / CATEGORY_FILE).exists():
            return read_label_space(root, "viposeg")
        return LabelSpace(name="viposeg", categories=builtin_spaces()["vipseg"].labels.categories)

    def scan(self, root: Path, split: str) -> Iterator[Item]:
        """List the videos that have frames or classes, by name."""
        require_split(self.spec, split)
        folder = _FOLDER_OF_SPLIT[split]
        classes = _load_classes(root, f"{folder}/obj_class.json")
        declared = load_declared(root, _official(f"{folder}/meta.json")) if split == "val" else {}
        images = root / folder / "JPEGImages"
        on_disk = {entry.name for entry in images.iterdir() if entry.is_dir()} if images.is_dir() else set()
        for name in sorted(classes.keys() | declared.keys() | on_disk):
            frames = list_names(images / name, ".jpg") if is_safe_name(name) else ()
            payload = to_payload(
                frames=frames, classes=classes.get(name, {}), declared=declared.get(name, {})
            )
            yield Item(item_id=name, num_frames=len(frames), payload=payload)

    def read(self, root: Path, split: str, item: Item) -> SourceVideo:
        """Decode the video's label PNGs and join the objects with their classes."""
        with malformed_as_item_error(item.item_id):
            return self._read_video(root, split, item)

    def _read_video(self, root: Path, split: str, item: Item) -> SourceVideo:
        name, payload = require_safe_name(item.item_id, item.item_id), json.loads(item.payload)
        folder, frames, classes = _FOLDER_OF_SPLIT[split], payload["frames"], payload["classes"]
        require_frames(name, frames)
        frame_paths = tuple(root / folder / "JPEGImages" / name / frame for frame in frames)
        masks = read_masks(root, folder, name, frame_paths)
        space, labels = self.label_space(root), masks.labels
        tracks = build_tracks(labels.frames, dict.fromkeys(labels.values - {BACKGROUND}))
        joined = join_declared(
            name,
            [_with_class(name, track, classes, space, folder) for track in tracks],
            {i: payload["declared"].get(i, {}) for i in sorted(classes.keys() | payload["declared"].keys())},
            labels,
            f"{folder}/obj_class.json",
            f"/{name}",
        )
        different = masks.different_first_masks(frames)
        record = VideoRecord(
            dataset=self.spec.name,
            split=split,
            item_id=name,
            kind="video",
            height=labels.height,
            width=labels.width,
            label_space=space.name,
            frames=build_frames(frames, [frame is not None for frame in labels.frames]),
            objects=joined.objects if masks.has_truth else unknown_elsewhere(joined.objects),
            prompts=tuple(masks.prompts(name, {int(t.source_id): t.object_id for t in joined.objects})),
            ground_truth="full" if masks.has_truth else "first_frame",
            license=self.spec.license,
            group=f"vipseg:{name}",
            extra=_to_extra(
                first_masks=different,
                never_visible={i: [classes.get(i), entry] for i, entry in joined.never_visible.items()},
            ),
        )
        findings = (*masks.findings, *joined.findings, *tell_different(name, folder, different))
        return SourceVideo(record=record, frame_paths=frame_paths, findings=findings)


def _official(path: str) -> OfficialFile:
    return OfficialFile(
        path=path, expected="a table of objects by video", remedy="take it from the VIPOSeg archive"
    )


def _load_classes(root: Path, path: str) -> dict[str, dict[str, Any]]:
    """Read the class of each object, by video."""
    body = load_json(root, _official(path))
    if not isinstance(body, dict) or not all(isinstance(classes, dict) for classes in body.values()):
        raise SourceError(
            f"--source {root}: {path} is malformed; expected {{video: {{object: class}}}}; "
            "take it from the VIPOSeg archive"
        )
    return body


def _with_class(
    name: str, track: ObjectTrack, classes: Mapping[str, Any], space: LabelSpace, folder: str
) -> ObjectTrack:
    """Set the category; an object without one is left to ``join_declared``."""
    if track.source_id not in classes:
        return track
    category_id = int(classes[track.source_id])
    if category_id not in space.label_of:
        known = f"{min(space.label_of)}..{max(space.label_of)}"
        message = f"{name}: object {track.source_id} has class {category_id}, not one of {known}"
        raise ItemError("E123", message, f"{folder}/obj_class.json", f"/{name}/{track.source_id}")
    return replace(track, category_id=category_id)


def _to_extra(**parts: dict[str, Any]) -> str:
    kept = {name: part for name, part in parts.items() if part}
    return canonical_json(kept).decode() if kept else ""
