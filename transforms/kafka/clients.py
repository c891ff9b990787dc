"""Kafka's clients with the settings that this project needs, and why a broker cannot be used."""

import contextlib
import difflib
import logging
import threading
from collections.abc import Callable, Collection, Iterator
from typing import Any

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer
from kafka.errors import BrokerResponseError, KafkaError, KafkaTimeoutError, TopicAlreadyExistsError
from kafka.net.compat import KafkaNetClient

from schemas.errors import RunError, UsageError
from transforms.kafka.access import Access
from transforms.kafka.diagnosis import TIMEOUT_S, examine
from transforms.kafka.diagnosis import BrokerAway as BrokerAway

MAX_MESSAGE_BYTES = 10 << 20
"""What the producer sends at most; the topic's max.message.bytes must allow it too."""

_BOOTSTRAP_MS = 10_000
_SHOWN_TOPICS = 20


class _Client(KafkaNetClient):
    """The connections of a client that never makes a topic by asking for it.

    kafka-python 3.0.12 takes allow_auto_create_topics and passes it on to nobody.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.cluster.config["allow_auto_create_topics"] = False


def quiet() -> None:
    """Silence the client library's own log: hundreds of lines an outage, each of which we say in one."""
    logging.getLogger("kafka").setLevel(logging.CRITICAL)


def require_broker(servers: str, access: Access, timeout_s: float = TIMEOUT_S) -> None:
    """Return if one of the servers takes us. It leaves no thread behind and may be asked again and again.

    Raises UsageError (what to correct) or BrokerAway (what may pass), with a reason for each server.
    """
    errors: list[UsageError | BrokerAway] = []
    for server in servers.split(","):
        try:
            return examine(server, access, timeout_s)
        except (UsageError, BrokerAway) as error:
            errors.append(error)
    kind = UsageError if any(isinstance(error, UsageError) for error in errors) else BrokerAway
    raise kind("\n".join(map(str, errors)))


def consumer(servers: str, access: Access, **more: Any) -> KafkaConsumer:
    """Return a consumer of exact ranges: no group, committed messages alone, an error where an offset is gone."""
    settings = {
        "group_id": None,
        "enable_auto_commit": False,
        "auto_offset_reset": "none",
        "isolation_level": "read_committed",
        "fetch_max_wait_ms": 100,
    }
    return _client(KafkaConsumer, servers, access, settings | more)


def producer(servers: str, access: Access, transactional_id: str | None = None, **more: Any) -> KafkaProducer:
    """Return a producer whose messages arrive once and in order; `init_transactions` is the caller's."""
    settings = {
        "transactional_id": transactional_id,
        "max_request_size": MAX_MESSAGE_BYTES,
        "linger_ms": 5,
    }
    return _client(KafkaProducer, servers, access, settings | more)


def admin(servers: str, access: Access, **more: Any) -> KafkaAdminClient:
    # 30 s by default, for which an outage would go unnoticed.
    return _client(KafkaAdminClient, servers, access, {"request_timeout_ms": 5_000} | more)


def require_topics(admin: KafkaAdminClient, names: Collection[str]) -> dict[str, str]:
    """Return the id of each topic; one that was deleted and made anew has another. Raises UsageError, RunError."""
    try:
        there = {
            topic["name"]: topic["topic_id"] for topic in admin.describe_topics(list(names)) if not topic["error_code"]
        }
        absent = [name for name in names if name not in there]
        others = sorted(name for name in admin.list_topics() if not name.startswith("__")) if absent else []
    except KafkaError as error:
        raise BrokerAway(f"Kafka did not say which topics it has ({type(error).__name__})") from None
    if absent:
        nearest = difflib.get_close_matches(absent[0], others, n=_SHOWN_TOPICS, cutoff=0.0)
        shown = ", ".join(nearest) + (", ..." if len(others) > len(nearest) else "")
        raise UsageError(
            f"the topic {', '.join(map(repr, absent))} is not there. It has: {shown or 'no topic'}. Create it with "
            f"Kafka's own tool: kafka-topics.sh --bootstrap-server HOST:PORT --create --topic {absent[0]} "
            f"--partitions 2; on a broker of make kafka: python deploy/kafka/broker.py start --topics {absent[0]}:2"
        )
    return {name: there[name] for name in names}


def make_topic(admin: KafkaAdminClient, topic: str, partitions: int, configs: dict[str, str]) -> bool:
    """Make the topic unless it is there; say whether it was made. Raises BrokerAway, and RunError if it may not be."""
    try:
        if topic in admin.list_topics():
            return False
        admin.create_topics({topic: {"num_partitions": partitions, "configs": configs}}, wait_for_metadata=True)
    except TopicAlreadyExistsError:
        return False
    except BrokerResponseError as error:
        if error.retriable:
            raise BrokerAway(f"the topic {topic} could not be made yet ({type(error).__name__})") from None
        raise RunError(f"the topic {topic} cannot be made: {type(error).__name__}: {error}; make it yourself") from None
    except KafkaError as error:
        raise BrokerAway(f"the topic {topic} could not be made yet ({type(error).__name__})") from None
    return True


@contextlib.contextmanager
def answering() -> Iterator[None]:
    """Turn every error of the client library into BrokerAway."""
    try:
        yield
    except KafkaError as error:
        raise BrokerAway(f"the broker does not answer ({type(error).__name__})") from None


def within(seconds: float, call: Callable[[], Any]) -> None:
    """Make a call that has no time-out of its own; raise what it raises, and BrokerAway where it takes too long."""
    raised: list[BaseException] = []

    def work() -> None:
        try:
            call()
        except BaseException as error:  # noqa: BLE001  it is raised again by the thread that waits
            raised.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(seconds)
    if raised:
        raise raised[0]
    if thread.is_alive():
        raise BrokerAway(f"Kafka gave no answer within {seconds:.0f} s")


def drop(producer: KafkaProducer) -> None:
    """Close a producer, and give up what it still holds."""
    try:
        producer.close(timeout=1)
    except KafkaError:
        # With messages under way it does not close, and says so again at the end of the process: they go first.
        producer._sender.force_close()
        with contextlib.suppress(KafkaError):
            producer.close(timeout=1)


def _client(make: Any, servers: str, access: Access, settings: dict[str, Any]) -> Any:
    quiet()
    ours = {
        "bootstrap_servers": servers.split(","),
        "client_id": "labelstream",
        "kafka_client": _Client,
        "bootstrap_timeout_ms": _BOOTSTRAP_MS,
        # 30 s by default: after an outage the run would idle.
        "reconnect_backoff_max_ms": 1000,
    }
    try:
        return make(**ours | access.options() | settings)
    except KafkaTimeoutError:
        raise BrokerAway(f"Kafka at {servers} did not answer within {_BOOTSTRAP_MS // 1000} s") from None
