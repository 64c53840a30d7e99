"""Whole videos for evaluation: the chunks of an item as one record, its frames decoded on demand."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from univs.data.images import decode_image
from univs.data.release import Release
from univs.schema import ABSENT, Chunk, ObjectTrack, Region, RegionKind, VideoRecord


@dataclass(frozen=True, kw_only=True)
class Video:
    """One item of a release, all chunks in order. Picklable and cheap: it holds no pixels."""

    release: Release
    item_id: str
    row_indices: tuple[int, ...]

    @cached_property
    def record(self) -> VideoRecord:
        """Annotation of the whole item."""
        return join_chunks([self.release.read_record(row) for row in self.row_indices])

    @cached_property
    def num_frames(self) -> int:
        """Frames of the item."""
        return sum(self.release.rows[row].num_frames for row in self.row_indices)

    def read_frame_bytes(self, positions: Sequence[int]) -> list[bytes]:
        """Read the encoded frames at positions in the item."""
        found = []
        for position in positions:
            row, offset = self._locate(position)
            found += self.release.read_frames(row, [offset])
        return found

    def read_frames(self, positions: Sequence[int]) -> NDArray[np.uint8]:
        """Decode the frames at positions in the item to RGB [T, H, W, 3]."""
        return np.stack([decode_image(data) for data in self.read_frame_bytes(positions)])

    def __len__(self) -> int:
        return self.num_frames

    def __getitem__(self, position: int) -> NDArray[np.uint8]:
        """Decode one frame [H, W, 3], so that a video serves wherever its frames are asked for one by one."""
        return self.read_frames([position])[0]

    def iter_frames(self) -> Iterator[NDArray[np.uint8]]:
        """Decode one frame [H, W, 3] after another."""
        for position in range(self.num_frames):
            yield self.read_frames([position])[0]

    def _locate(self, position: int) -> tuple[int, int]:
        left = position
        for row in self.row_indices:
            held = self.release.rows[row].num_frames
            if left < held:
                return row, left
            left -= held
        raise IndexError(f"{self.item_id}: frame {position} of a video of {self.num_frames}")


def iter_videos(release: Release) -> Iterator[Video]:
    """List the items of a release; nothing of them is read before it is asked for."""
    for item_id, row_indices in release.item_rows():
        yield Video(release=release, item_id=item_id, row_indices=row_indices)


def join_chunks(records: Sequence[VideoRecord]) -> VideoRecord:
    """Join the records of an item's chunks; an object is absent in chunks that do not list it."""
    if len(records) == 1:
        return records[0]
    first = records[0]
    object_ids = sorted({track.object_id for record in records for track in record.objects})
    layers = [_region_layers(record) for record in records]
    expressions = {e.expression_id: e for record in records for e in record.expressions}
    frames = tuple(frame for record in records for frame in record.frames)
    return replace(
        first,
        frames=frames,
        objects=tuple(_join_track(records, object_id) for object_id in object_ids),
        regions=tuple(_join_regions(records, layers)),
        expressions=tuple(expressions.values()),
        chunk=Chunk(index=0, count=1, item_frames=len(frames)),
    )


def _join_track(records: Sequence[VideoRecord], object_id: int) -> ObjectTrack:
    states: list[str] = []
    rles: list[str | None] = []
    parts = [next((t for t in r.objects if t.object_id == object_id), None) for r in records]
    for record, part in zip(records, parts, strict=True):
        states.append(part.states if part else ABSENT * record.num_frames)
        rles.extend(part.rles if part else (None,) * record.num_frames)
    known = next(part for part in parts if part)
    return replace(known, states="".join(states), rles=tuple(rles))


_Layer = tuple[RegionKind, int]
"""A region's kind, and which one of that kind."""


def _region_layers(record: VideoRecord) -> dict[_Layer, Region]:
    layers: dict[_Layer, Region] = {}
    for region in record.regions:
        layers[region.kind, sum(kind == region.kind for kind, _ in layers)] = region
    return layers


def _join_regions(records: Sequence[VideoRecord], layers: Sequence[dict[_Layer, Region]]) -> Iterator[Region]:
    for layer in sorted({layer for found in layers for layer in found}):
        rles: list[str | None] = []
        for record, found in zip(records, layers, strict=True):
            rles.extend(found[layer].rles if layer in found else (None,) * record.num_frames)
        yield Region(kind=layer[0], rles=tuple(rles))
