"""The plain door: faces and labels of pictures in memory, without Beam and without files.

>>> engine = Engine(device="auto")  # doctest: +SKIP
>>> for face in engine.annotate([rgb])[0].faces:  # doctest: +SKIP
...     print(face.box, face.label, face.confidence)
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from schemas.records import Faces
from schemas.vocabulary import MAX_MODEL_CONFIDENCE
from transforms.models.pose import head_pose
from transforms.models.registry import default_detector, shared_classifier, shared_detector, shared_landmarker
from transforms.models.runtime import resolve_device

_Points = tuple[NDArray[np.float32], NDArray[np.float32]] | None
"""A picture's points (n, 68, 2) and poses (n, 3)."""


@dataclass(frozen=True)
class LabelledFace:
    """One face: `box` x, y, w, h and `landmarks` (5, 2) in pixels, `probabilities` by label.

    `points` (68, 2) are in pixels and `pose` is yaw, pitch, roll in degrees (see `transforms.models.pose.head_pose`);
    null unless they were asked for.
    """

    box: tuple[float, float, float, float]
    landmarks: NDArray[np.float32]
    points: NDArray[np.float32] | None
    pose: NDArray[np.float32] | None
    detection_score: float
    label: str
    confidence: float
    probabilities: dict[str, float]


@dataclass(frozen=True)
class LabelledPicture:
    """The faces of one picture, best detection first."""

    faces: tuple[LabelledFace, ...]


class Engine:
    """Detector, alignment and classifier in one object; safe to use from several threads."""

    def __init__(
        self,
        device: str = "auto",
        detector: str | None = None,
        classifier: str = "expression8",
        tta: str = "none",
        detect_size: int | None = 640,
        detect_threshold: float | None = None,
        min_face: int = 20,
        landmarks: str | None = None,
    ) -> None:
        """Load and check the models; the arguments mean what the options of `pipelines.annotate` mean.

        `landmarks` is the name or path of a record: "landmarks68" for 68 points.
        """
        where = resolve_device(device)
        name = detector or default_detector()
        self.detector = shared_detector(name, where, detect_size=detect_size, threshold=detect_threshold)
        self.classifier = shared_classifier(classifier, where, tta=tta)
        self.landmarker = shared_landmarker(landmarks, where) if landmarks else None
        self.min_face = 0 if name == "none" else min_face

    def annotate(self, pictures: Sequence[NDArray[np.uint8]]) -> list[LabelledPicture]:
        """Return the labelled faces of each picture, (H, W, 3) uint8 RGB."""
        found = [faces.at_least(self.min_face) for faces in self.detector.detect(pictures)]
        if not found:
            return []
        crops = [self.classifier.crop(rgb, faces) for rgb, faces in zip(pictures, found, strict=True)]
        ends = np.cumsum([len(faces) for faces in found])
        chances = np.split(self.classifier.classify(np.concatenate(crops)), ends[:-1])
        points = self._points(pictures, found)
        return [
            LabelledPicture(tuple(self._face(faces, p, at, rank) for rank in range(len(faces))))
            for faces, p, at in zip(found, chances, points, strict=True)
        ]

    def _points(self, pictures: Sequence[NDArray[np.uint8]], found: list[Faces]) -> list[_Points]:
        if self.landmarker is None:
            return [None] * len(found)
        points = self.landmarker.locate_many(list(zip(pictures, found, strict=True)))
        sizes = [(rgb.shape[1], rgb.shape[0]) for rgb in pictures]
        return [(at, head_pose(at, size)) for at, size in zip(points, sizes, strict=True)]

    def _face(self, faces: Faces, chances: NDArray[np.float32], points: _Points, rank: int) -> LabelledFace:
        x, y, w, h = faces.boxes[rank].tolist()
        best = int(chances[rank].argmax())
        return LabelledFace(
            box=(x, y, w, h),
            landmarks=faces.landmarks[rank],
            points=points[0][rank] if points else None,
            pose=points[1][rank] if points else None,
            detection_score=float(faces.scores[rank]),
            label=self.classifier.labels[best],
            confidence=min(float(chances[rank, best]), MAX_MODEL_CONFIDENCE),
            probabilities=dict(zip(self.classifier.labels, chances[rank].tolist(), strict=True)),
        )
