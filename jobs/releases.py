"""Find the releases a job needs, or build them where the recipe brings its own worlds."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from jobs.artifacts import digest_release
from jobs.errors import UserError
from jobs.preprocess import PreprocessConfig, preprocess
from jobs.session import Session
from preprocessing import miniature
from preprocessing.index import MANIFEST_NAME, read_manifest
from preprocessing.miniature import MiniatureConfig

logger = logging.getLogger(__name__)

RELEASES = "releases"


@dataclass(frozen=True, kw_only=True, slots=True)
class ReleaseName:
    """A dataset and its split."""

    dataset: str
    split: str

    def folder(self, root: Path) -> Path:
        """Where the release lies under a folder of releases."""
        return root / self.dataset / self.split


def require_releases(root: Path, names: Iterable[ReleaseName]) -> dict[str, str]:
    """Check that every release is whole; give the digest of each by ``dataset/split``.

    Raises:
        UserError: one is missing; the line says how to build it.
    """
    return {f"{name.dataset}/{name.split}": _require(root, name) for name in names}


def missing_releases(root: Path, names: Iterable[ReleaseName]) -> list[ReleaseName]:
    """Give the releases that are not there yet, or not whole."""
    return [name for name in names if not (name.folder(root) / MANIFEST_NAME).exists()]


def build_miniature(
    config: MiniatureConfig, names: Iterable[ReleaseName], root: Path, session: Session
) -> None:
    """Render the worlds of the named releases in their official layouts and preprocess them."""
    wanted = list(names)
    raw = root.parent / "raw"
    sources = miniature.build(raw, config, sorted({name.dataset for name in wanted}))
    for name in wanted:
        job = PreprocessConfig(
            dataset=name.dataset, split=name.split, source=sources[name.dataset], out=root, official="ignore"
        )
        preprocess(job, session)


def _require(root: Path, name: ReleaseName) -> str:
    folder = name.folder(root)
    if not (folder / MANIFEST_NAME).exists():
        raise UserError(
            f"{folder}: no whole release of {name.dataset}/{name.split}; build it with `python pipelines/"
            f"preprocess.py --dataset {name.dataset} --split {name.split} --source DIR --out {root}`"
        )
    return digest_release(read_manifest(folder))
