"""Memory that is given back and asked for again at once: the C library is told to keep it."""

import ctypes
import os
import sys
from typing import Any

# Of malloc.h: what is kept at the end of the heap, and from which size on a block is the system's.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
# The most that glibc takes for the second.
_LARGEST_BLOCK = 32 << 20
# A person's own choices.
_CHOSEN = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")


def keep_freed_memory(most: int) -> None:
    """Let glibc keep what it is given back, so many bytes at most; elsewhere nothing changes.

    A training step, or a window, wants the same memory as the one before. By default most of it
    goes back to the system meanwhile, which clears every page that it hands out again.
    """
    mallopt = _of_glibc("mallopt")
    if mallopt is not None and not any(name in os.environ for name in _CHOSEN):
        mallopt(_TRIM_THRESHOLD, most)
        mallopt(_MMAP_THRESHOLD, _LARGEST_BLOCK)


def give_back_freed_memory() -> None:
    """Let the system have what was kept, as before it is measured what something takes."""
    malloc_trim = _of_glibc("malloc_trim")
    if malloc_trim is not None:
        malloc_trim(0)


def _of_glibc(name: str) -> Any:
    """A function of the C library; None if it is another one, or another system."""
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None
