"""A request to stop, and a count of what is done, shared by the supervisor and the steps of one process."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_requested = threading.Event()
_lock = threading.Lock()
_done = 0


def reset() -> None:
    """Forget an earlier request."""
    _requested.clear()


def request_stop() -> None:
    """Ask the steps to read no further picture; the epoch is dropped, its plan stays and is run again later."""
    _requested.set()


@contextmanager
def stop_on_signals() -> Iterator[None]:
    """Turn SIGINT and SIGTERM into a clean stop: the running epoch is dropped, what is committed stays."""
    reset()
    before = {number: signal.signal(number, _stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _stop(_number: int, _frame: Any) -> None:
    request_stop()


def stop_requested() -> bool:
    """Tell whether a stop was asked for."""
    return _requested.is_set()


def wait_for_stop(seconds: float) -> bool:
    """Wait so long, or until a stop is asked for; tell whether it was."""
    return _requested.wait(seconds)


def tick(items: int) -> None:
    """Count items done. Only the embedded runner's threads share the count; it feeds the progress bar, nothing else."""
    global _done
    with _lock:
        _done += items


def items_done() -> int:
    """Return the items done in this process so far."""
    return _done
