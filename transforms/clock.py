"""How long each step takes, added up over all threads of this process: it says where the time of a run goes."""

import threading
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")

STEPS = (
    *("read", "enrol", "look", "decide", "second opinion", "duplicates"),
    *("decode", "detect", "align", "infer", "clean", "validate", "write", "export"),
)
"""The steps in the order of the flows: the survey of clean, the steps of annotate, and what both end with."""

_lock = threading.Lock()
_seconds: dict[str, float] = {}


def reset() -> None:
    """Forget what was measured."""
    with _lock:
        _seconds.clear()


def seconds() -> dict[str, float]:
    """Return the seconds of each step that was measured, in the order of the flow; empty on other machines' workers."""
    with _lock:
        return {step: round(_seconds[step], 3) for step in STEPS if step in _seconds}


@contextmanager
def clocked(step: str) -> Iterator[None]:
    """Add the block's time to the step's."""
    started = time.perf_counter()
    try:
        yield
    finally:
        passed = time.perf_counter() - started
        with _lock:
            _seconds[step] = _seconds.get(step, 0.0) + passed


def clocked_items(step: str, items: Generator[T, None, None]) -> Generator[T, None, None]:
    """Yield `items`; add the time that making them takes, not that of their user, to the step's."""
    try:
        while True:
            with clocked(step):
                item = next(items, None)  # no item is null
            if item is None:
                return
            yield item
    finally:
        items.close()
