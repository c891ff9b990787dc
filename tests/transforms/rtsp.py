"""A small RTSP server: one camera that sends numbered pictures as H.264 over TCP, and can hang up."""

import base64
import contextlib
import re
import socket
import struct
import threading
import time
from typing import Any, Self

import av
import numpy as np

from tests.videos import picture

_SDP = """v=0\r
o=- 0 0 IN IP4 127.0.0.1\r
s=camera\r
t=0 0\r
m=video 0 RTP/AVP 96\r
a=rtpmap:96 H264/90000\r
a=fmtp:96 packetization-mode=1\r
a=control:track1\r
"""
_LARGEST = 1200


class Camera:
    """Serves rtsp://127.0.0.1:PORT/door; with `login` ("user:password") only to who names it.

    `hang_up_after` frames each connection ends; `connections` counts those that were played.
    """

    def __init__(self, *, fps: int = 25, login: str = "", hang_up_after: int = 1 << 30) -> None:
        self._fps, self._login, self._hang_up_after = fps, login, hang_up_after
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._over = threading.Event()
        self.connections = 0
        self.port: int = self._socket.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        """The address, with the login in it."""
        return f"rtsp://{self._login}{'@' if self._login else ''}127.0.0.1:{self.port}/door"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._socket.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._socket.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError), client, client.makefile("rb") as requests:
            while line := requests.readline():
                method = line.split()[0].decode()
                headers = {}
                while pair := requests.readline().decode().strip():
                    name, _, value = pair.partition(":")
                    headers[name.lower()] = value.strip()
                client.sendall(self._answer(method, headers))
                if method == "PLAY":
                    threading.Thread(target=self._play, args=(client,), daemon=True).start()

    def _answer(self, method: str, headers: dict[str, str]) -> bytes:
        begin = f"CSeq: {headers['cseq']}\r\n"
        expected = f"Basic {base64.b64encode(self._login.encode()).decode()}"
        if self._login and method != "OPTIONS" and headers.get("authorization") != expected:
            return f'RTSP/1.0 401 Unauthorized\r\n{begin}WWW-Authenticate: Basic realm="camera"\r\n\r\n'.encode()
        more, body = "Session: 1\r\n", ""
        if method == "OPTIONS":
            more = "Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN\r\n"
        elif method == "DESCRIBE":
            more, body = f"Content-Type: application/sdp\r\nContent-Length: {len(_SDP)}\r\n", _SDP
        elif method == "SETUP":
            more += "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n"
        return f"RTSP/1.0 200 OK\r\n{begin}{more}\r\n{body}".encode()

    def _play(self, client: socket.socket) -> None:
        self.connections += 1
        encoder: Any = av.CodecContext.create("libx264", "w")
        encoder.width, encoder.height, encoder.pix_fmt, encoder.framerate = 64, 48, "yuv420p", self._fps
        encoder.options = {"tune": "zerolatency", "preset": "ultrafast", "g": "10"}
        sequence = 0
        with contextlib.suppress(OSError):
            for number in range(self._hang_up_after):
                if self._over.wait(1 / self._fps):
                    break
                frame: Any = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture(number)), format="rgb24")
                units = [
                    unit
                    for packet in encoder.encode(frame)
                    for unit in re.split(rb"\x00\x00\x00?\x01", bytes(packet))
                    if unit
                ]
                payloads = [part for unit in units for part in _parts(unit)]
                for place, payload in enumerate(payloads):
                    last = place == len(payloads) - 1
                    stamp = number * 90_000 // self._fps
                    packet = struct.pack("!BBHII", 0x80, 96 | last << 7, sequence & 0xFFFF, stamp, 7) + payload
                    client.sendall(struct.pack("!cBH", b"$", 0, len(packet)) + packet)
                    sequence += 1
            time.sleep(0.05)
            client.shutdown(socket.SHUT_RDWR)


def _parts(unit: bytes) -> list[bytes]:
    """Return a unit of H.264 as payloads of RTP: whole, or in fragments (RFC 6184, 5.8)."""
    if len(unit) <= _LARGEST:
        return [unit]
    body = [unit[at : at + _LARGEST] for at in range(1, len(unit), _LARGEST)]
    kinds = [0x80, *[0] * (len(body) - 2), 0x40]
    return [bytes([unit[0] & 0xE0 | 28, kind | unit[0] & 0x1F]) + part for kind, part in zip(kinds, body, strict=True)]
