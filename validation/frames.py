"""From the Arrow tables to the flat pandas frames that the expectations look at, and to short texts of values.

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
    found = pc.index_in(tables.annotations["image_id"], value_set=tables.images["image_id"].combine_chunks())
    return np.asarray(found.fill_null(-1).to_numpy(), np.int64)


def sizes(tables: Tables, picture: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return width and height in pixels of each annotation's picture, (n,) float64; NaN where they are not known."""
    width, height = (np.append(floats(tables.images[name]), np.nan) for name in ("width", "height"))
    return width[picture], height[picture]  # -1 takes the NaN that was put last


def images_frame(tables: Tables) -> pd.DataFrame:
    """Return one row a picture; `found` counts its annotations in the other table."""
    picture = picture_of(tables)
    images = tables.images
    return pd.DataFrame(
        {
            **{name: _texts(images[name]) for name in ("image_id", "sha256", "outcome", "duplicate_of")},
            **{name: floats(images[name]) for name in ("width", "height", "annotations")},
            "found": np.bincount(picture[picture >= 0], minlength=images.num_rows),
        }
    )


def annotations_frame(tables: Tables, probabilities: Sequence[str]) -> pd.DataFrame:
    """Return one row an annotation, with its picture's size and whether the picture is `known`.

    `probabilities` are the p_ columns, in the table's order.
    """
    picture = picture_of(tables)
    width, height = sizes(tables, picture)
    numbers = (*BOX, *NORMALISED, "confidence", *probabilities)
    return pd.DataFrame(
        {
            **{name: _texts(tables.annotations[name]) for name in ("origin", "label")},
            **{name: floats(tables.annotations[name]) for name in numbers},
            "image_width": width,
            "image_height": height,
            "known": picture >= 0,
        }
    )


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


def _texts(column: pa.ChunkedArray) -> pd.Series:
    if pa.types.is_dictionary(column.type):
        column = column.cast(pa.string())
    return pd.Series(column.to_pandas())
