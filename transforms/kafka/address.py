"""Where messages come from and go to: kafka://host:port[,host:port]/topic[,topic]."""

import re
from dataclasses import dataclass
from typing import Self

from schemas.errors import UsageError

_SCHEME = "kafka://"
_PORT = 9092
_MAX_CHARS = 10_000
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?\.?|\[[0-9A-Fa-f:.]+(%[A-Za-z0-9._-]+)?\]")
_TOPIC = re.compile(r"[A-Za-z0-9._-]{1,249}")
_GLOB = re.compile(r"[A-Za-z0-9._\-*?\[\]!]{1,249}")
_GLOB_SIGNS = frozenset("*?[")
_FORM = "kafka://host:port[,host:port]/topic[,topic]"


def is_kafka(uri: str) -> bool:
    """Whether an option's value names topics of Kafka and not files."""
    return uri.lower().startswith(_SCHEME)


def is_glob(topic: str) -> bool:
    return not _GLOB_SIGNS.isdisjoint(topic)


@dataclass(frozen=True)
class Address:
    """Servers as `host:port,host:port`, and topics; one with `*`, `?` or `[` is a pattern of names."""

    servers: str
    topics: tuple[str, ...]

    @classmethod
    def parse(cls, uri: str, what: str) -> Self:
        """Parse an address; `what` is the option it came from. Raises UsageError."""
        if "@" in uri:
            # Whatever stands before or after it may be a password.
            raise UsageError(
                f"{what}: a user and a password do not belong into an address, where lists of processes and logs show "
                "them. Put them into a file as sasl.username=... and sasl.password=..., and name the file in "
                "LABELSTREAM_KAFKA_CONFIG"
            )
        if not is_kafka(uri):
            raise UsageError(f"{what}: expected {_FORM}, got {uri[:200]!r}")
        if len(uri) > _MAX_CHARS:
            raise UsageError(f"{what}: an address has at most {_MAX_CHARS} characters, this one has {len(uri)}")
        servers, _, topics = uri[len(_SCHEME) :].partition("/")
        if not servers or not topics:
            raise UsageError(f"{what}: {uri!r} names no {'topic' if servers else 'host'}; expected {_FORM}")
        named = dict.fromkeys(_topic(topic, what) for topic in topics.split(","))
        return cls(",".join(_server(server, what) for server in servers.split(",")), tuple(named))

    def __str__(self) -> str:
        return f"{_SCHEME}{self.servers}/{','.join(self.topics)}"

    @property
    def one_topic(self) -> str:
        """The only topic. Raises UsageError if there are several or a pattern."""
        if len(self.topics) != 1 or is_glob(self.topics[0]):
            raise UsageError(f"{self} must name one topic, without a pattern")
        return self.topics[0]


def _server(text: str, what: str) -> str:
    host, colon, port = text.rpartition(":") if not text.endswith("]") else (text, "", "")
    if not colon:
        host, port = text, str(_PORT)
    if not _HOST.fullmatch(host):
        raise UsageError(
            f"{what}: {text!r} is not a host and its port; expected {_FORM}, as in kafka://localhost:9092/frames"
        )
    if not (port.isascii() and port.isdigit() and len(port) <= 5 and 1 <= int(port) <= 65535):
        raise UsageError(f"{what}: the port of {text!r} must be a number from 1 to 65535")
    return f"{host}:{int(port)}"


def _topic(text: str, what: str) -> str:
    allowed = _GLOB if is_glob(text) else _TOPIC
    if not allowed.fullmatch(text) or text in (".", ".."):
        raise UsageError(
            f"{what}: {text[:300]!r} is not a topic; its name has 1 to 249 of the characters A-Z a-z 0-9 . _ - "
            "(and * ? [ ] in a pattern)"
        )
    return text
