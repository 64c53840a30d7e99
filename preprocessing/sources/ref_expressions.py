"""Attach the refs of one image, as the ``refer`` repository holds them, to its objects.

A ref is an object with its sentences. A sentence becomes an expression; what else an official file says of a
ref goes to the ``extra`` of its object, less what follows from the record.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from preprocessing.errors import Finding, ItemError, malformed_as_item_error
from preprocessing.sources.files import index_by
from preprocessing.sources.official_fields import extra_json, located
from preprocessing.sources.ref_pickles import PickledRef
from univs.schema import Expression, ObjectTrack, VideoRecord


def add_expressions(
    record: VideoRecord, refs: Sequence[PickledRef], part: tuple[str, str], file: str
) -> tuple[VideoRecord, tuple[Finding, ...]]:
    """Give a record the expressions about its objects; also warnings about them.

    Args:
        record: The image with all its objects.
        refs: The image's part of the file.
        part: The partition and the split's name in it.
        file: The file, relative to the source folder.

    Raises:
        ItemError: E100, E113, E120 or E140.
    """
    track_of = {int(track.source_id): track for track in record.objects}
    held: dict[int, list[dict[str, Any]]] = {}
    expressions: list[Expression] = []
    for ref in refs:
        where = f"{record.item_id}: ref {ref.index}"
        with located(file, f"/{ref.index}"), malformed_as_item_error(where):
            track = _find_object(where, ref, track_of, record)
            expressions += _read_expressions(where, ref.fields["sentences"], track, "/".join(part))
            held.setdefault(track.object_id, []).append(_leftover(ref.fields, track, record.item_id, part[1]))
    with located(file), malformed_as_item_error(record.item_id):
        index_by([{"sent_id": expression.expression_id} for expression in expressions], "sent_id")
    objects = tuple(_add_refs(track, held.get(track.object_id, [])) for track in record.objects)
    findings = tuple(
        Finding(
            code="W143",
            message=f"{record.item_id}: ref {ref.index}",
            file=file,
            pointer=f"/{ref.index}/sentences",
        )
        for ref in refs
        if not ref.is_clean
    )
    return replace(record, objects=objects, expressions=tuple(expressions)), findings


def _find_object(
    where: str, ref: PickledRef, track_of: Mapping[int, ObjectTrack], record: VideoRecord
) -> ObjectTrack:
    annotation_id = int(ref.fields["ann_id"])
    if annotation_id in track_of:
        return track_of[annotation_id]
    left_out = json.loads(record.extra).get("left_out", []) if record.extra else []
    if annotation_id in {int(annotation["id"]) for annotation in left_out}:
        raise ItemError("E113", f"{where} names annotation {annotation_id}, in which no pixel lies")
    known = ", ".join(map(str, track_of)) or "none"
    raise ItemError("E140", f"{where} names annotation {annotation_id}, the image has {known}")


def _read_expressions(
    where: str, sentences: Sequence[Mapping[str, Any]], track: ObjectTrack, origin: str
) -> list[Expression]:
    expressions = []
    for sentence in sentences:
        text = sentence["sent"]
        if not isinstance(text, str):
            raise TypeError(f"sent of sentence {sentence['sent_id']} is {type(text).__name__}, expected text")
        expressions.append(
            Expression(
                expression_id=str(int(sentence["sent_id"])),
                text=text,
                object_ids=(track.object_id,),
                origin=origin,
            )
        )
    return expressions


def _leftover(fields: Mapping[str, Any], track: ObjectTrack, item_id: str, split: str) -> dict[str, Any]:
    """Give a ref without what follows from the record; of each sentence its id stays."""
    sentences = fields["sentences"]
    follows = {
        "image_id": int(item_id),
        "ann_id": int(track.source_id),
        "category_id": track.category_id,
        "split": split,
        "sent_ids": [sentence["sent_id"] for sentence in sentences],
    }
    rest = {name: value for name, value in fields.items() if name not in follows or follows[name] != value}
    return {**rest, "sentences": [_rest_of_sentence(sentence) for sentence in sentences]}


def _rest_of_sentence(sentence: Mapping[str, Any]) -> dict[str, Any]:
    """Give a sentence without its text, and without spellings of it that say the same."""
    text = sentence["sent"]
    follows = {"sent": text, "raw": text, "tokens": text.split()}
    return {name: value for name, value in sentence.items() if name not in follows or follows[name] != value}


def _add_refs(track: ObjectTrack, refs: Sequence[Mapping[str, Any]]) -> ObjectTrack:
    if not refs:
        return track
    return replace(track, extra=extra_json({**json.loads(track.extra or "{}"), "refs": refs}, {}))
