"""Live pictures: a network camera by RTSP, or a camera of this machine. It goes on until it is told to stop.

A stream that breaks is opened again. Its address may hold a password: it is in no text and no `repr`, and FFmpeg's own
messages, which repeat the address, are never passed on.
"""

import errno
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import av
import numpy as np
from av.error import FFmpegError, HTTPForbiddenError, HTTPUnauthorizedError
from numpy.typing import NDArray

from schemas.errors import ItemError, UsageError
from transforms.video import require_pixels

SILENCE_S = 10.0
"""How long a camera may say nothing before the stream counts as broken."""

_FIRST_WAIT_S, _LONGEST_WAIT_S = 1.0, 30.0
_STEP_S = 0.1

_RTSP, _CAMERA = "rtsp://", "camera:"
_SECRET = re.compile(r"(?i)pass|pwd|token|secret|key=|auth")  # some cameras want their password in the path
_DEVICE = re.compile(r"[0-9]{1,3}|/dev/video[0-9]{1,3}")


@dataclass(frozen=True, slots=True)
class Live:
    """A live source: `name` may be shown, `uri` may not. `device` is the file of a camera of this machine."""

    name: str
    uri: str = field(repr=False)
    device: str | None = None

    @property
    def has_password(self) -> bool:
        """Whether the address holds what nobody else should see."""
        return "@" in urlsplit(self.uri).netloc or bool(_SECRET.search(self.uri))


@dataclass(frozen=True, slots=True)
class Captured:
    """One frame: `number` counts all that came, `time_ms` is when it came (Unix), `rgb` is (H, W, 3)."""

    number: int
    time_ms: int
    rgb: NDArray[np.uint8]


class Refused(Exception):
    """A live source that waiting will not mend; the text is for a person."""


def is_live(text: str) -> bool:
    """Tell whether an input is a live source."""
    return text.lower().startswith((_RTSP, _CAMERA))


def read_live(text: str) -> Live:
    """Return the live source that a text names; raise UsageError, which does not repeat what may be a password."""
    if text.lower().startswith(_CAMERA):
        number = text[len(_CAMERA) :]
        if not _DEVICE.fullmatch(number):
            raise UsageError(f"expected camera:0, camera:1, ... or camera:/dev/video0, got {text[:40]!r}")
        device = f"/dev/video{number}" if number.isdecimal() else number
        return Live(f"{_CAMERA}{device.removeprefix('/dev/video')}", text, device)
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if not host:
        raise UsageError(
            "an input that begins with rtsp:// is no address: expected rtsp://[user:password@]host[:port]/path"
        )
    host = f"[{host}]" if ":" in host else host
    path = "" if _SECRET.search(parts.path) else parts.path
    return Live(f"{_RTSP}{host}{f':{port}' if port else ''}{path}", text)


class Pace:
    """Chooses frames so that about `fps` a second are taken; all without one."""

    def __init__(self, fps: Fraction | None) -> None:
        self._step = None if fps is None else float(1 / fps)
        self._due: float | None = None

    def takes(self, at_s: float) -> bool:
        """Tell whether a frame of this time is taken; the first one is."""
        if self._step is None:
            return True
        if self._due is None or not self._due - 2 * self._step <= at_s < self._due + self._step:
            self._due = at_s + self._step  # the first one, or the first behind a gap or a clock that was set
            return True
        if at_s < self._due:
            return False
        self._due += self._step
        return True


def capture(
    live: Live,
    *,
    fps: Fraction | None,
    max_pixels: int,
    stopped: Callable[[], bool],
    tell: Callable[[str], None],
) -> Iterator[Captured]:
    """Yield frames until `stopped`; `tell` hears why a stream broke. Raises `Refused` where waiting is no use."""
    number, wait_s = 0, _FIRST_WAIT_S
    while not stopped():
        pace = Pace(fps)
        try:
            for frame in _frames(live, max_pixels, stopped):
                require_pixels(frame.width, frame.height, max_pixels)
                # By the camera's own clock, which counts evenly; frames come in bursts.
                if pace.takes(time.monotonic() if frame.time is None else frame.time):
                    yield Captured(number, time.time_ns() // 1_000_000, _rgb(frame))
                number, wait_s = number + 1, _FIRST_WAIT_S
                if stopped():
                    return
            why = "the stream ended"
        except (HTTPUnauthorizedError, HTTPForbiddenError):
            why = "the camera refuses this user or password"
            if not number:
                raise Refused(f"{live.name}: {why}: expected rtsp://user:password@host/path") from None
        except ItemError as error:
            raise Refused(f"{live.name}: {error}") from None
        except (FFmpegError, OSError) as error:
            why = (error.strerror or type(error).__name__).lower()
            if live.device and not number and not Path(live.device).exists():
                raise Refused(f"{live.name}: there is no camera {live.device} on this machine") from None
        tell(f"{live.name}: {why}; it is opened again in {wait_s:.0f} s")
        _sleep(wait_s, stopped)
        wait_s = min(2 * wait_s, _LONGEST_WAIT_S)


def _frames(live: Live, max_pixels: int, stopped: Callable[[], bool]) -> Iterator[Any]:
    """Yield whole frames in the order of showing, until `stopped`.

    Raises FFmpegError, OSError, and ItemError where there is no video or too large a one.
    """
    with _opened(live) as container:
        if not container.streams.video:
            raise ItemError("no_video", "expected a camera, found a stream without pictures")
        context = container.streams.video[0].codec_context
        require_pixels(context.width, context.height, max_pixels)
        context.thread_count = 1
        context.options = {"max_pixels": str(max_pixels)}
        last = time.monotonic()
        for packet in container.demux(container.streams.video[0]):
            if stopped():
                return
            try:
                frames = [frame for frame in packet.decode() if not frame.is_corrupt]
            except FFmpegError:
                frames = []  # what was lost on the way is mended by the next key frame
            last = time.monotonic() if frames else last
            if time.monotonic() - last > SILENCE_S:
                raise TimeoutError(errno.ETIMEDOUT, f"no whole frame in {SILENCE_S:.0f} s")
            yield from frames


def _opened(live: Live) -> Any:
    if live.device:
        return av.open(live.device, format="v4l2", timeout=SILENCE_S)
    # A server that is no camera must not make FFmpeg open anything but a connection to itself.
    options = {
        "rtsp_transport": "tcp",
        "protocol_whitelist": "rtsp,rtp,tcp",
        "allowed_media_types": "video",
        "fpsprobesize": "0",  # frames would be held back for more than a second
    }
    return av.open(live.uri, format="rtsp", options=options, timeout=SILENCE_S, metadata_errors="replace")


def _rgb(frame: Any) -> NDArray[np.uint8]:
    return np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)


def _sleep(seconds: float, stopped: Callable[[], bool]) -> None:
    until = time.monotonic() + seconds
    while not stopped() and time.monotonic() < until:
        time.sleep(_STEP_S)
