"""Label Studio tasks hold to what its own SDK checks, for any data set; labels of whole pictures are choices."""

import json
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given, settings

from schemas.errors import RunError
from schemas.tables import Tables
from schemas.vocabulary import label_order
from tests.builders import LABELS, Parts, column, face, picture, tables
from tests.extras import extra
from tests.strategies import datasets
from tests.transforms.kept import Kept
from tests.transforms.things import UNKNOWN, part, thing, whole
from transforms import encoding
from transforms.copies import Copies
from transforms.encoding import Written, sized
from transforms.folders import Folder
from transforms.label_studio import CONFIG, TASKS, write_label_studio
from transforms.names import file_names
from transforms.rules import clean

ROOTS = {0: "first", 1: "second"}
ANIMALS = ("cat", "dog")


def exported(*each: Tables, categories: Sequence[str] = ANIMALS, **options: Any) -> tuple[Kept, Written]:
    """Return the export of some parts."""
    folder = Kept()
    return folder, write_label_studio(Parts(*each), folder, categories=categories, roots=ROOTS, **options)


def tasks(*each: Tables, **options: Any) -> list[dict[str, Any]]:
    """Return the tasks."""
    told: list[dict[str, Any]] = json.loads(exported(*each, **options)[0].text(TASKS))
    return told


def results(task: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a task's regions."""
    return [region for prediction in task["predictions"] for region in prediction["result"]]


def faults(folder: Kept) -> list[str]:
    """Return what label_studio_sdk 2.1.2 refuses: `LabelInterface.validate_task` and `validate_prediction`."""
    view = extra("defusedxml.ElementTree").fromstring(folder.text(CONFIG))
    controls = {control.get("name"): control for control in view if control.get("toName")}
    [image] = view.findall("Image")
    wrong: list[str] = []
    for task in json.loads(folder.text(TASKS)):
        wrong += ["no picture"] * (not task["data"][image.get("value").removeprefix("$")])
        ids = [region["id"] for region in results(task)]
        wrong += ["ids repeat"] * (len(set(ids)) != len(ids))
        scores = [told["score"] for told in (*task["predictions"], *results(task)) if "score" in told]
        wrong += [f"score {score}" for score in scores if not 0 <= score <= 1]
        for region in results(task):
            control, value = controls[region["from_name"]], region["value"]
            wrong += [f"type {region['type']}"] * (region["type"] != control.tag.lower())
            wrong += ["to_name"] * (region["to_name"] != image.get("name") != control.get("toName"))
            labels = value["choices" if control.tag == "Choices" else "rectanglelabels"]
            wrong += [f"label {label}" for label in labels if label not in [one.get("value") for one in control]]
            places = [value[name] for name in ("x", "y", "width", "height") if name in value]
            wrong += [f"place {place}" for place in places if not 0 <= place <= 100]
            wrong += ["no place"] * (len(places) != (0 if control.tag == "Choices" else 4))
    return wrong


def test_a_task_is_a_picture_with_its_labels_as_a_prediction() -> None:
    """Boxes in percent of the picture, with what Label Studio wants beside them."""
    [task] = tasks(
        tables(picture("a.jpg", thing((64, 48, 128, 96), confidence=0.75), thing(label="dog", confidence=1)))
    )
    [prediction] = task["predictions"]
    assert task["data"]["image"] == "/data/local-files/?d=images/a.jpg"
    assert (prediction["model_version"], prediction["score"]) == ("import", 0.875)
    assert prediction["result"][0] == {
        "id": prediction["result"][0]["id"],
        "type": "rectanglelabels",
        "from_name": "label",
        "to_name": "image",
        "original_width": 640,
        "original_height": 480,
        "image_rotation": 0,
        "value": {"x": 10, "y": 10, "width": 20, "height": 20, "rotation": 0, "rectanglelabels": ["cat"]},
        "score": 0.75,
    }


def test_labels_of_the_whole_picture_are_one_choice() -> None:
    """The interface has choices only then."""
    folder, written = exported(
        tables(picture("a.jpg", whole("dog", 0.5), thing(), whole("cat", 0.25)), picture("b.jpg"))
    )
    labelled, bare = json.loads(folder.text(TASKS))
    box, choice = results(labelled)
    assert (choice["type"], choice["value"], choice["score"]) == ("choices", {"choices": ["dog", "cat"]}, 0.375)
    assert "score" not in box and "score" not in labelled["predictions"][0]  # that of the box is not known
    assert bare["predictions"] == []
    assert "<Choices" in folder.text(CONFIG) and "<Choices" not in exported(tables(picture("a.jpg", thing())))[0].text(
        CONFIG
    )
    assert written == Written(images=2, annotations=3, left_out=0)


def test_what_waits_for_a_person_has_no_labels() -> None:
    """Its picture has a task all the same; duplicates have none."""
    told = tasks(
        tables(
            picture("held.jpg", thing(), outcome="quarantined"),
            picture("copy.jpg", outcome="duplicate", duplicate_of="0" * 64),
        )
    )
    assert [(task["data"]["source_uri"], task["predictions"]) for task in told] == [("in/held.jpg", [])]


def test_a_picture_of_unknown_size_is_told_where_its_boxes_are_shares() -> None:
    """Percent need no size; one with a box in pixels is left out and counted."""
    in_pixels = thing(cx=None, cy=None, w=None, h=None)
    folder, written = exported(
        tables(picture("a", part((0.2, 0.2, 0.2, 0.2)), **UNKNOWN), picture("b", in_pixels, **UNKNOWN))
    )
    [region] = results(json.loads(folder.text(TASKS))[0])
    assert [region["value"][name] for name in ("x", "y", "width", "height")] == [10, 10, 20, 20]
    assert "original_width" not in region
    assert written == Written(images=1, annotations=1, left_out=1)


@pytest.mark.parametrize("name", ["a b+c&d%20#?é.jpg", "sub/ü\n.png", '"<>.jpg'])
def test_an_address_leads_to_the_picture(name: str) -> None:
    """Whatever it is called; buckets take names as they are."""
    given_ = tables(picture(name, thing()))
    [local], [bucket] = (tasks(given_, **options) for options in ({}, {"address": "s3://bucket/x/"}))
    [path] = parse_qs(urlsplit(local["data"]["image"]).query)["d"]
    [told] = file_names(Parts(given_), ROOTS).of(sized(Parts(given_).each[0].images))["picture"]
    assert path == f"images/{told}"
    assert bucket["data"]["image"] == f"s3://bucket/x/{told}"


@pytest.mark.parametrize("name", ['"<&>', "x\x00y", "开心", " catt"])
def test_names_cannot_break_out_of_the_interface(name: str) -> None:
    """What XML has no way to write is replaced."""
    folder, _ = exported(tables(picture("a.jpg", thing(label=name), whole(name))), categories=("cat", name))
    values = [one.get("value") for one in extra("defusedxml.ElementTree").fromstring(folder.text(CONFIG)).iter("Label")]
    assert values == ["cat", name.replace("\x00", "\ufffd")]


def test_a_label_that_cannot_be_drawn_is_left_out_and_counted() -> None:
    """And one that is no category stops the export."""
    _, written = exported(tables(picture("a.jpg", thing(), thing(label=None), thing((700, 0, 9, 9)))))
    assert written == Written(images=1, annotations=1, left_out=0, unnamed=2)
    with pytest.raises(RunError, match="Label Studio has no category for the label 'horse'"):
        exported(tables(picture("a.jpg", thing(label="horse"))))


@settings(max_examples=40, deadline=None)
@given(datasets())
def test_any_data_set_is_taken(each: list[Tables]) -> None:
    """Whatever detectors found and files are called; every label is there."""
    cleaned = [clean(one) for one in each]
    folder, written = exported(*cleaned, categories=label_order(LABELS))
    assert faults(folder) == []
    assert written.annotations == sum(len(column(one, "annotations", "label")) for one in cleaned)
    names = [task["data"]["image"] for task in json.loads(folder.text(TASKS))]
    assert len(names) == len(set(names)) == written.images


def test_chunks_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    """Picture by picture or all at once gives the same bytes."""
    given_ = clean(
        tables(picture("a.jpg", face(), face((300, 9, 50, 60), "sad")), picture("b.jpg"), picture("c.jpg", face()))
    )
    at_once = exported(given_, given_, categories=LABELS)[0].text(TASKS)
    monkeypatch.setattr(encoding, "CHUNK_ROWS", 1)
    assert exported(given_, given_, categories=LABELS)[0].text(TASKS) == at_once
    assert tasks() == tasks(tables()) == []


def test_pictures_come_beside_the_tasks(tmp_path: Path) -> None:
    """Where the addresses lead once this folder is the server's root."""
    (tmp_path / "a.jpg").write_bytes(b"\xff\xd8")
    content = sha256(b"\xff\xd8").hexdigest()
    folder = Folder(str(tmp_path / "ls"))
    copies = Copies(folder, max_bytes=10, max_pixels=10)
    parts = Parts(tables(picture("a.jpg", thing(), source_uri=str(tmp_path / "a.jpg"), sha256=content)))
    write_label_studio(parts, folder, categories=ANIMALS, roots=ROOTS, copies=copies)
    [task] = json.loads((tmp_path / "ls" / TASKS).read_bytes())
    assert (tmp_path / "ls" / task["data"]["image"].partition("?d=")[2]).is_file()
