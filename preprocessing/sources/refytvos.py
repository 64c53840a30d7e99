"""Refer-YouTube-VOS: 3,471 train and 202 val videos, referring expressions over YouTube-VOS 2019 objects.

Images and masks are those of YouTube-VOS, see there. ``meta_expressions/<split>/meta_expressions.json`` lists
per video its ``frames`` and ``expressions`` ({"0": {"exp", "obj_id"}}). Several expressions may name one
object, about 71 train objects have none: masks are stored once per object and expressions refer to them. The
shipped ``valid`` list also names the test videos, so names in ``meta_expressions/test`` are left out of it.
Expressions without ``obj_id`` mean server-side ground truth. Later downloads have no ``train/meta.json``,
and ``test`` is no longer published. 12,913 of the train expressions are of whole videos. ``item_id`` is the
video's folder name.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from preprocessing.errors import Finding, ItemError, SourceError, malformed_as_item_error
from preprocessing.sources.files import OfficialFile, load_json, require_safe_name, to_payload
from preprocessing.sources.label_images import read_image_size
from preprocessing.sources.official_fields import extra_json, located
from preprocessing.sources.source import ExpectedCounts, Item, SourceSpec, SourceVideo, require_split
from preprocessing.sources.tracks import build_frames, build_tracks
from preprocessing.sources.video_folders import LabelVideo
from preprocessing.sources.vos_folders import (
    BACKGROUND,
    Declared,
    DeclaredTracks,
    join_declared,
    load_declared,
    read_sparse_labels,
    stored_rate,
)
from preprocessing.sources.ytvos import FOLDER_OF_SPLIT
from univs.schema import Completeness, Expression, ObjectTrack, VideoRecord

Entries = list[tuple[str, Mapping[str, Any]]]
"""Expressions as the JSON holds them, by their ids."""


class RefYouTubeVos:
    """Reader of ``{train,valid}/{JPEGImages,Annotations}`` with ``meta_expressions/{train,valid}``."""

    spec = SourceSpec(
        name="refytvos",
        task="grounding",
        kind="video",
        needs="{train,valid}/{JPEGImages,Annotations}/<video>/ and meta_expressions/{train,valid}/*.json",
        expects="3,471 train and 202 val videos",
        license="CC-BY-4.0 (annotations); videos under YouTube terms",
        splits=("train", "val", "test"),
        counts={
            "train": ExpectedCounts(num_items=3471),
            "val": ExpectedCounts(num_items=202),
            "test": ExpectedCounts(num_items=305),
        },
        prompts=("expression",),
    )

    def label_space(self, root: Path) -> None:
        """Objects are named by expressions; their category words stay in ``extra``."""

    def scan(self, root: Path, split: str) -> Iterator[Item]:
        """List the videos of the expression file by name."""
        require_split(self.spec, split)
        folder = FOLDER_OF_SPLIT[split]
        videos = _load_videos(root, folder)
        has_meta = (root / _meta_file(folder).path).exists()
        declared = load_declared(root, _meta_file(folder)) if has_meta else {}
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
        file = _expression_file(FOLDER_OF_SPLIT[split]).path
        with located(file, f"/videos/{item.item_id}"), malformed_as_item_error(item.item_id):
            return _read_video(self.spec, root, split, item)


def _expression_file(folder: str) -> OfficialFile:
    return OfficialFile(
        path=f"meta_expressions/{folder}/meta_expressions.json",
        expected="the Refer-YouTube-VOS expressions",
        remedy="unzip meta_expressions.zip there",
    )


def _meta_file(folder: str) -> OfficialFile:
    return OfficialFile(
        path=f"{folder}/meta.json",
        expected="the YouTube-VOS object list",
        remedy="take it from YouTube-VOS 2019 or delete it",
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


def _load_test_names(root: Path) -> frozenset[str]:
    if not (root / _expression_file("test").path).exists():
        return frozenset()
    return frozenset(_load_videos(root, "test"))


def _read_video(spec: SourceSpec, root: Path, split: str, item: Item) -> SourceVideo:
    payload = json.loads(item.payload)
    video, folder = payload["video"], FOLDER_OF_SPLIT[split]
    name = require_safe_name(item.item_id, item.item_id)
    frames = [f"{require_safe_name(name, stem)}.jpg" for stem in video["frames"]]
    entries: Entries = sorted(video["expressions"].items(), key=lambda pair: (len(pair[0]), pair[0]))
    has_truth = any("obj_id" in entry for _, entry in entries)
    images = tuple(root / folder / "JPEGImages" / name / frame for frame in frames)
    if not images:
        raise ItemError("E153", f"{name}: the expression file lists no frames")
    labels, strays = _read_labels(root, folder, name, images, has_truth=has_truth)
    joined = _join(name, labels, payload["declared"], f"{folder}/meta.json")
    record = VideoRecord(
        dataset=spec.name,
        split=split,
        item_id=name,
        kind="video",
        height=labels.height,
        width=labels.width,
        label_space=None,
        frames=build_frames(frames, [frame is not None for frame in labels.frames]),
        objects=joined.objects,
        expressions=_read_expressions(name, entries, joined.objects, has_truth=has_truth),
        completeness=Completeness(is_partial=True),
        ground_truth="full" if has_truth else "none",
        license=spec.license,
        group=f"ytvos:{name}",
        frames_per_second=stored_rate(frames),
        extra=_leftovers(video, entries, joined.never_visible),
    )
    findings = (*strays, *joined.findings) if has_truth else ()
    return SourceVideo(record=record, frame_paths=images, findings=findings)


def _read_labels(
    root: Path, folder: str, name: str, images: tuple[Path, ...], *, has_truth: bool
) -> tuple[LabelVideo, tuple[Finding, ...]]:
    if has_truth:
        return read_sparse_labels(root, f"{folder}/Annotations/{name}", name, [path.name for path in images])
    height, width = read_image_size(images[0], name)
    return LabelVideo(frames=(None,) * len(images), height=height, width=width), ()


def _join(name: str, labels: LabelVideo, declared: Declared | None, file: str) -> DeclaredTracks:
    objects = build_tracks(labels.frames, dict.fromkeys(labels.values - {BACKGROUND}))
    if declared is None:
        return DeclaredTracks(objects=objects, never_visible={}, findings=())
    return join_declared(name, objects, declared, labels, file)


def _read_expressions(
    name: str, entries: Entries, objects: tuple[ObjectTrack, ...], *, has_truth: bool
) -> tuple[Expression, ...]:
    object_ids = {track.source_id: track.object_id for track in objects}
    expressions = []
    for expression_id, entry in entries:
        source_id = str(entry.get("obj_id"))
        if has_truth and source_id not in object_ids:
            known = ", ".join(object_ids) or "none"
            raise ItemError(
                "E140",
                f'{name}: expression "{expression_id}" obj_id "{source_id}", objects {known}',
                pointer=f"/videos/{name}/expressions/{expression_id}/obj_id",
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
            "E100",
            f'{name}: expression "{expression_id}" is {type(text).__name__}, expected text',
            pointer=f"/videos/{name}/expressions/{expression_id}/exp",
        )
    return text


def _leftovers(video: Mapping[str, Any], entries: Entries, never_visible: Declared) -> str:
    """Serialize what the record does not hold: unknown fields, and declared objects that no mask shows."""
    rest = {name: value for name, value in video.items() if name not in ("frames", "expressions")}
    fields = {
        expression_id: {name: value for name, value in entry.items() if name not in ("exp", "obj_id")}
        for expression_id, entry in entries
    }
    fields = {expression_id: entry for expression_id, entry in fields.items() if entry}
    parts = {"left_out": never_visible, "expressions": fields}
    return extra_json({**rest, **{name: part for name, part in parts.items() if part}}, {})
