"""Label Studio: its JSON export, a list of tasks with what each annotator drew, and its JSON_MIN export, a flat list.

Boxes are in hundredths of the picture's sides. What is no rectangle gets the bounds of its shape as its box, and keeps
the shape in its attributes.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import polars as pl

from schemas.errors import UsageError
from schemas.raw import Facts, Source
from transforms.readers.json_parts import WHOLE, BrokenJson, parts, paths
from transforms.readers.rows import Options, frames, head_text, json_object, number, picture_name, share, text, whole
from transforms.storage import opened, printable

Member = Mapping[str, Any]
Sides = tuple[float | None, float | None, float | None, float | None]

WITHOUT_PICTURES = "a Label Studio project without pictures"

_PICTURES = ("image", "img", "picture", "photo", "image_url", "url", "captioning", "ocr")
"""Where a task usually names its picture; else any member that ends as pictures do."""

_EXTENSION = r"\.(?:jpe?g|png|webp|bmp|gif|tiff?|avif|heic|jfif)"
_IS_PICTURE = re.compile(_EXTENSION + r"(?:$|[?&#])|^data:image/", re.IGNORECASE)
_TELLS_PICTURES = re.compile(
    _EXTENSION + r'[?&#"]|"original_width"|"data:image/|"(?:image|img|picture|photo)"\s*:\s*"', re.I
)
_UPLOAD = re.compile(r"^/?data/upload/(?:\d+/)?")
_CHOICES = ("choices", "taxonomy")
_PLACES = frozenset({"x", "y", "width", "height", "original_width", "original_height"})
_GEOMETRY = frozenset({"x", "y", "width", "height", "rotation", "points", "vertices", "radiusX", "radiusY", "rle"})
_MINIMAL = frozenset({"id", "annotator", "annotation_id", "created_at", "updated_at", "lead_time", "agreement"})
"""The members of JSON_MIN that Label Studio adds to those of the task."""

_MINIMAL_CHOICES = ("choice", "choices", "label", "class", "category", "emotion", "expression")
_WHOLE_PICTURE: Sides = (None, None, None, None)
_NO_BOX: Sides = (math.nan, math.nan, math.nan, math.nan)


def is_project(head: bytes) -> bool:
    """Say whether this is one of Label Studio's JSON exports, of pictures or of anything else."""
    found = paths(head)
    drawn = {f"item.{name}.item.result" for name in ("annotations", "completions", "predictions")}
    is_min = {"item.annotator", "item.lead_time"} <= found or "item.annotation_id" in found
    is_min |= any(path.count(".") == 3 and path.endswith("labels") and path.split(".")[2] == "item" for path in found)
    return bool(found & drawn) or ("item.data" in found and "item.annotations" in found) or is_min


def is_one(head: bytes, name: str) -> bool:
    """Say whether this is a Label Studio export of labelled pictures."""
    return is_project(head) and _TELLS_PICTURES.search(head_text(head)) is not None


def read(source: Source, facts: Facts, options: Options) -> Iterator[pl.DataFrame]:
    """Return a row for each label of each shape and annotator, and one for each picture without any.

    Raises UsageError for broken JSON and for projects without pictures.
    """
    facts.corners, facts.unit = "xywh", "percent"
    for where, name in zip(source.files, source.names, strict=True):
        yield from frames(_rows(where, name, facts))


def _rows(where: str, name: str, facts: Facts) -> Iterator[tuple[Any, ...]]:
    tasks = others = 0
    with opened(where) as file:
        try:
            for _, some in parts(file, [WHOLE]):
                for row, task in enumerate(some, tasks):
                    picture = _picture(task) if isinstance(task, dict) else ""
                    others += not picture
                    if picture:
                        yield from _of_task(name, row, picture, task, facts)
                tasks += len(some)
        except BrokenJson as error:
            raise error.told(name) from None
    if others == tasks:
        raise UsageError(
            f"{printable(name)}: {WITHOUT_PICTURES}: expected a list of tasks whose data name an image. Leave it out."
        )
    if others:
        facts.failures.append((name, "no_picture", f"{others:,} of {tasks:,} tasks name no picture"))


def _of_task(name: str, row: int, picture: str, task: Member, facts: Facts) -> Iterator[tuple[Any, ...]]:
    labels = list(_minimal(task) if not isinstance(task.get("data"), dict) else _of_people(task))
    facts.exclusive &= all(label.is_exclusive for label in labels)
    size = next((label.size for label in labels if label.size != (None, None)), (None, None))
    if not labels:
        yield (name, row, picture, None, None, None, None, False, None, *_WHOLE_PICTURE, None, None, None, None)
    for label in labels:
        yield (
            *(name, row, picture, *(label.size if label.size != (None, None) else size), None, None, True),
            *(label.label, *label.sides, label.confidence, json_object(label.attributes), None, None),
        )


@dataclass(frozen=True)
class _Label:
    """One label as it was drawn. `sides` are x, y, w, h in hundredths."""

    label: str | None
    sides: Sides
    size: tuple[int | None, int | None]
    confidence: float | None
    attributes: Member
    is_exclusive: bool = True


# Pictures


def _picture(task: Member) -> str:
    """Return the name of a task's picture; empty where it has none."""
    data = task.get("data")
    key = _picture_key(data if isinstance(data, dict) else task)
    told = (data if isinstance(data, dict) else task).get(key) if key else None
    if not isinstance(told, str):
        return ""
    return f"task {text(task.get('id'))[:100]}" if told.startswith("data:") else picture_path(told)


def _picture_key(data: Member) -> str | None:
    usual = next((key for key in _PICTURES if isinstance(data.get(key), str) and _is_picture(data[key], key)), None)
    return usual or next(
        (key for key, told in data.items() if isinstance(told, str) and _IS_PICTURE.search(told)), None
    )


def _is_picture(told: str, key: str) -> bool:
    """Say whether a value names a picture; under names that mean pictures it may go without an extension."""
    return bool(told) and (_IS_PICTURE.search(told) is not None or key in ("image", "img", "picture", "photo"))


def picture_path(told: str) -> str:
    """Return the name of a picture behind an address: without host, bucket, or the folder of uploads.

    >>> picture_path("/data/local-files/?d=faces/a%20b.jpg"), picture_path("s3://bucket/faces/a.jpg")
    ('faces/a b.jpg', 'faces/a.jpg')
    """
    try:
        address = urlsplit(told.strip())
    except ValueError:  # as in "http://["
        return picture_name(told)
    if "local-files" in address.path and (local := parse_qs(address.query).get("d")):
        return picture_name(local[0]).lstrip("/")
    if len(address.scheme) < 2 and not address.netloc and not told.startswith("/data/"):  # a path, of Windows too
        return picture_name(told)
    return picture_name(unquote(_UPLOAD.sub("", address.path))).lstrip("/") or picture_name(told)


# Tasks


def _of_people(task: Member) -> Iterator[_Label]:
    """Return what people drew; what models predicted only where no person was asked."""
    drawn = _dicts(task.get("annotations")) or _dicts(task.get("completions"))
    subjects = {key for key in task["data"] if key != _picture_key(task["data"])}
    for annotation in drawn:
        if not annotation.get("was_cancelled"):
            who = annotation.get("completed_by")
            shared = {"completed_by": who.get("id", who.get("email")) if isinstance(who, dict) else who}
            yield from _of_results(_about_picture(annotation, subjects), {} if who is None else shared)
    if not drawn:
        for prediction in _dicts(task.get("predictions")):
            version = prediction.get("model_version")
            shared = {"model": version} if version else {}
            yield from _of_results(
                _about_picture(prediction, subjects), shared, share(prediction.get("score")), is_model=True
            )


def _about_picture(drawn: Member, subjects: set[str]) -> list[Member]:
    """Return the results that are not about another member of the task, such as its text."""
    return [result for result in _dicts(drawn.get("result")) if str(result.get("to_name")).lstrip("$") not in subjects]


@dataclass
class _Region:
    """The results that share an id: a shape, its labels, and what else was said of it."""

    result: Member = field(default_factory=dict)
    value: Member = field(default_factory=dict)
    labels: list[str] = field(default_factory=list)
    choices: list[str] = field(default_factory=list)
    told: dict[str, Any] = field(default_factory=dict)


def _of_results(
    results: Sequence[Member], shared: Member, score: float | None = None, is_model: bool = False
) -> Iterator[_Label]:
    """Return the labels of one annotator: those of each shape, then those of the whole picture."""
    regions: dict[str, _Region] = {}
    for at, result in enumerate(results):
        value, kind = _dict(result.get("value")), str(result.get("type"))
        key = str(result.get("id", f"result {at}"))
        place = _place(value)
        if place and key in regions and _place(regions[key].value) not in (place, {}):  # an id that was used twice
            key = f"{key} {at}"
        region = regions.setdefault(key, _Region())
        labels = _words(value.get(kind))
        if kind in _CHOICES:
            region.choices += labels
        elif kind.endswith("labels"):
            region.labels += labels
        elif (said := value.get("text" if kind == "textarea" else kind)) is not None:
            region.told[str(result.get("from_name", kind))] = said
        if place and (not region.value or kind.endswith("labels")):
            region.result, region.value = result, value
        elif not region.result:
            region.result = result
    for region in regions.values():
        yield from _of_region(region, shared, score, is_model)


def _place(value: Member) -> Member:
    return {key: told for key, told in value.items() if key in _GEOMETRY}


def _of_region(region: _Region, shared: Member, score: float | None, is_model: bool) -> Iterator[_Label]:
    result, own = region.result, share(region.result.get("score"))
    size = whole(result.get("original_width")), whole(result.get("original_height"))
    members = {name: result[name] for name in ("id", "from_name") if result.get(name)}
    members |= shared
    if result.get("image_rotation"):
        members["image_rotation"] = result["image_rotation"]
    if own is not None and not is_model:
        members["score"] = own
    confidence = (score if own is None else own) if is_model else None
    members |= _shape(region.value) | region.told
    if region.labels and region.choices:
        members["choices"] = region.choices
    labels: list[str | None] = [*(region.labels or region.choices)]
    if not labels and region.value:
        labels = [None]
    sides = _bounds(region.value, size) if region.value else _WHOLE_PICTURE
    for label in labels:
        yield _Label(label, sides, size, confidence, members, is_exclusive=len(labels) == 1)


def _words(told: Any) -> list[str]:
    """Return the labels of a result: a word, a list of words, or of paths in a tree of words."""
    if isinstance(told, str):
        return [text(told)]
    found = told if isinstance(told, list) else []
    return ["/".join(map(text, word)) if isinstance(word, list) else text(word) for word in found]


# JSON_MIN


def _minimal(item: Member) -> Iterator[_Label]:
    who = item.get("annotator")
    shared: Member = {} if who is None else {"completed_by": who}
    for key, told in item.items():
        if key in _MINIMAL:
            continue
        if isinstance(told, list) and told and all(isinstance(value, dict) for value in told):
            for value in told:
                yield from _minimal_shape(value, shared)
        elif isinstance(told, dict) and "choices" in told:
            words = _words(told["choices"])
            for word in words:
                yield _Label(word, _WHOLE_PICTURE, (None, None), None, shared, is_exclusive=len(words) == 1)
        elif isinstance(told, str) and key in _MINIMAL_CHOICES:
            yield _Label(text(told), _WHOLE_PICTURE, (None, None), None, shared)


def _minimal_shape(value: Member, shared: Member) -> Iterator[_Label]:
    kind = next((key for key in value if key.endswith("labels")), "")
    size = whole(value.get("original_width")), whole(value.get("original_height"))
    if kind or value.keys() & {"x", "points"}:
        labels: list[str | None] = [*_words(value.get(kind))]
        for label in labels or [None]:
            yield _Label(label, _bounds(value, size), size, None, {**shared, **_shape(value)})


# Shapes


def _shape(value: Member) -> dict[str, Any]:
    """Return what of a shape its box does not say."""
    more = {key: told for key, told in value.items() if key not in _PLACES and not key.endswith("labels")}
    more = {key: told for key, told in more.items() if key not in _CHOICES and told is not None}
    if not more.get("rotation"):
        more.pop("rotation", None)
    if more.get("rotation") or value.keys() & {"radiusX", "points", "vertices"}:
        more |= {key: value[key] for key in ("x", "y", "width", "height") if key in value}
    elif not value.keys() >= {"width", "height"}:  # a point
        more |= {key: value[key] for key in ("width",) if key in value}
    return more


def _bounds(value: Member, size: tuple[int | None, int | None]) -> Sides:
    """Return the box around a shape: x, y, w, h in hundredths; NaN where it cannot be told."""
    x, y, w, h = (number(value.get(name)) for name in ("x", "y", "width", "height"))
    turn = number(value.get("rotation") or 0)
    points = next((value[key] for key in ("points", "vertices") if isinstance(value.get(key), list)), None)
    if points is not None:
        return _around([_point(point) for point in points])
    if "radiusX" in value:
        return _ellipse((x, y), (number(value.get("radiusX")), number(value.get("radiusY"))), turn, size)
    if "rle" in value:
        return _NO_BOX
    if math.isnan(h) and "height" not in value:  # a point, whose width is how large it is drawn
        return x, y, 0.0, 0.0
    if turn % 360 == 0:
        return x, y, w, h
    return _turned([(0.0, 0.0), (w, 0.0), (w, h), (0.0, h)], (x, y), turn, size)


def _point(point: Any) -> tuple[float, float]:
    if isinstance(point, list) and len(point) == 2:
        return number(point[0]), number(point[1])
    members = _dict(point)
    return number(members.get("x")), number(members.get("y"))


def _around(points: Sequence[tuple[float, float]]) -> Sides:
    if not points or any(map(math.isnan, (side for point in points for side in point))):
        return _NO_BOX
    xs, ys = zip(*points, strict=True)
    return min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)


def _turned(
    points: Sequence[tuple[float, float]],
    origin: tuple[float, float],
    degrees: float,
    size: tuple[int | None, int | None],
) -> Sides:
    """Return the box around points that are turned clockwise about `origin`; they are relative to it.

    A turn is one in pixels, so the picture's sides must be known.
    """
    width, height = size
    if not width or not height:
        return _NO_BOX
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    ratio = height / width
    return _around([(origin[0] + x * cos - y * ratio * sin, origin[1] + x / ratio * sin + y * cos) for x, y in points])


def _ellipse(
    middle: tuple[float, float],
    radii: tuple[float, float],
    degrees: float,
    size: tuple[int | None, int | None],
) -> Sides:
    width, height = size if degrees % 360 else (1, 1)
    if not width or not height:
        return _NO_BOX
    cos, sin, ratio = math.cos(math.radians(degrees)), math.sin(math.radians(degrees)), height / width
    across = math.hypot(radii[0] * cos, radii[1] * ratio * sin)
    down = math.hypot(radii[0] / ratio * sin, radii[1] * cos)
    return _around([(middle[0] - across, middle[1] - down), (middle[0] + across, middle[1] + down)])


def _dict(value: Any) -> Member:
    return value if isinstance(value, dict) else {}


def _dicts(value: Any) -> list[Member]:
    return [member for member in value if isinstance(member, dict)] if isinstance(value, list) else []
