"""The suites of Great Expectations that every shard is held to.

    findings = check(tables, labels)      # importing this module is cheap; the first check takes seconds, see warm_up

Nothing is written to disk and nothing goes over the network.
"""

import functools
import logging
import threading
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from schemas.errors import RunError
from schemas.reasons import Rule
from schemas.tables import Tables, probability_columns
from schemas.vocabulary import label_order

if TYPE_CHECKING:
    import pandas as pd

VERSION = "1"
"""Changes when an expectation does: then the same input is judged otherwise."""

Table = Literal["images", "annotations"]


@dataclass(frozen=True)
class Finding:
    """One row that breaks a rule. `row` is its position in `table`; `value` is what stands in `field`, as text."""

    table: Table
    row: int
    rule: Rule
    field: str
    value: str
    detail: str


# Great Expectations keeps the frame that is looked at in an engine that all threads share. A check holds the lock for
# 10 to 100 ms of arithmetic a shard, against seconds of labelling.
_ONE_AT_A_TIME = threading.Lock()


def check(tables: Tables, labels: tuple[str, ...]) -> list[Finding]:
    """Return the rows that break a rule, by table, then rule in the suite's order, then row.

    `labels` are the classifier's; the vocabulary is `schemas.vocabulary.label_order` of them. Safe from any thread.
    Raises RunError when an expectation could not be evaluated.
    """
    from validation import frames  # pandas takes half a second

    with _ONE_AT_A_TIME:
        images, annotations = _suites(tuple(labels))
        pictures, boxes = frames.images_frame(tables), frames.annotations_frame(tables, probability_columns(labels))
        return [*run_suite(images, tables, "images", pictures), *run_suite(annotations, tables, "annotations", boxes)]


def warm_up() -> None:
    """Load Great Expectations and make its context: seconds that a thread can spend while models are loaded."""
    with _ONE_AT_A_TIME:
        _batch_definition()


def run_suite(suite: Any, tables: Tables, table: Table, frame: "pd.DataFrame") -> list[Finding]:
    """Return what `suite`, of `RowExpectation`s, finds in the frame of `table`. Raises RunError as `check`."""
    from validation.frames import values_of

    outcome = _batch_definition().get_batch({"dataframe": frame}).validate(suite)
    rules = {expectation.expectation_type: expectation.rule for expectation in suite.expectations}
    findings = []
    for result in outcome.results:
        kind = result.expectation_config.type
        rows = _rows(result, kind)
        values = _values(rows, [field for field, _ in result.result["details"]], getattr(tables, table), values_of)
        for row, value, (field, detail) in zip(rows, values, result.result["details"], strict=True):
            findings.append(Finding(table, row, rules[kind], field, value, detail))
    return findings


def _rows(result: Any, kind: str) -> list[int]:
    """Return the rows that fail. An expectation that raised is a result without rows: that must not pass for none."""
    if "unexpected_index_list" not in result.result:
        told = str(result.exception_info.get("exception_traceback") or result.exception_info).strip()
        raise RunError(
            f"The expectation {kind} could not be evaluated: {told.splitlines()[-1]}. Its rule judged no row, so the "
            "run stops; what was committed is unharmed."
        )
    return list(result.result["unexpected_index_list"])


def _values(rows: list[int], fields: list[str], table: Any, values_of: Any) -> list[str]:
    """Return the value of each row's own field; a rule has few fields, so they are fetched field by field."""
    values = dict[int, str]()
    for field in sorted(set(fields)):
        own = [row for row, its in zip(rows, fields, strict=True) if its == field]
        values |= zip(own, values_of(table, own, field), strict=True)
    return [values[row] for row in rows]


@functools.cache
def _batch_definition() -> Any:
    """Return the door through which frames are looked at, made once a process."""
    gx = _great_expectations()
    from great_expectations.data_context.types.base import DataContextConfig, InMemoryStoreBackendDefaults

    config = DataContextConfig(
        store_backend_defaults=InMemoryStoreBackendDefaults(init_temp_docs_sites=False),  # they would need a /tmp
        analytics_enabled=False,
        progress_bars={"globally": False},
    )
    context = gx.get_context(project_config=config, mode="ephemeral")
    asset = context.data_sources.add_pandas("shards").add_dataframe_asset("shard")
    return asset.add_batch_definition_whole_dataframe("whole")


@functools.cache
def _suites(labels: tuple[str, ...]) -> tuple[Any, Any]:
    """Return the suites of `images` and of `annotations`."""
    gx = _great_expectations()
    from validation.expectations import annotations_expectations, images_expectations

    return (
        gx.ExpectationSuite(name="images", expectations=images_expectations()),
        gx.ExpectationSuite(name="annotations", expectations=annotations_expectations(label_order(labels))),
    )


def _great_expectations() -> Any:
    """Import the library without its side effects: it sends all warnings to logging, and talks there about itself."""
    logging.getLogger("great_expectations").setLevel(logging.CRITICAL)
    before = warnings.showwarning
    import great_expectations as gx

    if warnings.showwarning is not before:
        logging.captureWarnings(False)
    return gx
