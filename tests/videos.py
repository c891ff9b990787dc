"""Small videos for tests, made by PyAV: each frame is another picture."""

import os
import random
import resource
import shutil
import struct
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from schemas.errors import ItemError
from schemas.records import Clip
from transforms.video import Frame, read_clip
from transforms.video_index import clips, index_of, video_kind

MAX_PIXELS = 4_000_000
AV1 = Path(__file__).parent / "transforms" / "data" / "av1.obu"
"""Forty frames of AV1, 160 x 120 px, a key frame every ten. The encoder at hand would take the machine for itself: it
gives the thread that calls it real-time priority."""

WHOLE = 1 << 60
"""Frames of a clip that is never cut."""


B_FRAMES = {"bf": "3", "g": "10", "x264-params": "b-pyramid=normal"}
"""Options of libx264: groups of ten, of which some frames need later ones."""


def x265(**parameters: object) -> dict[str, str]:
    """Return options of libx265; it prints nothing."""
    told = {"log_level": 0, "keyint": 10, "bframes": 4, **parameters}
    return {"x265-params": ":".join(f"{name.replace('_', '-')}={value}" for name, value in told.items())}


def tool(name: str) -> str:
    """Return the path of a program. Without it the test is skipped; in CI it fails."""
    path = shutil.which(name)
    if path is None:
        reason = f"a program that tests need is missing: {name}"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return path


def picture(number: int, width: int = 64, height: int = 48) -> NDArray[np.uint8]:
    """Return the picture of a frame: a slope that wanders, with a square that runs over it."""
    y, x = np.mgrid[:height, :width]
    rgb = np.stack([x * 2 + number * 3, y * 3 + number, (x + y) * 2], axis=-1) % 256
    side, left = max(1, height // 4), number * 5 % width
    rgb[side : 2 * side, left : left + side] = (255, number * 40 % 256, 0)
    return rgb.astype(np.uint8)


def encode(
    path: Path,
    codec: str = "libx264",
    *,
    count: int = 40,
    size: tuple[int, int] = (64, 48),
    rate: Fraction | int = 25,
    times: Sequence[int] | None = None,
    time_base: Fraction | None = None,
    pixels: str = "yuv420p",
    options: Mapping[str, str] | None = None,
    form: str | None = None,
    file_options: Mapping[str, str] | None = None,
    **settings: Any,
) -> Path:
    """Write a video of `count` frames and return its path; `times` are their PTS, in `time_base`, 0, 1, 2... if null.

    `settings` are attributes of the codec's context.
    """
    unit = time_base or 1 / Fraction(rate)
    with av.open(str(path), "w", format=form, options=dict(file_options or {})) as file:
        stream: Any = file.add_stream(codec, rate=Fraction(rate), options=dict(options or {}))
        stream.width, stream.height = size
        stream.pix_fmt = pixels
        stream.time_base = stream.codec_context.time_base = unit
        for name, value in settings.items():
            setattr(stream.codec_context, name, value)
        for number, pts in enumerate(times if times is not None else range(count)):
            frame = av.VideoFrame.from_ndarray(picture(number, *size), format="rgb24")
            frame.pts, frame.time_base = pts, unit
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return path


def copy(source: Path, path: Path, *, form: str | None = None, file_options: Mapping[str, str] | None = None) -> Path:
    """Put the packets of a video into another container, and return its path."""
    with av.open(str(source)) as given, av.open(str(path), "w", format=form, options=dict(file_options or {})) as file:
        stream: Any = file.add_stream_from_template(given.streams.video[0], opaque=True)
        for packet in given.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                file.mux(packet)
    return path


def joined(path: Path, *parts: Path) -> Path:
    """Write the files one behind the other, and return the path."""
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    return path


def animated(path: Path, **options: Any) -> Path:
    """Write a drawing of nine frames by Pillow, half of it see-through; a frame covers a part of the one before."""
    frames = []
    for number in range(9):
        rgba = np.dstack([picture(number), np.full((48, 64), 255, np.uint8)])
        rgba[:, : 4 * number + 4] = 0
        frames.append(Image.fromarray(rgba))
    frames[0].save(path, save_all=True, append_images=frames[1:], **options)
    return path


def boxes(data: bytes, changes: Mapping[bytes, Callable[[bytes], bytes]]) -> bytes:
    """Return an MP4 file with the contents of some boxes changed; its index must be at its end."""
    out, at = b"", 0
    while at < len(data):
        length, kind = struct.unpack(">I4s", data[at : at + 8])
        body = data[at + 8 : at + length]
        if kind in changes:
            body = changes[kind](body)
        elif kind in (b"moov", b"trak", b"mdia", b"minf", b"dinf", b"stbl", b"edts"):
            body = boxes(body, changes)
        out += struct.pack(">I4s", 8 + len(body), kind) + body
        at += length
    return out


def edited(path: Path, *edits: tuple[int, int]) -> Path:
    """Give an MP4 file an edit list: each edit's milliseconds, and where it begins in the units of its stream."""
    entries = b"".join(struct.pack(">Iii", *edit, 65536) for edit in edits)
    path.write_bytes(boxes(path.read_bytes(), {b"elst": lambda _: struct.pack(">II", 0, len(edits)) + entries}))
    return path


def turned(path: Path, a: int, b: int, c: int, d: int) -> Path:
    """Give an MP4 file a display matrix: how far right and down a step right (a, b) and a step down (c, d) go."""
    matrix = struct.pack(">9i", a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30)
    path.write_bytes(boxes(path.read_bytes(), {b"tkhd": lambda body: body[:40] + matrix + body[76:]}))
    return path


def in_fields(path: Path, count: int, form: str) -> Path:
    """Write H.264 of `count` interlaced frames whose two fields are pictures, and packets, of their own.

    No encoder at hand makes it. Each macroblock has its samples as they are, so it takes four kinds of syntax.
    """
    with av.open(str(path), "w", format=form) as file:
        stream: Any = file.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        stream.codec_context.extradata = _unit(3, 7, _SEQUENCE) + _unit(3, 8, _PICTURE)
        for number in range(count):
            begins = number % 10 == 0
            for bottom in (0, 1):
                data = _unit(0, 9, "11110000")
                if begins and not bottom:
                    data += stream.codec_context.extradata
                data += _field(number, bottom, begins)
                packet = av.Packet(data)
                packet.stream, packet.time_base = stream, Fraction(1, 50)
                packet.pts = packet.dts = 2 * number + bottom
                packet.is_keyframe = begins and not bottom
                file.mux(packet)
    return path


def _count(value: int) -> str:
    """Return an unsigned number as H.264 writes it (9.1)."""
    return f"{value + 1:b}".zfill(2 * (value + 1).bit_length() - 1)


def _unit(reference: int, kind: int, bits: str) -> bytes:
    body = bytearray()
    for at in range(0, len(bits), 8):
        byte = int(bits[at : at + 8].ljust(8, "0"), 2)
        if byte <= 3 and body[-2:] == b"\0\0":
            body.append(3)
        body.append(byte)
    return b"\0\0\0\1" + bytes([reference << 5 | kind]) + body


# Main profile; 4 bits of frame_num, 8 of the picture's order; 64 x 64 px; fields may be coded by themselves.
_SEQUENCE = f"{77:08b}{0:08b}{30:08b}" + "".join(map(_count, (0, 0, 0, 4, 1))) + f"0{_count(3)}{_count(1)}0010" + "01"
_PICTURE = _count(0) * 2 + "00" + _count(0) * 3 + "000" + _count(0) * 3 + "000" + "1"


def _field(number: int, bottom: int, begins: bool) -> bytes:
    first = begins and not bottom
    bits = _count(0) + _count(7) + _count(0) + f"{0 if begins else 1:04b}1{bottom}" + (_count(0) if first else "")
    bits += f"{number % 10 * 2 + bottom:08b}" + ("00" if first else "0" if begins else "") + _count(0)
    for block in range(8):
        bits += _count(25)
        bits = bits.ljust(len(bits) + -len(bits) % 8, "0")
        bits += "".join(f"{16 + (number * 7 + block * 5 + bottom * 50 + i // 16) % 200:08b}" for i in range(256))
        bits += f"{128:08b}" * 128
    return _unit(3 if begins else 0, 5 if first else 1, bits + "1")


Shown = tuple[int, int, float, bytes]


def shown(frame: Frame) -> Shown:
    """Return what there is to compare of a frame."""
    return frame.moment.frame, frame.moment.pts, frame.moment.pts_ms, frame.rgb.tobytes()


def read(path: Path, wanted: str = "all", *, most: int = WHOLE) -> tuple[list[Shown], str]:
    """Return a video's frames, read in clips of `most`, and the error behind them, if there is one.

    As in a run: behind an error that ends a clip nothing is read; of other errors the first one counts.
    """
    frames: list[Shown] = []
    first = ""
    for clip in planned(path, wanted, most=most):
        try:
            frames += map(shown, read_clip(str(path), clip, wanted=wanted, max_pixels=MAX_PIXELS))
        except ItemError as error:
            first = first or f"{error.error}: {error}"
            if error.error != "missing_frames":
                break
    return frames, first


def planned(path: Path, wanted: str = "all", *, most: int = WHOLE) -> Iterator[Clip]:
    """Yield the clips of a video."""
    kind = video_kind(str(path), MAX_PIXELS)
    assert kind is not None
    return clips(index_of(str(path), kind, MAX_PIXELS), wanted, most=most)


def mutated(data: bytes, seed: str) -> bytes:
    """Return the bytes with some damage: changed, blanked, cut out or cut off."""
    rng = random.Random(seed)
    changed = bytearray(data)
    way, at = rng.randrange(6), rng.randrange(len(data))
    if way < 2:  # the second way keeps to the head
        for _ in range(rng.randrange(1, 30)):
            changed[rng.randrange(len(data) if way else 1000)] = rng.randrange(256)
    elif way == 2:
        del changed[at:]
    elif way == 3:
        del changed[at : at + rng.randrange(1, 2000)]
    elif way == 4:
        blank = bytes(rng.randrange(1, 2000))
        changed[at : at + len(blank)] = blank
    else:
        for _ in range(rng.randrange(1, 6)):
            place = rng.randrange(len(data) - 4)
            changed[place : place + 4] = rng.choice([b"\xff" * 4, b"\0" * 4, b"\x7f\xff\xff\xff", b"\x80\0\0\0"])
    return bytes(changed)


def read_mutated(path: Path, folder: Path, seeds: range) -> tuple[float, int]:
    """Read a video with each seed's damage in every way; return the seconds of the slowest, and the memory's growth.

    Growth is in MB, from the tenth on. Whatever is raised is no ItemError.
    """
    slowest, before = 0.0, 0
    target = folder / f"mutated-{path.name}"
    for number, seed in enumerate(seeds):
        target.write_bytes(mutated(path.read_bytes(), f"{path.name} {seed}"))
        started = time.monotonic()
        for wanted in ("all", "5", "keyframes"):
            if video_kind(str(target), MAX_PIXELS) is not None:
                read(target, wanted, most=8)
        slowest = max(slowest, time.monotonic() - started)
        if number == 10:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return slowest, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024
