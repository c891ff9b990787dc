"""Copies of a picture become one: the best stands, the others point to it, and their labels go to it."""

import csv
import json
from pathlib import Path

import cv2
import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from pipelines import clean
from pipelines.dataset import Dataset
from pipelines.logs import run_command
from pipelines.samples import compose
from tests.pipelines.test_clean import boxes, run, write


def scene(seed: int) -> NDArray[np.uint8]:
    """Return a picture, 640 x 480, with much to see; another seed makes another one."""
    rng = np.random.default_rng(seed)
    rough = rng.integers(0, 255, (12, 16, 3), np.uint8)
    backdrop = cv2.resize(rough, (640, 480), interpolation=cv2.INTER_CUBIC)
    face = compose("face", (640, 480), [(100 + 40 * seed, 120, 1.2)], 0).rgb
    return cv2.addWeighted(backdrop, 0.5, face, 0.5, 0)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A picture, its small copy, its mirror image, its exact copy, and another picture."""
    folder = tmp_path / "photos"
    folder.mkdir()
    picture = scene(1)
    cv2.imwrite(str(folder / "large.png"), picture)
    cv2.imwrite(str(folder / "small.jpg"), cv2.resize(picture, (320, 240), interpolation=cv2.INTER_AREA))
    cv2.imwrite(str(folder / "mirror.png"), picture[:, ::-1])
    (folder / "same.png").write_bytes((folder / "large.png").read_bytes())
    cv2.imwrite(str(folder / "other.png"), scene(4))
    return folder


def copies(output: Path) -> dict[str, tuple[str, str | None]]:
    """Return each picture's outcome and the name of the one that stands for it."""
    images = Dataset(output).scan("images").collect()
    names = dict(images.select("image_id", "file_name").iter_rows())
    return {
        name: (outcome, names.get(stands))
        for name, outcome, stands in images.select("file_name", "outcome", "duplicate_of").iter_rows()
    }


PIXELS = ["--bbox-format", "xywh-pixels"]  # of a few boxes it cannot be told that they are no percentages
HEADER = "image,label,x,y,w,h\n"
LARGE, SMALL = "large.png,happy,100,60,80,40\n", "small.jpg,happy,50,30,40,20\n"
MIRROR = "mirror.png,sad,460,200,100,60\n"


def test_copies_point_to_the_best_and_bring_their_labels(photos: Path, tmp_path: Path) -> None:
    """The largest stands; the same box in the small copy is a double, another one is scaled and added."""
    labels = write(
        tmp_path / "a.csv", HEADER + LARGE + SMALL + "small.jpg,sad,200,100,50,50\nother.png,fear,1,2,30,40\n"
    )
    assert run(tmp_path / "out", labels, options=["--images", photos]) == 0
    assert copies(tmp_path / "out") == {
        "large.png": ("labelled", None),
        "small.jpg": ("duplicate", "large.png"),
        "same.png": ("duplicate", "large.png"),
        "mirror.png": ("no_face", None),
        "other.png": ("labelled", None),
    }
    assert boxes(tmp_path / "out") == [
        ("large.png", "happy", 100, 60, 80, 40),
        ("large.png", "sad", 400, 200, 100, 100),
        ("other.png", "fear", 1, 2, 30, 40),
    ]


def test_a_mirror_image_is_a_copy_where_that_is_asked_for(photos: Path, tmp_path: Path) -> None:
    """Its boxes are turned back."""
    labels = write(tmp_path / "a.csv", HEADER + LARGE + MIRROR)
    assert run(tmp_path / "out", labels, options=["--images", photos, "--mirrored"]) == 0
    assert copies(tmp_path / "out")["mirror.png"] == ("duplicate", "large.png")
    assert ("large.png", "sad", 80, 200, 100, 60) in boxes(tmp_path / "out")


@pytest.mark.parametrize(("mode", "expected"), [("exact", {"same.png"}), ("keep", set())])
def test_less_can_be_asked_for(mode: str, expected: set[str], photos: Path, tmp_path: Path) -> None:
    """exact: equal bytes only; keep: none."""
    labels = write(tmp_path / "a.csv", HEADER + LARGE + SMALL)
    assert run(tmp_path / "out", labels, options=["--images", photos, "--duplicates", mode, *PIXELS]) == 0
    assert {name for name, (outcome, _) in copies(tmp_path / "out").items() if outcome == "duplicate"} == expected


def test_one_picture_under_two_labels_goes_to_review(photos: Path, tmp_path: Path) -> None:
    """Also where one is meant for training and the other for testing."""
    for side, name, label in (("train", "large.png", "happy"), ("test", "small.jpg", "sad")):
        (tmp_path / "set" / side / label).mkdir(parents=True)
        (photos / name).rename(tmp_path / "set" / side / label / name)
    assert run(tmp_path / "out", tmp_path / "set", options=["--format", "folders"]) == 0
    held = Dataset(tmp_path / "out").scan("quarantine").collect()
    assert set(held["rule"]) == {"label.conflict"}
    assert sorted(held["value"]) == ["happy", "sad"]
    assert held["candidates"].to_list() == [["happy", "sad"]] * 2
    assert {outcome for outcome, _ in copies(tmp_path / "out").values()} == {"quarantined", "duplicate"}


def test_what_is_committed_stands_before_what_is_new(photos: Path, tmp_path: Path) -> None:
    """The small copy came first, so it stands; the large one's label is scaled down and added to it."""
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir(), second.mkdir()
    (photos / "small.jpg").rename(first / "small.jpg")
    (photos / "large.png").rename(second / "large.png")
    out = tmp_path / "out"
    assert run(out, write(tmp_path / "a.csv", HEADER + SMALL), options=["--images", first, *PIXELS]) == 0
    other = write(tmp_path / "b.csv", HEADER + LARGE + "large.png,sad,400,200,100,100\n")
    assert run(out, other, options=["--images", second, *PIXELS]) == 0
    assert copies(out) == {"small.jpg": ("labelled", None), "large.png": ("duplicate", "small.jpg")}
    assert boxes(out) == [("small.jpg", "happy", 50, 30, 40, 20), ("small.jpg", "sad", 200, 100, 50, 50)]
    dataset = Dataset(out)
    counts = dataset.scan("images").select("file_name", "annotations").collect()
    assert dict(counts.iter_rows()) == {"small.jpg": 2, "large.png": 0}
    assert run(out, other, options=["--images", second, *PIXELS]) == 0
    assert len(Dataset(out).manifests) == 2
    moved = dataset.scan("changes").filter(pl.col("field") == "image_id").collect()
    assert set(moved["rule"]) == {"duplicate.near"}
    told = json.loads((out / "report" / "summary.json").read_bytes())
    assert told["rules"]["duplicate.near"] == 1


def test_what_is_held_on_a_copy_can_be_decided(photos: Path, tmp_path: Path) -> None:
    """A label of the copy that waits for a person is about the picture that stands."""
    labels = write(tmp_path / "a.csv", "image,label\nlarge.png,happy\nsmall.jpg,angry/disgust\n")
    assert run(tmp_path / "out", labels, options=["--images", photos]) == 0
    assert run_command(clean.main, ["--dataset", str(tmp_path / "out"), "--needs-review", str(tmp_path / "r.csv")]) == 0
    with (tmp_path / "r.csv").open(encoding="utf-8-sig", newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["picture"], row["label"], json.loads(row["candidates"])) == (
        "large.png",
        "angry/disgust",
        ["angry", "disgust"],
    )
    assert run_command(clean.main, ["--dataset", str(tmp_path / "out"), "--undo", "duplicate.near", "--no-export"]) == 0
    held = Dataset(tmp_path / "out").scan("quarantine").collect()
    assert held["file_name"].to_list() == ["small.jpg"]
