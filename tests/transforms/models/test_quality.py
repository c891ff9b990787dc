"""Brightness, contrast and sharpness of crops."""

import cv2
import numpy as np

from transforms.models.quality import quality


def test_a_flat_crop_has_no_contrast_and_no_sharpness() -> None:
    """Black is 0, white is 1."""
    crops = np.stack([np.zeros((48, 48), np.uint8), np.full((48, 48), 255, np.uint8)])
    brightness, contrast, sharpness = quality(crops)
    assert brightness.tolist() == [0, 1] and contrast.tolist() == [0, 0] and sharpness.tolist() == [0, 0]
    assert {each.dtype for each in (brightness, contrast, sharpness)} == {np.dtype(np.float32)}


def test_half_black_half_white_has_the_largest_contrast() -> None:
    """Standard deviation .5 of the range."""
    crop = np.zeros((1, 48, 48), np.uint8)
    crop[:, :, 24:] = 255
    brightness, contrast, _ = quality(crop)
    assert brightness[0] == 0.5 and contrast[0] == 0.5


def test_blur_lowers_sharpness() -> None:
    """And nothing else by much."""
    sharp = np.random.default_rng(0).integers(0, 256, (96, 96), np.uint8)
    blurred = cv2.GaussianBlur(sharp, (0, 0), 3)
    _, _, sharpness = quality(np.stack([sharp, blurred]))
    assert sharpness[1] < sharpness[0] / 10


def test_the_size_and_colour_of_crops_do_not_matter() -> None:
    """RGB crops of 96 px give what their gray 48 px copies give."""
    gray = cv2.resize(np.random.default_rng(0).integers(0, 256, (6, 6), np.uint8), (96, 96))
    rgb = np.repeat(gray[None, ..., None], 3, axis=3)
    small = cv2.resize(gray, (48, 48), interpolation=cv2.INTER_AREA)[None]
    assert [float(a[0]) for a in quality(rgb)] == [float(a[0]) for a in quality(small)]


def test_no_crops_give_no_numbers() -> None:
    """Three empty arrays."""
    assert [len(each) for each in quality(np.zeros((0, 48, 48), np.uint8))] == [0, 0, 0]
