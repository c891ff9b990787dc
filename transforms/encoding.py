"""What the exports share: the parts that they read, which pictures they show, and rows as JSON without a loop."""

import json
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

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


CategoryLayout = Literal["expression", "face"]
"""A category for each label, or one category `face`."""

Landmarks = Literal[0, 5, 68]
"""How many landmarks the faces of a data set have; 0 where none has any."""

_TEXT = r'"[^"\\\x00-\x1f]*"'
_NUMBER = r"-?(?:0|[1-9][0-9]{0,15})(?:\.[0-9]{1,18})?"
_NUMBERS = rf"\[(?:{_NUMBER}(?:,{_NUMBER})*)?\]"
_VALUE = rf"(?:{_NUMBER}|{_TEXT}|true|false|null|{_NUMBERS}|\[(?:{_NUMBERS}(?:,{_NUMBERS})*)?\])"
FLAT = rf"^\{{{_TEXT}:{_VALUE}(?:,{_TEXT}:{_VALUE})*\}}$"
"""JSON objects that need not be parsed to know that they are: parsing takes fifty times as long."""

_MAYBE_INFINITE = re.compile(r"[eE]\+?[0-9]{3}|[0-9]{300}")

_IN_XML = {chr(code): "\ufffd" for code in (*range(32), 0xFFFE, 0xFFFF)} | {
    **{"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;"},
    **{mark: f"&#{ord(mark)};" for mark in "\t\n\r"},
}
_IN_XML_BY_CODE = str.maketrans(_IN_XML)

SHARES = ("cx", "cy", "w", "h")
"""The columns that hold a box as shares of its picture's sides."""

_LEAST_PX = 0.01
"""The shortest side of a box that is drawn: what COCO rounds to."""


@dataclass(frozen=True)
class Written:
    """What an export holds; `left_out` counts pictures that it cannot show, `unnamed` labels of those that it shows.

    A label cannot be shown without a name, or where nothing of its box lies in the picture: rules hold both back, but a
    person may take that back.
    """

    images: int
    annotations: int
    left_out: int
    unnamed: int = 0

    def __add__(self, other: "Written") -> "Written":
        """Return what both hold."""
        return Written(
            self.images + other.images,
            self.annotations + other.annotations,
            self.left_out + other.left_out,
            self.unnamed + other.unnamed,
        )


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
    return shown(images).filter(_has_size())


def _has_size() -> pl.Expr:
    return (pl.col("width") > 0) & (pl.col("height") > 0)


def drawable(pictures: pl.DataFrame, part: Part) -> pl.DataFrame:
    """Return those of the part's pictures that are of known size, or all of whose boxes are known as shares of it."""
    in_pixels = part.annotations.filter(pl.col("cx").is_null() & pl.col("bbox_x").is_not_null())["image_id"]
    return pictures.filter(_has_size().fill_null(False) | ~pl.col("image_id").is_in(in_pixels.implode()))


def settled(pictures: pl.DataFrame) -> pl.DataFrame:
    """Return the pictures for training: labelled, or without a face.

    A quarantined picture is not among them. Nothing is known of its faces, and a picture without labels would teach a
    detector that it has none.
    """
    return with_outcome(pictures, Outcome.LABELLED, Outcome.NO_FACE)


def labels_of(part: Part, pictures: pl.DataFrame, categories: Sequence[str], form: str) -> pl.DataFrame:
    """Return the annotations of the labelled ones of `pictures`, in order, with the pictures' columns beside theirs.

    Raises RunError for a label that is no category: a file that silently lacks labels would be worse.
    """
    labelled = with_outcome(pictures, Outcome.LABELLED).drop("outcome")
    rows = part.annotations.join(labelled, on="image_id", how="inner", maintain_order="left")
    unknown = rows.filter(~pl.col("label").is_in(categories))["label"]
    if unknown.len():
        raise RunError(
            f"{form} has no category for the label {unknown[0]!r} ({unknown.len()} annotations): "
            f"expected one of {', '.join(categories)}"
        )
    return rows


def named(rows: pl.DataFrame) -> pl.DataFrame:
    """Return the annotations that have a label and, in their picture, a box that can be drawn."""
    edges = box_edges()
    sides = [edges[far] - edges[near] for near, far in (("left", "right"), ("top", "bottom"))]
    drawn = pl.all_horizontal(side.is_finite() & (side >= _LEAST_PX) for side in sides)  # NaN is more than any number
    told = pl.all_horizontal(pl.col(name).is_finite() for name in SHARES) & (pl.min_horizontal("w", "h") > 0)
    box = pl.when(_has_size()).then(drawn).otherwise(told.fill_null(pl.col("bbox_x").is_null()))
    return rows.filter(pl.col("label").is_not_null() & box)


def category_names(layout: CategoryLayout, categories: Sequence[str]) -> Sequence[str]:
    """Return the names of the categories that a layout has, in the order of their numbers."""
    return ("face",) if layout == "face" else categories


def category_numbers(layout: CategoryLayout, categories: Sequence[str], first: int) -> pl.Expr:
    """Return an expression: the number of each label's category, in their order from `first` on."""
    if layout == "face":
        return pl.lit(first)
    numbers = {name: number for number, name in enumerate(categories, first)}
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


def box_shares() -> dict[str, pl.Expr]:
    """Return expressions as `box_edges`, as shares of the picture's sides, also where its size is not known."""
    edges, shares = box_edges(), {}
    for side, middle, length, names in (
        ("width", "cx", "w", ("left", "right")),
        ("height", "cy", "h", ("top", "bottom")),
    ):
        half = pl.col(length).cast(pl.Float64) / 2
        ends = (pl.col(middle) - half).fill_null(0.0), (pl.col(middle) + half).fill_null(1.0)
        for name, end in zip(names, ends, strict=True):
            shares[name] = pl.when(pl.col(side) > 0).then(edges[name] / pl.col(side)).otherwise(end.clip(0.0, 1.0))
    return shares


def json_of(**fields: pl.Expr) -> pl.Expr:
    """Return an expression: one JSON object a row. NaN and infinity become null; float32 has its shortest digits."""
    return pl.struct(value.alias(name) for name, value in fields.items()).struct.json_encode()


def given(text: str, ours: Collection[str]) -> dict[str, Any]:
    """Return the attributes that came with a label: what is no JSON object is kept under `attributes`.

    A name that is ours gets `given_` in front. NaN becomes null; numbers beyond a float's range are no JSON to most
    readers.

    >>> given('{"rank": 2, "truncated": true}', ["rank"])
    {'given_rank': 2, 'truncated': True}
    """
    try:
        told = json.loads(text, parse_constant=lambda _: None)
        if _MAYBE_INFINITE.search(text):
            json.dumps(told, allow_nan=False)
    except (ValueError, RecursionError):
        told = text
    members = told if isinstance(told, dict) else {"attributes": told}
    return {f"given_{name}" if name in ours else name: value for name, value in members.items()}


def given_texts(text: str | None, ours: Collection[str]) -> dict[str, str]:
    """Return the attributes that came with a label as texts: numbers, lists and objects as JSON."""
    members = given(text, ours) if text else {}
    known = {name: value for name, value in members.items() if value is not None}
    return {name: value if isinstance(value, str) else _json(value) for name, value in known.items()}


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def xml_text(text: pl.Expr) -> pl.Expr:
    """Return an expression: text as it stands in XML, in quotes too; what XML has no way to write is replaced."""
    return text.str.replace_many(_IN_XML)


def xml_of(text: str) -> str:
    """Return one text as `xml_text` does."""
    return text.encode("utf-8", "replace").decode().translate(_IN_XML_BY_CODE)


def joined(rows: pl.Series, separator: str) -> bytes:
    """Return the texts of `rows` as UTF-8 with a separator between them."""
    return bytes(rows.str.join(separator).cast(pl.Binary).item())
