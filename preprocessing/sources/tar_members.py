"""Find the files in a plain tar, so that they can be read in place."""

import tarfile
from pathlib import Path, PurePosixPath

from preprocessing.errors import SourceError
from preprocessing.sources.source import FileRange


def list_members(path: Path) -> dict[str, FileRange]:
    """List the regular files of an uncompressed tar by base name; only headers are read.

    Of two members of one name the later counts, as when unpacking.

    Raises:
        SourceError: it is no plain tar, is damaged, or ends too early.
    """
    try:
        with path.open("rb") as stream, tarfile.open(fileobj=stream, mode="r:") as tar:
            members = [(PurePosixPath(m.name).name, m.offset_data, m.size) for m in tar if m.isfile()]
            # tarfile takes a damaged header for the end, which really is a block of zeros.
            stream.seek(tar.offset)
            is_whole = stream.read(tarfile.BLOCKSIZE) == tarfile.NUL * tarfile.BLOCKSIZE
            end = tar.offset
    except (tarfile.TarError, OSError, ValueError) as error:
        raise SourceError(_complaint(path, str(error))) from error
    if not is_whole:
        raise SourceError(_complaint(path, f"neither a member nor the end at byte {end}"))
    return {name: FileRange(path=path, name=name, offset=offset, size=size) for name, offset, size in members}


def _complaint(path: Path, found: str) -> str:
    size = f", {path.stat().st_size} bytes" if path.is_file() else ""
    return f"--source {path.parent}: {path.name} is not a whole tar ({found}{size}); download it again"
