"""The main job on real pictures: every item in one place, again only what is new, bad input told in one line."""

import json
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import polars as pl
import pytest

from pipelines.dataset import Dataset
from pipelines.samples import scenes, write_samples
from tests.pipelines.conftest import add_picture, outcomes, run


def test_samples_faces_are_found_where_they_were_put(tmp_path: Path) -> None:
    """Each composed face is found, nothing else is, and all of them smile."""
    assert run(tmp_path / "out", write_samples(tmp_path / "samples")) == 0
    dataset = Dataset(tmp_path / "out")
    images = dict(dataset.scan("images").select("file_name", "image_id").collect().iter_rows())
    annotations = dataset.scan("annotations").collect()
    for scene in scenes():
        mine = annotations.filter(pl.col("image_id") == images[scene.name])
        assert mine.height == len(scene.faces)
        for x, y, w, h in scene.faces:
            middle = np.array([x + w / 2, y + h / 2])
            found = mine.select(pl.col("bbox_x") + pl.col("bbox_w") / 2, pl.col("bbox_y") + pl.col("bbox_h") / 2)
            assert np.abs(found.to_numpy() - middle).max(axis=1).min() < 0.3 * w
    assert set(annotations["label"]) == {"happy"}
    assert (annotations["confidence"] < 1).all()


def test_every_kind_of_item_ends_in_one_place(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Labelled, no face, duplicate, failed: the last line adds up, and says so of the data set."""
    shutil.copy(pictures / "portrait.png", pictures / "copy.png")
    (pictures / "empty.jpg").write_bytes(b"")
    (pictures / "notes.txt").write_text("not an item")
    (pictures / "cut.jpg").write_bytes((pictures / "two.jpg").read_bytes()[:9000])
    assert run(tmp_path / "out", pictures) == 0
    assert outcomes(tmp_path / "out") == {
        "copy.png": "labelled",
        "portrait.png": "duplicate",
        "two.jpg": "labelled",
        "nobody.jpg": "no_face",
        "empty.jpg": "failed: empty",
        "cut.jpg": "failed: truncated",
    }
    last = capsys.readouterr().out.strip().splitlines()[-1]
    pattern = r"6 items: 2 labelled, 1 no face, 1 duplicate, 0 quarantined, 2 failed in [\d.]+ s \([\d.]+ items/s\)"
    assert re.fullmatch(pattern, last)
    summary = json.loads((tmp_path / "out" / "report" / "summary.json").read_text())
    assert summary["items"] == sum(summary["outcomes"].values()) == 6
    assert summary["skipped"] == 1 and summary["this_run"]["items"] == 6


def test_a_second_run_does_only_what_is_new(pictures: Path, tmp_path: Path) -> None:
    """Nothing to do is nothing done; a new picture, a changed one and a copy of an old one are each done once."""
    out = tmp_path / "out"
    assert run(out, pictures) == 0
    assert run(out, pictures) == 0
    assert len(Dataset(out).manifests) == 1
    add_picture(pictures, "new.jpg")
    add_picture(pictures, "nobody.jpg", background=2)
    shutil.copy(pictures / "two.jpg", pictures / "two again.jpg")
    assert run(out, pictures) == 0
    assert Dataset(out).manifests[-1].told["items"] == 3
    assert outcomes(out) == {
        "portrait.png": "labelled",
        "two.jpg": "labelled",
        "nobody.jpg": "labelled",
        "new.jpg": "labelled",
        "two again.jpg": "duplicate",
    }
    stands = Dataset(out).scan("images").filter(pl.col("file_name") == "two.jpg").collect()["image_id"].item()
    assert (
        Dataset(out).scan("images").filter(pl.col("outcome") == "duplicate").collect()["duplicate_of"].item() == stands
    )


def test_one_folder_by_two_names_is_one_input(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Relative and absolute names, and a data set that was moved, find the same items."""
    out = tmp_path / "out"
    monkeypatch.chdir(tmp_path)
    assert run(out, "photos/") == 0
    assert run(out, pictures) == 0
    shutil.move(out, tmp_path / "moved")
    assert run(tmp_path / "moved", "./photos") == 0
    assert len(Dataset(tmp_path / "moved").manifests) == 1


def test_same_names_in_two_folders_are_two_items(pictures: Path, tmp_path: Path) -> None:
    """Daily folders number their frames alike: neither takes the other's place."""
    other = tmp_path / "tomorrow"
    other.mkdir()
    add_picture(other, "two.jpg")
    assert run(tmp_path / "out", pictures) == 0
    assert run(tmp_path / "out", other) == 0
    images = Dataset(tmp_path / "out").scan("images").collect()
    assert images.filter(pl.col("file_name") == "two.jpg").height == 2
    coco = json.loads((tmp_path / "out" / "exports" / "annotations" / "instances.json").read_text())
    assert {"photos/two.jpg", "tomorrow/two.jpg"} <= {image["file_name"] for image in coco["images"]}


def test_when_a_picture_changes_one_of_its_copies_stands(pictures: Path, tmp_path: Path) -> None:
    """A duplicate never names a picture that is no longer there."""
    shutil.copy(pictures / "two.jpg", pictures / "zwei.jpg")
    assert run(tmp_path / "out", pictures) == 0
    assert outcomes(tmp_path / "out")["zwei.jpg"] == "duplicate"
    add_picture(pictures, "two.jpg")
    assert run(tmp_path / "out", pictures) == 0
    assert outcomes(tmp_path / "out")["zwei.jpg"] == outcomes(tmp_path / "out")["two.jpg"] == "labelled"
    assert Dataset(tmp_path / "out").scan("images").collect()["file_name"].is_unique().all()


def test_copies_of_a_changed_picture_stay_with_it_in_small_epochs(pictures: Path, tmp_path: Path) -> None:
    """Also where the changed picture would be the last of its epoch, and where the copy comes from another folder."""
    out = tmp_path / "out"
    copies = tmp_path / "copies"
    copies.mkdir()
    shutil.copy(pictures / "two.jpg", copies / "zwei.jpg")
    assert run(out, pictures, copies, options=["--epoch-items", "1"]) == 0
    add_picture(pictures, "two.jpg")
    assert run(out, pictures, options=["--epoch-items", "1"]) == 0
    images = Dataset(out).scan("images").collect()
    assert images.filter(pl.col("duplicate_of").is_not_null()).height == 0
    assert sorted(images["file_name"]) == ["nobody.jpg", "portrait.png", "two.jpg", "zwei.jpg"]


def test_a_moved_data_set_takes_nothing_back(pictures: Path, tmp_path: Path) -> None:
    """Another month's folder at the same place beside the data set is another folder: its names replace none."""
    for month in ("jan", "feb"):
        (tmp_path / month / "photos").mkdir(parents=True)
        shutil.copy(pictures / "portrait.png", tmp_path / month / "photos" / f"{month}.png")
    add_picture(tmp_path / "jan" / "photos", "1.jpg", left=20)
    add_picture(tmp_path / "feb" / "photos", "1.jpg", left=90)
    assert run(tmp_path / "jan" / "out", tmp_path / "jan" / "photos") == 0
    shutil.move(tmp_path / "jan" / "out", tmp_path / "feb" / "out")
    assert run(tmp_path / "feb" / "out", tmp_path / "feb" / "photos", tmp_path / "jan" / "photos") == 0
    assert run(tmp_path / "feb" / "out", tmp_path / "jan" / "photos", tmp_path / "feb" / "photos") == 0
    images = Dataset(tmp_path / "feb" / "out").scan("images").collect()
    assert sorted(images["file_name"]) == ["1.jpg", "1.jpg", "feb.png", "jan.png"]


@pytest.mark.parametrize("name", ["out[1]", "o?t", "o*t", "o t", "ö{a,b}"])
def test_odd_output_names_work(name: str, pictures: Path, tmp_path: Path) -> None:
    """A data set's name is no pattern."""
    assert run(tmp_path / "oot", pictures) == 0
    assert run(tmp_path / name, pictures) == 0
    assert len(outcomes(tmp_path / name)) == Dataset(tmp_path / name).scan("images").collect().height == 3


def test_failed_items_wait_for_retry_failed(pictures: Path, tmp_path: Path) -> None:
    """A failed item is not done again by itself; a retry counts its attempts; a mended file is simply new."""
    (pictures / "bad.jpg").write_bytes(b"no picture")
    out = tmp_path / "out"
    run(out, pictures)
    run(out, pictures)
    assert Dataset(out).scan("failures").collect()["attempts"].to_list() == [1]
    run(out, pictures, options=["--retry-failed"])
    assert Dataset(out).scan("failures").collect()["attempts"].to_list() == [2]
    add_picture(pictures, "bad.jpg")
    run(out, pictures)
    assert outcomes(out)["bad.jpg"] == "labelled"
    assert Dataset(out).scan("failures").collect().height == 0


def test_duplicates_keep_labels_copies_too(pictures: Path, tmp_path: Path) -> None:
    """With keep, each file is an item of its own with an id of its own."""
    shutil.copy(pictures / "two.jpg", pictures / "zwei.jpg")
    assert run(tmp_path / "out", pictures, options=["--duplicates", "keep"]) == 0
    assert outcomes(tmp_path / "out")["zwei.jpg"] == outcomes(tmp_path / "out")["two.jpg"] == "labelled"
    assert Dataset(tmp_path / "out").scan("images").collect()["image_id"].is_unique().all()


def test_copies_of_a_failed_picture_fail_too(pictures: Path, tmp_path: Path) -> None:
    """A copy of what could not be read has nothing to be a duplicate of."""
    for name in ("a.jpg", "b.jpg"):
        (pictures / name).write_bytes((pictures / "two.jpg").read_bytes()[:9000])
    run(tmp_path / "out", pictures)
    assert outcomes(tmp_path / "out")["a.jpg"] == outcomes(tmp_path / "out")["b.jpg"] == "failed: truncated"


def test_cropped_faces_with_detector_none(tmp_path: Path) -> None:
    """Each picture is one face: its box is the picture, its crop is the picture, nothing is too small."""
    folder = tmp_path / "crops"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(12):
        gray = cv2.resize(rng.integers(0, 255, (12, 12), np.uint8), (16 if number == 0 else 48,) * 2)
        cv2.imwrite(str(folder / f"{number}.png"), gray)
    options = ["--detector", "none", "--classifier", "expression8", "--epoch-items", "5"]
    assert run(tmp_path / "out", folder, options=options) == 0
    annotations = Dataset(tmp_path / "out").scan("annotations").collect()
    assert annotations.height == 12
    assert annotations.select(pl.col("cx", "cy").eq(0.5).all(), pl.col("w", "h").eq(1).all()).row(0) == (True,) * 4
    assert annotations["landmarks"].null_count() == annotations["detection_score"].null_count() == 12


def test_another_configuration_is_refused_with_its_difference(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The difference is named; --new-configuration goes on and the old rows stay."""
    run(tmp_path / "out", pictures)
    before = Dataset(tmp_path / "out").files("images")
    assert run(tmp_path / "out", pictures, options=["--min-face", "40"]) == 2
    assert "min_face: 20 -> 40" in capsys.readouterr().err
    add_picture(pictures, "new.jpg")
    assert run(tmp_path / "out", pictures, options=["--min-face", "40", "--new-configuration"]) == 0
    assert Dataset(tmp_path / "out").files("images")[:-1] == before


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--inptu", "x"], "did you mean --input"),
        (["--detect-siz", "640"], "--detect-siz"),  # abbreviations are not taken
        (["--detector", "haar"], "expected one of"),
        (["--duplicates", "some"], "invalid choice"),
        (["--detect-size", "huge"], "whole number"),
        (["--max-failure-rate", "2"], "from 0 to 1"),
        (["--input", "s3://bucket/photos"], "s3://"),
        (["--input", "nowhere/"], "No input found"),
        (["photos/"], "--input photos/"),
        (["--device", "tensorrt"], "not available"),
        (["--classifier", "mine.toml"], "mine.toml"),
        (["--runner", "FlonkRunner"], "FlonkRunner"),
        (["--preview", "100000"], "at least 0 and at most 1000"),
    ],
)
def test_misuse_is_one_line_and_exit_code_2(
    options: list[str], said: str, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The line says what was wrong, and no output folder is left behind."""
    inputs = [] if "--input" in options else [pictures]
    assert run(tmp_path / "out", *inputs, options=options) == 2
    told = capsys.readouterr()
    errors = [line for line in told.err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and said in errors[0]
    assert not (tmp_path / "out").exists()


def test_an_output_that_is_no_data_set_is_left_alone(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither a folder with something else in it nor a file is written to."""
    assert run(pictures, pictures) == 2
    assert "is no data set" in capsys.readouterr().err
    file = tmp_path / "file"
    file.write_text("mine")
    assert run(file, pictures) == 2
    assert file.read_text() == "mine"


def test_an_empty_input_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder with nothing to label is a misuse that names the folder."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").write_text("hello")
    assert run(tmp_path / "out", tmp_path / "empty") == 2
    assert "No input found" in capsys.readouterr().err


def test_exit_code_tells_of_failures(pictures: Path, tmp_path: Path) -> None:
    """1 where all new items failed or more than the rate allows; a rate that is given decides alone."""
    bad = tmp_path / "bad"
    bad.mkdir()
    (bad / "a.jpg").write_bytes(b"x")
    assert run(tmp_path / "1", bad) == 1
    assert run(tmp_path / "2", bad, pictures) == 0
    assert run(tmp_path / "3", bad, pictures, options=["--max-failure-rate", "0.2"]) == 1
    assert run(tmp_path / "4", bad, options=["--max-failure-rate", "1"]) == 0


def test_odd_names_and_links_work(pictures: Path, tmp_path: Path) -> None:
    """Spaces, non-ASCII, quotes, line ends, bytes that are no UTF-8, long names, links to files and folders."""
    source = (pictures / "portrait.png").read_bytes()
    odd = tmp_path / "odd"
    odd.mkdir()
    names = ["a b.png", "笑顔.png", 'quo"te.png', "line\nend.png", "back\\slash.png", "x" * 240 + ".png"]
    for name in names:
        (odd / name).write_bytes(source)
    Path(odd, b"latin-\xe9.png".decode("utf-8", "surrogateescape")).write_bytes(source)
    (odd / "link.png").symlink_to(pictures / "portrait.png")
    (odd / "folder").symlink_to(pictures, target_is_directory=True)
    (pictures / "back").symlink_to(odd, target_is_directory=True)
    assert run(tmp_path / "out", odd, options=["--duplicates", "keep"]) == 0
    found = outcomes(tmp_path / "out")
    assert {*names, "latin-\\xe9.png", "link.png", "folder/two.jpg"} <= set(found)
    assert "failed" not in "".join(found.values())
    json.loads((tmp_path / "out" / "exports" / "annotations" / "instances.json").read_text())


def test_output_inside_the_input_is_not_read(pictures: Path) -> None:
    """A data set kept among the pictures does not become its own input."""
    out = pictures / "out"
    assert run(out, pictures, options=["--preview", "3"]) == 0
    assert run(out, pictures, options=["--preview", "3"]) == 0
    assert len(outcomes(out)) == 3
    assert cv2.imread(str(out / "report" / "preview.png")) is not None


def test_crops_are_stored_only_when_asked_for(pictures: Path, tmp_path: Path) -> None:
    """With --crops, one JPEG a face; without it no table and no pixels."""
    run(tmp_path / "plain", pictures)
    assert Dataset(tmp_path / "plain").files("crops") == []
    run(tmp_path / "crops", pictures, options=["--crops"])
    crops = Dataset(tmp_path / "crops").scan("crops").collect()
    annotations = Dataset(tmp_path / "crops").scan("annotations").collect()
    assert crops["annotation_id"].to_list() == annotations["annotation_id"].to_list()
    for jpeg in crops["crop"]:
        assert max(cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR).shape) <= 224


def test_an_unreadable_file_is_a_failed_item(pictures: Path, tmp_path: Path) -> None:
    """No permission, a pipe and a dead link fail with their reason, and nothing hangs."""
    import os

    os.mkfifo(pictures / "pipe.jpg")
    (pictures / "dead.jpg").symlink_to(pictures / "gone.jpg")
    locked = add_picture(pictures, "locked.jpg")
    locked.chmod(0)
    run(tmp_path / "out", pictures)
    found = outcomes(tmp_path / "out")
    assert found["pipe.jpg"] == "failed: unreadable" and found["dead.jpg"] == "failed: not_found"
    if os.geteuid():
        assert found["locked.jpg"] == "failed: unreadable"
    locked.chmod(stat.S_IRUSR)


def test_no_traceback_and_lines_of_json(pictures: Path, tmp_path: Path) -> None:
    """As a command: stderr is JSON lines where that is asked for, stdout ends with the counts."""
    command = [sys.executable, "-m", "pipelines.annotate", "--runner=DirectRunner", "--input", str(pictures)]
    command += ["--output", str(tmp_path / "out"), "--log-format", "json"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2], check=True)
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert any("committed" in line["message"] for line in lines)
    assert done.stdout.strip().splitlines()[-1].startswith("3 items: 2 labelled, 1 no face")


def test_help_is_quick_and_loads_no_library() -> None:
    """`--help` must answer at once."""
    code = "import sys; from pipelines import annotate; annotate.parser().format_help(); print(*sys.modules)"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2], check=True)
    assert not {"apache_beam", "polars", "cv2", "pandas", "onnxruntime"} & set(done.stdout.split())
