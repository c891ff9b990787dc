"""Pascal VOC files are what the devkit says, and what supervision and Datumaro read."""

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings

from schemas.errors import RunError
from schemas.tables import Tables
from schemas.vocabulary import label_order
from tests.builders import LABELS, Parts, column, face, picture, tables, with_values
from tests.extras import extra
from tests.strategies import HEIGHT, WIDTH, datasets
from tests.transforms.kept import Kept
from tests.transforms.things import thing
from transforms.copies import Copies
from transforms.encoding import CategoryLayout, Written
from transforms.folders import Folder
from transforms.rules import clean
from transforms.splits import Sides
from transforms.voc import write_voc

ROOTS = {0: "first", 1: "second"}
CATEGORIES = label_order(LABELS)
DEFAULT = Sides.one("default")


def voc(
    *each: Tables,
    layout: CategoryLayout = "expression",
    categories: tuple[str, ...] = CATEGORIES,
    sides: Sides = DEFAULT,
) -> tuple[Kept, Written]:
    """Return the export of some parts."""
    folder = Kept()
    options: dict[str, Any] = {"roots": ROOTS, "sides": sides, "copies": None}
    return folder, write_voc(Parts(*each), folder, layout=layout, categories=categories, **options)


def read(text: str) -> Any:
    """Return the XML as a strict parser reads it."""
    return extra("defusedxml.ElementTree").fromstring(text)


def boxes(root: Any) -> list[list[int]]:
    """Return xmin, ymin, xmax, ymax of each object."""
    return [[int(box.find(end).text) for end in ("xmin", "ymin", "xmax", "ymax")] for box in root.iter("bndbox")]


def test_a_file_has_what_the_devkit_says() -> None:
    """Coordinates count from 1 and the last pixel is in the box."""
    folder, written = voc(clean(tables(picture("b/a.png", face((10, 20, 100, 120), "sad", 0.75)))))
    root = read(folder.text("Annotations/b/a.xml"))
    assert root.tag == "annotation"
    texts = ("folder", "filename", "size/width", "size/height", "size/depth", "segmented", "source/database")
    assert [root.find(name).text for name in texts] == ["JPEGImages", "b/a.png", "640", "480", "3", "0", "labelstream"]
    [each] = root.findall("object")
    assert [each.find(name).text for name in ("name", "pose", "truncated", "difficult")] == [
        "sad",
        "Unspecified",
        "0",
        "0",
    ]
    assert boxes(root) == [[11, 21, 110, 140]]
    attributes = {one.find("name").text: one.find("value").text for one in each.iter("attribute")}
    assert (attributes["confidence"], attributes["detection_score"], attributes["origin"]) == ("0.75", "0.8", "model")
    assert "yaw" not in attributes  # it was not computed
    assert written == Written(images=1, annotations=1, left_out=0)


def test_a_box_at_the_edge_is_truncated() -> None:
    """And a label of the whole picture is its frame."""
    faces = [
        face((0, 20, 100, 120)),
        face((540, 20, 100, 120)),
        face((None,) * 4, landmarks=None),
        face((300, 9, 50, 60)),
    ]
    root = read(voc(clean(tables(picture("a.jpg", *faces))))[0].text("Annotations/a.xml"))
    assert [one.text for one in root.iter("truncated")] == ["1", "1", "1", "0"]
    assert boxes(root)[2] == [1, 1, 640, 480]


@pytest.mark.parametrize(
    ("size", "box", "told"),
    [
        ((640, 480), (639, 479, 1, 1), [639, 479, 640, 480]),
        ((640, 480), (0, 0, 1, 1), [1, 1, 2, 2]),
        ((1, 1), (0, 0, 1, 1), [1, 1, 1, 1]),  # there is no more
    ],
)
def test_a_box_of_one_pixel_is_drawn_with_two(
    size: tuple[int, int], box: tuple[float, float, float, float], told: list[int]
) -> None:
    """Readers that subtract its ends would see none."""
    folder, _ = voc(tables(picture("a.jpg", face(box, landmarks=None), width=size[0], height=size[1])))
    assert boxes(read(folder.text("Annotations/a.xml"))) == [told]


def test_lists_are_the_names_of_what_is_settled() -> None:
    """One a line, without an end; backgrounds have a file without objects."""
    rows = (
        picture("a b.jpg", face()),
        picture("none.jpg"),
        picture("v.mp4", face(), video_id="v", frame_index=3),
        picture("lost.jpg", face((float("nan"), 0, 1, 1))),
    )
    folder, written = voc(clean(tables(*rows)), sides=Sides.one("train"))
    assert folder.text("ImageSets/Main/train.txt") == "a b\nnone\nv.mp4/000003\n"
    assert boxes(read(folder.text("Annotations/none.xml"))) == []
    assert "Annotations/lost.xml" not in folder.files
    assert written == Written(images=3, annotations=2, left_out=1)


def test_the_face_layout_keeps_the_expression() -> None:
    """As an attribute, as in COCO."""
    folder, _ = voc(clean(tables(picture("a.jpg", face(label="sad")))), layout="face")
    root = read(folder.text("Annotations/a.xml"))
    assert root.find("object/name").text == "face"
    told = {one.find("name").text: one.find("value").text for one in root.iter("attribute")}
    assert told["expression"] == "sad"
    assert folder.text("labelmap.txt").splitlines()[1:] == ["face:::"]


@pytest.mark.parametrize("name", ["<b>&amp;", "]]>", "\"'", "\x00\x0b\ufffe", "开心 \U0001f600", "<!ENTITY x 'y'>"])
def test_names_cannot_break_out_of_the_xml(name: str) -> None:
    """Neither files' nor labels'; what XML has no way to write is replaced."""
    given_ = with_values(tables(picture(f"{name}.jpg", face())), "annotations", 0, label=name)
    folder, _ = voc(given_, categories=(*CATEGORIES, name))
    [text] = [folder.text(file) for file in folder.files if file.startswith("Annotations/")]
    told = read(text).find("object/name").text
    assert told == "".join("\ufffd" if c in "\x00\x0b\ufffe" else c for c in name)


@settings(max_examples=60, deadline=None)
@given(datasets())
def test_boxes_are_pixels_of_their_pictures(each: list[Tables]) -> None:
    """Whatever detectors found: not empty also for those who subtract, and next to the truth."""
    cleaned = [clean(one) for one in each]
    folder, written = voc(*cleaned)
    files = [name for name in folder.files if name.startswith("Annotations/")]
    assert len(files) == len(folder.text("ImageSets/Main/default.txt").splitlines()) == written.images
    found = [box for name in files for box in boxes(read(folder.text(name)))]
    names = ("bbox_x", "bbox_y", "bbox_w", "bbox_h")
    truth = [r for one in cleaned for r in zip(*(column(one, "annotations", n) for n in names), strict=True)]
    assert len(found) == len(truth) == written.annotations
    for (x1, y1, x2, y2), (x, y, w, h) in zip(found, truth, strict=True):
        assert 1 <= x1 < x2 <= WIDTH and 1 <= y1 < y2 <= HEIGHT
        if x is not None:
            assert (x1 - 1, y1 - 1, x2, y2) == pytest.approx((x, y, x + w, y + h), abs=1.51)


def test_a_label_without_a_name_stops_the_export() -> None:
    """A file that silently lacks labels would be worse."""
    with pytest.raises(RunError, match="VOC has no category for the label 'hapy'"):
        voc(with_values(tables(picture("a.jpg", face())), "annotations", 0, label="hapy"))


def test_what_came_with_a_label_stands_where_voc_has_it() -> None:
    """Its own members in their places, the rest among the attributes; a name of ours is not taken."""
    given_ = {
        "pose": "Left",
        "difficult": "1",
        "truncated": 1,
        "folder": "x",
        "tags": ["a", 1],
        "origin": "?",
        "no": None,
    }
    row = thing(attributes=json.dumps(given_))
    folder, _ = voc(tables(picture("a.jpg", row, thing(attributes='{"difficult": "maybe"}'))), categories=("cat",))
    first, second = read(folder.text("Annotations/a.xml")).findall("object")
    assert [first.find(name).text for name in ("pose", "truncated", "difficult")] == ["Left", "1", "1"]
    assert [second.find(name).text for name in ("pose", "truncated", "difficult")] == ["Unspecified", "0", "0"]
    told = {one.find("name").text: one.find("value").text for one in first.iter("attribute")}
    assert told == {"origin": "import", "annotation_id": told["annotation_id"], "tags": '["a", 1]', "given_origin": "?"}


def test_each_split_has_its_list() -> None:
    """And each picture is in one."""
    given_ = tables(*(picture(f"{i}.jpg", thing()) for i in range(40)))
    sides = Sides.of_shares(Parts(given_), {"train": 0.5, "val": 0.3, "test": 0.2})
    folder, _ = voc(given_, categories=("cat",), sides=sides)
    lists = [folder.text(f"ImageSets/Main/{name}.txt").splitlines() for name in ("train", "val", "test")]
    assert sorted(name for some in lists for name in some) == sorted(map(str, range(40)))
    assert all(lists)


# ---- readers


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    """Return an export with pictures, one of them a background."""
    rows = []
    for name, faces in (("one.jpg", [face()]), ("two.png", [face(), face((300, 100, 90, 80), "sad")]), ("no.jpg", [])):
        cv2.imwrite(str(tmp_path / name), np.full((480, 640, 3), 90, np.uint8))
        data = (tmp_path / name).read_bytes()
        rows.append(picture(name, *faces, source_uri=str(tmp_path / name), sha256=sha256(data).hexdigest()))
    folder = Folder(str(tmp_path / "voc"))
    copies = Copies(folder, max_bytes=1 << 20, max_pixels=1 << 20)
    options: dict[str, Any] = {"categories": CATEGORIES, "roots": ROOTS, "copies": copies}
    write_voc(Parts(clean(tables(*rows))), folder, layout="expression", sides=Sides.one("train"), **options)
    assert (copies.placed, copies.missing) == (3, 0)
    return tmp_path / "voc"


def test_supervision_reads_the_very_boxes(exported: Path) -> None:
    """It counts from 1 too."""
    loaded = extra("supervision").DetectionDataset.from_pascal_voc(
        str(exported / "JPEGImages"), str(exported / "Annotations")
    )
    found = {Path(name).stem: each for name, each in loaded.annotations.items()}
    assert {name: len(each) for name, each in found.items()} == {"one": 1, "two": 2, "no": 0}
    assert found["one"].xyxy[0].tolist() == [10, 20, 110, 140]
    assert [loaded.classes[number] for number in found["two"].class_id] == ["happy", "sad"]


def test_datumaro_reads_it_a_pixel_late(exported: Path) -> None:
    """It takes the numbers as they are; attributes, labels and pictures come with them."""
    loaded = extra("datumaro").Dataset.import_from(str(exported), "voc_detection")
    found = {item.id: item for item in loaded}
    assert {name: len(item.annotations) for name, item in found.items()} == {"one": 1, "two": 2, "no": 0}
    [box] = found["one"].annotations
    assert box.get_bbox() == [11, 21, 99, 119]
    assert float(box.attributes["confidence"]) == pytest.approx(0.9)
    assert found["one"].media.data.shape == (480, 640, 3)
    labels = loaded.categories()[extra("datumaro").AnnotationType.label].items
    assert [label.name for label in labels] == [*LABELS, "contempt"]
    assert found["one"].subset == "train"
