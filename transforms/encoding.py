"""What the exports share: the parts that they read, and rows as JSON without a loop over rows."""

from collections.abc import Iterable, Iterator
from typing import Protocol

import polars as pl

CHUNK_ROWS = 10_000
"""Rows that are encoded at once: 8 MB of JSON. 50,000 are no faster and take 270 MB more, 5,000 save no memory."""


class Part(Protocol):
    """Some pictures with their annotations; columns as in `schemas.tables`, dictionaries as strings."""

    @property
    def images(self) -> pl.DataFrame: ...
    @property
    def annotations(self) -> pl.DataFrame: ...


Parts = Iterable[Part]
"""Parts in a fixed order that can be iterated more than once, one of them in memory at a time."""


def chunks(frame: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """Return the frame in slices; nothing for an empty one."""
    return frame.iter_slices(CHUNK_ROWS)


def with_outcome(images: pl.DataFrame, *outcomes: str) -> pl.DataFrame:
    """Return the pictures of these outcomes."""
    return images.filter(pl.col("outcome").is_in(outcomes))


def json_of(**fields: pl.Expr) -> pl.Expr:
    """Return an expression: one JSON object a row. NaN and infinity become null; float32 has its shortest digits."""
    named = [value.alias(name) for name, value in fields.items()]
    return pl.struct(named).struct.json_encode()


def with_more(json: pl.Expr, more: pl.Expr) -> pl.Expr:
    """Return an expression: the members of two JSON objects as one object; where `more` is null, the first alone."""
    joined = json.str.strip_suffix("}") + "," + more.str.strip_prefix("{")
    return pl.coalesce(joined, json)


def joined(rows: pl.Series, separator: str) -> bytes:
    """Return the texts of `rows` as UTF-8 with a separator between them."""
    return str(rows.str.join(separator).item()).encode()
