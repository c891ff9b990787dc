"""Networks that stand in for a person's own, of any input and output, and records for them."""

import hashlib
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper


def weights(channels: int, outputs: int) -> NDArray[np.float32]:
    """Return (channels, outputs): what a stand-in makes of the mean of each channel."""
    return np.linspace(-1, 1, channels * outputs, dtype=np.float32).reshape(channels, outputs)


def save_net(path: Path, size: int, outputs: int, channels: int = 3, names: tuple[str, str] = ("x", "y")) -> str:
    """Save a net (n, channels, size, size) -> (n, outputs) that sees the mean of each channel; return its sha256."""
    graph = helper.make_graph(
        [
            helper.make_node("ReduceMean", [names[0], "axes"], ["means"], keepdims=0),
            helper.make_node("MatMul", ["means", "weights"], [names[1]]),
        ],
        "stand-in",
        [helper.make_tensor_value_info(names[0], TensorProto.FLOAT, ["n", channels, size, size])],
        [helper.make_tensor_value_info(names[1], TensorProto.FLOAT, ["n", outputs])],
        [
            helper.make_tensor("axes", TensorProto.INT64, [2], [2, 3]),
            helper.make_tensor(
                "weights", TensorProto.FLOAT, [channels, outputs], weights(channels, outputs).reshape(-1)
            ),
        ],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), path)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def classifier(folder: Path, name: str, labels: list[str], **changed: str) -> Path:
    """Write a classifier's record and net into `folder`; `changed` replaces fields of its input or crop."""
    fields = {
        "size": "16",
        "colour": '"rgb"',
        "interpolation": '"linear"',
        "scale": "0.01",
        "kind": '"square"',
    } | changed
    channels = 1 if fields["colour"] == '"gray"' else 3
    sha256 = save_net(folder / f"{name}.onnx", int(fields["size"]), len(labels), channels)
    quoted = ", ".join(f'"{label}"' for label in labels)
    (folder / f"{name}.toml").write_text(f"""
name = "{name}"
kind = "classifier"
family = "onnx"
title = "stand-in"
accuracy = "none"
cost = "none"
weaknesses = "all"
labels = [{quoted}]
softmax = true
[weights]
file = "{name}.onnx"
sha256 = "{sha256}"
licence = "CC0-1.0"
[input]
size = {fields["size"]}
colour = {fields["colour"]}
interpolation = {fields["interpolation"]}
scale = {fields["scale"]}
dtype = "float32"
layout = "NCHW"
[crop]
kind = {fields["kind"]}
[outputs]
probabilities = "y"
""")
    return folder / f"{name}.toml"


def ensemble(folder: Path, *members: str, name: str = "both", extra: str = "") -> Path:
    """Write an ensemble's record into `folder`."""
    quoted = ", ".join(f'"{member}"' for member in members)
    (folder / f"{name}.toml").write_text(f"""
name = "{name}"
kind = "classifier"
family = "ensemble"
title = "together"
accuracy = "none"
cost = "all"
weaknesses = "all"
members = [{quoted}]
{extra}
""")
    return folder / f"{name}.toml"
