"""Make a release whole: join the done records into its tables and, last of all, the manifest."""

from collections.abc import Callable, Sequence
from pathlib import Path

from preprocessing.atomic import atomic_write, remove_leftovers
from preprocessing.findings import count_by_code
from preprocessing.plan import WORK_ORDER_FOLDER, Plan, write_work_orders
from preprocessing.shards import DONE_SUFFIX, ShardResult, read_done
from preprocessing.sources.source import SourceSpec
from preprocessing.tables import (
    FRAMES_NAME,
    INDEX_NAME,
    REJECTS_NAME,
    WARNINGS_NAME,
    FrameDigest,
    write_frames,
    write_index,
    write_problems,
)
from univs.labels import LabelSpace
from univs.schema import IndexRow, Manifest, ShardEntry, manifest_from_json, manifest_to_json

MANIFEST_NAME = "manifest.json"


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
    release_dir: Path,
    plan: Plan,
    spec: SourceSpec,
    label_space: LabelSpace | None,
    judge: Callable[[Manifest], None] = lambda manifest: None,
) -> Manifest:
    """Write the tables and the manifest of a fully packed plan, then delete what only packing needed.

    Args:
        release_dir: Folder of the packed shards.
        plan: What was packed.
        spec: Facts about the dataset.
        label_space: Its categories.
        judge: Raises if the manifest must not be written.

    Raises:
        ValueError: a shard of the plan is not packed, or items in and out do not add up.
    """
    results = [_require_done(release_dir, plan, order.shard) for order in plan.orders]
    manifest = _build_manifest(plan, spec, label_space, results)
    judge(manifest)
    _write_tables(release_dir, results)
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
    plan: Plan, spec: SourceSpec, label_space: LabelSpace | None, results: Sequence[ShardResult]
) -> Manifest:
    rows = [row for result in results for row in result.rows]
    rejects = count_by_code(problem.code for result in results for problem in result.rejects)
    first_chunks = [row for row in rows if row.chunk_index == 0]
    if len(first_chunks) + sum(rejects.values()) != plan.num_items:
        raise ValueError(
            f"{plan.dataset} {plan.split}: {len(first_chunks)} items packed and {sum(rejects.values())} "
            f"rejected, expected {plan.num_items} together; delete the release folder and run preprocess.py "
            "again"
        )
    _require_known_categories(plan, label_space, rows)
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
        rejects=rejects,
        warnings=count_by_code(problem.code for result in results for problem in result.warnings),
        shards=tuple(result.entry for result in results if result.entry is not None),
        plan_digest=plan.digest,
    )


def _require_known_categories(plan: Plan, label_space: LabelSpace | None, rows: Sequence[IndexRow]) -> None:
    known = set(label_space.label_of) if label_space else set()
    for row in rows:
        unknown = sorted(set(row.category_ids) - known)
        if unknown:
            raise ValueError(
                f"{plan.dataset} {plan.split}: item {row.item_id} has category {unknown[0]}, which its label "
                "space lacks; this is a mistake of the reader: report it"
            )


def _write_tables(release_dir: Path, results: Sequence[ShardResult]) -> None:
    write_index(release_dir / INDEX_NAME, [row for result in results for row in result.rows])
    write_frames(release_dir / FRAMES_NAME, _frame_digests(results))
    write_problems(release_dir / REJECTS_NAME, [p for result in results for p in result.rejects])
    write_problems(release_dir / WARNINGS_NAME, [p for result in results for p in result.warnings])


def _frame_digests(results: Sequence[ShardResult]) -> list[FrameDigest]:
    return [
        FrameDigest(key=row.key, position=position, sha256=sha256)
        for result in results
        for row, digests in zip(result.rows, result.frame_sha256, strict=True)
        for position, sha256 in enumerate(digests)
    ]


def _check_shard_size(path: Path, entry: ShardEntry) -> None:
    found = path.stat().st_size if path.exists() else None
    if found != entry.size_bytes:
        what = "is missing" if found is None else f"has {found} bytes"
        raise ValueError(f"{path} {what}; expected {entry.size_bytes} bytes; run preprocess.py again")


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
