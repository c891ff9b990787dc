"""What the readers of label files give: rows as they came, before any rule has looked at them."""

from dataclasses import dataclass, field
from typing import Literal

import polars as pl

Form = Literal["coco", "voc", "yolo", "labelme", "cvat", "label-studio", "csv", "jsonl", "folders", "parquet"]
"""The formats that are read."""

Corners = Literal["xyxy", "xywh", "cxcywh"]
"""What a box's four numbers are: two corners; a corner and the size; the middle and the size."""

Unit = Literal["pixels", "unit", "percent"]
"""What they are counted in: pixels, shares of the picture's sides (0..1), or hundredths of these (0..100)."""

RAW: dict[str, pl.DataType] = {
    "file": pl.String(),  # the label file, as a person would name it: relative to its input, slashes forward
    "row": pl.Int64(),  # where in it: the line from 1 in lines of text, else the element's number from 0
    "picture": pl.String(),  # the picture's name as told, slashes forward; never empty
    "width": pl.Int32(),  # of the picture, as told; null where nothing is told
    "height": pl.Int32(),
    "frame": pl.Int32(),  # the frame's number where `picture` is a video, from 0; null for a picture
    "pts_ms": pl.Float64(),  # the frame's time, where that is told
    "is_label": pl.Boolean(),  # false: the row only says that the picture is there, without any label
    "label": pl.String(),  # as it came, spaces and all; null where a box came without
    "a": pl.Float64(),  # the box's four numbers as they came; all null: a label of the whole picture; NaN: no number
    "b": pl.Float64(),
    "c": pl.Float64(),
    "d": pl.Float64(),
    "confidence": pl.Float32(),  # null where none is told
    "attributes": pl.String(),  # what came with it and has no column, as a JSON object; null where nothing did
    "rule": pl.String(),  # a `schemas.reasons.Rule` that the row breaks by what stands around it in its file, or null
    "detail": pl.String(),  # and how, for a person
}
"""The columns of raw rows; one row a label, and one for each picture that a file names without any label."""

CHUNK_ROWS = 100_000
"""At most so many raw rows are held as one frame, by readers and by those who take them."""


@dataclass(frozen=True)
class Source:
    """Label files that were made by one hand, in one format: one file, or a folder of files of one picture each.

    `name` is how a person knows it. `files` are paths that open, `names` what they are called in `RAW`'s column `file`.
    `where` is the folder against which relative names of pictures are most likely meant.
    """

    form: Form
    name: str
    where: str
    files: tuple[str, ...]
    names: tuple[str, ...]


@dataclass
class Facts:
    """What a source says of all its rows; a reader fills it while it reads, and it is complete at the end.

    `corners` and `unit` are null where the rows must tell. `categories` are the names of labels that the source
    declares, in its order; null where its format declares none. `exclusive` is false where a picture may have several
    labels by design. `columns` are the names in a table's header. `failures` are the files that could not be read, as
    (name, short stable error, message of one line).
    """

    corners: Corners | None = None
    unit: Unit | None = None
    categories: tuple[str, ...] | None = None
    exclusive: bool = True
    columns: tuple[str, ...] = ()
    failures: list[tuple[str, str, str]] = field(default_factory=list)
