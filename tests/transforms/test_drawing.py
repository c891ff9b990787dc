"""What is drawn stands where it should, can be read, and never leaves the picture."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.builders import face
from transforms.drawing import BOX, HELD, INK, POINT, DrawnFace, draw_faces, face_of, write_caption

NO_POINTS = np.zeros((0, 2), np.float32)


def grey(width: int = 640, height: int = 480) -> NDArray[np.uint8]:
    """Return a picture without anything."""
    return np.full((height, width, 3), 128, np.uint8)


def row(**values: Any) -> dict[str, Any]:
    """Return a row of annotations."""
    return {"landmarks_68": None, **face(**values)}


def has(rgb: NDArray[np.uint8], colour: tuple[int, int, int]) -> bool:
    """Tell whether a colour occurs."""
    return bool((rgb == colour).all(axis=2).any())


def test_a_row_is_drawn_with_its_label_cut_not_rounded() -> None:
    """1.00 would say that a person confirmed it."""
    told = face_of(row(box=(10, 20, 100, 120), label="sad", confidence=0.9999))
    assert (told.box, told.text, told.points.shape) == ((10, 20, 100, 120), "sad 0.99", (5, 2))
    assert face_of(row(confidence=None)).text == "happy"
    assert face_of({**row(), "confidence": 1.0}).text == "happy 1.00"


def test_68_landmarks_are_drawn_instead_of_five() -> None:
    """A label of the whole picture may have neither landmarks nor a box."""
    assert face_of({**row(), "landmarks_68": [1.0] * 136}).points.shape == (68, 2)
    bare = face_of(row(box=(None,) * 4))
    assert (bare.box, bare.points.shape) == (None, (0, 2))


def test_box_points_and_label_stand_where_the_face_is() -> None:
    """The label above the box, on a ground of the box's colour."""
    rgb = grey()
    draw_faces(rgb, [face_of(row(box=(200, 100, 120, 150)))])
    assert (rgb[100:250, 200] == BOX).all()
    assert tuple(rgb[160, 236]) == POINT  # the right eye of the builders' faces
    assert has(rgb[80:100, 200:320], INK)
    assert has(rgb[80:100, 200:320], BOX)
    assert (rgb[255:] == 128).all()
    assert (rgb[:, :190] == 128).all()


def test_a_face_of_an_earlier_picture_has_another_colour() -> None:
    """Nobody shall take it for a measured one."""
    rgb = grey()
    draw_faces(rgb, [face_of(row())], HELD)
    assert has(rgb, HELD)
    assert not has(rgb, BOX)


@pytest.mark.parametrize(("size", "letters"), [((320, 240), 14), ((1920, 1080), 30), ((7680, 4320), 120)])
def test_labels_grow_with_the_picture(size: tuple[int, int], letters: int) -> None:
    """And are never too small to be read."""
    rgb = grey(*size)
    draw_faces(rgb, [DrawnFace((size[0] / 2, size[1] / 2, 20, 20), NO_POINTS, "happy 0.97")])
    above = (rgb[: size[1] // 2 - size[1] // 200] != 128).any(axis=(1, 2)).sum()
    assert letters * 0.75 <= above <= letters * 1.4


def test_a_label_of_any_script_has_letters() -> None:
    """The font comes with OpenCV: question marks would be alike."""
    drawn = []
    for text in ("开心", "难过", "ёж"):
        rgb = grey(200, 100)
        draw_faces(rgb, [DrawnFace((20, 40, 50, 50), NO_POINTS, text)])
        drawn.append(rgb.tobytes())
    assert len(set(drawn)) == 3


_number = st.one_of(st.floats(-1e9, 1e9, width=32), st.floats(-50, 700, width=32))
_point = st.one_of(_number, st.sampled_from([float("nan"), float("inf")]))


@settings(max_examples=100, deadline=None)
@given(
    st.tuples(st.integers(1, 60), st.integers(1, 60)),
    st.one_of(st.none(), st.tuples(_number, _number, _number, _number)),
    st.lists(st.tuples(_point, _point), max_size=5),
    st.text(max_size=12),
)
def test_nothing_is_too_odd_to_be_drawn(
    size: tuple[int, int],
    box: tuple[float, float, float, float] | None,
    points: list[tuple[float, float]],
    text: str,
) -> None:
    """Tiny pictures, boxes far outside, points that are nowhere, labels of any letters."""
    rgb = grey(*size)
    drawn = DrawnFace(box, np.asarray(points, np.float32).reshape(-1, 2), text)
    draw_faces(rgb, [drawn, drawn.scaled(0.5, 3, 4)])
    write_caption(rgb, text, 0, 10, 12, INK)
    assert rgb.shape == (size[1], size[0], 3)


def test_a_scaled_face_moves_with_its_picture() -> None:
    """Box and points alike."""
    face_ = DrawnFace((10, 20, 100, 120), np.array([[30, 40]], np.float32), "happy").scaled(0.5, 7, 9)
    assert face_.box == (12, 19, 50, 60)
    assert face_.points.tolist() == [[22, 29]]
