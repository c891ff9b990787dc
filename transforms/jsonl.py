"""JSON lines: the record that other tools read, one picture a line.

    {"image_id": "...", "file_name": "...", "timestamp_ms": 1700000000123,
     "labels": [{"category": "happy", "bbox": [x_center, y_center, w, h], "confidence": 0.97}]}

`bbox` is normalised to 0..1; a label of the whole picture has the picture's frame. A confidence of 1.0 is reserved for
what a person confirmed; null is an imported label that came without one. The plain record is the one that such labels
come as: `image_id` is the picture's own name, a label of the whole picture has no box, and nothing else is told.

    {"image_id": "img_001", "labels": [{"category": "person", "bbox": [x_center, y_center, w, h], "confidence": 1.0}]}

Numbers have the fewest digits that give the same float32. The picture's size need not be known. But one with a box that
is known in pixels alone cannot be told then: it is left out and counted.
"""

from collections.abc import Mapping
from typing import BinaryIO

import polars as pl

from transforms.encoding import SHARES, Parts, Written, chunks, drawable, joined, json_of, settled


def write_jsonl(parts: Parts, out: BinaryIO, *, names: pl.Expr | None = None) -> Written:
    """Write a line for every labelled and every no_face picture; hold one part in memory at a time.

    With `names` of the pictures, records are the plain ones.
    """
    full = {name: pl.col(name) for name in ("image_id", "file_name", "timestamp_ms")}
    picture = full if names is None else {"image_id": names}
    images = annotations = left_out = unnamed = 0
    for part in parts:
        told = settled(part.images)
        pictures = drawable(told, part)
        of_these = part.annotations.join(pictures.select("image_id"), on="image_id", how="semi", maintain_order="left")
        rows = of_these.filter(is_tellable())
        lines = records(pictures, rows, picture, has_frame=names is None)
        for chunk in chunks(lines):
            texts = chunk.select(json_of(**{name: pl.col(name) for name in chunk.columns})).to_series()
            out.write(joined(texts, "\n"))
            out.write(b"\n")
        images += pictures.height
        annotations += rows.height
        left_out += told.height - pictures.height
        unnamed += of_these.height - rows.height
    return Written(images, annotations, left_out, unnamed)


def records(
    pictures: pl.DataFrame, annotations: pl.DataFrame, picture: Mapping[str, pl.Expr], *, has_frame: bool
) -> pl.DataFrame:
    """Return a row for every picture: the columns `picture`, and `labels`; one of the whole picture has its frame."""
    labels = annotations.group_by("image_id", maintain_order=True).agg(labels=_label(has_frame=has_frame))
    return (
        pictures.select(_id="image_id", **picture)
        .join(labels, left_on="_id", right_on="image_id", how="left", maintain_order="left")
        .with_columns(pl.col("labels").fill_null(pl.lit([], dtype=labels.schema["labels"])))
        .drop("_id")
    )


def is_tellable() -> pl.Expr:
    """Return an expression: whether a label has a name, and a box as shares or none at all."""
    boxed = pl.all_horizontal(pl.col(name).is_finite() for name in SHARES)
    return pl.col("label").is_not_null() & boxed.fill_null(pl.col("bbox_x").is_null())


def _label(*, has_frame: bool) -> pl.Expr:
    """Return a label; one of the whole picture with its frame, or without a box."""
    box = pl.concat_list(SHARES)
    frame = pl.lit(pl.Series([[0.5, 0.5, 1.0, 1.0]], dtype=pl.List(pl.Float32))).first() if has_frame else None
    return pl.struct(
        category=pl.col("label"),
        bbox=pl.when(pl.col("cx").is_null()).then(frame).otherwise(box),
        confidence=pl.col("confidence"),
    )
