"""What the tests of the readers share: the way from official files to shards and back."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from preprocessing.plan import PlanParameters, make_plan, read_work_order, write_work_orders
from preprocessing.shards import pack_shard
from preprocessing.sources.source import Source
from univs.schema import IndexRow, VideoRecord, record_from_json


@dataclass(frozen=True, kw_only=True, slots=True)
class PackedItem:
    """A whole item as a shard gives it back."""

    row: IndexRow
    record: VideoRecord
    frame_bytes: tuple[bytes, ...]


PackedItems = Callable[[Source, Path, str], dict[str, PackedItem]]
PackedRecords = Callable[[Source, Path, str], dict[str, VideoRecord]]


@pytest.fixture
def packed_items(tmp_path_factory: pytest.TempPathFactory) -> PackedItems:
    """Scan, plan and pack a split, then read the tar by its index: items by id; a reject fails the test."""

    def pack(source: Source, root: Path, split: str) -> dict[str, PackedItem]:
        release = tmp_path_factory.mktemp("release")
        # One shard, and no item cut into chunks.
        parameters = PlanParameters(target_frames_per_shard=10**9, max_frames_per_chunk=999)
        name, space = source.spec.name, source.label_space(root)
        plan = make_plan(name, split, source.scan(root, split), parameters, space)
        (path,) = write_work_orders(release, plan)
        result = pack_shard(source, root, split, read_work_order(path), release)
        assert result.rejects == ()
        assert len(result.rows) == plan.num_items
        tar = (release / result.rows[0].shard).read_bytes()
        return {row.item_id: _read_sample(tar, row) for row in result.rows}

    return pack


@pytest.fixture
def packed_records(packed_items: PackedItems) -> PackedRecords:
    """Give the records of ``packed_items`` alone."""

    def pack(source: Source, root: Path, split: str) -> dict[str, VideoRecord]:
        return {item_id: item.record for item_id, item in packed_items(source, root, split).items()}

    return pack


def _read_sample(tar: bytes, row: IndexRow) -> PackedItem:
    def part(offset: int, size: int) -> bytes:
        return tar[offset : offset + size]

    record = record_from_json(
        part(row.meta_offset, row.meta_size), part(row.annotation_offset, row.annotation_size)
    )
    frames = tuple(map(part, row.frame_offsets, row.frame_sizes))
    return PackedItem(row=row, record=record, frame_bytes=frames)
