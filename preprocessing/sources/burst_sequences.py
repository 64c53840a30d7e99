"""The annotation files of BURST and the sequences they list."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from preprocessing.errors import DuplicateIdError
from preprocessing.sources.annotation_files import first_present, malformed
from preprocessing.sources.files import OfficialFile, load_json

PlacedSequence = tuple[int, Mapping[str, Any]]
"""A sequence as its file holds it, with its position there."""
_FOLDERS = ("annotations/", "")
"""Where the archive of annotations may have been unpacked."""


def official_file(root: Path, split: str, name: str = "all_classes.json") -> OfficialFile:
    """Describe an annotation file of a split, in the place it lies in."""
    known = [
        OfficialFile(
            path=f"{folder}{split}/{name}",
            expected="the BURST annotations",
            remedy="unpack BURST's annotations.zip in annotations/",
        )
        for folder in _FOLDERS
    ]
    return first_present(root, known)


def index_sequences(root: Path, official: OfficialFile, body: Mapping[str, Any]) -> dict[str, PlacedSequence]:
    """Key the sequences of a parsed file by dataset and name.

    Raises:
        SourceError: an entry is malformed, or two are of one sequence.
    """
    sequences: dict[str, PlacedSequence] = {}
    try:
        for position, sequence in enumerate(body["sequences"]):
            name = f"{sequence['dataset']}/{sequence['seq_name']}"
            if name in sequences:
                raise DuplicateIdError(f"sequence {name} twice")
            sequences[name] = (position, sequence)
    except (KeyError, TypeError, ValueError) as error:
        found = f"a malformed entry ({type(error).__name__}: {error})"
        raise malformed(root, official, found) from error
    return sequences


def load_first_frames(root: Path, split: str) -> dict[str, PlacedSequence]:
    """Read the first-frame annotations of a split, none if it has no such file.

    Raises:
        SourceError: the file is malformed.
    """
    official = official_file(root, split, "first_frame_annotations.json")
    if not (root / official.path).exists():
        return {}
    return index_sequences(root, official, load_json(root, official, ("sequences",)))
