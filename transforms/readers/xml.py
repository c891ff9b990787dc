"""XML from strangers: bounded, without document types, entities or external references; whole, or as it comes.

defusedxml reads up to the root element, because what it forbids can only stand before that; the rest is read by the
parser written in C, which is 2.5 times as fast.
"""

import re
from collections.abc import Iterator
from typing import Any, BinaryIO
from xml.etree.ElementTree import Element, ParseError, TreeBuilder, XMLParser

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import DefusedXMLParser

from schemas.errors import ItemError
from transforms.readers.rows import head_text
from transforms.storage import printable, read_bytes

MAX_PICTURE_BYTES = 8 * 2**20
"""Largest file of one picture: some 100,000 points; the elements of the worst such file take 400 MB of memory."""

MAX_TOKEN = 4 * 2**20
"""Most bytes of one tag, comment or text."""

MAX_DEPTH = 8
"""How deep what is kept may be nested."""

Event = tuple[bool, str, dict[str, str], str]
"""True for an element's beginning, its tag, its attributes; false for its end, its tag, the text that it ended with."""

_BLOCK_BYTES = 1 << 16
# It never goes back over what it took: a beginning of nothing but spaces would take it for ever.
_PROLOG = re.compile(r"\ufeff?(?:\s++|<\?.*?\?>|<!--.*?-->|<!DOCTYPE[^\[>]*+(?:\[.*?\]\s*+)?>)*+<([\w:.-]+)", re.DOTALL)


def root_tag(head: bytes) -> str | None:
    """Return the name of the root element of a file that begins so, or None where this is no XML."""
    if b"<" not in head[:256]:
        return None
    found = _PROLOG.match(head_text(head))
    return found[1] if found else None


def parsed(path: str) -> Element:
    """Return the root of a file of one picture.

    Raises ItemError: as `read_bytes`, "empty", "broken_xml", "forbidden_xml".
    """
    data = read_bytes(path, MAX_PICTURE_BYTES)
    if not data.strip():
        raise ItemError("empty", f"{printable(path)} is empty.")
    parser = XMLParser(target=TreeBuilder())
    guard = _Guard(path)
    guard.feed(data)
    with _Told(path):
        parser.feed(data)
        root: Element = parser.close()
    return root


def events(file: BinaryIO, path: str) -> Iterator[Event]:
    """Return the beginnings and ends of elements as the file is read. Raises ItemError as `parsed`, "too_large"."""
    guard, target = _Guard(path), _Events()
    parser = XMLParser(target=target)
    waited = 0
    while True:
        data = file.read(_BLOCK_BYTES)
        guard.feed(data)
        with _Told(path):
            if data:
                parser.feed(data)
            else:
                parser.close()
        waited = 0 if target.found else waited + len(data)
        if max(waited, target.text_size) > MAX_TOKEN:
            raise ItemError("too_large", f"{printable(path)} holds a tag or text of more than {MAX_TOKEN:,} bytes.")
        found, target.found = target.found, []
        yield from found
        if not data:
            return


class _Begun(Exception):
    """The root element began."""


class _Prolog:
    """What tells that the root element began."""

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        raise _Begun

    def end(self, tag: str) -> None: ...

    def data(self, data: str) -> None: ...

    def close(self) -> None: ...


class _Guard:
    """Refuse a document type, with its entities and references."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._parser: DefusedXMLParser | None = DefusedXMLParser(target=_Prolog(), forbid_dtd=True)

    def feed(self, data: bytes) -> None:
        """Look at what comes next. Raises ItemError."""
        for at in range(0, len(data), _BLOCK_BYTES):
            if self._parser is None:
                return
            try:
                with _Told(self._path):
                    self._parser.feed(data[at : at + _BLOCK_BYTES])
            except _Begun:
                self._parser = None


class _Events:
    """Keep the beginnings and ends of elements."""

    def __init__(self) -> None:
        self.found: list[Event] = []
        self.text_size = 0
        self._text: list[str] = []

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        self.found.append((True, tag, attributes, ""))
        self._text = []
        self.text_size = 0

    def end(self, tag: str) -> None:
        self.found.append((False, tag, {}, "".join(self._text)))
        self._text = []
        self.text_size = 0

    def data(self, data: str) -> None:
        self.text_size += len(data)
        if self.text_size <= MAX_TOKEN:
            self._text.append(data)

    def close(self) -> None: ...


class _Told:
    """Turn a parser's errors into ItemErrors that say where."""

    def __init__(self, path: str) -> None:
        self._name = printable(path)

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type | None, error: BaseException | None, trace: object) -> None:
        match error:
            case DefusedXmlException():
                raise ItemError(
                    "forbidden_xml",
                    f"{self._name} has a document type, which may hold entities: remove its <!DOCTYPE>.",
                ) from None
            case ParseError():
                line, column = error.position
                what = str(error).partition(": line ")[0]
                raise ItemError("broken_xml", f"{self._name}, line {line}, column {column + 1}: {what}.") from None
            case ValueError() | LookupError():  # an encoding that the parser does not know
                raise ItemError("broken_xml", f"{self._name}, line 1: {error}: save it as UTF-8.") from None


def value_of(element: Element, depth: int = MAX_DEPTH) -> object:
    """Return an element as `attributes` keep it: a text, or an object of what is in it, of lists where tags repeat."""
    if not len(element):
        return (element.text or "").strip()
    if not depth:
        return "".join(element.itertext()).strip()
    members: dict[str, Any] = {}
    repeated: dict[str, list[object]] = {}
    for child in element:
        value = value_of(child, depth - 1)
        if child.tag in members:
            members[child.tag] = repeated.setdefault(child.tag, [members[child.tag]])
            repeated[child.tag].append(value)
        else:
            members[child.tag] = value
    return members
