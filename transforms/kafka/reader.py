"""Read topics by exact offsets: what has arrived, and whole ranges again.

Offsets that no record has (of transactions, of aborted and compacted records) are passed over: where a range ends is
told by the consumer's position, never by the last record that came.
"""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import (
    KafkaError,
    LogTruncationError,
    OffsetOutOfRangeError,
    TopicAuthorizationFailedError,
)

from schemas.errors import RunError
from transforms.kafka import clients
from transforms.kafka.access import Access
from transforms.kafka.clients import BrokerAway, answering
from transforms.messages import Record
from transforms.stopping import stop_requested

Place = tuple[str, int]
"""A topic and the number of one of its partitions."""

Offsets = dict[Place, int]

ANSWER_MS = 5_000
"""How long a broker has to answer a question, in ms; the library's own limit is minutes."""

POLL_MS = 50
_FETCH_BYTES = 8 << 20


class Lost(Exception):
    """What was to be read is not there any more: `begins` tells where the log begins now."""

    def __init__(self, begins: Offsets) -> None:
        super().__init__(str(begins))
        self.begins = begins


@dataclass(frozen=True)
class Extent:
    """From where on, and up to where, partitions can be read now; the end is that of the last settled transaction."""

    begins: Offsets
    ends: Offsets


class Reader:
    """A consumer of partitions that are given to it, without a group; `positions` is where it goes on."""

    def __init__(self, servers: str, access: Access) -> None:
        self._servers, self._access = servers, access
        self._consumer = self._connected()
        self._assigned: set[Place] = set()

    def _connected(self) -> KafkaConsumer:
        return clients.consumer(self._servers, self._access, max_partition_fetch_bytes=_FETCH_BYTES)

    def close(self) -> None:
        """Let the broker go."""
        self._consumer.close()

    def go_to(self, positions: Mapping[Place, int]) -> None:
        """Read these partitions from these offsets on, and no others."""
        self._consumer.assign([TopicPartition(*place) for place in positions])
        for place, offset in positions.items():
            self._consumer.seek(TopicPartition(*place), offset)
        self._assigned = set(positions)

    @property
    def positions(self) -> Offsets:
        """The offset behind what was read, for each partition."""
        return {place: self._position(place) for place in sorted(self._assigned)}

    def poll(self, wait_ms: int, most: int) -> list[Record]:
        """Return at most `most` records that have arrived; raise `Lost` where they are gone, and `RunError`."""
        try:
            polled = self._consumer.poll(timeout_ms=wait_ms, max_records=most)
        except LogTruncationError as error:
            raise RunError(
                "the broker has lost records that were read (its log was cut at its end): what is committed stands; "
                f"start again with another --output to read what it has now ({error})"
            ) from None
        except OffsetOutOfRangeError as error:
            raise Lost(self.extent(self._assigned).begins) from error
        except TopicAuthorizationFailedError as error:
            raise RunError(f"not allowed to read {error.args}: give this user the right to read and describe") from None
        except KafkaError as error:
            raise BrokerAway(f"the broker does not answer ({type(error).__name__})") from None
        return [_record(each) for records in polled.values() for each in records]

    def read(self, starts: Offsets, ends: Offsets) -> Iterator[Record]:
        """Yield every record of the ranges, in the order of partitions; raise `Lost` or `BrokerAway`.

        On a request to stop they end early.
        """
        found: list[Record] = []
        due = {place: end for place, end in ends.items() if end > starts[place]}
        self.go_to({place: starts[place] for place in due})
        silent_since = time.monotonic()
        while due and not stop_requested():
            before = self.positions
            found += [each for each in self.poll(POLL_MS, 500) if each.offset < ends[each.topic, each.partition]]
            full = [place for place in due if self._position(place) >= due[place]]
            for place in full:
                del due[place]
            if full and due:
                # Fewer partitions, not paused ones: after pause and resume this client may stop fetching for good.
                self.go_to({place: self._position(place) for place in due})
            if full or before != self.positions:
                silent_since = time.monotonic()
            elif time.monotonic() - silent_since > ANSWER_MS / 1000:
                begins = self.extent(due).begins
                if any(begins[place] > starts[place] for place in due):
                    raise Lost(begins)
                silent_since = time.monotonic()
        yield from sorted(found, key=lambda each: (each.topic, each.partition, each.offset))

    def extent(self, places: Any) -> Extent:
        """Return where the partitions begin and end now; raise `BrokerAway`."""
        asked = [TopicPartition(*place) for place in sorted(places)]
        if not asked:
            return Extent({}, {})
        begins = _told(self._consumer.beginning_offsets, asked)
        ends = _told(self._consumer.end_offsets, asked)
        return Extent(
            {(at.topic, at.partition): offset for at, offset in begins.items()},
            {(at.topic, at.partition): offset for at, offset in ends.items()},
        )

    def at_time(self, places: Any, timestamp_ms: int) -> Offsets:
        """Return the offset of the first record of each partition that is not older; its end where all are."""
        ends = self.extent(places).ends  # first: of partitions that it does not know yet the library says nothing
        asked = {TopicPartition(*place): timestamp_ms for place in places}
        with answering():
            found = self._consumer.offsets_for_times(asked, timeout_ms=ANSWER_MS)
        return {
            (at.topic, at.partition): ends[at.topic, at.partition] if hit is None else hit.offset
            for at, hit in found.items()
        }

    def _position(self, place: Place) -> int:
        return int(self._consumer.position(TopicPartition(*place), timeout_ms=ANSWER_MS))


def _told(ask: Callable[..., Any], asked: list[TopicPartition]) -> dict[TopicPartition, int]:
    """Return the library's answer; raise `BrokerAway` where it has none in time.

    Of a partition that is new it raises KeyError, and asks the broker for its leader meanwhile.
    """
    deadline = time.monotonic() + ANSWER_MS / 1000
    while time.monotonic() < deadline:
        with answering(), contextlib.suppress(KeyError):
            return dict(ask(asked, timeout_ms=ANSWER_MS))
        time.sleep(POLL_MS / 1000)
    raise BrokerAway("the broker does not tell of all partitions")


def _record(found: Any) -> Record:
    return Record(
        topic=found.topic,
        partition=found.partition,
        offset=found.offset,
        timestamp_ms=found.timestamp if found.timestamp is not None and found.timestamp >= 0 else None,
        key=found.key,
        value=found.value,
        headers=tuple((name, value or b"") for name, value in found.headers),
    )
