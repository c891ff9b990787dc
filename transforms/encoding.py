"""What the exports share: the parts that they read, which pictures they show, and rows as JSON without a loop."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import polars as pl

from schemas.errors import RunError
from schemas.reasons import Outcome

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


Categories = Literal["expression", "face"]
"""One category for each expression, or one category `face`."""


@dataclass(frozen=True)
class Written:
    """What an export holds; `left_out` counts pictures that it cannot show."""

    images: int
    annotations: int
    left_out: int


def chunks(frame: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """Return the frame in slices; nothing for an empty one."""
    return frame.iter_slices(CHUNK_ROWS)


def with_outcome(images: pl.DataFrame, *outcomes: str) -> pl.DataFrame:
    """Return the pictures of these outcomes."""
    return images.filter(pl.col("outcome").is_in(outcomes))


def shown(images: pl.DataFrame) -> pl.DataFrame:
    """Return the pictures that COCO shows; a quarantined one without labels."""
    return with_outcome(images, Outcome.LABELLED, Outcome.NO_FACE, Outcome.QUARANTINED)


def sized(images: pl.DataFrame) -> pl.DataFrame:
    """Return the shown pictures of known size."""
    return shown(images).filter((pl.col("width") > 0) & (pl.col("height") > 0))


def settled(images: pl.DataFrame) -> pl.DataFrame:
    """Return the pictures for training: of known size, and labelled or without a face.

    A quarantined picture is not among them. Nothing is known of its faces, and a picture without labels would teach a
    detector that it has none.
    """
    return with_outcome(sized(images), Outcome.LABELLED, Outcome.NO_FACE)


def labels_of(part: Part, pictures: pl.DataFrame, vocabulary: Sequence[str], form: str) -> pl.DataFrame:
    """Return the annotations of the labelled ones of `pictures`, in order, with the pictures' columns beside theirs.

    Raises RunError for a label that is not in the vocabulary: a file that silently lacks labels would be worse.
    """
    labelled = with_outcome(pictures, Outcome.LABELLED).drop("outcome")
    rows = part.annotations.join(labelled, on="image_id", how="inner", maintain_order="left")
    unknown = rows.filter(~pl.col("label").is_in(vocabulary).fill_null(False))["label"]
    if unknown.len():
        raise RunError(
            f"{form} has no category for the label {unknown[0]!r} ({unknown.len()} annotations): "
            f"expected one of {', '.join(vocabulary)}"
        )
    return rows


def class_numbers(layout: Categories, vocabulary: Sequence[str], first: int) -> pl.Expr:
    """Return an expression: the number of each label's category, in the vocabulary's order from `first` on."""
    if layout == "face":
        return pl.lit(first)
    numbers = {name: number for number, name in enumerate(vocabulary, first)}
    return pl.col("label").replace_strict(numbers, return_dtype=pl.Int64)


def box_edges() -> dict[str, pl.Expr]:
    """Return expressions: left, top, right, bottom in pixels within the picture; without a box, the picture's own."""
    edges: dict[str, pl.Expr] = {}
    for side, at, length, names in (
        ("width", "bbox_x", "bbox_w", ("left", "right")),
        ("height", "bbox_y", "bbox_h", ("top", "bottom")),
    ):
        most = pl.col(side).cast(pl.Float64)
        near = pl.col(at).cast(pl.Float64).fill_null(0.0)
        far = near + pl.col(length).cast(pl.Float64).fill_null(most)
        edges |= {names[0]: near.clip(0.0, most), names[1]: far.clip(0.0, most)}
    return edges


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
