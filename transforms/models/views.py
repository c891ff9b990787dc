"""Ways to show a picture to a detector, and the way back to the picture's own pixels."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from schemas.records import Faces

Picture = NDArray[np.uint8]


@dataclass(frozen=True)
class View:
    """A picture as a detector sees it: `pixels` (h, w, 3); own = (seen - shift) * factor, x then y."""

    pixels: Picture
    factor: tuple[float, float]
    shift: tuple[float, float]

    def back(self, faces: Faces) -> Faces:
        """Return `faces` of the view in the picture's own pixels."""
        if not len(faces) or (self.factor == (1.0, 1.0) and self.shift == (0.0, 0.0)):
            return faces
        factor, shift = np.array(self.factor, np.float32), np.array(self.shift, np.float32)
        boxes = faces.boxes.reshape(-1, 2, 2) - np.stack([shift, np.zeros(2, np.float32)])
        return Faces((boxes * factor).reshape(-1, 4), (faces.landmarks - shift) * factor, faces.scores)


def whole(picture: Picture, long_side: int | None, interpolation: int) -> View:
    """Return the picture with its longer side at most `long_side` pixels (None: any); never enlarged."""
    height, width = picture.shape[:2]
    if long_side is None or max(height, width) <= long_side:
        return View(picture, (1.0, 1.0), (0.0, 0.0))
    scale = long_side / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    pixels = np.asarray(cv2.resize(picture, size, interpolation=interpolation), np.uint8)
    return View(pixels, (width / size[0], height / size[1]), (0.0, 0.0))


def padded(picture: Picture, side: int, margin: float) -> View:
    """Return the picture, its longer side `side` pixels, with `margin` of it repeated edge all around.

    A face that fills its picture is too large for a detector and lacks the surroundings that it learned to expect.
    """
    height, width = picture.shape[:2]
    scale = side / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    small = cv2.resize(picture, size, interpolation=how)
    border = round(side * margin)
    pixels = cv2.copyMakeBorder(small, border, border, border, border, cv2.BORDER_REPLICATE)
    return View(np.asarray(pixels, np.uint8), (width / size[0], height / size[1]), (float(border), float(border)))
