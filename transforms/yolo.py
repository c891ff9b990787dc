"""YOLO, as Ultralytics lays out detection: a text a picture, a box a line.

    data.yaml           names by number, from 0 in the vocabulary's order; where the lists are
    train.txt           the pictures, one a line
    labels/NAME.txt     `class x_center y_center width height`, of 1; empty for a picture without a face
    images/NAME.jpg     the pictures, only where they were asked for
    sources.csv         which file each picture is

Ultralytics looks for a picture's labels where the last `/images/` of its path is `/labels/`. So pictures must lie under
images/ in their names of train.txt, or be links there; lists, unlike folders, are not resolved, so images/ may be a
link. `path` is not in data.yaml: the loader would take it from the working folder, and its default is the file's own.
"""

import json
import re
from collections.abc import Mapping, Sequence

import polars as pl

from schemas.vocabulary import label_order
from transforms.copies import Copies
from transforms.encoding import Categories, Parts, Written, box_edges, class_numbers
from transforms.folders import Folder
from transforms.per_picture import Layout, write_each

_LAYOUT = Layout("YOLO", "images", "labels/{}.txt", "train.txt", "./" + pl.col("path"))

_MILLION = 1_000_000
"""Six decimals: .015 of a pixel in a picture of 16 thousand."""

_DATA = """\
# {note}
train: train.txt
val: train.txt  # nothing was split: make two lists of train.txt, and name them here
names:
{names}
"""


def write_yolo(
    parts: Parts,
    folder: Folder,
    *,
    categories: Categories,
    labels: Sequence[str],
    roots: Mapping[int, str],
    copies: Copies | None,
) -> Written:
    """Write labels, lists and, with `copies`, pictures.

    `labels` and `roots` are as for `write_coco`. Raises RunError.
    """
    vocabulary = label_order(tuple(labels))
    names = ("face",) if categories == "face" else vocabulary
    folder.write("data.yaml", _data(names, copied=copies is not None).encode())
    return write_each(
        parts,
        folder,
        _LAYOUT,
        label=_line(categories, vocabulary),
        render=lambda _, lines: "".join(lines).encode(),
        vocabulary=vocabulary,
        roots=roots,
        copies=copies,
    )


def _line(layout: Categories, vocabulary: Sequence[str]) -> pl.Expr:
    """Return a box's line: none reaches over its picture's edge, none is empty.

    Its edges are whole millionths an even number of them apart, so that its middle and size are exact in six decimals.
    """
    edges = box_edges()
    middles, sizes = [], []
    for low, high, side in (("left", "right", "width"), ("top", "bottom", "height")):
        near, far = ((edges[end] / pl.col(side) * _MILLION).round().cast(pl.Int64) for end in (low, high))
        near = near.clip(0, _MILLION - 2)
        size = ((far - near) // 2 * 2).clip(2, None)
        middles.append(_decimal(near + size // 2))
        sizes.append(_decimal(size))
    number = class_numbers(layout, vocabulary, first=0).cast(pl.String)
    return pl.concat_str(number, *middles, *sizes, separator=" ") + "\n"


def _decimal(millionths: pl.Expr) -> pl.Expr:
    digits = millionths.cast(pl.String).str.zfill(7)
    return digits.str.head(1) + "." + digits.str.tail(6)


def _data(names: Sequence[str], *, copied: bool) -> str:
    note = "pictures are in images/" if copied else "put the pictures into images/, or export with --copy-images"
    return _DATA.format(note=note, names="\n".join(f"  {i}: {_quoted(name)}" for i, name in enumerate(names)))


def _quoted(name: str) -> str:
    """Return a text as YAML: JSON is YAML but for a few characters that only YAML forbids."""
    return re.sub(
        r"[^\t -~\u00a0-\ud7ff\ue000-\ufffd]", lambda c: f"\\U{ord(c[0]):08X}", json.dumps(name, ensure_ascii=False)
    )
