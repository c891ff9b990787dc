"""YOLO, as Ultralytics lays out detection: a text a picture, a box a line.

    data.yaml           names by number, from 0 in the order of the categories; where the lists are
    train.txt           the pictures, one a line; with splits also val.txt and what else they are called
    labels/NAME.txt     `class x_center y_center width height`, of 1; empty for a picture without a face
    images/NAME.jpg     the pictures, only where they were asked for
    sources.csv         which file each picture is

Ultralytics looks for a picture's labels where the last `/images/` of its path is `/labels/`. So pictures must lie under
images/ in their names of train.txt, or be links there; lists, unlike folders, are not resolved, so images/ may be a
link. `path` is not in data.yaml: the loader would take it from the working folder, and its default is the file's own.

A label of the whole picture is a box around it, because a line without a box is an error to every loader. The picture's
size need not be known where its boxes are known as shares of it.
"""

import json
import re
from collections.abc import Mapping, Sequence

import polars as pl

from schemas.errors import UsageError
from transforms.copies import Copies
from transforms.encoding import CategoryLayout, Parts, Written, box_shares, category_names, category_numbers
from transforms.folders import Folder
from transforms.per_picture import Layout, write_each
from transforms.splits import Sides

_LAYOUT = Layout("YOLO", "images", "labels/{}.txt", "{}.txt", "./" + pl.col("path"), as_shares=True)

_UNSPLIT = Sides.one("train")

_MILLION = 1_000_000
"""Six decimals: .015 of a pixel in a picture of 16 thousand."""

_DATA = """\
# {note}
{lists}
names:
{names}
"""


def write_yolo(
    parts: Parts,
    folder: Folder,
    *,
    layout: CategoryLayout,
    categories: Sequence[str],
    roots: Mapping[int, str],
    copies: Copies | None,
    sides: Sides | None = None,
) -> Written:
    """Write labels, lists and, with `copies`, pictures.

    `layout`, `categories` and `roots` are as for `write_coco`. Raises RunError, and UsageError where `sides` are not
    called as Ultralytics calls them.
    """
    names = category_names(layout, categories)
    folder.write("data.yaml", _data(names, _lists(sides), copied=copies is not None).encode())
    return write_each(
        parts,
        folder,
        _LAYOUT,
        label=_line(layout, categories),
        render=lambda _, lines: "".join(lines).encode(),
        categories=categories,
        roots=roots,
        sides=sides or _UNSPLIT,
        copies=copies,
    )


def _line(layout: CategoryLayout, categories: Sequence[str]) -> pl.Expr:
    """Return a box's line: none reaches over its picture's edge, none is empty.

    Its edges are whole millionths an even number of them apart, so that its middle and size are exact in six decimals.
    """
    edges = box_shares()
    middles, sizes = [], []
    for low, high in (("left", "right"), ("top", "bottom")):
        near, far = ((edges[end] * _MILLION).round().cast(pl.Int64) for end in (low, high))
        near = near.clip(0, _MILLION - 2)
        size = ((far - near) // 2 * 2).clip(2, None)
        middles.append(_decimal(near + size // 2))
        sizes.append(_decimal(size))
    number = category_numbers(layout, categories, first=0).cast(pl.String)
    return pl.concat_str(number, *middles, *sizes, separator=" ") + "\n"


def _decimal(millionths: pl.Expr) -> pl.Expr:
    digits = millionths.cast(pl.String).str.zfill(7)
    return digits.str.head(1) + "." + digits.str.tail(6)


def _lists(sides: Sides | None) -> str:
    """Return the lists by the names that Ultralytics trains, validates and tests on."""
    if sides is None:
        return "train: train.txt\nval: train.txt  # nothing was split: export with --split train=.8,val=.2"
    if not {"train", "val"} <= set(sides.names):
        raise UsageError(
            f"--split: YOLO trains on a split called train and measures on one called val; got {', '.join(sides.names)}"
        )
    return "\n".join(f"{_quoted(name)}: {name}.txt" for name in sides.names)


def _data(names: Sequence[str], lists: str, *, copied: bool) -> str:
    note = "pictures are in images/" if copied else "put the pictures into images/, or export with --copy-images"
    return _DATA.format(
        note=note, lists=lists, names="\n".join(f"  {i}: {_quoted(name)}" for i, name in enumerate(names))
    )


def _quoted(name: str) -> str:
    """Return a text as YAML: JSON is YAML but for a few characters that only YAML forbids."""
    return re.sub(
        r"[^\t -~\u00a0-\ud7ff\ue000-\ufffd]", lambda c: f"\\U{ord(c[0]):08X}", json.dumps(name, ensure_ascii=False)
    )
