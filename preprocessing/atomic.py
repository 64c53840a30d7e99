"""Write a file so that its final name only ever shows whole contents."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

TEMPORARY_MARK = ".tmp-"
"""Part of the name of every unfinished file."""


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Give a temporary path beside ``path``; sync and rename it when the block succeeds, else delete it.

    A block that writes no file leaves none, and an older ``path`` is deleted.

    Raises:
        OSError: the block or the rename failed (disk full); one line says which file is not written.
    """
    temporary = path.with_name(f"{path.name}{TEMPORARY_MARK}{os.getpid()}")
    try:
        yield temporary
        _publish(temporary, path)
    except OSError as error:
        reason = error.strerror or str(error)
        raise OSError(error.errno, f"{path} not written: {reason}; free space and run again") from error
    finally:
        temporary.unlink(missing_ok=True)


def remove_leftovers(folder: Path, prefix: str = "") -> None:
    """Delete the unfinished files that killed runs left, all or those whose name starts with ``prefix``."""
    for path in folder.glob(f"{prefix}*{TEMPORARY_MARK}*"):
        path.unlink(missing_ok=True)


def _publish(temporary: Path, path: Path) -> None:
    if not temporary.exists():
        path.unlink(missing_ok=True)
        return
    with temporary.open("rb+") as stream:
        os.fsync(stream.fileno())
    os.replace(temporary, path)
