"""Work ahead: a thread that makes what the caller will ask for next, in bounded memory."""

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


def ahead(items: Generator[T, None, None], size_of: Callable[[T], int], most_bytes: int) -> Iterator[T]:
    """Yield `items`, which a thread makes beside the caller's own work.

    The thread waits while what is made and not yet taken has `most_bytes` bytes or more by `size_of`. What it raises is
    raised here, behind the items that came before. When the caller stops early, `items` is closed.
    """
    begun = Ahead(items, size_of, most_bytes)
    try:
        yield from begun
    finally:
        begun.close()
        begun.worker.join()


class Ahead(Generic[T]):
    """`items`, which a thread begins to make at once; see `ahead`. Close it when no more are wanted."""

    def __init__(self, items: Generator[T, None, None], size_of: Callable[[T], int], most: int) -> None:
        self._shelf = _Shelf[T](size_of, most)
        self.worker = threading.Thread(target=self._shelf.fill, args=(items,), name="ahead", daemon=True)
        self.worker.start()

    def __iter__(self) -> Iterator[T]:
        return self._shelf.taken()

    def close(self) -> None:
        """Let the thread end with the item at which it works."""
        self._shelf.close()


class _Shelf(Generic[T]):
    """Where a thread puts items, and another takes them in the same order."""

    def __init__(self, size_of: Callable[[T], int], most_bytes: int) -> None:
        self._size_of = size_of
        self._most_bytes = most_bytes
        self._items: deque[T] = deque()
        self._bytes = 0
        self._changed = threading.Condition()
        self._closed = False
        self._ended = False
        self._error: Exception | None = None

    def fill(self, items: Generator[T, None, None]) -> None:
        try:
            for item in items:
                if not self._put(item):
                    break
        except Exception as error:  # noqa: BLE001  it is raised again by the thread that takes
            self._error = error
        finally:
            items.close()
            with self._changed:
                self._ended = True
                self._changed.notify_all()

    def _put(self, item: T) -> bool:
        """Put an item and wait for room behind it; say whether another one is wanted."""
        with self._changed:
            self._items.append(item)
            self._bytes += self._size_of(item)
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._closed or self._bytes < self._most_bytes)
            return not self._closed

    def taken(self) -> Iterator[T]:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: bool(self._items) or self._ended)
                if not self._items:
                    break
                item = self._items.popleft()
                self._bytes -= self._size_of(item)
                self._changed.notify_all()
            yield item
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
