"""Show on the driver how training proceeds, by reading the lines the controller writes."""

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from jobs.training_log import LoggedStep, read_log

logger = logging.getLogger(__name__)

_INTERVAL_S = 10.0
_POLL_S = 1.0


@contextmanager
def follow(path: Path, title: str, num_steps: int) -> Iterator[None]:
    """Log a line of progress every ten seconds while the body runs."""
    # Lines of a run that was killed are old news.
    stop, seen_step = threading.Event(), _last_step(path)
    thread = threading.Thread(target=_watch, args=(path, title, num_steps, seen_step, stop), daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def progress_line(title: str, last: LoggedStep, num_steps: int, steps_per_s: float) -> str:
    """Say where a run stands: step, loss by task, rate and the time left."""
    losses = ", ".join(
        f"{name.removeprefix('loss/')} {value:.1f}"
        for name, value in sorted(last.metrics.items())
        if name.startswith("loss/")
    )
    return (
        f"{title}: step {last.step}/{num_steps}, loss {losses}, {last.metrics['clips_per_s']:.0f} clips/s, "
        f"ETA {_time_left(num_steps - last.step, steps_per_s)}"
    )


def _time_left(num_steps: int, steps_per_s: float) -> str:
    if not num_steps:
        return "0:00"
    if steps_per_s <= 0:
        return "unknown"
    left_s = int(num_steps / steps_per_s)
    return f"{left_s // 60}:{left_s % 60:02d}"


def _watch(path: Path, title: str, num_steps: int, seen_step: int, stop: threading.Event) -> None:
    first: tuple[int, float] | None = None
    shown_step, shown_at = seen_step, 0.0
    while True:
        is_over = stop.wait(_POLL_S)
        steps = read_log(path)
        now = time.monotonic()
        is_new = bool(steps) and steps[-1].step != shown_step
        if is_new and (first is None or steps[-1].step < first[0]):
            first = (steps[-1].step, now)
        if is_new and first is not None and (now - shown_at >= _INTERVAL_S or is_over):
            rate = (steps[-1].step - first[0]) / max(now - first[1], 1e-9)
            logger.info(progress_line(title, steps[-1], num_steps, rate))
            shown_step, shown_at = steps[-1].step, now
        if is_over:
            return


def _last_step(path: Path) -> int:
    steps = read_log(path)
    return steps[-1].step if steps else 0
