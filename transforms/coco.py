"""COCO: one JSON file that pycocotools, CVAT, FiftyOne, Datumaro and supervision read.

The parts are read twice, annotations first: they need no more of their pictures than numbers, and while they are
written the pictures' names are counted, so that repeated ones are known when the pictures are written.

Choices that the format leaves open:

- ids count from 1 in the order of the parts, so they stay the same while a data set grows;
- pixels are rounded to hundredths such that no box leaves its picture;
- a picture of unknown size is left out with its labels, and counted; a label of the whole picture is a box around it;
- a backslash in a name becomes `%5C`: some readers take it for a folder. `coco_url` keeps the name as it was.
"""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

import polars as pl

from schemas.vocabulary import EXPRESSIONS, LANDMARKS_5, LANDMARKS_68, SKELETON_5, SKELETON_68
from transforms.encoding import (
    FLAT,
    CategoryLayout,
    Landmarks,
    Part,
    Parts,
    Written,
    box_edges,
    category_numbers,
    chunks,
    given,
    joined,
    json_of,
    labels_of,
    named,
    shown,
    sized,
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
_POINTS: Mapping[Landmarks, _Points | None] = {0: None, 5: _FIVE, 68: _DENSE}

_MEASURED = ("detection_score", "brightness", "contrast", "sharpness", "model")
_PLAIN = ("confidence", *_MEASURED, "origin", "rank", "annotation_id")
_PLAIN_SHORT = tuple(name for name in _PLAIN if name not in _MEASURED)
_POSE = ("yaw", "pitch", "roll", "face_scale", "face_rotation")
_MEMBERS = ("id", "iscrowd")  # readers put them among the attributes
_OURS = frozenset({"expression", "probabilities", *_MEMBERS, *_PLAIN, *_POSE})

_RENAMED = {f'"{name}":': f'"given_{name}":' for name in _MEMBERS}
_OURS_AS_NAMES = f'"(?:given_[^"]*|{"|".join(sorted(_OURS.difference(_MEMBERS)))})":'


@dataclass(frozen=True)
class _Row:
    """How annotations are told: `faces` says that labels are expressions."""

    layout: CategoryLayout
    categories: Sequence[str]
    points: _Points | None
    faces: bool


_LICENSE = 1
_EARLIEST_MS, _LATEST_MS = -62_135_596_800_000, 253_402_300_799_999
"""The years 1 to 9999, which ISO 8601 can write; clocks of cameras say stranger things."""


def write_coco(
    parts: Parts,
    out: BinaryIO,
    *,
    layout: CategoryLayout,
    categories: Sequence[str],
    info: Mapping[str, Any],
    roots: Mapping[int, str],
    expressions: Collection[str] = EXPRESSIONS,
    landmarks: Landmarks = 5,
    names: FileNames | pl.Expr | None = None,
) -> Written:
    """Write the parts as COCO; hold one part in memory at a time.

    `categories` are the names of the labels in the order of their ids; those among `expressions` are told to be ones.
    `roots` are the names of the input roots by number; they tell same-named files apart. `info` must be JSON without a
    time of the run. `landmarks` says which of them are keypoints; rows without them have none. `names` are those of the
    pictures where they must be the same in several files. Raises RunError for a label that is no category.
    """
    points = _POINTS[landmarks]
    faces = layout == "face" or not set(expressions).isdisjoint(categories)
    told = {"description": f"{'facial expressions, labelled' if faces else 'labels, cleaned'} by labelstream"}
    head = {
        "info": told | ({"landmarks": points.told} if points else {}) | dict(info),
        "licenses": [{"id": _LICENSE, "name": "unknown", "url": ""}],
        "categories": _categories(layout, categories, expressions, points),
    }
    out.write(_json(head)[:-1].encode() + b',\n"annotations":[')
    annotations, unnamed = _write_annotations(parts, out, _Row(layout, categories, points, faces))
    out.write(b'],\n"images":[')
    called = unique_names(parts, roots) if names is None else names
    images, left_out, videos = _write_images(parts, out, called)
    out.write(b"]" + (f',\n"videos":{_json(videos)}' if videos else "").encode() + b"}\n")
    return Written(images, annotations, left_out, unnamed)


def _categories(
    layout: CategoryLayout, categories: Sequence[str], expressions: Collection[str], points: _Points | None
) -> list[dict[str, Any]]:
    shape = {"keypoints": points.names, "skeleton": points.skeleton} if points else {}
    if layout == "face":
        return [{"id": 1, "name": "face", "supercategory": "person", **shape}]
    kinds = {True: "expression", False: "object"}
    return [
        {"id": i, "name": name, "supercategory": kinds[name in expressions], **shape}
        for i, name in enumerate(categories, 1)
    ]


def _write_annotations(parts: Parts, out: BinaryIO, row: _Row) -> tuple[int, int]:
    images = annotations = unnamed = 0
    for part in parts:
        pictures = _numbered(part, images)
        about = pictures.select("image_id", "outcome", "number", "width", "height")
        found = labels_of(part, about, row.categories, "COCO")
        rows = named(found)
        for chunk in chunks(rows.with_row_index("annotation_number", annotations + 1)):
            texts = chunk.with_columns(*_box()).with_columns(**_numbers()).select(_annotation(chunk, row)).to_series()
            _write_rows(out, texts, first=annotations == 0)
            annotations += chunk.height
        images += pictures.height
        unnamed += found.height - rows.height
    return annotations, unnamed


def _write_images(parts: Parts, out: BinaryIO, names: pl.Expr | FileNames) -> tuple[int, int, list[dict[str, Any]]]:
    images = left_out = 0
    videos: dict[str, dict[str, Any]] = {}
    for part in parts:
        pictures = _numbered(part, images)
        _collect_videos(videos, pictures)
        numbers = {key: video["id"] for key, video in videos.items()}
        for chunk in chunks(_named(pictures, names)):
            _write_rows(out, chunk.select(_text(*_image(chunk, numbers))).to_series(), first=images == 0)
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
    out.write(b"\n" if first else b",\n")
    out.write(joined(rows, ",\n"))


def _box() -> list[pl.Expr]:
    """Return x1, y1, bw, bh in hundredths of pixels: x1 + bw <= width, also as floats; no box is the whole picture."""
    edges = box_edges()
    columns = []
    for near, far, low, size in (("left", "right", "x1", "bw"), ("top", "bottom", "y1", "bh")):
        start = edges[near].round(2)
        # Hundredths of which the exact sum is a whole number never sum to more than it as floats.
        columns += [start.alias(low), (edges[far].round(2) - start).round(2).alias(size)]
    return columns


def _numbers() -> dict[str, pl.Expr]:
    """Return the numbers of an annotation as texts, each made once: most of the time goes into them."""
    x, y, w, h = (pl.col(name) for name in ("x1", "y1", "bw", "bh"))
    values = {"x": x, "y": y, "w": w, "h": h, "x2": (x + w).round(2), "y2": (y + h).round(2), "area": (w * h).round(4)}
    return {f"_{name}": value.cast(pl.String) for name, value in values.items()}


def _annotation(rows: pl.DataFrame, told: _Row) -> pl.Expr:
    """Return an annotation as JSON; as text, because a list of polars has one depth and one type."""
    return _text(
        *('{"id":', pl.col("annotation_number"), ',"image_id":', pl.col("number")),
        *(',"category_id":', category_numbers(told.layout, told.categories, first=1)),
        *(',"bbox":[', _listed("x", "y", "w", "h"), '],"area":', pl.col("_area"), ',"iscrowd":', _is_crowd()),
        *(',"attributes":', *_attributes(rows, faces=told.faces), ',"segmentation":[['),
        *(_listed("x", "y", "x", "y2", "x2", "y2", "x2", "y"), "]]", *_keypoints(told.points), "}"),
    )


def _is_crowd() -> pl.Expr:
    """Return 1 where a label came as one of a crowd: evaluation passes over it."""
    return pl.col("attributes").str.contains(r'"iscrowd": ?(?:1|true)\b').fill_null(False).cast(pl.Int8)


def _listed(*names: str) -> pl.Expr:
    return pl.concat_str((pl.col(f"_{name}") for name in names), separator=",")


def _attributes(rows: pl.DataFrame, *, faces: bool) -> list[pl.Expr | str]:
    """Return what COCO has no place for, as a JSON object in pieces; what models measure only where it is known."""
    kind = {"expression": pl.col("label")} if faces else {}
    whole, short = (json_of(**kind, **{name: pl.col(name) for name in names}) for names in (_PLAIN, _PLAIN_SHORT))
    is_measured = (pl.col("origin") == "model") | _is_any_known(_MEASURED)
    measured = rows.select(is_measured.fill_null(False)).to_series()
    attributes = (
        whole if measured.all() else short if not measured.any() else pl.when(is_measured).then(whole).otherwise(short)
    )
    pieces: list[pl.Expr | str] = [attributes.str.strip_suffix("}")]
    chances = [name for name in rows.columns if name.startswith("p_")]
    if any(rows[name].count() for name in chances):
        told = json_of(probabilities=pl.struct(pl.col(name).alias(name.removeprefix("p_")) for name in chances))
        pieces += _more(told, _is_any_known(chances))
    if any(rows[name].count() for name in _POSE):
        told = json_of(**{name: pl.col(name) for name in _POSE})
        pieces += _more(told, _is_any_known(_POSE))
    if rows["attributes"].count():
        told = pl.lit(_given(rows["attributes"]))
        pieces += _more(told, told.is_not_null())
    return [*pieces, "}"]


def _more(told: pl.Expr, is_known: pl.Expr) -> list[pl.Expr | str]:
    """Return the members of a JSON object as pieces that follow others, empty where they are not known."""
    inner = told.str.strip_prefix("{").str.strip_suffix("}")
    return [pl.when(is_known).then(piece).otherwise(pl.lit("")) for piece in (pl.lit(","), inner)]


def _is_any_known(names: Iterable[str]) -> pl.Expr:
    return pl.any_horizontal(pl.col(name).is_not_null() for name in names)


def _given(texts: pl.Series) -> pl.Series:
    """Return the attributes that came with annotations as JSON objects; null where there are none."""
    fit = texts.str.contains(FLAT) & ~texts.str.contains(_OURS_AS_NAMES)
    told = texts.str.replace_many(_RENAMED)
    if fit.all():
        return told
    others = {text: _made_fit(text) for text in texts.filter(~fit).unique()}
    return told.zip_with(fit.fill_null(False), pl.Series([others.get(text) for text in texts], dtype=pl.String))


def _made_fit(text: str) -> str | None:
    members = given(text, _OURS)
    return _json(members).encode("utf-8", "replace").decode() if members else None  # "\ud800" alone is no character


def _keypoints(landmarks: _Points | None) -> tuple[str | pl.Expr, ...]:
    """Return the members `keypoints` and `num_keypoints` in pieces, none where there are no landmarks."""
    if landmarks is None:
        return ()
    points, seen = [], []
    places = pl.col(landmarks.column).cast(pl.List(pl.Float32))
    for i in range(len(landmarks.names)):
        x, y = (places.list.get(2 * i + axis).cast(pl.Float64).round(2) for axis in (0, 1))
        known = (x.is_finite() & y.is_finite()).fill_null(False)
        points.append(pl.when(known).then(pl.concat_str(x, y, pl.lit("2"), separator=",")).otherwise(pl.lit("0,0,0")))
        seen.append(known.cast(pl.Int32))
    keypoints = pl.concat_str(points, separator=",")
    return ',"keypoints":[', keypoints, '],"num_keypoints":', pl.sum_horizontal(seen)


def _text(*pieces: str | pl.Expr) -> pl.Expr:
    return pl.concat_str(pl.lit(piece) if isinstance(piece, str) else piece for piece in pieces)


def _image(pictures: pl.DataFrame, videos: Mapping[str, int]) -> list[pl.Expr | str]:
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
    pieces: list[pl.Expr | str] = [base.str.strip_suffix("}")]
    if not pictures["video_id"].count():
        return [*pieces, "}"]
    frame = json_of(
        video_id=pl.col("video_id").replace_strict(videos, default=None, return_dtype=pl.Int64),
        frame_index=pl.col("frame_index"),
        timestamp_ms=pl.col("timestamp_ms"),
    )
    return [*pieces, *_more(frame, pl.col("video_id").is_not_null()), "}"]


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
