"""Class maps and panoptic maps: VSPW, ADE20K, VIPSeg and COCO panoptic."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from univs.evaluation.submissions.files import inside, official_number, write_json, write_png
from univs.labels import LabelSpace
from univs.predictions import PanopticVideo, SemanticVideo


@dataclass(frozen=True, kw_only=True, slots=True)
class SegmentInfo:
    """One segment of one frame; fields are named as in the official JSON."""

    id: int
    category_id: int
    iscrowd: int
    area: int
    bbox: tuple[int, int, int, int]
    """x, y, width, height in pixels."""


@dataclass(frozen=True, kw_only=True, slots=True)
class VipsegFrame:
    """One frame's part of ``pred.json`` of VIPSeg."""

    file_name: str
    segments_info: tuple[SegmentInfo, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class VipsegEntry:
    """One video's part of ``pred.json`` of VIPSeg."""

    video_id: str
    annotations: tuple[VipsegFrame, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class CocoPanopticEntry:
    """One image's part of ``panoptic.json`` of COCO."""

    image_id: int
    file_name: str
    segments_info: tuple[SegmentInfo, ...]


def write_vipseg_video(
    root: Path, video: PanopticVideo, frame_names: Sequence[str], labels: LabelSpace
) -> VipsegEntry:
    """Write ``ROOT/pan_pred/<video>/<frame>.png`` and give the video's part of ``pred.json``.

    Raises:
        ValueError: there is not one name (a file stem) per frame.
    """
    if len(frame_names) != len(video.maps):
        raise ValueError(
            f"video {video.video_id!r}: {len(frame_names)} frame names for {len(video.maps)} frames"
        )
    frames = []
    for name, pixels in zip(frame_names, video.maps, strict=True):
        write_png(inside(root, "pan_pred", video.video_id, f"{name}.png"), _colored_ids(pixels))
        infos = _segments_info(video, pixels, labels)
        frames.append(VipsegFrame(file_name=f"{name}.png", segments_info=infos))
    return VipsegEntry(video_id=video.video_id, annotations=tuple(frames))


def write_vipseg_index(root: Path, entries: Iterable[VipsegEntry]) -> None:
    """Write ``ROOT/pred.json`` of VIPSeg from the entries of all videos."""
    rows = sorted((asdict(entry) for entry in entries), key=lambda row: str(row["video_id"]))
    write_json(root / "pred.json", {"annotations": rows})


def write_semantic_maps(root: Path, video: SemanticVideo, frame_names: Sequence[str]) -> None:
    """Write ``ROOT/<video>/<frame>.png`` of VSPW: 8-bit labels counted from 0.

    Raises:
        ValueError: there is not one name (a file stem) per frame, or a label does not fit 8 bits.
    """
    if len(frame_names) != len(video.labels):
        raise ValueError(
            f"video {video.video_id!r}: {len(frame_names)} frame names for {len(video.labels)} frames"
        )
    for name, pixels in zip(frame_names, video.labels, strict=True):
        write_png(inside(root, video.video_id, f"{name}.png"), _gray(video.video_id, pixels))


def write_ade20k_map(root: Path, image: SemanticVideo, name: str) -> None:
    """Write ``ROOT/<image>.png`` of ADE20K: 8-bit classes counted from 1.

    Raises:
        ValueError: a class does not fit 8 bits.
    """
    write_png(inside(root, f"{name}.png"), _gray(image.video_id, image.labels[0] + 1))


def write_coco_image(root: Path, image: PanopticVideo, labels: LabelSpace) -> CocoPanopticEntry:
    """Write ``ROOT/panoptic/<image>.png`` and give the image's part of ``panoptic.json``.

    Raises:
        ValueError: the image's id is not a COCO number.
    """
    number = official_number(image.video_id)
    name = f"{number:012d}.png"
    write_png(root / "panoptic" / name, _colored_ids(image.maps[0]))
    infos = _segments_info(image, image.maps[0], labels)
    return CocoPanopticEntry(image_id=number, file_name=name, segments_info=infos)


def write_coco_index(root: Path, entries: Iterable[CocoPanopticEntry]) -> None:
    """Write ``ROOT/panoptic.json`` of COCO from the entries of all images."""
    rows = sorted((asdict(entry) for entry in entries), key=lambda row: int(row["image_id"]))
    write_json(root / "panoptic.json", {"annotations": rows})


def _gray(video_id: str, values: NDArray[np.int16]) -> Image.Image:
    low, high = int(values.min()), int(values.max())
    if not 0 <= low <= high <= 255:
        raise ValueError(f"video {video_id!r}: classes {low}..{high}, expected 0..255 in a PNG of 8 bits")
    return Image.fromarray(values.astype(np.uint8))


def _segments_info(
    video: PanopticVideo, pixels: NDArray[np.int32], labels: LabelSpace
) -> tuple[SegmentInfo, ...]:
    """List the segments that this frame shows."""
    shown, areas = np.unique(pixels, return_counts=True)
    area_of = dict(zip(shown.tolist(), areas.tolist(), strict=True))
    return tuple(
        SegmentInfo(
            id=segment.segment_id,
            category_id=labels.categories[segment.label].category_id,
            iscrowd=0,
            area=area_of[segment.segment_id],
            bbox=_box(pixels == segment.segment_id),
        )
        for segment in video.segments
        if segment.segment_id in area_of
    )


def _box(mask: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    left, top = int(columns[0]), int(rows[0])
    return left, top, int(columns[-1]) - left + 1, int(rows[-1]) - top + 1


def _colored_ids(pixels: NDArray[np.int32]) -> Image.Image:
    """Write ids as R + 256 G + 65536 B."""
    shifts = np.asarray((0, 8, 16), np.int32)
    return Image.fromarray(((pixels[..., None] >> shifts) & 255).astype(np.uint8))
