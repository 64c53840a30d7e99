"""Where the bytes of a release lie: local files, or any store that fsspec knows (S3, GCS, HTTP, memory).

Readers ask for byte ranges of named files, so a store needs random access; ``univs.data.sequential`` reads
those that have none.
"""

import os
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO, Protocol, cast

import fsspec
from fsspec.implementations.local import LocalFileSystem

_MAX_OPEN_SHARDS = 64


class ByteStore(Protocol):
    """Random access to the files of one folder. Picklable, and usable in forked processes."""

    def read(self, name: str, offset: int, size: int) -> bytes:
        """Read exactly ``size`` bytes of the named file."""

    def read_ranges(self, name: str, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """Read several (offset, size) of the named file; a remote store asks for all at once."""

    def read_file(self, name: str) -> bytes:
        """Read a whole file.

        Raises:
            FileNotFoundError: there is none of this name.
        """

    def open_file(self, name: str) -> BinaryIO:
        """Open a file to be read once from its start to its end."""

    def sizes_bytes(self) -> dict[str, int]:
        """List the files of the folder with their sizes; empty if there is no such folder."""


class LocalFiles:
    """Files of a local directory, read by position.

    Positional reads share no file offset, so forked workers and threads may use one instance. Pickling
    carries the directory only.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._open: OrderedDict[str, _Descriptor] = OrderedDict()

    def read(self, name: str, offset: int, size: int) -> bytes:
        """Read exactly ``size`` bytes of the named file.

        Raises:
            ValueError: the file ends before.
        """
        data = os.pread(self._descriptor(name).number, size, offset)
        return _check_size(data, f"{self._directory / name}", offset, size)

    def read_ranges(self, name: str, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """Read several (offset, size) of the named file."""
        return [self.read(name, offset, size) for offset, size in ranges]

    def read_file(self, name: str) -> bytes:
        """Read a whole file."""
        return (self._directory / name).read_bytes()

    def open_file(self, name: str) -> BinaryIO:
        """Open a file to be read once."""
        return (self._directory / name).open("rb")

    def sizes_bytes(self) -> dict[str, int]:
        """List the files of the folder with their sizes."""
        if not self._directory.is_dir():
            return {}
        with os.scandir(self._directory) as entries:
            return {entry.name: entry.stat().st_size for entry in entries if entry.is_file()}

    def _descriptor(self, name: str) -> "_Descriptor":
        found = self._open.pop(name, None) or _Descriptor(self._directory / name)
        self._open[name] = found
        if len(self._open) > _MAX_OPEN_SHARDS:
            self._open.popitem(last=False)
        return found

    def __getstate__(self) -> dict[str, Any]:
        return {"_directory": self._directory, "_open": OrderedDict()}


class _Descriptor:
    """An open file, closed when the last reader lets go of it."""

    def __init__(self, path: Path) -> None:
        self.number = -1
        self.number = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def __del__(self) -> None:
        if self.number >= 0:
            os.close(self.number)


class FsspecFiles:
    """Files under a URL. Credentials and endpoints come from the environment, as fsspec documents them.

    File systems that keep connections must not be carried into a forked process, so each process makes
    its own on first use.
    """

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")
        self._process_id = -1
        self._files: Any = None
        self._root = ""

    def read(self, name: str, offset: int, size: int) -> bytes:
        """Read exactly ``size`` bytes of the named file.

        Raises:
            ValueError: the file ends before.
        """
        return self.read_ranges(name, [(offset, size)])[0]

    def read_ranges(self, name: str, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """Read several (offset, size) of the named file at once.

        Raises:
            ValueError: the file ends before.
        """
        files, path = self._connect(), self._path(name)
        starts, ends = [offset for offset, _ in ranges], [offset + size for offset, size in ranges]
        found = files.cat_ranges([path] * len(ranges), starts, ends, on_error="raise")
        return [
            _check_size(data, f"{self._url}/{name}", *span) for data, span in zip(found, ranges, strict=True)
        ]

    def read_file(self, name: str) -> bytes:
        """Read a whole file."""
        return cast(bytes, self._connect().cat_file(self._path(name)))

    def open_file(self, name: str) -> BinaryIO:
        """Open a file to be read once."""
        return cast(BinaryIO, self._connect().open(self._path(name), "rb", cache_type="readahead"))

    def sizes_bytes(self) -> dict[str, int]:
        """List the files of the folder with their sizes."""
        try:
            entries = self._connect().ls(self._path("").rstrip("/"), detail=True, refresh=True)
        except FileNotFoundError:
            return {}
        files = [entry for entry in entries if entry["type"] == "file"]
        return {str(entry["name"]).rsplit("/", 1)[-1]: int(entry["size"]) for entry in files}

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"

    def _connect(self) -> Any:
        if self._process_id != os.getpid():
            self._files, self._root = fsspec.core.url_to_fs(self._url)
            self._process_id = os.getpid()
        return self._files

    def __getstate__(self) -> dict[str, Any]:
        return {"_url": self._url, "_process_id": -1, "_files": None, "_root": ""}


def open_store(location: Path | str) -> ByteStore:
    """Give the store of a path or URL."""
    files, path = fsspec.core.url_to_fs(str(location))
    return LocalFiles(Path(path)) if isinstance(files, LocalFileSystem) else FsspecFiles(str(location))


def _check_size(data: bytes, place: str, offset: int, size: int) -> bytes:
    if len(data) != size:
        raise ValueError(
            f"{place}: found {len(data)} bytes at offset {offset}, expected {size}: "
            "the shard is cut off or the index is another build's; preprocess it again"
        )
    return data
