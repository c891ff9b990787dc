"""Boxes around shapes."""

import math
from collections.abc import Sequence

Box = tuple[float | None, float | None, float | None, float | None]

NO_BOX: Box = (None, None, None, None)


def bounds(xs: Sequence[float], ys: Sequence[float]) -> Box:
    """Return left, top, right, bottom of points; NaN where there are none, or where one is no number.

    >>> bounds([3, 1], [2, 4])
    (1, 2, 3, 4)
    """
    if not xs or len(xs) != len(ys) or any(map(math.isnan, xs)) or any(map(math.isnan, ys)):
        return (math.nan, math.nan, math.nan, math.nan)
    return (min(xs), min(ys), max(xs), max(ys))
