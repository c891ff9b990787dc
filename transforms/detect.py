"""Detect: picture -> boxes, five landmarks, scores."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import apache_beam as beam
import numpy as np
from apache_beam.pvalue import PCollection, TaggedOutput
from numpy.typing import NDArray

from schemas.errors import ItemError
from schemas.records import Faces, Failure
from transforms.batch import Decoded, DecodedBatch, Detected, DetectedBatch
from transforms.clock import clocked
from transforms.decode import failed_picture
from transforms.models.detectors import Detector

DetectorLoader = Callable[[], Detector]
"""Loads, on the worker, the one detector of this process."""


def find_faces(detector: Detector, pictures: Sequence[Decoded], min_face_px: float) -> list[Detected]:
    """Return each picture with its faces, in pixels of the full picture."""
    with clocked("detect"):
        found = detector.detect([picture.rgb for picture in pictures])
        return [_detected(picture, faces, min_face_px) for picture, faces in zip(pictures, found, strict=True)]


def _detected(picture: Decoded, faces: Faces, min_face_px: float) -> Detected:
    faces = faces.scaled(1.0 / picture.scale)
    _snap(faces.boxes, picture)
    reach = 4.0 * max(picture.width, picture.height)
    if not (np.abs(faces.boxes) < reach).all():  # also where one is not a number
        raise ItemError("bad_box", "the detector gave a box that is not a number or lies far outside the picture")
    large = faces.at_least(min_face_px)
    return Detected(picture, large, len(faces) - len(large))


def _snap(boxes: NDArray[np.float32], picture: Decoded) -> None:
    """Cut, in place, what a box gained at the right and the bottom by reduced decoding: less than one reduced pixel."""
    for size, start, extent in ((picture.width, boxes[:, 0], boxes[:, 2]), (picture.height, boxes[:, 1], boxes[:, 3])):
        over = start + extent - size
        extent -= np.where((over > 0) & (over < 1.0 / picture.scale) & (picture.scale < 1), over, 0)


@dataclass
class Detect(beam.PTransform):
    """Find the faces of decoded pictures; outputs `batches` and `failed`."""

    load: DetectorLoader
    min_face_px: float

    def expand(self, decoded: PCollection[DecodedBatch]) -> beam.pvalue.DoOutputsTuple:
        """Return the named outputs `batches` and `failed`."""
        detect = beam.ParDo(_DetectBatches(self.load, self.min_face_px))
        typed = detect.with_output_types(DetectedBatch, failed=tuple[int, Failure])
        return decoded | "Find faces" >> typed.with_outputs("failed", main="batches")


class _DetectBatches(beam.DoFn):
    def __init__(self, load: DetectorLoader, min_face_px: float) -> None:
        self.load = load
        self.min_face_px = min_face_px

    def setup(self) -> None:
        self.detector = self.load()

    def process(self, batch: DecodedBatch) -> Iterator[DetectedBatch | TaggedOutput]:
        try:
            found = find_faces(self.detector, batch.pictures, self.min_face_px)
        except ItemError:
            # One bad picture fails its whole batch: look at each alone to find out which.
            found = []
            for picture in batch.pictures:
                try:
                    found += find_faces(self.detector, [picture], self.min_face_px)
                except ItemError as error:
                    yield from failed_picture(batch.shard, picture, "detect", error)
        yield DetectedBatch(batch.shard, tuple(found), batch.known_copies)


def pixel_faces(detected: Detected) -> tuple[NDArray[np.uint8], Faces]:
    """Return the decoded pixels and the faces in their coordinates."""
    return detected.picture.rgb, detected.faces.scaled(detected.picture.scale)
