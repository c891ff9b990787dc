"""From a picture, a frame or the name of a file to a message: key, value and headers as `schemas.messages` names them.

The key is the source's id: what has one key stays in one partition, and so in its order. A picture without a source
has none, and goes to any partition.
"""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from schemas.errors import ItemError, UsageError
from schemas.messages import (
    CONTENT_TYPE,
    CONTRACT_VERSION,
    DEAD_HEADERS,
    FRAME_INDEX,
    PICTURE_TYPES,
    REFERENCE_TYPE,
    SOURCE_ID,
    TIMESTAMP_MS,
    VERSION_HEADER,
)
from transforms.buckets.names import is_remote
from transforms.kinds import VIDEOS, sniff
from transforms.storage import printable

MOST_SOURCE_ID = 200
"""Characters of a source's id: it is in every message and every row."""

_JPEG_SIDE = 65_500  # libjpeg's, in pixels

Headers = tuple[tuple[str, bytes], ...]


@dataclass(frozen=True, slots=True)
class Envelope:
    """One message, ready to be sent."""

    key: bytes | None
    value: bytes
    headers: Headers


@dataclass(frozen=True, slots=True)
class Reference:
    """The names a file goes by in place of its bytes; None leaves a field out.

    `range` is an offset and a length in bytes: a picture inside a larger file. `pts` and `frame_index` name one frame
    of a video.
    """

    path: str
    source_id: str | None = None
    timestamp_ms: int | None = None
    range: tuple[int, int] | None = None
    pts: int | None = None
    frame_index: int | None = None


def require_source_id(text: str) -> str:
    """Return the id of a source; raise UsageError where it is empty, long, or cannot be printed."""
    if not text or len(text) > MOST_SOURCE_ID or not text.isprintable():
        raise UsageError(f"expected a source id of 1 to {MOST_SOURCE_ID} printable characters, got {text[:40]!r}")
    return text


def of_picture(data: bytes, *, timestamp_ms: int | None, source_id: str | None) -> Envelope:
    """Return the message of a whole picture file; raise ItemError "empty", "not_a_picture", "unsupported"."""
    return Envelope(_key(source_id), data, _headers(picture_type(data), source_id, timestamp_ms, None))


def of_frame(jpeg: bytes, *, timestamp_ms: int, source_id: str, frame_index: int) -> Envelope:
    """Return the message of one frame, encoded as JPEG."""
    return Envelope(_key(source_id), jpeg, _headers(PICTURE_TYPES["jpeg"], source_id, timestamp_ms, frame_index))


def of_reference(reference: Reference) -> Envelope:
    """Return the message that names a file; raise ItemError "unsupported" for a name that JSON cannot hold."""
    path = reference.path
    if not is_remote(path):
        path = os.path.abspath(path)  # noqa: PTH100  a link stays the name that was given
    told = {
        "uri": path,
        "range": None if reference.range is None else dict(zip(("offset", "length"), reference.range, strict=True)),
        "pts": reference.pts,
        "source_id": reference.source_id,
        "timestamp_ms": reference.timestamp_ms,
        "frame_index": reference.frame_index,
    }
    fields = {"version": CONTRACT_VERSION} | {name: value for name, value in told.items() if value is not None}
    try:
        value = json.dumps(fields, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise ItemError("unsupported", f"{printable(path)}: a reference takes names in UTF-8 only: rename it") from None
    return Envelope(_key(reference.source_id), value, _headers(REFERENCE_TYPE, None, None, None))


def brought_back(key: bytes | None, value: bytes, headers: Sequence[tuple[str, bytes]]) -> Envelope:
    """Return a dead letter as the message that it was."""
    return Envelope(key, value, tuple(each for each in headers if each[0] not in DEAD_HEADERS))


def header(headers: Sequence[tuple[str, bytes]], name: str) -> str | None:
    """Return a header's text, None where there is none; of several the last one counts, as in Kafka's own clients."""
    found = [value for key, value in headers if key == name]
    return found[-1].decode("utf-8", "replace") if found else None


def picture_type(data: bytes) -> str:
    """Return a picture's content type, told by its bytes; raise ItemError."""
    if not data:
        raise ItemError("empty", "the file has 0 bytes")
    kind = sniff(data)
    if kind not in PICTURE_TYPES:
        error = "not_a_picture" if kind in ("text", "unknown", "pdf") else "unsupported"
        raise ItemError(error, f"expected a picture or a video, found {kind}")
    return PICTURE_TYPES[kind]


def require_known(head: bytes) -> None:
    """Raise ItemError for a file whose first bytes are those of no picture and no video: nobody could read it."""
    if sniff(head) not in VIDEOS:
        picture_type(head)


def jpeg_of(rgb: NDArray[np.uint8], quality: int) -> bytes:
    """Return an RGB picture (H, W, 3) as JPEG; raise ItemError "too_large" for sides that JPEG cannot hold."""
    height, width = rgb.shape[:2]
    if max(height, width) > _JPEG_SIDE:
        raise ItemError("too_large", f"a frame of {width} x {height} px cannot be a JPEG")
    _, data = cv2.imencode(".jpg", rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    return bytes(data)


def _key(source_id: str | None) -> bytes | None:
    return None if source_id is None else source_id.encode()


def _headers(content_type: str, source_id: str | None, timestamp_ms: int | None, frame_index: int | None) -> Headers:
    told = {
        VERSION_HEADER: CONTRACT_VERSION,
        CONTENT_TYPE: content_type,
        SOURCE_ID: source_id,
        TIMESTAMP_MS: timestamp_ms,
        FRAME_INDEX: frame_index,
    }
    return tuple((name, str(value).encode()) for name, value in told.items() if value is not None)
