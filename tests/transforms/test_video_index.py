"""The index of a video: which frames there are, and how they are cut into clips."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from schemas.records import Clip
from tests.videos import MAX_PIXELS, WHOLE, edited, encode, picture
from transforms import stopping
from transforms.video import kind_of
from transforms.video_index import CLIP_FRAMES, Listed, Stopped, VideoIndex, clips, index_of, video_kind


def index(path: Path) -> VideoIndex:
    return index_of(str(path), kind_of(str(path)), MAX_PIXELS)


def starts(path: Path) -> list[int]:
    """Return how many frames must be decoded from each start."""
    counts: dict[int, int] = {}
    for frame in index(path).frames:
        counts[frame.start] = counts.get(frame.start, 0) + 1
    return list(counts.values())


def test_it_says_what_there_is(tmp_path: Path) -> None:
    """Each frame's time, whether it is a key frame, and from which one it must be decoded."""
    path = encode(tmp_path / "a.mp4", count=12, options={"bf": "2", "g": "5", "sc_threshold": "0"})
    found = index(path)
    assert (found.kind, found.time_base, found.width, found.height) == ("mp4", (1, 12800), 64, 48)
    assert (found.listed, found.error, found.message) == (True, "", "")
    assert [frame.pts for frame in found.frames] == [512 * number for number in range(12)]
    assert [number for number, frame in enumerate(found.frames) if frame.is_key] == [0, 5, 10]
    assert [frame.start // 512 for frame in found.frames] == [0] * 5 + [5] * 5 + [10] * 2


def test_decoding_begins_only_where_all_behind_is_whole(tmp_path: Path) -> None:
    """H.264 calls other frames key frames too, from which a decoder may start; HEVC says what to leave out then."""
    closed = {"x264-params": "keyint=10:bframes=3:scenecut=0"}
    opened = {"x264-params": "keyint=10:bframes=3:scenecut=0:open-gop=1"}
    refreshed = {"x264-params": "keyint=10:scenecut=0:intra-refresh=1"}
    assert starts(encode(tmp_path / "closed.mp4", options=closed)) == [10] * 4
    for number, form in enumerate(("mp4", "mkv", "ts")):
        assert starts(encode(tmp_path / f"{number}.{form}", options=opened)) == [40]
        assert sum(frame.is_key for frame in index(tmp_path / f"{number}.{form}").frames) > 3
    assert starts(encode(tmp_path / "refreshed.mp4", options=refreshed)) == [40]
    hevc = {"x265-params": "keyint=10:bframes=4:open-gop=1:log-level=0"}
    assert len(starts(encode(tmp_path / "hevc.mp4", "libx265", options=hevc))) > 3


def test_what_an_edit_list_cuts_off_is_no_frame(tmp_path: Path) -> None:
    """And the file is not taken for a broken copy, though it has more frames than it shows."""
    path = edited(encode(tmp_path / "a.mp4", options={"bf": "3", "g": "10"}), (800, 512 * 15))
    found = index(path)
    assert (len(found.frames), found.error) == (20, "")
    assert found.frames[0].pts == 0
    assert found.frames[0].start < 0


def test_a_cut_file_says_where_it_ends(tmp_path: Path) -> None:
    """By the frames that its head promises."""
    path = encode(tmp_path / "a.mp4", size=(160, 120), file_options={"movflags": "faststart"})
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    found = index(path)
    assert found.error == "truncated"
    assert f"after {len(found.frames)} of 40 frames" in found.message
    *_, last = clips(found, "all", most=1)
    assert (last.error, last.message) == (found.error, found.message)


@pytest.mark.parametrize("missing", [1, 40])
def test_a_gif_without_its_end_loses_its_last_frame(missing: int, tmp_path: Path) -> None:
    """FFmpeg would show what there is of it."""
    path = encode(tmp_path / "a.gif", "gif", count=8, pixels="rgb8")
    assert (len(index(path).frames), index(path).error) == (8, "")
    path.write_bytes(path.read_bytes()[:-missing])
    assert (len(index(path).frames), index(path).error) == (7, "truncated")


def test_quick_frames_of_a_gif_are_shown_for_longer(tmp_path: Path) -> None:
    """Browsers, and ffprobe, take less than 20 ms for a mistake: it becomes 100."""
    frames = [Image.fromarray(picture(number)) for number in range(5)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:], duration=[10, 20, 0, 30, 50])
    assert [frame.pts for frame in index(tmp_path / "a.gif").frames] == [0, 10, 12, 22, 25]


def test_a_picture_is_no_video(tmp_path: Path) -> None:
    """Not as a GIF of one frame, nor where nothing can be read."""
    Image.fromarray(picture(0)).save(tmp_path / "one.gif")
    Image.fromarray(picture(0)).save(tmp_path / "a.png")
    for name in ("one.gif", "a.png", "missing.mp4"):
        assert video_kind(str(tmp_path / name), MAX_PIXELS) is None
    assert video_kind(str(tmp_path), MAX_PIXELS) is None
    assert video_kind(str(encode(tmp_path / "two.gif", "gif", count=2, pixels="rgb8")), MAX_PIXELS) == "gif"
    assert video_kind(str(encode(tmp_path / "one.mp4", count=1)), MAX_PIXELS) == "mp4"


def test_a_missing_file_has_its_reason(tmp_path: Path) -> None:
    """As has one that is of no use: no frames, and an error."""
    assert index_of(str(tmp_path / "a.mp4"), "mp4", MAX_PIXELS).error == "not_found"
    assert index_of(str(tmp_path), "matroska", MAX_PIXELS).error == "unreadable"


def test_a_request_to_stop_ends_it(tmp_path: Path) -> None:
    """A long video takes seconds to index; nobody waits for them."""
    path = encode(tmp_path / "a.mp4", count=3)
    stopping.request_stop()
    try:
        with pytest.raises(Stopped):
            index(path)
    finally:
        stopping.reset()


def made_up(count: int, seed: int, error: str = "") -> VideoIndex:
    """Return an index of frames at random times, with key frames here and there."""
    rng = random.Random(seed)
    frames, pts, start = [], -5, 0
    for number in range(count):
        pts += rng.randrange(1, 9)
        is_key = number == 0 or rng.random() < 0.2
        start = pts if is_key else start
        frames.append(Listed(pts, is_key, start))
    return VideoIndex("mp4", (1, 25), 64, 48, True, tuple(frames), error, "why" if error else "")


WANTED = st.sampled_from(["all", "keyframes", "1", "5", "12.5"])


@settings(deadline=None)
@given(st.integers(0, 200), st.integers(0, 10**6), WANTED, st.integers(1, 80), st.sampled_from(["", "corrupt"]))
def test_clips_are_all_of_it(count: int, seed: int, wanted: str, most: int, error: str) -> None:
    """They hold each wanted frame once, are cut only before a start, and the last one says that it is, and why."""
    found = made_up(count, seed, error)
    (whole,) = clips(found, wanted, most=WHOLE)
    cut = list(clips(found, wanted, most=most))
    for part in ("pts", "frames", "starts"):
        assert tuple(value for clip in cut for value in getattr(clip, part)) == getattr(whole, part)
    assert all(len(clip.pts) >= most and set(clip.starts).isdisjoint(cut[-1].starts) for clip in cut[:-1])
    assert [clip.last for clip in cut] == [False] * (len(cut) - 1) + [True]
    assert [clip.error for clip in cut] == [""] * (len(cut) - 1) + [error]
    assert [found.frames[number].pts for number in whole.frames] == list(whole.pts)


@settings(deadline=None)
@given(st.integers(1, 200), st.integers(0, 10**6), WANTED, st.data())
def test_a_later_run_goes_on_behind_a_frame(count: int, seed: int, wanted: str, data: st.DataObject) -> None:
    """With the frames that were left, under the numbers that they had."""
    found = made_up(count, seed)
    (whole,) = clips(found, wanted, most=WHOLE)
    done = data.draw(st.integers(1, len(whole.pts)))
    left = list(clips(found, wanted, most=5, after=whole.pts[done - 1]))
    assert joined(left) == list(zip(whole.pts, whole.frames, whole.starts, strict=True))[done:]


def joined(parts: list[Clip]) -> list[tuple[int, int, int]]:
    def each() -> Iterator[tuple[int, int, int]]:
        for clip in parts:
            yield from zip(clip.pts, clip.frames, clip.starts, strict=True)

    return list(each())


def test_a_clip_has_a_default_length() -> None:
    """At least so many frames, up to the next start."""
    sizes = [len(clip.pts) for clip in clips(made_up(1000, 1), "all")]
    assert all(CLIP_FRAMES <= size < CLIP_FRAMES + 60 for size in sizes[:-1])
    assert len(sizes) > 8
