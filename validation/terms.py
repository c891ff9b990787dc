"""What a data set's rows are held to. Importing this is cheap."""

from dataclasses import dataclass
from typing import Literal

from schemas.reasons import Duplicates
from schemas.vocabulary import label_order

ANNOTATE_VERSION = "1"
CLEAN_VERSION = "1"
"""Each changes when an expectation of its suite does: then the same input is judged otherwise."""

MIN_SIDE_PX = 1.0
"""A side under one pixel covers no pixel's area; COCO's readers refuse or round such boxes to nothing."""

MAX_ASPECT = 100.0
"""A box a hundred times as long as it is wide shows nothing that a label could name."""

SAME_THING = 0.8
SAME_BOX = 0.9
"""Least intersection over union of two boxes of one label that are one thing, and of two of two labels."""


@dataclass(frozen=True)
class Terms:
    """What the suites of a job hold rows to.

    `labels` are the classifier's: they decide on the p_ columns. `vocabulary` are the labels that may stand. `files`
    says that every picture must be at hand. `duplicates` says which pictures may not stand beside each other.
    `exclusive` are the sources of which a box, or a picture, has one label only; null for all. `max_aspect`,
    `same_thing` and `same_box` bound boxes as the rules do that were applied before.
    """

    suite: Literal["annotate", "clean"]
    version: str
    labels: tuple[str, ...]
    vocabulary: tuple[str, ...]
    files: bool = True
    duplicates: Duplicates = Duplicates.KEEP
    exclusive: tuple[str, ...] | None = None
    max_aspect: float = MAX_ASPECT
    same_thing: float = SAME_THING
    same_box: float = SAME_BOX


def annotated(labels: tuple[str, ...]) -> Terms:
    """Return what the rows of `pipelines.annotate` are held to: `labels` are its classifier's."""
    return Terms("annotate", ANNOTATE_VERSION, labels, label_order(labels))


def cleaned(
    vocabulary: tuple[str, ...],
    labels: tuple[str, ...] = (),
    *,
    files: bool = False,
    duplicates: Duplicates = Duplicates.NEAR,
    exclusive: tuple[str, ...] | None = None,
    max_aspect: float = MAX_ASPECT,
    same_thing: float = SAME_THING,
    same_box: float = SAME_BOX,
) -> Terms:
    """Return what the rows of `pipelines.clean` are held to; `labels` as they were given to `schemas.tables.schema`."""
    return Terms(
        "clean", CLEAN_VERSION, labels, vocabulary, files, duplicates, exclusive, max_aspect, same_thing, same_box
    )
