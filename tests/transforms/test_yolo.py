"""YOLO labels are what Ultralytics, supervision and Datumaro read, for any data set."""

import csv
import io
from hashlib import sha256
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings

from schemas.errors import RunError, UsageError
from schemas.tables import Tables
from schemas.vocabulary import label_order
from tests.builders import LABELS, Parts, column, face, picture, tables, with_values
from tests.extras import extra
from tests.strategies import datasets
from tests.transforms.kept import Kept
from tests.transforms.things import UNKNOWN, part, thing, whole
from transforms.copies import Copies
from transforms.encoding import CategoryLayout, Written
from transforms.folders import Folder
from transforms.rules import clean
from transforms.splits import Sides
from transforms.yolo import write_yolo

ROOTS = {0: "first", 1: "second"}
CATEGORIES = label_order(LABELS)


def yolo(
    *each: Tables,
    layout: CategoryLayout = "expression",
    categories: tuple[str, ...] = CATEGORIES,
    sides: Sides | None = None,
) -> tuple[Kept, Written]:
    """Return the export of some parts."""
    folder = Kept()
    options: dict[str, Any] = {"roots": ROOTS, "sides": sides, "copies": None}
    return folder, write_yolo(Parts(*each), folder, layout=layout, categories=categories, **options)


def boxes(text: str) -> list[tuple[int, float, float, float, float]]:
    """Return the lines of a label file."""
    lines = [line.split(" ") for line in text.splitlines()]
    assert all(len(number.partition(".")[2]) == 6 for line in lines for number in line[1:])
    return [(int(number), *map(float, rest)) for number, *rest in lines]  # type: ignore[misc]


def test_a_box_is_its_class_middle_and_size_of_one() -> None:
    """Class numbers count from 0 in the vocabulary's order; a label of the whole picture is its frame."""
    folder, written = yolo(
        clean(
            tables(
                picture("b/a.jpg", face((64, 48, 128, 96)), face((320, 240, 64, 48), "sad")),
                picture("none.jpg"),
                picture("whole.jpg", face((None,) * 4, "neutral", landmarks=None)),
            )
        )
    )
    assert (
        folder.text("labels/b/a.txt")
        == "3 0.200000 0.200000 0.200000 0.200000\n4 0.550000 0.550000 0.100000 0.100000\n"
    )
    assert folder.text("labels/none.txt") == ""
    assert folder.text("labels/whole.txt") == "6 0.500000 0.500000 1.000000 1.000000\n"
    assert written == Written(images=3, annotations=3, left_out=0)


def test_a_pixel_of_a_very_long_picture_is_not_nothing() -> None:
    """A class with a box of no size is an error to some loaders."""
    strip = picture("a.png", face((30_000_000.0, 0.0, 1.0, 1.0), landmarks=None), width=60_000_000, height=1)
    assert yolo(tables(strip))[0].text("labels/a.txt") == "3 0.500001 0.500000 0.000002 1.000000\n"


def test_only_what_is_settled_is_background() -> None:
    """A picture whose labels were held back may well have faces; duplicates stand elsewhere."""
    folder, written = yolo(
        clean(
            tables(
                picture("lost.jpg", face((float("nan"), 0, 1, 1))),
                picture("unknown.jpg", face(), width=None, height=None),
                picture("copy.jpg", outcome="duplicate", duplicate_of="0" * 64),
                picture("none.jpg"),
            )
        )
    )
    assert [name for name in folder.files if name.startswith("labels/")] == ["labels/none.txt"]
    assert folder.text("train.txt") == "./images/none.jpg\n"
    assert written == Written(images=1, annotations=0, left_out=2)


def test_names_and_lists_are_what_the_loader_resolves() -> None:
    """No `path`: the loader would take a relative one from the working folder."""
    folder, _ = yolo(tables(picture("a b/ü.png"), picture("v.mp4", video_id="v", frame_index=12)))
    told = extra("yaml").safe_load(folder.text("data.yaml"))
    assert told["names"] == dict(enumerate((*LABELS, "contempt")))
    assert (told["train"], told["val"], "path" in told) == ("train.txt", "train.txt", False)
    assert folder.text("train.txt") == "./images/a b/ü.png\n./images/v.mp4/000012.jpg\n"


def test_sources_tell_which_file_each_picture_is() -> None:
    """For those who put the pictures there themselves."""
    folder, _ = yolo(tables(picture("a.jpg"), picture("=a.png"), picture("a.png")))
    rows = list(csv.DictReader(io.StringIO(folder.text("sources.csv"), newline="")))
    assert [row["source_uri"] for row in rows] == ["in/a.jpg", "in/=a.png", "in/a.png"]
    assert rows[1]["picture"] == "./=a.png"  # no formula, and the same file
    assert [f"./images/{row['picture'].removeprefix('./')}" for row in rows] == folder.text("train.txt").splitlines()


def test_one_class_for_all_faces() -> None:
    """Detectors are trained on it."""
    folder, _ = yolo(clean(tables(picture("a.jpg", face(), face((200, 200, 90, 90), "sad")))), layout="face")
    assert [row[0] for row in boxes(folder.text("labels/a.txt"))] == [0, 0]
    assert extra("yaml").safe_load(folder.text("data.yaml"))["names"] == {0: "face"}


@pytest.mark.parametrize("name", ["yes", "1", "a: b", 'x"\n', "开心", "\U0001f600", "\x07\x85", "- a"])
def test_any_name_of_a_class_is_yaml(name: str) -> None:
    """A model of one's own may call its labels anything."""
    folder, _ = yolo(tables(picture("a.jpg")), categories=(*CATEGORIES, name))
    assert extra("yaml").safe_load(folder.text("data.yaml"))["names"][8] == name


@settings(max_examples=80, deadline=None)
@given(datasets())
def test_boxes_stay_in_their_pictures_also_as_decimals(each: list[Tables]) -> None:
    """Whatever detectors found: within 0..1, not empty, and millionths from the truth; each picture has its file."""
    cleaned = [clean(one) for one in each]
    folder, written = yolo(*cleaned)
    listed = folder.text("train.txt").splitlines()
    files = [name for name in folder.files if name.startswith("labels/")]
    assert len(listed) == len(set(listed)) == len(files) == written.images
    found = [box for name in files for box in boxes(folder.text(name))]
    truth = [
        row
        for one in cleaned
        for row in zip(*(column(one, "annotations", name) for name in ("cx", "cy", "w", "h")), strict=True)
    ]
    assert len(found) == len(truth) == written.annotations
    for (_, *box), true in zip(found, truth, strict=True):
        micro = [round(value * 1_000_000) for value in box]
        for middle, size in ((micro[0], micro[2]), (micro[1], micro[3])):
            assert size >= 2 and middle - size / 2 >= 0 and middle + size / 2 <= 1_000_000
        assert box == pytest.approx([0.5, 0.5, 1, 1] if None in true else true, abs=3e-6)


def test_a_label_without_a_class_stops_the_export() -> None:
    """A file that silently lacks labels would be worse."""
    with pytest.raises(RunError, match="YOLO has no category for the label 'hapy'"):
        yolo(with_values(tables(picture("a.jpg", face())), "annotations", 0, label="hapy"))


def test_a_picture_of_unknown_size_is_told_where_its_boxes_are_shares() -> None:
    """YOLO needs no more; one with a box in pixels is left out and counted."""
    in_pixels = thing(cx=None, cy=None, w=None, h=None)
    folder, written = yolo(
        tables(
            picture("a", part((0.2, 0.2, 0.2, 0.2)), whole("dog"), **UNKNOWN),
            picture("b.jpg", in_pixels, **UNKNOWN),
            picture("c.jpg", in_pixels),
            picture("d.jpg", **UNKNOWN),
        ),
        categories=("cat", "dog"),
    )
    assert (
        folder.text("labels/a.txt") == "0 0.200000 0.200000 0.200000 0.200000\n1 0.500000 0.500000 1.000000 1.000000\n"
    )
    assert folder.text("labels/c.txt") == "0 0.093750 0.166667 0.156250 0.250000\n"
    assert folder.text("train.txt").splitlines() == ["./images/a", "./images/c.jpg", "./images/d.jpg"]
    assert written == Written(images=3, annotations=3, left_out=1)


def test_each_split_has_its_list() -> None:
    """`data.yaml` names them, and each picture is in one."""
    given_ = tables(*(picture(f"{i}.jpg", face()) for i in range(40)))
    sides = Sides.of_shares(Parts(given_), {"train": 0.5, "val": 0.3, "test": 0.2})
    folder, _ = yolo(given_, sides=sides)
    told = extra("yaml").safe_load(folder.text("data.yaml"))
    assert [told[name] for name in sides.names] == ["train.txt", "val.txt", "test.txt"]
    lists = [folder.text(told[name]).splitlines() for name in sides.names]
    assert sorted(name for some in lists for name in some) == sorted(f"./images/{i}.jpg" for i in range(40))
    assert all(lists)


def test_splits_must_be_called_as_the_trainer_calls_them() -> None:
    """It stops without either."""
    with pytest.raises(UsageError, match="one called val; got train, test"):
        yolo(tables(), sides=Sides(("train", "test"), (0.5, 1.0)))


# ---- readers


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    """Return an export with pictures, one of them a background."""
    rows = []
    for name, faces in (("one.jpg", [face()]), ("two.png", [face(), face((300, 100, 90, 80), "sad")]), ("no.jpg", [])):
        cv2.imwrite(str(tmp_path / name), np.full((480, 640, 3), 90, np.uint8))
        data = (tmp_path / name).read_bytes()
        rows.append(picture(name, *faces, source_uri=str(tmp_path / name), sha256=sha256(data).hexdigest()))
    folder = Folder(str(tmp_path / "yolo"))
    copies = Copies(folder, max_bytes=1 << 20, max_pixels=1 << 20)
    options: dict[str, Any] = {"categories": CATEGORIES, "roots": ROOTS, "copies": copies}
    write_yolo(Parts(clean(tables(*rows))), folder, layout="expression", **options)
    assert (copies.placed, copies.missing) == (3, 0)
    return tmp_path / "yolo"


def test_supervision_loads_it(exported: Path) -> None:
    """Boxes to the pixel, classes by name, the background without any."""
    loaded = extra("supervision").DetectionDataset.from_yolo(
        str(exported / "images"), str(exported / "labels"), str(exported / "data.yaml")
    )
    assert loaded.classes == [*LABELS, "contempt"]
    found = {Path(name).stem: each for name, each in loaded.annotations.items()}
    assert {name: len(each) for name, each in found.items()} == {"one": 1, "two": 2, "no": 0}
    assert found["one"].xyxy[0].tolist() == pytest.approx([10, 20, 110, 140], abs=1e-3)
    assert [loaded.classes[number] for number in found["two"].class_id] == ["happy", "sad"]


def test_datumaro_loads_it(exported: Path) -> None:
    """As the Ultralytics layout."""
    loaded = extra("datumaro").Dataset.import_from(str(exported), "yolo")
    found = {item.id: [a.get_bbox() for a in item.annotations] for item in loaded}
    assert {name: len(each) for name, each in found.items()} == {"one": 1, "two": 2, "no": 0}
    assert found["one"][0] == pytest.approx([10, 20, 100, 120], abs=1e-3)
    assert [label.name for label in loaded.categories()[extra("datumaro").AnnotationType.label].items] == [
        *LABELS,
        "contempt",
    ]


def test_the_loaders_rule_finds_each_pictures_labels(exported: Path) -> None:
    """Ultralytics' own: a line of the list from the list's folder, the last /images/ by /labels/, .txt at the end."""
    for line in (exported / "train.txt").read_text().splitlines():
        path = line.replace("./", f"{exported}/", 1)
        assert Path(path).is_file()
        assert Path("/labels/".join(path.rsplit("/images/", 1)).rsplit(".", 1)[0] + ".txt").is_file()
