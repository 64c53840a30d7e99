"""Measure the memory of a job: this process and everything it started."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psutil

_INTERVAL_S = 1.0


@dataclass(kw_only=True, slots=True)
class PeakMemory:
    """The largest sum of resident memory seen so far; pages shared by processes count once for each."""

    rss_bytes: int = 0


@contextmanager
def peak_memory() -> Iterator[PeakMemory]:
    """Sample the process tree once a second while the body runs."""
    peak, stop = PeakMemory(), threading.Event()
    thread = threading.Thread(target=_watch, args=(peak, stop), daemon=True)
    thread.start()
    try:
        yield peak
    finally:
        stop.set()
        thread.join()


def _watch(peak: PeakMemory, stop: threading.Event) -> None:
    while True:
        peak.rss_bytes = max(peak.rss_bytes, _tree_rss_bytes())
        if stop.wait(_INTERVAL_S):
            return


def _tree_rss_bytes() -> int:
    root = psutil.Process()
    return sum(_rss_bytes(process) for process in [root, *root.children(recursive=True)])


def _rss_bytes(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.NoSuchProcess:
        return 0
