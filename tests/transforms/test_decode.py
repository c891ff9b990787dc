"""The decode step: batches within their bytes, failures by themselves, the budget always given back."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from schemas.records import ImageRef, PlannedItem
from transforms import stopping
from transforms.batch import DecodedBatch, PlannedBatch
from transforms.decode import CPU_ROOM, Decode, Room, _DecodeBatches, shared_budget


@pytest.fixture
def planned(tmp_path: Path) -> PlannedBatch:
    """Ten pictures of 320x240 (225 KB decoded), the fourth and the last cut short."""
    rng = np.random.default_rng(0)
    items = []
    for number in range(10):
        path = tmp_path / f"{number}.png"
        cv2.imwrite(str(path), cv2.resize(rng.integers(0, 255, (6, 8, 3), np.uint8), (320, 240)))
        if number in (3, 9):  # the header is whole, so bytes are reserved before the picture fails
            path.write_bytes(path.read_bytes()[:-200])
        ref = ImageRef(number, "k", 0, str(path), path.name, path.stat().st_size, None, 0)
        items.append(PlannedItem(ref, "", (), None, None))
    return PlannedBatch(0, tuple(items))


def decode(planned: PlannedBatch, room: Room, max_pixels: int = 10**6) -> tuple[list[list[int]], list[int]]:
    """Return the item numbers of each batch, and of the failed ones."""
    step = _DecodeBatches(Decode(10**6, max_pixels, None, "all", room))
    batches, failed = [], []
    for out in step.process(planned):
        if isinstance(out, DecodedBatch):
            batches.append([picture.item.ref.number for picture in out.pictures])
        else:
            failed.append(out.value[1].ref.number)
    return batches, failed


def test_failures_leave_the_others_alone(planned: PlannedBatch) -> None:
    """What cannot be decoded is told by itself; the rest goes on together, in order."""
    assert decode(planned, CPU_ROOM) == ([[0, 1, 2, 4, 5, 6, 7, 8]], [3, 9])


@pytest.mark.parametrize("room", [Room(10**6, 10**9), Room(10**9, 2 * 10**6), Room(1, 10**9), Room(10**9, 1)])
def test_batches_are_bounded_and_the_budget_is_given_back(room: Room, planned: PlannedBatch) -> None:
    """However small the room, every picture comes out once, in order; afterwards all of the room is free."""
    batches, failed = decode(planned, room)
    assert [number for batch in batches for number in batch] == [0, 1, 2, 4, 5, 6, 7, 8]
    assert failed == [3, 9]
    assert len(batches) > 1
    assert shared_budget(room.process_bytes).try_acquire(room.process_bytes)
    shared_budget(room.process_bytes).release(room.process_bytes)


def test_the_budget_is_given_back_when_the_steps_below_fail(planned: PlannedBatch) -> None:
    """A step below that raises closes the generator; nothing may stay reserved."""
    room = Room(10**6, 123_456_789)
    step = _DecodeBatches(Decode(10**6, 10**6, None, "all", room)).process(planned)
    next(step)
    step.close()  # type: ignore[attr-defined]
    assert shared_budget(room.process_bytes).try_acquire(room.process_bytes)
    shared_budget(room.process_bytes).release(room.process_bytes)


def test_pixels_over_the_limit_are_never_made(planned: PlannedBatch) -> None:
    """With a limit under 320 x 240 every picture is a failure."""
    assert decode(planned, CPU_ROOM, max_pixels=1000) == ([], list(range(10)))


def test_after_a_stop_nothing_more_is_read(planned: PlannedBatch, monkeypatch: pytest.MonkeyPatch) -> None:
    """The epoch is dropped anyway: the step ends at once."""
    monkeypatch.setattr(stopping, "_requested", type("Set", (), {"is_set": staticmethod(lambda: True)}))
    Path(planned.items[0].ref.uri).unlink()
    assert decode(planned, CPU_ROOM) == ([], [])


def test_a_copy_takes_the_place_of_a_file_that_is_gone(planned: PlannedBatch) -> None:
    """Where the file and not its content is at fault, its exact copy is labelled and the others are copies of that."""
    first, copy, other = (planned.items[number].ref for number in (0, 1, 2))
    Path(first.uri).unlink()
    item = PlannedItem(first, "", (copy, other), None, None)
    step = _DecodeBatches(Decode(10**6, 10**6, None, "all", CPU_ROOM))
    failure, batch = step.process(PlannedBatch(0, (item,)))
    assert failure.value[1].ref == first and failure.value[1].error == "not_found"
    assert [(one.item.ref, one.item.copies) for one in batch.pictures] == [(copy, (other,))]


def test_a_file_that_changed_since_it_was_planned_is_not_taken_for_its_copies(planned: PlannedBatch) -> None:
    """Copies were found by content at planning; another content at reading is told."""
    item = PlannedItem(planned.items[0].ref, "ab" * 32, (), None, None)
    (failure,) = _DecodeBatches(Decode(10**6, 10**6, None, "all", CPU_ROOM)).process(PlannedBatch(0, (item,)))
    assert failure.value[1].error == "changed"
