"""Messages as the contract says, and as this project's own reader takes them."""

import io
import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from schemas.errors import ItemError, UsageError
from schemas.messages import DEAD_HEADERS, PICTURE_TYPES, REFERENCE_TYPE
from tests.videos import picture
from transforms.envelope import (
    Envelope,
    Reference,
    brought_back,
    header,
    jpeg_of,
    of_frame,
    of_picture,
    of_reference,
    require_known,
    require_source_id,
)
from transforms.messages import AllowedRoots, Arrival, Record, arrivals

NOW_MS = 1_790_000_000_000
HEADERS = st.lists(st.tuples(st.sampled_from([*DEAD_HEADERS, "content-type", "x", "source-id"]), st.binary(max_size=9)))


def _read(envelope: Envelope, root: str = "/") -> Arrival:
    """Return what our reader makes of a message."""
    record = Record("frames", 0, 0, NOW_MS, envelope.key, envelope.value, envelope.headers)
    [arrival] = arrivals(record, AllowedRoots((root,), ()))
    return arrival


def test_a_reference_to_an_object_is_its_uri() -> None:
    """As it is listed: keys stand unescaped."""
    uri = "s3://raw/2026/a b%20?#é.jpg"
    envelope = of_reference(Reference(uri))
    record = Record("frames", 0, 0, NOW_MS, envelope.key, envelope.value, envelope.headers)
    assert [each.uri for each in arrivals(record, AllowedRoots.of(["s3://raw"]))] == [uri]


def _encoded(form: str) -> bytes:
    out = io.BytesIO()
    Image.fromarray(picture(1)).save(out, form)
    return out.getvalue()


@pytest.mark.parametrize(
    ("form", "kind"), [("JPEG", "jpeg"), ("PNG", "png"), ("WEBP", "webp"), ("TIFF", "tiff"), ("PPM", "pnm")]
)
def test_a_picture_is_its_bytes_and_what_they_are(form: str, kind: str) -> None:
    """Its type is told by its content; without a source there is no key."""
    data = _encoded(form)
    envelope = of_picture(data, timestamp_ms=NOW_MS, source_id=None)
    assert envelope.value == data
    assert envelope.key is None
    assert dict(envelope.headers) == {
        "labelstream-version": b"1",
        "content-type": PICTURE_TYPES[kind].encode(),
        "timestamp-ms": str(NOW_MS).encode(),
    }


@pytest.mark.parametrize(
    ("data", "error"),
    [(b"", "empty"), (b"notes\n", "not_a_picture"), (b"\0\1\2\3" * 9, "not_a_picture"), (b"8BPS....", "unsupported")],
)
def test_what_is_no_picture_is_no_message(data: bytes, error: str) -> None:
    """It would only come back as a dead letter."""
    with pytest.raises(ItemError) as caught:
        of_picture(data, timestamp_ms=None, source_id=None)
    assert caught.value.error == error


def test_a_name_is_sent_of_pictures_and_videos_only() -> None:
    """Both pass, a text does not."""
    require_known(_encoded("PNG"))
    require_known(b"FLV\x01....")
    with pytest.raises(ItemError, match="found text"):
        require_known(b"notes\n")


@given(st.text(min_size=1, max_size=20).filter(str.isprintable), st.integers(0, 2**31 - 1))
def test_a_frame_says_where_it_comes_from(source_id: str, number: int) -> None:
    """Our reader finds the source, the time and the number; the key keeps a source's frames together."""
    envelope = of_frame(b"\xff\xd8\xff", timestamp_ms=NOW_MS - 5, source_id=source_id, frame_index=number)
    arrival = _read(envelope)
    assert envelope.key == source_id.encode()
    assert (arrival.sent.source_id, arrival.sent.frame_index, arrival.timestamp_ms) == (source_id, number, NOW_MS - 5)
    assert not arrival.sent.error
    assert not arrival.sent.repairs


NAMES = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=20)


@given(NAMES.filter(lambda name: name not in (".", "..")), st.none() | st.integers(0, 2**40), st.none() | NAMES)
def test_a_reference_names_the_file_and_what_is_known_of_it(name: str, pts: int | None, source_id: str | None) -> None:
    """Our reader opens exactly that file, whatever its name."""
    path = f"/nowhere/at all/{name}"
    span = None if pts is None else (pts, 7)
    envelope = of_reference(Reference(path, source_id, NOW_MS, range=span, pts=pts, frame_index=3))
    arrival = _read(envelope, "/nowhere")
    assert header(envelope.headers, "content-type") == REFERENCE_TYPE
    assert arrival.uri == path
    assert (arrival.pts, arrival.sent.span, arrival.sent.frame_index) == (pts, span, 3)
    assert (arrival.timestamp_ms, arrival.sent.source_id, arrival.sent.error) == (NOW_MS, source_id, "")


def test_a_reference_is_absolute_and_says_no_more_than_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fields that are not known are left out; the reader has another working folder."""
    monkeypatch.chdir(tmp_path)
    assert json.loads(of_reference(Reference("a/../b.jpg")).value) == {"version": "1", "uri": f"{tmp_path}/b.jpg"}


def test_a_name_that_json_cannot_hold_is_refused() -> None:
    """Bytes that are no UTF-8 would arrive as another name."""
    with pytest.raises(ItemError, match=r"b\\xff.jpg.*UTF-8"):
        of_reference(Reference(os.fsdecode(b"/a/b\xff.jpg")))


@given(st.none() | st.binary(max_size=9), st.binary(max_size=9), HEADERS)
def test_a_dead_letter_comes_back_as_it_was(key: bytes | None, value: bytes, headers: list[tuple[str, bytes]]) -> None:
    """Only what was added when it died is taken away; order and repetitions stay."""
    dead = [*headers, *((name, b"why") for name in DEAD_HEADERS)]
    back = brought_back(key, value, dead)
    assert (back.key, back.value) == (key, value)
    assert list(back.headers) == [each for each in headers if each[0] not in DEAD_HEADERS]


def test_a_frame_as_jpeg_keeps_its_colours() -> None:
    """Red stays red: OpenCV has its channels the other way round."""
    rgb = np.zeros((32, 48, 3), np.uint8)
    rgb[..., 0] = 255
    seen = cv2.imdecode(np.frombuffer(jpeg_of(rgb, 95), np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    assert np.abs(seen.astype(int) - rgb).max() < 5
    assert len(jpeg_of(picture(1), 30)) < len(jpeg_of(picture(1), 95))


def test_a_frame_that_jpeg_cannot_hold_is_an_error() -> None:
    """Its sides are 16-bit numbers."""
    with pytest.raises(ItemError, match="70000 x 2 px"):
        jpeg_of(np.zeros((2, 70_000, 3), np.uint8), 95)


@pytest.mark.parametrize("text", ["", "a\nb", "x" * 201])
def test_a_source_id_is_short_and_can_be_printed(text: str) -> None:
    """It is in every message and every row."""
    with pytest.raises(UsageError, match="1 to 200 printable"):
        require_source_id(text)
    assert require_source_id("Tür 1") == "Tür 1"
