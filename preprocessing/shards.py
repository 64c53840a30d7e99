"""Write one shard: validated samples in a plain tar, atomically, byte for byte the same every time.

The tar is written with the standard library: ``webdataset`` imports torch, which preprocessing workers do
without, and its writer sorts members. The layout is what ``webdataset`` reads: members of a sample adjacent,
no dot in the key. Headers are ustar with no time, owner or host in them, one 512-byte block per member.
"""

import hashlib
import io
import json
import logging
import re
import tarfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from preprocessing.atomic import atomic_write, remove_leftovers
from preprocessing.errors import ItemError
from preprocessing.plan import WorkOrder
from preprocessing.sources.source import Source
from preprocessing.validate import ValidVideo, validate
from univs.schema import (
    Chunk,
    IndexRow,
    ShardEntry,
    VideoRecord,
    annotation_to_json,
    canonical_json,
    index_row_from_dict,
    meta_to_json,
)

logger = logging.getLogger(__name__)

DONE_SUFFIX = ".done.json"
_MAX_SLUG = 40
_HEADER_BYTES = tarfile.BLOCKSIZE


@dataclass(frozen=True, kw_only=True, slots=True)
class Reject:
    """An item that is not in the release, and why."""

    item_id: str
    code: str
    message: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardResult:
    """What packing a shard gave; also what its done record holds."""

    rows: tuple[IndexRow, ...]
    rejects: tuple[Reject, ...]
    entry: ShardEntry | None
    """``None`` if every item was rejected: no tar is written then."""


def pack_shard(source: Source, root: Path, split: str, order: WorkOrder, release_dir: Path) -> ShardResult:
    """Validate and write the items of a work order, or return the done record of an earlier run.

    A sample reaches the disk only inside a finished tar under its final name.

    Raises:
        OSError: the shard could not be written (disk full); no part of it is left.
    """
    finished = read_done(release_dir, order.shard, order.plan_digest)
    if finished is not None:
        return finished
    release_dir.mkdir(parents=True, exist_ok=True)
    remove_leftovers(release_dir, order.shard)
    rejects: list[Reject] = []
    videos = _valid_videos(source, root, split, order, rejects)
    rows, entry = _write_tar(release_dir / order.shard, videos, order.max_frames_per_chunk)
    result = ShardResult(rows=rows, rejects=tuple(rejects), entry=entry)
    with atomic_write(release_dir / f"{order.shard}{DONE_SUFFIX}") as temporary:
        temporary.write_bytes(canonical_json({"plan_digest": order.plan_digest, **asdict(result)}))
    return result


def read_done(release_dir: Path, shard: str, plan_digest: str) -> ShardResult | None:
    """Give the result of an earlier run, if it is of this plan and the tar has the recorded size."""
    path = release_dir / f"{shard}{DONE_SUFFIX}"
    if not path.exists():
        return None
    try:
        body = json.loads(path.read_bytes())
    except ValueError:
        return None
    if body["plan_digest"] != plan_digest:
        return None
    entry = ShardEntry(**body["entry"]) if body["entry"] else None
    tar = release_dir / shard
    if entry is not None and (not tar.exists() or tar.stat().st_size != entry.size_bytes):
        return None
    rows = tuple(index_row_from_dict(row) for row in body["rows"])
    return ShardResult(rows=rows, rejects=tuple(Reject(**reject) for reject in body["rejects"]), entry=entry)


def verify_shard(release_dir: Path, entry: ShardEntry) -> None:
    """Hash a shard again.

    Raises:
        ValueError: its bytes are not those that were written.
    """
    path = release_dir / entry.name
    if not path.exists():
        raise ValueError(f"{path} not found; expected {entry.size_bytes} bytes; preprocess again")
    found = _describe_shard(path, entry.num_samples).sha256
    if found != entry.sha256:
        raise ValueError(
            f"{path} has sha256 {found}; expected {entry.sha256}; delete it and preprocess again"
        )


def sample_key(dataset: str, split: str, item_id: str, chunk_index: int) -> str:
    """Name a sample: readable, without a dot, unique by the hash of the full id."""
    slug = re.sub(r"[^a-z0-9_-]", "_", item_id.lower())[:_MAX_SLUG]
    digest = hashlib.blake2b(f"{dataset}|{split}|{item_id}".encode()).hexdigest()[:8]
    return f"{dataset}-{split}-{slug}-{digest}-{chunk_index:03d}"


def split_chunks(video: ValidVideo, max_frames: int) -> Iterator[ValidVideo]:
    """Cut a whole item into consecutive chunks; every chunk lists all objects of the item."""
    total = video.record.num_frames
    count = -(-total // max_frames)
    for index in range(count):
        window = slice(index * max_frames, min((index + 1) * max_frames, total))
        chunk = Chunk(index=index, count=count, item_frames=total)
        yield ValidVideo(
            record=_cut_record(video.record, window, chunk),
            frame_bytes=video.frame_bytes[window],
            findings=video.findings,
        )


def _valid_videos(
    source: Source, root: Path, split: str, order: WorkOrder, rejects: list[Reject]
) -> Iterator[ValidVideo]:
    for item in order.items:
        try:
            yield validate(source.read(root, split, item))
        except ItemError as error:
            logger.warning("%s rejected: %s", order.shard, error)
            rejects.append(Reject(item_id=item.item_id, code=error.code, message=error.message))


def _write_tar(
    path: Path, videos: Iterator[ValidVideo], max_frames: int
) -> tuple[tuple[IndexRow, ...], ShardEntry | None]:
    rows: list[IndexRow] = []
    with atomic_write(path) as temporary:
        with tarfile.open(temporary, "w", format=tarfile.USTAR_FORMAT) as tar:
            for video in videos:
                rows += [_write_sample(tar, path.name, chunk) for chunk in split_chunks(video, max_frames)]
        if not rows:
            temporary.unlink()
    return tuple(rows), _describe_shard(path, len(rows)) if rows else None


def _describe_shard(path: Path, num_samples: int) -> ShardEntry:
    with path.open("rb") as stream:
        sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
    return ShardEntry(name=path.name, sha256=sha256, size_bytes=path.stat().st_size, num_samples=num_samples)


def _write_sample(tar: tarfile.TarFile, shard: str, video: ValidVideo) -> IndexRow:
    record = video.record
    key = sample_key(record.dataset, record.split, record.item_id, record.chunk.index)
    meta, annotation = meta_to_json(record), annotation_to_json(record)
    meta_offset = _add_member(tar, f"{key}.meta.json", meta)
    annotation_offset = _add_member(tar, f"{key}.ann.json", annotation)
    offsets = [
        _add_member(tar, f"{key}.{position:06d}.{frame.extension}", content)
        for position, (frame, content) in enumerate(zip(record.frames, video.frame_bytes, strict=True))
    ]
    return IndexRow(
        key=key,
        item_id=record.item_id,
        shard=shard,
        chunk_index=record.chunk.index,
        chunk_count=record.chunk.count,
        height=record.height,
        width=record.width,
        meta_offset=meta_offset,
        meta_size=len(meta),
        annotation_offset=annotation_offset,
        annotation_size=len(annotation),
        frame_offsets=tuple(offsets),
        frame_sizes=tuple(len(content) for content in video.frame_bytes),
        num_objects=len(record.objects),
        num_expressions=len(record.expressions),
        group=record.group,
        category_ids=tuple(sorted({t.category_id for t in record.objects if t.category_id is not None})),
        flags=tuple(sorted({finding.code for finding in video.findings})),
    )


def _add_member(tar: tarfile.TarFile, name: str, content: bytes) -> int:
    """Append a member; return the offset of its data."""
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(content), 0o644
    offset = tar.offset + _HEADER_BYTES
    tar.addfile(info, io.BytesIO(content))
    return offset


def _cut_record(record: VideoRecord, window: slice, chunk: Chunk) -> VideoRecord:
    if chunk.count == 1:
        return replace(record, chunk=chunk)
    return replace(
        record,
        chunk=chunk,
        frames=record.frames[window],
        objects=tuple(
            replace(track, states=track.states[window], rles=track.rles[window]) for track in record.objects
        ),
        regions=tuple(replace(region, rles=region.rles[window]) for region in record.regions),
    )
