"""Decide, before anything is written, which item goes to which place in which shard.

The plan is a pure function of the scanned items and the parameters, so shards do not depend on how many
workers write them, in what order, or how often they are killed.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from preprocessing.atomic import atomic_write
from preprocessing.errors import BuildError, MissingFileError
from preprocessing.samples import sample_key
from preprocessing.sources.source import Item
from univs.labels import LabelSpace
from univs.schema import SCHEMA_VERSION, canonical_json

BUILDER_VERSION = "3"
"""Raise it whenever the same official files would give other bytes in a shard."""
WORK_ORDER_FOLDER = "work_orders"


@dataclass(frozen=True, kw_only=True, slots=True)
class PlanParameters:
    """What shapes the shards besides the items."""

    target_frames_per_shard: int = 2048
    """A shard closes once it holds at least this many frames."""
    max_frames_per_chunk: int = 128
    """Longer items are stored as several samples."""
    seed: int = 0
    """Seeds the order of items, so that each shard is a fair sample of the dataset."""

    def __post_init__(self) -> None:
        """Refuse values that make no shard."""
        if self.target_frames_per_shard < 1 or not 1 <= self.max_frames_per_chunk <= 999:
            raise ValueError(
                f"target_frames_per_shard {self.target_frames_per_shard} and max_frames_per_chunk "
                f"{self.max_frames_per_chunk} must be at least 1, the latter at most 999"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkOrder:
    """All one pack task needs to know: its shard and the items in it, in order."""

    shard: str
    """Tar file name."""
    plan_digest: str
    max_frames_per_chunk: int
    items: tuple[Item, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """The shards of one release."""

    dataset: str
    split: str
    digest: str
    """Of all items, parameters, the label space and the builder version."""
    num_items: int
    orders: tuple[WorkOrder, ...]


def make_plan(
    dataset: str,
    split: str,
    items: Iterable[Item],
    parameters: PlanParameters,
    label_space: LabelSpace | None = None,
) -> Plan:
    """Permute the items and cut them into shards.

    Raises:
        MissingFileError: there are no items: the source does not have the split.
        BuildError: two share an id or a sample key.
    """
    ordered = sorted(items, key=lambda item: _rank(parameters.seed, item.item_id))
    _check_items(dataset, split, ordered)
    digest = _digest(dataset, split, ordered, parameters, label_space)
    orders = tuple(
        WorkOrder(
            shard=f"{dataset}-{split}-{index:06d}.tar",
            plan_digest=digest,
            max_frames_per_chunk=parameters.max_frames_per_chunk,
            items=group,
        )
        for index, group in enumerate(_cut(ordered, parameters.target_frames_per_shard))
    )
    return Plan(dataset=dataset, split=split, digest=digest, num_items=len(ordered), orders=orders)


def write_work_orders(release_dir: Path, plan: Plan) -> tuple[Path, ...]:
    """Write one JSON-lines file per shard under the release, replacing older ones; return their paths."""
    folder = release_dir / WORK_ORDER_FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    paths = tuple(folder / f"{order.shard}.jsonl" for order in plan.orders)
    for stale in set(folder.iterdir()) - set(paths):
        stale.unlink()
    for path, order in zip(paths, plan.orders, strict=True):
        _write_work_order(path, order)
    return paths


def read_work_order(path: Path) -> WorkOrder:
    """Read what ``write_work_orders`` wrote."""
    with path.open(encoding="utf-8") as lines:
        header = json.loads(next(lines))
        return WorkOrder(items=tuple(Item(**json.loads(line)) for line in lines), **header)


def _write_work_order(path: Path, order: WorkOrder) -> None:
    header = {
        "shard": order.shard,
        "plan_digest": order.plan_digest,
        "max_frames_per_chunk": order.max_frames_per_chunk,
    }
    with atomic_write(path) as temporary, temporary.open("wb") as stream:
        stream.write(canonical_json(header) + b"\n")
        stream.writelines(canonical_json(asdict(item)) + b"\n" for item in order.items)


def _rank(seed: int, item_id: str) -> tuple[bytes, str]:
    return hashlib.blake2b(f"{seed}|{item_id}".encode(), digest_size=16).digest(), item_id


def _check_items(dataset: str, split: str, ordered: list[Item]) -> None:
    if not ordered:
        raise MissingFileError(f"{dataset} {split}: the source lists no items; check --source and --split")
    for before, after in zip(ordered, ordered[1:], strict=False):
        if before.item_id == after.item_id:
            raise BuildError(
                "E120",
                f"{dataset} {split}: item {after.item_id!r} is listed twice; expected unique ids; "
                "repair the source's annotation",
            )
    seen: dict[str, str] = {}
    for item in ordered:
        key = sample_key(dataset, split, item.item_id, 0)
        other = seen.setdefault(key, item.item_id)
        if other != item.item_id:
            raise BuildError(
                "E121",
                f"{dataset} {split}: items {other!r} and {item.item_id!r} would both be {key}; rename one",
            )


def _digest(
    dataset: str, split: str, ordered: list[Item], parameters: PlanParameters, label_space: LabelSpace | None
) -> str:
    digest = hashlib.blake2b(digest_size=16)
    head = {
        "builder": BUILDER_VERSION,
        "schema": SCHEMA_VERSION,
        "dataset": dataset,
        "split": split,
        "parameters": asdict(parameters),
        "label_space": label_space.to_dict() if label_space else None,
    }
    digest.update(canonical_json(head))
    for item in ordered:
        digest.update(canonical_json(asdict(item)))
    return digest.hexdigest()


def _cut(ordered: list[Item], target_frames: int) -> Iterator[tuple[Item, ...]]:
    group: list[Item] = []
    num_frames = 0
    for item in ordered:
        group.append(item)
        num_frames += max(item.num_frames, 1)
        if num_frames >= target_frames:
            yield tuple(group)
            group, num_frames = [], 0
    if group:
        yield tuple(group)
