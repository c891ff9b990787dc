"""How good a crop is to look at: three numbers a face, for rules about blur and light."""

import cv2
import numpy as np
from numpy.typing import NDArray

from transforms.models.crops import to_gray

SIDE = 48
"""Pixels a side at which quality is measured, so that the numbers of different classifiers compare."""


def quality(
    crops: NDArray[np.uint8],
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Return brightness, contrast and sharpness, each (n,) float32, of crops (n, S, S) gray or (n, S, S, 3) RGB.

    Each crop is first brought to 48x48 gray with AREA interpolation. Brightness is the mean / 255, contrast the
    standard deviation / 255, both in 0..1. Sharpness is the variance of the Laplacian (3x3, aperture 1) of the gray
    values in 0..255, from 0 up, without a bound: the less, the more blurred.
    """
    found = np.empty((3, len(crops)), np.float32)
    for number, crop in enumerate(crops):
        gray = crop if crop.ndim == 2 else to_gray(crop)
        if gray.shape != (SIDE, SIDE):
            gray = np.asarray(cv2.resize(gray, (SIDE, SIDE), interpolation=cv2.INTER_AREA), np.uint8)
        laplacian = cv2.Laplacian(gray, cv2.CV_32F)
        # float64 sums of whole numbers are exact, so the order of adding cannot change a bit.
        found[:, number] = gray.mean() / 255, gray.std() / 255, laplacian.var(dtype=np.float64)
    return found[0], found[1], found[2]
