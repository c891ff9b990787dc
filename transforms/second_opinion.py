"""A second opinion: what the model makes of the faces that came with a label.

A label belongs to a face that the detector finds at its place, so that the crop is the one that the classifier knows;
where none is found, the box, or a whole small picture, is taken for the face. Pixels never leave this step.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import apache_beam as beam
import numpy as np
import polars as pl
from apache_beam.pvalue import PCollection
from numpy.typing import NDArray

from schemas.errors import ItemError
from schemas.records import Faces
from transforms.clock import clocked
from transforms.look import Limits
from transforms.models.classifiers import Classifier
from transforms.models.detectors import Detector
from transforms.pictures import decode
from transforms.storage import read_bytes

OPINIONS: dict[str, pl.DataType] = {"row": pl.UInt32(), "chances": pl.List(pl.Float32())}
"""The label row's number in its part, and the classifier's probabilities in its own order."""

LEAST_OVERLAP = 0.3
"""Least intersection over union of a label's box and a face for one thing: people box heads, detectors faces."""

CROP_SIDE_PX = 256
"""A whole picture up to this long side without a face that is found may be a crop of one: 48 px in FER2013, 224 in
AffectNet and RAF-DB."""


@dataclass(frozen=True)
class Claims:
    """The labels of one picture: their row numbers and boxes, x, y, w, h in pixels; null for the whole picture."""

    uri: str
    rows: tuple[int, ...]
    boxes: tuple[tuple[float, float, float, float] | None, ...]


@dataclass(frozen=True)
class ClaimBatch:
    """Pictures of one part that are looked at together."""

    part: int
    pictures: tuple[Claims, ...]


def claimed_faces(claims: Claims, found: Faces, size: tuple[int, int]) -> tuple[list[int], Faces]:
    """Return the rows of which something can be said, and their faces; `size` is the picture's width and height."""
    rows, boxes, landmarks = [], [], []
    for row, box in zip(claims.rows, claims.boxes, strict=True):
        at = _the_one(box, found)
        if at is not None:
            boxes.append(found.boxes[at])
            landmarks.append(found.landmarks[at])
        elif box is not None or (not len(found) and max(size) <= CROP_SIDE_PX):
            boxes.append(np.array(box or (0, 0, *size), np.float32))
            landmarks.append(np.full((5, 2), np.nan, np.float32))
        else:
            continue
        rows.append(row)
    if not rows:
        return [], Faces.none()
    return rows, Faces(np.stack(boxes), np.stack(landmarks), np.full(len(rows), np.nan, np.float32))


def _the_one(box: Sequence[float] | None, found: Faces) -> int | None:
    """Return the face that a label means: that of most overlap, or the only one; None where that is not clear."""
    if not len(found):
        return None
    if box is None:
        return 0 if len(found) == 1 else None
    shared = _overlaps(np.array(box, np.float32), found.boxes)
    return int(shared.argmax()) if shared.max() >= LEAST_OVERLAP else None


def _overlaps(box: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the intersection over the union of one box with each of (n, 4) x, y, width, height."""
    near, far = np.maximum(box[:2], others[:, :2]), np.minimum(box[:2] + box[2:], others[:, :2] + others[:, 2:])
    shared = np.maximum(far - near, 0).prod(axis=1)
    return np.asarray(shared / np.maximum(box[2:].prod() + others[:, 2:].prod(axis=1) - shared, 1e-12), np.float32)


def opinions(batch: ClaimBatch, detector: Detector, classifier: Classifier, limits: Limits) -> pl.DataFrame:
    """Return OPINIONS of a batch's labels. A picture that cannot be read gives none: the look has told why."""
    rows: list[int] = []
    crops: list[NDArray[np.uint8]] = []
    for claims in batch.pictures:
        try:
            rgb = decode(read_bytes(claims.uri, limits.max_bytes), max_pixels=limits.max_pixels).rgb
        except ItemError:
            continue
        own, faces = claimed_faces(claims, detector.detect([rgb])[0], (rgb.shape[1], rgb.shape[0]))
        if own:
            rows += own
            crops.append(classifier.crop(rgb, faces))
    if not rows:
        return pl.DataFrame(schema=OPINIONS)
    chances = classifier.classify(np.concatenate(crops))
    return pl.DataFrame({"row": rows, "chances": chances.tolist()}, schema=OPINIONS)


@dataclass
class SecondOpinion(beam.PTransform):
    """Ask the model about labelled faces; the loaders give this process's models, on the worker."""

    load_detector: Callable[[], Detector]
    load_classifier: Callable[[], Classifier]
    limits: Limits

    def expand(self, batches: PCollection[ClaimBatch]) -> PCollection[tuple[int, Iterable[pl.DataFrame]]]:
        """Return the opinions of each part together."""
        asked = batches | "Ask" >> beam.ParDo(_Ask(self)).with_output_types(tuple[int, pl.DataFrame])
        return asked | "Group by part" >> beam.GroupByKey()


class _Ask(beam.DoFn):
    def __init__(self, wanted: SecondOpinion) -> None:
        self.wanted = wanted

    def setup(self) -> None:
        self.detector = self.wanted.load_detector()
        self.classifier = self.wanted.load_classifier()

    def process(self, batch: ClaimBatch) -> list[tuple[int, pl.DataFrame]]:
        with clocked("second opinion"):
            return [(batch.part, opinions(batch, self.detector, self.classifier, self.wanted.limits))]
