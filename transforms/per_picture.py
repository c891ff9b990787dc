"""What the exports share that write a file a picture: YOLO and Pascal VOC."""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from transforms.copies import Copies
from transforms.csv_tables import write_header, write_rows
from transforms.encoding import Parts, Written, drawable, labels_of, named, settled, shown, sized
from transforms.folders import Folder
from transforms.names import file_names
from transforms.splits import Sides

SOURCES = "sources.csv"
"""Which file each picture of an export is."""

_SOURCE = ("picture", "source_uri", "frame_index", "pts_ms", "sha256", "image_id")
_PICTURE = ("stem", "picture", "width", "height")

Render = Callable[[Mapping[str, Any], Sequence[Any]], bytes]
"""Returns a picture's file from its `picture` (a relative path), `width` and `height`, and its labels."""


@dataclass(frozen=True)
class Layout:
    """Where a format wants things: `labels` has a place for the picture's name, `listing` for the name of a split.

    `entry` is a picture's line in that list, from `stem` and `path`. `as_shares` says that boxes are shares of their
    pictures, so that their sizes need not be known.
    """

    form: str
    pictures: str
    labels: str
    listing: str
    entry: pl.Expr
    as_shares: bool = False


def write_each(
    parts: Parts,
    folder: Folder,
    layout: Layout,
    *,
    label: pl.Expr,
    render: Render,
    categories: Sequence[str],
    roots: Mapping[int, str],
    sides: Sides,
    copies: Copies | None,
) -> Written:
    """Write a file for each labelled or faceless picture, and a list for each side; hold one part in memory at a time.

    `label` is what `render` gets of an annotation. A picture that could not be copied is in no list. Raises RunError
    for a label that is no category.
    """
    names = file_names(parts, roots)
    path = pl.lit(f"{layout.pictures}/") + pl.col("picture")
    images = annotations = left_out = unnamed = 0
    with contextlib.ExitStack() as files:
        lists = {side: files.enter_context(folder.create(layout.listing.format(side))) for side in sides.names}
        sources = files.enter_context(folder.create(SOURCES))
        write_header(sources, _SOURCE)
        for part in parts:
            fit = drawable(part.images, part) if layout.as_shares else sized(part.images)
            pictures = names.of(settled(fit)).with_columns(path=path)
            about = pictures.select("image_id", "outcome", "width", "height")
            found = labels_of(part, about, categories, layout.form)
            rows = named(found)
            own = rows.select("image_id", own=label).group_by("image_id", maintain_order=True).agg("own")
            each = pictures.select("image_id", *_PICTURE).join(own, on="image_id", how="left", maintain_order="left")
            for row in each.iter_rows(named=True):
                folder.write(layout.labels.format(row["stem"]), render(row, row["own"] or []))
            write_rows(sources, pictures.select(_SOURCE))
            gone = copies.put(pictures) if copies else set()
            there = pictures.filter(~pl.col("image_id").is_in(gone))
            for side, entry in zip(sides.of(there), there.select(layout.entry).to_series(), strict=True):
                lists[side].write(f"{entry}\n".encode())
            images += pictures.height
            annotations += rows.height
            left_out += shown(part.images).height - pictures.height
            unnamed += found.height - rows.height
    return Written(images, annotations, left_out, unnamed)
