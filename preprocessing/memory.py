"""Keep a worker's memory between items."""

import numpy as np

_LARGEST_BLOCK_BYTES = 31 << 20
"""Just below the 32 MiB from which on the C library gives memory back at once, whatever was freed before."""


def keep_freed_memory() -> None:
    """Let this process use again what it frees, in place of handing it back and asking anew.

    By default every image is decoded into fresh pages, and the kernel zeroes each of them: up to a third of
    the time of a small image. The GNU C library (mallopt(3), M_MMAP_THRESHOLD) keeps blocks as large as the
    largest it has freed, so one is freed here; it is never touched. Elsewhere this does nothing.
    """
    block = np.empty(_LARGEST_BLOCK_BYTES, dtype=np.uint8)
    del block
