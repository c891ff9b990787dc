"""Validate: Great Expectations suites on every shard; rows that fail are quarantined with the rule's name."""

from dataclasses import dataclass

import apache_beam as beam
from apache_beam.pvalue import PCollection

from schemas.tables import Tables
from transforms.clock import clocked
from transforms.rules import hold_back
from validation.suites import check


def validate_shard(numbered: tuple[int, Tables], labels: tuple[str, ...]) -> tuple[int, Tables]:
    """Return the shard's rows with those that break an expectation held back.

    An expectation that cannot be evaluated raises `RunError`: a broken rule must stop the run, not judge rows.
    """
    shard, tables = numbered
    with clocked("validate"):
        findings = check(tables, labels)
        return shard, hold_back(tables, findings) if findings else tables


@dataclass
class Validate(beam.PTransform):
    """Hold shards to the expectations; `labels` is the vocabulary that a label must come from."""

    labels: tuple[str, ...]

    def expand(self, shards: PCollection[tuple[int, Tables]]) -> PCollection[tuple[int, Tables]]:
        """Return the shards, failing rows moved to their quarantine."""
        validate = beam.Map(validate_shard, self.labels)
        return shards | "Check expectations" >> validate.with_output_types(tuple[int, Tables])
