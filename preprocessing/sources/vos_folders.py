"""Video object segmentation in folders: palette PNGs of object ids, and what ``meta.json`` says of objects.

YouTube-VOS, Refer-YouTube-VOS and MOSE share it. A frame without a PNG is not annotated, which is not the
same as empty: validation sets publish PNGs only of frames in which some object first appears.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from preprocessing.errors import Finding, ItemError, SourceError
from preprocessing.masks import mask_area
from preprocessing.sources.files import OfficialFile, list_names, load_json
from preprocessing.sources.label_images import INDEX_MODES
from preprocessing.sources.official_fields import extra_json
from preprocessing.sources.video_folders import LabelVideo, read_label_video
from univs.schema import ObjectTrack

BACKGROUND = 0
SOURCE_RATE = 30.0
"""Frames per second of the videos that YouTube-VOS numbers its frames by."""
STRAY_PIXELS = 16
"""Undeclared ids smaller than this in every frame are palette noise, kept with a warning."""

Declared = Mapping[str, Mapping[str, Any]]
"""What ``meta.json`` says about the objects of a video, by id."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DeclaredTracks:
    """Tracks beside what was declared about them."""

    objects: tuple[ObjectTrack, ...]
    """With the category and the frames that ``meta.json`` gives them in ``extra``."""
    never_visible: Declared
    """Declared objects without any pixel."""
    findings: tuple[Finding, ...]


def load_declared(root: Path, official: OfficialFile) -> dict[str, Declared]:
    """Read the declared objects by video.

    Raises:
        SourceError: the file is missing or malformed.
    """
    body = load_json(root, official, ("videos",))
    try:
        return {name: dict(video["objects"]) for name, video in body["videos"].items()}
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise SourceError(
            f"--source {root}: {official.path} is malformed ({type(error).__name__}: {error}); "
            f"expected {official.expected}; {official.remedy}"
        ) from error


def read_sparse_labels(
    root: Path, folder: str, name: str, frame_names: Sequence[str]
) -> tuple[LabelVideo, tuple[Finding, ...]]:
    """Decode the label PNGs that exist for a video's frames; warn of those without a frame.

    Args:
        root: Source folder.
        folder: Where the video's PNGs lie, relative to it.
        name: The video, as messages call it.
        frame_names: Image files of all its frames.

    Raises:
        ItemError: E151 if no frame has a PNG; E102, E130 or E131 of the first that does not fit.
    """
    stems = [Path(frame).stem for frame in frame_names]
    present = {Path(label).stem for label in list_names(root / folder, ".png")}
    if not present & set(stems):
        message = f"{name}: {len(stems)} frames, 0 of them with a PNG in {Path(folder).parts[-2]}"
        raise ItemError("E151", message, folder)
    findings = tuple(
        Finding(
            code="W152", message=f"{name}: {stem}.png has no image, left out", file=f"{folder}/{stem}.png"
        )
        for stem in sorted(present - set(stems))
    )
    paths = [root / folder / f"{stem}.png" if stem in present else None for stem in stems]
    return read_label_video(paths, name, INDEX_MODES), findings


def join_declared(
    name: str,
    objects: Sequence[ObjectTrack],
    declared: Declared,
    labels: LabelVideo,
    file: str,
    pointer: str = "",
) -> DeclaredTracks:
    """Compare the ids in the label images with the declared ones.

    Args:
        name: The video, as messages call it.
        objects: Tracks by palette id.
        declared: What ``meta.json`` says.
        labels: The images the tracks are from.
        file: Path of ``meta.json``, relative to the source folder.
        pointer: Where in it the objects of the video are, if not where YouTube-VOS has them.

    Raises:
        ItemError: E137 for an undeclared id of more than a few pixels.
    """
    pointer = pointer or f"/videos/{name}/objects"
    findings: list[Finding] = []
    for track in objects:
        if track.source_id not in declared:
            message = _stray(name, track, declared, labels, (file, pointer))
            findings.append(Finding(code="W137", message=message, file=file, pointer=pointer))
    seen = {track.source_id for track in objects}
    never = {source_id: body for source_id, body in declared.items() if source_id not in seen}
    findings += [
        Finding(
            code="W138",
            message=f"{name}: declared object {source_id} is never visible, left out",
            file=file,
            pointer=f"{pointer}/{source_id}",
        )
        for source_id in sorted(never)
    ]
    kept = tuple(replace(track, extra=extra_json(declared.get(track.source_id, {}), {})) for track in objects)
    return DeclaredTracks(objects=kept, never_visible=never, findings=tuple(findings))


def stored_rate(frame_names: Sequence[str]) -> float | None:
    """Tell the rate of YouTube-VOS frames from their numbers; ``None`` if those have gaps or are none."""
    stems = [Path(frame).stem for frame in frame_names]
    if not all(stem.isdecimal() for stem in stems):
        return None
    steps = {int(after) - int(before) for before, after in pairwise(stems)}
    return SOURCE_RATE / steps.pop() if len(steps) == 1 and min(steps) > 0 else None


def _stray(
    name: str, track: ObjectTrack, declared: Declared, labels: LabelVideo, place: tuple[str, str]
) -> str:
    """Say how an undeclared object is kept, or reject it if it is more than noise."""
    area = max(mask_area(rle, labels.height, labels.width) for rle in track.rles if rle)
    known = ", ".join(sorted(declared)) or "none"
    found = f"{name}: id {track.source_id} ({area} px) is not among {known}"
    if area >= STRAY_PIXELS:
        raise ItemError("E137", found, *place)
    return f"{found}; kept"
