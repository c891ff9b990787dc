"""`annotate --duplicates near`: a picture that is resized or encoded anew is labelled once, whenever it comes."""

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from pipelines.dataset import Dataset
from pipelines.samples import portrait
from tests.pipelines.conftest import add_picture, outcomes, run
from tests.pipelines.test_faults import fingerprints

NEAR = ("--duplicates", "near", "--no-export")


def save(path: Path, rgb: NDArray[np.uint8], quality: int = 95) -> None:
    """Write a picture."""
    cv2.imwrite(str(path), rgb[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])


def scaled(side: int) -> NDArray[np.uint8]:
    """Return the portrait in another size."""
    return np.asarray(cv2.resize(portrait(), (side, side), interpolation=cv2.INTER_AREA), np.uint8)


def leaders(output: Path) -> dict[str, str]:
    """Return the names of duplicates, each with that of the picture that stands for it."""
    images = Dataset(output).scan("images").collect()
    names = dict(images.select("image_id", "file_name").iter_rows())
    copies = images.filter(pl.col("duplicate_of").is_not_null())
    return {name: names[leader] for name, leader in copies.select("file_name", "duplicate_of").iter_rows()}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """The portrait, smaller and encoded anew, an exact copy of the smaller one, and two other pictures."""
    folder = tmp_path / "photos"
    folder.mkdir()
    save(folder / "portrait.png", portrait())
    save(folder / "again.jpg", portrait(), 60)
    save(folder / "small.jpg", scaled(300))
    shutil.copy(folder / "small.jpg", folder / "tiny.jpg")
    save(folder / "mirrored.jpg", np.ascontiguousarray(portrait()[:, ::-1]))
    add_picture(folder, "one.jpg")
    return folder


def test_one_of_each_picture_is_labelled_whenever_it_comes(photos: Path, tmp_path: Path) -> None:
    """In one run, against what is committed, with any number of workers; the labels of copies are held."""
    one, two = tmp_path / "one", tmp_path / "two"
    copies = dict.fromkeys(("again.jpg", "small.jpg", "tiny.jpg"), "portrait.png")
    for out, workers in ((one, 1), (two, 2)):
        assert run(out, photos, options=[*NEAR, f"--direct_num_workers={workers}"]) == 0
    assert leaders(one) == copies
    assert outcomes(one) == dict.fromkeys(copies, "duplicate") | dict.fromkeys(
        ("portrait.png", "mirrored.jpg", "one.jpg"), "labelled"
    )
    save(photos / "large.png", scaled(700))  # better than the committed one, which stands all the same
    shutil.copy(photos / "again.jpg", photos / "anew.jpg")
    add_picture(photos, "other.jpg", left=20)
    for out, workers in ((one, 2), (two, 1)):
        assert run(out, photos, options=[*NEAR, f"--direct_num_workers={workers}"]) == 0
        assert run(out, photos, options=NEAR) == 0
        assert len(Dataset(out).manifests) == 2
    assert leaders(one) == copies | {"large.png": "portrait.png", "anew.jpg": "portrait.png"}
    assert outcomes(one)["other.jpg"] == "labelled"
    assert fingerprints(one) == fingerprints(two)

    dataset = Dataset(one)
    held = dataset.scan("quarantine").collect()
    assert set(held["rule"]) == {"duplicate.near"}
    assert set(held["file_name"]) >= {"again.jpg", "large.png"}
    assert all(row["cx"] > 0 and row["label"] == "happy" for row in map(json.loads, held["held"]))
    changes = dataset.scan("changes").filter(pl.col("field") == "duplicate_of").collect()
    assert sorted(changes["file_name"]) == sorted(leaders(one))
    assert changes["before"].null_count() == 4  # `tiny.jpg` and `small.jpg` are one picture


def test_a_picture_that_changes_is_no_copy_of_what_it_was(photos: Path, tmp_path: Path) -> None:
    """It stands again, with its copies behind it."""
    out = tmp_path / "out"
    assert run(out, photos, options=NEAR) == 0
    save(photos / "portrait.png", scaled(480))
    assert run(out, photos, options=NEAR) == 0
    assert leaders(out) == dict.fromkeys(("portrait.png", "small.jpg", "tiny.jpg"), "again.jpg")
    assert outcomes(out)["again.jpg"] == "labelled"


def test_what_was_committed_without_fingerprints_is_not_compared(photos: Path, tmp_path: Path) -> None:
    """A data set that goes on with near finds copies among what is new."""
    out = tmp_path / "out"
    assert run(out, photos, options=["--no-export"]) == 0
    assert leaders(out) in ({"small.jpg": "tiny.jpg"}, {"tiny.jpg": "small.jpg"})
    assert Dataset(out).scan("images").collect()["fingerprint"].null_count() == 6
    save(photos / "large.png", scaled(700))
    save(photos / "large.jpg", scaled(700), 90)
    assert run(out, photos, options=[*NEAR, "--new-configuration"]) == 0
    assert leaders(out)["large.jpg"] == "large.png"
    assert outcomes(out)["large.png"] == "labelled"
