"""Small builders of hand-made rows: name what matters for the test, the rest is filled in and valid."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import polars as pl
import pyarrow as pa

from schemas.records import image_id
from schemas.tables import CROPS, TABLES, Tables, schema
from schemas.vocabulary import MAX_MODEL_CONFIDENCE

LABELS = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
"""The labels of the builders' model: it does not know contempt."""


def face(
    box: Sequence[float | None] = (10, 20, 100, 120),
    label: str | None = "happy",
    confidence: float | None = 0.9,
    score: float | None = 0.8,
    landmarks: Sequence[float | None] | None = None,
    **others: Any,
) -> dict[str, Any]:
    """Return a model's label for a box [x, y, w, h] in pixels; landmarks sit in the box unless they are given."""
    x, y, w, h = box
    rest = (1 - (confidence or 0)) / (len(LABELS) - 1)
    return {
        "origin": "model",
        **dict(zip(("bbox_x", "bbox_y", "bbox_w", "bbox_h"), box, strict=True)),
        "detection_score": score,
        "landmarks": spread(x, y, w, h) if landmarks is None and None not in box else landmarks,
        "label": label,
        "confidence": None if confidence is None else min(confidence, MAX_MODEL_CONFIDENCE),
        "brightness": 0.5,
        "contrast": 0.25,
        "sharpness": 0.125,
        "model": "ferplus@0123456789ab",
        **{f"p_{name}": confidence if name == label else rest for name in LABELS},
        **others,
    }


def spread(x: Any, y: Any, w: Any, h: Any) -> list[float]:
    """Return five landmarks where an upright face has them in a box."""
    places = ((0.3, 0.4), (0.7, 0.4), (0.5, 0.6), (0.35, 0.8), (0.65, 0.8))
    return [value for a, b in places for value in (x + a * w, y + b * h)]


def picture(
    file_name: str = "a.jpg", *faces: dict[str, Any], width: int | None = 640, height: int | None = 480, **others: Any
) -> dict[str, Any]:
    """Return a picture with its faces under "faces"; its outcome follows from them unless it is given."""
    root = others.get("root", 0)
    content = hashlib.sha256(file_name.encode()).hexdigest()
    return {
        "faces": list(faces),
        "image_id": image_id(content, root, file_name),
        "item_key": hashlib.md5(f"{root}/{file_name}".encode()).hexdigest(),
        "root": root,
        "file_name": file_name,
        "source_uri": f"in/{file_name}",
        "sha256": content,
        "size_bytes": 1000,
        "width": width,
        "height": height,
        "timestamp_ms": 1_700_000_000_123,
        "outcome": "labelled" if faces else "no_face",
        "annotations": len(faces),
        "small_faces": 0,
        **others,
    }


def tables(*pictures: dict[str, Any], labels: tuple[str, ...] = LABELS) -> Tables:
    """Return tables of the pictures and their faces, which are ranked as they stand."""
    images = [{key: value for key, value in row.items() if key != "faces"} for row in pictures]
    annotations = [
        {
            "annotation_id": f"{row['image_id']}-{rank}",
            "image_id": row["image_id"],
            "item_key": row["item_key"],
            "rank": rank,
            **own,
        }
        for row in pictures
        for rank, own in enumerate(row["faces"])
    ]
    rows = {"images": images, "annotations": annotations}
    return Tables(**{name: _table(rows.get(name, []), schema(name, labels)) for name in (*TABLES, CROPS)})


def with_values(given: Tables, table: str, row: int, **values: Any) -> Tables:
    """Return the tables with some values of one row replaced."""
    old = getattr(given, table)
    rows = old.to_pylist()
    rows[row] |= values
    return replace(given, **{table: pa.Table.from_pylist(rows, schema=old.schema)})


def column(given: Tables, table: str, name: str) -> list[Any]:
    """Return a column as a list."""
    values: list[Any] = getattr(given, table)[name].to_pylist()
    return values


def _table(rows: list[dict[str, Any]], expected: pa.Schema) -> pa.Table:
    unknown = {key for row in rows for key in row} - set(expected.names)
    assert not unknown, f"no such columns: {sorted(unknown)}"
    return pa.Table.from_pylist(rows, schema=expected)


class Parts:
    """Tables as the exports read them: one part each, as polars frames without dictionaries; can be iterated again."""

    def __init__(self, *each: Tables) -> None:
        self.each = [_Part(one) for one in each]

    def __iter__(self) -> Iterator["_Part"]:
        return iter(self.each)


class _Part:
    def __init__(self, one: Tables) -> None:
        self.images, self.annotations = (_plain(one.images), _plain(one.annotations))


def _plain(table: pa.Table) -> pl.DataFrame:
    strings = [
        pa.field(field.name, pa.string() if pa.types.is_dictionary(field.type) else field.type)
        for field in table.schema
    ]
    frame = pl.from_arrow(table.cast(pa.schema(strings)))
    assert isinstance(frame, pl.DataFrame)
    return frame
