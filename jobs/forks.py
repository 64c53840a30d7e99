"""Map over items in forked processes: none outlives the caller, and a killed one is told, not waited for.

Forked, because what a worker needs (an opened case) is then there without being pickled. Every worker has a
pipe of its own and one item at a time, so the caller knows which item a worker was at when it died, and a
worker whose caller is gone reads the end of its pipe.
"""

import multiprocessing
import signal
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from jobs.errors import UserError, mistakes_travel


@dataclass(frozen=True, kw_only=True, slots=True)
class _Worker:
    process: BaseProcess
    pipe: Connection


@dataclass(frozen=True, kw_only=True, slots=True)
class _Failure:
    error: Exception


def map_forked(work: Callable[[int], Any], names: Sequence[str], num_processes: int) -> Iterator[Any]:
    """Give ``work(index)`` of every item, in the order in which they finish.

    Args:
        work: What to do; its results are pickled.
        names: Names of the items, for messages.
        num_processes: Workers to fork; one does the work in this process.

    Raises:
        UserError: an item has a mistake, or a worker was killed; the line names the item.
    """
    if num_processes == 1:
        yield from map(work, range(len(names)))
        return
    with _forked(work, min(num_processes, len(names))) as workers:
        yield from _hand_out(workers, names)


def _hand_out(workers: Sequence[_Worker], names: Sequence[str]) -> Iterator[Any]:
    waiting = iter(range(len(names)))
    busy: dict[Connection, int] = {}
    for worker in workers:
        _send_next(worker.pipe, waiting, busy)
    while busy:
        ready = set(wait(list(busy)))
        for pipe in [pipe for pipe in busy if pipe in ready]:
            result = _receive(pipe, names[busy.pop(pipe)])
            _send_next(pipe, waiting, busy)
            yield result


def _send_next(pipe: Connection, waiting: Iterator[int], busy: dict[Connection, int]) -> None:
    index = next(waiting, None)
    if index is None:
        return
    busy[pipe] = index
    try:
        pipe.send(index)
    except BrokenPipeError:
        # It was killed between two items; reading its pipe says so.
        return


def _receive(pipe: Connection, name: str) -> Any:
    try:
        result = pipe.recv()
    except (EOFError, OSError) as error:
        raise UserError(
            f"{name}: the process that worked on it was killed, perhaps for lack of memory; "
            "run again with fewer --jobs"
        ) from error
    if isinstance(result, _Failure):
        raise result.error
    return result


@contextmanager
def _forked(work: Callable[[int], Any], num: int) -> Iterator[list[_Worker]]:
    context = multiprocessing.get_context("fork")
    workers: list[_Worker] = []
    try:
        for _ in range(num):
            ours, theirs = context.Pipe()
            inherited = [ours, *(worker.pipe for worker in workers)]
            process = context.Process(target=_serve, args=(work, theirs, inherited), daemon=True)
            process.start()
            theirs.close()
            workers.append(_Worker(process=process, pipe=ours))
        yield workers
    finally:
        for worker in workers:
            worker.process.kill()
            worker.process.join()
            worker.pipe.close()


def _serve(work: Callable[[int], Any], pipe: Connection, inherited: Sequence[Connection]) -> None:
    # The caller decides what an interrupt means; and only it may hold its ends of the pipes.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for other in inherited:
        other.close()
    try:
        while True:
            pipe.send(_attempt(work, pipe.recv()))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return


def _attempt(work: Callable[[int], Any], index: int) -> Any:
    try:
        with mistakes_travel():
            return work(index)
    except Exception as error:  # noqa: BLE001 the caller raises it
        if not isinstance(error, UserError):
            error.add_note(f"in a worker:\n{traceback.format_exc()}")
        return _Failure(error=error)
