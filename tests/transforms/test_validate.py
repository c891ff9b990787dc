"""The step holds back what breaks an expectation, tells what the suites said, and stops where they cannot judge."""

import json
from pathlib import Path

import apache_beam as beam
import pytest
from apache_beam.testing import test_pipeline
from apache_beam.testing.util import assert_that, equal_to

from schemas.errors import RunError
from schemas.reasons import Rule
from tests.builders import LABELS, column, face, picture, tables, with_values
from tests.validation.test_expectations import WORDS, cleaned_tables, label
from transforms.rules import clean
from transforms.validate import Validate, judge_shard
from validation.own import Own, read_own
from validation.terms import annotated, cleaned


def own(path: Path, **meta: object) -> Own:
    """Return a suite that wants wide boxes, and on average very wide ones."""
    kinds = ("values_to_be", "mean_to_be")
    each = [
        {"type": f"expect_column_{kind}_between", "kwargs": {"column": "bbox_w", "min_value": least}, "meta": meta}
        for kind, least in zip(kinds, (95, 500), strict=True)
    ]
    (path / "own.json").write_text(json.dumps({"name": "ours", "expectations": each}))
    return read_own(path / "own.json", ())


def test_a_shard_in_order_is_handed_on_as_it_is() -> None:
    """The same tables, with one result a suite."""
    rows = clean(tables(picture("a.jpg", face()), picture("b.jpg")))
    shard, after, results = judge_shard((7, rows), annotated(LABELS))
    assert (shard, after is rows) == (7, True)
    assert [(each["table"], each["rows"], each["failed"]) for each in results] == [
        ("images", 2, {}),
        ("annotations", 1, {}),
    ]


def test_what_breaks_a_rule_is_held_back(tmp_path: Path) -> None:
    """Ours and a person's: each row with its rule and value, and the picture without a label that is left."""
    rows = cleaned_tables(picture("a.jpg", label(), label((200, 20, 90, 90))), picture("b.jpg", label(name="catt")))
    _, after, results = judge_shard((0, rows), cleaned(WORDS), own(tmp_path))
    held = list(zip(*(column(after, "quarantine", name) for name in ("rule", "field", "value")), strict=True))
    assert held == [
        (Rule.LABEL_VOCABULARY.value, "label", "catt"),
        ("own.expect_column_values_to_be_between", "bbox_w", "90"),
    ]
    assert column(after, "annotations", "label") == ["cat"]
    assert column(after, "images", "outcome") == ["labelled", "quarantined"]
    assert [(each["suite"], each["table"], each["failed"]) for each in results] == [
        ("clean", "images", {}),
        ("clean", "annotations", {"expect_column_values_to_be_in_set(label)": 1}),
        (
            "own.ours",
            "annotations",
            {"expect_column_values_to_be_between(bbox_w)": 1, "expect_column_mean_to_be_between(bbox_w)": 0},
        ),
    ]


def test_what_is_to_stop_the_run_stops_it(tmp_path: Path) -> None:
    """Before the shard is written."""
    rows = cleaned_tables(picture("a.jpg", label()))
    with pytest.raises(RunError, match=r"expect_column_mean_to_be_between\(bbox_w\) of the suite ours failed"):
        judge_shard((0, rows), cleaned(WORDS), own(tmp_path, stop=True))


def test_it_is_a_step_of_a_pipeline(tmp_path: Path) -> None:
    """With a person's suite and without."""
    broken = with_values(clean(tables(picture("a.jpg", face(), face((300, 20, 60, 60))))), "annotations", 0, label=None)

    def left(judged: tuple) -> tuple[int, list[str], list[str]]:
        number, rows = judged[:2]
        return number, column(rows, "annotations", "label"), column(rows, "quarantine", "rule")

    vocabulary = [Rule.LABEL_VOCABULARY.value, Rule.LABEL_PROBABILITIES.value]
    wide = ["own.expect_column_values_to_be_between"]
    for step, expected in (
        (Validate(annotated(LABELS)), (3, ["happy"], vocabulary)),
        (Validate(cleaned(("happy",)), own(tmp_path)), (3, [], vocabulary + wide)),
    ):
        with test_pipeline.TestPipeline() as pipeline:
            after = pipeline | beam.Create([(3, broken)]) | step | beam.Map(left)
            assert_that(after, equal_to([expected]))
