"""Topics in, a data set and results out, exactly once: the scenarios of tests/soak/streams.py, in small."""

from collections.abc import Iterator

import pytest

from tests.soak import streams
from tests.streams import World


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    """A broker that may be killed, and a process that bears runs fast."""
    made = World.begin()
    yield made
    made.end()


def test_kills_lose_and_double_nothing(world: World) -> None:
    """Whatever dies while messages come, each is in the data set once, and in the results once for another reader."""
    streams.kills(world, messages=600, pipeline_kills=4, broker_kills=1, rate=100, longest_s=1.2, results=True)


@pytest.mark.parametrize(
    ("moment", "wakes", "died_before"),
    [("epoch", "after", 0), ("owed", "while", 0), ("epoch", "after", 2)],
    ids=["in-an-epoch", "between-manifest-and-transaction", "in-a-third-try"],
)
def test_a_zombie_is_shut_out(moment: str, wakes: str, died_before: int, world: World) -> None:
    """A run that hung, and wakes after another took over, ends with exit 1 and harms nothing."""
    streams.zombie(world, moment=moment, wakes=wakes, messages=100, epoch_items=20, died_before=died_before)


def test_new_partitions_are_read(world: World) -> None:
    """Partitions that a topic gets while a run reads are read from their beginning."""
    streams.growth(world, messages=40)


def test_a_cleaned_topic_is_read_whole(world: World) -> None:
    """Offsets that compaction and aborted transactions have emptied are passed over."""
    streams.compacted(world, keys=20, versions=4)


def test_poison_is_told_and_comes_back_whole(world: World) -> None:
    """What means no picture fails by name, and its dead letter has the reason and the original; 5 MB are labelled."""
    streams.poison(world, messages=150, every=10)


def test_what_the_broker_deleted_unread_is_counted(world: World) -> None:
    """A gap is in the manifest and in the log, once; what is left is done."""
    streams.retention(world, messages=60)


@pytest.mark.parametrize("running", [False, True], ids=["between-runs", "while-running"])
def test_a_topic_made_anew_stops_the_run(running: bool, world: World) -> None:
    """Offsets of another topic of the same name are never taken for those of the old one."""
    streams.recreated(world, messages=40, running=running)


@pytest.mark.parametrize(("how", "epoch_items"), [("exit", 2), ("ValueError", 4)])
def test_a_message_that_breaks_the_run_is_set_aside(how: str, epoch_items: int, world: World) -> None:
    """A message that ends the process, or breaks the step, becomes a failure; all others are labelled."""
    streams.killer(world, how=how, messages=12, epoch_items=epoch_items)


def test_a_stop_under_load_is_clean(world: World) -> None:
    """A request to stop is answered with exit 0, and the next run goes on."""
    streams.stops(world, times=2, rate=50)


def test_an_outage_is_waited_for(world: World) -> None:
    """A broker that is away costs a line a minute, none of it the client library's."""
    streams.outage(world, seconds=6.0, sending=False)


def test_an_idle_run_rests(world: World) -> None:
    """A run that waits takes next to no CPU and writes no file."""
    streams.idle(world, seconds=5.0)
