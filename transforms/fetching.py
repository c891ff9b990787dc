"""Fetch pictures before they are asked for: a store takes its time to answer, but answers many at once.

Local files and messages are read when they are needed: nobody waits for them.
"""

import queue
import threading
from collections import deque
from collections.abc import Callable, Sequence
from functools import cache

from schemas.records import ImageRef
from transforms.buckets.names import is_remote

AT_ONCE = 16
"""Requests of this process that wait for their answers."""

MOST_BYTES = 32 << 20
"""Bytes that each working thread has fetched, or asked for, and not used."""

Read = Callable[[ImageRef], bytes]


class _Answer:
    """The bytes of one picture, or what reading it raised, once they are there."""

    def __init__(self, ref: ImageRef, read: Read) -> None:
        self.ref, self._read = ref, read
        self._done = threading.Event()
        self._data = b""
        self._error: Exception | None = None
        self._is_wanted = True

    def fetch(self) -> None:
        try:
            if self._is_wanted:
                self._data = self._read(self.ref)
        except Exception as error:  # noqa: BLE001  it is raised again by the thread that asks
            self._error = error
        finally:
            self._done.set()

    def give_up(self) -> None:
        self._is_wanted = False

    def result(self) -> bytes:
        self._done.wait()
        if self._error is not None:
            raise self._error
        return self._data


class Fetching:
    """Reads pictures in the order of `refs`, those in a bucket in advance. Close it when no more are wanted."""

    def __init__(self, refs: Sequence[ImageRef], read: Read) -> None:
        self._read = read
        self._due = deque(ref for ref in refs if is_remote(ref.uri))
        self._asked: dict[ImageRef, _Answer] = {}
        self._bytes = 0
        self._ask()

    def read(self, ref: ImageRef) -> bytes:
        """Return the picture's bytes; raise what reading it raises."""
        answer = self._asked.pop(ref, None)
        if answer is None:
            return self._read(ref)
        try:
            return answer.result()
        finally:
            self._bytes -= max(0, ref.size)
            self._ask()

    def close(self) -> None:
        """Ask for no more."""
        self._due.clear()
        for answer in self._asked.values():
            answer.give_up()

    def _ask(self) -> None:
        while self._due and len(self._asked) < AT_ONCE:
            size = max(0, self._due[0].size)
            if self._asked and self._bytes + size > MOST_BYTES:
                return
            if size > MOST_BYTES:  # it is read when its turn comes, and counted by whoever decodes it
                self._due.popleft()
                continue
            answer = _Answer(self._due.popleft(), self._read)
            self._asked[answer.ref] = answer
            self._bytes += size
            _requests().put(answer)


@cache
def _requests() -> "queue.SimpleQueue[_Answer]":
    """Return where requests wait for a thread. These end with the process: one may wait long for a store."""
    waiting: queue.SimpleQueue[_Answer] = queue.SimpleQueue()
    for number in range(AT_ONCE):
        threading.Thread(target=_work, args=(waiting,), name=f"fetch-{number}", daemon=True).start()
    return waiting


def _work(waiting: "queue.SimpleQueue[_Answer]") -> None:
    while True:
        waiting.get().fetch()
