"""Check what points at objects: expressions and official prompts."""

import math
import re

from preprocessing.errors import ItemError
from preprocessing.findings import FindingLog
from univs.schema import VISIBLE, ObjectTrack, OfficialPrompt, VideoRecord

_MAX_TOKENS = 77
"""What CLIP's text encoder reads, start and end included."""
_PIECES = re.compile(r"[^\W\d_]+|\d|[^\s\w]+|_+")
"""Words, digits and runs of punctuation: CLIP's byte pairs never reach across two of them."""
_MAX_IDS_SHOWN = 5


def check_references(record: VideoRecord) -> None:
    """Check that expressions and prompts name objects and frames of the record.

    Raises:
        ItemError: E110, E140 or E144.
    """
    object_ids = [track.object_id for track in record.objects]
    if object_ids != list(range(1, len(object_ids) + 1)):
        raise ItemError("E110", f"{record.item_id}: object ids {object_ids[:8]} are not 1..{len(object_ids)}")
    for expression in record.expressions:
        missing = sorted(set(expression.object_ids) - set(object_ids))
        if missing:
            raise ItemError(
                "E140", f"{record.item_id}: expression {expression.expression_id} names object {missing[0]}"
            )
    for index, prompt in enumerate(record.prompts):
        _check_prompt(record, prompt, f"{record.item_id}: prompt {index} ({prompt.kind})")


def check_texts(record: VideoRecord, log: FindingLog) -> None:
    """Log expressions that say nothing or too much, and objects that no expression names."""
    named: set[int] = set()
    for expression in record.expressions:
        named.update(expression.object_ids)
        where = f"{record.item_id}: expression {expression.expression_id}"
        # Start and end are tokens too.
        num_tokens = len(_PIECES.findall(expression.text)) + 2
        if not expression.text.strip():
            log.add("W141", f"{where} is {expression.text!r}")
        elif num_tokens > _MAX_TOKENS:
            log.add("W141", f"{where} has at least {num_tokens} tokens; the encoder reads {_MAX_TOKENS}")
    # Images of RefCOCO have all objects of COCO, most of them without an expression on purpose.
    if named and record.kind == "video":
        _log_nameless([track for track in record.objects if track.object_id not in named], record, log)


def _log_nameless(tracks: list[ObjectTrack], record: VideoRecord, log: FindingLog) -> None:
    if not tracks:
        return
    shown = ", ".join(track.source_id for track in tracks[:_MAX_IDS_SHOWN])
    more = ", ..." if len(tracks) > _MAX_IDS_SHOWN else ""
    log.add("W142", f"{record.item_id}: {len(tracks)} of {len(record.objects)} objects: {shown}{more}")


def _check_prompt(record: VideoRecord, prompt: OfficialPrompt, where: str) -> None:
    if not 0 <= prompt.object_id <= len(record.objects):
        raise ItemError("E144", f"{where} names object {prompt.object_id}; there are {len(record.objects)}")
    if not 0 <= prompt.frame_index - record.frames[0].index < record.num_frames:
        raise ItemError("E144", f"{where} names frame {prompt.frame_index} of {record.num_frames}")
    if not _has_coordinates(prompt):
        shown = ", ".join(f"{value!r:.20}" for value in prompt.coordinates[:_MAX_IDS_SHOWN])
        raise ItemError("E144", f"{where} has {len(prompt.coordinates)} coordinates: {shown}")
    if prompt.kind == "mask":
        _require_mask(record, prompt, where)


def _has_coordinates(prompt: OfficialPrompt) -> bool:
    count = len(prompt.coordinates)
    if not all(isinstance(value, int | float) and math.isfinite(value) for value in prompt.coordinates):
        return False
    if prompt.kind == "scribble":
        return count >= 2 and count % 2 == 0
    return count == {"point": 2, "box": 4, "mask": 0}[prompt.kind]


def _require_mask(record: VideoRecord, prompt: OfficialPrompt, where: str) -> None:
    position = prompt.frame_index - record.frames[0].index
    if not prompt.object_id or record.objects[prompt.object_id - 1].states[position] != VISIBLE:
        raise ItemError(
            "E144",
            f"{where} names object {prompt.object_id}, which has no mask in frame {prompt.frame_index}",
        )
