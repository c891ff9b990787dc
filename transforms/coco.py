"""COCO: one JSON file that pycocotools, CVAT, FiftyOne, Datumaro and supervision read.

The parts are read twice, annotations first: they need no more of their pictures than numbers, and while they are
written the pictures' names are counted, so that repeated ones are known when the pictures are written.

Choices that the format leaves open:

- ids count from 1 in the order of the parts, so they stay the same while a data set grows;
- pixels are rounded to hundredths such that no box leaves its picture;
- a picture of unknown size is left out with its labels, and counted;
- a backslash in a name becomes `%5C`: some readers take it for a folder. `coco_url` keeps the name as it was.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

import polars as pl

from schemas.vocabulary import LANDMARKS_5, LANDMARKS_68, SKELETON_5, SKELETON_68, label_order
from transforms.encoding import (
    Categories,
    Part,
    Parts,
    Written,
    box_edges,
    chunks,
    class_numbers,
    joined,
    json_of,
    labels_of,
    shown,
    sized,
    with_more,
)
from transforms.names import FileNames, plain_name, unique_names


@dataclass(frozen=True)
class _Points:
    """Landmarks as keypoints: the column that has them, their names, their edges, and what the file says of them."""

    column: str
    names: Sequence[str]
    skeleton: Sequence[tuple[int, int]]
    told: str


_SIDE = "the subject's right, which is the image's left"
_FIVE = _Points("landmarks", LANDMARKS_5, SKELETON_5, f"{', '.join(LANDMARKS_5)}; {_SIDE}")
_DENSE = _Points("landmarks_68", LANDMARKS_68, SKELETON_68, f"the 68 points of iBUG 300-W; they begin at {_SIDE}")

_PLAIN = (
    *("confidence", "detection_score", "brightness", "contrast", "sharpness"),
    *("model", "origin", "rank", "annotation_id"),
)
_POSE = ("yaw", "pitch", "roll", "face_scale", "face_rotation")
_OURS = frozenset({"expression", "probabilities", *_PLAIN, *_POSE})

_LICENSE = 1
_EARLIEST_MS, _LATEST_MS = -62_135_596_800_000, 253_402_300_799_999
"""The years 1 to 9999, which ISO 8601 can write; clocks of cameras say stranger things."""


def write_coco(
    parts: Parts,
    out: BinaryIO,
    *,
    categories: Categories,
    labels: Sequence[str],
    info: Mapping[str, Any],
    roots: Mapping[int, str],
    dense: bool = False,
    files: FileNames | None = None,
) -> Written:
    """Write the parts as COCO; hold one part in memory at a time.

    `labels` are those of the data set's classifiers. `roots` are the names of the input roots by number; they tell
    same-named files apart. `info` must be JSON without a time of the run. With `dense`, keypoints are the 68 landmarks
    instead of the five; rows without them have none. `files` names the pictures where they are beside the file. Raises
    RunError for a label that is not in the vocabulary.
    """
    points = _DENSE if dense else _FIVE
    vocabulary = label_order(tuple(labels))
    head = {
        "info": {"description": "facial expressions, labelled by labelstream", "landmarks": points.told, **info},
        "licenses": [{"id": _LICENSE, "name": "unknown", "url": ""}],
        "categories": _categories(categories, vocabulary, points),
    }
    out.write(_json(head)[:-1].encode() + b',\n"annotations":[')
    annotations = _write_annotations(parts, out, categories, vocabulary, points)
    out.write(b'],\n"images":[')
    names = files or unique_names(parts, roots)
    images, left_out, videos = _write_images(parts, out, names)
    out.write(b"]" + (f',\n"videos":{_json(videos)}' if videos else "").encode() + b"}\n")
    return Written(images, annotations, left_out)


def _categories(layout: Categories, vocabulary: Sequence[str], points: _Points) -> list[dict[str, Any]]:
    shape = {"keypoints": points.names, "skeleton": points.skeleton}
    if layout == "face":
        return [{"id": 1, "name": "face", "supercategory": "person", **shape}]
    return [{"id": i, "name": name, "supercategory": "expression", **shape} for i, name in enumerate(vocabulary, 1)]


def _write_annotations(
    parts: Parts, out: BinaryIO, layout: Categories, vocabulary: Sequence[str], points: _Points
) -> int:
    images = annotations = 0
    for part in parts:
        pictures = _numbered(part, images)
        columns = pictures.select("image_id", "outcome", "number", "width", "height")
        rows = labels_of(part, columns, vocabulary, "COCO")
        for chunk in chunks(rows.with_row_index("annotation_number", annotations + 1)):
            row = _annotation(chunk, layout, vocabulary, points)
            _write_rows(out, chunk.with_columns(*_box()).select(row).to_series(), first=annotations == 0)
            annotations += chunk.height
        images += pictures.height
    return annotations


def _write_images(parts: Parts, out: BinaryIO, names: pl.Expr | FileNames) -> tuple[int, int, list[dict[str, Any]]]:
    images = left_out = 0
    videos: dict[str, dict[str, Any]] = {}
    for part in parts:
        pictures = _numbered(part, images)
        _collect_videos(videos, pictures)
        numbers = {key: video["id"] for key, video in videos.items()}
        for chunk in chunks(_named(pictures, names)):
            _write_rows(out, chunk.select(_image(numbers)).to_series(), first=images == 0)
            images += chunk.height
        left_out += shown(part.images).height - pictures.height
    return images, left_out, list(videos.values())


def _named(pictures: pl.DataFrame, names: pl.Expr | FileNames) -> pl.DataFrame:
    if isinstance(names, FileNames):
        return names.of(pictures).with_columns(name="picture")
    return pictures.with_columns(name=names)


def _numbered(part: Part, before: int) -> pl.DataFrame:
    """Return the part's pictures that COCO shows, with their ids after `before` earlier ones."""
    return sized(part.images).with_row_index("number", before + 1)


def _write_rows(out: BinaryIO, rows: pl.Series, first: bool) -> None:
    out.write((b"\n" if first else b",\n") + joined(rows, ",\n"))


def _box() -> list[pl.Expr]:
    """Return x1, y1, bw, bh in hundredths of pixels: x1 + bw <= width, also as floats; no box is the whole picture."""
    edges = box_edges()
    columns = []
    for near, far, low, size in (("left", "right", "x1", "bw"), ("top", "bottom", "y1", "bh")):
        start = edges[near].round(2)
        # Hundredths of which the exact sum is a whole number never sum to more than it as floats.
        columns += [start.alias(low), (edges[far].round(2) - start).round(2).alias(size)]
    return columns


def _annotation(rows: pl.DataFrame, layout: Categories, vocabulary: Sequence[str], points: _Points) -> pl.Expr:
    x, y, w, h = (pl.col(name) for name in ("x1", "y1", "bw", "bh"))
    base = json_of(
        id=pl.col("annotation_number"),
        image_id=pl.col("number"),
        category_id=class_numbers(layout, vocabulary, first=1),
        bbox=pl.concat_list(x, y, w, h),
        area=(w * h).round(4),
        iscrowd=pl.lit(0),
    )
    attributes = _attributes(rows, vocabulary)
    return _text(base.str.strip_suffix("}"), ',"attributes":', attributes, ",", _shapes(x, y, w, h, points), "}")


def _attributes(rows: pl.DataFrame, vocabulary: Sequence[str]) -> pl.Expr:
    """Return what COCO has no place for, as JSON; poses only where they are known."""
    known = [name for name in vocabulary if f"p_{name}" in rows.columns]
    attributes = json_of(
        expression=pl.col("label"),
        **{name: pl.col(name) for name in _PLAIN},
        probabilities=pl.struct(pl.col(f"p_{name}").alias(name) for name in known),
    )
    if any(rows[name].count() for name in _POSE):
        is_known = pl.any_horizontal(pl.col(name).is_not_null() for name in _POSE)
        attributes = with_more(attributes, pl.when(is_known).then(json_of(**{name: pl.col(name) for name in _POSE})))
    if rows["attributes"].count():
        given = pl.col("attributes").map_elements(_given, return_dtype=pl.String)
        attributes = with_more(attributes, given)
    return attributes


def _given(text: str) -> str | None:
    """Return the attributes that came with an annotation as a JSON object; null where there are none.

    A name that is ours gets `given_` in front; what is no object is kept under `attributes`.
    """
    try:
        told = json.loads(text, parse_constant=lambda _: None)
        members = told if isinstance(told, dict) else {"attributes": told}
        encoded = _json({f"given_{name}" if name in _OURS else name: value for name, value in members.items()})
    except (ValueError, RecursionError):  # numbers beyond a float's range are no JSON to most readers
        members, encoded = {"attributes": text}, _json({"attributes": text})
    return encoded.encode("utf-8", "replace").decode() if members else None  # "\ud800" alone is no character


def _shapes(x: pl.Expr, y: pl.Expr, w: pl.Expr, h: pl.Expr, landmarks: _Points) -> pl.Expr:
    """Return the members `segmentation`, `keypoints`, `num_keypoints` as JSON without braces.

    Built as text: a list of polars has one depth and one type, and here stand a list of lists, and ints among floats.
    """
    right, bottom = (x + w).round(2), (y + h).round(2)
    corners = pl.concat_str(x, y, x, bottom, right, bottom, right, y, separator=",")
    points, seen = [], []
    places = pl.col(landmarks.column).cast(pl.List(pl.Float32))
    for i in range(len(landmarks.names)):
        x, y = (places.list.get(2 * i + axis).cast(pl.Float64).round(2) for axis in (0, 1))
        known = (x.is_finite() & y.is_finite()).fill_null(False)
        points.append(pl.when(known).then(pl.concat_str(x, y, pl.lit("2"), separator=",")).otherwise(pl.lit("0,0,0")))
        seen.append(known.cast(pl.Int32))
    keypoints = pl.concat_str(points, separator=",")
    return _text(
        '"segmentation":[[', corners, ']],"keypoints":[', keypoints, '],"num_keypoints":', pl.sum_horizontal(seen)
    )


def _text(*pieces: str | pl.Expr) -> pl.Expr:
    return pl.concat_str(pl.lit(piece) if isinstance(piece, str) else piece for piece in pieces)


def _image(videos: Mapping[str, int]) -> pl.Expr:
    base = json_of(
        id=pl.col("number"),
        width=pl.col("width"),
        height=pl.col("height"),
        file_name=pl.col("name"),
        license=pl.lit(_LICENSE),
        coco_url=pl.col("source_uri").fill_null(""),
        date_captured=_date(),
        attributes=pl.struct("image_id", "sha256"),
    )
    frame = json_of(
        video_id=pl.col("video_id").replace_strict(videos, default=None, return_dtype=pl.Int64),
        frame_index=pl.col("frame_index"),
        timestamp_ms=pl.col("timestamp_ms"),
    )
    return with_more(base, pl.when(pl.col("video_id").is_not_null()).then(frame))


def _date() -> pl.Expr:
    known = pl.col("timestamp_ms").is_between(_EARLIEST_MS, _LATEST_MS)
    moment = pl.from_epoch(pl.when(known).then(pl.col("timestamp_ms")), time_unit="ms")
    return moment.dt.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").fill_null("")


def _collect_videos(videos: dict[str, dict[str, Any]], pictures: pl.DataFrame) -> None:
    seen = pictures.filter(pl.col("video_id").is_not_null()).unique("video_id", keep="first", maintain_order=True)
    for key, name in seen.select("video_id", plain_name(pl.col("file_name"))).iter_rows():
        videos.setdefault(key, {"id": len(videos) + 1, "name": name})


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
