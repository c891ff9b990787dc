"""Messages into a topic, each one's acknowledgement checked; a broker that is away is waited for.

At least once: a message whose acknowledgement was lost together with the producer is sent again.
"""

import contextlib
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from kafka.errors import KafkaError, MessageSizeTooLargeError

from pipelines.logs import log
from schemas.errors import RunError
from transforms.envelope import Envelope
from transforms.kafka import clients
from transforms.kafka.access import Access
from transforms.kafka.address import Address
from transforms.kafka.diagnosis import BrokerAway
from transforms.storage import printable

MOST_WAITING, MOST_WAITING_BYTES = 500, 32 * 2**20
"""What may be sent and not yet acknowledged: enough for 100 MB/s, little enough to be held while a broker is away."""

OVERHEAD_BYTES = 64 * 2**10
"""More than key, headers and frame of a message take beside its value."""

_SILENCE_S, _GRACE_S, _STEP_S = 10.0, 3.0, 0.1
_FIRST_WAIT_S, _LONGEST_WAIT_S = 1.0, 30.0
_TRIES = 3

# The client sends again by itself, in order and without doubles, for as long as this (24 days): an outage is no error.
_DELIVERY_MS = 2**31 - 1


class Seldom:
    """Logs a warning at most once a minute; what comes in between is counted, by what it is about."""

    def __init__(self, every_s: float = 60.0) -> None:
        self._every_s = every_s
        self._last: dict[str, tuple[float, int]] = {}

    def __call__(self, text: str, about: str = "") -> None:
        """Log the text, or count it."""
        last, kept = self._last.get(about, (float("-inf"), 0))
        if time.monotonic() - last < self._every_s:
            self._last[about] = last, kept + 1
            return
        log.warning("%s%s", text, f" ({kept} times more since it was last said)" if kept else "")
        self._last[about] = time.monotonic(), 0


@dataclass
class Tally:
    """What became of the messages; `bytes` are those of their values."""

    sent: int = 0
    bytes: int = 0
    not_sent: int = 0
    dropped: int = 0
    started: float = field(default_factory=time.monotonic)

    def told(self) -> str:
        """Return the counts for a person."""
        seconds = max(time.monotonic() - self.started, 1e-9)
        return (
            f"{self.sent:,} messages, {self.bytes:,} bytes in {seconds:.1f} s "
            f"({self.sent / seconds:,.1f} messages/s); {self.dropped:,} dropped, {self.not_sent:,} not sent"
        )


@dataclass
class _Waiting:
    name: str
    envelope: Envelope
    future: Any


class Feed:
    """Sends messages to one topic in the order in which they come, many of them under way at once."""

    def __init__(
        self, address: Address, access: Access, stopped: Callable[[], bool], tally: Tally, largest_bytes: int
    ) -> None:
        """Connect; `stopped` ends every waiting."""
        self._address, self._access = address, access
        self._topic = address.one_topic
        self._stopped, self._tally, self._largest_bytes = stopped, tally, largest_bytes
        self._seldom = Seldom()
        self._waiting: deque[_Waiting] = deque()
        self._waiting_bytes = 0
        self._producer: Any = self._connected()

    def send(self, name: str, envelope: Envelope) -> None:
        """Send a message; wait where too many are under way. `name` is what its failure is told by."""
        if len(envelope.value) > self._largest_bytes:
            size = len(envelope.value)
            self.refuse(name, f"its {size:,} bytes are over the limit of {self._largest_bytes:,} (--max-message-bytes)")
            return
        self._waiting.append(_Waiting(name, envelope, self._post(envelope)))
        self._waiting_bytes += len(envelope.value)
        while self._waiting and (self._is_full() or self._waiting[0].future.is_done):
            if not self._take():
                return

    def refuse(self, name: str, why: str) -> None:
        """Count a message that is not sent, and say why."""
        log.warning("%s: not sent: %s", printable(name), why)
        self._tally.not_sent += 1

    def close(self) -> None:
        """Wait for what is under way, for seconds only if a stop was asked for; tell what nobody acknowledged."""
        while self._waiting and self._take():
            pass
        if self._waiting:
            log.warning("%d messages were sent but not acknowledged: they may have come or not", len(self._waiting))
            self._tally.not_sent += len(self._waiting)
        clients.drop(self._producer)

    def _is_full(self) -> bool:
        return len(self._waiting) >= MOST_WAITING or self._waiting_bytes >= MOST_WAITING_BYTES

    def _take(self) -> bool:
        """Settle the oldest message; return False where a stop was asked for and it is not settled."""
        oldest = self._waiting[0]
        if not self._settled(oldest.future):
            return False
        if oldest.future.exception is not None:
            return self._mend()
        self._waiting.popleft()
        self._count(oldest.envelope)
        self._waiting_bytes -= len(oldest.envelope.value)
        return True

    def _count(self, envelope: Envelope) -> None:
        self._tally.sent += 1
        self._tally.bytes += len(envelope.value)

    def _settled(self, future: Any) -> bool:
        """Wait until a message is acknowledged or refused; return False where a stop came first."""
        since, patience = time.monotonic(), None
        while not future.is_done:
            with contextlib.suppress(KafkaError):
                future.get(timeout=_STEP_S)
            now = time.monotonic()
            if self._stopped():
                patience = patience or now + _GRACE_S
                if now > patience:
                    return bool(future.is_done)
            if now - since > _SILENCE_S:
                self._seldom(
                    f"{self._address.servers} does not acknowledge: waiting for it ({len(self._waiting)} under way)"
                )
        return True

    def _mend(self) -> bool:
        """Send again, one by one, what a dead producer did not get through; return False where a stop came first.

        One message that is too large kills the client's producer, which then says the same of every later one: only
        alone does a message tell whether it is to blame.
        """
        if not all(self._settled(each.future) for each in self._waiting):
            return False
        for each in self._waiting:
            if each.future.exception is None:
                self._count(each.envelope)
        self._waiting = deque(each for each in self._waiting if each.future.exception is not None)
        self._waiting_bytes = sum(len(each.envelope.value) for each in self._waiting)
        self._renew()
        while self._waiting:
            each = self._waiting[0]
            if not self._send_alone(each):
                return False
            self._waiting.popleft()
            self._waiting_bytes -= len(each.envelope.value)
        return True

    def _send_alone(self, each: _Waiting) -> bool:
        for attempt in range(1, _TRIES + 1):
            each.future = self._post(each.envelope)
            if not self._settled(each.future):
                return False
            error = each.future.exception
            if error is None:
                self._count(each.envelope)
                return True
            self._renew()
            if isinstance(error, MessageSizeTooLargeError):
                size = len(each.envelope.value)
                self.refuse(
                    each.name, f"its {size:,} bytes are more than the topic {self._topic} takes (max.message.bytes)"
                )
                return True
            if attempt == _TRIES:
                self._waiting.clear()
                raise RunError(f"the topic {self._topic} takes no messages: {type(error).__name__}: {error}")
        return True

    def _post(self, envelope: Envelope) -> Any:
        """Hand a message to the producer; return its future, a failed one where the producer will not have it."""
        while True:
            try:
                return self._producer.send(
                    self._topic, value=envelope.value, key=envelope.key, headers=list(envelope.headers)
                )
            except KafkaError as error:
                if not error.retriable or self._stopped():
                    return _Failed(error)
                self._seldom(f"{self._address.servers} does not answer: waiting for it")

    def _renew(self) -> None:
        clients.drop(self._producer)
        self._producer = self._connected()

    def _connected(self) -> Any:
        wait_s = _FIRST_WAIT_S
        while True:
            try:
                clients.require_broker(self._address.servers, self._access)
                return clients.producer(
                    self._address.servers,
                    self._access,
                    acks="all",
                    delivery_timeout_ms=_DELIVERY_MS,
                    max_request_size=self._largest_bytes + OVERHEAD_BYTES,
                    max_block_ms=2000,
                    bootstrap_timeout_ms=3000,
                    linger_ms=5,
                )
            except BrokerAway as error:
                if self._stopped():
                    raise RunError(f"stopped: {error}") from None
                self._seldom(f"waiting for the broker: {error}")
            sleep(wait_s, self._stopped)
            wait_s = min(2 * wait_s, _LONGEST_WAIT_S)


@dataclass(frozen=True)
class _Failed:
    """A future of a message that was never handed over."""

    exception: KafkaError
    is_done: bool = True


def sleep(seconds: float, stopped: Callable[[], bool]) -> None:
    """Sleep, but not past a request to stop."""
    until = time.monotonic() + seconds
    while not stopped() and (left := until - time.monotonic()) > 0:
        time.sleep(min(_STEP_S, left))


def require_topic(
    servers: str, access: Access, topic: str, partitions: int, configs: dict[str, str] | None = None
) -> None:
    """Make the topic if it is not there, and say so. Raises RunError where the broker does not let us."""
    admin = clients.admin(servers, access)
    try:
        if clients.make_topic(admin, topic, partitions, configs or {}):
            log.info("made the topic %s with %d partitions", topic, partitions)
    finally:
        admin.close()
