"""Build a release with Ray: one task scans and plans, one task packs each shard, one task commits.

The driver holds only names and counts, so it needs to see neither the source nor the release. All that is
written is a pure function of the plan: a killed worker's shard is packed again, a killed job goes on.
"""

import json
import logging
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, cast

import ray

from jobs.artifacts import (
    PREVIEW_NAME,
    RECORD_NAME,
    ArtifactRecord,
    digest_files,
    is_whole,
    make_record,
    save_record,
)
from jobs.errors import UserError, mistakes_travel
from jobs.judging import Officialness, judge_categories, judge_counts, judge_rejects, packed_counts
from jobs.session import Session
from jobs.waiting import MAX_DEATHS, wait_for
from preprocessing.errors import Problem
from preprocessing.expectations import require_license
from preprocessing.index import MANIFEST_NAME, begin_release, commit_release, read_manifest
from preprocessing.plan import Plan, PlanParameters, make_plan, read_work_order
from preprocessing.shards import DONE_SUFFIX, pack_shard
from preprocessing.sources.catalog import require_source
from preprocessing.sources.source import ExpectedCounts, require_split
from preprocessing.tables import TABLE_NAMES, read_rejects
from univs.labels import LabelSpace
from univs.schema import Manifest

if TYPE_CHECKING:
    from jobs.preview import Preview

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class PreprocessConfig:
    """One split of one dataset, from its official layout to shards."""

    dataset: str
    """Name of the dataset, or ``all``; ``--list`` shows them."""
    split: str = "all"
    """train, val, ...; ``all`` for every split that is there."""
    source: Path
    """Folder with the official files, as its authors ship them; for ``all`` datasets, the parent of folders
    named like them."""
    out: Path
    """Folder of releases; this one becomes OUT/DATASET/SPLIT."""
    num_workers: int = 0
    """Shards packed at the same time; 0 means one per CPU."""
    frames_per_shard: int = 2048
    """A shard closes once it holds so many frames."""
    seed: int = 0
    """Seed of the order of items in the shards."""
    max_reject_rate: float = 0.01
    """Largest share of items that may be unusable; beyond it the build fails."""
    official: Officialness = "warn"
    """What to do where counts or categories are not those of the official release: ``ignore``, ``warn``, or
    fail if they are what you ``require``."""
    preview: int = 0
    """Samples to draw into ``preview.html`` with statistics of the release, logged to MLflow too; 0: none."""
    overwrite: bool = False
    """Build again even if there is a release, of this plan or another."""

    def __post_init__(self) -> None:
        """Refuse numbers that make no sense."""
        if self.preview < 0:
            raise ValueError(f"preview must be at least 0, got {self.preview}")
        if self.num_workers < 0 or self.frames_per_shard < 1 or not 0 <= self.max_reject_rate <= 1:
            raise ValueError(
                f"num_workers must be at least 0, frames_per_shard at least 1 and max_reject_rate between 0 "
                f"and 1, got {self.num_workers}, {self.frames_per_shard} and {self.max_reject_rate}"
            )

    @property
    def release_dir(self) -> Path:
        """Where the release lies."""
        return self.out.absolute() / self.dataset / self.split


@dataclass(frozen=True, kw_only=True, slots=True)
class PlannedShard:
    """What the driver knows of a shard before it is packed."""

    name: str
    work_order: Path
    num_frames: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Outline:
    """A plan without its items."""

    digest: str
    num_items: int
    num_frames: int
    num_shards: int
    label_space: LabelSpace | None = None
    to_pack: tuple[PlannedShard, ...] = ()
    """Empty where the release is already whole."""

    @property
    def counts(self) -> ExpectedCounts:
        """What the plan tells of the counts."""
        return ExpectedCounts(num_items=self.num_items, num_frames=self.num_frames)


def preprocess(job: PreprocessConfig, session: Session) -> Manifest:
    """Build the release, or finish it, or find it up to date; give its manifest.

    Raises:
        UserError: the source cannot be read, too many items are unusable, the disk is full, or another
            release is in the way. Nothing that is left behind can be taken for a whole release.
    """
    job = replace(job, source=job.source.absolute(), out=job.out.absolute())
    planned, plan = _plan(job)
    spec = require_source(job.dataset).spec
    judge_counts(spec, job.split, planned.counts, job.official)
    judge_categories(spec, job.split, planned.label_space, job.official)
    if planned.to_pack:
        logger.info("%s: %s", job.release_dir, describe(planned))
        manifest = _build(job, planned, plan, job.num_workers or max(1, session.num_cpus))
    else:
        manifest = wait_for(_reread_task.remote(job))
        logger.info("%s: release is up to date", job.release_dir)
    judge_counts(spec, job.split, packed_counts(manifest), job.official)
    wait_for(_record_task.remote(job.release_dir, _describe_release(job, manifest)))
    if job.preview:
        _show(job, manifest, session)
    return manifest


def _plan(job: PreprocessConfig) -> tuple[Outline, Any]:
    """Plan the release; the plan itself stays in Ray's store, as only the last task needs it."""
    outline, plan = cast("tuple[Any, Any]", _plan_task.options(num_returns=2).remote(job))
    try:
        return wait_for(outline), plan
    except UserError:
        # The other result holds the same error; Ray reports errors that nobody has seen.
        with suppress(UserError):
            wait_for(plan)
        raise


def check_job(job: PreprocessConfig, *, sees_source: bool) -> None:
    """Find the mistakes that need no scan, before a Ray is started for the job.

    Args:
        job: what to build.
        sees_source: whether this process sees the files the workers will see.

    Raises:
        ValueError: the dataset or the split is unknown, or the source is no folder.
    """
    spec = require_source(job.dataset).spec
    require_split(spec, job.split)
    if sees_source and not job.source.is_dir():
        raise UserError(f"--source {job.source}: no such folder; expected one with {spec.needs}")


def outline_release(job: PreprocessConfig) -> Outline:
    """Scan and plan in this process, without writing: what a dry run shows."""
    plan, label_space = _scan(job)
    return _outline(plan, (), label_space)


def describe(outline: Outline) -> str:
    """Say what a plan amounts to."""
    return f"{outline.num_items} items, {outline.num_frames} frames, {outline.num_shards} shards"


@ray.remote(num_cpus=1, max_retries=MAX_DEATHS)
def _plan_task(job: PreprocessConfig) -> tuple[Outline, Plan]:
    with mistakes_travel():
        plan, label_space = _scan(job)
        _require_official(job, _outline(plan, (), label_space))
        _make_way(job, plan)
        work_orders = begin_release(job.release_dir, plan)
        if work_orders:
            for name in (RECORD_NAME, PREVIEW_NAME):
                (job.release_dir / name).unlink(missing_ok=True)
        return _outline(plan, work_orders, label_space), plan


@ray.remote(num_cpus=1, max_retries=MAX_DEATHS)
def _pack_task(job: PreprocessConfig, work_order: Path) -> tuple[Problem, ...]:
    with mistakes_travel():
        order = read_work_order(work_order)
        source = require_source(job.dataset)
        return pack_shard(source, job.source, job.split, order, job.release_dir).rejects


@ray.remote(num_cpus=1, max_retries=MAX_DEATHS)
def _commit_task(job: PreprocessConfig, plan: Plan) -> Manifest:
    with mistakes_travel():
        source = require_source(job.dataset)
        label_space = source.label_space(job.source)
        return commit_release(job.release_dir, plan, source.spec, label_space, partial(_judge_manifest, job))


@ray.remote(num_cpus=1, max_retries=MAX_DEATHS)
def _reread_task(job: PreprocessConfig) -> Manifest:
    with mistakes_travel():
        manifest = read_manifest(job.release_dir)
        judge_rejects(read_rejects(job.release_dir), manifest.num_items, job.max_reject_rate)
        return manifest


@ray.remote(num_cpus=1, max_retries=MAX_DEATHS)
def _reopen_task(release_dir: Path, shards: Sequence[str]) -> None:
    """Forget that shards with unusable items are done: the next run reads their repaired sources."""
    for shard in shards:
        (release_dir / f"{shard}{DONE_SUFFIX}").unlink(missing_ok=True)


@ray.remote(num_cpus=1, max_retries=MAX_DEATHS)
def _preview_task(job: PreprocessConfig) -> "Preview":
    from jobs.preview import write_preview  # Imports torch, which no other task needs.

    with mistakes_travel():
        return write_preview(job.release_dir, job.preview)


def _show(job: PreprocessConfig, manifest: Manifest, session: Session) -> None:
    """Draw the release where it lies, and log the page from here, where MLflow is."""
    # MLflow and torch take seconds to import, which neither listing nor packing should wait for.
    from jobs.preview import PREVIEW_EXPERIMENT, log_preview
    from jobs.tracking import Tracking

    tracking = Tracking(uri=session.cluster.mlflow_uri, experiment=PREVIEW_EXPERIMENT)
    tracking.check_reachable(session.cluster.connect_timeout_s)
    preview: Preview = wait_for(_preview_task.remote(job))
    with TemporaryDirectory() as folder:
        log_preview(preview, manifest, job, tracking, Path(folder))
    logger.info("%s: look at %s", job.release_dir, job.release_dir / PREVIEW_NAME)


@ray.remote(num_cpus=1, max_retries=MAX_DEATHS)
def _record_task(release_dir: Path, record: ArtifactRecord) -> None:
    with mistakes_travel():
        if not is_whole(release_dir):
            tables = digest_files(release_dir, (MANIFEST_NAME, *TABLE_NAMES))
            save_record(release_dir, replace(record, outputs={**tables, **record.outputs}))


def _describe_release(job: PreprocessConfig, manifest: Manifest) -> ArtifactRecord:
    shards = {entry.name: entry.sha256 for entry in manifest.shards}
    return make_record(kind="release", config=job, inputs={"plan": manifest.plan_digest}, outputs=shards)


def _scan(job: PreprocessConfig) -> tuple[Plan, LabelSpace | None]:
    check_job(job, sees_source=True)
    source = require_source(job.dataset)
    require_license(source.spec)
    parameters = PlanParameters(target_frames_per_shard=job.frames_per_shard, seed=job.seed)
    items, label_space = source.scan(job.source, job.split), source.label_space(job.source)
    return make_plan(job.dataset, job.split, items, parameters, label_space), label_space


def _require_official(job: PreprocessConfig, outline: Outline) -> None:
    """Fail before anything is packed, where the listed items are not those that are required."""
    if job.official == "require":
        spec = require_source(job.dataset).spec
        judge_counts(spec, job.split, outline.counts, job.official)
        judge_categories(spec, job.split, outline.label_space, job.official)


def _judge_manifest(job: PreprocessConfig, manifest: Manifest) -> None:
    if job.official == "require":
        judge_counts(require_source(job.dataset).spec, job.split, packed_counts(manifest), job.official)


def _outline(plan: Plan, work_orders: Sequence[Path], label_space: LabelSpace | None) -> Outline:
    frames = [sum(item.num_frames for item in order.items) for order in plan.orders]
    to_pack = tuple(
        PlannedShard(name=order.shard, work_order=path, num_frames=count)
        for order, path, count in zip(plan.orders, work_orders, frames, strict=False)
    )
    return Outline(
        digest=plan.digest,
        num_items=plan.num_items,
        num_frames=sum(frames),
        num_shards=len(plan.orders),
        label_space=label_space,
        to_pack=to_pack,
    )


def _make_way(job: PreprocessConfig, plan: Plan) -> None:
    """Keep an existing release of another plan from being replaced by accident."""
    manifest = job.release_dir / MANIFEST_NAME
    if job.overwrite:
        for name in (MANIFEST_NAME, RECORD_NAME):
            (job.release_dir / name).unlink(missing_ok=True)
        for done in job.release_dir.glob(f"*{DONE_SUFFIX}"):
            done.unlink()
    elif manifest.exists() and _digest_in(manifest) != plan.digest:
        raise UserError(
            f"{manifest}: this release was made from another plan (other items, options or version); "
            "choose another --out, or pass --overwrite to replace it"
        )


def _digest_in(manifest: Path) -> str:
    try:
        return str(json.loads(manifest.read_bytes())["plan_digest"])
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{manifest}: damaged ({error}); pass --overwrite to build the release again"
        ) from error


def _build(job: PreprocessConfig, planned: Outline, plan: Any, num_workers: int) -> Manifest:
    rejects = _pack_all(job, planned, num_workers)
    try:
        found = [reject for group in rejects.values() for reject in group]
        judge_rejects(found, planned.num_items, job.max_reject_rate)
    except UserError:
        wait_for(_reopen_task.remote(job.release_dir, [shard for shard, group in rejects.items() if group]))
        raise
    manifest: Manifest = wait_for(_commit_task.remote(job, plan))
    return manifest


def _pack_all(job: PreprocessConfig, planned: Outline, num_workers: int) -> dict[str, tuple[Problem, ...]]:
    """Pack every shard, at most ``num_workers`` at a time, and give the rejects of each.

    On an error or an interrupt no task is left running.
    """
    progress = _Progress(planned)
    waiting = iter(planned.to_pack)
    running: dict[Any, PlannedShard] = {}
    rejects: dict[str, tuple[Problem, ...]] = {}
    try:
        while True:
            for shard in islice(waiting, num_workers - len(running)):
                running[_pack_task.remote(job, shard.work_order)] = shard
            if not running:
                return rejects
            (ref,), _ = ray.wait(list(running), num_returns=1)
            rejects[running[ref].name] = wait_for(ref)
            progress.count(running.pop(ref))
    finally:
        for ref in running:
            ray.cancel(ref, force=True)


class _Progress:
    """Log a line per shard, with the speed so far and what it promises."""

    def __init__(self, planned: Outline) -> None:
        self._planned = planned
        self._started_s = time.monotonic()
        self._num_shards = 0
        self._num_frames = 0

    def count(self, shard: PlannedShard) -> None:
        """Add a finished shard."""
        self._num_shards += 1
        self._num_frames += shard.num_frames
        frames_per_s = self._num_frames / max(time.monotonic() - self._started_s, 1e-6)
        logger.info(
            "shard %d/%d %s, %.0f frames/s, %.0f s to go",
            self._num_shards,
            self._planned.num_shards,
            shard.name,
            frames_per_s,
            (self._planned.num_frames - self._num_frames) / max(frames_per_s, 1e-6),
        )
