"""Tables of labels: cells between commas, tabs, semicolons or bars, with or without a header, of any length.

Lines may end in any way, and in several ways in one file; bytes that are no UTF-8 are Windows-1252, each by itself. A
line with too many or too few cells is left out and told.
"""

import codecs
import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate, chain
from typing import Any, BinaryIO

import numpy as np
import polars as pl
import pyarrow as pa
from pyarrow import csv as arrow_csv

from schemas.errors import ItemError, UsageError
from schemas.raw import CHUNK_ROWS, RAW, Facts, Source
from schemas.reasons import Rule
from transforms.readers import label_studio
from transforms.readers.rows import Options, Row, encoding_of, frames, json_object, text
from transforms.readers.table_layout import Layout, layout_of, looks_like_one
from transforms.storage import opened, printable

MAX_CELL = 2**20
"""Most characters of one cell."""

MAX_LINE = 2**24
"""Most characters of one line."""

MAX_KEPT = 2**13
"""Most characters of one cell that attributes keep."""

MAX_TOLD = 1_000
"""Most lines of one table that are told one by one when they cannot be read."""

_HEAD_BYTES = 1 << 18
_BLOCK_BYTES = 1 << 19
_BATCH_ROWS = 2_000  # few enough to stay in the processor's cache: twice as fast as 10,000
_PART_ROWS = 50_000
_PART_BYTES = 2**25
_YES, _NO = ("1", "1.0", "true", "yes"), ("", "0", "0.0", "-1", "-1.0", "false", "no")
_MOST_INT = 2**31
_END = "end"
_FALLBACK = "labelstream-windows-1252"
_NAN = float("nan")
_IN_TEXT = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?|[A-Za-z]+"

csv.field_size_limit(MAX_CELL)  # of the whole process: its default of 131,072 is too little for outlines in a cell


def _windows_1252(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeDecodeError)
    return error.object[error.start : error.end].decode("cp1252", "replace"), error.end


codecs.register_error(_FALLBACK, _windows_1252)


def is_one(head: bytes, name: str) -> bool:
    """Tell whether a file of this name that begins so is a table of labels."""
    told = _decoded_head(head)
    return "\0" not in told and looks_like_one(told, name)


def read(source: Source, facts: Facts, options: Options) -> Iterator[pl.DataFrame]:
    """Return a row a label. Raises UsageError for a table whose columns only a person can tell."""
    for path, name in zip(source.files, source.names, strict=True):
        try:
            with opened(path) as file:
                yield from _Table(file, name, facts, options.columns).frames()
        except ItemError as error:
            facts.failures.append((name, error.error, str(error)))


class _Table:
    """A table while it is read."""

    def __init__(self, file: BinaryIO, name: str, facts: Facts, columns: Mapping[str, str]) -> None:
        head = file.read(_HEAD_BYTES)
        file.seek(0)
        self._told = printable(name)
        told = _decoded_head(head)
        if "\0" in told:
            raise UsageError(f"{self._told} is no text: expected a table")
        self._layout = layout_of(told, self._told, columns)
        self._name, self._facts = name, facts
        self._blocks = _blocks(file, encoding_of(head) or "utf-8", self._told)
        self._failures = 0
        # The picture itself may stand in a cell, and is never kept.
        self._used = [at for at in range(len(self._layout.names)) if at != self._layout.at.get("pixels")]
        facts.corners, facts.unit = self._layout.corners, self._layout.unit
        if self._layout.kind == "label-studio":
            facts.corners, facts.unit = "xywh", "percent"
        if self._layout.has_header:
            facts.columns = self._layout.names
        if self._layout.labels:
            facts.categories = tuple(self._layout.names[at] for at in self._layout.labels)
        if self._layout.kind in ("one-hot", "negatives"):
            facts.exclusive = False

    def frames(self) -> Iterator[pl.DataFrame]:
        for cells in self._cells():
            if cells.is_empty():
                continue
            if self._layout.kind == "label-studio":
                yield from frames(self._exported(cells))
                continue
            yield from _raw(cells, self._layout, self._name).iter_slices(CHUNK_ROWS)
        if self._failures > MAX_TOLD:
            more = f"{self._told}: {self._failures - MAX_TOLD:,} more lines could not be read."
            self._facts.failures.append((self._name, "broken_line", more))

    def _fail(self, error: str, message: str) -> None:
        self._failures += 1
        if self._failures <= MAX_TOLD:
            self._facts.failures.append((self._name, error, f"{self._told}, {message}"))

    # Lines into cells

    def _cells(self) -> Iterator[pl.DataFrame]:
        """Return the cells in columns by number, each row's `line`, and `label`, the label with its white space."""
        parts: list[pl.DataFrame] = []
        rows = size = 0
        for part in self._parts():
            parts.append(part)
            rows += part.height
            size += int(part.estimated_size())
            if rows >= _PART_ROWS or size >= _PART_BYTES:
                yield self._checked(pl.concat(parts))
                parts, rows, size = [], 0, 0
        if rows:
            yield self._checked(pl.concat(parts))

    def _parts(self) -> Iterator[pl.DataFrame]:
        """Return the cells of some lines at a time: in large blocks, as long as no cell stands in quotes."""
        before = 0
        is_header_due = self._layout.has_header
        for block in self._blocks:
            if '"' in block:
                yield from self._quoted(chain((block,), self._blocks), before, is_header_due=is_header_due)
                return
            while is_header_due and block:
                first, _, block = block.partition("\n")
                is_header_due = not first.replace(self._layout.separator, "").strip()
                before += 1
            if block:
                yield self._plain(block, before)
                before += block.count("\n")

    def _plain(self, block: str, before: int) -> pl.DataFrame:
        """Return the cells of lines without quotes."""
        layout = self._layout
        names = [str(at) for at in range(len(layout.names))]
        odd: list[tuple[int, str]] = []

        def skip(row: Any) -> str:
            odd.append((row.number, row.text))
            return "skip"

        data = block.encode("utf-8", "replace")
        table = arrow_csv.read_csv(
            pa.BufferReader(data),
            arrow_csv.ReadOptions(use_threads=False, column_names=names, block_size=len(data) + 1),
            arrow_csv.ParseOptions(
                delimiter=layout.separator, quote_char=False, ignore_empty_lines=False, invalid_row_handler=skip
            ),
            arrow_csv.ConvertOptions(
                check_utf8=False,
                column_types=dict.fromkeys(names, pa.string()),
                strings_can_be_null=False,
                include_columns=[str(at) for at in self._used],
            ),
        )
        lines = np.arange(before + 1, before + 1 + table.num_rows + len(odd))
        left = np.delete(lines, [number - 1 for number, _ in odd])
        part = self._shaped(pl.DataFrame(pl.from_arrow(table)), left)
        if not odd:
            return part
        told = self._fitting([before + number for number, _ in odd], [row.split(layout.separator) for _, row in odd])
        return pl.concat([part, self._framed(*told)]).sort("line")

    def _quoted(self, blocks: Iterator[str], before: int, *, is_header_due: bool) -> Iterator[pl.DataFrame]:
        """Return the cells of lines that may hold quotes, and line feeds within these."""
        layout = self._layout
        counted = _Counted(blocks)
        reader = csv.reader(chain.from_iterable(counted), delimiter=layout.separator, skipinitialspace=layout.spaced)
        start = before
        is_over = False
        while not is_over:
            rows: list[list[str]] = []
            is_broken = False
            block = counted.count
            try:
                for row in reader:
                    rows.append(row)
                    if counted.count != block or len(rows) == _BATCH_ROWS:
                        break
                else:
                    is_over = True
            except csv.Error:
                is_broken = True
            after = start + reader.line_num
            *lines, begin = _line_numbers(rows, before, after, is_plain=not is_broken)
            if rows and counted.is_over and not is_broken:
                is_broken = rows.pop() != [_END]
                begin, after = lines.pop(), after - 1
            if is_header_due and (at := _first_told(rows)) is not None:
                del rows[: at + 1], lines[: at + 1]
                is_header_due = False
            yield self._framed(*self._fitting(lines, rows))
            if is_broken:
                what = f"a quote does not end, or a cell has over {MAX_CELL:,} characters"
                self._fail("broken_line", f"lines {begin} to {after}: {what}.")
            before = after

    def _framed(self, lines: Sequence[int], rows: Sequence[Sequence[str]]) -> pl.DataFrame:
        columns = list(zip(*rows, strict=True)) or [()] * len(self._layout.names)
        return self._shaped(pl.DataFrame([pl.Series(str(at), columns[at], pl.String) for at in self._used]), lines)

    def _shaped(self, cells: pl.DataFrame, lines: Any) -> pl.DataFrame:
        label = self._layout.at.get("label")
        as_it_came = pl.lit(None, pl.String) if label is None else pl.col(str(label))
        return cells.select(
            pl.Series("line", lines, pl.Int64),
            as_it_came.alias("label"),
            *(pl.col(name).str.strip_chars() for name in cells.columns),
        )

    def _fitting(
        self, lines: Sequence[int], rows: Sequence[Sequence[str]]
    ) -> tuple[Sequence[int], Sequence[Sequence[str]]]:
        """Return the lines of the table's width, without empty cells beyond it; tell of others that are not blank."""
        width = len(self._layout.names)
        if set(map(len, rows)) == {width}:
            return lines, rows
        found: list[tuple[int, Sequence[str]]] = []
        for line, row in zip(lines, rows, strict=True):
            if len(row) > width and not any(map(str.strip, row[width:])):
                row = row[:width]
            if len(row) == width:
                found.append((line, row))
            elif any(map(str.strip, row)):
                begin, more = self._layout.separator.join(row)[:60], sum(cell.count("\n") for cell in row)
                where = f"lines {line} to {line + more}" if more else f"line {line}"
                self._fail("wrong_length", f"{where}: expected {width} cells, found {len(row)}: {begin!r}.")
        return [line for line, _ in found], [row for _, row in found]

    def _checked(self, cells: pl.DataFrame) -> pl.DataFrame:
        """Return the lines that name a picture and whose marks are 0 or 1; tell of the others that are not blank."""
        layout = self._layout
        needed = layout.at.get("file", layout.at.get("label"))
        wrong = {"no picture is named" if "file" in layout.at else "no label is told": pl.col(str(needed)) == ""}
        over = [layout.at[role] for role in ("file", "label") if role in layout.at and layout.kind != "label-studio"]
        for at in over:
            wrong[f"a quote does not end, or {layout.names[at]!r} goes over several lines"] = pl.col(
                str(at)
            ).str.contains("\n", literal=True)
        if layout.kind == "one-hot":
            for at in layout.labels:
                is_mark = pl.col(str(at)).str.to_lowercase().is_in([*_YES, *_NO])
                wrong[f"expected 0 or 1 for {layout.names[at]!r}"] = ~is_mark
        is_wrong = cells.select(pl.any_horizontal(wrong.values())).to_series()
        if not is_wrong.any():
            return cells
        reason = pl.coalesce(pl.when(test).then(pl.lit(what)) for what, test in wrong.items())
        is_blank = pl.all_horizontal(pl.col([str(at) for at in self._used]) == "")
        for line, what in cells.filter(is_wrong).filter(~is_blank).select("line", reason).iter_rows():
            self._fail("broken_line", f"line {line}: {what}.")
        return cells.filter(~is_wrong)

    # Label Studio

    def _exported(self, cells: pl.DataFrame) -> Iterator[tuple[Any, ...]]:
        """Return rows of Label Studio's table, which is its JSON_MIN with JSON in cells."""
        layout = self._layout
        names = {str(at): "label" if at == layout.at.get("label") else name for at, name in enumerate(layout.names)}
        file = str(layout.at["file"])
        for told in cells.drop("label").iter_rows(named=True):
            line, picture = told.pop("line"), label_studio.picture_path(told.pop(file))
            try:
                item = {names[at]: _parsed(cell) for at, cell in told.items() if cell}
            except (ValueError, RecursionError):
                self._fail("broken_line", f"line {line}: a cell of labels is no JSON.")
                continue
            kept = {name: value for name, value in item.items() if isinstance(value, str) and name != "label"}
            labels = list(label_studio._minimal({name: item[name] for name in item if name not in kept}))
            for each in labels:
                attributes = json_object({**kept, **each.attributes})
                rest = (each.confidence, attributes, None, None)
                yield (self._name, line, picture, *each.size, None, None, True, each.label, *each.sides, *rest)
            if not labels:
                yield Row(self._name, line, picture, is_label=False, attributes=json_object(kept))


def _parsed(cell: str) -> Any:
    return json.loads(cell) if cell.startswith(("[{", '{"')) else text(cell)


def _blocks(file: BinaryIO, encoding: str, told: str) -> Iterator[str]:
    """Return a file's text in blocks of whole lines, each of which ends in a line feed. Raises UsageError."""
    decoder = _decoder(encoding)
    rest = ""
    while data := file.read(_BLOCK_BYTES):
        text = rest + decoder.decode(data)
        cut = text.rfind("\n") + 1
        rest = text[cut:]
        if len(rest) > MAX_LINE:
            raise UsageError(f"{told} holds a line of more than {MAX_LINE:,} characters: it is no table")
        if cut:
            yield text[:cut]
    if rest := rest + decoder.decode(b"", final=True):
        yield rest if rest.endswith("\n") else rest + "\n"


class _Counted:
    """Blocks as files of lines, and a last line of ours: if a cell holds it, a quote was not closed.

    `count` tells how many were given, `is_over` that the last line was.
    """

    def __init__(self, blocks: Iterator[str]) -> None:
        self.count = 0
        self.is_over = False
        self._blocks = blocks

    def __iter__(self) -> Iterator[Iterable[str]]:
        for block in self._blocks:
            self.count += 1
            yield io.StringIO(block, newline="\n")
        self.count += 1
        self.is_over = True
        yield [_END]


def _decoder(encoding: str) -> io.IncrementalNewlineDecoder:
    plain = encoding == "utf-8"
    decoder = codecs.getincrementaldecoder("utf-8-sig" if plain else encoding)
    return io.IncrementalNewlineDecoder(decoder(_FALLBACK if plain else "replace"), translate=True)


def _decoded_head(head: bytes) -> str:
    """Return the beginning of a file with its line ends made one."""
    return _decoder(encoding_of(head) or "utf-8").decode(head)


def _first_told(rows: Sequence[Sequence[str]]) -> int | None:
    """Return the number of the first row that is not blank."""
    return next((at for at, row in enumerate(rows) if any(map(str.strip, row))), None)


def _line_numbers(rows: Sequence[Sequence[str]], before: int, after: int, *, is_plain: bool) -> list[int]:
    """Return where each row begins, and what follows the last; rows lie after one line and end in another.

    Cells may hold line feeds; `is_plain` says that nothing else lies there.
    """
    if is_plain and after - before == len(rows):
        return list(range(before + 1, after + 2))
    return list(accumulate((1 + sum(cell.count("\n") for cell in row) for row in rows), initial=before + 1))


# Cells into rows: `cells` are without white space around them


def _numbers(at: int, layout: Layout) -> pl.Expr:
    """Return a column's numbers: null for an empty cell, NaN for what is none."""
    told = pl.col(str(at))
    cell = told if layout.separator == "," else told.str.replace(",", ".", literal=True)
    found = cell.cast(pl.Float64, strict=False)
    return pl.when(told != "").then(pl.when(found.is_finite()).then(found).otherwise(_NAN))


def _whole(number: pl.Expr) -> pl.Expr:
    return pl.when((number == number.floor()) & number.is_between(-_MOST_INT, _MOST_INT - 1)).then(number)


def _box(layout: Layout) -> list[pl.Expr]:
    """Return the four numbers of a box."""
    if layout.box:
        return [_numbers(at, layout) for at in layout.box]
    if "bbox" in layout.at:
        told = pl.col(str(layout.at["bbox"]))
        found = told.str.extract_all(_IN_TEXT)
        sides = [found.list.get(i, null_on_oob=True).cast(pl.Float64, strict=False) for i in range(4)]
        return [
            pl.when(told != "").then(pl.when((found.list.len() == 4) & side.is_finite()).then(side).otherwise(_NAN))
            for side in sides
        ]
    return [pl.lit(None, pl.Float64)] * 4


def _attributes(cells: pl.DataFrame, layout: Layout, members: Sequence[pl.Expr] = ()) -> pl.Series:
    """Return the columns that have no other place as JSON objects of texts, null where they hold nothing.

    `members` are more of such an object, as texts, null where there is none.
    """
    texts = list(members)
    for at in (*layout.aside, *(layout.labels if layout.kind == "votes" else ())):
        name, cell = layout.names[at], pl.col(str(at))
        long = json.dumps(f"{name}_dropped", ensure_ascii=False) + ":true"
        kept = pl.struct(cell.alias(name)).struct.json_encode().str.slice(1).str.head(-1)
        told = pl.when(cell.str.len_bytes() > MAX_KEPT).then(pl.lit(long)).otherwise(kept)
        texts.append(pl.when(cell != "").then(told))
    if not texts:
        return pl.Series("attributes", [None] * cells.height, pl.String)
    told = pl.concat_str(texts, separator=",", ignore_nulls=True)
    return cells.select(attributes=told).select(
        pl.when(pl.col("attributes") != "").then("{" + pl.col("attributes") + "}").alias("attributes")
    )["attributes"]


def _raw(cells: pl.DataFrame, layout: Layout, name: str) -> pl.DataFrame:
    """Return the lines as RAW. `label` is the label as it came, with its white space."""
    at = layout.at
    numbers = {
        role: _numbers(at[role], layout) for role in ("width", "height", "frame", "pts_ms", "confidence") if role in at
    }
    cells = cells.with_columns(**numbers, **dict(zip("abcd", _box(layout), strict=True)))
    label, members = _label(layout)
    attributes = _attributes(cells, layout, members)
    box = [pl.col(side) for side in "abcd"]
    told: dict[str, pl.Expr | pl.Series] = {
        "file": pl.lit(name),
        "row": pl.col("line"),
        "picture": (
            pl.col(str(at["file"])).str.replace_all("\\", "/", literal=True)
            if "file" in at
            else "fer2013_" + (pl.col("line") - 2).cast(pl.String).str.zfill(7)  # from 0 below the header, as in FER+
        ),
        "label": label,
        # No number tells that there is no box; some, that it is broken.
        **{
            side: pl.when(~pl.all_horizontal(each.is_null() for each in box)).then(pl.col(side).fill_null(_NAN))
            for side in "abcd"
        },
        "attributes": attributes,
        **{role: pl.col(role) for role in ("pts_ms", "confidence") if role in at},
        **{role: _whole(pl.col(role)) for role in ("width", "height", "frame") if role in at},
    }
    if "frame" in at:
        is_wrong = (pl.col(str(at["frame"])) != "") & ~(_whole(pl.col("frame")) >= 0).fill_null(False)
        told["rule"] = pl.when(is_wrong).then(pl.lit(Rule.REFERENCE_FRAME.value))
        shown = "expected a frame's number, found '" + pl.col(str(at["frame"])).str.head(40) + "'"
        told["detail"] = pl.when(is_wrong).then(shown)
    rows = cells.select(**told)
    if layout.kind == "one-hot":
        rows = rows.explode("label")
    is_label = pl.col("label").is_not_null() | pl.col("a").is_not_null()
    null = (pl.lit(None).alias(column) for column in RAW if column not in (*told, "is_label"))
    return rows.with_columns(*null, is_label=is_label).select(pl.col(column).cast(kind) for column, kind in RAW.items())


def _label(layout: Layout) -> tuple[pl.Expr, list[pl.Expr]]:
    """Return the label, and what is kept of it among the attributes."""
    names = [layout.names[at] for at in layout.labels]
    if layout.kind == "one-hot":
        # A label of the whole picture each; a picture without any is there all the same.
        marks = [
            pl.when(pl.col(str(at)).str.to_lowercase().is_in(_YES)).then(pl.lit(layout.names[at]))
            for at in layout.labels
        ]
        marked = pl.concat_list(marks).list.drop_nulls()
        return pl.when(marked.list.len() > 0).then(marked).otherwise(pl.lit([None], pl.List(pl.String))), []
    if layout.kind == "votes":
        counts = [_numbers(at, layout).fill_null(0).fill_nan(0) for at in layout.labels]
        most = pl.max_horizontal(counts)
        first = [
            pl.when((count == most) & (most > 0)).then(pl.lit(name)) for count, name in zip(counts, names, strict=True)
        ]
        merged = pl.concat_str(first, separator="/", ignore_nulls=True)
        return pl.when(merged != "").then(merged), []
    if "label" not in layout.at:
        return pl.lit(None, pl.String), []
    cell = pl.col(str(layout.at["label"]))
    label = pl.when(cell != "").then(pl.col("label"))
    if layout.kind == "negatives":
        holds = (pl.col("confidence") != 0).fill_null(True)
        told = pl.struct(cell.alias("negative")).struct.json_encode().str.slice(1).str.head(-1)
        return pl.when(holds).then(label), [pl.when(~holds).then(told)]
    return label, []
