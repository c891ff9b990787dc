"""The device, and a net on it that all threads share."""

import contextlib
import ctypes
import io
import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as ort_state

from schemas.errors import ItemError, RunError, UsageError

DEVICES = ("auto", "cpu", "cuda", "tensorrt")
_PROVIDERS = {
    "cpu": ("CPUExecutionProvider",),
    "cuda": ("CUDAExecutionProvider", "CPUExecutionProvider"),
    "tensorrt": ("TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"),
}
_OUT_OF_MEMORY = re.compile(
    r"out of memory|failed to allocate|bad alloc|std::bad_alloc|not enough (gpu )?memory"
    r"|cuda(error|_error)[a-z_]*alloc|cudnn_status_(internal_error_device_)?alloc|cublas_status_alloc",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Device:
    """Where nets run, and how much they take at once.

    `crops` and `pictures` a run: past about 0.3 megapixels a run a CPU leaves its cache, so there it is 8 crops or one
    picture; a GPU wants hundreds of crops and tens of pictures.
    """

    name: str
    providers: tuple[str, ...]
    crops: int
    pictures: int

    @property
    def tolerance(self) -> float:
        """How far a golden output may be off: GPUs compute convolutions in TF32, with a mantissa of 10 bits."""
        return 1e-3 if self.name == "cpu" else 2e-2


CPU = Device("cpu", _PROVIDERS["cpu"], crops=8, pictures=1)


def resolve_device(name: str) -> Device:
    """Return the device called `name`; "auto" is CUDA where there is one, else the CPU.

    Raises UsageError for a device that is not there: never a silent fallback.
    """
    if name not in DEVICES:
        raise UsageError(f"no device {name!r}: expected one of {', '.join(DEVICES)}")
    if name == "cpu":
        return CPU
    wanted = "cuda" if name == "auto" else name
    missing = _missing(wanted)
    if missing and name == "auto":
        return CPU
    if missing:
        raise UsageError(
            f"device {name!r} is not available: {missing}; use --device cpu, or auto to take what is there"
        )
    return Device(wanted, _PROVIDERS[wanted], crops=256, pictures=32)


def _missing(name: str) -> str:
    """Return why `name` cannot be used, or ''. Asks the driver first: ONNX Runtime lists CUDA without a GPU too."""
    if _PROVIDERS[name][0] not in ort.get_available_providers():
        return f"this ONNX Runtime has no {_PROVIDERS[name][0]} (is onnxruntime-gpu installed?)"
    if not _nvidia_gpus():
        return "no NVIDIA GPU was found"
    return _libraries_missing(name)


def _libraries_missing(name: str) -> str:
    """Return which library ONNX Runtime would not find, or ''. Here it is an exception; there it is printed."""
    folder = Path(ort.__file__).parent / "capi"
    provider = folder / f"libonnxruntime_providers_{name}.so"
    if not provider.is_file():
        return ""
    with contextlib.redirect_stdout(io.StringIO()):
        # Finds CUDA and cuDNN that were installed as Python packages; prints what it does not find.
        ort.preload_dlls()
    try:
        ctypes.CDLL(str(folder / "libonnxruntime_providers_shared.so"), mode=ctypes.RTLD_GLOBAL)
        ctypes.CDLL(str(provider))
    except OSError as error:
        if "cannot open shared object file" in str(error):
            return f"ONNX Runtime needs a library that is not installed: {error}"
    return ""


def _nvidia_gpus() -> int:
    """Count the GPUs that the driver shows, without ONNX Runtime, which prints native errors where there are none."""
    for library in ("libcuda.so.1", "nvcuda.dll"):
        try:
            cuda = ctypes.CDLL(library)
        except OSError:
            continue
        count = ctypes.c_int(0)
        if cuda.cuInit(0) == 0 and cuda.cuDeviceGetCount(ctypes.byref(count)) == 0:
            return count.value
    return 0


class Net:
    """One ONNX graph on one device, safe to run from all threads.

    `batch` is the most rows a run takes; a run that is out of memory halves it for good.
    """

    def __init__(self, graph: Path | bytes, device: Device, batch: int) -> None:
        self._run: Callable[[Sequence[str], dict[str, Any]], Sequence[Any]]
        opened = _open(graph, device)
        self._run = opened.run
        self._batch = batch
        self._fixed: int | None = None
        self._lock = threading.Lock()
        first = opened.get_inputs()[0]
        self.input: str = first.name
        self.input_shape: tuple[int | str | None, ...] = tuple(first.shape)
        if isinstance(self.input_shape[0], int):
            self._fixed = self._batch = self.input_shape[0]
        self.outputs: tuple[str, ...] = tuple(output.name for output in opened.get_outputs())

    @property
    def batch(self) -> int:
        """The most rows a run takes, after what was learned."""
        return self._batch

    def limit(self, batch: int) -> None:
        """Take at most `batch` rows a run from now on. Never more than before: several threads may learn at once."""
        with self._lock:
            self._batch = self._fixed or min(self._batch, batch)

    def run(self, rows: NDArray[Any], outputs: Sequence[str]) -> list[NDArray[np.float32]]:
        """Return `outputs` for `rows` (n, ...), n >= 1, in runs of at most `batch` rows."""
        parts: list[Sequence[Any]] = []
        at = 0
        while at < len(rows):
            size = min(self._batch, len(rows) - at)
            part = self._try(rows[at : at + size], outputs)
            if part is None:
                self._halve(size)
                continue
            parts.append(part)
            at += size
        if len(parts) == 1:
            return list(parts[0])
        return [np.concatenate([part[i] for part in parts]) for i in range(len(outputs))]

    def _try(self, rows: NDArray[Any], outputs: Sequence[str]) -> Sequence[Any] | None:
        """Return one run's outputs, or None when the device is out of memory."""
        size = len(rows)
        if self._fixed and size < self._fixed:
            rows = np.concatenate([rows, np.zeros((self._fixed - size, *rows.shape[1:]), rows.dtype)])
        try:
            found = self._run(outputs, {self.input: rows})
        except _RUN_ERRORS as error:
            if not _is_out_of_memory(error):
                raise
            return None
        return [each[:size] for each in found] if self._fixed else found

    def _halve(self, size: int) -> None:
        """Remember that `size` rows are too many."""
        if size <= 1 or self._fixed:
            raise ItemError(
                "out_of_memory", "the device is out of memory with one picture: use a smaller detection size"
            )
        self.limit(size // 2)


_ORT_ERRORS: tuple[type[Exception], ...] = tuple(
    kind
    for kind in vars(ort_state).values()
    # ONNX Runtime's exceptions share no base of their own.
    if isinstance(kind, type) and issubclass(kind, Exception) and kind.__module__ == ort_state.__name__
)

_RUN_ERRORS: tuple[type[Exception], ...] = (RuntimeError, MemoryError, *_ORT_ERRORS)


def _is_out_of_memory(error: Exception) -> bool:
    return isinstance(error, MemoryError) or _OUT_OF_MEMORY.search(str(error)) is not None


def _open(graph: Path | bytes, device: Device) -> Any:
    """Open the graph; raises RunError where ONNX Runtime refuses it or moved it to another device."""
    options = ort.SessionOptions()
    # One worker a core, each with one thread, beats one net with all cores; and the pattern cache costs 180 MB.
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.enable_mem_pattern = False
    options.log_severity_level = 3
    source = graph if isinstance(graph, bytes) else str(graph)
    try:
        opened = ort.InferenceSession(source, options, providers=list(device.providers))
    except _ORT_ERRORS as error:
        name = "the built graph" if isinstance(graph, bytes) else str(graph)
        raise RunError(f"ONNX Runtime cannot load {name}: {' '.join(str(error).split())}") from error
    if device.providers[0] not in opened.get_providers():
        raise RunError(
            f"device {device.name!r} was asked for, but ONNX Runtime fell back to {', '.join(opened.get_providers())}:"
            " are the CUDA and cuDNN libraries that this ONNX Runtime wants installed?"
        )
    return opened
