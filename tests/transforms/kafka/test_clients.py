"""Kafka's clients against a real broker: each cause of trouble has its sentence, and TLS and passwords work."""

import gc
import http.server
import logging
import socket
import subprocess
import threading
import time
import traceback
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from kafka import TopicPartition
from kafka.errors import KafkaTimeoutError, OffsetOutOfRangeError

from schemas.errors import RunError, UsageError
from tests.brokers import Broker
from tests.extras import program
from transforms.kafka.access import Access, read_access
from transforms.kafka.clients import BrokerAway, admin, consumer, producer, require_broker, require_topics

OPEN = Access()
SHORT_S = 1.0


def trouble(servers: str, access: Access = OPEN, timeout_s: float = SHORT_S) -> UsageError | RunError:
    """Return why a broker cannot be used; it must be told in time, in short, and without the password."""
    began = time.monotonic()
    with pytest.raises((UsageError, BrokerAway)) as caught:
        require_broker(servers, access, timeout_s)
    assert time.monotonic() - began < timeout_s + 1
    assert len(str(caught.value)) < 500
    told = "".join(traceback.format_exception(caught.value))
    assert not access.password or access.password not in told
    return caught.value


class _Quiet(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Keep the tests' output clean."""


@pytest.fixture(scope="module")
def silent() -> Iterator[str]:
    """A program that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture(scope="module")
def website() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Quiet) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()


def answering(reply: bytes) -> socket.socket:
    """Return a listener that says `reply` to everyone and closes."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                with listener.accept()[0] as sock:
                    sock.sendall(reply)
                    sock.recv(100)
            except OSError:
                return

    threading.Thread(target=serve, daemon=True).start()
    return listener


def address_of(listener: socket.socket) -> str:
    return f"127.0.0.1:{listener.getsockname()[1]}"


# ---- why it cannot be reached


def test_a_broker_that_takes_us_is_no_trouble(broker: Broker) -> None:
    """Without TLS, and with each way of signing in."""
    require_broker(broker.address, OPEN)
    require_broker(broker.sasl_address, broker.access("PLAIN"))
    require_broker(broker.sasl_address, broker.access("SCRAM-SHA-512"))


def test_one_server_of_several_is_enough(broker: Broker) -> None:
    """As it is for the clients; of several that fail each has its line."""
    require_broker(f"kafka.invalid:9092,{broker.address}", OPEN)
    told = trouble("kafka.invalid:9092,127.0.0.1:1")
    assert "no host" in str(told)
    assert "nothing listens" in str(told)
    assert isinstance(told, UsageError)


def test_a_host_that_does_not_exist_is_told() -> None:
    """Or, where no name server answers, that it could not be looked up."""
    told = str(trouble("kafka.invalid:9092"))
    assert "'kafka.invalid'" in told
    assert "there is no host" in told or "cannot be looked up" in told


def test_a_closed_port_is_told() -> None:
    """It may be open later: a running job waits for it."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        told = trouble(address_of(bound))
    assert isinstance(told, BrokerAway)
    assert "nothing listens" in str(told)


@pytest.mark.parametrize("tls", [False, True])
def test_a_program_that_says_nothing_is_told(silent: str, tls: bool) -> None:
    """Within the time, whether it is asked with TLS or without."""
    told = trouble(silent, Access("SSL") if tls else OPEN)
    assert isinstance(told, BrokerAway)
    assert "does not answer within 1 s" in str(told)


def test_a_web_server_is_told(website: str) -> None:
    """It waits for a line that Kafka's questions do not have."""
    told = trouble(website)
    assert isinstance(told, UsageError)
    assert "not Kafka but a web server" in str(told)


@pytest.mark.parametrize("reply", [b"SSH-2.0-OpenSSH_9.2p1\r\n", b"\x00\x00\x00\x04\x00\x00\x00\x12", b"\xff" * 5])
def test_another_program_is_told(reply: bytes) -> None:
    """By what it says: a banner, an answer with nothing in it, half an answer."""
    with answering(reply) as listener:
        told = trouble(address_of(listener))
    assert "not Kafka but another program" in str(told)


def test_a_program_that_hangs_up_is_told() -> None:
    """Nobody knows what it is."""
    with answering(b"") as listener:
        told = trouble(address_of(listener))
    assert "closes the connection without a word" in str(told) or "broke" in str(told)


@pytest.mark.parametrize("protocol", ["PLAINTEXT", "SASL_PLAINTEXT"])
def test_a_port_with_tls_asked_without_is_told(broker: Broker, protocol: str) -> None:
    """With the setting that it wants."""
    access = OPEN if protocol == "PLAINTEXT" else replace(broker.access(), protocol=protocol, ca="")
    told = str(trouble(broker.sasl_address, access))
    assert "speaks TLS" in told
    assert "set security.protocol=S" in told


@pytest.mark.parametrize(("protocol", "instead"), [("SSL", "PLAINTEXT"), ("SASL_SSL", "SASL_PLAINTEXT")])
def test_a_port_without_tls_asked_with_it_is_told(broker: Broker, protocol: str, instead: str) -> None:
    """With both ways out: another port, another setting."""
    access = replace(broker.access(), protocol=protocol)
    told = str(trouble(broker.address, access))
    assert "speaks without TLS" in told
    assert f"security.protocol={instead}" in told


def test_a_port_that_is_not_kafka_asked_with_tls_is_told(website: str) -> None:
    """A handshake fails in many ways; the reason is passed on."""
    assert "agree on no TLS connection" in str(trouble(website, Access("SSL")))


def test_a_certificate_that_is_not_trusted_is_told(broker: Broker) -> None:
    """Where this machine's own list of authorities is asked."""
    told = str(trouble(broker.sasl_address, replace(broker.access(), ca="")))
    assert "not trusted" in told
    assert "ssl.ca.location" in told


def test_a_certificate_for_another_name_is_told_and_may_be_allowed(broker: Broker) -> None:
    """127.1 is the same machine by a name that the certificate does not have."""
    elsewhere = broker.sasl_address.replace("127.0.0.1", "127.1")
    told = str(trouble(elsewhere, broker.access()))
    assert "is for another name" in told
    require_broker(elsewhere, replace(broker.access(), check_host=False))


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-512"])
def test_a_wrong_password_is_told_and_not_repeated(broker: Broker, mechanism: str) -> None:
    """The user is named, so that the right line is corrected."""
    told = trouble(broker.sasl_address, broker.access(mechanism, password="hush-but-wrong"))
    assert isinstance(told, UsageError)
    assert "does not know the user 'alice' with this password" in str(told)


def test_an_unknown_user_is_told_as_a_wrong_password_is(broker: Broker) -> None:
    """A broker does not say which of the two it is."""
    assert "the user 'bob'" in str(trouble(broker.sasl_address, replace(broker.access(), username="bob")))


def test_a_way_of_signing_in_that_is_not_offered_is_told(broker: Broker) -> None:
    """With those that are."""
    told = str(trouble(broker.sasl_address, broker.access("SCRAM-SHA-256")))
    assert "does not offer sasl.mechanism SCRAM-SHA-256" in told
    assert "SCRAM-SHA-512, PLAIN" in told


def test_a_port_that_wants_a_user_is_told(broker: Broker) -> None:
    """TLS alone is not enough for it."""
    told = str(trouble(broker.sasl_address, Access("SSL", ca=str(broker.ca))))
    assert "asks for a user and a password" in told
    assert "security.protocol=SASL_SSL" in told


def test_a_port_that_wants_no_user_is_told(broker: Broker) -> None:
    """A password must not go where nobody asks for it."""
    access = replace(broker.access(), protocol="SASL_PLAINTEXT", ca="")
    assert "asks nobody for a user" in str(trouble(broker.address, access))


def test_a_broker_that_sends_its_clients_elsewhere_is_told() -> None:
    """The commonest trouble with containers: the name that it knows itself by means nothing outside."""
    with Broker(advertised_listeners="PLAINTEXT://kafka.invalid:29092") as lost:
        told = str(trouble(lost.address))
    assert "advertised.listeners" in told
    assert "kafka.invalid:29092" in told


# ---- the clients


def test_an_absent_topic_is_named_with_what_there_is(broker: Broker) -> None:
    """And with the command that makes it; topics that are there have their identity."""
    there = broker.create_topic("require-topics")
    with admin(broker.address, OPEN) as client:
        first = require_topics(client, [there])
        with pytest.raises(UsageError) as caught:
            require_topics(client, [there, "require-tpoics"])
        client.delete_topics([there])
        broker.create_topic(there)
        assert require_topics(client, [there])[there] != first[there]
    told = str(caught.value)
    assert told.startswith("the topic 'require-tpoics' is not there. It has: ")
    assert there in told
    assert "--create --topic require-tpoics" in told


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-512"])
def test_all_clients_work_over_tls_with_a_user(broker: Broker, mechanism: str) -> None:
    """The admin makes a topic, the producer fills it, the consumer reads it."""
    topic, access = f"secure-{mechanism.lower()}", broker.access(mechanism)
    with admin(broker.sasl_address, access) as client:
        client.create_topics({topic: {"num_partitions": 1, "replication_factor": 1}}, wait_for_metadata=True)
    sender = producer(broker.sasl_address, access)
    sender.send(topic, b"over TLS").get(timeout=10)
    sender.close(timeout=5)
    assert [value for value, _ in read(broker.sasl_address, access, topic)] == [b"over TLS"]


def read(servers: str, access: Access, topic: str) -> list[tuple[bytes, int]]:
    """Return value and offset of every committed message of partition 0."""
    place, found = TopicPartition(topic, 0), []
    reader = consumer(servers, access)
    reader.assign([place])
    reader.seek(place, 0)
    end = reader.end_offsets([place], timeout_ms=5000)[place]
    while reader.position(place) < end:
        found += [(each.value, each.offset) for part in reader.poll(timeout_ms=50).values() for each in part]
    reader.close()
    return found


def test_kcat_takes_the_same_settings_file(broker: Broker) -> None:
    """What labelstream reads from a topic, an independent tool wrote there with the same file, and the other way."""
    topic = broker.create_topic("kcat")
    settings = str(broker.client_file)
    kcat = [program("kcat"), "-F", settings, "-b", broker.sasl_address, "-t", topic]
    subprocess.run([*kcat, "-P"], input=b"from kcat\n", check=True, timeout=20)
    access = read_access(settings, {})
    assert read(broker.sasl_address, access, topic) == [(b"from kcat", 0)]
    sender = producer(broker.sasl_address, access)
    sender.send(topic, b"from labelstream").get(timeout=10)
    sender.close(timeout=5)
    out = subprocess.run(
        [*kcat, "-C", "-o", "beginning", "-e", "-q"], check=True, timeout=20, capture_output=True
    ).stdout
    assert out == b"from kcat\nfrom labelstream\n"


def test_only_committed_messages_are_read(broker: Broker) -> None:
    """What a transaction took back is not seen; its place in the log stays empty."""
    topic = broker.create_topic("committed")
    sender = producer(broker.address, OPEN, "committed-1")
    sender.init_transactions()
    for value, end in ((b"one", sender.commit_transaction), (b"taken back", sender.abort_transaction)):
        sender.begin_transaction()
        sender.send(topic, value).get(timeout=10)
        end()
    sender.close(timeout=5)
    assert read(broker.address, OPEN, topic) == [(b"one", 0)]


def test_a_message_of_nine_megabytes_passes(broker: Broker) -> None:
    """A picture of a camera is larger than Kafka's own limit of one."""
    topic = broker.create_topic("large", max_message_bytes="10485760")
    large = bytes(9 << 20)
    broker.produce(topic, large)
    assert read(broker.address, OPEN, topic) == [(large, 0)]


@pytest.mark.parametrize("codec", ["gzip", "lz4", "zstd"])
def test_messages_that_others_packed_are_read(broker: Broker, codec: str) -> None:
    """Each way of packing whose library is installed."""
    topic = broker.create_topic(f"packed-{codec}")
    sender = producer(broker.address, OPEN, compression_type=codec)
    sender.send(topic, b"a" * 1000).get(timeout=10)
    sender.close(timeout=5)
    assert read(broker.address, OPEN, topic) == [(b"a" * 1000, 0)]


def test_an_offset_that_is_gone_is_an_error(broker: Broker) -> None:
    """And never a silent jump to another."""
    topic = broker.create_topic("gone")
    broker.produce(topic, b"one")
    place = TopicPartition(topic, 0)
    reader = consumer(broker.address, OPEN)
    reader.assign([place])
    reader.seek(place, 100)
    with pytest.raises(OffsetOutOfRangeError):
        for _ in range(50):
            reader.poll(timeout_ms=100)
    reader.close()


def test_nobody_makes_a_topic_by_asking_for_it(broker: Broker) -> None:
    """A misspelt name on a broker that makes topics by itself must not become an empty topic."""
    place = TopicPartition("misspelt", 0)
    reader = consumer(broker.address, OPEN)
    reader.assign([place])
    reader.seek(place, 0)
    reader.poll(timeout_ms=300)
    reader.close()
    sender = producer(broker.address, OPEN, max_block_ms=300)
    with pytest.raises(KafkaTimeoutError):
        sender.send("misspelt", b"x")
    sender.close(timeout=1)
    with admin(broker.address, OPEN) as client, pytest.raises(UsageError):
        require_topics(client, ["misspelt"])


def test_a_client_of_an_absent_broker_is_told_so() -> None:
    """In a bounded time, as an error of ours."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        with pytest.raises(BrokerAway, match="did not answer"):
            producer(address_of(bound), OPEN, bootstrap_timeout_ms=300)


def test_no_password_reaches_a_log(broker: Broker, caplog: pytest.LogCaptureFixture) -> None:
    """The client library logs its settings, and every request: both hold the password."""
    access = broker.access("PLAIN")
    with caplog.at_level(logging.DEBUG):
        require_broker(broker.sasl_address, access)
        admin(broker.sasl_address, access).close()
        consumer(broker.sasl_address, access).close()
        producer(broker.sasl_address, access).close(timeout=5)
    assert access.password not in caplog.text
    assert not [record for record in caplog.records if record.name.startswith("kafka")]


def test_asking_again_and_again_leaves_nothing_behind(broker: Broker, silent: str, website: str) -> None:
    """A job that waits for its broker asks for months."""

    def ask() -> tuple[int, int]:
        for servers, access in (
            (silent, OPEN),
            (website, OPEN),
            (broker.address, broker.access()),
            ("127.0.0.1:1", OPEN),
        ):
            trouble(servers, access, timeout_s=0.2)
        trouble(broker.sasl_address, OPEN)
        require_broker(broker.sasl_address, broker.access())
        gc.collect()
        return threading.active_count(), len(list(Path("/proc/self/fd").iterdir()))

    first = ask()
    time.sleep(0.2)
    assert max(ask() for _ in range(3)) <= first
