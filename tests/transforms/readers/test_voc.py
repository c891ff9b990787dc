"""Pascal VOC is read as it stands: every object of every file that can be read, and nothing else."""

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from schemas.vocabulary import label_order
from tests.builders import LABELS, Parts, face, picture, tables
from tests.transforms.kept import Kept
from tests.transforms.readers.given import put, source_of
from tests.transforms.readers.reading import read, said
from transforms.encoding import CategoryLayout
from transforms.readers import voc
from transforms.rules import clean
from transforms.splits import Sides
from transforms.voc import write_voc


def one(objects: str, before: str = "<filename>a.jpg</filename>") -> str:
    """Return a file."""
    return f"<annotation>{before}<size><width>640</width><height>480</height></size>{objects}</annotation>"


def boxed(name: str, *corners: object, more: str = "") -> str:
    """Return an object."""
    ends = zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=True)
    box = "".join(f"<{end}>{value}</{end}>" for end, value in ends)
    return f"<object><name>{name}</name>{more}<bndbox>{box}</bndbox></object>"


def told(rows: pl.DataFrame) -> list[Any]:
    """Return the attributes."""
    return [text and json.loads(text) for text in rows["attributes"]]


def test_real_files_are_read_whole(shared: Path, tmp_path: Path) -> None:
    """60 files, 1,098 boxes; the two of zero size come as they are."""
    folder = shared / "data" / "annotations" / "bccd_voc"
    rows, facts = read(source_of("voc", folder, "Annotations/*.xml"), tmp_path)
    assert (rows.height, rows["picture"].n_unique(), facts.failures) == (1098, 60, [])
    assert (facts.corners, facts.unit, facts.categories) == ("xyxy", "pixels", None)
    assert dict(rows.group_by("label").len().iter_rows()) == {"RBC": 950, "WBC": 65, "Platelets": 83}
    flat = rows.filter((pl.col("a") == pl.col("c")) | (pl.col("b") == pl.col("d")))
    assert sorted(flat["picture"]) == ["BloodImage_00338.jpg", "BloodImage_00343.jpg"]


def test_the_same_boxes_as_a_table(shared: Path, tmp_path: Path) -> None:
    """The table of that data set has the boxes of its files."""
    folder = shared / "data" / "annotations" / "bccd_voc"
    rows, _ = read(source_of("voc", folder, "Annotations/*.xml"), tmp_path)
    table, _ = read(source_of("csv", folder, "test.csv"), tmp_path)
    both = set(rows["picture"]) & set(table["picture"])
    assert len(both) == 60
    kept = [frame.filter(pl.col("picture").is_in(list(both))) for frame in (rows, table)]
    assert sorted(said(kept[0])) == sorted(said(kept[1]))


def test_what_has_no_column_is_kept(shared: Path, tmp_path: Path) -> None:
    """Flags, parts, actions, and a picture of which nothing is told."""
    folder = shared / "data" / "annotations" / "datumaro" / "voc_dataset"
    rows, _ = read(source_of("voc", folder, "*/Annotations/*.xml"), tmp_path)
    assert said(rows, "width", "height", "is_label")[:3] == [
        ("2007_000001.jpg", "cat", 1, 2, 3, 4, 20, 10, True),
        ("2007_000001.jpg", "person", 4, 5, 6, 7, 20, 10, True),
        ("@.jpg", None, None, None, None, None, None, None, False),
    ]
    assert rows.height == 7
    cat, person, *_ = told(rows)
    assert cat == {"folder": "VOC2007", "pose": "Unspecified", "truncated": "1", "difficult": "0"}
    head = {"name": "head", "bndbox": {"xmin": "5.5", "ymin": "6", "xmax": "7.5", "ymax": "8"}}
    assert person["parts"] == [head]
    assert person["actions"]["jumping"] == "0"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (one(boxed(" Cat ", "1.5", " 2 ", "1e2", "-4")), [("a.jpg", " Cat ", 1.5, 2, 100, -4)]),
        (one(boxed("cat", "x", 2, "", "nan")), [("a.jpg", "cat", "NaN", 2, "NaN", "NaN")]),
        (one("<object><name>cat</name><bndbox/></object>"), [("a.jpg", "cat", "NaN", "NaN", "NaN", "NaN")]),
        (one("<object><name>cat</name></object>"), [("a.jpg", "cat", None, None, None, None)]),  # the whole picture
        (one(boxed("", 1, 2, 3, 4)), [("a.jpg", None, 1, 2, 3, 4)]),
        (one("", "<filename>b\\c.jpg</filename>"), [("b/c.jpg", None, None, None, None, None)]),
        (one(boxed("cat", 1, 2, 3, 4), "<folder>x</folder>"), [("d", "cat", 1, 2, 3, 4)]),  # its own name
        (one(boxed("face", 1, 2, 3, 4, more="<expression>sad</expression>")), [("a.jpg", "sad", 1, 2, 3, 4)]),
    ],
)
def test_objects_come_as_they_are(tmp_path: Path, text: str, expected: list[Any]) -> None:
    """Numbers of any kind, what is none, what is missing."""
    rows, facts = read(source_of("voc", put(tmp_path / "in", s__d_xml=text)), tmp_path)
    assert (said(rows), facts.failures) == (expected, [])


def test_confidences_and_named_attributes(tmp_path: Path) -> None:
    """As tools write them: an element, or attributes as CVAT has them."""
    named = "<attributes><attribute><name>confidence</name><value>0.5</value></attribute></attributes>"
    text = one(boxed("cat", 1, 2, 3, 4, more="<score>.25</score>") + boxed("cat", 1, 2, 3, 4, more=named))
    rows, _ = read(source_of("voc", put(tmp_path / "in", a_xml=text)), tmp_path)
    assert rows["confidence"].to_list() == [0.25, 0.5]
    assert rows["attributes"].to_list() == [None, None]


def test_damaged_files_are_failures_and_the_rest_is_read(tmp_path: Path) -> None:
    """Each with a short name of what is wrong and where."""
    bomb = '<!DOCTYPE a [<!ENTITY b "c"><!ENTITY d "&b;&b;">]><annotation><filename>&d;</filename></annotation>'
    outside = '<!DOCTYPE annotation SYSTEM "file:///etc/passwd"><annotation/>'
    broken = "<annotation>\n  <object><name>a</object>"
    deep = b"<annotation>" + b"<a>" * 400_000
    good = one(boxed("cat", 1, 2, 3, 4))
    folder = put(tmp_path / "in", a_xml=bomb, b_xml=outside, c_xml=broken, d_xml=" ", e_xml=deep, z_xml=good)
    (folder / "f.xml").write_bytes(b"<annotation>" + b" " * (8 << 20))
    (folder / "g.xml").mkdir()
    given = source_of("voc", folder, "*.xml")
    rows, facts = read(
        type(given)("voc", "in", given.where, (*given.files, str(folder / "g.xml")), (*given.names, "g.xml")), tmp_path
    )
    assert said(rows) == [("a.jpg", "cat", 1, 2, 3, 4)]
    assert [(name, error) for name, error, _ in facts.failures] == [
        ("a.xml", "forbidden_xml"),
        ("b.xml", "forbidden_xml"),
        ("c.xml", "broken_xml"),
        ("d.xml", "empty"),
        ("e.xml", "broken_xml"),
        ("f.xml", "too_large"),
        ("g.xml", "unreadable"),
    ]
    assert "line 2, column 20: mismatched tag" in facts.failures[2][2]


@pytest.mark.parametrize("layout", ["expression", "face"])
def test_what_we_export_comes_back(tmp_path: Path, layout: CategoryLayout) -> None:
    """The same boxes, counted from 0 again, labels and confidences; pictures without a face too."""
    faces = [face((10, 20, 100, 120), "sad", 0.75), face((0, 0, 640, 480), "happy", 0.5)]
    kept = Kept()
    rows = clean(tables(picture("b/a.jpg", *faces), picture("none.jpg")))
    options: dict[str, Any] = {"roots": {0: ""}, "sides": Sides.one("default"), "copies": None}
    write_voc(Parts(rows), kept, layout=layout, categories=label_order(LABELS), **options)
    for name in kept.files:
        path = tmp_path / "out" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(kept.text(name))
    found, facts = read(source_of("voc", tmp_path / "out", "Annotations/**/*.xml"), tmp_path)
    assert facts.failures == []
    assert sorted(said(found, "confidence"), key=str) == [
        ("b/a.jpg", "happy", 0, 0, 640, 480, 0.5),
        ("b/a.jpg", "sad", 10, 20, 110, 140, 0.75),
        ("none.jpg", None, None, None, None, None, None),
    ]


def test_names_that_repeat_in_folders(shared: Path, tmp_path: Path) -> None:
    """Files come in the order that they were given, whatever folders they lie in."""
    folder = shared / "data" / "annotations" / "datumaro" / "roboflow_dataset" / "voc"
    rows, _ = read(source_of("voc", folder, "**/*.xml"), tmp_path)
    assert rows["file"].to_list() == [
        "train/train_001.xml",
        "train/train_002.xml",
        "val/val_001.xml",
        "val/val_001.xml",
    ]
    assert rows["row"].to_list() == [0, 0, 0, 1]
    assert [row[2:] for row in said(rows)] == [(2, 1, 5, 2), (0, 0, 2, 4), (0, 0, 1, 2), (0, 0, 9, 1)]


@pytest.mark.parametrize(
    ("head", "is_one"),
    [
        (b'<?xml version="1.0"?>\n<!-- a > b -->\n<annotation>', True),
        ("\ufeff<annotation/>".encode("utf-16"), True),
        (b"<!DOCTYPE annotation [<!ENTITY a 'b'>]><annotation>", True),  # it is refused, but as what it is
        (b"<annotations><meta>", False),  # CVAT
        (b"<annotation><object><name>a</name><deleted>0</deleted>", False),  # LabelMe
        (b"<html><annotation>", False),
        (b"annotation", False),
        (b"", False),
    ],
)
def test_the_format_is_told_by_its_beginning(head: bytes, is_one: bool) -> None:
    """Whatever the file is called."""
    assert voc.is_one(head, "a.txt") == is_one
