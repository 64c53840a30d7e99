"""What a dataset reader offers: its facts, the list of its items, and one item as a record."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from preprocessing.errors import Finding, SourceError
from univs.labels import LabelSpace
from univs.schema import PromptKind, Task, VideoRecord


@dataclass(frozen=True, kw_only=True, slots=True)
class ExpectedCounts:
    """How much an official split holds, where its authors say so."""

    num_items: int | None = None
    num_frames: int | None = None
    num_objects: int | None = None
    num_expressions: int | None = None


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
    counts: Mapping[str, ExpectedCounts] = field(default_factory=dict)
    """Official counts by split."""
    label_space_name: str | None = None
    """Name of the label space it yields, ``None`` for class-less data."""
    prompts: tuple[PromptKind | Literal["expression"], ...] = ()
    """What the dataset itself prompts with, besides its masks and classes."""


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
    frame_paths: tuple["Path | FileRange", ...]
    findings: tuple[Finding, ...] = ()
    """Warnings about the item."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FileRange:
    """A file inside a larger one, such as a member of a plain tar."""

    path: Path
    """The larger file."""
    name: str
    """Name of the file inside it."""
    offset: int
    size: int


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
