"""JSON lines are exactly the record that other tools read."""

import io
import json
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.tables import Tables
from tests.builders import Parts, column, face, picture, tables
from tests.strategies import shards
from tests.transforms.things import UNKNOWN, part, thing, whole
from transforms.encoding import Written
from transforms.jsonl import write_jsonl
from transforms.names import unique_names
from transforms.rules import clean


def lines(*each: Tables) -> list[dict[str, Any]]:
    """Return the export of some parts, read again."""
    out = io.BytesIO()
    written = write_jsonl(Parts(*each), out)
    told = [json.loads(line) for line in out.getvalue().split(b"\n")[:-1]]
    assert len(told) == written.images
    return told


def test_a_line_has_exactly_these_keys() -> None:
    """Boxes are middles and sizes in 0..1; null is a time that nobody told."""
    given_ = clean(tables(picture("a b/ü\n.jpg", face((64, 48, 128, 96))), picture("b.jpg", timestamp_ms=None)))
    first, second = lines(given_)
    assert first == {
        "image_id": column(given_, "images", "image_id")[0],
        "file_name": "a b/ü\n.jpg",
        "timestamp_ms": 1_700_000_000_123,
        "labels": [{"category": "happy", "bbox": [0.2, 0.2, 0.2, 0.2], "confidence": 0.9}],
    }
    assert second == {
        "image_id": column(given_, "images", "image_id")[1],
        "file_name": "b.jpg",
        "timestamp_ms": None,
        "labels": [],
    }
    assert list(first) == ["image_id", "file_name", "timestamp_ms", "labels"]


def test_lines_are_labelled_and_faceless_pictures_in_order() -> None:
    """Duplicates and quarantined pictures have none; labels stand in the order of their rank."""
    given_ = clean(
        tables(
            picture("b.jpg", face((10, 10, 50, 50), "sad"), face((300, 10, 50, 50))),
            picture("copy.jpg", outcome="duplicate", duplicate_of="0" * 64),
            picture("lost.jpg", face((float("nan"), 0, 1, 1))),
            picture("a.jpg"),
        )
    )
    told = lines(given_, clean(tables(picture("c.jpg", face()))))
    assert [line["file_name"] for line in told] == ["b.jpg", "a.jpg", "c.jpg"]
    assert [label["category"] for label in told[0]["labels"]] == ["sad", "happy"]


def test_a_label_of_the_whole_picture_is_its_frame() -> None:
    """Readers expect a box."""
    [line] = lines(clean(tables(picture("a.jpg", face((None,) * 4)))))
    assert line["labels"][0]["bbox"] == [0.5, 0.5, 1.0, 1.0]


def test_a_model_is_never_certain_and_a_person_is() -> None:
    """1.0 is reserved; an imported label without a confidence has null."""
    three = [face(confidence=1.0), face(confidence=None, origin="import"), face(origin="person")]
    given_ = clean(tables(picture("a.jpg", *three)))
    model, imported, person = lines(given_)[0]["labels"]
    assert 0.9999 < model["confidence"] < 1
    assert imported["confidence"] is None
    assert person["confidence"] == 0.9


def test_nothing_gives_an_empty_file() -> None:
    """No parts, or none with pictures."""
    assert lines() == lines(tables()) == []


@settings(max_examples=50, deadline=None)
@given(shards())
def test_every_standing_label_is_in_a_line(shard: Tables) -> None:
    """With its box inside 0..1."""
    cleaned = clean(shard)
    told = lines(cleaned)
    assert sum(len(line["labels"]) for line in told) == cleaned.annotations.num_rows
    assert [line["image_id"] for line in told] == [
        row["image_id"] for row in cleaned.images.to_pylist() if row["outcome"] in ("labelled", "no_face")
    ]
    for x, y, w, h in (label["bbox"] for line in told for label in line["labels"]):
        assert x - w / 2 >= -1e-3 and x + w / 2 <= 1.001 and y - h / 2 >= -1e-3 and y + h / 2 <= 1.001


# ---- cleaned data sets


def plain(*each: Tables) -> list[str]:
    """Return the lines of plain records."""
    out, parts = io.BytesIO(), Parts(*each)
    write_jsonl(parts, out, names=unique_names(parts, {0: "in/monday", 1: "in/tuesday"}, as_told=True))
    return out.getvalue().decode().splitlines()


def test_a_plain_record_is_the_one_that_came() -> None:
    """To the letter and to the digit, of pictures that nobody has seen."""
    box = (0.3, 0.4, 0.123456, 1e-05)
    given_ = tables(
        picture("img_001", part(box, "person", 1.0), whole("dog"), **UNKNOWN),
        picture("http://x/a\\b", **UNKNOWN),
    )
    assert plain(given_) == [
        '{"image_id":"img_001","labels":[{"category":"person","bbox":[0.3,0.4,0.123456,0.00001],"confidence":1.0},'
        '{"category":"dog","bbox":null,"confidence":null}]}',
        '{"image_id":"http://x/a\\\\b","labels":[]}',
    ]


def test_same_named_pictures_of_two_inputs_are_told_apart() -> None:
    """And frames of a video by their number."""
    given_ = tables(
        picture("a", root=0), picture("a", root=1), picture("v.mp4", video_id="v", frame_index=7), picture("b", root=1)
    )
    assert [json.loads(line)["image_id"] for line in plain(given_)] == [
        "monday/a",
        "tuesday/a",
        "v.mp4/000007.jpg",
        "b",
    ]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(0, 1, width=32), min_size=5, max_size=5))
def test_numbers_come_back_as_the_same_float32(numbers: list[float]) -> None:
    """In as few digits as that takes."""
    [line] = plain(tables(picture("a", part(numbers[:4], confidence=numbers[4]), **UNKNOWN)))
    [label] = json.loads(line)["labels"]
    assert np.float32([*label["bbox"], label["confidence"]]).tolist() == numbers


def test_a_box_in_pixels_of_an_unknown_size_cannot_be_told() -> None:
    """Its picture is left out: without the label it would look like one of nobody."""
    out = io.BytesIO()
    row = thing(cx=None, cy=None, w=None, h=None)
    given_ = tables(picture("a", row, thing(), **UNKNOWN), picture("b", thing(label=None), thing()), picture("c"))
    assert write_jsonl(Parts(given_), out) == Written(images=2, annotations=1, left_out=1, unnamed=1)
    assert [json.loads(line)["file_name"] for line in out.getvalue().splitlines()] == ["b", "c"]
