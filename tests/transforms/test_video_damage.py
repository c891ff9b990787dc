"""Broken and hostile files: what is before the damage is kept, and nothing else happens."""

import multiprocessing
import random
import struct
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from schemas.errors import ItemError
from tests.videos import (
    AV1,
    B_FRAMES,
    MAX_PIXELS,
    animated,
    boxes,
    copy,
    encode,
    joined,
    picture,
    planned,
    read,
    read_mutated,
    x265,
)
from transforms.video import kind_of, read_clip, read_frames
from transforms.video_index import index_of


def cut(share: float) -> Callable[[bytes], bytes]:
    return lambda data: data[: int(len(data) * share)]


def blanked(data: bytes) -> bytes:
    start, end = int(len(data) * 0.5), int(len(data) * 0.55)
    return data[:start] + bytes(end - start) + data[end:]


LARGE = {"size": (160, 120)}  # so that the pictures are most of the file
DAMAGE: dict[str, tuple[Callable[[Path], Path], str, Callable[[bytes], bytes]]] = {
    "cut MP4": (
        lambda path: encode(path, options=B_FRAMES, file_options={"movflags": "faststart"}, **LARGE),
        "a.mp4",
        cut(0.6),
    ),
    "cut fragments": (
        lambda path: encode(path, options=B_FRAMES, file_options={"movflags": "frag_keyframe+empty_moov"}, **LARGE),
        "a.mp4",
        cut(0.6),
    ),
    "cut Matroska": (lambda path: encode(path, options=B_FRAMES, **LARGE), "a.mkv", cut(0.6)),
    "cut WebM": (lambda path: encode(path, "libvpx", options={"g": "10"}, **LARGE), "a.webm", cut(0.6)),
    "cut AVI": (lambda path: encode(path, "mpeg4", options={"bf": "2", "g": "10"}, **LARGE), "a.avi", cut(0.7)),
    "cut stills": (lambda path: encode(path, "mjpeg", pixels="yuvj420p", **LARGE), "a.avi", cut(0.6)),
    "cut FLV": (lambda path: encode(path, options=B_FRAMES, **LARGE), "a.flv", cut(0.6)),
    "cut program stream": (lambda path: encode(path, "mpeg2video", options={"bf": "2"}, **LARGE), "a.mpg", cut(0.6)),
    "cut WMV": (lambda path: encode(path, "wmv2", options={"g": "10"}, **LARGE), "a.wmv", cut(0.6)),
    "cut GIF": (lambda path: animated(path, duration=50), "a.gif", cut(0.6)),
    "cut WebP": (lambda path: animated(path, duration=50), "a.webp", cut(0.6)),
    "blanked MP4": (lambda path: encode(path, options=B_FRAMES, **LARGE), "a.mp4", blanked),
    "blanked Matroska": (
        # Otherwise ids at random are in the file.
        lambda path: encode(path, options=B_FRAMES, file_options={"fflags": "bitexact"}, **LARGE),
        "a.mkv",
        blanked,
    ),
    "blanked transport stream": (lambda path: encode(path, options=B_FRAMES, **LARGE), "a.ts", blanked),
    "blanked program stream": (lambda path: encode(path, "mpeg2video", options={"bf": "2"}, **LARGE), "a.mpg", blanked),
    "blanked AVI": (lambda path: encode(path, "mpeg4", options={"bf": "2", "g": "10"}, **LARGE), "a.avi", blanked),
    "blanked HEVC": (lambda path: encode(path, "libx265", options=x265(), **LARGE), "a.mp4", blanked),
    "blanked AV1": (lambda path: copy(AV1, path), "a.ivf", blanked),
}


@pytest.mark.parametrize("seed", range(8))
def test_lost_packets_of_a_broadcast_are_told(seed: int, tmp_path: Path) -> None:
    """Frames that need what is lost look whole to the decoder; none of them is kept."""
    path = encode(tmp_path / "a.ts", options={"bf": "3", "g": "20"}, count=60, **LARGE)
    whole, _ = read(path)
    data = bytearray(path.read_bytes())
    lost = 188 * random.Random(seed).randrange(10, len(data) // 188 - 5)
    del data[lost : lost + 188]
    path.write_bytes(data)
    kept, error = read(path)
    assert kept == whole[: len(kept)]
    assert bool(error) == (len(kept) < 60)
    assert read(path, most=1) == (kept, error)


def test_sounds_that_begin_late_change_nothing(tmp_path: Path) -> None:
    """A broadcast may take up others at any time, and PyAV stumbles over many at the end of the file."""
    before, late = encode(tmp_path / "before.ts", count=300), tmp_path / "late.ts"
    with av.open(str(late), "w") as file:
        pictures: Any = file.add_stream("libx264", rate=25)
        pictures.width, pictures.height, pictures.pix_fmt = 64, 48, "yuv420p"
        sounds: list[Any] = [file.add_stream("mp2", rate=44100) for _ in range(30)]
        for number in range(300, 340):
            frame = av.VideoFrame.from_ndarray(picture(number), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            file.mux(pictures.encode(frame))
        file.mux(pictures.encode(None))
        for sound_of in sounds:
            silence = av.AudioFrame.from_ndarray(np.zeros((1, 2304), np.int16), format="s16", layout="stereo")
            silence.sample_rate, silence.pts, silence.time_base = 44100, 530000, Fraction(1, 44100)
            file.mux(sound_of.encode(silence))
            file.mux(sound_of.encode(None))
    padding = tmp_path / "padding.ts"  # FFmpeg looks at the end when it opens the file, and shall not see them there
    padding.write_bytes((b"\x47\x1f\xff\x10" + bytes(184)) * 3000)
    path = joined(tmp_path / "a.ts", before, late, padding, encode(tmp_path / "after.ts", times=range(340, 380)))
    with av.open(str(path)) as file, pytest.raises(IndexError):
        list(file.demux(video=0))
    frames, error = read(path)
    assert (len(frames), error) == (380, "")
    assert read(path, most=8) == (frames, "")


def test_joined_broadcasts_are_whole(tmp_path: Path) -> None:
    """Their packets are marked as damaged at the joint, and are not."""
    parts = [
        encode(tmp_path / f"{part}.ts", options=B_FRAMES, times=range(40 * part, 40 * part + 40)) for part in range(3)
    ]
    path = joined(tmp_path / "a.ts", *parts)
    with av.open(str(path)) as file:
        assert any(packet.is_corrupt for packet in file.demux(video=0))
    frames, error = read(path)
    assert (len(frames), error) == (120, "")
    assert np.diff([pts for _, pts, *_ in frames]).tolist() == [3600] * 119
    assert read(path, most=8) == (frames, "")


@pytest.mark.parametrize("name", DAMAGE)
def test_frames_before_the_damage_are_kept(name: str, tmp_path: Path) -> None:
    """They are those of the whole video; then comes one error. Cut into clips they are the same, and so is it."""
    make, file_name, damage = DAMAGE[name]
    path = make(tmp_path / file_name)
    whole, _ = read(path)
    path.write_bytes(damage(path.read_bytes()))
    kept, error = read(path)
    assert error.startswith(("corrupt: ", "truncated: "))
    assert 3 < len(kept) < len(whole)
    # No decoder sees all damage within a frame, so the last ones may show some; an AVI file without its end has other
    # times, by the same amount.
    pixels = [[frame[-1] for frame in frames[: len(kept) - 2]] for frames in (kept, whole)]
    assert pixels[0] == pixels[1]
    for most in (1, 8):
        assert read(path, most=most) == (kept, error)


NOT_READABLE = {
    "an empty file": (b"", "mp4", "corrupt"),
    "only a head": (b"\0\0\0\x18ftypisom\0\0\2\0isomiso2", "mp4", "corrupt"),
    "noise in a Matroska": (b"\x1a\x45\xdf\xa3" + bytes(range(256)) * 20, "matroska", "corrupt"),
    "a picture": (b"\x89PNG\r\n\x1a\n" + bytes(100), "png", "no_video"),
}


@pytest.mark.parametrize("name", NOT_READABLE)
def test_what_is_no_video_has_a_reason(name: str, tmp_path: Path) -> None:
    """Never a traceback: an index without frames, with the error."""
    data, kind, error = NOT_READABLE[name]
    (tmp_path / "a.mp4").write_bytes(data)
    index = index_of(str(tmp_path / "a.mp4"), kind, MAX_PIXELS)
    assert (index.frames, index.error) == ((), error)
    with pytest.raises(ItemError):
        list(read_frames(str(tmp_path / "a.mp4"), max_pixels=MAX_PIXELS))


def sound(path: Path, cover: bytes = b"") -> Path:
    with av.open(str(path), "w") as file:
        stream: Any = file.add_stream("aac", rate=44100)
        picture_of: Any = file.add_stream("mjpeg", rate=1) if cover else None
        if cover:
            picture_of.width, picture_of.height, picture_of.pix_fmt = 64, 48, "yuvj420p"
            picture_of.disposition = av.stream.Disposition.attached_pic
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 44100
        file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
        if cover:
            packet = av.Packet(cover)
            packet.stream = picture_of
            file.mux(packet)
    return path


def test_sound_alone_is_no_video(tmp_path: Path) -> None:
    """Nor is sound with a cover."""
    Image.fromarray(picture(0)).save(tmp_path / "cover.jpg")
    cover = (tmp_path / "cover.jpg").read_bytes()
    for path in (sound(tmp_path / "a.m4a"), sound(tmp_path / "b.mp4", cover), sound(tmp_path / "c.mkv")):
        assert index_of(str(path), kind_of(str(path)), MAX_PIXELS).error == "no_video"


def test_frames_over_the_limit_are_never_made(tmp_path: Path) -> None:
    """Told from the header; where the size changes later, by the decoder, behind the frames before."""
    path = str(encode(tmp_path / "a.mp4"))
    assert index_of(path, "mp4", 64 * 48 - 1).error == "too_large"
    large = encode(tmp_path / "large.ts", size=(96, 80), times=range(100, 130))
    both = joined(tmp_path / "both.ts", encode(tmp_path / "small.ts"), large)
    frames = read_frames(str(both), max_pixels=64 * 48)
    assert [next(frames).rgb.shape for _ in range(40)] == [(48, 64, 3)] * 40
    with pytest.raises(ItemError, match="damaged"):
        next(frames)


PLAYLISTS = {
    "m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{other}\n#EXT-X-ENDLIST\n",
    "concat": "ffconcat version 1.0\nfile '{other}'\n",
    "dash": '<?xml version="1.0"?><MPD><Period><BaseURL>{other}</BaseURL></Period></MPD>',
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\nm=video 49170 RTP/AVP 31\nc=IN IP4 127.0.0.1\n",
    "asx": '<asx version="3.0"><entry><ref href="{other}"/></entry></asx>',
}


@pytest.mark.parametrize("kind", PLAYLISTS)
def test_playlists_are_no_videos(kind: str, tmp_path: Path) -> None:
    """Whatever their name says, they open no other file."""
    path = tmp_path / "a.mp4"
    path.write_text(PLAYLISTS[kind].format(other=encode(tmp_path / "other.mp4", count=2)))
    assert kind_of(str(path)) in ("text", "svg", "unknown")
    with pytest.raises(ItemError, match="another kind"):
        list(read_frames(str(path), max_pixels=MAX_PIXELS))


def test_a_video_opens_no_other_file(tmp_path: Path) -> None:
    """QuickTime may say that its pictures lie elsewhere; FFmpeg could be told to follow it, and is not."""
    source = encode(tmp_path / "other.mp4")
    other = str(source).encode()
    record = bytearray(150)  # an alias, as QuickTime writes it
    record[4:6] = struct.pack(">H", 154 + len(other) + len(other) % 2 + 4)
    entry = (
        bytes(record) + struct.pack(">hH", 2, len(other)) + other + bytes(len(other) % 2) + struct.pack(">hH", -1, 0)
    )
    reference = struct.pack(">III4sI", 0, 1, 12 + len(entry), b"alis", 0) + entry
    path = tmp_path / "a.mov"
    path.write_bytes(boxes(source.read_bytes(), {b"dref": lambda _: reference}))
    with av.open(str(path), options={"enable_drefs": "1", "use_absolute_path": "1"}) as file:
        assert sum(packet.size > 0 for packet in file.demux(video=0)) == 40  # so it is a true one
    index = index_of(str(path), "mp4", MAX_PIXELS)
    assert (index.frames, index.error) == ((), "truncated")
    assert "in another file" in index.message


def test_a_file_that_cannot_be_read_is_told() -> None:
    """An error of the disk, not of the video: the memory of a process cannot be read at its beginning."""
    with pytest.raises(ItemError, match="cannot be read") as raised:
        kind_of("/proc/self/mem")
    assert raised.value.error == "unreadable"
    assert index_of("/proc/self/mem", "matroska", MAX_PIXELS).error == "unreadable"
    assert index_of("/proc/self/mem", "webp", MAX_PIXELS).error == "unreadable"


def test_a_changed_file_is_told(tmp_path: Path) -> None:
    """A clip's key frame that is not there any more, or a frame, is an error, not another frame."""
    path = encode(tmp_path / "a.mp4", options=B_FRAMES)
    *_, clip = planned(path, most=1)
    encode(path, options=B_FRAMES, times=range(0, 120, 3), time_base=Fraction(1, 90))
    with pytest.raises(ItemError, match="not there any more"):
        list(read_clip(str(path), clip, wanted="all", max_pixels=MAX_PIXELS))


MUTATED: dict[str, Callable[[Path], Path]] = {
    "a.mp4": lambda path: encode(path, options=B_FRAMES),
    "a.webm": lambda path: encode(path, "libvpx", options={"g": "10"}),
    "a.ts": lambda path: encode(path, "mpeg2video", options={"bf": "2", "g": "10"}),
    "a.gif": lambda path: animated(path, duration=50),
}


@pytest.mark.parametrize("name", MUTATED)
def test_damaged_files_harm_nobody(name: str, tmp_path: Path) -> None:
    """Of fifty kinds of damage none crashes the process, hangs, takes memory, or raises anything but ItemError."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        told = pool.submit(read_mutated, MUTATED[name](tmp_path / name), tmp_path, range(50))
        slowest, grown_mb = told.result(timeout=100)
    assert slowest < 10
    assert grown_mb < 100


MEMORY = """
import resource, sys
from transforms.video import read_frames
frames = sum(1 for _ in read_frames(sys.argv[1], max_pixels=10**6))
print(frames, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


def test_memory_is_flat(tmp_path: Path) -> None:
    """A video of which all frames together have 270 MB takes no more than one of a tenth."""
    used = {}
    for count in (40, 400):
        path = encode(tmp_path / f"{count}.mp4", "mpeg4", count=count, size=(640, 352))
        told = subprocess.run([sys.executable, "-c", MEMORY, str(path)], capture_output=True, check=True, text=True)
        frames, used[count] = map(int, told.stdout.split())
        assert frames == count
    assert used[400] < used[40] + 40
