"""COCO is read as it stands, in any order of its lists; what its ids break is told, and nothing is repaired."""

import json
import math
import tempfile
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.errors import UsageError
from schemas.raw import Facts
from schemas.reasons import Rule
from tests.builders import Parts, face, picture, tables
from tests.transforms.readers.reading import read, said, source
from transforms.coco import write_coco
from transforms.readers import coco, json_parts
from transforms.readers.coco import is_one

IMAGES = [{"id": 7, "file_name": "a.jpg", "width": 640, "height": 480}, {"id": 8, "file_name": "b.jpg"}]
CATEGORIES = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]


@pytest.fixture
def given_(tmp_path: Path) -> Callable[..., tuple[pl.DataFrame, Facts]]:
    """Write COCO of two images and two categories with what is given, and read it."""

    def write(*annotations: Any, **members: Any) -> tuple[pl.DataFrame, Facts]:
        told = {"images": IMAGES, "categories": CATEGORIES, "annotations": list(annotations), **members}
        path = tmp_path / "given.json"
        path.write_text(json.dumps(told))
        return read(source(path, "coco"), tmp_path)

    return write


Given = Callable[..., tuple[pl.DataFrame, Facts]]


def one(**members: Any) -> dict[str, Any]:
    """Return an annotation of the first image and category."""
    return {"id": 5, "image_id": 7, "category_id": 1, "bbox": [1, 2, 3, 4], **members}


def attributes(rows: pl.DataFrame, row: int = 0) -> Any:
    """Return a row's attributes."""
    return json.loads(rows["attributes"][row] or "{}")


# Real files


def test_a_real_file_is_read_whole(shared: Path, tmp_path: Path) -> None:
    """Boxes as they stand, in pixels; polygons stay in the attributes; pictures without labels are named."""
    path = shared / "data/annotations/croissant_coco2014_mini/data/instances_train2014.json"
    told = json.loads(path.read_text())
    rows, facts = read(source(path, "coco"), tmp_path)
    labels = rows.filter("is_label")
    names = {image["id"]: image["file_name"] for image in told["images"]}
    assert labels["picture"].to_list() == [names[label["image_id"]] for label in told["annotations"]]
    assert [list(row) for row in labels.select(*"abcd").iter_rows()] == [label["bbox"] for label in told["annotations"]]
    assert set(labels["label"]) == {"hot dog"}
    assert attributes(labels)["segmentation"] == told["annotations"][0]["segmentation"]
    assert set(rows.filter(~pl.col("is_label"))["picture"]) == set(names.values()) - set(labels["picture"])
    assert (facts.corners, facts.unit) == ("xywh", "pixels")
    assert facts.categories == tuple(category["name"] for category in told["categories"])


def test_labels_of_whole_pictures_have_no_box(shared: Path, tmp_path: Path) -> None:
    """As Datumaro writes them: no bbox, no shape."""
    path = shared / "data/annotations/datumaro/coco_dataset/coco/annotations/labels_val.json"
    rows, _ = read(source(path, "coco"), tmp_path)
    assert said(rows) == [("b.jpg", "a", *[None] * 4), ("b.jpg", "b", *[None] * 4)]


def test_an_id_of_zero_is_told(shared: Path, tmp_path: Path) -> None:
    """And the label is there all the same."""
    path = shared / "data/annotations/datumaro/kaggle_dataset/relaxed_coco/annotations.json"
    rows, _ = read(source(path, "coco"), tmp_path)
    assert said(rows, "rule", "detail") == [
        ("train_001.jpg", "label_0", 2, 1, 3, 1, "reference.zero_id", "annotation id 0"),
        ("train_002.jpg", "label_1", 0, 0, 2, 4, None, None),
    ]


@pytest.mark.parametrize("name", ["captions_val.json", "panoptic_val.json"])
def test_coco_without_labels_is_refused(name: str, shared: Path, tmp_path: Path) -> None:
    """Captions and segments of a mask."""
    path = shared / "data/annotations/datumaro/coco_dataset/coco/annotations" / name
    assert not is_one(path.read_bytes(), name)
    with pytest.raises(UsageError, match=f"{name}: COCO (captions|panoptic segments): no boxes or labels of objects"):
        read(source(path, "coco"), tmp_path)


@pytest.mark.parametrize("layout", ["expression", "face"])
def test_our_own_export_is_read_back(layout: Any, tmp_path: Path) -> None:
    """In both layouts of categories: pictures, labels, boxes to hundredths, confidences."""
    given_tables = tables(
        picture("x/a.jpg", face((10.126, 20, 100, 120), "happy", 0.5), face((300, 20, 90, 80), "sad", 0.75)),
        picture("b.jpg"),
    )
    path = tmp_path / "ours.json"
    with path.open("wb") as out:
        write_coco(Parts(given_tables), out, layout=layout, categories=["happy", "sad"], info={}, roots={})
    rows, _ = read(source(path, "coco"), tmp_path)
    assert said(rows, "width", "height", "confidence") == [
        ("x/a.jpg", "happy", 10.13, 20, 100, 120, 640, 480, 0.5),
        ("x/a.jpg", "sad", 300, 20, 90, 80, 640, 480, 0.75),
        ("b.jpg", None, None, None, None, None, 640, 480, None),
    ]
    assert "segmentation" not in attributes(rows)
    assert attributes(rows)["model"] == "ferplus@0123456789ab"


# Annotations


def test_attributes_keep_what_has_no_column(given_: Given) -> None:
    """The id, the crowd flag, keypoints, members of `attributes` beside them; a score is the confidence."""
    told = {"iscrowd": 0, "keypoints": [1, 2, 2], "num_keypoints": 1, "score": 0.25, "attributes": {"blur": True}}
    rows, _ = given_(one(**told))
    assert attributes(rows) == {"id": 5, "iscrowd": 0, "keypoints": [1, 2, 2], "num_keypoints": 1, "blur": True}
    assert rows["confidence"][0] == 0.25


@pytest.mark.parametrize(
    ("told", "kept"),
    [
        ({"area": 12}, {}),
        ({"area": 11.5}, {"area": 11.5}),
        ({"segmentation": []}, {}),
        ({"segmentation": [[1, 2, 1, 6, 4, 6, 4, 2]]}, {}),  # as we write it
        ({"segmentation": [[1, 2, 4, 2, 4, 6, 1, 6]]}, {}),  # the other way round
        ({"segmentation": [[4, 6, 1, 6, 1, 2, 4, 2.01]]}, {}),  # from another corner, rounded
        ({"segmentation": [[1, 2, 4, 6, 4, 2, 1, 6]]}, {"segmentation": [[1, 2, 4, 6, 4, 2, 1, 6]]}),  # it crosses
        ({"segmentation": [[1, 2, 1, 6, 4, 6, 3, 2]]}, {"segmentation": [[1, 2, 1, 6, 4, 6, 3, 2]]}),
        ({"segmentation": [[1, 2, 1, 2, 1, 2, 1, 2]]}, {"segmentation": [[1, 2, 1, 2, 1, 2, 1, 2]]}),
        ({"segmentation": [["x"] * 8]}, {"segmentation": [["x"] * 8]}),
        ({"segmentation": {"counts": [1], "size": [2, 3]}}, {"segmentation": {"counts": [1], "size": [2, 3]}}),
        ({"attributes": {"id": 9}}, {"attributes": {"id": 9}}),  # which is not the annotation's own
        ({"attributes": {"confidence": 0.5}}, {}),
        ({"score": "high"}, {"score": "high"}),
    ],
)
def test_only_what_says_more_than_the_box_is_kept(told: dict[str, Any], kept: dict[str, Any], given_: Given) -> None:
    """An area and a polygon that repeat the box are not."""
    rows, _ = given_(one(**told), one(id=6, segmentation=[[1, 2, 1, 6, 4, 6, 4, 2]]))
    assert attributes(rows) == {"id": 5, **kept}
    assert attributes(rows, 1) == {"id": 6}


def test_a_huge_shape_is_dropped_with_a_note(given_: Given) -> None:
    """So that attributes stay small."""
    rows, _ = given_(one(segmentation=[[0.5] * 100_000]))
    assert attributes(rows) == {"id": 5, "segmentation_dropped": True}


@pytest.mark.parametrize(
    ("members", "box"),
    [
        ({"bbox": [1, "2", 3, 4]}, (1, "NaN", 3, 4)),
        ({"bbox": [1, None, math.nan, math.inf]}, (1, "NaN", "NaN", "NaN")),
        ({"bbox": [1, 2, 3]}, ("NaN",) * 4),
        ({"bbox": {"x": 1}}, ("NaN",) * 4),
        ({"bbox": None}, (None,) * 4),
        ({"bbox": None, "segmentation": [[5, 6, 9, 6, 9, 20], [1, 7, 2, 8, 1, 8]]}, (1, 6, 8, 14)),
        ({"bbox": None, "segmentation": {"counts": "x", "size": [1, 1]}}, ("NaN",) * 4),
        ({"bbox": None, "segmentation": [[1, 2, 3]]}, ("NaN",) * 4),
        ({"bbox": [10**30, 2, 3, 4]}, (1e30, 2, 3, 4)),
        ({"bbox": [10**400, 2, 3, 4]}, ("NaN", 2, 3, 4)),
    ],
)
def test_boxes_are_numbers_or_none(members: dict[str, Any], box: tuple[Any, ...], given_: Given) -> None:
    """NaN is what is no number; null is a label of the whole picture; without a box, a polygon's bounds serve."""
    rows, _ = given_(one(**members))
    assert said(rows)[0] == ("a.jpg", "cat", *box)


def test_numbers_beyond_floats_are_none(tmp_path: Path) -> None:
    """As 1e999, which is JSON."""
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"images": IMAGES, "annotations": [one()]}).replace("[1, 2,", "[1e999, 2,"))
    rows, _ = read(source(path, "coco"), tmp_path)
    assert said(rows)[0][2:] == ("NaN", 2, 3, 4)


def test_a_face_is_called_by_its_expression(given_: Given) -> None:
    """Where the categories say only that it is a face; else the category is the label."""
    face_ = one(attributes={"expression": "happy"})
    plain, _ = given_(face_, one(id=6), categories=[{"id": 1, "name": "Face"}, {"id": 2, "name": "person"}])
    assert plain["label"].to_list()[:2] == ["happy", "Face"]
    other, _ = given_(face_)
    assert other["label"].to_list()[:1] == ["cat"]


# References


@pytest.mark.parametrize(
    ("annotation", "picture_", "label", "rule", "detail"),
    [
        (one(image_id=99), "image 99", "cat", Rule.REFERENCE_NO_IMAGE, "no image has the id 99"),
        (one(image_id=None), "image without an id", "cat", Rule.REFERENCE_NO_IMAGE, "it names no image"),
        (one(category_id=9), "a.jpg", None, Rule.REFERENCE_CATEGORY, "no category has the id 9"),
        (one(category_id=None), "a.jpg", None, None, None),
        (one(id=0), "a.jpg", "cat", Rule.REFERENCE_ZERO_ID, "annotation id 0"),
        (one(id=None), "a.jpg", "cat", None, None),
        (one(image_id="7"), "a.jpg", "cat", None, None),  # as some exporters write ids
        (one(image_id=7.0, category_id=1.0), "a.jpg", "cat", None, None),
    ],
)
def test_references_are_checked(
    annotation: dict[str, Any], picture_: str, label: str | None, rule: str | None, detail: str | None, given_: Given
) -> None:
    """Each fault has its rule, and says how."""
    rows, _ = given_(annotation)
    assert rows.select("picture", "label", "rule", "detail").row(0) == (picture_, label, rule, detail)


def test_ids_of_zero_are_told_together(given_: Given) -> None:
    """Of the annotation, its image and its category."""
    rows, _ = given_(
        one(id=0, image_id=0, category_id=0),
        images=[{"id": 0, "file_name": "a.jpg"}],
        categories=[{"id": 0, "name": "cat"}],
    )
    assert rows.select("label", "detail").row(0) == ("cat", "annotation id 0, image id 0, category id 0")


def test_an_annotation_id_may_be_used_once(given_: Given) -> None:
    """The first one has it; those without any are no doubles."""
    rows, _ = given_(one(), one(image_id=8), one(id=None), one(id=None))
    assert rows["rule"].to_list() == [None, "reference.duplicate_id", None, None]
    assert rows["detail"][1] == "the annotation id 5 was used before"


def test_an_image_id_stands_for_one_picture(given_: Given) -> None:
    """The same picture twice is harmless; of two, neither is known to be meant."""
    rows, _ = given_(one(), one(id=6, image_id=8), images=[*IMAGES, {"id": 7, "file_name": "c.jpg"}, IMAGES[1]])
    told = ("reference.duplicate_id", "the image id 7 stands for a.jpg and c.jpg")
    assert rows.select("picture", "is_label", "rule", "detail").rows() == [
        ("a.jpg", True, *told),
        ("b.jpg", True, None, None),
        ("c.jpg", False, *told),
    ]


def test_a_category_id_stands_for_one_name(given_: Given) -> None:
    """Of two, neither is known to be meant."""
    rows, facts = given_(one(), categories=[*CATEGORIES, {"id": 1, "name": "lion"}])
    assert rows.select("label", "rule", "detail").row(0) == (
        *("cat", "reference.duplicate_id"),
        "the category id 1 stands for cat and lion",
    )
    assert facts.categories == ("cat", "dog", "lion")


def test_pictures_without_labels_are_named_once(given_: Given) -> None:
    """Also where a labelled picture is listed a second time under another id."""
    rows, _ = given_(one(), images=[*IMAGES, {"id": 9, "file_name": "a.jpg"}, {"id": 10, "file_name": "b.jpg"}])
    assert rows.select("picture", "is_label").rows() == [("a.jpg", True), ("b.jpg", False)]


# Images


def test_names_of_pictures_are_found_where_other_tools_put_them(given_: Given) -> None:
    """Never empty, slashes forward."""
    told = [{"file_name": "x\\a.jpg"}, {"path": "/data/b.jpg"}, {"coco_url": "http://h/c.jpg"}, {}, {"file_name": 5}]
    rows, _ = given_(images=[{"id": number, **image} for number, image in enumerate(told)])
    assert rows["picture"].to_list() == ["x/a.jpg", "/data/b.jpg", "c.jpg", "image 3", "image 4"]


def test_sizes_that_are_none_are_not_told(given_: Given) -> None:
    """Only whole numbers are."""
    sizes = [640, 640.0, "640", None, "wide", 1e12]
    rows, _ = given_(images=[{"id": n, "file_name": f"{n}", "width": size} for n, size in enumerate(sizes)])
    assert rows["width"].to_list() == [640, 640, 640, None, None, None]


def test_frames_are_told_by_their_video(given_: Given) -> None:
    """As we export them; a frame of an unknown video is a picture."""
    image = {"id": 7, "file_name": "v.mp4/000012.jpg", "video_id": 3, "frame_index": 12}
    rows, _ = given_(one(), images=[image], videos=[{"id": 3, "name": "v.mp4"}])
    assert rows.select("picture", "frame").row(0) == ("v.mp4", 12)
    rows, _ = given_(one(), images=[image])
    assert rows.select("picture", "frame").row(0) == ("v.mp4/000012.jpg", None)


# The file


_annotation = st.fixed_dictionaries(
    {"id": st.integers(0, 4), "image_id": st.sampled_from([7, 8, 9, "7"]), "category_id": st.sampled_from([0, 1, 2])},
    optional={
        "bbox": st.lists(st.integers(0, 9) | st.none(), min_size=3, max_size=4),
        "area": st.integers(0, 20),
        "segmentation": st.sampled_from([[], [[1, 2, 1, 6, 4, 6, 4, 2]], {"counts": []}]),
        "attributes": st.dictionaries(st.sampled_from(["x", "expression", "confidence"]), st.sampled_from(["y", 0.5])),
    },
)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(_annotation, max_size=30),
    st.permutations(["info", "images", "annotations", "categories"]),
    st.sampled_from([60, 1 << 19]),
)
def test_the_order_of_the_lists_does_not_matter(annotations: list[Any], order: list[str], block: int) -> None:
    """Nor where the file is cut."""
    images = [*IMAGES, {"id": 9, "file_name": "c.jpg"}, {"id": 9, "file_name": "d.jpg"}]
    told = {"info": {}, "images": images, "annotations": annotations, "categories": CATEGORIES}
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        path = Path(folder) / "a.json"
        path.write_text(json.dumps(told))
        expected, _ = read(source(path, "coco"), Path(folder))
        path.write_text(json.dumps({key: told[key] for key in order}))
        patch.setattr(json_parts, "_BLOCK_BYTES", block)
        rows, _ = read(source(path, "coco"), Path(folder))
        assert rows.equals(expected)


def test_a_long_file_is_put_aside_and_joined_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In chunks, in the order of the file; the scratch folder is empty afterwards."""
    monkeypatch.setattr(coco, "CHUNK_ROWS", 100)
    monkeypatch.setattr(json_parts, "_BLOCK_BYTES", 1_000)
    count = 1_234
    told = {
        "annotations": [one(id=number + 1, image_id=number % 50, bbox=[number, 2, 3, 4]) for number in range(count)],
        "images": [{"id": number, "file_name": f"{number}.jpg"} for number in range(60)],
        "categories": CATEGORIES,
    }
    path, scratch = tmp_path / "a.json", tmp_path / "scratch"
    scratch.mkdir()
    path.write_text(json.dumps(told))
    written = []
    aside = coco._Shelf._aside
    monkeypatch.setattr(coco._Shelf, "_aside", lambda *given: written.append(aside(*given)) or written[-1])
    rows, _ = read(source(path, "coco"), scratch)
    assert len(set(written)) > 10
    assert rows["row"].to_list() == [*range(count), *range(50, 60)]
    assert rows["a"].to_list() == [*range(count), *[None] * 10]
    assert rows["picture"].to_list() == [
        *(f"{number % 50}.jpg" for number in range(count)),
        *(f"{n}.jpg" for n in range(50, 60)),
    ]
    assert not list(scratch.iterdir())


def test_python_objects_are_few_at_a_time(tmp_path: Path) -> None:
    """However many annotations there are."""
    path = tmp_path / "a.json"
    annotation = json.dumps(one(segmentation=[[1, 2, 1, 6, 4, 6, 4, 2]]))
    path.write_text('{"images": [], "annotations": [' + ",".join([annotation] * 40_000) + "]}")
    tracemalloc.start()
    try:
        rows, _ = read(source(path, "coco"), tmp_path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert rows.height == 40_000
    assert peak < 16 * 2**20  # all at once are 50 MB


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b'{"images": [{"id": 1}], "annotations": [{"id": 5,, }]}', r"broken JSON at byte 49: expecting property name"),
        (b'{"images": [{"id": 1}], "annotations": [', r"broken JSON at byte 40: it ends too early"),
        (b"", r"broken JSON at byte 0: it ends too early"),
        (b'{"images": {}}', r"byte 11: expected images to be a list"),
        (b"{}", r"no images, annotations or categories"),
        (b"[]", r"is not COCO"),
        (b"[1]", r"is a list, not COCO"),
        (
            b'[{"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5}]',
            r"a list of COCO results names neither pictures nor categories",
        ),
        (b'{"images": [' + b"[" * 100_000, r"nested too deeply"),
    ],
)
def test_files_that_cannot_be_read_are_told(data: bytes, told: str, tmp_path: Path) -> None:
    """With their name, where, and what to do."""
    path = tmp_path / "a.json"
    path.write_bytes(data)
    with pytest.raises(UsageError, match=rf"^a\.json.*{told}"):
        read(source(path, "coco"), tmp_path)


def test_elements_that_are_no_objects_are_told(given_: Given) -> None:
    """And the others are read."""
    rows, facts = given_(one(), None, 5, one(id=6))
    assert rows["row"].to_list() == [0, 3, 1]
    assert facts.failures == [
        ("given.json", "broken", "2 elements of annotations are no objects, the first is number 1")
    ]


def test_text_of_any_encoding_is_read(tmp_path: Path) -> None:
    """UTF-8 and UTF-16 with a mark, and Windows-1252."""
    told = {"images": [{"id": 7, "file_name": "Gefühl.jpg"}]}
    for encoding in ("utf-8-sig", "utf-16", "cp1252"):
        path = tmp_path / "a.json"
        path.write_bytes(json.dumps(told, ensure_ascii=False).encode(encoding))
        rows, _ = read(source(path, "coco"), tmp_path)
        assert rows["picture"].to_list() == ["Gefühl.jpg"]


@pytest.mark.parametrize(
    ("head", "is_coco"),
    [
        ('{"images": [{"id": 1, "file_name": "a.jpg"}', True),
        ('{"annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1', True),
        ('[{"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 1}]', True),
        ('{"images": [{"id": 1}], "annotations": [{"image_id": 1, "category_id": 0, "caption": "x"}]}', False),
        ('{"images": ["a.jpg"]}', False),
        ('{"shapes": [], "imagePath": "a.jpg"}', False),
        ("image,label\n", False),
        ("", False),
    ],
)
def test_coco_is_told_by_its_content(head: str, is_coco: bool) -> None:
    """Whatever the file is called."""
    assert is_one(head.encode(), "x.txt") == is_coco
