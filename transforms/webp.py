"""Animated WebP by Pillow: FFmpeg reads only its first frame, if any."""

import io
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageSequence

from schemas.errors import ItemError
from transforms.kinds import declared_bytes
from transforms.storage import opened

TIME_BASE = (1, 1000)
"""WebP tells durations in milliseconds."""

MOST_BYTES = 1 << 27
"""Limit on a file: Pillow holds it in memory as a whole."""

_ANIMATED, _TRANSPARENT = 0x02, 0x10  # of the flags in the first chunk, VP8X


@dataclass(frozen=True)
class Frames:
    """Which frames an animation has: `times` is each one's PTS in milliseconds, from 0; sizes in pixels.

    `message` tells why there are no more of them; it is empty where the file is whole.
    """

    times: tuple[int, ...]
    width: int
    height: int
    message: str


def is_animated(head: bytes) -> bool:
    """Tell from a WebP file's first bytes whether it says that it moves."""
    return head[12:16] == b"VP8X" and len(head) > 20 and bool(head[20] & _ANIMATED)


def frames_of(uri: str, max_pixels: int) -> Frames:
    """Return which frames there are, without decoding them. Raises ItemError "too_large", or as `storage.opened`."""
    return _frames_in(_read(uri, max_pixels))[0]


def read_webp(uri: str, max_pixels: int) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Yield each frame's PTS and its pixels (H, W, 3), laid on white. Raises ItemError behind the frames before it."""
    data = _read(uri, max_pixels)
    frames, end = _frames_in(data)
    if not frames.times:
        raise ItemError("corrupt", "the animation has no whole frame")
    # Pillow opens only what looks whole, and finds transparency only where the head says that there is some.
    head = data[:4] + (end - 8).to_bytes(4, "little") + data[8:20] + bytes([data[20] | _TRANSPARENT])
    try:
        with Image.open(io.BytesIO(head + data[21:end]), formats=("WEBP",)) as image:
            for pts, frame in zip(frames.times, ImageSequence.Iterator(image), strict=False):
                rgba = frame.convert("RGBA")
                page = Image.new("RGBA", rgba.size, "white")
                yield pts, np.asarray(Image.alpha_composite(page, rgba).convert("RGB"))
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        raise ItemError("corrupt", f"the animation breaks off: {error}") from error


def _read(uri: str, max_pixels: int) -> bytes:
    with opened(uri) as file:
        try:
            data = file.read(MOST_BYTES + 1)
        except OSError as error:
            raise ItemError("unreadable", f"the animation cannot be read: {error.strerror}") from error
    if len(data) > MOST_BYTES:
        raise ItemError("too_large", f"the animation has more than {MOST_BYTES:,} bytes: make it a video")
    width, height = _size(data)
    if width * height > max_pixels:
        raise ItemError(
            "too_large",
            f"{width} x {height} px are over the limit of {max_pixels:,}. Raise it with --max-pixels.",
        )
    return data


def _size(data: bytes) -> tuple[int, int]:
    return _number(data, 24) + 1, _number(data, 27) + 1


def _number(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 3], "little")


def _frames_in(data: bytes) -> tuple[Frames, int]:
    """Return the frames, and where the last whole chunk ends."""
    times, pts, at = [], 0, 12
    while at + 8 <= len(data):
        size = int.from_bytes(data[at + 4 : at + 8], "little")
        end = at + 8 + size + size % 2
        if end > len(data):
            break
        if data[at : at + 4] == b"ANMF":
            times.append(pts)
            pts += max(1, _number(data, at + 8 + 12))  # behind place and size
        at = end
    whole = len(data) >= (declared_bytes(data[:8]) or 0)
    message = "" if whole else f"the file ends after {len(times)} frames: it is a broken copy"
    return Frames(tuple(times), *_size(data), message), at
