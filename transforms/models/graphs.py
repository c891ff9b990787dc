"""ONNX graphs built from published weights; they agree with the original frameworks to about 1e-6.

`onnx`, `h5py` and `lz4` are imported where they are used: a machine with built graphs in its cache needs none of them.
"""

import hashlib
import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from schemas.errors import RunError
from transforms.models.face_api import read_landmarks68
from transforms.models.prepare import is_scaled
from transforms.models.record import InputContract, ModelRecord
from transforms.models.weights import cache_dir, write_atomic

VERSION = 1
"""Counts the changes of this file that change a graph: part of the name in the cache."""

Array = NDArray[np.float32]
Block = tuple[Array, Array, Array]
"""One hidden layer of MTCNN: kernel (H, W, in, out) or (in, out), bias (out,), PReLU's alpha (out,)."""


def cached(name: str, record: ModelRecord, build: Callable[[], bytes]) -> Path | bytes:
    """Return the graph `name` of `record`: its path in the user's cache, or its bytes where that cannot be written."""
    assert record.weights is not None  # graphs are built from weights
    recipe = f"{VERSION} {record.weights.sha256} {record.input}"
    path = cache_dir() / "graphs" / f"{name}-{hashlib.sha256(recipe.encode()).hexdigest()[:16]}.onnx"
    if path.is_file():
        return path
    graph = build()
    try:
        write_atomic(path, graph)
    except OSError:
        return graph  # a read-only home is no reason to stop
    return path


class _Graph:
    """A graph in the making: each method adds nodes and returns the name of its output."""

    def __init__(self, dtype: str, shape: list[int | str]) -> None:
        from onnx import TensorProto, helper

        self._helper = helper
        self._nodes: list[Any] = []
        self._constants: list[Any] = []
        kind = {"uint8": TensorProto.UINT8, "float32": TensorProto.FLOAT}[dtype]
        self._input = helper.make_tensor_value_info("pixels", kind, shape)

    def pixels(self) -> str:
        """Bring uint8 (n, H, W, C) to float (n, C, H, W): inside the graph this is free."""
        from onnx import TensorProto

        return self.node("Transpose", [self.node("Cast", ["pixels"], to=TensorProto.FLOAT)], perm=[0, 3, 1, 2])

    def node(self, op: str, inputs: list[str], **attributes: Any) -> str:
        output = f"t{len(self._nodes)}"
        self._nodes.append(self._helper.make_node(op, inputs, [output], **attributes))
        return output

    def constant(self, values: NDArray[Any]) -> str:
        from onnx import numpy_helper

        name = f"c{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def conv(self, x: str, kernel: Array, bias: Array, **attributes: Any) -> str:
        """`kernel` (out, in / group, H, W)."""
        inputs = [x, self.constant(kernel.astype(np.float32)), self.constant(bias.astype(np.float32))]
        return self.node("Conv", inputs, kernel_shape=list(kernel.shape[2:]), **attributes)

    def depthwise(self, x: str, kernel: Array, stride: int) -> str:
        """`kernel` (H, W, channels, 1), each channel's own; padded so that only `stride` makes the output smaller."""
        channels = kernel.shape[2]
        none = np.zeros(channels, np.float32)
        strides = [stride, stride]
        return self.conv(x, kernel.transpose(2, 3, 0, 1), none, group=channels, strides=strides, auto_pad="SAME_UPPER")

    def prelu(self, x: str, alpha: Array) -> str:
        """Add a * z + (1 - a) * relu(z), which is PReLU for every a and 2 to 3 times as fast as the PRelu node."""
        relu = self.node("Relu", [x])
        straight, bent = alpha.reshape(-1), 1 - alpha.reshape(-1)
        return self.node("Add", [self._scale(x, straight), self._scale(relu, bent)])

    def _scale(self, x: str, factors: Array) -> str:
        # A depthwise 1x1 convolution runs in the layout of its neighbours; a Mul would reorder twice.
        kernel = factors.reshape(-1, 1, 1, 1)
        return self.conv(x, kernel, np.zeros(len(factors), np.float32), group=len(factors))

    def bytes(self, outputs: dict[str, tuple[str, list[int | str]]]) -> bytes:
        """Return the serialised model; `outputs` maps public names to (inner name, shape)."""
        from onnx import TensorProto

        nodes = self._nodes + [
            self._helper.make_node("Identity", [inner], [name]) for name, (inner, _) in outputs.items()
        ]
        infos = [
            self._helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, (_, shape) in outputs.items()
        ]
        graph = self._helper.make_graph(nodes, "net", [self._input], infos, self._constants)
        opset = [self._helper.make_opsetid("", 17)]
        # The lowest version that opset 17 allows: an older ONNX Runtime must open the file too.
        model = self._helper.make_model(graph, opset_imports=opset, ir_version=8, producer_name="labelstream")
        return bytes(model.SerializeToString())


def _oihw(kernel: Array) -> Array:
    """Return Keras's (H, W, in, out) as ONNX's (out, in, H, W)."""
    return np.ascontiguousarray(kernel.transpose(3, 2, 0, 1))


def _fold_input(kernel: Array, bias: Array, contract: InputContract) -> tuple[Array, Array]:
    """Return a VALID-padded convolution (out, in, H, W) that takes pixels 0..255 and scales them itself."""
    channels = kernel.shape[1]
    mean = np.broadcast_to(np.array(contract.mean), channels)
    std = np.broadcast_to(np.array(contract.std), channels)
    wide = kernel.astype(np.float64)
    shift = (wide * (mean / std)[None, :, None, None]).sum(axis=(1, 2, 3))
    scaled = wide * (contract.scale / std)[None, :, None, None]
    return scaled.astype(np.float32), (bias - shift).astype(np.float32)


# --- XCEPTION --------------------------------------------------------------------------------------------------------

_EPSILON = 1e-3
"""What Keras adds to a variance before the root: the default, and what the published file says."""
_MINI = (
    # (first separable layer, its normalisation, the second's, the residual's layer, its normalisation)
    (1, "batch_normalization_4", "batch_normalization_5", 3, "batch_normalization_3"),
    (3, "batch_normalization_7", "batch_normalization_8", 4, "batch_normalization_6"),
    (5, "batch_normalization_10", "batch_normalization_11", 5, "batch_normalization_9"),
    (7, "batch_normalization_13", "batch_normalization_14", 6, "batch_normalization_12"),
)
_BIG = (
    (1, "block2_sepconv1_bn", "block2_sepconv2_bn", 3, "batch_normalization_1"),
    (3, "block3_sepconv1_bn", "block3_sepconv2_bn", 4, "batch_normalization_2"),
)
"""The blocks' layers as Keras named or numbered them in the published files."""


class _KerasFile:
    """The layers of a Keras HDF5 file by name, normalisation folded into the convolution before it."""

    def __init__(self, path: Path) -> None:
        import h5py

        with h5py.File(path, "r") as file:
            found = {}
            file["model_weights"].visititems(
                lambda name, node: found.update({name: node[()]}) if isinstance(node, h5py.Dataset) else None
            )
        # "conv2d_1/conv2d_1_1/kernel:0" -> ("conv2d_1", "kernel")
        self._arrays = {
            (name.split("/")[0], name.split("/")[-1].split(":")[0]): np.asarray(array, np.float32)
            for name, array in found.items()
        }

    def get(self, layer: str, what: str) -> Array:
        return self._arrays[layer, what]

    def folded(self, kernel: Array, norm: str) -> tuple[Array, Array]:
        """Return `kernel` (out, in, H, W) and a bias that do what the bias-free kernel and normalisation did."""
        gamma, beta, mean, variance = (
            self.get(norm, what).astype(np.float64) for what in ("gamma", "beta", "moving_mean", "moving_variance")
        )
        factor = gamma / np.sqrt(variance + _EPSILON)
        folded = kernel.astype(np.float64) * factor[:, None, None, None]
        return folded.astype(np.float32), (beta - mean * factor).astype(np.float32)

    def conv(self, layer: int, norm: str) -> tuple[Array, Array]:
        return self.folded(_oihw(self.get(f"conv2d_{layer}", "kernel")), norm)


def mini_xception(path: Path, contract: InputContract) -> bytes:
    """Return mini_XCEPTION as ONNX: uint8 `pixels` (n, S, S, 1) gray -> `probabilities` (n, 7)."""
    file = _KerasFile(path)
    graph = _Graph("uint8", ["n", contract.size, contract.size, 1])
    first = _fold_input(*file.conv(1, "batch_normalization_1"), contract)
    x = graph.node("Relu", [graph.conv(graph.pixels(), *first)])
    x = graph.node("Relu", [graph.conv(x, *file.conv(2, "batch_normalization_2"))])
    for block in _MINI:
        x = _residual(graph, file, x, x, block)
    return _probabilities(graph, file, x, "conv2d_7")


def big_xception(path: Path, contract: InputContract) -> bytes:
    """Return big_XCEPTION as ONNX, with the input and output of `mini_xception`."""
    file = _KerasFile(path)
    graph = _Graph("uint8", ["n", contract.size, contract.size, 1])
    first = _fold_input(*file.conv(1, "block1_conv1_bn"), contract)
    x = graph.node("Relu", [graph.conv(graph.pixels(), *first, strides=[2, 2])])
    x = graph.node("Relu", [graph.conv(x, *file.conv(2, "block1_conv2_bn"))])
    x = _residual(graph, file, x, x, _BIG[0])
    x = _residual(graph, file, x, graph.node("Relu", [x]), _BIG[1])
    return _probabilities(graph, file, x, "conv2d_5")


def _residual(graph: _Graph, file: _KerasFile, x: str, rectified: str, block: tuple[int, str, str, int, str]) -> str:
    """Add two separable layers over `rectified`, and beside them one convolution over `x`."""
    first, norm_first, norm_second, residual, norm_residual = block
    aside = graph.conv(x, *file.conv(residual, norm_residual), strides=[2, 2], auto_pad="SAME_UPPER")
    x = graph.node("Relu", [_separable(graph, file, rectified, first, norm_first)])
    x = _separable(graph, file, x, first + 1, norm_second)
    x = graph.node("MaxPool", [x], kernel_shape=[3, 3], strides=[2, 2], auto_pad="SAME_UPPER")
    return graph.node("Add", [x, aside])


def _separable(graph: _Graph, file: _KerasFile, x: str, layer: int, norm: str) -> str:
    depth = file.get(f"separable_conv2d_{layer}", "depthwise_kernel")
    x = graph.depthwise(x, depth, stride=1)
    return graph.conv(x, *file.folded(_oihw(file.get(f"separable_conv2d_{layer}", "pointwise_kernel")), norm))


def _probabilities(graph: _Graph, file: _KerasFile, x: str, last: str) -> bytes:
    x = graph.conv(x, _oihw(file.get(last, "kernel")), file.get(last, "bias"), auto_pad="SAME_UPPER")
    x = graph.node("Softmax", [graph.node("Flatten", [graph.node("GlobalAveragePool", [x])])], axis=1)
    return graph.bytes({"probabilities": (x, ["n", 7])})


# --- 68 landmarks -----------------------------------------------------------------------------------------------------


def landmarks68(path: Path, contract: InputContract) -> bytes:
    """Return face-api.js's net: uint8 `pixels` (n, S, S, 3) RGB -> `points` (n, 136): x, y, x, y, ... in 0..1."""
    arrays = read_landmarks68(path)
    graph = _Graph("uint8", ["n", contract.size, contract.size, 3])
    mean, std = (np.array(values, np.float64).reshape(1, -1, 1, 1) for values in (contract.mean, contract.std))
    # Not folded into the kernel: the convolution after it is padded, with zeros that must mean the mean colour.
    x = graph.node("Sub", [graph.pixels(), graph.constant((mean / contract.scale).astype(np.float32))])
    kernel = _oihw(arrays["dense0/conv0/filters"]) * (contract.scale / std)
    first = graph.conv(x, kernel.astype(np.float32), arrays["dense0/conv0/bias"], strides=[2, 2], auto_pad="SAME_UPPER")
    x = _dense(graph, arrays, "dense0", first)
    for block in ("dense1", "dense2", "dense3"):
        x = _dense(graph, arrays, block, _depthwise_separable(graph, arrays, f"{block}/conv0", x, stride=2))
    x = graph.node("GlobalAveragePool", [x])
    x = graph.conv(x, *_as_conv((arrays["fc/weights"], arrays["fc/bias"])))
    return graph.bytes({"points": (graph.node("Flatten", [x]), ["n", 136])})


def _dense(graph: _Graph, arrays: dict[str, Array], block: str, first: str) -> str:
    """Add three more layers, each of which sees the sum of all before it; `first` is the block's, not yet rectified."""
    x = total = graph.node("Relu", [first])
    for layer in ("conv1", "conv2", "conv3"):
        total = graph.node("Add", [total, _depthwise_separable(graph, arrays, f"{block}/{layer}", x, stride=1)])
        x = graph.node("Relu", [total])
    return x


def _depthwise_separable(graph: _Graph, arrays: dict[str, Array], layer: str, x: str, stride: int) -> str:
    x = graph.depthwise(x, arrays[f"{layer}/depthwise_filter"], stride)
    return graph.conv(x, _oihw(arrays[f"{layer}/pointwise_filter"]), arrays[f"{layer}/bias"])


# --- YuNet -----------------------------------------------------------------------------------------------------------


def yunet(path: Path, contract: InputContract) -> bytes:
    """Return a published YuNet that takes uint8 `pixels` (n, H, W, 3), in the net's own colour order."""
    import onnx
    from onnx import TensorProto, helper

    model = onnx.load(path)
    (old,) = model.graph.input[:1]
    dims = [dim.dim_value or dim.dim_param or None for dim in old.type.tensor_type.shape.dim]
    if len(dims) != 4 or dims[1] != 3:
        raise RunError(f"{path}: expected a net with an input (n, 3, height, width), got {dims}")
    before = [helper.make_node("Cast", ["pixels"], ["pixels_float"], to=TensorProto.FLOAT)]
    scaled = "pixels_float"
    if is_scaled(contract):
        constants = {"in_scale": [contract.scale], "in_mean": contract.mean, "in_std": contract.std}
        for name, values in constants.items():
            model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(values, np.float32), name))
        before += [
            helper.make_node("Mul", [scaled, "in_scale"], ["in_1"]),
            helper.make_node("Sub", ["in_1", "in_mean"], ["in_2"]),
            helper.make_node("Div", ["in_2", "in_std"], ["in_3"]),
        ]
        scaled = "in_3"
    before.append(helper.make_node("Transpose", [scaled], [old.name], perm=[0, 3, 1, 2]))
    after = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend(before + after)
    del model.graph.input[:]
    shape = [dims[0], dims[2], dims[3], 3]
    model.graph.input.append(helper.make_tensor_value_info("pixels", TensorProto.UINT8, shape))
    return bytes(model.SerializeToString())


# --- MTCNN -----------------------------------------------------------------------------------------------------------

_SHARD = (
    # Published without shapes in the file itself: hidden kernels, then the heads (out channels).
    ("pnet", ((3, 3, 3, 10), (3, 3, 10, 16), (3, 3, 16, 32)), ((1, 1, 32, 2), (1, 1, 32, 4))),
    ("rnet", ((3, 3, 3, 28), (3, 3, 28, 48), (2, 2, 48, 64), (576, 128)), ((128, 2), (128, 4))),
    (
        "onet",
        ((3, 3, 3, 32), (3, 3, 32, 64), (3, 3, 64, 64), (2, 2, 64, 128), (1152, 256)),
        ((256, 2), (256, 4), (256, 10)),
    ),
)
"""The layout of face-api.js's shard: nets in this order, each layer its kernel, bias and, if hidden, alpha."""


class _Mtcnn:
    """One of the three nets: hidden layers, and heads by their width (2 face or not, 4 box, 10 landmarks)."""

    def __init__(self, arrays: list[Array], hidden: int) -> None:
        flat = [array.reshape(-1) if array.ndim < 4 and array.shape[0] == 1 else array for array in arrays]
        self.hidden: list[Block] = [(flat[i], flat[i + 1], flat[i + 2]) for i in range(0, 3 * hidden, 3)]
        self.heads = {
            len(flat[i + 1]): (flat[i].reshape(-1, flat[i].shape[-1]), flat[i + 1])
            for i in range(3 * hidden, len(flat), 2)
        }


def read_mtcnn(path: Path) -> dict[str, _Mtcnn]:
    """Return P-, R- and O-Net's numbers from the shard, or from the folder of the installed package."""
    if path.is_file():
        return _from_shard(np.fromfile(path, "<f4"), path)
    return {
        net: _Mtcnn(_from_pickle(path / "assets" / "weights" / f"{net}.lz4"), len(hidden)) for net, hidden, _ in _SHARD
    }


def _from_shard(numbers: Array, path: Path) -> dict[str, _Mtcnn]:
    at = 0

    def take(*shape: int) -> Array:
        nonlocal at
        size = int(np.prod(shape))
        at += size
        return numbers[at - size : at].reshape(shape)

    nets = {}
    for net, hidden, heads in _SHARD:
        arrays: list[Array] = []
        for shape in hidden:
            kernel = take(*shape)
            # The shard holds convolutions with height and width exchanged.
            arrays += [kernel.transpose(1, 0, 2, 3) if kernel.ndim == 4 else kernel, take(shape[-1]), take(shape[-1])]
        for shape in heads:
            arrays += [take(*shape), take(shape[-1])]
        nets[net] = _Mtcnn(arrays, len(hidden))
    if at != len(numbers):
        raise RunError(f"{path}: expected {at} numbers, got {len(numbers)}")
    return nets


class _Header:
    """Stands for joblib's NumpyArrayWrapper: shape, order and dtype of the bytes that follow it in the stream."""

    shape: tuple[int, ...]
    order: str
    dtype: np.dtype[Any]

    def read(self, stream: io.BytesIO) -> Array:
        # joblib aligns the numbers: one byte tells how many to skip.
        stream.seek(stream.read(1)[0], io.SEEK_CUR)
        size = self.dtype.itemsize * int(np.prod(self.shape))
        numbers = np.frombuffer(stream.read(size), self.dtype)
        return np.asarray(numbers.reshape(self.shape, order="F" if self.order == "F" else "C"), np.float32)


# Python's unpickler in Python, because joblib writes an array's bytes between two operations; its stubs are thin.
_Unpickler: Any = pickle._Unpickler


class _ArraysOnly(_Unpickler):
    """An unpickler that makes numpy arrays and nothing else: a pickle may name any function to call."""

    _ADMITTED: ClassVar = {
        ("joblib.numpy_pickle", "NumpyArrayWrapper"): _Header,
        ("numpy", "dtype"): np.dtype,
        ("numpy", "ndarray"): np.ndarray,
    }

    def __init__(self, stream: io.BytesIO) -> None:
        super().__init__(stream)
        self._stream = stream

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self._ADMITTED:
            raise pickle.UnpicklingError(f"the weights name {module}.{name}: only numpy arrays are admitted")
        return self._ADMITTED[module, name]

    def load_build(self) -> None:
        super().load_build()
        if isinstance(self.stack[-1], _Header):
            self.stack.append(self.stack.pop().read(self._stream))

    dispatch: ClassVar = {**_Unpickler.dispatch, pickle.BUILD[0]: load_build}


def unpickle_arrays(content: bytes) -> list[Array]:
    """Return the arrays of a joblib pickle. Raises UnpicklingError where it names anything else."""
    arrays = _ArraysOnly(io.BytesIO(content)).load()
    if not isinstance(arrays, list) or any(not isinstance(array, np.ndarray) for array in arrays):
        raise pickle.UnpicklingError("expected a list of numpy arrays")
    return arrays


def _from_pickle(path: Path) -> list[Array]:
    """Read one file of the package `mtcnn`; its sha256 was checked when it was found."""
    import lz4.frame  # type: ignore[import-untyped]

    return unpickle_arrays(lz4.frame.decompress(path.read_bytes()))


def pnet(path: Path, contract: InputContract) -> bytes:
    """Return P-Net: `pixels` uint8 (n, H, W, 3) RGB -> `face` (n, 1, h, w) in 0..1 and `box` (n, 4, h, w).

    A cell looks at 12x12 pixels, cells are 2 pixels apart; box: shifts of x1, y1, x2, y2 in parts of the cell.
    """
    net = read_mtcnn(path)["pnet"]
    graph = _Graph("uint8", ["n", "height", "width", 3])
    x = _hidden(graph, net, contract, {0: (2, "SAME_UPPER")})
    face = graph.node("Sigmoid", [graph.conv(x, *_as_conv(_difference(net)))])
    box = graph.conv(x, *_as_conv(net.heads[4]))
    return graph.bytes({"face": (face, ["n", 1, "h", "w"]), "box": (box, ["n", 4, "h", "w"])})


def rnet(path: Path, contract: InputContract) -> bytes:
    """Return R-Net: `pixels` uint8 (n, 24, 24, 3) RGB -> `face` (n, 1) and `box` (n, 4)."""
    return _refiner(read_mtcnn(path)["rnet"], contract, 24, {0: (3, "SAME_UPPER"), 1: (3, "VALID")})


def onet(path: Path, contract: InputContract) -> bytes:
    """Return O-Net: `pixels` uint8 (n, 48, 48, 3) RGB -> `face` (n, 1), `box` (n, 4), `points` (n, 10): x then y."""
    pools = {0: (3, "SAME_UPPER"), 1: (3, "VALID"), 2: (2, "SAME_UPPER")}
    return _refiner(read_mtcnn(path)["onet"], contract, 48, pools)


def _hidden(graph: _Graph, net: _Mtcnn, contract: InputContract, pools: dict[int, tuple[int, str]]) -> str:
    """Add the convolutions; `pools` maps a layer to the size and padding of the pooling after it."""
    x = graph.pixels()
    for number, (kernel, bias, alpha) in enumerate(net.hidden):
        if kernel.ndim == 2:
            break
        folded = _fold_input(_oihw(kernel), bias, contract) if number == 0 else (_oihw(kernel), bias)
        x = graph.prelu(graph.conv(x, *folded), alpha)
        if number in pools:
            side, padding = pools[number]
            x = graph.node("MaxPool", [x], kernel_shape=[side, side], strides=[2, 2], auto_pad=padding)
    return x


def _refiner(net: _Mtcnn, contract: InputContract, size: int, pools: dict[int, tuple[int, str]]) -> bytes:
    graph = _Graph("uint8", ["n", size, size, 3])
    x = _hidden(graph, net, contract, pools)
    dense, bias, alpha = net.hidden[-1]
    channels = net.hidden[-2][1].shape[0]
    side = round((len(dense) / channels) ** 0.5)
    # Keras flattened (width, height, channel) after its Permute; as a convolution over all of it nothing is flattened.
    kernel = dense.reshape(side, side, channels, -1).transpose(3, 2, 1, 0)
    x = graph.prelu(graph.conv(x, np.ascontiguousarray(kernel), bias), alpha)
    outputs = {"face": (graph.node("Sigmoid", [graph.conv(x, *_as_conv(_difference(net)))]), 1)}
    outputs["box"] = (graph.conv(x, *_as_conv(net.heads[4])), 4)
    if 10 in net.heads:
        outputs["points"] = (graph.conv(x, *_as_conv(net.heads[10])), 10)
    return graph.bytes(
        {name: (graph.node("Flatten", [inner]), ["n", width]) for name, (inner, width) in outputs.items()}
    )


def _difference(net: _Mtcnn) -> tuple[Array, Array]:
    """Return the head "face" as one number: a softmax of two is the sigmoid of their difference."""
    kernel, bias = net.heads[2]
    return kernel[:, 1:] - kernel[:, :1], bias[1:] - bias[:1]


def _as_conv(head: tuple[Array, Array]) -> tuple[Array, Array]:
    kernel, bias = head
    return np.ascontiguousarray(kernel.T[:, :, None, None]), bias


OF_CROPS: dict[str, Callable[[Path, InputContract], bytes]] = {
    "mini_xception": mini_xception,
    "big_xception": big_xception,
    "face_api_68": landmarks68,
}
"""What builds the graph of each family whose net takes crops."""
