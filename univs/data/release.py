"""Random access to a built release: its manifest, its index, and the bytes of any frame.

A release is the folder that preprocessing writes: tar shards, ``index.parquet`` and ``manifest.json``.
Members are read by the byte ranges of the index, so a clip costs its own frames and nothing else.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from univs.data.index import COLUMNS, IndexRows
from univs.data.stores import ByteStore, open_store
from univs.schema import Manifest, VideoRecord, manifest_from_json, record_from_json


@dataclass(frozen=True, kw_only=True)
class Release:
    """One immutable built dataset. Picklable: send it to workers whole."""

    location: str
    """Path or URL of the release, for messages."""
    manifest: Manifest
    rows: IndexRows
    store: ByteStore

    @classmethod
    def open(cls, location: Path | str, store: ByteStore | None = None) -> "Release":
        """Read manifest and index of a release on a path or under a URL such as ``s3://bucket/name/train``.

        Raises:
            ValueError: the release is not whole.
        """
        place, files = str(location), store or open_store(location)
        sizes = files.sizes_bytes()
        manifest = _read_manifest(place, files, sizes)
        rows = _read_index(place, files, sizes, manifest)
        _check_shards(place, sizes, manifest)
        return cls(location=place, manifest=manifest, rows=rows, store=files)

    @property
    def name(self) -> str:
        """Dataset and split, for messages and for seeding."""
        return f"{self.manifest.dataset}/{self.manifest.split}"

    def read_record(self, row_index: int) -> VideoRecord:
        """Read the annotation of one sample in one piece; no frame is touched."""
        row = self.rows[row_index]
        start = row.meta_offset
        data = self.store.read(row.shard, start, row.annotation_offset + row.annotation_size - start)
        return record_from_json(data[: row.meta_size], data[row.annotation_offset - start :])

    def read_frames(self, row_index: int, positions: Sequence[int]) -> list[bytes]:
        """Read the encoded bytes of the frames at ``positions`` in the sample."""
        row = self.rows[row_index]
        return self.store.read_ranges(
            row.shard, [(row.frame_offsets[p], row.frame_sizes[p]) for p in positions]
        )

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
                    f"{self.location}: item {item_id!r} has chunks {[chunks[i] for i in members]}, "
                    f"expected all of {counts[members[0]]}; preprocess it again"
                )
            yield item_id, tuple(members)


def _read_manifest(place: str, store: ByteStore, sizes: dict[str, int]) -> Manifest:
    if "manifest.json" not in sizes:
        raise ValueError(f"{place}: no manifest.json, so no whole release; run preprocess")
    try:
        return manifest_from_json(store.read_file("manifest.json"))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{place}/manifest.json: not a manifest of this version ({error}); preprocess it again"
        ) from error


def _read_index(place: str, store: ByteStore, sizes: dict[str, int], manifest: Manifest) -> IndexRows:
    if "index.parquet" not in sizes:
        raise ValueError(f"{place}: no index.parquet, so no whole release; run preprocess")
    path = f"{place}/index.parquet"
    try:
        table = pq.read_table(BytesIO(store.read_file("index.parquet")), use_threads=False)
    except pa.ArrowException as error:
        raise ValueError(f"{path}: not a Parquet file ({error}); preprocess it again") from error
    missing = sorted(set(COLUMNS) - set(table.column_names))
    if missing:
        raise ValueError(f"{path}: columns {missing} are missing; preprocess it again")
    if table.num_rows != manifest.num_samples:
        raise ValueError(
            f"{path}: {table.num_rows} rows, the manifest says {manifest.num_samples}; preprocess it again"
        )
    return IndexRows(table)


def _check_shards(place: str, sizes: dict[str, int], manifest: Manifest) -> None:
    for shard in manifest.shards:
        found = sizes.get(shard.name)
        if found != shard.size_bytes:
            raise ValueError(
                f"{place}/{shard.name}: size {found} bytes, the manifest says {shard.size_bytes}; "
                "copy it again"
            )
