"""A whole data set's figures are what they say, and a person is told of those that are out of bounds."""

import json
import time
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon

from schemas.tables import Tables
from tests.builders import picture, tables
from tests.validation.test_expectations import NO_BOX, WORDS, cleaned_tables, label
from validation.datasets import BOUNDS, ENOUGH, Counts, Result, judge_dataset
from validation.suites import warm_up


def judged(rows: Tables, previous: Counts | None = None, quarantine: Any = None) -> Result:
    """Return what is said of tables."""
    images, annotations, held = (pl.from_arrow(table) for table in (rows.images, rows.annotations, rows.quarantine))
    return judge_dataset(
        images.lazy(), annotations.lazy(), (held if quarantine is None else quarantine).lazy(), previous, WORDS
    )


def figures(result: Result) -> dict[str, float]:
    """Return each figure that was judged."""
    return {
        each["expectation_config"]["kwargs"]["column"]: each["result"]["observed_value"]
        for each in result.told["results"]
    }


def failing(result: Result) -> set[str]:
    """Return the figures that are out of bounds."""
    return {each["expectation_config"]["kwargs"]["column"] for each in result.told["results"] if not each["success"]}


def many(counts: dict[str, int], side: float = 64.0) -> Tables:
    """Return a picture for each label, with a box of `side` px on it."""
    names = [name for name, count in counts.items() for _ in range(count)]
    shared = label((0, 0, side, side))
    return cleaned_tables(*(picture(f"{at}.jpg", shared | {"label": name}) for at, name in enumerate(names)))


_TEXTS = dict.fromkeys(("label", "annotation_id", "image_id"), pl.String())


def slim(counts: dict[str, int], side: float = 0.1, start: int = 0) -> pl.DataFrame:
    """Return annotations of which only what is looked at is there: quick for thousands."""
    names = [name for name, count in counts.items() for _ in range(count)]
    ids = [f"{start + at:08x}" for at in range(len(names))]
    texts = pl.DataFrame({"label": names, "annotation_id": ids, "image_id": ids}, schema_overrides=_TEXTS)
    return texts.with_columns(w=pl.lit(side), h=pl.lit(side))


def judged_slim(annotations: pl.DataFrame, previous: Counts | None) -> Result:
    """Return what is said of such annotations."""
    images = annotations.select("image_id", outcome=pl.lit("labelled"), duplicate_of=pl.lit(None, pl.String))
    held = pl.DataFrame(schema={"kind": pl.String, "id": pl.String})
    return judge_dataset(images.lazy(), annotations.lazy(), held.lazy(), previous, WORDS)


def test_a_balanced_data_set_has_nothing_to_tell() -> None:
    """Every figure is within its bounds; there is no drift without a result before."""
    result = judged(many({"cat": 5, "dog": 5, "person": 4}))
    assert (result.lines, result.told["success"]) == ((), True)
    assert set(figures(result)) == {bound.figure for bound in BOUNDS} - {"label_drift", "area_drift"}
    assert json.loads(json.dumps(result.told)) == result.told


def test_an_empty_data_set_has_nothing_to_tell() -> None:
    """What there is nothing to compute of is left out."""
    result = judged(tables())
    assert result.lines == ()
    assert set(figures(result)) == {bound.figure for bound in BOUNDS if bound.severity == "critical"}


def test_rates_are_shares_of_what_they_say() -> None:
    """By hand, over five pictures and four labels, of which one is held back under two rules."""
    rows = cleaned_tables(
        picture("a.jpg", label(), label(NO_BOX, "dog")),
        picture("b.jpg", label(name="dog")),
        picture("c.jpg"),
        picture("d.jpg", outcome="duplicate", duplicate_of=picture("c.jpg")["image_id"]),
        picture("e.jpg", outcome="quarantined"),
    )
    held = pl.DataFrame({"kind": ["annotation", "annotation", "image"], "id": ["x", "x", "y"]})
    told = figures(judged(rows, quarantine=held))
    expected = {
        "duplicate_rate": 1 / 5,
        "unlabelled_rate": 1 / 3,
        "quarantined_pictures": 1 / 5,
        "quarantine_rate": 1 / 4,
        "rarest_label": 1 / 3,
        "commonest_label": 2 / 3,
        "evenness": (np.log(3) - 2 / 3 * np.log(2)) / np.log(2),
        "unused_labels": 1,
    }
    assert {name: told[name] for name in expected} == pytest.approx(expected)


COPY = picture("a.jpg", outcome="duplicate", duplicate_of="9")
CONTRADICTIONS: list[tuple[list[dict], str, int]] = [
    ([picture("a.jpg"), picture("a.jpg")], "repeated_images", 1),
    ([picture("a.jpg", label(annotation_id="1"), label(annotation_id="1"))], "repeated_annotations", 1),
    ([picture("a.jpg", label(annotation_id="0"))], "zero_ids", 1),
    ([picture("a.jpg", label(annotation_id=None))], "zero_ids", 1),
    ([picture("a.jpg") | {"image_id": ""}], "zero_ids", 1),
    ([picture("a.jpg", label(image_id="9"), label(image_id="8"), label())], "lost_labels", 2),
    ([COPY], "lost_duplicates", 1),
    ([COPY, picture("b.jpg", outcome="duplicate", duplicate_of=COPY["image_id"])], "lost_duplicates", 2),
    ([picture("a.jpg", label(name="catt"))], "strange_labels", 1),
    ([picture("a.jpg", label() | {"label": None})], "strange_labels", 1),
]


@pytest.mark.parametrize(("pictures", "figure", "count"), CONTRADICTIONS)
def test_what_contradicts_itself_across_shards_is_counted(pictures: list[dict], figure: str, count: int) -> None:
    """Ids, references and labels are looked at over the whole data set; each is critical."""
    result = judged(cleaned_tables(*pictures))
    told = [each for each in result.told["results"] if each["expectation_config"]["kwargs"]["column"] == figure]
    assert [(each["success"], each["expectation_config"]["severity"]) for each in told] == [(False, "critical")]
    assert figures(result)[figure] == count
    assert any(line.endswith(f": {count}, expected at most 0") for line in result.lines)


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ({"cat": 98, "dog": 2}, {"commonest_label", "evenness", "unused_labels"}),
        ({"cat": 300, "dog": 300, "person": 5}, {"rarest_label"}),
        ({"cat": 10}, {"unused_labels"}),  # of one label, balance means nothing
        ({"cat": 70, "dog": 15, "person": 15}, set()),
    ],
)
def test_labels_that_are_out_of_balance_are_told(counts: dict[str, int], expected: set[str]) -> None:
    """By the share of the rarest and of the commonest, and by evenness."""
    assert failing(judged_slim(slim(counts), None)) == expected


def test_a_line_tells_the_value_and_the_bound() -> None:
    """In words that need no documentation."""
    assert judged_slim(slim({"cat": 300, "dog": 300, "person": 5}), None).lines == (
        "share of the rarest label: 0.8%, expected at least 1.0%",
    )


def test_boxes_far_from_the_others_of_their_label_are_counted() -> None:
    """By the median deviation of their log area."""
    random = np.random.default_rng(0)
    rows = slim({"cat": 900}).with_columns(w=pl.Series(np.exp(random.normal(-3, 0.1, 900))))
    far = slim({"cat": 100}, side=0.9, start=900)
    assert figures(judged_slim(pl.concat([rows, far]), None))["outlier_rate"] == pytest.approx(0.1, abs=0.005)
    assert figures(judged_slim(rows, None))["outlier_rate"] < 0.01


# Drift


def counts_of(result: Result) -> Counts:
    """Return what the next result is compared with, as it comes out of a file."""
    counts = Counts.of(json.loads(json.dumps(result.told)))
    assert counts is not None
    return counts


def test_labels_that_were_added_are_compared_with_those_before() -> None:
    """Not the whole with what was there: a night's work may be a hundredth of the data set."""
    before = slim({"cat": 10_000, "dog": 10_000})
    added = slim({"cat": 300, "dog": 900}, start=20_000)
    result = judged_slim(pl.concat([before, added]), counts_of(judged_slim(before, None)))
    expected = jensenshannon([300, 900], [1, 1], base=2)
    assert figures(result)["label_drift"] == pytest.approx(expected, abs=1e-6)
    assert failing(result) == {"label_drift", "unused_labels"}
    same = pl.concat([before, slim({"cat": 600, "dog": 600}, start=20_000)])
    assert figures(judged_slim(same, counts_of(judged_slim(before, None))))["label_drift"] == pytest.approx(0, abs=1e-6)


def test_boxes_are_counted_by_their_side() -> None:
    """As a share of the picture's, in classes that double; the last is of those whose share is not known."""
    sides = [0.01, 1 / 64, 0.02, 0.3, 0.5, 0.51, 1.0, None, float("nan")]
    rows = slim({"cat": len(sides)}).with_columns(pl.Series(name, sides, pl.Float64) for name in ("w", "h"))
    assert counts_of(judged_slim(rows, None)) == Counts({"cat": 9}, (2, 1, 0, 0, 0, 2, 2, 2))


def test_sizes_of_boxes_drift_too() -> None:
    """Far faces instead of near ones, and pictures whose size is not known."""
    before = slim({"cat": 2_000, "dog": 2_000})
    for side, drifts in ((0.1, False), (0.02, True), (None, True)):
        added = slim({"cat": 1_000, "dog": 1_000}, start=4_000).with_columns(w=pl.lit(side, pl.Float64))
        result = judged_slim(pl.concat([before, added]), counts_of(judged_slim(before, None)))
        assert ("area_drift" in failing(result)) == drifts
        assert "label_drift" not in failing(result)


def test_where_labels_went_the_whole_is_compared_with_the_whole() -> None:
    """After an undo or a decision there is nothing that could be called new."""
    before = counts_of(judged_slim(slim({"cat": 3_000, "dog": 3_000}), None))
    for cats, dogs in ((3, 2), (2, 4)):
        told = figures(judged_slim(slim({"cat": cats * 1_000, "dog": dogs * 1_000}), before))
        assert told["label_drift"] == pytest.approx(jensenshannon([cats, dogs], [1, 1], base=2), abs=1e-6)


@pytest.mark.parametrize("few", ["before", "added", "nothing"])
def test_drift_of_few_labels_is_not_told(few: str) -> None:
    """Two samples of one population differ by chance."""
    before = slim({"cat": ENOUGH - 1 if few == "before" else 5_000})
    number = {"before": 5_000, "added": ENOUGH - 1, "nothing": 0}[few]
    after = pl.concat([before, slim({"dog": number}, start=9_000)])
    assert "label_drift" not in figures(judged_slim(after, counts_of(judged_slim(before, None))))


UNREADABLE: list[Any] = [
    {},
    {"labels": 1, "sides": []},
    {"labels": {"cat": "x"}, "sides": [1]},
    {"labels": {}, "sides": 1},
]


@pytest.mark.parametrize(
    "told",
    [None, {}, [], "x", {"meta": None}, *({"meta": {"counts": counts}} for counts in UNREADABLE)],
)
def test_a_result_before_that_cannot_be_read_is_none(told: Any) -> None:
    """The file may be of another version, or edited."""
    assert Counts.of(told) is None


@settings(max_examples=6, deadline=None)
@given(st.lists(st.integers(0, 40), min_size=3, max_size=3), st.lists(st.integers(0, 40), min_size=3, max_size=3))
def test_figures_are_shares_and_distances(now: list[int], then: list[int]) -> None:
    """Between 0 and 1, whatever was there before."""
    named = {name: 50 * count for name, count in zip(WORDS, now, strict=True)}
    before = Counts(
        {name: 50 * count for name, count in zip(WORDS, then, strict=True)}, (0,) * 3 + (50 * sum(then),) + (0,) * 4
    )
    counted = {bound.figure for bound in BOUNDS if bound.most == 0}
    told = figures(judged_slim(slim(named), before))
    assert all(0 <= value <= 1 + 1e-9 for name, value in told.items() if name not in counted)


def test_a_million_labels_are_judged_in_seconds() -> None:
    """Seconds of all cores together."""
    warm_up()
    rows = slim(dict.fromkeys(WORDS, 333_333))
    started = time.process_time()
    judged_slim(rows, None)
    assert time.process_time() - started < 5
