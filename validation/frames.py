"""From the Arrow tables to the flat pandas frames that the expectations look at, and to short texts of values.

    images, annotations = frames_of(pq.read_table(...), pq.read_table(...))      # the two tables of a data set

pandas has one word for "null" and "not a number"; here they differ. A null is "not computed" and often right, a NaN is
a fault. So in a frame NaN means null, and what was NaN stands as +inf, which every range refuses.
"""

import json
import math
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from schemas.tables import Tables

BOX = ("bbox_x", "bbox_y", "bbox_w", "bbox_h")
NORMALISED = ("cx", "cy", "w", "h")

_FIELDS = {"bbox": (BOX, 2), "normalised": (NORMALISED, 6), "size": (("width", "height"), 0)}
"""Fields of several columns: which, and the decimals that a person needs."""


def floats(column: pa.ChunkedArray) -> NDArray[np.float64]:
    """Return a numeric column as (n,) float64: null becomes NaN, NaN becomes +inf."""
    values = column.cast(pa.float64())
    # fill_null(0) only here: the mask must not call a null "not a number".
    not_a_number = pc.is_nan(values.fill_null(0.0))
    return np.where(not_a_number.to_numpy(), np.inf, values.to_numpy())


def picture_of(tables: Tables) -> NDArray[np.int64]:
    """Return for each annotation the position of its picture in `images`, (n,) int64; -1 where there is none."""
    return _positions(tables.images, tables.annotations)


def sizes(tables: Tables, picture: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return width and height in pixels of each annotation's picture, (n,) float64; NaN where they are not known."""
    return _sizes(tables.images, picture)


def frames_of(images: pa.Table, annotations: pa.Table) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return both tables as frames. Numbers are float64; `outcome`, `origin`, `label` and `source` are categorical.

    Of a picture, `found` counts the annotations. Of an annotation, `picture` is the position of its picture (-1: none),
    `image_width` and `image_height` are that one's.
    """
    picture = _positions(images, annotations)
    width, height = _sizes(images, picture)
    pictures = {
        **_texts(images, "image_id", "sha256", "duplicate_of", "video_id", "outcome"),
        **_numbers(images, "width", "height", "annotations", "frame_index", "pts_ms"),
        "found": np.bincount(picture[picture >= 0], minlength=images.num_rows),
    }
    probabilities = [name for name in annotations.column_names if name.startswith("p_")]
    labels = {
        **_texts(annotations, "annotation_id", "origin", "label", "source"),
        **_numbers(annotations, *BOX, *NORMALISED, "confidence", *probabilities),
        "image_width": width,
        "image_height": height,
        "picture": picture,
    }
    return pd.DataFrame(pictures), pd.DataFrame(labels)


def with_columns(frame: pd.DataFrame, table: pa.Table, names: Iterable[str]) -> pd.DataFrame:
    """Return the frame of `table` with those of the columns `names` that the table has, as float64 or as objects."""
    own = {name: table.schema.field(name).type for name in names if name in table.column_names}
    texts = {name: table[name].cast(pa.string()).to_pandas() for name, kind in own.items() if _is_text(kind)}
    numbers = {name: floats(table[name]) for name, kind in own.items() if not _is_text(kind)}
    return frame.assign(**texts, **numbers)


def with_file_names(images: pa.Table, annotations: pa.Table) -> pa.Table:
    """Return `annotations` with the column `file_name`, its picture's."""
    picture = pa.array(_positions(images, annotations))
    # A null position takes a null: the name of a picture that is not there.
    names = images["file_name"].take(pc.if_else(pc.less(picture, 0), None, picture))
    return annotations.append_column("file_name", names)


def plain_columns(table: pa.Schema) -> dict[str, bool]:
    """Return the columns of a table that `with_columns` can give, and whether each is of texts."""
    return {field.name: _is_text(field.type) for field in table if _is_text(field.type) or _is_number(field.type)}


def values_of(table: pa.Table, rows: Sequence[int], field: str) -> list[str]:
    """Return `field` of the given rows as short texts: JSON for several columns, the value itself for one.

    `probabilities` are those that are not null, by column name.
    """
    if field == "probabilities":
        names = [name for name in table.column_names if name.startswith("p_")]
        return [_by_name(row) for row in table.select(names).take(list(rows)).to_pylist()]
    if field in _FIELDS:
        columns, decimals = _FIELDS[field]
        return [compact(row.values(), decimals) for row in table.select(list(columns)).take(list(rows)).to_pylist()]
    return ["" if value is None else str(value) for value in table[field].take(list(rows)).to_pylist()]


def compact(values: Iterable[float | None], decimals: int = 2) -> str:
    """Return numbers as compact JSON; what JSON has no number for (NaN, inf) stands as text.

    >>> compact([1.234, 2.0, None, float("nan")])
    '[1.23,2.0,null,"nan"]'
    """
    return json.dumps([_number(value, decimals) for value in values], separators=(",", ":"))


def _by_name(row: dict[str, float | None]) -> str:
    told = {name: _number(value, 6) for name, value in row.items() if value is not None}
    return json.dumps(told, ensure_ascii=False, separators=(",", ":"))


def _number(value: float | None, decimals: int) -> float | str | None:
    if value is None or isinstance(value, int):
        return value
    return round(value, decimals) if math.isfinite(value) else str(value)


def _positions(images: pa.Table, annotations: pa.Table) -> NDArray[np.int64]:
    found = pc.index_in(annotations["image_id"], value_set=images["image_id"].combine_chunks())
    return np.asarray(found.fill_null(-1).to_numpy(), np.int64)


def _sizes(images: pa.Table, picture: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    width, height = (np.append(floats(images[name]), np.nan) for name in ("width", "height"))
    return width[picture], height[picture]  # -1 takes the NaN that was put last


def _texts(table: pa.Table, *names: str) -> dict[str, pd.Series]:
    """Return columns of texts without copying them: strings that lie in Arrow, or categoricals."""
    columns = {name: table[name].combine_chunks() for name in names}
    return {
        name: column.to_pandas()
        if pa.types.is_dictionary(column.type)
        else pd.Series(pd.arrays.ArrowExtensionArray(column))
        for name, column in columns.items()
    }


def _numbers(table: pa.Table, *names: str) -> dict[str, NDArray[np.float64]]:
    return {name: floats(table[name]) for name in names}


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_dictionary(kind))


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))
