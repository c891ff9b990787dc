"""Pictures of the shared data with copies that are changed a little, for tests of what finds them."""

import io
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from transforms.fingerprint import FINGERPRINT_BYTES, fingerprint
from transforms.pictures import decode

Pixels = NDArray[np.uint8]
Change = Callable[[Pixels], Pixels]

SIDE_PX = 640
"""The long side to which pictures are reduced, to save time."""


def picture(path: Path) -> Pixels:
    """Return a picture, reduced to `SIDE_PX`."""
    rgb = decode(path.read_bytes(), reduce_to=SIDE_PX).rgb
    return resized(rgb, min(1, SIDE_PX / max(rgb.shape[:2])))


def resized(rgb: Pixels, factor: float) -> Pixels:
    """Return the picture with sides times `factor`."""
    if factor == 1:
        return rgb
    small = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(rgb, None, fx=factor, fy=factor, interpolation=small))


def encoded(rgb: Pixels, form: str, quality: int) -> Pixels:
    """Return what is left of a picture after encoding."""
    file = io.BytesIO()
    Image.fromarray(rgb).save(file, form, quality=quality)
    return decode(file.getvalue()).rgb


def bent(rgb: Pixels, gain: float = 1, offset: float = 0, gamma: float = 1) -> Pixels:
    """Return the picture with other tones, clipped to 0..255."""
    tones = 255 * gain * (np.arange(256) / 255) ** gamma + offset
    return np.asarray(cv2.LUT(rgb, np.rint(tones.clip(0, 255)).astype(np.uint8)))


def cropped(rgb: Pixels, left: float, top: float, right: float, bottom: float) -> Pixels:
    """Return the picture without these shares of its sides."""
    height, width = rgb.shape[:2]
    rows = slice(round(top * height), height - round(bottom * height))
    return np.ascontiguousarray(rgb[rows, round(left * width) : width - round(right * width)])


def gray(rgb: Pixels) -> Pixels:
    """Return the picture without colours."""
    return np.repeat(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)[:, :, None], 3, axis=2)


CHANGES: dict[str, Change] = {
    "reduced to a quarter": lambda rgb: resized(rgb, 0.25),
    "enlarged": lambda rgb: resized(rgb, 1.5),
    "squeezed": lambda rgb: np.asarray(cv2.resize(rgb, (300, 300), interpolation=cv2.INTER_AREA)),
    "as a poor JPEG": lambda rgb: encoded(rgb, "JPEG", 30),
    "as WebP": lambda rgb: encoded(rgb, "WEBP", 60),
    "gray": gray,
    "darker": lambda rgb: bent(rgb, gain=0.7),
    "brighter": lambda rgb: bent(rgb, gain=1.15),
    "of less contrast": lambda rgb: bent(rgb, gain=0.7, offset=38),
    "with a gamma": lambda rgb: bent(rgb, gamma=0.7),
    "cropped by 3 %": lambda rgb: cropped(rgb, 0.03, 0.03, 0.03, 0.03),
    "cropped by 5 %": lambda rgb: cropped(rgb, 0.05, 0.05, 0.05, 0.05),
    "cropped unevenly": lambda rgb: cropped(rgb, 0.05, 0.01, 0, 0.04),
    "cropped, reduced, JPEG": lambda rgb: encoded(resized(cropped(rgb, 0.02, 0.05, 0.04, 0), 0.5), "JPEG", 60),
    "reduced, brighter, WebP": lambda rgb: encoded(bent(resized(rgb, 0.6), 1.1, 5), "WEBP", 70),
}

# Of the shared pictures, those that show what another one shows, or nearly: of each kind the tests take one.
_AGAIN = ("hopper", "obama-", "32bit", "tests_", "flower.webp", "pil_sample", "tiff_strip", "CMYK", "ukbench00120_",
          "alpha_channel", "ukbench09380.webp", "Landscape", "Portrait", "_cropped")  # fmt: skip


def distinct(shared: Path) -> dict[str, Pixels]:
    """Return pictures that all show something else, by name."""
    paths = [path for kind in ("face", "dedup", "noface") for path in sorted((shared / "data/images" / kind).iterdir())]
    named = {path.name: picture(path) for path in paths if not any(part in path.name for part in _AGAIN)}
    # Two are plain, and one shows a single arrow: nothing by which to know them again.
    return {name: rgb for name, rgb in named.items() if not any(part in name for part in ("white", "dalai", "loop"))}


def fingerprints(*pictures: Pixels) -> NDArray[np.uint8]:
    """Return the fingerprints of pictures that have one, (k, `FINGERPRINT_BYTES`)."""
    found = [fingerprint(rgb) for rgb in pictures]
    assert None not in found
    return np.frombuffer(b"".join(one for one in found if one), np.uint8).reshape(-1, FINGERPRINT_BYTES)
