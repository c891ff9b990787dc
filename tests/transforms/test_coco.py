"""COCO files hold to the contract for any data set, and the readers that people use load them."""

import contextlib
import io
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.errors import RunError
from schemas.tables import Tables
from schemas.vocabulary import label_order
from tests.builders import LABELS, Parts, column, face, picture, tables, with_values
from tests.extras import extra
from tests.strategies import datasets
from tests.transforms.things import thing
from transforms import encoding
from transforms.coco import write_coco
from transforms.encoding import CategoryLayout, Landmarks, Written
from transforms.rules import clean

ROOTS = {0: "first", 1: "second"}


CATEGORIES = label_order(LABELS)


def raw(
    *each: Tables,
    layout: CategoryLayout = "expression",
    categories: Sequence[str] = CATEGORIES,
    roots: dict[int, str] | None = None,
    landmarks: Landmarks = 5,
) -> bytes:
    """Return the bytes of the export of some parts."""
    out = io.BytesIO()
    options: dict[str, Any] = {"info": {"version": "1"}, "roots": roots or ROOTS, "landmarks": landmarks}
    write_coco(Parts(*each), out, layout=layout, categories=categories, **options)
    return out.getvalue()


def coco(*each: Tables, **options: Any) -> dict[str, Any]:
    """Return the export of some parts, read again."""

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} in the JSON")

    told: dict[str, Any] = json.loads(raw(*each, **options), parse_constant=refuse)
    return told


def people() -> Tables:
    """Return pictures of every outcome, with names that break careless writers."""
    return clean(
        tables(
            picture("a.jpg", face((10, 20, 100, 120)), face((300.123, 20.987, 90.5, 90.25), "sad", 0.6)),
            picture('sub/ünï "quoted"\n\t.jpg', face((-5, 400, 700, 300), landmarks=[None] * 10)),
            picture("back\\slash.jpg", face((None,) * 4, landmarks=None)),
            picture("empty.jpg", timestamp_ms=None),
            picture("copy.jpg", outcome="duplicate", duplicate_of="0" * 64),
            picture("lost.jpg", face((float("nan"), 0, 1, 1))),
            picture("unknown.jpg", face(), width=None, height=None),
        )
    )


def film() -> Tables:
    """Return frames of two videos."""
    frames = [
        picture(name, face(), video_id=name, frame_index=i, image_id=f"{row}{i}" * 32, pts_ms=40.0 * i, timestamp_ms=i)
        for row, name in enumerate(("clips/v.mp4", "w.mp4"))
        for i in (0, 7)
    ]
    return clean(tables(*frames))


def faults(told: dict[str, Any]) -> list[str]:
    """Return what breaks the contract: the rules of pycocotools, CVAT and supervision."""
    wrong: list[str] = []
    if not {"info", "licenses", "images", "annotations", "categories"} <= set(told):
        wrong.append(f"top level {sorted(told)}")
    kinds = ("images", "annotations", "categories", "licenses")
    wrong += [kind for kind in kinds if [row["id"] for row in told[kind]] != list(range(1, len(told[kind]) + 1))]
    names = [image["file_name"] for image in told["images"]]
    wrong += ["names repeat"] * (len(set(names)) != len(names))
    wrong += [f"name {name!r}" for name in names if name.startswith("/") or "\\" in name or "://" in name]
    images = {image["id"]: image for image in told["images"]}
    wrong += [f"size of {i['id']}" for i in told["images"] if not (type(i["width"]) is int and i["width"] > 0)]
    wrong += [f"size of {i['id']}" for i in told["images"] if not (type(i["height"]) is int and i["height"] > 0)]
    wrong += ["licence" for i in told["images"] if i["license"] not in {row["id"] for row in told["licenses"]}]
    for row in told["annotations"]:
        wrong += _annotation_faults(row, images[row["image_id"]], {c["id"] for c in told["categories"]})
    return wrong


def _annotation_faults(row: dict[str, Any], image: dict[str, Any], categories: set[int]) -> list[str]:
    x, y, w, h = row["bbox"]
    right, bottom = round(x + w, 2), round(y + h, 2)
    points = row["keypoints"]
    checks = {
        "category": row["category_id"] in categories,
        "picture": row["attributes"]["annotation_id"].startswith(image["attributes"]["image_id"]),
        "finite": all(type(v) is float and math.isfinite(v) for v in row["bbox"]),
        "inside": x >= 0 and y >= 0 and w > 0 and h > 0 and x + w <= image["width"] and y + h <= image["height"],
        "area": row["area"] == pytest.approx(w * h, abs=1e-4) and row["iscrowd"] == 0,
        "segmentation": row["segmentation"] == [[x, y, x, bottom, right, bottom, right, y]],
        "keypoints": len(points) == 15 and all(type(v) is int and v in (0, 2) for v in points[2::3]),
        "hidden keypoints": all(points[i : i + 2] == [0, 0] for i in range(0, 15, 3) if points[i + 2] == 0),
        "num_keypoints": row["num_keypoints"] == sum(v > 0 for v in points[2::3]),
    }
    return [f"{name} of annotation {row['id']}: {row}" for name, holds in checks.items() if not holds]


# ---- the contract


@settings(max_examples=100, deadline=None)
@given(datasets())
def test_any_cleaned_data_set_holds_to_the_contract(each: list[Tables]) -> None:
    """Whatever detectors found and files are called, also where names repeat across parts and roots."""
    for layout in ("expression", "face"):
        told = coco(*map(clean, each), layout=layout)
        assert faults(told) == []
        assert len(told["images"]) == sum(o != "duplicate" for t in each for o in column(t, "images", "outcome"))
        assert len(told["annotations"]) == sum(clean(t).annotations.num_rows for t in each)


@pytest.mark.parametrize("each", [[], [tables()], [tables(picture("a.jpg"))]])
def test_a_data_set_without_labels_is_a_valid_file(each: list[Tables]) -> None:
    """An empty list is a list."""
    told = coco(*each)
    assert faults(told) == []
    assert told["annotations"] == []


def test_pictures_are_those_labelled_without_a_face_or_quarantined() -> None:
    """Duplicates are not in it; quarantined ones are, without labels; one of unknown size is left out and counted."""
    out = io.BytesIO()
    written = write_coco(Parts(people()), out, layout="expression", categories=CATEGORIES, info={}, roots=ROOTS)
    told = json.loads(out.getvalue())
    assert [image["file_name"] for image in told["images"]] == [
        "a.jpg",
        'sub/ünï "quoted"\n\t.jpg',
        "back%5Cslash.jpg",
        "empty.jpg",
        "lost.jpg",
    ]
    assert [row["image_id"] for row in told["annotations"]] == [1, 1, 2, 3]
    assert written == Written(images=5, annotations=4, left_out=1)
    assert told["images"][2]["coco_url"] == "in/back\\slash.jpg"


def test_a_picture_that_is_held_back_shows_no_labels() -> None:
    """Even where the table still has some."""
    told = coco(tables(picture("a.jpg", face(), outcome="quarantined"), picture("b.jpg", face())))
    assert [row["image_id"] for row in told["annotations"]] == [2]


def test_ids_go_on_from_part_to_part() -> None:
    """Prefix sums over the manifest: a part that is added changes no earlier id."""
    told, longer = coco(people()), coco(people(), film())
    assert longer["images"][: len(told["images"])] == told["images"]
    assert longer["annotations"][: len(told["annotations"])] == told["annotations"]
    assert faults(longer) == []


def test_chunks_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    """Encoding row by row or all at once gives the same bytes, and so does every rerun."""
    at_once = raw(people(), film())
    monkeypatch.setattr(encoding, "CHUNK_ROWS", 1)
    assert raw(people(), film()) == at_once


def test_boxes_are_hundredths_that_never_leave_the_picture() -> None:
    """A clipped box ends at the edge exactly; a label of the whole picture is its frame."""
    told = coco(people())
    assert [row["bbox"] for row in told["annotations"]] == [
        [10.0, 20.0, 100.0, 120.0],
        [300.12, 20.99, 90.5, 90.25],
        [0.0, 400.0, 640.0, 80.0],
        [0.0, 0.0, 640.0, 480.0],
    ]


def test_category_ids_follow_the_vocabulary() -> None:
    """They are the same whatever labels occur; a model's own names come after."""
    told = coco(people())
    names = ["angry", "disgust", "fear", "happy", "sad", "surprise", "neutral", "contempt"]
    assert [c["name"] for c in told["categories"]] == names
    assert {c["supercategory"] for c in told["categories"]} == {"expression"}
    assert [row["category_id"] for row in told["annotations"]] == [4, 5, 4, 4]
    assert told["categories"][0]["keypoints"][0] == "right_eye"
    assert min(min(edge) for edge in told["categories"][0]["skeleton"]) == 1


def test_the_face_layout_has_one_category_and_keeps_the_expression() -> None:
    """Detectors are trained on it."""
    told = coco(people(), layout="face")
    assert [c["name"] for c in told["categories"]] == ["face"]
    assert {row["category_id"] for row in told["annotations"]} == {1}
    assert [row["attributes"]["expression"] for row in told["annotations"]] == ["happy", "sad", "happy", "happy"]


def test_attributes_carry_what_coco_has_no_place_for() -> None:
    """A confidence below 1 stays below 1; what the model does not know is null."""
    sure = clean(tables(picture("a.jpg", face(confidence=1.0))))
    [row] = coco(sure)["annotations"]
    attributes = row["attributes"]
    assert attributes["confidence"] < 1
    assert attributes["probabilities"]["happy"] == 1.0
    assert attributes["probabilities"]["contempt"] is None
    assert (attributes["detection_score"], attributes["model"]) == (0.8, "ferplus@0123456789ab")
    assert (attributes["brightness"], attributes["contrast"], attributes["sharpness"]) == (0.5, 0.25, 0.125)
    assert row["keypoints"][:3] == [40.0, 68.0, 2]
    assert coco(sure)["images"][0]["attributes"]["sha256"] == column(sure, "images", "sha256")[0]


def test_poses_are_attributes_where_they_are_known() -> None:
    """A row without one has no member of the name; the rank is always there."""
    posed = face(yaw=12.5, pitch=-3.0, roll=None, face_scale=40.25, face_rotation=float("nan"))
    rows = coco(clean(tables(picture("a.jpg", posed, face((300, 9, 50, 60))))))["annotations"]
    poses = [{name: row["attributes"].get(name) for name in ("yaw", "pitch", "roll", "face_scale")} for row in rows]
    assert poses[0] == {"yaw": 12.5, "pitch": -3.0, "roll": None, "face_scale": 40.25}
    assert "yaw" not in rows[1]["attributes"]
    assert [row["attributes"]["rank"] for row in rows] == [0, 1]


@pytest.mark.parametrize(
    ("given_", "told"),
    [
        ('{"occluded": true, "track": [1, {"a": null}]}', {"occluded": True, "track": [1, {"a": None}]}),
        ("{}", {}),
        (None, {}),
        ('{"confidence": 2, "yaw": "x"}', {"given_confidence": 2, "given_yaw": "x"}),  # ours are never replaced
        ("[1, 2]", {"attributes": [1, 2]}),
        ('{"a": 1', {"attributes": '{"a": 1'}),  # no JSON is kept as it is
        ("{" * 5000, {"attributes": "{" * 5000}),
        ("[" * 100_000, {"attributes": "[" * 100_000}),
        ('{"a": NaN, "b": -Infinity}', {"a": None, "b": None}),
        ('{"a": 1e999}', {"attributes": '{"a": 1e999}'}),  # infinity to most readers
        ('{"a": "\\ud800"}', {"a": "?"}),  # half a character
        ('{"a": "}]\\n\\u2028"}', {"a": "}]\n\u2028"}),
    ],
)
def test_attributes_that_came_with_a_label_are_kept(given_: str | None, told: dict[str, Any]) -> None:
    """Whatever text it is, the file is valid JSON."""
    rows = coco(tables(picture("a.jpg", face(attributes=given_), face((300, 9, 50, 60)))))["annotations"]
    assert set(rows[0]["attributes"]) - set(rows[1]["attributes"]) == set(told)
    assert {name: rows[0]["attributes"][name] for name in told} == told
    assert rows[0]["attributes"]["confidence"] == 0.9


def test_68_landmarks_are_keypoints_where_they_are_asked_for() -> None:
    """With names and edges; a row without them has none, and a point that was not seen is hidden."""
    points = [float(i) for i in range(136)]
    points[2] = float("nan")
    given_ = clean(tables(picture("a.jpg", face(landmarks_68=points), face((300, 9, 50, 60)))))
    told = coco(given_, landmarks=68)
    first, second = told["annotations"]
    assert (len(first["keypoints"]), first["num_keypoints"]) == (204, 67)
    assert first["keypoints"][:9] == [0.0, 1.0, 2, 0, 0, 0, 4.0, 5.0, 2]
    assert (second["keypoints"], second["num_keypoints"]) == ([0] * 204, 0)
    for category in told["categories"]:
        assert len(set(category["keypoints"])) == 68
        assert {point for edge in category["skeleton"] for point in edge} == set(range(1, 69))
    assert "300-W" in told["info"]["landmarks"]
    assert len(coco(given_)["annotations"][0]["keypoints"]) == 15


def test_landmarks_that_are_not_there_are_zeros() -> None:
    """Null, NaN, or one missing point."""
    points = [1.0, 2.0] * 4 + [float("nan"), 3.0]
    three = tables(
        picture(
            "a.jpg",
            face(landmarks=points),
            face(origin="import", landmarks=[None] * 10),
            face(origin="person", landmarks=points),
        )
    )
    told = coco(clean(with_values(three, "annotations", 2, landmarks=None)))
    assert [row["num_keypoints"] for row in told["annotations"]] == [4, 0, 0]
    assert faults(told) == []


def test_frames_are_named_by_their_number_under_their_video() -> None:
    """Readers refuse repeated names; `videos` is there only when there are any."""
    told = coco(people(), film())
    frames = [image for image in told["images"] if "video_id" in image]
    assert [(f["file_name"], f["video_id"], f["frame_index"], f["timestamp_ms"]) for f in frames] == [
        ("clips/v.mp4/000000.jpg", 1, 0, 0),
        ("clips/v.mp4/000007.jpg", 1, 7, 7),
        ("w.mp4/000000.jpg", 2, 0, 0),
        ("w.mp4/000007.jpg", 2, 7, 7),
    ]
    assert told["videos"] == [{"id": 1, "name": "clips/v.mp4"}, {"id": 2, "name": "w.mp4"}]
    assert "videos" not in coco(people())
    assert faults(told) == []


def test_dates_are_iso_in_utc_or_empty() -> None:
    """A camera's clock may say anything."""
    years = (1_700_000_000_123, None, 10**17, -(10**17))
    told = coco(tables(*(picture(f"{i}.jpg", timestamp_ms=ms) for i, ms in enumerate(years))))
    assert [image["date_captured"] for image in told["images"]] == ["2023-11-14T22:13:20.123Z", "", "", ""]


# ---- cleaned data sets


def test_any_vocabulary_has_categories_in_its_order() -> None:
    """What is no expression is an object, and faces' keypoints and measures are not told of it."""
    given_ = tables(picture("a.jpg", thing(label="dog"), thing((300, 9, 50, 60), " catt", 0.25)))
    told = coco(given_, categories=("cat", "dog", "person", " catt"), landmarks=0)
    assert [(c["name"], c["supercategory"]) for c in told["categories"]] == [
        *(("cat", "object"), ("dog", "object"), ("person", "object"), (" catt", "object"))
    ]
    assert [row["category_id"] for row in told["annotations"]] == [2, 4]
    assert set(told["categories"][0]) == {"id", "name", "supercategory"}
    assert "landmarks" not in told["info"] and "expressions" not in told["info"]["description"]
    first, second = told["annotations"]
    assert set(first) == {"id", "image_id", "category_id", "bbox", "area", "iscrowd", "segmentation", "attributes"}
    assert set(first["attributes"]) == {"confidence", "origin", "rank", "annotation_id"}
    assert second["attributes"]["confidence"] == 0.25


def test_what_is_known_of_a_label_does_not_depend_on_its_neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model's label keeps its probabilities and measures beside an imported one, however rows are cut."""
    given_ = tables(picture("a.jpg", face(), thing((300, 9, 50, 60), "happy"), face((400, 9, 50, 60), "sad")))
    at_once = raw(given_)
    model, imported, other = json.loads(at_once)["annotations"]
    assert {"probabilities", "sharpness", "model"} <= set(model["attributes"]) == set(other["attributes"])
    assert set(imported["attributes"]) == {"expression", "confidence", "origin", "rank", "annotation_id"}
    monkeypatch.setattr(encoding, "CHUNK_ROWS", 1)
    assert raw(given_) == at_once


@pytest.mark.parametrize(
    ("given_", "crowd"), [('{"id":3,"iscrowd":1}', 1), ('{"iscrowd": true}', 1), ('{"iscrowd":10}', 0)]
)
def test_a_label_that_came_as_a_crowd_still_is_one(given_: str, crowd: int) -> None:
    """Evaluation passes over it."""
    [row] = coco(tables(picture("a.jpg", thing(attributes=given_))), categories=("cat",))["annotations"]
    assert row["iscrowd"] == crowd


@pytest.mark.parametrize(
    "broken",
    [
        thing(label=None),
        thing((700, 20, 10, 10)),  # outside
        thing((10, 20, 0.004, 10)),  # nothing in hundredths
        thing((float("nan"), 20, 10, 10)),
        thing((10, 20, 10, float("nan"))),
    ],
)
def test_a_label_that_cannot_be_drawn_is_left_out_and_counted(broken: dict[str, Any]) -> None:
    """Rules hold it back, but a person may take that back; the file is valid all the same."""
    out = io.BytesIO()
    parts = Parts(tables(picture("a.jpg", thing(), broken, thing((300, 9, 50, 60)))))
    written = write_coco(parts, out, layout="expression", categories=("cat",), info={}, roots=ROOTS, landmarks=0)
    assert [row["bbox"][0] for row in json.loads(out.getvalue())["annotations"]] == [10, 300]
    assert written == Written(images=1, annotations=2, left_out=0, unnamed=1)


_number = st.one_of(st.integers(-(2**60), 2**60), st.floats(allow_nan=False, allow_infinity=False))
_value = st.recursive(
    st.one_of(st.none(), st.booleans(), _number, st.text(max_size=4), st.sampled_from(['"', "\\", "é", "\x7f"])),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=2)),
    max_leaves=6,
)
_name = st.one_of(st.sampled_from(["id", "iscrowd", "given_id", "rank", "yaw"]), st.text('abé"\\:,{}\n', max_size=4))
_members = st.dictionaries(_name, _value)


@settings(max_examples=200, deadline=None)
@given(_members, st.sampled_from([(",", ":"), (", ", ": ")]), st.booleans())
def test_attributes_are_the_same_whether_they_are_parsed_or_not(
    members: dict[str, Any], separators: tuple[str, str], ascii_: bool
) -> None:
    """What looks plain is taken as it is, for speed."""
    text = json.dumps(members, separators=separators, ensure_ascii=ascii_)
    [row] = coco(tables(picture("a.jpg", thing(attributes=text))), categories=("cat",), landmarks=0)["annotations"]
    ours = ("confidence", "origin", "rank", "annotation_id")
    kept = {name: value for name, value in row["attributes"].items() if name not in ours}
    theirs = {f"given_{name}" if name in ("id", "iscrowd", "rank", "yaw") else name: members[name] for name in members}
    assert kept == theirs


@pytest.mark.parametrize(
    "broken", ['{"a":01}', '{"a":1,}', '{"a":.5}', '{"a":[1,,2]}', '{"a":"\\x"}', '{"a" 1}', "{a:1}"]
)
def test_what_is_nearly_json_is_kept_as_a_text(broken: str) -> None:
    """A plain look must not take it for JSON."""
    [row] = coco(tables(picture("a.jpg", thing(attributes=broken))), categories=("cat",))["annotations"]
    assert row["attributes"]["attributes"] == broken


# ---- names


def named(*pictures: tuple[str, int], roots: dict[int, str]) -> list[str]:
    """Return the names in the export of some (file name, root), each in a part of its own."""
    told = coco(*(tables(picture(name, root=root)) for name, root in pictures), roots=roots)
    assert faults(told) == []
    return [image["file_name"] for image in told["images"]]


def test_same_named_files_get_their_roots_name() -> None:
    """Both do, so that neither is taken for the other; a name that stands alone is left alone."""
    roots = {0: "in/monday/", 1: "in/tuesday"}
    assert named(("a.jpg", 0), ("a.jpg", 1), ("b.jpg", 1), roots=roots) == ["monday/a.jpg", "tuesday/a.jpg", "b.jpg"]


def test_same_named_roots_get_their_number() -> None:
    """Also where a file happens to have the very name that the root's would give."""
    assert named(("a.jpg", 0), ("a.jpg", 1), roots={0: "x/in", 1: "y/in"}) == ["in-0/a.jpg", "in-1/a.jpg"]
    assert named(("a.jpg", 0), ("a.jpg", 1), ("r/a.jpg", 0), roots={0: "q", 1: "r"})[0] == "q/a.jpg"


def test_a_name_that_repeats_within_a_root_gets_a_part_of_its_id() -> None:
    """Messages may be called alike."""
    alike = [tables(picture("a.jpg", image_id=digit * 64)) for digit in "12"]
    assert [i["file_name"] for i in coco(*alike)["images"]] == ["1" * 16 + "/a.jpg", "2" * 16 + "/a.jpg"]


def test_a_root_may_have_no_name() -> None:
    """`/` and `.` are folders too, and a root may be missing from the list."""
    assert named(("a.jpg", 0), ("a.jpg", 1), ("a.jpg", 2), roots={0: "/", 1: ".."})[2] == "2/a.jpg"


def test_a_label_without_a_category_stops_the_export() -> None:
    """A file that silently lacks labels would be worse."""
    odd = with_values(people(), "annotations", 0, label="hapy")
    with pytest.raises(RunError, match="'hapy'"):
        coco(odd)


# ---- readers


@pytest.fixture
def instances(tmp_path: Path) -> Path:
    """Return the folder of a data set in the layout that importers look for."""
    path = tmp_path / "annotations" / "instances.json"
    path.parent.mkdir()
    path.write_bytes(raw(people(), film()))
    return path


def test_pycocotools_loads_it_and_scores_it_perfect_against_itself(instances: Path) -> None:
    """Load, loadRes, masks, and an average precision of 1: an id of 0 would lower it."""
    coco_type, evaluation_type = extra("pycocotools.coco").COCO, extra("pycocotools.cocoeval").COCOeval
    with contextlib.redirect_stdout(io.StringIO()):
        truth = coco_type(str(instances))
        rows = truth.dataset["annotations"]
        keys = ("image_id", "category_id", "bbox")
        results = truth.loadRes([{**{key: row[key] for key in keys}, "score": 1.0} for row in rows])
        evaluation = evaluation_type(truth, results, "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    assert evaluation.stats[0] == pytest.approx(1.0)
    assert all(truth.annToMask(row).any() for row in rows)


def test_supervision_loads_it(instances: Path) -> None:
    """Its reader needs the pictures' names only; repeated ones it would drop."""
    loaded = extra("supervision").DetectionDataset.from_coco(str(instances.parent), str(instances))
    told = json.loads(instances.read_bytes())
    assert len(loaded) == len(told["images"])
    assert sum(len(found) for found in loaded.annotations.values()) == len(told["annotations"])
    assert loaded.classes[:4] == ["angry", "disgust", "fear", "happy"]


@pytest.mark.parametrize("form", ["coco_instances", "coco_person_keypoints"])
def test_datumaro_loads_it(tmp_path: Path, form: str) -> None:
    """As boxes and as keypoints, with attributes; it wants an `images` folder beside the annotations."""
    dataset_type = extra("datumaro").Dataset
    name = {"coco_instances": "instances", "coco_person_keypoints": "person_keypoints"}[form]
    path = tmp_path / "annotations" / f"{name}_train.json"
    path.parent.mkdir()
    (tmp_path / "images").mkdir()
    path.write_bytes(raw(people(), film()))
    loaded = dataset_type.import_from(str(path), form)
    told = json.loads(path.read_bytes())
    assert len(loaded) == len(told["images"])
    boxes = [a for item in loaded for a in item.annotations if a.type.name == "bbox"]
    assert len(boxes) == len(told["annotations"])
    assert {a.attributes["expression"] for a in boxes} == {"happy", "sad"}
