"""COCO: one JSON file of images, annotations and categories, which may come in any order.

A million annotations are never held as Python objects: they are packed as they come, put aside in the scratch folder,
and joined with their images at the end.
"""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from schemas.errors import UsageError
from schemas.raw import CHUNK_ROWS, RAW, Facts, Source
from schemas.reasons import Rule
from transforms.readers.json_parts import WHOLE, BrokenJson, parts, paths
from transforms.readers.rows import Options, json_object, number, picture_name, share, text, whole
from transforms.storage import opened, printable

_LISTS = ("images", "annotations", "categories", "videos")
_HELD_CHUNKS = 4
"""So many chunks of annotations stay in memory; when more come, all are put aside."""

_FACE = frozenset({"face", "person"})
"""Categories that name the thing and not its expression: then `attributes.expression` is the label."""

_COLUMNS = frozenset({"image_id", "category_id", "bbox", "score"})
"""The members of an annotation that have columns; the others are kept in attributes."""

_USUAL = frozenset({"id", "image_id", "category_id", "bbox", "area", "iscrowd", "segmentation"})
_PIXEL_SHARE = 0.02
"""Polygons of boxes and areas are often rounded to hundredths of pixels."""

_NAMES = ("file_name", "filename", "name", "path")
_NUMBERS = frozenset({int, float})
_INT32, _INT64 = 2**31, 2**63

_IMAGES: dict[str, pl.DataType] = {
    "id": pl.String(),
    "row": pl.Int64(),
    "picture": pl.String(),
    "width": pl.Int32(),
    "height": pl.Int32(),
    "frame": pl.Int32(),
    "video": pl.String(),
}
_ANNOTATIONS: dict[str, pl.DataType] = {
    "id": pl.String(),
    "row": pl.Int64(),
    "image": pl.String(),
    "category": pl.String(),
    "expression": pl.String(),
    **dict.fromkeys("abcd", pl.Float64()),
    "confidence": pl.Float32(),
    "attributes": pl.String(),
}


def is_one(head: bytes, name: str) -> bool:
    """Say whether this is COCO with boxes or labels, or a list of COCO results."""
    found = paths(head)
    tells_images = {"images.item", "images.item.id"} <= found
    tells_labels = {"annotations.item.image_id", "annotations.item.category_id"} <= found
    is_results = {"item.image_id", "item.category_id"} <= found
    is_other = found & {"annotations.item.caption", "annotations.item.segments_info"}
    return (tells_images or tells_labels or is_results) and not is_other


def read(source: Source, facts: Facts, options: Options) -> Iterator[pl.DataFrame]:
    """Return a row an annotation, in their order, then one for each picture without any.

    Raises UsageError for broken JSON, for a list of results (it names no pictures), and where nothing is COCO.
    """
    facts.corners, facts.unit = "xywh", "pixels"
    for where, name in zip(source.files, source.names, strict=True):
        with tempfile.TemporaryDirectory(dir=options.scratch, prefix="coco-") as scratch:
            content = _Content(_Shelf(Path(scratch)))
            _gather(where, name, content)
            for key, (count, first) in content.strangers.items():
                facts.failures.append(
                    (name, "broken", f"{count:,} elements of {key} are no objects, the first is number {first:,}")
                )
            names = (name for _, name in content.categories if name)
            facts.categories = tuple(dict.fromkeys((*(facts.categories or ()), *names)))
            yield from _joined(name, content)


class _Shelf:
    """Rows that wait, in memory while they are few, else in files."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._parts: list[pl.DataFrame] = []  # of the chunk that is being filled
        self._chunks: list[pl.DataFrame | Path] = []
        self._rows = 0

    def put(self, frame: pl.DataFrame) -> None:
        """Add rows."""
        self._parts.append(frame)
        self._rows += frame.height
        while self._rows >= CHUNK_ROWS:
            rows = pl.concat(self._parts, rechunk=True)
            self._chunks.append(rows.head(CHUNK_ROWS))
            self._parts = [rows.slice(CHUNK_ROWS)]
            self._rows -= CHUNK_ROWS
        if len(self._chunks) > _HELD_CHUNKS:
            self._chunks = [self._aside(number, chunk) for number, chunk in enumerate(self._chunks)]

    def chunks(self) -> Iterator[pl.DataFrame]:
        """Give all rows away, in order, in frames of CHUNK_ROWS; the last may be shorter."""
        if self._rows:
            self._chunks.append(pl.concat(self._parts, rechunk=True))
        self._parts, self._rows = [], 0
        self._chunks.reverse()
        while self._chunks:
            chunk = self._chunks.pop()
            yield pl.read_ipc(chunk) if isinstance(chunk, Path) else chunk

    def _aside(self, number: int, chunk: pl.DataFrame | Path) -> Path:
        if isinstance(chunk, Path):
            return chunk
        path = self._folder / f"{number}.arrow"
        chunk.write_ipc(path, compression="lz4")
        return path


@dataclass
class _Content:
    """What one file holds. `ids` and `references` are hashes of all annotations' ids, and of their images' ids."""

    annotations: _Shelf
    images: list[pl.DataFrame] = field(default_factory=lambda: [pl.DataFrame(schema=_IMAGES)])
    categories: list[tuple[str | None, str]] = field(default_factory=list)  # id, name
    videos: dict[str, str] = field(default_factory=dict)  # name by id
    ids: list[pl.Series] = field(default_factory=lambda: [pl.Series(dtype=pl.UInt64)])
    references: list[pl.Series] = field(default_factory=lambda: [pl.Series(dtype=pl.UInt64)])
    strangers: dict[str, tuple[int, int]] = field(default_factory=dict)  # no objects, by list: how many, the first


# From JSON to frames


def _gather(where: str, name: str, content: _Content) -> None:
    counts = dict.fromkeys(_LISTS, 0)
    with opened(where) as file:
        try:
            for key, elements in parts(file, (*_LISTS, WHOLE)):
                if key == WHOLE or (key == "annotations" and not counts[key]):
                    _check(name, key, elements[0])
                rows = range(counts[key], counts[key] + len(elements))
                counts[key] += len(elements)
                _take(key, elements, rows, content)
        except BrokenJson as error:
            raise error.told(name) from None
    if not any(counts.values()):
        raise UsageError(f"{printable(name)} is not COCO: it has no images, annotations or categories.")


def _check(name: str, key: str, first: Any) -> None:
    """Raise UsageError where a list's first element shows that this is something else."""
    members = first if isinstance(first, Mapping) else {}
    if key == WHOLE and "image_id" in members:
        raise UsageError(
            f"{printable(name)}: a list of COCO results names neither pictures nor categories: expected an object with "
            "images, annotations and categories. Put the list into the file that it was made for, as its annotations."
        )
    if key == WHOLE:
        raise UsageError(
            f"{printable(name)} is a list, not COCO: expected an object with images, annotations and categories."
        )
    for member, what in (("caption", "captions"), ("segments_info", "panoptic segments")):
        if member in members:
            raise UsageError(f"{printable(name)}: COCO {what}: no boxes or labels of objects. Leave this file out.")


def _take(key: str, elements: Sequence[Any], rows: Sequence[int], content: _Content) -> None:
    """Pack elements of the list `key`; `rows` are their numbers."""
    if set(map(type, elements)) != {dict}:
        is_object = [type(element) is dict for element in elements]
        count, first = content.strangers.get(key, (0, rows[is_object.index(False)]))
        content.strangers[key] = (count + is_object.count(False), first)
        rows = [row for row, is_one in zip(rows, is_object, strict=True) if is_one]
        elements = [element for element, is_one in zip(elements, is_object, strict=True) if is_one]
    match key:
        case "images":
            content.images.append(_images(elements, rows))
        case "categories":
            content.categories += [(_id(value.get("id")), text(value.get("name") or "")) for value in elements]
        case "videos":
            told = ((_id(value.get("id")), value.get("file_name") or value.get("name")) for value in elements)
            content.videos |= {key: picture_name(name) for key, name in told if key}
        case "annotations":
            found = _annotations(elements, rows)
            content.ids.append(found["id"].hash())
            content.references.append(found["image"].hash())
            content.annotations.put(found)


def _images(elements: Sequence[Mapping[str, Any]], rows: Sequence[int]) -> pl.DataFrame:
    names: list[Any] = [value.get("file_name") for value in elements]
    if set(map(type, names)) != {str}:
        names = [_image_name(value) for value in elements]
    frames = [value.get("frame_index") for value in elements]
    are_frames = frames.count(None) < len(frames)
    columns = {
        "id": _ids([value.get("id") for value in elements]),
        "row": rows,
        "picture": _strings(names),
        "width": _wholes([value.get("width") for value in elements]),
        "height": _wholes([value.get("height") for value in elements]),
        "frame": _wholes(frames) if are_frames else None,
        "video": _ids([value.get("video_id") for value in elements]) if are_frames else None,
    }
    slashed = pl.col("picture").str.replace_all("\\", "/", literal=True).str.strip_chars()
    named = pl.when(slashed != "").then(slashed).otherwise("image " + pl.col("id").fill_null("without an id"))
    return pl.DataFrame(columns, schema=_IMAGES).with_columns(picture=named)


def _image_name(image: Mapping[str, Any]) -> str:
    """Return the name of an image, under another key where it has to be, or the end of its address."""
    found = next((image[key] for key in _NAMES if isinstance(image.get(key), str)), None)
    address = image.get("coco_url")
    return found if found is not None else address.rpartition("/")[2] if isinstance(address, str) else ""


def _annotations(elements: Sequence[Mapping[str, Any]], rows: Sequence[int]) -> pl.DataFrame:
    is_usual = all(value.keys() <= _USUAL for value in elements)
    given = [] if is_usual else [_dict(value.get("attributes")) for value in elements]
    boxes, is_whole = _boxes(elements)
    sides = {side: pl.Series(boxes[:, at]).set(pl.Series(is_whole), None) for at, side in enumerate("abcd")}
    columns = {
        "id": _ids([value.get("id") for value in elements]),
        "row": rows,
        "image": _ids([value.get("image_id") for value in elements]),
        "category": _ids([value.get("category_id") for value in elements]),
        "expression": [text(told) if isinstance(told := own.get("expression"), str) else None for own in given] or None,
        **sides,
        "confidence": [_confidence(value, own) for value, own in zip(elements, given, strict=False)] or None,
        "attributes": _attributes(elements, boxes, is_usual),
    }
    return pl.DataFrame(columns, schema=_ANNOTATIONS)


def _dict(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _confidence(value: Mapping[str, Any], given: Mapping[str, Any]) -> float | None:
    """Return a result's score; or that which is among its attributes, as CVAT, Datumaro and we write it."""
    told = share(value.get("score"))
    key = _score_key(value, given)
    return share(given[key]) if told is None and key is not None else told


def _score_key(value: Mapping[str, Any], given: Mapping[str, Any]) -> str | None:
    """Return the attribute that is the confidence, if one is."""
    if share(value.get("score")) is not None:
        return None
    return next((key for key in ("confidence", "score") if share(given.get(key)) is not None), None)


def _boxes(elements: Sequence[Mapping[str, Any]]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return each box's numbers, (n, 4), NaN for what is none; and which labels are of the whole picture."""
    boxes = _matrix([value.get("bbox") for value in elements], 4)
    if boxes is not None:
        return boxes, np.zeros(len(elements), np.bool_)
    found = [_box(value) for value in elements]
    return (
        np.array([box or (np.nan,) * 4 for box in found], np.float64).reshape(-1, 4),
        np.array([box is None for box in found], np.bool_),
    )


def _matrix(lists: Sequence[Any], width: int) -> NDArray[np.float64] | None:
    """Return lists of `width` finite numbers as (n, width), quickly; None where one is something else."""
    if set(map(type, lists)) != {list} or set(map(len, lists)) != {width}:
        return None
    flat = list(chain.from_iterable(lists))
    if not set(map(type, flat)) <= _NUMBERS:
        return None
    try:
        found = np.array(flat, np.float64).reshape(-1, width)
    except OverflowError:
        return None
    return found if np.isfinite(found).all() else None


def _box(value: Mapping[str, Any]) -> tuple[float, ...] | None:
    """Return a box's four numbers; the bounds of its polygons where there is none; None for the whole picture."""
    box, shape = value.get("bbox"), value.get("segmentation")
    if isinstance(box, list) and len(box) == 4:
        return tuple(np.nan if isinstance(side, str) else number(side) for side in box)
    if box is None and not shape:
        return None
    if box is None and isinstance(shape, list) and all(isinstance(polygon, list) for polygon in shape):
        xs = [number(x) for polygon in shape for x in polygon[0::2]]
        ys = [number(y) for polygon in shape for y in polygon[1::2]]
        if ys and len(xs) == len(ys) and np.isfinite([*xs, *ys]).all():
            return min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)
    return (np.nan,) * 4


def _attributes(
    elements: Sequence[Mapping[str, Any]], boxes: NDArray[np.float64], is_usual: bool
) -> Sequence[str | None]:
    """Return what has no column as JSON objects; without an area and a polygon that only repeat the box."""
    areas = np.array(_floats([value.get("area") for value in elements]))
    sizes = boxes[:, 2] * boxes[:, 3]
    says_area = ~(np.abs(areas - sizes) <= _PIXEL_SHARE + 1e-6 * np.abs(sizes))
    says_shape = ~_are_corners([value.get("segmentation") for value in elements], boxes)
    if is_usual and not says_area.any() and not says_shape.any():
        ids, crowds = ([value.get(name) for value in elements] for name in ("id", "iscrowd"))
        if {*map(type, ids), *map(type, crowds)} == {int}:
            return [f'{{"id":{key},"iscrowd":{crowd}}}' for key, crowd in zip(ids, crowds, strict=True)]
    return [_told(*told) for told in zip(elements, says_area.tolist(), says_shape.tolist(), strict=True)]


def _told(value: Mapping[str, Any], says_area: bool, says_shape: bool) -> str | None:
    members = {name: value[name] for name in ("id", "iscrowd") if name in value}
    members |= {name: told for name, told in value.items() if name not in _COLUMNS}
    if value.get("score") is not None and share(value["score"]) is None:
        members["score"] = value["score"]
    if not says_area:
        members.pop("area", None)
    if not (says_shape and value.get("segmentation")):
        members.pop("segmentation", None)
    given = members.pop("attributes", None)
    if isinstance(given, dict):
        used = _score_key(value, given)
        given = {name: told for name, told in given.items() if name != used}
        members |= given if not given.keys() & members.keys() else {"attributes": given}
    elif given is not None:
        members["attributes"] = given
    return json_object(members)


def _are_corners(shapes: Sequence[Any], boxes: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Say of each segmentation whether it is one polygon that goes around the corners of its box."""
    polygons = [shape[0] if type(shape) is list and len(shape) == 1 else None for shape in shapes]
    rows: Sequence[int] = range(len(polygons))
    points = _matrix(polygons, 8)
    if points is None:
        rows = [row for row in rows if _matrix([polygons[row]], 8) is not None]
        points = np.array([polygons[row] for row in rows], np.float64)
    points = points.reshape(-1, 4, 2)
    near, far = boxes[rows, None, :2], boxes[rows, None, :2] + boxes[rows, None, 2:]
    is_near, is_far = np.abs(points - near) <= _PIXEL_SHARE, np.abs(points - far) <= _PIXEL_SHARE
    # From corner to corner one coordinate stays, and the two take turns.
    moves = is_near != np.roll(is_near, -1, axis=1)
    takes_turns = (moves[..., 0] != moves[..., 1]) & (moves == ~np.roll(moves, -1, axis=1)).all(2)
    found = np.zeros(len(shapes), np.bool_)
    found[rows] = (is_near != is_far).all((1, 2)) & takes_turns.all(1)
    return found


def _ids(values: list[Any]) -> pl.Series:
    """Return ids as texts, so that 7, 7.0 and "7" are one."""
    if set(map(type, values)) == {int} and min(values) >= -_INT64 and max(values) < _INT64:
        return pl.Series(values, dtype=pl.Int64).cast(pl.String)
    return pl.Series([_id(value) for value in values], dtype=pl.String)


def _id(value: Any) -> str | None:
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, int) and not -_INT64 <= value < 2 * _INT64:  # where `orjson` gives a float
        return str(int(number(value))) if np.isfinite(number(value)) else text(value)[:100]
    return None if value is None else text(value).strip()[:1_000]


def _strings(values: list[str]) -> pl.Series:
    try:
        return pl.Series(values, dtype=pl.String)
    except UnicodeEncodeError:  # a half of a character
        return pl.Series([text(value) for value in values], dtype=pl.String)


def _floats(values: list[Any]) -> list[float]:
    return values if set(map(type, values)) == {float} else [number(value) for value in values]


def _wholes(values: list[Any]) -> pl.Series:
    is_plain = set(map(type, values)) == {int} and min(values) >= -_INT32 and max(values) < _INT32
    return pl.Series(values if is_plain else [whole(value) for value in values], dtype=pl.Int32)


# From frames to rows


def _joined(name: str, content: _Content) -> Iterator[pl.DataFrame]:
    """Return the annotations with their images and categories, then the images without any."""
    images, by_id = _by_id(content)
    at = _places(content, by_id)
    is_again = ~pl.concat(content.ids).is_first_distinct()
    is_used = np.zeros(by_id.height, np.bool_)
    category = _Categories.of(content.categories)
    first = 0
    for chunk in content.annotations.chunks():
        here = slice(first, first + chunk.height)
        first += chunk.height
        is_used[at[here].drop_nulls()] = True
        images_here = by_id.select(
            pl.col("picture", "width", "height", "frame").gather(at[here]), image_clash=pl.col("clash").gather(at[here])
        )
        rows = chunk.hstack(images_here).with_columns(is_again=is_again[here] & chunk["id"].is_not_null())
        yield _shaped(name, rows.with_columns(**category.columns(), is_label=True).with_columns(*_judged()))
    yield from _unlabelled(name, images, by_id.filter(is_used))


def _by_id(content: _Content) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return all images, and the first of each id, both with `clash`: the names for which an id of several stands."""
    images = pl.concat(content.images, rechunk=True)
    content.images.clear()
    if images["video"].count():
        video = pl.col("video").replace_strict(content.videos, default=None, return_dtype=pl.String)
        is_frame = pl.col("frame").is_not_null() & (video != "").fill_null(False)
        images = images.with_columns(
            picture=pl.when(is_frame).then(video).otherwise("picture"), frame=pl.when(is_frame).then("frame")
        )
    images = images.drop("video").with_columns(clash=pl.lit(None, pl.String))
    if images["id"].drop_nulls().is_unique().all():
        return images, images.filter(pl.col("id").is_not_null()) if images["id"].null_count() else images
    clashes = (
        images.filter(pl.col("id").is_not_null())
        .unique(["id", "picture", "frame"], keep="first", maintain_order=True)
        .group_by("id", maintain_order=True)
        .agg(pl.len(), pl.col("picture").head(3).str.join(" and "))
        .filter(pl.col("len") > 1)
    )
    named = dict(clashes.select("id", "picture").iter_rows())
    images = images.with_columns(clash=pl.col("id").replace_strict(named, default=None, return_dtype=pl.String))
    return images, images.filter(pl.col("id").is_not_null()).unique("id", keep="first", maintain_order=True)


def _places(content: _Content, by_id: pl.DataFrame) -> pl.Series:
    """Return the row of each annotation's image in `by_id`, null where there is none."""
    keys = by_id.select(key=pl.col("id").hash()).with_row_index("at")
    wanted = pl.concat(content.references).alias("key").to_frame()
    return wanted.join(keys, on="key", how="left", maintain_order="left")["at"]


@dataclass(frozen=True)
class _Categories:
    """Names by id; the ids that stand for several; and whether they only say that something is a face."""

    names: Mapping[str, str]
    clashes: Mapping[str, str]
    are_faces: bool

    @staticmethod
    def of(told: Sequence[tuple[str | None, str]]) -> "_Categories":
        by_id: dict[str, list[str]] = {}
        for key, name in told:
            if key is not None and name not in by_id.setdefault(key, []):
                by_id[key].append(name)
        names = {key: found[0] for key, found in by_id.items()}
        clashes = {key: " and ".join(found[:3]) for key, found in by_id.items() if len(found) > 1}
        return _Categories(names, clashes, {name.strip().lower() for name in names.values()} <= _FACE)

    def columns(self) -> dict[str, pl.Expr]:
        """Return expressions: the label, whether the category is unknown, and the names of an id of several."""
        key = pl.col("category")
        name = key.replace_strict(self.names, default=None, return_dtype=pl.String)
        return {
            "label": pl.coalesce("expression", name) if self.are_faces else name,
            "is_unknown": key.is_not_null() & ~key.is_in(list(self.names)),
            "category_clash": key.replace_strict(self.clashes, default=None, return_dtype=pl.String),
        }


def _judged() -> tuple[pl.Expr, pl.Expr, pl.Expr]:
    """Return expressions: the rule that a row breaks and how, and the picture's name, which is never empty."""
    key, image, category = (pl.col(column) for column in ("id", "image", "category"))
    zeros = [pl.when(pl.col(column) == "0").then(pl.lit(f"{what} id 0")) for column, what in _ZEROS.items()]
    cases = [
        (image.is_null(), Rule.REFERENCE_NO_IMAGE, pl.lit("it names no image")),
        (pl.col("picture").is_null(), Rule.REFERENCE_NO_IMAGE, pl.format("no image has the id {}", image)),
        (pl.col("is_again"), Rule.REFERENCE_DUPLICATE_ID, pl.format("the annotation id {} was used before", key)),
        (
            pl.col("image_clash").is_not_null(),
            Rule.REFERENCE_DUPLICATE_ID,
            pl.format("the image id {} stands for {}", image, "image_clash"),
        ),
        (
            pl.col("category_clash").is_not_null(),
            Rule.REFERENCE_DUPLICATE_ID,
            pl.format("the category id {} stands for {}", category, "category_clash"),
        ),
        (pl.col("is_unknown"), Rule.REFERENCE_CATEGORY, pl.format("no category has the id {}", category)),
        (
            pl.any_horizontal(zero.is_not_null() for zero in zeros),
            Rule.REFERENCE_ZERO_ID,
            pl.concat_str(zeros, separator=", ", ignore_nulls=True),
        ),
    ]
    rule = pl.coalesce(*(pl.when(broken).then(pl.lit(name.value)) for broken, name, _ in cases))
    detail = pl.coalesce(*(pl.when(broken).then(told) for broken, _, told in cases))
    picture = pl.coalesce("picture", "image " + image, pl.lit("image without an id"))
    return rule.alias("rule"), detail.alias("detail"), picture.alias("picture")


_ZEROS = {"id": "annotation", "image": "image", "category": "category"}


def _unlabelled(name: str, images: pl.DataFrame, used: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """Return a row for each picture that no annotation names."""
    what = ["picture", "frame"]
    rest = images.join(used, on=what, how="anti", nulls_equal=True, maintain_order="left")
    rest = rest.unique(what, keep="first", maintain_order=True)
    clashes = pl.col("clash").is_not_null()
    rows = rest.with_columns(
        is_label=False,
        rule=pl.when(clashes).then(pl.lit(Rule.REFERENCE_DUPLICATE_ID.value)),
        detail=pl.when(clashes).then(pl.format("the image id {} stands for {}", "id", "clash")),
    )
    for first in range(0, rows.height, CHUNK_ROWS):
        yield _shaped(name, rows.slice(first, CHUNK_ROWS))


def _shaped(name: str, rows: pl.DataFrame) -> pl.DataFrame:
    known = {"file": pl.lit(name), **{column: pl.col(column) for column in rows.columns}}
    return rows.select(known.get(column, pl.lit(None)).cast(kind).alias(column) for column, kind in RAW.items())
