import hashlib
from dataclasses import replace

import pyarrow.parquet as pq
import pytest

from preprocessing.errors import Problem
from preprocessing.tables import (
    FrameDigest,
    read_index,
    read_rejects,
    read_table,
    read_warnings,
    write_frames,
    write_index,
    write_problems,
)
from univs.schema import IndexRow


def test_read_index_truncated_raises(tmp_path):
    write_index(tmp_path / "index.parquet", ())
    path = tmp_path / "index.parquet"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ValueError, match=r"index.parquet is damaged \(.*\); preprocess again$"):
        read_index(tmp_path)


def test_write_index_any_rows_read_back_equal_with_the_agreed_columns(tmp_path):
    row = IndexRow(
        key="k-000",
        item_id="k",
        shard="s.tar",
        chunk_index=0,
        chunk_count=2,
        height=720,
        width=1280,
        meta_offset=512,
        meta_size=10,
        annotation_offset=1536,
        annotation_size=20,
        frame_offsets=(3_000_000_000, 3_000_001_024),
        frame_sizes=(1000, 7),
        num_objects=3,
        num_expressions=0,
        group="coco:000000000009",
        category_ids=(1, 133),
        flags=("W106",),
    )
    rows = (row, replace(row, key="k-001", chunk_index=1, frame_offsets=(), frame_sizes=()))
    write_index(tmp_path / "index.parquet", rows)
    assert read_index(tmp_path) == rows
    schema = pq.read_schema(tmp_path / "index.parquet")
    assert schema.names == list(IndexRow.__dataclass_fields__)
    assert str(schema.field("frame_offsets").type) == "list<element: int64>"


def test_write_problems_any_order_reads_back_by_item_and_code(tmp_path):
    problems = (
        Problem(item_id="b", code="E102", message="b: 0 bytes", file="train/b.jpg"),
        Problem(item_id="a", code="W118", message="a: polygon", pointer="/annotations/3"),
        Problem(item_id="a", code="W106", message="a: mode L"),
    )
    write_problems(tmp_path / "rejects.parquet", problems)
    write_problems(tmp_path / "warnings.parquet", problems[::-1])
    assert read_rejects(tmp_path) == read_warnings(tmp_path) == (problems[2], problems[1], problems[0])
    names = pq.read_schema(tmp_path / "rejects.parquet").names
    assert names == ["item_id", "code", "message", "file", "pointer"]


def test_write_frames_digests_read_back(tmp_path):
    digests = [
        FrameDigest(key="k-000", position=i, sha256=hashlib.sha256(bytes([i])).hexdigest()) for i in range(3)
    ]
    write_frames(tmp_path / "frames.parquet", digests)
    assert [FrameDigest(**row) for row in read_table(tmp_path / "frames.parquet").to_pylist()] == digests


def test_read_rejects_missing_raises(tmp_path):
    with pytest.raises(ValueError, match=r"rejects.parquet not found: the release is not whole; run prepro"):
        read_rejects(tmp_path)
