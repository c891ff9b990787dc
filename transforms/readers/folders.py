"""Pictures in folders that are named by their label: the nearest folder is a picture's label, of the whole of it.

Folders of splits are no labels: `train/happy/a.jpg` is happy, and its split is kept among the attributes. A picture
without any other folder has no label.
"""

from collections.abc import Iterator
from typing import Any

import polars as pl

from schemas.raw import Facts, Source
from transforms.kinds import sniff
from transforms.readers.rows import Options, frames, json_object
from transforms.readers.shapes import NO_BOX

SPLITS = frozenset({"train", "training", "val", "valid", "validation", "test", "testing", "dev", "eval"})
"""What folders of splits are called, in any case."""

_NO_PICTURES = frozenset({"svg", "text", "pdf", "psd", "unknown"})


def is_one(head: bytes, name: str) -> bool:
    """Tell whether a file that begins so is a picture or a video in a folder."""
    return "/" in name and sniff(head) not in _NO_PICTURES


def read(source: Source, facts: Facts, options: Options) -> Iterator[pl.DataFrame]:
    """Return a row a picture; none is opened."""
    labels: set[str] = set()
    yield from frames(_rows(source, labels))
    facts.categories = tuple(sorted(labels))


def label_of(name: str) -> tuple[str | None, str | None]:
    """Return the label and the split that a picture's folders name.

    >>> label_of("train/happy/a.jpg"), label_of("a.jpg"), label_of("happy/test/a.jpg")
    (('happy', 'train'), (None, None), ('happy', 'test'))
    """
    folders = [folder for folder in name.split("/")[:-1] if folder not in ("", ".", "..")]
    split = next((folder for folder in folders if folder.lower() in SPLITS), None)
    label = next((folder for folder in reversed(folders) if folder.lower() not in SPLITS), None)
    return label, split


def _rows(source: Source, labels: set[str]) -> Iterator[tuple[Any, ...]]:
    for picture in source.names:
        label, split = label_of(picture)
        if label is not None:
            labels.add(label)
        attributes = json_object({"split": split} if split else {})
        yield (
            *(picture, 0, picture, None, None, None, None),
            *(label is not None, label, *NO_BOX, None, attributes, None, None),
        )
