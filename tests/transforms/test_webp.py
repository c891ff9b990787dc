"""Animated WebP: its frames, their times, and what is left of a broken one."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from schemas.errors import ItemError
from tests.videos import picture
from transforms.video_index import video_kind
from transforms.webp import MOST_BYTES, frames_of, is_animated, read_webp


def drawn(number: int, seen_through: bool) -> NDArray[np.uint8]:
    alpha = np.full((48, 64), 255, np.uint8)
    if seen_through:
        alpha[:, : 6 * number + 6] = 0
        alpha[40:] = 128
    return np.dstack([picture(number), alpha])


def animation(path: Path, count: int = 6, *, seen_through: bool = False, **options: Any) -> Path:
    frames = [Image.fromarray(drawn(number, seen_through)) for number in range(count)]
    if not seen_through:
        frames = [frame.convert("RGB") for frame in frames]
    frames[0].save(path, save_all=True, append_images=frames[1:], **{"duration": 40, "loop": 0} | options)
    return path


def on_white(rgba: NDArray[np.uint8]) -> NDArray[np.float64]:
    alpha = rgba[..., 3:] / 255
    return np.asarray(rgba[..., :3] * alpha + 255 * (1 - alpha))


@pytest.mark.parametrize("lossless", [True, False])
@pytest.mark.parametrize("seen_through", [True, False])
def test_frames_are_those_that_were_drawn(lossless: bool, seen_through: bool, tmp_path: Path) -> None:
    """On white, whether they are stored exactly or not, each over the ones before it."""
    path = animation(tmp_path / "a.webp", seen_through=seen_through, lossless=lossless, quality=100)
    read = list(read_webp(str(path), 10**6))
    assert [pts for pts, _ in read] == [0, 40, 80, 120, 160, 200]
    for number, (_, rgb) in enumerate(read):
        expected = on_white(drawn(number, seen_through))
        assert np.abs(rgb - expected).mean() < (1 if lossless else 10)


def test_times_are_the_durations_added_up(tmp_path: Path) -> None:
    """A frame that is shown for no time has the next millisecond behind it, so that no two have the same time."""
    path = animation(tmp_path / "a.webp", duration=[100, 0, 20, 0, 5, 70])
    found = frames_of(str(path), 10**6)
    assert found.times == (0, 100, 101, 121, 122, 127)
    assert (found.width, found.height, found.message) == (64, 48, "")
    assert tuple(pts for pts, _ in read_webp(str(path), 10**6)) == found.times


def test_one_frame_is_a_picture(tmp_path: Path) -> None:
    """Whatever its head says; two are a video."""
    for count, kind in ((1, None), (2, "webp")):
        path = animation(tmp_path / f"{count}.webp", count)
        assert video_kind(str(path), 10**6) == kind
    single = bytearray((tmp_path / "2.webp").read_bytes())
    assert is_animated(bytes(single))
    end = single.index(b"ANMF", single.index(b"ANMF") + 1)  # the second frame is cut out
    single[4:8] = (end - 8).to_bytes(4, "little")
    (tmp_path / "a.webp").write_bytes(single[:end])
    assert video_kind(str(tmp_path / "a.webp"), 10**6) is None


def test_a_still_picture_does_not_move(tmp_path: Path) -> None:
    """Lossy, lossless, or with an alpha channel."""
    for options in ({}, {"lossless": True}):
        Image.fromarray(drawn(0, True)).save(tmp_path / "a.webp", **options)
        assert not is_animated((tmp_path / "a.webp").read_bytes())
    assert not is_animated(b"RIFF\0\0\0\0WEBPVP8X")


@pytest.mark.parametrize("share", [0.4, 0.6, 0.8, 0.99])
def test_whole_frames_of_a_cut_file_are_kept(share: float, tmp_path: Path) -> None:
    """And the reason tells how many they are."""
    path = animation(tmp_path / "a.webp", seen_through=True)
    whole = [(pts, rgb.tobytes()) for pts, rgb in read_webp(str(path), 10**6)]
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    found = frames_of(str(path), 10**6)
    assert 0 < len(found.times) < 6
    assert f"after {len(found.times)} frames" in found.message
    assert [(pts, rgb.tobytes()) for pts, rgb in read_webp(str(path), 10**6)] == whole[: len(found.times)]


def test_a_broken_frame_ends_it(tmp_path: Path) -> None:
    """Those before it are kept."""
    path = animation(tmp_path / "a.webp", lossless=True)
    data = bytearray(path.read_bytes())
    at = -1
    for _ in range(4):
        at = data.index(b"ANMF", at + 1)
    pixels = at + 8 + 16 + 8 + 5  # behind the heads of the frame and its picture
    data[pixels : pixels + 40] = b"\xff" * 40
    path.write_bytes(data)
    frames = read_webp(str(path), 10**6)
    assert [next(frames)[0] for _ in range(3)] == [0, 40, 80]
    with pytest.raises(ItemError) as raised:
        next(frames)
    assert raised.value.error == "corrupt"


def test_limits_are_checked_before_a_pixel_is_made(tmp_path: Path) -> None:
    """On the size of the canvas, and on the file, which is held in memory."""
    path = animation(tmp_path / "a.webp")
    for error in (_error(path, 64 * 48 - 1), _error(_large(tmp_path / "b.webp"), 10**6)):
        assert error == "too_large"


def _large(path: Path) -> Path:
    with path.open("wb") as file:
        file.truncate(MOST_BYTES + 1)
    return path


def _error(path: Path, max_pixels: int) -> str:
    for read in (lambda: frames_of(str(path), max_pixels), lambda: list(read_webp(str(path), max_pixels))):
        with pytest.raises(ItemError) as raised:
            read()
    return raised.value.error


@pytest.mark.parametrize("data", [b"", b"RIFF", b"RIFF\x20\0\0\0WEBPVP8X\x0a\0\0\0\2", b"RIFF\0\0\0\0WEBP" + bytes(40)])
def test_what_is_no_animation_has_no_frames(data: bytes, tmp_path: Path) -> None:
    """Never a traceback."""
    path = tmp_path / "a.webp"
    path.write_bytes(data)
    assert frames_of(str(path), 10**9).times == ()
    with pytest.raises(ItemError):
        list(read_webp(str(path), 10**9))
