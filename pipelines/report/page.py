"""The page as a shape (sections of figures, tables and faces) and as HTML. What comes from data is escaped."""

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from math import isfinite
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup, escape

from pipelines.report.words import decimal, percent, printed


@dataclass(frozen=True)
class Share:
    """A share 0..1 as a cell of a table."""

    value: float


@dataclass(frozen=True)
class Name:
    """A name of a file, a rule or an option as a cell of a table."""

    text: str


@dataclass(frozen=True)
class Examples:
    """Names of files, each with what is to be said of it, as a cell of a table."""

    each: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Value:
    """A text of the data as a cell of a table, in which every blank and line counts."""

    text: str


Cell = str | int | float | None | Share | Name | Examples | Value


@dataclass(frozen=True)
class Table:
    """A table; the first cell of each row heads it. `says` stands below the caption."""

    caption: str
    columns: tuple[str, ...]
    rows: Sequence[tuple[Cell, ...]]
    says: str = ""


@dataclass(frozen=True)
class Figure:
    """A chart with what it says in words and in numbers. `legend` holds numbers of colours and what they stand for."""

    title: str
    says: str
    svg: str
    table: Table
    legend: tuple[tuple[int, str], ...] = ()


@dataclass(frozen=True)
class Matrix:
    """A table of counts by true (row) and predicted (column) label, shaded by the share in its row."""

    caption: str
    labels: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]

    def shade(self, row: Sequence[int], count: int) -> int:
        """Return 0..9 for a count's share in its row."""
        return min(9, 10 * count // max(1, sum(row)))


@dataclass(frozen=True)
class Picture:
    """One face's crop, a JPEG, and what is known of it."""

    jpeg: bytes
    name: str
    text: str

    @property
    def uri(self) -> str:
        """The crop as a data: URI."""
        return f"data:image/jpeg;base64,{base64.b64encode(self.jpeg).decode('ascii')}"


@dataclass(frozen=True)
class Gallery:
    """Faces to look at."""

    title: str
    pictures: Sequence[Picture]


@dataclass(frozen=True)
class Command:
    """A line for a terminal, and what it does."""

    says: str
    line: str


Block = Table | Figure | Matrix | Gallery | Command


@dataclass(frozen=True)
class Section:
    """A section: `says` is what one learns from it, in a sentence or two."""

    anchor: str
    title: str
    says: str
    blocks: Sequence[Block]

    def figures(self) -> list[Figure]:
        """Return the charts, which stand in a grid above the rest."""
        return [block for block in self.blocks if isinstance(block, Figure)]

    def others(self) -> list[tuple[str, Block]]:
        """Return the rest, each with the name of its kind."""
        return [(type(block).__name__, block) for block in self.blocks if not isinstance(block, Figure)]


@dataclass(frozen=True)
class Headline:
    """One of the numbers at the top. `bad` is one that asks for a look."""

    number: str
    what: str
    note: str
    bad: bool = False


EXPRESSIONS_NOTE = (
    "A label names the appearance of an expression, as ten people would vote on the picture. It is no statement about "
    "what a person feels. The confidence is the expected share of human votes."
)


def render(
    title: str,
    made: str,
    headlines: Sequence[Headline],
    sections: Sequence[Section],
    note: str = EXPRESSIONS_NOTE,
) -> bytes:
    """Return the page as UTF-8; `note` stands at its end."""
    page, css = _template()
    digest = base64.b64encode(hashlib.sha256(css.encode()).digest()).decode()
    text = page.render(
        title=title, made=made, headlines=headlines, sections=sections, note=note, css=Markup(css), css_sha256=digest
    )
    return text.encode("utf-8", "replace")


@cache
def _template() -> tuple[Template, str]:
    folder = Path(__file__).parent
    environment = Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"cell": cell, "printed": printed}
    environment.tests["number"] = is_number
    # A browser hashes the style as it stands between its tags.
    return environment.get_template("page.html"), (folder / "page.css").read_text(encoding="utf-8")


def cell(value: Cell) -> Markup:
    """Return a table's cell as HTML."""
    if isinstance(value, Name):
        # A name may hold letters that run from right to left: bdi keeps them from turning what is beside it.
        return Markup("<bdi class=name>{}</bdi>").format(printed(value.text))
    if isinstance(value, Value):
        lines = [printed(line, 600) for line in value.text.split("\n")]
        return Markup("<bdi class='name value'>{}</bdi>").format("\n".join(lines))
    if isinstance(value, Examples):
        lines = [Markup("<div>{} {}</div>").format(cell(Name(name)), cell(text)) for name, text in value.each]
        return Markup("").join(lines)
    if isinstance(value, Share):
        return escape(percent(value.value))
    if value is None or (isinstance(value, float) and not isfinite(value)):
        return Markup("–")
    if isinstance(value, float):
        return escape(decimal(value))
    return escape(f"{value:,}" if isinstance(value, int) else printed(value))


def is_number(value: Cell) -> bool:
    """Tell whether a cell is a number, which stands at the right."""
    return value is None or isinstance(value, int | float | Share)
