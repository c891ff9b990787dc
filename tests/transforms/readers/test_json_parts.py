"""Lists of a JSON file come in parts, whatever its size, and what is broken is told with its byte."""

import io
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transforms.readers import json_parts, rows
from transforms.readers.json_parts import WHOLE, BrokenJson, parts, paths

_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)
_elements = st.lists(_values | st.dictionaries(st.sampled_from(["id", "n"]), st.integers(0, 9)), max_size=9)


def elements(data: bytes, *keys: str) -> list[tuple[str, Any]]:
    """Return the elements of the lists, whatever parts they came in."""
    return [(key, element) for key, some in parts(io.BytesIO(data), keys) for element in some]


@given(
    st.dictionaries(st.sampled_from("abc"), _elements), st.sampled_from([None, 1]), st.sampled_from([3, 40, 1 << 19])
)
def test_elements_are_those_that_the_json_module_reads(told: dict[str, Any], indent: int | None, block: int) -> None:
    """Of the lists that were asked for, in order, wherever the file is cut."""
    data = json.dumps(told | {"other": {"a": [1]}}, indent=indent, ensure_ascii=False).encode("utf-8", "replace")
    read = json.loads(data)
    expected = [(key, element) for key in read if key in ("a", "b") for element in read[key]]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_parts, "_BLOCK_BYTES", block)
        patch.setattr(rows, "_BLOCK_BYTES", block)
        assert elements(data, "a", "b") == expected
        assert elements(json.dumps(read.get("a", [])).encode(), WHOLE) == [(WHOLE, one) for one in read.get("a", [])]


def test_many_objects_come_in_few_parts() -> None:
    """Because a part costs more than an element; the numbers that only `json` takes are there too."""
    told = [{"id": number, "box": [1, {"x": number}]} for number in range(50_000)]
    data = json.dumps({"a": told}).replace('"id": 25000,', '"id": NaN,').encode()
    found = [some for _, some in parts(io.BytesIO(data), ["a"])]
    assert sum(map(len, found)) == len(told)
    assert len(found) < 20
    read = [element for some in found for element in some]
    assert read[25_000]["id"] != read[25_000]["id"]
    assert [element for element in read if element["id"] == element["id"]] == told[:25_000] + told[25_001:]


@pytest.mark.parametrize(
    ("data", "at", "told"),
    [
        (b"", 0, "ends too early"),
        (b'{"a"', 4, "ends too early"),
        (b'{"a": [1, ', 10, "ends too early"),
        (b'{"a": [{"x": "never', 19, "ends too early"),
        (b'{"a": [1 2]}', 9, "expected ']', found '2'"),
        (b'{"a": [{"x": 1}, {"x": tru, "y": 2}]}', 23, "expecting value"),
        (b"\xef\xbb\xbf[1, }", 7, "expecting value"),
        ("[1, }".encode("utf-16"), 10, "expecting value"),
        ('["é", }'.encode(), 7, "expecting value"),
        (b"[\0]", 1, "a zero byte"),
        (b'{"a": {"b": 1}}', 6, "expected a to be a list"),
        (b"{1: 2}", 2, "expected the name of a member"),
        (b"{} {}", 3, "expected 'the end'"),
        (b"[" * 200_000, 1, "nested too deeply"),
        (b"[" + b"1" * 5_000 + b"]", 1, "digits"),
    ],
)
def test_broken_json_is_told_with_its_byte(data: bytes, at: int, told: str) -> None:
    """Byte order marks count, and characters of several bytes."""
    with pytest.raises(BrokenJson, match=told) as caught:
        elements(data, "a", WHOLE)
    assert caught.value.at == at
    assert f"x.json: broken JSON at byte {at:,}: " in str(caught.value.told("x.json"))


def test_a_fault_deep_in_a_file_is_told_with_its_byte() -> None:
    """After many parts that were read at once."""
    head = b'{"a": [' + b",".join(b'{"id": %d, "box": [1, 2]}' % number for number in range(40_000))
    with pytest.raises(BrokenJson) as caught:
        elements(head + b', {"id": oops}]}', "a")
    assert caught.value.at == len(head) + len(b', {"id": ')


def test_a_value_that_never_ends_is_not_held(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither an element nor what is passed over."""
    monkeypatch.setattr(json_parts, "MAX_VALUE_CHARS", 1_000)
    monkeypatch.setattr(json_parts, "_BLOCK_BYTES", 100)
    monkeypatch.setattr(rows, "_BLOCK_BYTES", 100)
    for start in (b'{"a": ["', b'{"b": "', b'["'):
        file = io.BytesIO(start + b"x" * 100_000)
        with pytest.raises(BrokenJson, match="more than 1,000 characters"):
            list(parts(file, ["a"]))
        assert file.tell() < 5_000


def test_a_list_that_is_passed_over_may_be_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """Because it is passed over element by element."""
    monkeypatch.setattr(json_parts, "MAX_VALUE_CHARS", 1_000)
    monkeypatch.setattr(json_parts, "_BLOCK_BYTES", 100)
    monkeypatch.setattr(rows, "_BLOCK_BYTES", 100)
    assert elements(json.dumps({"b": list(range(5_000)), "a": [1]}).encode(), "a") == [("a", 1)]


def test_paths_tell_what_the_beginning_of_a_file_holds() -> None:
    """Though it is cut."""
    assert paths(b'{"info": {}, "images": [{"id": 1, "file_na') == {"info", "images", "images.item", "images.item.id"}
    assert paths('[{"é": 1}, {"b"'.encode("utf-16")) == {"item", "item.é"}
    assert paths(b"hello") == paths(b"") == frozenset()
