"""The pinned engine: elements stay whole, however long a step takes to write them."""

import time
from dataclasses import dataclass

import apache_beam as beam
from apache_beam.coders import Coder
from apache_beam.testing.util import assert_that, equal_to

from pipelines.runners import _embedded, pipeline_options


@dataclass(frozen=True)
class Row:
    """A number that takes its time to be encoded."""

    value: int


class SlowCoder(Coder):
    """Like a coder that lets other threads run, only longer."""

    def encode(self, value: Row) -> bytes:
        time.sleep(0.05)
        return b"%08d" % value.value

    def decode(self, encoded: bytes) -> Row:
        return Row(int(encoded))

    def is_deterministic(self) -> bool:
        return True


beam.coders.registry.register_coder(Row, SlowCoder)


def numbered(number: int) -> tuple[int, Row]:
    return number % 3, Row(number)


def test_no_element_is_cut_in_two() -> None:
    """Two workers write for longer than a second: left to its clock, the engine would send halves of elements."""
    options = pipeline_options("DirectRunner", ["--direct_num_workers=2"])
    with beam.Pipeline(runner=_embedded(options), options=options) as pipeline:
        spread = pipeline | beam.Create(range(60), reshuffle=False) | beam.Reshuffle()
        rows = spread | beam.Map(numbered).with_output_types(tuple[int, Row])
        more = pipeline | "More" >> beam.Create([60]) | "Map" >> beam.Map(numbered).with_output_types(tuple[int, Row])
        counted = (rows, more) | beam.Flatten() | beam.GroupByKey() | beam.MapTuple(lambda _, values: len(list(values)))
        assert_that(counted, equal_to([21, 20, 20]))
