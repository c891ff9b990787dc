"""What an epoch tells Kafka: one transaction with its results and a marker, exactly once.

The manifest comes first. A compacted ledger topic keeps the number of the last epoch that is in Kafka; what the
manifests have beyond it is sent again from the data set's own rows. Results and marker become visible together.
"""

import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from kafka import KafkaProducer
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.errors import KafkaError, KafkaTimeoutError, MessageSizeTooLargeError

from pipelines.logs import log
from schemas.errors import RunError
from transforms.kafka import clients
from transforms.kafka.access import Access
from transforms.kafka.clients import BrokerAway
from transforms.kafka.reader import Reader
from transforms.stopping import stop_requested, wait_for_stop

LEDGER = "labelstream-ledger"
"""The topic with one marker a data set: its key is the data set's id, its value the last epoch that is in Kafka."""

COMMIT_SECONDS = 30.0
"""How long a commit may take. The client library waits for ever where the broker died just before it."""

_AT = (LEDGER, 0)
_LOOK_BACK = 64
TRANSACTION_MS = 60_000
_TELL_SECONDS = 60.0
OUTPUT_PARTITIONS = 2
_ROOM = 1024  # what a record takes beside key, value and headers, generously


@dataclass(frozen=True)
class Letter:
    """One message to send."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]

    @property
    def size(self) -> int:
        """About how many bytes it has as a record."""
        told = sum(len(name) + len(value) for name, value in self.headers)
        return len(self.key or b"") + len(self.value or b"") + told + _ROOM


class Tell(Protocol):
    """Hears whether the broker answers."""

    def __call__(self, *, answers: bool) -> None: ...


class Outbox:
    """A transactional producer that survives its broker and gives way to a run that took over."""

    def __init__(
        self,
        servers: str,
        access: Access,
        name: str,
        topics: Iterable[str],
        require_ours: Callable[[], None],
        tell: Tell,
    ) -> None:
        """`name` is the data set's id; `require_ours` raises RunError where another run has taken the data set over.

        `tell` hears whether the broker answers.
        """
        self.servers, self.access, self.name = servers, access, name
        self.require_ours = require_ours
        self.tell = tell
        self.producer: KafkaProducer | None = None
        self.last = 0
        self.limits: dict[str, int] = {}
        self._patiently(lambda: self._prepare(list(topics)))
        self._patiently(self._open)

    def publish(self, epoch: int, letters: Callable[[], Iterable[Letter]]) -> None:
        """Bring an epoch into Kafka unless it is there; wait for the broker. A request to stop leaves it owed.

        Raises RunError where another run has taken over.
        """
        self._patiently(lambda: self._publish(epoch, letters))

    def close(self) -> None:
        """Let the broker go; what is not committed never happened."""
        if self.producer is not None:
            producer, self.producer = self.producer, None
            clients.drop(producer)

    def fits(self, letter: Letter) -> bool:
        """Tell whether the letter's topic takes a message of its size."""
        return letter.size <= self.limits[letter.topic]

    def _publish(self, epoch: int, letters: Callable[[], Iterable[Letter]]) -> None:
        if self.producer is None:
            self._open()
        if epoch <= self.last:
            return
        assert self.producer is not None
        self._send(self.producer, epoch, letters())
        self.last = epoch

    def _send(self, producer: KafkaProducer, epoch: int, letters: Iterable[Letter]) -> None:
        producer.begin_transaction()
        sent = [
            (letter, producer.send(letter.topic, key=letter.key, value=letter.value, headers=list(letter.headers)))
            for letter in letters
        ]
        marker = json.dumps({"epoch": epoch}).encode()
        sent.append(
            (
                Letter(LEDGER, None, None, ()),
                producer.send(LEDGER, key=self.name.encode(), value=marker, partition=0),
            )
        )
        _flush(producer)
        for letter, future in sent:
            try:
                # A commit may "succeed" without a record whose sending failed, so each is looked at.
                future.get(timeout=COMMIT_SECONDS)
            except MessageSizeTooLargeError:
                raise RunError(
                    f"the topic {letter.topic} does not take a message of {letter.size:,} bytes: raise its "
                    "max.message.bytes and start again; what is committed stands"
                ) from None
        clients.within(COMMIT_SECONDS, producer.commit_transaction)

    def _open(self) -> None:
        """Fence whoever held the data set before, let the broker settle what they left, and see what is in Kafka."""
        self.close()
        self.require_ours()
        producer = clients.producer(
            self.servers,
            self.access,
            transactional_id=f"labelstream-{self.name}",
            transaction_timeout_ms=TRANSACTION_MS,
        )
        try:
            clients.within(COMMIT_SECONDS, producer.init_transactions)
            self.last = self._marker()
        except BaseException:
            clients.drop(producer)
            raise
        self.producer = producer

    def _marker(self) -> int:
        reader = Reader(self.servers, self.access)
        try:
            return last_published(reader, self.name) or 0
        finally:
            reader.close()

    def _patiently(self, do: Callable[[], None]) -> None:
        told_at, pause = 0.0, 0.25
        while not stop_requested():
            try:
                do()
            except (KafkaError, BrokerAway) as error:
                self.tell(answers=False)
                self.close()
                self.require_ours()
                if time.monotonic() - told_at > _TELL_SECONDS:
                    log.warning("results wait for Kafka at %s: %s", self.servers, type(error).__name__)
                    told_at = time.monotonic()
                wait_for_stop(pause)
                pause = min(2 * pause, 5.0)
            else:
                self.tell(answers=True)
                return

    def _prepare(self, topics: list[str]) -> None:
        """Make the topics that are not there; learn how large a message each takes, in bytes."""
        admin = clients.admin(self.servers, self.access)
        try:
            for topic in topics:
                if clients.make_topic(admin, topic, OUTPUT_PARTITIONS, {}):
                    log.info("made the topic %s", topic)
            clients.make_topic(admin, LEDGER, 1, {"cleanup.policy": "compact"})
            limits = {topic: _limit(admin, topic) for topic in [*topics, LEDGER]}
            self.limits = {topic: min(limit, clients.MAX_MESSAGE_BYTES) for topic, limit in limits.items()}
        finally:
            admin.close()


def _flush(producer: KafkaProducer) -> None:
    """Wait until all is sent; a request to stop is not kept waiting: what is not committed stays owed."""
    deadline = time.monotonic() + COMMIT_SECONDS
    while True:
        try:
            producer.flush(1.0)
            return
        except KafkaTimeoutError:
            if stop_requested() or time.monotonic() > deadline:
                raise


def last_published(reader: Reader, name: str) -> int | None:
    """Return the last epoch of the data set `name` that is in Kafka, by the ledger, which is read backwards."""
    extent = reader.extent([_AT])
    begin, end, window = extent.begins[_AT], extent.ends[_AT], _LOOK_BACK
    while True:
        start = max(begin, end - window)
        records = reader.read({_AT: start}, {_AT: end})
        mine = [record for record in records if record.key == name.encode() and record.value]
        if mine:
            return int(json.loads(mine[-1].value or b"")["epoch"])
        if start == begin:
            return None
        window *= 16


def _limit(admin: Any, topic: str) -> int:
    """Return the largest message that the topic takes, in bytes."""
    kind = ConfigResourceType.TOPIC
    told = admin.describe_configs([ConfigResource(kind, topic)], config_filter="all")
    [settings] = [each[topic] for each in told.values()]
    return int(settings["max.message.bytes"]["value"])
