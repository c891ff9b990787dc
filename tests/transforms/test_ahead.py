"""Work ahead: in order, in bounded memory, and gone when nobody wants it any more."""

import threading
import time
from collections.abc import Generator, Iterator

import pytest

from schemas.errors import ItemError
from transforms.ahead import ahead


@pytest.fixture(autouse=True)
def _no_thread_stays() -> Iterator[None]:
    before = threading.enumerate()
    yield
    assert threading.enumerate() == before


class Source:
    """Makes numbers, and tells what it has made, and where; it stands still where it is told to."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.made: list[int] = []
        self.thread: threading.Thread | None = None
        self.closed = False

    def items(self) -> Generator[int, None, None]:
        self.thread = threading.current_thread()
        try:
            for number in range(self.count):
                self.made.append(number)
                yield number
        finally:
            self.closed = True


def settle(source: Source) -> list[int]:
    """Return what the source has made once it makes no more."""
    made = -1
    while made != len(source.made):
        made = len(source.made)
        time.sleep(0.05)
    return source.made


def one(_: int) -> int:
    return 1


def test_items_come_in_order() -> None:
    """Each once, made by another thread; the source is closed behind the last."""
    source = Source(1000)
    assert list(ahead(source.items(), one, 7)) == list(range(1000))
    assert source.closed
    assert source.thread is not threading.current_thread()


def test_nothing_is_made_before_the_first_is_asked_for() -> None:
    """A clip that nobody reads opens no file."""
    source = Source(3)
    items = ahead(source.items(), one, 10)
    assert settle(source) == []
    assert list(items) == [0, 1, 2]


@pytest.mark.parametrize(("most_bytes", "waiting"), [(1, 1), (30, 3), (35, 4)])
def test_what_waits_is_bounded(most_bytes: int, waiting: int) -> None:
    """Items of ten bytes are made until the bound is reached, and again when one is taken."""
    source = Source(100)
    items = ahead(source.items(), lambda _: 10, most_bytes)
    for taken in range(5):
        assert next(items) == taken
        assert len(settle(source)) == taken + 1 + waiting
    items.close()  # type: ignore[attr-defined]


def test_one_item_may_be_larger_than_the_bound() -> None:
    """It waits alone."""
    source = Source(3)
    items = ahead(source.items(), lambda _: 10**9, 1)
    assert next(items) == 0
    assert settle(source) == [0, 1]
    assert list(items) == [1, 2]


def test_an_error_comes_behind_the_items_before_it() -> None:
    """As it would without a thread; it is the same one."""
    error = ItemError("corrupt", "it breaks off")

    def broken() -> Generator[int, None, None]:
        yield from (1, 2)
        raise error

    items = ahead(broken(), one, 10)
    assert [next(items), next(items)] == [1, 2]
    with pytest.raises(ItemError) as raised:
        next(items)
    assert raised.value is error


def test_an_error_in_measuring_is_told() -> None:
    """Whatever the thread cannot do is raised where its items are taken, and the source is closed."""
    source = Source(3)

    def no_size(_: int) -> int:
        raise ValueError("it has no size")

    with pytest.raises(ValueError, match="no size"):
        list(ahead(source.items(), no_size, 10))
    assert source.closed


@pytest.mark.parametrize("most_bytes", [1, 10**9])
def test_to_stop_early_closes_the_source(most_bytes: int) -> None:
    """Whether the thread waits for room or makes items just then."""
    source = Source(10**9)
    items = ahead(source.items(), one, most_bytes)
    assert next(items) == 0
    items.close()  # type: ignore[attr-defined]
    assert source.closed
    assert source.thread is not None
    assert not source.thread.is_alive()


def test_to_drop_it_closes_the_source() -> None:
    """A loop that is left by an error needs no clean-up of its own."""
    source = Source(10**9)
    with pytest.raises(KeyError):
        for number in ahead(source.items(), one, 3):
            if number == 2:
                raise KeyError
    assert source.closed
