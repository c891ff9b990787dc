"""The export job writes what is committed, whole or not at all, and says in one line what is wrong."""

import json
import re
import subprocess
import sys
from collections.abc import Sequence
from functools import reduce
from hashlib import sha256
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from pipelines.dataset import Dataset
from pipelines.export import FORMATS, export_all, main
from pipelines.logs import run_command
from schemas.errors import RunError
from schemas.tables import Tables
from tests.builders import face, picture, tables
from tests.extras import extra
from tests.pipelines.committed import committed
from tests.transforms.things import UNKNOWN, part, thing, whole
from transforms.rules import clean
from transforms.splits import Sides, read_shares
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


def cleaned(folder: Path, *shards: Tables, categories: Sequence[Sequence[str]] = (("cat", "dog"),)) -> Path:
    """Return a data set as cleaning commits it: its manifests declare the categories, and no model's labels."""
    committed(folder, *shards)
    for path, names in zip(sorted((folder / "_manifests").iterdir()), categories, strict=False):
        told = json.loads(path.read_bytes())
        path.write_text(json.dumps(told | {"labels": [], "categories": list(names)}))
    return folder


@pytest.fixture
def animals(tmp_path: Path) -> Path:
    """Return a cleaned data set of two commits, whose labels stand outside the vocabulary here and there."""
    first = picture("img_001", part((0.3, 0.4, 0.2, 0.1), "dog", 1.0), whole("cat"), **UNKNOWN)
    second = picture("b.jpg", thing(label=" catt"), thing((300, 9, 50, 60), "person"), root=1)
    return cleaned(tmp_path / "set", tables(first), tables(second), categories=[["dog", "cat"], ["cat", "person"]])


def test_categories_are_those_of_the_manifests_then_others_that_there_are(
    animals: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In order, so that ids stay; what was taken back is behind. Nothing is told that only faces have."""
    assert job("--dataset", animals, "--output", tmp_path / "x.json") == 0
    told = json.loads((tmp_path / "x.json").read_bytes())
    assert [category["name"] for category in told["categories"]] == ["dog", "cat", "person", " catt"]
    assert [row["category_id"] for row in told["annotations"]] == [4, 3]
    assert not {"keypoints", "num_keypoints", "landmarks"} & (set(told["annotations"][0]) | set(told["info"]))
    assert capsys.readouterr().out.endswith(": 1 pictures, 2 annotations; 1 pictures of unknown size left out\n")


def test_a_data_set_may_be_annotated_and_cleaned(tmp_path: Path) -> None:
    """The model's labels keep their ids, and faces their keypoints."""
    dataset = committed(
        tmp_path / "set", clean(tables(picture("a.jpg", face()))), tables(picture("b.jpg", thing(), root=1))
    )
    path = dataset / "_manifests" / "000001.json"
    path.write_text(json.dumps(json.loads(path.read_bytes()) | {"labels": [], "categories": ["cat", "happy"]}))
    assert job("--dataset", dataset, "--output", tmp_path / "x.json") == 0
    told = json.loads((tmp_path / "x.json").read_bytes())
    kinds = {category["name"]: (category["id"], category["supercategory"]) for category in told["categories"]}
    assert (kinds["happy"], kinds["contempt"], kinds["cat"]) == ((4, "expression"), (8, "expression"), (9, "object"))
    assert [row["num_keypoints"] for row in told["annotations"]] == [5, 0]
    assert ["probabilities" in row["attributes"] for row in told["annotations"]] == [True, False]


def test_a_record_comes_out_as_it_came_in(animals: Path, tmp_path: Path) -> None:
    """Names and numbers, and nothing that was not there."""
    assert job("--dataset", animals, "--format", "jsonl", "--record", "plain", "--output", tmp_path / "x.jsonl") == 0
    first, _ = (tmp_path / "x.jsonl").read_text().splitlines()
    assert json.loads(first) == {
        "image_id": "img_001",
        "labels": [
            {"category": "dog", "bbox": [0.3, 0.4, 0.2, 0.1], "confidence": 1.0},
            {"category": "cat", "bbox": None, "confidence": None},
        ],
    }


@pytest.mark.parametrize(
    ("form", "files", "told"),
    [
        ("csv", ["images.csv", "labels.csv"], "2 pictures, 4 annotations"),
        ("label-studio", ["label_config.xml", "tasks.json"], "2 pictures, 4 annotations"),
        ("cvat", ["annotations.xml"], "1 pictures, 2 annotations; 1 pictures of unknown size left out"),
        (
            "yolo",
            ["data.yaml", "labels/b.txt", "labels/img_001.txt", "sources.csv", "train.txt"],
            "2 pictures, 4 annotations",
        ),
        (
            "voc",
            ["Annotations/b.xml", "ImageSets/Main/default.txt", "labelmap.txt", "sources.csv"],
            "1 pictures, 2 annotations; 1 pictures of unknown size or held back left out",
        ),
    ],
)
def test_every_format_has_any_label(
    animals: Path, tmp_path: Path, form: str, files: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Pictures of unknown size are in those that need none."""
    assert job("--dataset", animals, "--format", form, "--output", f"{tmp_path}/out/") == 0
    assert capsys.readouterr().out.removeprefix(f"{tmp_path}/out/").removeprefix("annotations.xml") == f": {told}\n"
    assert visible(tmp_path / "out") == files
    if form == "csv":
        header, _ = (tmp_path / "out" / "labels.csv").read_text().split("\n", 1)
        assert '"cx","cy"' in header and not re.search("p_happy|nose_x", header)


def test_what_cannot_be_drawn_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As when a person took back what held it."""
    dataset = cleaned(tmp_path / "set", tables(picture("a.jpg", thing(), thing(label=None), thing((700, 9, 9, 9)))))
    assert job("--dataset", dataset, "--output", tmp_path / "x.json") == 0
    assert "1 annotations; 2 annotations without a label or a box in their picture left out" in capsys.readouterr().out


# ---- splits


SHARES = "train=.5,val=.3,test=.2"


@pytest.fixture
def album(tmp_path: Path) -> Path:
    """Return a cleaned data set of pictures that are there, in two commits."""
    rows: list[dict[str, Any]] = []
    for i in range(30):
        path = tmp_path / "photos" / f"{i:02}.jpg"
        path.parent.mkdir(exist_ok=True)
        cv2.imwrite(str(path), np.full((480, 640, 3), 8 * i, np.uint8))
        content = sha256(path.read_bytes()).hexdigest()
        rows.append(picture(path.name, thing(), source_uri=str(path), sha256=content, root=i // 20))
    return cleaned(tmp_path / "set", tables(*rows[:20]), tables(*rows[20:]), categories=[["cat"]] * 2)


@pytest.mark.parametrize(
    ("form", "where"),
    [
        ("coco", "annotations/instances_{}.json"),
        ("jsonl", "{}.jsonl"),
        ("yolo", "{}.txt"),
        ("voc", "ImageSets/Main/{}.txt"),
    ],
)
def test_each_picture_is_on_one_side_of_every_format(
    album: Path, tmp_path: Path, form: str, where: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same one in each, the same each time; in place of an earlier split of these names only."""
    output = tmp_path / "out"
    for _ in range(2):
        assert job("--dataset", album, "--format", form, "--split", SHARES, "--output", output) == 0
    assert capsys.readouterr().out.splitlines()[0].startswith(f"{output}: 30 pictures")
    texts = {side: (output / where.format(side)).read_text() for side in ("train", "val", "test")}
    names = {side: re.findall(r"\b[0-9]{2}(?=\.jpg\"|\.jpg$|$)", text, re.M) for side, text in texts.items()}
    expected = Sides.of_shares(Dataset(album).parts(), read_shares(SHARES))
    images = Dataset(album).scan("images").collect()
    told = zip(images["file_name"].str.strip_suffix(".jpg"), expected.of(images), strict=True)
    assert sorted((name, side) for side, some in names.items() for name in set(some)) == sorted(told)
    assert job("--dataset", album, "--format", form, "--split", "a=.5,b=.5", "--output", output) == 2
    assert f"holds another export ({form} train, val, test)" in capsys.readouterr().err


def test_pictures_lie_beside_their_split(album: Path, tmp_path: Path) -> None:
    """Where Datumaro finds them."""
    arguments = ("--copy-images", "--split", SHARES, "--stratify", "--split-seed", "3", "--output", tmp_path / "coco")
    assert job("--dataset", album, *arguments) == 0
    loaded = extra("datumaro").Dataset.import_from(str(tmp_path / "coco"), "coco_instances")
    counts = {name: len(subset) for name, subset in loaded.subsets().items()}
    assert (set(counts), sum(counts.values())) == ({"train", "val", "test"}, 30)
    assert max(abs(counts[name] - 30 * share) for name, share in read_shares(SHARES).items()) <= 1
    assert all(item.media.data is not None and item.annotations for item in loaded)
    assert "annotations/person_keypoints_train.json" not in visible(tmp_path / "coco")


def test_the_trainers_layout_has_its_splits(album: Path, tmp_path: Path) -> None:
    """Datumaro reads the lists that data.yaml names, as Ultralytics does."""
    arguments = ("--format", "yolo", "--copy-images", "--split", SHARES, "--output", tmp_path / "yolo")
    assert job("--dataset", album, *arguments) == 0
    told = extra("yaml").safe_load((tmp_path / "yolo" / "data.yaml").read_text())
    lists = {name: (tmp_path / "yolo" / told[name]).read_text().splitlines() for name in ("train", "val", "test")}
    assert all((tmp_path / "yolo" / line).is_file() for some in lists.values() for line in some)
    assert sum(map(len, lists.values())) == 30 and all(lists.values())


@pytest.mark.parametrize("form", ["cvat", "label-studio"])
def test_pictures_come_with_what_is_imported(album: Path, tmp_path: Path, form: str) -> None:
    """In `images`, under the names that the labels have."""
    assert job("--dataset", album, "--format", form, "--copy-images", "--output", tmp_path / "out") == 0
    assert len(visible(tmp_path / "out" / "images")) == 30
    [text] = [
        (tmp_path / "out" / name).read_text()
        for name in visible(tmp_path / "out")
        if name in ("annotations.xml", "tasks.json")
    ]
    assert all(name in text for name in visible(tmp_path / "out" / "images"))


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
        (["--dataset", "SET", "--output", "x", "--split", "train=.8,val=.1"], 2, "above 0 that sum to 1"),
        (["--dataset", "SET", "--output", "x", "--split", "a=1", "--format", "csv"], 2, "coco, yolo, voc, jsonl; got"),
        (["--dataset", "SET", "--output", "x", "--split", "a=.5,b=.5", "--format", "yolo"], 2, "called val; got a, b"),
        (["--dataset", "SET", "--output", "x/", "--split", "train", "--stratify"], 2, "--stratify is for --split with"),
        (["--dataset", "SET", "--output", "x", "--split-seed", "1"], 2, "--split-seed is for --split with shares"),
        (["--dataset", "SET", "--output", "x", "--split-by", "folder"], 2, "--split-by is for --split with shares"),
        (["--dataset", "SET", "--output", "x", "--record", "plain"], 2, "--record is for --format jsonl"),
        (["--dataset", "SET", "--output", "x", "--image-url", "s3://a"], 2, "--image-url is for --format label-studio"),
        (["--dataset", "SET", "--output", "x.xml", "--format", "cvat", "--copy-images"], 2, "makes a folder"),
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
