"""Bytes to pixels: every format alike, every orientation upright, nothing but ItemError for the rest."""

import csv
import io
import random
import struct
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageChops

from schemas.errors import ItemError
from transforms.budget import ByteBudget
from transforms.jpeg_header import exif_orientation
from transforms.kinds import sniff
from transforms.pictures import decode, decoded_bytes, probe

Pixels = NDArray[np.uint8]


def scene(width: int = 96, height: int = 64) -> Pixels:
    """Return a smooth picture without symmetry, (height, width, 3) uint8 RGB: no turn or swap of colours keeps it."""
    y, x = np.mgrid[0:height, 0:width]
    red = 255 * x / width
    green = 255 * y / height
    blue = 40 + 150 * (((x - width / 4) ** 2 + (y - height / 3) ** 2) < (height / 5) ** 2)
    return np.stack([red, green, blue], axis=2).astype(np.uint8)


def encoded(image: Image.Image | Pixels, kind: str, **options: object) -> bytes:
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def exif(orientation: int, order: str = ">") -> bytes:
    mark = b"MM" if order == ">" else b"II"
    return b"Exif\0\0" + mark + struct.pack(f"{order}HIHHHIHHI", 42, 8, 1, 0x0112, 3, 1, orientation, 0, 0)


def refused(data: bytes, **options: int) -> ItemError:
    with pytest.raises(ItemError) as caught:
        decode(data, **options)
    return caught.value


def difference(a: Pixels, b: Pixels) -> float:
    """Return the mean absolute difference in gray levels."""
    return float(np.abs(a.astype(int) - b.astype(int)).mean())


# ------------------------------------------------------------------------------------------------------------ formats


@pytest.mark.parametrize(
    ("kind", "options", "tolerance"),
    [
        ("PNG", {}, 0),
        ("BMP", {}, 0),
        ("TIFF", {}, 0),
        ("TIFF", {"compression": "tiff_lzw"}, 0),
        ("TIFF", {"compression": "jpeg"}, 4),
        ("PPM", {}, 0),
        ("WEBP", {"lossless": True}, 0),
        ("WEBP", {"quality": 90}, 4),
        ("AVIF", {"quality": 90}, 4),
        ("JPEG2000", {}, 0),
        ("GIF", {}, 12),
        ("JPEG", {"quality": 95}, 3),
        ("JPEG", {"quality": 95, "progressive": True}, 3),
        ("JPEG", {"quality": 95, "subsampling": 0, "restart_marker_rows": 1}, 3),
    ],
)
def test_a_picture_of_any_format_comes_out_as_it_went_in(
    kind: str, options: dict[str, object], tolerance: float
) -> None:
    data = encoded(scene(), kind, **options)
    picture = decode(data)
    assert difference(picture.rgb, scene()) <= tolerance
    assert picture.rgb.shape == (64, 96, 3)
    assert picture.rgb.dtype == np.uint8
    assert picture.rgb.flags.c_contiguous
    assert picture.rgb.flags.writeable
    assert (picture.width, picture.height, picture.scale) == (96, 64, 1.0)
    header = probe(data)
    assert (header.width, header.height, header.orientation) == (96, 64, 1)
    assert header.format == sniff(data)


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_gray_png_of_any_depth_spans_black_to_white(depth: int) -> None:
    """Written by hand, because no encoder at hand writes 2 and 4 bits."""
    top = 2**depth - 1
    values = np.array([[0, top, top // 2, 0, top, 0, 0, top]] * 3)
    rows = b""
    for row in values:
        if depth == 16:
            rows += b"\0" + row.astype(">u2").tobytes()
        else:
            bits = "".join(f"{value:0{depth}b}" for value in row)
            rows += b"\0" + bytes(int(bits[i : i + 8], 2) for i in range(0, len(bits), 8))
    rgb = decode(png(8, 3, depth, 0, zlib.compress(rows))).rgb
    assert difference(rgb, np.repeat(np.rint(values * 255 / top)[:, :, None], 3, axis=2).astype(np.uint8)) <= 0.5


def png(width: int, height: int, depth: int, colour: int, pixels: bytes, *extra: tuple[bytes, bytes]) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    chunks = [(b"IHDR", header), *extra, (b"IDAT", pixels), (b"IEND", b"")]
    body = b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.mark.parametrize(
    "write",
    [
        lambda gray: cv2.imencode(".png", gray)[1].tobytes(),
        lambda gray: cv2.imencode(".tiff", gray)[1].tobytes(),
        lambda gray: b"P5 256 4 65535\n" + gray.astype(">u2").tobytes(),
        lambda gray: b"P2 256 4 65535\n" + b" ".join(b"%d" % value for value in gray.ravel()),
        lambda gray: b"P5 256 4 1023\n" + (gray >> 6).astype(">u2").tobytes(),  # scaled by its own maximum
        lambda gray: b"P5 256 4 15\n" + (gray >> 12).astype(np.uint8).tobytes(),
        lambda gray: encoded(Image.fromarray(gray), "JPEG2000"),
    ],
)
def test_16_bit_gray_is_scaled_by_its_range_not_clipped(write: Callable[[NDArray[np.uint16]], bytes]) -> None:
    gray = np.repeat(np.arange(256, dtype=np.uint16)[None] * 257, 4, axis=0)
    rgb = decode(write(gray)).rgb
    assert difference(rgb, np.repeat((gray >> 8).astype(np.uint8)[:, :, None], 3, axis=2)) < 6  # 4 bits are coarse
    assert (rgb.min(), rgb.max()) == (0, 255)


def test_16_bit_colour_is_scaled() -> None:
    wide = scene()[:, :, ::-1].astype(np.uint16) * 257
    assert difference(decode(cv2.imencode(".png", wide)[1].tobytes()).rgb, scene()) <= 1


def test_a_bitmap_is_black_and_white() -> None:
    bits = Image.fromarray(scene()).convert("1")
    for kind in ("PNG", "PPM", "TIFF", "BMP"):
        assert difference(decode(encoded(bits, kind)).rgb, np.array(bits.convert("RGB"))) == 0


def test_transparent_pictures_are_laid_on_white() -> None:
    """The same for alpha, gray with alpha, a palette with a transparent entry, and one transparent colour."""
    alpha = np.full((64, 96), 255, np.uint8)
    alpha[:, :48] = 0
    alpha[:, 48:60] = 128
    rgba = Image.fromarray(np.dstack([scene(), alpha]))
    expected = scene().copy()
    expected[:, :48] = 255
    expected[:, 48:60] = 255 - (255 - scene()[:, 48:60].astype(int)) * 128 // 255
    for kind, options in (("PNG", {}), ("WEBP", {"lossless": True, "exact": True}), ("TIFF", {})):
        assert difference(decode(encoded(rgba, kind, **options)).rgb, expected) < 1, kind
    gray = decode(encoded(rgba.convert("LA"), "PNG")).rgb
    assert (gray[:, :48] == 255).all()
    palette = Image.new("P", (4, 4), 1)
    palette.putpalette([10, 20, 30, 40, 50, 60])
    palette.putpixel((0, 0), 0)
    for kind in ("PNG", "GIF"):
        rgb = decode(encoded(palette, kind, transparency=0)).rgb
        assert rgb[0, 0].tolist() == [255, 255, 255]
        assert rgb[1, 1].tolist() == [40, 50, 60]
    solid = decode(encoded(Image.new("RGB", (4, 4), (1, 2, 3)), "PNG", transparency=(1, 2, 3))).rgb
    assert (solid == 255).all()


@pytest.mark.parametrize("adobe", [True, False])
def test_cmyk_is_read_with_and_without_adobes_inversion(adobe: bool) -> None:
    cmyk = Image.fromarray(scene()).convert("CMYK")
    assert difference(decode(encoded(cmyk, "TIFF")).rgb, scene()) < 2
    data = encoded(cmyk, "JPEG", quality=95)
    if not adobe:
        plain = encoded(ImageChops.invert(cmyk), "JPEG", quality=95)
        at = plain.index(b"\xff\xee")
        data = plain[:at] + plain[at + 2 + int.from_bytes(plain[at + 2 : at + 4], "big") :]
    assert probe(data).jpeg is not None
    assert difference(decode(data).rgb, scene()) < 4


def test_of_several_pictures_the_first_is_decoded() -> None:
    frames = [Image.fromarray(scene()), Image.new("RGB", (96, 64), (200, 0, 0))]
    for kind in ("GIF", "WEBP", "TIFF", "PNG", "AVIF", "MPO"):
        data = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
        assert difference(decode(data).rgb, scene()) < 13, kind


# -------------------------------------------------------------------------------------------------------- orientation

UPRIGHT: dict[int, Callable[[Pixels], Pixels]] = {
    # How a picture is stored so that the tag turns it upright: the inverse of what the tag asks for.
    1: lambda p: p,
    2: lambda p: p[:, ::-1],
    3: lambda p: p[::-1, ::-1],
    4: lambda p: p[::-1],
    5: lambda p: p.transpose(1, 0, 2),
    6: lambda p: np.rot90(p, 1),
    7: lambda p: np.rot90(p.transpose(1, 0, 2), 2),
    8: lambda p: np.rot90(p, -1),
}


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(("kind", "tolerance"), [("JPEG", 3), ("PNG", 0), ("WEBP", 0), ("TIFF", 0), ("AVIF", 4)])
@pytest.mark.parametrize("order", [">", "<"])
def test_every_orientation_is_turned_upright_once(kind: str, tolerance: float, orientation: int, order: str) -> None:
    stored = np.ascontiguousarray(UPRIGHT[orientation](scene()))
    options: dict[str, object] = {"exif": exif(orientation, order)}
    if kind == "TIFF":
        options = {"tiffinfo": {274: orientation}}
    if kind == "WEBP":
        options["lossless"] = True
    if kind == "JPEG":
        options["quality"] = 95
    data = encoded(stored, kind, **options)
    picture = decode(data)
    assert picture.rgb.shape == (64, 96, 3)
    assert difference(picture.rgb, scene()) <= tolerance
    assert (picture.width, picture.height) == (probe(data).width, probe(data).height) == (96, 64)
    assert picture.rgb.flags.c_contiguous


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_places_survive_reduction_and_turn(orientation: int) -> None:
    """Sizes are multiples of 8, so the reduced picture is the mean of the full one, whichever way it lies."""
    full = scene(960, 640)
    data = encoded(np.ascontiguousarray(UPRIGHT[orientation](full)), "JPEG", quality=95, exif=exif(orientation))
    picture = decode(data, reduce_to=200)
    assert picture.scale == 0.25
    assert picture.rgb.shape == (160, 240, 3)
    assert difference(picture.rgb, full.reshape(160, 4, 240, 4, 3).mean((1, 3)).astype(np.uint8)) < 3


@given(st.binary(max_size=200))
def test_exif_of_any_bytes_never_raises(data: bytes) -> None:
    for block in (data, b"II*\0\x08\0\0\0" + data, b"MM\0*\0\0\0\x08" + data):
        assert exif_orientation(block) in (None, *range(1, 9))


def test_broken_exif_does_not_fail_a_picture() -> None:
    for block in (
        b"Exif\0\0",
        b"Exif\0\0MM\0*\xff\xff\xff\xff",
        exif(9),
        exif(0),
        exif(6)[:-12],
        b"Exif\0\0" + b"\xff" * 99,
    ):
        for kind in ("JPEG", "PNG", "WEBP"):
            assert decode(encoded(scene(), kind, exif=block)).rgb.shape == (64, 96, 3), (kind, block)


# ---------------------------------------------------------------------------------------------------------- reduction


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize(
    ("reduce_to", "scale"),
    [(None, 1.0), (1001, 1.0), (501, 1.0), (500, 0.5), (250, 0.25), (251, 0.5), (125, 0.125), (1, 0.125), (0, 0.125)],
)
def test_the_long_side_keeps_what_is_asked_for(kind: str, reduce_to: int | None, scale: float) -> None:
    data = encoded(scene(1000, 523), kind)
    picture = decode(data, reduce_to=reduce_to)
    assert (picture.width, picture.height, picture.scale) == (1000, 523, scale)
    assert picture.rgb.shape == (-(-523 * scale // 1), -(-1000 * scale // 1), 3)
    assert decoded_bytes(probe(data), reduce_to) >= picture.rgb.nbytes


# ------------------------------------------------------------------------------------------------- refused, with names


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"", "empty"),
        (b"\0", "not_a_picture"),
        (b"hello, this is text\n", "not_a_picture"),
        ("grüße".encode(), "not_a_picture"),
        (bytes(1000), "not_a_picture"),
        (b"ID3\x03" + bytes(40) + encoded(scene(), "JPEG"), "not_a_picture"),  # a song with a cover
        (b"<?xml version='1.0'?><svg xmlns='http://www.w3.org/2000/svg'/>", "unsupported"),
        (b"8BPS\0\x01" + bytes(40), "unsupported"),
        (encoded(scene(16, 16), "ICO"), "unsupported"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(40), "unsupported"),
        (b"\0\0\0\x18ftypmp42\0\0\0\0isommp42" + bytes(40), "video"),
        (b"\x1a\x45\xdf\xa3" + bytes(40), "video"),
        (b"RIFF\0\0\0\0AVI LIST" + bytes(40), "video"),
        ((b"G" + bytes(187)) * 3, "video"),
        (b"\0\0\x01\xba" + bytes(40), "video"),
        (b"\0\0\0\x01\x67\x42" + bytes(40), "video"),
        (b"FLV\x01" + bytes(40), "video"),
        (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11" + bytes(40), "video"),
        (b"\x89PNG\r\n\x1a\n", "corrupt"),
        (b"\xff\xd8\xff", "truncated"),
        (b"\xff\xd8" + b"\xff\x00" * 50_000, "corrupt"),
        (b"RIFF\xff\xff\xff\xffWEBPJUNK" + bytes(40), "corrupt"),
    ],
)
def test_what_is_no_picture_is_named(data: bytes, error: str) -> None:
    assert refused(data).error == error
    with pytest.raises(ItemError):
        probe(data)


def test_numbers_of_unknown_range_are_not_guessed_at() -> None:
    assert refused(encoded(Image.fromarray(np.ones((4, 4), np.float32)), "TIFF")).error == "unsupported"


def test_content_counts_not_the_text_around_it() -> None:
    """A JPEG after a stray line end is one; `sniff` sees no file names at all."""
    assert difference(decode(b"\r\n" + encoded(scene(), "JPEG", quality=95)).rgb, scene()) < 3


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF", "JPEG2000"])
def test_too_many_pixels_are_refused_before_they_are_made(kind: str) -> None:
    data = encoded(scene(100, 100), kind)
    assert decode(data, max_pixels=10_000).width == 100
    error = refused(data, max_pixels=9_999)
    assert error.error == "too_large"
    assert "--max-pixels" in str(error)
    with pytest.raises(ItemError):
        probe(data, max_pixels=9_999)


def test_a_limit_above_pillows_own_is_honoured() -> None:
    data = encoded(Image.new("1", (20_000, 10_000)), "PNG")
    assert refused(data).error == "too_large"
    assert probe(data, max_pixels=200_000_000).width == 20_000


# --------------------------------------------------------------------------------------------------------- truncation

WHOLE = {
    "jpeg": encoded(scene(320, 240), "JPEG"),
    "progressive": encoded(scene(320, 240), "JPEG", progressive=True),
    "restarts": encoded(scene(320, 240), "JPEG", restart_marker_rows=1),
    "gray jpeg": encoded(Image.fromarray(scene(320, 240)).convert("L"), "JPEG"),
    "cmyk jpeg": encoded(Image.fromarray(scene(320, 240)).convert("CMYK"), "JPEG"),
    "thumbnail": encoded(scene(320, 240), "JPEG", exif=exif(1) + encoded(scene(32, 32), "JPEG")),
    "png": encoded(scene(320, 240), "PNG"),
}
OTHERS = {kind: encoded(scene(320, 240), kind) for kind in ("WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF", "JPEG2000")}


@settings(deadline=None, max_examples=300)
@given(st.sampled_from(sorted(WHOLE)), st.floats(0, 1), st.binary(max_size=3), st.integers(0, 5000))
def test_a_cut_jpeg_or_png_is_never_half_a_picture(name: str, part: float, junk: bytes, zeros: int) -> None:
    """Wherever it is cut, and whatever follows (a reserved file is full of zeros), it fails or is all there."""
    whole = WHOLE[name]
    data = whole[: int(part * len(whole))] + bytes(zeros) + (junk if name == "jpeg" and not zeros else b"")
    try:
        picture = decode(data)
    except ItemError as error:
        assert error.error in ("truncated", "corrupt", "empty", "not_a_picture", "unsupported")
    else:
        assert part > 0.95
        assert difference(picture.rgb, decode(whole).rgb) < 0.05


@settings(deadline=None, max_examples=300)
@given(st.sampled_from(sorted(OTHERS)), st.floats(0, 1))
def test_a_cut_picture_of_any_format_raises_nothing_else(name: str, part: float) -> None:
    try:
        decode(OTHERS[name][: int(part * len(OTHERS[name]))])
    except ItemError as error:
        assert "\n" not in str(error)


@settings(deadline=None, max_examples=300)
@given(st.sampled_from(sorted(WHOLE | OTHERS)), st.randoms(use_true_random=False), st.integers(1, 20))
def test_a_damaged_picture_raises_nothing_else(name: str, chance: random.Random, count: int) -> None:
    data = bytearray((WHOLE | OTHERS)[name])
    for _ in range(count):
        data[chance.randrange(chance.choice((len(data), 200)))] = chance.choice((0, 255, chance.randrange(256)))
    try:
        decode(bytes(data), max_pixels=1_000_000)
    except ItemError as error:
        assert "\n" not in str(error)


@pytest.mark.parametrize("part", [0.3, 0.6, 0.9])
def test_a_jpeg_that_was_cut_and_closed_again_is_truncated(part: float) -> None:
    """Some tools put an end marker behind what they have; the decoder would fill the rest with gray."""
    whole = encoded(scene(320, 240), "JPEG")
    assert refused(whole[: int(part * len(whole))].rstrip(b"\xff") + b"\xff\xd9").error == "truncated"


def test_a_jpeg_that_ends_in_middle_gray_is_not_taken_for_a_cut_one() -> None:
    gray = scene(320, 240)
    gray[-40:] = 128
    for options in ({}, {"progressive": True}, {"restart_marker_rows": 1}):
        assert decode(encoded(gray, "JPEG", **options)).rgb[-1, -1].tolist() == [128, 128, 128]


@pytest.mark.parametrize("tail", [b"", bytes(1000), b"\xff"])
def test_a_whole_jpeg_without_its_end_is_a_picture(tail: bytes) -> None:
    whole = encoded(scene(320, 240), "JPEG")
    assert np.array_equal(decode(whole[:-2] + tail).rgb, decode(whole).rgb)


@pytest.mark.parametrize("tail", [b"\n", bytes(1000), b"trailer" * 99, WHOLE["jpeg"], WHOLE["jpeg"][:3000]])
def test_what_follows_a_jpeg_does_not_matter(tail: bytes) -> None:
    whole = encoded(scene(320, 240), "JPEG")
    assert np.array_equal(decode(whole + tail).rgb, decode(whole).rgb)


# -------------------------------------------------------------------------------------------------------------- budget


def test_a_budget_is_never_exceeded_and_everyone_is_served() -> None:
    budget = ByteBudget(100)
    held = 0
    peak = 0
    lock = threading.Lock()

    def work(seed: int) -> None:
        nonlocal held, peak
        chance = random.Random(seed)
        for _ in range(100):
            n = chance.choice((0, 1, 30, 60, 100, 1000))
            budget.acquire(n)
            with lock:
                held += min(n, 100)
                peak = max(peak, held)
            with lock:
                held -= min(n, 100)
            budget.release(n)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    assert peak <= 100
    assert budget.try_acquire(100)


def test_a_large_request_is_not_starved_by_small_ones() -> None:
    budget = ByteBudget(100)
    budget.acquire(60)
    large = threading.Thread(target=budget.acquire, args=(500,))
    large.start()
    while budget.try_acquire(1):  # until the large one stands in line
        budget.release(1)
        time.sleep(0.001)
    assert not budget.try_acquire(1)
    budget.release(60)
    large.join(10)
    assert not large.is_alive()
    budget.release(500)
    assert budget.try_acquire(100)


def test_a_budget_notices_wrong_use() -> None:
    with pytest.raises(ValueError, match="positive"):
        ByteBudget(0)
    with pytest.raises(ValueError, match="more bytes"):
        ByteBudget(10).release(1)


# ------------------------------------------------------------------------------------------------------ real pictures

FAILS_AS = {
    # Everything in broken/ that is not "decodable", by the name it fails with.
    "image/imagededup__ukbench09268_corrupt.jpg": "not_a_picture",
    "image/pillow__broken.png": "corrupt",
    "image/pillow__broken_data_stream.png": "corrupt",
    "image/pillow__crash-1152ec2d1a1a71395b6f2ce6721c38924d025bf3.tif": "corrupt",
    "image/pillow__crash-2020-10-test.tif": "corrupt",
    "image/pillow__decompression_bomb.gif": "too_large",
    "image/pillow__decompression_bomb.ico": "unsupported",
    "image/pillow__hopper_unknown_pixel_mode.tif": "corrupt",
    "image/pillow__invalid.spider": "not_a_picture",
    "image/pillow__oom-225817ca0f8c663be7ab4b9e717b02c661e66834.tif": "corrupt",
    "image/pillow__png_decompression_dos.png": "corrupt",
    # All its pixels are there, but a PNG that ends within a chunk is a broken copy: strict readers fail it too.
    "image/pillow__truncated_end_chunk.png": "truncated",
    "image/pillow__truncated_image.png": "truncated",
    "image/pillow__truncated_jpeg.jpg": "truncated",
    "image/pillow__ultrahdr.jpg": "truncated",  # two bytes of picture data follow its header
    "image/pillow__zero_height.j2k": "corrupt",
    "image/pillow__zero_width.gif": "corrupt",
    "image/sharp__65536-uint32-limit.png": "too_large",
    "image/sharp__corrupt-header.jpg": "truncated",
    "image/sharp__giant-image.jpg": "too_large",
    "image/sharp__truncated.jpg": "truncated",
    "image/sharp__truncated.png": "truncated",
    "video/decord__corrupted.mp4": "video",
    "video/moviepy__result.webm": "empty",
}


def test_every_damaged_file_ends_as_expected(shared: Path) -> None:
    broken = shared / "data" / "broken"
    outcomes = {}
    for path in sorted(path for path in broken.rglob("*") if path.is_file()):
        try:
            decode(path.read_bytes())
        except ItemError as error:
            outcomes[path.relative_to(broken).as_posix()] = error.error
    assert outcomes == FAILS_AS


def test_damaged_files_take_little_memory(shared: Path) -> None:
    """All of broken/ in a process of its own, under a limit on its address space."""
    if not Path("/proc/self/status").exists():
        pytest.skip("peak memory is read from /proc")
    code = """
import resource, sys
from pathlib import Path
from schemas.errors import ItemError
from transforms.pictures import decode
resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))
files = [path.read_bytes() for path in Path(sys.argv[1]).rglob("*") if path.is_file()]
def peak():  # of this program alone: ru_maxrss would begin with the parent's
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) // 1024
before = peak()
for data in files:
    try:
        decode(data)
    except ItemError:
        pass
print(peak() - before)
"""
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-c", code, str(shared / "data" / "broken")]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 300


def test_every_video_is_called_one(shared: Path) -> None:
    for path in (shared / "data" / "videos").iterdir():
        assert refused(path.read_bytes()).error == "video", path.name


def test_the_manifests_pictures_have_the_size_it_says(shared: Path) -> None:
    """Format and stored size as another tool saw them; what `ok` says must decode."""
    data = shared / "data"
    with (data / "manifest.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["path"].startswith("images/")]
    assert len(rows) > 120
    for row in rows:
        content = (data / row["path"]).read_bytes()
        name, _, size = row["probe"].split(" ")[:3]
        width, height = (int(part) for part in size.split("x"))
        picture = decode(content)
        # The manifest gives some sizes before and some after the turn.
        assert sorted((picture.width, picture.height)) == sorted((width, height)), row["path"]
        assert picture.rgb.shape == (picture.height, picture.width, 3)
        assert {"mpo": "jpeg", "ppm": "pnm"}.get(name.lower(), name.lower()) == sniff(content), row["path"]


def test_one_face_in_all_formats_looks_alike(shared: Path) -> None:
    formats = shared / "data" / "images" / "formats"
    expected = decode((formats / "pillow__hopper.png").read_bytes()).rgb
    different = {"pillow__hopper_45.png", "pillow__hopper_bw_500.png"}  # turned by 45 degrees; black and white
    gray = {"pillow__hopper_16bit.pgm", "pillow__hopper_gray.jpg"}
    for path in sorted(formats.glob("pillow__hopper*")):
        if path.name in different:
            continue
        rgb = cv2.resize(decode(path.read_bytes()).rgb, (128, 128), interpolation=cv2.INTER_AREA)
        target = np.repeat(expected.mean(2, keepdims=True), 3, 2).astype(np.uint8) if path.name in gray else expected
        assert difference(rgb, target) < 15, path.name


def test_the_eight_turned_copies_of_a_scene_look_alike(shared: Path) -> None:
    folder = shared / "data" / "images" / "exif_noface"
    for shape in ("Landscape", "Portrait"):
        paths = sorted(folder.glob(f"sharp__{shape}_*.jpg"))
        last = decode(paths[-1].read_bytes()).rgb
        for path in paths:
            # Copies differ by 2 to 5, the first one, which is brighter, by 14 to 17, and a wrong turn by 49 or more.
            assert difference(decode(path.read_bytes()).rgb, last) < 25, path.name


def test_cmyk_and_rgb_twins_look_alike(shared: Path) -> None:
    folder = shared / "data" / "images" / "noface"
    rgb = decode((folder / "pillow__pil_sample_rgb.jpg").read_bytes()).rgb
    cmyk = decode((folder / "pillow__pil_sample_cmyk.jpg").read_bytes()).rgb
    assert difference(rgb, cmyk) < 30  # no colour profile is applied
