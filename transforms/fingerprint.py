"""A picture's fingerprint: what stays when it is resized, encoded anew, brightened or slightly cropped.

It holds the lowest frequencies of the picture's brightness, some 15 periods along a side, in `FINGERPRINT_BYTES`. That
is enough to lay one picture on another, whatever part of it the other shows, and to see where they differ. It does not
depend on the machine: everything up to its bytes is whole numbers, or one rounding of them.
"""

import math

import cv2
import numpy as np
from numpy.typing import NDArray

VERSION = 1
"""Goes up when the bytes, or what counts as the same, change: fingerprints of two versions are never compared."""

FINGERPRINT_BYTES = 128

_CELLS = 64
"""Cells along a side to which a picture is averaged first: what aliases into the frequencies kept is below 1 %."""

FREQUENCIES = 187
SIDE = 16
V, U = np.array(sorted((v * v + u * u, v, u) for v in range(SIDE) for u in range(SIDE) if u or v))[:FREQUENCIES, 1:].T
"""The vertical and horizontal frequencies kept, in half periods a side, the lowest first. Not the mean: brightness."""

_SECTIONS = ((27, 8, 5.2), (72, 6, 3.4), (88, 4, 2.8))
"""How they are stored: how many, in how many bits, and the largest value in units of the section's root mean square,
of which each section begins with one byte. Low frequencies are few and large.

Measured: as many bytes spent on 126 times 8 bits, on 54 times 8 and 144 times 4, or on 168 times 6 tell a changed
expression from a slight crop less well.
"""

DETAIL = slice(27, 99)
MIN_DETAIL = 1.0
"""Gray levels of detail, that is in the second section, below which a picture says too little to be recognised.

Of 165 photographs and drawings 163 have 1.9 or more; JPEG of quality 30 changes it by 0.2, at most by 1.0.
"""

MIN_SIDE_PX = 16

_LARGEST = 4_000_000
"""Pixels that are summed at once, which bounds the memory."""

_MIRROR = np.where(U % 2, -1, 1).astype(np.int16)
_NORM = np.where(np.arange(SIDE) == 0, 1, np.sqrt(2))
_UNIT = 1 << 12
_COSINES = np.rint(
    np.cos(np.pi * np.outer(np.arange(SIDE), (np.arange(_CELLS) + 0.5) / _CELLS)) * _NORM[:, None] * _UNIT
)
_SCALES = 2.0 ** ((np.minimum(np.arange(256), 96) - 32) / 8)
"""What a scale's byte stands for, in gray levels: up to 256, which no picture has."""


def fingerprint(rgb: NDArray[np.uint8]) -> bytes | None:
    """Return the fingerprint of a picture, (h, w, 3) RGB; None for one that shows next to nothing, or is tiny.

    What `pictures.decode` gives reduced has nearly the fingerprint of the whole, if its long side keeps 256 pixels.
    """
    if min(rgb.shape[:2]) < MIN_SIDE_PX:
        return None
    # Whole numbers below 2**53 all the way, so that no order of summation and no fused multiplication matters.
    levels = (_COSINES @ _cells(rgb) @ _COSINES.T)[V, U] / (16.0 * (_CELLS * _UNIT) ** 2)
    if math.hypot(*levels[DETAIL]) < MIN_DETAIL:
        return None
    steps, scales, start = [], [], 0
    for count, width, reach in _SECTIONS:
        section = levels[start : start + count]
        start += count
        scale = min(int(np.searchsorted(_SCALES, math.hypot(*section) / math.sqrt(count))), 255)
        scales.append(scale)
        most = _largest(width)
        steps.append(np.rint(section * (most / (reach * _SCALES[scale]))).clip(-most, most).astype(np.int16))
    return _packed(np.array([scales], np.uint8), np.concatenate(steps)[None]).tobytes()


def mirrored(fingerprints: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the fingerprints of the mirror images, (k, `FINGERPRINT_BYTES`): just those that `fingerprint` gives."""
    return _packed(fingerprints[:, : len(_SECTIONS)], _steps(fingerprints) * _MIRROR)


def levels(fingerprints: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the frequencies' amplitudes, (k, `FREQUENCIES`), in gray levels."""
    counts = [count for count, _, _ in _SECTIONS]
    units = np.array([reach / _largest(width) for _, width, reach in _SECTIONS])
    sizes = (_SCALES[fingerprints[:, : len(_SECTIONS)]] * units).astype(np.float32)
    return np.asarray(_steps(fingerprints) * np.repeat(sizes, counts, axis=1))


def squares(levels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return amplitudes, (k, `FREQUENCIES`), at their places by frequency down and across: (k, `SIDE`, `SIDE`)."""
    placed = np.zeros((len(levels), SIDE, SIDE), np.float32)
    placed[:, V, U] = levels
    return placed


def _cells(rgb: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return the mean brightness of each cell, (`_CELLS`, `_CELLS`), in 1/16 gray level, rounded to whole numbers."""
    height, width = rgb.shape[:2]
    rows = max(1, min(_CELLS, _CELLS * _LARGEST // (height * width)))
    sums = [_sums(rgb, top, min(top + rows, _CELLS)) for top in range(0, _CELLS, rows)]
    return np.asarray(np.floor(16 * np.concatenate(sums) / (height * width) + 0.5))


def _sums(rgb: NDArray[np.uint8], top: int, bottom: int) -> NDArray[np.float64]:
    """Return the sums of brightness over the rows `top` to `bottom` of cells, a pixel counting `_CELLS` ** 2 times.

    So pixels that lie in several cells are shared out exactly.
    """
    height, width = rgb.shape[:2]
    first, last = top * height // _CELLS, -(-bottom * height // _CELLS)
    running = cv2.integral(cv2.cvtColor(rgb[first:last], cv2.COLOR_RGB2GRAY), sdepth=cv2.CV_64F)
    across = _between(running, np.arange(top, bottom + 1) * height - first * _CELLS)
    return np.diff(np.diff(_between(across.T, np.arange(_CELLS + 1) * width).T, axis=0), axis=1)


def _between(running: NDArray[np.float64], edges: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the running sums at `edges`, which are in 1/`_CELLS` rows, times `_CELLS`."""
    row, part = np.divmod(edges, _CELLS)
    below, above = running[row], running[np.minimum(row + 1, len(running) - 1)]
    return np.asarray(below * (_CELLS - part)[:, None] + above * part[:, None])


def _largest(width: int) -> int:
    """Return the largest number of steps, either way, that `width` bits hold."""
    return (1 << (width - 1)) - 1


def _packed(scales: NDArray[np.uint8], steps: NDArray[np.int16]) -> NDArray[np.uint8]:
    bits, start = [], 0
    for count, width, _ in _SECTIONS:
        codes = (steps[:, start : start + count] + (_largest(width) + 1)).astype(np.uint8)
        start += count
        bits.append(np.unpackbits(codes[:, :, None], axis=2)[:, :, 8 - width :].reshape(len(steps), count * width))
    return np.concatenate([scales, np.packbits(np.concatenate(bits, axis=1), axis=1)], axis=1)


def _steps(fingerprints: NDArray[np.uint8]) -> NDArray[np.int16]:
    bits = np.unpackbits(fingerprints[:, len(_SECTIONS) :], axis=1)
    steps, start = [], 0
    for count, width, _ in _SECTIONS:
        section = bits[:, start : start + count * width].reshape(len(bits), count, width)
        start += count * width
        codes = np.packbits(section, axis=2)[:, :, 0] >> (8 - width)
        steps.append(codes.astype(np.int16) - (_largest(width) + 1))
    return np.concatenate(steps, axis=1)
