"""Videos through the whole job: clips, copies, resumption, corruption, and the same bytes however they are cut."""

import os
import shutil
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import polars as pl
import pytest
from PIL import Image

from pipelines.dataset import Dataset
from pipelines.samples import compose
from tests.pipelines.conftest import add_picture, outcomes, run
from tests.pipelines.test_faults import fingerprints

FRAMES, GOP = 48, 8


def film(path: Path, frames: int = FRAMES, *, bare: Sequence[int] = (), seed: int = 0) -> Path:
    """Write an MP4 of one moving face at 12 frames a second, key frames every `GOP`; no face in the frames `bare`."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=12, options={"g": str(GOP), "sc_threshold": "0", "crf": "20"})
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        for number in range(frames):
            spots = [] if number in bare else [(20 + 4 * (number % 40), 60, 0.6)]
            rgb = compose("frame", (320, 240), spots, (number + seed) % 3).rgb
            for packet in stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), "rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path


def frames_of(out: Path) -> pl.DataFrame:
    return Dataset(out).scan("images").filter(pl.col("frame_index").is_not_null()).collect()


def test_every_frame_is_an_item_with_its_time(tmp_path: Path) -> None:
    """Numbers, times, one identity for the video, one for each frame, and the file's name on all."""
    clip = film(tmp_path / "clip.mp4", bare=range(40, 48))
    assert run(tmp_path / "out", clip) == 0
    frames = frames_of(tmp_path / "out")
    assert frames["frame_index"].to_list() == list(range(FRAMES))
    assert frames["pts_ms"].to_list() == pytest.approx([1000 * n / 12 for n in range(FRAMES)])
    assert frames["video_id"].n_unique() == 1 and frames["image_id"].n_unique() == FRAMES
    assert set(frames["file_name"]) == {"clip.mp4"}
    assert frames["outcome"].to_list() == ["labelled"] * 40 + ["no_face"] * 8
    file_ms = clip.stat().st_mtime_ns // 1_000_000
    assert (frames["timestamp_ms"] - file_ms).to_list() == [round(1000 * n / 12) for n in range(FRAMES)]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--fps", "3"], list(range(0, FRAMES, 4))),
        (["--keyframes"], list(range(0, FRAMES, GOP))),
    ],
)
def test_some_frames_are_the_same_rows(options: list[str], expected: list[int], tmp_path: Path) -> None:
    """Sampled frames have the ids, boxes and labels that they have among all frames."""
    clip = film(tmp_path / "clip.mp4")
    assert run(tmp_path / "all", clip, options=["--no-export"]) == 0
    assert run(tmp_path / "some", clip, options=["--no-export", *options]) == 0
    assert frames_of(tmp_path / "some")["frame_index"].to_list() == expected
    rows = [Dataset(tmp_path / name).scan("annotations").collect() for name in ("all", "some")]
    wanted = rows[0].filter(pl.col("image_id").is_in(frames_of(tmp_path / "some")["image_id"].implode()))
    assert wanted.equals(rows[1])


def test_workers_and_clips_leave_no_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One worker on the whole video, two on clips of eight frames: the same bytes."""
    clip = film(tmp_path / "clip.mp4")
    assert run(tmp_path / "whole", clip, options=["--direct_num_workers=1"]) == 0
    monkeypatch.setattr("transforms.video_index.clips.__kwdefaults__", {"most": 8, "after": None})
    assert run(tmp_path / "cut", clip, options=["--direct_num_workers=2"]) == 0
    assert fingerprints(tmp_path / "cut") == fingerprints(tmp_path / "whole")


def test_a_long_video_is_committed_in_parts(tmp_path: Path) -> None:
    """Epochs end within a video; a run that is limited goes on behind its last frame, and a third has nothing to do."""
    clip = film(tmp_path / "clip.mp4")
    out = tmp_path / "out"
    assert run(out, clip, options=["--epoch-items", "10", "--limit", "21"]) == 0
    assert frames_of(out).height == 21
    assert run(out, clip, options=["--epoch-items", "10"]) == 0
    assert frames_of(out)["frame_index"].to_list() == list(range(FRAMES))
    epochs = len(Dataset(out).manifests)
    assert run(out, clip) == 0
    assert len(Dataset(out).manifests) == epochs


def test_a_broken_video_is_its_good_frames_and_one_failure(tmp_path: Path) -> None:
    """However it is cut into epochs; and a repaired file takes the place of all its rows."""
    whole = film(tmp_path / "whole.mp4")
    data = bytearray(whole.read_bytes())
    start = data.index(b"mdat") + len(data) * 6 // 10
    data[start : start + 3000] = bytes(3000)
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(data)
    seen = []
    for name, size in (("one", "2000"), ("many", "8")):
        assert run(tmp_path / name, broken, options=["--epoch-items", size, "--max-failure-rate", "1"]) == 0
        told = Dataset(tmp_path / name).scan("failures").select("file_name", "error", "message").collect().rows()
        seen.append((frames_of(tmp_path / name)["frame_index"].to_list(), told))
    assert seen[0] == seen[1]
    frames, failures = seen[0]
    assert 8 <= len(frames) < FRAMES and frames == list(range(len(frames)))
    assert len(failures) == 1 and failures[0][1] == "corrupt"
    shutil.copyfile(whole, broken)
    assert run(tmp_path / "many", broken, options=["--epoch-items", "8"]) == 0
    assert frames_of(tmp_path / "many")["frame_index"].to_list() == list(range(FRAMES))
    assert Dataset(tmp_path / "many").scan("failures").collect().is_empty()


def test_a_retry_takes_a_broken_video_again(tmp_path: Path) -> None:
    """Frames are not doubled, and the attempts are counted."""
    whole = film(tmp_path / "whole.mp4")
    cut = tmp_path / "cut.mp4"
    data = whole.read_bytes()
    cut.write_bytes(data.replace(b"mdat", b"mdat", 1)[: len(data) // 2])
    os.utime(cut, (1, 1))
    options = ["--max-failure-rate", "1", "--epoch-items", "8"]
    for attempts in (1, 2):
        assert run(tmp_path / "out", cut, options=[*options, "--retry-failed"]) == 0
        failures = Dataset(tmp_path / "out").scan("failures").collect()
        assert failures["attempts"].to_list() == [attempts]
        assert frames_of(tmp_path / "out")["image_id"].is_duplicated().sum() == 0


def test_a_second_video_of_the_same_bytes_is_one_duplicate(tmp_path: Path) -> None:
    """In one plan, across commits, and where the first one changes afterwards."""
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    film(folder / "a.mp4", 16)
    shutil.copyfile(folder / "a.mp4", folder / "b.mp4")
    assert run(out, folder, options=["--epoch-items", "8"]) == 0
    shutil.copyfile(folder / "a.mp4", folder / "c.mp4")
    assert run(out, folder) == 0
    images = Dataset(out).scan("images").collect()
    copies = images.filter(pl.col("outcome") == "duplicate")
    assert copies["file_name"].to_list() == ["b.mp4", "c.mp4"]
    assert set(copies["duplicate_of"]) == set(images["video_id"].drop_nulls())
    film(folder / "a.mp4", 16, seed=1)
    assert run(out, folder) == 0
    images = Dataset(out).scan("images").collect()
    told = images.group_by("file_name", "outcome").len().sort("file_name").rows()
    assert told == [("a.mp4", "labelled", 16), ("b.mp4", "labelled", 16), ("c.mp4", "duplicate", 1)]
    assert run(out, folder) == 0
    assert Dataset(out).scan("images").collect().height == images.height


def test_moving_pictures_are_videos_and_still_ones_are_not(tmp_path: Path) -> None:
    """A GIF or WebP of several frames has frames; of one frame it is a picture, as before."""
    folder = tmp_path / "in"
    folder.mkdir()
    scenes = [Image.fromarray(compose("frame", (320, 240), [(20 + 60 * n, 60, 0.6)], 0).rgb) for n in range(3)]
    for suffix in ("gif", "webp"):
        scenes[0].save(folder / f"still.{suffix}")
        scenes[0].save(folder / f"moving.{suffix}", save_all=True, append_images=scenes[1:], duration=[100, 250, 40])
    assert run(tmp_path / "out", folder) == 0
    images = Dataset(tmp_path / "out").scan("images").collect()
    for suffix in ("gif", "webp"):
        moving = images.filter(pl.col("file_name") == f"moving.{suffix}")
        assert moving["pts_ms"].to_list() == [0.0, 100.0, 350.0], suffix
        still = images.filter(pl.col("file_name") == f"still.{suffix}")
        assert still["frame_index"].to_list() == [None]


def test_what_is_no_video_fails_with_a_reason(tmp_path: Path) -> None:
    """Sound alone, nothing at all, a beginning without an end: one failed item each, beside a picture that stands."""
    folder = tmp_path / "in"
    folder.mkdir()
    add_picture(folder, "face.jpg")
    with av.open(str(folder / "sound.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        frame.sample_rate, frame.time_base, frame.pts = 8000, Fraction(1, 8000), 0
        container.mux([*stream.encode(frame), *stream.encode()])
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "head.mp4").write_bytes(film(tmp_path / "clip.mp4", 8).read_bytes()[:200])
    assert run(tmp_path / "out", folder) == 0
    told = outcomes(tmp_path / "out")
    assert told["face.jpg"] == "labelled"
    assert told["sound.mp4"] == "failed: no_video"
    assert told["empty.mp4"] == "failed: empty"
    assert told["head.mp4"].startswith("failed: ")
