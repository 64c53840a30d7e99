"""A zip as an evaluation server unpacks it: what makes it unreadable whatever is in it."""

import io
import json
import stat
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from PIL import Image, UnidentifiedImageError

MB = 1_000_000
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_IS_ENCRYPTED = 0x1


@dataclass(frozen=True, kw_only=True, slots=True)
class SizeLimit:
    """How large an upload may be."""

    num_bytes: int
    source: str
    """Who says so."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Archive:
    """An opened zip whose names are sound."""

    path: Path
    file: zipfile.ZipFile
    names: tuple[str, ...]
    """Its files, without folders, in alphabetical order."""

    def refuse(self, entry: str, found: str) -> ValueError:
        """Make the complaint about one entry."""
        return ValueError(f"{self.path}: {entry}: {found}")

    def read(self, name: str) -> bytes:
        """Unpack one file.

        Raises:
            ValueError: it is damaged.
        """
        try:
            return self.file.read(name)
        except (zipfile.BadZipFile, zlib.error, EOFError) as error:
            raise self.refuse(name, f"is damaged ({error}); pack the zip again") from error

    def read_json(self, name: str) -> Any:
        """Parse a JSON file.

        Raises:
            ValueError: it is damaged, or not JSON.
        """
        data = self.read(name)
        try:
            return json.loads(data)
        except ValueError as error:
            raise self.refuse(
                name, f"{len(data)} bytes that are not whole JSON ({error}); write it again"
            ) from error

    def read_png(self, name: str) -> Image.Image:
        """Decode a PNG.

        Raises:
            ValueError: it is damaged, or no PNG.
        """
        try:
            image = Image.open(io.BytesIO(self.read(name)))
            image.load()
        except (UnidentifiedImageError, OSError, SyntaxError) as error:
            raise self.refuse(name, "is not a readable PNG; write it again") from error
        if image.format != "PNG":
            raise self.refuse(name, f"is a {image.format} picture, expected a PNG")
        return image


@contextmanager
def open_archive(path: Path, limit: SizeLimit | None) -> Iterator[Archive]:
    """Open a zip.

    Raises:
        ValueError: it is missing, over the limit, damaged, encrypted or empty, or a name in it is unsound.
    """
    if not path.is_file():
        raise ValueError(f"{path}: no such file, expected the zip to upload")
    _check_size(path, limit)
    try:
        file = zipfile.ZipFile(path)
    except zipfile.BadZipFile as error:
        raise ValueError(
            f"{path}: {path.stat().st_size} bytes that are no whole zip ({error}); pack it again"
        ) from error
    with file:
        _check_entries(path, file.infolist())
        names = sorted(info.filename for info in file.infolist() if not info.is_dir())
        if not names:
            raise ValueError(f"{path}: holds no file; pack the predictions")
        yield Archive(path=path, file=file, names=tuple(names))


def _check_size(path: Path, limit: SizeLimit | None) -> None:
    size = path.stat().st_size
    if limit is not None and size > limit.num_bytes:
        raise ValueError(
            f"{path}: {size / MB:.1f} MB, expected at most {limit.num_bytes / MB:.0f} MB ({limit.source})"
        )


def _check_entries(path: Path, entries: list[zipfile.ZipInfo]) -> None:
    for name, count in Counter(info.filename for info in entries).items():
        if count > 1:
            raise ValueError(
                f"{path}: {name}: is there {count} times; pack the zip anew, not into an old one"
            )
    for info in entries:
        found = _unsound(info)
        if found:
            raise ValueError(f"{path}: {info.filename}: {found}")


def _unsound(info: zipfile.ZipInfo) -> str:
    parts = PurePosixPath(info.filename).parts
    if "\\" in info.filename or ".." in parts or info.filename.startswith("/"):
        return "is a name that leaves the folder or has backslashes; pack with relative names and /"
    if info.flag_bits & _IS_ENCRYPTED:
        return "is encrypted; pack without a password"
    if info.compress_type not in _METHODS:
        return f"is compressed by method {info.compress_type}, expected stored (0) or deflate (8)"
    if stat.S_ISLNK(info.external_attr >> 16):
        return "is a link; pack the file itself"
    return ""


def single_json(archive: Archive, name: str | None) -> str:
    """Find the one JSON file of a zip that holds nothing else.

    Args:
        archive: The zip.
        name: What it must be called; ``None`` for any name.

    Raises:
        ValueError: it is not there, not at the top, or not alone.
    """
    wanted = name or "one .json file"
    for found in archive.names:
        is_wanted = found == name if name else "/" not in found and found.endswith(".json")
        if not is_wanted:
            raise archive.refuse(found, _misplaced(found, name, wanted))
    if len(archive.names) > 1:
        raise archive.refuse(
            archive.names[1], f"unexpected file, expected {wanted} at the top and nothing else"
        )
    return archive.names[0]


def _misplaced(found: str, name: str | None, wanted: str) -> str:
    stem = PurePosixPath(found).name
    if "/" in found and (stem == name if name else stem.endswith(".json")):
        return f"expected {stem} at the top of the zip, not in a folder"
    return f"unexpected file, expected {wanted} at the top and nothing else"
