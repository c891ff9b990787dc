"""From faces to crops, by a model's own contract, and back."""

import cv2
import numpy as np
from numpy.typing import NDArray

from schemas.records import Faces
from transforms.models.record import CropContract, InputContract

INTERPOLATION = {
    "linear": cv2.INTER_LINEAR,
    "area": cv2.INTER_AREA,
    "nearest": cv2.INTER_NEAREST,
    "cubic": cv2.INTER_CUBIC,
}

_LEAST_SPREAD_PX = 1e-3


def crop_faces(
    rgb: NDArray[np.uint8], faces: Faces, contract: CropContract, input_contract: InputContract
) -> NDArray[np.uint8]:
    """Return the crops of one picture: (n, S, S) gray, or (n, S, S, 3) RGB, S = `input_contract.size`.

    `rgb` is (H, W, 3); `faces` are in its pixels. What a box shows beyond the picture's edge repeats the edge.
    Crops are RGB also for a net that wants BGR: the model swaps.
    """
    size = input_contract.size
    gray = input_contract.colour == "gray"
    crops = np.empty((len(faces), size, size) if gray else (len(faces), size, size, 3), np.uint8)
    aligned = _alignable(faces, contract)
    if aligned.any():
        matrices = similarity(faces.landmarks, np.array(contract.template, np.float32) * np.float32(size))
    for number, box in enumerate(faces.boxes):
        if aligned[number]:
            crops[number] = _warp(rgb, matrices[number], input_contract)
        else:
            crops[number] = _resize(_window(rgb, *_window_of(box, contract)), input_contract)
    return crops


def uncropped(points: NDArray[np.float32], faces: Faces, contract: CropContract) -> NDArray[np.float32]:
    """Return `points` (n, k, 2), x then y in 0..1 of each face's crop, in the pixels of the picture it was cut from.

    The way back of `crop_faces` with the same faces and contract.
    """
    found = np.empty(points.shape, np.float32)
    for number, box in enumerate(faces.boxes):
        left, top, width, height = _window_of(box, contract)
        found[number] = points[number] * np.array([width, height], np.float32) + np.array([left, top], np.float32)
    aligned = _alignable(faces, contract)
    if aligned.any():
        matrices = similarity(faces.landmarks[aligned], np.array(contract.template, np.float32)).astype(np.float64)
        turned, shift = matrices[:, :, :2], matrices[:, :, 2]
        # A rotation times a scale: its inverse is its transpose over the scale squared.
        found[aligned] = (points[aligned] - shift[:, None]) @ (turned / (turned[:, :1] ** 2).sum(axis=2, keepdims=True))
    return found


def _alignable(faces: Faces, contract: CropContract) -> NDArray[np.bool_]:
    """Return which faces are cut by their landmarks: where these are known, and not all one point."""
    if contract.kind != "similarity" or not len(faces):
        return np.zeros(len(faces), np.bool_)
    # Not a number where one of them is unknown, and then no spread is enough.
    return np.asarray(np.ptp(faces.landmarks, axis=1).max(axis=1) > _LEAST_SPREAD_PX)


def square(rgb: NDArray[np.uint8], box: NDArray[np.float32], scale: float) -> NDArray[np.uint8]:
    """Return the square part of `rgb` around `box` (x, y, width, height): side = the longer one times `scale`.

    Whole pixels. A box of the whole of a square picture gives the picture itself.
    """
    return _window(rgb, *_window_of(box, CropContract("square", scale, ())))


def _window_of(box: NDArray[np.float32], contract: CropContract) -> tuple[int, int, int, int]:
    """Return left, top, width and height in pixels of what is shown of a face that is cut by its box."""
    x, y, width, height = (float(value) for value in box)
    sides = (width, height) if contract.kind == "box" else (max(width, height),) * 2
    columns, rows = (max(1, round(side * contract.scale)) for side in sides)
    return round(x + width / 2 - columns / 2), round(y + height / 2 - rows / 2), columns, rows


def _window(rgb: NDArray[np.uint8], left: int, top: int, columns: int, rows: int) -> NDArray[np.uint8]:
    """Return a window of `columns` x `rows` pixels; the picture's edge is repeated beyond it."""
    height, width = rgb.shape[:2]
    if left >= 0 and top >= 0 and left + columns <= width and top + rows <= height:
        return rgb[top : top + rows, left : left + columns]
    across = np.clip(np.arange(left, left + columns), 0, width - 1)
    down = np.clip(np.arange(top, top + rows), 0, height - 1)
    return rgb[down[:, None], across]


def to_gray(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return (H, W) for (H, W, 3) RGB by ITU-R BT.601; a picture that is gray already (R = G = B) keeps its values."""
    return np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), np.uint8)


def _resize(part: NDArray[np.uint8], wanted: InputContract) -> NDArray[np.uint8]:
    if wanted.colour == "gray":
        part = to_gray(part)
    if part.shape[:2] == (wanted.size, wanted.size):
        return part
    resized = cv2.resize(part, (wanted.size, wanted.size), interpolation=INTERPOLATION[wanted.interpolation])
    return np.asarray(resized, np.uint8)


def _warp(rgb: NDArray[np.uint8], matrix: NDArray[np.float32], wanted: InputContract) -> NDArray[np.uint8]:
    # warpAffine has no AREA; it would fall back to LINEAR itself.
    how = cv2.INTER_LINEAR if wanted.interpolation == "area" else INTERPOLATION[wanted.interpolation]
    size = (wanted.size, wanted.size)
    warped = np.asarray(cv2.warpAffine(rgb, matrix, size, flags=how, borderMode=cv2.BORDER_REPLICATE), np.uint8)
    return to_gray(warped) if wanted.colour == "gray" else warped


def similarity(landmarks: NDArray[np.float32], template: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the (n, 2, 3) matrices that bring `landmarks` (n, 5, 2) closest to `template` (5, 2), least squares.

    Rotation, one scale and a shift; never a reflection (Umeyama 1991, in closed form for two dimensions).

    >>> template = np.array([[1, 1], [3, 1], [2, 2], [1, 3], [3, 3]], np.float32)
    >>> similarity(template[None] * 2 + 1, template)[0].round(3).tolist()
    [[0.5, -0.0, -0.5], [0.0, 0.5, -0.5]]
    """
    source = landmarks.astype(np.float64)
    source_mean = source.mean(axis=1)
    target_mean = template.astype(np.float64).mean(axis=0)
    source = source - source_mean[:, None]
    target = template.astype(np.float64) - target_mean
    # Points of one face may coincide; then any scale fits and 0 is as good.
    spread = np.maximum((source**2).sum(axis=(1, 2)), 1e-12)
    cosine = (source * target).sum(axis=(1, 2)) / spread
    sine = (source[..., 0] * target[:, 1] - source[..., 1] * target[:, 0]).sum(axis=1) / spread
    matrices = np.empty((len(landmarks), 2, 3))
    matrices[:, 0, 0], matrices[:, 0, 1] = cosine, -sine
    matrices[:, 1, 0], matrices[:, 1, 1] = sine, cosine
    matrices[:, :, 2] = target_mean - np.einsum("nij,nj->ni", matrices[:, :, :2], source_mean)
    return matrices.astype(np.float32)
