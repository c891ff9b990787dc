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
from transforms.models.registry import default_detector, shared_classifier, shared_detector
from transforms.models.runtime import resolve_device


@dataclass(frozen=True)
class LabelledFace:
    """One face: `box` x, y, w, h and `landmarks` (5, 2) in pixels, `probabilities` by label."""

    box: tuple[float, float, float, float]
    landmarks: NDArray[np.float32]
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
    ) -> None:
        """Load and check the models; the arguments mean what the options of `pipelines.annotate` mean."""
        where = resolve_device(device)
        name = detector or default_detector()
        self.detector = shared_detector(name, where, detect_size=detect_size, threshold=detect_threshold)
        self.classifier = shared_classifier(classifier, where, tta=tta)
        self.min_face = 0 if name == "none" else min_face

    def annotate(self, pictures: Sequence[NDArray[np.uint8]]) -> list[LabelledPicture]:
        """Return the labelled faces of each picture, (H, W, 3) uint8 RGB."""
        found = [faces.at_least(self.min_face) for faces in self.detector.detect(pictures)]
        if not found:
            return []
        crops = [self.classifier.crop(rgb, faces) for rgb, faces in zip(pictures, found, strict=True)]
        ends = np.cumsum([len(faces) for faces in found])
        chances = np.split(self.classifier.classify(np.concatenate(crops)), ends[:-1])
        return [self._labelled(faces, p) for faces, p in zip(found, chances, strict=True)]

    def _labelled(self, faces: Faces, chances: NDArray[np.float32]) -> LabelledPicture:
        return LabelledPicture(tuple(self._face(faces, chances, rank) for rank in range(len(faces))))

    def _face(self, faces: Faces, chances: NDArray[np.float32], rank: int) -> LabelledFace:
        x, y, w, h = faces.boxes[rank].tolist()
        best = int(chances[rank].argmax())
        return LabelledFace(
            box=(x, y, w, h),
            landmarks=faces.landmarks[rank],
            detection_score=float(faces.scores[rank]),
            label=self.classifier.labels[best],
            confidence=min(float(chances[rank, best]), MAX_MODEL_CONFIDENCE),
            probabilities=dict(zip(self.classifier.labels, chances[rank].tolist(), strict=True)),
        )
