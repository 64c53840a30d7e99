"""The text files of Ref-DAVIS17: one referring expression per line."""

import re
from collections import defaultdict
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from preprocessing.errors import MissingFileError, SourceError
from preprocessing.sources.files import require_root

TEXT_SETS = {
    "annot1-first": "Davis17_annot1.txt",
    "annot1-full": "Davis17_annot1_full_video.txt",
    "annot2-first": "Davis17_annot2.txt",
    "annot2-full": "Davis17_annot2_full_video.txt",
}
"""Files by the set of expressions they hold, in the order that the benchmark numbers them."""
MISSPELT = {"clasic-car": "classic-car", "dog-scale": "dogs-scale", "motor-bike": "motorbike"}
"""Sequences as some lines spell them, and their names."""
_FOLDER = "davis_text_annotations"
_LINE = re.compile(r"(\S+)\s+(\d+)\s+(\S.*)")


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """One expression as its file holds it."""

    origin: str
    """One of ``TEXT_SETS``."""
    number: int
    """Counted from 1."""
    sequence: str
    """As it is spelt there."""
    object_id: str
    text: str
    """Without the quotes around it."""
    is_latin_1: bool
    """Whether the line is not valid UTF-8."""

    @property
    def file(self) -> str:
        """Path relative to the source folder."""
        return f"{_FOLDER}/{TEXT_SETS[self.origin]}"


def read_lines_by_sequence(root: Path) -> dict[str, list[dict[str, Any]]]:
    """Read all four files: the fields of every ``Line``, in order of files and lines, by sequence name.

    Raises:
        SourceError: a file is missing, or a line is not a sequence, a number and a text.
    """
    require_root(root)
    lines: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for origin in TEXT_SETS:
        for number, content in enumerate(_read_bytes(root, origin).split(b"\n"), start=1):
            if content.strip():
                line = _parse(root, origin, number, content)
                lines[MISSPELT.get(line.sequence, line.sequence)].append(asdict(line))
    return dict(lines)


def _read_bytes(root: Path, origin: str) -> bytes:
    path = f"{_FOLDER}/{TEXT_SETS[origin]}"
    try:
        return (root / path).read_bytes()
    except OSError as error:
        kind = MissingFileError if isinstance(error, FileNotFoundError) else SourceError
        found = "not found" if isinstance(error, FileNotFoundError) else f"unreadable ({error.strerror})"
        raise kind(
            f"--source {root}: {path} {found}; expected the expressions of Ref-DAVIS17; "
            "unpack davis_text_annotations there"
        ) from error


def _parse(root: Path, origin: str, number: int, content: bytes) -> Line:
    text, is_latin_1 = _decode(content)
    match = _LINE.fullmatch(text.strip())
    if match is None:
        raise SourceError(
            f"--source {root}: {_FOLDER}/{TEXT_SETS[origin]} line {number} is {text[:60]!r}; expected "
            'sequence object "expression"; take the file from the Ref-DAVIS17 archive again'
        )
    sequence, object_id, quoted = match.groups()
    return Line(
        origin=origin,
        number=number,
        sequence=sequence,
        object_id=object_id,
        text=_unquote(quoted),
        is_latin_1=is_latin_1,
    )


def _decode(content: bytes) -> tuple[str, bool]:
    try:
        return content.decode("utf-8-sig"), False
    except UnicodeDecodeError:
        return content.decode("latin-1"), True


def _unquote(text: str) -> str:
    """Take the quotes off; a text with only one of them stays as it is written."""
    return text[1:-1] if len(text) >= 2 and text[0] == text[-1] == '"' else text
