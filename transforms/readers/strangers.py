"""Files that are no labels of a listed format: those that go with such labels, and what the others look like."""

import re
from collections.abc import Callable, Mapping

from transforms.readers.json_parts import paths
from transforms.readers.label_studio import WITHOUT_PICTURES, is_project
from transforms.readers.rows import head_text

NO_FORMAT = "no listed format"

_ABOUT = re.compile(r"(readme|licen[cs]e|copying|changelog|citation|notice)\b.*")
_CLASS_LISTS = frozenset({"classes.txt", "predefined_classes.txt", "labels.txt", "labelmap.txt", "names.txt"})
_PICTURE = re.compile(r"[^\t,;|]*\.(jpe?g|png|bmp|webp|tiff?|gif)", re.IGNORECASE)
_HEAD_LINES = 50


def content_of(head: bytes) -> str:
    """Say what a file that begins so is: "empty", "xml", "json", "text", "parquet" or "binary"."""
    if head.startswith(b"PAR1"):
        return "parquet"
    told = head_text(head).lstrip("\ufeff \t\r\n")
    if "\0" in told:
        return "binary"
    return {"": "empty", "<": "xml", "{": "json", "[": "json"}.get(told[:1], "text")


def belongs(name: str, head: bytes) -> bool:
    """Say whether a file goes with labels of a listed format without being labels: lists of classes and of pictures.

    `name` is the path below the folder that was named.
    """
    folders, base = f"/{name.lower()}".rpartition("/")[::2]
    if _ABOUT.fullmatch(base) or (f"{folders}/".find("/imagesets/") >= 0 and base.endswith(".txt")):
        return True
    told = head_text(head)
    lines = [line.strip() for line in told.splitlines()[:_HEAD_LINES] if line.strip()]
    match base.rpartition(".")[2], content_of(head):
        case (("yaml" | "yml"), "text"):
            return re.search(r"^\s*['\"]?names['\"]?\s*:", told, re.MULTILINE) is not None
        case "names", "text" | "json" | "empty":
            return True
        case "data", "text":
            return re.search(r"^\s*(names|classes)\s*=", told, re.MULTILINE) is not None
        case "txt", "text" | "json":
            is_list = base in _CLASS_LISTS and not any(_is_numbers(line) for line in lines)
            return is_list or all(_PICTURE.fullmatch(line) for line in lines)
        case "json", "json":
            return base in ("dataset_meta.json", "notes.json") and _is_class_list(paths(head))
        case "xml", "xml":
            return re.match(r"\s*(<\?[^>]*>\s*)?<View\b", told) is not None  # Label Studio's label_config.xml
    return False


def looks_like(name: str, head: bytes) -> str:
    """Say for a person what a file of no listed format is."""
    match content_of(head):
        case "empty":
            return "it is empty"
        case "parquet":
            return "a Parquet file: name the folder of its data set"
        case "binary":
            return "no text"
        case "json":
            return _json(name, head)
        case "xml":
            found = re.search(r"<(?![?!])([\w:.-]+)", head_text(head))
            tag = found[1] if found else "?"
            return "a web page" if tag.lower() == "html" else f"{NO_FORMAT}: XML of <{tag}>"
    if belongs(name, head):
        return "a list that goes with labels"
    return _text(name, head_text(head))


def _is_class_list(found: frozenset[str]) -> bool:
    """Say whether this is what Datumaro, or Label Studio's export to YOLO, tells of the classes."""
    return bool(found & {"labels", "label_map", "categories"}) and "images" not in found


def _is_numbers(line: str) -> bool:
    return len(line.split()) > 4 and all(re.fullmatch(r"[-+.\deE]+", word) for word in line.split())


# JSON

_JSON: tuple[tuple[str, Callable[[frozenset[str]], bool]], ...] = (
    ("VoTT JSON", lambda found: {"assets", "tags"} <= found or {"asset", "regions"} <= found),
    ("CreateML JSON", lambda found: "item.annotations.item.coordinates" in found),
    (
        "Datumaro JSON",
        lambda found: "items" in found and bool(found & {"infos", "categories.label", "dm_format_version"}),
    ),
    ("COCO captions: no boxes or labels of objects", lambda found: "annotations.item.caption" in found),
    ("COCO panoptic: no boxes or labels of objects", lambda found: "annotations.item.segments_info" in found),
    ("Open Images hierarchy of classes", lambda found: {"LabelName", "Subcategory"} <= found),
    ("VGG Image Annotator JSON", lambda found: any(path.endswith("shape_attributes") for path in found)),
    ("Scalabel or BDD100K JSON", lambda found: "item.labels.item.box2d" in found or "frames.item.labels" in found),
    ("Supervisely JSON", lambda found: "objects.item.classTitle" in found),
    ("Croissant metadata", lambda found: "@context" in found),
    ("a Jupyter notebook", lambda found: "nbformat" in found or "cells.item.cell_type" in found),
    ("GeoJSON", lambda found: "features.item.geometry" in found),
)


def _json(name: str, head: bytes) -> str:
    if is_project(head):
        return WITHOUT_PICTURES
    found = paths(head)
    if (known := next((told for told, fits in _JSON if fits(found)), None)) is not None:
        return known
    if not found - {"item"}:
        return f"{NO_FORMAT}: no JSON, or an empty one"
    members = sorted(path.removeprefix("item.") for path in found if path.count(".") == path.startswith("item."))
    told = ", ".join(member[:40] for member in members if member != "item")[:120]
    is_lines = head_text(head).count("\n{") > 0
    return f"{NO_FORMAT}: JSON{' lines' if is_lines else ''} with {told or 'plain values'}"


# Texts and tables

_HEADERS: Mapping[str, frozenset[str]] = {
    "segmentation masks CSV": frozenset({"maskpath"}),
    "Open Images names of classes": frozenset({"labelname", "displayname"}),
    "Open Images list of pictures": frozenset({"imageid", "subset", "originalurl"}),
    "CelebA text": frozenset({"lefteye_x", "lefteye_y"}),
}


def _text(name: str, told: str) -> str:
    lines = [line.strip() for line in told.splitlines()[:_HEAD_LINES] if line.strip()]
    words = [line.split() for line in lines]
    header = {cell.strip("\"' \ufeff").lower() for cell in re.split(r"[,;\t]|\s+", lines[0])}
    if (known := next((known for known, names in _HEADERS.items() if names <= header), None)) is not None:
        return known
    if re.match(r"(item|node)\s*\{", told.lstrip()) and "id:" in told:
        return "TF label map"
    if len(lines) > 2 and _PICTURE.fullmatch(lines[0]) and lines[1].isdecimal() and len(words[2]) == 10:
        return "WIDER FACE text"
    if "celeba" in name.lower() or (lines[0].isdecimal() and len(lines) > 2 and _PICTURE.match(lines[2])):
        return "CelebA text"
    if all(len(row) in (9, 10) and all(map(_is_float, row[:8])) for row in words):
        return "DOTA or oriented YOLO text: turned boxes"
    if all(len(row) in (15, 16) and not _is_float(row[0]) and all(map(_is_float, row[1:])) for row in words):
        return "KITTI text"
    if all(len(row) == 2 and _PICTURE.fullmatch(row[0]) and row[1].isdecimal() for row in words):
        return f"{NO_FORMAT}: pictures with a number each"
    if name.lower().endswith((".csv", ".tsv")):
        return f"{NO_FORMAT}: a table in which no column names pictures"
    return NO_FORMAT


def _is_float(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True
