"""Check one item completely before it is written: every frame decodes, every mask fits.

Nothing the checks cover can fail later in a training worker, so the reader needs no fallback there.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import NoneType

from preprocessing.errors import Finding, ItemError
from preprocessing.findings import FindingLog
from preprocessing.frame_checks import FrameImage, check_frame, decode_frame, place_of, read_frame
from preprocessing.geometry_checks import check_geometry
from preprocessing.masks import mask_area, measure_masks
from preprocessing.reference_checks import check_references, check_texts
from preprocessing.sources.files import is_safe_name
from preprocessing.sources.source import SourceVideo
from univs.schema import ABSENT, IGNORED, UNKNOWN, VISIBLE, ObjectTrack, Region, VideoRecord

_STATES = frozenset((VISIBLE, ABSENT, UNKNOWN, IGNORED))
MAX_EXTRA_BYTES = 64 << 10
"""Largest ``extra`` of an object; OVIS and BURST keep a word per frame there."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ValidVideo:
    """An item that passed every check, with the bytes the checks saw."""

    record: VideoRecord
    frame_bytes: tuple[bytes, ...]
    """One encoded image per frame, as the authors stored it."""
    findings: tuple[Finding, ...] = ()
    """Warnings about the item."""


def validate(video: SourceVideo, root: Path | None = None) -> ValidVideo:
    """Read and decode every frame once, and check the record against them.

    A frame's ``extension`` becomes what its bytes are, whatever the official file name ends in.

    Args:
        video: What a source read.
        root: Source folder, to name files relative to it.

    Raises:
        ItemError: the first thing found wrong.
    """
    record = video.record
    if record.num_frames == 0 or len(video.frame_paths) != record.num_frames:
        raise ItemError(
            "E110", f"{record.item_id}: {len(video.frame_paths)} files for {record.num_frames} frames"
        )
    check_annotation(record)
    log = FindingLog()
    decoded = list(_decode_frames(video, root, log))
    check_geometry(record, log)
    check_texts(record, log)
    if record.kind == "video" and record.num_frames == 1:
        log.add("W150", f"{record.item_id}: kept; training clips of several frames repeat it")
    frames = zip(record.frames, decoded, strict=True)
    return ValidVideo(
        record=replace(
            record, frames=tuple(replace(f, extension=image.extension) for f, (_, image) in frames)
        ),
        frame_bytes=tuple(content for content, _ in decoded),
        findings=(*video.findings, *log.findings()),
    )


def check_annotation(record: VideoRecord) -> None:
    """Check objects, regions, expressions and prompts against the frame table and the size.

    Raises:
        ItemError: E110, E112, E113, E123, E139, E140, E144, E160 or E190.
    """
    _check_frame_table(record)
    measure_masks(_masks_of(record), record.height, record.width)
    areas = [0] * record.num_frames
    for track in record.objects:
        _check_track(record, track, areas)
    for region in record.regions:
        _check_region(record, region, areas)
    if record.is_partition:
        _check_partition(record, areas)
    check_references(record)


def _masks_of(record: VideoRecord) -> list[str]:
    parts: tuple[ObjectTrack | Region, ...] = (*record.objects, *record.regions)
    return [counts for part in parts for counts in part.rles if counts is not None]


def _decode_frames(
    video: SourceVideo, root: Path | None, log: FindingLog
) -> Iterator[tuple[bytes, FrameImage]]:
    for index, path in enumerate(video.frame_paths):
        place = place_of(video.record, path, root)
        content = read_frame(path, place)
        image = decode_frame(content, place)
        check_frame(image, index, video.record, place, log)
        yield content, image


def _check_frame_table(record: VideoRecord) -> None:
    start = record.frames[0].index if record.chunk.index else 0
    for position, frame in enumerate(record.frames):
        if frame.index != start + position:
            raise ItemError(
                "E110", f"{record.item_id}: frame {frame.name} has index {frame.index} at place {position}"
            )
        if not is_safe_name(frame.name):
            raise ItemError("E190", f"{record.item_id}: {frame.name!r}; expected a path inside the dataset")


def _check_track(record: VideoRecord, track: ObjectTrack, areas: list[int]) -> None:
    where = f"{record.item_id}: object {track.source_id}"
    if not len(track.states) == len(track.rles) == record.num_frames:
        raise ItemError(
            "E110",
            f"{where}: {len(track.states)} states, {len(track.rles)} masks, {record.num_frames} frames",
        )
    _check_official_fields(record, track, where)
    for index, (state, counts) in enumerate(zip(track.states, track.rles, strict=True)):
        if state not in _STATES or (counts is not None) != (state == VISIBLE):
            raise ItemError("E110", f"{where} frame {index}: state {state!r} with mask {counts!r:.30}")
        if counts is not None:
            areas[index] += _checked_area(record, counts, f"{where} frame {index}")


def _check_official_fields(record: VideoRecord, track: ObjectTrack, where: str) -> None:
    lists = {"boxes": track.boxes, "areas": track.areas, "polygons": track.polygons}
    for name, values in lists.items():
        if len(values) not in (0, record.num_frames):
            raise ItemError("E110", f"{where}: {len(values)} {name}, {record.num_frames} frames")
    _require_numbers(track, where)
    if track.category_id is not None and record.label_space is None:
        raise ItemError("E123", f"{where}: category_id {track.category_id} without a label space")
    num_bytes = len(track.extra.encode())
    if num_bytes > MAX_EXTRA_BYTES:
        raise ItemError(
            "E160", f"{where}: {num_bytes} bytes of extra fields; expected at most {MAX_EXTRA_BYTES}"
        )


def _require_numbers(track: ObjectTrack, where: str) -> None:
    """Refuse what JSON may hold in place of a number, and NumPy would read as one."""
    numbers: dict[str, Iterable[object]] = {
        "E110": (*track.areas, *(side for box in track.boxes for side in box or ())),
        "E117": (value for outline in track.polygons for polygon in outline or () for value in polygon),
    }
    for code, values in numbers.items():
        for value in values:
            if type(value) not in (int, float, NoneType):
                raise ItemError(code, f"{where}: {value!r:.30} is not a number")


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
