"""Ground truth of a benchmark from stored records, in the types that predictions come in.

Legend: T frames, N objects or expressions, H, W size.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from univs.data.chunks import join_chunks
from univs.data.masks import decode_rle
from univs.labels import LabelSpace
from univs.predictions import (
    InstanceTrack,
    InstanceVideo,
    ObjectVideo,
    PanopticVideo,
    Segment,
    SemanticVideo,
)
from univs.schema import ObjectTrack, VideoRecord

_Painted = TypeVar("_Painted", np.int16, np.int32)


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
    chosen = evaluated_objects(record)
    return _object_video(record, [o.source_id for o in chosen], [_masks(record, (o,)) for o in chosen])


def appearing_truth(chunks: Sequence[VideoRecord], labels: LabelSpace | None = None) -> ObjectVideo:
    """Take the masks of all objects, whenever they appear, with their labels if there is a label space.

    Raises:
        ValueError: masks are withheld, ids are not numbers, or an object's category is not in ``labels``.
    """
    record = _full_record(chunks)
    chosen = appearing_objects(record)
    video = _object_video(record, [o.source_id for o in chosen], [_masks(record, (o,)) for o in chosen])
    if labels is None:
        return video
    return replace(video, labels=tuple(_label(record, o, labels) for o in chosen))


def appearing_objects(record: VideoRecord) -> tuple[ObjectTrack, ...]:
    """Give all objects, by id.

    Raises:
        ValueError: ids are not numbers.
    """
    if not all(o.source_id.isdecimal() for o in record.objects):
        raise ValueError(f"{_name(record)}: object ids must be numbers, as in palette PNGs")
    return tuple(sorted(record.objects, key=lambda o: int(o.source_id)))


def evaluated_objects(record: VideoRecord) -> tuple[ObjectTrack, ...]:
    """Give the objects that DAVIS evaluates, by id; a result with any other object is refused.

    Raises:
        ValueError: ids are not numbers, or the first frame shows no object.
    """
    every = appearing_objects(record)
    given = [int(o.source_id) for o in every if _first_frame(o) == 0]
    if not given:
        raise ValueError(f"{_name(record)}: the first frame shows no object, so none can be followed")
    return tuple(o for o in every if int(o.source_id) <= max(given))


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


def _paint(record: VideoRecord, canvas: NDArray[_Painted], values: dict[int, int]) -> NDArray[_Painted]:
    for track in record.objects:
        for t, counts in enumerate(track.rles):
            if counts is not None:
                canvas[t][decode_rle(counts, record.height, record.width)] = values[track.object_id]
    return canvas


def _masks(record: VideoRecord, tracks: Sequence[ObjectTrack]) -> NDArray[np.bool_]:
    """Draw the union of tracks, [T, H, W]."""
    masks = np.zeros((record.num_frames, record.height, record.width), bool)
    for track in tracks:
        for t, counts in enumerate(track.rles):
            if counts is not None:
                masks[t] |= decode_rle(counts, record.height, record.width)
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
        frame_names=tuple(record.frames[t].stem for t in kept),
    )
