"""Make a release whole: join the done records into index, rejects and, last of all, the manifest."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pyarrow as pa
import pyarrow.parquet as pq

from preprocessing.atomic import atomic_write, remove_leftovers
from preprocessing.plan import WORK_ORDER_FOLDER, Plan, write_work_orders
from preprocessing.shards import DONE_SUFFIX, Reject, ShardResult, read_done
from preprocessing.sources.source import SourceSpec
from univs.labels import LabelSpace
from univs.schema import (
    IndexRow,
    Manifest,
    ShardEntry,
    index_row_from_dict,
    manifest_from_json,
    manifest_to_json,
)

INDEX_NAME, REJECTS_NAME, MANIFEST_NAME = "index.parquet", "rejects.parquet", "manifest.json"
_ROW_GROUP_ROWS = 4096


def begin_release(release_dir: Path, plan: Plan) -> tuple[Path, ...]:
    """Prepare a folder for packing a plan and return the work orders, none if the release is already whole.

    An older release of another plan stops being whole here, before the first of its shards is replaced.
    """
    release_dir.mkdir(parents=True, exist_ok=True)
    if _is_whole(release_dir, plan):
        _remove_scaffolding(release_dir, {entry.name for entry in read_manifest(release_dir).shards})
        return ()
    (release_dir / MANIFEST_NAME).unlink(missing_ok=True)
    remove_leftovers(release_dir)
    return write_work_orders(release_dir, plan)


def commit_release(
    release_dir: Path, plan: Plan, spec: SourceSpec, label_space: LabelSpace | None
) -> Manifest:
    """Write index, rejects and manifest of a fully packed plan, then delete what only packing needed.

    Raises:
        ValueError: a shard of the plan is not packed, or items in and out do not add up.
    """
    results = [_require_done(release_dir, plan, order.shard) for order in plan.orders]
    rows = [row for result in results for row in result.rows]
    rejects = sorted((r for result in results for r in result.rejects), key=lambda reject: reject.item_id)
    manifest = _build_manifest(plan, spec, label_space, rows, results)
    write_index(release_dir / INDEX_NAME, rows)
    _write_table(release_dir / REJECTS_NAME, [asdict(reject) for reject in rejects], _REJECT_SCHEMA)
    with atomic_write(release_dir / MANIFEST_NAME) as temporary:
        temporary.write_bytes(manifest_to_json(manifest))
    _remove_scaffolding(release_dir, {entry.name for entry in manifest.shards})
    return manifest


def read_manifest(release_dir: Path) -> Manifest:
    """Read ``manifest.json``.

    Raises:
        ValueError: there is none, it is damaged, or a shard it names is missing or has another size.
    """
    path = release_dir / MANIFEST_NAME
    if not path.exists():
        raise ValueError(f"{path} not found: the release is not whole; run preprocess.py until it finishes")
    try:
        manifest = manifest_from_json(path.read_bytes())
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is damaged ({type(error).__name__}: {error}); preprocess again") from error
    for entry in manifest.shards:
        _check_shard_size(release_dir / entry.name, entry)
    return manifest


def write_index(path: Path, rows: Sequence[IndexRow]) -> None:
    """Write ``index.parquet`` atomically, in the order given (by shard, then position)."""
    _write_table(path, [asdict(row) for row in rows], _INDEX_SCHEMA)


def read_index(release_dir: Path) -> tuple[IndexRow, ...]:
    """Read ``index.parquet``.

    Raises:
        ValueError: it is missing or damaged.
    """
    return tuple(index_row_from_dict(row) for row in _read_rows(release_dir / INDEX_NAME))


def read_rejects(release_dir: Path) -> tuple[Reject, ...]:
    """Read ``rejects.parquet``.

    Raises:
        ValueError: it is missing or damaged.
    """
    return tuple(Reject(**row) for row in _read_rows(release_dir / REJECTS_NAME))


def _index_schema() -> pa.Schema:
    hints = get_type_hints(IndexRow)
    return pa.schema([(field.name, _column_type(hints[field.name])) for field in fields(IndexRow)])


def _column_type(hint: Any) -> pa.DataType:
    if get_args(hint):
        return pa.list_(_column_type(get_args(hint)[0]))
    return pa.int64() if hint is int else pa.string()


_INDEX_SCHEMA = _index_schema()
_REJECT_SCHEMA = pa.schema([(field.name, pa.string()) for field in fields(Reject)])


def _is_whole(release_dir: Path, plan: Plan) -> bool:
    try:
        return read_manifest(release_dir).plan_digest == plan.digest
    except ValueError:
        return False


def _require_done(release_dir: Path, plan: Plan, shard: str) -> ShardResult:
    result = read_done(release_dir, shard, plan.digest)
    if result is None:
        raise ValueError(f"{release_dir / shard} is not packed for this plan; run preprocess.py again")
    return result


def _build_manifest(
    plan: Plan,
    spec: SourceSpec,
    label_space: LabelSpace | None,
    rows: Sequence[IndexRow],
    results: Sequence[ShardResult],
) -> Manifest:
    counts = Counter(reject.code for result in results for reject in result.rejects)
    first_chunks = [row for row in rows if row.chunk_index == 0]
    if len(first_chunks) + counts.total() != plan.num_items:
        raise ValueError(
            f"{plan.dataset} {plan.split}: {len(first_chunks)} items packed and {counts.total()} rejected, "
            f"expected {plan.num_items} together; delete the release folder and run preprocess.py again"
        )
    return Manifest(
        dataset=plan.dataset,
        split=plan.split,
        task=spec.task,
        kind=spec.kind,
        label_space=label_space,
        num_items=plan.num_items,
        num_samples=len(rows),
        num_frames=sum(row.num_frames for row in rows),
        num_objects=sum(row.num_objects for row in first_chunks),
        num_expressions=sum(row.num_expressions for row in first_chunks),
        rejects=dict(sorted(counts.items())),
        shards=tuple(result.entry for result in results if result.entry is not None),
        plan_digest=plan.digest,
    )


def _check_shard_size(path: Path, entry: ShardEntry) -> None:
    found = path.stat().st_size if path.exists() else None
    if found != entry.size_bytes:
        what = "is missing" if found is None else f"has {found} bytes"
        raise ValueError(f"{path} {what}; expected {entry.size_bytes} bytes; run preprocess.py again")


def _write_table(path: Path, rows: list[dict[str, Any]], schema: pa.Schema) -> None:
    table = pa.Table.from_pylist(rows, schema=schema)
    with atomic_write(path) as temporary:
        pq.write_table(table, temporary, compression="zstd", row_group_size=_ROW_GROUP_ROWS)


def _read_rows(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        raise ValueError(f"{path} not found: the release is not whole; run preprocess.py until it finishes")
    try:
        rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{path} is damaged ({error}); preprocess again") from error
    return rows


def _remove_scaffolding(release_dir: Path, shards: set[str]) -> None:
    """Delete done records, work orders, leftovers, and tars of an earlier plan."""
    remove_leftovers(release_dir)
    for path in release_dir.glob(f"*{DONE_SUFFIX}"):
        path.unlink()
    for path in release_dir.glob("*.tar"):
        if path.name not in shards:
            path.unlink()
    folder = release_dir / WORK_ORDER_FOLDER
    if folder.is_dir():
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()
