"""Dead letters brought back to the topic that they were meant for: each one once, over any number of runs.

What was brought back is remembered in a compacted topic beside the target, written in the same transaction as the
messages. It is kept for each kind of error, and for all: a letter has been brought back if it lies before its error's
position or before that of all.
"""

import contextlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from kafka.errors import (
    InvalidProducerEpochError,
    KafkaError,
    MessageSizeTooLargeError,
    ProducerFencedError,
)

from pipelines.feeding import Seldom, require_topic, sleep
from schemas.errors import RunError, UsageError
from schemas.messages import DEAD_ERROR
from transforms.envelope import brought_back, header
from transforms.kafka import clients
from transforms.kafka.access import Access
from transforms.kafka.address import Address
from transforms.kafka.diagnosis import BrokerAway
from transforms.kafka.reader import Lost, Offsets, Place, Reader
from transforms.messages import Record

REMEMBERED = "-replayed"
"""What the topic that remembers is called: this behind the target's name."""

ALL = ""
"""The error under which the position of all errors is kept."""

_MOST_LETTERS = 500
_TRANSACTION_S = 60
_POLL_MS = 50
_FIRST_WAIT_S, _LONGEST_WAIT_S = 1.0, 30.0
_LARGEST_BYTES = 2**30  # they were in Kafka before
_FENCED = "ProducerFenced"


@dataclass
class Replayed:
    """What a replay did; `done` once all letters that were there at its beginning were looked at.

    `bare` letters have no value: what they were is no longer in Kafka, or was too large for a letter.
    """

    sent: int = 0
    passed_over: int = 0
    bare: int = 0
    done: bool = False
    started: float = field(default_factory=time.monotonic)

    def told(self) -> str:
        """Return the counts for a person."""
        seconds = time.monotonic() - self.started
        end = "" if self.done else "; stopped before the end: run it again to go on"
        bare = f" ({self.bare:,} have no value: see their labelstream-source)" if self.bare else ""
        return (
            f"{self.sent:,} dead letters brought back, {self.passed_over:,} passed over{bare}, in {seconds:.1f} s{end}"
        )


@dataclass(frozen=True)
class Memory:
    """How far letters have been brought back: an offset for each error, ALL among them, and partition."""

    positions: dict[tuple[str, int], int]

    def begins(self, partition: int, error: str) -> int:
        """Return the first offset that a replay of this error, or of ALL, has to look at."""
        return max(self.positions.get((ALL, partition), 0), self.positions.get((error, partition), 0))

    def is_due(self, offset: int, partition: int, error: str) -> bool:
        """Tell whether a letter has not been brought back yet."""
        return offset >= self.begins(partition, error)


def replay(
    dead: Address, target: Address, access: Access, error: str | None, partitions: int, stopped: Callable[[], bool]
) -> Replayed:
    """Bring back what is in the dead letters' topic now; `error` chooses one kind. Raises UsageError, RunError."""
    topic = dead.one_topic
    if (dead.servers, topic) == (target.servers, target.one_topic):
        raise UsageError(f"--replay and --to both name {topic}: dead letters would be dead letters again")
    for servers in dict.fromkeys((dead.servers, target.servers)):
        clients.require_broker(servers, access)
    with contextlib.closing(clients.admin(dead.servers, access)) as admin:
        topic_id = clients.require_topics(admin, [topic])[topic]
        numbers = [each["partition_index"] for each in admin.describe_topics([topic])[0]["partitions"]]
    require_topic(target.servers, access, target.one_topic, partitions)
    require_topic(target.servers, access, target.one_topic + REMEMBERED, 1, {"cleanup.policy": "compact"})
    job = _Job(target, access, topic, topic_id, error or ALL, stopped)
    return job.run(dead.servers, [(topic, number) for number in sorted(numbers)])


class _Job:
    def __init__(
        self, target: Address, access: Access, topic: str, topic_id: str, error: str, stopped: Callable[[], bool]
    ) -> None:
        self._target, self._access, self._error, self._stopped = target, access, error, stopped
        self._topic, self._topic_id = topic, topic_id
        self._ends: Offsets = {}
        self._replayed = Replayed()

    def run(self, servers: str, places: Sequence[Place]) -> Replayed:
        seldom, wait_s = Seldom(), _FIRST_WAIT_S
        while not self._stopped() and not self._replayed.done:
            before = self._replayed.sent
            try:
                self._try(servers, places)
            except (KafkaError, BrokerAway) as error:
                _require_mendable(error, self._target.one_topic)
                wait_s = _FIRST_WAIT_S if self._replayed.sent > before else wait_s
                seldom(f"waiting for the broker: {error if isinstance(error, BrokerAway) else type(error).__name__}")
                sleep(wait_s, self._stopped)
                wait_s = min(2 * wait_s, _LONGEST_WAIT_S)
            except Lost:
                continue  # letters that the topic has let go meanwhile: those that are left are looked at anew
        return self._replayed

    def _try(self, servers: str, places: Sequence[Place]) -> None:
        """Go on from what is remembered; after any error this is begun anew, with other clients."""
        for each in dict.fromkeys((servers, self._target.servers)):
            clients.require_broker(each, self._access)  # a client that finds none would leave a thread behind
        with contextlib.ExitStack() as opened:
            producer = self._producer()
            opened.callback(clients.drop, producer)
            reader = Reader(servers, self._access)
            opened.callback(reader.close)
            memory = self._memory()
            extent = reader.extent(places)
            self._ends = self._ends or extent.ends  # what comes while we read is for the next replay
            starts = {at: max(memory.begins(at[1], self._error), extent.begins[at]) for at in places}
            due = {at for at in places if starts[at] < self._ends[at]}
            reader.go_to({at: starts[at] for at in due})
            behind = dict(starts)
            while due and not self._stopped():
                records = reader.poll(_POLL_MS, _MOST_LETTERS)
                now = {at: min(offset, self._ends[at]) for at, offset in reader.positions.items()}
                if any(now[at] > behind[at] for at in due):
                    chosen = [
                        record for record in records if record.offset < self._ends[record.topic, record.partition]
                    ]
                    self._bring(producer, chosen, memory, {at: now[at] for at in due if now[at] > behind[at]})
                    behind |= now
                full = {at for at in due if now[at] >= self._ends[at]}
                if full:
                    due -= full
                    reader.go_to({at: now[at] for at in due})
            self._replayed.done = not due

    def _bring(self, producer: Any, records: Sequence[Record], memory: Memory, reached: Offsets) -> None:
        """Send what is due of the records, and how far we are, in one transaction."""
        chosen = [record for record in records if self._is_due(record, memory)]
        due = [(record, record.value) for record in chosen if record.value is not None]
        producer.begin_transaction()
        sent = []
        for record, value in due:
            envelope = brought_back(record.key, value, record.headers)
            sent.append(
                producer.send(self._target.one_topic, envelope.value, key=envelope.key, headers=list(envelope.headers))
            )
        for (_, partition), offset in reached.items():
            key = _key(self._topic_id, partition, self._error)
            value = json.dumps({"topic": self._topic, "position": offset}).encode()
            sent.append(producer.send(self._target.one_topic + REMEMBERED, value, key=key, partition=0))
        for future in sent:  # a commit may seem to succeed without what failed here
            future.get(timeout=_TRANSACTION_S)
        clients.within(_TRANSACTION_S, producer.commit_transaction)
        self._replayed.sent += len(due)
        self._replayed.passed_over += len(records) - len(due)
        self._replayed.bare += len(chosen) - len(due)

    def _is_due(self, record: Record, memory: Memory) -> bool:
        told = header(record.headers, DEAD_ERROR) or ALL
        if self._error not in (ALL, told):
            return False
        return memory.is_due(record.offset, record.partition, told)

    def _producer(self) -> Any:
        """Return a producer that has stopped every other one of this replay, and settled what it had begun."""
        made = clients.producer(
            self._target.servers,
            self._access,
            # Not the error: two replays of one topic at once would not see what the other one does.
            transactional_id=f"labelstream-replay-{self._topic_id}-{self._target.one_topic}",
            transaction_timeout_ms=_TRANSACTION_S * 1000,
            max_request_size=_LARGEST_BYTES,
        )
        clients.within(_TRANSACTION_S, made.init_transactions)
        return made

    def _memory(self) -> Memory:
        place = (self._target.one_topic + REMEMBERED, 0)
        reader = Reader(self._target.servers, self._access)
        try:
            extent = reader.extent([place])
            told = list(reader.read(extent.begins, extent.ends))
        finally:
            reader.close()
        found: dict[tuple[str, int], int] = {}
        for record in told:
            key = json.loads(record.key or b"{}")
            if key.get("topic_id") == self._topic_id:
                found[key["error"], key["partition"]] = json.loads(record.value or b"{}")["position"]
        return Memory(found)


def _key(topic_id: str, partition: int, error: str) -> bytes:
    # The topic's id, not its name: one that was deleted and made anew begins at offset 0 again.
    return json.dumps({"topic_id": topic_id, "partition": partition, "error": error}, sort_keys=True).encode()


def _require_mendable(error: Exception, target: str) -> None:
    """Raise RunError for an error that another try would only repeat."""
    if isinstance(error, MessageSizeTooLargeError):
        raise RunError(
            f"a dead letter is larger than the topic {target} takes: raise its max.message.bytes, then replay again"
        ) from None
    # Only the first call that fails has the type; later ones have its name in their text.
    if isinstance(error, ProducerFencedError | InvalidProducerEpochError) or _FENCED in str(error):
        raise RunError("another replay of the same letters has begun: this one stops, nothing is sent twice") from None
    if isinstance(error, KafkaError) and not error.retriable:
        raise RunError(f"the letters cannot be brought back: {type(error).__name__}: {error}") from None
