"""Pictures that are fetched ahead: each once, in order, so many and so much at a time."""

import threading
import time
from collections.abc import Callable

import pytest

from schemas.errors import ItemError
from schemas.records import ImageRef
from transforms import fetching
from transforms.fetching import AT_ONCE, MOST_BYTES, Fetching


def ref(number: int, size: int = 1000, scheme: str = "s3://bucket") -> ImageRef:
    uri = f"{scheme}/{number}.jpg"
    return ImageRef(number, f"key{number}", 0, uri, uri, size, 0, 0, None, None)


class Store:
    """What is asked for, by which thread, and how many wait at once."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self.asked: list[int] = []
        self.threads: set[str] = set()
        self.waiting = self.most = 0
        self._lock = threading.Lock()

    def read(self, one: ImageRef) -> bytes:
        with self._lock:
            self.asked.append(one.number)
            self.threads.add(threading.current_thread().name)
            self.waiting += 1
            self.most = max(self.most, self.waiting)
        time.sleep(self.seconds)
        with self._lock:
            self.waiting -= 1
        return b"%d" % one.number


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not true() and time.monotonic() < deadline:
        time.sleep(0.005)
    assert true()


def test_each_is_read_once_and_is_its_own() -> None:
    store = Store()
    refs = [ref(number) for number in range(100)]
    ahead = Fetching(refs, store.read)
    assert [ahead.read(one) for one in refs] == [b"%d" % one.number for one in refs]
    assert sorted(store.asked) == list(range(100))


def test_many_answers_are_waited_for_at_once() -> None:
    store = Store(0.05)
    refs = [ref(number) for number in range(3 * AT_ONCE)]
    ahead = Fetching(refs, store.read)
    started = time.monotonic()
    for one in refs:
        ahead.read(one)
    assert time.monotonic() - started < 0.05 * len(refs) / 2
    assert 1 < store.most <= AT_ONCE


def test_no_more_is_fetched_than_is_allowed() -> None:
    """In number, and in bytes; a picture that is larger than all of them comes when its turn is."""
    store = Store()
    ahead = Fetching([ref(number) for number in range(100)], store.read)
    until(lambda: len(store.asked) == AT_ONCE)
    time.sleep(0.05)
    assert len(store.asked) == AT_ONCE
    ahead.close()
    large = Store()
    refs = [ref(number, MOST_BYTES // 3) for number in range(9)] + [ref(9, MOST_BYTES + 1), ref(10)]
    ahead = Fetching(refs, large.read)
    until(lambda: len(large.asked) == 3)
    time.sleep(0.05)
    assert sorted(large.asked) == [0, 1, 2]
    assert [ahead.read(one) for one in refs] == [b"%d" % one.number for one in refs]
    assert threading.current_thread().name in large.threads


def test_what_is_here_is_read_when_it_is_asked_for() -> None:
    store = Store()
    refs = [ref(0, scheme="/folder"), ref(1, scheme="kafka://topic"), ref(2)]
    ahead = Fetching(refs, store.read)
    until(lambda: store.asked == [2])
    assert [ahead.read(one) for one in refs] == [b"0", b"1", b"2"]
    assert store.asked == [2, 0, 1]


def test_an_error_is_raised_by_the_one_that_asks() -> None:
    """Of that picture alone; and a picture that nobody announced is read too."""

    def read(one: ImageRef) -> bytes:
        if one.number == 1:
            raise ItemError("not_found", "gone")
        return b"%d" % one.number

    ahead = Fetching([ref(number) for number in range(3)], read)
    assert ahead.read(ref(0)) == b"0"
    with pytest.raises(ItemError, match="gone"):
        ahead.read(ref(1))
    assert (ahead.read(ref(2)), ahead.read(ref(7))) == (b"2", b"7")


def test_pictures_may_be_left_out_and_come_in_another_order() -> None:
    """A duplicate's bytes are asked for in its own time."""
    store = Store()
    refs = [ref(number) for number in range(60)]
    ahead = Fetching(refs, store.read)
    wanted = [59, 3, 0, 40, 16, 15]
    assert [ahead.read(refs[number]) for number in wanted] == [b"%d" % number for number in wanted]


def test_who_closes_waits_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was not begun is never read."""
    store = Store(0.2)
    requests = fetching._requests()
    gate = threading.Event()
    for _ in range(AT_ONCE):  # all threads are busy
        requests.put(fetching._Answer(ref(0), lambda one: str(gate.wait()).encode()))
    ahead = Fetching([ref(number) for number in range(40)], store.read)
    started = time.monotonic()
    ahead.close()
    assert time.monotonic() - started < 0.1
    gate.set()
    until(requests.empty)
    time.sleep(0.05)
    assert store.asked == []
