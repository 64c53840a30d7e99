"""Tell a user's mistake, shown as one clear line, from a bug, which keeps its traceback."""

import errno
import linecache
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from preprocessing.errors import MissingFileError

CHECKOUT = Path(__file__).resolve().parent.parent
"""Where our packages lie: the repository root, or ``site-packages`` of an installed wheel."""

_PACKAGES = tuple(CHECKOUT / name for name in ("pipelines", "jobs", "preprocessing", "univs"))


class UserError(ValueError):
    """A mistake its message lets the user correct, already one line."""


class MissingSplitError(UserError):
    """A file that a whole split depends on is not there: perhaps the split was never downloaded."""


def user_message(error: BaseException) -> str | None:
    """Give the one line to show for a user's mistake, or ``None`` where the error is a bug.

    A mistake is a ``UserError``, a failed connection, a file that cannot be opened or written, or a
    ``ValueError`` that a ``raise`` statement of ours threw on purpose; one from numpy or ``int()`` is a bug.
    """
    if isinstance(error, UserError):
        return _one_line(str(error))
    if isinstance(error, OSError):
        return _os_message(error)
    if isinstance(error, ValueError) and _is_raised_by_us(error):
        return _one_line(str(error))
    return None


@contextmanager
def mistakes_travel() -> Iterator[None]:
    """Turn a user's mistake in a Ray worker into the one error that the driver knows as such.

    On its way to the driver an exception loses the traceback by which a mistake is told from a bug.
    """
    try:
        yield
    except UserError:
        raise
    except (OSError, ValueError) as error:
        line = user_message(error)
        if line is None:
            raise
        kind = MissingSplitError if isinstance(error, MissingFileError) else UserError
        raise kind(line) from error


def _os_message(error: OSError) -> str | None:
    where = f"{error.filename}: " if error.filename else ""
    if error.errno and error.strerror not in (None, os.strerror(error.errno)):
        return _one_line(str(error.strerror))
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return f"{where}{error.strerror}; free space or choose another --out, and run again"
    if isinstance(error, ConnectionError) or error.filename:
        return _one_line(f"{where}{error.strerror}" if error.strerror else str(error))
    return None


def _is_raised_by_us(error: BaseException) -> bool:
    trace = error.__traceback__
    if trace is None:
        return False
    while trace.tb_next is not None:
        trace = trace.tb_next
    file = Path(trace.tb_frame.f_code.co_filename)
    if not any(file.is_relative_to(package) for package in _PACKAGES):
        return False
    return linecache.getline(str(file), trace.tb_lineno).lstrip().startswith("raise ")


def _one_line(text: str) -> str:
    return " ".join(text.split())
