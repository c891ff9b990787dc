"""95 % intervals of figures that are computed from sums over pictures.

An interval is the span from the 2.5th to the 97.5th percentile of a figure over 1,000 resamples of the pictures with
replacement (the faces of one picture are not independent), from a fixed seed. It is widened to the figure itself where
that lies outside: a calibration error, for one, is raised by almost every resample. Of more than 10,000 pictures, that
many groups are drawn instead, into which the pictures are dealt at random: the interval's width is then known to 1 %.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array  # type: ignore[import-untyped,unused-ignore]

RESAMPLES = 1000
MOST_UNITS = 10_000
"""Units that are resampled at most."""

_SEED = 20_130
_PERCENTILES = (2.5, 97.5)

Floats = NDArray[np.float64]
Ints = NDArray[np.integer[Any]]
Blocks = dict[str, Floats]
"""Sums by the name of their block."""


@dataclass(frozen=True)
class Block:
    """What faces add to an array of `shape`: an `amount` each to a `cell`, which is counted in C order.

    `picture` numbers the picture that the amount comes from, from 0.
    """

    shape: tuple[int, ...]
    picture: Ints
    cell: Ints
    amount: Floats


def counted(shape: tuple[int, ...], picture: Ints, cell: Ints) -> Block:
    """Return a block that counts faces."""
    return Block(shape, picture, cell, np.ones(len(cell)))


@dataclass(frozen=True)
class Interval:
    """A figure with its 95 % interval; NaN where it cannot be computed."""

    value: float
    low: float
    high: float

    def told(self) -> dict[str, float | None]:
        """Return it as JSON."""
        return {"value": told(self.value), "low": told(self.low), "high": told(self.high)}


def told(value: float) -> float | None:
    """Return a number as JSON can write it: rounded to six places, null for NaN."""
    return None if np.isnan(value) else round(float(value), 6)


class Sums:
    """Blocks that are summed over any weighted set of the pictures."""

    def __init__(self, pictures: int, blocks: Mapping[str, Block]) -> None:
        self._units = min(pictures, MOST_UNITS)
        unit = np.arange(pictures, dtype=np.int32) % self._units
        if pictures > self._units:
            unit = np.random.default_rng(_SEED).permutation(unit)
        self._places: dict[str, tuple[slice, tuple[int, ...]]] = {}
        cells, width = [], 0
        for name, block in blocks.items():
            self._places[name] = (slice(width, width + prod(block.shape)), block.shape)
            cells.append(block.cell.astype(np.int32) + width)
            width += prod(block.shape)
        places = (np.concatenate(cells), unit[np.concatenate([block.picture for block in blocks.values()])])
        amounts = np.concatenate([block.amount for block in blocks.values()])
        self._matrix = coo_array((amounts, places), shape=(width, self._units)).tocsr()

    def total(self) -> Blocks:
        """Return the sums over all pictures."""
        return self._of(np.ones(self._units))

    def bootstrap(self, figures: Callable[[Blocks], Floats]) -> list[Interval]:
        """Return the figures (m,) that `figures` computes from the sums, with their intervals."""
        values = figures(self.total())
        random = np.random.default_rng(_SEED)
        drawn = np.empty((RESAMPLES, len(values)))
        for row in drawn:
            chosen = random.integers(0, self._units, self._units, dtype=np.int32)
            row[:] = figures(self._of(np.bincount(chosen, minlength=self._units).astype(float)))
        return [_interval(value, sample) for value, sample in zip(values, drawn.T, strict=True)]

    def _of(self, weights: Floats) -> Blocks:
        sums = self._matrix @ weights
        return {name: sums[place].reshape(shape) for name, (place, shape) in self._places.items()}


def _interval(value: float, sample: Floats) -> Interval:
    sample = sample[~np.isnan(sample)]
    if np.isnan(value) or not sample.size:
        return Interval(float(value), float(value), float(value))
    low, high = np.percentile(sample, _PERCENTILES)
    return Interval(float(value), float(min(low, value)), float(max(high, value)))
