import subprocess
import sys
import time

from jobs.memory import peak_memory

SIZE_BYTES = 120 << 20
HOLD = f"held = b'x' * {SIZE_BYTES}; print('held', flush=True); input()"


def test_peak_counts_child_processes_and_stays_after_they_are_gone():
    with peak_memory() as idle:
        pass
    with peak_memory() as peak:
        child = subprocess.Popen(
            [sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        with child:
            child.stdout.readline()
            deadline_s = time.monotonic() + 20
            while peak.rss_bytes < idle.rss_bytes + SIZE_BYTES and time.monotonic() < deadline_s:
                child.poll()
            child.stdin.write("\n")
    assert idle.rss_bytes > 1 << 20
    assert peak.rss_bytes >= idle.rss_bytes + SIZE_BYTES
