"""Which convention a source's boxes are in, told by all of them together, and how they become pixels.

A convention is what the four numbers are (two corners; a corner and the size; the middle and the size) and what they
are counted in (pixels, shares of the picture's sides, hundredths of these). Where nothing declares it, the boxes do: in
the right convention they lie inside their pictures, in a wrong one many do not.
"""

from dataclasses import dataclass, field
from typing import get_args

import numpy as np
import polars as pl
from numpy.typing import NDArray

from schemas.errors import UsageError
from schemas.raw import Corners, Facts, Unit

DIRT = 0.05
"""A source may have so many faulty boxes, as a share of all, before its evidence is doubted. BCCD, a set known for its
faults, has 0.2 %; a source with more than this is asked about rather than guessed."""

CLEARLY = 3
"""So many boxes must speak for the better convention for each that speaks for the other. A fault puts a box into both
wrong and right conventions alike; a wrong convention is seldom right where the right one is wrong."""

EXPLAINED = 0.9
"""The least share of boxes inside their pictures in a convention that nothing but the boxes tells, and in one that
refutes a declaration which loses half of them: twice DIRT may be faulty, for faults come in clusters."""

UNIT_EXPLAINED = 0.5
"""The same where only the unit is open. Units differ by a factor, so that the boxes of a faulty source tell it too."""

SPECK = 0.5
"""A box of less than so many pixels on both sides is none that a person drew: the numbers are of another unit."""

CRAMPED = 0.25
"""Of boxes all over their pictures at least 3/4 reach beyond the middle of a side. Where fewer than this share do, the
numbers are too small for their unit: percent read as pixels fill one corner of a large picture."""

CRAMPED_BOXES = 30
"""Of fewer boxes it is not told whether they are cramped: all may be in one picture."""

SLACK = 0.005
"""Boxes may reach so far over the edge, as a share of the side, and by one pixel at least: edges are counted from 0 or
from 1, inclusive or not, in every combination, and that tells nothing about the convention."""


@dataclass(frozen=True)
class Convention:
    """What the four numbers of a box are, and what they are counted in."""

    corners: Corners
    unit: Unit

    def __str__(self) -> str:
        return f"{self.corners}-{self.unit}"


CONVENTIONS = tuple(
    Convention(corners, unit) for unit in ("pixels", "unit", "percent") for corners in ("xywh", "xyxy", "cxcywh")
)
"""All nine, in the order in which one is taken where they mean the same."""

XYWH_PIXELS = CONVENTIONS[0]
"""The convention of the tables."""


@dataclass(frozen=True)
class Asked:
    """The convention that a person names; the unit is null where the boxes tell it."""

    corners: Corners
    unit: Unit | None = None


Example = tuple[float, ...]
"""A box as it came, and its picture's width and height, 0 where they are not known."""


@dataclass
class Evidence:
    """Counts of the boxes of a source by the conventions in which they lie inside their pictures.

    Such a set of conventions is a number, whose bit i stands for CONVENTIONS[i]. `boxes` counts the boxes of each set,
    `examples` has one box of each, `reaching` counts for each convention the boxes inside that reach beyond the middle
    of a side. `at_origin` are boxes whose first two numbers are 0, and `hundreds` those in pictures of 100 x 100: there
    conventions mean the same.
    """

    boxes: NDArray[np.int64] = field(default_factory=lambda: np.zeros(1 << len(CONVENTIONS), np.int64))
    reaching: NDArray[np.int64] = field(default_factory=lambda: np.zeros(len(CONVENTIONS), np.int64))
    examples: dict[int, Example] = field(default_factory=dict)
    at_origin: int = 0
    hundreds: int = 0

    def add(self, rows: pl.DataFrame) -> None:
        """Count rows with the columns a, b, c, d and width, height; boxes that are no numbers tell nothing."""
        columns = rows.select(pl.col("a", "b", "c", "d", "width", "height").cast(pl.Float64))
        boxes = columns.filter(pl.all_horizontal(pl.col("a", "b", "c", "d").is_finite()))
        numbers = boxes.to_numpy(order="fortran").T  # each column in one piece, for speed
        box, size = numbers[:4], np.where(_both(numbers[4:] > 0), numbers[4:], np.nan)
        largest, edges = box.max(axis=0), {corners: _edges(box, corners) for corners in get_args(Corners)}
        fits = np.zeros(box.shape[1], np.int64)
        for bit, convention in enumerate(CONVENTIONS):
            inside, reaching = _fits(*edges[convention.corners], largest, size, convention.unit)
            fits |= inside.astype(np.int64) << bit
            self.reaching[bit] += int((inside & reaching).sum())
        self.boxes += np.bincount(fits, minlength=len(self.boxes))
        self.at_origin += int(_both(box[:2] == 0).sum())
        self.hundreds += int(_both(size == 100).sum())
        shown = np.concatenate((box, np.nan_to_num(size)))
        telling = box[:2].min(axis=0)
        for found in np.flatnonzero(np.bincount(fits)).tolist():
            at = np.flatnonzero(fits == found)
            best = at[telling[at] == telling[at].max()]
            last = best[np.lexsort(shown[::-1, best])[-1]]
            self._keep(found, tuple(shown[:, last].tolist()))

    def merge(self, other: "Evidence") -> "Evidence":
        """Return what both have counted."""
        both = Evidence(
            self.boxes + other.boxes,
            self.reaching + other.reaching,
            dict(self.examples),
            self.at_origin + other.at_origin,
            self.hundreds + other.hundreds,
        )
        for found, example in other.examples.items():
            both._keep(found, example)
        return both

    @property
    def total(self) -> int:
        """The number of boxes."""
        return int(self.boxes.sum())

    def inside(self, convention: Convention) -> int:
        """Return how many boxes lie inside their pictures in a convention."""
        return int(self.boxes[_sets_with(convention)].sum())

    def only(self, one: Convention, other: Convention) -> int:
        """Return how many boxes lie inside in one convention, but not in another."""
        return int(self.boxes[_sets_with(one) & ~_sets_with(other)].sum())

    def cramped(self, convention: Convention) -> bool:
        """Tell whether the boxes crowd in one corner of their pictures."""
        inside = self.inside(convention)
        return inside >= CRAMPED_BOXES and self.reaching[CONVENTIONS.index(convention)] < CRAMPED * inside

    def same(self, one: Convention, other: Convention) -> bool:
        """Tell whether two conventions make the same pixels of every box."""
        corners, units = {one.corners, other.corners}, {one.unit, other.unit}
        return (len(corners) == 1 or (corners == {"xyxy", "xywh"} and self.at_origin == self.total)) and (
            len(units) == 1 or (units == {"pixels", "percent"} and self.hundreds == self.total)
        )

    def example(self, conventions: tuple[Convention, ...]) -> Example:
        """Return a box that lies inside in as many of the conventions as any does, of the most frequent set."""
        wanted = sum(1 << CONVENTIONS.index(convention) for convention in conventions)
        best = max(self.examples, key=lambda found: ((found & wanted).bit_count(), self.boxes[found]))
        return self.examples[best]

    def _keep(self, found: int, example: Example) -> None:
        """Keep the example farther from the edge: at 0 corners and sizes look alike. Ties are broken by the numbers."""
        self.examples[found] = max(self.examples.get(found, example), example, key=lambda e: (min(e[:2]), *e))


def decide(evidence: Evidence, facts: Facts, asked: Asked | None, name: str, *, alone: bool = True) -> Convention:
    """Return the convention of a source that is called `name`.

    A person's word stands, then what the source declares unless its boxes refute that plainly; what is left open is
    told by all boxes. Where the source is not `alone`, a person's word is not meant for one that declares its boxes
    truly. `UsageError` where the boxes do not tell, or tell otherwise than the source.
    """
    if not alone and facts.corners and not _refuting(evidence, _matching(CONVENTIONS, facts.corners, facts.unit)):
        asked = None
    possible = _matching(CONVENTIONS, asked.corners if asked else None, asked.unit if asked else None)
    declared = _matching(
        possible, None if asked else facts.corners, facts.unit if asked is None or asked.unit is None else None
    )
    refuting = tuple(c for c in _refuting(evidence, declared) if c in possible)
    if refuting:
        against = max(declared, key=evidence.inside)
        raise UsageError(
            f"{name}: its format says that boxes are {against}, but so read only {evidence.inside(against)} of "
            f"{evidence.total} lie inside their pictures; otherwise read nearly all do: "
            f"{_listed(evidence, refuting)}. {_shown(evidence, (against, *refuting))} {_question((against, *refuting))}"
        )
    left = _plausible(evidence, declared)
    due = UNIT_EXPLAINED if len({c.corners for c in declared}) == 1 else EXPLAINED
    if len(declared) > 1 and evidence.inside(left[0]) < due * evidence.total:
        raise UsageError(
            f"{name}: nothing says how its boxes are written, and no way keeps them inside their pictures: at best as "
            f"{_listed(evidence, left[:2])}. {_shown(evidence, left[:2])} Are these its pictures? {_question(left[:2])}"
        )
    if not all(evidence.same(left[0], other) for other in left[1:]):
        raise UsageError(
            f"{name}: nothing says how its boxes are written, and more than one way keeps them inside their pictures: "
            f"{_listed(evidence, left)}. {_shown(evidence, left)} {_question(left)}"
        )
    return left[0]


def read_convention(text: str) -> Asked:
    """Return the convention that a person names: "xyxy", "cxcywh-unit", ..."""
    named = {c.corners: Asked(c.corners) for c in CONVENTIONS} | {str(c): Asked(c.corners, c.unit) for c in CONVENTIONS}
    found = named.get(text.strip().lower())
    if found is None:
        raise UsageError(
            f"--bbox-format: expected {', '.join(get_args(Corners))}, with -pixels, -unit (0..1) or -percent (0..100) "
            f"behind it where wished; got {text!r}"
        )
    return found


def to_pixels(rows: pl.DataFrame, convention: Convention) -> pl.DataFrame:
    """Return rows with x, y, w, h (Float64, pixels) made of a, b, c, d; null where a size is needed and not known.

    What is computed is rounded to a millionth of a pixel, less than float32 tells apart, so that 0.1 + 0.2 is 0.3.
    """
    a, b, c, d = (pl.col(name) for name in "abcd")
    x, y, w, h = {
        "xywh": (a, b, c, d),
        "xyxy": (a, b, c - a, d - b),
        "cxcywh": (a - c / 2, b - d / 2, c, d),
    }[convention.corners]
    if convention == XYWH_PIXELS:
        return rows.with_columns(x=x, y=y, w=w, h=h)
    if convention.unit != "pixels":
        whole = 100 if convention.unit == "percent" else 1
        known = (pl.col("width") > 0) & (pl.col("height") > 0)
        wide, high = (pl.when(known).then(pl.col(side).cast(pl.Float64) / whole) for side in ("width", "height"))
        x, y, w, h = x * wide, y * high, w * wide, h * high
    return rows.with_columns(x=x.round(6), y=y.round(6), w=w.round(6), h=h.round(6))


def _edges(box: NDArray[np.float64], corners: Corners) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the near and the far edges (2, n) of boxes (4, n)."""
    first, second = box[:2], box[2:]
    with np.errstate(over="ignore", invalid="ignore"):  # hostile numbers: their sums are inf, which is outside
        if corners == "xyxy":
            return first, second
        if corners == "xywh":
            return first, first + second
        return first - second / 2, first + second / 2


def _fits(
    near: NDArray[np.float64],
    far: NDArray[np.float64],
    largest: NDArray[np.float64],
    size: NDArray[np.float64],
    unit: Unit,
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return which boxes (2, n) lie inside pictures of `size` (2, n), and which reach beyond the middle of a side.

    `largest` (n,) is the largest of each box's four numbers. Of a picture of unknown size only the near edges are known
    in pixels.
    """
    if unit == "pixels":
        end = np.where(np.isnan(size), np.inf, size)
        slack = np.fmax(1.0, SLACK * size)
        likely = largest >= 1  # numbers below 1 are shares; a box of one pixel in the corner is [0, 0, 1, 1]
    else:
        end = np.full((2, 1), 1.0 if unit == "unit" else 100.0)
        slack = SLACK * end
        likely = np.ones(len(largest), np.bool_)
    with np.errstate(over="ignore", invalid="ignore"):
        if unit == "percent":
            likely = (largest > 1) & ~_both((far - near) * size < SPECK * end)
        inside = _both((near >= -slack) & (far <= end + slack) & (far > near)) & likely
    return inside, ~_both((far <= end / 2) & np.isfinite(end))


def _both(axes: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Tell for which columns of (2, n) both are true; ten times as fast as `all` over so short an axis."""
    both: NDArray[np.bool_] = axes[0] & axes[1]
    return both


def _sets_with(convention: Convention) -> NDArray[np.bool_]:
    """Tell for each set of conventions whether it has this one."""
    return (np.arange(1 << len(CONVENTIONS)) >> CONVENTIONS.index(convention) & 1).astype(np.bool_)


def _matching(
    conventions: tuple[Convention, ...], corners: Corners | None, unit: Unit | None
) -> tuple[Convention, ...]:
    return tuple(c for c in conventions if corners in (None, c.corners) and unit in (None, c.unit))


def _plausible(evidence: Evidence, conventions: tuple[Convention, ...]) -> tuple[Convention, ...]:
    """Return the conventions that the boxes leave open, the best first."""
    roomy = tuple(
        c for c in conventions if not evidence.cramped(c) and evidence.inside(c) >= EXPLAINED * evidence.total
    )
    left = tuple(c for c in conventions if not roomy or not evidence.cramped(c))
    best = max(left, key=evidence.inside)
    return (best, *(c for c in left if c != best and evidence.total and not _worse(evidence, c, best)))


def _worse(evidence: Evidence, one: Convention, best: Convention) -> bool:
    """Tell whether so many boxes speak for `best` against `one` that faults cannot be why.

    If `one` were the right convention, only faulty boxes would be outside in it: by DIRT that is a binomial number,
    here its mean, three deviations and, where the unit is the same, two more for sources of few boxes. Units differ by
    a factor, which no fault bridges.
    """
    faults = DIRT * evidence.total
    due = faults + 3 * np.sqrt(faults) + (2 if one.unit == best.unit else 0)
    return bool(evidence.only(best, one) >= due + CLEARLY * evidence.only(one, best))


def _refuting(evidence: Evidence, declared: tuple[Convention, ...]) -> tuple[Convention, ...]:
    """Return the conventions that explain nearly all boxes where the declared ones lose half of them."""
    best = max(declared, key=evidence.inside)
    if not evidence.total or 2 * evidence.inside(best) > evidence.total:
        return ()
    likely = (c for c in CONVENTIONS if c not in declared and evidence.inside(c) >= EXPLAINED * evidence.total)
    return tuple(c for c in likely if _worse(evidence, best, c))


def _listed(evidence: Evidence, conventions: tuple[Convention, ...]) -> str:
    return ", ".join(f"{c} ({evidence.inside(c)} of {evidence.total})" for c in conventions)


def _shown(evidence: Evidence, conventions: tuple[Convention, ...]) -> str:
    """Return what each convention makes of one box, for a person to see which is meant."""
    example = evidence.example(conventions)
    columns = dict(zip(("a", "b", "c", "d", "width", "height"), example, strict=True))
    row = pl.DataFrame({name: [value] for name, value in columns.items()})
    size = "unknown size" if not example[4] else f"{example[4]:.0f} x {example[5]:.0f} px"
    readings = "; ".join(f"as {convention} {_reading(row, convention)}" for convention in conventions)
    return f"{_plain(example[:4])} in a picture of {size} is {readings}."


def _reading(row: pl.DataFrame, convention: Convention) -> str:
    read = to_pixels(row, convention).select("x", "y", "w", "h").row(0, named=True)
    if None in read.values():
        return "not to be told"
    return ", ".join(f"{name} {value:g}" for name, value in read.items())


def _question(conventions: tuple[Convention, ...]) -> str:
    one_unit = len({c.unit for c in conventions}) == 1
    options = [f"--bbox-format {c.corners if one_unit else c}" for c in conventions]
    return f"Say which it is: {' or '.join(options)}."


def _plain(numbers: Example) -> str:
    return "[" + ", ".join(f"{number:.10g}" for number in numbers) + "]"
