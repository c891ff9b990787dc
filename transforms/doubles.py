"""Labels of one picture that say the same, or that contradict each other.

Rows have a number `n`, the number of their picture, a label, and a box x, y, w, h in pixels (Float64) or none at all: a
label of the whole picture. Where there are `confidence` and `attributes`, they tell the better of two doubles.
"""

from collections.abc import Iterator

import numpy as np
import polars as pl
from numpy.typing import NDArray

from schemas.reasons import Rule
from transforms.boxes import BOX, any_box_text
from transforms.judged import Judged

SAME_THING = 0.8
"""Least intersection over union of two boxes of one label for one thing. Of the cells of BCCD, which lie over each
other, real neighbours have up to 0.59, and the two that were boxed twice have 0.83 and 0.93. People of a crowd who
stand right behind each other may have more; such a row is held back, not lost."""

SAME_BOX = 0.9
"""The same for boxes of two labels. It is higher because things of two kinds may truly fill nearly the same box, as a
bowl and what is in it do, and because a conflict takes a person's time."""

BLOCK_PAIRS = 1 << 18
"""So many pairs are looked at in one go: about 30 MB, however many boxes a picture has."""

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Rows = NDArray[np.intp]


def drop_doubles(rows: pl.DataFrame, *, picture: str = "picture") -> Judged:
    """Of several rows that label the same thing alike, keep the best; the others name it.

    The best has most attributes, then the highest confidence, then comes first. A label without a confidence is a
    plain claim, and better than any that is in doubt. Only a row that stands suppresses others: of a chain of boxes of
    which each overlaps the next, both ends may stand.
    """
    near = _in_company(rows, picture, "label")
    if not near.height:
        return Judged.of(rows)
    place = _places(near)
    itself = np.arange(near.height)
    stands = _best_equal(near.select(picture, "label", *BOX), place)
    boxed = np.flatnonzero((stands == itself) & near["x"].is_not_null().to_numpy())
    group = _numbers(near, pl.struct(picture, "label"))
    stands[boxed] = boxed[_suppressors(group[boxed], _boxes(near)[:, boxed], place[boxed], SAME_THING)]
    stands = stands[stands]  # the best of equal rows may itself be suppressed
    lost = np.flatnonzero(stands != itself)
    if not lost.size:
        return Judged.of(rows)
    whole = pl.col("x").is_null()
    rejects = near[lost].select(
        "n",
        rule=pl.lit(Rule.DUPLICATE_ANNOTATION.value),
        field=pl.when(whole).then(pl.lit("label")).otherwise(pl.lit("bbox")),
        value=pl.when(whole).then("label").otherwise(any_box_text(*BOX)),
        detail=pl.format("the same as row {}, which stands", near["n"].gather(stands[lost])),
    )
    return Judged.of(_without(rows, rejects), rejects=[rejects])


def hold_conflicts(rows: pl.DataFrame, *, picture: str = "picture") -> Judged:
    """Hold back all labels of one box, or of one whole picture, that contradict each other; all are candidates.

    Rows are those of sources whose labels exclude each other: where pictures have several by design, none contradicts.
    """
    near = _in_company(rows.filter(pl.col("label").is_not_null()), picture)
    found = [_conflicts_of_pictures(near, picture), _conflicts_of_boxes(near, picture)]
    if not any(frame.height for frame in found):
        return Judged.of(rows)
    told = {"rule": pl.lit(Rule.LABEL_CONFLICT.value), "field": pl.lit("label"), "value": pl.col("label")}
    rejects = pl.concat([frame.select("n", "candidates", "detail", **told) for frame in found]).sort("n")
    return Judged.of(_without(rows, rejects), rejects=[rejects])


def _in_company(rows: pl.DataFrame, *keys: str) -> pl.DataFrame:
    """Return the rows that share their keys with another; where hashes collide, also some that do not."""
    return rows.filter(pl.struct(keys).hash().is_duplicated())


def _without(rows: pl.DataFrame, rejects: pl.DataFrame) -> pl.DataFrame:
    return rows.join(rejects, on="n", how="anti", maintain_order="left")


def _numbers(rows: pl.DataFrame, key: pl.Expr) -> Integers:
    """Return a number for each row, (n,): equal where the keys are."""
    return rows.select(key.rank("dense").fill_null(0).cast(pl.Int64)).to_series().to_numpy()


def _boxes(rows: pl.DataFrame) -> Floats:
    """Return boxes as x, y, w, h, (4, n)."""
    box: Floats = rows.select(pl.col(BOX).cast(pl.Float64)).to_numpy(order="fortran").T
    return box


def _places(rows: pl.DataFrame) -> Integers:
    """Return each row's place in the order of preference, (n,)."""
    columns = set(rows.columns)
    told = pl.col("attributes").str.len_bytes().fill_null(0) if "attributes" in columns else pl.lit(0)
    sure = pl.col("confidence").fill_nan(None).fill_null(1.0) if "confidence" in columns else pl.lit(1.0)
    order = rows.select(told=told, sure=sure, n="n").select(
        pl.arg_sort_by("told", "sure", "n", descending=[True, True, False])
    )
    place = np.empty(rows.height, np.int64)
    place[order.to_series().to_numpy()] = np.arange(rows.height)
    return place


def _best_equal(keys: pl.DataFrame, place: Integers) -> Rows:
    """Return for each row the best of those whose keys are all equal to its own."""
    best = keys.with_columns(pl.Series("_place", place)).select(pl.col("_place").min().over(keys.columns))
    found: Rows = np.argsort(place)[best.to_series().to_numpy()]
    return found


def _suppressors(group: Integers, box: Floats, place: Integers, overlap: float) -> Rows:
    """Return for each box the one that stands for it, (n,): itself where it stands.

    A box stands if no better one near it does. Each round settles those whose best neighbour is settled: the best of a
    neighbourhood stands, those next to it fall, and what is left is asked again.
    """
    stands, left = np.arange(len(place)), np.arange(len(place))
    at = np.argsort(place)
    place = np.argsort(at)  # 0..n-1 without gaps
    while left.size:
        best = np.full(len(place), len(place))
        for one, other in _near_pairs(group[left], box[:, left], overlap):
            _lower(best, left[one], place[left[other]])
            _lower(best, left[other], place[left[one]])
        left = left[best[left] < len(place)]
        leads = best > place
        suppressor = at[best[left]]
        falls = leads[suppressor]
        stands[left[falls]] = suppressor[falls]
        if (falls | leads[left]).all():
            break
        left = left[~falls]
    return stands


def _lower(best: Integers, rows: Rows, values: Integers) -> None:
    """Lower `best` of rows to values; only where they are lower, because `minimum.at` is slow."""
    lower = values < best[rows]
    np.minimum.at(best, rows[lower], values[lower])


def _near_pairs(group: Integers, box: Floats, overlap: float) -> Iterator[tuple[Rows, Rows]]:
    """Yield all pairs of boxes (4, n) of one group that overlap by so much, a bounded number at a time.

    If a box is as much as `overlap` covered by one that begins right of it, that one begins within the rest of its
    width. So boxes are sorted by their left edge, and each is compared with those up to there.
    """
    if not len(group):
        return
    order = np.lexsort((box[0], group))
    group, (x, y, w, h) = group[order], box[:, order]
    # All groups on one line, so far apart that no box of one is near a box of the next.
    line = group * (x.max() - x.min() + w.max() + 1) + (x - x.min())
    until = np.searchsorted(line, line + (1 - overlap) * w + 4 * np.spacing(line[-1]), side="right")
    partners = until - np.arange(len(order)) - 1
    first = 0
    done = np.concatenate(([0], np.cumsum(partners)))
    while first < len(order):
        last = max(first + 1, int(np.searchsorted(done, done[first] + BLOCK_PAIRS, side="right")) - 1)
        many = partners[first:last]
        one = np.repeat(np.arange(first, last), many)
        other = one + 1 + np.arange(len(one)) - np.repeat(done[first:last] - done[first], many)
        near = _overlap(x, y, w, h, one, other) >= overlap
        if near.any():
            yield order[one[near]], order[other[near]]
        first = last


def _overlap(x: Floats, y: Floats, w: Floats, h: Floats, one: Rows, other: Rows) -> Floats:
    """Return the intersection over the union of pairs of boxes."""
    wide = np.minimum(x[one] + w[one], x[other] + w[other]) - np.maximum(x[one], x[other])
    high = np.minimum(y[one] + h[one], y[other] + h[other]) - np.maximum(y[one], y[other])
    shared = np.maximum(wide, 0) * np.maximum(high, 0)
    share: Floats = shared / (w[one] * h[one] + w[other] * h[other] - shared)
    return share


def _conflicts_of_pictures(near: pl.DataFrame, picture: str) -> pl.DataFrame:
    """Return the labels of whole pictures that have several, with `candidates` and `detail`."""
    whole = near.filter(pl.col("x").is_null()).select("n", "label", picture).rechunk()
    labels = whole.group_by(picture).agg(candidates=pl.col("label").unique().sort())
    split = labels.filter(pl.col("candidates").list.len() > 1)
    detail = pl.format("the picture has {} labels that exclude each other", pl.col("candidates").list.len())
    return whole.join(split, on=picture).with_columns(detail=detail)


def _conflicts_of_boxes(near: pl.DataFrame, picture: str) -> pl.DataFrame:
    """Return the labels of boxes that have several, with `candidates` and `detail`."""
    boxes = near.filter(pl.col("x").is_not_null())
    codes, labels = _numbers(boxes, pl.col("label").cast(pl.Categorical).to_physical()), boxes["label"]
    found = [pl.DataFrame(schema={"row": pl.Int64(), "label": pl.String(), "other": pl.UInt32()})]
    for one, other in _near_pairs(_numbers(boxes, pl.col(picture)), _boxes(boxes), SAME_BOX):
        split = codes[one] != codes[other]
        at, by = np.concatenate((one[split], other[split])), np.concatenate((other[split], one[split]))
        pairs = pl.DataFrame({"row": at, "label": labels.gather(by), "other": boxes["n"].gather(by)})
        found.append(pairs.group_by("row", "label").agg(pl.col("other").min()))
    others = pl.concat(found).group_by("row").agg(pl.col("label").alias("candidates"), pl.col("other").min())
    split_boxes = boxes[others["row"]].select("n", "label").with_columns(others.select("candidates", "other"))
    return split_boxes.select(
        "n",
        "label",
        candidates=pl.col("candidates").list.concat(pl.concat_list("label")).list.unique().list.sort(),
        detail=pl.format("row {} gives another label to the same box", "other"),
    )
