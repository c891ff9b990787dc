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
from typing import Any, BinaryIO, Literal

import polars as pl

from schemas.errors import RunError
from schemas.reasons import Outcome
from schemas.vocabulary import LANDMARKS_5, SKELETON_5, label_order
from transforms.encoding import Part, Parts, chunks, joined, json_of, with_more, with_outcome

Categories = Literal["expression", "face"]

LANDMARK_ORDER = f"{', '.join(LANDMARKS_5)}; the subject's right, which is the image's left"

_LICENSE = 1
_EARLIEST_MS, _LATEST_MS = -62_135_596_800_000, 253_402_300_799_999
"""The years 1 to 9999, which ISO 8601 can write; clocks of cameras say stranger things."""


@dataclass(frozen=True)
class Written:
    """What an export holds; `left_out` counts pictures of unknown size."""

    images: int
    annotations: int
    left_out: int


def write_coco(
    parts: Parts,
    out: BinaryIO,
    *,
    categories: Categories,
    labels: Sequence[str],
    info: Mapping[str, Any],
    roots: Mapping[int, str],
) -> Written:
    """Write the parts as COCO; hold one part in memory at a time.

    `labels` are those of the data set's classifiers. `roots` are the names of the input roots by number; they tell
    same-named files apart. `info` must be JSON without a time of the run. Raises RunError for a label that is not in
    the vocabulary.
    """
    vocabulary = label_order(tuple(labels))
    head = {
        "info": {"description": "facial expressions, labelled by labelstream", "landmarks": LANDMARK_ORDER, **info},
        "licenses": [{"id": _LICENSE, "name": "unknown", "url": ""}],
        "categories": _categories(categories, vocabulary),
    }
    out.write(_json(head)[:-1].encode() + b',\n"annotations":[')
    annotations = _write_annotations(parts, out, categories, vocabulary)
    out.write(b'],\n"images":[')
    names = unique_names(parts, roots)
    images, left_out, videos = _write_images(parts, out, names)
    out.write(b"]" + (f',\n"videos":{_json(videos)}' if videos else "").encode() + b"}\n")
    return Written(images, annotations, left_out)


def _categories(layout: Categories, vocabulary: tuple[str, ...]) -> list[dict[str, Any]]:
    points = {"keypoints": LANDMARKS_5, "skeleton": SKELETON_5}
    if layout == "face":
        return [{"id": 1, "name": "face", "supercategory": "person", **points}]
    return [{"id": i, "name": name, "supercategory": "expression", **points} for i, name in enumerate(vocabulary, 1)]


def _write_annotations(parts: Parts, out: BinaryIO, layout: Categories, vocabulary: tuple[str, ...]) -> int:
    images = annotations = 0
    for part in parts:
        pictures = _numbered(part, images)
        labelled = with_outcome(pictures, Outcome.LABELLED).select("image_id", "number", "width", "height")
        rows = part.annotations.join(labelled, on="image_id", how="inner", maintain_order="left")
        _check_vocabulary(rows, vocabulary)
        for chunk in chunks(rows.with_row_index("annotation_number", annotations + 1)):
            encoded = chunk.with_columns(*_box()).select(_annotation(chunk.columns, layout, vocabulary)).to_series()
            _write_rows(out, encoded, first=annotations == 0)
            annotations += chunk.height
        images += pictures.height
    return annotations


def _write_images(parts: Parts, out: BinaryIO, names: pl.Expr) -> tuple[int, int, list[dict[str, Any]]]:
    images = left_out = 0
    videos: dict[str, dict[str, Any]] = {}
    for part in parts:
        pictures = _numbered(part, images)
        _collect_videos(videos, pictures)
        numbers = {key: video["id"] for key, video in videos.items()}
        for chunk in chunks(pictures.with_columns(names.alias("name"))):
            _write_rows(out, chunk.select(_image(numbers)).to_series(), first=images == 0)
            images += chunk.height
        left_out += _shown(part.images).height - pictures.height
    return images, left_out, list(videos.values())


def _shown(images: pl.DataFrame) -> pl.DataFrame:
    return with_outcome(images, Outcome.LABELLED, Outcome.NO_FACE, Outcome.QUARANTINED)


def _sized(images: pl.DataFrame) -> pl.DataFrame:
    return _shown(images).filter((pl.col("width") > 0) & (pl.col("height") > 0))


def _numbered(part: Part, before: int) -> pl.DataFrame:
    """Return the part's pictures that COCO shows, with their ids after `before` earlier ones."""
    return _sized(part.images).with_row_index("number", before + 1)


def _write_rows(out: BinaryIO, rows: pl.Series, first: bool) -> None:
    out.write((b"\n" if first else b",\n") + joined(rows, ",\n"))


def _check_vocabulary(rows: pl.DataFrame, vocabulary: tuple[str, ...]) -> None:
    unknown = rows.filter(~pl.col("label").is_in(vocabulary).fill_null(False))["label"]
    if unknown.len():
        raise RunError(
            f"COCO has no category for the label {unknown[0]!r} ({unknown.len()} annotations): "
            f"expected one of {', '.join(vocabulary)}"
        )


def _box() -> list[pl.Expr]:
    """Return x1, y1, bw, bh in hundredths of pixels: x1 + bw <= width, also as floats; no box is the whole picture."""
    columns = []
    for at, side, low, size in (("bbox_x", "bbox_w", "x1", "bw"), ("bbox_y", "bbox_h", "y1", "bh")):
        edge = pl.col("width" if at == "bbox_x" else "height").cast(pl.Float64)
        start, length = pl.col(at).cast(pl.Float64).fill_null(0.0), pl.col(side).cast(pl.Float64).fill_null(edge)
        near = start.clip(0.0, edge).round(2)
        # Hundredths of which the exact sum is a whole number never sum to more than it as floats.
        extent = ((start + length).clip(0.0, edge).round(2) - near).round(2)
        columns += [near.alias(low), extent.alias(size)]
    return columns


def _annotation(columns: Sequence[str], layout: Categories, vocabulary: tuple[str, ...]) -> pl.Expr:
    x, y, w, h = (pl.col(name) for name in ("x1", "y1", "bw", "bh"))
    ids = {name: number for number, name in enumerate(vocabulary, 1)}
    known = [name for name in vocabulary if f"p_{name}" in columns]
    plain = ("confidence", "detection_score", "brightness", "contrast", "sharpness", "model", "origin", "annotation_id")
    base = json_of(
        id=pl.col("annotation_number"),
        image_id=pl.col("number"),
        category_id=pl.lit(1) if layout == "face" else pl.col("label").replace_strict(ids, return_dtype=pl.Int64),
        bbox=pl.concat_list(x, y, w, h),
        area=(w * h).round(4),
        iscrowd=pl.lit(0),
        attributes=pl.struct(
            pl.col("label").alias("expression"),
            *(pl.col(name) for name in plain),
            probabilities=pl.struct(pl.col(f"p_{name}").alias(name) for name in known),
        ),
    )
    return with_more(base, _shapes(x, y, w, h))


def _shapes(x: pl.Expr, y: pl.Expr, w: pl.Expr, h: pl.Expr) -> pl.Expr:
    """Return the members `segmentation`, `keypoints`, `num_keypoints` as JSON.

    Built as text: a list of polars has one depth and one type, and here stand a list of lists, and ints among floats.
    """
    right, bottom = (x + w).round(2), (y + h).round(2)
    corners = pl.concat_str(x, y, x, bottom, right, bottom, right, y, separator=",")
    points, seen = [], []
    for i in range(len(LANDMARKS_5)):
        x, y = (pl.col("landmarks").arr.get(2 * i + axis).cast(pl.Float64).round(2) for axis in (0, 1))
        known = (x.is_finite() & y.is_finite()).fill_null(False)
        points.append(pl.when(known).then(pl.concat_str(x, y, pl.lit("2"), separator=",")).otherwise(pl.lit("0,0,0")))
        seen.append(known.cast(pl.Int32))
    keypoints = pl.concat_str(points, separator=",")
    members = ('{"segmentation":[[', corners, ']],"keypoints":[', keypoints, '],"num_keypoints":', sum(seen), "}")
    return pl.concat_str(pl.lit(text) if isinstance(text, str) else text for text in members)


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
    for key, name in seen.select("video_id", _plain(pl.col("file_name"))).iter_rows():
        videos.setdefault(key, {"id": len(videos) + 1, "name": name})


def unique_names(parts: Parts, roots: Mapping[int, str]) -> pl.Expr:
    """Return an expression: each picture's name in the export, which no other picture has.

    It is the file's name (a frame's: its number under the video's name). Where several pictures have it, each gets its
    root's name in front; if that does not tell them apart, the root's number too; if nothing does, a part of its id.
    """
    names = _own_name()
    number = pl.col("root").cast(pl.String)
    root = pl.col("root").replace_strict(_root_names(roots), default=number, return_dtype=pl.String)
    for prefix in (root, root + "-" + number, pl.col("image_id").str.head(16)):
        repeated = _repeated(parts, names)
        if not repeated.len():
            break
        names = pl.when(names.is_in(repeated.implode())).then(prefix + "/" + _own_name()).otherwise(names)
    return names


def _own_name() -> pl.Expr:
    number = pl.col("frame_index").cast(pl.String).str.zfill(6)
    path = pl.col("file_name") + "/" + number + ".jpg"
    frame = pl.when(pl.col("video_id").is_not_null()).then(path)
    return _plain(pl.coalesce(frame, "file_name", "image_id"))


def _plain(name: pl.Expr) -> pl.Expr:
    return (
        name.str.replace_all("\\", "%5C", literal=True)
        .str.replace_all("://", "/", literal=True)
        .str.strip_chars_start("/")
    )


def _root_names(roots: Mapping[int, str]) -> dict[int, str]:
    """Return the last part of each root's name; `root` where there is none, as for `/` and `.`."""
    leaves = {number: name.replace("\\", "/").rstrip("/").split("/")[-1] for number, name in roots.items()}
    return {number: "root" if leaf in ("", ".", "..") else leaf for number, leaf in leaves.items()}


def _repeated(parts: Parts, names: pl.Expr) -> pl.Series:
    """Return the names that several pictures have. Hashes find them in 8 bytes a picture, the names decide."""
    hashes = pl.concat([_names(part, names).hash() for part in parts] or [pl.Series(dtype=pl.UInt64)])
    suspect = hashes.filter(hashes.is_duplicated()).unique()
    if not suspect.len():
        return pl.Series(dtype=pl.String)
    found = pl.concat([(own := _names(part, names)).filter(own.hash().is_in(suspect.implode())) for part in parts])
    return found.filter(found.is_duplicated()).unique().sort()


def _names(part: Part, names: pl.Expr) -> pl.Series:
    return _sized(part.images).select(names.alias("name")).to_series()


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
