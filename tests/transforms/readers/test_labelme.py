"""LabelMe's files, of the web and of the desk, give the box around each shape and keep the shape."""

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.transforms.readers.given import put, source_of
from tests.transforms.readers.reading import read, said
from transforms.readers import labelme


def drawn(*shapes: dict[str, Any], **others: Any) -> str:
    """Return a file of the desktop tool."""
    whole = {"version": "5.4.1", "flags": {}, "shapes": [*shapes], "imagePath": "a.jpg", "imageData": None}
    return json.dumps({**whole, "imageHeight": 480, "imageWidth": 640, **others})


def shape(label: Any, points: Any, kind: str = "rectangle", **others: Any) -> dict[str, Any]:
    """Return a shape."""
    return {"label": label, "points": points, "shape_type": kind, "group_id": None, "flags": {}, **others}


def told(rows: pl.DataFrame) -> list[Any]:
    """Return the attributes."""
    return [text and json.loads(text) for text in rows["attributes"]]


def test_a_real_file_of_the_web(shared: Path, tmp_path: Path) -> None:
    """Seven shapes: polygons, boxes, segments."""
    folder = shared / "data" / "annotations" / "datumaro" / "labelme_dataset"
    rows, facts = read(source_of("labelme", folder, "Annotations/**/*.xml"), tmp_path)
    assert (facts.corners, facts.unit, facts.categories, facts.failures) == ("xyxy", "pixels", None, [])
    assert [row[1:] for row in said(rows)] == [
        ("window", 43, 34, 45, 37),
        ("license plate", 58, 66, 62, 68),
        ("o1", 15, 12, 42, 26),
        ("q1", 28, 21, 43, 31),
        ("b1", 13, 19, 23, 30),
        ("m1", 56, 14, 70, 23),
        ("hg", 60, 21, 74, 34),
    ]
    assert set(rows.select("picture", "width", "height").iter_rows()) == {("subset1/img1.png", 102, 77)}
    attributes = told(rows)
    assert attributes[0]["points"] == [[43, 34], [45, 34], [45, 37], [43, 37]]
    assert attributes[1]["segm"]["mask"] == "img1_mask_1.png"
    assert (attributes[2]["occluded"], attributes[2]["attributes"]) == ("yes", "a1")
    assert attributes[2]["parts"] == {"hasparts": "3,4"}


def test_deleted_shapes_are_not_there(tmp_path: Path) -> None:
    """Where all are deleted, the picture stays; numbers count the deleted too."""
    gone = "<object><name>cat</name><deleted>1</deleted><polygon><pt><x>1</x><y>2</y></pt></polygon></object>"
    left = gone.replace("<deleted>1", "<deleted>0").replace("cat", "dog")
    start = "<annotation><filename>a.jpg</filename><folder>f</folder>"
    folder = put(tmp_path / "in", a_xml=f"{start}{gone}{left}</annotation>", b_xml=f"{start}{gone}</annotation>")
    rows, _ = read(source_of("labelme", folder), tmp_path)
    assert said(rows, "row", "is_label") == [
        ("f/a.jpg", "dog", 1, 2, 1, 2, 1, True),
        ("f/a.jpg", None, None, None, None, None, 0, False),
    ]


@pytest.mark.parametrize(
    ("one", "expected"),
    [
        (shape("cat", [[1, 2], [30.5, 40]]), ("cat", 1, 2, 30.5, 40)),
        (shape("cat", [[30, 40], [1, 2]]), ("cat", 1, 2, 30, 40)),  # drawn from below
        (shape(" Cat ", [[1, 2], [5, 9], [3, 1]], "polygon"), (" Cat ", 1, 1, 5, 9)),
        (shape("cat", [[10, 10], [13, 14]], "circle"), ("cat", 5, 5, 15, 15)),  # the middle, and a point of it
        (shape("cat", [[10, 10]], "point"), ("cat", 10, 10, 10, 10)),
        (shape("cat", []), ("cat", "NaN", "NaN", "NaN", "NaN")),
        (shape("cat", None), ("cat", "NaN", "NaN", "NaN", "NaN")),
        (shape("cat", [[1, "x"], [3, 4]]), ("cat", "NaN", "NaN", "NaN", "NaN")),
        (shape("cat", [[1], 2]), ("cat", "NaN", "NaN", "NaN", "NaN")),
        (shape(7, [[1, 2], [3, 4]]), ("7", 1, 2, 3, 4)),
        (shape(None, [[1, 2], [3, 4]]), (None, 1, 2, 3, 4)),
        ({}, (None, "NaN", "NaN", "NaN", "NaN")),
    ],
)
def test_shapes_of_the_desktop_tool(tmp_path: Path, one: dict[str, Any], expected: tuple[Any, ...]) -> None:
    """The box around the points, whatever order they were drawn in."""
    rows, facts = read(source_of("labelme", put(tmp_path / "in", a_json=drawn(one))), tmp_path)
    assert (said(rows), facts.failures) == ([("a.jpg", *expected)], [])


def test_what_has_no_column_is_kept(tmp_path: Path) -> None:
    """Points but for a rectangle, groups, flags; never the picture itself."""
    shapes = [
        shape("cat", [[1, 2], [3, 4]], group_id=3, flags={"blurred": True}),
        shape("cat", [[1, 2], [3, 4], [5, 6]], "polygon", score=0.5),
    ]
    text = drawn(*shapes, flags={"night": True}, imageData="QUJD" * (5 << 20))
    rows, _ = read(source_of("labelme", put(tmp_path / "in", a_json=text)), tmp_path)
    night = {"image_flags": {"night": True}}
    assert told(rows) == [
        {**night, "group_id": 3, "flags": {"blurred": True}, "shape_type": "rectangle"},
        {**night, "points": [[1, 2], [3, 4], [5, 6]], "shape_type": "polygon"},
    ]
    assert rows["confidence"].to_list() == [None, 0.5]
    assert set(rows.select("width", "height").iter_rows()) == {(640, 480)}


@pytest.mark.parametrize(
    ("path", "picture"),
    [
        ("b.jpg", "train/b.jpg"),  # beside the file: names repeat in folders
        ("..\\images\\b.jpg", "images/b.jpg"),
        ("../../b.jpg", "../../b.jpg"),  # beyond what was named
        ("C:\\faces\\b.jpg", "C:/faces/b.jpg"),
        ("/home/me/b.jpg", "/home/me/b.jpg"),
        (None, "train/a"),
    ],
)
def test_a_picture_is_told_from_its_file(tmp_path: Path, path: str | None, picture: str) -> None:
    """And without any name it is called as its file."""
    folder = put(tmp_path / "in", train__a_json=drawn(imagePath=path))
    rows, _ = read(source_of("labelme", folder), tmp_path)
    assert said(rows, "is_label") == [(picture, None, None, None, None, None, False)]


def test_damaged_files_are_failures_and_the_rest_is_read(tmp_path: Path) -> None:
    """Each with a short name of what is wrong and where."""
    folder = put(
        tmp_path / "in",
        a_json='{"shapes": [],\n "imagePath": "a.jpg",,}',
        b_json='{"imagePath": "a.jpg"}',
        c_json="[" * 200_000,
        d_json=b'{"shapes": [' + b"[]," * (6 << 20),
        e_json="",
        f_xml="<annotation><imagesize>",
        z_json=drawn(shape("cat", [[1, 2], [3, 4]])),
    )
    rows, facts = read(source_of("labelme", folder), tmp_path)
    assert said(rows) == [("a.jpg", "cat", 1, 2, 3, 4)]
    assert [(name, error) for name, error, _ in facts.failures] == [
        ("a.json", "broken_json"),
        ("b.json", "broken_json"),
        ("c.json", "broken_json"),
        ("d.json", "too_large"),
        ("e.json", "empty"),
        ("f.xml", "broken_xml"),
    ]
    assert "line 2, column 23" in facts.failures[0][2]


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text(max_size=5), st.lists, max_leaves=8))
def test_any_points_give_a_box_or_none(points: Any) -> None:
    """Four numbers, the first corner not beyond the second, or four times no number."""
    for kind in ("rectangle", "circle"):
        left, top, right, bottom = labelme._around(kind, points)
        assert left is not None and top is not None and right is not None and bottom is not None
        assert (left != left and top != top) or (left <= right and top <= bottom)


@pytest.mark.parametrize(
    ("head", "is_one"),
    [
        (b"<annotation><filename>a</filename><object><name>b</name><deleted>0</deleted>", True),
        (b"<annotation><filename>a</filename><object><name>b</name><bndbox>", False),  # VOC
        (b'\xef\xbb\xbf {"version": "5.0", "shapes": [], "imagePath": "a.jpg"', True),
        (b'{"flags": {}, "imageData": "/9j/4AAQ', True),  # keys in order: the shapes come after the picture
        (b'{"images": [], "annotations": []}', False),
        (b'[{"shapes": 1, "imagePath": 2}]', False),
        (b"", False),
    ],
)
def test_the_format_is_told_by_its_beginning(head: bytes, is_one: bool) -> None:
    """Of the web or of the desk."""
    assert labelme.is_one(head, "a.json") == is_one
