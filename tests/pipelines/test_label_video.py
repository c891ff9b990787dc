"""The labelled video shows each frame's faces on it, and nothing on frames of which nothing is known."""

from collections.abc import Sequence
from fractions import Fraction
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from pipelines import label_video
from pipelines.export import main
from pipelines.label_video import shown_until
from pipelines.logs import run_command
from tests.builders import face, picture, tables
from tests.pipelines.committed import committed
from tests.transforms.films import made, times
from transforms.drawing import BOX, HELD
from transforms.rules import clean
from transforms.video import read_frames

FRAMES = 24
PLACE = (36, 16, 24, 24)
"""The box of all faces here: on the ground, away from the bar that moves."""


@pytest.fixture
def video(tmp_path: Path) -> Path:
    """Return a video of 24 frames, one each 40 ms, but one that is late."""
    ticks = [40 * i + (10 if i == 9 else 0) for i in range(FRAMES)]
    return made(tmp_path / "match.mkv", "libvpx", "matroska", Fraction(1, 1000), ticks, audio="libopus")


def labelled(
    folder: Path, video: Path, frames: Sequence[int], faceless: Sequence[int] = (), copies: Sequence[str] = ("v",)
) -> Path:
    """Write a data set in which some frames of a video are labelled, some without a face; return it."""
    content = sha256(video.read_bytes()).hexdigest()
    shown = times(video)
    rows = [
        picture(
            video.name,
            *([] if number in faceless else [face(PLACE, "sad")]),
            width=64,
            height=48,
            sha256=content,
            image_id=f"{at}{number:063d}",
            video_id=copy,
            frame_index=number,
            pts_ms=float(shown[number] * 1000),
        )
        for at, copy in enumerate(copies)
        for number in sorted({*frames, *faceless})
    ]
    return committed(folder, clean(tables(*rows)))


def job(*arguments: object) -> int:
    """Run the job as the command line does; return the exit code."""
    return run_command(main, ["--format", "video", *map(str, arguments)])


def drawn(path: Path) -> list[str]:
    """Return what is drawn into each frame: "seen", "held" or nothing."""
    return [_drawn(frame.rgb) for frame in read_frames(str(path), max_pixels=10**6)]


def _drawn(rgb: NDArray[np.uint8]) -> str:
    x, y, w, _ = PLACE
    ground = np.median(rgb[y - 12 : y - 2, x : x + w].reshape(-1, 3), axis=0)  # of the label, above the box
    found = [name for name, colour in (("seen", BOX), ("held", HELD)) if np.abs(ground - colour).max() < 40]
    return found[0] if found else ""


def test_each_frame_shows_its_own_faces(tmp_path: Path, video: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All frames, at their times, with the sound; a frame without a face shows none."""
    dataset = labelled(tmp_path / "set", video, range(FRAMES), faceless=[5, 6])
    output = tmp_path / "new" / "match.labelled.mp4"
    assert job("--dataset", dataset, "--input", video, "--output", output) == 0
    assert capsys.readouterr().out == f"{output}: 24 frames, 24 of them in the data set\n"
    assert drawn(output) == ["" if i in (5, 6) else "seen" for i in range(FRAMES)]
    assert times(output) == times(video)
    assert [p.name for p in output.parent.iterdir()] == [output.name]


def test_frames_between_labelled_ones_show_the_last_in_grey(tmp_path: Path, video: Path) -> None:
    """For one sampling step at most: not over a hole, not before the first, not long behind the last."""
    dataset = labelled(tmp_path / "set", video, [2, 6, 10, 18], faceless=[14])
    assert job("--dataset", dataset, "--input", video, "--output", tmp_path / "out.mp4") == 0
    held = {
        **dict.fromkeys((2, 6, 10, 18), "seen"),
        **dict.fromkeys((3, 4, 5, 7, 8, 9, 11, 12, 13, 19, 20, 21), "held"),
    }
    assert drawn(tmp_path / "out.mp4") == [held.get(i, "") for i in range(FRAMES)]


def test_a_renamed_file_is_found_by_its_content(
    tmp_path: Path, video: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And of two files of one content that both were kept, one is drawn, not both over each other."""
    dataset = labelled(tmp_path / "set", video, range(0, FRAMES, 2), copies=("v", "w"))
    renamed = video.rename(tmp_path / "other name.bin")
    assert job("--dataset", dataset, "--input", renamed, "--output", tmp_path / "out.mp4") == 0
    assert drawn(tmp_path / "out.mp4").count("seen") == FRAMES / 2
    assert "24 frames, 12 of them in the data set" in capsys.readouterr().out


def test_windows_do_not_show(tmp_path: Path, video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Faces are looked up some frames at a time."""
    dataset = labelled(tmp_path / "set", video, range(0, FRAMES, 2), faceless=[8])
    assert job("--dataset", dataset, "--input", video, "--output", tmp_path / "one.mp4") == 0
    monkeypatch.setattr(label_video, "WINDOW_FRAMES", 3)
    assert job("--dataset", dataset, "--input", video, "--output", tmp_path / "two.mp4") == 0
    assert drawn(tmp_path / "one.mp4") == drawn(tmp_path / "two.mp4")


def test_a_broken_video_is_labelled_as_far_as_it_goes(
    tmp_path: Path, shared: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """And it is said why it ends."""
    [video] = (shared / "data" / "broken" / "video").glob("*.mp4")
    content = sha256(video.read_bytes()).hexdigest()
    row = picture("v.mp4", face(), sha256=content, video_id="v", frame_index=0, pts_ms=0.0)
    dataset = committed(tmp_path / "set", clean(tables(row)))
    assert job("--dataset", dataset, "--input", video, "--output", tmp_path / "out.mp4") == 0
    assert len(times(tmp_path / "out.mp4")) >= 28
    assert "has only what can be decoded" in caplog.text


@pytest.mark.parametrize(
    ("gaps", "shown"),
    [
        ([40, 40, 40], [40, 40, 40, 40]),  # every frame
        ([1000, 1040, 960], [1000, 1040, 960, 1000]),  # about once a second: no flicker between
        ([1000, 5000, 1000], [1000, 1000, 1000, 1000]),  # a hole
        ([], [0]),  # a single frame
    ],
)
def test_faces_are_shown_for_one_sampling_step(gaps: list[float], shown: list[float]) -> None:
    """The step is the median."""
    starts = np.cumsum([100.0, *gaps])
    assert (shown_until(starts) - starts).tolist() == shown


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--input", "OTHER", "--output", "x.mp4"], "no frame in the data set"),
        (["--input", "OTHER", "--output", "x.mp4"], "expected one of its videos (match.mkv)"),
        (["--input", "OTHER", "--output", "x.mp4"], "python -m pipelines.annotate --input"),
        (["--input", "gone.mp4", "--output", "x.mp4"], "gone.mp4 is not there"),
        (["--output", "x.mp4"], "--format video needs one --input"),
        (["--input", "VIDEO", "--input", "VIDEO", "--output", "x.mp4"], "--format video needs one --input"),
        (["--input", "VIDEO", "--output", "x.avi"], "--format video writes MP4: expected --output NAME.mp4"),
        (["--input", "COPY", "--output", "COPY"], "is the --input itself"),
    ],
)
def test_mistakes_are_one_line(
    tmp_path: Path,
    video: Path,
    arguments: list[str],
    told: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And nothing is written."""
    monkeypatch.chdir(tmp_path)
    dataset = labelled(tmp_path / "set", video, [0])
    (tmp_path / "copy.mp4").write_bytes(video.read_bytes())
    (tmp_path / "other.mp4").write_bytes(b"x")
    places = {"VIDEO": str(video), "COPY": "copy.mp4", "OTHER": "other.mp4"}
    before = sorted(tmp_path.iterdir())
    assert job("--dataset", dataset, *(places.get(word, word) for word in arguments)) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    assert told in error
    assert sorted(tmp_path.iterdir()) == before
    assert (tmp_path / "copy.mp4").read_bytes() == video.read_bytes()
