"""Faces in, the 68 points of each out."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from schemas.errors import UsageError
from schemas.records import Faces
from transforms.models import golden
from transforms.models.crop_net import CropNet
from transforms.models.crops import crop_faces, uncropped
from transforms.models.record import ModelRecord, load_record
from transforms.models.runtime import Device

Picture = NDArray[np.uint8]
Points = NDArray[np.float32]

POINTS = 68
"""Points of a face, in the order of 300-W (Sagonas et al. 2013): see `schemas.vocabulary.LANDMARKS_68`."""


class Landmarker(Protocol):
    """What finds the 68 points of faces that were detected."""

    @property
    def record(self) -> ModelRecord: ...

    @property
    def sha256(self) -> str:
        """The weights' sha256, 64 hex digits."""

    def locate(self, rgb: Picture, faces: Faces) -> Points:
        """Return (n, 68, 2), x then y in pixels of the RGB picture (H, W, 3) that the faces are of."""

    def locate_many(self, pictures: Sequence[tuple[Picture, Faces]]) -> list[Points]:
        """Return each picture's points; the faces of all share the net's runs."""

    def crop(self, rgb: Picture, faces: Faces) -> Picture:
        """Return the faces of one picture as this net wants them, (n, S, S, 3): all that must be kept of its pixels."""

    def locate_in(self, crops: Picture, faces: Faces) -> Points:
        """Return the points for crops of `crop`; `faces` are those of all the crops' pictures, in the same order."""


class NetLandmarker:
    """Finds points with an ONNX graph that gives them in parts of the crop."""

    def __init__(self, record: ModelRecord, net: CropNet) -> None:
        self.record = record
        self.sha256 = record.sha256
        self._net = net

    def locate(self, rgb: Picture, faces: Faces) -> Points:
        """Return one picture's points; see `Landmarker`."""
        return self.locate_in(self.crop(rgb, faces), faces)

    def locate_many(self, pictures: Sequence[tuple[Picture, Faces]]) -> list[Points]:
        """Return each picture's points; see `Landmarker`."""
        if not pictures:
            return []
        crops = np.concatenate([self.crop(rgb, faces) for rgb, faces in pictures])
        points = self.locate_in(crops, joined([faces for _, faces in pictures]))
        return np.split(points, np.cumsum([len(faces) for _, faces in pictures])[:-1])

    def crop(self, rgb: Picture, faces: Faces) -> Picture:
        """Return the faces as crops; see `Landmarker`."""
        assert self.record.crop is not None  # a landmarker's record always has one
        return crop_faces(rgb, faces, self.record.crop, self.record.input)

    def locate_in(self, crops: Picture, faces: Faces) -> Points:
        """Return the points of crops in their picture; see `Landmarker`."""
        assert self.record.crop is not None  # as above
        return uncropped(self.find(crops), faces, self.record.crop)

    def find(self, crops: Picture) -> Points:
        """Return (n, 68, 2), x then y in 0..1 of the crop."""
        if not len(crops):
            return np.zeros((0, POINTS, 2), np.float32)
        found = self._net.run(crops)
        if found.shape[1:] not in ((POINTS * 2,), (POINTS, 2)):
            raise UsageError(
                f"{self.record.path}: outputs.points: the net's output {self._net.output!r} has shape {found.shape},"
                f" expected (n, {POINTS * 2}), x and y in turn, or (n, {POINTS}, 2)"
            )
        return np.asarray(found.reshape(-1, POINTS, 2), np.float32)


def load_landmarker(name_or_path: str | Path, device: Device) -> Landmarker:
    """Return a landmarker whose golden outputs were checked.

    Raises UsageError for a bad record or missing weights, RunError where the golden outputs differ.
    """
    record = load_record(name_or_path)
    if record.kind != "landmarks":
        raise UsageError(f"model {record.name!r} is of kind {record.kind!r}, expected landmarks")
    net = CropNet(record, device, "points")
    landmarker = NetLandmarker(record, net)
    golden.check_landmarks(record, landmarker.find, device)
    if device.name == "cpu":
        net.steady(landmarker.find)
    return landmarker


def joined(parts: Sequence[Faces]) -> Faces:
    """Return the faces of several pictures one after the other."""
    return Faces(
        np.concatenate([faces.boxes for faces in parts]),
        np.concatenate([faces.landmarks for faces in parts]),
        np.concatenate([faces.scores for faces in parts]),
    )
