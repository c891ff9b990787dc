"""The address of Kafka's topics: what it may be, and what each mistake is told."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import UsageError
from transforms.kafka.address import Address, is_glob, is_kafka


def refused(uri: str) -> str:
    with pytest.raises(UsageError) as caught:
        Address.parse(uri, "--input")
    assert str(caught.value).startswith("--input: ")
    return str(caught.value)


@pytest.mark.parametrize(
    ("uri", "servers", "topics"),
    [
        ("kafka://localhost:9092/frames", "localhost:9092", ("frames",)),
        ("kafka://localhost/frames", "localhost:9092", ("frames",)),
        ("KAFKA://a.b:1,c_d:65535/frames,other", "a.b:1,c_d:65535", ("frames", "other")),
        ("kafka://[::1]:19092/frames", "[::1]:19092", ("frames",)),
        ("kafka://[fe80::1%eth0]/frames", "[fe80::1%eth0]:9092", ("frames",)),
        ("kafka://10.0.0.1:09092/cam-*,lab.?_[ab]", "10.0.0.1:9092", ("cam-*", "lab.?_[ab]")),
        ("kafka://h:1/twice,twice", "h:1", ("twice",)),
    ],
)
def test_an_address_is_its_servers_and_its_topics(uri: str, servers: str, topics: tuple[str, ...]) -> None:
    """Several of each, with Kafka's own port where none is named, the new kind of internet address, patterns."""
    assert Address.parse(uri, "--input") == Address(servers, topics)


@pytest.mark.parametrize(
    ("uri", "told"),
    [
        ("frames", "expected kafka://"),
        ("file:///frames", "expected kafka://"),
        ("kafka://localhost:9092", "names no topic"),
        ("kafka://localhost:9092/", "names no topic"),
        ("kafka:///frames", "names no host"),
        ("kafka://localhost:port/frames", "the port"),
        ("kafka://localhost:0/frames", "the port"),
        ("kafka://localhost:65536/frames", "the port"),
        ("kafka://localhost:²/frames", "the port"),
        ("kafka://a,,b/frames", "is not a host"),
        ("kafka://-a/frames", "is not a host"),
        ("kafka://a b/frames", "is not a host"),
        ("kafka://::1/frames", "is not a host"),
        ("kafka://localhost/frames,", "is not a topic"),
        ("kafka://localhost/frames/0", "is not a topic"),
        ("kafka://localhost/..", "is not a topic"),
        ("kafka://localhost/größe", "is not a topic"),
        ("kafka://localhost/frames#1", "is not a topic"),
        ("kafka://localhost/" + "a" * 250, "is not a topic"),
        ("kafka://localhost/" + "a," * 10_000, "at most"),
    ],
)
def test_a_wrong_address_is_refused_with_what_is_wrong(uri: str, told: str) -> None:
    """The message names the option and is short, whatever was typed."""
    message = refused(uri)
    assert told in message
    assert len(message) < 600


@pytest.mark.parametrize(
    "uri", ["kafka://alice:hush@host:9092/frames", "kafka://alice:hu/hush@host/frames", "kafka://host/frames@hush"]
)
def test_a_password_in_an_address_is_refused_and_not_repeated(uri: str) -> None:
    """It may stand on either side of the sign; the message says where it belongs."""
    message = refused(uri)
    assert "hush" not in message
    assert "alice" not in message
    assert "sasl.password" in message


@given(st.text())
def test_any_text_is_an_address_or_a_usage_error(text: str) -> None:
    """No other error, and what was read reads back as itself."""
    try:
        address = Address.parse(f"kafka://{text}", "--input")
    except UsageError:
        return
    assert Address.parse(str(address), "--input") == address


@pytest.mark.parametrize("topics", ["frames,labels", "frame?", "*", "[ab]"])
def test_an_output_is_one_topic(topics: str) -> None:
    """Several topics and patterns are for reading alone."""
    with pytest.raises(UsageError, match="one topic"):
        _ = Address.parse(f"kafka://localhost/{topics}", "--results").one_topic


def test_one_topic_is_given_by_name() -> None:
    """And a pattern is told from a name."""
    assert Address.parse("kafka://localhost/frames", "--results").one_topic == "frames"
    assert is_glob("cam-*")
    assert not is_glob("cam-1")


def test_topics_are_told_from_files() -> None:
    """By the scheme, however it is written."""
    assert is_kafka("Kafka://localhost/frames")
    assert not is_kafka("kafka/frames")
    assert not is_kafka("s3://kafka")
