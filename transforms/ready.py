"""Ready: the batches of the epoch that is about to run, for an engine whose workers are threads of this process.

So the pipeline is the same for every epoch, and is built and translated once.
"""

from collections.abc import Iterator, Sequence

import apache_beam as beam
from apache_beam.pvalue import PBegin, PCollection

from transforms.batch import PlannedBatch

_ready: list[PlannedBatch] = []


def put_ready(batches: Sequence[PlannedBatch]) -> None:
    """Lay these batches out for the next run, in place of those before."""
    _ready[:] = batches


def _take(_: int) -> Iterator[PlannedBatch]:
    yield from _ready


class TakeReady(beam.PTransform):
    """Take the batches that lie ready."""

    def expand(self, begin: PBegin) -> PCollection[PlannedBatch]:
        """Return the batches."""
        take = beam.FlatMap(_take).with_output_types(PlannedBatch)
        return begin | "Once" >> beam.Create([0], reshuffle=False) | "Take" >> take
