"""Find pictures that releases for training share with releases for evaluation.

Two samples share pictures if their groups have the same name (``coco:000000391895``), or if any of their
frames have the same bytes. Nothing is deleted: the report says which groups to leave out.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from preprocessing.atomic import atomic_write
from preprocessing.index import read_manifest
from preprocessing.tables import FRAMES_NAME, INDEX_NAME, read_table

_TRAINING_SPLIT = "train"


@dataclass(frozen=True, kw_only=True, slots=True)
class Leak:
    """A group of a training release whose pictures an evaluation release holds too."""

    training: str
    """Release as ``dataset/split``."""
    evaluation: str
    match: Literal["group", "frames"]
    """Whether the groups have one name, or other names but frames of the same bytes."""
    training_group: str
    evaluation_group: str
    num_frames: int
    """Frames of the same bytes; may be 0 where the names are the same."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Release:
    name: str
    is_for_training: bool
    frames: pa.Table
    """Columns ``group`` and ``sha256``, each pair once."""
    groups: frozenset[str]


def find_leaks(release_dirs: Iterable[Path]) -> tuple[Leak, ...]:
    """Compare every release of a train split with every release of another split.

    Raises:
        ValueError: a release is not whole, or there is none to train on, or none to evaluate on.
    """
    releases = [_load(folder) for folder in release_dirs]
    training = [release for release in releases if release.is_for_training]
    evaluation = [release for release in releases if not release.is_for_training]
    if not training or not evaluation:
        names = ", ".join(release.name for release in releases) or "none"
        raise ValueError(
            f"--leaks: got {names}; expected releases of both a {_TRAINING_SPLIT} split and another one"
        )
    return tuple(leak for pair in product(training, evaluation) for leak in _compare(*pair))


def write_leaks(path: Path, leaks: Sequence[Leak]) -> None:
    """Write the report as Parquet, one leak a row, atomically."""
    table = pa.Table.from_pylist([asdict(leak) for leak in leaks], schema=_SCHEMA)
    with atomic_write(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")


def describe_leaks(leaks: Sequence[Leak]) -> str:
    """Give a line per pair of releases that share anything."""
    pairs: dict[tuple[str, str], list[Leak]] = {}
    for leak in leaks:
        pairs.setdefault((leak.training, leak.evaluation), []).append(leak)
    return "".join(_describe_pair(*pair, found) for pair, found in pairs.items()) or "no group is shared\n"


_SCHEMA = pa.schema(
    [
        ("training", pa.string()),
        ("evaluation", pa.string()),
        ("match", pa.string()),
        ("training_group", pa.string()),
        ("evaluation_group", pa.string()),
        ("num_frames", pa.int64()),
    ]
)


def _load(folder: Path) -> _Release:
    manifest = read_manifest(folder)
    index = read_table(folder / INDEX_NAME, ("key", "item_id", "group"))
    # A dataset without groups of its own is known by its items.
    own = pc.binary_join_element_wise(f"{manifest.dataset}:", index["item_id"], "")
    group = pc.if_else(pc.equal(index["group"], ""), own, index["group"])
    samples = pa.table({"key": index["key"], "group": group})
    frames = read_table(folder / FRAMES_NAME, ("key", "sha256")).join(samples, "key", join_type="inner")
    return _Release(
        name=f"{manifest.dataset}/{manifest.split}",
        is_for_training=manifest.split.split("-")[0] == _TRAINING_SPLIT,
        frames=frames.select(["group", "sha256"]).group_by(["group", "sha256"]).aggregate([]),
        groups=frozenset(group.to_pylist()),
    )


def _compare(training: _Release, evaluation: _Release) -> list[Leak]:
    shared = training.frames.join(evaluation.frames, "sha256", join_type="inner", right_suffix="_evaluation")
    counts = shared.group_by(["group", "group_evaluation"]).aggregate([("sha256", "count")]).to_pylist()
    num_frames = {(row["group"], row["group_evaluation"]): row["sha256_count"] for row in counts}
    same_name = {(group, group) for group in training.groups & evaluation.groups}
    by_frames = {pair for pair in num_frames if pair not in same_name}
    return [
        Leak(
            training=training.name,
            evaluation=evaluation.name,
            match="group" if pair in same_name else "frames",
            training_group=pair[0],
            evaluation_group=pair[1],
            num_frames=num_frames.get(pair, 0),
        )
        for pair in [*sorted(same_name), *sorted(by_frames)]
    ]


def _describe_pair(training: str, evaluation: str, leaks: Sequence[Leak]) -> str:
    by_name = sum(leak.match == "group" for leak in leaks)
    first = leaks[0]
    return (
        f"{training} and {evaluation} share {by_name} groups by name and {len(leaks) - by_name} by frames, "
        f"{sum(leak.num_frames for leak in leaks)} frames; first {first.training_group}"
        f"{'' if first.match == 'group' else f' = {first.evaluation_group}'}\n"
    )
