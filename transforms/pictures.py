"""From a file's bytes to pixels: told apart by content, checked before memory is taken, refused when in doubt.

JPEG, the common case, is decoded by OpenCV after a walk over its markers in Python; everything else by Pillow, which
reads more formats, raises where OpenCV returns half a picture, and prints nothing. Whatever the bytes, the only
exception is `ItemError`, with one of the names "empty", "not_a_picture", "video", "too_large", "truncated", "corrupt",
"unsupported".
"""

import contextlib
import io
import logging
import re
import warnings
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, UnidentifiedImageError

from schemas.errors import ItemError
from transforms.jpeg_header import PROGRESSIVE, SEQUENTIAL, JpegHeader, exif_orientation, jpeg_header
from transforms.kinds import JPEG_START, VIDEOS, sniff

MAX_PIXELS = 64_000_000
"""Default limit on a picture's pixels: 192 MB as RGB."""


_PILLOW_FORMATS = {
    "avif": "AVIF",
    "bmp": "BMP",
    "gif": "GIF",
    "jp2": "JPEG2000",
    "jpeg": "JPEG",
    "png": "PNG",
    "pnm": "PPM",
    "tiff": "TIFF",
    "webp": "WEBP",
}

# Peak memory of Pillow's way from bytes to an RGB array, in bytes a pixel, measured on 15 megapixels: the decoder's
# own canvases, the image, its conversion, its export, and the array.
_PILLOW_BYTES_PX = 14
_PILLOW_BYTES_PX_OF = {"avif": 16, "jp2": 22, "webp": 20}

# Both libraries report what they tolerate (bad EXIF, odd metadata) on stderr, a line or two a picture.
warnings.filterwarnings("ignore", module=r"PIL\.")
logging.getLogger("PIL").setLevel(logging.CRITICAL)
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)  # the limit here is `max_pixels`
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)


@dataclass(frozen=True, slots=True)
class Header:
    """What a picture says of itself before any pixel is made.

    `format` is what `sniff` says. `width` and `height` are in pixels after EXIF orientation. `orientation` (1..8, EXIF)
    is what decoding will apply. `frames` is 1 for a still picture and None where counting them would mean reading on.
    `jpeg` holds what only a JPEG has.
    """

    format: str
    width: int
    height: int
    orientation: int
    frames: int | None
    jpeg: JpegHeader | None


@dataclass(frozen=True, slots=True)
class Picture:
    """A decoded picture.

    `rgb` (h, w, 3) uint8, C-contiguous, EXIF orientation applied. `width` and `height` are the full size in pixels,
    also after orientation. `scale` is pixels of `rgb` per full pixel: 1.0, 0.5, 0.25 or 0.125; h is
    height * scale, rounded up.
    """

    rgb: NDArray[np.uint8]
    width: int
    height: int
    scale: float


def probe(data: bytes, *, max_pixels: int = MAX_PIXELS) -> Header:
    """Return the picture's header; no pixels are made. Raises ItemError, "too_large" above `max_pixels`."""
    kind = _picture_kind(data)
    if kind == "jpeg":
        jpeg = jpeg_header(data)
        _check_pixels(jpeg.width, jpeg.height, max_pixels)
        return _header(kind, jpeg.width, jpeg.height, jpeg.orientation, 1, jpeg)
    with _library(kind):
        image = _open(data, kind, max_pixels)
        frames = 1 if kind in ("bmp", "pnm", "jp2") else None
        return _header(kind, image.width, image.height, _orientation(image, kind), frames, None)


def decode(
    data: bytes, *, max_pixels: int = MAX_PIXELS, reduce_to: int | None = None, header: Header | None = None
) -> Picture:
    """Return the picture in `data`: the first one where there are several (an animation, a TIFF's pages).

    With `reduce_to`, the caller needs a long side of that many pixels only: the picture is reduced by 2, 4 or 8 as far
    as it keeps that. Where the size is no multiple, a last column or row stands for fewer pixels; after a turn it may
    be the first one, so places are exact to one pixel of `rgb`. Transparent pictures are laid on white, because
    drawings and cut-outs are made for a page. 16-bit values are scaled by their range. Colour profiles are not applied.
    `header` saves reading it again.

    Raises ItemError. A picture of which a part is missing is "truncated", never half a picture: a label on what is
    left of a face would look like any other.
    """
    if header is None:
        header = probe(data, max_pixels=max_pixels)
    else:
        _check_pixels(header.width, header.height, max_pixels)
    factor = _factor(header, reduce_to)
    if header.jpeg is not None:
        rgb = _decode_jpeg(data, header.jpeg, factor, max_pixels)
    else:
        if header.format == "png":
            _check_png(data)
        with _library(header.format):
            rgb = _shrunk(_pixels(_open(data, header.format, max_pixels)), factor)
    return Picture(_oriented(rgb, header.orientation), header.width, header.height, 1 / factor)


def decoded_bytes(header: Header, reduce_to: int | None) -> int:
    """Return about how many bytes `decode` takes at its peak, the result included, for a budget of memory."""
    factor = _factor(header, reduce_to)
    pixels = header.width * header.height
    kept = 3 * (-(-header.width // factor)) * (-(-header.height // factor))
    if header.jpeg is not None and _for_opencv(header.jpeg):
        # A progressive JPEG keeps all its coefficients, two bytes each, until the last scan; OpenCV copies the result,
        # or turning it does.
        coefficients = 2 * header.jpeg.components * pixels if header.jpeg.frame == PROGRESSIVE else 0
        return max(coefficients + kept, 2 * kept)
    return pixels * _PILLOW_BYTES_PX_OF.get(header.format, _PILLOW_BYTES_PX)


_UNSUPPORTED = {
    "heif": "HEIF/HEIC",
    "ico": "icons",
    "jxl": "JPEG XL",
    "pdf": "PDF",
    "psd": "Photoshop files",
    "svg": "SVG drawings",
}


def _picture_kind(data: bytes) -> str:
    """Return the kind of a picture that can be decoded; raise ItemError for everything else."""
    if not data:
        raise ItemError("empty", "The file has 0 bytes.")
    kind = sniff(data)
    if kind in _PILLOW_FORMATS:
        return kind
    if kind in VIDEOS:
        raise ItemError("video", f"This is a video ({kind}), not a picture: run again with --retry-failed.")
    if kind in _UNSUPPORTED:
        raise ItemError("unsupported", f"{_UNSUPPORTED[kind]} cannot be read: convert to JPEG or PNG.")
    what = "a text" if kind == "text" else f"it begins with {data[:8].hex(' ')}"
    raise ItemError("not_a_picture", f"The content is no picture of a known kind: {what}.")


# ------------------------------------------------------------------------------------------------------------- JPEG

_EOI = b"\xff\xd9"
_SCAN_END = re.compile(rb"\xff+[^\xff\x00\xd0-\xd7]")  # any marker but a restart
_OPENCV_FLAGS = {
    factor: flag | cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
    # The reduced flags contain IMREAD_COLOR_BGR, which excludes RGB.
    for factor, flag in (
        (1, 0),
        (2, cv2.IMREAD_REDUCED_COLOR_2 & ~cv2.IMREAD_COLOR_BGR),
        (4, cv2.IMREAD_REDUCED_COLOR_4 & ~cv2.IMREAD_COLOR_BGR),
        (8, cv2.IMREAD_REDUCED_COLOR_8 & ~cv2.IMREAD_COLOR_BGR),
    )
}


def _for_opencv(jpeg: JpegHeader) -> bool:
    """Say whether OpenCV is right: it converts CMYK roughly, and prints a line for each byte out of place."""
    return jpeg.regular and jpeg.components in (1, 3)


def _decode_jpeg(data: bytes, jpeg: JpegHeader, factor: int, max_pixels: int) -> NDArray[np.uint8]:
    """Return the stored picture, before orientation, reduced by `factor`: (h, w, 3) uint8 RGB."""
    # A file's last two bytes are usually the end marker. If not, the picture may still be whole: a phone's second
    # picture, a camera's padding, or an encoder that writes no end.
    ended = data.endswith(_EOI) or data.find(_EOI, jpeg.scan) >= 0
    if not ended:
        data = _with_end(data, jpeg, max_pixels)
    if _for_opencv(jpeg):
        rgb = _opencv(data, factor)
        if rgb is not None:
            # libjpeg fills what is missing with middle gray and goes on.
            if ended and bool((rgb[-8:, -8:] == 128).all()) and not _is_whole(data, jpeg, max_pixels):
                raise _cut_short("JPEG")
            return rgb
    with _library("jpeg"):  # what OpenCV refuses Pillow may read, or say why not
        image = _open(data[data.find(JPEG_START) :], "jpeg", max_pixels)
        if image.mode == "CMYK" and not jpeg.adobe:
            # Pillow takes every CMYK JPEG for Adobe's, whose values are inverted.
            image.load()
            rgb = _pixels(ImageChops.invert(image))
        else:
            rgb = _pixels(image)
        return _shrunk(rgb, factor)


def _opencv(data: bytes, factor: int) -> NDArray[np.uint8] | None:
    try:
        rgb: NDArray[np.uint8] | None = cv2.imdecode(np.frombuffer(data, np.uint8), _OPENCV_FLAGS[factor])
    except cv2.error:
        return None
    return rgb


def _with_end(data: bytes, jpeg: JpegHeader, max_pixels: int) -> bytes:
    """Return a JPEG without end marker with one, if its pixels are all there; raise ItemError if not.

    Restart intervals and several scans would need more proof than they are worth.
    """
    # Some downloads reserve the whole file first and leave zeros; they would pass for picture data.
    data = data.rstrip(b"\0\xff")
    if jpeg.frame not in SEQUENTIAL or jpeg.scanned != jpeg.components or jpeg.restarts:
        raise _cut_short("JPEG")
    data += _EOI
    if not _is_whole(data, jpeg, max_pixels):
        raise _cut_short("JPEG")
    return data


def _is_whole(data: bytes, jpeg: JpegHeader, max_pixels: int) -> bool:
    """Say whether a sequential JPEG's scan holds all its pixels, by adding bytes at its end.

    After a whole picture, a decoder skips them as garbage; where picture data is missing it takes them for it, and the
    pixels change.
    """
    if jpeg.restarts or jpeg.frame not in SEQUENTIAL:
        return True  # garbage before a restart is skipped also where data is missing: no proof either way
    # A damaged byte can look like a marker in the middle of the scan, and decoders stop at any.
    marker = _SCAN_END.search(data, jpeg.scan + 2)
    end = marker.start() if marker else len(data)
    padding = bytes(i * 89 % 251 for i in range(4096))
    with _library("jpeg"):
        as_is = np.asarray(_open(data, "jpeg", max_pixels))
        padded = np.asarray(_open(data[:end] + padding + _EOI, "jpeg", max_pixels))
    return np.array_equal(as_is, padded)


# ------------------------------------------------------------------------------------------------ all other formats


def _open(data: bytes, kind: str, max_pixels: int) -> Image.Image:
    """Return Pillow's lazy image of a known kind, its size checked, no pixels made. Call within `_library`."""
    if kind in ("gif", "png", "webp"):
        # Pillow makes two canvases of the announced size when it opens a WebP; its own text on size names no option.
        _check_pixels(*_announced_size(data, kind), max_pixels)
    if Image.MAX_IMAGE_PIXELS is not None and max_pixels > Image.MAX_IMAGE_PIXELS:
        Image.MAX_IMAGE_PIXELS = max_pixels  # only ever raised, at the user's wish
    image = Image.open(io.BytesIO(data), formats=[_PILLOW_FORMATS[kind]])
    _check_pixels(image.width, image.height, max_pixels)
    return image


def _announced_size(data: bytes, kind: str) -> tuple[int, int]:
    """Return the width and height at the start of a GIF, PNG or WebP, in pixels."""
    chunk = data[12:16]
    if kind == "gif":
        return int.from_bytes(data[6:8], "little"), int.from_bytes(data[8:10], "little")
    if kind == "png":
        if chunk != b"IHDR":
            raise ItemError("corrupt", "PNG: it does not begin with its header.")
        return int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
    if chunk == b"VP8X":
        return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
    if chunk == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if chunk == b"VP8 ":
        return int.from_bytes(data[26:28], "little") & 0x3FFF, int.from_bytes(data[28:30], "little") & 0x3FFF
    raise ItemError("corrupt", "WEBP: the first chunk is none of VP8, VP8L, VP8X.")


def _check_png(data: bytes) -> None:
    """Raise ItemError unless a PNG's chunks are whole up to its end.

    Pillow ignores the pixels' checksums: what follows a cut, often zeros, would be read as pixels. A PNG that lacks its
    end is refused as well: every encoder writes one, so it is a broken copy. Costs 1 % of decoding.
    """
    position = 8
    while position + 12 <= len(data):
        name = data[position + 4 : position + 8]
        end = position + 12 + int.from_bytes(data[position : position + 4], "big")
        if name == b"IEND":
            return
        if end > len(data):
            break
        if name in (b"IHDR", b"PLTE", b"IDAT"):
            checksum = zlib.crc32(memoryview(data)[position + 4 : end - 4])
            if checksum != int.from_bytes(data[end - 4 : end], "big"):
                raise ItemError("corrupt", f"PNG: the checksum of a {name.decode()} chunk is wrong.")
        position = end
    raise _cut_short("PNG")


def _orientation(image: Image.Image, kind: str) -> int:
    """Return the orientation that is still to be applied. Call within `_library`; never fails a picture."""
    if kind == "tiff":
        return 1  # Pillow turns TIFFs itself
    if kind == "avif":
        # Pillow reports AVIF's own turn and mirror here, and these count, whatever the EXIF block says.
        with contextlib.suppress(Exception):
            value = image.getexif().get(0x0112, 1)
            return value if value in range(1, 9) else 1
        return 1
    exif = image.info.get("exif")
    if isinstance(exif, str):
        exif = None
    if not exif and kind == "png":
        exif = _raw_profile(image.info.get("Raw profile type exif"))
    if not isinstance(exif, bytes):
        return 1
    return exif_orientation(exif.removeprefix(b"Exif\0\0")) or 1


def _raw_profile(text: object) -> bytes:
    """Return the EXIF block that ImageMagick writes into a PNG as text: name, length, hex digits, by lines."""
    if not isinstance(text, str):
        return b""
    try:
        return bytes.fromhex("".join(text.split("\n")[3:]))
    except ValueError:
        return b""


def _pixels(image: Image.Image) -> NDArray[np.uint8]:
    """Return an image's pixels as stored: (h, w, 3) uint8 RGB. Call within `_library`."""
    image.load()
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM"):
        # Pillow would clip at 255. It scales a PGM's own maximum to 65535.
        gray = np.asarray(image).clip(0, 65535).astype(np.float32) * np.float32(255 / 65535)
        return np.repeat(np.rint(gray).astype(np.uint8)[:, :, None], 3, axis=2)
    if image.mode in ("I", "F"):
        raise ItemError("unsupported", "Pixels are 32-bit numbers of unknown range: convert to 8 or 16 bits.")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        image = Image.new("RGB", rgba.size, (255, 255, 255))
        image.paste(rgba, mask=rgba.getchannel("A"))
    elif image.mode != "RGB":
        image = image.convert("RGB")
    return np.array(image)


# ------------------------------------------------------------------------------------------------------------ common


def _header(
    kind: str, width: int, height: int, orientation: int, frames: int | None, jpeg: JpegHeader | None
) -> Header:
    if orientation >= 5:
        width, height = height, width
    return Header(kind, width, height, orientation, frames, jpeg)


def _check_pixels(width: int, height: int, max_pixels: int) -> None:
    if width <= 0 or height <= 0:
        raise ItemError("corrupt", f"The header says {width} x {height} pixels.")
    if width * height > max_pixels:
        raise ItemError(
            "too_large",
            f"{width} x {height} are {width * height / 1e6:,.1f} million pixels, the limit is {max_pixels / 1e6:,.1f} "
            "million. Raise it with --max-pixels.",
        )


def _factor(header: Header, reduce_to: int | None) -> int:
    """Return 1, 2, 4 or 8: by how much the picture can be reduced while its long side keeps `reduce_to` pixels."""
    if reduce_to is None:
        return 1
    side = max(header.width, header.height)
    return next((factor for factor in (8, 4, 2) if side // factor >= max(reduce_to, 1)), 1)


def _shrunk(rgb: NDArray[np.uint8], factor: int) -> NDArray[np.uint8]:
    """Return means over squares of `factor` pixels; the last ones, if cut, repeat their edge, as libjpeg does."""
    if factor == 1:
        return rgb
    height, width = rgb.shape[:2]
    bottom, right = -height % factor, -width % factor
    if bottom or right:
        rgb = cv2.copyMakeBorder(rgb, 0, bottom, 0, right, cv2.BORDER_REPLICATE)
    size = (rgb.shape[1] // factor, rgb.shape[0] // factor)
    small: NDArray[np.uint8] = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)
    return small


def _oriented(rgb: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Return the picture as it is meant to be seen, for an EXIF orientation of 1..8."""
    turned: NDArray[np.uint8]
    match orientation:
        case 2:
            turned = cv2.flip(rgb, 1)
        case 3:
            turned = cv2.rotate(rgb, cv2.ROTATE_180)
        case 4:
            turned = cv2.flip(rgb, 0)
        case 5:
            turned = cv2.transpose(rgb)
        case 6:
            turned = cv2.rotate(rgb, cv2.ROTATE_90_CLOCKWISE)
        case 7:
            turned = cv2.rotate(cv2.transpose(rgb), cv2.ROTATE_180)
        case 8:
            turned = cv2.rotate(rgb, cv2.ROTATE_90_COUNTERCLOCKWISE)
        case _:
            turned = rgb
    return turned


def _cut_short(kind: str) -> ItemError:
    return ItemError("truncated", f"{kind}: the file ends before its picture does; half a picture is not labelled.")


@contextlib.contextmanager
def _library(kind: str) -> Iterator[None]:
    """Turn whatever Pillow raises inside into an ItemError. The one edge to a library that reads hostile bytes."""
    try:
        yield
    except ItemError:
        raise
    except (Image.DecompressionBombError, MemoryError) as error:
        text = str(error).rstrip(".") or "there is not enough memory for it"
        raise ItemError("too_large", f"{kind.upper()}: {text}. The option for this is --max-pixels.") from error
    except Exception as error:  # Pillow's readers raise nearly anything: SyntaxError, struct.error, KeyError, ...
        text = str(error)
        if "truncated" in text.lower() or isinstance(error, EOFError):
            raise _cut_short(kind.upper()) from error
        if isinstance(error, UnidentifiedImageError):
            text = "the header cannot be read"
        raise ItemError("corrupt", f"{kind.upper()}: {text or type(error).__name__}.") from error
