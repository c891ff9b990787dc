"""What a JPEG says of itself: a walk over its markers, no pixels made."""

from dataclasses import dataclass
from typing import Literal

from schemas.errors import ItemError
from transforms.kinds import JPEG_START, JUNK_BYTES

PROGRESSIVE = 0xC2
SEQUENTIAL = frozenset({0xC0, 0xC1})
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_READABLE_FRAMES = frozenset({0xC0, 0xC1, 0xC2, 0xC9, 0xCA})  # Huffman and arithmetic coding, not lossless
_MAX_MARKERS = 16_384  # a fuzzed file may consist of markers only; real ones have a few dozen


@dataclass(frozen=True, slots=True)
class JpegHeader:
    """The markers of a JPEG's primary picture. `width` and `height` are as stored, before orientation.

    `scan` is the offset of the first scan's marker. `frame` is the start-of-frame marker (0xC0 baseline, 0xC2
    progressive). `components` are 1, 3 or 4; `scanned` of them are in the first scan. `regular` is False where a
    decoder must skip bytes between the markers. `restarts`: the scan has restart markers. `adobe`: it has Adobe's
    marker, whose CMYK is inverted.
    """

    width: int
    height: int
    orientation: int
    scan: int
    frame: int
    components: int
    scanned: int
    regular: bool
    restarts: bool
    adobe: bool


def jpeg_header(data: bytes) -> JpegHeader:
    """Walk over the markers up to the first scan. Skips what decoders skip, and remembers that."""
    position = data.find(JPEG_START, 0, JUNK_BYTES + 3) + 2
    regular = position == 2
    width = height = precision = components = frame = restarts = 0
    orientation: int | None = None
    adobe = False
    for _ in range(_MAX_MARKERS):
        if data[position : position + 1] != b"\xff":
            regular = False
            position = data.find(b"\xff", position)
            if position < 0:
                break
        marker = data[position + 1] if position + 1 < len(data) else -1
        if marker == 0xFF:  # a fill byte
            position += 1
            continue
        if marker == 0 or marker == 1 or 0xD0 <= marker <= 0xD8:  # without a length; none belongs here
            regular = False
            position += 2
            continue
        if marker < 0 or marker == 0xD9:
            break
        body = position + 4
        end = position + 2 + int.from_bytes(data[position + 2 : body], "big")
        if end < body or end > len(data):
            break
        if marker in _FRAMES and body + 6 <= end:
            frame = marker
            precision = data[body]
            height = int.from_bytes(data[body + 1 : body + 3], "big")
            width = int.from_bytes(data[body + 3 : body + 5], "big")
            components = data[body + 5]
        elif marker == 0xE1 and orientation is None and data.startswith(b"Exif\0", body):
            orientation = exif_orientation(data[body + 6 : end])
        elif marker == 0xDD and body + 2 <= end:
            restarts = int.from_bytes(data[body : body + 2], "big")
        elif marker == 0xEE and data.startswith(b"Adobe", body):
            adobe = True
            regular = regular and end - body >= 12  # a short one misplaces all that follows for some decoders
        elif marker == 0xDA and frame and body < end:
            _check_frame(frame, precision, width, height)
            return JpegHeader(
                width, height, orientation or 1, position, frame, components, data[body], regular, bool(restarts), adobe
            )
        elif marker == 0xDA:
            raise ItemError("corrupt", "JPEG: a scan without a frame header.")
        position = end
    else:
        raise ItemError("corrupt", f"JPEG: no picture within the first {_MAX_MARKERS:,} markers.")
    raise ItemError("truncated", "JPEG: the file ends within its header.")


def _check_frame(frame: int, precision: int, width: int, height: int) -> None:
    if width == 0 or height == 0:
        raise ItemError("corrupt", f"JPEG: the header says {width} x {height} pixels.")
    if frame not in _READABLE_FRAMES or precision != 8:
        raise ItemError("unsupported", f"JPEG: lossless or {precision}-bit coding cannot be read (frame {frame:#x}).")


def exif_orientation(tiff: bytes) -> int | None:
    """Return the orientation (1..8) in an EXIF block that begins with its TIFF header, None where there is none.

    Never raises: EXIF is often broken where the picture is not.
    """
    order: Literal["little", "big"] = "little" if tiff[:2] == b"II" else "big"
    if tiff[:2] not in (b"II", b"MM"):
        return None
    start = int.from_bytes(tiff[4:8], order)
    count = int.from_bytes(tiff[start : start + 2], order)
    for entry in range(start + 2, min(start + 2 + 12 * count, len(tiff) - 11), 12):
        if int.from_bytes(tiff[entry : entry + 2], order) == 0x0112:
            is_long = int.from_bytes(tiff[entry + 2 : entry + 4], order) == 4
            value = int.from_bytes(tiff[entry + 8 : entry + (12 if is_long else 10)], order)
            return value if 1 <= value <= 8 else None
    return None
