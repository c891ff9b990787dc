"""Review files: what waits for a person's decision, written as CSV or JSON lines, and the decisions read back.

    id, picture, frame, source_uri, box, label, candidates, reason, confidence      what is shown
    decision, new_label, new_box, reviewer, decided_at, comment                     empty, for a person to fill

Boxes are JSON lists [x, y, width, height] in pixels. A CSV comes back as spreadsheets save it: with `;` or tabs, a mark
at its beginning, as UTF-16 or in Windows' own encoding. A text that a spreadsheet would take for a formula has an
apostrophe in front, which is taken off when it is read.
"""

import codecs
import csv
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from io import TextIOWrapper
from pathlib import Path
from typing import Any, BinaryIO, TextIO

from schemas.errors import ItemError, UsageError
from transforms.decisions import Decision, Refusal, Verdict
from transforms.edits import Box, box_text
from transforms.storage import opened, printable, replacing

SHOWN = ("id", "picture", "frame", "source_uri", "box", "label", "candidates", "reason", "confidence")
FILLED = ("decision", "new_label", "new_box", "reviewer", "decided_at", "comment")

MOST_LINE_CHARS = 1 << 20
"""A line of more characters is none of ours; it is not read."""

MOST_NAME_CHARS = 200

_BLOCK_BYTES = 1 << 20
_FORMULA = re.compile(r"'*[=+\-@\t\r\n＝＋－＠]")
"""How a formula begins in some spreadsheet (OWASP, CSV injection), and what looks like one that was made harmless."""

_WORDS = ", ".join(Verdict)


@dataclass(frozen=True)
class Waiting:
    """An annotation that waits for a decision, as a person sees it. `frame` is null for a picture."""

    id: str
    picture: str
    frame: int | None
    source_uri: str
    box: Box | None
    label: str | None
    candidates: Sequence[str]
    reason: str
    confidence: float | None


def write_review(path: str, rows: Sequence[Waiting]) -> None:
    """Write what waits, as CSV or JSON lines by the name's ending. A file with decisions is never written over.

    Raises UsageError, and RunError where the file cannot be written.
    """
    form = _form(path)
    _require_replaceable(path)
    with replacing(path) as file:
        if form == "csv":
            _write_csv(file, rows)
        else:
            _write_lines(file, rows)


def read_review(path: str, reviewer: str | None, now: datetime) -> tuple[list[Decision], list[Refusal]]:
    """Return the decisions of a review file, and the lines that hold one which cannot be read.

    Lines without a decision are passed over. `reviewer` decided where the line does not say, and `now`.
    """
    decisions, refusals = [], []
    for line, cells in _cells(path):
        read = cells if isinstance(cells, str) else decision_in(line, cells, reviewer, now)
        if isinstance(read, Decision):
            decisions.append(read)
        elif read is not None:
            refusals.append(Refusal(line, read))
    return decisions, refusals


def _form(path: str) -> str:
    form = {".csv": "csv", ".jsonl": "jsonl"}.get(Path(path).suffix.lower())
    if form is None:
        raise UsageError(f"{printable(path)}: expected a name that ends with .csv or .jsonl")
    return form


def _require_replaceable(path: str) -> None:
    place = Path(path)
    if not place.exists():
        return
    if not place.is_file():
        raise UsageError(f"{printable(path)}: expected a file, or a new name")
    if not place.stat().st_size:
        return
    for _, cells in _cells(path):
        if isinstance(cells, str) or not {*SHOWN, *FILLED} <= set(cells):
            raise UsageError(f"{printable(path)} is something else than a review file: name another one")
        if _text(cells["decision"]):
            raise UsageError(
                f"{printable(path)} holds decisions, which would be lost: give it to --decisions, and name another file"
            )


def _write_csv(file: BinaryIO, rows: Sequence[Waiting]) -> None:
    file.write(codecs.BOM_UTF8)  # without it Excel reads the file in Windows' own encoding
    out = TextIOWrapper(file, "utf-8", newline="", write_through=True)
    table = csv.writer(out, quoting=csv.QUOTE_ALL)
    table.writerow((*SHOWN, *FILLED))
    for row in rows:
        shown = asdict(row) | {"box": box_text(row.box), "candidates": json.dumps(row.candidates, ensure_ascii=False)}
        table.writerow([_inert(shown[name]) for name in SHOWN] + [""] * len(FILLED))
    out.detach()


def _write_lines(file: BinaryIO, rows: Sequence[Waiting]) -> None:
    for row in rows:
        told = asdict(row) | {"box": json.loads(box_text(row.box) or "null")} | dict.fromkeys(FILLED)
        file.write(json.dumps(told, ensure_ascii=False).encode() + b"\n")


def _inert(value: Any) -> str:
    text = "" if value is None else str(value)
    return f"'{text}" if _FORMULA.match(text) else text


def _meant(text: str) -> str:
    return text[1:] if text.startswith("'") and _FORMULA.match(text) else text


def _cells(path: str) -> Iterator[tuple[int, Mapping[str, Any] | str]]:
    """Yield the lines of a review file with their numbers, from 1: the cells by their column, or what is wrong."""
    form = _form(path)
    with _texts(path) as lines:
        yield from _csv_cells(path, lines) if form == "csv" else _json_cells(lines)


def _csv_cells(path: str, lines: TextIO) -> Iterator[tuple[int, Mapping[str, Any] | str]]:
    header, separator, before = _header(path, lines)
    table = csv.reader(iter(partial(lines.readline, MOST_LINE_CHARS), ""), delimiter=separator)
    start = before
    try:
        for cells in table:
            line, start = start + 1, before + table.line_num
            if any(cells):
                yield line, {name: _meant(cell) for name, cell in zip(header, cells, strict=False)}
    except csv.Error as error:
        raise UsageError(f"{printable(path)}, line {start + 1}: expected a CSV file: {error}") from None


def _header(path: str, lines: TextIO) -> tuple[list[str], str, int]:
    """Return the names of the columns, what separates them, and how many lines that took."""
    for taken in (1, 2):
        line = lines.readline(MOST_LINE_CHARS)
        for separator in ",;\t":
            names = [name.strip().lower() for name in next(csv.reader([line], delimiter=separator), [])]
            if {"id", "decision"} <= set(names):
                return names, separator, taken
        if not line.lower().startswith(("sep=", '"sep=')):  # Excel's own first line
            break
    raise UsageError(f"{printable(path)}: expected a review file as --needs-review writes it, with id and decision")


def _json_cells(lines: TextIO) -> Iterator[tuple[int, Mapping[str, Any] | str]]:
    for number, line in enumerate(iter(partial(lines.readline, MOST_LINE_CHARS), ""), 1):
        try:
            told = json.loads(line) if line.strip() else None
        except (ValueError, RecursionError) as error:
            yield number, f"expected a JSON object: {error}"
            continue
        if isinstance(told, dict) and "id" in told:
            yield number, told
        elif told is not None:
            yield number, "expected a JSON object with an id"


@contextmanager
def _texts(path: str) -> Iterator[TextIO]:
    try:
        encoding = _encoding(path)
        with opened(path) as file:
            yield TextIOWrapper(file, encoding, errors="replace", newline="")
    except ItemError as error:
        raise UsageError(str(error)) from None


def _encoding(path: str) -> str:
    """Return the encoding of a text: told by a mark at its beginning, or UTF-8 where all of it is, or Windows' own."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    with opened(path) as file:
        block = file.read(_BLOCK_BYTES)
        if block.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            return "utf-16"
        while block:
            try:
                decoder.decode(block)
            except UnicodeDecodeError:
                return "cp1252"
            block = file.read(_BLOCK_BYTES)
    return "utf-8-sig"


def decision_in(line: int, cells: Mapping[str, Any], reviewer: str | None, now: datetime) -> Decision | str | None:
    """Return the decision that a line holds, why it cannot be read, or null where it holds none."""
    told = {name: _text(cells.get(name)) for name in (*SHOWN, *FILLED)}
    word = told["decision"].lower()
    if not word:
        return None
    try:
        "".join(told.values()).encode()
    except UnicodeEncodeError:
        return "the line holds characters that no text has (half a surrogate pair)"
    if word not in set(Verdict):
        return f"the decision {told['decision']!r} is unknown: expected {_WORDS}"
    verdict = Verdict(word)
    who = told["reviewer"] or reviewer or ""
    if not who or len(who) > MOST_NAME_CHARS:
        return f"expected who decided, in the column reviewer or by --reviewer, in at most {MOST_NAME_CHARS} characters"
    wrong = _contradiction(verdict, told)
    if wrong:
        return wrong
    shown = _box(told["box"]) if told["box"] and verdict in (Verdict.ACCEPT, Verdict.RELABEL) else None
    fresh = _box(told["new_box"]) if told["new_box"] else None
    if isinstance(shown, str) or isinstance(fresh, str):
        return f"new_box: {fresh}" if isinstance(fresh, str) else f"box: {shown}"
    decided_at = _time(told["decided_at"]) if told["decided_at"] else now
    if decided_at is None:
        return f"decided_at {told['decided_at']!r}: expected a time as 2025-01-31T12:00:00Z"
    return Decision(
        line=line,
        id=told["id"],
        verdict=verdict,
        label=told["label"] or None,
        box=shown,
        new_label=told["new_label"] or None,
        new_box=fresh,
        reviewer=who,
        decided_at=decided_at,
        comment=told["comment"] or None,
    )


def _contradiction(verdict: Verdict, told: Mapping[str, str]) -> str | None:
    """Return what is missing for a decision, or what is there against it."""
    wanted = {
        "new_label": verdict in (Verdict.RELABEL, Verdict.BOTH),
        "new_box": verdict in (Verdict.REBOX, Verdict.BOTH),
    }
    for name, is_wanted in wanted.items():
        if is_wanted and not told[name]:
            return f"{verdict} needs a {name}"
        if told[name] and not is_wanted:
            return f"{verdict} has no use for a {name}, but there is one: {told[name]!r}"
    return None


def _box(text: str) -> Box | str:
    """Return the box that a person wrote, or what is wrong with it."""
    try:
        told = json.loads(text)
        if isinstance(told, list) and all(type(value) in (int, float) for value in told):
            x, y, w, h = map(float, told)
            return x, y, w, h
    except (ValueError, OverflowError, RecursionError):
        pass
    return f"expected [x, y, width, height] in pixels, got {text[:100]!r}"


def _time(text: str) -> datetime | None:
    """Return a time; one without a zone is taken for UTC."""
    try:
        told = datetime.fromisoformat(text)
        return (told if told.tzinfo else told.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _text(value: Any) -> str:
    """Return what a cell holds as one line without spaces around it; lists as JSON."""
    if value is None:
        return ""
    return value.strip() if isinstance(value, str) else json.dumps(value)
