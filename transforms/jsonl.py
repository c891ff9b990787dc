"""JSON lines: the record that other tools read, one picture a line.

    {"image_id": "...", "file_name": "...", "timestamp_ms": 1700000000123,
     "labels": [{"category": "happy", "bbox": [x_center, y_center, w, h], "confidence": 0.97}]}

`bbox` is normalised to 0..1. A confidence of 1.0 is reserved for what a person confirmed; null is an imported label
that came without one.
"""

from typing import BinaryIO

import polars as pl

from schemas.reasons import Outcome
from transforms.encoding import Part, Parts, chunks, joined, json_of, with_outcome


def write_jsonl(parts: Parts, out: BinaryIO) -> int:
    """Write a line for every labelled and every no_face picture; return how many there are."""
    lines = 0
    for part in parts:
        for chunk in chunks(_pictures(part)):
            rows = chunk.select(json_of(**{name: pl.col(name) for name in chunk.columns})).to_series()
            out.write(joined(rows, "\n") + b"\n")
            lines += chunk.height
    return lines


def _pictures(part: Part) -> pl.DataFrame:
    """Return the pictures with their `labels` as a list, empty where there are none."""
    pictures = with_outcome(part.images, Outcome.LABELLED, Outcome.NO_FACE)
    labels = part.annotations.group_by("image_id", maintain_order=True).agg(_label().alias("labels"))
    columns = ("image_id", "file_name", "timestamp_ms")
    return (
        pictures.select(columns)
        .join(labels, on="image_id", how="left", maintain_order="left")
        .with_columns(pl.col("labels").fill_null(pl.lit([], dtype=labels.schema["labels"])))
    )


def _label() -> pl.Expr:
    whole_picture = pl.lit(pl.Series([[0.5, 0.5, 1.0, 1.0]], dtype=pl.List(pl.Float32))).first()
    box = pl.concat_list("cx", "cy", "w", "h")
    return pl.struct(
        category=pl.col("label"),
        bbox=pl.when(pl.col("bbox_x").is_null()).then(whole_picture).otherwise(box),
        confidence=pl.col("confidence"),
    )
