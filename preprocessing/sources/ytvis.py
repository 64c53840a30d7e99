"""YouTube-VIS 2021: 2,985 train, 421 valid and 453 test videos, 40 classes, every fifth frame of 30 fps.

``segmentations`` runs parallel to the video's ``file_names``; ``null`` means not visible in that frame. Masks
are run lengths in the release; polygons are read too. Ground truth of ``valid`` is on a server:
``annotations`` is null or absent there. ``item_id`` is the video's numeric id, which submissions need; the
folder's name stays in each frame's official file name, such as ``0043f083b5/00000.jpg``.
"""

import json
import logging
from collections import defaultdict
from collections.abc import Container, Iterator, Mapping
from pathlib import Path
from typing import Any

from preprocessing.errors import ItemError, SourceError, malformed_as_item_error
from preprocessing.masks import mask_area
from preprocessing.sources.files import OfficialFile, index_by, load_json, require_safe_name, to_payload
from preprocessing.sources.segmentation import segmentation_to_rle
from preprocessing.sources.source import Item, SourceSpec, SourceVideo, require_split
from preprocessing.sources.tracks import build_frames
from univs.labels import Category, LabelSpace
from univs.schema import ABSENT, VISIBLE, ObjectTrack, VideoRecord

logger = logging.getLogger(__name__)

_FOLDER_OF_SPLIT = {"train": "train", "val": "valid"}


class YouTubeVis2021:
    """Reader of ``{train,valid}/JPEGImages/<video>/*.jpg`` with ``{train,valid}/instances.json``."""

    spec = SourceSpec(
        name="ytvis_2021",
        task="detection",
        kind="video",
        needs="{train,valid}/JPEGImages/<video>/*.jpg and {train,valid}/instances.json",
        expects="2,985 train and 421 valid videos, 40 categories",
        license="CC-BY-4.0 (annotations); videos under YouTube terms",
        splits=("train", "val"),
    )

    def label_space(self, root: Path) -> LabelSpace:
        """Read the categories from the smaller annotation file that is there."""
        split = "val" if (root / _annotation_file("val").path).exists() else "train"
        return _parse_label_space(root, split, load_json(root, _annotation_file(split), ("categories",)))

    def scan(self, root: Path, split: str) -> Iterator[Item]:
        """List the videos by id; also annotations of unknown videos, which ``read`` rejects."""
        require_split(self.spec, split)
        body = load_json(root, _annotation_file(split), ("videos", "categories"))
        space = _parse_label_space(root, split, body)
        if space != self.label_space(root):
            raise _malformed(root, split, "categories that differ from the other split's")
        try:
            videos = index_by(body["videos"], "id")
            tracks = _group_annotations(body.get("annotations"))
        except (KeyError, TypeError, ValueError) as error:
            raise _malformed(root, split, f"a malformed entry ({type(error).__name__}: {error})") from error
        for video_id in sorted(videos.keys() | (tracks or {}).keys()):
            yield _scan_video(video_id, videos.get(video_id), tracks, space.label_of)

    def read(self, root: Path, split: str, item: Item) -> SourceVideo:
        """Turn the video's entries into tracks."""
        with malformed_as_item_error(item.item_id):
            return _read_video(self.spec, root, split, item)


def _annotation_file(split: str) -> OfficialFile:
    return OfficialFile(
        path=f"{_FOLDER_OF_SPLIT[split]}/instances.json",
        expected="the YouTube-VIS 2021 annotations",
        remedy="unpack the 2021 archives of train and valid there",
    )


def _malformed(root: Path, split: str, found: str) -> SourceError:
    official = _annotation_file(split)
    return SourceError(
        f"--source {root}: {official.path} has {found}; expected {official.expected}; download again"
    )


def _parse_label_space(root: Path, split: str, body: dict[str, Any]) -> LabelSpace:
    try:
        rows = sorted((int(row["id"]), str(row["name"])) for row in body["categories"])
        categories = tuple(Category(category_id=i, name=name, is_thing=True) for i, name in rows)
        return LabelSpace(name="ytvis_2021", categories=categories)
    except (KeyError, TypeError, ValueError) as error:
        raise _malformed(root, split, f"malformed categories ({type(error).__name__}: {error})") from error


def _group_annotations(entries: list[Mapping[str, Any]] | None) -> dict[int, list[Mapping[str, Any]]] | None:
    if entries is None:
        return None
    groups: dict[int, list[Mapping[str, Any]]] = defaultdict(list)
    for entry in index_by(entries, "id").values():
        groups[int(entry["video_id"])].append(entry)
    return groups


def _scan_video(
    video_id: int,
    video: Mapping[str, Any] | None,
    tracks: Mapping[int, list[Mapping[str, Any]]] | None,
    known: Container[int],
) -> Item:
    own = None if tracks is None else tracks.get(video_id, [])
    categories = [track.get("category_id") for track in own or ()]
    unknown = sorted({str(c) for c in categories if not isinstance(c, int) or c not in known})
    names = (video or {}).get("file_names")
    return Item(
        item_id=str(video_id),
        num_frames=len(names) if isinstance(names, list) else 0,
        payload=to_payload(video=video, tracks=own, unknown_categories=unknown),
    )


def _read_video(spec: SourceSpec, root: Path, split: str, item: Item) -> SourceVideo:
    payload = json.loads(item.payload)
    video, tracks, where = payload["video"], payload["tracks"], item.item_id
    if video is None:
        raise ItemError("E122", f"{where}: annotations of a video_id that videos[] does not list")
    if payload["unknown_categories"]:
        raise ItemError(
            "E123", f"{where}: category_id {payload['unknown_categories'][0]} not in categories[]"
        )
    names = [require_safe_name(where, name) for name in video["file_names"]]
    if video.get("length", len(names)) != len(names):
        raise ItemError("E110", f"{where}: file_names has {len(names)} entries, length={video['length']}")
    height, width = int(video["height"]), int(video["width"])
    record = VideoRecord(
        dataset=spec.name,
        split=split,
        item_id=where,
        kind="video",
        height=height,
        width=width,
        label_space="ytvis_2021",
        frames=build_frames(names, [tracks is not None] * len(names)),
        objects=_read_tracks(where, tracks or [], (height, width), len(names)),
        ground_truth="none" if tracks is None else "full",
        license=spec.license,
    )
    images = root / _FOLDER_OF_SPLIT[split] / "JPEGImages"
    return SourceVideo(record=record, frame_paths=tuple(images / name for name in names))


def _read_tracks(
    where: str, entries: list[dict[str, Any]], size: tuple[int, int], num_frames: int
) -> tuple[ObjectTrack, ...]:
    tracks: list[ObjectTrack] = []
    for entry in sorted(entries, key=lambda entry: int(entry["id"])):
        rles = _read_masks(f"{where}: annotation {entry['id']}", entry["segmentations"], size, num_frames)
        if not any(rles):
            logger.warning("%s: annotation %s is never visible, left out", where, entry["id"])
            continue
        tracks.append(
            ObjectTrack(
                object_id=len(tracks) + 1,
                source_id=str(entry["id"]),
                category_id=int(entry["category_id"]),
                states="".join(ABSENT if rle is None else VISIBLE for rle in rles),
                rles=rles,
                is_crowd=bool(entry.get("iscrowd", 0)),
            )
        )
    return tuple(tracks)


def _read_masks(
    where: str, segmentations: list[Any], size: tuple[int, int], num_frames: int
) -> tuple[str | None, ...]:
    if len(segmentations) != num_frames:
        raise ItemError(
            "E110", f"{where}: segmentations has {len(segmentations)} entries, file_names={num_frames}"
        )
    return tuple(
        None if value is None else _read_mask(f"{where} frame {index}", value, size)
        for index, value in enumerate(segmentations)
    )


def _read_mask(where: str, segmentation: Any, size: tuple[int, int]) -> str:
    rle = segmentation_to_rle(segmentation, *size, where)
    if mask_area(rle, *size) == 0:
        raise ItemError("E113", f"{where}: area 0")
    return rle
