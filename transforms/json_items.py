"""The lists of a large JSON object, one element at a time: a file of any length in the memory of its largest element.

>>> import io
>>> list(items(io.BytesIO(b'{"info": {}, "images": [{"id": 1}, {"id": 2}]}'), ["images"]))
[('images', {'id': 1}), ('images', {'id': 2})]
"""

import codecs
import json
from collections.abc import Collection, Iterator
from typing import Any, BinaryIO

MAX_VALUE_CHARS = 64 * 2**20
"""Longest value that is held at once: an element of a list that is read, or a member that is passed over."""

_BLOCK_BYTES = 1 << 20
_SPACE = " \t\n\r"
_MAY_GO_ON = ("", *"0123456789.eE+-")
"""What may follow a number that the window cuts in two."""


def items(file: BinaryIO, keys: Collection[str]) -> Iterator[tuple[str, Any]]:
    """Return (key, element) for each element of the top-level lists `keys`, in the file's order; the rest is dropped.

    Raises ValueError where the file is no JSON object, a list is no list, or a value is too long or nested too deeply.
    """
    reader = _Reader(file)
    reader.take("{")
    if reader.took("}"):
        return
    while True:
        key = reader.value()
        if not isinstance(key, str):
            raise ValueError(f"expected the name of a member, found {str(key)[:40]!r}")
        reader.take(":")
        if key in keys:
            for element in _elements(reader, key):
                yield key, element
        else:
            reader.value()
        if not reader.took(","):
            reader.take("}")
            return


def _elements(reader: "_Reader", key: str) -> Iterator[Any]:
    if not reader.took("["):
        raise ValueError(f"expected {key} to be a list")
    if reader.took("]"):
        return
    yield reader.value()
    while reader.took(","):
        yield reader.value()
    reader.take("]")


class _Reader:
    """A window of the file's text that begins at what was not yet read."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._decode = codecs.getincrementaldecoder("utf-8-sig")().decode
        self._scan = json.JSONDecoder().raw_decode
        self._text, self._at, self._is_whole = "", 0, False

    def value(self) -> Any:
        """Return the next value."""
        self._next()
        while True:
            try:
                value, end = self._scan(self._text, self._at)
            except json.JSONDecodeError as error:  # the window may end within the value
                if self._is_whole:
                    raise ValueError(error.msg) from None
            except RecursionError:
                raise ValueError("it is nested too deeply") from None
            else:
                if self._is_whole or self._text[end : end + 1] not in _MAY_GO_ON:
                    self._at = end
                    return value
            self._widen()

    def took(self, char: str) -> bool:
        """Pass over `char` if it comes next; say whether it did."""
        found = self._next() == char
        self._at += found
        return found

    def take(self, char: str) -> None:
        """Pass over `char`, which must come next."""
        if not self.took(char):
            raise ValueError(f"expected {char!r}, found {self._next()!r}" if self._next() else "it ends too early")

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
        self._text = self._text[self._at :]
        self._at = 0
        if len(self._text) > MAX_VALUE_CHARS:
            raise ValueError(f"it holds a value of more than {MAX_VALUE_CHARS:,} characters")
        data = self._file.read(max(_BLOCK_BYTES, len(self._text)))
        self._is_whole = not data
        self._text += self._decode(data, not data)
