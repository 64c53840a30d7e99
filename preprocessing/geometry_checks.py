"""Compare what the dataset says about a mask (box, area, outline) with the mask itself.

These are warnings: the mask is what is used, the official numbers are kept as they are.
"""

from collections.abc import Iterator

from preprocessing.findings import FindingLog
from preprocessing.masks import mask_area
from preprocessing.sources.official_fields import tight_box
from univs.schema import Box, ObjectTrack, Polygons, VideoRecord

_TOLERANCE_PX = 1.0
"""How far an official edge may lie from the mask's, or outside the image: the difference of conventions."""
_OUTLINE_TOLERANCE_PX = 2.0
"""The same for masks filled from outlines, whose thin ends cover no pixel."""


def check_geometry(record: VideoRecord, log: FindingLog) -> None:
    """Log official boxes, areas and outlines that differ from the masks or leave the image."""
    for track in record.objects:
        for index, where in _visible_frames(record, track):
            counts = track.rles[index]
            if counts is None:
                continue
            box = tight_box(counts, record.height, record.width)
            if track.boxes and track.boxes[index] is not None:
                _check_box(track, index, box, where, log)
            if track.areas and track.areas[index] is not None:
                area = mask_area(counts, record.height, record.width)
                _check_area(track.areas[index], area, box, where, log)
            if track.polygons and track.polygons[index] is not None:
                _check_outline(track.polygons[index], record, where, log)


def _visible_frames(record: VideoRecord, track: ObjectTrack) -> Iterator[tuple[int, str]]:
    if not (track.boxes or track.areas or track.polygons):
        return
    for index in range(record.num_frames):
        frame = "" if record.kind == "image" else f" frame {index}"
        yield index, f"{record.item_id}: object {track.source_id}{frame}"


def _check_box(track: ObjectTrack, index: int, found: Box | None, where: str, log: FindingLog) -> None:
    official = track.boxes[index]
    if official is None or found is None:
        return
    tolerance_px = _OUTLINE_TOLERANCE_PX if track.polygons and track.polygons[index] else _TOLERANCE_PX
    text = f"{where}: box {_numbers(official)}"
    if official[2] <= 0 or official[3] <= 0:
        log.add("W116", f"{text} has no extent; mask has {_numbers(found)}")
    elif any(abs(a - b) > tolerance_px for a, b in zip(_edges(official), _edges(found), strict=True)):
        log.add("W116", f"{text}; mask has {_numbers(found)}")


def _check_area(official: float | None, found: int, box: Box | None, where: str, log: FindingLog) -> None:
    if official is None or box is None:
        return
    # An outline and the pixels it fills differ by about half its length.
    if abs(official - found) <= max(_TOLERANCE_PX, box[2] + box[3]):
        return
    hint = "; it is the area of the box" if official == box[2] * box[3] else ""
    log.add("W115", f"{where}: area {official:g}; mask has {found} pixels{hint}")


def _check_outline(polygons: Polygons | None, record: VideoRecord, where: str, log: FindingLog) -> None:
    for polygon in polygons or ():
        low = min(polygon)
        right, bottom = max(polygon[::2]), max(polygon[1::2])
        is_inside = low >= -_TOLERANCE_PX and right <= record.width + _TOLERANCE_PX
        if not is_inside or bottom > record.height + _TOLERANCE_PX:
            log.add(
                "W118",
                f"{where}: polygon reaches from {low:g} to ({right:g}, {bottom:g}); "
                f"image is {record.width}x{record.height}",
            )
            return


def _edges(box: Box) -> Box:
    return (box[0], box[1], box[0] + box[2], box[1] + box[3])


def _numbers(box: Box) -> str:
    return "[" + ", ".join(f"{side:g}" for side in box) + "]"
