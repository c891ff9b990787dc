"""Videos: the frames that there are, at their times, whatever the form, however they are cut."""

import json
import subprocess
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from tests.videos import (
    AV1,
    B_FRAMES,
    MAX_PIXELS,
    animated,
    copy,
    edited,
    encode,
    in_fields,
    joined,
    picture,
    read,
    tool,
    turned,
    x265,
)
from transforms.video import Source, kind_of, read_frames
from transforms.video_index import index_of

DURATIONS = [100, 0, 20, 50, 70, 10, 100, 100, 100]  # of the frames of a drawing, in milliseconds
VARIABLE = [0, 3, 4, 11, 12, 13, 29, 31, 32, 40, 55, 56, 58, 60, 61, 62, 80, 81, 85, 99]


def x264(**parameters: object) -> dict[str, str]:
    return {"x264-params": ":".join(f"{name.replace('_', '-')}={value}" for name, value in parameters.items())}


def two_streams(path: Path) -> Path:
    """Write a video of a small picture that is marked as the chosen one, and a large one that is not."""
    with av.open(str(path), "w") as file:
        streams: list[Any] = [file.add_stream("libx264", rate=25) for _ in range(2)]
        for stream, (width, height) in zip(streams, ((64, 48), (32, 32)), strict=True):
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        streams[0].disposition, streams[1].disposition = 0, av.stream.Disposition.default
        for number in range(20):
            for stream in streams:
                frame = av.VideoFrame.from_ndarray(picture(number, stream.width, stream.height), format="rgb24")
                frame.pts = number
                file.mux(stream.encode(frame))
        for stream in streams:
            file.mux(stream.encode(None))
    return path


def packed(path: Path) -> Path:
    """Write MPEG-4 as DivX packed it: a frame rides in the packet of the one that it needs, an empty one follows."""
    plain = encode(path.with_suffix(".plain.avi"), "mpeg4", options={"bf": "1", "g": "10", "b_strategy": "0"})
    empty = b"\0\0\1\xb6\x5c\x7f"
    with av.open(str(plain)) as given, av.open(str(path), "w") as file:
        stream: Any = file.add_stream_from_template(given.streams.video[0])
        packets = [bytes(packet) for packet in given.demux(video=0) if packet.size]
        packets[0] = b"\0\0\1\xb2DivX503b1393p" + packets[0]
        packets[1:] = [
            data
            for first, second in zip(packets[1::2], packets[2::2], strict=False)
            for data in (first + second, empty)
        ]
        for number, data in enumerate(packets):
            packet = av.Packet(data)
            packet.stream, packet.pts, packet.dts, packet.time_base = stream, number, number, Fraction(1, 25)
            packet.is_keyframe = number % 10 == 0
            file.mux(packet)
    return path


ZOO: dict[str, Callable[[Path], Path]] = {
    "b-frames.mp4": lambda path: encode(path, options=B_FRAMES),
    "b-frames.mkv": lambda path: encode(path, options=B_FRAMES),
    "b-frames.flv": lambda path: encode(path, options=B_FRAMES),
    "b-frames.ts": lambda path: encode(path, options=B_FRAMES, form="mpegts"),
    "b-frames.m2ts": lambda path: encode(path, options=B_FRAMES, form="mpegts", file_options={"mpegts_m2ts_mode": "1"}),
    "b-frames.avi": lambda path: encode(path, options=B_FRAMES),
    "b-frames.h264": lambda path: encode(path, options=B_FRAMES),
    "fragments.mp4": lambda path: encode(
        path, options=B_FRAMES, file_options={"movflags": "frag_keyframe+empty_moov+default_base_moof"}
    ),
    "index-in-front.mp4": lambda path: encode(path, options=B_FRAMES, file_options={"movflags": "faststart"}),
    "open-groups.mp4": lambda path: encode(path, options=x264(open_gop=1, keyint=10, bframes=3)),
    "open-groups.ts": lambda path: encode(path, options=x264(open_gop=1, keyint=10, bframes=3)),
    "intra-refresh.mp4": lambda path: encode(path, options=x264(intra_refresh=1, keyint=10)),
    "one-key-frame.mp4": lambda path: encode(path, options={"g": "999", "sc_threshold": "0"}),
    "only-key-frames.mp4": lambda path: encode(path, options={"g": "1"}),
    "short-groups.mp4": lambda path: encode(path, options={"g": "2", "bf": "3"}),
    "variable.mp4": lambda path: encode(path, options=B_FRAMES, times=VARIABLE, time_base=Fraction(1, 90)),
    "variable.mkv": lambda path: encode(path, options=B_FRAMES, times=VARIABLE, time_base=Fraction(1, 90)),
    "milliseconds.mkv": lambda path: encode(path, options=B_FRAMES, rate=Fraction(30000, 1001)),
    "thousand.mp4": lambda path: encode(path, options=B_FRAMES, rate=1000),
    "trimmed.mp4": lambda path: edited(encode(path, options=B_FRAMES), (800, 512 * 15)),
    "two-cuts.mp4": lambda path: edited(encode(path, options=B_FRAMES), (400, 1024), (400, 512 * 25)),
    "late.mp4": lambda path: edited(encode(path, options=B_FRAMES), (700, -1), (800, 1024)),
    "late.ts": lambda path: encode(path, options=B_FRAMES, times=range(100, 140)),
    "wrapped.ts": lambda path: encode(path, options=B_FRAMES, times=range(2386090, 2386130)),
    "negative.mp4": lambda path: encode(path, options=B_FRAMES, file_options={"use_editlist": "0"}),
    "interlaced.ts": lambda path: encode(path, options=x264(tff=1, keyint=10)),
    "fields.ts": lambda path: in_fields(path, 30, "mpegts"),
    "ten-bit.mp4": lambda path: encode(path, pixels="yuv420p10le"),
    "full-chroma.mp4": lambda path: encode(path, pixels="yuv444p"),
    "grey.mp4": lambda path: encode(path, pixels="gray"),
    "odd.webm": lambda path: encode(path, "libvpx", size=(61, 47)),
    "one-pixel.mkv": lambda path: encode(path, "ffv1", size=(1, 1), pixels="yuv444p"),
    "wide-pixels.mp4": lambda path: encode(path, sample_aspect_ratio=Fraction(4, 3)),
    "resized.ts": lambda path: joined(
        path,
        encode(path.with_suffix(".1.ts"), options=B_FRAMES),
        encode(path.with_suffix(".2.ts"), options=B_FRAMES, size=(96, 80), times=range(100, 130)),
    ),
    "resized.h264": lambda path: joined(
        path,
        encode(path.with_suffix(".1.h264"), options=B_FRAMES),
        encode(path.with_suffix(".2.h264"), options=B_FRAMES, size=(96, 80)),
    ),
    "restarted.ts": lambda path: joined(
        path, encode(path.with_suffix(".1.ts"), options=B_FRAMES), encode(path.with_suffix(".2.ts"), options={"g": "7"})
    ),
    "back.ts": lambda path: joined(
        path,
        encode(path.with_suffix(".1.ts"), options=B_FRAMES),
        encode(path.with_suffix(".2.ts"), options=B_FRAMES, times=range(51, 251, 5), time_base=Fraction(1, 125)),
    ),
    "mpeg4.avi": lambda path: encode(path, "mpeg4", options={"bf": "2", "g": "10"}),
    "mpeg4.mp4": lambda path: encode(path, "mpeg4", options={"bf": "2", "g": "10"}),
    "mpeg4.m4v": lambda path: encode(path, "mpeg4", options={"bf": "2", "g": "10"}),
    "packed.avi": packed,
    "stills.avi": lambda path: encode(path, "mjpeg", pixels="yuvj420p"),
    "mpeg1.mpg": lambda path: encode(path, "mpeg1video", options={"bf": "2", "g": "10"}),
    "mpeg2.mpg": lambda path: encode(path, "mpeg2video", options={"bf": "2", "g": "10"}, form="vob"),
    "mpeg2.ts": lambda path: encode(path, "mpeg2video", options={"bf": "2", "g": "10"}),
    "mpeg2.m2v": lambda path: encode(path, "mpeg2video", options={"bf": "2", "g": "10"}),
    "hidden.webm": lambda path: hidden(path),
    "hidden.ivf": lambda path: hidden(path),
    "vp9.webm": lambda path: encode(
        path, "libvpx-vp9", options={"auto-alt-ref": "6", "lag-in-frames": "25", "g": "20", "cpu-used": "5"}
    ),
    "vp9.mp4": lambda path: encode(path, "libvpx-vp9", options={"deadline": "realtime", "cpu-used": "8", "g": "10"}),
    "av1.mp4": lambda path: copy(AV1, path),
    "av1.webm": lambda path: copy(AV1, path),
    "av1.ivf": lambda path: copy(AV1, path),
    "av1.obu": lambda path: copy(AV1, path),
    "hevc.mp4": lambda path: encode(path, "libx265", options=x265(open_gop=1)),
    "hevc.ts": lambda path: encode(path, "libx265", options=x265(open_gop=1)),
    "hevc.hevc": lambda path: encode(path, "libx265", options=x265(open_gop=1)),
    "layers.mp4": lambda path: in_layers(path),
    "sorenson.flv": lambda path: encode(path, "flv", options={"g": "10"}),
    "windows.wmv": lambda path: encode(path, "wmv2", options={"g": "10"}),
    "drawing.gif": lambda path: animated(path, duration=DURATIONS, disposal=2),
    "drawing.webp": lambda path: animated(path, duration=DURATIONS, lossless=True),
    "two-streams.mp4": two_streams,
}


def hidden(path: Path) -> Path:
    """Write VP8 with frames that are decoded for others and never shown; a bit in front of a frame says it."""
    source = encode(path.with_suffix(".source.webm"), "libvpx", options={"g": "10"})
    with av.open(str(source)) as given, av.open(str(path), "w") as file:
        stream: Any = file.add_stream_from_template(given.streams.video[0])
        for number, packet in enumerate(given.demux(video=0)):
            if packet.size:
                data = bytearray(bytes(packet))
                if number % 10 in (3, 4, 8):
                    data[0] &= ~0x10
                changed = av.Packet(bytes(data))
                changed.stream, changed.time_base, changed.is_keyframe = stream, packet.time_base, packet.is_keyframe
                changed.pts = changed.dts = packet.pts
                file.mux(changed)
    return path


def in_layers(path: Path) -> Path:
    """Write HEVC in three temporal layers, where frames of the second are marked as not needed in their own."""
    options = x265(temporal_layers=3, bframes=7, b_adapt=0, keyint=32, b_pyramid=1)
    data = bytearray(encode(path, "libx265", options=options).read_bytes())
    with av.open(str(path)) as file:
        places = [(packet.pos, packet.size) for packet in file.demux(video=0) if packet.size]
    for at, size in places:
        end = at + size
        while at < end:
            if data[at + 4] >> 1 == 3:  # TSA_R becomes TSA_N; H.265, table 7-1
                data[at + 4] = 2 << 1
            at += 4 + int.from_bytes(data[at : at + 4], "big")
    path.write_bytes(data)
    return path


COUNTED = {"b-frames.avi", "b-frames.h264", "resized.h264", "hevc.hevc", "packed.avi", "restarted.ts", "back.ts"}
"""Those that tell no times of showing, or false ones: their frames are counted."""

UNLISTED = {*COUNTED, "two-cuts.mp4", "fields.ts", "interlaced.ts"}
"""Those of which only the decoder knows how many frames they have, or which."""


@pytest.fixture(scope="session")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    folder = tmp_path_factory.mktemp("zoo")

    def get(name: str) -> Path:
        path = folder / name
        return path if path.exists() else ZOO[name](path)

    return get


def plain(path: Path) -> list[tuple[int | None, bytes]]:
    """Return each frame's PTS and pixels as PyAV tells them."""
    with av.open(str(path)) as file:
        stream: Any = file.streams.best("video")
        return [(frame.pts, frame.to_ndarray(format="rgb24").tobytes()) for frame in file.decode(stream)]


@pytest.mark.parametrize("name", ZOO)
def test_frames_are_those_of_a_plain_reading(name: str, zoo: Callable[[str], Path]) -> None:
    """All frames, in the order of showing, numbered from 0, with their pixels and times."""
    frames, error = read(zoo(name))
    assert not error
    assert [number for number, *_ in frames] == list(range(len(frames)))
    if name.startswith("drawing"):  # see-through: compared below
        assert len(frames) == 9
        return
    expected = plain(zoo(name))
    assert [pixels for *_, pixels in frames] == [pixels for _, pixels in expected]
    if name not in COUNTED:
        assert [pts for _, pts, *_ in frames] == [pts for pts, _ in expected]


@pytest.mark.parametrize("name", ZOO)
def test_split_reading_gives_the_same_frames(name: str, zoo: Callable[[str], Path]) -> None:
    """However a video is cut into clips, numbers, times and pixels are the same."""
    whole = read(zoo(name))
    for most in (1, 8):
        assert read(zoo(name), most=most) == whole


@pytest.mark.parametrize("name", ZOO)
def test_sampled_frames_are_some_of_all(name: str, zoo: Callable[[str], Path]) -> None:
    """A frame that is wanted has the same bits, whatever is left out around it."""
    whole, _ = read(zoo(name))
    for wanted in ("1", "0.5", "5", "keyframes"):
        some, error = read(zoo(name), wanted)
        assert not error
        assert some
        if name in UNLISTED:  # numbered among all as well
            some = [frame for frame in some if frame in whole]
        assert [frame for frame in whole if frame in some] == some
        assert read(zoo(name), wanted, most=3) == (some, "")


@pytest.mark.parametrize("name", ZOO)
def test_only_videos_without_true_times_are_unlisted(name: str, zoo: Callable[[str], Path]) -> None:
    """The others have an index, by which several workers can read them."""
    path = zoo(name)
    index = index_of(str(path), kind_of(str(path)), MAX_PIXELS)
    assert index.listed == (name not in UNLISTED)
    assert not index.error


@pytest.mark.parametrize("name", sorted(ZOO))
def test_times_are_those_that_ffprobe_says(name: str, zoo: Callable[[str], Path]) -> None:
    """Every frame's, to the microsecond that ffprobe prints."""
    if name in COUNTED or name in ("drawing.webp", "two-streams.mp4", "layers.mp4"):
        pytest.skip("ffprobe says none, takes another stream, or cannot read it")
    entries = "frame=pts_time,best_effort_timestamp_time"
    command = [tool("ffprobe"), "-v", "quiet", "-select_streams", "V:0", "-show_entries", entries, "-of", "json"]
    said = json.loads(subprocess.run([*command, str(zoo(name))], capture_output=True, check=True).stdout)["frames"]
    frames, _ = read(zoo(name))
    assert len(said) == len(frames)
    for told, (_, _, pts_ms, _) in zip(said, frames, strict=True):
        seconds = told.get("pts_time", told.get("best_effort_timestamp_time"))
        if seconds is not None:  # the last frame of a stream may have none there
            assert float(seconds) * 1000 == pytest.approx(pts_ms, abs=0.0011)


@pytest.mark.parametrize("form", ["mp4", "mkv", "webm", "ts", "m2ts", "mpg", "flv", "avi", "ivf"])
def test_a_place_is_found_without_reading_up_to_it(form: str, tmp_path: Path) -> None:
    """A clip far into a long video costs no more than the first one: the file is not begun again."""
    codec = {"webm": "libvpx", "mpg": "mpeg2video", "avi": "mpeg4", "ivf": "libvpx"}.get(form, "libx264")
    path = encode(tmp_path / f"a.{form}", codec, count=200, options={"g": "10"})
    kind = kind_of(str(path))
    index = index_of(str(path), kind, MAX_PIXELS)
    with Source(str(path), kind, MAX_PIXELS) as source:
        container = source.container
        for start in sorted({frame.start for frame in index.frames})[::5]:
            packet = next(source.packets_from(start))
            assert packet.pts == start
            assert source.container is container


def test_counted_frames_are_even(zoo: Callable[[str], Path]) -> None:
    """Without times a frame is shown at its number over the rate, from 0."""
    for name in ("b-frames.h264", "hevc.hevc", "b-frames.avi", "packed.avi"):
        frames, _ = read(zoo(name))
        assert len(frames) == (39 if name == "packed.avi" else 40)
        assert [pts_ms for *_, pts_ms, _ in frames] == pytest.approx([40 * number for number in range(len(frames))])


def test_repeated_times_become_the_next_ones(tmp_path: Path) -> None:
    """Frames that a file shows at the same time are told apart by one unit."""
    path = encode(tmp_path / "a.mkv", times=[0, 10, 10, 20, 30], time_base=Fraction(1, 1000), options={"bf": "0"})
    with av.open(str(path)) as file:
        assert [frame.pts for frame in file.decode(video=0)] == [0, 10, 10, 20, 30]
    assert [pts for _, pts, *_ in read(path)[0]] == [0, 10, 11, 20, 30]


MATRICES: dict[str, tuple[tuple[int, int, int, int], Callable[[Any], Any]]] = {
    "as it is": ((1, 0, 0, 1), lambda pixels: pixels),
    "a quarter turn to the right": ((0, 1, -1, 0), lambda pixels: np.rot90(pixels, -1)),
    "half a turn": ((-1, 0, 0, -1), lambda pixels: np.rot90(pixels, 2)),
    "a quarter turn to the left": ((0, -1, 1, 0), lambda pixels: np.rot90(pixels)),
    "a mirror": ((-1, 0, 0, 1), lambda pixels: pixels[:, ::-1]),
    "upside down": ((1, 0, 0, -1), lambda pixels: pixels[::-1]),
    "a turn and a mirror": ((0, 1, 1, 0), lambda pixels: pixels.swapaxes(0, 1)),
    "nonsense": ((0, 0, 0, 0), lambda pixels: pixels),
}


@pytest.mark.parametrize("name", MATRICES)
def test_frames_are_turned_as_the_metadata_say(name: str, tmp_path: Path) -> None:
    """Quarter turns and mirrors, as FFmpeg's player shows them."""
    matrix, expected = MATRICES[name]
    path = encode(tmp_path / "a.mp4", count=3)
    before = next(read_frames(str(path), max_pixels=MAX_PIXELS)).rgb
    after = next(read_frames(str(turned(path, *matrix)), max_pixels=MAX_PIXELS)).rgb
    assert np.array_equal(after, expected(before))
    assert after.flags.c_contiguous


def test_a_turn_is_read_beside_what_pyav_does_not_know(tmp_path: Path) -> None:
    """Stills with EXIF carry it along, of which PyAV knows no name."""
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn to the right
    Image.fromarray(picture(0)).save(tmp_path / "a.jpg", exif=exif)
    path = tmp_path / "a.avi"
    with av.open(str(path), "w") as file:
        stream: Any = file.add_stream("mjpeg", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuvj420p"
        packet = av.Packet((tmp_path / "a.jpg").read_bytes())
        packet.stream, packet.pts, packet.dts, packet.time_base = stream, 0, 0, Fraction(1, 25)
        file.mux(packet)
    rgb = next(read_frames(str(path), max_pixels=MAX_PIXELS)).rgb
    still = np.asarray(Image.open(tmp_path / "a.jpg").convert("RGB"))
    assert np.abs(rgb.astype(int) - np.rot90(still, -1)).mean() < 3


@pytest.mark.parametrize("kind", ["gif", "webp"])
def test_drawings_lie_on_white(kind: str, zoo: Callable[[str], Path]) -> None:
    """Where nothing is drawn the page shows, also where a frame was taken away again."""
    for number, frame in enumerate(read_frames(str(zoo(f"drawing.{kind}")), max_pixels=MAX_PIXELS)):
        edge = 4 * number + 4
        assert (frame.rgb[:, :edge] == 255).all()
        assert np.abs(frame.rgb[:, edge:].astype(int) - picture(number)[:, edge:]).mean() < 12


def test_half_transparency_mixes_with_white(tmp_path: Path) -> None:
    """A video with an alpha channel too."""
    path = tmp_path / "a.mov"
    with av.open(str(path), "w") as file:
        stream: Any = file.add_stream("qtrle", rate=25)
        stream.width, stream.height, stream.pix_fmt = 16, 16, "argb"
        file.mux(stream.encode(av.VideoFrame.from_ndarray(np.full((16, 16, 4), (128, 100, 0, 200), np.uint8), "argb")))
        file.mux(stream.encode(None))
    rgb = next(read_frames(str(path), max_pixels=MAX_PIXELS)).rgb
    assert rgb[0, 0].tolist() == [177, 127, 227]  # 255 + (value - 255) * 128 / 255


COLOURS: dict[str, dict[str, Any]] = {
    "tagged HD": {"size": (1280, 720), "colorspace": 1, "color_range": 1, "color_primaries": 1, "color_trc": 1},
    "untagged HD": {"size": (1280, 720)},
    "untagged SD": {"size": (320, 240)},
    "full range": {"size": (320, 240), "pixels": "yuvj420p", "color_range": 2},
    "ten bit": {"size": (320, 240), "pixels": "yuv420p10le", "colorspace": 9, "color_range": 1},
}


@pytest.mark.parametrize("name", COLOURS)
def test_colours_are_those_that_ffmpeg_shows(name: str, tmp_path: Path) -> None:
    """By the video's own matrix and range."""
    path = encode(tmp_path / "a.mp4", count=2, options={"qp": "0", "preset": "ultrafast"}, **COLOURS[name])
    command = [tool("ffmpeg"), "-v", "error", "-i", str(path), "-frames:v", "1", "-f", "rawvideo", "-pix_fmt", "rgb24"]
    shown = np.frombuffer(subprocess.run([*command, "-"], capture_output=True, check=True).stdout, np.uint8)
    rgb = next(read_frames(str(path), max_pixels=MAX_PIXELS)).rgb
    assert np.abs(rgb.astype(int).ravel() - shown).mean() < 2
