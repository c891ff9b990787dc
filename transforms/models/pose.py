"""How large a face is, how it is turned in the picture, and which way the head points."""

import cv2
import numpy as np
from numpy.typing import NDArray

HEAD: dict[int, tuple[float, float, float]] = {
    # Corners of the eyes, from the subject's right to left.
    36: (-4.445859, 2.663991, 3.173422),
    39: (-1.856432, 2.585245, 3.757904),
    42: (1.856432, 2.585245, 3.757904),
    45: (4.445859, 2.663991, 3.173422),
    # Root, tip and base of the nose, and its wings.
    27: (0.0, 3.271027, 5.236015),
    30: (0.0, -1.126865, 7.475604),
    31: (-1.405627, -1.714196, 5.241087),
    33: (0.0, -2.089024, 6.058267),
    35: (1.405627, -1.714196, 5.241087),
    # Corners of the mouth, and the chin.
    48: (-2.456206, -4.342621, 4.283884),
    54: (2.456206, -4.342621, 4.283884),
    8: (0.0, -9.403378, 4.264492),
}
"""Places of some of the 68 points (from 0) on an average head: x to the subject's left, y up, z out of the face, in cm.

Vertices 33, 133, 362, 263, 168, 1, 98, 2, 327, 61, 291 and 152 of `canonical_face_model.obj` of MediaPipe (Google LLC,
Apache-2.0). Brows and lips are left out: they move with the expression.
"""

_WHICH = np.array(list(HEAD))
_PLACES = np.array(list(HEAD.values()))
_LEAST_SPREAD_PX = 0.01
_TO_CAMERA = np.diag([1.0, -1.0, -1.0])
"""From the head's axes to the camera's (x right, y down, z away from it) for a head that looks into the camera."""


def face_geometry(landmarks5: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return scale and rotation, each (n,), of five landmarks (n, 5, 2) as in `schemas.records.Faces`.

    Scale is the distance of the eyes in pixels. Rotation is the angle of the line through the eyes in the picture's
    plane, in degrees, -180 to 180: 0 upright, positive clockwise. NaN where the eyes are unknown.

    >>> scale, rotation = face_geometry(np.array([[[10, 10], [13, 14], [0, 0], [0, 0], [0, 0]]], np.float32))
    >>> scale.tolist(), rotation.round(2).tolist()
    ([5.0], [53.130001068115234])
    """
    across = (landmarks5[:, 1] - landmarks5[:, 0]).astype(np.float64)
    scale = np.hypot(across[:, 0], across[:, 1])
    rotation = np.degrees(np.arctan2(across[:, 1], across[:, 0]))
    return scale.astype(np.float32), rotation.astype(np.float32)


def head_pose(points68: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    """Return (n, 3) yaw, pitch and roll in degrees for the points (n, 68, 2) of faces in a picture of `size`.

    `size` is width and height in pixels. A head that looks into the camera has 0, 0, 0 wherever in the picture it is;
    yaw > 0: the head is turned towards the image's right (the subject's left); pitch > 0: up; roll > 0: clockwise in
    the image. The head rolls first, then nods, then turns. Yaw and pitch are between -90 and 90, roll between -180
    and 180. NaN where there is no such head: points are unknown or coincide, or it would be seen from behind.

    The camera is not known: a focal length of the picture's longer side is assumed, with the axis in its middle.
    """
    return np.array([_pose(points, size) for points in points68], np.float32).reshape(-1, 3)


def _pose(points: NDArray[np.float32], size: tuple[int, int]) -> tuple[float, float, float]:
    unknown = (np.nan, np.nan, np.nan)
    found = _placed(points[_WHICH].astype(np.float64), size)
    if found is None:
        return unknown
    turned, where = found
    # What is far from the axis is seen from its side: turned back, so that the angles do not depend on the place.
    head = _line_of_sight(where).T @ turned @ _TO_CAMERA
    if not head[2, 2] > 0:
        return unknown
    yaw, pitch, roll = (
        np.arctan2(-head[0, 2], head[2, 2]),
        np.arcsin(np.clip(head[1, 2], -1, 1)),
        np.arctan2(head[1, 0], head[1, 1]),
    )
    return float(np.degrees(yaw)), float(np.degrees(pitch)), float(np.degrees(roll))


def _placed(
    points: NDArray[np.float64], size: tuple[int, int]
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Return the head's rotation (3, 3) and place (3,) in the camera's axes, or None where nothing fits."""
    # Points on one line, or on one spot, fit any turn. A point that is not a number is of no rank either.
    if not np.isfinite(points).all() or np.linalg.matrix_rank(points - points.mean(axis=0), tol=_LEAST_SPREAD_PX) < 2:
        return None
    width, height = size
    focal = float(max(width, height))
    camera = np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])
    try:
        # Of all solutions the best one (Terzakis and Lourakis 2020): an iteration from a guess may end in the mirrored
        # one, in which the head looks the other way.
        solved, turn, place = cv2.solvePnP(_PLACES, points, camera, None, flags=cv2.SOLVEPNP_SQPNP)
        if not solved:
            return None
        turn, place = cv2.solvePnPRefineLM(_PLACES, points, camera, None, turn, place)
    except cv2.error:
        return None
    if not (np.isfinite(turn).all() and np.isfinite(place).all() and place[2, 0] > 0):
        return None
    return np.asarray(cv2.Rodrigues(turn)[0], np.float64), np.asarray(place[:, 0], np.float64)


def _line_of_sight(where: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the rotation that turns the camera's axis to `where`, the shortest way."""
    x, y, z = where
    aside = np.hypot(x, y)
    if aside == 0:
        return np.eye(3)
    return np.asarray(cv2.Rodrigues(np.array([-y, x, 0.0]) / aside * np.arctan2(aside, z))[0], np.float64)
