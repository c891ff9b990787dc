"""Faces drawn into pictures: boxes, landmarks, and labels that can be read at any size."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from math import floor
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Colour = tuple[int, int, int]

BOX: Colour = (80, 200, 60)
HELD: Colour = (170, 170, 170)
"""For a face that was seen in an earlier picture."""
POINT: Colour = (255, 90, 60)
INK: Colour = (0, 0, 0)

_FONT = cv2.FontFace("sans")  # comes with OpenCV, and knows Chinese
_BOLD = 500
_LEAST_TEXT_PX = 11
_FAR_PX = 1 << 20  # beyond any picture, and within what the drawing routines count with


@dataclass(frozen=True)
class DrawnFace:
    """A face to draw, in pixels of the picture.

    `box` is x, y, w, h; null for a label of the whole picture. `points` (n, 2) float32: x then y, NaN where unseen.
    """

    box: tuple[float, float, float, float] | None
    points: NDArray[np.float32]
    text: str

    def scaled(self, factor: float, left: int, top: int) -> "DrawnFace":
        """Return the face in a picture that is `factor` times as large and lies at `left`, `top` of another."""
        x, y, w, h = self.box or (0, 0, 0, 0)
        box = (left + x * factor, top + y * factor, w * factor, h * factor) if self.box else None
        points = (self.points * factor + (left, top)).astype(np.float32)
        return replace(self, box=box, points=points)


def face_of(row: Mapping[str, Any]) -> DrawnFace:
    """Return a row of `annotations` as it is drawn: with the most landmarks that it has."""
    x, y, w, h = (row[f"bbox_{side}"] for side in "xywh")
    points = row["landmarks"] if row["landmarks_68"] is None else row["landmarks_68"]
    return DrawnFace(
        box=None if x is None else (x, y, w, h),
        points=np.asarray([] if points is None else points, np.float32).reshape(-1, 2),
        text=_text(row["label"], row["confidence"]),
    )


def _text(label: str, confidence: float | None) -> str:
    # Cut, not rounded: 1.00 would say that a person confirmed it.
    return label if confidence is None else f"{label} {floor(confidence * 100) / 100:.2f}"


def draw_faces(rgb: NDArray[np.uint8], faces: Iterable[DrawnFace], colour: Colour = BOX) -> None:
    """Draw faces into `rgb` (H, W, 3) uint8, lines and letters in proportion to its shorter side."""
    short = min(rgb.shape[:2])
    line, size = max(1, round(short / 300)), max(_LEAST_TEXT_PX, round(short / 34))
    faces = list(faces)
    for face in faces:
        if face.box is not None:
            x, y, w, h = face.box
            cv2.rectangle(rgb, _at(x, y), _at(x + w, y + h), colour, line, cv2.LINE_AA)
        _draw_points(rgb, face, line)
    for face in faces:  # on top, so that no box crosses a neighbour's label
        _draw_text(rgb, face, colour, size, line)


def _draw_points(rgb: NDArray[np.uint8], face: DrawnFace, line: int) -> None:
    width = face.box[2] if face.box is not None else rgb.shape[1]
    radius = max(1, min(2 * line, round(width / (40 if len(face.points) <= 5 else 120))))
    for x, y in face.points[np.isfinite(face.points).all(axis=1)]:
        cv2.circle(rgb, _at(x, y), radius, POINT, -1, cv2.LINE_AA)


def _draw_text(rgb: NDArray[np.uint8], face: DrawnFace, colour: Colour, size: int, line: int) -> None:
    """Write the label on the box, or in it where there is no room above, never beyond the picture."""
    x, y = (0.0, 0.0) if face.box is None else face.box[:2]
    _, _, width, height = cv2.getTextSize((0, 0), face.text, (0, 0), _FONT, size, _BOLD)
    pad = max(1, size // 6)
    left = max(0, min(round(x - line / 2), rgb.shape[1] - width - 2 * pad))
    bottom = max(height, round(y))
    cv2.rectangle(rgb, (left, bottom - height), (left + width + 2 * pad, bottom), colour, -1)
    cv2.putText(rgb, face.text, (left + pad, bottom - height + size), INK, _FONT, size, _BOLD)


def _at(x: float, y: float) -> tuple[int, int]:
    return round(min(max(x, -_FAR_PX), _FAR_PX)), round(min(max(y, -_FAR_PX), _FAR_PX))


def write_caption(rgb: NDArray[np.uint8], text: str, left: int, baseline: int, size: int, colour: Colour) -> None:
    """Write one line of text, cut at the picture's edge."""
    text = "".join(letter if letter.isprintable() else "?" for letter in text)
    cv2.putText(rgb, text, (left, baseline), colour, _FONT, size)
