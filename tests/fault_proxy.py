"""A proxy before an object store that does to requests what networks and clouds do: for tests of what survives it."""

import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from io import BufferedReader
from typing import Literal, Self

HOST = "127.0.0.1"
Kind = int | Literal["reset", "lost", "truncate", "hang"]

_CODES = {403: "ExpiredToken", 429: "TooManyRequests", 500: "InternalError", 503: "SlowDown"}
_CHUNK = 262_144
_MAX_HEAD_LINES = 200


@dataclass(frozen=True)
class Request:
    """One request that came by. `path` has the query; `range` is the header's text, or empty."""

    method: str
    path: str
    range: str
    status: int | None
    """None where no answer was sent."""
    sent_bytes: int
    """Of the answer's body."""
    fault: Kind | None


@dataclass
class Rule:
    """When a fault strikes. `struck` counts how often it did."""

    kind: Kind | Callable[[], object]
    match: re.Pattern[str]
    count: int | None
    until: float | None
    """On the monotonic clock."""
    every: int
    code: str
    seen: int = 0
    struck: int = 0

    def strikes(self, line: str) -> bool:
        if self.struck == self.count or (self.until is not None and time.monotonic() >= self.until):
            return False
        if not self.match.search(line):
            return False
        self.seen += 1
        if self.seen % self.every:
            return False
        self.struck += 1
        return True


@dataclass(frozen=True)
class _Head:
    """The first lines of a request or an answer, as they came."""

    raw: bytes
    first: list[str]
    headers: dict[str, str]

    @property
    def line(self) -> str:
        """The method and the path of a request."""
        return " ".join(self.first[:2])

    @property
    def status(self) -> int:
        return int(self.first[1])

    @property
    def closes(self) -> bool:
        return self.headers.get("connection", "").lower() == "close"


@dataclass(frozen=True)
class _Outcome:
    """What became of a request; without anything said the connection ends."""

    status: int | None = None
    sent_bytes: int = 0
    rest: bytes = b""
    """What is still to be sent."""
    goes_on: bool = False


class FaultProxy:
    """Passes HTTP on to `port` of this machine; a thread for each connection.

    The Host header stays as the client wrote it, so signatures stay valid. Rules are asked in the order they were
    added, and the first that strikes is the fault; what `before` was given is called besides.
    """

    def __init__(self, port: int, delay_ms: float = 0) -> None:
        """`port` is the server's; `delay_ms` is added to every request."""
        self.delay_ms = delay_ms
        self.log: list[Request] = []
        self.most_at_once = 0
        """The largest number of requests that were under way together."""
        self._upstream = (HOST, port)
        self._at_once = 0
        self._rules: list[Rule] = []
        self._lock = threading.Lock()
        self._released = threading.Event()
        self._open: set[socket.socket] = set()
        self._closing = False
        self._listener = socket.create_server((HOST, 0), backlog=256)

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    @property
    def address(self) -> str:
        return f"http://{HOST}:{self.port}"

    def fault(
        self,
        kind: Kind,
        match: str = "",
        *,
        count: int | None = None,
        seconds: float | None = None,
        every: int = 1,
        code: str = "",
    ) -> Rule:
        """Do this to the requests whose `METHOD path` has `match` (a regular expression) in it.

        A number is an HTTP status in S3's words (`code` for others than the usual), and the server hears nothing.
        "reset": the connection breaks before the server hears of it. "lost": the server does it, and the connection
        breaks before its answer. "truncate": the answer's body ends in the middle. "hang": nothing happens until
        `release`, and then it goes its way. Without `count`, `seconds` or `every` it is each time.
        """
        until = None if seconds is None else time.monotonic() + seconds
        return self._add(Rule(kind, re.compile(match), count, until, every, code))

    def before(self, call: Callable[[], object], match: str = "", *, nth: int = 1) -> Rule:
        """Call this before the n-th request that matches goes to the server."""
        return self._add(Rule(call, re.compile(match), 1, None, nth, ""))

    def release(self) -> None:
        """Let go what hangs, and what would hang from now on."""
        self._released.set()

    def clear(self) -> None:
        """Forget all rules and the log."""
        with self._lock:
            self._rules.clear()
            self.log.clear()

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing = True
        with suppress(OSError):  # not all systems know it; where they do it ends the wait in accept
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            for connection in self._open:
                with suppress(OSError):  # the client may have gone
                    connection.shutdown(socket.SHUT_RDWR)
        self._released.set()

    def _add(self, rule: Rule) -> Rule:
        if rule.kind == "hang":
            self._released.clear()
        with self._lock:
            self._rules.append(rule)
        return rule

    def _strike(self, line: str) -> tuple[Rule | None, list[Callable[[], object]]]:
        """Return the rule that strikes this request, and what is to be called before it."""
        calls: list[Callable[[], object]] = []
        with self._lock:
            for rule in self._rules:
                if not rule.strikes(line):
                    continue
                if not callable(rule.kind):
                    return rule, calls
                calls.append(rule.kind)
        return None, calls

    def _accept(self) -> None:
        while not self._closing:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with self._lock:
            if self._closing:
                client.close()
                return
            self._open.add(client)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        server = _Upstream(self._upstream)
        reader = _reader(client)
        try:
            while (head := _read_head(reader)) is not None:
                with self._lock:
                    self._at_once += 1
                    self.most_at_once = max(self.most_at_once, self._at_once)
                try:
                    goes_on = self._pass(head, client, reader, server)
                finally:
                    with self._lock:
                        self._at_once -= 1
                if not goes_on:
                    return
        except OSError:
            # A server that is down looks to the client as it does without a proxy.
            _reset(client)
        finally:
            server.close()
            reader.close()
            with self._lock:
                self._open.discard(client)
                client.close()

    def _pass(self, head: _Head, client: socket.socket, reader: BufferedReader, server: "_Upstream") -> bool:
        """Answer one request; return whether the connection may take another."""
        rule, calls = self._strike(head.line)
        kind = None if rule is None or callable(rule.kind) else rule.kind
        outcome = _Outcome()
        time.sleep(self.delay_ms / 1000)
        try:
            if kind == "reset":
                _reset(client)
            elif rule is not None and isinstance(kind, int):
                for _ in _body(reader, head.headers):
                    pass
                outcome = _refusal(kind, rule.code or _CODES.get(kind, "Injected"), head)
            else:
                if kind == "hang":
                    self._released.wait()
                for call in calls:
                    call()
                outcome = _relay(kind, *server.ask(head, reader), head, client)
        finally:
            # Before the client has all of the answer: then it may look at the log.
            asked = head.headers.get("range", "")
            seen = Request(head.first[0], head.first[1], asked, outcome.status, outcome.sent_bytes, kind)
            with self._lock:
                self.log.append(seen)
        client.sendall(outcome.rest)
        return outcome.goes_on


class _Upstream:
    """The connection to the server that belongs to one of a client."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._address = address
        self._socket: socket.socket | None = None
        self._reader: BufferedReader | None = None

    def ask(self, head: _Head, reader: BufferedReader) -> tuple[_Head, Iterator[bytes]]:
        """Pass the request on, its body out of `reader`; return the answer's head and its body, yet to be read."""
        sock, answers = self._connected()
        refused = _forward(sock, head, _body(reader, head.headers))
        answer = _read_head(answers)
        while answer is not None and answer.status < 200:
            answer = _read_head(answers)
        if answer is None:
            raise ConnectionError("the server closed the connection")
        bare = head.first[0] == "HEAD" or answer.status in (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED)
        return answer, self._drained(iter(()) if bare else _body(answers, answer.headers), refused or answer.closes)

    def _drained(self, parts: Iterator[bytes], close: bool) -> Iterator[bytes]:
        yield from parts
        if close:
            self.close()

    def _connected(self) -> tuple[socket.socket, BufferedReader]:
        # Readable while nothing was asked: the server has closed it, or was killed.
        if self._socket and _has_news(self._socket):
            self.close()
        if self._socket is None or self._reader is None:
            self._socket = socket.create_connection(self._address)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._reader = _reader(self._socket)
        return self._socket, self._reader

    def close(self) -> None:
        if self._reader:
            self._reader.close()
        if self._socket:
            self._socket.close()
        self._socket = self._reader = None


def _forward(sock: socket.socket, head: _Head, body: Iterator[bytes]) -> bool:
    """Send a request; return whether the server answered before it had all of the body.

    The client's body is read to its end in either case: it would not hear the answer otherwise.
    """
    refused = False
    begun = head.raw
    for part in body:
        refused = refused or (not begun and _has_news(sock))
        if not refused:
            try:
                sock.sendall(begun + part)
            except OSError:
                refused = True
        begun = b""
    if begun:
        sock.sendall(begun)
    return refused


def _has_news(sock: socket.socket) -> bool:
    """Return whether there is something to read, or the end."""
    try:
        sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def _reader(sock: socket.socket) -> BufferedReader:
    return BufferedReader(sock.makefile("rb", buffering=0), _CHUNK)


def _read_head(reader: BufferedReader) -> _Head | None:
    """Read to the empty line; None where the connection ends."""
    lines: list[bytes] = []
    while (line := reader.readline(65_536)) not in (b"\r\n", b""):
        lines.append(line)
        if len(lines) > _MAX_HEAD_LINES:
            raise ConnectionError("too many header lines")
    if not lines or not line:
        return None
    pairs = (text.decode("latin-1").split(":", 1) for text in lines[1:] if b":" in text)
    headers = {name.strip().lower(): value.strip() for name, value in pairs}
    return _Head(b"".join(lines) + line, lines[0].decode("latin-1").split(), headers)


def _body(reader: BufferedReader, headers: dict[str, str]) -> Iterator[bytes]:
    """Yield the parts of a body as they come, chunked ones with their frames."""
    if headers.get("transfer-encoding", "").lower() == "chunked":
        size = -1
        while size:
            frame = reader.readline(1024)
            size = int(frame.split(b";")[0], 16) if frame.strip() else -1
            if size < 0:
                raise ConnectionError("a chunk was cut off")
            yield frame + reader.read(size + 2 if size else 2)
        return
    left = int(headers.get("content-length", "0"))
    while left:
        part = reader.read1(min(left, _CHUNK))
        if not part:
            raise ConnectionError("a body was cut off")
        left -= len(part)
        yield part


def _relay(kind: Kind | None, answer: _Head, parts: Iterator[bytes], head: _Head, client: socket.socket) -> _Outcome:
    """Send the server's answer, but for its end."""
    if kind == "lost":
        for _ in parts:
            pass
        _reset(client)
        return _Outcome()
    if kind == "truncate":
        body = b"".join(parts)
        half = body[: len(body) // 2]
        return _Outcome(answer.status, len(half), answer.raw + half)
    rest, sent = answer.raw, 0
    for part in parts:
        if len(rest) > _CHUNK:
            client.sendall(rest)
            rest = b""
        rest, sent = rest + part, sent + len(part)
    return _Outcome(answer.status, sent, rest, not (head.closes or answer.closes))


def _refusal(status: int, code: str, head: _Head) -> _Outcome:
    """Return an error in S3's words."""
    text = f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code><Message>{code}</Message></Error>'
    body = b"" if head.first[0] == "HEAD" else text.encode()
    first = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n"
    lines = f"{first}Content-Type: application/xml\r\nContent-Length: {len(text)}\r\n\r\n"
    return _Outcome(status, len(body), lines.encode() + body, not head.closes)


def _reset(connection: socket.socket) -> None:
    """Let the end of this connection be a reset (RST)."""
    # What is closed with a linger of 0 s is reset.
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
