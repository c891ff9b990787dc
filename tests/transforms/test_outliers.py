"""What looks like no other box of its label goes to a person; what is natural does not."""

from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transforms.judged import CHANGES, REJECTS, Judged
from transforms.outliers import Spread, judge_outliers

SIDE = 1000


def natural(
    seed: int,
    number: int = 3000,
    label: str = "cat",
    side: float = 0.1,
    spread: float = 0.5,
    shape: float = 0.3,
    pictures: int = 1000,
) -> pl.DataFrame:
    """Draw boxes of log-normal side (a share of the picture) and shape, cut where they reach over the edge."""
    random = np.random.default_rng(seed)
    sides = SIDE * side * np.exp(random.normal(0, spread, number))
    slender = np.exp(random.normal(0, shape, number))
    return boxes(
        random.uniform(0, SIDE, number),
        random.uniform(0, SIDE, number),
        sides * slender,
        sides / slender,
        label,
        np.sort(random.integers(0, pictures, number)),
    )


def boxes(
    middle_x: np.ndarray, middle_y: np.ndarray, wide: np.ndarray, high: np.ndarray, label: str, picture: np.ndarray
) -> pl.DataFrame:
    """Return boxes cut at the edges of pictures of 1000 x 1000 px; of which under two pixels are left are left out."""
    left, top = np.maximum(middle_x - wide / 2, 0), np.maximum(middle_y - high / 2, 0)
    right, bottom = np.minimum(middle_x + wide / 2, SIDE), np.minimum(middle_y + high / 2, SIDE)
    drawn = pl.DataFrame(
        {"x": left, "y": top, "w": right - left, "h": bottom - top, "picture": picture.astype(np.uint32)}
    )
    size = {"width": pl.lit(SIDE, pl.Int32), "height": pl.lit(SIDE, pl.Int32)}
    return drawn.filter((pl.col("w") > 2) & (pl.col("h") > 2)).with_columns(label=pl.lit(label), **size)


def planted(*box: float, label: str = "cat", picture: int = 999_999) -> pl.DataFrame:
    """Return one box x, y, w, h of a picture of its own."""
    x, y, w, h = (np.array([value], float) for value in box)
    return boxes(x + w / 2, y + h / 2, w, h, label, np.array([picture]))


def numbered(*parts: pl.DataFrame) -> pl.DataFrame:
    """Return all rows, numbered."""
    return pl.concat(parts).with_row_index("n")


def spread_of(*parts: pl.DataFrame) -> Spread:
    """Return how the parts are spread."""
    spread = Spread()
    for part in parts:
        spread.add(part)
    return spread


def judged(rows: pl.DataFrame) -> Judged:
    """Judge rows by themselves."""
    return judge_outliers(rows, spread_of(rows).limits())


# ---- what is natural


@pytest.mark.parametrize("seed", range(6))
def test_natural_boxes_are_left_alone(seed: int) -> None:
    """Of some 60,000 boxes of labels of all sizes and spreads none is held back."""
    kinds = [(0.02, 0.3), (0.05, 0.7), (0.1, 0.5), (0.1, 1.0), (0.3, 0.3), (0.6, 0.6)]
    rows = numbered(
        *(natural(seed + at, 10_000, f"kind {at}", side, spread) for at, (side, spread) in enumerate(kinds))
    )
    found = judged(rows)
    assert found.rows.equals(rows)
    assert not found.rejects.height


@pytest.mark.parametrize("seed", range(40))
def test_of_few_boxes_too_natural_ones_are_left_alone(seed: int) -> None:
    """Fifty or sixty tell what is usual with less certainty."""
    assert not judged(numbered(natural(seed, 70, spread=0.8, shape=0.4, pictures=60))).rejects.height


@pytest.mark.parametrize("tail", ["geometric", "zipf", "lognormal"])
def test_natural_crowds_are_left_alone(tail: str) -> None:
    """Pictures have one box or hundreds, by laws with long tails."""
    random = np.random.default_rng(0)
    draw = {
        "geometric": lambda: random.geometric(0.6, 3000),
        "zipf": lambda: np.minimum(random.zipf(1.8, 3000), 800),
        "lognormal": lambda: np.maximum(np.exp(random.normal(1, 1, 3000)).astype(int), 1),
    }
    counts = draw[tail]()
    rows = natural(1, int(counts.sum()) * 2).head(int(counts.sum()))
    rows = rows.with_columns(
        picture=pl.Series(np.repeat(np.arange(len(counts)), counts)[: rows.height].astype(np.uint32))
    )
    assert counts.max() > 8
    assert not judged(numbered(rows)).rejects.height


def test_real_cells_are_left_alone(shared: Path) -> None:
    """BCCD: cells in three sizes, many of them cut off at the edge, up to 27 a picture."""
    rows = []
    for picture, file in enumerate(sorted((shared / "data/annotations/bccd_voc").rglob("*.xml"))):
        root = ElementTree.parse(file).getroot()
        size = [int(root.findtext(f"size/{side}") or 0) for side in ("width", "height")]
        for its in root.iter("object"):
            left, top, right, bottom = (
                float(its.findtext(f"bndbox/{name}") or "nan") for name in ("xmin", "ymin", "xmax", "ymax")
            )
            if right > left:
                rows.append((its.findtext("name"), left, top, right - left, bottom - top, picture, *size))
    names = ["label", "x", "y", "w", "h", "picture", "width", "height"]
    found = judged(pl.DataFrame(rows, names, orient="row").with_row_index("n"))
    assert found.rows.height == 1096
    assert not found.rejects.height


def test_boxes_that_are_cut_off_at_the_edge_may_have_any_shape() -> None:
    """A sliver at the edge is the rest of a thing like the others; in the middle it is absurd."""
    usual = natural(2, 2000, spread=0.15, shape=0.1)
    slivers = [planted(0, 400, 2.5 + at / 20, 100, picture=990_000 + at) for at in range(600)]
    rows = numbered(usual, *slivers, planted(300, 400, 10, 100))
    assert judged(rows).rejects["n"].to_list() == [rows.height - 1]


def test_boxes_that_are_cut_off_at_the_edge_may_be_small() -> None:
    """But not larger than what is usual; whole ones may be neither."""
    usual = natural(2, 2000, side=0.03, spread=0.15, shape=0.1)
    corner, speck = planted(0, 0, 4, 4), planted(300, 400, 4, 4, picture=999_998)
    wall = planted(0, 0, 1000, 1000, picture=999_997)
    rows = numbered(usual, corner, speck, wall)
    assert judged(rows).rejects["n"].to_list() == [rows.height - 2, rows.height - 1]


def test_boxes_that_are_all_alike_make_no_neighbour_absurd() -> None:
    """Without any spread, still only ten times the area, three times the shape, or thirty times the number."""
    number = 200
    middle = np.linspace(200, 800, number)
    same = boxes(middle, middle, np.full(number, 50.0), np.full(number, 50.0), "cat", np.arange(number))
    near = [planted(300, 300, 140, 140), planted(300, 300, 80, 35, picture=999_998)]
    far = [planted(300, 300, 190, 190, picture=999_997), planted(300, 300, 100, 20, picture=999_996)]
    rows = numbered(same, *near, *far)
    assert judged(rows).rejects["n"].to_list() == [number + 2, number + 3]
    crowds = [same.head(many).with_columns(picture=pl.lit(900_000 + many, pl.UInt32)) for many in (25, 35)]
    assert judged(numbered(same, *crowds)).rejects["n"].to_list() == list(range(number + 25, number + 60))


def test_far_outliers_do_not_hide_near_ones() -> None:
    """What lies beyond the limits does not count for them: else a second cleaning would find what the first left."""
    usual = natural(15, 1000, side=0.02, spread=0.25, shape=0.02)
    near = [planted(300, 300, 120, 120, picture=990_000 + at) for at in range(10)]
    far = [planted(300, 300, 260, 260, picture=980_000 + at) for at in range(38)]
    rows = numbered(usual, *near, *far)
    assert judged(rows).rejects["n"].to_list() == list(range(usual.height, rows.height))


# ---- what is absurd


@pytest.mark.parametrize(
    ("box", "told"),
    [
        ((0, 0, 1000, 1000), "it covers 1"),
        ((500, 500, 3, 3), "it covers"),
        ((100, 500, 800, 10), "it is"),
        ((500, 100, 10, 800), "it is"),
    ],
)
def test_an_absurd_box_is_found(box: tuple[float, ...], told: str) -> None:
    """The box around the whole picture, the stray point, the line."""
    rows = numbered(natural(3, side=0.04, spread=0.3, shape=0.15), planted(*box), natural(4, label="dog"))
    found = judged(rows)
    [reject] = found.rejects.rows(named=True)
    assert rows.row(reject["n"], named=True)["picture"] == 999_999
    assert (reject["rule"], reject["field"]) == ("bbox.outlier", "bbox")
    assert reject["value"] == f"[{box[0]:.1f},{box[1]:.1f},{box[2]:.1f},{box[3]:.1f}]"
    assert reject["detail"].startswith(told)
    assert reject["detail"].endswith(" of cat")
    assert found.rows.height == rows.height - 1


def test_what_is_usual_is_told_label_by_label() -> None:
    """A box that is usual for one label is absurd for another."""
    large, small = natural(5, label="wall", side=0.7, spread=0.2), natural(6, label="fly", side=0.01, spread=0.2)
    rows = numbered(large, small, planted(100, 100, 700, 700, label="wall"), planted(100, 100, 700, 700, label="fly"))
    assert judged(rows).rejects["n"].to_list() == [rows.height - 1]


def test_a_picture_with_absurdly_many_boxes_is_found() -> None:
    """All its boxes of the label are held back, and none of another label."""
    many = natural(7, 600, pictures=1).with_columns(picture=pl.lit(999_999, pl.UInt32))
    other = planted(100, 100, 80, 80, label="dog")
    rows = numbered(natural(8), natural(9, label="dog"), many, other)
    found = judged(rows)
    assert set(found.rejects["rule"]) == {"bbox.count"}
    held = rows.filter(pl.col("n").is_in(found.rejects["n"].implode()))
    assert held.height == many.height
    assert held.select("picture", "label").unique().rows() == [(999_999, "cat")]
    assert found.rejects["detail"][0].startswith(f"{many.height} boxes in its picture; usual is up to ")


def test_of_fewer_than_fifty_boxes_nothing_is_told() -> None:
    """A label that is rare has no usual size."""
    rare = natural(10, 45, side=0.04, spread=0.2)
    assert not judged(numbered(rare, planted(0, 0, 1000, 1000))).rejects.height


def test_without_the_pictures_sizes_only_shapes_are_judged() -> None:
    """A share of nothing known is none; neither is an edge."""
    rows = numbered(natural(11, spread=0.2, shape=0.1), planted(100, 100, 900, 900), planted(100, 500, 800, 10))
    unknown = rows.with_columns(width=pl.lit(None, pl.Int32))
    assert judged(unknown).rejects["n"].to_list() == [rows.height - 1]


def test_labels_of_whole_pictures_and_boxes_without_a_label_pass() -> None:
    """They are neither counted nor judged."""
    usual = natural(12, side=0.04, spread=0.2)
    whole = planted(1, 1, 9, 9).with_columns(pl.lit(None, pl.Float64).alias(name) for name in "xywh")
    nameless = planted(0, 0, 1000, 1000).with_columns(label=pl.lit(None, pl.String))
    rows = numbered(usual, whole, nameless)
    assert not judged(rows).rejects.height
    assert spread_of(rows).limits().equals(spread_of(usual).limits())


def test_an_empty_spread_has_no_limits() -> None:
    """Before anything was counted, everything passes."""
    rows = numbered(natural(13, 100))
    assert not judge_outliers(rows, Spread().limits()).rejects.height
    assert not judge_outliers(rows.head(0), spread_of(rows).limits()).rejects.height


# ---- what always holds


def test_limits_do_not_depend_on_how_the_boxes_were_gathered(monkeypatch: pytest.MonkeyPatch) -> None:
    """In one piece or in many, merged in any order, summed up early or late."""
    parts = [
        natural(seed, 400, f"kind {seed % 2}").with_columns(pl.col("picture") + 10_000 * seed) for seed in range(5)
    ]
    expected = spread_of(pl.concat(parts)).limits()
    one, two, three = spread_of(*parts[:2]), spread_of(parts[2]), spread_of(*parts[3:])
    assert expected.height == 2
    assert expected.null_count().sum_horizontal().item() == 0
    assert one.merge(two).merge(three).limits().equals(expected)
    assert three.merge(one.merge(two)).limits().equals(expected)
    monkeypatch.setattr("transforms.outliers.ROOM", 10)
    early = Spread(room=10)
    for part in parts:
        early.add(part)
    assert early.cells.height < spread_of(*parts).cells.height
    assert early.limits().equals(expected)


def test_boxes_as_they_came_tell_the_same_as_clean_ones() -> None:
    """Numbers that are none, boxes outside and without size do not count, and what reaches over the edge is cut."""
    usual = natural(14, 500, side=0.4)
    over = usual.with_columns(
        w=pl.when(pl.col("x") + pl.col("w") >= SIDE).then(pl.col("w") * 1.9).otherwise(pl.col("w")),
    )
    dirt = [
        planted(1, 1, 9, 9).with_columns(x=pl.lit(value)) for value in (5000.0, -50.0, -8.0, float("nan"), float("inf"))
    ]
    dirt.append(planted(1, 1, 9, 9).with_columns(w=pl.lit(-9.0)))
    assert spread_of(over, *dirt).limits().equals(spread_of(usual).limits())


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 2**32),
    st.integers(0, 400),
    st.lists(st.tuples(*[st.integers(1, 900)] * 4), max_size=8),
    st.sampled_from([0.1, 0.5, 1.5]),
)
def test_nothing_is_lost_and_a_second_time_changes_nothing(
    seed: int, number: int, strange: list[tuple[int, int, int, int]], spread: float
) -> None:
    """Each row stands or is held back once; limits drawn from what stands hold nothing more back."""
    parts = [planted(*box, picture=999_000 + at) for at, box in enumerate(strange)]
    rows = numbered(natural(seed, number, spread=spread), *parts)
    found = judged(rows)
    assert sorted(found.rows["n"].to_list() + found.rejects["n"].to_list()) == list(range(rows.height))
    assert found.rows["n"].is_sorted()
    assert found.changes.schema == pl.Schema(CHANGES)
    assert found.rejects.schema == pl.Schema(REJECTS)
    assert not judged(found.rows).rejects.height
