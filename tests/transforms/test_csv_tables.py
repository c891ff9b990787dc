"""The CSV tables are what pandas and duckdb read, and what no spreadsheet runs."""

import csv
import io
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.errors import RunError
from schemas.tables import Tables
from schemas.vocabulary import EXPRESSIONS, label_order
from tests.builders import LABELS, Parts, column, face, picture, tables, with_values
from tests.extras import extra
from tests.strategies import datasets
from tests.transforms.kept import Kept
from tests.transforms.things import UNKNOWN, thing, whole
from transforms import encoding
from transforms.csv_tables import FACES, IMAGES, write_csv_tables
from transforms.csv_tables import LABELS as LABELS_TABLE
from transforms.encoding import Landmarks, Written
from transforms.folders import Folder
from transforms.rules import clean

CATEGORIES = label_order(LABELS)
OPTIONS: dict[str, Any] = {"categories": CATEGORIES, "probabilities": CATEGORIES}


def exported(*each: Tables, landmarks: Landmarks = 5) -> Kept:
    """Return the export of some parts."""
    folder = Kept()
    write_csv_tables(Parts(*each), folder, landmarks=landmarks, **OPTIONS)
    return folder


def rows(text: str) -> list[dict[str, str]]:
    """Return the rows of a table as RFC 4180 says, every one complete."""
    read = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    assert {len(row) for row in read} == {len(read[0])}
    return [dict(zip(read[0], row, strict=True)) for row in read[1:]]


def people() -> Tables:
    """Return pictures of every outcome and a frame, with names that break careless writers."""
    return clean(
        tables(
            picture("a.jpg", face((10, 20, 100, 120)), face((300, 100, 90, 80), "sad", 0.25, attributes='{"a": "b"}')),
            picture('sub/ünï "quoted", 开心\n;.jpg', face(landmarks=[float("nan")] * 10)),
            picture("whole.jpg", face((None,) * 4, landmarks=None)),
            picture("none.jpg"),
            picture("copy.jpg", outcome="duplicate", duplicate_of="0" * 64),
            picture("v.mp4", face(), video_id="v", frame_index=7, pts_ms=280.5),
        )
    )


def test_a_face_is_a_row() -> None:
    """Numbers as numbers, texts in quotes, an empty cell for null."""
    told = rows(exported(people()).text(FACES))
    assert [row["file_name"] for row in told] == [
        "a.jpg",
        "a.jpg",
        'sub/ünï "quoted", 开心\n;.jpg',
        "whole.jpg",
        "v.mp4",
    ]
    first = told[0]
    assert [first[f"bbox_{side}"] for side in "xywh"] == ["10.0", "20.0", "100.0", "120.0"]
    assert (first["label"], first["confidence"], first["p_happy"], first["p_contempt"]) == ("happy", "0.9", "0.9", "")
    assert (first["right_eye_x"], first["right_eye_y"], first["yaw"], first["frame_index"]) == ("40.0", "68.0", "", "")
    assert (first["width"], first["height"], first["origin"]) == ("640", "480", "model")
    assert told[1]["attributes"] == '{"a": "b"}'
    assert told[2]["nose_x"] == ""  # not seen
    assert told[3]["bbox_x"] == ""  # a label of the whole picture
    assert (told[4]["frame_index"], told[4]["pts_ms"]) == ("7", "280.5")


def test_every_picture_is_a_row() -> None:
    """Those without a face too, and what became of each."""
    told = rows(exported(people()).text(IMAGES))
    assert [(row["outcome"], row["annotations"]) for row in told] == [
        ("labelled", "2"),
        ("labelled", "1"),
        ("labelled", "1"),
        ("no_face", "0"),
        ("duplicate", "0"),
        ("labelled", "1"),
    ]
    assert told[4]["duplicate_of"] == "0" * 64


def test_nothing_gives_two_tables_with_headers() -> None:
    """Readers want the columns."""
    empty = exported()
    assert rows(empty.text(FACES)) == rows(empty.text(IMAGES)) == []
    assert empty.text(FACES).startswith('"file_name","source_uri","frame_index"')
    assert exported(tables()).files[FACES].getvalue() == empty.files[FACES].getvalue()


def test_a_held_back_pictures_labels_are_not_shown() -> None:
    """Even where the table still has some."""
    told = exported(tables(picture("a.jpg", face(), outcome="quarantined"), picture("b.jpg", face())))
    assert [row["file_name"] for row in rows(told.text(FACES))] == ["b.jpg"]


def test_68_landmarks_have_columns_where_there_are_any() -> None:
    """By their numbers, which all tools share."""
    points = [float(i) for i in range(136)]
    told = exported(clean(tables(picture("a.jpg", face(landmarks_68=points), face((300, 9, 50, 60))))), landmarks=68)
    first, second = rows(told.text(FACES))
    assert (first["landmark_01_x"], first["landmark_68_y"], second["landmark_01_x"]) == ("0.0", "135.0", "")
    assert "landmark_01_x" not in rows(exported(people()).text(FACES))[0]


@pytest.mark.parametrize("name", ["=1+1.jpg", "+a", "-a/b.jpg", "@x.jpg", "\t=1", "\r=1", "＝1"])
def test_a_name_is_no_formula(name: str) -> None:
    """The path is still the same file's; other texts get an apostrophe."""
    told = exported(tables(picture(name, face(model="=cmd()"), source_uri=name, source_id="-2")))
    [row] = rows(told.text(FACES))
    assert (row["file_name"], row["source_uri"], row["model"]) == (f"./{name}", f"./{name}", "'=cmd()")
    assert rows(told.text(IMAGES))[0]["source_id"] == "'-2"


@settings(max_examples=50, deadline=None)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), min_size=1, max_size=5, unique=True))
def test_any_name_comes_back(names: list[str]) -> None:
    """Quotes, line ends, separators, NUL: one cell, the same text."""
    told = rows(exported(tables(*(picture(name) for name in names))).text(IMAGES))
    assert [row["file_name"].removeprefix("./") for row in told] == [name.removeprefix("./") for name in names]
    assert not any(row["file_name"].startswith(("=", "+", "-", "@", "\t", "\r")) for row in told)


def test_a_label_that_nobody_knows_stops_the_export() -> None:
    """As with the other formats."""
    with pytest.raises(RunError, match="CSV has no category for the label 'hapy'"):
        exported(with_values(tables(picture("a.jpg", face())), "annotations", 0, label="hapy"))


def test_chunks_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    """Row by row or all at once gives the same bytes."""
    at_once = exported(people(), clean(tables(picture("z.jpg", face()))))
    monkeypatch.setattr(encoding, "CHUNK_ROWS", 1)
    by_row = exported(people(), clean(tables(picture("z.jpg", face()))))
    assert {n: f.getvalue() for n, f in by_row.files.items()} == {n: f.getvalue() for n, f in at_once.files.items()}


def test_what_no_label_has_is_no_column() -> None:
    """Things have neither landmarks nor probabilities; a label of the whole picture has no box."""
    folder = Kept()
    options: dict[str, Any] = {"categories": ("cat",), "probabilities": (), "landmarks": 0, "table": LABELS_TABLE}
    given_ = Parts(tables(picture("a.jpg", thing(), whole(), **UNKNOWN)))
    write_csv_tables(given_, folder, shares=True, **options)
    boxed, bare = rows(folder.text("labels.csv"))
    assert not [name for name in boxed if name.startswith(("p_", "nose"))]
    assert (boxed["label"], boxed["bbox_x"], boxed["width"], bare["bbox_x"]) == ("cat", "10.0", "", "")
    assert (boxed["cx"], boxed["w"], bare["cx"]) == ("0.09375", "0.15625", "")
    write_csv_tables(given_, pixels := Kept(), **options)
    assert "cx" not in rows(pixels.text("labels.csv"))[0]


# ---- readers


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return the export of some people."""
    written = write_csv_tables(Parts(people(), tables(), people()), Folder(str(tmp_path)), landmarks=5, **OPTIONS)
    assert written == Written(images=12, annotations=10, left_out=0)
    return tmp_path


def test_pandas_reads_the_tables(folder: Path) -> None:
    """Types are guessed right, a NaN stands for what is not known, and the tables join."""
    pandas = extra("pandas")
    faces, images = (pandas.read_csv(folder / name) for name in (FACES, IMAGES))
    assert (len(faces), len(images)) == (10, 12)
    assert faces["bbox_x"].dtype == faces["confidence"].dtype == float
    assert faces["width"].dtype == images["annotations"].dtype == int
    assert faces["label"].tolist()[:2] == ["happy", "sad"]
    assert faces["bbox_x"].isna().sum() == 2
    assert faces[[f"p_{name}" for name in EXPRESSIONS[:7]]].sum(axis=1).round(3).eq(1).all()
    assert set(faces["image_id"]) < set(images["image_id"])


def test_duckdb_reads_the_tables(folder: Path) -> None:
    """With no word about the dialect."""
    duckdb = extra("duckdb")
    query = "select label, count(*), round(avg(confidence), 3) from '{}' group by label order by label"
    assert duckdb.sql(query.format(folder / FACES)).fetchall() == [("happy", 8, 0.9), ("sad", 2, 0.25)]
    assert (
        duckdb.sql(f"select file_name from '{folder / IMAGES}' where outcome = 'no_face'").fetchall()
        == [("none.jpg",)] * 2
    )


@settings(max_examples=30, deadline=None)
@given(datasets())
def test_every_standing_label_is_a_row(each: list[Tables]) -> None:
    """Whatever detectors found."""
    cleaned = [clean(one) for one in each]
    told = exported(*cleaned)
    assert [row["annotation_id"] for row in rows(told.text(FACES))] == [
        identity for one in cleaned for identity in column(one, "annotations", "annotation_id")
    ]
    assert len(rows(told.text(IMAGES))) == sum(one.images.num_rows for one in cleaned)
