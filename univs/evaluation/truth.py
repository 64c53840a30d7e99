"""Ground truth of a benchmark from stored records, in the types that predictions come in.

Legend: T frames, N objects or expressions, H, W size.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import PurePath
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from univs.labels import LabelSpace
from univs.predictions import (
    InstanceTrack,
    InstanceVideo,
    ObjectVideo,
    PanopticVideo,
    Segment,
    SemanticVideo,
)
from univs.schema import ABSENT, Chunk, Expression, ObjectTrack, Region, VideoRecord

_Painted = TypeVar("_Painted", np.int16, np.int32)


def join_chunks(chunks: Sequence[VideoRecord]) -> VideoRecord:
    """Put the chunks of one item, in any order, back into one record of all its frames.

    Raises:
        ValueError: chunks are of different items, or one is missing or there twice.
    """
    parts = sorted(chunks, key=lambda part: part.chunk.index)
    names = {(part.dataset, part.split, part.item_id) for part in parts}
    indices = [part.chunk.index for part in parts]
    if len(names) != 1 or indices != list(range(parts[0].chunk.count)):
        raise ValueError(f"expected all chunks of one item, got chunks {indices} of {sorted(names)}")
    if len(parts) == 1:
        return parts[0]
    frames = tuple(frame for part in parts for frame in part.frames)
    return replace(
        parts[0],
        frames=frames,
        objects=_join_objects(parts),
        regions=tuple(_join_regions(parts, len(frames))),
        expressions=_join_expressions(parts),
        chunk=Chunk(index=0, count=1, item_frames=len(frames)),
    )


def panoptic_truth(chunks: Sequence[VideoRecord], labels: LabelSpace) -> PanopticVideo:
    """Paint the objects of one item by object id; whatever belongs to no object is void.

    Segments come in the order in which the official files list them: by first frame, then by source id.

    Raises:
        ValueError: the item is not fully labelled, not a partition, or has a category outside ``labels``.
    """
    record = _dense_record(chunks)
    if not record.is_partition:
        raise ValueError(f"{_name(record)}: objects may overlap, expected a partition: not panoptic truth")
    seen = sorted((o for o in record.objects if _first_frame(o) is not None), key=_listing_key)
    segments = tuple(
        Segment(segment_id=o.object_id, label=_label(record, o, labels), is_crowd=o.is_crowd) for o in seen
    )
    values = {o.object_id: o.object_id for o in seen}
    maps = _paint(record, np.zeros((record.num_frames, record.height, record.width), np.int32), values)
    return PanopticVideo(video_id=record.item_id, maps=maps, segments=segments)


def instance_truth(chunks: Sequence[VideoRecord], labels: LabelSpace) -> InstanceVideo:
    """Take the thing tracks of one item.

    Raises:
        ValueError: the item is not fully labelled or has a category outside ``labels``.
    """
    record = _dense_record(chunks)
    tracks = [
        InstanceTrack(label=label, score=1.0, rles=o.rles, is_crowd=o.is_crowd)
        for o in record.objects
        if labels.is_thing[label := _label(record, o, labels)]
    ]
    return InstanceVideo(
        video_id=record.item_id, height=record.height, width=record.width, tracks=tuple(tracks)
    )


def semantic_truth(chunks: Sequence[VideoRecord], labels: LabelSpace) -> SemanticVideo:
    """Paint the objects of one item by label; whatever belongs to no object is void (-1).

    Raises:
        ValueError: the item is not fully labelled or has a category outside ``labels``.
    """
    record = _dense_record(chunks)
    values = {o.object_id: _label(record, o, labels) for o in record.objects}
    void = np.full((record.num_frames, record.height, record.width), -1, np.int16)
    return SemanticVideo(video_id=record.item_id, labels=_paint(record, void, values))


def object_truth(chunks: Sequence[VideoRecord]) -> ObjectVideo:
    """Take the masks of the objects that DAVIS evaluates: ids up to the largest one in the first frame.

    Raises:
        ValueError: masks are withheld, ids are not numbers, or the first frame shows no object.
    """
    record = _full_record(chunks)
    if not all(o.source_id.isdecimal() for o in record.objects):
        raise ValueError(f"{_name(record)}: object ids must be numbers, as in palette PNGs")
    given = [int(o.source_id) for o in record.objects if _first_frame(o) == 0]
    if not given:
        raise ValueError(f"{_name(record)}: the first frame shows no object, so none can be followed")
    chosen = [o for o in record.objects if int(o.source_id) <= max(given)]
    masks = [_masks(record, (o,)) for o in sorted(chosen, key=lambda o: int(o.source_id))]
    return _object_video(record, sorted((o.source_id for o in chosen), key=int), masks)


def expression_truth(chunks: Sequence[VideoRecord]) -> ObjectVideo:
    """Take the masks of the objects that each expression of one item names.

    Raises:
        ValueError: masks are withheld, or an expression names an object that the record does not hold.
    """
    record = _full_record(chunks)
    by_id = {o.object_id: o for o in record.objects}
    masks = []
    for expression in record.expressions:
        unknown = [object_id for object_id in expression.object_ids if object_id not in by_id]
        if unknown:
            raise ValueError(
                f"{_name(record)}: expression {expression.expression_id!r} names missing objects {unknown}"
            )
        masks.append(_masks(record, [by_id[object_id] for object_id in expression.object_ids]))
    return _object_video(record, [e.expression_id for e in record.expressions], masks)


def _name(record: VideoRecord) -> str:
    return f"{record.dataset}/{record.split} item {record.item_id!r}"


def _full_record(chunks: Sequence[VideoRecord]) -> VideoRecord:
    record = join_chunks(chunks)
    if record.ground_truth != "full":
        raise ValueError(f"{_name(record)}: ground truth is {record.ground_truth!r}, expected 'full'")
    return record


def _dense_record(chunks: Sequence[VideoRecord]) -> VideoRecord:
    record = _full_record(chunks)
    bare = [frame.name for frame in record.frames if not frame.labelled]
    if bare:
        raise ValueError(
            f"{_name(record)}: {len(bare)} frames are not labelled, first {bare[0]!r}: cannot be evaluated"
        )
    return record


def _join_objects(parts: Sequence[VideoRecord]) -> tuple[ObjectTrack, ...]:
    first = {o.object_id: o for part in reversed(parts) for o in part.objects}
    held = [{o.object_id: o for o in part.objects} for part in parts]
    joined = []
    for object_id, track in sorted(first.items()):
        states = ""
        rles: tuple[str | None, ...] = ()
        for part, tracks in zip(parts, held, strict=True):
            here = tracks.get(object_id)
            states += here.states if here else ABSENT * part.num_frames
            rles += here.rles if here else (None,) * part.num_frames
        joined.append(replace(track, states=states, rles=rles))
    return tuple(joined)


def _join_regions(parts: Sequence[VideoRecord], num_frames: int) -> Iterator[Region]:
    before = 0
    for part in parts:
        after = num_frames - before - part.num_frames
        for region in part.regions:
            yield replace(region, rles=(None,) * before + region.rles + (None,) * after)
        before += part.num_frames


def _join_expressions(parts: Sequence[VideoRecord]) -> tuple[Expression, ...]:
    joined: dict[str, Expression] = {}
    for expression in (e for part in parts for e in part.expressions):
        known = joined.setdefault(expression.expression_id, expression)
        names = tuple(dict.fromkeys((*known.object_ids, *expression.object_ids)))
        joined[expression.expression_id] = replace(known, object_ids=names)
    return tuple(joined.values())


def _first_frame(track: ObjectTrack) -> int | None:
    return next((t for t, counts in enumerate(track.rles) if counts is not None), None)


def _listing_key(track: ObjectTrack) -> tuple[int, float, int]:
    source = int(track.source_id) if track.source_id.isdecimal() else math.inf
    return _first_frame(track) or 0, source, track.object_id


def _label(record: VideoRecord, track: ObjectTrack, labels: LabelSpace) -> int:
    label = None if track.category_id is None else labels.label_of.get(track.category_id)
    if label is None:
        raise ValueError(
            f"{_name(record)}: object {track.object_id} has category {track.category_id}, "
            f"expected one of label space {labels.name!r}"
        )
    return label


def _decode(record: VideoRecord, counts: str) -> NDArray[np.bool_]:
    rle = {"size": [record.height, record.width], "counts": counts.encode()}
    decoded: NDArray[np.uint8] = coco_mask.decode(rle)
    return decoded.view(np.bool_)


def _paint(record: VideoRecord, canvas: NDArray[_Painted], values: dict[int, int]) -> NDArray[_Painted]:
    for track in record.objects:
        for t, counts in enumerate(track.rles):
            if counts is not None:
                canvas[t][_decode(record, counts)] = values[track.object_id]
    return canvas


def _masks(record: VideoRecord, tracks: Sequence[ObjectTrack]) -> NDArray[np.bool_]:
    """Draw the union of tracks, [T, H, W]."""
    masks = np.zeros((record.num_frames, record.height, record.width), bool)
    for track in tracks:
        for t, counts in enumerate(track.rles):
            if counts is not None:
                masks[t] |= _decode(record, counts)
    return masks


def _object_video(
    record: VideoRecord, names: Sequence[str], masks: Sequence[NDArray[np.bool_]]
) -> ObjectVideo:
    """Keep the labelled frames only: the others are not evaluated."""
    kept = [t for t, frame in enumerate(record.frames) if frame.labelled]
    stacked = (
        np.stack(masks) if masks else np.zeros((0, record.num_frames, record.height, record.width), bool)
    )
    return ObjectVideo(
        video_id=record.item_id,
        object_ids=tuple(names),
        masks=stacked if len(kept) == record.num_frames else stacked[:, kept],
        frame_names=tuple(PurePath(record.frames[t].name).stem for t in kept),
    )
