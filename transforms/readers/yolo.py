"""YOLO: a text a picture, a line a box: `class x_center y_center width height [confidence]`, of the picture's sides.

A longer line is an outline, `class x1 y1 x2 y2 x3 y3 ...`, and becomes the box around it. What the numbers of classes
mean is told by a list near the labels; without one a number is its own name. The picture's name has no extension, as
none is told, and lies under `images/` where the labels lie under `labels/`, as Ultralytics has it.
"""

# A data set has a text a picture, and a million pathlib objects are slow.
# ruff: noqa: PTH118, PTH119, PTH120

import json
import math
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import polars as pl
import yaml

from schemas.errors import ItemError, UsageError
from schemas.raw import Facts, Source
from schemas.reasons import Rule
from transforms.buckets.names import is_remote
from transforms.buckets.objects import level
from transforms.readers.rows import Options, each_file, frames, head_text, json_object, read_text, text
from transforms.readers.shapes import NO_BOX, Box, bounds
from transforms.source import real_name
from transforms.storage import printable, state_of

MAX_LABELS_BYTES = 64 * 2**20
"""Largest text of one picture."""

MAX_LIST_BYTES = 2**20
"""Largest class list."""

MAX_YAML_BYTES = 2**18
"""Largest class list in YAML, of which some 100,000 bytes are read in a second."""

MAX_CLASSES = 100_000

MAX_TOLD = 1_000
"""Most lines of one source that are told one by one when they cannot be read."""

LEVELS = 3
"""How many folders above a label its class list may lie."""

_HEAD_LINES = 200
_NO_LABELS = re.compile(
    r"(?i)(?:.*/)?(?:(?:readme|licen[cs]e)[^/]*|classes|labels|names|labelmap|(?:[^/]*_)?(?:train|val|valid|test|trainval))"
    r"\.txt|(?:.*/)?imagesets/.*"
)
"""Texts beside labels, which hold no boxes even when they are empty."""

_LISTS = (
    *("data.yaml", "data.yml", "dataset.yaml", "dataset.yml"),
    *("obj.names", "obj.data", "classes.txt", "labels.txt", "predefined_classes.txt", "labelmap.txt", "notes.json"),
)
"""What class lists are called, the surest first; before those of another name that end in `.names`."""


def is_one(head: bytes, name: str) -> bool:
    """Tell whether a text of this name that begins so holds boxes; an empty one may, as for a picture without any."""
    if not name.lower().endswith(".txt") or b"\0" in head:
        return False
    lines = [line for line in head_text(head).splitlines()[:_HEAD_LINES] if line.strip()]
    if not lines:
        return not _NO_LABELS.fullmatch(name.replace("\\", "/"))
    return sum(_parsed(line) is not None for line in lines) * 2 >= len(lines)


def read(source: Source, facts: Facts, options: Options) -> Iterator[pl.DataFrame]:
    """Return a row a box, and one for an empty text. Raises UsageError for a class list that does not fit.

    Lines that do not parse are failures, and the rest of their file is read.
    """
    facts.corners, facts.unit = "cxcywh", "unit"
    reader = _Reader(source, facts, _read_list(options.classes) if options.classes else None)
    yield from frames(reader.rows())
    reader.check()


# Lines


class _Line(NamedTuple):
    number: int
    box: Box
    confidence: float | None = None
    outline: list[float] | None = None


def _parsed(line: str) -> _Line | None:
    """Return what a line says; None for what is no box."""
    try:
        kind, *numbers = map(float, line.split())
    except ValueError:
        return None
    if not 0 <= kind < MAX_CLASSES or kind % 1:
        return None
    if not all(map(math.isfinite, numbers)):
        numbers = [each if math.isfinite(each) else math.nan for each in numbers]
    match numbers:
        case [x, y, width, height]:
            return _Line(int(kind), (x, y, width, height))
        case [x, y, width, height, confidence]:
            return _Line(int(kind), (x, y, width, height), None if math.isnan(confidence) else confidence)
        case [_, _, _, _, _, _, *_] if len(numbers) % 2 == 0:
            left, top, right, bottom = bounds(numbers[::2], numbers[1::2])
            assert left is not None and top is not None and right is not None and bottom is not None
            middle = ((left + right) / 2, (top + bottom) / 2, right - left, bottom - top)
            return _Line(int(kind), middle, outline=numbers)
    return None


def picture_of(name: str) -> str:
    """Return the picture of a text, without its extension.

    >>> picture_of("train/labels/a.b.txt")
    'train/images/a.b'
    """
    *folders, base = name.split("/")
    for at in reversed(range(len(folders))):
        if folders[at] == "labels":
            folders[at] = "images"
            break
    return "/".join([*folders, base.rpartition(".")[0] or base])


class _Reader:
    """The texts of a source, and the class lists near them."""

    def __init__(self, source: Source, facts: Facts, given: "_Names | None") -> None:
        self._source, self._facts, self._given = source, facts, given
        self._near: dict[str, _Names | None] = {}
        self._beyond: dict[_Names, int] = {}
        self._known: dict[_Names, int] = {}
        self._untold = 0
        if given:
            facts.categories = given.names

    def rows(self) -> Iterator[tuple[Any, ...]]:
        for path, name in each_file(self._source):
            try:
                told = read_text(path, MAX_LABELS_BYTES)
            except ItemError as error:
                if error.error != "empty":  # that is a picture without boxes
                    self._fail(name, error.error, str(error))
                    continue
                told = ""
            yield from self._text(told, name, self._names(os.path.dirname(path)))
        if self._untold:
            self._facts.failures.append(
                (self._source.name, "broken_line", f"{self._untold:,} more lines and files could not be read.")
            )

    def _text(self, told: str, file: str, names: "_Names | None") -> Iterator[tuple[Any, ...]]:
        picture = picture_of(file)
        is_empty = True
        for at, line in enumerate(re.split("\r\n|\r|\n", told), 1):
            if not line.strip():
                continue
            is_empty = False
            found = _parsed(line)
            if found is None:
                self._fail(
                    file,
                    "broken_line",
                    f"{printable(file)}, line {at}: expected `class x y width height`, found {line[:60]!r}.",
                )
                continue
            label, rule, detail = str(found.number), None, None
            if names and found.number < len(names.names):
                label = names.names[found.number] or label
                self._known[names] = self._known.get(names, 0) + 1
            elif names:
                rule = Rule.REFERENCE_CATEGORY.value
                detail = f"class {found.number} is not in {names.told}, which has {len(names.names)}"
                self._beyond[names] = self._beyond.get(names, 0) + 1
            outline = json_object({"outline": found.outline}) if found.outline else None
            size = (None, None, None, None)
            yield (file, at, picture, *size, True, label, *found.box, found.confidence, outline, rule, detail)
        if is_empty:
            yield (file, 1, picture, None, None, None, None, False, None, *NO_BOX, None, None, None, None)

    def check(self) -> None:
        """Raise UsageError if most classes are beyond their list."""
        for names, beyond in self._beyond.items():
            if beyond > self._known.get(names, 0):
                raise UsageError(
                    f"{printable(self._source.name)}: {beyond:,} of {beyond + self._known.get(names, 0):,} boxes have "
                    f"a class beyond the list {names.told}, which has {len(names.names)}: name the list that "
                    "belongs to them with --classes"
                )

    def _fail(self, name: str, error: str, message: str) -> None:
        if len(self._facts.failures) < MAX_TOLD:
            self._facts.failures.append((name, error, message))
        else:
            self._untold += 1

    def _names(self, folder: str) -> "_Names | None":
        if self._given:
            return self._given
        if folder not in self._near:
            self._near[folder] = found = _nearest(folder, self._source.where)
            if found:
                self._facts.categories = tuple(dict.fromkeys((*(self._facts.categories or ()), *found.names)))
        return self._near[folder]


# Class lists


@dataclass(frozen=True)
class _Names:
    """A class list: where it was found, and its names by number."""

    told: str
    names: tuple[str, ...]


def _nearest(folder: str, where: str) -> _Names | None:
    """Return the list in the folder or in one of the next above, none of them outside `where`."""
    top, at = real_name(where), real_name(folder)
    for _ in range(LEVELS + 1):
        if not _is_within(at, top):
            return None
        for path in _lists(at):
            if _is_within(real_name(path), top) and (found := _read_list(path)).names:
                return found
        at = os.path.dirname(at)
    return None


def _is_within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def _lists(folder: str) -> Iterator[str]:
    """Return the files of a folder that may be class lists, the surest first."""
    try:
        there = {name for name in _names_in(folder) if name in _LISTS or name.endswith(".names")}
    except OSError:
        return
    for name in sorted(there, key=lambda name: (_LISTS.index(name) if name in _LISTS else len(_LISTS), name)):
        path = os.path.join(folder, name)
        if name != "obj.data":
            yield path
            continue
        for line in _read(path).splitlines():
            key, _, value = line.partition("=")
            if key.strip() == "names":
                # Darknet's own folder is what it is relative to, and nobody tells that.
                told = (os.path.join(folder, value.strip()), os.path.join(folder, os.path.basename(value.strip())))
                yield from (path for path in told if state_of(path))


def _names_in(folder: str) -> Iterator[str]:
    if is_remote(folder):
        yield from (entry.key.rpartition("/")[2] for entry in level(folder)[0])
        return
    with os.scandir(folder) as entries:  # there may be a million labels
        yield from (entry.name for entry in entries)


def _read(path: str) -> str:
    try:
        return read_text(path, MAX_YAML_BYTES if path.endswith((".yaml", ".yml")) else MAX_LIST_BYTES)
    except ItemError as error:
        if error.error == "empty":
            return ""
        raise UsageError(f"the class list cannot be read: {error}") from None


def _read_list(path: str) -> _Names:
    """Return the list. Raises UsageError for one that cannot be read."""
    told, base = _read(path), os.path.basename(path)
    try:
        if base.endswith((".yaml", ".yml")):
            # The base loader, because the safe one takes `no` and `on` for truth values.
            names = _named(yaml.load(told, Loader=yaml.BaseLoader))
        elif base.endswith(".json"):
            names = _noted(json.loads(told))
        else:
            lines = [line.strip() for line in told.rstrip().splitlines() if not line.startswith("#")]
            names = [line.partition(":")[0] for line in lines] if base == "labelmap.txt" else lines
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UsageError(f"the class list {printable(path)} cannot be read: {' '.join(str(error).split())}") from None
    if len(names) > MAX_CLASSES:
        raise UsageError(f"the class list {printable(path)} has {len(names):,} names: expected {MAX_CLASSES:,} at most")
    return _Names(printable(path), tuple(map(text, names)))


def _named(told: Any) -> list[str]:
    """Return `names` of a data.yaml: a list, or an object by number; none where it has no such member."""
    names = told.get("names", []) if isinstance(told, dict) else []
    if isinstance(names, dict):
        return _by_number(names)
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError("expected names as a list of texts, or as texts by number")
    return names


def _noted(told: Any) -> list[str]:
    """Return the categories of a notes.json, as Label Studio writes it."""
    categories = told.get("categories") if isinstance(told, dict) else None
    if not isinstance(categories, list):
        return []
    return _by_number({str(each.get("id")): each.get("name") for each in categories if isinstance(each, dict)})


def _by_number(names: Mapping[Any, Any]) -> list[str]:
    if not all(isinstance(name, str) and isinstance(at, str) and at.isdecimal() for at, name in names.items()):
        raise ValueError("expected texts by number from 0")
    numbered = {int(at[:9]): name for at, name in names.items()}
    if max(numbered, default=0) >= MAX_CLASSES:
        raise ValueError(f"expected numbers below {MAX_CLASSES:,}")
    return [numbered.get(at, str(at)) for at in range(max(numbered, default=-1) + 1)]
