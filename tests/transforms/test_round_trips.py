"""What each export writes, the reader of its format reads back: labels, boxes, and what else the format can carry."""

import json
import tempfile
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.raw import Facts, Form, Source
from tests.builders import Parts, picture, tables
from tests.transforms.things import HEIGHT, UNKNOWN, WIDTH, part, thing, whole
from transforms.coco import write_coco
from transforms.csv_tables import LABELS, write_csv_tables
from transforms.cvat import write_cvat
from transforms.folders import Folder
from transforms.jsonl import write_jsonl
from transforms.label_studio import TASKS, write_label_studio
from transforms.names import unique_names
from transforms.readers import coco, cvat, jsonl, label_studio, voc, yolo
from transforms.readers import tables as csv_reader
from transforms.readers.rows import Options
from transforms.splits import Sides
from transforms.voc import write_voc
from transforms.yolo import write_yolo

CATEGORIES = ("cat", "dog", "traffic light", "开心", " catt")
ROOTS = {0: "photos"}

Label = tuple[str, str | None, tuple[float, ...] | None]
"""A picture's name, a label, and its box as left, top, right, bottom in pixels."""


@dataclass(frozen=True)
class Trip:
    """How a format is written and read.

    `name` is what its reader calls a picture. `error_px` is what rounding may move an edge by; `has_whole` says that
    labels of whole pictures are no boxes, `has_confidence` and `has_attributes` that it carries those.
    """

    form: Form
    write: Callable[[Parts, Folder], None]
    files: str
    reader: ModuleType
    error_px: float
    name: Callable[[str], str] = str
    has_whole: bool = True
    has_confidence: bool = True
    has_attributes: bool = False


def _coco(parts: Parts, folder: Folder) -> None:
    with folder.create("instances.json") as out:
        options: dict[str, Any] = {"categories": CATEGORIES, "info": {}, "roots": ROOTS, "landmarks": 0}
        write_coco(parts, out, layout="expression", **options)


def _cvat(parts: Parts, folder: Folder) -> None:
    with folder.create("annotations.xml") as out:
        write_cvat(parts, out, layout="expression", categories=CATEGORIES, roots=ROOTS)


def _jsonl(parts: Parts, folder: Folder) -> None:
    with folder.create("labels.jsonl") as out:
        write_jsonl(parts, out, names=unique_names(parts, ROOTS, as_told=True))


def _label_studio(parts: Parts, folder: Folder) -> None:
    write_label_studio(parts, folder, categories=CATEGORIES, roots=ROOTS)


def _voc(parts: Parts, folder: Folder) -> None:
    options: dict[str, Any] = {"categories": CATEGORIES, "roots": ROOTS, "sides": Sides.one("default")}
    write_voc(parts, folder, layout="expression", copies=None, **options)


def _yolo(parts: Parts, folder: Folder) -> None:
    write_yolo(parts, folder, layout="expression", categories=CATEGORIES, roots=ROOTS, copies=None)


def _csv(parts: Parts, folder: Folder) -> None:
    write_csv_tables(parts, folder, categories=CATEGORIES, probabilities=(), landmarks=0, table=LABELS)


TRIPS = {
    "coco": Trip("coco", _coco, "instances.json", coco, 0.0051, has_whole=False, has_attributes=True),
    "cvat": Trip("cvat", _cvat, "annotations.xml", cvat, 0.0051, has_attributes=True),
    "voc": Trip("voc", _voc, "Annotations/**/*.xml", voc, 0.51, has_whole=False, has_attributes=True),
    "jsonl": Trip("jsonl", _jsonl, "labels.jsonl", jsonl, 1e-3),
    "label-studio": Trip("label-studio", _label_studio, TASKS, label_studio, 1e-4, lambda name: f"images/{name}"),
    "yolo": Trip(
        *("yolo", _yolo, "labels/**/*.txt", yolo, 2e-3),
        name=lambda name: f"images/{name.rpartition('.')[0] or name}",
        has_whole=False,
        has_confidence=False,
    ),
    "csv": Trip("csv", _csv, LABELS, csv_reader, 1e-3),
}


def travelled(trip: Trip, *pictures: dict[str, Any], place: Path | None = None) -> tuple[pl.DataFrame, Facts]:
    """Return what the reader reads of an export, in the order in which it was written."""
    parts = Parts(tables(*pictures[:1]), tables(*pictures[1:]))
    facts = Facts()
    with tempfile.TemporaryDirectory() if place is None else nullcontext(str(place)) as where:
        trip.write(parts, Folder(where))
        files = tuple(sorted(path.as_posix() for path in Path(where).glob(trip.files)))
        names = tuple(Path(file).relative_to(where).as_posix() for file in files)
        source = Source(trip.form, "export", where, files, names)
        rows = pl.concat(trip.reader.read(source, facts, Options({}, Path(where))))
    assert facts.failures == []
    return rows, facts


def labels(rows: pl.DataFrame, facts: Facts) -> list[Label]:
    """Return the labels that were read, with their boxes in pixels."""
    return [
        (row["picture"], row["label"], _edges([row[side] for side in "abcd"], facts))
        for row in rows.filter("is_label").iter_rows(named=True)
    ]


def _edges(box: Sequence[float | None], facts: Facts) -> tuple[float, ...] | None:
    a, b, c, d = box
    if a is None or b is None or c is None or d is None:
        return None
    x, y = {"pixels": (1, 1), "unit": (WIDTH, HEIGHT), "percent": (WIDTH / 100, HEIGHT / 100)}[facts.unit or "pixels"]
    match facts.corners or "xywh":
        case "xyxy":
            edges = (a, b, c, d)
        case "xywh":
            edges = (a, b, a + c, b + d)
        case _:
            edges = (a - c / 2, b - d / 2, a + c / 2, b + d / 2)
    return tuple(edge * side for edge, side in zip(edges, (x, y, x, y), strict=True))


def expected(trip: Trip, *pictures: dict[str, Any]) -> list[Label]:
    """Return the labels that must come back."""
    everything = None if trip.has_whole else (0.0, 0.0, float(WIDTH), float(HEIGHT))
    told = []
    for row in pictures:
        for own in row["faces"]:
            x, y, w, h = (own.get(f"bbox_{side}") for side in "xywh")
            told.append((trip.name(row["file_name"]), own["label"], everything if x is None else (x, y, x + w, y + h)))
    return told


def assert_same(found: list[Label], wanted: list[Label], error_px: float) -> None:
    """Compare labels, those of a picture in their order."""
    by_picture = [sorted(some, key=lambda label: label[0]) for some in (found, wanted)]
    for one, other in zip(*by_picture, strict=True):
        assert one[:2] == other[:2]
        assert one[2] == (None if other[2] is None else pytest.approx(other[2], abs=error_px))


def _sixteenths(least: float, most: float) -> st.SearchStrategy[float]:
    return st.integers(round(least * 16), round(most * 16)).map(lambda count: count / 16)


@st.composite
def _things(draw: st.DrawFn) -> dict[str, Any]:
    label = draw(st.sampled_from(CATEGORIES))
    if draw(st.integers(0, 5)) == 0:
        return whole(label)
    x, y = draw(_sixteenths(0, WIDTH - 2)), draw(_sixteenths(0, HEIGHT - 2))
    return thing((x, y, draw(_sixteenths(2, WIDTH - x)), draw(_sixteenths(2, HEIGHT - y))), label)


@st.composite
def _albums(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Draw pictures whose labels of the whole, of which Label Studio makes one choice, come last."""
    names = draw(st.lists(st.sampled_from(["a.jpg", "sub/b c.png", "ü/开.jpg", "z+1&.jpeg"]), unique=True, max_size=4))
    drawn = (draw(st.lists(_things(), max_size=4)) for _ in names)
    return [
        picture(name, *sorted(own, key=lambda row: "cx" not in row)) for name, own in zip(names, drawn, strict=True)
    ]


@pytest.mark.parametrize("form", TRIPS)
@settings(max_examples=25, deadline=None)
@given(pictures=_albums())
def test_labels_and_boxes_come_back(form: str, pictures: list[dict[str, Any]]) -> None:
    """Within the rounding of the format; labels of whole pictures as such, or as boxes around them."""
    trip = TRIPS[form]
    if not any(row["faces"] for row in pictures):
        pictures.append(picture("last.jpg", thing()))
    rows, facts = travelled(trip, *pictures)
    assert_same(labels(rows, facts), expected(trip, *pictures), trip.error_px)
    empty = {trip.name(row["file_name"]) for row in pictures if not row["faces"]}
    assert set(rows.filter(~pl.col("is_label"))["picture"]) == (set() if form == "csv" else empty)


@pytest.mark.parametrize("form", [form for form, trip in TRIPS.items() if form in ("coco", "cvat", "yolo")])
def test_the_categories_come_back_in_order(form: str) -> None:
    """Also those that no label has; so ids are the same in the next export."""
    _, facts = travelled(TRIPS[form], picture("a.jpg", thing()))
    assert list(map(str.strip, facts.categories or ())) == list(map(str.strip, CATEGORIES))


@pytest.mark.parametrize("form", [form for form, trip in TRIPS.items() if trip.has_confidence])
def test_the_confidence_comes_back(form: str) -> None:
    """To the digit, and null as null."""
    first, second = picture("a.jpg", thing(confidence=0.1)), picture("b.jpg", thing())
    rows, _ = travelled(TRIPS[form], first, second)
    assert rows["confidence"].to_list() == pl.Series([0.1, None], dtype=pl.Float32).to_list()


@pytest.mark.parametrize("form", [form for form, trip in TRIPS.items() if trip.has_attributes])
def test_what_came_with_a_label_comes_back(form: str) -> None:
    """Numbers as texts where the format has only those."""
    given_ = {"occluded": "1", "breed": "<pug> & co", "age": 3}
    rows, _ = travelled(TRIPS[form], picture("a.jpg", thing(attributes=json.dumps(given_))))
    told = json.loads(rows["attributes"][0])
    assert {name: told[name] for name in given_} == given_ | ({} if form == "coco" else {"age": "3"})


def test_a_crowd_and_what_is_difficult_come_back() -> None:
    """They are members of their own there."""
    [crowd] = travelled(TRIPS["coco"], picture("a.jpg", thing(attributes='{"id":7,"iscrowd":1}')))[0]["attributes"]
    assert (json.loads(crowd)["iscrowd"], json.loads(crowd)["given_id"]) == (1, 7)
    [hard] = travelled(TRIPS["voc"], picture("a.jpg", thing(attributes='{"difficult":"1","pose":"Left"}')))[0][
        "attributes"
    ]
    assert (json.loads(hard)["difficult"], json.loads(hard)["pose"]) == ("1", "Left")


def test_the_record_of_the_product_is_read_and_written_exactly(tmp_path: Path) -> None:
    """Read, put into tables, written: the same JSON."""
    record = {
        "image_id": "img_001",
        "labels": [
            {"category": "person", "bbox": [0.5012, 0.25, 0.3, 0.1], "confidence": 1.0},
            {"category": "dog", "bbox": None, "confidence": None},
        ],
    }
    (tmp_path / "in.jsonl").write_text(json.dumps(record))
    source = Source("jsonl", "in", str(tmp_path), (str(tmp_path / "in.jsonl"),), ("in.jsonl",))
    rows = pl.concat(jsonl.read(source, Facts(), Options({}, tmp_path)))
    own = [
        whole(label, confidence) if a is None else part((a, b, c, d), label, confidence)
        for label, a, b, c, d, confidence in rows.select("label", *"abcd", "confidence").iter_rows()
    ]
    _jsonl(Parts(tables(picture(rows["picture"][0], *own, **UNKNOWN))), Folder(str(tmp_path)))
    assert [json.loads(line) for line in (tmp_path / "labels.jsonl").read_text().splitlines()] == [record]


@pytest.mark.parametrize("form", ["jsonl", "label-studio", "yolo"])
def test_pictures_of_unknown_size_make_the_trip(form: str) -> None:
    """Where the format says boxes as shares."""
    box = (0.5, 0.25, 0.3, 0.1)
    rows, facts = travelled(TRIPS[form], picture("a.jpg", part(box), **UNKNOWN))
    [(_, label, edges)] = labels(rows, facts)
    wanted = (0.35 * WIDTH, 0.2 * HEIGHT, 0.65 * WIDTH, 0.3 * HEIGHT)
    assert (label, edges) == ("cat", pytest.approx(wanted, abs=1e-3))
    assert rows["width"].to_list() == [None]
