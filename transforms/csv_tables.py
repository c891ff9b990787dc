"""CSV for pandas, R and spreadsheets: RFC 4180, UTF-8 without a mark, decimal points, an empty cell for null.

    faces.csv    one row a label: picture, box in pixels, label, probabilities, landmarks by name
    images.csv   one row a picture or frame of any outcome, those without a label too

Where labels are no expressions, faces.csv is called labels.csv. Probabilities and landmarks have columns only where
some label has them, and so have boxes as shares of pictures whose size is not known. A label of the whole picture has
no box.

A spreadsheet takes a text that begins with `=`, `+`, `-` or `@` for a formula, and file names come from strangers. Such
a path gets `./` in front, and is still the same file; any other such text gets an apostrophe. All texts are in quotes,
so that a reader that expects other separators sees no cell begin within one.
"""

from collections.abc import Sequence
from typing import BinaryIO

import polars as pl

from schemas.vocabulary import LANDMARKS_5
from transforms.encoding import SHARES, Landmarks, Parts, Written, chunks, labels_of
from transforms.folders import Folder

FACES, LABELS, IMAGES = "faces.csv", "labels.csv", "images.csv"

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


def write_csv_tables(
    parts: Parts,
    folder: Folder,
    *,
    categories: Sequence[str],
    probabilities: Sequence[str],
    landmarks: Landmarks,
    shares: bool = False,
    table: str = FACES,
) -> Written:
    """Write both tables, the labels' as `table`; hold one part in memory at a time.

    `categories` are the names of labels, `probabilities` those whose columns are wanted; of 68 landmarks the five have
    columns too. With `shares`, so have cx, cy, w, h. Raises RunError for a label that is no category.
    """
    face = _face(probabilities, landmarks, shares=shares)
    images = annotations = 0
    with folder.create(table) as faces, folder.create(IMAGES) as pictures:
        write_header(faces, list(face))
        write_header(pictures, _IMAGE)
        for part in parts:
            rows = labels_of(part, part.images.select("image_id", "outcome", *_PICTURE), categories, "CSV")
            for chunk in chunks(rows):
                write_rows(faces, chunk.select(**face))
            for chunk in chunks(part.images):
                write_rows(pictures, chunk.select(_IMAGE))
            images += part.images.height
            annotations += rows.height
    return Written(images, annotations, 0)


def _face(probabilities: Sequence[str], landmarks: Landmarks, *, shares: bool) -> dict[str, pl.Expr]:
    plain = (
        *_PICTURE,
        *("bbox_x", "bbox_y", "bbox_w", "bbox_h"),
        *(SHARES if shares else ()),
        *("label", "confidence", *(f"p_{name}" for name in probabilities)),
        *_FACE,
    )
    columns = {name: pl.col(name) for name in plain}
    if landmarks:
        columns |= _points("landmarks", LANDMARKS_5)
    if landmarks == 68:
        columns |= _points("landmarks_68", [f"landmark_{i:02}" for i in range(1, 69)])
    return columns


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
