"""What a process that does nothing but make clips sets up first."""

import ctypes
import sys

import cv2
import torch

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""Parameters of glibc's mallopt."""
_KEPT_BYTES = 2**30


def start_worker(worker_index: int) -> None:
    """Keep a worker to one core, and its memory with it: parallelism comes from the number of workers."""
    del worker_index
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    keep_freed_memory()


def keep_freed_memory() -> None:
    """Let the C library reuse the arrays of one clip for the next.

    By default it hands large ones back to the kernel, which maps and zeroes every page anew: that takes
    about as long as resizing the frames does.
    """
    if not sys.platform.startswith("linux"):
        return
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):  # musl has none
        library.mallopt(_MMAP_THRESHOLD, _KEPT_BYTES)
        library.mallopt(_TRIM_THRESHOLD, _KEPT_BYTES)
