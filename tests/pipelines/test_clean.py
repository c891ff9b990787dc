"""The whole job on real label files of other people's making: every file is read or named, every fault is found."""

import csv
import json
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import polars as pl
import pytest
from defusedxml import ElementTree

from pipelines import clean
from pipelines.dataset import Dataset
from pipelines.logs import run_command
from schemas.reasons import Outcome

ROOT = Path(__file__).parents[2]


def run(output: Path, *inputs: Path | str, options: Sequence[str] = ()) -> int:
    """Run clean in this process, without exports; return its exit code."""
    named = [word for each in inputs for word in ("--input", str(each))]
    return run_command(
        clean.main, ["--runner=DirectRunner", *named, "--output", str(output), "--no-export", *map(str, options)]
    )


def rules(output: Path) -> dict[str, int]:
    """Return how often each rule held a row back or changed one."""
    told = json.loads((output / "report" / "summary.json").read_bytes())
    return dict(told["rules"])


def boxes(output: Path) -> list[tuple[object, ...]]:
    """Return every standing annotation as (picture's base name, label, box), sorted."""
    dataset = Dataset(output)
    images = dataset.scan("images").select("image_id", pl.col("file_name").str.split("/").list.last().alias("name"))
    told = dataset.scan("annotations").join(images, on="image_id")
    return sorted(told.select("name", "label", "bbox_x", "bbox_y", "bbox_w", "bbox_h").collect().iter_rows())


def write(path: Path, text: str) -> Path:
    """Write a label file; return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture
def annotations(shared: Path) -> Path:
    """Label files of many tools."""
    return shared / "data" / "annotations"


def test_three_tables_with_the_same_boxes_give_the_same(annotations: Path, tmp_path: Path) -> None:
    """Corners, corner and size, and one column of text that says neither: that one asks, and is told."""
    folder = annotations / "datumaro" / "kaggle_dataset" / "image_csv_det"
    options = ["--vocabulary", "from-source"]
    for name in ("ann.csv", "ann2.csv"):
        assert run(tmp_path / name, folder / name, options=options) == 0
    assert run(tmp_path / "ann3.csv", folder / "ann3.csv", options=options) == 2
    assert run(tmp_path / "ann3.csv", folder / "ann3.csv", options=[*options, "--bbox-format", "xyxy"]) == 0
    first = boxes(tmp_path / "ann.csv")
    assert len(first) == 6
    assert first == boxes(tmp_path / "ann2.csv") == boxes(tmp_path / "ann3.csv")


def test_a_question_is_asked_clearly_and_leaves_nothing(
    annotations: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It names the file, what fits, and what to do."""
    source = annotations / "datumaro" / "kaggle_dataset" / "image_csv_det" / "ann3.csv"
    assert run(tmp_path / "out", source, options=["--vocabulary", "from-source"]) == 2
    said = capsys.readouterr().err
    assert all(word in said for word in ("ann3.csv", "xywh", "xyxy", "--bbox-format"))
    assert Dataset(tmp_path / "out").manifests == []
    assert not (tmp_path / "out" / "_tmp" / "survey").exists()


def test_two_formats_of_one_set_give_the_same(annotations: Path, tmp_path: Path) -> None:
    """Pascal VOC and YOLO of the same pictures: boxes and labels are equal."""
    folder = annotations / "datumaro" / "roboflow_dataset"
    for name in ("voc", "yolo"):
        assert run(tmp_path / name, folder / name, options=["--vocabulary", "from-source", "--duplicates", "keep"]) == 0
    voc, yolo = boxes(tmp_path / "voc"), boxes(tmp_path / "yolo")
    assert len(voc) == 4
    assert [row[:2] for row in voc] == [row[:2] for row in yolo]
    assert [row[2:] for row in voc] == [pytest.approx(row[2:], abs=0.01) for row in yolo]  # YOLO has six decimals


def test_the_faults_of_a_blood_count_are_found(annotations: Path, tmp_path: Path) -> None:
    """Of 1,098 boxes two have no size, and two are drawn twice."""
    assert run(tmp_path / "out", annotations / "bccd_voc" / "Annotations", options=["--vocabulary", "from-source"]) == 0
    found = rules(tmp_path / "out")
    assert found["bbox.degenerate"] == 2
    assert found["duplicate.annotation"] == 2
    assert len(boxes(tmp_path / "out")) == 1094


def test_the_legend_becomes_one_clean_table(annotations: Path, tmp_path: Path) -> None:
    """13,690 rows: eight names twice, one of them with two labels, 921 in capitals."""
    assert run(tmp_path / "out", annotations / "facial_expressions" / "legend.csv") == 0
    dataset = Dataset(tmp_path / "out")
    images = dataset.scan("images").collect()
    assert images.height == 13682
    assert images["file_name"].is_unique().all()
    assert rules(tmp_path / "out")["duplicate.annotation"] == 7
    held = dataset.scan("quarantine").filter(pl.col("rule") == "label.conflict").collect()
    assert held.height == 2
    assert held["file_name"].n_unique() == 1
    labels = Counter(dataset.scan("annotations").collect()["label"])
    assert set(labels) <= {"angry", "disgust", "fear", "happy", "sad", "surprise", "neutral", "contempt"}
    assert labels["contempt"] == 9
    changed = dataset.scan("changes").filter(pl.col("field") == "label").collect()
    capitals = changed.filter(pl.col("before").str.to_uppercase() == pl.col("before"))
    assert capitals.height == 921


def test_every_file_is_read_or_named(annotations: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The whole folder at once: what is of no listed format is told by its name."""
    assert run(tmp_path / "out", annotations / "label_studio", options=["--vocabulary", "from-source"]) == 0
    said = capsys.readouterr().err
    assert said.count("passed over") >= 2
    assert "without pictures" in said


def test_a_file_of_no_listed_format_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit 2, its name, and the formats that are read."""
    source = write(tmp_path / "notes.json", '{"hello": "world"}')
    assert run(tmp_path / "out", source) == 2
    said = capsys.readouterr().err
    assert "notes.json" in said
    assert "coco" in said.lower()


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("broken.json", '{"images": [{"id": 1, "file_name": "a.jpg"}], "annotations": [{"id": 1,', "byte"),
        ("columns.csv", "colour,weight\nred,1\nblue,2\n", "--columns"),
        ("bomb.xml", '<!DOCTYPE a [<!ENTITY x "y">]><annotations><version>1.1</version>&x;</annotations>', "bomb.xml"),
    ],
)
def test_bad_files_are_told_clearly(
    name: str, text: str, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit 2 with the file's name and where or what to do; never a traceback."""
    assert run(tmp_path / "out", write(tmp_path / name, text)) == 2
    said = capsys.readouterr().err
    assert name in said
    assert told in said
    assert "Traceback" not in said


def test_a_broken_file_among_good_ones_is_a_failure(annotations: Path, tmp_path: Path) -> None:
    """The others are cleaned; it is one row of `failures`, once."""
    folder = tmp_path / "voc"
    folder.mkdir()
    for number in (0, 1):
        shutil.copy(annotations / "bccd_voc" / "Annotations" / f"BloodImage_0000{number}.xml", folder)
    write(folder / "broken.xml", (folder / "BloodImage_00000.xml").read_text()[:300])
    for _ in range(2):
        assert run(tmp_path / "out", folder, options=["--vocabulary", "from-source"]) == 0
    failures = Dataset(tmp_path / "out").scan("failures").collect()
    assert failures.select("step", "error", "attempts").rows() == [("read", "broken_xml", 1)]
    assert "line" in failures["message"][0]
    assert len(Dataset(tmp_path / "out").manifests) == 1


def test_only_what_is_new_is_done(tmp_path: Path) -> None:
    """A second run does nothing; a changed row is done again; another file adds to what is there."""
    out, source = tmp_path / "out", tmp_path / "a.csv"
    write(source, "image,label\na.jpg,happy\nb.jpg,sad\nc.jpg,Fear\n")
    assert run(out, source) == 0
    assert run(out, source) == 0
    assert len(Dataset(out).manifests) == 1
    write(source, "image,label\nb.jpg,sad\na.jpg,angry\nc.jpg,Fear\n")
    assert run(out, source) == 0
    assert Dataset(out).manifests[-1].told["items"] == 1
    assert [row[:2] for row in boxes(out)] == [("a.jpg", "angry"), ("b.jpg", "sad"), ("c.jpg", "fear")]
    other = write(tmp_path / "b.csv", "image,label\na.jpg,angry\nb.jpg,happy\nd.jpg,joy\n")
    assert run(out, other) == 0
    assert [row[:2] for row in boxes(out)] == [("a.jpg", "angry"), ("c.jpg", "fear"), ("d.jpg", "happy")]
    held = Dataset(out).scan("quarantine").collect()
    assert sorted(held.select("file_name", "rule").rows()) == [
        ("a.jpg", "duplicate.annotation"),
        ("b.jpg", "label.conflict"),
        ("b.jpg", "label.conflict"),
    ]
    assert Dataset(out).scan("annotations").collect()["annotation_id"].is_unique().all()
    assert run(out, source, other) == 0
    assert len(Dataset(out).manifests) == 3


def test_another_configuration_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The difference is named."""
    source = write(tmp_path / "a.csv", "image,label\na.jpg,cat\n")
    assert run(tmp_path / "out", source) == 0
    assert run(tmp_path / "out", source, options=["--vocabulary", "from-source"]) == 2
    assert "vocabulary" in capsys.readouterr().err


def test_each_label_ends_in_one_place(annotations: Path, tmp_path: Path) -> None:
    """What came in stands, or is held back with its rule and the row as it was; every change says what was before."""
    source = annotations / "facial_expressions" / "500_picts_satz.csv"
    assert run(tmp_path / "out", source) == 0
    dataset = Dataset(tmp_path / "out")
    standing = set(dataset.scan("annotations").collect()["annotation_id"])
    quarantine = dataset.scan("quarantine").collect()
    assert not standing & set(quarantine["id"])
    assert len(standing) + quarantine["id"].n_unique() == 500
    assert quarantine["held"].is_not_null().all()
    changes = dataset.scan("changes").collect()
    assert changes["rule"].is_not_null().all()
    told = json.loads((tmp_path / "out" / "report" / "summary.json").read_bytes())
    assert sum(told["outcomes"].values()) == told["items"]
    assert told["outcomes"][Outcome.FAILED] == 0


def test_labels_are_repaired_and_real_names_left_alone(shared: Path) -> None:
    """The check that is run on other words too."""
    command = [sys.executable, shared / "checks" / "label_repair.py"]
    data = [shared / "data" / "label_variants.csv", shared / "data" / "label_negative_pairs.csv"]
    done = subprocess.run([*map(str, command), *map(str, data)], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_label_without_a_picture_keeps_its_share_of_it(tmp_path: Path) -> None:
    """The record of other tools: no size is known, so there are no pixels, and 0..1 is as it came."""
    record = {
        "image_id": "img_001",
        "labels": [{"category": "person", "bbox": [0.5, 0.25, 0.133333, 0.3], "confidence": 1.0}],
    }
    source = write(tmp_path / "labels.jsonl", json.dumps(record) + "\n")
    assert run(tmp_path / "out", source, options=["--vocabulary", "from-source"]) == 0
    row = Dataset(tmp_path / "out").scan("annotations").collect().row(0, named=True)
    assert (row["label"], row["origin"], row["confidence"], row["bbox_x"]) == ("person", "person", 1.0, None)
    assert [row["cx"], row["cy"], row["w"], row["h"]] == pytest.approx([0.5, 0.25, 0.133333, 0.3], abs=1e-7)
    assert Dataset(tmp_path / "out").scan("changes").collect().height == 0


def test_killed_runs_end_in_the_same_bytes(tmp_path: Path) -> None:
    """kill -9 at any moment, then again: the shards are those of an undisturbed run."""
    source = tmp_path / "labels.csv"
    with source.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "label", "x1", "y1", "x2", "y2"])
        writer.writerows(
            (f"p{number:06d}.jpg", ("happy", "Sad", "suprise", "fear")[number % 4], 1, 2, 130 + number % 50, 160)
            for number in range(300_000)
        )
    command = [sys.executable, "-m", "pipelines.clean", "--input", str(source), "--no-export", "--epoch-items", "90000"]
    calm, disturbed = tmp_path / "calm", tmp_path / "disturbed"
    subprocess.run([*command, "--output", str(calm)], check=True, capture_output=True, cwd=ROOT)
    for seconds in (6, 8, 10, 12):
        process = subprocess.Popen(
            [*command, "--output", str(disturbed)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT
        )
        try:
            process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
    subprocess.run([*command, "--output", str(disturbed)], check=True, capture_output=True, cwd=ROOT)
    shards = [
        {path.relative_to(folder): path.read_bytes() for path in folder.glob("*/*.parquet")}
        for folder in (calm, disturbed)
    ]
    assert len(Dataset(calm).manifests) > 1
    assert shards[0] == shards[1]


@pytest.mark.parametrize("source", ["bccd_voc", "facial_expressions/legend.csv"])
def test_cleaning_twice_changes_nothing(source: str, annotations: Path, tmp_path: Path) -> None:
    """What was cleaned goes in as a data set of ours, and comes out as it was."""
    options = ["--vocabulary", "from-source"] if source == "bccd_voc" else []
    assert run(tmp_path / "once", annotations / source, options=options) == 0
    assert run(tmp_path / "twice", tmp_path / "once", options=options) == 0
    assert boxes(tmp_path / "twice") == boxes(tmp_path / "once")
    assert Dataset(tmp_path / "twice").scan("changes").collect().height == 0
    assert Dataset(tmp_path / "twice").scan("quarantine").collect().height == 0


def test_undoing_everything_restores_the_labels(annotations: Path, tmp_path: Path) -> None:
    """Rule by rule, until nothing is changed and nothing held back: the raw labels and boxes stand again."""
    out = tmp_path / "out"
    source = annotations / "bccd_voc" / "Annotations"
    assert run(out, source, options=["--vocabulary", "from-source"]) == 0
    for rule in rules(out):
        assert run_command(clean.main, ["--dataset", str(out), "--undo", rule, "--no-export"]) == 0
    dataset = Dataset(out)
    assert dataset.scan("changes").collect().height == dataset.scan("quarantine").collect().height == 0
    names = dataset.scan("images").select("image_id", "file_name")
    told = dataset.scan("annotations").join(names, on="image_id").collect()
    corners = sorted(told.select("file_name", "label", "bbox_x", "bbox_y", "bbox_w", "bbox_h").rows())
    raw = []
    for path in sorted(source.glob("*.xml")):
        tree = ElementTree.parse(path).getroot()
        for thing in tree.iter("object"):
            box = [float(thing.findtext(f"bndbox/{side}", "nan")) for side in ("xmin", "ymin", "xmax", "ymax")]
            raw.append((tree.findtext("filename"), thing.findtext("name"), *box))
    assert corners == sorted(raw)
    assert len(raw) == 1098


def test_two_inputs_with_pictures_of_one_name_meet(annotations: Path, tmp_path: Path) -> None:
    """VOC means its own `train_001.jpg`, YOLO its own; the files are equal, so the labels become one set."""
    folder = annotations / "datumaro" / "roboflow_dataset"
    assert run(tmp_path / "out", folder / "voc", folder / "yolo", options=["--vocabulary", "from-source"]) == 0
    assert run(tmp_path / "voc", folder / "voc", options=["--vocabulary", "from-source"]) == 0
    assert [row[1:] for row in boxes(tmp_path / "out")] == [row[1:] for row in boxes(tmp_path / "voc")]
    assert rules(tmp_path / "out")["duplicate.exact"] == 5
    assert rules(tmp_path / "out")["duplicate.annotation"] == 4
