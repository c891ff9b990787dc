"""The export job writes what is committed, whole or not at all, and says in one line what is wrong."""

import json
import subprocess
import sys
from functools import reduce
from hashlib import sha256
from pathlib import Path

import cv2
import numpy as np
import pytest

from pipelines.dataset import Dataset
from pipelines.export import FORMATS, export_all, main
from pipelines.logs import run_command
from schemas.errors import RunError
from tests.builders import face, picture, tables
from tests.extras import extra
from tests.pipelines.committed import committed
from transforms.rules import clean
from transforms.storage import replacing


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """Return a data set of two commits, a picture with a face in each, of the same name in two roots."""
    shards = [clean(tables(picture("a.jpg", face(), root=epoch))) for epoch in (0, 1)]
    return committed(tmp_path / "set", *shards)


def job(*arguments: object) -> int:
    """Run the job as the command line does; return the exit code."""
    return run_command(main, [str(argument) for argument in arguments])


def test_coco_of_all_commits(dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file is written where it was named, and counted."""
    output = tmp_path / "new" / "coco.json"
    assert job("--dataset", dataset, "--output", output) == 0
    told = json.loads(output.read_bytes())
    assert [image["file_name"] for image in told["images"]] == ["root0/a.jpg", "root1/a.jpg"]
    assert (told["info"]["version"], told["info"]["configuration_hash"]) == ("0.1.0", "abc")
    assert capsys.readouterr().out == f"{output}: 2 pictures, 2 annotations\n"


def test_a_folder_gets_the_layout_that_importers_find(dataset: Path, tmp_path: Path) -> None:
    """Whether it is there already, or is named with a slash at its end."""
    assert job("--dataset", dataset, "--output", tmp_path) == 0
    assert job("--dataset", dataset, "--format", "jsonl", "--output", f"{tmp_path}/new/") == 0
    assert json.loads((tmp_path / "annotations" / "instances.json").read_bytes())["images"]
    assert len((tmp_path / "new" / "labels.jsonl").read_bytes().splitlines()) == 2


def test_export_all_writes_every_format_into_the_data_set(dataset: Path) -> None:
    """With the same bytes each time, and nothing unfinished beside them."""
    export_all(Dataset(dataset), "face")
    first = {path: path.read_bytes() for path in sorted((dataset / "exports").rglob("*.*"))}
    export_all(Dataset(dataset), "face")
    assert {path: path.read_bytes() for path in sorted((dataset / "exports").rglob("*.*"))} == first
    assert [path.relative_to(dataset).as_posix() for path in first] == [
        "exports/annotations/instances.json",
        "exports/labels.jsonl",
    ]
    assert len(json.loads(first[dataset / "exports/annotations/instances.json"])["categories"]) == 1


def test_a_split_names_the_files_that_importers_find(dataset: Path, tmp_path: Path) -> None:
    """One for boxes, one for keypoints; another split comes beside it."""
    for split in ("train", "val"):
        assert job("--dataset", dataset, "--split", split, "--output", f"{tmp_path}/coco/") == 0
    assert sorted(path.name for path in (tmp_path / "coco" / "annotations").iterdir()) == [
        *("instances_train.json", "instances_val.json"),
        *("person_keypoints_train.json", "person_keypoints_val.json"),
    ]


@pytest.mark.parametrize(
    ("form", "files"),
    [
        ("yolo", ["data.yaml", "labels/root0/a.txt", "labels/root1/a.txt", "sources.csv", "train.txt"]),
        (
            "voc",
            [
                *("Annotations/root0/a.xml", "Annotations/root1/a.xml", "ImageSets/Main/default.txt"),
                *("labelmap.txt", "sources.csv"),
            ],
        ),
        ("csv", ["faces.csv", "images.csv"]),
    ],
)
def test_a_format_of_many_files_is_a_folder(
    dataset: Path, tmp_path: Path, form: str, files: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """The same bytes each time, in place of the earlier one."""
    output = tmp_path / "new" / "out"
    for _ in range(2):
        assert job("--dataset", dataset, "--format", form, "--output", output) == 0
        assert capsys.readouterr().out == f"{output}: 2 pictures, 2 annotations\n"
    assert visible(output) == files
    first = {name: (output / name).read_bytes() for name in files}
    assert job("--dataset", dataset, "--format", form, "--output", tmp_path / "again") == 0
    assert {name: (tmp_path / "again" / name).read_bytes() for name in files} == first


def visible(folder: Path) -> list[str]:
    """Return the files in a folder but hidden ones."""
    files = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return sorted(path.as_posix() for path in files if not path.name.startswith("."))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Return a data set of pictures that are there: two that differ in their end, one that has gone since."""
    rows = []
    for name, colour in (("a.jpg", 20), ("a.png", 90), ("gone.jpg", 160)):
        path = tmp_path / "photos" / name
        path.parent.mkdir(exist_ok=True)
        cv2.imwrite(str(path), np.full((480, 640, 3), colour, np.uint8))
        content = sha256(path.read_bytes()).hexdigest()
        rows.append(picture(name, face(), source_uri=str(path), sha256=content))
    (tmp_path / "photos" / "gone.jpg").unlink()
    return committed(tmp_path / "set", clean(tables(*rows)))


@pytest.mark.parametrize(
    ("form", "options", "where", "label"),
    [
        ("yolo", [], "images", "labels/{}.txt"),
        ("voc", [], "JPEGImages", "Annotations/{}.xml"),
        ("coco", [], "images", "annotations/instances.json"),
        ("coco", ["--split", "train"], "images/train", "annotations/person_keypoints_train.json"),
    ],
)
def test_pictures_come_beside_their_labels(
    photos: Path,
    tmp_path: Path,
    form: str,
    options: list[str],
    where: str,
    label: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Under the names that the labels have; one that has gone is told and in no list of YOLO and VOC."""
    output = tmp_path / "out"
    assert job("--dataset", photos, "--format", form, "--copy-images", *options, "--output", output) == 0
    told = capsys.readouterr()
    assert told.out == f"{output}: 3 pictures, 3 annotations; 1 pictures could not be copied\n"
    assert visible(output / where) == sorted(_with_ids(photos))
    assert all((output / label.format(Path(name).stem)).is_file() for name in (*_with_ids(photos), "gone.jpg"))
    if form == "coco":
        images = json.loads((output / label).read_bytes())["images"]
        assert [image["file_name"] for image in images] == [*_with_ids(photos), "gone.jpg"]
    else:
        listed = {"yolo": "train.txt", "voc": "ImageSets/Main/default.txt"}[form]
        assert len((output / listed).read_text().splitlines()) == 2


def _with_ids(dataset: Path) -> list[str]:
    """Return the names of the two pictures that would be one without their ends."""
    rows = Dataset(dataset).scan("images").head(2).collect().iter_rows(named=True)
    return [f"a-{row['image_id'][:16]}{Path(row['file_name']).suffix}" for row in rows]


def test_datumaro_finds_the_pictures_of_a_coco_folder(photos: Path, tmp_path: Path) -> None:
    """Beside the annotations, by the split; also those that differ in their end alone."""
    arguments = ("--copy-images", "--split", "train", "--output", tmp_path / "coco")
    assert job("--dataset", photos, *arguments) == 0
    loaded = extra("datumaro").Dataset.import_from(str(tmp_path / "coco"), "coco_instances")
    there = [item for item in loaded if item.media.data is not None]
    assert len(loaded) == 3
    assert sorted(int(item.media.data.mean()) for item in there) == [20, 90]


def test_68_landmarks_are_the_keypoints_where_there_are_any(tmp_path: Path) -> None:
    """In COCO and CSV, for the whole data set."""
    faces = [face(landmarks_68=[1.0] * 136), face((300, 9, 50, 60))]
    shards = [clean(tables(picture("a.jpg", *faces))), clean(tables(picture("b.jpg", face())))]
    dataset = committed(tmp_path / "set", *shards)
    assert job("--dataset", dataset, "--output", tmp_path / "x.json") == 0
    told = json.loads((tmp_path / "x.json").read_bytes())
    assert [len(row["keypoints"]) for row in told["annotations"]] == [204] * 3
    assert [row["num_keypoints"] for row in told["annotations"]] == [68, 0, 0]
    assert job("--dataset", dataset, "--format", "csv", "--output", tmp_path / "csv") == 0
    assert "landmark_68_y" in (tmp_path / "csv" / "faces.csv").read_text().splitlines()[0]


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["--dataset", "nowhere", "--output", "x.json"], 2, "nowhere is no data set"),
        (["--dataset", "SET"], 2, "--output"),
        (["--dataset", "SET", "--output", "x", "--format", "tfrecord"], 2, "tfrecord"),
        (["--dataset", "SET", "--outp", "x"], 2, "--output"),  # no abbreviations
        (["--dataset", "SET", "--output", "/dev/null"], 2, "/dev/null"),  # replacing it would be a disaster
        (["--dataset", "SET", "--output", "SET/images/0.parquet/x.json"], 1, "Cannot write"),
        (["--dataset", "SET", "--output", "SET/images/0.parquet/x", "--format", "csv"], 1, "Cannot write"),
        (["--dataset", "SET", "--output", "SET", "--format", "voc"], 2, "'_manifests', which no export wrote"),
        (["--dataset", "SET", "--output", "/dev/null", "--format", "csv"], 2, "expected a folder, found a file"),
        # Options that do not go together.
        (
            ["--dataset", "SET", "--output", "x", "--input", "v.mp4"],
            2,
            "--input is for --format video; got --format coco",
        ),
        (
            ["--dataset", "SET", "--output", "x", "--format", "csv", "--copy-images"],
            2,
            "is for --format coco, yolo, voc",
        ),
        (["--dataset", "SET", "--output", "x", "--format", "yolo", "--split", "a"], 2, "is for --format coco, voc"),
        (["--dataset", "SET", "--output", "x/", "--split", "../a"], 2, "expected letters, digits, dots and dashes"),
        (["--dataset", "SET", "--output", "x.json", "--split", "train"], 2, "expected --output x.json/"),
        (["--dataset", "SET", "--output", "x.json", "--copy-images"], 2, "--copy-images makes a folder"),
        (
            ["--dataset", "SET", "--output", "x", "--format", "jsonl", "--coco-categories", "face"],
            2,
            "got --format jsonl",
        ),
        (["--dataset", "SET", "--output", "NEW", "--format", "yolo", "--copy-images"], 1, "none of the 2 pictures"),
    ],
)
def test_mistakes_are_one_line_and_an_exit_code(
    dataset: Path, arguments: list[str], code: int, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """2 for misuse, 1 for what could not be written."""
    places = {"SET": str(dataset), "NEW": str(dataset.parent / "new")}
    named = [reduce(lambda word, place: word.replace(*place), places.items(), word) for word in arguments]
    assert job(*named) == code
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert told in error
    assert error.count("\n") == 1
    assert [path.name for path in dataset.parent.iterdir()] == ["set"]


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    """An error leaves the old one, its permissions too, and nothing beside it."""
    path = tmp_path / "x.json"
    path.write_text("old")
    path.chmod(0o640)
    with pytest.raises(KeyError), replacing(str(path)) as out:
        out.write(b"half")
        raise KeyError
    assert [p.name for p in tmp_path.iterdir()] == ["x.json"]
    assert path.read_text() == "old"
    with replacing(str(path)) as out:
        out.write(b"new")
    assert (path.read_text(), path.stat().st_mode & 0o777) == ("new", 0o640)


def test_an_error_while_writing_is_a_run_error(tmp_path: Path) -> None:
    """A full disk is no traceback."""
    with pytest.raises(RunError, match="No space left"), replacing(str(tmp_path / "x.json")):
        raise OSError(28, "No space left on device")


def test_the_job_loads_no_beam_and_shows_defaults() -> None:
    """An export starts in a second."""
    told = "import sys, pipelines.export; sys.exit('apache_beam' in sys.modules or 'great_expectations' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", told], check=False).returncode == 0
    shown = subprocess.run([sys.executable, "-m", "pipelines.export", "--help"], capture_output=True, text=True)
    assert "(default: coco)" in " ".join(shown.stdout.split())
    assert all(f"--format {form}" in shown.stdout for form in FORMATS)
