"""Scribbles of the interactive track of DAVIS 2017: strokes that people drew to say which object is which.

``Scribbles/<sequence>/%03d.json``, one file per person, holds ``sequence`` and ``scribbles``: per frame a
list of strokes with ``object_id`` (0 is background), a ``path`` of x, y as fractions of the picture (1 is
the last pixel), and times.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from preprocessing.errors import ItemError
from preprocessing.sources.davis_labels import Sequence
from preprocessing.sources.files import list_names, parse_json
from preprocessing.sources.official_fields import extra_json
from univs.schema import OfficialPrompt

_BACKGROUND = "0"


@dataclass(frozen=True, kw_only=True, slots=True)
class Scribbles:
    """All strokes of a sequence, in order of files, frames and strokes."""

    prompts: tuple[OfficialPrompt, ...] = ()
    extra: str = ""
    """Which file each stroke is from, and its other fields; canonical JSON."""


def read_scribbles(root: Path, name: str, sequence: Sequence) -> Scribbles:
    """Read the scribbles of a sequence, if there are any.

    Raises:
        ItemError: E110 if a file has not one list per frame, E144 if a stroke names no object.
        ValueError, KeyError, TypeError: a file is malformed.
    """
    folder = f"Scribbles/{name}"
    prompts: list[OfficialPrompt] = []
    described: dict[str, Any] = {}
    for file in list_names(root / folder, ".json"):
        body = parse_json((root / folder / file).read_bytes())
        frames = body["scribbles"]
        if len(frames) != len(sequence.labels.frames):
            message = (
                f"{name}: {file} has {len(frames)} lists of scribbles, {len(sequence.labels.frames)} frames"
            )
            raise ItemError("E110", message, f"{folder}/{file}", "/scribbles")
        strokes = [(index, number) for index, frame in enumerate(frames) for number in range(len(frame))]
        for index, number in strokes:
            place = (f"{folder}/{file}", f"/scribbles/{index}/{number}")
            prompts.append(_prompt(name, frames[index][number], index, sequence, place))
        described[file] = _describe(body, [frames[index][number] for index, number in strokes])
    return Scribbles(
        prompts=tuple(prompts), extra=extra_json({"scribbles": described} if described else {}, {})
    )


def _prompt(
    name: str, stroke: Mapping[str, Any], frame_index: int, sequence: Sequence, place: tuple[str, str]
) -> OfficialPrompt:
    object_ids = {_BACKGROUND: 0, **{track.source_id: track.object_id for track in sequence.objects}}
    source_id = str(stroke["object_id"])
    if source_id not in object_ids:
        known = ", ".join(object_ids)
        raise ItemError("E144", f"{name}: scribble of object {source_id}; expected one of {known}", *place)
    scale = (sequence.labels.width - 1, sequence.labels.height - 1)
    points = [(float(x) * scale[0], float(y) * scale[1]) for x, y in stroke["path"]]
    coordinates = tuple(value for point in points for value in point)
    if not all(map(math.isfinite, coordinates)):
        raise ItemError("E144", f"{name}: a scribble is not finite", *place)
    return OfficialPrompt(
        kind="scribble", object_id=object_ids[source_id], frame_index=frame_index, coordinates=coordinates
    )


def _describe(body: Mapping[str, Any], strokes: list[Mapping[str, Any]]) -> dict[str, Any]:
    rest = [{k: v for k, v in stroke.items() if k not in ("path", "object_id")} for stroke in strokes]
    return {**{k: v for k, v in body.items() if k != "scribbles"}, "strokes": rest}
