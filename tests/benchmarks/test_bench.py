"""What the benchmark works out from its measurements is right, and it still measures what it names."""

import math
from collections import Counter

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from schemas.errors import ItemError
from tests.benchmarks import composed, floor, report, stopwatch
from tests.benchmarks.stopwatch import PARTS, Stopwatch, Watched
from transforms import video
from transforms.models import views
from transforms.models.record import load_record


def tiny_net() -> onnx.ModelProto:
    """Return a net over (n, 2, h, w): a convolution of stride 2, one for each channel, a mean, and two products."""

    def zeros(name: str, *shape: int) -> onnx.TensorProto:
        return numpy_helper.from_array(np.zeros(shape, np.float32), name)

    nodes = [
        helper.make_node("Conv", ["x", "whole"], ["a"], strides=[2, 2], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "each"], ["c"], group=4, pads=[1, 1, 1, 1]),
        helper.make_node("GlobalAveragePool", ["c"], ["d"]),
        helper.make_node("Flatten", ["d"], ["e"]),
        helper.make_node("Gemm", ["e", "first", "bias"], ["f"], transB=1),
        helper.make_node("MatMul", ["f", "second"], ["y"]),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2, "h", "w"])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 5])
    constants = [zeros("whole", 4, 2, 3, 3), zeros("each", 4, 1, 3, 3), zeros("first", 6, 4), zeros("bias", 6)]
    graph = helper.make_graph(nodes, "tiny", [x], [y], [*constants, zeros("second", 6, 5)])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_multiply_adds_are_those_counted_by_hand() -> None:
    """For 8 x 6 pixels both convolutions give 4 channels of 4 x 3; of the first each value is a sum of 2 * 9."""
    by_hand = 4 * 4 * 3 * 2 * 9 + 4 * 4 * 3 * 9 + 4 * 6 + 6 * 5
    assert floor.multiply_adds(tiny_net(), (1, 2, 8, 6)) == by_hand
    assert floor.multiply_adds(tiny_net(), (3, 2, 8, 6)) == 3 * by_hand
    inputs: Counter[tuple[int, ...]] = Counter({(2, 8, 6): 10, (2, 16, 6): 1})
    assert floor.multiply_adds_of(tiny_net(), inputs) == 10 * by_hand + 2 * by_hand - 4 * 6 - 6 * 5


def test_a_net_that_says_another_size_is_counted_for_the_given_one() -> None:
    """Shapes that stand in the file, of inner values and of outputs, are not believed."""
    net = tiny_net()
    net.graph.value_info.append(helper.make_tensor_value_info("a", TensorProto.FLOAT, [1, 4, 99, 99]))
    assert floor.multiply_adds(net, (1, 2, 8, 6)) == floor.multiply_adds(tiny_net(), (1, 2, 8, 6))


def test_a_shape_that_cannot_be_told_is_an_error() -> None:
    """Never a floor that is too low because something was left out."""
    net = tiny_net()
    net.graph.node[0].op_type, net.graph.node[0].domain = "Unknown", "somewhere"
    net.opset_import.append(helper.make_opsetid("somewhere", 1))
    with pytest.raises(ValueError, match="cannot be told"):
        floor.multiply_adds(net, (1, 2, 8, 6))


def test_the_default_classifier_costs_what_its_record_says() -> None:
    """114 MFLOP are 57 million multiply-adds for a crop."""
    found = floor.multiply_adds(floor.graph_of(load_record("expression8")), (1, 48, 48, 1))
    assert round(2 * found / 1e6) == 114


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=300), st.integers(1, 100))
def test_a_percentile_is_a_value_that_so_many_do_not_exceed(values: list[float], share: int) -> None:
    """And that fewer than so many fall below."""
    (told,) = report.percentiles(values, at=(share,), digits=12)
    found = float(told)
    assert any(math.isclose(found, value, rel_tol=1e-9, abs_tol=1e-9) for value in values)
    assert sum(value <= found + 1e-9 * (1 + found) for value in values) >= share / 100 * len(values)
    assert sum(value < found - 1e-9 * (1 + found) for value in values) < share / 100 * len(values)


def test_percentiles_of_known_values() -> None:
    """Of 1..200 half are at most 100, and 99 in a hundred at most 198."""
    assert report.percentiles([float(value) for value in range(200, 0, -1)]) == ("100.0", "180.0", "198.0")


@pytest.mark.parametrize("place", [place for places in PARTS.values() for place in places] + [stopwatch.NET])
def test_each_function_that_is_timed_is_there(place: str) -> None:
    """A function that was renamed would silently count as all else."""
    stopwatch.found(place)


def test_a_function_that_is_gone_is_told() -> None:
    """With its place, and where to correct it."""
    with pytest.raises(LookupError, match=r"transforms\.clean:cleaned: there is no such function any more"):
        stopwatch.found("transforms.clean:cleaned")


def test_a_part_counts_without_the_parts_inside_it() -> None:
    """Of ten seconds of the processor, four of which are the inner part's, the outer one has six."""
    watch = Stopwatch(iter([0.0, 3.0, 7.0, 10.0]).__next__)
    with watch.part("outer"), watch.part("inner"):
        pass
    assert dict(watch.seconds) == {"inner": 4.0, "outer": 6.0}
    assert Watched(watch, cpu=12.0, items=2).ms() == {"inner": 2000.0, "outer": 3000.0, stopwatch.REST: 1000.0}


def test_a_run_counts_where_it_was_and_leaves_nothing_behind() -> None:
    """Behind the block, also after an error, all is as before."""
    owners = [stopwatch.found(place) for places in PARTS.values() for place in places]
    before = [vars(owner)[name] for owner, name in owners]
    watch = Stopwatch()
    with pytest.raises(ItemError), watch.watching():
        list(video.read_frames("/nowhere.mp4", max_pixels=1))
        raise AssertionError
    assert [vars(owner)[name] for owner, name in owners] == before
    with watch.watching():
        views.whole(np.zeros((4, 8, 3), np.uint8), 4, 0)
    assert set(watch.seconds) == {stopwatch.RESIZE}


@given(st.floats(-1e5, 1e5), st.integers(-5, 4000))
def test_a_moving_head_stays_in_its_picture(at: float, room: int) -> None:
    """However far it has gone."""
    assert 0 <= composed._bounced(at, room) <= max(room, 0)
