"""From faces to crops, by a classifier's own contract."""

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


def crop_faces(
    rgb: NDArray[np.uint8], faces: Faces, contract: CropContract, input_contract: InputContract
) -> NDArray[np.uint8]:
    """Return the crops of one picture: (n, S, S) gray, or (n, S, S, 3) RGB, S = `input_contract.size`.

    `rgb` is (H, W, 3); `faces` are in its pixels. What a box shows beyond the picture's edge repeats the edge.
    Crops are RGB also for a net that wants BGR: the classifier swaps.
    """
    size = input_contract.size
    gray = input_contract.colour == "gray"
    crops = np.empty((len(faces), size, size) if gray else (len(faces), size, size, 3), np.uint8)
    aligned: NDArray[np.bool_] = np.zeros(len(faces), np.bool_)
    if contract.kind == "similarity" and len(faces):
        aligned = np.asarray(np.isfinite(faces.landmarks).all(axis=(1, 2)))
        matrices = similarity(faces.landmarks, np.array(contract.template, np.float32) * np.float32(size))
    for number, box in enumerate(faces.boxes):
        if aligned[number]:
            crops[number] = _warp(rgb, matrices[number], input_contract)
        else:
            crops[number] = _resize(square(rgb, box, contract.scale), input_contract)
    return crops


def square(rgb: NDArray[np.uint8], box: NDArray[np.float32], scale: float) -> NDArray[np.uint8]:
    """Return the square part of `rgb` around `box` (x, y, width, height): side = the longer one times `scale`.

    Whole pixels. A box of the whole of a square picture gives the picture itself.
    """
    x, y, width, height = (float(value) for value in box)
    side = max(1, round(max(width, height) * scale))
    left, top = round(x + width / 2 - side / 2), round(y + height / 2 - side / 2)
    return _window(rgb, left, top, side)


def _window(rgb: NDArray[np.uint8], left: int, top: int, side: int) -> NDArray[np.uint8]:
    """Return a window of `side` pixels; the picture's edge is repeated beyond it."""
    height, width = rgb.shape[:2]
    if left >= 0 and top >= 0 and left + side <= width and top + side <= height:
        return rgb[top : top + side, left : left + side]
    columns = np.clip(np.arange(left, left + side), 0, width - 1)
    rows = np.clip(np.arange(top, top + side), 0, height - 1)
    return rgb[rows[:, None], columns]


def to_gray(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return (H, W) for (H, W, 3) RGB by ITU-R BT.601; a picture that is gray already (R = G = B) keeps its values."""
    return np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), np.uint8)


def _resize(part: NDArray[np.uint8], wanted: InputContract) -> NDArray[np.uint8]:
    if wanted.colour == "gray":
        part = to_gray(part)
    if part.shape[0] == wanted.size:
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
    [[0.5, 0.0, -0.5], [0.0, 0.5, -0.5]]
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
