"""A budget of bytes that many threads share."""

import threading
from collections import deque


class ByteBudget:
    """A number of bytes that several threads share, first come first served.

    More than the whole budget may be asked for: it is granted alone. One thread must not acquire while it holds, or
    two of them could wait for each other; `try_acquire` is for that. Give back what was asked for.
    """

    def __init__(self, total: int) -> None:
        if total <= 0:
            raise ValueError(f"a budget must be positive, not {total}")
        self.total = total
        self._free = total
        self._changed = threading.Condition()
        self._queue: deque[object] = deque()

    def acquire(self, n: int) -> None:
        """Wait for `n` bytes. Whoever came first is served first, so that a large request is not starved."""
        n = self._clamped(n)
        ticket = object()
        with self._changed:
            self._queue.append(ticket)
            try:
                self._changed.wait_for(lambda: self._queue[0] is ticket and n <= self._free)
                self._free -= n
            finally:  # also when the wait is interrupted
                self._queue.remove(ticket)
                self._changed.notify_all()

    def try_acquire(self, n: int) -> bool:
        """Take `n` bytes if they are free and nobody waits; say whether they were taken."""
        n = self._clamped(n)
        with self._changed:
            if self._queue or n > self._free:
                return False
            self._free -= n
            return True

    def release(self, n: int) -> None:
        """Give back what was acquired with the same `n`."""
        with self._changed:
            self._free += self._clamped(n)
            if self._free > self.total:
                raise ValueError("more bytes were released than acquired")
            self._changed.notify_all()

    def _clamped(self, n: int) -> int:
        return min(max(n, 0), self.total)
