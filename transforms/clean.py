"""Clean: gather a shard's rows in plan order; cut boxes at the edge, normalise them, drop double detections."""

from collections.abc import Iterable
from dataclasses import dataclass

import apache_beam as beam
from apache_beam.pvalue import PCollection

from schemas.tables import Tables
from transforms.clock import clocked
from transforms.rows import gather
from transforms.rules import clean


def clean_shard(grouped: tuple[int, Iterable[Tables]]) -> tuple[int, Tables]:
    """Return the shard's cleaned rows."""
    shard, parts = grouped
    with clocked("clean"):
        return shard, clean(gather(parts))


@dataclass
class Clean(beam.PTransform):
    """Bring the rows of each shard together and clean them. Only small rows are shuffled."""

    def expand(self, rows: PCollection[tuple[int, Tables]]) -> PCollection[tuple[int, Tables]]:
        """Return one element a shard."""
        return (
            rows
            | "Group by shard" >> beam.GroupByKey()
            | "Apply rules" >> beam.Map(clean_shard).with_output_types(tuple[int, Tables])
        )
