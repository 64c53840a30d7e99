"""The JSON of video instance segmentation: YouTube-VIS of all years, and OVIS.

``segmentations``, ``bboxes`` and ``areas`` of a track run parallel to the ``file_names`` of its video;
``null`` means not visible in that frame. Masks are run lengths in the releases; polygons are read too. Where
ground truth is on a server, ``annotations`` is null or absent. ``item_id`` is the video's numeric id, which
submissions need; the folder's name stays in each frame's official file name (``0043f083b5/00000.jpg``) and
in the group. Fields that the schema does not know (OVIS gives an occlusion level per frame), and tracks that
are never visible, go to ``extra``.
"""

import json
from collections import defaultdict
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from preprocessing.errors import ItemError, malformed_as_item_error
from preprocessing.sources.annotation_files import (
    load_thing_space,
    malformed,
    parse_thing_space,
    smallest_present,
)
from preprocessing.sources.files import OfficialFile, index_by, load_json, require_safe_name, to_payload
from preprocessing.sources.official_fields import extra_json, located
from preprocessing.sources.source import Item, SourceSpec, SourceVideo, require_split
from preprocessing.sources.tracks import build_frames
from preprocessing.sources.vis_tracks import Entries, read_tracks
from univs.labels import LabelSpace
from univs.schema import VideoRecord


@dataclass(frozen=True, kw_only=True, slots=True)
class VisFiles:
    """Where a release keeps one split, relative to the source folder."""

    annotation: str
    images: str


@dataclass(frozen=True, kw_only=True, slots=True)
class VisJson:
    """Reader of one release of the YouTube-VIS schema."""

    spec: SourceSpec
    title: str
    """What people call the release."""
    remedy: str
    files: Mapping[str, tuple[VisFiles, ...]]
    """By split: the known layouts; the first whose annotation is there is read."""
    group: str
    """Names the world the folders are from: those of all YouTube-VIS and YouTube-VOS sets are the same."""
    frames_per_second: float | None = None

    def label_space(self, root: Path) -> LabelSpace:
        """Read the categories from the smallest annotation file that is there."""
        return load_thing_space(root, self._smallest(root), str(self.spec.label_space_name))

    def scan(self, root: Path, split: str) -> Iterator[Item]:
        """List the videos by id; also annotations of unknown videos, which ``read`` rejects."""
        require_split(self.spec, split)
        official = self._official(root, split)
        body = load_json(root, official, ("videos", "categories"))
        space = parse_thing_space(root, official, str(self.spec.label_space_name), body)
        if self._smallest(root) != official and self.label_space(root) != space:
            raise malformed(root, official, "categories that differ from the other split's")
        try:
            videos = index_by(body["videos"], "id")
            tracks = _group_tracks(body.get("annotations"))
        except (KeyError, TypeError, ValueError) as error:
            found = f"a malformed entry ({type(error).__name__}: {error})"
            raise malformed(root, official, found) from error
        del body
        for video_id in sorted(videos.keys() | (tracks or {}).keys()):
            yield _scan_video(video_id, videos.get(video_id), tracks, space.label_of)

    def read(self, root: Path, split: str, item: Item) -> SourceVideo:
        """Turn the video's entries into tracks."""
        with located(self._locate(root, split).annotation), malformed_as_item_error(item.item_id):
            return self._read_video(root, split, item)

    def _locate(self, root: Path, split: str) -> VisFiles:
        known = self.files[split]
        return next((files for files in known if (root / files.annotation).exists()), known[0])

    def _official(self, root: Path, split: str) -> OfficialFile:
        path = self._locate(root, split).annotation
        return OfficialFile(path=path, expected=f"the {self.title} annotations", remedy=self.remedy)

    def _smallest(self, root: Path) -> OfficialFile:
        return smallest_present(root, [self._official(root, split) for split in self.spec.splits])

    def _read_video(self, root: Path, split: str, item: Item) -> SourceVideo:
        payload = json.loads(item.payload)
        video, tracks = _require_known(item.item_id, payload), payload["tracks"]
        names = [require_safe_name(item.item_id, name) for name in video["file_names"]]
        shape = {"height": int(video["height"]), "width": int(video["width"]), "length": len(names)}
        if video.get("length", len(names)) != len(names):
            raise ItemError(
                "E110", f"{item.item_id}: file_names has {len(names)} entries, length={video['length']}"
            )
        files = self._locate(root, split)
        own = read_tracks(item.item_id, tracks or [], shape)
        left_out = {"left_out": list(own.left_out)} if own.left_out else {}
        record = VideoRecord(
            dataset=self.spec.name,
            split=split,
            item_id=item.item_id,
            kind="video",
            height=shape["height"],
            width=shape["width"],
            label_space=self.spec.label_space_name,
            frames=build_frames(names, [tracks is not None] * len(names)),
            objects=own.visible,
            ground_truth="none" if tracks is None else "full",
            license=self.spec.license,
            group=f"{self.group}:{_folder_of(names) or item.item_id}",
            frames_per_second=self.frames_per_second,
            extra=extra_json({**video, **left_out}, {**shape, "id": int(item.item_id), "file_names": names}),
        )
        return SourceVideo(
            record=record,
            frame_paths=tuple(root / files.images / name for name in names),
            findings=tuple(replace(finding, file=files.annotation) for finding in own.findings),
        )


def _group_tracks(entries: list[Mapping[str, Any]] | None) -> dict[int, Entries] | None:
    if entries is None:
        return None
    index_by(entries, "id")
    groups: dict[int, Entries] = defaultdict(list)
    for position, entry in enumerate(entries):
        groups[int(entry["video_id"])].append((position, entry))
    return groups


def _scan_video(
    video_id: int,
    video: Mapping[str, Any] | None,
    tracks: Mapping[int, Entries] | None,
    known: Container[int],
) -> Item:
    own = None if tracks is None else tracks.get(video_id, [])
    categories = [(entry.get("category_id"), position) for position, entry in own or ()]
    unknown = sorted((str(c), position) for c, position in categories if _is_unknown(c, known))
    names = (video or {}).get("file_names")
    return Item(
        item_id=str(video_id),
        num_frames=len(names) if isinstance(names, list) else 0,
        payload=to_payload(video=video, tracks=own, unknown=unknown),
    )


def _is_unknown(category_id: Any, known: Container[int]) -> bool:
    return not isinstance(category_id, int) or category_id not in known


def _require_known(where: str, payload: Mapping[str, Any]) -> Mapping[str, Any]:
    """Check that the tracks' video and categories are listed; give the video."""
    video: Mapping[str, Any] | None = payload["video"]
    if video is None:
        pointer = f"/annotations/{payload['tracks'][0][0]}/video_id"
        message = f"{where}: annotations of a video_id that videos[] does not list"
        raise ItemError("E122", message, pointer=pointer)
    if payload["unknown"]:
        category_id, position = payload["unknown"][0]
        pointer = f"/annotations/{position}/category_id"
        message = f"{where}: category_id {category_id} not in categories[]"
        raise ItemError("E123", message, pointer=pointer)
    return video


def _folder_of(names: list[str]) -> str:
    return PurePosixPath(names[0]).parent.name if names else ""
