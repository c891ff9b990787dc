"""A net that takes crops: a graph built from published weights, or a person's own."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from schemas.errors import UsageError
from transforms.models import graphs, weights
from transforms.models.prepare import arranged, prepared
from transforms.models.record import ModelRecord
from transforms.models.runtime import Device, Net


class CropNet:
    """One output of one ONNX graph, for crops as the record wants them."""

    def __init__(self, record: ModelRecord, device: Device, output: str) -> None:
        """Find or fetch the weights and open the graph; `output` is our name of what it gives."""
        path = weights.pull(record)
        build = graphs.OF_CROPS.get(record.family)
        # A built graph takes uint8 pixels; the record's scale, mean and std are inside it.
        self._built = build is not None
        graph = graphs.cached(record.family, record, lambda: build(path, record.input)) if build else path
        self.record = record
        self.net = Net(graph, device, device.crops)
        self.output = record.outputs.get(output, output)
        if self.output not in self.net.outputs:
            raise UsageError(
                f"{record.path}: outputs.{output}: expected one of {', '.join(self.net.outputs)}, got {self.output!r}"
            )

    def run(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return what the graph gives for crops of `crops.crop_faces`, at least one."""
        (found,) = self.net.run(self._prepare(crops), [self.output])
        return found

    def steady(self, look: Callable[[NDArray[np.uint8]], NDArray[np.float32]]) -> None:
        """Take crops one by one if the bits of what `look` makes of a crop depend on its neighbours in a run.

        A rerun makes other batches and must give the same bytes. All built-in nets do on every batch size that was
        tried; a person's own net, or another processor's kernels, may not.
        """
        crops = np.random.default_rng(0).integers(0, 256, (8, *self._shape), np.uint8)
        single = np.concatenate([look(crops[i : i + 1]) for i in range(len(crops))])
        for size in (8, 5, 3, 2):
            if look(crops[:size]).tobytes() != single[:size].tobytes():
                self.net.limit(1)
                return

    @property
    def _shape(self) -> tuple[int, ...]:
        size = self.record.input.size
        return (size, size) if self.record.input.colour == "gray" else (size, size, 3)

    def _prepare(self, crops: NDArray[np.uint8]) -> NDArray[Any]:
        """Bring crops to the record's channels, type, scale and layout."""
        if crops.shape[1:] != self._shape:
            raise ValueError(f"{self.record.name}: expected crops (n, {self._shape}), got {crops.shape}")
        if self._built:
            return np.ascontiguousarray(arranged(crops, self.record.input))
        return prepared(crops, self.record.input)
