"""Read a file as the job does, and say what came in few words."""

from pathlib import Path
from typing import Any

import polars as pl

from schemas.raw import CHUNK_ROWS, RAW, Facts, Form, Source
from transforms.readers import forms
from transforms.readers.rows import Options

BOX = ("a", "b", "c", "d")


def source(path: Path, form: Form) -> Source:
    """Return a source of one file."""
    return Source(form, path.name, str(path.parent), (str(path),), (path.name,))


def read(given: Source, scratch: Path, columns: dict[str, str] | None = None) -> tuple[pl.DataFrame, Facts]:
    """Return all rows of a source and what it declares; what must hold of every reader is checked."""
    facts = Facts()
    frames = list(forms.read(given, facts, Options(columns or {}, scratch)))
    for frame in frames:
        assert dict(frame.schema) == RAW
        assert 0 < frame.height <= CHUNK_ROWS
        assert frame["picture"].null_count() == 0
        assert (frame["picture"] != "").all()
        assert frame.filter(~pl.col("is_label"))["label"].count() == 0
    return pl.concat([pl.DataFrame(schema=RAW), *frames]), facts


def said(rows: pl.DataFrame, *columns: str) -> list[tuple[Any, ...]]:
    """Return picture, label, box and some columns of each row; NaN as "NaN", which equals itself."""
    told = rows.select("picture", "label", *BOX, *columns)
    return [tuple("NaN" if value != value else value for value in row) for row in told.iter_rows()]


def boxes(rows: pl.DataFrame) -> list[list[float]]:
    """Return the boxes that there are."""
    return [list(row) for row in rows.select(BOX).drop_nulls().iter_rows()]
