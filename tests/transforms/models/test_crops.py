"""Crops: the box and the alignment, in pixels that can be checked by hand."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from schemas.records import Faces
from transforms.models.crops import crop_faces, similarity, square, to_gray, uncropped
from transforms.models.record import CropContract, InputContract, load_record

SQUARE = CropContract("square", 1.0, ())
TEMPLATE = ((0.3, 0.4), (0.7, 0.4), (0.5, 0.6), (0.35, 0.8), (0.65, 0.8))


def contract(size: int = 48, colour: str = "gray", interpolation: str = "area") -> InputContract:
    return InputContract(size, colour, interpolation, 1.0, (0.0,), (1.0,), "float32", "NHWC")


def noise(height: int, width: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def one(*box: float, landmarks: NDArray[np.float32] | None = None) -> Faces:
    points = np.full((1, 5, 2), np.nan, np.float32) if landmarks is None else landmarks[None]
    return Faces(np.array([box], np.float32), points, np.ones(1, np.float32))


@pytest.mark.parametrize("interpolation", ["linear", "area", "nearest", "cubic"])
def test_the_whole_of_a_square_picture_is_exactly_its_resize(interpolation: str) -> None:
    """With `--detector none` a 48x48 picture reaches a 48x48 net untouched, and a 64x64 net as one resize."""
    gray = noise(48, 48)[..., 0]
    rgb = np.repeat(gray[..., None], 3, axis=2)
    whole = one(0, 0, 48, 48)
    np.testing.assert_array_equal(crop_faces(rgb, whole, SQUARE, contract(48, "gray", interpolation))[0], gray)
    how = {"linear": cv2.INTER_LINEAR, "area": cv2.INTER_AREA, "nearest": cv2.INTER_NEAREST, "cubic": cv2.INTER_CUBIC}
    np.testing.assert_array_equal(
        crop_faces(rgb, whole, SQUARE, contract(64, "gray", interpolation))[0],
        cv2.resize(gray, (64, 64), interpolation=how[interpolation]),
    )


def test_gray_pictures_keep_their_values() -> None:
    """R = G = B = v becomes v, for every v."""
    ramp = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2)
    np.testing.assert_array_equal(to_gray(ramp)[0], np.arange(256))


def test_a_box_is_made_square_around_its_centre() -> None:
    """20x40 at (30, 10) is 40x40 at (20, 10); twice as large it is 80x80 at (0, -10)."""
    rgb = noise(100, 100)
    box = np.array([30, 10, 20, 40], np.float32)
    np.testing.assert_array_equal(square(rgb, box, 1.0), rgb[10:50, 20:60])
    twice = square(rgb, box, 2.0)
    assert twice.shape == (80, 80, 3)
    np.testing.assert_array_equal(twice[10:], rgb[0:70, 0:80])
    np.testing.assert_array_equal(twice[0], rgb[0, 0:80])


# (box, what the crop must show)
OUTSIDE = [
    ((-30, -30, 20, 20), (0, 0)),  # wholly beyond the corner: the corner's pixel
    ((500, 500, 20, 20), (9, 9)),
    ((4, 4, 0, 0), (4, 4)),  # no size: one pixel
]


@pytest.mark.parametrize(("box", "pixel"), OUTSIDE)
def test_a_box_beyond_the_picture_shows_its_edge(box: tuple[float, ...], pixel: tuple[int, int]) -> None:
    """No box makes it fail."""
    rgb = noise(10, 10)
    crop = crop_faces(rgb, one(*box), SQUARE, contract(8, "rgb"))[0]
    assert (crop == rgb[pixel]).all()


def test_crops_have_the_nets_size_and_channels() -> None:
    """(n, S, S) for gray, (n, S, S, 3) in RGB order for others, also for no faces."""
    rgb = np.zeros((20, 20, 3), np.uint8)
    rgb[..., 0] = 200
    assert crop_faces(rgb, one(0, 0, 20, 20), SQUARE, contract(12)).shape == (1, 12, 12)
    for colour in ("rgb", "bgr"):
        crops = crop_faces(rgb, one(0, 0, 20, 20), SQUARE, contract(12, colour))
        assert crops.shape == (1, 12, 12, 3) and (crops[0, 0, 0] == (200, 0, 0)).all()
    assert crop_faces(rgb, Faces.none(), SQUARE, contract(12)).shape == (0, 12, 12)
    assert crop_faces(rgb, Faces.none(), CropContract("similarity", 1.0, TEMPLATE), contract(12)).shape == (0, 12, 12)


def test_similarity_undoes_a_turn_a_scale_and_a_shift() -> None:
    """Landmarks that are a turned, scaled and shifted template come back to it exactly, for many faces at once."""
    template = np.array(TEMPLATE, np.float32) * 48
    random = np.random.default_rng(0)
    angle, scale = random.uniform(-3, 3, 20), random.uniform(0.3, 9, 20)
    turn = np.stack([np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)], 1).reshape(-1, 2, 2)
    shift = random.uniform(-500, 500, (20, 1, 2))
    landmarks = (template @ (turn * scale[:, None, None]).transpose(0, 2, 1) + shift).astype(np.float32)
    found = similarity(landmarks, template)
    back = np.einsum("nij,nkj->nki", found[:, :, :2], landmarks) + found[:, None, :, 2]
    np.testing.assert_allclose(back, np.broadcast_to(template, back.shape), atol=1e-3)


def test_similarity_is_the_least_squares_answer_and_never_a_mirror() -> None:
    """It equals Umeyama's by singular values, also for landmarks that a mirror image would fit better."""
    template = np.array(TEMPLATE, np.float32) * 48
    for landmarks in (template + np.random.default_rng(1).normal(0, 4, (5, 2)).astype(np.float32), template[:, ::-1]):
        source, target = landmarks - landmarks.mean(0), template - template.mean(0)
        u, values, v = np.linalg.svd(target.T @ source)
        sign = np.diag([1.0, np.sign(np.linalg.det(u @ v))])
        matrix = u @ sign @ v * np.trace(np.diag(values) @ sign) / (source**2).sum()
        np.testing.assert_allclose(similarity(landmarks[None], template)[0, :, :2], matrix, atol=1e-4)


def test_landmarks_are_brought_to_the_template() -> None:
    """Five dots on a picture stand at the template's places in the crop; a face without landmarks gets the box."""
    rgb = np.zeros((200, 200, 3), np.uint8)
    landmarks = np.array(TEMPLATE, np.float32) * 80 + 60
    for x, y in landmarks:
        cv2.circle(rgb, (round(float(x)), round(float(y))), 3, (255, 255, 255), -1)
    wanted = contract(96, "gray", "linear")
    crop = crop_faces(rgb, one(0, 0, 9, 9, landmarks=landmarks), CropContract("similarity", 1.0, TEMPLATE), wanted)[0]
    for x, y in np.array(TEMPLATE) * 96:
        assert crop[round(float(y)), round(float(x))] > 200
    boxed = crop_faces(rgb, one(60, 60, 80, 80), CropContract("similarity", 1.0, TEMPLATE), wanted)
    np.testing.assert_array_equal(boxed, crop_faces(rgb, one(60, 60, 80, 80), SQUARE, wanted))


def test_landmarks_that_coincide_do_no_harm() -> None:
    """All five in one point: finite matrices, and the box in their place."""
    assert np.isfinite(similarity(np.zeros((1, 5, 2), np.float32), np.array(TEMPLATE, np.float32))).all()
    rgb, template = noise(60, 60), CropContract("similarity", 1.0, TEMPLATE)
    point = one(10, 10, 30, 30, landmarks=np.full((5, 2), 7, np.float32))
    np.testing.assert_array_equal(
        crop_faces(rgb, point, template, contract()), crop_faces(rgb, point, SQUARE, contract())
    )
    corners = np.array([[[0, 0], [1, 1]]], np.float32)
    np.testing.assert_array_equal(uncropped(corners, point, template)[0], [[10, 10], [40, 40]])


def test_a_box_may_be_stretched() -> None:
    """Kind "box" shows just the box, whatever its shape; times a scale around its centre, and beyond the edge."""
    rgb = noise(100, 100)
    found = crop_faces(rgb, one(30, 10, 20, 40), CropContract("box", 1.0, ()), contract(48, "rgb", "linear"))[0]
    np.testing.assert_array_equal(found, cv2.resize(rgb[10:50, 30:50], (48, 48), interpolation=cv2.INTER_LINEAR))
    wide = crop_faces(rgb, one(0, 0, 20, 40), CropContract("box", 1.5, ()), contract(48, "rgb", "linear"))[0]
    padded = np.pad(rgb, ((10, 0), (5, 0), (0, 0)), mode="edge")[:60, :30]
    np.testing.assert_array_equal(wide, cv2.resize(padded, (48, 48), interpolation=cv2.INTER_LINEAR))


@settings(deadline=None)
@given(
    st.sampled_from([SQUARE, CropContract("square", 1.3, ()), CropContract("box", 1.2, ())]),
    st.tuples(*[st.integers(-200, 2000)] * 2, *[st.integers(1, 900)] * 2),
)
def test_a_crops_corners_come_back_to_its_window(crop: CropContract, box: tuple[int, ...]) -> None:
    """Of a crop by the box: the window has the box's centre, to half a pixel, and its size times the scale."""
    x, y, width, height = box
    corners = np.array([[[0, 0], [1, 1]]], np.float32)
    ((left, top), (right, bottom)) = uncropped(corners, one(*box), crop)[0].tolist()
    sides = (width, height) if crop.kind == "box" else (max(width, height),) * 2
    assert abs((left + right) / 2 - (x + width / 2)) <= 0.5 and abs((top + bottom) / 2 - (y + height / 2)) <= 0.5
    assert abs(right - left - sides[0] * crop.scale) <= 0.5001 and abs(bottom - top - sides[1] * crop.scale) <= 0.5001


@settings(deadline=None)
@given(st.floats(-3.1, 3.1), st.floats(3, 900), st.floats(-500, 5000), st.floats(-500, 5000))
def test_aligning_and_back_returns_the_landmarks(angle: float, side: float, x: float, y: float) -> None:
    """A template that was turned, scaled and shifted comes back from its crop's coordinates, and so does any point."""
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]) * side
    places = np.concatenate([TEMPLATE, [[0, 0], [1, 1], [0.2, -0.7]]])
    landmarks = (places @ turn + [x, y]).astype(np.float32)
    faces = one(0, 0, 9, 9, landmarks=landmarks[:5])
    found = uncropped(places.astype(np.float32)[None], faces, CropContract("similarity", 1.0, TEMPLATE))[0]
    np.testing.assert_allclose(found, landmarks, atol=max(1e-2, side * 1e-3))


def test_no_faces_have_no_points() -> None:
    """Nothing in, nothing out."""
    none = np.zeros((0, 68, 2), np.float32)
    assert uncropped(none, Faces.none(), CropContract("similarity", 1.0, TEMPLATE)).shape == (0, 68, 2)


def test_the_built_in_classifiers_take_the_box_as_it_is() -> None:
    """Their figures were measured with the square box, x1.0."""
    for name in ("expression8", "mini-xception"):
        assert load_record(name).crop == SQUARE
