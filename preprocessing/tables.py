"""The tables of a release: what it holds, which bytes its frames have, what was wrong with the source."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pyarrow as pa
import pyarrow.parquet as pq

from preprocessing.atomic import atomic_write
from preprocessing.errors import Problem
from univs.schema import IndexRow, index_row_from_dict

INDEX_NAME = "index.parquet"
"""Where each sample lies: one ``IndexRow`` a row."""
FRAMES_NAME = "frames.parquet"
"""Which bytes each frame has: one ``FrameDigest`` a row."""
REJECTS_NAME, WARNINGS_NAME = "rejects.parquet", "warnings.parquet"
"""Why items are left out, and what is odd about those that are not: one ``Problem`` a row."""
TABLE_NAMES = (INDEX_NAME, FRAMES_NAME, REJECTS_NAME, WARNINGS_NAME)
_ROW_GROUP_ROWS = 4096


@dataclass(frozen=True, kw_only=True, slots=True)
class FrameDigest:
    """Which bytes one stored frame has; equal digests in two releases are the same picture."""

    key: str
    """Of the sample."""
    position: int
    """In the sample, from 0."""
    sha256: str


def write_index(path: Path, rows: Sequence[IndexRow]) -> None:
    """Write ``index.parquet`` atomically, in the order given (by shard, then position)."""
    _write_table(path, [asdict(row) for row in rows], _INDEX_SCHEMA)


def write_frames(path: Path, digests: Sequence[FrameDigest]) -> None:
    """Write ``frames.parquet`` atomically, in the order given."""
    _write_table(path, [asdict(digest) for digest in digests], _FRAME_SCHEMA)


def write_problems(path: Path, problems: Sequence[Problem]) -> None:
    """Write ``rejects.parquet`` or ``warnings.parquet`` atomically, by item and code."""
    ordered = sorted(problems, key=lambda problem: (problem.item_id, problem.code))
    _write_table(path, [asdict(problem) for problem in ordered], _PROBLEM_SCHEMA)


def read_index(release_dir: Path) -> tuple[IndexRow, ...]:
    """Read ``index.parquet``.

    Raises:
        ValueError: it is missing or damaged.
    """
    return tuple(index_row_from_dict(row) for row in read_table(release_dir / INDEX_NAME).to_pylist())


def read_rejects(release_dir: Path) -> tuple[Problem, ...]:
    """Read ``rejects.parquet``.

    Raises:
        ValueError: it is missing or damaged.
    """
    return tuple(Problem(**row) for row in read_table(release_dir / REJECTS_NAME).to_pylist())


def read_warnings(release_dir: Path) -> tuple[Problem, ...]:
    """Read ``warnings.parquet``.

    Raises:
        ValueError: it is missing or damaged.
    """
    return tuple(Problem(**row) for row in read_table(release_dir / WARNINGS_NAME).to_pylist())


def read_table(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Read a table of a release, or some of its columns.

    Raises:
        ValueError: it is missing or damaged.
    """
    if not path.exists():
        raise ValueError(f"{path} not found: the release is not whole; run preprocess.py until it finishes")
    try:
        return pq.read_table(path, columns=None if columns is None else list(columns))
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{path} is damaged ({error}); preprocess again") from error


def _schema_of(row_type: type) -> pa.Schema:
    hints = get_type_hints(row_type)
    return pa.schema([(field.name, _column_type(hints[field.name])) for field in fields(row_type)])


def _column_type(hint: Any) -> pa.DataType:
    if get_args(hint):
        return pa.list_(_column_type(get_args(hint)[0]))
    return pa.int64() if hint is int else pa.string()


_INDEX_SCHEMA, _FRAME_SCHEMA, _PROBLEM_SCHEMA = map(_schema_of, (IndexRow, FrameDigest, Problem))


def _write_table(path: Path, rows: list[dict[str, Any]], schema: pa.Schema) -> None:
    table = pa.Table.from_pylist(rows, schema=schema)
    with atomic_write(path) as temporary:
        pq.write_table(table, temporary, compression="zstd", row_group_size=_ROW_GROUP_ROWS)
