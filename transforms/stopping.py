"""A request to stop, and a count of what is done, shared by the supervisor and the steps of one process."""

import threading

_requested = threading.Event()
_lock = threading.Lock()
_done = 0


def reset() -> None:
    """Forget an earlier request."""
    _requested.clear()


def request_stop() -> None:
    """Ask the steps to read no further picture; the epoch is dropped, its plan stays and is run again later."""
    _requested.set()


def stop_requested() -> bool:
    """Tell whether a stop was asked for."""
    return _requested.is_set()


def tick(items: int) -> None:
    """Count items done. Only the embedded runner's threads share the count; it feeds the progress bar, nothing else."""
    global _done
    with _lock:
        _done += items


def items_done() -> int:
    """Return the items done in this process so far."""
    return _done
