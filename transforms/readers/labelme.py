"""LabelMe: the XML of its web tool and the JSON of its desktop tool, a file a picture.

A shape becomes the box around it; its points are kept among the attributes. The pictures of the web tool lie in
folders, and their names say so; those of the desktop tool are told relative to their file.
"""

import json
import math
import posixpath
import re
from collections.abc import Iterator
from typing import Any
from xml.etree.ElementTree import Element

import polars as pl

from schemas.errors import ItemError
from schemas.raw import Facts, Source
from transforms.readers.rows import (
    Options,
    decoded,
    each_file,
    frames,
    head_text,
    json_object,
    number,
    picture_name,
    share,
    text,
    whole,
)
from transforms.readers.shapes import NO_BOX, Box, bounds
from transforms.readers.voc import LABELME_SIGNS
from transforms.readers.xml import parsed, root_tag, value_of
from transforms.storage import opened, printable, read_bytes

MAX_JSON_BYTES = 256 * 2**20
"""Largest file of the desktop tool: it may hold the picture itself."""

MAX_SHAPES_BYTES = 16 * 2**20
"""Largest such file without its picture; as Python objects the worst takes 400 MB."""

_IMAGE = re.compile(rb'"imageData"\s*:\s*"[^"\\]*"')
_JSON_SIGNS = (
    ('"shapes"', '"imagePath"'),
    ('"shapes"', '"imageData"'),
    ('"shapes"', '"shape_type"'),
    ('"imageData"', '"flags"'),  # keys in order of the alphabet: the picture comes before the shapes
    ('"imageData"', '"imageHeight"'),
)
_TOLD_XML = frozenset({"name", "deleted", "polygon"})
_TOLD_JSON = frozenset({"label", "points", "score"})


def is_one(head: bytes, name: str) -> bool:
    """Tell whether a file that begins so is one of LabelMe's."""
    if root_tag(head) == "annotation":
        told = head_text(head)
        return "<bndbox>" not in told and any(sign in told for sign in LABELME_SIGNS)
    if not head.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"{"):
        return False
    told = head_text(head)
    return any(all(sign in told for sign in signs) for signs in _JSON_SIGNS)


def read(source: Source, facts: Facts, options: Options) -> Iterator[pl.DataFrame]:
    """Return a row a shape, and one for a picture without any; files that cannot be read are failures."""
    facts.corners, facts.unit = "xyxy", "pixels"
    return frames(_rows(source, facts))


def _rows(source: Source, facts: Facts) -> Iterator[tuple[Any, ...]]:
    for path, name in each_file(source):
        try:
            rows = _xml(parsed(path), name) if _is_xml(path) else _json(_told(path), name)
        except ItemError as error:
            facts.failures.append((name, error.error, str(error)))
            continue
        yield from rows


def _is_xml(path: str) -> bool:
    with opened(path) as file:
        return root_tag(file.read(1 << 12)) is not None


# The web tool


def _xml(root: Element, file: str) -> Iterator[tuple[Any, ...]]:
    folder, stem = picture_name(root.findtext("folder")), posixpath.basename(file).rpartition(".")[0]
    picture = posixpath.join(folder, picture_name(root.findtext("filename")) or stem)
    size = (whole(root.findtext("imagesize/ncols")), whole(root.findtext("imagesize/nrows")))
    is_empty = True
    for at, found in enumerate(root.iterfind("object")):
        if (found.findtext("deleted") or "0").strip() != "0":
            continue
        is_empty = False
        attributes: dict[str, object] = {}
        for child in found:
            if child.tag not in _TOLD_XML and (value := _without_blanks(value_of(child))):
                attributes[child.tag] = value
        box = NO_BOX
        if (polygon := found.find("polygon")) is not None:
            xs, ys = ([number(point.findtext(axis)) for point in polygon.iterfind("pt")] for axis in "xy")
            box = bounds(xs, ys)
            attributes |= {"username": polygon.findtext("username") or "", "points": [*zip(xs, ys, strict=True)]}
        elif (segment := found.find("segm/box")) is not None:
            left, top, right, bottom = [number(segment.findtext(corner)) for corner in ("xmin", "ymin", "xmax", "ymax")]
            box = (left, top, right, bottom)
        yield _row(file, at, picture, size, found.findtext("name"), box, None, attributes)
    if is_empty:
        yield _entry(file, picture, size, {})


def _without_blanks(value: object) -> object:
    return {name: each for name, each in value.items() if each} if isinstance(value, dict) else value


# The desktop tool


def _told(path: str) -> dict[str, Any]:
    """Return what a file says beside the picture. Raises ItemError."""
    data = _IMAGE.sub(b'"imageData":null', read_bytes(path, MAX_JSON_BYTES))
    if not data.strip():
        raise ItemError("empty", f"{printable(path)} is empty.")
    if len(data) > MAX_SHAPES_BYTES:
        raise ItemError("too_large", f"{printable(path)} has {len(data):,} bytes of shapes: split it.")
    try:
        told = json.loads(decoded(data))
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise ItemError("broken_json", f"{printable(path)}, {where}: {error.msg}.") from None
    except (ValueError, RecursionError) as error:  # a number of many digits; brackets in brackets
        raise ItemError("broken_json", f"{printable(path)}: {error}.") from None
    if not isinstance(told, dict) or not isinstance(told.get("shapes"), list):
        raise ItemError("broken_json", f"{printable(path)}: expected an object with a list of shapes.")
    return told


def _json(told: dict[str, Any], file: str) -> Iterator[tuple[Any, ...]]:
    picture = _beside(file, picture_name(told.get("imagePath")))
    size = (whole(told.get("imageWidth")), whole(told.get("imageHeight")))
    kept = {"image_flags": told["flags"]} if told.get("flags") else {}
    for at, shape in enumerate(told["shapes"]):
        shape = shape if isinstance(shape, dict) else {}
        attributes = kept | {name: value for name, value in shape.items() if name not in _TOLD_JSON and value}
        points = shape.get("points")
        kind = shape.get("shape_type") or "polygon"
        if kind != "rectangle" and points:
            attributes["points"] = points
        label = shape.get("label")
        box, confidence = _around(kind, points), share(shape.get("score"))
        yield _row(file, at, picture, size, None if label is None else text(label), box, confidence, attributes)
    if not told["shapes"]:
        yield _entry(file, picture, size, kept)


def _beside(file: str, path: str) -> str:
    """Return the name of a picture told from its file: names repeat in folders. What lies above all stays as told."""
    if re.match("[A-Za-z]:/", path):
        return path
    inside = posixpath.normpath(
        posixpath.join(posixpath.dirname(file), path or posixpath.basename(file).rpartition(".")[0])
    )
    return path if inside.startswith("../") else inside


def _around(kind: object, points: object) -> Box:
    pairs = [point if isinstance(point, list) and len(point) == 2 else (None, None) for point in _list(points)]
    xs, ys = [number(x) for x, _ in pairs], [number(y) for _, y in pairs]
    if kind == "circle" and len(pairs) == 2:  # its middle and a point of it
        radius = math.dist((xs[0], ys[0]), (xs[1], ys[1]))
        xs, ys = [xs[0] - radius, xs[0] + radius], [ys[0] - radius, ys[0] + radius]
    return bounds(xs, ys)


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


# Both


def _row(
    file: str,
    at: int,
    picture: str,
    size: tuple[int | None, int | None],
    label: str | None,
    box: Box,
    confidence: float | None,
    attributes: dict[str, Any],
) -> tuple[Any, ...]:
    named = label if label and label.strip() else None
    told = (confidence, json_object(attributes), None, None)
    return (file, at, picture, *size, None, None, True, named, *box, *told)


def _entry(file: str, picture: str, size: tuple[int | None, int | None], attributes: dict[str, Any]) -> tuple[Any, ...]:
    return (file, 0, picture, *size, None, None, False, None, *NO_BOX, None, json_object(attributes), None, None)
