"""A person's own suite: what is taken, what is refused and how it is said, and what it finds."""

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.errors import RunError, UsageError
from schemas.reasons import Rule
from schemas.tables import Tables
from tests.builders import LABELS, column, face, picture, tables, with_values
from transforms.rules import clean, hold_back
from validation.own import ROWS, WHOLE, Own, judge_own, read_own
from validation.suites import judge
from validation.terms import annotated

BETWEEN = "expect_column_values_to_be_between"
WIDE = {"type": BETWEEN, "kwargs": {"column": "bbox_w", "min_value": 95}}
MEAN = {"type": "expect_column_mean_to_be_between", "kwargs": {"column": "bbox_w", "min_value": 200}}


def suite(path: Path, *expectations: Any, **more: Any) -> Path:
    """Write a suite; return its path."""
    file = path / "own.json"
    file.write_text(json.dumps({"name": "ours", "expectations": list(expectations)} | more))
    return file


def own(path: Path, *expectations: Any, **more: Any) -> Own:
    """Return a suite as it is read."""
    return read_own(suite(path, *expectations, **more), LABELS)


def shard() -> Tables:
    """Return two faces of 100 and 90 px on one picture, one of 40 px on another, and a picture that is held back."""
    return clean(
        tables(
            picture("a.jpg", face((10, 20, 100, 120)), face((300, 20, 90, 90), "sad", 0.6)),
            picture("b.jpg", face((5, 5, 40, 40), attributes='{"age": 3}')),
            picture("c.jpg", outcome="quarantined", width=None),
        )
    )


def found(rows: Tables, suite_: Own) -> list[tuple[str, int, str, str, str]]:
    """Return the findings but for what is wrong."""
    return [(f.table, f.row, str(f.rule), f.field, f.value) for f in judge_own(rows, suite_).findings]


# What it finds


def test_rows_that_break_it_are_named_with_their_value(tmp_path: Path) -> None:
    """Under the type of the expectation, or the name that its meta gives it."""
    named = WIDE | {"meta": {"name": "wide_enough"}, "description": "too narrow for us"}
    verdict = judge_own(shard(), own(tmp_path, WIDE, named))
    assert [(f.table, f.row, f.rule, f.field, f.value) for f in verdict.findings] == [
        ("annotations", row, f"own.{name}", "bbox_w", value)
        for name in (BETWEEN, "wide_enough")
        for row, value in ((1, "90"), (2, "40"))
    ]
    assert {f.detail for f in verdict.findings} == {f'{BETWEEN}: column="bbox_w", min_value=95', "too narrow for us"}


def test_they_are_held_back(tmp_path: Path) -> None:
    """As rows that break a rule of ours, and with the rows that break both."""
    rows = with_values(shard(), "annotations", 1, confidence=1.0)
    verdict = judge(rows, annotated(LABELS)) + judge_own(rows, own(tmp_path, WIDE))
    held = hold_back(rows, verdict.findings)
    rules = [Rule.LABEL_CONFIDENCE.value, f"own.{BETWEEN}", f"own.{BETWEEN}"]
    assert column(held, "quarantine", "rule") == rules
    assert column(held, "quarantine", "value") == ["1.0", "90", "40"]
    assert column(held, "images", "outcome") == ["labelled", "quarantined", "quarantined"]


def test_every_kind_of_column_can_be_asked_about(tmp_path: Path) -> None:
    """Texts, numbers, probabilities, the picture's name and size; pairs and lists of columns."""
    asked = [
        {
            "type": "expect_column_values_to_match_regex",
            "kwargs": {"column": "file_name", "regex": "^a"},
            "meta": {"table": "annotations"},
        },
        {"type": BETWEEN, "kwargs": {"column": "p_sad", "max_value": 0.1}},
        {"type": BETWEEN, "kwargs": {"column": "image_width", "max_value": 640}},
        {"type": "expect_column_values_to_be_json_parseable", "kwargs": {"column": "attributes"}},
        {
            "type": "expect_column_pair_values_a_to_be_greater_than_b",
            "kwargs": {"column_A": "bbox_h", "column_B": "bbox_w", "or_equal": False},
        },
        {"type": "expect_compound_columns_to_be_unique", "kwargs": {"column_list": ["origin", "label"]}},
        {"type": "expect_column_values_to_be_in_set", "kwargs": {"column": "outcome", "value_set": ["labelled"]}},
        {"type": "expect_column_values_to_not_be_null", "kwargs": {"column": "width"}},
    ]
    rows = with_values(shard(), "images", 1, width=None)
    assert found(rows, own(tmp_path, *asked)) == [
        ("images", 1, "own.expect_column_values_to_not_be_null", "width", ""),
        ("annotations", 2, "own.expect_column_values_to_match_regex", "file_name", "b.jpg"),
        ("annotations", 1, f"own.{BETWEEN}", "p_sad", "0.6"),
        ("annotations", 1, "own.expect_column_pair_values_a_to_be_greater_than_b", "bbox_h, bbox_w", "[90.0,90.0]"),
        ("annotations", 2, "own.expect_column_pair_values_a_to_be_greater_than_b", "bbox_h, bbox_w", "[40.0,40.0]"),
        ("annotations", 0, "own.expect_compound_columns_to_be_unique", "origin, label", '["model","happy"]'),
        ("annotations", 2, "own.expect_compound_columns_to_be_unique", "origin, label", '["model","happy"]'),
    ]


def test_our_own_expectations_may_be_used_with_other_bounds(tmp_path: Path) -> None:
    """They tell the field that is wrong and its value, as in our suites."""
    sides = {"type": "expect_box_sides", "kwargs": {"least": 50}}
    narrow = with_values(shard(), "annotations", 2, origin="import")
    assert found(narrow, own(tmp_path, sides)) == [
        ("annotations", 2, "own.expect_box_sides", "bbox", "[5.0,5.0,40.0,40.0]")
    ]


def test_an_expectation_of_less_weight_is_only_counted(tmp_path: Path) -> None:
    """Those that are warnings, and those that `mostly` hold, hold nothing back."""
    mostly = {"type": BETWEEN, "kwargs": {"column": "bbox_w", "min_value": 50, "mostly": 0.6}}
    verdict = judge_own(shard(), own(tmp_path, WIDE | {"severity": "warning"}, mostly))
    assert verdict.findings == []
    assert [result["failed"] for result in verdict.results] == [{f"{BETWEEN}(bbox_w)": 2}]


def test_an_expectation_about_the_table_is_told_and_stops_nothing(tmp_path: Path) -> None:
    """Unless its meta says that it is to; "critical" is what Great Expectations writes beside every expectation."""
    rows = {"type": "expect_table_row_count_to_be_between", "kwargs": {"min_value": 9}, "meta": {"table": "images"}}
    verdict = judge_own(shard(), own(tmp_path, MEAN | {"severity": "critical"}, rows, WIDE, WIDE))
    assert [(each["suite"], each["table"], each["rows"], each["failed"]) for each in verdict.results] == [
        ("own.ours", "images", 2, {"expect_table_row_count_to_be_between": 0}),
        (
            "own.ours",
            "annotations",
            3,
            {"expect_column_mean_to_be_between(bbox_w)": 0, f"{BETWEEN}(bbox_w)": 2, f"{BETWEEN}(bbox_w) #2": 2},
        ),
    ]
    assert {f.rule for f in verdict.findings} == {f"own.{BETWEEN}"}
    with pytest.raises(RunError, match=r"expect_column_mean_to_be_between\(bbox_w\) of the suite ours .*76\.6"):
        judge_own(shard(), own(tmp_path, MEAN | {"meta": {"stop": True}}))


def test_it_travels_and_is_known_by_its_content(tmp_path: Path) -> None:
    """Workers get it pickled; layout and name do not matter, what is expected does."""
    one = own(tmp_path, WIDE)
    assert pickle.loads(pickle.dumps(one)) == one
    assert own(tmp_path, {"kwargs": WIDE["kwargs"], "type": BETWEEN}, name="other").sha256 == one.sha256
    assert own(tmp_path, WIDE | {"severity": "info"}).sha256 != one.sha256
    assert own(tmp_path, {"type": BETWEEN, "kwargs": {"column": "bbox_w", "min_value": 96}}).sha256 != one.sha256


def test_what_great_expectations_writes_is_read(tmp_path: Path) -> None:
    """The JSON of a suite of another project, with ids and versions in it."""
    own(tmp_path, WIDE)  # so that the library is loaded
    import great_expectations as gx
    import great_expectations.expectations as gxe

    theirs = gx.ExpectationSuite(
        name="theirs",
        expectations=[
            gxe.ExpectColumnValuesToBeBetween(column="bbox_w", min_value=95, meta={"name": "wide"}),
            gxe.ExpectColumnMeanToBeBetween(column="bbox_w", min_value=1, max_value=200),
        ],
    )
    file = tmp_path / "theirs.json"
    file.write_text(json.dumps(theirs.to_json_dict()))
    assert [row for _, row, *_ in found(shard(), read_own(file, LABELS))] == [1, 2]


# What is refused

HOSTILE = "@pd.io.common.os.system('touch pwned')"
REFUSED: list[tuple[Any, str]] = [
    ({"type": "expect_column_values_to_be_betwen", "kwargs": {}}, f"unknown type .*: did you mean {BETWEEN}"),
    ({"type": "expect_world_peace", "kwargs": {}}, "unknown type expect_world_peace"),
    ({"type": "unexpected_rows_expectation", "kwargs": {"unexpected_rows_query": "SELECT 1"}}, "unknown type"),
    ({"type": "expect_column_values_to_match_json_schema", "kwargs": {}}, "unknown type"),
    (WIDE | {"kwargs": {"column": "bbox_v", "min_value": 1}}, "no column bbox_v: did you mean bbox_"),
    (WIDE | {"kwargs": {"column": "zzz", "min_value": 1}}, "no column zzz; there are image_id, .*file_name"),
    (WIDE | {"kwargs": {"column": ["bbox_w"], "min_value": 1}}, "a column is named by a text"),
    (WIDE | {"kwargs": {"column": "bbox_w", "least": 1}}, "extra fields not permitted"),
    (WIDE | {"kwargs": {"column": "bbox_w", "min_value": 1, "row_condition": HOSTILE}}, "row_condition, .* Python"),
    (
        WIDE | {"kwargs": {"column": "bbox_w", "row_condition": {"type": "pass_through", "pass_through_filter": "x"}}},
        "row_condition",
    ),
    (WIDE | {"kwargs": {"column": "bbox_w", "min_value": 1, "condition_parser": "pandas"}}, "condition_parser"),
    (WIDE | {"kwargs": {"column": "bbox_w", "min_value": {"$PARAMETER": "least"}}}, r"\$PARAMETER"),
    (WIDE | {"kwargs": {"column": "bbox_w", "min_value": 1, "result_format": "BASIC"}}, "result_format"),
    (WIDE | {"severity": "grave"}, "severity 'grave'"),
    (WIDE | {"meta": {"name": "Wide enough!"}}, "meta.name"),
    (WIDE | {"meta": {"table": "crops"}}, "meta.table 'crops'"),
    (WIDE | {"meta": {"table": "images"}}, "no column bbox_w"),
    (WIDE | {"evil": 1}, "unknown key 'evil'"),
    ({"type": "expect_column_values_to_not_be_null", "kwargs": {"column": "image_id"}}, "say which with"),
    ({"type": "expect_table_row_count_to_be_between", "kwargs": {"min_value": 1}}, "say which with"),
    (
        {
            "type": "expect_column_pair_values_to_be_equal",
            "kwargs": {"column_A": "outcome", "column_B": "label"},
        },
        "outcome, label are not columns of one table",
    ),
    ({"type": "expect_column_values_to_match_regex", "kwargs": {"column": "label", "regex": "("}}, "cannot be eval"),
    (WIDE | {"kwargs": {"column": "label", "min_value": 1}}, "cannot be evaluated"),
    ("x", "expected"),
    ({"type": BETWEEN, "kwargs": []}, "unknown|column"),
    ({"type": BETWEEN, "kwargs": [1]}, "must be objects"),
]


@pytest.mark.parametrize(("expectation", "why"), REFUSED)
def test_what_cannot_be_taken_is_refused_by_number_and_reason(expectation: Any, why: str, tmp_path: Path) -> None:
    """Before anything runs, and nothing of it is evaluated as code."""
    with pytest.raises(UsageError, match=rf"(?s)--expectations .*own\.json: expectation 2: .*{why}"):
        own(tmp_path, WIDE, expectation)
    assert {path.name for path in tmp_path.iterdir()} == {"own.json"}
    assert not Path("pwned").exists()


FILES = [
    (b"", "no JSON"),
    (b"{", "line 1: no JSON"),
    (b'\n\n{"name": "x" "expectations"', "line 3: no JSON"),
    (b"[" * 100_000, "no JSON that can be read"),
    (b"\xff\xfe\x00", "no JSON that can be read"),
    (b'{"name": "x", "expectations": [{"type": "x", "kwargs": {"v": NaN}}]}', "NaN is no number"),
    (b"[]", "expected a suite of Great Expectations"),
    (b'{"expectations": []}', "expected a suite of Great Expectations"),
    (b'{"name": "x", "expectations": []}', "1 to 200 expectations"),
    (b'{"name": "x", "expectations": {}}', "1 to 200 expectations"),
    (json.dumps({"name": "x", "expectations": [WIDE] * 201}).encode(), "1 to 200 expectations"),
    (b" " * 1_000_001, "too large for a suite"),
]


@pytest.mark.parametrize(("data", "why"), FILES)
def test_a_file_that_is_no_suite_is_refused(data: bytes, why: str, tmp_path: Path) -> None:
    """With the place where it breaks."""
    (tmp_path / "own.json").write_bytes(data)
    with pytest.raises(UsageError, match=rf"own\.json: .*{why}"):
        read_own(tmp_path / "own.json", LABELS)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    """And a folder."""
    for path in (tmp_path / "none.json", tmp_path):
        with pytest.raises(UsageError, match=r"No such file|Is a directory"):
            read_own(path, LABELS)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
NAMES = ("column", "column_A", "column_B", "column_list", "value_set", "min_value", "max_value", "regex", "mostly")


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from([*ROWS, *WHOLE, "expect_box_aspect", "expect_one_label"]),
    st.dictionaries(st.sampled_from(NAMES), st.sampled_from(["label", "bbox_w", ["label", "origin"]]) | VALUES),
    st.dictionaries(st.sampled_from(["name", "table", "stop", "rule"]), VALUES),
)
def test_whatever_is_written_is_taken_or_refused(
    tmp_path_factory: pytest.TempPathFactory, kind: str, kwargs: dict, meta: dict
) -> None:
    """A suite that is taken judges a shard; no other error than ours comes out."""
    path = tmp_path_factory.mktemp("own")
    try:
        taken = own(path, {"type": kind, "kwargs": kwargs, "meta": meta})
    except UsageError:
        return
    try:
        judge_own(shard(), taken)
    except RunError as error:
        assert "could not be evaluated" in str(error) or "stop the run" in str(error)


def test_each_stock_expectation_that_is_taken_exists(tmp_path: Path) -> None:
    """In the installed version of Great Expectations."""
    own(tmp_path, WIDE)
    from great_expectations.expectations.registry import get_expectation_impl

    assert [get_expectation_impl(each).expectation_type for each in (*ROWS, *WHOLE)] == [*ROWS, *WHOLE]
