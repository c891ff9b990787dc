"""The device, and runs that are out of memory."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from numpy.typing import NDArray

from schemas.errors import ItemError, RunError, UsageError
from transforms.models import runtime
from transforms.models.runtime import CPU, Device, Net, resolve_device


class Meta:
    """Name, shape and type of an input or output."""

    def __init__(self, name: str, shape: list[Any], type: str = "tensor(float)") -> None:
        self.name, self.shape, self.type = name, shape, type


class FakeOpened:
    """A graph that doubles its rows, and is out of memory above `most` of them."""

    def __init__(self, most: int, error: Exception, shape: Sequence[Any] = ("n", 2)) -> None:
        self.most, self.error, self.shape = most, error, list(shape)
        self.sizes: list[int] = []

    def get_inputs(self) -> list[Meta]:
        return [Meta("x", self.shape)]

    def get_outputs(self) -> list[Meta]:
        return [Meta("y", self.shape)]

    def run(self, outputs: Sequence[str], feeds: dict[str, NDArray[Any]]) -> list[NDArray[Any]]:
        rows = feeds["x"]
        self.sizes.append(len(rows))
        if len(rows) > self.most:
            raise self.error
        return [rows * 2 for _ in outputs]


def fake(monkeypatch: pytest.MonkeyPatch, opened: FakeOpened, batch: int) -> Net:
    monkeypatch.setattr(runtime, "_open", lambda graph, device: opened)
    return Net(b"", CPU, batch)


# What ONNX Runtime and the drivers say when memory ends.
TEXTS = [
    "CUDA failure 2: out of memory ; GPU=0",
    "BFCArena::AllocateRawInternal Failed to allocate memory for requested buffer of size 4294967296",
    "CUDNN_STATUS_ALLOC_FAILED",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "std::bad_alloc",
]


@pytest.mark.parametrize("text", TEXTS)
def test_a_run_out_of_memory_halves_the_batch_for_good(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """All rows come out, in order, and the next call starts with what was learned."""
    opened = FakeOpened(3, runtime._ORT_ERRORS[0](text))
    net = fake(monkeypatch, opened, 16)
    rows = np.arange(40, dtype=np.float32).reshape(20, 2)
    np.testing.assert_array_equal(net.run(rows, ["y"])[0], rows * 2)
    assert opened.sizes[:4] == [16, 8, 4, 2] and net.batch == 2
    opened.sizes.clear()
    np.testing.assert_array_equal(net.run(rows[:5], ["y"])[0], rows[:5] * 2)
    assert opened.sizes == [2, 2, 1]


def test_one_row_too_many_is_an_error_of_the_item(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is nothing left to halve."""
    net = fake(monkeypatch, FakeOpened(0, MemoryError()), 4)
    with pytest.raises(ItemError, match="use a smaller detection size") as caught:
        net.run(np.zeros((4, 2), np.float32), ["y"])
    assert caught.value.error == "out_of_memory"


def test_another_error_is_not_swallowed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what speaks of memory is tried again."""
    opened = FakeOpened(0, RuntimeError("Invalid rank for input"))
    with pytest.raises(RuntimeError, match="Invalid rank"):
        fake(monkeypatch, opened, 4).run(np.zeros((4, 2), np.float32), ["y"])
    assert opened.sizes == [4]


def test_a_graph_of_fixed_batch_gets_full_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last run is filled with zeros, which do not come out."""
    opened = FakeOpened(99, RuntimeError(), shape=(4, 2))
    rows = np.ones((6, 2), np.float32)
    found = fake(monkeypatch, opened, 8).run(rows, ["y"])[0]
    assert opened.sizes == [4, 4] and found.shape == (6, 2) and (found == 2).all()


def test_a_device_that_is_not_there_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Never a silent fallback: neither without the provider nor without the GPU."""
    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(UsageError, match=r"'cuda' is not available: .*no CUDAExecutionProvider.*--device cpu"):
        resolve_device("cuda")
    every = ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(ort, "get_available_providers", lambda: every)
    monkeypatch.setattr(runtime, "_nvidia_gpus", lambda: 0)
    for name in ("cuda", "tensorrt"):
        with pytest.raises(UsageError, match="no NVIDIA GPU was found"):
            resolve_device(name)
    assert resolve_device("auto") == CPU
    monkeypatch.setattr(runtime, "_nvidia_gpus", lambda: 1)
    monkeypatch.setattr(runtime, "_libraries_missing", lambda name: "ONNX Runtime needs a library: libcudnn.so.9")
    with pytest.raises(UsageError, match=r"'cuda' is not available: .*libcudnn\.so\.9"):
        resolve_device("cuda")
    assert resolve_device("auto") == CPU
    monkeypatch.setattr(runtime, "_libraries_missing", lambda name: "")
    assert resolve_device("auto").name == "cuda" and resolve_device("tensorrt").crops > 100


def test_an_unknown_device_lists_the_known_ones() -> None:
    """A spelling mistake is not the CPU."""
    with pytest.raises(UsageError, match="expected one of auto, cpu, cuda, tensorrt"):
        resolve_device("gpu")


def test_auto_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    """Neither Python nor native code complains that there is no GPU."""
    resolve_device("auto")
    captured = capfd.readouterr()
    assert captured.out == "" and captured.err == ""


def test_a_fallback_of_onnx_runtime_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """It lists CUDA, cannot load it, and goes on with the CPU: we do not."""
    from transforms.models.record import RECORDS

    broken = Device("cuda", ("CUDAExecutionProvider", "CPUExecutionProvider"), 8, 1)

    class Fallen(FakeOpened):
        def get_providers(self) -> list[str]:
            return ["CPUExecutionProvider"]

    monkeypatch.setattr(ort, "InferenceSession", lambda *_, **__: Fallen(1, RuntimeError()))
    with pytest.raises(RunError, match="fell back to CPUExecutionProvider"):
        Net(RECORDS / "expression8_v1.onnx", broken, 8)


def test_a_file_that_is_no_graph_is_an_error(tmp_path: Path) -> None:
    """The text names the file."""
    path = tmp_path / "net.onnx"
    path.write_bytes(b"not a graph")
    with pytest.raises(RunError, match=r"net\.onnx"):
        Net(path, CPU, 1)
