"""Pascal VOC: an XML file a picture.

    Annotations/NAME.xml            size and objects, also for a picture without a face
    ImageSets/Main/default.txt      the pictures' names, one a line; --split names another file, or several
    JPEGImages/NAME.jpg             the pictures, only where they were asked for
    labelmap.txt                    the vocabulary, as Datumaro and CVAT read it
    sources.csv                     which file each picture is

Coordinates are those of the VOC devkit: pixels counted from 1, the last one included. So a box from 0 to 100 is 1 to
100, and a whole picture of 640 pixels 1 to 640. supervision, Detectron2 and MMDetection read it back to the same box;
readers that take the numbers as they are (Datumaro, CVAT, torchvision) see it begin one pixel late. What has no place
in VOC is in `attributes`, as CVAT writes them; what came with a label is among them, but for what VOC has a place for.
A box that ends at the picture's edge is `truncated`, as in LabelImg. A label of the whole picture is a box around it,
because detectors' loaders fail without one.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any
from xml.etree import ElementTree

import polars as pl

from transforms.copies import Copies
from transforms.encoding import CategoryLayout, Parts, Written, box_edges, category_names, given_texts
from transforms.folders import Folder
from transforms.per_picture import Layout, write_each
from transforms.splits import Sides

_LAYOUT = Layout("VOC", "JPEGImages", "Annotations/{}.xml", "ImageSets/Main/{}.txt", pl.col("stem"))

_NUMBERS = ("confidence", "detection_score", "yaw", "pitch", "roll")
_TEXTS = ("origin", "annotation_id")
_OURS = frozenset({"expression", *_NUMBERS, *_TEXTS})
_PLACES = ("folder", "pose", "truncated", "difficult")
"""Members that came with a label and that VOC has a place for, or, as the folder, that are told anew."""

_NOT_XML = re.compile(r"[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def write_voc(
    parts: Parts,
    folder: Folder,
    *,
    layout: CategoryLayout,
    categories: Sequence[str],
    roots: Mapping[int, str],
    sides: Sides,
    copies: Copies | None,
) -> Written:
    """Write annotations, lists and, with `copies`, pictures; `sides` name the lists of pictures.

    `layout`, `categories` and `roots` are as for `write_coco`. Raises RunError.
    """
    folder.write("labelmap.txt", _label_map(category_names(layout, categories)).encode())
    return write_each(
        parts,
        folder,
        _LAYOUT,
        label=_object(layout),
        render=_xml,
        categories=categories,
        roots=roots,
        sides=sides,
        copies=copies,
    )


def _object(layout: CategoryLayout) -> pl.Expr:
    edges = box_edges()
    ends: dict[str, pl.Expr] = {}
    for low, high, side, name in (("left", "right", "width", "x"), ("top", "bottom", "height", "y")):
        most = pl.col(side).cast(pl.Int64)
        # At least two pixels where the picture has them: readers that subtract the ends would see none of one.
        first = (edges[low].round().cast(pl.Int64) + 1).clip(1, pl.max_horizontal(most - 1, 1))
        ends |= {f"{name}min": first, f"{name}max": edges[high].round().cast(pl.Int64).clip(first + 1, None)}
        ends[f"{name}max"] = pl.min_horizontal(ends[f"{name}max"], most)
    touches = pl.any_horizontal(
        ends["xmin"] == 1, ends["ymin"] == 1, ends["xmax"] == pl.col("width"), ends["ymax"] == pl.col("height")
    )
    named = pl.lit("face") if layout == "face" else pl.col("label")
    numbers = [pl.when(pl.col(name).is_finite()).then(pl.col(name).cast(pl.String)).alias(name) for name in _NUMBERS]
    expression = [pl.col("label").alias("expression")] if layout == "face" else []
    return pl.struct(
        named.alias("name"),
        touches.cast(pl.Int8).alias("truncated"),
        pl.struct([ends[end].alias(end) for end in ("xmin", "ymin", "xmax", "ymax")]).alias("bndbox"),
        pl.struct(*expression, *numbers, *_TEXTS).alias("attributes"),
        pl.col("attributes").alias("given"),
    )


def _xml(picture: Mapping[str, Any], objects: Sequence[Mapping[str, Any]]) -> bytes:
    root = ElementTree.Element("annotation")
    _add(root, folder="JPEGImages", filename=picture["picture"])
    _add(ElementTree.SubElement(root, "source"), database="labelstream")
    _add(ElementTree.SubElement(root, "size"), width=picture["width"], height=picture["height"], depth=3)
    _add(root, segmented=0)
    for told in objects:
        given = given_texts(told["given"], _OURS)
        each = ElementTree.SubElement(root, "object")
        _add(each, name=told["name"], pose=given.get("pose", "Unspecified"))
        _add(each, **{name: _flag(given.get(name), told.get(name, 0)) for name in ("truncated", "difficult")})
        _add(ElementTree.SubElement(each, "bndbox"), **told["bndbox"])
        attributes = ElementTree.SubElement(each, "attributes")
        for name, value in (told["attributes"] | given).items():
            if value is not None and name not in _PLACES:
                _add(ElementTree.SubElement(attributes, "attribute"), name=name, value=value)
    ElementTree.indent(root, "\t")
    return bytes(ElementTree.tostring(root, encoding="utf-8")) + b"\n"


def _flag(given: str | None, otherwise: int) -> int:
    return {"0": 0, "1": 1, "false": 0, "true": 1}.get(str(given).lower(), otherwise)


def _add(parent: ElementTree.Element, **texts: Any) -> None:
    for tag, value in texts.items():
        # XML has no way to write some characters, not even escaped.
        ElementTree.SubElement(parent, tag).text = _NOT_XML.sub("\ufffd", str(value))


def _label_map(names: Sequence[str]) -> str:
    return "# label:color_rgb:parts:actions\n" + "".join(f"{name}:::\n" for name in names)
