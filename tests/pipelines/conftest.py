"""Pictures and runs for the jobs' tests."""

from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import polars as pl
import pytest

from pipelines import annotate
from pipelines.dataset import Dataset
from pipelines.logs import run_command
from pipelines.samples import compose, scenes
from transforms import stopping

Annotate = Callable[..., int]


@pytest.fixture(autouse=True)
def _no_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stop that one test asked for is not the next one's."""
    stopping._requested.clear()


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder with a portrait, two people, and nobody."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for scene in scenes():
        if scene.name in ("portrait.png", "two.jpg", "nobody.jpg"):
            cv2.imwrite(str(folder / scene.name), scene.rgb[:, :, ::-1])
    return folder


def add_picture(folder: Path, name: str, background: int = 0, left: int = 220) -> Path:
    """Write one more picture with one face; another `background` or `left` makes another picture."""
    scene = compose(name, (640, 480), [(left, 120, 1.2)], background)
    cv2.imwrite(str(folder / name), scene.rgb[:, :, ::-1])
    return folder / name


def run(output: Path, *inputs: Path | str, options: Sequence[str] = ()) -> int:
    """Run annotate in this process; return its exit code."""
    named = [word for each in inputs for word in ("--input", str(each))]
    return run_command(annotate.main, ["--runner=DirectRunner", *named, "--output", str(output), *options])


def outcomes(output: Path) -> dict[str, str]:
    """Return each item's outcome by its file name; a failed one's error after a colon."""
    dataset = Dataset(output)
    images = dataset.scan("images").select("file_name", "outcome").collect()
    failures = dataset.scan("failures").select("file_name", pl.format("failed: {}", "error")).collect()
    return dict([*images.iter_rows(), *failures.iter_rows()])
