"""CVAT's XML is what Datumaro's importer of CVAT reads: the same boxes, tags, labels and attributes."""

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings

from schemas.errors import RunError
from schemas.tables import Tables
from schemas.vocabulary import label_order
from tests.builders import LABELS, Parts, column, face, picture, tables
from tests.extras import extra
from tests.strategies import HEIGHT, WIDTH, datasets
from tests.transforms.things import UNKNOWN, part, thing, whole
from transforms import encoding
from transforms.cvat import MOST_NAMES, write_cvat
from transforms.encoding import CategoryLayout, Written
from transforms.rules import clean

ROOTS = {0: "first", 1: "second"}
ANIMALS = ("cat", "dog")


def exported(
    *each: Tables, categories: Sequence[str] = ANIMALS, layout: CategoryLayout = "expression"
) -> tuple[bytes, Written]:
    """Return the export of some parts."""
    out = io.BytesIO()
    written = write_cvat(Parts(*each), out, layout=layout, categories=categories, roots=ROOTS)
    return out.getvalue(), written


def read(*each: Tables, **options: Any) -> Any:
    """Return the XML as a strict parser reads it."""
    return extra("defusedxml.ElementTree").fromstring(exported(*each, **options)[0])


def attributes(shape: Any) -> dict[str, str]:
    """Return the attributes of a shape."""
    return {one.get("name"): one.text for one in shape.iter("attribute")}


def test_a_picture_has_its_boxes_and_tags() -> None:
    """A label of the whole picture is a tag; one without any labels is there too, and so is one that is held back."""
    root = read(
        tables(
            picture("a.jpg", thing((10.126, 20, 100, 120), confidence=0.75), whole("dog")),
            picture("none.jpg"),
            picture("held.jpg", thing(), outcome="quarantined"),
        )
    )
    assert [image.attrib for image in root.iter("image")] == [
        {"id": str(i), "name": name, "width": "640", "height": "480"}
        for i, name in enumerate(("a.jpg", "none.jpg", "held.jpg"))
    ]
    [box], [tag] = root.iter("box"), root.iter("tag")
    assert box.attrib == {
        **{"label": "cat", "source": "manual", "occluded": "0", "z_order": "0"},
        **{"xtl": "10.13", "ytl": "20.0", "xbr": "110.13", "ybr": "140.0"},
    }
    assert (tag.attrib, attributes(box), attributes(tag)) == (
        {"label": "dog", "source": "manual"},
        {"confidence": "0.75"},
        {},
    )
    assert (root.findtext("version"), root.findtext("meta/task/size")) == ("1.1", "3")


def test_source_says_whether_a_model_labelled() -> None:
    """And the face layout keeps the expression."""
    root = read(clean(tables(picture("a.jpg", face(label="sad")))), categories=label_order(LABELS), layout="face")
    [box] = root.iter("box")
    assert (box.get("label"), box.get("source"), attributes(box)["expression"]) == ("face", "auto", "sad")
    assert [label.findtext("name") for label in root.iter("label")] == ["face"]


def test_what_came_with_a_label_stands_where_cvat_has_it() -> None:
    """The rest are attributes that each label declares; what does not fit its place is one of these."""
    told = {
        "occluded": "1",
        "z_order": "3",
        "rotation": "12.5",
        "source": "semi-auto",
        "breed": "<b>",
        "n": [1],
        "no": None,
    }
    odd = {"occluded": 'x" y="', "group_id": 5, "confidence": "high"}
    root = read(tables(picture("a.jpg", *(thing(attributes=json.dumps(one)) for one in (told, odd)))))
    first, second = root.iter("box")
    assert {name: first.get(name) for name in ("occluded", "z_order", "rotation", "source")} == {
        **{"occluded": "1", "z_order": "3", "rotation": "12.5", "source": "semi-auto"}
    }
    assert attributes(first) == {"breed": "<b>", "n": "[1]"}
    assert (second.get("occluded"), second.get("group_id"), second.get("source")) == ("0", "5", "manual")
    assert attributes(second) == {"occluded": 'x" y="', "given_confidence": "high"}
    for label in root.iter("label"):
        assert {one.findtext("name") for one in label.iter("attribute")} == {
            *("confidence", "breed", "n", "occluded", "given_confidence")
        }


def test_attributes_of_too_many_names_are_together_in_one() -> None:
    """CVAT shows each that is declared."""
    rows = [thing((i, 9, 50, 60), attributes=json.dumps({f"a{i}": i})) for i in range(MOST_NAMES + 5)]
    root = read(tables(picture("a.jpg", *rows)))
    declared = {one.findtext("name") for one in next(root.iter("label")).iter("attribute")}
    assert len(declared) == MOST_NAMES + 2
    shapes = [attributes(box) for box in root.iter("box")]
    assert all(set(shape) <= declared for shape in shapes)
    assert json.loads(shapes[-1]["attributes"]) == {f"a{MOST_NAMES + 4}": str(MOST_NAMES + 4)}


@pytest.mark.parametrize("name", ["<b>&amp;", '"]]>', "\x00\x0b\ufffe", "开心 \U0001f600", "a\tb\nc", " catt "])
def test_names_cannot_break_out_of_the_xml(name: str) -> None:
    """Neither files' nor labels' nor attributes'; what XML has no way to write is replaced."""
    row = thing(label=name, attributes=json.dumps({name: name}))
    root = read(tables(picture(f"{name}.jpg", row)), categories=("cat", name))
    expected = "".join("\ufffd" if c in "\x00\x0b\ufffe" else c for c in name)
    [box] = root.iter("box")
    assert (box.get("label"), next(root.iter("image")).get("name")) == (expected, f"{expected}.jpg")
    assert attributes(box) == {expected: expected}


def test_what_cannot_be_drawn_is_left_out_and_counted() -> None:
    """Pictures of unknown size, labels without a name or a place; a label that is no category stops the export."""
    _, written = exported(
        tables(
            picture("a.jpg", thing(), thing(label=None), thing((float("nan"), 0, 1, 1))),
            picture("b.jpg", part((0.5, 0.5, 0.1, 0.1)), **UNKNOWN),
        )
    )
    assert written == Written(images=1, annotations=1, left_out=1, unnamed=2)
    with pytest.raises(RunError, match="CVAT has no category for the label 'horse'"):
        exported(tables(picture("a.jpg", thing(label="horse"))))


@settings(max_examples=40, deadline=None)
@given(datasets())
def test_boxes_stay_in_their_pictures(each: list[Tables]) -> None:
    """Whatever detectors found and files are called: one image each, names and ids once, boxes that are some."""
    cleaned = [clean(one) for one in each]
    root = read(*cleaned, categories=label_order(LABELS))
    images = list(root.iter("image"))
    assert [image.get("id") for image in images] == [str(i) for i in range(len(images))]
    assert len({image.get("name") for image in images}) == len(images)
    shapes = [*root.iter("box"), *root.iter("tag")]
    assert len(shapes) == sum(len(column(one, "annotations", "label")) for one in cleaned)
    for box in root.iter("box"):
        left, top, right, bottom = (float(box.get(name)) for name in ("xtl", "ytl", "xbr", "ybr"))
        assert 0 <= left < right <= WIDTH and 0 <= top < bottom <= HEIGHT


def test_chunks_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    """Picture by picture or all at once gives the same bytes; nothing is a file too."""
    given_ = tables(picture("a.jpg", thing(), thing((300, 9, 50, 60))), picture("b.jpg"), picture("c.jpg", whole()))
    at_once, _ = exported(given_)
    monkeypatch.setattr(encoding, "CHUNK_ROWS", 1)
    assert exported(given_)[0] == at_once
    assert not list(read().iter("image"))


def test_datumaro_reads_the_very_boxes(tmp_path: Path) -> None:
    """Its importer is the one that CVAT itself used: boxes, tags, attributes and sizes."""
    rows = [
        picture("sub/a.jpg", thing((10.25, 20, 100, 120), "dog", 0.75, attributes='{"breed":"pug"}'), whole("cat")),
        picture("b.png", thing((300, 100, 90, 80))),
        picture("none.jpg"),
    ]
    for row in rows:
        path = tmp_path / "images" / row["file_name"]
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), np.zeros((480, 640, 3), np.uint8))
    (tmp_path / "annotations.xml").write_bytes(exported(tables(*rows))[0])
    datumaro = extra("datumaro")
    loaded = datumaro.Dataset.import_from(str(tmp_path), "cvat")
    labels = [label.name for label in loaded.categories()[datumaro.AnnotationType.label].items]
    found = {item.id: item.annotations for item in loaded}
    assert (labels, set(found)) == (["cat", "dog"], {"sub/a", "b", "none"})
    box, tag = found["sub/a"]
    assert (box.get_bbox(), labels[box.label]) == ([10.25, 20, 100, 120], "dog")
    assert (box.attributes["confidence"], box.attributes["breed"]) == ("0.75", "pug")
    assert (tag.type.name, labels[tag.label]) == ("label", "cat")
    assert found["b"][0].get_bbox() == [300, 100, 90, 80]
    assert found["none"] == []
