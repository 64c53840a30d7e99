"""Check a release against itself: every shard's bytes, every row of its tables, some samples to the pixel."""

import hashlib
import random
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from pathlib import Path

from preprocessing.errors import BuildError, ItemError
from preprocessing.findings import FindingLog, count_by_code
from preprocessing.frame_checks import Place, check_frame, decode_frame
from preprocessing.index import read_manifest
from preprocessing.sample_tars import check_tar
from preprocessing.tables import FRAMES_NAME, read_index, read_rejects, read_table, read_warnings
from preprocessing.validate import check_annotation
from univs.schema import IndexRow, Manifest, ShardEntry, VideoRecord, record_from_json


def verify_release(release_dir: Path, *, num_samples: int = 100, seed: int = 0) -> Manifest:
    """Hash all shards again, compare tables, tars and manifest, and decode some random samples.

    Args:
        release_dir: Folder of the release.
        num_samples: How many samples to decode, all if there are no more.
        seed: Chooses them.

    Raises:
        ValueError: the release is not whole.
        BuildError: E161 or E162, the first thing that is not as it was written.
    """
    manifest = read_manifest(release_dir)
    rows = read_index(release_dir)
    digests = _frame_digests(release_dir)
    _check_tables(release_dir, manifest, rows, digests)
    # Hashing and reading release Python's lock, so threads keep a disk busy.
    with ThreadPoolExecutor() as pool:
        for _ in pool.map(lambda entry: verify_shard(release_dir, entry), manifest.shards):
            pass
    # Rows are sorted by shard, as the manifest is.
    for shard, members in groupby(rows, key=lambda row: row.shard):
        check_tar(release_dir / shard, tuple(members))
    for row in random.Random(seed).sample(rows, min(num_samples, len(rows))):
        verify_sample(release_dir, row, manifest, digests[row.key])
    return manifest


def verify_shard(release_dir: Path, entry: ShardEntry) -> None:
    """Hash a shard again.

    Raises:
        BuildError: E162, its bytes are not those that were written.
    """
    path = release_dir / entry.name
    if not path.exists():
        raise BuildError(
            "E162",
            f"{path} not found; expected {entry.size_bytes} bytes; delete the release, preprocess again",
        )
    with path.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if found != entry.sha256:
        raise BuildError(
            "E162",
            f"{path} has sha256 {found}; expected {entry.sha256}; delete the release, preprocess again",
        )


def verify_sample(release_dir: Path, row: IndexRow, manifest: Manifest, digests: Sequence[str]) -> None:
    """Parse the annotation of a sample, decode its frames, and compare both with its row.

    Raises:
        BuildError: E162, they are not what the row says.
    """
    meta, annotation, *frames = _read_members(release_dir / row.shard, row)
    where = f"{release_dir / row.shard} sample {row.key}"
    try:
        record = record_from_json(meta, annotation)
        _compare_record(where, record, row, manifest)
        check_annotation(record)
        for position, (content, digest) in enumerate(zip(frames, digests, strict=True)):
            _check_frame(where, record, position, content, digest)
    except BuildError:
        raise
    except (ItemError, ValueError, KeyError, TypeError) as error:
        raise BuildError("E162", f"{where}: {error}; preprocess again") from error


def _frame_digests(release_dir: Path) -> dict[str, list[str]]:
    table = read_table(release_dir / FRAMES_NAME)
    digests: dict[str, list[str]] = {}
    for row in table.to_pylist():
        digests.setdefault(row["key"], []).append(row["sha256"])
    return digests


def _check_tables(
    release_dir: Path, manifest: Manifest, rows: Sequence[IndexRow], digests: dict[str, list[str]]
) -> None:
    rejects, warnings = read_rejects(release_dir), read_warnings(release_dir)
    first_chunks = [row for row in rows if row.chunk_index == 0]
    facts = {
        "samples": (len(rows), manifest.num_samples),
        "frames": (sum(row.num_frames for row in rows), manifest.num_frames),
        "objects": (sum(row.num_objects for row in first_chunks), manifest.num_objects),
        "expressions": (sum(row.num_expressions for row in first_chunks), manifest.num_expressions),
        "items, rejected ones included": (len(first_chunks) + len(rejects), manifest.num_items),
        "rejects": (count_by_code(problem.code for problem in rejects), dict(manifest.rejects)),
        "warnings": (count_by_code(problem.code for problem in warnings), dict(manifest.warnings)),
        "samples by shard": (_samples_by_shard(rows), {e.name: e.num_samples for e in manifest.shards}),
        "frame digests": (
            {key: len(found) for key, found in digests.items()},
            {row.key: row.num_frames for row in rows},
        ),
    }
    for name, (found, expected) in facts.items():
        if found != expected:
            raise BuildError(
                "E162", f"{release_dir}: tables hold {_short(found)} {name}, manifest says {_short(expected)}"
            )


def _samples_by_shard(rows: Sequence[IndexRow]) -> dict[str, int]:
    return count_by_code(row.shard for row in rows)


def _read_members(path: Path, row: IndexRow) -> Iterator[bytes]:
    places = [(row.meta_offset, row.meta_size), (row.annotation_offset, row.annotation_size)]
    places += zip(row.frame_offsets, row.frame_sizes, strict=True)
    with path.open("rb") as stream:
        for offset, size in places:
            stream.seek(offset)
            yield stream.read(size)


def _compare_record(where: str, record: VideoRecord, row: IndexRow, manifest: Manifest) -> None:
    facts = {
        "release": (
            f"{record.dataset}/{record.split}",
            f"{manifest.dataset}/{manifest.split}",
        ),
        "item": (record.item_id, row.item_id),
        "chunk": (record.chunk.index, row.chunk_index),
        "size": ((record.height, record.width), (row.height, row.width)),
        "frames": (record.num_frames, row.num_frames),
        "objects": (len(record.objects), row.num_objects),
        "expressions": (len(record.expressions), row.num_expressions),
        "group": (record.group, row.group),
    }
    for name, (found, expected) in facts.items():
        if found != expected:
            raise BuildError("E162", f"{where}: {name} {found!r}; the index says {expected!r}")


def _check_frame(where: str, record: VideoRecord, position: int, content: bytes, digest: str) -> None:
    if hashlib.sha256(content).hexdigest() != digest:
        raise BuildError("E162", f"{where}: frame {position} is not the one in {FRAMES_NAME}")
    place = Place(where=where, name=record.frames[position].name, file="", pointer="")
    check_frame(decode_frame(content, place), position, record, place, FindingLog())


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 80 else f"{text[:80]}..."
