"""Whole-split annotation files: which of the known places they lie in, and the category table they repeat."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from preprocessing.errors import SourceError
from preprocessing.sources.files import OfficialFile, load_json
from univs.labels import Category, LabelSpace


def first_present(root: Path, known: Sequence[OfficialFile]) -> OfficialFile:
    """Choose the first file that is there, the first at all if none is."""
    return next((official for official in known if (root / official.path).exists()), known[0])


def smallest_present(root: Path, known: Sequence[OfficialFile]) -> OfficialFile:
    """Choose the quickest file to parse of those that are there, the first at all if none is."""
    sizes = [
        (path.stat().st_size, place)
        for place, official in enumerate(known)
        if (path := root / official.path).exists()
    ]
    return known[min(sizes)[1]] if sizes else known[0]


def load_thing_space(root: Path, official: OfficialFile, name: str) -> LabelSpace:
    """Read the category table of a file whose categories all are things.

    Raises:
        SourceError: the file is missing or malformed.
    """
    return parse_thing_space(root, official, name, load_json(root, official, ("categories",)))


def parse_thing_space(root: Path, official: OfficialFile, name: str, body: Mapping[str, Any]) -> LabelSpace:
    """Take the category table, of things only, out of a parsed file.

    Raises:
        SourceError: it is malformed.
    """
    try:
        rows = sorted((int(row["id"]), str(row["name"])) for row in body["categories"])
        categories = tuple(Category(category_id=i, name=n, is_thing=True) for i, n in rows)
        return LabelSpace(name=name, categories=categories)
    except (KeyError, TypeError, ValueError) as error:
        found = f"malformed categories ({type(error).__name__}: {error})"
        raise malformed(root, official, found) from error


def malformed(root: Path, official: OfficialFile, found: str) -> SourceError:
    """Say what a whole-split file has that it should not have."""
    return SourceError(
        f"--source {root}: {official.path} has {found}; expected {official.expected}; {official.remedy}"
    )
