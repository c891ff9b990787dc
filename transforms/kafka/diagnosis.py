"""Why a broker cannot be used, told apart on a plain socket: the client library calls all of it "unable to bootstrap".

The few requests used here are of Kafka's protocol, https://kafka.apache.org/protocol, in versions that every broker
since 1.0 answers.
"""

import socket
import ssl
import struct
import threading
import time
from dataclasses import dataclass, replace
from typing import Any, Self

from kafka.net.sasl import get_sasl_mechanism

from schemas.errors import RunError, UsageError
from transforms.kafka.access import CONFIG_VARIABLE, Access

TIMEOUT_S = 5.0
"""For one address, all questions together."""

_SECOND_LOOK = 0.2
"""The part of it that is kept for asking in another way what sort of program it is."""

_MAX_ANSWER = 4 << 20
_METADATA, _SASL_HANDSHAKE, _API_VERSIONS, _SASL_AUTHENTICATE = 3, 17, 18, 36
_UNSUPPORTED_MECHANISM, _NO_SASL_HERE, _REFUSED = 33, 34, 58
_WRONG_NAME = (62, 64)  # X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH
_TLS_RECORDS = (b"\x15\x03", b"\x16\x03")


class BrokerAway(RunError):
    """No broker answers at this moment; it may later."""


class _Hung(Exception):
    """The connection was closed where an answer was due."""


class _Foreign(Exception):
    """What came is not Kafka's protocol; `head` are its first bytes."""

    def __init__(self, head: bytes) -> None:
        super().__init__()
        self.head = head


@dataclass(frozen=True)
class _Deadline:
    """The time at which waiting ends, `span` seconds after it began."""

    end: float
    span: float

    @classmethod
    def after(cls, seconds: float) -> Self:
        return cls(time.monotonic() + seconds, seconds)

    def left(self) -> float:
        """Return the seconds that are left. Raises TimeoutError if none are."""
        left = self.end - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left

    def first_look(self) -> Self:
        """Return the deadline that leaves time for a second look."""
        return replace(self, end=self.end - self.span * _SECOND_LOOK)


@dataclass(frozen=True)
class _Line:
    """A connection that is asked one question after the other."""

    sock: socket.socket
    until: _Deadline

    def ask(self, key: int, version: int, body: bytes) -> bytes:
        """Return the answer's body. Raises OSError (TimeoutError, ssl.SSLError), _Hung, _Foreign."""
        request = struct.pack(">hhi", key, version, key) + _string("labelstream") + body
        self.sock.settimeout(self.until.left())
        try:
            self.sock.sendall(struct.pack(">i", len(request)) + request)
            head = self._read(8)
        except (ConnectionError, ssl.SSLEOFError) as error:
            raise _Hung from error
        size, number = struct.unpack(">ii", head)
        if number != key or not 4 <= size <= _MAX_ANSWER:
            raise _Foreign(head)
        return self._read(size - 4)

    def _read(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            self.sock.settimeout(self.until.left())
            part = self.sock.recv(size - len(data))
            if not part and data:
                raise _Foreign(data)
            if not part:
                raise _Hung
            data += part
        return data


def examine(server: str, access: Access, timeout_s: float = TIMEOUT_S) -> None:
    """Return if the broker at `server` (`host:port`) takes us. Raises UsageError, BrokerAway saying why not."""
    until = _Deadline.after(timeout_s)
    try:
        with _connect(server, until) as bare, _secure(bare, server, access, until) as sock:
            line = _Line(sock, until)
            _greet(line, server, access, until)
            if access.sasl:
                _sign_in(line, server, access)
            advertised = _advertised(line, server, access)
    except TimeoutError:
        raise BrokerAway(_silent(server, until)) from None
    except (OSError, _Hung, _Foreign, struct.error):
        raise BrokerAway(
            f"Kafka at {server} broke the conversation off: is it just starting or stopping? Its log says more"
        ) from None
    _require_one(advertised, server, timeout_s)


# ---- the questions, in their order


def _connect(server: str, until: _Deadline) -> socket.socket:
    host, port = _split(server)
    places = _look_up(host, port, until)
    error: OSError = TimeoutError()
    for index, (family, kind, protocol, _, place) in enumerate(places):
        sock = socket.socket(family, kind, protocol)
        sock.settimeout(until.left() / (len(places) - index))
        try:
            sock.connect(place)
        except OSError as failed:
            sock.close()
            error = failed
        else:
            return sock
    if isinstance(error, ConnectionRefusedError):
        raise BrokerAway(f"nothing listens at {server}: start Kafka there, or correct the port") from None
    if isinstance(error, TimeoutError):
        raise BrokerAway(
            f"{server} did not take the connection within {until.span:g} s: is the machine up, does a firewall drop it?"
        ) from None
    raise BrokerAway(f"{server} cannot be reached from this machine: {error.strerror or error}") from None


def _look_up(host: str, port: int, until: _Deadline) -> list[Any]:
    """Look a name up within the time; the system's own resolver cannot be told one."""
    found: list[Any] = []

    def look() -> None:
        try:
            found.append(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except (OSError, UnicodeError) as error:
            found.append(error)

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    thread.join(until.left())
    if found and isinstance(found[0], list):
        return found[0]
    if found and getattr(found[0], "errno", socket.EAI_NONAME) in (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", 0)):
        raise UsageError(f"there is no host {host!r}: correct the name in kafka://{host}:{port}")
    raise BrokerAway(f"the host {host!r} cannot be looked up now, no name server answers: is the network there?")


def _secure(sock: socket.socket, server: str, access: Access, until: _Deadline) -> socket.socket:
    if not access.tls:
        return sock
    sock.settimeout(until.first_look().left())
    host, _ = _split(server)
    try:
        return access.context().wrap_socket(sock, server_hostname=host)
    except ssl.SSLCertVerificationError as error:
        if error.verify_code in _WRONG_NAME:
            raise UsageError(
                f"the certificate of {server} is for another name: call the broker by the name in its certificate, or "
                "set ssl.endpoint.identification.algorithm=none if you know why the names differ"
            ) from None
        said = f", which now is {access.ca}" if access.ca else ""
        raise UsageError(
            f"the certificate of {server} is not trusted: {error.verify_message}; name the file of the authority that "
            f"signed it in ssl.ca.location{said}"
        ) from None
    except TimeoutError:
        raise BrokerAway(_silent(server, until)) from None
    except (ssl.SSLError, ConnectionError) as error:
        if _speaks_kafka(server, until):
            raise UsageError(
                f"{server} speaks without TLS, and security.protocol is {access.protocol}: name the broker's port "
                f"with TLS, or set security.protocol={'SASL_PLAINTEXT' if access.sasl else 'PLAINTEXT'}"
            ) from None
        told = getattr(error, "reason", None) or "the connection was closed"
        raise UsageError(
            f"{server} and this client agree on no TLS connection: {str(told).lower().replace('_', ' ')}; is it a port "
            "of Kafka with TLS, does it want a client's certificate (ssl.certificate.location)?"
        ) from None


def _greet(line: _Line, server: str, access: Access, until: _Deadline) -> None:
    """See that it is Kafka which listens there."""
    try:
        line = _Line(line.sock, until.first_look())
        answer = line.ask(_API_VERSIONS, 0, b"")
        if len(answer) >= 6:
            return
        raise _Foreign(answer)
    except ssl.SSLError as error:
        raise UsageError(_refused_certificate(server, error)) from None
    except TimeoutError:
        head = _web_answer(server, access, until)
        if not head.startswith(b"HTTP/"):
            raise BrokerAway(_silent(server, until)) from None
    except (_Hung, _Foreign) as error:
        head = error.head if isinstance(error, _Foreign) else b""
        hung = isinstance(error, _Hung)
        if not access.tls and (hung or head.startswith(_TLS_RECORDS)) and _speaks_tls(server, until):
            instead = "SASL_SSL" if access.sasl else "SSL, or SASL_SSL with a user,"
            raise UsageError(
                f"{server} speaks TLS, and security.protocol is {access.protocol}: set security.protocol={instead} in "
                f"the file that {CONFIG_VARIABLE} names"
            ) from None
        if hung:
            raise BrokerAway(f"{server} closes the connection without a word: is it a port of Kafka?") from None
    what = "a web server" if head.startswith(b"HTTP/") else f"another program, it says {head[:16]!r}"
    raise UsageError(f"{server} is not Kafka but {what}: correct the host and the port")


def _sign_in(line: _Line, server: str, access: Access) -> None:
    answer = line.ask(_SASL_HANDSHAKE, 1, _string(access.mechanism))
    (error,) = struct.unpack_from(">h", answer)
    if error == _UNSUPPORTED_MECHANISM:
        raise UsageError(
            f"{server} does not offer sasl.mechanism {access.mechanism}; it offers {', '.join(_strings(answer, 2))}"
        )
    if error == _NO_SASL_HERE:
        raise UsageError(
            f"{server} asks nobody for a user, and security.protocol is {access.protocol}: set "
            f"security.protocol={'SSL' if access.tls else 'PLAINTEXT'}, or name the port that asks"
        )
    if error:
        raise BrokerAway(f"{server} refused to begin the sign-in: Kafka's error {error}")
    mechanism = get_sasl_mechanism(access.mechanism)(
        security_protocol=access.protocol,
        sasl_mechanism=access.mechanism,
        sasl_plain_username=access.username,
        sasl_plain_password=access.password,
    )
    while not mechanism.is_done():
        token = mechanism.auth_bytes()
        answer = line.ask(_SASL_AUTHENTICATE, 0, struct.pack(">i", len(token)) + token)
        (error,) = struct.unpack_from(">h", answer)
        if error == _REFUSED:
            raise UsageError(
                f"{server} does not know the user {access.username!r} with this password ({access.mechanism}): correct "
                "sasl.username and sasl.password, or have the user made for this mechanism"
            )
        if error:
            raise BrokerAway(f"{server} did not finish the sign-in: Kafka's error {error}")
        (text,) = struct.unpack_from(">h", answer, 2)
        try:
            mechanism.receive(answer[8 + max(text, 0) :])
        except (ValueError, KeyError):
            raise UsageError(f"{server} could not prove that it knows the password of {access.username!r}") from None


def _advertised(line: _Line, server: str, access: Access) -> list[str]:
    """Return the addresses to which the broker sends its clients."""
    try:
        answer = line.ask(_METADATA, 1, struct.pack(">i", 0))
    except ssl.SSLError as error:
        raise UsageError(_refused_certificate(server, error)) from None
    except _Hung:
        if access.sasl:
            raise
        raise UsageError(
            f"{server} asks for a user and a password, and security.protocol is {access.protocol}: set "
            f"security.protocol={'SASL_SSL' if access.tls else 'SASL_PLAINTEXT'}, sasl.mechanism, sasl.username and "
            f"sasl.password in the file that {CONFIG_VARIABLE} names"
        ) from None
    (count,), at, found = struct.unpack_from(">i", answer), 4, []
    for _ in range(count):
        (length,) = struct.unpack_from(">h", answer, at + 4)
        at += 6 + length
        port, rack = struct.unpack_from(">ih", answer, at)
        host = answer[at - length : at].decode("utf-8", "replace")
        found.append(f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
        at += 6 + max(rack, 0)
    return found


def _require_one(advertised: list[str], server: str, timeout_s: float) -> None:
    """Raise unless one of the addresses answers: it is those that the clients use, and no longer `server`."""
    reasons = []
    for address in advertised:
        if address == server:
            return
        try:
            _connect(address, _Deadline.after(timeout_s / len(advertised))).close()
        except (UsageError, BrokerAway) as error:
            reasons.append(str(error))
        else:
            return
    if reasons:
        raise UsageError(
            f"Kafka at {server} answers, but sends its clients to {', '.join(advertised[:3])}, and {reasons[0]} "
            "(the broker's setting is advertised.listeners)"
        )


# ---- second looks


def _speaks_kafka(server: str, until: _Deadline) -> bool:
    try:
        with _connect(server, until) as sock:
            _Line(sock, until).ask(_API_VERSIONS, 0, b"")
    except (OSError, UsageError, RunError, _Hung, _Foreign):
        return False
    return True


def _speaks_tls(server: str, until: _Deadline) -> bool:
    # Nothing is sent over it: it only matters whether TLS answers, not who.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with _connect(server, until) as sock:
            sock.settimeout(until.left())
            with context.wrap_socket(sock, server_hostname=_split(server)[0]):
                return True
    except (OSError, UsageError, RunError):
        return False


def _web_answer(server: str, access: Access, until: _Deadline) -> bytes:
    """Return the beginning of what it answers to a browser's question: a web server waits for a whole line."""
    try:
        with _connect(server, until) as bare, _secure(bare, server, access, until) as sock:
            sock.settimeout(until.left())
            sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
            return sock.recv(16)
    except (OSError, UsageError, RunError):
        return b""


# ---- small things


def _split(server: str) -> tuple[str, int]:
    host, _, port = server.rpartition(":")
    return host.strip("[]"), int(port)


def _string(text: str) -> bytes:
    data = text.encode()
    return struct.pack(">h", len(data)) + data


def _strings(answer: bytes, at: int) -> list[str]:
    (count,), found = struct.unpack_from(">i", answer, at), []
    at += 4
    for _ in range(count):
        (length,) = struct.unpack_from(">h", answer, at)
        found.append(answer[at + 2 : at + 2 + length].decode("utf-8", "replace"))
        at += 2 + length
    return found


def _silent(server: str, until: _Deadline) -> str:
    return f"{server} takes the connection but does not answer within {until.span:g} s: is it Kafka, is it overloaded?"


def _refused_certificate(server: str, error: ssl.SSLError) -> str:
    said = str(error.reason or "it broke TLS off").lower().replace("_", " ")
    return (
        f"{server} did not take this client's certificate: {said}; name one that it trusts in ssl.certificate.location "
        "and ssl.key.location"
    )
