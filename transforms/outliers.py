"""Boxes that look like no other of their label: by area, by shape, by how many there are in a picture.

What is usual is told by all boxes of the data set: a Spread counts them, its limits are drawn far beyond what is seen,
and what lies beyond goes to a person. Nothing natural should: it is the misplaced point, the swapped label, the box
around the whole picture, the tool that wrote one box a thousand times.
"""

from dataclasses import dataclass, field

import numpy as np
import polars as pl

from schemas.reasons import Rule
from transforms.boxes import BOX, KEPT, box_text
from transforms.judged import Judged

STEP = 0.1
"""Areas, shapes and numbers are counted in steps of 10 %."""

DEVIATIONS = 6
"""A limit is so many deviations from the median, in logarithms: areas and counts of natural things are near log-normal,
for which that is one in 1e9. The deviation of each side is told by where its outer twentieth begins, which fewer
outliers do not move, and which is far out where tails are naturally long."""

NEVER_NEARER = {"area": 10, "shape": 3, "count": 30}
"""Limits are by these factors away from the median at least: where boxes are all alike, no neighbour is absurd."""

ENOUGH = 50
"""Of fewer boxes, or pictures, of a label it is not told what is usual."""

EDGE_PX = 2
"""A box so near to the picture's edge may be cut off there: it may be of any shape, and of any small area."""

ROOM = 500_000
"""Rows that are kept before they are summed up: about 20 MB."""

_CELLS: dict[str, pl.DataType] = {
    "label": pl.String(),
    "at_edge": pl.Boolean(),
    "area": pl.Int32(),  # steps of the logarithm of the share of the picture; null where its size is not known
    "shape": pl.Int32(),  # steps of the logarithm of width over height
    "number": pl.Int64(),
}
_COUNTS: dict[str, pl.DataType] = {
    "label": pl.String(),
    "count": pl.Int32(),  # steps of the logarithm of the number of boxes in a picture
    "number": pl.Int64(),  # of such pictures
}
_WHOLE = ~pl.col("at_edge")
_BEYOND = {
    "area": (pl.col("area") > pl.col("area_high")) | (_WHOLE & (pl.col("area") < pl.col("area_low"))),
    "shape": _WHOLE & ((pl.col("shape") > pl.col("shape_high")) | (pl.col("shape") < pl.col("shape_low"))),
    "count": pl.col("count") > pl.col("count_high"),
}
"""What breaks a limit. A comparison with null, that is with no limit, is null."""


@dataclass
class Spread:
    """How many boxes of each label there are by area and shape, and how many pictures by their number of boxes."""

    cells: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=_CELLS))
    counts: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=_COUNTS))
    room: int = ROOM  # rows of cells before equal ones are summed up

    def add(self, rows: pl.DataFrame, *, picture: str = "picture") -> None:
        """Count rows with label, x, y, w, h, width and height; all boxes of a picture come in one call."""
        boxes = _measured(rows, picture)
        number = pl.len().cast(pl.Int64).alias("number")
        cells = boxes.group_by("label", "at_edge", "area", "shape").agg(number)
        counts = boxes.group_by("label", picture).agg(count=_steps(pl.len())).group_by("label", "count").agg(number)
        self.cells, self.counts = pl.concat([self.cells, cells]), pl.concat([self.counts, counts])
        if self.cells.height > self.room:
            self.cells, self.counts = _summed(self.cells), _summed(self.counts)
            self.room = max(ROOM, 2 * self.cells.height)

    def merge(self, other: "Spread") -> "Spread":
        """Return what both have counted."""
        return Spread(_summed(pl.concat([self.cells, other.cells])), _summed(pl.concat([self.counts, other.counts])))

    def limits(self) -> pl.DataFrame:
        """Return each label's limits: area_low, area_high, ... in steps, and area_among, ...: of how many."""
        return (
            _settled(self.cells, "area", "shape")
            .join(_settled(self.counts, "count"), on="label", how="full", coalesce=True)
            .sort("label")
        )


def judge_outliers(rows: pl.DataFrame, limits: pl.DataFrame, *, picture: str = "picture") -> Judged:
    """Hold back boxes beyond their label's limits; all boxes of a picture are in `rows`."""
    counted = _measured(rows, picture).with_columns(many=pl.len().over("label", picture))
    boxes = counted.with_columns(count=_steps(pl.col("many"))).join(
        limits, on="label", how="left", maintain_order="left"
    )
    absurd = boxes.filter(pl.any_horizontal(_BEYOND.values())).rechunk()
    if not absurd.height:
        return Judged.of(rows)
    among = [pl.format("{} to {} among {} of {}", *_ends(step), f"{step}_among", "label") for step in ("area", "shape")]
    area = pl.format("it covers {} of its picture; usual is {}", _factor("area"), among[0])
    shape = pl.format("it is {} times as wide as high; usual is {}", _factor("shape"), among[1])
    usual = (_ends("count")[1], "count_among", "label")
    count = pl.format("{} boxes in its picture; usual is up to {} among {} pictures with {}", "many", *usual)
    one = _BEYOND["area"].fill_null(False) | _BEYOND["shape"].fill_null(False)
    rejects = absurd.select(
        "n",
        rule=pl.when(one).then(pl.lit(Rule.BBOX_OUTLIER.value)).otherwise(pl.lit(Rule.BBOX_COUNT.value)),
        field=pl.lit("bbox"),
        value=box_text(*BOX),
        detail=pl.when(_BEYOND["area"]).then(area).when(_BEYOND["shape"]).then(shape).otherwise(count),
    )
    return Judged.of(rows.join(rejects, on="n", how="anti", maintain_order="left"), rejects=[rejects])


def _measured(rows: pl.DataFrame, picture: str) -> pl.DataFrame:
    """Return the boxes that have a label and lie in their pictures, with at_edge, area and shape of what lies there."""
    x, y, w, h = (pl.col(name) for name in BOX)
    known = (pl.col("width") > 0) & (pl.col("height") > 0)
    wide, high = (pl.when(known).then(pl.col(side)).otherwise(np.inf) for side in ("width", "height"))
    usable = pl.all_horizontal(pl.col("label").is_not_null(), pl.col(BOX).is_finite(), w > 0, h > 0)
    keys = ["n", *BOX] if "n" in rows.columns else list(BOX)
    cut = rows.filter(usable).select(
        *keys,
        "label",
        picture,
        near_x=pl.max_horizontal(x, 0.0),
        near_y=pl.max_horizontal(y, 0.0),
        far_x=pl.min_horizontal(x + w, wide),
        far_y=pl.min_horizontal(y + h, high),
        wide=wide,
        high=high,
    )
    across, down = pl.col("far_x") - pl.col("near_x"), pl.col("far_y") - pl.col("near_y")
    return cut.filter((across > 0) & (down > 0) & (across * down >= KEPT * w * h)).select(
        *keys,
        "label",
        picture,
        at_edge=(pl.min_horizontal("near_x", "near_y") <= EDGE_PX)
        | (pl.col("far_x") >= pl.col("wide") - EDGE_PX)
        | (pl.col("far_y") >= pl.col("high") - EDGE_PX),
        area=pl.when(pl.col("wide").is_finite()).then(_steps(across * down / (pl.col("wide") * pl.col("high")))),
        shape=_steps(across / down),
    )


def _steps(value: pl.Expr) -> pl.Expr:
    return (value.log() / STEP).round().cast(pl.Int32)


def _summed(cells: pl.DataFrame) -> pl.DataFrame:
    return cells.group_by(pl.exclude("number")).agg(pl.col("number").sum())


def _settled(cells: pl.DataFrame, *steps: str) -> pl.DataFrame:
    """Return limits of the cells that lie within them: so they are the same when what lies beyond is gone."""
    while True:
        limits = cells.select("label").unique()
        for step in steps:
            limits = limits.join(_limits(cells, step), on="label", how="left")
        beyond = pl.any_horizontal(_BEYOND[step] for step in steps).fill_null(False)
        usual = cells.join(limits, on="label", how="left").filter(~beyond).select(cells.columns)
        if usual.height == cells.height:
            return limits
        cells = usual


def _limits(cells: pl.DataFrame, step: str) -> pl.DataFrame:
    """Return the limits of one of area, shape and count."""
    told = cells.filter(_WHOLE) if step == "shape" else cells.drop_nulls(step)
    sums = told.group_by("label", step).agg(pl.col("number").sum())
    sums = sums.filter(pl.col("number").sum().over("label") >= ENOUGH).sort("label", step)
    middle = sums.group_by("label").agg(
        _quantile(step, 0.5).alias("middle"),
        _quantile(step, 0.05).alias("lower"),
        _quantile(step, 0.95).alias("upper"),
        pl.col("number").sum().alias(f"{step}_among"),
    )
    least = np.log(NEVER_NEARER[step]) / STEP
    down, up = (
        pl.max_horizontal(DEVIATIONS * tail / 1.645, least).ceil().cast(pl.Int32)
        for tail in (pl.col("middle") - pl.col("lower"), pl.col("upper") - pl.col("middle"))
    )
    return middle.select(
        "label",
        f"{step}_among",
        (pl.col("middle") - down).alias(f"{step}_low"),
        (pl.col("middle") + up).alias(f"{step}_high"),
    )


def _quantile(step: str, share: float) -> pl.Expr:
    """Return the quantile of steps that are sorted, each of which stands for `number`."""
    return pl.col(step).filter(pl.col("number").cum_sum() >= share * pl.col("number").sum()).first()


def _ends(step: str) -> tuple[pl.Expr, pl.Expr]:
    return _factor(f"{step}_low"), _factor(f"{step}_high")


def _factor(step: str) -> pl.Expr:
    """Return what a step stands for, for a person."""
    return (pl.col(step) * STEP).exp().round_sig_figs(2)
