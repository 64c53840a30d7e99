"""Write samples into a plain tar, byte for byte the same every time, and check a tar against its index.

The tar is written with the standard library: ``webdataset`` imports torch, which preprocessing workers do
without, and its writer sorts members. The layout is what ``webdataset`` reads: members of a sample adjacent,
no dot in the key. Headers are ustar with no time, owner or host in them, one 512-byte block per member.
"""

import hashlib
import io
import re
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from preprocessing.errors import BuildError
from preprocessing.samples import MAX_KEY_CHARACTERS, EncodedSample
from univs.schema import IndexRow

_HEADER_BYTES = tarfile.BLOCKSIZE
_KEY = re.compile(rf"[a-z0-9_-]{{1,{MAX_KEY_CHARACTERS}}}")
"""``webdataset`` takes what follows the first dot for the suffix, and lower-cases it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TarContent:
    """What a tar holds after it is written."""

    rows: tuple[IndexRow, ...]
    frame_sha256: tuple[tuple[str, ...], ...]
    """Digest of every frame's bytes, by row."""
    sha256: str
    size_bytes: int


class _HashingWriter(io.BufferedWriter):
    """A new file that knows the digest of what went into it."""

    def __init__(self, path: Path) -> None:
        super().__init__(io.FileIO(path, "w"))
        self.sha256 = hashlib.sha256()
        self.size_bytes = 0

    def write(self, content: Any, /) -> int:
        """Write, and take note."""
        self.sha256.update(content)
        written = super().write(content)
        self.size_bytes += written
        return written


def write_tar(path: Path, shard: str, samples: Iterable[EncodedSample]) -> TarContent:
    """Write samples in the order given; ``shard`` is the name the rows will know the file by.

    Raises:
        OSError: the disk is full.
    """
    rows: list[IndexRow] = []
    digests: list[tuple[str, ...]] = []
    with (
        _HashingWriter(path) as writer,
        tarfile.open(fileobj=writer, mode="w", format=tarfile.USTAR_FORMAT) as tar,
    ):
        for sample in samples:
            rows.append(_write_sample(tar, shard, sample))
            digests.append(tuple(hashlib.sha256(c).hexdigest() for c in sample.frame_bytes))
    return TarContent(
        rows=tuple(rows),
        frame_sha256=tuple(digests),
        sha256=writer.sha256.hexdigest(),
        size_bytes=writer.size_bytes,
    )


def check_tar(path: Path, rows: Sequence[IndexRow]) -> None:
    """Walk the headers of a tar and compare names, order, places and sizes with its index rows.

    Raises:
        BuildError: E161, the first difference.
    """
    for row in rows:
        if not _KEY.fullmatch(row.key):
            raise BuildError("E161", f"{path} has key {row.key!r}; expected {_KEY.pattern}")
    expected = [member for row in rows for member in _members_of(row)]
    found = list(_walk(path))
    for position, (have, want) in enumerate(zip(found, expected, strict=False)):
        if not _matches(have, want):
            raise BuildError(
                "E161", f"{path} member {position} is {_describe(have)}; expected {_describe(want)}"
            )
    if len(found) != len(expected):
        raise BuildError("E161", f"{path} has {len(found)} members; expected {len(expected)}")


@dataclass(frozen=True, kw_only=True, slots=True)
class _Member:
    name: str
    offset: int
    size: int


def _write_sample(tar: tarfile.TarFile, shard: str, sample: EncodedSample) -> IndexRow:
    record = sample.record
    offsets = [_add_member(tar, name, content) for name, content in sample.members()]
    return IndexRow(
        key=sample.key,
        item_id=record.item_id,
        shard=shard,
        chunk_index=record.chunk.index,
        chunk_count=record.chunk.count,
        height=record.height,
        width=record.width,
        meta_offset=offsets[0],
        meta_size=len(sample.meta),
        annotation_offset=offsets[1],
        annotation_size=len(sample.annotation),
        frame_offsets=tuple(offsets[2:]),
        frame_sizes=tuple(len(content) for content in sample.frame_bytes),
        num_objects=len(record.objects),
        num_expressions=len(record.expressions),
        group=record.group,
        category_ids=tuple(sorted({t.category_id for t in record.objects if t.category_id is not None})),
        flags=sample.flags,
    )


def _add_member(tar: tarfile.TarFile, name: str, content: bytes) -> int:
    """Append a member; return the offset of its data."""
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(content), 0o644
    offset = tar.offset + _HEADER_BYTES
    tar.addfile(info, io.BytesIO(content))
    return offset


def _walk(path: Path) -> Iterator[_Member]:
    try:
        with tarfile.open(path) as tar:
            for info in tar:
                yield _Member(name=info.name, offset=info.offset_data, size=info.size)
    except tarfile.TarError as error:
        raise BuildError("E161", f"{path} is not a whole tar: {error}") from error


def _members_of(row: IndexRow) -> Iterator[_Member]:
    yield _Member(name=f"{row.key}.meta.json", offset=row.meta_offset, size=row.meta_size)
    yield _Member(name=f"{row.key}.ann.json", offset=row.annotation_offset, size=row.annotation_size)
    for position, (offset, size) in enumerate(zip(row.frame_offsets, row.frame_sizes, strict=True)):
        yield _Member(name=f"{row.key}.{position:06d}", offset=offset, size=size)


def _matches(found: _Member, expected: _Member) -> bool:
    """Compare; the suffix of a frame, which the index leaves out, may be any that frames have."""
    names = (expected.name, f"{expected.name}.jpg", f"{expected.name}.png")
    return found.name in names and (found.offset, found.size) == (expected.offset, expected.size)


def _describe(member: _Member) -> str:
    return f"{member.name} at {member.offset} with {member.size} bytes"
