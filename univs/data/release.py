"""Random access to a built release: its manifest, its index, and the bytes of any frame.

A release is the directory that preprocessing writes: tar shards, ``index.parquet`` and ``manifest.json``.
Members are read by the byte ranges of the index, so a clip costs its own frames and nothing else.
"""

import os
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Protocol, overload

import pyarrow as pa
import pyarrow.parquet as pq

from univs.schema import (
    IndexRow,
    Manifest,
    VideoRecord,
    index_row_from_dict,
    manifest_from_json,
    record_from_json,
)

_MAX_OPEN_SHARDS = 64


class ByteStore(Protocol):
    """Where the shards of a release lie; the seam for storage other than local files."""

    def read(self, name: str, offset: int, size: int) -> bytes:
        """Read exactly ``size`` bytes of the named file."""


class LocalFiles:
    """Shards in a local directory, read by position.

    Positional reads share no file offset, so forked workers and threads may use one instance. Pickling
    carries the directory only.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._open: OrderedDict[str, _Descriptor] = OrderedDict()

    def read(self, name: str, offset: int, size: int) -> bytes:
        """Read exactly ``size`` bytes of the named file.

        Raises:
            ValueError: the file ends before.
        """
        data = os.pread(self._descriptor(name).number, size, offset)
        if len(data) != size:
            raise ValueError(
                f"{self._directory / name}: found {len(data)} bytes at offset {offset}, expected {size}: "
                "the shard is cut off or the index is another build's; preprocess it again"
            )
        return data

    def _descriptor(self, name: str) -> "_Descriptor":
        found = self._open.pop(name, None) or _Descriptor(self._directory / name)
        self._open[name] = found
        if len(self._open) > _MAX_OPEN_SHARDS:
            self._open.popitem(last=False)
        return found

    def __getstate__(self) -> dict[str, Any]:
        return {"_directory": self._directory, "_open": OrderedDict()}


class _Descriptor:
    """An open file, closed when the last reader lets go of it."""

    def __init__(self, path: Path) -> None:
        self.number = -1
        self.number = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def __del__(self) -> None:
        if self.number >= 0:
            os.close(self.number)


class IndexRows(Sequence[IndexRow]):
    """The rows of ``index.parquet``, kept as columns and made into ``IndexRow`` one at a time."""

    def __init__(self, table: pa.Table) -> None:
        self._columns = {name: table.column(name).combine_chunks() for name in _COLUMNS}
        self._length = int(table.num_rows)

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, index: int) -> IndexRow: ...
    @overload
    def __getitem__(self, index: slice) -> list[IndexRow]: ...
    def __getitem__(self, index: int | slice) -> IndexRow | list[IndexRow]:
        """Make one row, or the list of a slice."""
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(self._length))]
        if not -self._length <= index < self._length:
            raise IndexError(f"row {index} of an index of {self._length}")
        values = {name: column[index % self._length].as_py() for name, column in self._columns.items()}
        return index_row_from_dict(values)

    def column(self, name: str) -> list[Any]:
        """Give one column as a list."""
        values: list[Any] = self._columns[name].to_pylist()
        return values


@dataclass(frozen=True, kw_only=True)
class Release:
    """One immutable built dataset. Picklable: send it to workers whole."""

    directory: Path
    manifest: Manifest
    rows: IndexRows
    store: ByteStore

    @classmethod
    def open(cls, directory: Path | str, store: ByteStore | None = None) -> "Release":
        """Read manifest and index.

        Raises:
            ValueError: the release is not whole.
        """
        root = Path(directory)
        manifest = _read_manifest(root / "manifest.json")
        rows = _read_index(root / "index.parquet", manifest)
        if store is None:
            _check_shards(root, manifest)
        return cls(directory=root, manifest=manifest, rows=rows, store=store or LocalFiles(root))

    @property
    def name(self) -> str:
        """Dataset and split, for messages and for seeding."""
        return f"{self.manifest.dataset}/{self.manifest.split}"

    def read_record(self, row_index: int) -> VideoRecord:
        """Read the annotation of one sample; no frame is touched."""
        row = self.rows[row_index]
        meta = self.store.read(row.shard, row.meta_offset, row.meta_size)
        annotation = self.store.read(row.shard, row.annotation_offset, row.annotation_size)
        return record_from_json(meta, annotation)

    def read_frames(self, row_index: int, positions: Sequence[int]) -> list[bytes]:
        """Read the encoded bytes of the frames at ``positions`` in the sample."""
        row = self.rows[row_index]
        return [self.store.read(row.shard, row.frame_offsets[p], row.frame_sizes[p]) for p in positions]

    def item_rows(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """List every item with the rows of its chunks in order.

        Raises:
            ValueError: an item lacks chunks.
        """
        chunks, counts = self.rows.column("chunk_index"), self.rows.column("chunk_count")
        groups: dict[str, list[int]] = {}
        for row_index, item_id in enumerate(self.rows.column("item_id")):
            groups.setdefault(item_id, []).append(row_index)
        for item_id, members in groups.items():
            members.sort(key=chunks.__getitem__)
            if [chunks[i] for i in members] != list(range(counts[members[0]])):
                raise ValueError(
                    f"{self.directory}: item {item_id!r} has chunks {[chunks[i] for i in members]}, "
                    f"expected all of {counts[members[0]]}; preprocess it again"
                )
            yield item_id, tuple(members)


_COLUMNS = tuple(field.name for field in fields(IndexRow))


def _read_manifest(path: Path) -> Manifest:
    try:
        return manifest_from_json(path.read_bytes())
    except FileNotFoundError:
        raise ValueError(f"{path.parent}: no manifest.json, so no whole release; run preprocess") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: not a manifest of this version ({error}); preprocess it again") from error


def _read_index(path: Path, manifest: Manifest) -> IndexRows:
    if not path.is_file():
        raise ValueError(f"{path.parent}: no index.parquet, so no whole release; run preprocess")
    try:
        table = pq.read_table(path, use_threads=False)
    except pa.ArrowException as error:
        raise ValueError(f"{path}: not a Parquet file ({error}); preprocess it again") from error
    missing = sorted(set(_COLUMNS) - set(table.column_names))
    if missing:
        raise ValueError(f"{path}: columns {missing} are missing; preprocess it again")
    if table.num_rows != manifest.num_samples:
        raise ValueError(
            f"{path}: {table.num_rows} rows, the manifest says {manifest.num_samples}; preprocess it again"
        )
    return IndexRows(table)


def _check_shards(root: Path, manifest: Manifest) -> None:
    for shard in manifest.shards:
        path = root / shard.name
        found = path.stat().st_size if path.is_file() else None
        if found != shard.size_bytes:
            raise ValueError(
                f"{path}: size {found} bytes, the manifest says {shard.size_bytes}; copy it again"
            )
