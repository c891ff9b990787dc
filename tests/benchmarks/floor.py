"""The floor under the nets: their multiply-adds, and how many of these one thread of this machine does at the most."""

import json
import math
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, shape_inference

from transforms.models import graphs, weights
from transforms.models.record import ModelRecord

SIDE = 1536
"""Rows and columns of the matrices that are multiplied: 9 MB each, more than a core's own cache, as a BLAS likes it."""

PLANE, CHANNELS = 80, 64
"""Side and channels of the convolution, 3x3: the shape of a detector's middle layers."""

_NUMPY = f"""
import json, sys, time
import numpy as np
a, b = (np.random.default_rng(i).random(({SIDE}, {SIDE}), np.float32) for i in range(2))
a @ b
rates = []
for _ in range(int(sys.argv[1])):
    started = time.thread_time()
    a @ b
    rates.append({SIDE}**3 / (time.thread_time() - started))
print(json.dumps(max(rates)))
"""


def multiply_adds(model: onnx.ModelProto, shape: Sequence[int]) -> int:
    """Return the multiply-adds of the model's convolutions and matrix products for one input of `shape`, batch first.

    What is done element by element (activations, additions, pooling, resizing) is not counted. Raises ValueError where
    a shape cannot be told.
    """
    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    names = {constant.name for constant in fixed.graph.initializer}
    (given,) = (each for each in fixed.graph.input if each.name not in names)
    for dimension, size in zip(given.type.tensor_type.shape.dim, shape, strict=True):
        dimension.dim_value = size
    # What the file says of inner and of outgoing shapes may be of another input's size.
    del fixed.graph.value_info[:]
    for output in fixed.graph.output:
        output.type.tensor_type.ClearField("shape")
    graph = shape_inference.infer_shapes(fixed, strict_mode=True, data_prop=True).graph
    shapes = {each.name: _sizes(each) for each in (*graph.value_info, *graph.input, *graph.output)}
    shapes |= {constant.name: tuple(constant.dims) for constant in graph.initializer}
    return sum(_of_node(node, shapes) for node in graph.node)


def _of_node(node: onnx.NodeProto, shapes: dict[str, tuple[int, ...]]) -> int:
    if node.op_type not in ("Conv", "ConvTranspose", "Gemm", "MatMul"):
        return 0
    try:
        first, second, out = shapes[node.input[0]], shapes[node.input[1]], shapes[node.output[0]]
    except KeyError as error:
        raise ValueError(f"{node.op_type} {node.name}: the shape of {error} cannot be told") from None
    if node.op_type == "Conv":  # second: out, in / group, height, width
        return math.prod(out) * math.prod(second[1:])
    if node.op_type == "ConvTranspose":  # second: in, out / group, height, width
        return math.prod(first) * math.prod(second[1:])
    turned = next((each.i for each in node.attribute if each.name == "transA"), 0)
    return math.prod(out) * first[0 if turned else -1]


def _sizes(value: onnx.ValueInfoProto) -> tuple[int, ...]:
    sizes = tuple(dimension.dim_value for dimension in value.type.tensor_type.shape.dim)
    if 0 in sizes:
        raise ValueError(f"the shape of {value.name} cannot be told: {sizes}")
    return sizes


def graph_of(record: ModelRecord) -> onnx.ModelProto:
    """Return the graph that is run for a record of one net."""
    path = weights.pull(record)
    built = {"yunet": graphs.yunet, **graphs.OF_CROPS}.get(record.family)
    if built is None:
        return onnx.load(path)
    return onnx.load_from_string(built(path, record.input))


def multiply_adds_of(model: onnx.ModelProto, inputs: Counter[tuple[int, ...]]) -> int:
    """Return the multiply-adds for all inputs, counted by their shape without the batch."""
    return sum(count * multiply_adds(model, (1, *shape)) for shape, count in inputs.items())


class Peak:
    """Multiply-adds a second of one thread, float32: the best that was seen of three ways to have many of them."""

    def __init__(self) -> None:
        self.rates: dict[str, list[float]] = {}
        matrix = np.random.default_rng(0).random((SIDE, SIDE), np.float32)
        kernel = np.random.default_rng(1).random((CHANNELS, CHANNELS, 3, 3), np.float32)
        plane = np.random.default_rng(2).random((1, CHANNELS, PLANE, PLANE), np.float32)
        self._nets = {
            "ONNX Runtime, MatMul": _one_node("MatMul", matrix, matrix),
            "ONNX Runtime, Conv 3x3": _one_node("Conv", plane, kernel, pads=[1, 1, 1, 1]),
        }

    def lap(self, times: int = 10) -> None:
        """Measure each way once more."""
        for name, (session, given, products) in self._nets.items():
            session.run(None, given)
            self._keep(name, max(products / _seconds(session, given) for _ in range(times)))
        # NumPy's BLAS takes the number of its threads when it is loaded.
        alone = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        said = subprocess.run(
            [sys.executable, "-c", _NUMPY, str(times)], env=alone, capture_output=True, text=True, check=True
        )
        self._keep("NumPy, matmul", json.loads(said.stdout))

    def _keep(self, name: str, rate: float) -> None:
        self.rates.setdefault(name, []).append(rate)

    @property
    def best(self) -> float:
        """The highest rate of all."""
        return max(rate for rates in self.rates.values() for rate in rates)


def _one_node(kind: str, given: Any, constant: Any, **attributes: Any) -> tuple[Any, dict[str, Any], int]:
    """Return a net of one node, an input for it, and the multiply-adds of a run."""
    node = helper.make_node(kind, ["x", "w"], ["y"], **attributes)
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, given.shape)
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph([node], "peak", [x], [y], [onnx.numpy_helper.from_array(constant, "w")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session, {"x": given}, multiply_adds(model, given.shape)


def _seconds(session: Any, given: dict[str, Any]) -> float:
    started = time.thread_time()
    session.run(None, given)
    return time.thread_time() - started
