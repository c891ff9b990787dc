"""One label for one thing: doubles give way to the best of them, and contradictions go to a person."""

import csv
import tracemalloc
from collections import Counter
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transforms import doubles
from transforms.doubles import SAME_BOX, SAME_THING, drop_doubles, hold_conflicts
from transforms.judged import CHANGES, REJECTS, Judged

Box = tuple[float, float, float, float] | None
SCHEMA: dict[str, pl.DataType] = {
    "picture": pl.UInt32(),
    "label": pl.String(),
    **{name: pl.Float64() for name in "xywh"},
    "confidence": pl.Float32(),
    "attributes": pl.String(),
}


def row(box: Box = (10, 10, 100, 100), label: str | None = "cat", picture: int = 0, **others: Any) -> dict[str, Any]:
    """Return a label of a box, or of the whole picture."""
    told = dict(zip("xywh", box or (None,) * 4, strict=True))
    return {"picture": picture, "label": label, **told, "confidence": None, "attributes": None, **others}


def rows(*given: dict[str, Any]) -> pl.DataFrame:
    """Return numbered rows."""
    return pl.DataFrame(list(given), SCHEMA).with_row_index("n")


def both(given_rows: pl.DataFrame, picture: str = "picture") -> Judged:
    """Drop doubles, then hold back contradictions."""
    judged = drop_doubles(given_rows, picture=picture)
    return judged.then(hold_conflicts(judged.rows, picture=picture))


def left(of: Judged) -> list[int]:
    """Return the rows that stand."""
    return of.rows["n"].to_list()


def told(of: Judged) -> list[tuple[int, str]]:
    """Return who gave way to whom, in the words of the detail."""
    return sorted(of.rejects.select("n", "detail").rows())


def overlap(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    """Return the intersection over the union of two boxes."""
    wide = min(one[0] + one[2], other[0] + other[2]) - max(one[0], other[0])
    high = min(one[1] + one[3], other[1] + other[3]) - max(one[1], other[1])
    shared = max(wide, 0) * max(high, 0)
    return shared / (one[2] * one[3] + other[2] * other[3] - shared)


# ---- doubles


def test_a_box_that_was_drawn_twice_stands_once() -> None:
    """The second names the first, and its box is kept with it."""
    judged = drop_doubles(rows(row((10, 10, 100, 100)), row((12, 12, 100, 100)), row((300, 10, 100, 100))))
    assert left(judged) == [0, 2]
    assert judged.rejects.rows(named=True) == [
        {
            "n": 1,
            "rule": "duplicate.annotation",
            "field": "bbox",
            "value": "[12.0,12.0,100.0,100.0]",
            "candidates": None,
            "detail": "the same as row 0, which stands",
        }
    ]
    assert not judged.changes.height


@pytest.mark.parametrize(
    ("other", "stands"),
    [
        (row((10, 10, 100, 100)), False),
        (row((20, 10, 100, 100)), False),  # 0.82
        (row((22, 10, 100, 100)), True),  # 0.79
        (row((29, 10, 81, 100)), False),  # 0.81, and as far to the right as a double can begin
        (row((10, 10, 50, 50)), True),  # inside, but much smaller
        (row((10, 10, 100, 100), "dog"), True),
        (row((10, 10, 100, 100), picture=1), True),
        (row(None), True),  # of the whole picture
        (row((10, 10, 100, 100), None), True),
    ],
)
def test_only_the_same_thing_is_a_double(other: dict[str, Any], stands: bool) -> None:
    """On the same picture, under the same label, at nearly the same place."""
    assert left(drop_doubles(rows(row(), other))) == ([0, 1] if stands else [0])


def test_two_labels_of_a_whole_picture_are_one() -> None:
    """There the label itself is the value."""
    judged = drop_doubles(rows(row(None), row(None, picture=1), row(None), row(None, "dog")))
    assert left(judged) == [0, 1, 3]
    assert judged.rejects.select("n", "field", "value", "detail").rows() == [
        (2, "label", "cat", "the same as row 0, which stands")
    ]


@pytest.mark.parametrize(
    ("given_rows", "best"),
    [
        ([row(), row()], 0),  # all alike: the first
        ([row(confidence=0.5), row(confidence=0.9), row(confidence=0.7)], 1),
        ([row(confidence=0.99), row()], 1),  # a plain claim against one in doubt
        ([row(confidence=0.99), row(confidence=0.5, attributes='{"pose":"left"}')], 1),
        ([row(attributes='{"a":1}'), row(attributes='{"a":1,"b":2}')], 1),
        ([row(confidence=float("nan")), row(confidence=0.9)], 0),
        ([row(), row(confidence=float("nan"))], 0),
    ],
)
def test_the_best_of_doubles_stands(given_rows: list[dict[str, Any]], best: int) -> None:
    """Most attributes, then the highest confidence, then the first."""
    assert left(drop_doubles(rows(*given_rows))) == [best]


def test_a_frame_without_confidences_and_attributes_is_judged_too() -> None:
    """Then the first stands."""
    plain = rows(row(), row(), row(None)).drop("confidence", "attributes")
    assert left(both(plain)) == [0, 2]


def test_only_what_stands_suppresses() -> None:
    """Of a chain of boxes that each overlap the next, the ends stand; who gave way names one that stands."""
    chain = [row((10 + 9 * step, 10, 100, 100)) for step in range(5)]
    judged = drop_doubles(rows(*chain))
    assert left(judged) == [0, 2, 4]
    assert told(judged) == [(1, "the same as row 0, which stands"), (3, "the same as row 2, which stands")]
    better = drop_doubles(rows(*[{**its, "confidence": 0.5 + 0.1 * (at == 1)} for at, its in enumerate(chain)]))
    assert left(better) == [1, 3]
    assert told(better)[1:] == [(2, "the same as row 1, which stands"), (4, "the same as row 3, which stands")]


def test_of_equal_boxes_all_name_the_one_that_stands() -> None:
    """Also where the best of them has to give way to another box."""
    judged = drop_doubles(
        rows(row((12, 10, 100, 100)), row((12, 10, 100, 100)), row((10, 10, 100, 100), attributes="{}"))
    )
    assert left(judged) == [2]
    assert {detail for _, detail in told(judged)} == {"the same as row 2, which stands"}


# ---- conflicts


def test_a_box_with_two_labels_goes_to_a_person() -> None:
    """Both of them, with both as candidates."""
    judged = hold_conflicts(rows(row(), row((11, 11, 100, 100), "dog"), row((300, 10, 100, 100), "dog")))
    assert left(judged) == [2]
    assert judged.rejects.rows(named=True) == [
        {
            "n": 0,
            "rule": "label.conflict",
            "field": "label",
            "value": "cat",
            "candidates": ["cat", "dog"],
            "detail": "row 1 gives another label to the same box",
        },
        {
            "n": 1,
            "rule": "label.conflict",
            "field": "label",
            "value": "dog",
            "candidates": ["cat", "dog"],
            "detail": "row 0 gives another label to the same box",
        },
    ]


def test_a_bowl_and_what_is_in_it_are_no_conflict() -> None:
    """Things of two kinds may nearly fill the same box; only the same box contradicts itself."""
    assert left(both(rows(row(label="bowl"), row((13, 13, 94, 94), "broth"), row(None, "kitchen")))) == [
        0,
        1,
        2,
    ]
    assert left(both(rows(row(label="bowl"), row((12, 12, 98, 98), "broth")))) == []


def test_a_picture_with_two_labels_goes_to_a_person() -> None:
    """A row without a label contradicts nothing."""
    judged = both(rows(row(None, "sad"), row(None, "angry"), row(None, "sad", picture=1), row(None, None)))
    assert left(judged) == [2, 3]
    assert judged.rejects["candidates"].to_list() == [["angry", "sad"]] * 2
    assert judged.rejects["detail"][0] == "the picture has 2 labels that exclude each other"


def test_three_labels_of_one_box_are_all_candidates() -> None:
    """A double is dropped first: it is no further claim."""
    judged = both(rows(row(), row(label="dog"), row(label="bird"), row(label="dog")))
    assert left(judged) == []
    assert judged.rejects.filter(pl.col("n") != 3)["candidates"].to_list() == [["bird", "cat", "dog"]] * 3
    assert judged.rejects.filter(pl.col("n") == 3)["rule"].to_list() == ["duplicate.annotation"]


def test_the_column_of_the_picture_may_have_another_name() -> None:
    """And be of any type."""
    named = rows(row(), row(), row(picture=1)).with_columns(image_id=pl.format("picture {}", "picture")).drop("picture")
    assert left(both(named, picture="image_id")) == [0, 2]


# ---- what always holds


_side = st.sampled_from([20.0, 21.0, 22.5, 60.0])
_at = st.one_of(st.floats(0, 60), st.sampled_from([0.0, 1.0, 2.0, 3.0, 40.0]))
_rows = st.lists(
    st.builds(
        row,
        st.one_of(st.none(), st.tuples(_at, _at, _side, _side)),
        st.sampled_from(["cat", "dog", None]),
        st.integers(0, 2),
        confidence=st.sampled_from([None, 0.5, 0.75]),
    ),
    max_size=14,
)


@settings(max_examples=150, deadline=None)
@given(_rows)
def test_it_is_what_comparing_one_by_one_gives(given_rows: list[dict[str, Any]]) -> None:
    """The best first, each against all that stand."""
    order = sorted(range(len(given_rows)), key=lambda n: (-(given_rows[n]["confidence"] or 1.0), n))
    stand: list[int] = []
    for n in order:
        if not any(_double(given_rows[n], given_rows[other]) for other in stand):
            stand.append(n)
    judged = drop_doubles(rows(*given_rows))
    assert left(judged) == sorted(stand)
    for n, detail in told(judged):
        suppressor = int(detail.split()[4].strip(","))
        assert suppressor in stand
        assert _double(given_rows[n], given_rows[suppressor])
    split = {
        n: sorted({its["label"], *(other["label"] for other in given_rows if _conflict(its, other))})
        for n, its in enumerate(given_rows)
        if any(_conflict(its, other) for other in given_rows)
    }
    held = hold_conflicts(rows(*given_rows))
    assert dict(held.rejects.select("n", "candidates").rows()) == split


def _double(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return (one["picture"], one["label"]) == (other["picture"], other["label"]) and _near(one, other, SAME_THING)


def _conflict(one: dict[str, Any], other: dict[str, Any]) -> bool:
    labels = {one["label"], other["label"]}
    return one["picture"] == other["picture"] and len(labels - {None}) == 2 and _near(one, other, SAME_BOX)


def _near(one: dict[str, Any], other: dict[str, Any], least: float) -> bool:
    if one["x"] is None or other["x"] is None:
        return one["x"] is other["x"]
    a, b = (tuple(its[name] for name in "xywh") for its in (one, other))
    return overlap(a, b) >= least


@settings(max_examples=100, deadline=None)
@given(_rows)
def test_nothing_is_lost_and_a_second_time_changes_nothing(given_rows: list[dict[str, Any]]) -> None:
    """Each row stands, or is held back once; what stands is judged alike again."""
    judged = both(rows(*given_rows))
    assert sorted(left(judged) + judged.rejects["n"].to_list()) == list(range(len(given_rows)))
    assert judged.rows["n"].is_sorted()
    assert judged.changes.schema == pl.Schema(CHANGES)
    assert judged.rejects.schema == pl.Schema(REJECTS)
    again = both(judged.rows)
    assert again.rows.equals(judged.rows)
    assert not again.rejects.height


def test_blocks_of_pairs_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    """A picture with more pairs than a block holds is compared in several."""
    random = np.random.default_rng(0)
    crowd = [
        row((*random.integers(0, 40, 2).astype(float), 60.0, 60.0), str(random.choice(["cat", "dog"])), int(picture))
        for picture in np.sort(random.integers(0, 4, 300))
    ]
    whole = both(rows(*crowd))
    for pairs in (1, 7, 1000):
        monkeypatch.setattr(doubles, "BLOCK_PAIRS", pairs)
        cut = both(rows(*crowd))
        assert cut.rows.equals(whole.rows)
        assert cut.rejects.equals(whole.rejects)
    assert 0 < whole.rows.height < 300


@pytest.mark.parametrize("jitter", [0.0, 2.0, 3000.0])
def test_a_picture_with_very_many_boxes_takes_little_memory(jitter: float) -> None:
    """6,000 boxes are 18 million pairs, of 64 bytes and more each; whether none, all or hardly any are alike."""
    random = np.random.default_rng(1)
    number = 6_000
    crowd = pl.DataFrame(
        {
            "n": np.arange(number, dtype=np.uint32),
            "picture": np.zeros(number, np.uint32),
            "label": ["cell"] * number,
            "x": random.uniform(0, jitter, number),
            "y": random.uniform(0, jitter, number),
            "w": np.full(number, 90.0),
            "h": np.full(number, 90.0),
        }
    )
    tracemalloc.start()
    judged = both(crowd)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100e6
    assert judged.rows.height == 1 if jitter < 10 else judged.rows.height > number / 2


def test_pictures_are_never_compared_with_each_other() -> None:
    """However large their numbers and their boxes' are."""
    far = [row((1e7 - 100, 0, 100, 100), picture=p) for p in (0, 1, 2**32 - 1)]
    near = [row((0, 0, 1e7, 100), picture=p) for p in (0, 1, 2**32 - 1)]
    assert left(both(rows(*far, *near))) == list(range(6))


# ---- real files


def test_the_two_doubles_of_bccd_are_found_and_no_neighbour(shared: Path) -> None:
    """Of 1,096 cells that lie over each other, these two were boxed twice; the nearest true pair overlaps by 0.59."""
    found = []
    for picture, file in enumerate(sorted((shared / "data/annotations/bccd_voc").rglob("*.xml"))):
        for its in ElementTree.parse(file).getroot().iter("object"):
            left_, top, right, bottom = (
                float(its.findtext(f"bndbox/{name}") or "nan") for name in ("xmin", "ymin", "xmax", "ymax")
            )
            if right > left_:
                found.append(row((left_, top, right - left_, bottom - top), its.findtext("name"), picture))
    judged = both(rows(*found))
    assert len(found) == 1096
    assert judged.rejects.select("rule", "value").rows() == [
        ("duplicate.annotation", "[324.0,402.0,100.0,76.0]"),
        ("duplicate.annotation", "[142.0,364.0,107.0,107.0]"),
    ]


def test_the_names_that_a_legend_has_twice_are_found(shared: Path) -> None:
    """Of 13,690 faces 8 names stand twice: 7 say the same again, one contradicts itself."""
    with (shared / "data/annotations/facial_expressions/legend.csv").open(newline="") as lines:
        faces = [(its["image"], its["emotion"].lower()) for its in csv.DictReader(lines)]
    twice = {name for name, count in Counter(name for name, _ in faces).items() if count > 1}
    judged = both(
        rows(*(row(None, label) for _, label in faces)).with_columns(picture=pl.Series([n for n, _ in faces]))
    )
    assert len(faces) == 13_690
    assert len(twice) == 8
    assert Counter(judged.rejects["rule"]) == {"duplicate.annotation": 7, "label.conflict": 2}
    assert {faces[n][0] for n in judged.rejects["n"]} == twice
