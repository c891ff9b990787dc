"""MP4 files that claim more than they can hold."""

import io
import struct
import time
from pathlib import Path

import pytest

from tests.videos import boxes, encode
from transforms.mp4 import claims_too_much
from transforms.video_index import index_of


def box(kind: bytes, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return struct.pack(">I4s", 8 + len(body), kind) + body


def sizes(each: int, count: int) -> bytes:
    return box(b"stsz", struct.pack(">III", 0, each, count))


def run(flags: int, count: int) -> bytes:
    return box(b"trun", struct.pack(">II", flags, count))


def track(*parts: bytes) -> bytes:
    inner = b"".join(parts)
    for kind in (b"stbl", b"minf", b"mdia", b"trak", b"moov"):
        inner = box(kind, box(b"free", bytes(5)), inner)
    return box(b"ftyp", b"isom") + inner


BILLION = 10**9
CASES = {
    "samples of one size": (track(sizes(1, BILLION)), True),
    "few samples of one size": (track(sizes(1, 1000)), False),
    "samples with a size each, which the file would have to hold": (track(sizes(0, BILLION)), False),
    "a run of samples that say nothing": (box(b"moof", box(b"traf", run(0x001, BILLION))), True),
    "a run of samples that say their size": (box(b"moof", box(b"traf", run(0x200, BILLION))), False),
    "behind a long box": (struct.pack(">I4sQ", 1, b"mdat", 16 + 50) + bytes(50) + track(sizes(1, BILLION)), True),
    "in the contents of another box": (box(b"mdat", track(sizes(1, BILLION))), False),
    "behind the last box": (struct.pack(">I4s", 0, b"mdat") + track(sizes(1, BILLION)), False),
    "nothing": (b"", False),
    "less than a box": (b"\0\0", False),
    "a box that is cut": (box(b"moov", bytes(100))[:50], False),
}


@pytest.mark.parametrize("name", CASES)
def test_claims_are_weighed(name: str) -> None:
    """A sample needs a byte, or nearly; one that has a field of its own has it in the file."""
    data, expected = CASES[name]
    assert claims_too_much(io.BytesIO(data)) == expected


def test_a_bomb_takes_neither_time_nor_memory(tmp_path: Path) -> None:
    """FFmpeg alone would take gigabytes for these few kilobytes."""
    path = encode(tmp_path / "a.mp4", options={"g": "1"})
    bomb = boxes(path.read_bytes(), {b"stsz": lambda _: struct.pack(">III", 0, 1, 40_000_000)})
    path.write_bytes(bomb)
    started = time.monotonic()
    index = index_of(str(path), "mp4", 10**6)
    assert (index.frames, index.error) == ((), "corrupt")
    assert time.monotonic() - started < 1
