"""The suites name every row that breaks a rule, no other, and stop the run when they cannot judge."""

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import validation
from schemas.errors import RunError
from schemas.reasons import Rule
from schemas.tables import Tables
from schemas.vocabulary import EXPRESSIONS
from tests.builders import LABELS, column, face, picture, tables, with_values
from transforms.rules import clean, hold_back
from validation.frames import frames_of, values_of
from validation.published import SUITES, suite_json
from validation.suites import Expected, Finding, NotEvaluated, check, evaluate, judge, merged, warm_up
from validation.terms import annotated, cleaned

NAN, INF = float("nan"), float("inf")


def valid() -> Tables:
    """Return two faces on one picture, a picture without a face, a duplicate and a label of a whole picture."""
    return clean(
        tables(
            picture("a.jpg", face((10, 20, 100, 120)), face((300, 20, 90, 90), "sad", 0.6)),
            picture("b.jpg"),
            picture("c.jpg", outcome="duplicate", duplicate_of="0" * 64),
            picture("d.jpg", face((None,) * 4)),
        )
    )


def found(given: Tables) -> list[tuple[str, int, Rule, str]]:
    """Return what the suites find, without the texts."""
    return [(f.table, f.row, f.rule, f.field) for f in check(given, LABELS)]


def test_rows_that_hold_to_every_rule_give_no_findings() -> None:
    """Valid tables pass, with null probabilities of a label that the model does not know."""
    assert column(valid(), "annotations", "p_contempt") == [None] * 3
    assert found(valid()) == []


def test_empty_tables_pass() -> None:
    """A shard may hold failures only."""
    assert found(tables()) == []


IMAGE_CASES = [
    ({"width": 0}, Rule.IMAGE_SIZE, "size"),
    ({"height": None}, Rule.IMAGE_SIZE, "size"),
    ({"sha256": "abc"}, Rule.IMAGE_IDENTITY, "sha256"),
    ({"sha256": None}, Rule.IMAGE_IDENTITY, "sha256"),
    ({"image_id": None}, Rule.IMAGE_IDENTITY, "image_id"),
    ({"image_id": "A" * 64}, Rule.IMAGE_IDENTITY, "image_id"),  # capitals
    ({"image_id": "a" * 64 + "\n"}, Rule.IMAGE_IDENTITY, "image_id"),
    ({"outcome": "labeled"}, Rule.IMAGE_OUTCOME, "outcome"),  # a misspelling
    ({"outcome": "failed"}, Rule.IMAGE_OUTCOME, "outcome"),  # failures have a table of their own
    ({"outcome": None}, Rule.IMAGE_OUTCOME, "outcome"),
    ({"outcome": "labelled"}, Rule.IMAGE_OUTCOME, "outcome"),  # without an annotation
    ({"outcome": "duplicate"}, Rule.IMAGE_OUTCOME, "duplicate_of"),
    ({"duplicate_of": "0" * 64}, Rule.IMAGE_OUTCOME, "duplicate_of"),
    ({"annotations": 1}, Rule.IMAGE_OUTCOME, "annotations"),
    ({"annotations": None}, Rule.IMAGE_OUTCOME, "annotations"),
]


@pytest.mark.parametrize(("values", "rule", "field"), IMAGE_CASES)
def test_a_picture_that_breaks_a_rule_is_named(values: dict, rule: Rule, field: str) -> None:
    """One broken value of the picture without a face gives one finding."""
    assert found(with_values(valid(), "images", 1, **values)) == [("images", 1, rule, field)]


def test_the_outcome_of_a_picture_with_annotations_must_be_labelled() -> None:
    """A picture whose labels stand in the table is not without a face."""
    assert found(with_values(valid(), "images", 0, outcome="no_face")) == [("images", 0, Rule.IMAGE_OUTCOME, "outcome")]


def test_the_second_of_two_equal_ids_is_named() -> None:
    """Ids are unique; the first stands."""
    same = column(valid(), "images", "image_id")[0]
    assert ("images", 1, Rule.IMAGE_IDENTITY, "image_id") in found(with_values(valid(), "images", 1, image_id=same))


ANNOTATION_CASES = [
    ({"bbox_x": 600.0}, Rule.BBOX_INSIDE, "bbox"),
    ({"bbox_y": -0.02}, Rule.BBOX_INSIDE, "bbox"),
    ({"bbox_w": 0.0}, Rule.BBOX_INSIDE, "bbox"),
    ({"bbox_w": NAN}, Rule.BBOX_INSIDE, "bbox"),
    ({"bbox_h": INF}, Rule.BBOX_INSIDE, "bbox"),
    ({"bbox_x": None}, Rule.BBOX_INSIDE, "bbox"),  # a part of a box is no box
    ({"cx": 0.5}, Rule.BBOX_NORMALISED, "normalised"),
    ({"w": None}, Rule.BBOX_NORMALISED, "normalised"),
    ({"h": NAN}, Rule.BBOX_NORMALISED, "normalised"),
    ({"cx": None, "cy": None, "w": None, "h": None}, Rule.BBOX_NORMALISED, "normalised"),
    ({"label": "hapy", "origin": "import"}, Rule.LABEL_VOCABULARY, "label"),
    ({"label": None, "origin": "import"}, Rule.LABEL_VOCABULARY, "label"),
    ({"label": "angry"}, Rule.LABEL_PROBABILITIES, "label"),  # not the largest
    ({"label": "contempt"}, Rule.LABEL_PROBABILITIES, "label"),  # unknown to the model
    ({"p_sad": NAN}, Rule.LABEL_PROBABILITIES, "probabilities"),
    ({"p_sad": -0.1}, Rule.LABEL_PROBABILITIES, "probabilities"),
    ({"p_happy": 1.5}, Rule.LABEL_PROBABILITIES, "probabilities"),
    ({"p_happy": 0.902}, Rule.LABEL_PROBABILITIES, "probabilities"),  # the sum is 1.002
    ({f"p_{name}": None for name in LABELS}, Rule.LABEL_PROBABILITIES, "probabilities"),
    ({"confidence": NAN}, Rule.LABEL_CONFIDENCE, "confidence"),
    ({"confidence": None}, Rule.LABEL_CONFIDENCE, "confidence"),
    ({"confidence": 1.0}, Rule.LABEL_CONFIDENCE, "confidence"),
    ({"confidence": 1.0, "origin": "import"}, Rule.LABEL_CONFIDENCE, "confidence"),
    ({"confidence": -0.1, "origin": "person"}, Rule.LABEL_CONFIDENCE, "confidence"),
    ({"origin": "guess"}, Rule.LABEL_CONFIDENCE, "origin"),
    ({"origin": None}, Rule.LABEL_CONFIDENCE, "origin"),
]


@pytest.mark.parametrize(("values", "rule", "field"), ANNOTATION_CASES)
def test_an_annotation_that_breaks_a_rule_is_named(values: dict, rule: Rule, field: str) -> None:
    """One broken value of the first face gives a finding of its rule; a moved box also contradicts cx, cy, w, h."""
    given = found(with_values(valid(), "annotations", 0, **values))
    assert ("annotations", 0, rule, field) in given
    assert {row for _, row, _, _ in given} == {0}
    assert {its for _, _, its, _ in given} <= {rule, Rule.BBOX_NORMALISED}


FINE = [
    {"bbox_x": 9.995},  # within the rounding of float32
    {"p_happy": 0.9005},
    {"confidence": 1.0, "origin": "person"},
    {"confidence": None, "origin": "import"},
    {"label": "angry", "origin": "person"},  # a person knows better than the model
    {"origin": "import", **{f"p_{name}": None for name in LABELS}},
]


@pytest.mark.parametrize("values", FINE)
def test_what_is_unusual_but_right_passes(values: dict) -> None:
    """Tolerances and null values are no findings."""
    assert found(with_values(valid(), "annotations", 0, **values)) == []


def test_a_model_may_know_labels_of_its_own() -> None:
    """The vocabulary is the canonical labels and the model's."""
    own = clean(tables(picture("a.jpg", face(label="bored", p_bored=0.9, p_angry=0.0)), labels=(*LABELS, "bored")))
    assert check(own, (*LABELS, "bored")) == []


def test_an_annotation_without_its_picture_is_named() -> None:
    """The reference is checked within the shard; and the picture then has one annotation less than it says."""
    assert found(with_values(valid(), "annotations", 0, image_id="f" * 64)) == [
        ("images", 0, Rule.IMAGE_OUTCOME, "annotations"),
        ("annotations", 0, Rule.REFERENCE_NO_IMAGE, "image_id"),
        ("annotations", 0, Rule.BBOX_NORMALISED, "normalised"),
    ]


def test_a_finding_tells_the_value_and_what_is_wrong() -> None:
    """The texts serve the person who reads the quarantine."""
    given = with_values(valid(), "annotations", 1, confidence=1.0, p_sad=NAN)
    assert [(f.value, f.detail) for f in check(given, LABELS)][1] == (
        "1.0",
        "1 is reserved for what a person confirmed",
    )
    assert '"p_sad":"nan"' in check(given, LABELS)[0].value
    assert values_of(given.annotations, [2, 0], "bbox") == ["[null,null,null,null]", "[10.0,20.0,100.0,120.0]"]


def test_what_was_held_back_is_not_found_again() -> None:
    """After every broken row is held back, nothing is left to find, and ids still point at pictures."""
    given = valid()
    for values, _, _ in ANNOTATION_CASES:
        given = with_values(given, "annotations", 0, **values)
    given = with_values(given, "images", 3, sha256="?")
    held = hold_back(given, check(given, LABELS))
    assert check(held, LABELS) == []
    assert held.quarantine.num_rows > 2


def test_an_expectation_that_raises_stops_the_run() -> None:
    """Great Expectations turns the error into a result without rows; that must not pass for "no faults"."""
    warm_up()
    import pandas as pd
    from great_expectations.expectations.core import ExpectColumnMeanToBeBetween

    from validation.expectations import ExpectImageSize, RowExpectation

    class ExpectTrouble(RowExpectation):
        rule = Rule.IMAGE_SIZE

        def faults(self, frame: pd.DataFrame) -> list:
            return [(frame["no such column"] > 0, "width", "")]

    def asked(expectation: Any) -> None:
        both = [Expected(Rule.IMAGE_SIZE, each, "") for each in (ExpectImageSize(), expectation)]
        evaluate(pd.DataFrame({"outcome": ["labelled"], "sha256": ["0"], "width": [1.0], "height": [1.0]}), both)

    assert issubclass(NotEvaluated, RunError)
    with pytest.raises(NotEvaluated, match=r"expect_trouble .*KeyError: 'no such column'"):
        asked(ExpectTrouble())
    with pytest.raises(NotEvaluated, match=r"expect_column_mean_to_be_between .*nosuch"):  # fails in a metric
        asked(ExpectColumnMeanToBeBetween(column="nosuch", min_value=0))


def test_the_results_of_shards_become_one() -> None:
    """Each suite and table has one entry: rows and broken rows are added, and what broke anywhere is no success."""
    broken = with_values(with_values(valid(), "annotations", 0, confidence=1.0), "annotations", 1, confidence=1.0)
    results = [each for given in (valid(), broken) for each in judge(given, annotated(LABELS)).results]
    assert json.loads(json.dumps(results)) == results
    assert merged([*merged(results), *judge(broken, annotated(LABELS)).results]) == [
        {
            "suite": "annotate",
            "table": "images",
            "version": "1",
            "evaluated": 3,
            "successful": 3,
            "rows": 12,
            "failed": {},
        },
        {
            "suite": "annotate",
            "table": "annotations",
            "version": "1",
            "evaluated": 7,
            "successful": 6,
            "rows": 9,
            "failed": {"expect_confidence": 4},
        },
    ]


@pytest.mark.parametrize("name", SUITES)
def test_the_json_of_a_suite_is_what_the_code_says(name: str) -> None:
    """If this fails: `python -m validation.published`, and a new version in validation/terms.py."""
    path = Path(validation.__file__).with_name(f"{name}.json")
    assert path.read_bytes() == suite_json(name)


def test_a_plain_context_loads_the_json_and_finds_the_same() -> None:
    """Another user's context needs the import of our expectations, and frames of the tables."""
    warm_up()
    import great_expectations as gx

    context = gx.get_context(mode="ephemeral")
    given = with_values(with_values(valid(), "annotations", 0, label="hapy", origin="import"), "images", 1, width=0)
    asset = context.data_sources.add_pandas("theirs").add_dataframe_asset("rows")
    batches = asset.add_batch_definition_whole_dataframe("whole")
    for table, frame in zip(("images", "annotations"), frames_of(given.images, given.annotations), strict=True):
        told = json.loads(suite_json(f"clean_{table}"))
        suite = context.suites.add(gx.ExpectationSuite(**told))
        assert len(suite.expectations) == len(told["expectations"])
        outcome = batches.get_batch({"dataframe": frame}).validate(suite, result_format="COMPLETE")
        rows = {
            (each.expectation_config.meta["rule"], row)
            for each in outcome.results
            for row in each.result["unexpected_index_list"] or []
        }
        found_here = [each for each in judge(given, cleaned(EXPRESSIONS)).findings if each.table == table]
        assert rows == {(each.rule.value, each.row) for each in found_here} != set()


def test_four_threads_find_each_their_own() -> None:
    """The frame that is looked at is shared by all threads of Great Expectations; a check must not see another's."""

    def one(row: int) -> list[Finding]:
        pictures = [picture(f"{i}.jpg", face()) for i in range(8)]
        return check(with_values(clean(tables(*pictures)), "annotations", row % 8, confidence=1.0), LABELS)

    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(one, range(40)))
    assert [[f.row for f in result] for result in results] == [[i % 8] for i in range(40)]


QUIET = """
import os, socket, sys, tempfile, warnings
def no_network(*_): raise AssertionError("network")
socket.socket.connect = socket.getaddrinfo = no_network
def no_folder(*_, **__): raise AssertionError("a folder")
tempfile.mkdtemp = os.mkdir = no_folder
from validation import suites
assert not {"great_expectations", "pandas"} & set(sys.modules), "importing the suites must be cheap"
shown = warnings.showwarning
suites.warm_up()
assert warnings.showwarning is shown, "warnings must not be sent to logging"
from tests.builders import LABELS, face, picture, tables
assert suites.check(tables(picture("a.jpg", face())), LABELS)
assert "apache_beam" not in sys.modules
"""


def test_a_check_writes_nothing_and_says_nothing(tmp_path: Path) -> None:
    """No folder, no network, no progress bar, no log; importing is cheap and loads no Beam."""
    repository = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", QUIET],
        cwd=tmp_path,
        env={
            "PYTHONPATH": str(repository),
            "PYTHONDONTWRITEBYTECODE": "1",
            "HOME": str(tmp_path),
            "TMPDIR": str(tmp_path),
        },
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert list(tmp_path.iterdir()) == []
