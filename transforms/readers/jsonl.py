"""JSON lines: one picture a line with its labels, or one label a line; also as one JSON list, and Hugging Face's.

Three kinds of records are told apart by their members:

- ours, `{"image_id": ..., "labels": [{"category": ..., "bbox": [cx, cy, w, h], "confidence": ...}]}`: shares of the
  picture;
- Hugging Face's, `{"file_name": ..., "objects": {"bbox": [[x, y, w, h]], "category": [...]}}`: pixels;
- one label a record, `{"image": ..., "label": ..., "bbox": [...]}`: the rows must tell how boxes are meant.
"""

import json
import math
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Any, BinaryIO, Literal

import orjson
import polars as pl

from schemas.errors import UsageError
from schemas.raw import Facts, Source
from transforms.readers.json_parts import MAX_VALUE_CHARS, WHOLE, BrokenJson, parts, paths
from transforms.readers.rows import (
    Options,
    Utf8,
    decoded,
    frames,
    head_text,
    json_object,
    number,
    picture_name,
    share,
    text,
    whole,
)
from transforms.storage import opened, printable

Kind = Literal["record", "objects", "flat"]
Member = Mapping[str, Any]

_FILES = ("file_name", "filename", "image", "image_path", "image_name", "file", "path", "picture", "img")
_PICTURES = (*_FILES, "image_id")
"""Where a record names its picture; of several, the first."""

_LABELS = ("label", "category", "emotion", "expression", "class", "class_name", "category_name")
_BOXES = ("bbox", "box", "bounding_box")
_SIZES = ("width", "height")
_SEEN_LINES = 5
"""So many lines tell the format; the first ones may be broken."""

MAX_FAILURES = 100
"""So many broken lines are told one by one."""

_BLOCK_BYTES = 1 << 20
_MAX_ALONE_BYTES = 16 * 2**20  # of one record that is written over several lines


def is_one(head: bytes, name: str) -> bool:
    """Say whether these are JSON lines, or a JSON list, of one of the kinds of records."""
    begins = head_text(head).lstrip()
    if begins[:1] == "[":
        found = paths(head)
        return _kind(frozenset(path.removeprefix("item.") for path in found)) is not None
    lines = (line for line in begins.split("\n") if line.strip())
    return any(_kind(paths(line.encode())) for line in (begins, *islice(lines, _SEEN_LINES)))


def read(source: Source, facts: Facts, options: Options) -> Iterator[pl.DataFrame]:
    """Return a row a label, and one for each record without any. Broken lines are failures.

    Raises UsageError where nothing can be read, and for a list that is broken JSON.
    """
    for where, name in zip(source.files, source.names, strict=True):
        with opened(where) as file:
            yield from frames(_Reader(name, facts).rows(file))


def _kind(found: frozenset[str]) -> Kind | None:
    """Tell the kind of a record by the paths of all that it holds."""
    if not found & set(_PICTURES):
        return None
    labels = [path for path in found if path.startswith("labels.")]
    if "labels" in found and (not labels or "labels.item.category" in found or set(labels) == {"labels.item"}):
        return "record"
    if "objects.bbox" in found:
        return "objects"
    is_labelled = any(name in found and _is_plain(name, found) for name in _LABELS)
    is_boxed = any(f"{name}.item" in found for name in _BOXES) and "category_id" not in found
    return "flat" if is_labelled or is_boxed else None


def _is_plain(name: str, found: frozenset[str]) -> bool:
    """Say whether a member is a value or a list of values."""
    return not any(path.startswith(f"{name}.") and path != f"{name}.item" for path in found)


class _Reader:
    """One file. The first good record tells the kind of all."""

    def __init__(self, name: str, facts: Facts) -> None:
        self._name = name
        self._facts = facts
        self._kind: Kind | None = None
        self._errors: list[str] = []  # the first ones
        self._bad = 0
        self._is_list = False

    def rows(self, file: BinaryIO) -> Iterator[tuple[Any, ...]]:
        begins = head_text(file.read(_BLOCK_BYTES)).lstrip()
        file.seek(0)
        self._is_list = begins[:1] == "["
        records = _listed(file, self._name) if self._is_list else _of_lines(file, self._name, begins)
        for row, record in records:
            kind = _record_kind(record) if isinstance(record, dict) else None
            if kind is None or self._kind not in (kind, None):
                self._fail(row, record)
                continue
            if self._kind is None:
                self._kind = kind
                _declare(kind, self._facts)
            yield from _ROWS[kind](self._name, row, record, self._facts)
        if self._kind is None:
            first = self._errors[0] if self._errors else "it is empty"
            raise UsageError(
                f"{printable(self._name)}: no record can be read: {first}. Expected lines of JSON as "
                '{"image_id": "a.jpg", "labels": [{"category": "cat", "bbox": [cx, cy, w, h]}]} or '
                '{"image": "a.jpg", "label": "cat"}.'
            )
        self._facts.failures += [(self._name, "broken", error) for error in self._errors]
        if more := self._bad - len(self._errors):
            self._facts.failures.append((self._name, "broken", f"{more:,} more records cannot be read"))

    def _fail(self, row: int, record: Any) -> None:
        self._bad += 1
        if self._bad <= MAX_FAILURES:
            told = record.message if isinstance(record, _Broken) else f"expected {_EXPECTED[self._kind]}"
            self._errors.append(f"record {row:,}: {told}" if self._is_list else f"line {row:,}: {told}")


class _Broken:
    """A line that is no JSON."""

    def __init__(self, message: str) -> None:
        self.message = message


_EXPECTED = {
    None: "a picture and a label",
    "record": "a picture with `labels`, as those before",
    "objects": "a picture with `objects`, as those before",
    "flat": "a picture with one label, as those before",
}


def _record_kind(record: Member) -> Kind | None:
    """Tell the kind of a whole record as `_kind` does, quickly."""
    if not _picture(record)[0]:
        return None
    labels = record.get("labels")
    if isinstance(labels, list) and all(isinstance(label, dict | str) for label in labels):
        return "record"
    if isinstance(record.get("objects"), dict):
        return "objects"
    is_labelled = any(isinstance(record.get(name), str | int | list) for name in _LABELS)
    return "flat" if is_labelled or any(record.get(name) is not None for name in _BOXES) else None


def _declare(kind: Kind, facts: Facts) -> None:
    if kind == "record":
        facts.corners, facts.unit = "cxcywh", "unit"
    elif kind == "objects":
        facts.corners, facts.unit = "xywh", "pixels"


# From the file to records


def _listed(file: BinaryIO, name: str) -> Iterator[tuple[int, Any]]:
    """Return (number from 0, record) of a JSON list. Raises UsageError."""
    try:
        yield from enumerate(record for _, some in parts(file, [WHOLE]) for record in some)
    except BrokenJson as error:
        raise error.told(name) from None


def _of_lines(file: BinaryIO, name: str, begins: str) -> Iterator[tuple[int, Any]]:
    """Return (line from 1, record); what is no JSON is `_Broken`."""
    if isinstance(_loaded(begins.partition("\n")[0]), _Broken) and isinstance(alone := _alone(file), dict):
        yield 1, alone
        return
    for row, line in enumerate(_lines(file, name), 1):
        if stripped := line.strip():
            yield row, _loaded(stripped)


def _alone(file: BinaryIO) -> Any:
    """Return the one value of a file that is written over several lines, or None."""
    data = file.read(_MAX_ALONE_BYTES + 1)
    file.seek(0)
    found = _loaded(decoded(data)) if len(data) <= _MAX_ALONE_BYTES else None
    return None if isinstance(found, _Broken) else found


def _loaded(line: str) -> Any:
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError:
        try:
            return json.loads(line)
        except json.JSONDecodeError as error:
            return _Broken(f"broken JSON at character {error.pos + 1:,}: {error.msg}")
        except (ValueError, RecursionError) as error:
            return _Broken(f"broken JSON: {str(error)[:100]}")


def _lines(file: BinaryIO, name: str) -> Iterator[str]:
    told = Utf8(file)
    rest: list[str] = []  # a line that is not yet complete
    held = row = 0
    while block := told.read_text(_BLOCK_BYTES):
        first, *others = block.split("\n")
        rest.append(first)
        held += len(first)
        if held > MAX_VALUE_CHARS:
            raise UsageError(f"{printable(name)}: line {row + 1:,} has more than {MAX_VALUE_CHARS:,} characters.")
        for other in others:
            row += 1
            yield "".join(rest)
            rest, held = [other], len(other)
    yield "".join(rest)


# From records to rows


def _first(record: Member, names: tuple[str, ...]) -> str | None:
    return next((name for name in names if record.get(name) is not None), None)


def _picture(record: Member) -> tuple[str, str]:
    """Return the member that names the picture and its name; empty where none does."""
    for key in _PICTURES:
        if key in record and (name := picture_name(record[key])):
            return key, name
    return "", ""


def _of_picture(record: Member) -> tuple[tuple[Any, ...], set[str]]:
    """Return picture, width, height, frame, pts_ms; and the members that say them."""
    key, picture = _picture(record)
    width, height = whole(record.get("width")), whole(record.get("height"))
    frame = whole(record.get("frame_index"))
    if frame is None:
        return (picture, width, height, None, None), {key, "width", "height"}
    told = (picture, width, height, frame, share(record.get("pts_ms")))
    return told, {key, "width", "height", "frame_index", "pts_ms"}


def _box(value: Any) -> tuple[float | None, ...]:
    """Return a box's four numbers; null without a box, NaN for what is no number."""
    if value is None:
        return (None,) * 4
    if isinstance(value, list) and len(value) == 4:
        return tuple(math.nan if isinstance(side, str) else number(side) for side in value)
    return (math.nan,) * 4


def _rest(record: Member, used: set[str]) -> dict[str, Any]:
    return {name: value for name, value in record.items() if name not in used and value is not None}


def _of_record(name: str, row: int, record: Member, facts: Facts) -> Iterator[tuple[Any, ...]]:
    picture, used = _of_picture(record)
    shared = _rest(record, used | {"labels"})
    labels = record["labels"]
    if not labels:
        yield (name, row, *picture, False, None, *_box(None), None, json_object(shared), None, None)
    facts.exclusive &= len(labels) < 2 or not isinstance(labels[0], str)
    for told in labels:
        label = {"category": told} if isinstance(told, str) else told
        said = label.get("category")
        more = {**shared, **_rest(label, _LABEL_MEMBERS)} if shared or not label.keys() <= _LABEL_MEMBERS else {}
        yield (
            *(name, row, *picture, True),
            *(None if said is None else text(said), *_box(label.get("bbox")), share(label.get("confidence"))),
            *(json_object(more), None, None),
        )


_LABEL_MEMBERS = {"category", "bbox", "confidence"}


def _of_objects(name: str, row: int, record: Member, facts: Facts) -> Iterator[tuple[Any, ...]]:
    picture, used = _of_picture(record)
    shared = _rest(record, used | {"objects"})
    objects: Member = record["objects"]
    lists = {key: value for key, value in objects.items() if isinstance(value, list)}
    boxes = next((key for key in ("bbox", "bboxes", "boxes") if key in lists), None)
    labels = next((key for key in (*_LABELS, "categories", "labels") if key in lists), None)
    count = max((len(value) for value in lists.values()), default=0)
    if not count:
        yield (name, row, *picture, False, None, *_box(None), None, json_object(shared), None, None)
    for at in range(count):
        own = {key: value[at] if at < len(value) else None for key, value in lists.items()}
        box, said = own.pop(boxes, None) if boxes else None, own.pop(labels, None) if labels else None
        more = {**shared, **_rest(own, set())}
        sides = _box(box if box is not None else ())  # an object without its box is not the whole picture
        yield (
            *(name, row, *picture, True, None if said is None else text(said), *sides),
            *(None, json_object(more), None, None),
        )


def _of_flat(name: str, row: int, record: Member, facts: Facts) -> Iterator[tuple[Any, ...]]:
    picture, used = _of_picture(record)
    key, box = _first(record, _LABELS), _first(record, _BOXES)
    score = _first(record, ("confidence", "score"))
    used.update(found for found in (key, box, score) if found)
    told = record.get(key) if key else None
    more = json_object(_rest(record, used))
    sides = _box(record.get(box) if box else None)
    confidence = share(record.get(score)) if score else None
    labels = told if isinstance(told, list) and told else [told]
    facts.exclusive &= len(labels) < 2
    for said in labels:
        yield (name, row, *picture, True, None if said is None else text(said), *sides, confidence, more, None, None)


_ROWS: Mapping[Kind, Callable[[str, int, Member, Facts], Iterator[tuple[Any, ...]]]] = {
    "record": _of_record,
    "objects": _of_objects,
    "flat": _of_flat,
}
