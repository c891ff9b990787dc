"""Raw rows are built in bounded chunks, and whatever text or number stands in a file becomes one that they can hold."""

import io
import json
import math
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import ItemError
from schemas.raw import CHUNK_ROWS, RAW
from transforms.readers import rows as module
from transforms.readers.rows import (
    MAX_ATTRIBUTES,
    Row,
    Utf8,
    decoded,
    frames,
    head_text,
    json_object,
    number,
    picture_name,
    read_text,
    share,
    text,
    whole,
)


def test_a_row_has_a_field_for_each_column() -> None:
    """In the order of the columns, because plain tuples are taken too."""
    assert Row._fields == tuple(RAW)


def test_frames_are_bounded_and_keep_the_order() -> None:
    """No row is lost between two of them."""
    count = 2 * CHUNK_ROWS + 1
    found = list(frames(("f", row, "p", *[None] * 4, True, *[None] * 9) for row in range(count)))
    assert [frame.height for frame in found] == [CHUNK_ROWS, CHUNK_ROWS, 1]
    assert pl.concat(found)["row"].to_list() == list(range(count))
    assert dict(found[0].schema) == RAW


def test_whole_numbers_among_fractions_are_fractions() -> None:
    """As JSON and CSV mix them."""
    (frame,) = frames([Row("f", 0, "p", a=1, confidence=1), Row("f", 1, "p", a=2.5, confidence=0.5)])
    assert frame["a"].to_list() == [1.0, 2.5]
    assert frame["confidence"].to_list() == [1.0, 0.5]


def test_no_rows_are_no_frames() -> None:
    """So that an empty file costs nothing."""
    assert list(frames([])) == []


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("12.5", 12.5),
        (" 7 ", 7.0),
        (3, 3.0),
        (10**400, math.nan),
        ("1e999", math.nan),
        (math.inf, math.nan),
        (True, math.nan),
        ("wide", math.nan),
        (None, math.nan),
        ([1], math.nan),
    ],
)
def test_a_number_is_finite_or_none(value: Any, expected: float) -> None:
    """Whatever it was written as."""
    found = number(value)
    assert found == expected or (math.isnan(found) and math.isnan(expected))
    assert share(value) == (None if math.isnan(expected) else expected)


@pytest.mark.parametrize(
    ("value", "expected"),
    [("640", 640), (640.0, 640), ("640.5", None), (2**31, None), (-(2**31), -(2**31)), (math.nan, None), ("", None)],
)
def test_whole_numbers_fit_their_column(value: Any, expected: int | None) -> None:
    """Others are not told."""
    assert whole(value) == expected


def test_halves_of_characters_are_written_out() -> None:
    """JSON may hold them, UTF-8 may not."""
    assert text("a\ud800") == "a\\ud800"
    (frame,) = frames([Row("f", 0, "p", label=text("\udfff"))])
    assert frame["label"].to_list() == ["\\udfff"]


def test_names_of_pictures_have_slashes_forward() -> None:
    """And a number may be a name, but a list may not."""
    assert [picture_name(name) for name in (" a\\b.jpg ", 17, None, ["a"])] == ["a/b.jpg", "17", "", ""]


_members = st.dictionaries(
    st.text(max_size=5),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=9),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
        max_leaves=6,
    ),
    max_size=4,
)


@given(_members)
def test_attributes_are_always_json(members: dict[str, Any]) -> None:
    """Without NaN and infinity, in characters that UTF-8 has."""
    told = json_object(members)
    assert (told is None) == (not members)
    if told is not None:
        told.encode()
        assert isinstance(json.loads(told, parse_constant=pytest.fail), dict)


def test_attributes_are_bounded() -> None:
    """What is too long is left out and noted; the rest stays."""
    told = json.loads(json_object({"id": 5, "segmentation": [[1.5] * MAX_ATTRIBUTES]}) or "")
    assert told == {"id": 5, "segmentation_dropped": True}
    assert len(json_object({str(n): "x" * 99 for n in range(100_000)}) or "") <= MAX_ATTRIBUTES


def test_what_is_nested_too_deeply_is_left_out() -> None:
    """And noted; a depth that anybody uses is kept."""
    deep: Any = 1
    for _ in range(50):
        deep = [deep]
    kept = deep
    for _ in range(900):
        deep = {"x": deep}
    assert json.loads(json_object({"id": 2**70, "deep": deep, "kept": kept}) or "") == {
        **{"id": 2**70, "deep_dropped": True},
        "kept": kept,
    }


_TEXT = "Gefühl, 高兴\n" * 3


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_text_of_any_usual_encoding_is_read(encoding: str, tmp_path: Path) -> None:
    """Its byte order mark is no part of it."""
    data = _TEXT.encode(encoding)
    assert decoded(data) == _TEXT
    assert head_text(data[:11]).startswith("Gef"[: 2 if encoding == "utf-32" else 3][:1])
    (tmp_path / "a.txt").write_bytes(data)
    assert read_text(str(tmp_path / "a.txt")) == _TEXT


def test_what_is_no_utf8_is_windows_1252() -> None:
    """As old programs of Windows write it."""
    assert decoded("Gefühl €".encode("cp1252")) == "Gefühl €"


@pytest.mark.parametrize("data", [b"", b" \n ", b"a\0b"])
def test_texts_that_are_none_are_refused(data: bytes, tmp_path: Path) -> None:
    """Empty ones, and those with a zero byte."""
    path = tmp_path / "a.txt"
    path.write_bytes(data)
    with pytest.raises(ItemError, match=r"is empty|zero byte at 1"):
        read_text(str(path))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
@pytest.mark.parametrize("block", [1, 2, 3, 1000])
def test_a_file_in_parts_is_the_same_text(encoding: str, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever characters are cut; behind what only Windows-1252 has, all is Windows-1252."""
    monkeypatch.setattr(module, "_BLOCK_BYTES", block)
    told = "x" * 40 + "Gefühl, café au lait"
    file = Utf8(io.BytesIO(told.encode(encoding)))
    assert b"".join(iter(lambda: file.read(block), b"")).decode() == told
