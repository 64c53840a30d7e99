"""Writers of the files that evaluation servers and official evaluators read.

Every writer works on one video, so that workers can share a folder; what a benchmark keeps in one JSON file
is returned per video and written once at the end. Files appear whole or not at all.
"""

import io
import json
import os
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from univs.draw import palette
from univs.labels import LabelSpace
from univs.predictions import InstanceVideo, ObjectVideo, PanopticVideo, SemanticVideo

_ZIP_TIME = (1980, 1, 1, 0, 0, 0)


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


def write_ytvis_results(
    path: Path,
    videos: Iterable[InstanceVideo],
    labels: LabelSpace,
    official_ids: Mapping[str, int] | None = None,
) -> None:
    """Write ``results.json`` of YouTube-VIS: one entry per track, one RLE or null per frame.

    ``official_ids`` gives the dataset's number of each video where our video ids are not those numbers.

    Raises:
        ValueError: a video has no number.
    """
    categories = [category.category_id for category in labels.categories]
    rows = []
    for video in videos:
        number = _official_number(video.video_id, official_ids)
        size = [video.height, video.width]
        for track in video.tracks:
            masks = [None if rle is None else {"size": size, "counts": rle} for rle in track.rles]
            rows.append(
                {
                    "video_id": number,
                    "category_id": categories[track.label],
                    "score": track.score,
                    "segmentations": masks,
                }
            )
    _write(path, _json(rows))


def write_object_masks(root: Path, video: ObjectVideo) -> None:
    """Write ``ROOT/<video>/<frame>.png`` of DAVIS: palette PNGs whose values are the object ids.

    Where masks overlap, the object listed first owns the pixel.

    Raises:
        ValueError: an object id is not a number in 1..255.
    """
    ids = [int(name) if name.isdecimal() else 0 for name in video.object_ids]
    if not all(0 < number < 256 for number in ids):
        raise ValueError(
            f"video {video.video_id!r}: object ids {list(video.object_ids)[:8]} must be numbers in 1..255"
        )
    for t, name in enumerate(video.frame_names):
        pixels = np.zeros(video.masks.shape[2:], np.uint8)
        for n in reversed(range(len(ids))):
            pixels[video.masks[n, t]] = ids[n]
        image = Image.fromarray(pixels, "P")
        image.putpalette(palette().tobytes())
        _write_png(_inside(root, video.video_id, f"{name}.png"), image)


def write_expression_masks(root: Path, video: ObjectVideo) -> None:
    """Write ``ROOT/Annotations/<video>/<expression>/<frame>.png`` of Ref-YouTube-VOS, values 0 and 255."""
    for n, expression_id in enumerate(video.object_ids):
        for t, name in enumerate(video.frame_names):
            path = _inside(root, "Annotations", video.video_id, expression_id, f"{name}.png")
            _write_png(path, Image.fromarray(video.masks[n, t].astype(np.uint8) * 255))


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
        _write_png(_inside(root, "pan_pred", video.video_id, f"{name}.png"), _colored_ids(pixels))
        infos = _segments_info(video, pixels, labels)
        frames.append(VipsegFrame(file_name=f"{name}.png", segments_info=infos))
    return VipsegEntry(video_id=video.video_id, annotations=tuple(frames))


def write_vipseg_index(root: Path, entries: Iterable[VipsegEntry]) -> None:
    """Write ``ROOT/pred.json`` of VIPSeg from the entries of all videos."""
    rows = sorted((asdict(entry) for entry in entries), key=lambda row: str(row["video_id"]))
    _write(root / "pred.json", _json({"annotations": rows}))


def write_semantic_maps(root: Path, video: SemanticVideo, frame_names: Sequence[str]) -> None:
    """Write ``ROOT/<video>/<frame>.png`` of VSPW: 8-bit labels counted from 0.

    Raises:
        ValueError: there is not one name (a file stem) per frame.
    """
    if len(frame_names) != len(video.labels):
        raise ValueError(
            f"video {video.video_id!r}: {len(frame_names)} frame names for {len(video.labels)} frames"
        )
    for name, pixels in zip(frame_names, video.labels, strict=True):
        _write_png(_inside(root, video.video_id, f"{name}.png"), Image.fromarray(pixels.astype(np.uint8)))


def write_coco_image(root: Path, image: PanopticVideo, labels: LabelSpace) -> CocoPanopticEntry:
    """Write ``ROOT/panoptic/<image>.png`` and give the image's part of ``panoptic.json``.

    Raises:
        ValueError: the image's id is not a COCO number.
    """
    number = _official_number(image.video_id, None)
    name = f"{number:012d}.png"
    _write_png(root / "panoptic" / name, _colored_ids(image.maps[0]))
    infos = _segments_info(image, image.maps[0], labels)
    return CocoPanopticEntry(image_id=number, file_name=name, segments_info=infos)


def write_coco_index(root: Path, entries: Iterable[CocoPanopticEntry]) -> None:
    """Write ``ROOT/panoptic.json`` of COCO from the entries of all images."""
    rows = sorted((asdict(entry) for entry in entries), key=lambda row: int(row["image_id"]))
    _write(root / "panoptic.json", _json({"annotations": rows}))


def zip_submission(path: Path, root: Path) -> None:
    """Pack the files below ``root`` for upload, named relative to it; equal files give equal bytes."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for source in sorted(item for item in root.rglob("*") if item.is_file()):
            info = zipfile.ZipInfo(source.relative_to(root).as_posix(), _ZIP_TIME)
            archive.writestr(info, source.read_bytes(), zipfile.ZIP_DEFLATED)
    _write(path, packed.getvalue())


def _official_number(video_id: str, official_ids: Mapping[str, int] | None) -> int:
    if official_ids is not None and video_id in official_ids:
        return official_ids[video_id]
    if official_ids is not None or not video_id.isdecimal():
        raise ValueError(f"video {video_id!r} has no official number: give it in official_ids")
    return int(video_id)


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


def _inside(root: Path, *names: str) -> Path:
    """Join names that come from data, refusing any that would leave the folder."""
    for name in names:
        if name in ("", ".", "..") or PurePosixPath(name).name != name or "\\" in name:
            raise ValueError(f"{name!r} cannot be a file or folder name: expected a plain name")
    return root.joinpath(*names)


def _json(body: Any) -> bytes:
    return json.dumps(body, separators=(",", ":"), allow_nan=False).encode()


def _write_png(path: Path, image: Image.Image) -> None:
    encoded = io.BytesIO()
    image.save(encoded, "PNG")
    _write(path, encoded.getvalue())


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    part.write_bytes(data)
    part.replace(path)
