"""Pascal VOC: an XML file a picture.

Boxes are read as they stand. The VOC devkit counts pixels from 1 and includes the last one; nearly all other tools
write corners counted from 0, and a file does not say which it has. Only what `transforms/voc.py` wrote is known to
count from 1: it names itself as the database, and gets its own boxes back.
"""

from collections.abc import Iterator
from typing import Any
from xml.etree.ElementTree import Element

import polars as pl

from schemas.errors import ItemError
from schemas.raw import Facts, Source
from transforms.readers.rows import (
    Options,
    Row,
    each_file,
    frames,
    head_text,
    json_object,
    number,
    picture_name,
    share,
    whole,
)
from transforms.readers.xml import parsed, root_tag, value_of

LABELME_SIGNS = ("<imagesize>", "<sourceAnnotation>", "<deleted>", "<segm>")
"""What LabelMe's files hold and VOC's do not; both begin with `annotation`."""

_CORNERS = ("xmin", "ymin", "xmax", "ymax")
_CONFIDENCE = ("confidence", "score")
_OWN = "labelstream"
_FACE = frozenset({"face", "person"})
"""Names of the thing and not of its expression: then the attribute `expression` is the label."""


def is_one(head: bytes, name: str) -> bool:
    """Tell whether a file that begins so is Pascal VOC."""
    return root_tag(head) == "annotation" and not any(sign in head_text(head) for sign in LABELME_SIGNS)


def read(source: Source, facts: Facts, options: Options) -> Iterator[pl.DataFrame]:
    """Return a row an object, and one for a picture without any; files that cannot be read are failures."""
    facts.corners, facts.unit = "xyxy", "pixels"
    return frames(_rows(source, facts))


def _rows(source: Source, facts: Facts) -> Iterator[tuple[Any, ...]]:
    for path, name in each_file(source):
        try:
            root = parsed(path)
        except ItemError as error:
            facts.failures.append((name, error.error, str(error)))
            continue
        yield from _picture(root, name)


def _picture(root: Element, file: str) -> Iterator[tuple[Any, ...]]:
    stem = file.rpartition("/")[2].rpartition(".")[0]
    picture = picture_name(root.findtext("filename")) or stem
    width, height = (whole(root.findtext(f"size/{side}")) for side in ("width", "height"))
    folder = (root.findtext("folder") or "").strip()
    kept = {"folder": folder} if folder else {}
    first = 1 if root.findtext("source/database") == _OWN else 0
    objects = root.findall("object")
    for at, found in enumerate(objects):
        attributes = kept | _attributes(found)
        confidence = None
        for sure in _CONFIDENCE:
            if sure in attributes and confidence is None and (confidence := share(attributes[sure])) is not None:
                del attributes[sure]
        label = found.findtext("name") or ""
        if label.strip().lower() in _FACE and isinstance(expression := attributes.get("expression"), str):
            label = expression
        told = (confidence, json_object(attributes), None, None)
        named = label if label.strip() else None
        yield (file, at, picture, width, height, None, None, True, named, *_box(found.find("bndbox"), first), *told)
    if not objects:
        yield Row(file, 0, picture, width, height, is_label=False, attributes=json_object(kept))


def _box(box: Element | None, first: int) -> tuple[float | None, ...]:
    if box is None:
        return (None, None, None, None)
    told = {corner.tag: corner.text for corner in box}
    left, top, right, bottom = [number(told.get(corner)) for corner in _CORNERS]
    return (left - first, top - first, right, bottom)


def _attributes(found: Element) -> dict[str, object]:
    """Return what an object holds beside its name and box; named attributes, as CVAT writes them, by their names."""
    attributes: dict[str, object] = {}
    for child in found:
        if child.tag == "attributes" and len(child):
            for each in child.iter("attribute"):
                attributes[each.findtext("name") or ""] = each.findtext("value") or ""
        elif child.tag == "part":
            parts = attributes.setdefault("parts", [])
            if isinstance(parts, list):
                parts.append(value_of(child))
        elif child.tag not in ("name", "bndbox") and (value := value_of(child)) not in ("", {}):
            attributes[child.tag] = value
    return attributes
