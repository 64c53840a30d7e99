"""What a dataset reader offers: its facts, the list of its items, and one item as a record."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from preprocessing.errors import SourceError
from univs.labels import LabelSpace
from univs.schema import Task, VideoRecord


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceSpec:
    """Facts about a dataset that do not depend on where it lies."""

    name: str
    """Name on the command line and of the release folder."""
    task: Task
    kind: Literal["image", "video"]
    needs: str
    """What must lie in the source folder."""
    expects: str
    """How much of it the official release holds."""
    license: str
    splits: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Item:
    """One image or video the source lists."""

    item_id: str
    num_frames: int
    """Frames listed for it; 0 where its folder is missing, which ``read`` then rejects."""
    payload: str
    """Canonical JSON of the item's own part of the annotation; only its source looks inside."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceVideo:
    """One whole item: its record (one chunk) and the files its frames lie in, in frame order."""

    record: VideoRecord
    frame_paths: tuple[Path, ...]


class Source(Protocol):
    """Reader of one official layout; stateless, so that any worker can build any item."""

    @property
    def spec(self) -> SourceSpec:
        """Facts about the dataset."""

    def label_space(self, root: Path) -> LabelSpace | None:
        """Read the category table, ``None`` for class-less datasets.

        Raises:
            SourceError: its file is missing or damaged.
        """

    def scan(self, root: Path, split: str) -> Iterator[Item]:
        """List all items in a fixed order, damaged ones included.

        Raises:
            SourceError: the split is unknown, or a file of the whole split is missing or damaged.
        """

    def read(self, root: Path, split: str, item: Item) -> SourceVideo:
        """Read one item's annotation; frames are not opened.

        Raises:
            ItemError: the item cannot be used.
        """


def require_split(spec: SourceSpec, split: str, known: Sequence[str] | None = None) -> None:
    """Refuse a split the dataset does not have.

    Raises:
        SourceError: it does not.
    """
    splits = tuple(known or spec.splits)
    if split not in splits:
        raise SourceError(
            f"--split {split}: {spec.name} has no such split; expected one of {', '.join(splits)}"
        )
