"""YOLO's texts are read with the class list that belongs to them, or none; a bad line does not spoil its file."""

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import UsageError
from schemas.raw import Facts, Source
from schemas.vocabulary import label_order
from tests.builders import LABELS, Parts, face, picture, tables
from tests.transforms.kept import Kept
from tests.transforms.readers.given import put, source_of
from tests.transforms.readers.reading import read, said
from transforms.encoding import CategoryLayout
from transforms.readers import yolo
from transforms.readers.rows import Options
from transforms.rules import clean
from transforms.yolo import write_yolo

LINE = "1 0.5 0.25 0.125 0.0625\n"


def with_list(given: Source, classes: Path) -> tuple[pl.DataFrame, Facts]:
    """Return rows read with a class list that was named."""
    facts = Facts()
    return pl.concat(yolo.read(given, facts, Options({}, classes.parent, str(classes)))), facts


def labels(folder: Path, scratch: Path, pattern: str = "**/labels/**/*.txt") -> list[str]:
    """Return the labels of a folder's texts."""
    return read(source_of("yolo", folder, pattern), scratch)[0]["label"].to_list()


@pytest.mark.parametrize(
    ("where", "pattern", "expected", "known"),
    [
        # Without any list numbers are their own names.
        ("kaggle_dataset/relaxed_yolo", "*.txt", [("1", "2"), ("1", "4"), ("2", "1"), ("2", "3")], None),
        ("yolo_dataset/strict", "obj*/*.txt", [("obj_train_data/1", f"label_{at}") for at in (2, 4)], 10),
        (
            "yolo_dataset/labels",
            "labels/**/*.txt",
            [(f"images/{split}/1", f"label_{at}") for split in ("train", "val") for at in (2, 4)],
            10,
        ),
        ("yolo_dataset/annotations", "*/*.txt", [("Annotations/1", f"label_{at}") for at in (2, 4)], 10),
        (
            "roboflow_dataset/yolo",
            "**/*.txt",
            [
                ("train/images/train_001", "label_0"),
                ("train/images/train_002", "label_1"),
                ("val/images/val_001", "label_0"),
                ("val/images/val_001", "label_1"),
            ],
            2,
        ),
    ],
)
def test_real_data_sets(
    shared: Path, tmp_path: Path, where: str, pattern: str, expected: list[Any], known: int | None
) -> None:
    """With `obj.names` or `data.yaml` in the folder or above."""
    folder = shared / "data" / "annotations" / "datumaro" / where
    rows, facts = read(source_of("yolo", folder, pattern), tmp_path)
    assert (facts.corners, facts.unit, facts.failures) == ("cxcywh", "unit", [])
    assert list(rows.select("picture", "label").iter_rows()) == expected
    assert facts.categories == (None if known is None else tuple(f"label_{at}" for at in range(known)))


def test_real_texts_are_told_apart(shared: Path) -> None:
    """Of all texts there, nine are YOLO's: no list of names or of pictures, no boxes of other forms."""
    folder = shared / "data" / "annotations"
    found = [path.relative_to(folder) for path in folder.glob("**/*.txt") if yolo.is_one(path.read_bytes(), str(path))]
    assert len(found) == 9
    assert {path.parts[1] for path in found} == {"kaggle_dataset", "yolo_dataset", "roboflow_dataset"}
    assert not any("obb" in path.as_posix() for path in found)


def test_the_same_boxes_as_voc(shared: Path, tmp_path: Path) -> None:
    """One picture set, annotated in both: but for the picture's size, the numbers are the same."""
    folder = shared / "data" / "annotations" / "datumaro" / "roboflow_dataset"
    mine, _ = read(source_of("yolo", folder / "yolo", "**/*.txt"), tmp_path)
    voc, _ = read(source_of("voc", folder / "voc", "**/*.xml"), tmp_path)
    assert mine["label"].to_list() == voc["label"].to_list()
    for one, other in zip(said(mine), said(voc), strict=True):
        left, top, right, bottom = other[2:]
        middle = ((left + right) / 20, (top + bottom) / 10, (right - left) / 10, (bottom - top) / 5)
        assert one[2:] == pytest.approx(middle)
        assert Path(one[0]).name == Path(other[0]).stem


@pytest.mark.parametrize(
    ("line", "box", "confidence"),
    [
        ("0 .5 .25 1e-1 0", (0.5, 0.25, 0.1, 0), None),
        ("  0\t0.5  0.25 1 1 0.75 ", (0.5, 0.25, 1, 1), 0.75),
        ("0.0 0.5 0.25 1 1", (0.5, 0.25, 1, 1), None),
        ("0 nan inf 1 1", ("NaN", "NaN", 1, 1), None),
        ("0 300 200 50 60", (300, 200, 50, 60), None),  # no shares of 1, which is for others to tell
        ("0 0 0 1 0 1 1", (0.5, 0.5, 1, 1), None),  # a triangle
        ("0 .1 .1 .3 .1 .3 .2 .1 .2", (0.2, 0.15, 0.2, 0.1), None),
    ],
)
def test_lines_of_all_kinds(tmp_path: Path, line: str, box: tuple[Any, ...], confidence: float | None) -> None:
    """Five numbers, six with a confidence, more for an outline."""
    rows, facts = read(source_of("yolo", put(tmp_path / "in", a_txt=line)), tmp_path)
    [(picture, label, *found, sure)] = said(rows, "confidence")
    assert (picture, label, sure, facts.failures) == ("a", "0", confidence, [])
    assert found == [value if value == "NaN" else pytest.approx(value) for value in box]


def test_an_outline_is_kept(tmp_path: Path) -> None:
    """The box alone would lose it."""
    rows, _ = read(source_of("yolo", put(tmp_path / "in", a_txt="0 0 0 1 0 1 1")), tmp_path)
    assert json.loads(rows["attributes"][0]) == {"outline": [0, 0, 1, 0, 1, 1]}


def test_bad_lines_are_told_and_the_rest_is_read(tmp_path: Path) -> None:
    """By file and line; blank lines and any line end do not matter."""
    text = f"{LINE}\r\n1 2 3\r{LINE}cat 0.5 0.5 1 1\n-1 .5 .5 1 1\n1.5 .5 .5 1 1\n1 1 1 1 1 1 1 1\n{LINE}"
    rows, facts = read(source_of("yolo", put(tmp_path / "in", a_txt=text, b_txt=LINE)), tmp_path)
    assert list(rows.select("file", "row").iter_rows()) == [("a.txt", 1), ("a.txt", 4), ("a.txt", 9), ("b.txt", 1)]
    assert [(name, error) for name, error, _ in facts.failures] == [("a.txt", "broken_line")] * 5
    assert facts.failures[0][2] == "a.txt, line 3: expected `class x y width height`, found '1 2 3'."
    assert "line 8" in facts.failures[-1][2]


def test_thousands_of_bad_lines_are_counted(tmp_path: Path) -> None:
    """A thousand are told, the others as one."""
    _, facts = read(source_of("yolo", put(tmp_path / "in", a_txt=LINE + "x\n" * 1_234)), tmp_path)
    assert len(facts.failures) == 1_001
    assert facts.failures[-1][2] == "234 more lines and files could not be read."


def test_an_empty_text_is_a_picture_without_boxes(tmp_path: Path) -> None:
    """And a text that cannot be read is none."""
    folder = put(tmp_path / "in", labels__a_txt="", labels__b_txt=" \n", labels__c_txt=b"\0\1\2")
    rows, facts = read(source_of("yolo", folder), tmp_path)
    assert said(rows, "is_label") == [(f"images/{name}", None, None, None, None, None, False) for name in "ab"]
    assert [(name, error) for name, error, _ in facts.failures] == [("labels/c.txt", "not_text")]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("data_yaml", "names: [cat, dog]"),
        ("data_yaml", "nc: 2\nnames:\n  0: cat\n  1: dog\n"),
        ("data_yaml", "names: {1: dog}"),
        ("dataset_yml", "names:\n- cat\n- 'dog'\n"),
        ("obj_names", "cat\r\ndog\r\n"),
        ("my_names", "\ufeffcat\ndog\n\n"),
        ("classes_txt", " cat \n dog"),
        ("labelmap_txt", "# label:color_rgb\ncat:0,0,0:\ndog:1,1,1:\n"),
        ("notes_json", '{"categories": [{"id": 1, "name": "dog"}, {"id": 0, "name": "cat"}]}'),
    ],
)
def test_class_lists_of_all_kinds(tmp_path: Path, name: str, text: str) -> None:
    """Beside the labels, or up to three folders above."""
    for level, above in enumerate(("", "a__", "a__b__", "a__b__c__")):
        folder = put(tmp_path / f"{level}", **{name: text, f"{above}labels__x_txt": LINE})
        assert labels(folder, tmp_path) == (["dog"] if level < 3 else ["1"])


def test_darknet_says_where_its_names_are(tmp_path: Path) -> None:
    """Relative to a folder that nobody tells: here, or by the last part of the path."""
    told = "classes = 2\nnames = data/coco.list\n"
    for name in ("coco_list", "data__coco_list"):
        folder = put(tmp_path / name, obj_data=told, labels__x_txt=LINE, **{name: "cat\ndog\n"})
        assert labels(folder, tmp_path) == ["dog"]


def test_words_that_yaml_takes_for_truth_stay_words(tmp_path: Path) -> None:
    """A class may be called `no`."""
    assert labels(put(tmp_path / "in", data_yaml="names: [yes, no]", labels__x_txt=LINE), tmp_path) == ["no"]


def test_a_list_outside_of_what_was_named_is_not_read(tmp_path: Path) -> None:
    """Not above it, nor by a link or a path that leads out of it."""
    put(tmp_path, classes_txt="secret\nsecret\n")
    folder = put(tmp_path / "in", labels__x_txt=LINE, obj_data="names = ../classes.txt")
    (folder / "classes.txt").symlink_to(tmp_path / "classes.txt")
    assert labels(folder, tmp_path) == ["1"]


def test_each_folder_has_its_own_list(tmp_path: Path) -> None:
    """What the source declares is all of them."""
    folder = put(
        tmp_path / "in",
        a__labels__x_txt=LINE,
        b__labels__x_txt=LINE,
        a__classes_txt="cat\ndog\n",
        b__classes_txt="dog\nowl\n",
    )
    rows, facts = read(source_of("yolo", folder, "*/labels/*.txt"), tmp_path)
    assert (rows["label"].to_list(), facts.categories) == (["dog", "owl"], ("cat", "dog", "owl"))


def test_a_named_list_comes_before_all_others(tmp_path: Path) -> None:
    """It may lie anywhere."""
    folder = put(tmp_path / "in", labels__x_txt=LINE, data_yaml="names: [a, b]")
    put(tmp_path, classes_txt="cat\ndog\n")
    rows, facts = with_list(source_of("yolo", folder, "labels/*.txt"), tmp_path / "classes.txt")
    assert (rows["label"].to_list(), facts.categories) == (["dog"], ("cat", "dog"))


def test_a_class_beyond_the_list_breaks_a_rule(tmp_path: Path) -> None:
    """Its label is its number."""
    text = LINE * 2 + "7 .5 .5 1 1\n"
    rows, _ = read(
        source_of("yolo", put(tmp_path / "in", labels__x_txt=text, classes_txt="a\nb"), "labels/*"), tmp_path
    )
    assert rows["label"].to_list() == ["b", "b", "7"]
    assert rows["rule"].to_list() == [None, None, "reference.category"]
    assert rows["detail"][2].startswith("class 7 is not in ")
    assert rows["detail"][2].endswith("classes.txt, which has 2")


def test_a_list_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    """Where most boxes are beyond it; both are named."""
    folder = put(tmp_path / "in", labels__x_txt=LINE + "7 .5 .5 1 1\n" * 2, classes_txt="a\nb")
    with pytest.raises(UsageError, match=r"in: 2 of 3 boxes have a class beyond the list .*classes\.txt, which has 2"):
        read(source_of("yolo", folder, "labels/*"), tmp_path)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("data_yaml", "names: [a, b"),
        ("data_yaml", "names: 7"),
        ("data_yaml", "names: {cat: 0}"),
        ("data_yaml", "names: {999999999: cat}"),
        ("data_yaml", "names: [[a, b]]"),
        ("data_yaml", "a: &a [x,x]\nb: &b [*a,*a]\nnames: [*b, *b]"),
        ("data_yaml", "names: !!python/object/apply:os.system [ls]"),
        ("data_yaml", "x" * (1 << 20) + "y"),
        ("notes_json", "{"),
        ("notes_json", '{"categories": [{"id": "x", "name": 3}]}'),
        ("classes_txt", "a\n" * 100_001),
    ],
)
def test_a_list_that_cannot_be_read_is_refused(tmp_path: Path, name: str, text: str) -> None:
    """Named, and not held against the labels."""
    folder = put(tmp_path / "in", labels__x_txt=LINE, **{name: text})
    with pytest.raises(UsageError, match=name.replace("_", ".")):
        read(source_of("yolo", folder, "labels/*"), tmp_path)


@pytest.mark.parametrize("layout", ["expression", "face"])
def test_what_we_export_comes_back(tmp_path: Path, layout: CategoryLayout) -> None:
    """Boxes to a millionth, labels by our data.yaml, pictures without a face."""
    kept = Kept()
    rows = clean(tables(picture("b/a.jpg", face((64, 48, 128, 96), "sad")), picture("none.jpg")))
    options: dict[str, Any] = {"roots": {0: ""}, "copies": None}
    write_yolo(Parts(rows), kept, layout=layout, categories=label_order(LABELS), **options)
    for name in kept.files:
        path = tmp_path / "out" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(kept.text(name))
    assert not yolo.is_one((tmp_path / "out" / "train.txt").read_bytes(), "train.txt")
    found, facts = read(source_of("yolo", tmp_path / "out", "labels/**/*.txt"), tmp_path)
    assert said(found) == [
        ("images/b/a", "face" if layout == "face" else "sad", 0.2, 0.2, 0.2, 0.2),
        ("images/none", None, None, None, None, None),
    ]
    assert facts.categories == (("face",) if layout == "face" else label_order(LABELS))


@pytest.mark.parametrize(
    ("text", "name", "is_one"),
    [
        (LINE, "a.txt", True),
        (f"{LINE}x y\n", "a.txt", True),  # a bad line does not make it something else
        (LINE.strip(), "deep/labels/A.TXT", True),
        ("", "labels/a.txt", True),
        ("\n", "train_001.txt", True),
        ("", "README.txt", False),
        ("", "VOC/ImageSets/Main/cow.txt", False),
        ("", "cow_trainval.txt", False),
        ("a b c\n", "a.txt", False),
        ("cat\ndog\n", "classes.txt", False),
        ("images/a.jpg\nimages/b.jpg\n", "train.txt", False),
        ("0 0 0 2 2 2 2 0 label_0 0\n", "a.txt", False),  # DOTA
        ("1 2 3 4 5 6 7 8 9 10\n", "a.txt", False),  # WIDER FACE
        ("5\nimage_id x_1 y_1 width height\n000001.jpg 95 71 226 313\n", "a.txt", False),
        (LINE, "a.csv", False),
        ("\0" + LINE, "a.txt", False),
    ],
)
def test_the_format_is_told_by_its_lines(text: str, name: str, is_one: bool) -> None:
    """Most of them must be boxes; an empty text may be a picture's, if it is not known for something else."""
    assert yolo.is_one(text.encode(), name) == is_one


@given(st.text("0123456789.-+e nai\t", max_size=40))
def test_any_line_is_a_box_or_none(line: str) -> None:
    """Never an error."""
    found = yolo._parsed(line)
    assert found is None or (found.number >= 0 and len(found.box) == 4)
