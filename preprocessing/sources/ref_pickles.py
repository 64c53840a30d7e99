"""Read the ``refs(*).p`` files of the ``refer`` repository: Python 2 pickles, trusted with nothing.

A pickle is a program. Of its instructions only those that build numbers, text, lists, tuples and dicts are
known here, so that none can name, make or call anything; the file is refused at the first other one. Byte
strings of Python 2 are read as UTF-8, or else as Latin-1.
"""

import io
import pickle
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from preprocessing.errors import MissingFileError, SourceError
from preprocessing.sources.files import OfficialFile, require_root

_PLAIN_OPCODES = (
    # protocol, frame, mark, stop, pop and dup
    b"\x80\x95(.012"
    # None, booleans, integers and floats
    b"N\x88\x89IJKML\x8a\x8bFG"
    # byte strings of Python 2, and text
    b"STUVX\x8c\x8d"
    # lists, tuples and dicts
    b"]lae)t\x85\x86\x87}dsu"
    # memo
    b"gpqrhj\x94"
)
_LONG_TEXT = 64
_DAMAGED_PICKLE_ERRORS = (
    pickle.UnpicklingError,
    EOFError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
    MemoryError,
    RecursionError,
    AssertionError,
    struct.error,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class PickledRef:
    """One entry of the list that a file holds."""

    index: int
    """Its place in the list."""
    fields: Mapping[str, Any]
    """What it says, in the types of JSON."""
    is_clean: bool
    """Whether all its text was valid UTF-8."""


def load_refs(root: Path, official: OfficialFile) -> list[PickledRef]:
    """Read the list of referring expressions without running anything.

    Raises:
        SourceError: the file is missing, damaged, holds something else, or tries to run code.
    """
    require_root(root)
    try:
        content = (root / official.path).read_bytes()
        entries = _PlainUnpickler(io.BytesIO(content), encoding="bytes").load()
        converter = _Converter(budget=len(content))
        if not isinstance(entries, list):
            raise TypeError(f"a {type(entries).__name__}")
        return [converter.convert_ref(index, entry) for index, entry in enumerate(entries)]
    except FileNotFoundError as error:
        raise MissingFileError(_complaint(root, official, "not found")) from error
    except OSError as error:
        raise SourceError(_complaint(root, official, f"unreadable ({error.strerror})")) from error
    except _DAMAGED_PICKLE_ERRORS as error:
        found = f"is not a pickled list of refs ({type(error).__name__}: {error})"
        raise SourceError(_complaint(root, official, found)) from error


def _refuse(opcode: int) -> Callable[[pickle.Unpickler], None]:
    def refuse(_: pickle.Unpickler) -> None:
        raise pickle.UnpicklingError(f"opcode {bytes([opcode])!r} is not plain data, it is not run")

    return refuse


class _PlainUnpickler(pickle._Unpickler):
    """Python's own reader in Python with an allow list of instructions.

    The one in C has no such table, and one flipped bit in a memo index makes it claim gigabytes.
    """

    dispatch = {code: _refuse(code) for code in range(256)} | {
        code: load for code, load in pickle._Unpickler.dispatch.items() if code in _PLAIN_OPCODES
    }


class _Converter:
    """Turns unpickled values into those of JSON."""

    def __init__(self, budget: int) -> None:
        """Refuse a pickle that would unfold to more values than it has bytes, by sharing its lists."""
        self._budget = budget
        self._is_clean = True

    def convert_ref(self, index: int, entry: Any) -> PickledRef:
        self._is_clean = True
        fields = self._convert(entry)
        if not isinstance(fields, dict):
            raise TypeError(f"entry {index} is a {type(entry).__name__}")
        return PickledRef(index=index, fields=fields, is_clean=self._is_clean)

    def _convert(self, value: Any) -> Any:
        self._spend(1)
        if isinstance(value, bytes):
            return self._decode(value)
        if isinstance(value, str):
            return self._mend(value)
        if isinstance(value, list | tuple):
            return [self._convert(part) for part in value]
        if isinstance(value, dict):
            return {str(self._convert(name)): self._convert(part) for name, part in value.items()}
        return value

    def _spend(self, amount: int) -> None:
        self._budget -= amount
        if self._budget < 0:
            raise ValueError("its values unfold to more than the file holds")

    def _decode(self, value: bytes) -> str:
        self._spend(len(value) // _LONG_TEXT)
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            self._is_clean = False
            return value.decode("latin-1")

    def _mend(self, text: str) -> str:
        """Join the surrogate pairs that narrow builds of Python 2 wrote apart."""
        self._spend(len(text) // _LONG_TEXT)
        try:
            text.encode("utf-8")
        except UnicodeEncodeError:
            self._is_clean = False
            return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        return text


def _complaint(root: Path, official: OfficialFile, found: str) -> str:
    return f"--source {root}: {official.path} {found}; expected {official.expected}; {official.remedy}"
