"""A check of MP4 and QuickTime files before FFmpeg reads them: it takes memory for every sample that they claim."""

import os
from typing import BinaryIO

_PARENTS = frozenset({b"moov", b"trak", b"mdia", b"minf", b"stbl", b"moof", b"traf"})
_RUN_FIELDS = 0xF00  # flags of a run of samples: each has its own duration, size, flags or time; ISO 14496-12, 8.8.8

# A sample may be one of a sound, and those are less than a byte each in some compressions.
_SAMPLES_A_BYTE, _SAMPLES_ANYWAY = 8, 100_000

_MOST_BOXES = 4_000_000  # a day in fragments of a second has a quarter of them


def claims_too_much(file: BinaryIO) -> bool:
    """Tell whether the file claims more samples than it can hold. Raises OSError."""
    size = file.seek(0, os.SEEK_END)
    at = 0
    for _ in range(_MOST_BOXES):
        if at >= size:
            return False
        file.seek(at)
        head = file.read(24)
        length, kind, body = int.from_bytes(head[:4], "big"), head[4:8], head[8:]
        if length == 1:  # it is too long for four bytes
            length, body = int.from_bytes(head[8:16], "big"), head[16:]
        if length < 8:
            return False  # the last box, or none
        if kind in (b"stsz", b"trun") and _samples(kind, body) > _SAMPLES_A_BYTE * size + _SAMPLES_ANYWAY:
            return True
        at += 8 if kind in _PARENTS else length
    return True


def _samples(kind: bytes, body: bytes) -> int:
    """Return how many samples a box claims without a field for each, which would bound them."""
    if kind == b"stsz":
        return int.from_bytes(body[8:12], "big") if any(body[4:8]) else 0
    return 0 if int.from_bytes(body[1:4], "big") & _RUN_FIELDS else int.from_bytes(body[4:8], "big")
