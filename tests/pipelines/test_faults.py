"""What must survive: kill -9 at any moment, a full disk, a second writer, a request to stop."""

import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import polars as pl
import pytest

from pipelines import export
from pipelines.dataset import Dataset, is_dataset
from pipelines.epochs import one_writer
from pipelines.logs import run_command
from schemas.tables import TABLES
from tests.pipelines.conftest import add_picture, outcomes, run

ROOT = Path(__file__).parents[2]


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """Forty distinct pictures and a broken one: enough for epochs of ten to be interrupted."""
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(40):
        add_picture(folder, f"{number:02d}.jpg", background=number % 3, left=20 + 9 * number)
    # In the middle of the order: a last epoch in which all items failed would rightly end with exit code 1.
    (folder / "05 broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 cut")
    return folder


def command(source: Path, out: Path, *options: str) -> list[str]:
    named = ["--input", str(source), "--output", str(out), "--epoch-items", "10", *options]
    return [sys.executable, "-m", "pipelines.annotate", "--runner=DirectRunner", *named]


def fingerprints(out: Path) -> dict[str, str]:
    """Return the sha256 of every committed shard and every export, by name."""
    dataset = Dataset(out)
    files = [Path(path) for table in TABLES for path in dataset.files(table)]
    files += [path for path in (out / "exports").rglob("*") if path.is_file()]
    return {str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_killed_runs_end_in_the_same_bytes(many: Path, tmp_path: Path) -> None:
    """Killed at random moments and started again, a run leaves the bytes of one that was left alone."""
    started = time.monotonic()
    subprocess.run(command(many, tmp_path / "plain"), check=True, capture_output=True, cwd=ROOT)
    whole = time.monotonic() - started
    chance = random.Random(7)
    killed = 0
    for _ in range(4):
        running = subprocess.Popen(
            command(many, tmp_path / "killed"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=ROOT
        )
        try:
            running.wait(chance.uniform(0.2, 0.95) * whole)
        except subprocess.TimeoutExpired:
            running.kill()
            running.wait()
            killed += 1
        if is_dataset(tmp_path / "killed"):
            dataset = Dataset(tmp_path / "killed")
            images = dataset.scan("images").select("image_id").collect()["image_id"]
            orphans = dataset.scan("annotations").filter(~pl.col("image_id").is_in(images.implode())).collect()
            assert orphans.height == 0
    assert killed > 0
    subprocess.run(command(many, tmp_path / "killed"), check=True, capture_output=True, cwd=ROOT)
    assert fingerprints(tmp_path / "killed") == fingerprints(tmp_path / "plain")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_is_clean(number: signal.Signals, many: Path, tmp_path: Path) -> None:
    """A request to stop ends the run soon and without a traceback; the next run goes on from there."""
    out = tmp_path / "out"
    running = subprocess.Popen(
        command(many, out, "--epoch-items", "2"), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT
    )
    while not list((out / "_manifests").glob("*.json")):
        time.sleep(0.05)
        assert running.poll() is None
    asked = time.monotonic()
    running.send_signal(number)
    said, _ = running.communicate(timeout=60)
    assert time.monotonic() - asked < 20
    assert running.returncode == 0
    assert "Traceback" not in said and "stopped on request" in said
    done = sum(manifest.told["items"] for manifest in Dataset(out).manifests)
    assert 0 < done < 41
    assert run(out, many) == 0
    assert len(outcomes(out)) == 41


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """Mount a disk of `size` on `folder`; only root can, others get a skip."""
    folder.mkdir()
    if os.geteuid() or subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]).returncode:
        pytest.skip("mounting a small disk needs root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_is_one_line_and_harms_nothing(many: Path, tmp_path: Path) -> None:
    """What was committed before the disk was full stays whole, and the run goes on once there is room."""
    with small_disk(tmp_path / "disk", "256k") as disk:
        out = disk / "out"
        done = subprocess.run(command(many, out), capture_output=True, text=True, cwd=ROOT)
        if done.returncode == 0:
            (disk / "filler").write_bytes(b"0" * (shutil.disk_usage(disk).free - 4096))
            add_picture(many, "one more.jpg", background=1, left=5)
            done = subprocess.run(command(many, out), capture_output=True, text=True, cwd=ROOT)
        assert done.returncode == 1
        assert "Traceback" not in done.stderr
        assert "No space left" in done.stderr.strip().splitlines()[-1]
        dataset = Dataset(out)
        committed = sum(manifest.told["items"] for manifest in dataset.manifests)
        assert dataset.scan("images").collect().height + dataset.scan("failures").collect().height == committed
        subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
        subprocess.run(command(many, out), check=True, capture_output=True, cwd=ROOT)
        assert len(outcomes(out)) == len(list(many.iterdir()))


def test_two_writers_cannot_meet(pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A data set that another run holds is refused with its process named."""
    with one_writer(tmp_path / "out"):
        # A lock of this process would not stop this process: another must try.
        done = subprocess.run(command(pictures, tmp_path / "out"), capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 2
    assert f"in use by another run (process {os.getpid()})" in done.stderr
    assert run(tmp_path / "out", pictures) == 0


def test_a_plan_left_behind_is_run_first(pictures: Path, tmp_path: Path) -> None:
    """An uncommitted plan covers the same items under the same names again."""
    out = tmp_path / "out"
    run(out, pictures)
    want = fingerprints(out)
    (out / "_manifests" / "00000001.json").unlink()
    assert run(out, pictures) == 0
    assert fingerprints(out) == want


def test_a_plan_whose_files_changed_is_made_anew(pictures: Path, tmp_path: Path) -> None:
    """Nothing of it was visible, so nothing need fail: what it covered is planned again as it is now."""
    out = tmp_path / "out"
    shutil.copy(pictures / "two.jpg", pictures / "zwei.jpg")
    run(out, pictures)
    (out / "_manifests" / "00000001.json").unlink()
    add_picture(pictures, "two.jpg")
    (pictures / "nobody.jpg").unlink()
    assert run(out, pictures) == 0
    assert outcomes(out) == {"portrait.png": "labelled", "two.jpg": "labelled", "zwei.jpg": "labelled"}


def test_an_unfinished_plan_is_not_misread_from_another_folder(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Relative names of a killed run mean nothing elsewhere: its files must not fail for that."""
    monkeypatch.chdir(tmp_path)
    run(tmp_path / "out", "photos")
    (tmp_path / "out" / "_manifests" / "00000001.json").unlink()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert run(tmp_path / "out", pictures) == 0
    assert set(outcomes(tmp_path / "out").values()) == {"labelled", "no_face"}


def test_files_that_are_not_ours_are_never_removed(pictures: Path, tmp_path: Path) -> None:
    """What a run clears away are its own unfinished shards, by their names."""
    out = tmp_path / "out"
    run(out, pictures)
    mine = [out / "images" / "precious.jpg", out / "images" / "kept.parquet", out / "annotations" / "notes" / "a.txt"]
    for path in mine:
        path.parent.mkdir(exist_ok=True)
        path.write_text("mine")
    stale = [out / "images" / "00000009-0000.parquet", out / "exports" / ".tmp-0123456789abcdef"]
    for path in stale:
        path.write_text("left by a killed run")
    assert run(out, pictures) == 0
    assert all(path.read_text() == "mine" for path in mine)
    assert not any(path.exists() for path in stale)


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda out: next((out / "_manifests").glob("*")).write_text("{"), "cannot be read"),
        (lambda out: next((out / "images").glob("*")).unlink(), "is missing"),
        (lambda out: next((out / "annotations").glob("*")).write_bytes(b"PAR1"), "bytes instead of"),
    ],
)
def test_a_damaged_data_set_is_told(
    harm: Callable[[Path], None], said: str, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line that names the file, exit code 1, nothing written over it, in every job."""
    out = tmp_path / "out"
    run(out, pictures)
    harm(out)
    capsys.readouterr()
    assert run(out, pictures) == 1
    assert run_command(export.main, ["--dataset", str(out), "--output", str(tmp_path / "coco.json")]) == 1
    errors = capsys.readouterr().err.strip().splitlines()
    assert sum(said in line for line in errors) == 2
    assert not (tmp_path / "coco.json").exists()
