"""What the exports share that write a file a picture: YOLO and Pascal VOC."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from transforms.copies import Copies
from transforms.csv_tables import write_header, write_rows
from transforms.encoding import Parts, Written, labels_of, settled, shown
from transforms.folders import Folder
from transforms.names import file_names

SOURCES = "sources.csv"
"""Which file each picture of an export is."""

_SOURCE = ("picture", "source_uri", "frame_index", "pts_ms", "sha256", "image_id")
_PICTURE = ("stem", "picture", "width", "height")

Render = Callable[[Mapping[str, Any], Sequence[Any]], bytes]
"""Returns a picture's file from its `picture` (a relative path), `width` and `height`, and its labels."""


@dataclass(frozen=True)
class Layout:
    """Where a format wants things: `labels` has a place for the picture's name, `listing` names the list of pictures.

    `entry` is a picture's line in that list, from `stem` and `path`.
    """

    form: str
    pictures: str
    labels: str
    listing: str
    entry: pl.Expr


def write_each(
    parts: Parts,
    folder: Folder,
    layout: Layout,
    *,
    label: pl.Expr,
    render: Render,
    vocabulary: Sequence[str],
    roots: Mapping[int, str],
    copies: Copies | None,
) -> Written:
    """Write a file for each labelled or faceless picture of known size, and lists; hold one part in memory at a time.

    `label` is what `render` gets of an annotation. A picture that could not be copied is in no list. Raises RunError
    for a label that is not in the vocabulary.
    """
    names = file_names(parts, roots)
    path = pl.lit(f"{layout.pictures}/") + pl.col("picture")
    images = annotations = left_out = 0
    with folder.create(layout.listing) as listed, folder.create(SOURCES) as sources:
        write_header(sources, _SOURCE)
        for part in parts:
            pictures = names.of(settled(part.images)).with_columns(path=path)
            rows = labels_of(part, pictures.select("image_id", "outcome", "width", "height"), vocabulary, layout.form)
            own = rows.select("image_id", own=label).group_by("image_id", maintain_order=True).agg("own")
            each = pictures.select("image_id", *_PICTURE).join(own, on="image_id", how="left", maintain_order="left")
            for row in each.iter_rows(named=True):
                folder.write(layout.labels.format(row["stem"]), render(row, row["own"] or []))
            write_rows(sources, pictures.select(_SOURCE))
            gone = copies.put(pictures) if copies else set()
            there = pictures.filter(~pl.col("image_id").is_in(gone)).select(layout.entry).to_series()
            listed.write("".join(f"{entry}\n" for entry in there).encode())
            images += pictures.height
            annotations += rows.height
            left_out += shown(part.images).height - pictures.height
    return Written(images, annotations, left_out)
