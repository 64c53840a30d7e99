"""The tracks of one video in the YouTube-VIS schema."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from preprocessing.errors import Finding, ItemError
from preprocessing.masks import mask_area
from preprocessing.sources.official_fields import extra_json, keep_areas, keep_boxes, located
from preprocessing.sources.segmentation import measure_segmentations, segmentation_to_rle
from univs.schema import ABSENT, UNKNOWN, VISIBLE, Box, ObjectTrack

Entries = list[tuple[int, Mapping[str, Any]]]
"""Tracks as the JSON holds them, each with its position in the file."""


@dataclass(frozen=True, kw_only=True, slots=True)
class VideoTracks:
    """The tracks of one video."""

    visible: tuple[ObjectTrack, ...]
    """In order of their ids."""
    left_out: tuple[Mapping[str, Any], ...]
    """Official entries of those that are visible in no frame."""
    findings: tuple[Finding, ...]
    """One for each that is left out."""


def read_tracks(where: str, entries: Entries, shape: Mapping[str, int]) -> VideoTracks:
    """Turn the official entries of one video into tracks.

    Args:
        where: Names the item in messages.
        entries: The item's tracks.
        shape: ``height``, ``width`` and ``length`` of the video, which most releases repeat in each track.

    Raises:
        ItemError: E110, E111, E112, E113 or E117, with the pointer into the file.
    """
    fields = (field for _, entry in entries for field in entry["segmentations"] or ())
    measure_segmentations(fields, shape["height"], shape["width"])
    tracks: list[ObjectTrack] = []
    left_out: list[Mapping[str, Any]] = []
    findings: list[Finding] = []
    for position, entry in sorted(entries, key=lambda pair: int(pair[1]["id"])):
        pointer = f"/annotations/{position}"
        here = f"{where}: annotation {entry['id']}"
        rles = _read_masks(here, entry["segmentations"], shape, pointer)
        if any(rles):
            tracks.append(_read_track(len(tracks) + 1, entry, rles, shape, here))
        else:
            message = f"{here} is never visible, left out"
            findings.append(Finding(code="W138", message=message, pointer=pointer))
            left_out.append(entry)
    return VideoTracks(visible=tuple(tracks), left_out=tuple(left_out), findings=tuple(findings))


def _read_track(
    object_id: int,
    entry: Mapping[str, Any],
    rles: tuple[str | None, ...],
    shape: Mapping[str, int],
    where: str,
) -> ObjectTrack:
    size = (shape["height"], shape["width"])
    boxes = keep_boxes(entry.get("bboxes"), rles, *size, where)
    held = {"id", "video_id", "category_id", "segmentations", "bboxes", "areas"}
    rest = {name: value for name, value in entry.items() if name not in held}
    return ObjectTrack(
        object_id=object_id,
        source_id=str(entry["id"]),
        category_id=int(entry["category_id"]),
        states="".join(map(_state, rles, boxes or [None] * len(rles))),
        rles=rles,
        is_crowd=bool(entry.get("iscrowd", 0)),
        boxes=boxes,
        areas=keep_areas(entry.get("areas"), rles, *size, where),
        extra=extra_json(rest, {**shape, "iscrowd": int(bool(entry.get("iscrowd", 0)))}),
    )


def _state(rle: str | None, box: Box | None) -> str:
    """A box without a mask says that the object is there, but not where."""
    if rle is not None:
        return VISIBLE
    return UNKNOWN if box is not None and box[2] > 0 and box[3] > 0 else ABSENT


def _read_masks(
    where: str, segmentations: list[Any], shape: Mapping[str, int], pointer: str
) -> tuple[str | None, ...]:
    pointer = f"{pointer}/segmentations"
    if len(segmentations) != shape["length"]:
        message = f"{where}: segmentations has {len(segmentations)} entries, file_names={shape['length']}"
        raise ItemError("E110", message, pointer=pointer)
    masks: list[str | None] = []
    for index, value in enumerate(segmentations):
        with located("", f"{pointer}/{index}"):
            masks.append(None if value is None else _read_mask(f"{where} frame {index}", value, shape))
    return tuple(masks)


def _read_mask(where: str, segmentation: Any, shape: Mapping[str, int]) -> str:
    size = (shape["height"], shape["width"])
    rle = segmentation_to_rle(segmentation, *size, where)
    if mask_area(rle, *size) == 0:
        raise ItemError("E113", f"{where}: area 0")
    return rle
