"""The suites of Great Expectations that every shard is held to.

    verdict = judge(tables, annotated(labels))   # importing this is cheap; the first time takes seconds, see warm_up

Nothing is written to disk and nothing goes over the network.
"""

import functools
import logging
import threading
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from schemas.errors import RunError
from schemas.reasons import Rule
from schemas.tables import Tables
from validation.terms import ANNOTATE_VERSION as VERSION
from validation.terms import Terms, annotated

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["VERSION", "Finding", "OwnRule", "Verdict", "check", "judge", "merged", "warm_up"]

Table = Literal["images", "annotations"]


class OwnRule(str):
    """The rule of a person's own expectation, `own.<name>`; the rules of `Rule` are ours."""

    __slots__ = ()

    @property
    def value(self) -> str:
        """Its name, as a rule of `Rule` tells it."""
        return str(self)


@dataclass(frozen=True)
class Finding:
    """One row that breaks a rule. `row` is its position in `table`; `value` is what stands in `field`, as text."""

    table: Table
    row: int
    rule: Rule | OwnRule
    field: str
    value: str
    detail: str


@dataclass(frozen=True)
class Verdict:
    """The rows that break a rule, and in short what each suite said: plain JSON values, see `merged`."""

    findings: list[Finding]
    results: list[dict[str, Any]]

    def __add__(self, other: "Verdict") -> "Verdict":
        return Verdict(self.findings + other.findings, self.results + other.results)


@dataclass(frozen=True)
class Expected:
    """An expectation, the rule under which the rows that break it are held back, and its name in results.

    `by_row` says that it tells which rows break it; others are about a whole table.
    """

    rule: Rule | OwnRule
    expectation: Any
    name: str
    by_row: bool = True


class NotEvaluated(RunError):
    """An expectation raised. Its rule judged no row, so the run must stop."""

    def __init__(self, kind: str, why: str) -> None:
        super().__init__(
            f"The expectation {kind} could not be evaluated: {why}. Its rule judged no row, so the run stops; what was "
            "committed is unharmed."
        )
        self.why = f"{kind} cannot be evaluated: {why}"


def check(tables: Tables, labels: tuple[str, ...]) -> list[Finding]:
    """Return the findings of `judge` by the terms of `pipelines.annotate`; `labels` are the classifier's."""
    return judge(tables, annotated(tuple(labels))).findings


def judge(tables: Tables, terms: Terms) -> Verdict:
    """Return the rows that break a rule, by table, then rule in the suite's order, then row; and the suites' results.

    Safe from any thread. Raises NotEvaluated, a RunError, when an expectation could not be evaluated.
    """
    with _LOADING:
        from validation.frames import frames_of  # pandas takes half a second

        suites = _suites(terms)
    frames = frames_of(tables.images, tables.annotations)
    verdicts = [
        _verdict(expected, tables, table, frame, terms)
        for table, frame, expected in zip(_TABLES, frames, suites, strict=True)
    ]
    return verdicts[0] + verdicts[1]


def warm_up() -> None:
    """Load Great Expectations and make its context: seconds that a thread can spend while models are loaded."""
    with _LOADING:
        _context()


def merged(results: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the results of many shards, or of many runs, as one for each suite and table.

    `evaluated` expectations of which `successful` held everywhere, over `rows` rows; `failed` has for each other one
    how many rows broke it: 0 for one that is about the whole table, and for one that only counts.
    """
    found: dict[tuple[str, str, str], dict[str, Any]] = {}
    for result in results:
        whose = (result["suite"], result["table"], result["version"])
        if whose not in found:
            found[whose] = {**result, "rows": 0, "failed": {}}
        one = found[whose]
        one["rows"] += result["rows"]
        for name, rows in result["failed"].items():
            one["failed"][name] = one["failed"].get(name, 0) + rows
        one["successful"] = one["evaluated"] - len(one["failed"])
    return list(found.values())


def named(configuration: Mapping[str, Any]) -> str:
    """Return an expectation's name in results, as `expect_column_values_to_be_in_set(label)`."""
    kwargs = configuration["kwargs"]
    columns = [kwargs[name] for name in ("column", "column_A", "column_B") if name in kwargs]
    columns += kwargs.get("column_list", [])
    return f"{configuration['type']}({', '.join(columns)})" if columns else str(configuration["type"])


def told(
    suite: str, table: Table, version: str, rows: int, expected: Sequence[Expected], failed: Mapping[str, int]
) -> dict[str, Any]:
    """Return what a suite said of one shard."""
    counts = {"evaluated": len(expected), "successful": len(expected) - len(failed), "rows": rows}
    return {"suite": suite, "table": table, "version": version, **counts, "failed": dict(failed)}


def evaluate(frame: "pd.DataFrame", expected: Sequence[Expected]) -> list[Any]:
    """Return the result of each expectation as Great Expectations gives it; one that fails tells its rows.

    Stock expectations are first asked only whether they hold: naming the rows costs them three times as much. Raises
    NotEvaluated.
    """
    results = ask(frame, expected, {"result_format": "BOOLEAN_ONLY"})
    unclear = [at for at, result in enumerate(results) if not result.success and not result.result]
    whole = {"result_format": "COMPLETE", "return_unexpected_index_query": False, "exclude_unexpected_values": True}
    for at, result in zip(unclear, ask(frame, [expected[at] for at in unclear], whole), strict=True):
        results[at] = result
    return results


def ask(frame: "pd.DataFrame", expected: Sequence[Expected], result_format: dict[str, Any]) -> list[Any]:
    """Return results in a format of Great Expectations, in the order of the expectations. Raises NotEvaluated.

    The engine is made here, not by the context: that one would hash the whole frame twice, which takes longer than to
    judge it, and all threads would share its engine.
    """
    if not expected:
        return []
    library = context()
    from great_expectations.execution_engine import PandasExecutionEngine
    from great_expectations.validator.validator import Validator

    configurations = []
    for number, one in enumerate(expected):
        configuration = one.expectation.configuration
        configuration.meta = {**(configuration.meta or {}), "number": number}
        configurations.append(configuration)
    engine = PandasExecutionEngine(batch_data_dict={"shard": frame})
    validator = Validator(execution_engine=engine, data_context=library)
    results = validator.graph_validate(
        configurations=configurations, runtime_configuration={"result_format": result_format}
    )
    for result in results:
        _require_evaluated(result)
    return sorted(results, key=lambda result: int(result.expectation_config.meta["number"]))


def context() -> Any:
    """Return the context of Great Expectations of this process: in memory, silent, and on its own."""
    with _LOADING:
        return _context()


def expectations(terms: Terms, table: Table) -> tuple[Expected, ...]:
    """Return what a table is held to."""
    with _LOADING:
        return _suites(terms)[_TABLES.index(table)]


_TABLES: tuple[Table, Table] = ("images", "annotations")

# Two threads must not import Great Expectations at once, nor pandas. A check needs no lock: it has its own engine.
_LOADING = threading.Lock()


def _verdict(
    expected: Sequence[Expected], tables: Tables, table: Table, frame: "pd.DataFrame", terms: Terms
) -> Verdict:
    from validation.frames import values_of

    findings: list[Finding] = []
    failed = {}
    for one, result in zip(expected, evaluate(frame, expected), strict=True):
        if result.success:
            continue
        rows, faults = list(result.result["unexpected_index_list"]), _faults(one, result)
        values = _values(rows, [field for field, _ in faults], getattr(tables, table), values_of)
        failed[one.name] = len(rows)
        findings += [
            Finding(table, row, one.rule, field, value, detail)
            for row, value, (field, detail) in zip(rows, values, faults, strict=True)
        ]
    return Verdict(findings, [told(terms.suite, table, terms.version, len(frame), expected, failed)])


def _faults(one: Expected, result: Any) -> list[tuple[str, str]]:
    """Return the field that is wrong and what is wrong with it, for each row that fails."""
    given = result.result.get("details")
    if given is not None:
        return list(given)
    return [(one.expectation.column, one.expectation.meta["fault"])] * len(result.result["unexpected_index_list"])


def _require_evaluated(result: Any) -> None:
    """Raise NotEvaluated where an expectation raised: that is a failure without rows, and must not pass for none."""
    about = result.exception_info
    errors = [about] if "raised_exception" in about else list(about.values())
    raised = [each for each in errors if each["raised_exception"]]
    if raised:
        last = str(raised[0]["exception_traceback"] or raised[0]["exception_message"]).strip().splitlines()[-1]
        raise NotEvaluated(result.expectation_config.type, last)


def _values(rows: list[int], fields: list[str], table: Any, values_of: Any) -> list[str]:
    """Return the value of each row's own field; a rule has few fields, so they are fetched field by field."""
    values = dict[int, str]()
    for field in sorted(set(fields)):
        own = [row for row, its in zip(rows, fields, strict=True) if its == field]
        values |= zip(own, values_of(table, own, field), strict=True)
    return [values[row] for row in rows]


@functools.cache
def _context() -> Any:
    gx = _great_expectations()
    from great_expectations.data_context.types.base import DataContextConfig, InMemoryStoreBackendDefaults

    config = DataContextConfig(
        store_backend_defaults=InMemoryStoreBackendDefaults(init_temp_docs_sites=False),  # they would need a /tmp
        analytics_enabled=False,
        progress_bars={"globally": False},
    )
    return gx.get_context(project_config=config, mode="ephemeral")


@functools.cache
def _suites(terms: Terms) -> tuple[tuple[Expected, ...], tuple[Expected, ...]]:
    """Return what `images` and `annotations` are held to."""
    _context()
    from validation.expectations import annotations_expectations, images_expectations

    made = images_expectations(terms), annotations_expectations(terms)
    images, annotations = (tuple(_expected(each) for each in one) for one in made)
    return images, annotations


def _expected(expectation: Any) -> Expected:
    return Expected(Rule(expectation.meta["rule"]), expectation, named(expectation.configuration.to_json_dict()))


def _great_expectations() -> Any:
    """Import the library without its side effects: it sends all warnings to logging, and talks there about itself."""
    logging.getLogger("great_expectations").setLevel(logging.CRITICAL)
    before = warnings.showwarning
    import great_expectations as gx

    if warnings.showwarning is not before:
        logging.captureWarnings(False)
    return gx
