"""Read a table, folders named by label, or COCO into rows of one shape, before their labels are understood."""

import csv
import json
import math
import os
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO, StringIO
from itertools import islice
from typing import Any, Literal

import polars as pl

from schemas.errors import ItemError, UsageError
from transforms.readers.json_parts import parts
from transforms.source import is_folder, list_inputs, real_name
from transforms.storage import opened, printable, read_bytes

Form = Literal["csv", "folders", "coco"]

Canonical = Callable[[str], str | None]
"""What understands labels: it returns the one that a text names, or None."""

MAX_TABLE_BYTES = 2 * 2**30
"""Largest table that is read: it is held in memory; a million rows are some 60 MB."""

MAX_COCO_BYTES = 16 * 2**30
"""Largest COCO file that is read, in parts; a million annotations are 0.1 to 1 GB, as they tell little or much."""

VOTES, DISMISSALS = "votes ", "dismissals "
"""How columns of votes begin in `Truth.faces`: those for a label, whose name follows, and those for none."""

_NO_EXPRESSION = frozenset({"unknown", "nf", "not_a_face", "not_face", "non_face", "none"})
"""Columns of votes for no expression."""

_FACE = frozenset({"face", "faces", "person"})
"""COCO categories that name the thing and not its expression."""

_NAMES: dict[str, tuple[str, ...]] = {
    "file": (
        *("file", "filename", "file_name", "image", "image_name", "imagename", "image_path", "imagepath"),
        *("path", "filepath", "file_path", "picture", "video", "video_name"),
    ),
    "label": ("label", "expression", "emotion", "class", "category", "label_name", "class_name"),
    "frame_index": ("frame_index", "frame", "frame_number"),
    "pts_ms": ("pts_ms", "time_ms"),
}
"""What columns are called, by what they hold; of several, the first of the list."""

_CORNERS = ("xmin", "ymin", "xmax", "ymax")
BOX = ("x", "y", "w", "h")
_BOXES = (
    (_CORNERS, ("xmin", "ymin", "xmax", "ymax")),
    (_CORNERS, ("x_min", "y_min", "x_max", "y_max")),
    (_CORNERS, ("bbox_xmin", "bbox_ymin", "bbox_xmax", "bbox_ymax")),
    (_CORNERS, ("x1", "y1", "x2", "y2")),
    (_CORNERS, ("bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2")),
    (_CORNERS, ("left", "top", "right", "bottom")),
    (BOX, ("bbox_x", "bbox_y", "bbox_w", "bbox_h")),
    (BOX, ("bbox_x", "bbox_y", "bbox_width", "bbox_height")),
    (BOX, ("bbox_left", "bbox_top", "bbox_width", "bbox_height")),
    (BOX, ("x", "y", "w", "h")),
    (BOX, ("x", "y", "width", "height")),
    (BOX, ("left", "top", "width", "height")),
)
"""What the four columns of a box are called, and what they hold; of several, the first."""

ROLES = (*_NAMES, *BOX, *_CORNERS)
"""What a column may hold, as `--columns` names it."""

_NUMBERS = ("frame_index", "pts_ms", *BOX, *_CORNERS)

RAW = {
    "name": pl.String,
    "frame_index": pl.Int64,
    "pts_ms": pl.Float64,
    "label": pl.String,
    **dict.fromkeys(BOX, pl.Float64),
    "crowd": pl.Boolean,
}
"""The columns that every form is read into, before labels are understood."""

_MOST_FRAMES = 2**31
_HEAD_BYTES = 1 << 16
_SAMPLE_ROWS = 200
_PART_ROWS = 20_000


def form_of(where: str) -> Form:
    """Tell the form of the truth by its content. Raises ItemError, or UsageError for an empty file."""
    if is_folder(where):
        return "folders"
    with opened(where) as file:
        head = file.read(_HEAD_BYTES)
    if not head.strip():
        raise UsageError(f"--truth: {printable(where)} is empty")
    return "coco" if head.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] in (b"{", b"[") else "csv"


# Folders


def read_folders(where: str, canonical: Canonical) -> pl.DataFrame:
    """Return a row a file: its label is the nearest folder that names one, else the folder that it lies in."""
    own = os.path.basename(real_name(where))  # noqa: PTH119
    known: dict[str, str] = {}
    names, labels = [], []
    for file in list_inputs([where], None).files:
        name = printable(file.file_name)
        folder = name.rpartition("/")[0]
        if folder not in known:
            above = [part for part in reversed((own, *folder.split("/"))) if part]
            known[folder] = next((part for part in above if canonical(part)), above[0])
        names.append(name)
        labels.append(known[folder])
    if not names:
        raise UsageError(f"--truth: the folder {printable(where)} holds no pictures")
    return _raw(pl.DataFrame({"name": names, "label": labels}))


# Tables


@dataclass(frozen=True)
class _Layout:
    """Where a table holds what: the numbers of its columns from 0, by role or as `votes LABEL`."""

    separator: str
    has_header: bool
    at: Mapping[str, int]


def read_table(where: str, canonical: Canonical, columns: Mapping[str, str]) -> pl.DataFrame:
    """Return a row a line of a table with or without a header. Raises UsageError and ItemError."""
    try:
        data = read_bytes(where, MAX_TABLE_BYTES)
    except ItemError as error:
        raise _too_large(where, MAX_TABLE_BYTES) if error.error == "too_large" else error from None
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):  # as Excel writes "Unicode text"
        data = data.decode("utf-16", "replace").encode("utf-8", "replace")
    if b"\0" in data[:_HEAD_BYTES]:
        raise UsageError(f"--truth: {printable(where)} is no text: expected a table, COCO, or a folder of folders")
    data = data.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n").replace(b"\r", b"\n").lstrip(b"\n")
    layout = _layout(printable(where), data, canonical, columns)
    table = pl.scan_csv(
        BytesIO(data),
        has_header=False,
        infer_schema=False,
        separator=layout.separator,
        encoding="utf8-lossy",
    )
    # The first row tells the width of all: a header is read too.
    rows = table.slice(int(layout.has_header))
    text = {role: pl.nth(at).str.strip_chars() for role, at in layout.at.items()}
    cells = rows.select(pl.when(cell != "").then(cell).alias(role) for role, cell in text.items())
    numbers = [role for role in layout.at if role in _NUMBERS or role.startswith((VOTES, DISMISSALS))]
    try:
        _check_numbers(cells, numbers)
        frame = cells.with_columns(pl.col(numbers).cast(pl.Float64)).collect(engine="streaming")
    except pl.exceptions.PolarsError as error:
        reason = str(error).splitlines()[0].rstrip(".:")
        raise UsageError(f"--truth: {printable(where)} is no table: {reason}") from None
    if "xmin" in frame.columns:
        x, y, right, bottom = (pl.col(role) for role in _CORNERS)
        frame = frame.with_columns(x=x, y=y, w=right - x, h=bottom - y)
    return _raw(frame.rename({"file": "name"}))


def _check_numbers(cells: pl.LazyFrame, roles: Sequence[str]) -> None:
    """Raise UsageError where a column that must hold numbers holds something else."""
    number = {role: pl.col(role).cast(pl.Float64, strict=False) for role in roles}
    bad = {role: number[role].is_null() & pl.col(role).is_not_null() for role in roles}
    if "frame_index" in roles:
        bad["frame_index"] |= ~number["frame_index"].is_between(0, _MOST_FRAMES)
    found = cells.select(pl.col(role).filter(is_bad).first() for role, is_bad in bad.items()).collect(
        engine="streaming"
    )
    for role, cell in zip(roles, found.row(0), strict=True) if roles else ():
        if cell is not None:
            raise UsageError(f"--truth: expected a number for {role}, found {cell[:40]!r}")


def _layout(where: str, data: bytes, canonical: Canonical, columns: Mapping[str, str]) -> _Layout:
    head = data[:_HEAD_BYTES].decode("utf-8", "replace")
    if len(data) > _HEAD_BYTES:
        head = head.rpartition("\n")[0] or head
    separator = max(",\t;|", key=head.partition("\n")[0].count)
    try:
        rows = list(islice(csv.reader(StringIO(head), delimiter=separator), _SAMPLE_ROWS))
    except csv.Error as error:
        raise UsageError(f"--truth: {where} is no table: {error}") from None
    if not rows:
        raise UsageError(f"--truth: {where} is empty")
    header = [_plain(cell) for cell in rows[0]]
    if unknown := [role for role in columns if role not in ROLES]:
        raise UsageError(f"--columns: a table holds no {unknown[0]!r}: expected one of {', '.join(ROLES)}")
    numbered = {role: int(at) - 1 for role, at in columns.items() if at.isdecimal()}
    named = {role: _plain(name) for role, name in columns.items() if role not in numbered}
    if wrong := [name for name in named.values() if name not in header]:
        raise UsageError(
            f"--columns: {where} has no column {wrong[0]!r}: expected one of {', '.join(map(repr, rows[0]))[:200]}"
        )
    if wrong_at := [at + 1 for at in numbered.values() if not 0 <= at < len(header)]:
        raise UsageError(f"--columns: {where} has {len(header)} columns, no column {wrong_at[0]}")
    has_header = bool(named) or any(cell in _NAMES["file"] for cell in header)
    found = _by_name(header, canonical) if has_header else {}
    asked = numbered | {role: header.index(name) for role, name in named.items()}
    if not has_header and not {"file", "label"} <= asked.keys():
        found = _by_content(rows, canonical)
    return _Layout(separator, has_header, _complete(where, found | asked, asked, rows[0]))


def _plain(name: str) -> str:
    """Return a column's name without what spellings differ in.

    >>> _plain(" Image name")
    'image_name'
    """
    folded = unicodedata.normalize("NFKC", name).casefold()
    return "_".join("".join(char if char.isalnum() else " " for char in folded).split())


def _by_name(header: Sequence[str], canonical: Canonical) -> dict[str, int]:
    at = {}
    for role, names in _NAMES.items():
        if name := next((name for name in names if name in header), None):
            at[role] = header.index(name)
    for roles, names in _BOXES:
        if set(names) <= set(header):
            at |= dict(zip(roles, map(header.index, names), strict=True))
            break
    votes: dict[str, int] = {}
    for number, name in enumerate(header):
        label = canonical(name)
        if name in _NO_EXPRESSION:
            votes.setdefault(DISMISSALS + name, number)
        elif label is not None and not name.isdecimal():
            votes.setdefault(VOTES + label, number)
    return at | votes


def _by_content(rows: Sequence[Sequence[str]], canonical: Canonical) -> dict[str, int]:
    """Find the columns of a table without a header: mostly labels, and mostly names with an extension."""
    columns = list(zip(*(row for row in rows if len(row) == len(rows[0])), strict=True))
    tests = {"label": lambda cell: canonical(cell) is not None, "file": _is_file_name}
    at = {}
    for role, is_one in tests.items():
        shares = [sum(map(is_one, column)) / len(column) for column in columns]
        best = max(range(len(shares)), key=shares.__getitem__)
        if shares[best] >= 0.5:
            at[role] = best
    return at


def _is_file_name(cell: str) -> bool:
    stem, dot, extension = cell.strip().rpartition(".")
    return bool(stem and dot) and 2 <= len(extension) <= 5 and extension.isalnum() and not extension.isdecimal()


def _complete(where: str, at: Mapping[str, int], asked: Collection[str], first: Sequence[str]) -> dict[str, int]:
    """Return the columns that are read, of one kind each: a label or votes, corners or sizes."""
    found = ", ".join(map(repr, first))[:200]
    if "file" not in at:
        raise UsageError(
            f"--truth: no column of {where} names files (it begins with {found}): name one of "
            f"{', '.join(_NAMES['file'][:6])}, ..., or say where it is with --columns file=1,label=2"
        )
    votes = [role for role in at if role.startswith((VOTES, DISMISSALS))]
    if "label" in at:
        votes = []
    elif sum(role.startswith(VOTES) for role in votes) < 2:
        raise UsageError(
            f"--truth: no column of {where} holds labels (it begins with {found}): name one of "
            f"{', '.join(_NAMES['label'][:4])}, give a column of votes for each label, or say where it is with "
            "--columns file=1,label=2. If labels are numbers, --codes says what they mean"
        )
    boxes = [box for box in (_CORNERS, BOX) if set(box) <= at.keys()]
    boxes.sort(key=lambda box: not set(box) & set(asked))
    roles = ("file", "label", "frame_index", "pts_ms", *votes, *(boxes[0] if boxes else ()))
    return {role: at[role] for role in roles if role in at}


# COCO


class _Rows:
    """Rows on their way into a frame, few of them as Python objects at a time."""

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self._schema = dict(schema)
        self._frames = [pl.DataFrame(schema=self._schema)]
        self._rows: list[tuple[Any, ...]] = []

    def add(self, row: tuple[Any, ...]) -> None:
        self._rows.append(row)
        if len(self._rows) == _PART_ROWS:
            self._pack()

    def frame(self) -> pl.DataFrame:
        self._pack()
        return pl.concat(self._frames)

    def _pack(self) -> None:
        self._frames.append(pl.DataFrame(self._rows, schema=self._schema, orient="row"))
        self._rows = []


def read_coco(where: str, left_out: Counter[str]) -> pl.DataFrame:
    """Return a row an annotation, and one for each picture without any, whose label and box are null.

    The label is `attributes.expression`, else the category's name; null where that only says that it is a face. Counts
    in `left_out` what belongs to no picture. Raises UsageError and ItemError.
    """
    images = _Rows({"id": pl.String, "name": pl.String})
    boxes = {"image": pl.String, "category": pl.String, "expression": pl.String}
    annotations = _Rows(boxes | dict.fromkeys(BOX, pl.Float64) | {"crowd": pl.Boolean})
    names: dict[str, str] = {}
    for key, value in _coco_items(where):
        if not isinstance(value, dict):
            raise UsageError(f"--truth: {printable(where)}: an element of {key} is no object: {str(value)[:40]}")
        if key == "images":
            images.add((_id(where, key, value, "id"), _text(where, key, value, "file_name")))
        elif key == "categories":
            names[_id(where, key, value, "id")] = _text(where, key, value, "name")
        else:
            annotations.add(_annotation(where, value))
    pictures = images.frame()
    if pictures.is_empty():
        raise UsageError(f"--truth: {printable(where)} names no images: expected COCO with images and annotations")
    if repeated := pictures.filter(pictures["id"].is_duplicated())["id"].head(1).to_list():
        raise UsageError(f"--truth: {printable(where)}: the image id {repeated[0]} stands for several images")
    category = pl.col("category").replace_strict(
        names, default=pl.lit("category ") + pl.col("category"), return_dtype=pl.String
    )
    plain = category.str.to_lowercase().is_in(list(_FACE))
    rows = annotations.frame().with_columns(
        label=pl.coalesce("expression", pl.when(~plain.fill_null(False)).then(category)), told=True
    )
    joined = pictures.join(rows, left_on="id", right_on="image", how="left", maintain_order="left")
    left_out["annotations of no picture"] += rows.height - int(joined["told"].sum())
    return _raw(joined)


def _coco_items(where: str) -> Iterator[tuple[str, Any]]:
    with opened(where) as file:
        if file.seek(0, os.SEEK_END) > MAX_COCO_BYTES:
            raise _too_large(where, MAX_COCO_BYTES)
        file.seek(0)
        try:
            for key, some in parts(file, ("images", "annotations", "categories")):
                yield from ((key, element) for element in some)
        except ValueError as error:
            raise UsageError(f"--truth: {printable(where)} cannot be read as COCO: {error}") from None


def _annotation(where: str, value: Mapping[str, Any]) -> tuple[Any, ...]:
    attributes = value.get("attributes")
    expression = attributes.get("expression") if isinstance(attributes, dict) else None
    category = _id(where, "annotations", value, "category_id") if value.get("category_id") is not None else None
    image = _id(where, "annotations", value, "image_id")
    box = value.get("bbox")
    if box is None:
        sides: list[float | None] = [None] * 4
    elif isinstance(box, list) and len(box) == 4:
        sides = [_float(side) for side in box]
    else:
        raise UsageError(f"--truth: {printable(where)}: expected bbox as [x, y, w, h], found {str(box)[:60]}")
    crowd = bool(value.get("iscrowd"))
    return (image, category, _plain_text(expression) if isinstance(expression, str) else None, *sides, crowd)


def _id(where: str, key: str, value: Mapping[str, Any], name: str) -> str:
    found = value.get(name)
    if not isinstance(found, int | str):
        raise UsageError(f"--truth: {printable(where)}: an element of {key} has no {name}: {_shown(value)}")
    return _plain_text(str(found))


def _text(where: str, key: str, value: Mapping[str, Any], name: str) -> str:
    found = value.get(name)
    if not isinstance(found, str):
        raise UsageError(f"--truth: {printable(where)}: an element of {key} has no {name}: {_shown(value)}")
    return _plain_text(found)


def _plain_text(text: str) -> str:
    """Return the text as UTF-8 can write it: JSON may hold halves of characters."""
    return text.encode("utf-8", "backslashreplace").decode()


def _shown(value: Mapping[str, Any]) -> str:
    return json.dumps(value)[:80]


def _float(value: Any) -> float:
    """Return a side of a box; NaN for what is no number."""
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan


def _too_large(where: str, limit: int) -> UsageError:
    return UsageError(f"--truth: {printable(where)} has more than {limit:,} bytes: split it")


def _raw(frame: pl.DataFrame) -> pl.DataFrame:
    """Return the frame with the columns of `RAW`, null where it has none, and its votes."""
    known = set(frame.columns)
    filled = (pl.col(name) if name in known else pl.lit(None).alias(name) for name in RAW)
    votes = [name for name in frame.columns if name.startswith((VOTES, DISMISSALS))]
    return frame.select(*(column.cast(kind) for column, kind in zip(filled, RAW.values(), strict=True)), *votes)


def with_prefix(frame: pl.DataFrame, prefix: str) -> list[str]:
    """Return the columns whose names begin so, in their order."""
    return [name for name in frame.columns if name.startswith(prefix)]
