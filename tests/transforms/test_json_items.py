"""Lists of a JSON file come element by element, whatever its size, and what is no JSON is told."""

import io
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transforms import json_items
from transforms.json_items import items

_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)


class OneByte(io.BytesIO):
    """A file of which every read returns one byte: numbers, strings and characters are cut everywhere."""

    def read(self, size: int | None = -1) -> bytes:
        """Return the next byte."""
        return super().read(1)


@given(st.dictionaries(st.sampled_from("abc"), st.lists(_values, max_size=5)), st.sampled_from([None, 1]))
def test_elements_are_those_that_the_json_module_reads(given_: dict[str, Any], indent: int | None) -> None:
    """Of the lists that were asked for, in order."""
    data = json.dumps(given_ | {"other": {"a": [1]}}, indent=indent, ensure_ascii=False).encode("utf-8", "replace")
    read = json.loads(data)
    expected = [(key, element) for key in read if key in ("a", "b") for element in read[key]]
    assert list(items(io.BytesIO(data), ("a", "b"))) == expected
    assert list(items(OneByte(data), ("a", "b"))) == expected


def test_a_byte_order_mark_is_no_part_of_it() -> None:
    """As Windows writes it."""
    assert list(items(io.BytesIO(b'\xef\xbb\xbf{"a": [1]}'), ["a"])) == [("a", 1)]


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "ends too early"),
        (b"[1]", "expected '{', found '\\['"),
        (b'{"a"', "ends too early"),
        (b'{"a": [1, ', "Expecting value"),
        (b'{"a": [1', "ends too early"),
        (b'{"a": [1 2]}', "expected ']', found '2'"),
        (b'{"a": {"b": 1}}', "expected a to be a list"),
        (b"{1: 2}", "expected the name of a member"),
        (b'{"a": ["\xff"]}', "utf-8"),
        (b'{"a": [' + b"[" * 200_000, "nested too deeply"),
        (b'{"a": [' + b"1" * 5_000 + b"]}", "digits"),
    ],
)
def test_what_is_no_json_object_is_told(data: bytes, told: str) -> None:
    """In one ValueError."""
    with pytest.raises(ValueError, match=told):
        list(items(io.BytesIO(data), ["a"]))


def test_a_value_that_never_ends_is_not_held(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither an element nor what is passed over."""
    monkeypatch.setattr(json_items, "MAX_VALUE_CHARS", 1_000)
    monkeypatch.setattr(json_items, "_BLOCK_BYTES", 100)
    for start in (b'{"a": ["', b'{"b": "'):
        file = io.BytesIO(start + b"x" * 100_000)
        with pytest.raises(ValueError, match="more than 1,000 characters"):
            list(items(file, ["a"]))
        assert file.tell() < 5_000
