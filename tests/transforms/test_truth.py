"""Truth of every form is read into one shape; what it does not say is not guessed, and what is left out is counted."""

import contextlib
import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.aliases import CODES
from schemas.errors import UsageError
from schemas.vocabulary import EXPRESSIONS
from transforms import truth as module
from transforms import truth_forms
from transforms.truth import Language, Truth, read_truth
from transforms.truth_forms import BOX, Form

PLAIN = Language(EXPRESSIONS, None)


def read(
    path: Path, *, codes: str | None = None, form: Form | None = None, columns: dict[str, str] | None = None
) -> Truth:
    """Read the truth with the canonical labels."""
    return read_truth(str(path), form, Language(EXPRESSIONS, codes), columns or {})


def table(folder: Path, text: str | bytes) -> Path:
    """Write a table."""
    path = folder / "truth.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def said(truth: Truth) -> list[tuple[Any, ...]]:
    """Return each face's picture, label and, where it has one, box."""
    rows = truth.faces.join(truth.pictures, on="picture").sort("picture", *BOX)
    return [
        (row["name"], row["label"], *([] if row["x"] is None else [[row[side] for side in BOX]]))
        for row in rows.iter_rows(named=True)
    ]


def coco(folder: Path, **members: Any) -> Path:
    """Write COCO with one picture, a category for it, and what is given."""
    whole = {"images": [{"id": 1, "file_name": "a.jpg"}], "categories": [{"id": 4, "name": "Happiness"}], **members}
    path = folder / "truth.json"
    path.write_text(json.dumps(whole))
    return path


# Labels


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("happy", "happy"),
        ("HAPPINESS", "happy"),
        (" Joy ", "happy"),
        ("ａｎｇｒｙ", "angry"),  # wide letters
        ("Angry\u00a0", "angry"),
        ("surprised", "surprise"),
        ("sadness", "sad"),
        ("afraid", "fear"),
        ("contemptuous", "contempt"),
        ("suprise", None),  # a misspelling is not guessed
        ("angry/disgust", None),
        ("3", None),  # a number is no label unless it is said what it means
        ("", None),
    ],
)
def test_labels_are_understood_by_name(text: str, label: str | None) -> None:
    """Whatever their case and width; never by likeness."""
    assert PLAIN.canonical(text) == label


def test_numbers_mean_what_was_said() -> None:
    """FER2013 and FER+ count differently."""
    assert [Language(EXPRESSIONS, "fer2013").canonical(str(code)) for code in range(8)] == [
        *CODES["fer2013"].values(),
        None,
    ]
    assert Language(EXPRESSIONS, "ferplus").canonical("0") == "neutral"
    assert Language(EXPRESSIONS, "ferplus").canonical("٣") == "sad"  # another script's digit is a digit


def test_an_alias_stands_only_for_a_label_that_is_known() -> None:
    """A vocabulary of its own may have another word for it."""
    assert Language(("calm", "sad"), None).canonical("joy") is None
    assert Language(("calm", "sad"), None).canonical("Calm") == "calm"


# Tables


def test_a_header_names_the_columns(tmp_path: Path) -> None:
    """In any spelling; rows that say the same are one."""
    truth = read(table(tmp_path, "id,Image Name,Emotion\n1,b.jpg,joy\n2,x/a.jpg,SAD\n3,b.jpg,happy\n"))
    assert (truth.form, said(truth)) == ("csv", [("b.jpg", "happy"), ("x/a.jpg", "sad")])
    assert truth.left_out == {"rows that repeat another": 1}


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("line_end", ["\n", "\r", "\r\n"])
def test_tables_without_a_header_are_read_by_content(tmp_path: Path, separator: str, line_end: str) -> None:
    """Whatever separates their cells and lines."""
    rows = [("906", "a 1.jpg", "fear"), ("906", "ä.png", "joy"), ("907", "c.jpg", "who knows")]
    truth = read(table(tmp_path, line_end.join(separator.join(row) for row in rows)))
    assert said(truth) == [("a 1.jpg", "fear"), ("ä.png", "happy")]
    assert truth.unknown_labels == {"who knows": 1}
    assert truth.pictures.height == 3


def test_columns_are_taken_as_they_are_told(tmp_path: Path) -> None:
    """By number from 1, or by name; the rest is found as always."""
    path = table(tmp_path, "a.jpg,b.jpg,sad,happy\nc.jpg,d.jpg,sad,angry\n")
    assert said(read(path, columns={"file": "2", "label": "4"})) == [("b.jpg", "happy"), ("d.jpg", "angry")]
    path = table(tmp_path, "label,Bild,Ausdruck\n1,a.jpg,sad\n")
    assert said(read(path, columns={"file": "bild", "label": "Ausdruck"})) == [("a.jpg", "sad")]
    assert said(read(path, columns={"file": "Bild"})) == []  # its label is now a number


@pytest.mark.parametrize("mark", ["\ufeff", ""])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_tables_of_spreadsheets_are_read(tmp_path: Path, mark: str, encoding: str) -> None:
    """With their byte order mark, quotes, and "Unicode text" in UTF-16."""
    text = f'{mark}file\tlabel\r\n"a, ""b"".jpg"\tsad\r\n\r\n'
    assert said(read(table(tmp_path, text.encode(encoding)))) == [('a, "b".jpg', "sad")]


@pytest.mark.parametrize(
    ("header", "cells"),
    [
        ("x,y,w,h", "10,20,30,40"),
        ("bbox_x,bbox_y,bbox_w,bbox_h", "10,20,30,40"),
        ("xmin,ymin,xmax,ymax", "10,20,40,60"),
        ("Left,Top,Right,Bottom", "10,20,40,60"),
        ("x1,y1,x2,y2", "10.0, 20 ,40,6e1"),
        ("width,height,xmin,ymin,xmax,ymax", "640,480,10,20,40,60"),  # the first two are the picture's
        ("x,y,bbox_x,bbox_y,bbox_w,bbox_h", "5,5,10,20,30,40"),  # the first two are a point
    ],
)
def test_boxes_are_found_in_every_usual_form(tmp_path: Path, header: str, cells: str) -> None:
    """As corners or as sizes, but always four of one kind."""
    path = table(tmp_path, f"file,label,{header}\na.jpg,sad,{cells}\n")
    assert said(read(path)) == [("a.jpg", "sad", [10, 20, 30, 40])]


def test_boxes_that_are_told_go_before_those_that_are_found(tmp_path: Path) -> None:
    """Sizes that were named, though corners are there."""
    path = table(tmp_path, "file,label,xmin,ymin,xmax,ymax,l,t,b,c\na.jpg,sad,1,1,9,9,10,20,30,40\n")
    told = read(path, columns={"x": "l", "y": "t", "w": "b", "h": "c"})
    assert said(told) == [("a.jpg", "sad", [10, 20, 30, 40])]


def test_a_row_that_ends_early_says_nothing_of_the_rest(tmp_path: Path) -> None:
    """Also where it is the first one."""
    truth = read(table(tmp_path, "file,label,x,y,w,h\na.jpg,sad\nb.jpg,sad,1,2,3,4\n"))
    assert said(truth) == [("a.jpg", "sad"), ("b.jpg", "sad", [1, 2, 3, 4])]


def test_faces_of_one_picture_are_told_by_their_boxes(tmp_path: Path) -> None:
    """The same box twice is one face; contradicted, its place is still known. What has an unknown label is none."""
    rows = ["a.jpg,sad,0,0,9,9", "a.jpg,happy,50,0,9,9", "a.jpg,happy,50,0,9,9"]
    rows += ["b.jpg,sad,0,0,9,9", "b.jpg,joy,0,0,9,9", "b.jpg,dog,20,20,9,9", "b.jpg,,40,40,9,9", "b.jpg,sad,1,1,0,9"]
    truth = read(table(tmp_path, "\n".join(["file,label,x,y,w,h", *rows])))
    assert said(truth) == [
        ("a.jpg", "sad", [0, 0, 9, 9]),
        ("a.jpg", "happy", [50, 0, 9, 9]),
        ("b.jpg", None, [0, 0, 9, 9]),
        ("b.jpg", None, [20, 20, 9, 9]),
        ("b.jpg", None, [40, 40, 9, 9]),
    ]
    assert truth.faces["counts"].to_list() == [True, True, True, False, True]
    assert truth.unknown_labels == {"dog": 1}
    assert truth.left_out == {
        "boxes without an extent": 1,
        "rows that contradict each other": 2,
        "rows that repeat another": 1,
    }


def test_pictures_that_are_labelled_twice_differently_are_left_out(tmp_path: Path) -> None:
    """Nobody knows which is right."""
    truth = read(table(tmp_path, "file,label\na.jpg,sad\na.jpg,happy\nb.jpg,sad\nc.jpg,\n,sad\n"))
    assert said(truth) == [("b.jpg", "sad")]
    assert truth.left_out == {
        "rows without a file name": 1,
        "rows without a label": 1,
        "rows that contradict each other": 2,
    }


def test_frames_are_told_by_number_or_by_time(tmp_path: Path) -> None:
    """A number makes the name that exports give the frame."""
    rows = "video,frame_index,pts_ms,label\nv/clip.mp4,7,,sad\nv/clip.mp4,,40.5,happy\nv/clip.mp4,8,320,fear\n"
    truth = read(table(tmp_path, rows))
    assert truth.pictures.rows() == [
        (0, "v/clip.mp4", 40.5),
        (1, "v/clip.mp4/000007.jpg", None),
        (2, "v/clip.mp4/000008.jpg", None),
    ]


def test_names_are_compared_in_one_spelling(tmp_path: Path) -> None:
    """Slashes of Windows, dots, doubled slashes, and the decomposed letters of macOS."""
    names = [".\\x\\a.jpg", "/x//./b.jpg", "x/u\u0308.jpg", "./c.jpg", "x/.hidden/d.jpg", "x../e.jpg"]
    truth = read(table(tmp_path, "file,label\n" + "".join(f"{name},sad\n" for name in names)))
    expected = ["c.jpg", "x../e.jpg", "x/.hidden/d.jpg", "x/a.jpg", "x/b.jpg", "x/\u00fc.jpg"]
    assert truth.pictures["name"].to_list() == sorted(expected)


def test_only_the_end_of_a_very_deep_name_counts(tmp_path: Path) -> None:
    """Sixty-four parts: no file system goes so deep, but a hostile table does."""
    truth = read(table(tmp_path, f"file,label\n{'d/' * 5_000}a.jpg,sad\n"))
    assert truth.pictures["name"].to_list() == ["d/" * 63 + "a.jpg"]


def test_votes_have_a_column_for_each_label(tmp_path: Path) -> None:
    """As in FER+, whose last two columns are for no expression and no face."""
    rows = [
        "Usage,Image name,neutral,happiness,unknown,NF",
        "Test,a.jpg,2,8,0,0",
        "Test,b.jpg,4,0,3,3",  # most find none
        "Test,c.jpg,5,0,5,0",
        "Test,d.jpg,0,0,0,0",
        "Test,e.jpg,-1,2,0,0",
        "Test,f.jpg,,3,0,0",
        "Test,,1,2,0,0",
        "Test,g.jpg,1,2,0,0",
        "Test,g.jpg,2,1,0,0",
    ]
    truth = read(table(tmp_path, "\n".join(rows)))
    assert truth.voted == ("neutral", "happy")
    faces = truth.faces.join(truth.pictures, on="picture").sort("picture")
    assert faces["name"].to_list() == ["a.jpg", "c.jpg", "f.jpg"]
    columns = ("votes neutral", "votes happy", "dismissals unknown", "dismissals nf")
    assert faces.select(columns).rows() == [(2, 8, 0, 0), (5, 0, 5, 0), (0, 3, 0, 0)]
    assert truth.left_out == {
        "rows without a file name": 1,
        "votes that are no counts": 1,
        "faces that most votes find without an expression, or no face": 2,
        "rows that contradict each other": 2,
    }


def test_a_label_goes_before_votes(tmp_path: Path) -> None:
    """Where a table has both."""
    truth = read(table(tmp_path, "file,happy,sad,label\na.jpg,8,2,sad\n"))
    assert (said(truth), truth.voted) == ([("a.jpg", "sad")], ())


def test_the_most_frequent_unknown_labels_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rest is counted."""
    monkeypatch.setattr(module, "MOST_UNKNOWN", 2)
    labels = ["b", "b", "c", "c", "c", "d", "e", "sad"]
    truth = read(table(tmp_path, "file,label\n" + "".join(f"{i}.jpg,{label}\n" for i, label in enumerate(labels))))
    assert list(truth.unknown_labels.items()) == [("c", 3), ("b", 2), ("(others)", 2)]


def test_real_tables_are_read(shared: Path) -> None:
    """One with a header, capitals, repeated names; one without, and with the line ends of an old Macintosh."""
    folder = shared / "data" / "annotations" / "facial_expressions"
    legend, plain = (read(folder / name) for name in ("legend.csv", "500_picts_satz.csv"))
    assert (legend.pictures.height, legend.faces.height, dict(legend.unknown_labels)) == (13_682, 13_681, {})
    assert legend.left_out == {"rows that contradict each other": 2, "rows that repeat another": 7}
    assert legend.faces["label"].value_counts(sort=True).rows()[:2] == [("neutral", 6_864), ("happy", 5_693)]
    assert (plain.faces.height, dict(plain.left_out)) == (500, {})
    assert plain.faces.filter(plain.faces["label"] == "sad").height == 50


# Folders


def test_a_folder_names_the_label_of_its_pictures(tmp_path: Path) -> None:
    """The nearest one that names any; hidden files and texts are no pictures."""
    for name in (
        "happy/a.jpg",
        "happy/mads/b.jpg",
        "test/SADNESS/c.jpg",
        "bored/d.jpg",
        "sad/.x.jpg",
        "sad/readme.txt",
    ):
        (tmp_path / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "set" / name).touch()
    truth = read(tmp_path / "set")
    assert truth.form == "folders"
    assert said(truth) == [("happy/a.jpg", "happy"), ("happy/mads/b.jpg", "happy"), ("test/SADNESS/c.jpg", "sad")]
    assert truth.unknown_labels == {"bored": 1}
    assert said(read(tmp_path / "set" / "happy")) == [("a.jpg", "happy"), ("mads/b.jpg", "happy")]


def test_folders_may_be_numbers(tmp_path: Path) -> None:
    """Where it is said what they mean."""
    (tmp_path / "3").mkdir()
    (tmp_path / "3" / "a.jpg").touch()
    assert said(read(tmp_path)) == []
    assert said(read(tmp_path, codes="fer2013")) == [("3/a.jpg", "happy")]


# COCO


def test_coco_names_the_label_by_category_or_attribute(tmp_path: Path) -> None:
    """The attribute goes first. A category `face` is a face whose label nobody tells; a crowd is none to find."""
    categories = [{"id": 4, "name": "Happiness"}, {"id": 1, "name": "Face"}, {"id": 9, "name": "dog"}]
    rows = [
        {"image_id": 1, "category_id": 4, "bbox": [0, 0, 9, 9]},
        {"image_id": 1, "category_id": 1, "bbox": [10, 0, 9, 9], "attributes": {"expression": "sad"}},
        {"image_id": 1, "category_id": 1, "bbox": [20, 0, 9, 9], "attributes": None},
        {"image_id": 1, "category_id": 9, "bbox": [30, 0, 9, 9], "iscrowd": 1},
        {"image_id": 1, "category_id": 9, "bbox": [40, 0, 9, 9]},
        {"image_id": 1, "category_id": 77, "bbox": [50, 0, 9, 9]},
        {"image_id": 2, "category_id": 4},  # of the whole picture
        {"image_id": 8, "category_id": 4, "bbox": [0, 0, 9, 9]},  # of no picture
        {"image_id": 1, "category_id": 4, "bbox": [0, "x", 9, 9]},
    ]
    images = [{"id": 1, "file_name": "a.jpg"}, {"id": "2", "file_name": "b.jpg"}, {"id": 3, "file_name": "c.jpg"}]
    truth = read(coco(tmp_path, images=images, annotations=rows, categories=categories))
    assert truth.form == "coco"
    labels = ["happy", "sad", None, None, None, None]
    assert said(truth) == [
        *(("a.jpg", label, [10 * at, 0, 9, 9]) for at, label in enumerate(labels)),
        ("b.jpg", "happy"),
    ]
    assert truth.faces["counts"].to_list() == [True, True, True, False, False, False, True]
    assert truth.pictures["name"].to_list() == ["a.jpg", "b.jpg", "c.jpg"]  # the last one has nobody on it
    assert truth.unknown_labels == {"category 77": 1, "dog": 1}
    assert truth.left_out == {"annotations of no picture": 1, "boxes without an extent": 1}


def test_many_elements_are_read_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And none is lost where parts meet."""
    monkeypatch.setattr(truth_forms, "_PART_ROWS", 7)
    images = [{"id": number, "file_name": f"{number:03}.jpg"} for number in range(50)]
    rows = [{"image_id": number, "category_id": 4, "bbox": [number, 0, 9, 9]} for number in range(50)]
    truth = read(coco(tmp_path, images=images, annotations=rows))
    assert said(truth) == [(f"{number:03}.jpg", "happy", [number, 0, 9, 9]) for number in range(50)]


def test_half_characters_of_json_are_no_error(tmp_path: Path) -> None:
    """They are written out, as in a table's names."""
    truth = read(coco(tmp_path, images=[{"id": 1, "file_name": "\ud800.jpg"}], annotations=[]))
    assert truth.pictures["name"].to_list() == ["ud800.jpg"]  # the backslash is a folder's


# Mistakes


@pytest.mark.parametrize(
    ("text", "columns", "told"),
    [
        ("", {}, "is empty"),
        ("  \n", {}, "is empty"),
        ("\0\1\2", {}, "is no text"),
        ("name,what\na,b\n", {}, "no column of TRUTH names files (it begins with 'name', 'what')"),
        ("file,what\na.jpg,b\n", {}, "no column of TRUTH holds labels"),
        ("file,what\na.jpg,b\n", {"label": "wat"}, "no column 'wat': expected one of 'file', 'what'"),
        ("file,what\na.jpg,b\n", {"label": "3"}, "has 2 columns, no column 3"),
        ("file,what\na.jpg,b\n", {"label": "0"}, "has 2 columns, no column 0"),
        ("file,what\na.jpg,b\n", {"lable": "2"}, "holds no 'lable'"),
        ("file,label\na.jpg,sad,too,many\n", {}, "is no table"),
        ("file,label,x,y,w,h\na.jpg,sad,1,2,three,4\n", {}, "expected a number for w, found 'three'"),
        ("file,label,x,y,w,h\na.jpg,sad,.1,.2,.3,.4\n", {}, "expected pixels"),
        ("file,label,frame_index\na.mp4,sad,-1\n", {}, "expected a number for frame_index, found '-1'"),
        ("file,label,frame_index\na.mp4,sad,inf\n", {}, "expected a number for frame_index, found 'inf'"),
        ("file,label,frame_index\na.mp4,sad,1e300\n", {}, "expected a number for frame_index"),
        ("[1, 2]", {}, "names no images"),
        ('{"images": []}', {}, "names no images"),
        ('{"images": [{"id": 1}]}', {}, 'an element of images has no file_name: {"id": 1}'),
        ('{"images": [{"file_name": "a.jpg"}]}', {}, "an element of images has no id"),
        ('{"images": [3]}', {}, "an element of images is no object: 3"),
        ('{"images": [{"id": 1, "file_name": "a"}, {"id": 1, "file_name": "b"}]}', {}, "the image id 1 stands for"),
        ('{"annotations": [{"bbox": [1, 2, 3, 4]}]}', {}, "an element of annotations has no image_id"),
        ('{"annotations": [{"image_id": 1, "bbox": [1, 2]}]}', {}, "expected bbox as [x, y, w, h], found [1, 2]"),
        ('{"images": [{"id": 1, "file_name": "a.jpg"}', {}, "cannot be read as COCO"),
        ('{"images": []}', {"label": "2"}, "--columns is for tables"),
    ],
)
def test_a_mistake_is_told_in_one_line(tmp_path: Path, text: str, columns: dict[str, str], told: str) -> None:
    """Never a traceback."""
    path = table(tmp_path, text)
    with pytest.raises(UsageError) as caught:
        read(path, columns=columns)
    assert told in str(caught.value).replace(str(path), "TRUTH")
    assert "\n" not in str(caught.value)


_cells = st.text(st.sampled_from('ab.jpg,;\t\n\r"\\/0123-eE\0\ufeff\ud800\u00e9 '), max_size=12)
_headers = st.sampled_from(
    ["", "file,label\n", "file,x,y,w,h,label\n", "image,happy,sad,nf\n", "file,pts_ms,label,frame\n"]
)


@settings(max_examples=200, deadline=None)
@given(_headers, st.lists(st.lists(_cells, max_size=7), max_size=8), st.sampled_from([None, "ferplus"]))
def test_a_hostile_table_is_read_or_refused(header: str, rows: list[list[str]], codes: str | None) -> None:
    """Whatever its cells hold, quotes, zeros and half characters among them."""
    text = header + "\n".join(",".join(row) for row in rows)
    with tempfile.TemporaryDirectory() as folder, contextlib.suppress(UsageError):
        read(table(Path(folder), text.encode("utf-8", "surrogatepass")), codes=codes)


_json = (
    st.none() | st.booleans() | st.integers(-3, 2**70) | st.floats() | st.sampled_from(["1", "happy", "face", "\ud800"])
)
_objects = st.dictionaries(
    st.sampled_from(["id", "image_id", "file_name", "name", "category_id", "bbox", "iscrowd", "attributes"]),
    _json | st.lists(_json, min_size=4, max_size=4) | st.dictionaries(st.just("expression"), _json),
)
_members = st.fixed_dictionaries(
    {"images": st.just([{"id": 1, "file_name": "a.jpg"}]) | st.lists(_objects, max_size=3)},
    optional={"annotations": st.lists(_objects | _json, max_size=3), "categories": st.lists(_objects, max_size=3)},
)


@settings(max_examples=200, deadline=None)
@given(_members)
def test_hostile_coco_is_read_or_refused(members: dict[str, Any]) -> None:
    """Whatever stands where, and whatever is not there."""
    with tempfile.TemporaryDirectory() as folder, contextlib.suppress(UsageError):
        read(table(Path(folder), json.dumps(members)))


def test_what_is_not_there_or_too_large_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also a folder without pictures."""
    with pytest.raises(UsageError, match="is not there"):
        read(tmp_path / "nothing.csv")
    with pytest.raises(UsageError, match="holds no pictures"):
        read(tmp_path)
    monkeypatch.setattr(truth_forms, "MAX_TABLE_BYTES", 10)
    monkeypatch.setattr(truth_forms, "MAX_COCO_BYTES", 10)
    for path in (table(tmp_path, "file,label\na.jpg,sad\n"), coco(tmp_path)):
        with pytest.raises(UsageError, match="has more than 10 bytes"):
            read(path)
    monkeypatch.undo()
    monkeypatch.setattr(module, "MAX_FACES", 1)
    with pytest.raises(UsageError, match="one picture has 2 faces, the limit is 1"):
        read(table(tmp_path, "file,label,x,y,w,h\na.jpg,sad,0,0,9,9\na.jpg,sad,1,0,9,9\n"))
