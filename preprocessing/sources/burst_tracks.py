"""The tracks of one BURST sequence."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from preprocessing.errors import Finding, ItemError
from preprocessing.masks import mask_area, measure_masks
from preprocessing.sources.official_fields import extra_json, located
from univs.schema import ABSENT, UNKNOWN, VISIBLE, ObjectTrack, OfficialPrompt

_MASK_FIELDS = {"rle", "bbox", "point"}


@dataclass(frozen=True, kw_only=True, slots=True)
class SequenceTracks:
    """What a sequence says about its tracks."""

    objects: tuple[ObjectTrack, ...]
    never_visible: Mapping[str, int]
    """Categories of tracks that no annotated frame shows."""
    findings: tuple[Finding, ...]


def read_sequence_tracks(
    name: str, sequence: Mapping[str, Any], pointer: str, *, is_exhaustive: bool
) -> SequenceTracks:
    """Turn the per-frame masks of a sequence into tracks, in order of their ids.

    Args:
        name: The sequence, as messages call it.
        sequence: Its official entry.
        pointer: Where the entry stands in its file.
        is_exhaustive: Whether a track without a mask in an annotated frame is absent there, or unknown.

    Raises:
        ItemError: E110 if frames and their masks differ in number, E112 or E113 for a bad mask, E122 for the
            mask of a track that is not listed.
    """
    frames, categories = sequence["segmentations"], sequence["track_category_ids"]
    _check_frames(name, sequence, pointer)
    rles = [mask["rle"] for frame in frames for mask in frame.values()]
    measure_masks([rle for rle in rles if isinstance(rle, str)], sequence["height"], sequence["width"])
    objects: list[ObjectTrack] = []
    never: dict[str, int] = {}
    for track_id in sorted(categories, key=int):
        masks = [frame.get(track_id) for frame in frames]
        if not any(masks):
            never[track_id] = categories[track_id]
            continue
        objects.append(
            ObjectTrack(
                object_id=len(objects) + 1,
                source_id=track_id,
                category_id=int(categories[track_id]),
                states="".join(_state(mask, is_exhaustive=is_exhaustive) for mask in masks),
                rles=_read_masks(name, track_id, masks, sequence, pointer),
                extra=_per_frame_fields(masks),
            )
        )
    return SequenceTracks(
        objects=tuple(objects), never_visible=never, findings=_findings(name, never, pointer)
    )


def first_frame_prompts(
    name: str, frames: Sequence[str], first: tuple[int, Mapping[str, Any]], objects: Sequence[ObjectTrack]
) -> tuple[OfficialPrompt, ...]:
    """Read the mask, box and point that ``first_frame_annotations.json`` gives for each track.

    Args:
        name: The sequence, as messages call it.
        frames: Its annotated frames.
        first: Position and body of its entry there.
        objects: Its tracks.

    Raises:
        ItemError: E144 for a track that has another mask, or none, in that frame.
    """
    position, body = first
    tracks = {track.source_id: track for track in objects}
    places = {frame: index for index, frame in enumerate(frames)}
    prompts: list[OfficialPrompt] = []
    masks = zip(body["annotated_image_paths"], body["segmentations"], strict=True)
    for row, (frame, entries) in enumerate(masks):
        for track_id in sorted(entries, key=int):
            track, index = tracks.get(track_id), places[frame]
            if track is None or track.rles[index] != entries[track_id].get("rle"):
                found = f"{name}: first-frame mask of track {track_id} in {frame} is not its mask there"
                place = f"/sequences/{position}/segmentations/{row}/{track_id}/rle"
                raise ItemError("E144", found, pointer=place)
            prompts += _prompts(track.object_id, index, entries[track_id])
    return tuple(sorted(prompts, key=lambda prompt: prompt.object_id))


def _prompts(object_id: int, frame_index: int, body: Mapping[str, Any]) -> list[OfficialPrompt]:
    """Sort what is given for one track into prompts; the mask is the track's own."""
    prompts = [OfficialPrompt(kind="mask", object_id=object_id, frame_index=frame_index)]
    if "bbox" in body:
        x, y, width, height = body["bbox"]
        box = (x, y, width, height)
        prompts.append(
            OfficialPrompt(kind="box", object_id=object_id, frame_index=frame_index, coordinates=box)
        )
    if "point" in body:
        x, y = body["point"]
        prompts.append(
            OfficialPrompt(kind="point", object_id=object_id, frame_index=frame_index, coordinates=(x, y))
        )
    return prompts


def _check_frames(name: str, sequence: Mapping[str, Any], pointer: str) -> None:
    num_masks, num_frames = len(sequence["segmentations"]), len(sequence["annotated_image_paths"])
    if num_masks != num_frames:
        message = f"{name}: segmentations has {num_masks} entries, annotated_image_paths={num_frames}"
        raise ItemError("E110", message, pointer=f"{pointer}/segmentations")
    for index, frame in enumerate(sequence["segmentations"]):
        strangers = sorted(frame.keys() - sequence["track_category_ids"].keys())
        if strangers:
            message = (
                f"{name}: frame {index} has track {strangers[0]}, which track_category_ids does not list"
            )
            raise ItemError("E122", message, pointer=f"{pointer}/segmentations/{index}/{strangers[0]}")


def _read_masks(
    name: str,
    track_id: str,
    masks: list[Mapping[str, Any] | None],
    sequence: Mapping[str, Any],
    pointer: str,
) -> tuple[str | None, ...]:
    size = (int(sequence["height"]), int(sequence["width"]))
    rles: list[str | None] = []
    for index, mask in enumerate(masks):
        with located("", f"{pointer}/segmentations/{index}/{track_id}/rle"):
            rles.append(
                None
                if mask is None
                else _checked(mask["rle"], size, f"{name}: track {track_id} frame {index}")
            )
    return tuple(rles)


def _checked(rle: Any, size: tuple[int, int], where: str) -> str:
    if not isinstance(rle, str):
        raise ItemError("E112", f"{where}: rle is {type(rle).__name__}, expected text")
    try:
        area = mask_area(rle, *size)
    except ValueError as error:
        raise ItemError("E112", f"{where}: {error}") from error
    if area == 0:
        raise ItemError("E113", f"{where}: area 0")
    return rle


def _state(mask: Mapping[str, Any] | None, *, is_exhaustive: bool) -> str:
    if mask is not None:
        return VISIBLE
    return ABSENT if is_exhaustive else UNKNOWN


def _per_frame_fields(masks: list[Mapping[str, Any] | None]) -> str:
    """Serialize what else is said about the masks (``is_gt``, ``score``): per field one value per frame."""
    names = sorted({name for mask in masks if mask for name in mask} - _MASK_FIELDS)
    return extra_json(
        {name: [None if mask is None else mask.get(name) for mask in masks] for name in names}, {}
    )


def _findings(name: str, never: Mapping[str, int], pointer: str) -> tuple[Finding, ...]:
    return tuple(
        Finding(
            code="W138",
            message=f"{name}: track {track_id} is never visible, left out",
            pointer=f"{pointer}/track_category_ids/{track_id}",
        )
        for track_id in never
    )
