"""Clean: gather a shard's rows in plan order; cut boxes at the edge, normalise them, drop double detections.

Where near copies are looked for, they become duplicates last, so that what is held of them is clean.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import apache_beam as beam
from apache_beam.pvalue import PCollection

from schemas.tables import Tables
from transforms.clock import clocked
from transforms.near_copies import Known, mark_near_copies
from transforms.rows import gather
from transforms.rules import clean


def clean_shard(grouped: tuple[int, Iterable[Tables]], known: str | None = None) -> tuple[int, Tables]:
    """Return the shard's cleaned rows; `known` is as in `Clean`."""
    shard, parts = grouped
    with clocked("clean"):
        tables = clean(gather(parts))
        return shard, tables if known is None else mark_near_copies(tables, Known.open(known))


@dataclass
class Clean(beam.PTransform):
    """Bring the rows of each shard together and clean them. Only small rows are shuffled.

    `known` is the path of the committed pictures among which near copies are looked for; null where they are not.
    """

    known: str | None = None

    def expand(self, rows: PCollection[tuple[int, Tables]]) -> PCollection[tuple[int, Tables]]:
        """Return one element a shard."""
        return (
            rows
            | "Group by shard" >> beam.GroupByKey()
            | "Apply rules" >> beam.Map(clean_shard, self.known).with_output_types(tuple[int, Tables])
        )
