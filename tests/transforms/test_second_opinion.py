"""A label belongs to the face at its place; where that is not clear nothing is said."""

import numpy as np
import pytest

from schemas.records import Faces
from transforms.second_opinion import Claims, claimed_faces

FACES = Faces(
    np.array([[100, 100, 50, 60], [300, 100, 40, 50]], np.float32),
    np.arange(20, dtype=np.float32).reshape(2, 5, 2),
    np.array([0.9, 0.8], np.float32),
)


def claims(*boxes: tuple[float, float, float, float] | None) -> Claims:
    """Return the labels of one picture."""
    return Claims("a.jpg", tuple(range(len(boxes))), boxes)


def test_a_box_gets_the_face_that_it_overlaps() -> None:
    """With the face's own landmarks, so that the crop is aligned; people box more than the detector."""
    rows, faces = claimed_faces(claims((290, 80, 60, 80)), FACES, (640, 480))
    assert rows == [0]
    assert (faces.boxes == FACES.boxes[1:]).all()
    assert (faces.landmarks == FACES.landmarks[1:]).all()


def test_a_box_without_a_face_is_taken_for_one() -> None:
    """The detector may have missed it."""
    rows, faces = claimed_faces(claims((500, 300, 40, 40)), FACES, (640, 480))
    assert rows == [0]
    assert faces.boxes.tolist() == [[500, 300, 40, 40]]
    assert np.isnan(faces.landmarks).all()


@pytest.mark.parametrize(
    ("found", "size", "expected"),
    [
        (FACES, (640, 480), []),  # two faces: whose label is it?
        (FACES.take(np.array([0])), (640, 480), [[100, 100, 50, 60]]),
        (Faces.none(), (48, 48), [[0, 0, 48, 48]]),  # a library of crops
        (Faces.none(), (640, 480), []),  # nobody to be seen
    ],
)
def test_a_label_of_the_whole_picture_needs_one_face(
    found: Faces, size: tuple[int, int], expected: list[list[float]]
) -> None:
    """The only face, or a small picture that is one."""
    rows, faces = claimed_faces(claims(None), found, size)
    assert faces.boxes.tolist() == expected
    assert len(rows) == len(expected)
