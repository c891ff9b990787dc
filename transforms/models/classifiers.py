"""Crops in, probabilities out."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from schemas.errors import UsageError
from schemas.records import Faces
from transforms.models import golden
from transforms.models.crop_net import CropNet
from transforms.models.crops import crop_faces
from transforms.models.record import ModelRecord, load_record
from transforms.models.runtime import Device

TTA = ("none", "flip")


class Classifier(Protocol):
    """What labels crops."""

    @property
    def record(self) -> ModelRecord: ...

    @property
    def sha256(self) -> str:
        """The sha256 of the weights, of an ensemble's together; 64 hex digits."""

    @property
    def labels(self) -> tuple[str, ...]:
        """The k labels in the model's own order, which is that of the columns."""

    def crop(self, rgb: NDArray[np.uint8], faces: Faces) -> NDArray[np.uint8]:
        """Return the faces of one RGB picture (H, W, 3) as this classifier wants them: see `crops.crop_faces`."""

    def classify(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return (n, k) probabilities for crops of `crops.crop_faces`: (n, S, S) gray or (n, S, S, 3) RGB."""


class Look(Protocol):
    """What gives probabilities for crops, without the mirror image."""

    def __call__(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return (n, k), n >= 1, columns as the record's labels."""


class OneNet:
    """One network's look."""

    def __init__(self, record: ModelRecord, device: Device) -> None:
        """Open the net; raises RunError where the golden outputs differ."""
        self.record = record
        self.net = CropNet(record, device, "probabilities")
        golden.check_classifier(record, self, device)
        if device.name == "cpu":
            self.net.steady(self)

    def __call__(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return probabilities; see `Look`."""
        found = self.net.run(crops)
        if found.ndim != 2 or found.shape[1] != len(self.record.labels):
            raise UsageError(
                f"{self.record.path}: labels: the net's output {self.net.output!r} has shape {found.shape},"
                f" expected (n, {len(self.record.labels)}), one column a label"
            )
        return _softmax(found) if self.record.softmax else found


class Mean:
    """The mean of several networks' probabilities, label by label; one that does not know a label gives it 0."""

    def __init__(self, looks: Sequence[Look], members: Sequence[ModelRecord], labels: tuple[str, ...]) -> None:
        columns = [[labels.index(label) for label in member.labels] for member in members]
        self._looks = list(zip(looks, columns, strict=True))
        self._width = len(labels)

    def __call__(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return probabilities; see `Look`."""
        total = np.zeros((len(crops), self._width), np.float32)
        for look, columns in self._looks:
            total[:, columns] += look(crops)
        return total / np.float32(len(self._looks))


class CropClassifier:
    """Cuts crops by its record's contract and gives what its look sees in them."""

    def __init__(self, record: ModelRecord, look: Look, tta: str) -> None:
        self.record = record
        self.sha256 = record.sha256
        self.labels = record.labels
        self.look = look
        self._flip = tta == "flip"

    def crop(self, rgb: NDArray[np.uint8], faces: Faces) -> NDArray[np.uint8]:
        """Return the faces as crops; see `Classifier`."""
        assert self.record.crop is not None  # a classifier's record always has one
        return crop_faces(rgb, faces, self.record.crop, self.record.input)

    def classify(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return (n, k) probabilities; see `Classifier`."""
        if not len(crops):
            return np.zeros((0, len(self.labels)), np.float32)
        found = self.look(crops)
        if self._flip:
            found = (found + self.look(np.ascontiguousarray(crops[:, :, ::-1]))) * np.float32(0.5)
        return found


def load_classifier(name_or_path: str | Path, device: Device, *, tta: str = "none") -> Classifier:
    """Return a classifier whose golden outputs were checked, an ensemble's members' too.

    `tta` "flip" averages each crop with its mirror image: about .01 more accurate, half as fast.
    Raises UsageError for a bad record or missing weights, RunError where the golden outputs differ.
    """
    if tta not in TTA:
        raise UsageError(f"no tta {tta!r}: expected one of {', '.join(TTA)}")
    record = load_record(name_or_path)
    if record.kind != "classifier":
        raise UsageError(f"model {record.name!r} is of kind {record.kind!r}, expected a classifier")
    if not record.members:
        return CropClassifier(record, OneNet(record, device), tta)
    mean = Mean([OneNet(member, device) for member in record.members], record.members, record.labels)
    golden.check_classifier(record, mean, device)
    return CropClassifier(record, mean, tta)


def _softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True), np.float32)
