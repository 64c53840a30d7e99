"""An item stored as several chunks, put back together: all of them, or a stretch around a frame."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Literal

from univs.schema import ABSENT, Chunk, Expression, ObjectTrack, Region, RegionKind, VideoRecord


def join_chunks(chunks: Sequence[VideoRecord]) -> VideoRecord:
    """Put the chunks of one item, in any order, back into one record of all its frames.

    An object is absent in chunks that do not list it.

    Raises:
        ValueError: chunks are of different items, or one is missing or there twice.
    """
    parts = sorted(chunks, key=lambda part: part.chunk.index)
    indices = [part.chunk.index for part in parts]
    if indices != list(range(parts[0].chunk.count)):
        raise ValueError(f"expected all chunks of one item, got chunks {indices} of {_names(parts)}")
    return join_stretch(parts)


def join_stretch(parts: Sequence[VideoRecord]) -> VideoRecord:
    """Put consecutive chunks of one item into one record of their frames.

    Raises:
        ValueError: chunks are of different items, or not consecutive.
    """
    indices = [part.chunk.index for part in parts]
    if len(_names(parts)) != 1 or indices != list(range(indices[0], indices[0] + len(parts))):
        raise ValueError(f"expected consecutive chunks of one item, got chunks {indices} of {_names(parts)}")
    if len(parts) == 1:
        return parts[0]
    frames = tuple(frame for part in parts for frame in part.frames)
    return replace(
        parts[0],
        frames=frames,
        objects=_join_objects(parts),
        regions=tuple(_join_regions(parts)),
        expressions=_join_expressions(parts),
        prompts=tuple(prompt for part in parts for prompt in part.prompts),
        chunk=Chunk(index=0, count=1, item_frames=len(frames)),
    )


def _names(parts: Sequence[VideoRecord]) -> list[tuple[str, str, str]]:
    return sorted({(part.dataset, part.split, part.item_id) for part in parts})


def _join_objects(parts: Sequence[VideoRecord]) -> tuple[ObjectTrack, ...]:
    first = {track.object_id: track for part in reversed(parts) for track in part.objects}
    held = [{track.object_id: track for track in part.objects} for part in parts]
    return tuple(
        _join_tracks(parts, track, [tracks.get(object_id) for tracks in held])
        for object_id, track in sorted(first.items())
    )


def _join_tracks(
    parts: Sequence[VideoRecord], first: ObjectTrack, tracks: Sequence[ObjectTrack | None]
) -> ObjectTrack:
    states = ""
    rles: tuple[str | None, ...] = ()
    for part, track in zip(parts, tracks, strict=True):
        states += track.states if track else ABSENT * part.num_frames
        rles += track.rles if track else (None,) * part.num_frames
    return replace(
        first,
        states=states,
        rles=rles,
        boxes=_join_column(parts, tracks, "boxes"),
        areas=_join_column(parts, tracks, "areas"),
        polygons=_join_column(parts, tracks, "polygons"),
    )


def _join_column(
    parts: Sequence[VideoRecord],
    tracks: Sequence[ObjectTrack | None],
    name: Literal["boxes", "areas", "polygons"],
) -> tuple[Any, ...]:
    """Join what a track may hold per frame or not at all."""
    columns = [getattr(track, name) if track else () for track in tracks]
    if not any(columns):
        return ()
    filled = [column or (None,) * part.num_frames for part, column in zip(parts, columns, strict=True)]
    return tuple(value for column in filled for value in column)


_Layer = tuple[RegionKind, int]
"""A region's kind, and which one of that kind."""


def _join_regions(parts: Sequence[VideoRecord]) -> Iterator[Region]:
    layers = [_region_layers(part) for part in parts]
    for layer in sorted({layer for found in layers for layer in found}):
        rles: tuple[str | None, ...] = ()
        for part, found in zip(parts, layers, strict=True):
            rles += found[layer].rles if layer in found else (None,) * part.num_frames
        yield Region(kind=layer[0], rles=rles)


def _region_layers(record: VideoRecord) -> dict[_Layer, Region]:
    layers: dict[_Layer, Region] = {}
    for region in record.regions:
        layers[region.kind, sum(kind == region.kind for kind, _ in layers)] = region
    return layers


def _join_expressions(parts: Sequence[VideoRecord]) -> tuple[Expression, ...]:
    joined: dict[str, Expression] = {}
    for expression in (e for part in parts for e in part.expressions):
        known = joined.setdefault(expression.expression_id, expression)
        names = tuple(dict.fromkeys((*known.object_ids, *expression.object_ids)))
        joined[expression.expression_id] = replace(known, object_ids=names)
    return tuple(joined.values())
