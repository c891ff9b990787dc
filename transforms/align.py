"""Align: face -> crop by the classifier's own contract, and by that of the landmarks' net where they are wanted."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import apache_beam as beam
import cv2
import numpy as np
from apache_beam.pvalue import PCollection
from numpy.typing import NDArray

from schemas.records import Faces
from transforms.batch import Aligned, AlignedBatch, Detected, DetectedBatch
from transforms.clock import clocked
from transforms.detect import pixel_faces
from transforms.models.classifiers import Classifier
from transforms.models.landmarks68 import Landmarker

ClassifierLoader = Callable[[], Classifier]
"""Loads, on the worker, the one classifier of this process."""

LandmarkerLoader = Callable[[], Landmarker | None]
"""Loads, on the worker, what finds 68 points; gives None where they are not wanted."""

KEEPSAKE_MARGIN = 0.3
"""Share of the box's size that a stored crop shows around the face: enough for a person to judge the expression."""

KEEPSAKE_SIDE_PX = 224
"""Longest side of a stored crop."""


def keepsake(rgb: NDArray[np.uint8], box: NDArray[np.float32]) -> bytes:
    """Return the face with a margin as a JPEG file, at most `KEEPSAKE_SIDE_PX` px; `box` is x, y, w, h in pixels."""
    x, y, w, h = (float(v) for v in box)
    side = max(w, h) * (1 + 2 * KEEPSAKE_MARGIN)
    height, width = rgb.shape[:2]
    left, right = (min(max(0, int(x + w / 2 + half)), width - 1) for half in (-side / 2, side / 2))
    top, bottom = (min(max(0, int(y + h / 2 + half)), height - 1) for half in (-side / 2, side / 2))
    crop = rgb[top : bottom + 1, left : right + 1]
    shrink = KEEPSAKE_SIDE_PX / max(crop.shape[:2])
    if shrink < 1:
        crop = cv2.resize(crop, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA)
    _, jpeg = cv2.imencode(".jpg", cv2.cvtColor(crop, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 95])
    return jpeg.tobytes()


def align(detected: Detected, classifier: Classifier, landmarker: Landmarker | None, keep_crops: bool) -> Aligned:
    """Return the picture's crops; its own pixels are let go."""
    rgb, faces = pixel_faces(detected)
    picture = detected.picture
    return Aligned(
        item=picture.item,
        moment=picture.moment,
        sha256=picture.sha256,
        width=picture.width,
        height=picture.height,
        faces=detected.faces,
        small=detected.small,
        crops=classifier.crop(rgb, faces),
        seen=faces,
        scale=picture.scale,
        landmark_crops=landmarker.crop(rgb, faces) if landmarker else np.zeros((0, 0, 0, 3), np.uint8),
        keepsakes=_keepsakes(rgb, faces) if keep_crops else (),
        fingerprint=picture.fingerprint,
    )


def _keepsakes(rgb: NDArray[np.uint8], faces: Faces) -> tuple[bytes, ...]:
    return tuple(keepsake(rgb, box) for box in faces.boxes)


@dataclass
class Align(beam.PTransform):
    """Cut each face's crop as the classifier wants it."""

    load: ClassifierLoader
    load_landmarker: LandmarkerLoader
    keep_crops: bool

    def expand(self, detected: PCollection[DetectedBatch]) -> PCollection[AlignedBatch]:
        """Return the batches with crops in the place of pictures."""
        return detected | "Cut crops" >> beam.ParDo(_AlignBatches(self))


class _AlignBatches(beam.DoFn):
    def __init__(self, wanted: Align) -> None:
        self.load = wanted.load
        self.load_landmarker = wanted.load_landmarker
        self.keep_crops = wanted.keep_crops

    def setup(self) -> None:
        self.classifier = self.load()
        self.landmarker = self.load_landmarker()

    def process(self, batch: DetectedBatch) -> Iterator[AlignedBatch]:
        with clocked("align"):
            pictures = tuple(
                align(picture, self.classifier, self.landmarker, self.keep_crops) for picture in batch.pictures
            )
        yield AlignedBatch(batch.shard, pictures, batch.known_copies)
