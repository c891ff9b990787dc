"""Validate: Great Expectations suites on every shard; rows that fail are quarantined with the rule's name."""

from dataclasses import dataclass
from typing import Any

import apache_beam as beam
from apache_beam.pvalue import PCollection

from schemas.tables import Tables
from transforms.clock import clocked
from transforms.rules import hold_back
from validation.own import Own, judge_own
from validation.suites import judge
from validation.terms import Terms

Judged = tuple[int, Tables, list[dict[str, Any]]]
"""A shard's number, its tables, and what each suite said of them."""


def judge_shard(numbered: tuple[int, Tables], terms: Terms, own: Own | None = None) -> Judged:
    """Return the shard's rows with those that break an expectation held back, and what each suite said.

    An expectation that cannot be evaluated raises `RunError`: a broken rule must stop the run, not judge rows.
    """
    shard, tables = numbered
    with clocked("validate"):
        verdict = judge(tables, terms)
        if own is not None:
            verdict += judge_own(tables, own)
        return shard, hold_back(tables, verdict.findings) if verdict.findings else tables, verdict.results


@dataclass
class Validate(beam.PTransform):
    """Hold shards to the expectations of `terms`, and to a person's own."""

    terms: Terms
    own: Own | None = None

    def expand(self, shards: PCollection[tuple[int, Tables]]) -> PCollection[Judged]:
        """Return the shards, failing rows moved to their quarantine, each with what the suites said of it."""
        judge = beam.Map(judge_shard, self.terms, self.own)
        return shards | "Check expectations" >> judge.with_output_types(Judged)
