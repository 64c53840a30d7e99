"""Whole videos for evaluation: the chunks of an item as one record, its frames decoded on demand."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from univs.data.chunks import join_chunks
from univs.data.images import decode_image
from univs.data.release import Release
from univs.schema import VideoRecord


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
        frame: NDArray[np.uint8] = self.read_frames([position])[0]
        return frame

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
