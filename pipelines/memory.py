"""Keep a long run's memory flat: glibc keeps what threads have freed unless it is told otherwise."""

import ctypes
import gc
import sys

_M_ARENA_MAX = -8
"""Parameter of mallopt(3): how many heaps threads may have."""

_ARENAS = 2
"""A heap for each of 14 threads held 50 MB more after 4,000 pictures; two cost no speed that could be measured."""


def _libc() -> ctypes.CDLL | None:
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "malloc_trim") and hasattr(libc, "mallopt") else None


def share_heaps() -> None:
    """Let all threads share few heaps; call it before they start. Does nothing where the C library is not glibc."""
    libc = _libc()
    if libc is not None:
        libc.mallopt(_M_ARENA_MAX, _ARENAS)


def settle() -> None:
    """Let the collector pass over all that is there by now, as code and models: it is looked at for nothing again."""
    gc.collect()
    gc.freeze()


def pass_over() -> None:
    """Let the collector not look again at what is there by now, without a look at it: before millions of names come."""
    gc.freeze()


def give_back() -> None:
    """Return freed memory to the system: between epochs, where it costs some milliseconds."""
    import pyarrow as pa

    gc.collect()
    pa.default_memory_pool().release_unused()
    libc = _libc()
    if libc is not None:
        libc.malloc_trim(0)
