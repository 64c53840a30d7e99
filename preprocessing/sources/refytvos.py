"""Refer-YouTube-VOS: 3,471 train and 202 val videos, referring expressions over YouTube-VOS 2019 objects.

Label PNGs hold object ids as palette indices, 0 is background; a frame without a PNG is not annotated.
Several expressions may name one object, about 71 train objects have none: masks are stored once per object
and expressions refer to them. The shipped ``valid`` list also names the test videos, so names in
``meta_expressions/test`` are left out of it. Expressions without ``obj_id`` mean server-side ground truth.
``item_id`` is the video's folder name.
"""

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from preprocessing.errors import ItemError, SourceError, malformed_as_item_error
from preprocessing.masks import mask_area
from preprocessing.sources.files import OfficialFile, list_names, load_json, require_safe_name, to_payload
from preprocessing.sources.label_images import INDEX_MODES, read_image_size
from preprocessing.sources.source import Item, SourceSpec, SourceVideo, require_split
from preprocessing.sources.tracks import build_frames, build_tracks
from preprocessing.sources.video_folders import LabelVideo, read_label_video
from univs.schema import Expression, ObjectTrack, VideoRecord

logger = logging.getLogger(__name__)

BACKGROUND = 0
_FOLDER_OF_SPLIT = {"train": "train", "val": "valid"}
_STRAY_PIXELS = 16
"""Undeclared ids smaller than this in every frame are palette noise, kept with a warning."""


class RefYouTubeVos:
    """Reader of ``{train,valid}/{JPEGImages,Annotations}`` with ``meta_expressions/{train,valid}``."""

    spec = SourceSpec(
        name="refytvos",
        task="grounding",
        kind="video",
        needs="{train,valid}/{JPEGImages,Annotations}/<video>/ and meta_expressions/{train,valid}/*.json",
        expects="3,471 train and 202 val videos",
        license="CC-BY-4.0 (annotations); videos under YouTube terms",
        splits=("train", "val"),
    )

    def label_space(self, root: Path) -> None:
        """Objects are named by expressions and have no class."""

    def scan(self, root: Path, split: str) -> Iterator[Item]:
        """List the videos of the expression file by name."""
        require_split(self.spec, split)
        folder = _FOLDER_OF_SPLIT[split]
        videos = _load_videos(root, folder)
        declared = _load_declared_objects(root, folder)
        held_out = _load_test_names(root) if split == "val" else frozenset()
        for name in sorted(videos.keys() - held_out):
            video = videos[name]
            frames = video.get("frames") if isinstance(video, dict) else None
            yield Item(
                item_id=name,
                num_frames=len(frames) if isinstance(frames, list) else 0,
                payload=to_payload(video=video, declared=declared.get(name)),
            )

    def read(self, root: Path, split: str, item: Item) -> SourceVideo:
        """Decode the label PNGs that exist and attach the expressions."""
        with malformed_as_item_error(item.item_id):
            return _read_video(self.spec, root, split, item)


def _expression_file(folder: str) -> OfficialFile:
    return OfficialFile(
        path=f"meta_expressions/{folder}/meta_expressions.json",
        expected="the Refer-YouTube-VOS expressions",
        remedy="unzip meta_expressions.zip there",
    )


def _load_videos(root: Path, folder: str) -> dict[str, Any]:
    official = _expression_file(folder)
    videos = load_json(root, official, ("videos",))["videos"]
    if not isinstance(videos, dict):
        raise SourceError(
            f"--source {root}: {official.path} has videos of type {type(videos).__name__}; expected "
            f"an object by video name; {official.remedy}"
        )
    return videos


def _load_declared_objects(root: Path, folder: str) -> dict[str, list[str]]:
    """Read object ids by video from ``meta.json``, which later downloads no longer contain."""
    if not (root / folder / "meta.json").exists():
        return {}
    official = OfficialFile(
        path=f"{folder}/meta.json",
        expected="the YouTube-VOS object list",
        remedy="take it from YouTube-VOS 2019 or delete it",
    )
    body = load_json(root, official, ("videos",))
    try:
        return {name: sorted(video["objects"]) for name, video in body["videos"].items()}
    except (KeyError, TypeError, AttributeError) as error:
        raise SourceError(
            f"--source {root}: {official.path} is malformed ({type(error).__name__}: {error}); "
            f"expected {official.expected}; {official.remedy}"
        ) from error


def _load_test_names(root: Path) -> frozenset[str]:
    if not (root / _expression_file("test").path).exists():
        return frozenset()
    return frozenset(_load_videos(root, "test"))


def _read_video(spec: SourceSpec, root: Path, split: str, item: Item) -> SourceVideo:
    payload = json.loads(item.payload)
    video, folder = payload["video"], root / _FOLDER_OF_SPLIT[split]
    name = require_safe_name(item.item_id, item.item_id)
    stems = [require_safe_name(name, stem) for stem in video["frames"]]
    images = [folder / "JPEGImages" / name / f"{stem}.jpg" for stem in stems]
    expressions = sorted(video["expressions"].items(), key=lambda pair: (len(pair[0]), pair[0]))
    has_truth = any("obj_id" in entry for _, entry in expressions)
    labels = _read_labels(folder / "Annotations" / name, name, stems, images, has_truth=has_truth)
    objects = build_tracks(labels.frames, dict.fromkeys(labels.values - {BACKGROUND}))
    _check_declared(name, objects, payload["declared"], labels)
    record = VideoRecord(
        dataset=spec.name,
        split=split,
        item_id=name,
        kind="video",
        height=labels.height,
        width=labels.width,
        label_space=None,
        frames=build_frames([image.name for image in images], [frame is not None for frame in labels.frames]),
        objects=objects,
        expressions=_read_expressions(name, expressions, objects, has_truth=has_truth),
        ground_truth="full" if has_truth else "none",
        license=spec.license,
    )
    return SourceVideo(record=record, frame_paths=tuple(images))


def _read_labels(
    folder: Path, name: str, stems: list[str], images: list[Path], *, has_truth: bool
) -> LabelVideo:
    if not images:
        raise ItemError("E153", f"{name}: the expression file lists no frames")
    if not has_truth:
        height, width = read_image_size(images[0], name)
        return LabelVideo(frames=(None,) * len(stems), height=height, width=width)
    present = {Path(label).stem for label in list_names(folder, ".png")}
    if not present & set(stems):
        raise ItemError("E151", f"{name}: {len(stems)} frames, 0 of them with a PNG in {folder.parent.name}")
    paths = [folder / f"{stem}.png" if stem in present else None for stem in stems]
    return read_label_video(paths, name, INDEX_MODES)


def _check_declared(
    name: str, objects: tuple[ObjectTrack, ...], declared: list[str] | None, labels: LabelVideo
) -> None:
    if declared is None:
        return
    for track in objects:
        if track.source_id not in declared:
            areas = [mask_area(rle, labels.height, labels.width) for rle in track.rles if rle]
            found = f"{name}: id {track.source_id} ({max(areas)} px) is not among {', '.join(declared)}"
            if max(areas) >= _STRAY_PIXELS:
                raise ItemError("E137", found)
            logger.warning("%s; kept", found)
    for missing in sorted(set(declared) - {track.source_id for track in objects}):
        logger.warning("%s: declared object %s is never visible, left out", name, missing)


def _read_expressions(
    name: str, entries: list[tuple[str, Any]], objects: tuple[ObjectTrack, ...], *, has_truth: bool
) -> tuple[Expression, ...]:
    object_ids = {track.source_id: track.object_id for track in objects}
    expressions = []
    for expression_id, entry in entries:
        source_id = str(entry.get("obj_id"))
        if has_truth and source_id not in object_ids:
            known = ", ".join(object_ids) or "none"
            raise ItemError(
                "E140", f'{name}: expression "{expression_id}" obj_id "{source_id}", objects {known}'
            )
        expressions.append(
            Expression(
                expression_id=expression_id,
                text=_require_text(name, expression_id, entry["exp"]),
                object_ids=(object_ids[source_id],) if has_truth else (),
            )
        )
    return tuple(expressions)


def _require_text(name: str, expression_id: str, text: Any) -> str:
    if not isinstance(text, str):
        raise ItemError(
            "E100", f'{name}: expression "{expression_id}" is {type(text).__name__}, expected text'
        )
    return text
