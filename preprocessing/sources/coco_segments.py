"""The segments of a COCO panoptic image: a label PNG, and what ``segments_info`` says of each id in it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from preprocessing.errors import Finding, ItemError, malformed_as_item_error
from preprocessing.masks import encode_label_map
from preprocessing.sources.coco_json import ImageEntry
from preprocessing.sources.coco_record import given
from preprocessing.sources.files import index_by, require_safe_name
from preprocessing.sources.label_images import read_segment_ids, require_label_size
from preprocessing.sources.official_fields import extra_json, keep_areas, keep_boxes, located
from preprocessing.sources.tracks import build_frames, build_region, build_tracks
from univs.schema import ObjectTrack, VideoRecord

VOID_ID = 0
_HELD_BY_SEGMENT = frozenset({"id", "category_id", "area", "bbox"})


def add_segments(
    record: VideoRecord, entry: ImageEntry, root: Path, folder: str
) -> tuple[VideoRecord, tuple[Finding, ...]]:
    """Give a record without truth the segments of its image's one annotation; also warnings about them.

    Args:
        record: The record of the bare image.
        entry: What the file says about the image.
        root: The source folder.
        folder: Where in it the label PNGs lie.

    Raises:
        ItemError: E100, E102, E120, E130, E131, E135, E151 or E190.
    """
    where, (annotation,) = record.item_id, entry.annotations or ()
    pointer = f"/annotations/{entry.annotation_indices[0]}"
    with located(entry.file, f"{pointer}/segments_info"), malformed_as_item_error(where):
        png = f"{folder}/{require_safe_name(where, annotation['file_name'])}"
        segments = index_by(annotation["segments_info"], "id")
        with located(png):
            masks = _read_masks(root / png, record, set(segments))
        _require_drawn(where, set(segments) - masks.keys())
        crowds = frozenset(i for i, segment in segments.items() if segment.get("iscrowd", 0))
        tracks = build_tracks([masks], {i: int(s["category_id"]) for i, s in segments.items()}, crowds)
        size = (record.height, record.width)
        objects = tuple(_add_official(where, track, segments[int(track.source_id)], size) for track in tracks)
    complete = replace(
        record,
        frames=build_frames([frame.name for frame in record.frames]),
        objects=objects,
        regions=build_region([masks], VOID_ID, "void"),
        ground_truth="full",
        is_partition=True,
    )
    return complete, tuple(_differing(where, objects, entry.file, f"{pointer}/segments_info"))


def _read_masks(path: Path, record: VideoRecord, listed: set[int]) -> dict[int, str]:
    where = record.item_id
    ids = read_segment_ids(path, where)
    require_label_size(ids, record.height, record.width, where)
    masks = encode_label_map(ids)
    unlisted_ids = sorted(masks.keys() - {VOID_ID} - listed)
    if unlisted_ids:
        raise ItemError(
            "E135", f"{where}: id {unlisted_ids[0]} in the PNG only ({len(unlisted_ids)} such ids)"
        )
    return masks


def _require_drawn(where: str, missing: set[int]) -> None:
    if missing:
        raise ItemError("E135", f"{where}: id {min(missing)} in segments_info only ({len(missing)} such ids)")


def _add_official(
    where: str, track: ObjectTrack, segment: Mapping[str, Any], size: tuple[int, int]
) -> ObjectTrack:
    here = f"{where}: segment {track.source_id}"
    rest = {name: value for name, value in segment.items() if name not in _HELD_BY_SEGMENT}
    return replace(
        track,
        boxes=keep_boxes(given(segment, "bbox"), track.rles, *size, here),
        areas=keep_areas(given(segment, "area"), track.rles, *size, here),
        extra=extra_json(rest, {"iscrowd": int(track.is_crowd)}),
    )


def _differing(where: str, objects: Sequence[ObjectTrack], file: str, pointer: str) -> Iterator[Finding]:
    names = [track.source_id for track in objects if track.boxes or track.areas]
    if names:
        message = f"{where}: area or bbox of {len(names)} of {len(objects)} segments, the first is {names[0]}"
        yield Finding(code="W136", message=message, file=file, pointer=pointer)
