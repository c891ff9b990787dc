"""What the readers share: raw rows built quickly, and the odd text, number or name made fit for them.

>>> next(frames([Row("a.csv", 1, "a.jpg", label="cat")])).item(0, "label")
'cat'
"""

import codecs
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import orjson
import polars as pl

from schemas.errors import ItemError
from schemas.raw import CHUNK_ROWS, RAW, Source
from transforms.buckets.names import is_remote
from transforms.storage import holding, printable, read_bytes

MAX_TEXT_BYTES = 64 * 2**20
"""Largest label file of one picture, or list of classes, that is read."""

MAX_ATTRIBUTES = 64 * 2**10
"""Most characters of the attributes of one row."""

_INT32 = 2**31
_MAX_DEPTH = 64  # of what attributes hold beyond what `orjson` takes at once
_PART_ROWS = 5_000  # small enough to stay in the processor's cache: twice as fast as 100,000 at once
_BLOCK_BYTES = 1 << 20
_FETCHES = 16
_MARK_BYTES = 4  # of the longest byte order mark
_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark begins it
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


@dataclass(frozen=True)
class Options:
    """What a person said of the label files.

    `columns` says which column of a table holds what, by role; `scratch` is a folder for what does not fit in memory;
    `classes` is the path of a class list for files that name their labels by number only.
    """

    columns: Mapping[str, str]
    scratch: Path
    classes: str | None = None


class Row(NamedTuple):
    """One row of `schemas.raw.RAW`, in the order of its columns."""

    file: str
    row: int
    picture: str
    width: int | None = None
    height: int | None = None
    frame: int | None = None
    pts_ms: float | None = None
    is_label: bool = True
    label: str | None = None
    a: float | None = None
    b: float | None = None
    c: float | None = None
    d: float | None = None
    confidence: float | None = None
    attributes: str | None = None
    rule: str | None = None
    detail: str | None = None


def frames(rows: Iterable[Row | tuple[Any, ...]]) -> Iterator[pl.DataFrame]:
    """Return the rows as frames of at most CHUNK_ROWS; few of them are Python objects at a time.

    Plain tuples in the order of `Row` are twice as fast to make. Values must be of their column's kind: see `text`,
    `number` and `whole`.
    """
    rows = iter(rows)
    while parts := [_packed(part) for _ in range(CHUNK_ROWS // _PART_ROWS) if (part := list(islice(rows, _PART_ROWS)))]:
        yield pl.concat(parts, rechunk=True)


def _packed(rows: Sequence[tuple[Any, ...]]) -> pl.DataFrame:
    return pl.DataFrame(dict(zip(RAW, zip(*rows, strict=True), strict=True)), schema=RAW)


def text(value: Any) -> str:
    """Return a value as a text that UTF-8 can write: JSON may hold halves of characters, XML numbers beyond them."""
    found = value if isinstance(value, str) else str(value)
    return found if found.isascii() else found.encode("utf-8", "backslashreplace").decode()


def number(value: Any) -> float:
    """Return a number as a float; NaN for what is none, and for what a float cannot hold.

    >>> number("12.5"), number("wide")
    (12.5, nan)
    """
    if type(value) is not float:
        try:
            value = math.nan if isinstance(value, bool) else float(value)
        except (TypeError, ValueError, OverflowError):
            return math.nan
    return value if math.isfinite(value) else math.nan


def whole(value: Any) -> int | None:
    """Return a whole number that 32 bits hold, or None.

    >>> whole("640"), whole(640.0), whole("640.5"), whole(1e300), whole(None)
    (640, 640, None, None, None)
    """
    if value is None:
        return None
    found = number(value)
    return int(found) if found == found // 1 and -_INT32 <= found < _INT32 else None


def share(value: Any) -> float | None:
    """Return a confidence as it came; None for what is no number."""
    found = math.nan if value is None else number(value)
    return None if math.isnan(found) else found


def picture_name(value: Any) -> str:
    """Return the name of a picture as `RAW` wants it: slashes forward; what is no name is empty.

    >>> picture_name("photos\\\\a.jpg")
    'photos/a.jpg'
    """
    return text(value).strip().replace("\\", "/") if isinstance(value, str | int) else ""


def json_object(members: Mapping[str, Any]) -> str | None:
    """Return the members as the JSON object that `attributes` hold; None where there are none.

    What has no place in JSON is null. Members that are nested too deeply, and the longest beyond MAX_ATTRIBUTES, are
    left out and noted.

    >>> json_object({"id": 5, "depth": float("nan")})
    '{"id":5,"depth":null}'
    """
    if not members:
        return None
    try:
        told = orjson.dumps(members).decode()
    except TypeError:  # halves of characters, numbers of more than 64 bits, deep nesting
        told = _json(members)
    return told if len(told) <= MAX_ATTRIBUTES else _json(_bounded(members))


def _bounded(members: Mapping[str, Any]) -> dict[str, Any]:
    sizes = {name: len(name) + len(_json({"": value})) for name, value in members.items()}
    kept, left = dict(members), sum(sizes.values())
    for name in sorted(sizes, key=sizes.__getitem__, reverse=True):
        if left <= MAX_ATTRIBUTES // 2:  # room for notes, quotes and commas
            break
        del kept[name]
        kept[_note(name)] = True
        left -= sizes[name]
    return dict(islice(kept.items(), 1_000))


def _note(name: str) -> str:
    return f"{name[:80]}_dropped"


def _json(members: Mapping[str, Any]) -> str:
    plain: dict[str, Any] = {}
    for name, value in members.items():
        try:
            plain[str(name)] = _finite(value)
        except RecursionError:
            plain[_note(str(name))] = True
    return text(json.dumps(plain, ensure_ascii=False, separators=(",", ":"), default=str))


def _finite(value: Any, depth: int = 0) -> Any:
    if depth > _MAX_DEPTH:
        raise RecursionError
    match value:
        case float() if not math.isfinite(value):
            return None
        case Mapping():
            return {str(name): _finite(member, depth + 1) for name, member in value.items()}
        case list() | tuple():
            return [_finite(member, depth + 1) for member in value]
    return value


def each_file(source: Source) -> Iterator[tuple[str, str]]:
    """Yield the path and the name of each file of a source; those in a bucket are fetched beforehand, some at once."""
    files = iter(zip(source.files, source.names, strict=True))
    with ThreadPoolExecutor(_FETCHES) as pool:
        while some := list(islice(files, 4 * _FETCHES)):
            remote = [path for path, _ in some if is_remote(path)]
            fetched = zip(remote, pool.map(_small, remote), strict=True)
            with holding({path: data for path, data in fetched if data is not None}):
                yield from some


def _small(path: str) -> bytes | None:
    """Return a file's bytes; None for a large one, and for one that cannot be read: who reads it is told why."""
    try:
        return read_bytes(path, _BLOCK_BYTES)
    except ItemError:
        return None


def encoding_of(head: bytes) -> str | None:
    """Return the encoding that a byte order mark at the beginning names, or None."""
    return next((name for mark, name in _BOMS if head.startswith(mark)), None)


def decoded(data: bytes) -> str:
    """Return text of any usual encoding, without its byte order mark: UTF-8, UTF-16 with a mark, else Windows-1252."""
    name = encoding_of(data)
    if name is None:
        try:
            return data.decode()
        except UnicodeDecodeError:
            return data.decode("cp1252", "replace")
    return data.decode(name, "replace").removeprefix("\ufeff")


def head_text(head: bytes) -> str:
    """Return the beginning of a file as text; its last character may be cut in two."""
    for cut in range(4 if encoding_of(head) is None else 0):  # UTF-8 has characters of up to four bytes
        try:
            return head[: len(head) - cut].decode()
        except UnicodeDecodeError:
            continue
    return decoded(head)


def read_text(path: str, limit: int = MAX_TEXT_BYTES) -> str:
    """Return a file's whole text. Raises ItemError: as `read_bytes`, "empty", "not_text"."""
    data = read_bytes(path, limit)
    told = decoded(data)
    if not told.strip():
        raise ItemError("empty", f"{printable(path)} is empty.")
    if "\0" in told:
        raise ItemError("not_text", f"{printable(path)} is no text: it holds a zero byte at {told.index(chr(0)):,}.")
    return told


class Utf8:
    """A file read in parts as text, whatever encoding it has; the first byte that is no UTF-8 means Windows-1252."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._head: bytes | None = file.read(_MARK_BYTES)
        self.encoding = encoding_of(self._head) or "utf-8"
        self.mark_bytes = next((len(mark) for mark, _ in _BOMS if self._head.startswith(mark)), 0)
        self._decoder = codecs.getincrementaldecoder("utf-8-sig" if self.encoding == "utf-8" else self.encoding)(
            "strict" if self.encoding == "utf-8" else "replace"
        )

    def read(self, size: int = _BLOCK_BYTES) -> bytes:
        """Return about `size` bytes of UTF-8; none at the end."""
        return self.read_text(size).encode("utf-8", "replace")

    def read_text(self, size: int = _BLOCK_BYTES) -> str:
        """Return what about `size` bytes of the file say; nothing at the end."""
        while size:
            data = self._head if self._head is not None else self._file.read(size)
            self._head = None
            found = self._decoded(data)
            if found or not data:
                return found
        return ""

    def _decoded(self, data: bytes) -> str:
        before = self._decoder.getstate()[0]
        try:
            return self._decoder.decode(data, final=not data)
        except UnicodeDecodeError:
            self.encoding = "cp1252"
            self._decoder = codecs.getincrementaldecoder("cp1252")("replace")
            return self._decoder.decode(before + data)
