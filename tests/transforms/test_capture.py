"""Live pictures, from a server that speaks RTSP."""

import itertools
import time
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import UsageError
from tests.transforms.rtsp import Camera
from tests.videos import picture
from transforms.capture import Captured, Pace, Refused, capture, is_live, read_live


class _Ends:
    """A request to stop after some seconds."""

    def __init__(self, seconds: float) -> None:
        self._until = time.monotonic() + seconds

    def __call__(self) -> bool:
        return time.monotonic() > self._until


def _seen(
    url: str, most: int, *, fps: Fraction | None = None, max_pixels: int = 10_000, seconds: float = 10.0
) -> tuple[list[Captured], list[str]]:
    told: list[str] = []
    frames = capture(read_live(url), fps=fps, max_pixels=max_pixels, stopped=_Ends(seconds), tell=told.append)
    return list(itertools.islice(frames, most)), told


def test_a_camera_on_the_network_shows_its_frames_in_order() -> None:
    """Pictures are those that were sent, numbered from 0, timed by this machine's clock."""
    began = time.time()
    with Camera() as camera:
        frames, told = _seen(camera.url, 5)
    assert [frame.number for frame in frames] == [0, 1, 2, 3, 4]
    assert not told
    assert all(began * 1000 - 1 <= frame.time_ms <= time.time() * 1000 for frame in frames)
    for frame in frames:
        off = np.abs(frame.rgb.astype(int) - picture(frame.number))
        others = np.abs(frame.rgb.astype(int) - picture(frame.number + 3))
        assert off.mean() < others.mean()


def test_a_stream_that_breaks_is_opened_again() -> None:
    """The numbers go on, and the reason is told."""
    with Camera(hang_up_after=3) as camera:
        frames, told = _seen(camera.url, 7)
        assert camera.connections == 3
    assert [frame.number for frame in frames] == list(range(7))
    assert len(told) == 2
    assert all(f"rtsp://127.0.0.1:{camera.port}/door: the stream ended" in text for text in told)


def test_a_camera_that_is_away_is_waited_for_until_a_stop() -> None:
    """Nobody listens: that is told, and a stop ends the waiting at once."""
    with Camera() as camera:
        pass
    began = time.monotonic()
    frames, told = _seen(camera.url, 1, seconds=1.5)
    assert not frames
    assert told
    assert time.monotonic() - began < 3


def test_a_wrong_password_is_an_error_that_does_not_repeat_it() -> None:
    """Trying again would lock the user out; the right one opens the stream."""
    with Camera(login="alice:tr0ub4dor") as camera:
        frames, _ = _seen(camera.url, 1)
        assert len(frames) == 1
        with pytest.raises(Refused, match="refuses this user or password") as caught:
            _seen(camera.url.replace("tr0ub4dor", "correcthorse"), 1)
    assert "correcthorse" not in str(caught.value)


def test_frames_over_the_limit_are_an_error() -> None:
    """A camera does not get smaller by waiting."""
    with Camera() as camera, pytest.raises(Refused, match="64 x 48"):
        _seen(camera.url, 1, max_pixels=100)


def test_frames_are_taken_at_the_wanted_pace() -> None:
    """25 a second come, 5 are wanted: every fifth one, give or take what the network adds."""
    with Camera(fps=25) as camera:
        frames, _ = _seen(camera.url, 4, fps=Fraction(5))
    assert 9 <= frames[-1].number - frames[0].number <= 21


@given(st.lists(st.floats(0.001, 3), min_size=1, max_size=200), st.fractions(Fraction(1, 5), 30))
def test_a_pace_is_never_exceeded(gaps: list[float], fps: Fraction) -> None:
    """In any stretch of time there are at most as many frames as fit, and one more."""
    pace, now, taken = Pace(fps), 1000.0, []
    for gap in gaps:
        now += gap
        if pace.takes(now):
            taken.append(now)
    for first, last in itertools.combinations(range(len(taken)), 2):
        assert last - first <= (taken[last] - taken[first]) * fps + 1 + 1e-6
    assert taken


def test_an_address_is_shown_without_what_may_be_secret() -> None:
    """User, password, query, and a path that holds a password are left out of the name and of every text."""
    live = read_live("rtsp://alice:s3cret@cam.example:8554/door?pwd=x")
    assert live.name == "rtsp://cam.example:8554/door"
    assert live.has_password
    assert "s3cret" not in repr(live)
    assert read_live("rtsp://10.0.0.2/user=admin_password=s3cret").name == "rtsp://10.0.0.2"
    assert read_live("RTSP://[::1]:8554/a").name == "rtsp://[::1]:8554/a"
    assert not read_live("rtsp://cam/door").has_password


@pytest.mark.parametrize(
    "text", ["rtsp://alice:s3cret@", "rtsp:///door", "rtsp://alice:s3cret@cam:x/", "rtsp://[s3cret"]
)
def test_a_wrong_address_is_not_repeated(text: str) -> None:
    """It may hold a password."""
    with pytest.raises(UsageError, match="expected rtsp://") as caught:
        read_live(text)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("text", ["camera:", "camera:/etc/passwd", "camera:../0", "camera:-1", "camera:1234"])
def test_only_cameras_are_cameras(text: str) -> None:
    """No other file can be opened by that name."""
    with pytest.raises(UsageError, match="expected camera:0"):
        read_live(text)


def test_a_camera_that_is_not_there_is_told() -> None:
    """Waiting would not make one."""
    assert is_live("camera:250")
    with pytest.raises(Refused, match=r"camera:250: there is no camera /dev/video250"):
        _seen("camera:250", 1)
