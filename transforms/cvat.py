"""CVAT for images 1.1: one XML file that CVAT imports into a task with the pictures, and that Datumaro reads.

Boxes are in pixels from 0, in hundredths; a label of the whole picture is a tag. `source` is `auto` where a model gave
the label and `manual` otherwise. The confidence is an attribute, and so is what came with a label, where CVAT has no
place for it. A picture of unknown size is left out and counted; a quarantined one has no labels.

CVAT drops attributes that a task's labels do not declare, and shows those that they do, one by one. So the first
MOST_NAMES names are declared; what came under others is together in `attributes`, as JSON.
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import BinaryIO

import polars as pl

from transforms.encoding import (
    FLAT,
    CategoryLayout,
    Parts,
    Written,
    box_edges,
    category_names,
    chunks,
    given_texts,
    joined,
    labels_of,
    named,
    shown,
    sized,
    xml_of,
    xml_text,
)
from transforms.names import FileNames, unique_names

MOST_NAMES = 50
"""Most attributes that are declared beside ours."""

_OURS = frozenset({"expression", "confidence", "attributes"})
_WHOLE = re.compile(r"-?[0-9]{1,9}")
_PLACES = {
    "source": re.compile("auto|semi-auto|manual|file"),
    "occluded": re.compile("[01]"),
    "z_order": _WHOLE,
    "group_id": _WHOLE,
    "rotation": re.compile(r"-?[0-9]{1,9}(\.[0-9]{1,18})?"),
}
"""What came with a label and has a place in its element, if it is such a text."""

_LABEL = """\
        <label>
          <name>{name}</name>
          <attributes>
{attributes}
          </attributes>
        </label>
"""
_ATTRIBUTE = (
    "            <attribute><name>{name}</name><mutable>False</mutable><input_type>text</input_type>"
    "<default_value></default_value><values></values></attribute>"
)
_HEAD = """\
<?xml version="1.0" encoding="utf-8"?>
<annotations>
  <version>1.1</version>
  <meta>
    <task>
      <name>labelstream</name>
      <size>{size}</size>
      <mode>annotation</mode>
      <overlap>0</overlap>
      <labels>
{labels}      </labels>
    </task>
  </meta>
"""


def write_cvat(
    parts: Parts,
    out: BinaryIO,
    *,
    layout: CategoryLayout,
    categories: Sequence[str],
    roots: Mapping[int, str],
    names: FileNames | None = None,
) -> Written:
    """Write the parts as CVAT for images; hold one part in memory at a time.

    The arguments are as for `write_coco`. Raises RunError for a label that is no category.
    """
    told = names or unique_names(parts, roots)
    declared, has_more = _names(parts)
    own = ["confidence"] + ["expression"] * (layout == "face") + ["attributes"] * has_more
    size = sum(sized(part.images).height for part in parts)
    out.write(_head(category_names(layout, categories), [*own, *declared], size).encode())
    images = annotations = left_out = unnamed = 0
    for part in parts:
        pictures = sized(part.images).with_row_index("number", images)
        found = labels_of(part, pictures.select("image_id", "outcome", "width", "height"), categories, "CVAT")
        rows = named(found)
        shapes = rows.with_columns(_told(rows["attributes"], declared)).select("image_id", shape=_shape(layout))
        own_shapes = shapes.group_by("image_id").agg(pl.col("shape").str.join())
        called = told.of(pictures) if isinstance(told, FileNames) else pictures.with_columns(picture=told)
        for chunk in chunks(called.join(own_shapes, on="image_id", how="left", maintain_order="left")):
            out.write(joined(chunk.select(_image()).to_series(), ""))
        images += pictures.height
        annotations += rows.height
        left_out += shown(part.images).height - pictures.height
        unnamed += found.height - rows.height
    out.write(b"</annotations>\n")
    return Written(images, annotations, left_out, unnamed)


def _head(labels: Sequence[str], attributes: Sequence[str], size: int) -> str:
    told = "\n".join(_ATTRIBUTE.format(name=xml_of(name)) for name in attributes)
    return _HEAD.format(size=size, labels="".join(_LABEL.format(name=xml_of(name), attributes=told) for name in labels))


def _image() -> pl.Expr:
    return pl.format(
        '  <image id="{}" name="{}" width="{}" height="{}">\n{}  </image>\n',
        *("number", xml_text(pl.col("picture")), "width", "height", pl.col("shape").fill_null("")),
    )


def _shape(layout: CategoryLayout) -> pl.Expr:
    """Return an annotation's element; `places`, `source` and `more` are what came with it."""
    edges = box_edges()
    label = pl.lit("face") if layout == "face" else xml_text(pl.col("label"))
    source = pl.coalesce(
        "source", pl.when(pl.col("origin") == "model").then(pl.lit("auto")).otherwise(pl.lit("manual"))
    )
    box = pl.format(
        'box label="{}" source="{}"{} xtl="{}" ytl="{}" xbr="{}" ybr="{}"',
        *(label, source, pl.col("places").fill_null(' occluded="0" z_order="0"')),
        *(edges[name].round(2) for name in ("left", "top", "right", "bottom")),
    )
    tag = pl.format('tag label="{}" source="{}"', label, source)
    confidence = pl.when(pl.col("confidence").is_finite()).then(pl.col("confidence"))
    attributes = [_attribute("confidence", confidence)]
    if layout == "face":
        attributes.append(_attribute("expression", xml_text(pl.col("label"))))
    inner = pl.concat_str(*attributes, "more", ignore_nulls=True)
    is_tag = pl.col("bbox_x").is_null()
    return pl.format(
        "    <{}>\n{}    </{}>\n",
        pl.when(is_tag).then(tag).otherwise(box),
        inner,
        pl.when(is_tag).then(pl.lit("tag")).otherwise(pl.lit("box")),
    )


def _attribute(name: str, value: pl.Expr) -> pl.Expr:
    return pl.format(f'      <attribute name="{name}">{{}}</attribute>\n', value)


def _names(parts: Parts) -> tuple[list[str], bool]:
    """Return the names of attributes that came with labels, in their order; and whether there are more of them."""
    names: dict[str, None] = {}
    for part in parts:
        texts = part.annotations["attributes"].drop_nulls()
        alike = texts.zip_with(~texts.str.contains(FLAT), texts.str.replace_all('":-?[0-9.]+', '":0'))
        for text in alike.unique(maintain_order=True):  # few, where thousands differ by a number
            names |= dict.fromkeys(_parted(text)[1])
            if len(names) > MOST_NAMES:
                return list(names)[:MOST_NAMES], True
    return list(names), False


def _parted(text: str) -> tuple[dict[str, str], dict[str, str]]:
    """Return what came with a label: what has a place in its element, and the rest."""
    told = given_texts(text, _OURS)
    placed = {name: told[name] for name, fit in _PLACES.items() if fit.fullmatch(told.get(name, ""))}
    return placed, {name: value for name, value in told.items() if name not in placed}


def _told(texts: pl.Series, declared: Sequence[str]) -> list[pl.Series]:
    """Return `source`, `places` and `more` for each of the attributes that came with labels."""
    known = {text: _written(text, declared) for text in texts.drop_nulls().unique()}
    columns = zip(*(known.get(text, (None, None, None)) for text in texts), strict=True) if len(texts) else ((),) * 3
    return [
        pl.Series(name, column, dtype=pl.String)
        for name, column in zip(("source", "places", "more"), columns, strict=True)
    ]


def _written(text: str, declared: Sequence[str]) -> tuple[str | None, str, str]:
    placed, rest = _parted(text)
    source = placed.pop("source", None)
    places = {"occluded": "0", "z_order": "0"} | placed
    others = {name: value for name, value in rest.items() if name not in declared}
    told = {name: value for name, value in rest.items() if name in declared}
    if others:
        told["attributes"] = json.dumps(others, ensure_ascii=False)
    return (
        source,
        "".join(f' {name}="{value}"' for name, value in places.items()),
        "".join(
            f'      <attribute name="{xml_of(name)}">{xml_of(value)}</attribute>\n' for name, value in told.items()
        ),
    )
