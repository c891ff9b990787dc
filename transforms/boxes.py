"""The rules of single boxes: from the numbers as they came to boxes inside their pictures. All is written down.

    judge_boxes = from_source -> swap_corners -> clip -> aspect -> normalise

Rows have a number `n`, the picture's `width` and `height` (null where the size is not known), and the box as x, y, w, h
in pixels (Float64); all four null: a label of the whole picture, which passes. The changes of a box are in the order in
which they were made, each beginning with the text with which the one before it ended.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from schemas.reasons import Rule
from transforms.conventions import XYWH_PIXELS, Convention, to_pixels
from transforms.judged import Judged
from transforms.rules import MIN_SIDE_PX, OVERHANG_TOLERANCE_PX

BOX = ("x", "y", "w", "h")

LARGEST_PX = 1e7
"""No coordinate is larger: pictures have at most 65,535 px a side as JPEG, and no scanner or satellite tile comes near
this. Beyond 2**24, float32 does not hold every pixel."""

KEPT = 0.5
"""Of a box that belongs to its picture at least this share of the area lies inside. Where it is less, the cut rest
would not show what the label names, and the picture or the box is probably another's."""

LONGEST = 100.0
"""The longest side over the shortest. YOLOv5 trains on no box beyond 100; it was 20, until slender things were lost."""


def judge_boxes(rows: pl.DataFrame, convention: Convention, source: str) -> Judged:
    """Apply all rules to rows of one source that have the box as it came, in a, b, c, d. Adds cx, cy, nw, nh."""
    judged = from_source(rows, convention, source)
    for rule in (swap_corners, clip, aspect):
        judged = judged.then(rule(judged.rows))
    return replace(judged, rows=normalise(judged.rows))


def from_source(rows: pl.DataFrame, convention: Convention, source: str) -> Judged:
    """Put x, y, w, h in the place of a, b, c, d; hold back boxes that are no numbers or cannot be told in pixels."""
    raw = tuple("abcd")
    whole = pl.all_horizontal(pl.col(raw).is_null())
    numbers = pl.all_horizontal(pl.col(raw).is_finite().fill_null(False))
    told = to_pixels(rows, convention)
    in_pixels = pl.all_horizontal(pl.col(BOX).is_not_null())
    sensible = pl.all_horizontal(pl.col(BOX).abs() <= LARGEST_PX)
    unknown = f"{source} has shares of the picture's sides ({convention}), and the picture's size is not known"
    degenerate = Rule.BBOX_DEGENERATE
    faults = (
        (~whole & ~numbers, degenerate, "four numbers were expected"),
        (numbers & ~in_pixels, Rule.BBOX_CONVENTION, unknown),
        (numbers & in_pixels & ~sensible, degenerate, f"beyond {LARGEST_PX:.0f} px, larger than any picture"),
    )
    good = told.filter(whole | (numbers & in_pixels & sensible))
    changes = []
    if convention != XYWH_PIXELS:
        changes.append(_changes(good.filter(~whole), box_text(*raw), box_text(*BOX), Rule.BBOX_CONVENTION))
    rejects = []
    if good.height < told.height:
        rejects = [_rejects(told.filter(where), rule, pl.lit(why), raw) for where, rule, why in faults]
    return Judged.of(good.drop(raw), changes, rejects)


def swap_corners(rows: pl.DataFrame) -> Judged:
    """Turn boxes of negative width or height around: their corners came in the wrong order."""
    swapped = ((pl.col("w") < 0) | (pl.col("h") < 0)).fill_null(False)
    return _changed(
        rows,
        rows.select(swapped).to_series(),
        lambda found: found.with_columns(
            x=pl.min_horizontal("x", pl.col("x") + pl.col("w")).round(6),
            y=pl.min_horizontal("y", pl.col("y") + pl.col("h")).round(6),
            w=pl.col("w").abs(),
            h=pl.col("h").abs(),
        ),
        Rule.BBOX_CORNERS,
    )


def clip(rows: pl.DataFrame) -> Judged:
    """Cut boxes at their picture's edge; hold back those that lie mostly outside, or of which under a pixel is left.

    Of a picture of unknown size only the left and upper edge are known. Whether a box reaches over an edge is asked of
    what float32 makes of it, which is what the tables hold and what is validated.
    """
    box, end = _numbers(rows)
    stored = box.astype(np.float32).astype(np.float64)
    over = np.zeros(rows.height, np.bool_)
    left = np.ones(rows.height)
    for axis in (0, 1):
        over |= stored[axis] < -OVERHANG_TOLERANCE_PX
        over |= stored[axis] + stored[axis + 2] - end[axis] > OVERHANG_TOLERANCE_PX
        inside = np.minimum(box[axis] + box[axis + 2], end[axis]) - np.maximum(box[axis], 0)
        left *= np.divide(np.maximum(inside, 0), box[axis + 2], out=np.ones(rows.height), where=box[axis + 2] > 0)
    cut = _cut(box, end)
    small = np.minimum(box[2], box[3]) < MIN_SIDE_PX - OVERHANG_TOLERANCE_PX
    outside = ~small & (left < KEPT)
    small |= ~outside & over & (np.minimum(cut[2], cut[3]) < MIN_SIDE_PX - OVERHANG_TOLERANCE_PX)
    size = _size_text()
    rejects = []
    if small.any():
        rejects.append(_rejects(rows.filter(small), Rule.BBOX_DEGENERATE, pl.format("in a picture of {}", size)))
    if outside.any():
        share = pl.Series("_left", left[outside] * 100)
        detail = pl.format("{} % of it lies inside its picture of {}", pl.col("_left").round(1), size)
        rejects.append(_rejects(rows.filter(outside).with_columns(share), Rule.BBOX_OUTSIDE, detail))
    over &= ~(small | outside)
    good = rows.filter(~(small | outside)) if rejects else rows
    clipped = _changed(
        good,
        pl.Series(over[~(small | outside)]),
        lambda found: found.with_columns(pl.Series(name, cut[at][over]) for at, name in enumerate(BOX)),
        Rule.BBOX_CLIPPED,
    )
    return replace(clipped, rejects=Judged.of(good, rejects=rejects).rejects)


def aspect(rows: pl.DataFrame) -> Judged:
    """Hold back boxes that are absurdly long."""
    longest = pl.max_horizontal("w", "h") / pl.min_horizontal("w", "h")
    found = rows.select((longest > LONGEST).fill_null(False)).to_series()
    if not found.any():
        return Judged.of(rows)
    detail = pl.format(f"one side is {{}} times the other; more than {LONGEST:.0f} is absurd", longest.round(1))
    return Judged.of(rows.filter(~found), rejects=[_rejects(rows.filter(found), Rule.BBOX_ASPECT, detail)])


def normalise(rows: pl.DataFrame) -> pl.DataFrame:
    """Add cx, cy, nw, nh (0..1): the box's middle and size over the picture's; null without a box or a size."""
    known = (pl.col("width") > 0) & (pl.col("height") > 0)
    wide, high = (pl.when(known).then(pl.col(side)) for side in ("width", "height"))
    return rows.with_columns(
        cx=(pl.col("x") + pl.col("w") / 2) / wide,
        cy=(pl.col("y") + pl.col("h") / 2) / high,
        nw=pl.col("w") / wide,
        nh=pl.col("h") / high,
    )


def box_text(*names: str) -> pl.Expr:
    """Return the JSON list of columns of finite numbers; it reads back to the same numbers.

    Frames are rechunked before they are told in texts: polars 2.1 panics when it formats a column with an empty chunk.
    """
    return pl.format(f"[{','.join(['{}'] * len(names))}]", *names)


def any_box_text(*names: str) -> pl.Expr:
    """Return the same where a number may be missing or none: null, "nan", "inf"."""
    texts = [
        pl.when(pl.col(name).is_finite())
        .then(pl.col(name).cast(pl.String))
        .otherwise('"' + pl.col(name).cast(pl.String).str.to_lowercase() + '"')
        .fill_null("null")
        for name in names
    ]
    return pl.format(f"[{','.join(['{}'] * len(names))}]", *texts)


def _numbers(rows: pl.DataFrame) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return boxes (4, n), NaN for labels of whole pictures, and the far ends (2, n) of their pictures or inf."""
    box = rows.select(pl.col(BOX).cast(pl.Float64)).to_numpy(order="fortran").T
    size = rows.select(pl.col("width", "height").cast(pl.Float64)).to_numpy(order="fortran").T
    known = np.logical_and(size[0] > 0, size[1] > 0)
    return box, np.where(known, size, np.inf)


def _cut(box: NDArray[np.float64], end: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return boxes (4, n) cut to 0..`end` (2, n), as float32 holds them inside the picture."""
    near = np.clip(box[:2], 0, end).astype(np.float32)
    far = np.clip(box[:2] + box[2:], 0, end)
    side = (far - near).astype(np.float32)
    beyond = near.astype(np.float64) + side > end
    side[beyond] = np.nextafter(side[beyond], np.float32(0))
    return np.concatenate((near, side)).astype(np.float64)


def _changed(
    rows: pl.DataFrame, found: pl.Series, change: Callable[[pl.DataFrame], pl.DataFrame], rule: Rule
) -> Judged:
    """Return rows with the boxes of the found ones changed, and the changes."""
    if not found.any():
        return Judged.of(rows)
    before = rows.filter(found).rechunk()
    after = change(before)
    texts = before.select("n", before=box_text(*BOX)).with_columns(after.select(after=box_text(*BOX)))
    at = found.arg_true()
    changed = rows.with_columns(rows[name].scatter(at, after[name]) for name in BOX)
    return Judged.of(changed, [_changes(texts, pl.col("before"), pl.col("after"), rule)])


def _changes(rows: pl.DataFrame, before: pl.Expr, after: pl.Expr, rule: Rule) -> pl.DataFrame:
    told = {"field": pl.lit("bbox"), "rule": pl.lit(rule.value), "confidence": pl.lit(1.0)}
    return rows.rechunk().select("n", before=before, after=after, **told)


def _rejects(rows: pl.DataFrame, rule: Rule, detail: pl.Expr, names: tuple[str, ...] = BOX) -> pl.DataFrame:
    told = {"rule": pl.lit(rule.value), "field": pl.lit("bbox"), "detail": detail}
    return rows.rechunk().select("n", value=any_box_text(*names), **told)


def _size_text() -> pl.Expr:
    size = pl.format("{} x {} px", "width", "height")
    return pl.when((pl.col("width") > 0) & (pl.col("height") > 0)).then(size).otherwise(pl.lit("unknown size"))
