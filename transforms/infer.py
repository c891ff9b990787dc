"""Infer: crops of many pictures -> expression probabilities, and 68 points where they are wanted -> small rows."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import apache_beam as beam
import numpy as np
from apache_beam.pvalue import PCollection, TaggedOutput
from numpy.typing import NDArray

from schemas.errors import ItemError
from schemas.records import Failure
from schemas.tables import Tables
from transforms.align import ClassifierLoader, LandmarkerLoader
from transforms.batch import Aligned, AlignedBatch
from transforms.clock import clocked
from transforms.decode import failed_picture
from transforms.models.classifiers import Classifier
from transforms.models.landmarks68 import Landmarker, joined
from transforms.rows import batch_rows
from transforms.stopping import tick


def classify(classifier: Classifier, pictures: Sequence[Aligned]) -> list[NDArray[np.float32]]:
    """Return the probabilities (n, k) of each picture's faces; the crops of all pictures share the model's batches."""
    pooled = np.concatenate([picture.crops for picture in pictures])
    ends = np.cumsum([len(picture.crops) for picture in pictures])
    with clocked("infer"):
        return np.split(classifier.classify(pooled), ends[:-1])


def locate(landmarker: Landmarker, pictures: Sequence[Aligned]) -> list[NDArray[np.float32]]:
    """Return the points (n, 68, 2) of each picture's faces, in pixels of the full picture."""
    ends = np.cumsum([len(picture.faces) for picture in pictures])
    with clocked("infer"):
        crops = np.concatenate([picture.landmark_crops for picture in pictures])
        points = np.split(landmarker.locate_in(crops, joined([picture.seen for picture in pictures])), ends[:-1])
    return [found / np.float32(picture.scale) for found, picture in zip(points, pictures, strict=True)]


@dataclass
class Infer(beam.PTransform):
    """Label the crops; outputs `rows`, the pictures' and faces' small rows by shard, and `failed`."""

    load: ClassifierLoader
    load_landmarker: LandmarkerLoader

    def expand(self, aligned: PCollection[AlignedBatch]) -> beam.pvalue.DoOutputsTuple:
        """Return the named outputs `rows` and `failed`."""
        infer = beam.ParDo(_InferBatches(self))
        typed = infer.with_output_types(tuple[int, Tables], failed=tuple[int, Failure])
        return aligned | "Label crops" >> typed.with_outputs("failed", main="rows")


class _InferBatches(beam.DoFn):
    def __init__(self, wanted: Infer) -> None:
        self.load = wanted.load
        self.load_landmarker = wanted.load_landmarker

    def setup(self) -> None:
        self.classifier = self.load()
        self.landmarker = self.load_landmarker()

    def process(self, batch: AlignedBatch) -> Iterator[tuple[int, Tables] | TaggedOutput]:
        pictures = batch.pictures
        try:
            probabilities = classify(self.classifier, pictures) if pictures else []
        except ItemError:
            pictures, probabilities = (), []
            for picture in batch.pictures:
                try:
                    probabilities += classify(self.classifier, [picture])
                    pictures += (picture,)
                except ItemError as error:
                    yield from failed_picture(batch.shard, picture, "infer", error)
        tick(sum(len(one.item.refs()) for one in pictures) + len(batch.known_copies))
        points = locate(self.landmarker, pictures) if self.landmarker and pictures else [None] * len(pictures)
        yield batch.shard, batch_rows(pictures, probabilities, points, batch.known_copies, self.classifier)
