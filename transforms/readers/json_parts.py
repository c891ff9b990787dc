"""The lists of a large JSON file, some elements at a time: a file of any length in little memory.

`orjson` takes a block of elements at once, four times as fast as the standard library; what it refuses (NaN, halves of
characters) and what is broken goes through `json`, one element at a time, which also tells where.

>>> import io
>>> list(parts(io.BytesIO(b'{"info": {}, "images": [{"id": 1}, {"id": 2}]}'), ["images"]))
[('images', [{'id': 1}, {'id': 2}])]
"""

import json
import re
from collections.abc import Collection, Iterator
from functools import lru_cache
from typing import Any, BinaryIO

import ijson  # type: ignore[import-untyped]  # it has no types
import orjson

from schemas.errors import UsageError
from transforms.readers.rows import Utf8, head_text
from transforms.storage import printable

MAX_VALUE_CHARS = 64 * 2**20
"""Longest value that is held at once: an element of a list, or a member that is passed over."""

WHOLE = ""
"""The key of the elements of a file that is one list."""

_BLOCK_BYTES = 1 << 19
_SPACE = " \t\n\r"
_MAY_GO_ON = ("", *"0123456789.eE+-")  # what may follow a number that the window cuts in two
_TRIES = 4
_LITERAL_CHARS = 16  # an error so near the window's end may be one of the cut, as in `-Infin`
_NEXT_OBJECT = re.compile(r"\s*,\s*\{")


class BrokenJson(ValueError):
    """A file is no JSON, or not of the expected shape. `at` is the byte where that was seen."""

    def __init__(self, message: str, at: int) -> None:
        super().__init__(message)
        self.at = at

    def told(self, name: str) -> UsageError:
        """Return the error for a person; `name` is the file's."""
        return UsageError(
            f"{printable(name)}: broken JSON at byte {self.at:,}: {self}. Mend it there, or export or copy it again."
        )


def parts(file: BinaryIO, keys: Collection[str]) -> Iterator[tuple[str, list[Any]]]:
    """Return (key, elements that follow each other) of the top-level lists `keys`, in the file's order.

    The key of a file that is one list is WHOLE. What is not asked for is passed over. Raises BrokenJson.
    """
    window = _Window(file)
    if window.took("["):
        for found in _elements(window):
            if WHOLE in keys:
                yield WHOLE, found
    else:
        window.take("{")
        yield from _members(window, keys)
    window.take("")


@lru_cache(maxsize=4)  # each format asks for those of the same file
def paths(head: bytes) -> frozenset[str]:
    """Return the paths of all that the beginning of a JSON file holds, as `images.item.file_name`.

    The root of a list is "item"; of what is no JSON at all nothing is found.
    """
    found = set()
    try:
        for path, _, _ in ijson.parse(head_text(head).encode("utf-8", "replace"), use_float=True):
            found.add(path)
    except (ijson.JSONError, ValueError):  # it is cut somewhere
        pass
    return frozenset(found - {""})


def _members(window: "_Window", keys: Collection[str]) -> Iterator[tuple[str, list[Any]]]:
    if window.took("}"):
        return
    while True:
        key = window.value()
        if not isinstance(key, str):
            raise window.error(f"expected the name of a member, found {str(key)[:40]!r}")
        window.take(":")
        if window.took("["):
            for found in _elements(window):
                if key in keys:
                    yield key, found
        elif key in keys:
            raise window.error(f"expected {key} to be a list")
        else:
            window.value()
        if not window.took(","):
            window.take("}")
            return


def _elements(window: "_Window") -> Iterator[list[Any]]:
    """Return the elements of the list that was just opened, about a block of the file at a time."""
    more = not window.took("]")
    while more:
        found: list[Any] = []
        end = window.passed + _BLOCK_BYTES // 2
        while more and window.passed < end:
            found += window.several() or [window.value()]
            more = window.took(",")
        if not more:
            window.take("]")
        yield found


class _Window:
    """A part of the file's text that begins at what was not yet read."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = Utf8(file)
        self._scan = json.JSONDecoder().raw_decode
        self._text, self._at, self._is_whole = "", 0, False
        self._before = self._file.mark_bytes  # bytes of the file before the window
        self._between = ""  # how one element, an object, ends and the next begins
        self._is_slow = False  # whether the rest of the window is read one element at a time

    @property
    def passed(self) -> int:
        """Say how many bytes, or characters where that is dearer, were read."""
        return self._before + self._at

    def several(self) -> list[Any]:
        """Return as many of the elements that come next as can be had at once; none where that cannot be told."""
        if self._is_slow or not self._between:
            return []
        if len(self._text) - self._at < _BLOCK_BYTES // 2:
            self._widen()
        end = len(self._text)
        for _ in range(_TRIES):
            end = self._text.rfind(self._between, self._at, end)
            if end < 0:
                break
            try:
                found: list[Any] = orjson.loads(f"[{self._text[self._at : end + 1]}]")
            except orjson.JSONDecodeError:  # the cut is within an element, or behind the list
                self._is_slow = True
            else:
                self._at = end + 1
                return found
        self._is_slow = True
        return []

    def value(self) -> Any:
        """Return the next value."""
        self._next()
        while True:
            try:
                value, end = self._scan(self._text, self._at)
            except json.JSONDecodeError as error:
                may_be_cut = error.pos >= len(self._text) - _LITERAL_CHARS or error.msg.startswith("Unterminated")
                if self._is_whole or not may_be_cut:
                    raise self._broken(error) from None
            except RecursionError:
                raise self.error("it is nested too deeply") from None
            except ValueError as error:  # a number of thousands of digits
                raise self.error(str(error).partition(";")[0]) from None
            else:
                if self._is_whole or self._text[end : end + 1] not in _MAY_GO_ON:
                    self._at = end
                    if isinstance(value, dict) and (follows := _NEXT_OBJECT.match(self._text, end)):
                        self._between = self._text[end - 1 : follows.end()]
                    return value
            self._widen()

    def took(self, char: str) -> bool:
        """Pass over `char` if it comes next; say whether it did."""
        found = self._next() == char
        self._at += found and bool(char)
        return found

    def take(self, char: str) -> None:
        """Pass over `char`, which must come next; '' is the end."""
        if not self.took(char):
            raise self.error(f"expected {char or 'the end'!r}, found {self._next()!r}" if self._next() else _EARLY)

    def error(self, message: str) -> BrokenJson:
        """Return an error at this place."""
        return BrokenJson(message, self._byte(self._at))

    def _broken(self, error: json.JSONDecodeError) -> BrokenJson:
        if self._text[error.pos : error.pos + 1] == "\0":
            return BrokenJson("a zero byte", self._byte(error.pos))
        if error.pos >= len(self._text) or error.msg.startswith("Unterminated"):
            return BrokenJson(_EARLY, self._byte(len(self._text)))
        return BrokenJson(f"{error.msg[0].lower()}{error.msg[1:]}", self._byte(error.pos))

    def _byte(self, at: int) -> int:
        return self._before + self._bytes(self._text[:at])

    def _bytes(self, text: str) -> int:
        if text.isascii() and self._file.encoding in ("utf-8", "cp1252"):
            return len(text)
        encoding = {"utf-16": "utf-16-le", "utf-32": "utf-32-le"}.get(self._file.encoding, self._file.encoding)
        return len(text.encode(encoding, "replace"))

    def _next(self) -> str:
        """Return the next character that is no white space; '' at the end."""
        while True:
            while self._at < len(self._text):
                if self._text[self._at] not in _SPACE:
                    return self._text[self._at]
                self._at += 1
            if self._is_whole:
                return ""
            self._widen()

    def _widen(self) -> None:
        """Drop what was read and read as much as is left again, so that a long value is scanned a few times only."""
        self._before = self._byte(self._at)
        self._text = self._text[self._at :]
        self._at, self._is_slow = 0, False
        if len(self._text) > MAX_VALUE_CHARS:
            raise self.error(f"a value of more than {MAX_VALUE_CHARS:,} characters")
        more = self._file.read_text(max(_BLOCK_BYTES, len(self._text)))
        self._is_whole = not more
        self._text += more


_EARLY = "it ends too early"
