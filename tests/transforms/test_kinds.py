"""What a file is, by its first bytes."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.videos import AV1, encode, picture
from transforms.kinds import VIDEOS, declared_bytes, sniff
from transforms.video import DEMUXERS, head_of

H264 = {"g": "10"}
FORMS = {
    "a.mp4": ("libx264", "mp4"),
    "a.mov": ("libx264", "mp4"),
    "a.3gp": ("libx264", "mp4"),
    "a.mkv": ("libx264", "matroska"),
    "a.webm": ("libvpx", "matroska"),
    "a.avi": ("mpeg4", "avi"),
    "a.flv": ("flv", "flv"),
    "a.wmv": ("wmv2", "asf"),
    "a.ts": ("libx264", "mpeg-ts"),
    "a.mpg": ("mpeg2video", "mpeg-ps"),
    "a.ivf": ("libvpx", "ivf"),
    "a.h264": ("libx264", "h264"),
    "a.hevc": ("libx265", "hevc"),
    "a.m2v": ("mpeg2video", "mpeg-video"),
    "a.m4v": ("mpeg4", "mpeg4-video"),
    "a.gif": ("gif", "gif"),
}


@pytest.mark.parametrize("name", FORMS)
def test_videos_are_told_by_their_content(name: str, tmp_path: Path) -> None:
    """Each kind has its demuxer."""
    codec, kind = FORMS[name]
    form = {"m4v": "m4v", "ts": "mpegts"}.get(name[2:])
    path = encode(tmp_path / name, codec, count=3, pixels="rgb8" if codec == "gif" else "yuv420p", form=form)
    path = path.rename(tmp_path / "a.jpg")
    assert sniff(head_of(str(path))) == kind
    assert kind in DEMUXERS
    assert kind in VIDEOS or kind == "gif"


def test_raw_av1_begins_with_a_delimiter() -> None:
    """And the head of a sequence behind it."""
    assert sniff(head_of(str(AV1))) == "obu"


def test_blu_ray_streams_have_longer_packets(tmp_path: Path) -> None:
    """Four bytes of time stand before each."""
    path = encode(tmp_path / "a.m2ts", form="mpegts", file_options={"mpegts_m2ts_mode": "1"})
    assert path.read_bytes()[4] == 0x47
    assert sniff(head_of(str(path))) == "mpeg-ts"


@pytest.mark.parametrize("unit", [b"\x67", b"\x27", b"\x09", b"\x06"])
@pytest.mark.parametrize("code", [b"\0\0\1", b"\0\0\0\1"])
def test_raw_h264_begins_with_any_of_its_units(unit: bytes, code: bytes) -> None:
    """Parameters, a delimiter, or a word from the encoder."""
    assert sniff(code + unit + bytes(100)) == "h264"


def test_every_kind_of_video_has_a_demuxer() -> None:
    """And there is no demuxer for a kind that is never told; WebP has a reader of its own."""
    assert set(DEMUXERS) == VIDEOS | {"gif"}


@given(st.binary(max_size=2000))
def test_no_bytes_are_too_odd(data: bytes) -> None:
    """Whatever they are, they have a kind."""
    assert sniff(data)
    assert (declared_bytes(data) or 0) >= 0


@given(st.sampled_from([b"\x1a\x45\xdf\xa3", b"RIFF", b"\0\0\0\x18ftyp", b"\0\0\1"]), st.binary(max_size=60))
def test_no_head_is_too_odd(head: bytes, data: bytes) -> None:
    """Nor is anything behind a known beginning."""
    assert sniff(head + data)
    assert (declared_bytes(head + data) or 0) >= 0


def test_files_that_say_their_length_say_the_truth(tmp_path: Path) -> None:
    """Up to a byte that makes it even."""
    Image.fromarray(picture(0)).save(
        tmp_path / "a.webp", save_all=True, append_images=[Image.fromarray(picture(number)) for number in range(1, 5)]
    )
    for path in (encode(tmp_path / "a.mkv"), encode(tmp_path / "a.avi", "mpeg4"), tmp_path / "a.webp"):
        assert declared_bytes(head_of(str(path))) == path.stat().st_size


def test_a_length_that_is_not_known_is_none(tmp_path: Path) -> None:
    """As of a stream that was recorded while it was made; most kinds never say one."""
    assert declared_bytes(head_of(str(encode(tmp_path / "a.mkv", file_options={"live": "1"})))) is None
    assert declared_bytes(head_of(str(encode(tmp_path / "a.mp4")))) is None
    assert declared_bytes(b"RIFF\xff\xff\xff\xffAVI ") is None
    assert declared_bytes(b"") is None
