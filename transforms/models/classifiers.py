"""Crops in, probabilities out."""

from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from schemas.errors import UsageError
from schemas.records import Faces
from transforms.models import golden, graphs, weights
from transforms.models.crops import crop_faces
from transforms.models.prepare import arranged, prepared
from transforms.models.record import ModelRecord, load_record
from transforms.models.runtime import Device, Net

TTA = ("none", "flip")


class Classifier(Protocol):
    """What labels crops."""

    @property
    def record(self) -> ModelRecord: ...

    @property
    def sha256(self) -> str:
        """The weights' sha256, 64 hex digits."""

    @property
    def labels(self) -> tuple[str, ...]:
        """The k labels in the model's own order, which is that of the columns."""

    def crop(self, rgb: NDArray[np.uint8], faces: Faces) -> NDArray[np.uint8]:
        """Return the faces of one RGB picture (H, W, 3) as this classifier wants them: see `crops.crop_faces`."""

    def classify(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return (n, k) probabilities for crops of `crops.crop_faces`: (n, S, S) gray or (n, S, S, 3) RGB."""


class OnnxClassifier:
    """A classifier that is an ONNX graph."""

    def __init__(self, record: ModelRecord, graph: Path | bytes, device: Device, tta: str, built: bool) -> None:
        """`built`: the graph is ours and takes uint8 pixels; the record's scale, mean and std are inside it."""
        assert record.weights is not None  # a classifier's record always has weights
        self.record = record
        self.sha256 = record.weights.sha256
        self.labels = record.labels
        self._flip = tta == "flip"
        self._built = built
        self._net = Net(graph, device, device.crops)
        self._output = record.outputs.get("probabilities", "probabilities")
        if self._output not in self._net.outputs:
            raise UsageError(
                f"{record.path}: outputs.probabilities: expected one of {', '.join(self._net.outputs)},"
                f" got {self._output!r}"
            )

    def crop(self, rgb: NDArray[np.uint8], faces: Faces) -> NDArray[np.uint8]:
        """Return the faces as crops; see `Classifier`."""
        assert self.record.crop is not None  # a classifier's record always has one
        return crop_faces(rgb, faces, self.record.crop, self.record.input)

    def classify(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return (n, k) probabilities; see `Classifier`."""
        if not len(crops):
            return np.zeros((0, len(self.labels)), np.float32)
        found = self.classify_once(crops)
        if self._flip:
            found = (found + self.classify_once(np.ascontiguousarray(crops[:, :, ::-1]))) * np.float32(0.5)
        return found

    def classify_once(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return what one look, without the mirror image, gives."""
        (found,) = self._net.run(self._prepare(crops), [self._output])
        if found.ndim != 2 or found.shape[1] != len(self.labels):
            raise UsageError(
                f"{self.record.path}: labels: the net's output {self._output!r} has shape {found.shape},"
                f" expected (n, {len(self.labels)}), one column a label"
            )
        return _softmax(found) if self.record.softmax else found

    def steady(self) -> None:
        """Take crops one by one if a crop's bits depend on its neighbours in a run.

        A rerun makes other batches and must give the same bytes. Both built-in nets do on every batch size that was
        tried; a person's own net, or another processor's kernels, may not.
        """
        wanted = self.record.input
        shape = (8, wanted.size, wanted.size) if wanted.colour == "gray" else (8, wanted.size, wanted.size, 3)
        crops = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
        single = np.concatenate([self.classify_once(crops[i : i + 1]) for i in range(len(crops))])
        for size in (8, 5, 3, 2):
            if self.classify_once(crops[:size]).tobytes() != single[:size].tobytes():
                self._net.limit(1)
                return

    def _prepare(self, crops: NDArray[np.uint8]) -> NDArray[Any]:
        """Bring crops to the record's channels, type, scale and layout."""
        wanted = self.record.input
        expected = (wanted.size, wanted.size) if wanted.colour == "gray" else (wanted.size, wanted.size, 3)
        if crops.shape[1:] != expected:
            raise ValueError(f"{self.record.name}: expected crops (n, {expected}), got {crops.shape}")
        if self._built:
            return np.ascontiguousarray(arranged(crops, wanted))
        return prepared(crops, wanted)


def load_classifier(name_or_path: str | Path, device: Device, *, tta: str = "none") -> Classifier:
    """Return a classifier whose golden outputs were checked.

    `tta` "flip" averages each crop with its mirror image: about .01 more accurate, half as fast.
    Raises UsageError for a bad record or missing weights, RunError where the golden outputs differ.
    """
    if tta not in TTA:
        raise UsageError(f"no tta {tta!r}: expected one of {', '.join(TTA)}")
    record = load_record(name_or_path)
    if record.kind != "classifier":
        raise UsageError(f"model {record.name!r} is a {record.kind}, expected a classifier")
    path = weights.pull(record)
    graph: Path | bytes = path
    if record.family == "mini_xception":
        graph = graphs.cached("mini_xception", record, lambda: graphs.mini_xception(path, record.input))
    classifier = OnnxClassifier(record, graph, device, tta, built=record.family == "mini_xception")
    golden.check_classifier(record, classifier.classify_once, device)
    if device.name == "cpu":
        classifier.steady()
    return classifier


def _softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True), np.float32)
