"""Label Studio's exports are read as people drew them: percent boxes, one row for each label of each annotator."""

import json
import math
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from schemas.errors import UsageError
from schemas.raw import Facts
from tests.transforms.readers.reading import read, said, source
from transforms.readers.label_studio import is_one, is_project, picture_path

REAL = "data/annotations/label_studio"
SIZE = {"original_width": 200, "original_height": 100}
PLACE = {"x": 10, "y": 20, "width": 30, "height": 40}


def export(folder: Path, *tasks: Any) -> Path:
    """Write an export."""
    path = folder / "project.json"
    path.write_text(json.dumps(tasks))
    return path


def rows_of(folder: Path, *tasks: Any) -> tuple[pl.DataFrame, Facts]:
    """Write an export and read it."""
    return read(source(export(folder, *tasks), "label-studio"), folder)


def task(*results: Any, image: str = "/data/upload/3/a.jpg", **members: Any) -> dict[str, Any]:
    """Return a task with one annotation of these results."""
    return {"id": 1, "data": {"image": image}, "annotations": [{"id": 2, "result": list(results)}], **members}


def rectangle(*labels: str, **value: Any) -> dict[str, Any]:
    """Return a rectangle with labels."""
    drawn = {**PLACE, "rectanglelabels": list(labels), **value}
    return {"id": "r", "type": "rectanglelabels", "to_name": "image", "from_name": "tag", "value": drawn, **SIZE}


def result(kind: str, value: dict[str, Any], **members: Any) -> dict[str, Any]:
    """Return any other result."""
    return {"id": "s", "type": kind, "to_name": "image", "from_name": "tag", "value": value, **SIZE, **members}


def test_a_real_export_has_a_row_for_each_annotator(shared: Path, tmp_path: Path) -> None:
    """With who drew it, the declared size, and the box in hundredths as it stands."""
    path = shared / REAL / "test_export_yolo__data.json"
    rows, facts = read(source(path, "label-studio"), tmp_path)
    drawn = [
        (task_["data"]["image"], result_["value"], annotation["completed_by"])
        for task_ in json.loads(path.read_text())
        for annotation in task_["annotations"]
        for result_ in annotation["result"]
    ]
    expected = [
        (name, value["rectanglelabels"][0], value["x"], value["y"], value["width"], value["height"], 2800)
        for name, value, _ in drawn
    ]
    assert said(rows, "width") == expected
    assert [json.loads(kept)["completed_by"] for kept in rows["attributes"]] == [who for _, _, who in drawn]
    assert (facts.corners, facts.unit) == ("xywh", "percent")


def test_a_real_polygon_becomes_the_box_around_it(shared: Path, tmp_path: Path) -> None:
    """And stays in the attributes."""
    path = shared / REAL / "test_export_json_min__data.json"
    rows, _ = read(source(path, "label-studio"), tmp_path)
    points = json.loads(path.read_text())[0]["annotations"][0]["result"][0]["value"]["points"]
    xs, ys = zip(*points, strict=True)
    assert said(rows) == [
        ("example.png", "Airplane", min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)),
    ]
    assert json.loads(rows["attributes"][0])["points"] == points


@pytest.mark.parametrize("name", ["test_export_csv__csv_test2.json", "test_export_csv__csv_test_history.json"])
def test_projects_without_pictures_are_refused(name: str, shared: Path, tmp_path: Path) -> None:
    """Music and texts."""
    path = shared / REAL / name
    assert is_project(path.read_bytes()) and not is_one(path.read_bytes(), name)
    with pytest.raises(UsageError, match=rf"^{name}: a Label Studio project without pictures"):
        read(source(path, "label-studio"), tmp_path)


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("/data/upload/12/3fa9-a%20b.jpg", "3fa9-a b.jpg"),
        ("/data/upload/a.jpg", "a.jpg"),
        ("s3://bucket/faces/a.jpg", "faces/a.jpg"),
        ("gs://bucket/a.jpg?x=1", "a.jpg"),
        ("https://example.org/x/a.jpg?sig=%2F", "x/a.jpg"),
        ("/data/local-files/?d=faces%2Fa%20b.jpg", "faces/a b.jpg"),
        ("http://localhost:8080/data/local-files/?d=faces/a.jpg", "faces/a.jpg"),
        ("/data/local-files/?d=C%3A%5Cfaces%5Ca.jpg", "C:/faces/a.jpg"),
        ("faces/a.jpg", "faces/a.jpg"),
        ("C:\\faces\\a%20.jpg", "C:/faces/a%20.jpg"),
        ("/image1", "/image1"),
        ("http://[", "http://["),
    ],
)
def test_pictures_are_found_behind_their_addresses(address: str, name: str) -> None:
    """Without host, bucket and folder of uploads; folders stay, because names repeat in them."""
    assert picture_path(address) == name


def test_a_picture_within_the_file_is_called_by_its_task(tmp_path: Path) -> None:
    """Because it has no name."""
    rows, _ = rows_of(tmp_path, task(rectangle("cat"), image="data:image/png;base64,AAAA"))
    assert rows["picture"].to_list() == ["task 1"]


def test_several_labels_of_a_rectangle_are_a_row_each(tmp_path: Path) -> None:
    """With the same box."""
    rows, facts = rows_of(tmp_path, task(rectangle("cat", "tabby")))
    assert said(rows, "height") == [("a.jpg", name, 10, 20, 30, 40, 100) for name in ("cat", "tabby")]
    assert not facts.exclusive


def test_a_turned_rectangle_becomes_the_box_around_it(tmp_path: Path) -> None:
    """Turned about its first corner, clockwise, in pixels: 200 x 100 of them."""
    rows, _ = rows_of(tmp_path, task(rectangle("cat", rotation=90), rectangle("dog", rotation=30)))
    (_, _, *quarter), (_, _, *turned) = said(rows)
    # 60 x 40 pixels at (20, 20): turned by 90 degrees, it lies to the left of its corner.
    assert quarter == pytest.approx([-10, 20, 20, 60])
    cos, sin = math.cos(math.radians(30)), math.sin(math.radians(30))
    pixels = [20 - 40 * sin, 20, 60 * cos + 40 * sin, 60 * sin + 40 * cos]
    assert turned == pytest.approx([pixels[0] / 2, pixels[1], pixels[2] / 2, pixels[3]])
    kept = json.loads(rows["attributes"][0])
    assert (kept["rotation"], kept["x"], kept["width"]) == (90, 10, 30)


def test_a_turned_rectangle_without_a_size_has_no_box(tmp_path: Path) -> None:
    """Because hundredths of unknown sides cannot be turned."""
    turned = {key: value for key, value in rectangle("cat", rotation=30).items() if key not in SIZE}
    assert said(rows_of(tmp_path, task(turned))[0])[0][2:] == ("NaN",) * 4


@pytest.mark.parametrize(
    ("kind", "value", "box"),
    [
        ("ellipselabels", {"x": 50, "y": 50, "radiusX": 10, "radiusY": 20, "rotation": 0}, (40, 30, 20, 40)),
        ("ellipselabels", {"x": 50, "y": 50, "radiusX": 10, "radiusY": 20, "rotation": 90}, (40, 30, 20, 40)),
        ("keypointlabels", {"x": 5, "y": 6, "width": 0.5}, (5, 6, 0, 0)),
        ("polygonlabels", {"points": [[1, 2], [5, 2], [3, 9]]}, (1, 2, 4, 7)),
        ("polygonlabels", {"points": [[1, 2], ["x", 2]]}, ("NaN",) * 4),
        ("polygonlabels", {"points": []}, ("NaN",) * 4),
        ("brushlabels", {"format": "rle", "rle": [1, 2]}, ("NaN",) * 4),
        ("rectanglelabels", {"x": "1", "y": None, "width": 3, "height": 4}, (1, "NaN", 3, 4)),
        ("labels", PLACE, (10, 20, 30, 40)),
    ],
)
def test_every_shape_has_a_box(kind: str, value: dict[str, Any], box: tuple[Any, ...], tmp_path: Path) -> None:
    """The one around it; the shape stays in the attributes."""
    rows, _ = rows_of(tmp_path, task(result(kind, {**value, kind: ["cat"]})))
    assert said(rows)[0][1:] == ("cat", *(side if side == "NaN" else pytest.approx(side) for side in box))
    kept = json.loads(rows["attributes"][0])
    assert all(kept[name] == value[name] for name in ("points", "radiusX", "rle") if name in value)


def test_results_of_one_shape_belong_together(tmp_path: Path) -> None:
    """A bare rectangle takes its labels from those of the same id; what else was said of it goes along."""
    bare = result("rectangle", dict(PLACE))
    named = result("labels", {**PLACE, "labels": ["face"]})
    chosen = result("choices", {**PLACE, "choices": ["happy"]}, from_name="emotion")
    note = result("textarea", {**PLACE, "text": ["blurred"]}, from_name="note")
    rows, _ = rows_of(tmp_path, task(bare, named, chosen, note), task(bare, chosen), task(bare))
    assert said(rows, "row") == [
        ("a.jpg", "face", 10, 20, 30, 40, 0),
        ("a.jpg", "happy", 10, 20, 30, 40, 1),
        ("a.jpg", None, 10, 20, 30, 40, 2),
    ]
    kept = json.loads(rows["attributes"][0])
    assert (kept["choices"], kept["note"]) == (["happy"], ["blurred"])


def test_choices_are_of_the_whole_picture(tmp_path: Path) -> None:
    """Those that are about another part of the task are left out; several may be meant."""
    told = task(
        result("choices", {"choices": ["cat", "dog"]}),
        result("taxonomy", {"taxonomy": [["animal", "cat"]]}, id="t"),
        result("choices", {"choices": ["Positive"]}, id="u", to_name="text"),
    )
    told["data"]["text"] = "nice"
    rows, facts = rows_of(tmp_path, told)
    assert said(rows) == [("a.jpg", label, *[None] * 4) for label in ("cat", "dog", "animal/cat")]
    assert not facts.exclusive


def test_cancelled_annotations_are_left_out(tmp_path: Path) -> None:
    """The picture is named all the same, as one without labels; so is one that nobody labelled."""
    cancelled = task(rectangle("cat"))
    cancelled["annotations"][0]["was_cancelled"] = True
    rows, _ = rows_of(tmp_path, cancelled, task(), task(image="b.jpg", annotations=[]))
    assert said(rows, "is_label") == [(name, *[None] * 5, False) for name in ("a.jpg", "a.jpg", "b.jpg")]


def test_predictions_count_where_nobody_drew(tmp_path: Path) -> None:
    """With their score as confidence; what a person left of one keeps it among the attributes."""
    predicted = {"result": [rectangle("dog"), {**rectangle("cat"), "id": "q", "score": 0.5}], "score": 0.25}
    predicted["model_version"] = "v1"
    kept = {**rectangle("cat"), "score": 0.75}
    rows, _ = rows_of(
        tmp_path, task(predictions=[predicted], annotations=[]), task(kept, predictions=[predicted], image="b.jpg")
    )
    assert rows.select("picture", "label", "confidence").rows() == [
        ("a.jpg", "dog", 0.25),
        ("a.jpg", "cat", 0.5),
        ("b.jpg", "cat", None),
    ]
    assert json.loads(rows["attributes"][0])["model"] == "v1"
    assert json.loads(rows["attributes"][2])["score"] == 0.75


def test_an_old_export_calls_annotations_completions(tmp_path: Path) -> None:
    """As before version 1.0."""
    old = task(rectangle("cat"))
    old["completions"] = old.pop("annotations")
    assert rows_of(tmp_path, old)[0]["label"].to_list() == ["cat"]


def test_the_flat_export_is_read(tmp_path: Path) -> None:
    """JSON_MIN: shapes and choices stand beside the task's own members."""
    shape = {**PLACE, "rotation": 0, "rectanglelabels": ["cat"], **SIZE}
    told = {"id": 1, "annotator": 4, "annotation_id": 9, "lead_time": 1.5, "note": "x"}
    path = export(
        tmp_path,
        {"image": "/data/upload/3/a.jpg", "label": [shape], **told},
        {"image": "/data/upload/3/b.jpg", "choice": "dog", **told},
        {"image": "/data/upload/3/c.jpg", "mood": {"choices": ["sad", "bored"]}, **told},
        {"image": "/data/upload/3/d.jpg", **told},
    )
    assert is_one(path.read_bytes(), "a")
    rows, _ = read(source(path, "label-studio"), tmp_path)
    assert said(rows, "width") == [
        ("a.jpg", "cat", 10, 20, 30, 40, 200),
        ("b.jpg", "dog", *[None] * 5),
        ("c.jpg", "sad", *[None] * 5),
        ("c.jpg", "bored", *[None] * 5),
        ("d.jpg", None, *[None] * 5),
    ]
    assert json.loads(rows["attributes"][0]) == {"completed_by": 4}


def test_tasks_without_a_picture_are_counted(tmp_path: Path) -> None:
    """Among others."""
    _, facts = rows_of(tmp_path, task(rectangle("cat")), {"id": 2, "data": {"text": "x"}, "annotations": []}, 5)
    assert facts.failures == [("project.json", "no_picture", "2 of 3 tasks name no picture")]


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "byte 0: it ends too early"),
        (b'[{"id": 1}, {]', "byte 13"),
        (b"[]", "without pictures"),
        (b"\0", "byte 0"),
    ],
)
def test_files_that_cannot_be_read_are_told(data: bytes, told: str, tmp_path: Path) -> None:
    """With their name and where."""
    path = tmp_path / "project.json"
    path.write_bytes(data)
    with pytest.raises(UsageError, match=rf"^project\.json.*{told}"):
        read(source(path, "label-studio"), tmp_path)


@pytest.mark.parametrize(
    "wild",
    [
        {"id": {}, "data": {"image": "a.jpg"}, "annotations": {"x": 1}},
        {"data": {"image": "a.jpg"}, "annotations": [None, {"result": [1, {"type": 5, "value": "x"}]}]},
        task({"type": "choices", "value": {"choices": {"a": 1}}}),
        task({"type": "rectanglelabels", "value": {**PLACE, "rectanglelabels": [None, {"x": 1}]}}),
        task(rectangle("x", rotation=1e308, x=1e308)),
        task(result("polygonlabels", {"points": {"x": 1}, "polygonlabels": ["a"]})),
        {"image": "a.jpg", "annotator": 1, "lead_time": 1, "label": [{"rectanglelabels": 5}, {}]},
    ],
)
def test_wild_members_never_stop_the_reader(wild: Any, tmp_path: Path) -> None:
    """Whatever stands where something else was expected."""
    rows_of(tmp_path, wild, task(rectangle("cat")))
