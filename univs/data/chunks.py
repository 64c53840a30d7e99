"""An item stored as several chunks, put back together."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from univs.schema import ABSENT, Chunk, Expression, ObjectTrack, Region, RegionKind, VideoRecord


def join_chunks(chunks: Sequence[VideoRecord]) -> VideoRecord:
    """Put the chunks of one item, in any order, back into one record of all its frames.

    An object is absent in chunks that do not list it.

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
        regions=tuple(_join_regions(parts)),
        expressions=_join_expressions(parts),
        chunk=Chunk(index=0, count=1, item_frames=len(frames)),
    )


def _join_objects(parts: Sequence[VideoRecord]) -> tuple[ObjectTrack, ...]:
    first = {track.object_id: track for part in reversed(parts) for track in part.objects}
    held = [{track.object_id: track for track in part.objects} for part in parts]
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
