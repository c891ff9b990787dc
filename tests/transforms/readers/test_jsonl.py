"""JSON lines of each kind are read exactly; a broken line costs that line only."""

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.errors import UsageError
from tests.builders import Parts, face, picture, tables
from tests.transforms.readers.reading import read, said, source
from transforms.jsonl import write_jsonl
from transforms.readers import jsonl
from transforms.readers.jsonl import MAX_FAILURES, is_one

RECORD = (
    '{"image_id": "img_001", "labels": [{"category": "person", "bbox": [0.5, 0.25, 0.5, 0.125], "confidence": 1.0}]}'
)
"""As the record is specified."""


def lines(folder: Path, *told: Any, end: str = "\n") -> Path:
    """Write lines: texts as they are, the rest as JSON."""
    path = folder / "a.jsonl"
    text = end.join(line if isinstance(line, str) else json.dumps(line, ensure_ascii=False) for line in told)
    path.write_bytes((text + end).encode())
    return path


def test_the_record_is_read_exactly(tmp_path: Path) -> None:
    """Its box is always the middle and the size, in shares of the picture."""
    rows, facts = read(source(lines(tmp_path, RECORD), "jsonl"), tmp_path)
    assert said(rows, "confidence", "attributes", "row") == [("img_001", "person", 0.5, 0.25, 0.5, 0.125, 1.0, None, 1)]
    assert (facts.corners, facts.unit, facts.categories, facts.failures) == ("cxcywh", "unit", None, [])


def test_a_record_may_be_written_over_several_lines(tmp_path: Path) -> None:
    """And be the only one of its file."""
    path = lines(tmp_path, json.dumps(json.loads(RECORD), indent=2))
    assert is_one(path.read_bytes(), "a.json")
    assert said(read(source(path, "jsonl"), tmp_path)[0]) == [("img_001", "person", 0.5, 0.25, 0.5, 0.125)]


def test_the_file_name_is_the_pictures_and_the_rest_is_kept(tmp_path: Path) -> None:
    """Members of the picture and of the label, side by side; what is null says nothing."""
    told = {"image_id": "i", "file_name": "x\\a.jpg", "width": 640, "timestamp_ms": 5, "source": {"topic": "t"}}
    label = {"category": "cat", "bbox": [0.5, 0.5, 1, 1], "confidence": None, "track": 3, "note": None}
    rows, _ = read(source(lines(tmp_path, told | {"labels": [label]}), "jsonl"), tmp_path)
    assert said(rows, "width", "confidence") == [("x/a.jpg", "cat", 0.5, 0.5, 1, 1, 640, None)]
    kept = {"image_id": "i", "timestamp_ms": 5, "source": {"topic": "t"}, "track": 3}
    assert json.loads(rows["attributes"][0]) == kept


def test_labels_come_in_every_number(tmp_path: Path) -> None:
    """None is a picture without any."""
    path = lines(
        tmp_path,
        {"image_id": "a", "labels": []},
        {"image_id": 17, "labels": [{"category": "x"}, {"category": 3, "bbox": [1, 2, "3", 4]}, {"bbox": [1]}]},
    )
    rows, _ = read(source(path, "jsonl"), tmp_path)
    assert said(rows, "is_label", "row") == [
        ("a", None, *[None] * 4, False, 1),
        ("17", "x", *[None] * 4, True, 2),
        ("17", "3", 1, 2, "NaN", 4, True, 2),
        ("17", None, *["NaN"] * 4, True, 2),
    ]


def test_our_own_export_is_read_back(tmp_path: Path) -> None:
    """Pictures, labels, boxes, confidences."""
    shares = {"cx": 0.2, "cy": 0.2, "w": 0.2, "h": 0.2}
    told = tables(picture("x/a.jpg", face((64, 48, 128, 96), "happy", 0.5, **shares)), picture("b.jpg"))
    path = tmp_path / "a.jsonl"
    with path.open("wb") as out:
        write_jsonl(Parts(told), out)
    rows, _ = read(source(path, "jsonl"), tmp_path)
    assert said(rows)[1] == ("b.jpg", None, *[None] * 4)
    assert rows.select("picture", "label", "confidence").row(0) == ("x/a.jpg", "happy", 0.5)
    assert [round(side, 6) for side in rows.select(*"abcd").row(0)] == [0.2] * 4


def test_hugging_face_objects_are_read(tmp_path: Path) -> None:
    """Their boxes are a corner and the size, in pixels; other lists go along."""
    objects = {"bbox": [[302.0, 109.0, 73.0, 52.0], [1, 2, 3, 4]], "category": [4, "dog"], "id": [8, 9]}
    path = lines(tmp_path, {"file_name": "0.png", "objects": objects}, {"file_name": "1.png", "objects": {"bbox": []}})
    rows, facts = read(source(path, "jsonl"), tmp_path)
    assert said(rows, "attributes") == [
        ("0.png", "4", 302, 109, 73, 52, '{"id":8}'),
        ("0.png", "dog", 1, 2, 3, 4, '{"id":9}'),
        ("1.png", None, *[None] * 4, None),
    ]
    assert (facts.corners, facts.unit) == ("xywh", "pixels")


def test_lists_of_objects_that_do_not_match_are_no_boxes(tmp_path: Path) -> None:
    """A label without its box is not one of the whole picture."""
    path = lines(tmp_path, {"file_name": "0.png", "objects": {"bbox": [[1, 2, 3, 4]], "category": ["a", "b"]}})
    rows, _ = read(source(path, "jsonl"), tmp_path)
    assert said(rows) == [("0.png", "a", 1, 2, 3, 4), ("0.png", "b", *["NaN"] * 4)]


def test_one_label_a_line_is_read_under_any_usual_name(tmp_path: Path) -> None:
    """How its boxes are meant, the rows must tell."""
    path = lines(
        tmp_path,
        {"image": "a.jpg", "label": "cat"},
        {"file_name": "b.jpg", "emotion": 3, "bbox": [1, 2, 3, 4], "score": 0.5, "split": "train"},
        {"filename": "c.jpg", "label": None, "bbox": [1, 2, 3, 4]},
    )
    rows, facts = read(source(path, "jsonl"), tmp_path)
    assert said(rows, "confidence", "attributes") == [
        ("a.jpg", "cat", *[None] * 4, None, None),
        ("b.jpg", "3", 1, 2, 3, 4, 0.5, '{"split":"train"}'),
        ("c.jpg", None, 1, 2, 3, 4, None, None),
    ]
    assert (facts.corners, facts.unit, facts.exclusive) == (None, None, True)


@pytest.mark.parametrize("told", [{"labels": ["a", "b"]}, {"label": ["a", "b"]}])
def test_several_labels_of_a_picture_may_be_meant(told: dict[str, Any], tmp_path: Path) -> None:
    """Where they come as one list of names."""
    rows, facts = read(source(lines(tmp_path, {"file_name": "a.jpg", **told}), "jsonl"), tmp_path)
    assert rows["label"].to_list() == ["a", "b"]
    assert not facts.exclusive


def test_a_list_of_records_is_read_too(tmp_path: Path) -> None:
    """Numbered from 0; what is no record is told."""
    path = tmp_path / "a.json"
    path.write_text('[{"image": "a.jpg", "label": "cat"}, 5, {"image": "b.jpg", "label": "dog"}]')
    assert is_one(path.read_bytes(), "a.json")
    rows, facts = read(source(path, "jsonl"), tmp_path)
    assert said(rows, "row") == [("a.jpg", "cat", *[None] * 4, 0), ("b.jpg", "dog", *[None] * 4, 2)]
    assert facts.failures == [("a.json", "broken", "record 1: expected a picture with one label, as those before")]


def test_a_broken_line_is_told_and_the_others_are_read(tmp_path: Path) -> None:
    """Also the first one, one of another kind, and one that is a mere number."""
    path = lines(tmp_path, "{oops", RECORD, {"image": "a.jpg", "label": "cat"}, "", "7", RECORD)
    assert is_one(path.read_bytes(), "a.jsonl")
    rows, facts = read(source(path, "jsonl"), tmp_path)
    assert rows["row"].to_list() == [2, 6]
    assert [message.partition(":")[0] for _, _, message in facts.failures] == ["line 1", "line 3", "line 5"]
    assert facts.failures[0] == (
        *("a.jsonl", "broken"),
        "line 1: broken JSON at character 2: Expecting property name enclosed in double quotes",
    )


def test_broken_lines_are_told_up_to_a_number(tmp_path: Path) -> None:
    """Then they are counted."""
    _, facts = read(source(lines(tmp_path, RECORD, *["oops"] * (MAX_FAILURES + 7)), "jsonl"), tmp_path)
    assert len(facts.failures) == MAX_FAILURES + 1
    assert facts.failures[-1][2] == "7 more records cannot be read"


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "no record can be read: it is empty"),
        (b"oops\n{}\n", "no record can be read: line 1: broken JSON at character 1"),
        (b'{"a": 1}\n', "no record can be read: line 1: expected a picture and a label"),
        (b"\0\0\n", "no record can be read: line 1: broken JSON"),
        (b'[{"image": "a.jpg", "label": "x"}, {]', "broken JSON at byte 36"),
        (b"{" + b'"a":{' * 100_000, "no record can be read: line 1: broken JSON"),
    ],
)
def test_files_without_any_record_are_refused(data: bytes, told: str, tmp_path: Path) -> None:
    """Naming the file, what came and what was expected."""
    path = tmp_path / "a.jsonl"
    path.write_bytes(data)
    with pytest.raises(UsageError, match=rf"^a\.jsonl: {told}"):
        read(source(path, "jsonl"), tmp_path)


def test_a_line_that_never_ends_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before it is held."""
    monkeypatch.setattr(jsonl, "MAX_VALUE_CHARS", 1_000)
    path = lines(tmp_path, RECORD, "x" * 3 * 2**20)
    with pytest.raises(UsageError, match="line 2 has more than 1,000 characters"):
        read(source(path, "jsonl"), tmp_path)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_lines_of_any_encoding_are_read(encoding: str, end: str, tmp_path: Path) -> None:
    """And with either end."""
    path = lines(tmp_path, *[{"image": "ä.jpg", "label": f"Gefühl {n}"} for n in range(3)], end=end)
    path.write_bytes(path.read_bytes().decode().encode(encoding))
    assert is_one(path.read_bytes(), "a")
    rows, _ = read(source(path, "jsonl"), tmp_path)
    assert rows.select("picture", "label").rows() == [("ä.jpg", f"Gefühl {n}") for n in range(3)]


_labels = st.lists(
    st.fixed_dictionaries(
        {"category": st.text(max_size=5), "bbox": st.lists(st.floats(0, 1), min_size=4, max_size=4)},
        optional={"confidence": st.floats(0, 1, width=32)},
    ),
    max_size=4,
)


@settings(max_examples=30, deadline=None)
@given(st.lists(_labels, min_size=1, max_size=20), st.sampled_from([7, 100]))
def test_every_record_comes_back(told: list[Any], block: int) -> None:
    """Number for number, wherever the file is cut."""
    records = [{"image_id": f"{row}\u2028x", "labels": labels} for row, labels in enumerate(told)]
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        patch.setattr(jsonl, "_BLOCK_BYTES", block)
        path = lines(Path(folder), *records)
        rows, _ = read(source(path, "jsonl"), Path(folder))
    expected = [
        (f"{row}\u2028x", label["category"], *label["bbox"], label.get("confidence"))
        for row, labels in enumerate(told)
        for label in labels or [{"category": None, "bbox": [None] * 4}]
    ]
    assert said(rows, "confidence") == expected


@pytest.mark.parametrize(
    ("head", "is_ours"),
    [
        (RECORD, True),
        ('{"image": "a.jpg", "label": "cat"}\n{"image', True),
        ('{"file_name": "a.jpg", "objects": {"bbox": [[1, 2, 3, 4]], "categories": [0]}}', True),
        ('[{"filename": "a.jpg", "bbox": [1, 2, 3, 4]}]', True),
        ('{"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 1}', False),  # COCO results
        ('[{"image": "a.jpg", "annotations": [{"label": "x", "coordinates": {}}]}]', False),  # CreateML
        ('[{"image": "a.jpg", "label": [{"x": 1, "rectanglelabels": ["x"]}]}]', False),  # Label Studio
        ('{"captions/image_id": 318556, "captions/caption": "x"}', False),
        ('{"labels": ["helmet", "person"]}', False),
        ("image,label", False),
        ("", False),
    ],
)
def test_records_are_told_by_their_members(head: str, is_ours: bool) -> None:
    """Not by the file's name."""
    assert is_one(head.encode(), "x.txt") == is_ours
