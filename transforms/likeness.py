"""Whether two pictures show the same, told by their fingerprints alone.

One picture is laid on the other: first edge on edge, then wherever it fits best. Its tones are bent to the other's, as
brightness, contrast and gamma do, and clipping nearly so. Then the place where they differ most decides, not the mean:
two crops of faces that agree but for the mouth are two expressions.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from transforms.fingerprint import DETAIL, FREQUENCIES, SIDE, levels, squares

_Floats = NDArray[np.float32]
_Frames = NDArray[np.float32]
"""(k, 2, 2): across and down, the part of the first picture that the second shows: its size, and how far its middle is
from the first one's, both in sides of the first."""

_CHUNK = 64
"""Pairs compared at once: their numbers fit a core's cache."""

_POINTS = 16
"""Along a side, where two pictures are compared: enough for the frequencies kept."""


@dataclass(frozen=True)
class _Look:
    """How two pictures are compared.

    `sharpness` is the frequency, in half periods a side, of which the Gaussian blur before it leaves 61 %. `margin` is
    the share of a side next to an edge that does not count: there the waves of a fingerprint are flat, the picture is
    not. `limit` is the difference that still counts as the same, in units of what `_difference` allows.
    """

    sharpness: float
    margin: float
    limit: float = 1.0


# Chosen together with what follows, by measuring. To be found: 164 photographs and drawings changed in 45 ways, that is
# resized, encoded anew, brightened, cropped. To be told apart: those 164, 13,263 parts of them, their 110 faces at 112
# and 48 px, two women with 8 expressions each, and 286 frames of videos.
#
# On equal edges all frequencies can be compared. Where one is a crop, its waves were cut and sampled elsewhere; what a
# blur leaves is immune to both.
_STILL = _Look(sharpness=12, margin=0.04, limit=2.0)
_MOVED = _Look(sharpness=7, margin=0.08, limit=0.85)
_COARSE = _Look(sharpness=4, margin=0.08)

_CONTRAST = 0.27
"""Difference allowed, as a share of the picture's detail: tones that are bent in ways that no cubic follows."""

_NOISE_LEVELS = 0.4
"""Difference allowed, in gray levels: rounding, encoding."""

_TEXTURE = 0.5
"""Difference allowed, as a share of the details around that are too fine to be looked at: a crop samples them anew."""

_AROUND = 5
"""How near "around" is: the Gaussian is 1/(5 pi) of a side wide."""

_MIN_AGREEMENT = 0.9
"""Correlation of details. Of what is to be found 99.5 % have 0.95. Where there is little to see, as in two gradients, a
cubic bends nearly anything to anything, but not the details.
"""

_COARSE_STEPS, _COARSE_FIT = 3, 0.9
_STEPS, _FIT = 3, 0.95
"""How the best place is searched, and the share of the variance that must be explained there.

Of 7,169 crops and copies 99.8 % have more; of faces of different people whose hashes are near, 95 % have less.
"""

_FULL_LIMIT_AT = 0.03
"""Shift, in sides, from which on the limit counts in full. A crop excuses some difference, a small one less: without
this, of 216 pairs of wide frames with two expressions of a small face 36 are the same, with it 23."""

_MAX_OUTSIDE = 0.01
"""A crop is a part of the other picture; this much, in sides, may be an error of the fit."""

_WAVES = np.arange(SIDE, dtype=np.float32)
_NORM = np.where(_WAVES == 0, 1, np.sqrt(2)).astype(np.float32)
_AT = ((np.arange(_POINTS) + 0.5) / _POINTS - 0.5).astype(np.float32)
_EDGE_ON_EDGE = np.array([[1, 0], [1, 0]], np.float32)
_DETAIL = np.zeros((1, FREQUENCIES), np.float32)
_DETAIL[:, DETAIL] = 1
_DETAIL = squares(_DETAIL)


def differences(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> _Floats:
    """Return how far apart the fingerprints of each pair are, (k, `FINGERPRINT_BYTES`) each: up to 1 is the same.

    The order within a pair does not matter.
    """
    first, second = _ordered(first, second)
    found = np.full(len(first), np.inf, np.float32)
    frames = _edge_on_edge(len(first))
    explained = np.empty(len(first), np.float32)
    for chunk in _chunks(np.arange(len(first))):
        one, other = squares(levels(first[chunk])), squares(levels(second[chunk]))
        for _ in range(_COARSE_STEPS):
            frames[chunk], explained[chunk] = _moved(one, other, frames[chunk], _COARSE)
    for chunk in _chunks(np.flatnonzero(explained >= _COARSE_FIT)):
        one, other = squares(levels(first[chunk])), squares(levels(second[chunk]))
        there = frames[chunk]
        sizes, middles = there[:, :, :1], there[:, :, 1:]
        back = np.concatenate([1 / sizes, -middles / sizes], axis=2)
        here = _one_way(one, other, there)
        # What was clipped cannot be bent back, so either may be the original.
        again = np.flatnonzero(here > 1)
        here[again] = np.minimum(here[again], _one_way(other[again], one[again], back[again]))
        found[chunk] = here
    return found


def _ordered(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return each pair with the lesser fingerprint first."""
    rows = np.arange(len(first))
    differing = (first != second).argmax(axis=1)
    later = (first[rows, differing] > second[rows, differing])[:, None]
    return np.where(later, second, first), np.where(later, first, second)


def _chunks(places: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    return (places[start : start + _CHUNK] for start in range(0, len(places), _CHUNK))


def _one_way(first: _Floats, second: _Floats, frames: _Frames) -> _Floats:
    """Return the differences where the first picture is bent, and the second is where it fits it best near `frames`."""
    found = _difference(first, second, _edge_on_edge(len(first)), _STILL)
    which = np.flatnonzero(found > 1)
    frames = frames[which]
    explained = np.ones(len(which), np.float32)
    for _ in range(_STEPS):
        frames, explained = _moved(first[which], second[which], frames, _MOVED)
    shift = np.abs(frames - _EDGE_ON_EDGE).max(axis=(1, 2), initial=0)
    crops = (explained >= _FIT) & _within(frames)
    which, frames, shift = which[crops], frames[crops], shift[crops]
    excused = np.minimum(1, 0.5 + 0.5 * shift / _FULL_LIMIT_AT)
    found[which] = np.minimum(found[which], _difference(first[which], second[which], frames, _MOVED) / excused)
    return found


def _edge_on_edge(count: int) -> _Frames:
    return np.tile(_EDGE_ON_EDGE, (count, 1, 1))


def _within(frames: _Frames) -> NDArray[np.bool_]:
    """Say where one picture is a part of the other."""
    sizes, middles = frames[:, :, 0], frames[:, :, 1]
    low, high = middles - sizes / 2 + 0.5, middles + sizes / 2 - 0.5
    inside = ((low >= -_MAX_OUTSIDE) & (high <= _MAX_OUTSIDE)).all(axis=1)
    around = ((low <= _MAX_OUTSIDE) & (high >= -_MAX_OUTSIDE)).all(axis=1)
    return np.asarray(inside | around)


# ------------------------------------------------------------------------------------------------- laying on another


class _Overlap:
    """Pictures that lie on each other, and how blurred they are looked at: the same blur on the ground for both.

    `shown` (k, `_POINTS`, `_POINTS`) is 1 where both show something, away from their edges.
    """

    def __init__(self, frames: _Frames, sharpness: float, margin: float) -> None:
        sizes, middles = frames[:, :, 0], frames[:, :, 1]
        sharp: _Floats = np.float32(sharpness) * np.minimum(1, sizes)
        self.blur = _blur(sharp)
        self.first_blur = _blur(np.asarray(sharp / sizes))
        at = sizes[:, :, None] * _AT + middles[:, :, None]
        self.across, self.down = at[:, 0], at[:, 1]
        self.columns, self.rows = waves(self.across).transpose(0, 2, 1), waves(self.down)
        inner = 0.5 - margin
        seen = (np.abs(at) <= inner) & (np.abs(_AT) <= inner)
        self.shown = (seen[:, 1, :, None] & seen[:, 0, None, :]).astype(np.float32)
        self.count = self.shown.sum(axis=(1, 2))

    def first(self, squares: _Floats) -> _Floats:
        """Return the first picture at the points of the second."""
        return np.asarray(self.rows @ (squares * self.first_blur) @ self.columns)

    def mean(self, values: _Floats) -> _Floats:
        """Return the means over what is shown, to be subtracted: (k, 1, 1)."""
        return np.asarray((values * self.shown).sum(axis=(1, 2)) / self.count)[:, None, None]


def waves(at: _Floats) -> _Floats:
    """Return the waves at places (...), in sides from the middle: (..., `SIDE`)."""
    return np.asarray(np.cos(np.pi * (at + 0.5)[..., None] * _WAVES) * _NORM)


def _slopes(at: _Floats) -> _Floats:
    """Return how the waves rise at places."""
    return np.asarray(np.sin(np.pi * (at + 0.5)[..., None] * _WAVES) * (-np.pi * _WAVES * _NORM))


def _blur(sharp: _Floats) -> _Floats:
    """Return what is left of each frequency, (k, `SIDE`, `SIDE`), of `sharp` (k, 2) across and down."""
    left = np.exp(-(_WAVES**2) / (2 * sharp[:, :, None] ** 2))
    return np.asarray(left[:, 1, :, None] * left[:, 0, None, :])


_HERE = waves(_AT)
_FINE = waves(((np.arange(24) + 0.5) / 24 - 0.5).astype(np.float32))
_BACK: _Floats = np.ascontiguousarray(_FINE.T / np.float32(len(_FINE)))
_NEAR = np.exp(-((np.pi * _AROUND * (_AT[:, None] - _AT)) ** 2) / 2).astype(np.float32)


def _on_both_sides(squares: _Floats, matrix: _Floats) -> _Floats:
    """Return `matrix` @ square @ `matrix`.T for each square: as two large products, which is faster."""
    (count, side, _), size = squares.shape, len(matrix)
    half = squares.reshape(count * side, side) @ matrix.T
    half = half.reshape(count, side, size).transpose(0, 2, 1).reshape(count * size, side) @ matrix.T
    return np.asarray(half.reshape(count, size, size).transpose(0, 2, 1))


def _tones(first: _Floats) -> _Floats:
    """Return the picture, its square and its cube, as waves again: (k, 3, `SIDE`, `SIDE`).

    Powers of what is sharp, blurred later: bending tones and then reducing is not the same as the reverse.
    """
    sharp = _on_both_sides(first, _FINE)
    unit = np.sqrt((sharp**2).mean(axis=(1, 2), keepdims=True)) + np.float32(1e-6)
    sharp /= unit
    square = sharp * sharp
    return np.stack([first / unit, _on_both_sides(square, _BACK), _on_both_sides(square * sharp, _BACK)], axis=1)


def _solved(columns: _Floats, values: _Floats, damping: float = 0.0) -> _Floats:
    """Return the least-squares factors of columns (k, m, n) for values (k, n)."""
    normal = (columns @ columns.transpose(0, 2, 1)).astype(np.float64)
    right = (columns @ values[:, :, None]).astype(np.float64)
    diagonal = np.arange(normal.shape[1])
    normal[:, diagonal, diagonal] *= 1 + damping
    normal[:, diagonal, diagonal] += 1e-4
    return np.asarray(np.linalg.solve(normal, right)[:, :, 0].astype(np.float32))


def _moved(first: _Floats, second: _Floats, frames: _Frames, look: _Look) -> tuple[_Frames, _Floats]:
    """Return better frames, by one Gauss-Newton step, and the share of the variance that the old ones explained."""
    count = len(first)
    overlap = _Overlap(frames, look.sharpness, look.margin)
    shown = overlap.shown
    blurred = first * overlap.first_blur
    rows = overlap.rows @ blurred
    tone = rows @ overlap.columns
    tone -= overlap.mean(tone)
    unit = np.sqrt(overlap.mean(tone**2)) + np.float32(1e-6)
    tone /= unit
    columns = np.empty((count, 7, _POINTS, _POINTS), np.float32)
    columns[:, 0], columns[:, 1], columns[:, 2] = shown, shown * tone, shown * (tone**2 - 1)
    values = (_on_both_sides(second * overlap.blur, _HERE) * shown).reshape(count, _POINTS**2)
    bent = columns[:, :3].reshape(count, 3, _POINTS**2)
    factors = _solved(bent, values)
    left = values - (factors[:, None] @ bent)[:, 0]
    spread = (values**2).sum(axis=1) - values.sum(axis=1) ** 2 / overlap.count
    steepness = shown * (factors[:, 1, None, None] + 2 * factors[:, 2, None, None] * tone) / unit
    across = rows @ _slopes(overlap.across).transpose(0, 2, 1) * steepness
    down = _slopes(overlap.down) @ blurred @ overlap.columns * steepness
    columns[:, 3], columns[:, 4] = across * _AT, across
    columns[:, 5], columns[:, 6] = down * _AT[:, None], down
    step = _solved(columns.reshape(count, 7, _POINTS**2), values, damping=1e-3)[:, 3:].reshape(count, 2, 2)
    frames = frames + step.clip(-0.08, 0.08)
    frames[:, :, 0] = frames[:, :, 0].clip(0.75, 1.33)
    frames[:, :, 1] = frames[:, :, 1].clip(-0.2, 0.2)
    return frames, 1 - (left**2).sum(axis=1) / np.maximum(spread, np.float32(1e-6))


def _difference(first: _Floats, second: _Floats, frames: _Frames, look: _Look) -> _Floats:
    """Return the largest difference of any place, in units of what is allowed there; infinite without agreement."""
    count = len(second)
    overlap = _Overlap(frames, look.sharpness, look.margin)
    shown = overlap.shown
    blurred = second * overlap.blur
    values = (_on_both_sides(blurred, _HERE) * shown).reshape(count, _POINTS**2)
    columns = np.empty((count, 4, _POINTS, _POINTS), np.float32)
    columns[:, 0] = shown
    tones = _tones(first)
    for power in range(3):
        tone = overlap.first(tones[:, power])
        columns[:, power + 1] = (tone - overlap.mean(tone)) * shown
    bent = columns.reshape(count, 4, _POINTS**2)
    left = np.abs(values - (_solved(bent, values)[:, None] @ bent)[:, 0]).reshape(shown.shape)
    finer = _on_both_sides(second - blurred, _HERE) * shown
    texture = _on_both_sides(finer**2, _NEAR) / np.maximum(_on_both_sides(shown, _NEAR), np.float32(1e-6))
    detail = ((second * _DETAIL) ** 2).sum(axis=(1, 2), keepdims=True)
    allowed = np.sqrt(_CONTRAST**2 * detail + _NOISE_LEVELS**2 + _TEXTURE**2 * np.maximum(texture, 0))
    found = (left / allowed).max(axis=(1, 2)) / np.float32(look.limit)
    return np.where(_agree(first, second, overlap), found, np.float32(np.inf))


def _agree(first: _Floats, second: _Floats, overlap: _Overlap) -> NDArray[np.bool_]:
    """Say where the details of both are the same."""
    # The fourth power of a Gaussian is one of half the sharpness: between the two lie the details.
    one = overlap.rows @ (first * (overlap.first_blur - overlap.first_blur**4)) @ overlap.columns * overlap.shown
    other = _on_both_sides(second * (overlap.blur - overlap.blur**4), _HERE) * overlap.shown
    powers = (one**2).sum(axis=(1, 2)) * (other**2).sum(axis=(1, 2))
    return np.asarray((one * other).sum(axis=(1, 2)) >= _MIN_AGREEMENT * np.sqrt(powers))
