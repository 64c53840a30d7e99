import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from jobs.errors import UserError
from jobs.forks import map_forked

NAMES = [f"item {index}" for index in range(7)]


def is_alive(process_id: int) -> bool:
    """Whether a process is there and no zombie."""
    stat = Path(f"/proc/{process_id}/stat")
    return stat.exists() and stat.read_text().rpartition(") ")[2][0] != "Z"


@pytest.mark.parametrize("num_processes", [1, 2, 20])
def test_every_item_is_worked_on_once(num_processes):
    assert sorted(map_forked(lambda index: index * index, NAMES, num_processes)) == [
        index * index for index in range(7)
    ]


@pytest.mark.parametrize("num_processes", [1, 2])
def test_no_item_is_no_work(num_processes):
    assert list(map_forked(lambda index: index, [], num_processes)) == []


def test_work_is_done_in_other_processes_that_end_with_it():
    found = set(map_forked(lambda _: os.getpid(), NAMES, 3))
    assert os.getpid() not in found
    assert not any(map(is_alive, found))


def test_killed_worker_is_told_with_its_item_and_none_is_left():
    results = []
    with pytest.raises(UserError, match="^item 4: the process that worked on it was killed"):
        results.extend(map_forked(kill_itself_at_4, NAMES, 2))


def kill_itself_at_4(index):
    if index == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    return os.getpid()


def test_mistake_travels_as_one_line():
    def work(index):
        raise UserError(f"{index}.png: no such file")

    with pytest.raises(UserError, match=r"^\d\.png: no such file$"):
        list(map_forked(work, NAMES, 2))


def test_bug_keeps_its_type_and_its_traceback():
    def work(index):
        return {}["key of a bug"]

    with pytest.raises(KeyError, match="key of a bug") as caught:
        list(map_forked(work, NAMES, 2))
    assert '{}["key of a bug"]' in "".join(caught.value.__notes__)


def test_workers_end_where_the_caller_stops_early():
    results = map_forked(lambda _: os.getpid(), NAMES, 2)
    worker = next(results)
    assert is_alive(worker)
    results.close()
    assert not is_alive(worker)


INTERRUPTED_AT_WORK = """
def work(index):
    print(os.getpid(), flush=True)
    signal.pause()

try:
    list(map_forked(work, ["a", "b"], 2))
except KeyboardInterrupt:
    sys.exit(130)
"""
KILLED_BETWEEN_RESULTS = """
def work(index):
    return os.getpid()

for done, process_id in enumerate(map_forked(work, ["a", "b"], 2)):
    print(process_id, flush=True)
    if done:
        signal.pause()
"""


@pytest.mark.parametrize(
    ("body", "number", "code"),
    [(INTERRUPTED_AT_WORK, signal.SIGINT, 130), (KILLED_BETWEEN_RESULTS, signal.SIGKILL, -9)],
)
def test_no_worker_outlives_its_caller(body, number, code):
    # A test run in the background of a shell ignores interrupts, and so would its children.
    listening = "signal.signal(signal.SIGINT, signal.default_int_handler)"
    script = f"import os, signal, sys\nfrom jobs.forks import map_forked\n{listening}\n{body}"
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as caller:
        workers = {os.pidfd_open(int(caller.stdout.readline())) for _ in range(2)}
        caller.send_signal(number)
        assert caller.wait(timeout=60) == code
    for worker in workers:
        ended, _, _ = select.select([worker], [], [], 60)
        os.close(worker)
        assert ended
