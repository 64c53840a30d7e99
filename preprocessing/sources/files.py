"""Find and open what a source folder should hold, with errors that say what to do."""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from preprocessing.errors import DuplicateIdError, ItemError, MissingFileError, SourceError
from preprocessing.sources.source import FileRange
from univs.schema import canonical_json


@dataclass(frozen=True, kw_only=True, slots=True)
class OfficialFile:
    """A file or folder of an official release that a whole split depends on."""

    path: str
    """Relative to the source folder."""
    expected: str
    """What it should be, in words."""
    remedy: str
    """What to do where it is missing or damaged."""


def require_root(root: Path) -> None:
    """Refuse a source folder that is not there.

    Raises:
        SourceError: it is missing or not a folder.
    """
    if not root.is_dir():
        found = "is not a folder" if root.exists() else "not found"
        raise SourceError(f"--source {root}: {found}; expected the dataset's folder; check the path")


def load_json(root: Path, official: OfficialFile, fields: tuple[str, ...] = ()) -> Any:
    """Parse a whole-split JSON file whose top level is an object with these fields (if any are named).

    Raises:
        SourceError: the file is missing (``MissingFileError``), truncated, or has another shape.
    """
    text = _read_text(root, official)
    try:
        body = parse_json(text)
    except (ValueError, RecursionError) as error:
        found = f"is not whole JSON ({len(text)} characters, {error})"
        raise SourceError(_complaint(root, official, found)) from error
    missing = [name for name in fields if not isinstance(body, dict) or name not in body]
    if missing:
        raise SourceError(_complaint(root, official, f"has no field {missing[0]!r}"))
    return body


def parse_json(text: str | bytes) -> Any:
    """Parse JSON without NaN and infinities, which are none.

    Raises:
        ValueError, RecursionError: it is not whole JSON.
    """
    return json.loads(text, parse_constant=_refuse_constant, parse_float=_parse_finite)


def read_lines(root: Path, official: OfficialFile) -> tuple[str, ...]:
    """Read a split list: its non-empty lines, stripped, in file order.

    Raises:
        SourceError: the file is missing (``MissingFileError``), empty, not text, or names an item twice.
    """
    lines = tuple(line.strip() for line in _read_text(root, official).splitlines() if line.strip())
    if not lines:
        raise SourceError(_complaint(root, official, "is empty"))
    if len(set(lines)) != len(lines):
        twice = next(line for line in lines if lines.count(line) > 1)
        raise SourceError(_complaint(root, official, f"names {twice!r} twice"))
    return lines


def index_by(entries: Iterable[Mapping[str, Any]], field: str) -> dict[int, Mapping[str, Any]]:
    """Key annotation entries by an integer field.

    Raises:
        DuplicateIdError: two entries share the value.
    """
    indexed: dict[int, Mapping[str, Any]] = {}
    for entry in entries:
        key = int(entry[field])
        if key in indexed:
            raise DuplicateIdError(f"{field} {key} twice")
        indexed[key] = entry
    return indexed


def is_safe_name(name: object) -> bool:
    """Whether a file name out of an annotation stays inside the folder it is joined to."""
    if not isinstance(name, str) or not name or "\0" in name:
        return False
    parts = (*PurePosixPath(name).parts, *PureWindowsPath(name).parts)
    anchored = PurePosixPath(name).is_absolute() or bool(PureWindowsPath(name).anchor)
    return not anchored and ".." not in parts


def require_safe_name(item_id: str, name: object) -> str:
    """Pass a file name out of an annotation on.

    Raises:
        ItemError: E190 if it is absolute or climbs out of its folder.
    """
    if not is_safe_name(name):
        raise ItemError("E190", f"{item_id}: {name!r}; expected a path inside the dataset")
    return str(name)


def list_names(folder: Path, suffix: str) -> tuple[str, ...]:
    """List the names of a folder's files with this suffix, sorted; none if there is no folder."""
    if not folder.is_dir():
        return ()
    return tuple(sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(suffix)))


def read_range(part: FileRange) -> bytes:
    """Read a file inside a larger one.

    Raises:
        OSError: the larger file is missing or ends before.
    """
    with part.path.open("rb") as stream:
        stream.seek(part.offset)
        content = stream.read(part.size)
    if len(content) != part.size:
        raise OSError(f"{part.path.name} ends at {len(content)} of {part.size} bytes of {part.name}")
    return content


def to_payload(**fields: Any) -> str:
    """Serialize the fields a source needs to read one item."""
    return canonical_json(fields).decode()


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _parse_finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:20]} is out of range")
    return value


def _read_text(root: Path, official: OfficialFile) -> str:
    require_root(root)
    try:
        return (root / official.path).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise SourceError(_complaint(root, official, f"is not UTF-8 text ({error.reason})")) from error
    except FileNotFoundError as error:
        raise MissingFileError(_complaint(root, official, "not found")) from error
    except OSError as error:
        raise SourceError(_complaint(root, official, f"unreadable ({error.strerror})")) from error


def _complaint(root: Path, official: OfficialFile, found: str) -> str:
    return f"--source {root}: {official.path} {found}; expected {official.expected}; {official.remedy}"
