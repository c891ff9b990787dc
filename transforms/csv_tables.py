"""CSV for pandas, R and spreadsheets: RFC 4180, UTF-8 without a mark, decimal points, an empty cell for null.

    faces.csv    one row a labelled face: picture, box in pixels, label, probabilities, landmarks by name
    images.csv   one row a picture or frame of any outcome, those without a face too

A spreadsheet takes a text that begins with `=`, `+`, `-` or `@` for a formula, and file names come from strangers. Such
a path gets `./` in front, and is still the same file; any other such text gets an apostrophe. All texts are in quotes,
so that a reader that expects other separators sees no cell begin within one.
"""

from collections.abc import Sequence
from typing import BinaryIO

import polars as pl

from schemas.vocabulary import LANDMARKS_5, label_order
from transforms.encoding import Parts, Written, chunks, labels_of
from transforms.folders import Folder

FACES, IMAGES = "faces.csv", "images.csv"

_FORMULA = r"^[=+\-@\t\r\n＝＋－＠]"
"""How a formula begins in some spreadsheet (OWASP, CSV injection)."""

_PATHS = ("file_name", "source_uri", "picture")

_PICTURE = ("file_name", "source_uri", "frame_index", "pts_ms", "width", "height")
_FACE = (
    *("detection_score", "brightness", "contrast", "sharpness"),
    *("yaw", "pitch", "roll", "face_scale", "face_rotation"),
    *("origin", "model", "attributes", "rank", "image_id", "annotation_id"),
)
_IMAGE = (
    *_PICTURE,
    *("outcome", "annotations", "duplicate_of", "timestamp_ms", "source_id", "sha256", "video_id", "image_id"),
)


def write_csv_tables(parts: Parts, folder: Folder, *, labels: Sequence[str], dense: bool) -> Written:
    """Write both tables; hold one part in memory at a time.

    `labels` are those of the data set's classifiers. With `dense`, the 68 landmarks have columns too. Raises RunError
    for a label that is not in the vocabulary.
    """
    vocabulary = label_order(tuple(labels))
    face = _face(vocabulary, dense)
    images = annotations = 0
    with folder.create(FACES) as faces, folder.create(IMAGES) as pictures:
        write_header(faces, list(face))
        write_header(pictures, _IMAGE)
        for part in parts:
            rows = labels_of(part, part.images.select("image_id", "outcome", *_PICTURE), vocabulary, "CSV")
            for chunk in chunks(rows):
                write_rows(faces, chunk.select(**face))
            for chunk in chunks(part.images):
                write_rows(pictures, chunk.select(_IMAGE))
            images += part.images.height
            annotations += rows.height
    return Written(images, annotations, 0)


def _face(vocabulary: Sequence[str], dense: bool) -> dict[str, pl.Expr]:
    plain = (
        *_PICTURE,
        *("bbox_x", "bbox_y", "bbox_w", "bbox_h"),
        *("label", "confidence", *(f"p_{name}" for name in vocabulary)),
        *_FACE,
    )
    columns = {name: pl.col(name) for name in plain} | _points("landmarks", LANDMARKS_5)
    return columns | (_points("landmarks_68", [f"landmark_{i:02}" for i in range(1, 69)]) if dense else {})


def _points(column: str, names: Sequence[str]) -> dict[str, pl.Expr]:
    return {
        f"{name}_{axis}": pl.col(column).cast(pl.List(pl.Float32)).list.get(2 * i + at)
        for i, name in enumerate(names)
        for at, axis in enumerate("xy")
    }


def write_header(out: BinaryIO, columns: Sequence[str]) -> None:
    """Write the first line of a table, whether it has rows or not."""
    _write(out, pl.DataFrame([columns], schema=list(map(str, range(len(columns)))), orient="row"))


def write_rows(out: BinaryIO, rows: pl.DataFrame) -> None:
    """Write rows without their header; what is no number is an empty cell."""
    texts = [_inert(name) for name, kind in rows.schema.items() if kind == pl.String]
    numbers = [_finite(name) for name, kind in rows.schema.items() if kind.is_float()]
    _write(out, rows.with_columns(*texts, *numbers))


def _write(out: BinaryIO, rows: pl.DataFrame) -> None:
    rows.write_csv(out, include_header=False, quote_style="non_numeric", line_terminator="\r\n")


def _inert(name: str) -> pl.Expr:
    text = pl.col(name)
    mark = "./" if name in _PATHS else "'"
    return pl.when(text.str.contains(_FORMULA)).then(mark + text).otherwise(text).alias(name)


def _finite(name: str) -> pl.Expr:
    return pl.when(pl.col(name).is_finite()).then(name).alias(name)
