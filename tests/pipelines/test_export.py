"""The export job writes what is committed, whole or not at all, and says in one line what is wrong."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.dataset import Dataset
from pipelines.export import export_all, main
from pipelines.logs import run_command
from schemas.errors import RunError
from schemas.tables import parquet_bytes
from tests.builders import LABELS, face, picture, tables
from transforms.rules import clean
from transforms.storage import replacing


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """Return a data set of two commits, a picture with a face in each, of the same name in two roots."""
    for epoch in (0, 1):
        shard = clean(tables(picture("a.jpg", face(), root=epoch)))
        files = {}
        for name in ("images", "annotations"):
            path = tmp_path / "set" / name / f"{epoch}.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(parquet_bytes(getattr(shard, name), {}))
            files[name] = [{"path": f"{name}/{epoch}.parquet", "size": path.stat().st_size}]
        manifest = {
            "tables": files,
            "labels": list(LABELS),
            "roots": [{"number": epoch, "name": f"root{epoch}", "marks": []}],
            "supersedes": [],
            "version": "0.1.0",
            "configuration_hash": "abc",
            "models": {},
        }
        path = tmp_path / "set" / "_manifests" / f"{epoch:06d}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(manifest))
    return tmp_path / "set"


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


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["--dataset", "nowhere", "--output", "x.json"], 2, "nowhere is no data set"),
        (["--dataset", "SET"], 2, "--output"),
        (["--dataset", "SET", "--output", "x", "--format", "yolo"], 2, "yolo"),
        (["--dataset", "SET", "--outp", "x"], 2, "--output"),  # no abbreviations
        (["--dataset", "SET", "--output", "/dev/null"], 2, "/dev/null"),  # replacing it would be a disaster
        (["--dataset", "SET", "--output", "SET/images/0.parquet/x.json"], 1, "Cannot write"),
    ],
)
def test_mistakes_are_one_line_and_an_exit_code(
    dataset: Path, arguments: list[str], code: int, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """2 for misuse, 1 for what could not be written."""
    assert job(*(argument.replace("SET", str(dataset)) for argument in arguments)) == code
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert told in error
    assert error.count("\n") == 1


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
