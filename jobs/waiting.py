"""Wait for a Ray task, and tell what the user can do something about from a bug."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from textwrap import shorten
from typing import Any

import ray
from ray.exceptions import NodeDiedError, OutOfMemoryError, RayError, RayTaskError, WorkerCrashedError

from jobs.errors import UserError

MAX_DEATHS = 3
"""How often a task is run again after its worker died; errors of the data are never retried."""


def wait_for(reference: Any) -> Any:
    """Wait for a task; a user's mistake in it is raised as what it was, a bug with the worker's traceback."""
    try:
        return ray.get(reference)
    except RayTaskError as error:
        if isinstance(error.cause, UserError):
            raise type(error.cause)(str(error.cause)) from None
        raise
    except (WorkerCrashedError, NodeDiedError, OutOfMemoryError) as error:
        raise UserError(
            f"workers died {MAX_DEATHS + 1} times on the same task, most likely for lack of memory; "
            f"run again with fewer --num-workers ({type(error).__name__})"
        ) from error
    except RayError as error:
        raise UserError(
            f"Ray failed, run again: {type(error).__name__}: {shorten(str(error), 300, placeholder=' ...')}"
        ) from error


@contextmanager
def interrupts_are_raised() -> Iterator[None]:
    """Raise an interrupt of training as one.

    On an interrupt Ray Train aborts the run, then ends the process as if all had gone well, and it leaves its
    handler in place.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as error:
        raise KeyboardInterrupt from error
    finally:
        signal.signal(signal.SIGINT, handler)
