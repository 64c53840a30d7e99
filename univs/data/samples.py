"""One sample as clips are drawn from it, wherever its bytes are.

A long video is stored as chunks. Every frame belongs to exactly one, and only its own frames are drawn as
the reference of a clip; the frames around the reference may be of the chunks before and after.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

from univs.data.chunks import join_stretch
from univs.data.release import Release
from univs.schema import VideoRecord


class Stretch(Protocol):
    """Consecutive frames of an item, with their annotation."""

    @property
    def record(self) -> VideoRecord:
        """Annotation of the stretch."""

    @property
    def start(self) -> int:
        """Position in the stretch of the sample's first frame."""

    def read_frames(self, positions: Sequence[int]) -> list[bytes]:
        """Read the encoded frames at positions of the stretch."""


class Sample(Protocol):
    """One sample of a release."""

    @property
    def key(self) -> str:
        """Its key, for messages."""

    @property
    def record(self) -> VideoRecord:
        """Annotation of the sample's own frames."""

    def around(self, reference: int, range_frames: int) -> Stretch:
        """Give the sample with what is needed of its neighbors to reach so far from a frame of it."""


@dataclass(frozen=True, kw_only=True)
class IndexedSample:
    """A sample whose bytes, and whose neighbors, are reached by the index."""

    release: Release
    row_index: int

    @cached_property
    def key(self) -> str:
        """Its key."""
        return self.release.rows[self.row_index].key

    @cached_property
    def record(self) -> VideoRecord:
        """Annotation of the sample's own frames."""
        return self.release.read_record(self.row_index)

    def around(self, reference: int, range_frames: int) -> Stretch:
        """Join the neighbors that lie within the range."""
        before = self._reach(-1, range_frames - reference)
        after = self._reach(1, range_frames - (self.record.num_frames - 1 - reference))
        parts = [*reversed(before), (self.row_index, self.record), *after]
        return _IndexedStretch(
            release=self.release,
            record=join_stretch([record for _, record in parts]),
            start=sum(record.num_frames for _, record in before),
            places=tuple((row, offset) for row, record in parts for offset in range(record.num_frames)),
        )

    def _reach(self, direction: int, missing_frames: int) -> list[tuple[int, VideoRecord]]:
        """Read neighbors in one direction until so many frames are there, nearest first."""
        found: list[tuple[int, VideoRecord]] = []
        while missing_frames > 0:
            row = self.release.rows.neighbor(self.row_index, direction * (len(found) + 1))
            if row is None:
                break
            found.append((row, self.release.read_record(row)))
            missing_frames -= found[-1][1].num_frames
        return found


@dataclass(frozen=True, kw_only=True)
class _IndexedStretch:
    """Chunks of one release; ``places`` gives row and offset of every frame."""

    release: Release
    record: VideoRecord
    start: int
    places: tuple[tuple[int, int], ...]

    def read_frames(self, positions: Sequence[int]) -> list[bytes]:
        """Read the frames, those of one chunk at once."""
        found: dict[int, bytes] = {}
        for row in dict.fromkeys(self.places[position][0] for position in positions):
            wanted = [position for position in positions if self.places[position][0] == row]
            data = self.release.read_frames(row, [self.places[position][1] for position in wanted])
            found |= dict(zip(wanted, data, strict=True))
        return [found[position] for position in positions]


@dataclass(frozen=True, kw_only=True)
class HeldSample:
    """A sample read whole; it has no neighbors."""

    key: str
    record: VideoRecord
    frames: tuple[bytes, ...]
    start: int = 0

    def around(self, reference: int, range_frames: int) -> Stretch:
        """Give itself: clips end at its borders."""
        del reference, range_frames
        return self

    def read_frames(self, positions: Sequence[int]) -> list[bytes]:
        """Give the frames at positions."""
        return [self.frames[position] for position in positions]
