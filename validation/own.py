"""A person's own suite: the JSON of Great Expectations 1.x, read with care, and what it finds in a shard.

    {"name": "ours", "expectations": [
        {"type": "expect_column_values_to_be_between",
         "kwargs": {"column": "bbox_w", "min_value": 20}, "meta": {"name": "wide_enough"}}]}

It may use the stock expectations named below and ours of `validation.expectations`. An expectation looks at one table,
`images` or `annotations`: the one that has its columns, or the one that its `meta` names ("table"). The columns are
those of the tables in Parquet that are texts or numbers; of an annotation also its picture's `file_name`,
`image_width` and `image_height`. Numbers are floats; a value that is missing is null, one that is no number is
infinite. Pictures that are quarantined, and their labels, are not looked at again.

Rows that break an expectation are held back under the rule `own.<name>`, the name being that of its `meta` or its type.
Where its `severity` is "warning" or "info" they are only counted; so are all while no more break it than `mostly`
allows. An expectation about a whole table (a mean, a number of rows) looks at a shard of it; that it fails is told in
the manifest. It stops the run only where its `meta` says so ("stop": true): every suite that Great Expectations writes
calls all of its expectations critical, so that word cannot be taken for a wish.
"""

import difflib
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, Protocol

from schemas.errors import RunError, UsageError
from schemas.reasons import Outcome
from schemas.tables import Tables, schema
from validation.suites import Expected, Finding, NotEvaluated, OwnRule, Table, Verdict, context, evaluate, named, told

if TYPE_CHECKING:
    import pandas as pd

MOST_BYTES = 1_000_000
MOST_EXPECTATIONS = 200
MOST_CHARACTERS = 200
"""A longer value is cut in a finding; the row that is held back has it whole."""

ROWS = (
    "expect_column_value_lengths_to_be_between",
    "expect_column_value_lengths_to_equal",
    "expect_column_value_z_scores_to_be_less_than",
    "expect_column_values_to_be_between",
    "expect_column_values_to_be_in_set",
    "expect_column_values_to_be_json_parseable",
    "expect_column_values_to_be_null",
    "expect_column_values_to_be_unique",
    "expect_column_values_to_match_regex",
    "expect_column_values_to_match_regex_list",
    "expect_column_values_to_not_be_in_set",
    "expect_column_values_to_not_be_null",
    "expect_column_values_to_not_match_regex",
    "expect_column_values_to_not_match_regex_list",
    "expect_column_pair_values_a_to_be_greater_than_b",
    "expect_column_pair_values_to_be_equal",
    "expect_column_pair_values_to_be_in_set",
    "expect_compound_columns_to_be_unique",
    "expect_multicolumn_sum_to_equal",
    "expect_multicolumn_values_to_be_equal",
    "expect_select_column_values_to_be_unique_within_record",
)
"""Stock expectations about rows. Those are left out that only databases know, and the one of JSON schemas: these may
name others by an address."""

WHOLE = (
    "expect_column_distinct_values_to_be_in_set",
    "expect_column_distinct_values_to_contain_set",
    "expect_column_distinct_values_to_equal_set",
    "expect_column_max_to_be_between",
    "expect_column_mean_to_be_between",
    "expect_column_median_to_be_between",
    "expect_column_min_to_be_between",
    "expect_column_most_common_value_to_be_in_set",
    "expect_column_proportion_of_non_null_values_to_be_between",
    "expect_column_proportion_of_unique_values_to_be_between",
    "expect_column_quantile_values_to_be_between",
    "expect_column_stdev_to_be_between",
    "expect_column_sum_to_be_between",
    "expect_column_to_exist",
    "expect_column_unique_value_count_to_be_between",
    "expect_table_row_count_to_be_between",
)
"""Stock expectations about a whole table."""

Columns = Mapping[str, bool]
"""Names of columns, and whether each is of texts; the others are of numbers."""

_TABLES: tuple[Table, Table] = ("images", "annotations")
_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,79}")
_KEYS = {"type", "kwargs", "meta", "severity", "description", "notes", "id", "rendered_content", "success_on_last_run"}

_REFUSED = {
    "row_condition": "Great Expectations evaluates it as Python code",
    "condition_parser": "it belongs to row_condition",
    "windows": "there are no earlier results to look at",
    "result_format": "the form of results is ours",
    "catch_exceptions": "an expectation that cannot be evaluated stops the run",
}


@dataclass(frozen=True)
class One:
    """One expectation: its table, what it is called in results, its rule, its JSON, and the columns that it is about.

    `by_row` says that it tells which rows break it; where `holds`, these are held back. Where `stops`, the run ends if
    it fails.
    """

    table: Table
    name: str
    rule: OwnRule
    told: str
    columns: tuple[str, ...]
    by_row: bool
    holds: bool
    stops: bool


@dataclass(frozen=True)
class Own:
    """A person's suite, plain enough to travel. `sha256` is of its content, however that is laid out in the file."""

    name: str
    sha256: str
    expectations: tuple[One, ...]


class File(Protocol):
    """Where a suite is read from: a `pathlib.Path`, or what can be opened like one."""

    def open(self, mode: Literal["rb"]) -> AbstractContextManager[BinaryIO]:
        """Open it for reading."""


def read_own(path: File, labels: tuple[str, ...]) -> Own:
    """Read a suite; `labels` are those that the tables' p_ columns are made of.

    Raises UsageError, naming the file and the expectation, where it is no suite that can be evaluated here. Takes
    seconds: each expectation is tried on a made-up table.
    """
    suite = _read(path)
    each = suite["expectations"]
    if not isinstance(each, list) or not 0 < len(each) <= MOST_EXPECTATIONS:
        raise UsageError(f"--expectations {path}: expected 1 to {MOST_EXPECTATIONS} expectations in a list")
    context()  # the expectations are known from here on
    known = {table: _columns(table, labels) for table in _TABLES}
    ones: list[One] = []
    for number, given in enumerate(each, 1):
        try:
            one = _one(given, suite, known)
            _try(one, known[one.table])
        except (_Refused, NotEvaluated) as error:
            why = error.why if isinstance(error, NotEvaluated) else error
            raise UsageError(f"--expectations {path}: expectation {number}: {why}") from None
        again = sum(one.name == other.name.partition(" #")[0] for other in ones)
        ones.append(replace(one, name=f"{one.name} #{again + 1}") if again else one)
    content = json.dumps([asdict(one) for one in ones], sort_keys=True)
    return Own(suite["name"], hashlib.sha256(content.encode()).hexdigest(), tuple(ones))


def judge_own(tables: Tables, own: Own) -> Verdict:
    """Return the rows that break a person's expectations, and in short what the suite said of each table.

    Raises RunError where an expectation that is to stop the run fails, or one could not be evaluated.
    """
    from validation.frames import frames_of

    verdict = Verdict([], [])
    for table, frame in zip(_TABLES, frames_of(tables.images, tables.annotations), strict=True):
        ones = [one for one in own.expectations if one.table == table]
        if ones:
            verdict += _judge(_Looked.at(tables, table, frame, ones), own, ones)
    return verdict


class _Refused(Exception):
    """Why an expectation is not taken."""


@dataclass(frozen=True)
class _Looked:
    """A table as expectations look at it: its frame without quarantined pictures, and where those rows stand in it."""

    table: Table
    rows: Any
    frame: "pd.DataFrame"
    positions: list[int]

    @staticmethod
    def at(tables: Tables, table: Table, frame: "pd.DataFrame", ones: Sequence[One]) -> "_Looked":
        from validation.frames import with_columns, with_file_names

        rows = tables.images if table == "images" else with_file_names(tables.images, tables.annotations)
        frame = with_columns(frame, rows, {name for one in ones for name in one.columns})
        if table == "images":
            frame = frame[frame["outcome"].ne(Outcome.QUARANTINED.value)]
        return _Looked(table, rows, frame.reset_index(drop=True), frame.index.tolist())


def _judge(looked: _Looked, own: Own, ones: Sequence[One]) -> Verdict:
    expected = [_expected(one) for one in ones]
    findings: list[Finding] = []
    failed = {}
    for one, result in zip(ones, evaluate(looked.frame, expected), strict=True):
        if result.success:
            continue
        if one.stops:
            observed = result.result.get("observed_value", f"{result.result.get('unexpected_count')} rows break it")
            raise RunError(f"{one.name} of the suite {own.name} failed, which is to stop the run: {observed}")
        rows = list(result.result["unexpected_index_list"]) if one.by_row else []
        failed[one.name] = len(rows)
        findings += _findings(looked, one, rows, result) if one.holds else []
    return Verdict(
        findings, [told(f"own.{own.name}", looked.table, own.sha256[:12], len(looked.frame), expected, failed)]
    )


def _findings(looked: _Looked, one: One, rows: Sequence[int], result: Any) -> list[Finding]:
    """Return a finding a row. `rows` are those of the frame."""
    from validation.frames import values_of

    places = [looked.positions[row] for row in rows]
    if "details" in result.result:  # one of ours
        faults = result.result["details"]
        values = [values_of(looked.rows, [at], field)[0] for at, (field, _) in zip(places, faults, strict=True)]
    else:
        faults = [(", ".join(one.columns), _said(one))] * len(rows)
        values = _texts(looked.frame.loc[list(rows), list(one.columns)])
    return [
        Finding(looked.table, at, one.rule, field, value[:MOST_CHARACTERS], detail)
        for at, value, (field, detail) in zip(places, values, faults, strict=True)
    ]


def _said(one: One) -> str:
    """Return what an expectation says, for a person: its description, or its type and arguments."""
    configuration = json.loads(one.told)
    arguments = ", ".join(f"{name}={json.dumps(value)}" for name, value in configuration["kwargs"].items())
    return str(configuration.get("description") or f"{configuration['type']}: {arguments}")[:MOST_CHARACTERS]


def _texts(frame: "pd.DataFrame") -> list[str]:
    """Return rows as texts: the value itself where there is one column, else a JSON list."""
    rows = [[None if value != value else value for value in row] for row in frame.to_numpy(object).tolist()]
    if len(frame.columns) == 1:
        return [
            "" if value is None else f"{value:.7g}" if isinstance(value, float) else str(value) for (value,) in rows
        ]
    return [json.dumps(row, ensure_ascii=False, separators=(",", ":")) for row in rows]


def _read(path: File) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise UsageError(f"--expectations {path}: {error.strerror}") from None
    if len(data) > MOST_BYTES:
        raise UsageError(f"--expectations {path}: over {MOST_BYTES:,} bytes, too large for a suite")
    try:
        suite = json.loads(data, parse_constant=_no_number)
    except json.JSONDecodeError as error:
        raise UsageError(f"--expectations {path}: line {error.lineno}: no JSON: {error.msg}") from None
    except (ValueError, RecursionError) as error:
        raise UsageError(f"--expectations {path}: no JSON that can be read: {error}") from None
    if not isinstance(suite, dict) or not isinstance(suite.get("name"), str) or "expectations" not in suite:
        raise UsageError(
            f'--expectations {path}: expected a suite of Great Expectations 1.x: {{"name": ..., "expectations": [...]}}'
        )
    return suite


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is no number of JSON")


def _columns(table: Table, labels: tuple[str, ...]) -> Columns:
    """Return the columns that an expectation may be about, and which of them are texts."""
    from validation.frames import plain_columns

    more = {} if table == "images" else {"file_name": True, "image_width": False, "image_height": False}
    return plain_columns(schema(table, labels)) | more


def _one(given: Any, suite: Mapping[str, Any], known: Mapping[Table, Columns]) -> One:
    """Return an expectation that is well formed; raises `_Refused`."""
    if not isinstance(given, dict) or not isinstance(given.get("type"), str):
        raise _Refused('expected {"type": ..., "kwargs": {...}}')
    if unknown := sorted(set(given) - _KEYS):
        raise _Refused(f"unknown key {unknown[0]!r}")
    kind, kwargs, meta = given["type"], given.get("kwargs") or {}, given.get("meta") or {}
    if not isinstance(kwargs, dict) or not isinstance(meta, dict):
        raise _Refused("kwargs and meta must be objects")
    severity = given.get("severity", "critical")
    if severity not in ("critical", "warning", "info"):
        raise _Refused(f"severity {severity!r}: expected critical, warning or info")
    _require_known(kind, kwargs)
    columns = _named_columns(kwargs)
    of_all = suite.get("meta")
    of_all = of_all.get("table") if isinstance(of_all, dict) else None
    table = _table(kind, columns, meta.get("table", of_all), known)
    configuration = {"type": kind, "kwargs": kwargs}
    if isinstance(given.get("description"), str):
        configuration["description"] = given["description"]
    name = meta.get("name", kind)
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise _Refused(f"meta.name {name!r}: expected small letters, digits, _ . and -, at most 80")
    return One(
        table,
        name if "name" in meta else named(configuration),
        OwnRule(f"own.{name}"),
        json.dumps(configuration, sort_keys=True),
        columns,
        by_row=kind not in WHOLE,
        holds=kind not in WHOLE and severity == "critical",
        stops=meta.get("stop") is True,
    )


def _require_known(kind: str, kwargs: Mapping[str, Any]) -> None:
    every = (*ROWS, *WHOLE, *_ours())
    if kind not in every:
        near = difflib.get_close_matches(kind, every, 3)
        hint = f": did you mean {' or '.join(near)}?" if near else "; validation/own.py lists those that are known"
        raise _Refused(f"unknown type {kind}{hint}")
    for name, why in _REFUSED.items():
        if name in kwargs:
            raise _Refused(f"{kind} with {name}, which is not taken: {why}")
    if "$PARAMETER" in json.dumps(kwargs):
        raise _Refused(f"{kind} with $PARAMETER, which is not taken: write the value itself")


def _ours() -> dict[str, Table]:
    """Return our own expectations, with the tables that they are about."""
    from validation.expectations import OF_ANNOTATIONS, OF_IMAGES

    of: dict[Table, tuple[Any, ...]] = {"images": OF_IMAGES, "annotations": OF_ANNOTATIONS}
    return {each.expectation_type: table for table, classes in of.items() for each in classes}


def _named_columns(kwargs: Mapping[str, Any]) -> tuple[str, ...]:
    given = [kwargs[name] for name in ("column", "column_A", "column_B") if name in kwargs]
    listed = kwargs.get("column_list", [])
    given += listed if isinstance(listed, list) else [listed]
    if not all(isinstance(name, str) for name in given):
        raise _Refused("a column is named by a text")
    return tuple(dict.fromkeys(given))


def _table(kind: str, columns: Sequence[str], given: Any, known: Mapping[Table, Columns]) -> Table:
    """Return the table that an expectation is about."""
    if kind in (ours := _ours()):
        return ours[kind]
    if given is not None and given not in _TABLES:
        raise _Refused(f"meta.table {given!r}: expected images or annotations")
    fits = [table for table in known if given in (None, table) and set(columns) <= set(known[table])]
    if len(fits) == 1:
        return fits[0]
    if fits:
        raise _Refused(f'{kind} may be about images or annotations: say which with "meta": {{"table": ...}}')
    every = known[given] if given else {name: True for names in known.values() for name in names}
    strange = [name for name in columns if name not in every]
    if not strange:
        raise _Refused(f"{', '.join(columns)} are not columns of one table")
    near = difflib.get_close_matches(strange[0], every, 3)
    hint = f": did you mean {' or '.join(near)}?" if near else f"; there are {', '.join(every)}"
    raise _Refused(f"there is no column {strange[0]}{hint}")


def _try(one: One, known: Columns) -> None:
    """Make the expectation and evaluate it on made-up rows, so that wrong arguments show before the run."""
    import pandas as pd

    try:
        expected = _expected(one)
    except (ValueError, TypeError) as error:
        raise _Refused(f"{json.loads(one.told)['type']}: {' '.join(str(error).split())}") from None
    if json.loads(one.told)["type"] not in _ours():
        evaluate(pd.DataFrame({name: ["a", "b"] if text else [0.25, 0.5] for name, text in known.items()}), [expected])


def own_expectations(own: Own, table: Table) -> list[Expected]:
    """Return what a person holds a table to."""
    context()
    return [_expected(one) for one in own.expectations if one.table == table]


def _expected(one: One) -> Expected:
    from great_expectations.expectations.registry import get_expectation_impl

    configuration = json.loads(one.told)
    more = {"description": configuration["description"]} if "description" in configuration else {}
    made = get_expectation_impl(configuration["type"])(**configuration["kwargs"], **more)
    return Expected(one.rule, made, one.name, one.by_row)
