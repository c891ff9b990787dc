"""Edits of tables that stand already: some values, some rows more or fewer, and what follows for the pictures."""

import json
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from schemas.reasons import Outcome
from schemas.tables import Tables
from transforms.rules import settle
from validation.frames import BOX, NORMALISED

Row = dict[str, Any]
Box = tuple[float, float, float, float]
"""x, y, width, height."""


def with_values(table: pa.Table, name: str, values: Mapping[int, Any]) -> pa.Table:
    """Return the table with the values of some rows of a column, by their position, replaced."""
    if not values:
        return table
    field = table.schema.field(name)
    column = table[name].to_pylist()
    for at, value in values.items():
        column[at] = value
    return table.set_column(table.schema.get_field_index(name), field, _typed(column, field.type))


def appended(table: pa.Table, rows: Sequence[Row]) -> pa.Table:
    """Return the table with rows after its own; columns that they have not are null."""
    if not rows:
        return table
    return in_one_piece(pa.concat_tables([table, pa.Table.from_pylist(list(rows), schema=table.schema)]))


def in_one_piece(table: pa.Table) -> pa.Table:
    """Return the table with one chunk a column, every dictionary in the order of its rows."""
    return pa.table([_whole(table[field.name], field.type) for field in table.schema], schema=table.schema)


def without(table: pa.Table, name: str, values: Collection[str]) -> pa.Table:
    """Return the table without the rows whose column `name` has one of the values."""
    return table.filter(pc.invert(is_one_of(table[name], values)))


def is_one_of(column: pa.ChunkedArray, values: Collection[str]) -> pa.ChunkedArray:
    """Tell for each row whether its text is one of the values; a null is none."""
    return pc.is_in(column.cast(pa.string()), value_set=pa.array(sorted(values), pa.string()))


def resettled(tables: Tables, pictures: Collection[str]) -> Tables:
    """Settle the tables; what became of `pictures`, by id, is judged anew and not as it was before."""
    images = tables.images
    held = tables.quarantine.filter(is_one_of(tables.quarantine["kind"], ["image"]))
    down = set(held["id"].to_pylist())
    columns = (images[name].to_pylist() for name in ("image_id", "duplicate_of"))
    judged = {
        at: Outcome.DUPLICATE if standing else Outcome.QUARANTINED if image in down else Outcome.NO_FACE
        for at, (image, standing) in enumerate(zip(*columns, strict=True))
        if image in pictures
    }
    return settle(replace(tables, images=with_values(images, "outcome", judged)))


def held_as(row: Row, columns: Sequence[str]) -> str:
    """Return an annotation's row as the JSON that `quarantine` keeps of it, in the order of the table's columns."""
    return json.dumps({name: row[name] for name in columns if row.get(name) is not None}, ensure_ascii=False)


def box_of(row: Row) -> Box | None:
    """Return the box of an annotation's row; null for a label of the whole picture. What is missing is NaN."""
    values = [row.get(name) for name in BOX]
    if all(value is None for value in values):
        return None
    x, y, w, h = (math.nan if value is None else float(value) for value in values)
    return x, y, w, h


def with_box(row: Row, box: Box | None, size: tuple[int | None, int | None]) -> Row:
    """Return an annotation's row with another box, and cx, cy, w, h by its picture's `size` where that makes sense."""
    values: Sequence[float | None] = (None,) * 4 if box is None else tuple(map(_as_stored, box))
    return row | dict(zip(BOX, values, strict=True)) | dict(zip(NORMALISED, _shares(box, size), strict=True))


def box_text(box: Box | None) -> str | None:
    """Return a box as JSON with the digits that float32 needs; what JSON has no number for stands as text.

    >>> box_text((0.10000000149011612, 2.0, 3.0, float("inf")))
    '[0.1, 2.0, 3.0, "inf"]'
    """
    return None if box is None else json.dumps([_short(value) for value in box])


def read_box(text: str | None) -> Box | None:
    """Return the box that `changes` tells; null where there was none."""
    values = [None] * 4 if text is None else json.loads(text)
    if all(value is None for value in values):
        return None
    x, y, w, h = (math.nan if value is None else float(value) for value in values)
    return x, y, w, h


def overlap(one: Box | None, other: Box | None) -> float:
    """Return the intersection over union of two boxes; 1 for two labels of the whole picture, 0 for one and a box."""
    if one is None or other is None:
        return float(one is other)
    width = min(one[0] + one[2], other[0] + other[2]) - max(one[0], other[0])
    height = min(one[1] + one[3], other[1] + other[3]) - max(one[1], other[1])
    if not (width > 0 and height > 0):
        return 0.0
    return width * height / (one[2] * one[3] + other[2] * other[3] - width * height)


def _shares(box: Box | None, size: tuple[int | None, int | None]) -> Sequence[float | None]:
    width, height = size
    if box is None or not width or not height:
        return (None,) * 4
    x, y, w, h = map(_as_stored, box)
    if not all(map(math.isfinite, (x, y, w, h))) or w <= 0 or h <= 0:
        return (None,) * 4
    return tuple(map(_as_stored, ((x + w / 2) / width, (y + h / 2) / height, w / width, h / height)))


def _short(value: float) -> float | str:
    return float(str(np.float32(value))) if math.isfinite(_as_stored(value)) else str(value)


def _as_stored(value: float) -> float:
    """Return what float32 makes of a number; inf where it is too large."""
    with np.errstate(over="ignore"):
        return float(np.float32(value))


def _whole(column: pa.ChunkedArray, kind: pa.DataType) -> pa.Array:
    if pa.types.is_dictionary(kind):
        return column.cast(pa.string()).combine_chunks().dictionary_encode().cast(kind)
    return column.combine_chunks()


def _typed(values: list[Any], kind: pa.DataType) -> pa.Array:
    if pa.types.is_dictionary(kind):
        return pa.array(values, pa.string()).dictionary_encode().cast(kind)
    return pa.array(values, kind)
