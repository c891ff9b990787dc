"""Tables of any dialect: what columns hold is found or asked for, every line is read or told, at any length."""

import csv
import io
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.errors import UsageError
from schemas.raw import Facts
from tests.transforms.readers.given import put, source_of
from tests.transforms.readers.reading import read, said
from transforms.readers import tables

KAGGLE = "datumaro/kaggle_dataset"
BOXES = [
    ("1.jpg", "dog", 0, 1, 1, 2),
    ("1.jpg", "cat", 1, 2, 3, 3),
    ("2.jpg", "cat", 0, 0, 1, 1),
    ("3.jpg", "dog", 0, 2, 2, 4),
    ("3.jpg", "dog", 0, 0, 1, 1),
    ("3.jpg", "cat", 1, 1, 2, 2),
]
"""What three of Kaggle's tables say, as left, top, right, bottom."""


def table(folder: Path, text: str | bytes, name: str = "t_csv", **columns: str) -> tuple[pl.DataFrame, Facts]:
    """Return the rows of a table, and what is known of all."""
    return read(source_of("csv", put(folder / "in", **{name: text})), folder, columns)


def real(shared: Path, scratch: Path, name: str) -> tuple[pl.DataFrame, Facts]:
    """Return the rows of a real table."""
    path = shared / "data" / "annotations" / name
    return read(source_of("csv", path.parent, path.name), scratch)


def told(rows: pl.DataFrame) -> list[Any]:
    """Return the attributes."""
    return [text and json.loads(text) for text in rows["attributes"]]


def failed(facts: Facts) -> list[str]:
    """Return what is told of lines, without the file's name."""
    assert all(name == "t.csv" for name, _, _ in facts.failures)
    return [message.removeprefix("t.csv, ") for _, _, message in facts.failures]


# Real tables


def test_one_table_in_three_conventions(shared: Path, tmp_path: Path) -> None:
    """Corners, a corner and sizes, and a column of which nobody knows what it holds."""
    corners, one = real(shared, tmp_path, f"{KAGGLE}/image_csv_det/ann.csv")
    sizes, two = real(shared, tmp_path, f"{KAGGLE}/image_csv_det/ann2.csv")
    text, three = real(shared, tmp_path, f"{KAGGLE}/image_csv_det/ann3.csv")
    assert said(corners) == said(text) == BOXES
    assert said(sizes) == [(name, label, x, y, c - x, d - y) for name, label, x, y, c, d in BOXES]
    assert [facts.corners for facts in (one, two, three)] == ["xyxy", "xywh", None]
    assert [facts.unit for facts in (one, two, three)] == [None, None, None]
    assert corners["row"].to_list() == text["row"].to_list() == [2, 3, 4, 5, 6, 7]


def test_tables_without_a_header(shared: Path, tmp_path: Path) -> None:
    """Names of files, a word, four numbers; or no word at all."""
    rows, facts = real(shared, tmp_path, f"{KAGGLE}/image_txt_det/ann.txt")
    assert (said(rows), facts.corners, rows["row"].to_list()) == (BOXES, None, [1, 2, 3, 4, 5, 6])
    rows, _ = real(shared, tmp_path, f"{KAGGLE}/image_txt_det/ann_single_obj.txt")
    assert said(rows, "is_label")[0] == ("1.jpg", None, 0, 1, 1, 1, True)
    assert rows.height == 6


@pytest.mark.parametrize(
    ("name", "pairs", "categories"),
    [
        (
            f"{KAGGLE}/image_csv_multi_label/ann.csv",
            ["1dog", "2cat", "3person", "4dog", "4cat", "5dog", "5person", "6cat", "6person"],
            ("dog", "cat", "person"),
        ),
        (
            f"{KAGGLE}/image_csv_multi_label/ann_wo_ext.csv",
            ["1dog", "2cat", "3person", "4dog", "4cat", "5dog", "5person", "6cat", "6person"],
            ("dog", "cat", "person"),
        ),
        (
            "datumaro/roboflow_dataset/multiclass/train/_classes.csv",  # with a space after each comma
            ["train_001label_0", "train_002label_1"],
            ("label_0", "label_1"),
        ),
        (
            "datumaro/roboflow_dataset/multiclass/val/_classes.csv",
            ["val_001label_0", "val_001label_1"],
            ("label_0", "label_1"),
        ),
    ],
)
def test_a_column_for_each_label(
    shared: Path, tmp_path: Path, name: str, pairs: list[str], categories: tuple[str, ...]
) -> None:
    """A picture may have several by design."""
    rows, facts = real(shared, tmp_path, name)
    assert [
        f"{picture.removesuffix('.jpg')}{label}" for picture, label, *box in said(rows) if box == [None] * 4
    ] == pairs
    assert (facts.categories, facts.exclusive) == (categories, False)


def test_the_expressions_of_a_real_data_set(shared: Path, tmp_path: Path) -> None:
    """13,690 rows; 8 names twice, one of them with two labels; 921 in upper case; 9 of contempt."""
    rows, facts = real(shared, tmp_path, "facial_expressions/legend.csv")
    assert (rows.height, facts.failures, facts.categories) == (13_690, [], None)
    assert facts.columns == ("user.id", "image", "emotion")
    counts = Counter(rows["picture"])
    twice = [name for name, count in counts.items() if count > 1]
    assert (len(twice), max(counts.values())) == (8, 2)
    labels = {name: set(rows.filter(pl.col("picture") == name)["label"].str.to_lowercase()) for name in twice}
    assert sum(len(each) > 1 for each in labels.values()) == 1
    assert rows["label"].str.contains("^[A-Z]+$").sum() == 921
    assert (rows["label"].str.to_lowercase() == "contempt").sum() == 9
    assert told(rows)[0] == {"user.id": "628"}


def test_line_ends_of_three_kinds_and_no_header(shared: Path, tmp_path: Path) -> None:
    """The label is the column of expressions, the number before it is kept."""
    rows, facts = real(shared, tmp_path, "facial_expressions/500_picts_satz.csv")
    assert (rows.height, facts.failures, facts.columns) == (500, [], ())
    assert rows["row"].to_list() == list(range(1, 501))
    assert said(rows)[0] == ("Sourav_Ganguly_0003.jpg", "fear", None, None, None, None)
    assert set(rows["label"]) == {"anger", "fear", "happiness", "neutral", "sad"}
    assert told(rows)[0] == {"column 1": "906"}


def test_tables_of_open_images(shared: Path, tmp_path: Path) -> None:
    """Boxes are shares of the picture's sides; a label of confidence 0 says that it does not hold."""
    folder = "datumaro/open_images_dataset/v6/annotations"
    rows, facts = real(shared, tmp_path, f"{folder}/test-annotations-bbox.csv")
    assert said(rows) == [("c", "/m/3", 0.7, 0, 0.8, 0.5)]  # the columns lie in another order
    assert (facts.corners, facts.unit) == ("xyxy", "unit")
    assert told(rows)[0]["IsOccluded"] == "1"
    assert rows["confidence"].to_list() == pytest.approx([0.7])
    rows, facts = real(shared, tmp_path, f"{folder}/oidv6-train-annotations-human-imagelabels.csv")
    assert said(rows, "is_label", "confidence") == [
        ("a", "/m/0", None, None, None, None, True, 1),
        ("b", None, None, None, None, None, False, 0),
    ]
    assert told(rows)[1] == {"Source": "verification", "negative": "/m/0"}
    assert not facts.exclusive


def test_tables_of_vott(shared: Path, tmp_path: Path) -> None:
    """Texts in quotes."""
    rows, facts = real(shared, tmp_path, "datumaro/vott_csv_dataset/dataset/train-export.csv")
    assert said(rows, "row") == [
        ("img0003.jpg", "helmet", 6.7, 10.3, 10, 15, 2),
        ("img0004.jpg", "helmet", 1, 2, 2, 4, 3),
        ("img0003.jpg", "person", 13.7, 20.2, 45.6, 63.6, 4),
    ]
    assert (facts.corners, facts.unit) == ("xyxy", None)


def test_real_files_are_told_apart(shared: Path) -> None:
    """Each of a known name, and no list of pictures, class names, landmarks or YOLO's boxes."""
    folder = shared / "data" / "annotations"
    found = {
        path.relative_to(folder).as_posix()
        for path in folder.glob("**/*")
        if path.is_file() and tables.is_one(path.read_bytes()[: 1 << 16], str(path))
    }
    every = {path.relative_to(folder).as_posix() for path in folder.glob("**/*.csv")}
    others = {name.rpartition("/")[2] for name in every - found}
    music = "test_export_csv__csv_test2_result.csv"  # Label Studio labels that too
    assert others == {"image_ids_and_rotation.csv", "oidv6-class-descriptions.csv", music}
    assert found - every == {f"{KAGGLE}/image_txt_det/{name}.txt" for name in ("ann", "ann_single_obj")}


def test_a_table_of_no_pictures_is_refused(shared: Path, tmp_path: Path) -> None:
    """Label Studio labels music too."""
    with pytest.raises(UsageError, match=r"which column holds labels\? It begins with '_row_id', 'agreement'"):
        real(shared, tmp_path, "label_studio/test_export_csv__csv_test2_result.csv")


# What columns are called


@pytest.mark.parametrize(
    ("header", "line", "expected", "corners"),
    [
        ("filename,width,height,class,xmin,ymin,xmax,ymax", "a.jpg,64,48,cat,1,2,3,4", ("cat", 1, 2, 3, 4), "xyxy"),
        ("Image_Name,Emotion", "a.jpg,happy", ("happy", None, None, None, None), None),
        (" img , label ", "a.jpg,happy", ("happy", None, None, None, None), None),
        ("pic,x,y,w,h,expression", "a.jpg,1,2,3,4,sad", ("sad", 1, 2, 3, 4), "xywh"),
        ("path,left,top,right,bottom,category", "a.jpg,1,2,3,4,cat", ("cat", 1, 2, 3, 4), "xyxy"),
        ("path,left,top,width,height,category", "a.jpg,1,2,3,4,cat", ("cat", 1, 2, 3, 4), "xywh"),
        ("file,x_center,y_center,width,height,name", "a.jpg,.5,.5,.1,.2,cat", ("cat", 0.5, 0.5, 0.1, 0.2), "cxcywh"),
        ("file,cx,cy,w,h,name", "a.jpg,.5,.5,.1,.2,cat", ("cat", 0.5, 0.5, 0.1, 0.2), "cxcywh"),
        ("image,bbox_x1,bbox_y1,bbox_x2,bbox_y2,tag", "a.jpg,1,2,3,4,cat", ("cat", 1, 2, 3, 4), "xyxy"),
        ("image,face_x,face_y,face_width,face_height,label", "a.jpg,1,2,3,4,cat", ("cat", 1, 2, 3, 4), "xywh"),
        ("image,XMax,XMin,YMax,YMin,label", "a.jpg,3,1,4,2,cat", ("cat", 1, 2, 3, 4), "xyxy"),
        ("name,label", "a.jpg,cat", ("cat", None, None, None, None), None),
        ("image,name,x1,y1,x2,y2", "a.jpg,cat,1,2,3,4", ("cat", 1, 2, 3, 4), "xyxy"),
        ("image,x1,y1,x2,y2", "a.jpg,1,2,3,4", (None, 1, 2, 3, 4), "xyxy"),  # a box without a label
        ("image,bbox,source", 'a.jpg,"[1.0, 2, 3, 4]",us', (None, 1, 2, 3, 4), None),
        ("image,what", "a.jpg,cat", ("cat", None, None, None, None), None),  # the only words
        (",pth,label,relFCs", "0,a.jpg,surprise,0.8", ("surprise", None, None, None, None), None),
        ("foto,gefuehl", "a.jpg,happy", ("happy", None, None, None, None), None),  # all by content
    ],
)
def test_columns_are_known_by_name(
    tmp_path: Path, header: str, line: str, expected: tuple[Any, ...], corners: str | None
) -> None:
    """In any case, with any signs between, in any order."""
    rows, facts = table(tmp_path, f"{header}\n{line}\n")
    assert (said(rows), facts.corners, facts.failures) == ([("a.jpg", *expected)], corners, [])


def test_what_else_is_known_by_name(tmp_path: Path) -> None:
    """Sizes, confidences, frames and their times; the rest is kept, but for empty cells."""
    header = "video,frame,pts_ms,img_width,img_height,label,score,who,mood of the day\n"
    rows, _ = table(
        tmp_path, f'{header}v.mp4,3,120.5,640,480,sad,.25,"o""k",\nv.mp4,-1,x,,1e12,sad,,,\nv.mp4,x,,,,sad,q,,\n'
    )
    assert rows.select("frame", "pts_ms", "width", "height", "confidence").row(0) == (3, 120.5, 640, 480, 0.25)
    assert told(rows) == [{"who": 'o"k'}, None, None]
    assert rows["rule"].to_list() == [None, "reference.frame", "reference.frame"]
    assert rows["detail"][2] == "expected a frame's number, found 'x'"
    assert rows["frame"].to_list() == [3, -1, None]
    assert (rows["width"].to_list(), rows["height"].to_list()) == ([640, None, None], [480, None, None])
    assert str(rows["confidence"].to_list()) == "[0.25, None, nan]"
    assert str(rows["pts_ms"].to_list()) == "[120.5, nan, None]"


@pytest.mark.parametrize(
    ("text", "columns", "expected"),
    [
        ("a1,cat,1,2,3,4\n", {"file": "1", "label": "2"}, ("a1", "cat", 1, 2, 3, 4)),  # the box by content
        (
            "a1,cat,1,2,3,4\n",
            {"file": "1", "label": "2", "x1": "6", "y1": "5", "x2": "4", "y2": "3"},
            ("a1", "cat", 4, 3, 2, 1),
        ),
        (
            "a1,cat,1,2,3,4\n",
            {"file": "1", "label": "2", "cx": "3", "cy": "4", "w": "5", "h": "6"},
            ("a1", "cat", 1, 2, 3, 4),
        ),
        ("Bild;Was\na1;cat\n", {"file": "bild", "label": "Was"}, ("a1", "cat", None, None, None, None)),
        ("image,label,class\na1,cat,dog\n", {"label": "class"}, ("a1", "dog", None, None, None, None)),
        ("image,a,b\na1,x,y\n", {"label": "3"}, ("a1", "y", None, None, None, None)),
        ("image,x1,y1,x2,y2,a,b\na1,1,2,3,4,c,d\n", {"label": "0"}, ("a1", None, 1, 2, 3, 4)),  # there is none
        ("image,what,where\na1,cat,1 2 3 4\n", {"label": "what", "bbox": "where"}, ("a1", "cat", 1, 2, 3, 4)),
        ("a1 cat\n", {"file": "1", "label": "2"}, ("a1", "cat", None, None, None, None)),
    ],
)
def test_a_person_says_what_columns_hold(
    tmp_path: Path, text: str, columns: dict[str, str], expected: tuple[Any, ...]
) -> None:
    """By name or by number; the rest is found."""
    assert said(table(tmp_path, text, **columns)[0]) == [expected]


@pytest.mark.parametrize(
    ("text", "columns", "message"),
    [
        ("a,b\nc,d\n", {}, r"which column names pictures\? It begins with 'a', 'b'.*--columns file=1,label=2"),
        ("image,a,b\nx.jpg,c,d\nx.jpg,e,f\n", {}, "which column holds labels"),
        ("a.jpg,3,0,1,1,2\nb.jpg,2,0,1,1,1\n", {}, "which four of the 5 columns of numbers are a box"),
        ("image,label\na,b\n", {"label": "3"}, "2 columns, no column 3"),
        ("image,label\na,b\n", {"label": "emotion"}, "no column 'emotion': expected one of 'image', 'label'"),
        ("image,label\na,b\n", {"what": "1"}, "a table holds no 'what': expected one of file, label, x1"),
        ("image,label\na,b\n", {"x": "1", "w": "2"}, "x, w are no box"),
        ("image,label\na,b\n", {"file": "0"}, "which column names pictures"),
        ("image\na\n", {}, "its first line has one cell, 'image'"),
        ("\n \n", {}, "is empty"),
        ("image,label\n\0\0", {}, "is no text"),
        ("image,label," + ",".join(map(str, range(2_000))) + "\n", {}, "2,002 columns"),
        ("image,label\n" + "x" * (17 << 20), {}, "a line of more than 16,777,216 characters"),
    ],
)
def test_what_cannot_be_told_is_asked(tmp_path: Path, text: str, columns: dict[str, str], message: str) -> None:
    """With how the table begins, and how to say it."""
    with pytest.raises(UsageError, match=message):
        table(tmp_path, text, **columns)


# What cells hold


def test_labels_come_as_they_are_and_names_are_tidy(tmp_path: Path) -> None:
    """Spaces of labels are for others to judge."""
    rows, _ = table(tmp_path, "image,label\n a\\b.jpg , Happy \nc.jpg,  \n")
    assert said(rows, "is_label") == [
        ("a/b.jpg", " Happy ", None, None, None, None, True),
        ("c.jpg", None, None, None, None, None, False),
    ]


@pytest.mark.parametrize(
    ("cells", "box"),
    [
        ("1,2,3,4", (1, 2, 3, 4)),
        (" 1 , 2.5,1e3,-4", (1, 2.5, 1000, -4)),
        ("1,,3,4", (1, "NaN", 3, 4)),
        ("1,x,nan,inf", (1, "NaN", "NaN", "NaN")),
        (",,,", (None, None, None, None)),
    ],
)
def test_what_is_no_number(tmp_path: Path, cells: str, box: tuple[Any, ...]) -> None:
    """A box with a missing number is broken; one without any is none."""
    assert said(table(tmp_path, f"image,label,x1,y1,x2,y2\na,cat,{cells}\n")[0]) == [("a", "cat", *box)]


@pytest.mark.parametrize(
    ("cell", "box"),
    [
        ("[0,1,1,2]", (0, 1, 1, 2)),
        ("(0.5 1e1 -1 .25)", (0.5, 10, -1, 0.25)),
        ("1,2,3", ("NaN",) * 4),
        ("1,2,3,4,5", ("NaN",) * 4),
        ("1,2,3,nan", (1, 2, 3, "NaN")),
        ("{'x1': 1, 'y1': 2, 'x2': 3, 'y2': 4}", ("NaN",) * 4),
        ("", (None,) * 4),
    ],
)
def test_boxes_in_one_column(tmp_path: Path, cell: str, box: tuple[Any, ...]) -> None:
    """Four numbers between any signs, or none."""
    assert said(table(tmp_path, f'image,label,bbox\na,cat,"{cell}"\n')[0]) == [("a", "cat", *box)]


def test_fer2013(tmp_path: Path) -> None:
    """Numbers for labels, pictures without names, whose pixels are not kept."""
    lines = "".join(f"{label},{'70 80 ' * 1_152}, {usage}\n" for label, usage in ((0, "Training"), (3, "PublicTest")))
    rows, facts = table(tmp_path, f"emotion,pixels,Usage\n{lines}")
    assert said(rows) == [(f"fer2013_000000{at}", label, *[None] * 4) for at, label in enumerate("03")]
    assert told(rows) == [{"Usage": "Training"}, {"Usage": "PublicTest"}]
    assert (facts.columns, facts.categories) == (("emotion", "pixels", "Usage"), None)


def test_votes(tmp_path: Path) -> None:
    """The most votes win; a tie is not broken, and nobody's vote is no label."""
    header = "Usage,Image name,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF"
    counts = (
        "a.png,4,0,0,1,3,2,0,0,0,0",
        "b.png,0,5,5,0,0,0,0,0,0,0",
        "c.png,0,0,0,0,0,0,0,0,0,0",
        ",0,0,0,0,0,0,0,0,0,10",
    )
    text = "".join(f"{line}\n" for line in (header, *(f"Test,{each}" for each in counts)))
    rows, facts = table(tmp_path, text)
    assert said(rows) == [
        ("a.png", "neutral", *[None] * 4),
        ("b.png", "happiness/surprise", *[None] * 4),
        ("c.png", None, *[None] * 4),
    ]
    assert told(rows)[0]["sadness"] == "1"
    assert facts.categories == tuple(header.split(",")[2:])
    assert failed(facts) == ["line 5: no picture is named."]


def test_marks_that_are_none_are_told(tmp_path: Path) -> None:
    """A share is no mark; a picture without any is there."""
    rows, facts = table(tmp_path, "image,cat,dog,owl\na,1,0,TRUE\nb,0,0.7,1\nc,0,,-1\nd,0,1.0,0\n")
    assert said(rows, "is_label", "row") == [
        ("a", "cat", *[None] * 4, True, 2),
        ("a", "owl", *[None] * 4, True, 2),
        ("c", None, *[None] * 4, False, 4),
        ("d", "dog", *[None] * 4, True, 5),
    ]
    assert failed(facts) == ["line 3: expected 0 or 1 for 'dog'."]


def test_label_studio(tmp_path: Path) -> None:
    """Its boxes are in hundredths; a choice is a label of the whole picture."""
    shape = {"x": 10, "y": 20, "width": 30, "height": 40, "rotation": 0, "original_width": 600, "original_height": 400}
    cells = [
        ["image", "id", "label", "annotator", "annotation_id", "created_at", "updated_at", "lead_time"],
        ["/data/upload/1/a.jpg", 1, json.dumps([{**shape, "rectanglelabels": ["Car"]}]), 1, 1, "", "", 1.5],
        ["b.jpg", 2, "", 1, 2, "", "", 1],
        ["c.jpg", 3, "Happy", 1, 3, "", "", 1],
        ["d.jpg", 4, "[{", 1, 3, "", "", 1],
    ]
    out = io.StringIO()
    csv.writer(out).writerows(cells)
    rows, facts = table(tmp_path, out.getvalue())
    assert said(rows, "width", "is_label") == [
        ("a.jpg", "Car", 10, 20, 30, 40, 600, True),
        ("b.jpg", None, *[None] * 5, False),
        ("c.jpg", "Happy", *[None] * 5, True),
    ]
    assert (facts.corners, facts.unit) == ("xywh", "percent")
    assert told(rows)[0]["lead_time"] == "1.5"
    assert failed(facts) == ["line 5: a cell of labels is no JSON."]


# Lines


def test_any_separator_and_encoding(tmp_path: Path) -> None:
    """Among them decimal commas, and bytes that are no UTF-8 where the others are."""
    for text in ("image;label;x;y;w;h\na;café;1,5;2;3;4\n", "image|label|x|y|w|h\na|café|1.5|2|3|4\n"):
        for encoding in ("utf-8", "utf-8-sig", "utf-16", "cp1252"):
            assert said(table(tmp_path, text.encode(encoding))[0]) == [("a", "café", 1.5, 2, 3, 4)]
    rows, _ = table(tmp_path / "tabs", b"image\tlabel\na\tcaf\xe9\nb\t\xe4\xb8\xad\n", "t_tsv")
    assert rows["label"].to_list() == ["café", "中"]


@pytest.mark.parametrize("quote", ["", '"'])
def test_lines_of_another_length_are_told(tmp_path: Path, quote: str) -> None:
    """Blank ones and empty cells at the end do not matter; quotes change nothing."""
    text = f"\nimage,label\r\n\n{quote}a{quote},cat\rb\n,,\nc,dog,,\r\n  \nd,dog,owl\n,owl\ne,cat"
    rows, facts = table(tmp_path, text)
    assert list(rows.select("picture", "label", "row").iter_rows()) == [
        ("a", "cat", 4),
        ("c", "dog", 7),
        ("e", "cat", 11),
    ]
    assert sorted(failed(facts)) == [
        "line 10: no picture is named.",
        "line 5: expected 2 cells, found 1: 'b'.",
        "line 9: expected 2 cells, found 3: 'd,dog,owl'.",
    ]


def test_thousands_of_bad_lines_are_counted(tmp_path: Path) -> None:
    """A thousand are told, the others as one."""
    rows, facts = table(tmp_path, "image,label\n" + "a\n" * 1_234 + "b,cat\n")
    assert (rows["row"].to_list(), len(facts.failures)) == ([1236], 1_001)
    assert facts.failures[-1][2] == "t.csv: 234 more lines could not be read."


@pytest.mark.parametrize(
    ("text", "names", "message"),
    [
        ('b,"cat\nc,dog\n', ["a"], "lines 3 to 4: a quote does not end"),
        ('b,"cat\nc,dog\nd,"owl"\ne,cat\n', ["a", "e"], "line 3: a quote does not end, or 'label' goes over several"),
        ('b,"cat\nc,"dog",owl\ne,cat\n', ["a", "e"], "lines 3 to 4: expected 2 cells, found 3"),
        (
            f'b,"{"x" * ((1 << 20) + 1)}"\nc,dog\n',
            ["a", "c"],
            "lines 3 to 3: a quote does not end, or a cell has over 1,048,576",
        ),
    ],
)
def test_quotes_that_do_not_end_are_told(tmp_path: Path, text: str, names: list[str], message: str) -> None:
    """They must not swallow lines in silence."""
    rows, facts = table(tmp_path, f'image,label\n"a",cat\n{text}')
    assert rows["picture"].to_list() == names
    assert message in failed(facts)[0]
    assert len(facts.failures) == 1


def test_cells_of_several_lines_are_counted(tmp_path: Path) -> None:
    """A row is where it begins."""
    rows, _ = table(tmp_path, 'image,label,note\na,cat,"one\ntwo\n"\nb,dog,"x"\n')
    assert list(rows.select("picture", "row").iter_rows()) == [("a", 2), ("b", 5)]
    assert told(rows) == [{"note": "one\ntwo"}, {"note": "x"}]


def test_spaces_before_quotes(tmp_path: Path) -> None:
    """Some write a space after each comma, also where a quote begins."""
    rows, _ = table(tmp_path, 'image, label, note\na, "cat", "b, c"\n')
    assert (said(rows), told(rows)) == ([("a", "cat", *[None] * 4)], [{"note": "b, c"}])


def test_long_cells_are_not_kept(tmp_path: Path) -> None:
    """That they were there is."""
    rows, _ = table(tmp_path, f"image,label,points\na,cat,{'1 ' * 5_000}\n")
    assert told(rows) == [{"points_dropped": True}]


CELL = st.text(st.sampled_from("ab ,;\t\"'é中\n0.5-"), max_size=6).filter(lambda cell: not cell.startswith(' "'))


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(CELL, CELL, CELL), min_size=1, max_size=8), st.sampled_from(["\n", "\r\n", "\r"]))
def test_a_table_reads_back_what_was_written(
    tmp_path_factory: pytest.TempPathFactory, lines: list[tuple[str, str, str]], end: str
) -> None:
    """Any cells, in quotes where they must be: every line is a row."""
    kept = [(f"p{at}", label.replace("\n", " "), *rest) for at, (label, *rest) in enumerate(lines)]
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows([("image", "label", "n1", "n2"), *kept])
    rows, facts = table(tmp_path_factory.mktemp("t"), out.getvalue().replace("\n", end))
    assert facts.failures == []
    assert list(rows.select("picture", "label").iter_rows()) == [
        (name, label if label.strip() else None) for name, label, *_ in kept
    ]
    notes = [{name: cell.strip() for name, cell in zip(("n1", "n2"), row[2:], strict=True)} for row in kept]
    assert told(rows) == [{name: cell for name, cell in note.items() if cell} or None for note in notes]


@settings(deadline=None, max_examples=60)
@given(st.lists(st.lists(st.sampled_from(["a", "", " ", "7", "é"]), max_size=4), max_size=12))
def test_lines_with_and_without_quotes_are_read_alike(
    tmp_path_factory: pytest.TempPathFactory, lines: list[list[str]]
) -> None:
    """There are two ways to read them, a fast one and a careful one."""
    plain = "image,label,x\n" + "".join(",".join(line) + "\n" for line in lines)
    folder = tmp_path_factory.mktemp("t")
    one, other = table(folder, plain), table(folder, plain + '"q","r","s"\n')
    last = other[0].height - 1
    assert other[0]["picture"][last] == "q"
    assert one[0].equals(other[0].head(last), null_equal=True)
    assert sorted(failed(one[1])) == sorted(failed(other[1]))


def test_lines_across_blocks_keep_their_numbers(tmp_path: Path) -> None:
    """However the file is cut while it is read."""
    text = "image,label\r\n" + "".join(f"p{at:06},cat\r\n" for at in range(60_000)) + '"q",dog\r\n' * 60_000
    rows, facts = table(tmp_path, text)
    assert rows["row"].to_list() == list(range(2, 120_002))
    assert rows["picture"][59_999] == "p059999"
    assert facts.failures == []


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    """Ten times as many lines take little more."""
    script = (
        "import sys; from pathlib import Path; from schemas.raw import Facts, Source\n"
        "from transforms.readers import tables; from transforms.readers.rows import Options\n"
        "source = Source('csv', 't', '.', (sys.argv[1],), ('t.csv',))\n"
        "rows = sum(frame.height for frame in tables.read(source, Facts(), Options({}, Path('.'))))\n"
        "told = dict(line.split(':') for line in open('/proc/self/status'))\n"
        "print(rows, told['VmHWM'].split()[0])"
    )
    taken = []
    for count in (60_000, 600_000):
        text = "image,label,x1,y1,x2,y2,note\n" + "some/folder/picture.jpg,happiness,1.5,2.5,3.5,4.5,kept\n" * count
        path = put(tmp_path, t_csv=text) / "t.csv"
        ran = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True)
        rows, peak = map(int, ran.stdout.split())
        assert rows == count
        taken.append(peak)
    assert taken[1] - taken[0] < 60_000, taken  # KiB; the rows themselves are 120,000


@pytest.mark.parametrize(
    ("text", "name", "is_one"),
    [
        ("image,label\na.jpg,cat\n", "a.csv", True),
        ("image,label\na.jpg,cat\n", "a.txt", True),
        ("a.jpg,cat\n", "a", True),
        ("a,b\nc,d\n", "a.csv", True),  # a person must say what they hold
        ("a,b\nc,d\n", "a.txt", False),
        ("a.jpg\nb.jpg\n", "a.csv", False),  # a list
        ("a.jpg,b.jpg\nc.jpg,d.jpg\n", "a.txt", False),
        ("Hello, you\nhow are, you\n", "a.txt", False),
        ("0 0.5 0.5 1 1\n", "a.txt", False),  # YOLO
        ("train_00001.jpg 5\n", "EmoLabel/list_patition_label.txt", True),  # RAF-DB
        ("train_00001.jpg 5\n", "identity.txt", False),
        ("picture,source_uri,frame_index,pts_ms,sha256,image_id\n", "sources.csv", False),  # of our exports
        ('{"a": 1,\n"b": 2}', "a.csv", False),
        ("<a>,<b>", "a.csv", False),
        ("a,b\0", "a.csv", False),
        ("", "a.csv", False),
    ],
)
def test_the_format_is_told_by_its_beginning(text: str, name: str, is_one: bool) -> None:
    """By its cells, unless it is called a table."""
    assert tables.is_one(text.encode(), name) == is_one
