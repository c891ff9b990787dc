"""The travelling records: references and rows round-trip, pixels refuse to leave their stage."""

import apache_beam as beam
import numpy as np
import pytest
from apache_beam.runners.portability.fn_api_runner.fn_runner import FnApiRunner
from hypothesis import given
from hypothesis import strategies as st

from schemas.records import ImageRef, PlannedItem, Standing
from tests.builders import face, picture, tables
from transforms.batch import (
    Decoded,
    DecodedBatch,
    NeverEncoded,
    PlannedBatch,
    PlannedBatchCoder,
    TablesCoder,
)

NAMES = st.text(st.characters(codec="utf-8"), max_size=20) | st.just("latin-\udce9.jpg")
REFS = st.builds(
    ImageRef,
    number=st.integers(0, 10**9),
    key=st.just("0" * 32),
    root=st.integers(0, 9),
    uri=NAMES,
    file_name=NAMES,
    size=st.integers(-1, 2**50),
    mtime_ns=st.none() | st.integers(0, 2**62),
    attempts=st.integers(0, 9),
)
ITEMS = st.builds(
    PlannedItem,
    ref=REFS,
    sha256=st.sampled_from(["", "ab" * 32]),
    copies=st.lists(REFS, max_size=3).map(tuple),
    stands=st.none() | st.builds(Standing, st.just("id"), st.integers(1, 9), st.integers(1, 9)),
)


@given(st.builds(PlannedBatch, shard=st.integers(0, 9), items=st.lists(ITEMS, max_size=4).map(tuple)))
def test_planned_batches_round_trip(batch: PlannedBatch) -> None:
    """Whatever a file is called, also with bytes that are no UTF-8."""
    assert PlannedBatchCoder().decode(PlannedBatchCoder().encode(batch)) == batch


def test_rows_round_trip() -> None:
    """Rows come back as they were, empty tables with their columns."""
    given_rows = tables(picture("a.jpg", face(), face((200, 200, 50, 50))), picture("b.jpg"))
    coder = TablesCoder()
    back = coder.decode(coder.encode(given_rows))
    assert [(name, table.schema) for name, table in back.named()] == [
        (name, table.schema) for name, table in given_rows.named()
    ]
    assert back == given_rows


def batch_of(number: int) -> DecodedBatch:
    """Return a batch with one picture of 640x480."""
    ref = ImageRef(number, "k", 0, "u", "f", 1, None, 0)
    rgb = np.zeros((480, 640, 3), np.uint8)
    return DecodedBatch(0, (Decoded(PlannedItem(ref, "", (), None, None), None, "s", 640, 480, rgb, 1.0),), ())


def test_the_size_of_a_batch_is_known_without_encoding() -> None:
    """Beam samples sizes; the default would pickle all pixels."""
    assert NeverEncoded().estimate_size(batch_of(0)) == 640 * 480 * 3


def test_pixels_that_would_cross_a_stage_are_a_loud_error() -> None:
    """A shuffle of pixels fails, and says why."""
    with pytest.raises(Exception, match="pixels must stay within one stage"), beam.Pipeline(runner=FnApiRunner()) as p:
        _ = p | beam.Create([1, 2]) | beam.Map(batch_of).with_output_types(DecodedBatch) | beam.Reshuffle()
