"""Write one shard: validated samples in a plain tar, and a record of what became of every item."""

import json
import logging
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from preprocessing.atomic import atomic_write, remove_leftovers
from preprocessing.errors import Finding, ItemError, Problem
from preprocessing.memory import keep_freed_memory
from preprocessing.plan import WorkOrder
from preprocessing.sample_tars import TarContent, check_tar, write_tar
from preprocessing.samples import EncodedSample, encode_item
from preprocessing.sources.source import Item, Source
from preprocessing.validate import validate
from univs.schema import IndexRow, ShardEntry, canonical_json, index_row_from_dict

logger = logging.getLogger(__name__)

DONE_SUFFIX = ".done.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardResult:
    """What packing a shard gave; also what its done record holds."""

    rows: tuple[IndexRow, ...]
    frame_sha256: tuple[tuple[str, ...], ...]
    """Digest of every frame's bytes, by row."""
    rejects: tuple[Problem, ...]
    """Items that are not in the release, and why."""
    warnings: tuple[Problem, ...]
    """What is odd about items that are."""
    entry: ShardEntry | None
    """``None`` if every item was rejected: no tar is written then."""


def pack_shard(source: Source, root: Path, split: str, order: WorkOrder, release_dir: Path) -> ShardResult:
    """Validate and write the items of a work order, or return the done record of an earlier run.

    A sample reaches the disk only inside a finished tar under its final name.

    Raises:
        OSError: the shard could not be written (disk full); no part of it is left.
        BuildError: E161, the tar does not hold what was written.
    """
    finished = read_done(release_dir, order.shard, order.plan_digest)
    if finished is not None:
        return finished
    release_dir.mkdir(parents=True, exist_ok=True)
    remove_leftovers(release_dir, order.shard)
    keep_freed_memory()
    packing = _Packing(source, root, split, order)
    content = _write_atomically(release_dir / order.shard, packing.samples())
    result = ShardResult(
        rows=content.rows,
        frame_sha256=content.frame_sha256,
        rejects=tuple(packing.rejects),
        warnings=tuple(packing.warnings),
        entry=_entry_of(order.shard, content),
    )
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
    return ShardResult(
        rows=tuple(index_row_from_dict(row) for row in body["rows"]),
        frame_sha256=tuple(map(tuple, body["frame_sha256"])),
        rejects=tuple(Problem(**problem) for problem in body["rejects"]),
        warnings=tuple(Problem(**problem) for problem in body["warnings"]),
        entry=entry,
    )


class _Packing:
    """Reads the items of a work order one by one and keeps what was wrong with them."""

    def __init__(self, source: Source, root: Path, split: str, order: WorkOrder) -> None:
        self._source, self._root, self._split, self._order = source, root, split, order
        self.rejects: list[Problem] = []
        self.warnings: list[Problem] = []

    def samples(self) -> Iterator[EncodedSample]:
        """Give the samples of the usable items."""
        for item in self._order.items:
            try:
                yield from self._encode(item)
            except ItemError as error:
                logger.warning("%s rejected: %s", self._order.shard, error)
                self.rejects.append(_problem(item, error))

    def _encode(self, item: Item) -> tuple[EncodedSample, ...]:
        video = validate(self._source.read(self._root, self._split, item), self._root)
        samples = encode_item(video, self._order.max_frames_per_chunk)
        self.warnings += [_problem(item, finding) for finding in video.findings]
        return samples


def _problem(item: Item, found: ItemError | Finding) -> Problem:
    return Problem(
        item_id=item.item_id,
        code=found.code,
        message=found.message,
        file=found.file,
        pointer=found.pointer,
    )


def _write_atomically(path: Path, samples: Iterator[EncodedSample]) -> TarContent:
    with atomic_write(path) as temporary:
        content = write_tar(temporary, path.name, samples)
        check_tar(temporary, content.rows)
        if not content.rows:
            temporary.unlink()
    return content


def _entry_of(shard: str, content: TarContent) -> ShardEntry | None:
    if not content.rows:
        return None
    return ShardEntry(
        name=shard, sha256=content.sha256, size_bytes=content.size_bytes, num_samples=len(content.rows)
    )
