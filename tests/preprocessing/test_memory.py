import platform
import subprocess
import sys
from pathlib import Path

import pytest

COUNT_FAULTS = """
import resource, sys
import numpy as np
from preprocessing.memory import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
def work():
    for _ in range(20):
        arrays = [np.ones(3 << 20, dtype=np.uint8) for _ in range(4)]
        del arrays
work()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
work()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a property of the GNU C library")
def test_kept_memory_is_not_asked_for_again():
    def faults(how):
        command = [sys.executable, "-c", COUNT_FAULTS, how]
        cwd = Path(__file__).parents[2]
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=cwd)
        return int(done.stdout)

    assert faults("keep") < faults("hand back") / 10
