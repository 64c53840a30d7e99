"""Check one item completely before it is written: every frame decodes, every mask fits.

Nothing the checks cover can fail later in a training worker, so the reader needs no fallback there.
"""

import io
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from PIL import Image

from preprocessing.errors import DAMAGED_FILE_ERRORS, Finding, ItemError
from preprocessing.masks import mask_area
from preprocessing.sources.files import read_range
from preprocessing.sources.source import FileRange, SourceVideo
from univs.schema import ABSENT, IGNORED, UNKNOWN, VISIBLE, ObjectTrack, Region, VideoRecord

_STATES = frozenset((VISIBLE, ABSENT, UNKNOWN, IGNORED))
_EXTENSION_OF_FORMAT: dict[str, Literal["jpg", "png"]] = {"JPEG": "jpg", "MPO": "jpg", "PNG": "png"}


@dataclass(frozen=True, kw_only=True, slots=True)
class ValidVideo:
    """An item that passed every check, with the bytes the checks saw."""

    record: VideoRecord
    frame_bytes: tuple[bytes, ...]
    """One encoded image per frame, as the authors stored it."""
    findings: tuple[Finding, ...] = ()
    """Warnings about the item."""


def validate(video: SourceVideo) -> ValidVideo:
    """Read and decode every frame once, and check the record against them.

    A frame's ``extension`` becomes what its bytes are, whatever the official file name ends in.

    Raises:
        ItemError: the first thing found wrong.
    """
    record = video.record
    if record.num_frames == 0 or len(video.frame_paths) != record.num_frames:
        raise ItemError(
            "E110", f"{record.item_id}: {len(video.frame_paths)} files for {record.num_frames} frames"
        )
    check_annotation(record)
    contents: list[bytes] = []
    frames = []
    for frame, path in zip(record.frames, video.frame_paths, strict=True):
        where = record.item_id if record.kind == "image" else f"{record.item_id}/{path.name}"
        content = _read_bytes(path, where)
        extension = _decode_image(content, path, where, (record.height, record.width))
        contents.append(content)
        frames.append(replace(frame, extension=extension))
    return ValidVideo(
        record=replace(record, frames=tuple(frames)), frame_bytes=tuple(contents), findings=video.findings
    )


def check_annotation(record: VideoRecord) -> None:
    """Check objects, regions and expressions against the frame table and the size.

    Raises:
        ItemError: E110, E112, E113, E139 or E140.
    """
    areas = [0] * record.num_frames
    for track in record.objects:
        _check_track(record, track, areas)
    for region in record.regions:
        _check_region(record, region, areas)
    if record.is_partition:
        _check_partition(record, areas)
    _check_references(record)


def _read_bytes(path: Path | FileRange, where: str) -> bytes:
    try:
        content = read_range(path) if isinstance(path, FileRange) else path.read_bytes()
    except FileNotFoundError as error:
        place = f"{path.path.name}" if isinstance(path, FileRange) else f"{path.parent.name}/{path.name}"
        raise ItemError("E101", f"{where}: {place} not found; unpack the images completely") from error
    except (OSError, ValueError) as error:
        raise ItemError("E102", f"{where}: {path.name} unreadable: {error}") from error
    if not content:
        raise ItemError("E102", f"{where}: {path.name} has 0 bytes")
    return content


def _decode_image(
    content: bytes, path: Path | FileRange, where: str, size: tuple[int, int]
) -> Literal["jpg", "png"]:
    try:
        with Image.open(io.BytesIO(content)) as image:
            image.load()
            found_format, found_size = image.format, (image.height, image.width)
    except DAMAGED_FILE_ERRORS as error:
        # Pillow names the in-memory stream, whose address would make messages differ from run to run.
        reason = "not an image" if "BytesIO" in str(error) else str(error)
        raise ItemError("E102", f"{where}: {path.name} has {len(content)} bytes: {reason}") from error
    if found_format not in _EXTENSION_OF_FORMAT:
        raise ItemError("E102", f"{where}: {path.name} holds {found_format} data; expected JPEG or PNG")
    if found_size != size:
        raise ItemError(
            "E103", f"{where}: image {found_size[1]}x{found_size[0]}; expected {size[1]}x{size[0]} (w x h)"
        )
    return _EXTENSION_OF_FORMAT[found_format]


def _check_track(record: VideoRecord, track: ObjectTrack, areas: list[int]) -> None:
    where = f"{record.item_id}: object {track.source_id}"
    if not len(track.states) == len(track.rles) == record.num_frames:
        raise ItemError(
            "E110",
            f"{where}: {len(track.states)} states, {len(track.rles)} masks, {record.num_frames} frames",
        )
    for index, (state, counts) in enumerate(zip(track.states, track.rles, strict=True)):
        if state not in _STATES or (counts is not None) != (state == VISIBLE):
            raise ItemError("E110", f"{where} frame {index}: state {state!r} with mask {counts!r:.30}")
        if counts is not None:
            areas[index] += _checked_area(record, counts, f"{where} frame {index}")


def _check_region(record: VideoRecord, region: Region, areas: list[int]) -> None:
    where = f"{record.item_id}: {region.kind} region"
    if len(region.rles) != record.num_frames:
        raise ItemError("E110", f"{where}: {len(region.rles)} masks, {record.num_frames} frames")
    for index, counts in enumerate(region.rles):
        if counts is not None:
            areas[index] += _checked_area(record, counts, f"{where} frame {index}")


def _checked_area(record: VideoRecord, counts: str, where: str) -> int:
    try:
        area = mask_area(counts, record.height, record.width)
    except ValueError as error:
        raise ItemError("E112", f"{where}: {error}") from error
    if area == 0:
        raise ItemError("E113", f"{where}: area 0")
    return area


def _check_partition(record: VideoRecord, areas: list[int]) -> None:
    expected = record.height * record.width
    for frame, area in zip(record.frames, areas, strict=True):
        if frame.labelled and area != expected:
            raise ItemError("E139", f"{record.item_id}: frame {frame.name}: {area} pixels of {expected}")


def _check_references(record: VideoRecord) -> None:
    object_ids = [track.object_id for track in record.objects]
    if object_ids != list(range(1, len(object_ids) + 1)):
        raise ItemError("E110", f"{record.item_id}: object ids {object_ids[:8]} are not 1..{len(object_ids)}")
    for expression in record.expressions:
        missing = sorted(set(expression.object_ids) - set(object_ids))
        if missing:
            raise ItemError(
                "E140", f"{record.item_id}: expression {expression.expression_id} names object {missing[0]}"
            )
