"""The data flow of `pipelines.annotate`: read `build()` from top to bottom."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import apache_beam as beam

from pipelines.configuration import Configuration
from pipelines.planning import Plan, items_of
from schemas.layout import shard_number
from schemas.records import Failure, PlannedItem
from schemas.tables import CROPS, TABLES, Tables
from transforms.align import Align
from transforms.batch import PlannedBatch
from transforms.clean import Clean
from transforms.decode import Decode, Room, reduce_to
from transforms.detect import Detect
from transforms.infer import Infer
from transforms.models.classifiers import Classifier
from transforms.models.detectors import Detector
from transforms.models.landmarks68 import Landmarker
from transforms.models.registry import shared_classifier, shared_detector, shared_landmarker
from transforms.models.runtime import resolve_device
from transforms.ready import TakeReady
from transforms.rows import failure_rows
from transforms.validate import Validate
from transforms.write import Write
from validation.terms import annotated

SHARD_ITEMS = 50_000
"""Items of a shard: with a face or two a picture this fills one row group of the size that readers like best."""


@dataclass(frozen=True)
class BatchSize:
    """At most `pictures` in a batch, and smaller ones rather than fewer than `batches` in a plan.

    The engine deals batches out to the workers before they start, so the last one to end waits for half a batch on
    average: few large batches cost a CPU 6 %, while a GPU needs them large.
    """

    pictures: int
    batches: int


CPU_BATCHES = BatchSize(64, 64)
GPU_BATCHES = BatchSize(512, 8)


@dataclass(frozen=True)
class Settings:
    """What the steps need to know: the configuration, where they run, and what the shards' footers say.

    `detector`, `classifier` and `landmarks` (null where the detector's five are enough) are names or paths of records:
    where to load what the configuration tells of. `root` is the data set; `labels` are the classifier's, in its own
    order. `known` is the path of the committed pictures among which near copies are looked for, null where they are
    not.
    """

    root: str
    device: str
    detector: str
    classifier: str
    landmarks: str | None
    configuration: Configuration
    labels: tuple[str, ...]
    batch: BatchSize
    room: Room
    known: str | None
    metadata: Mapping[str, Any]


def load_detector(settings: Settings) -> Detector:
    """Return this process's detector; the device is looked for where this is called, on the worker."""
    chosen = settings.configuration
    return shared_detector(
        settings.detector,
        resolve_device(settings.device),
        detect_size=chosen.detect_size,
        threshold=chosen.detect_threshold,
    )


def load_classifier(settings: Settings) -> Classifier:
    """Return this process's classifier."""
    return shared_classifier(settings.classifier, resolve_device(settings.device), tta=settings.configuration.tta)


def load_landmarker(settings: Settings) -> Landmarker | None:
    """Return this process's finder of 68 points, None where they are not wanted."""
    if settings.landmarks is None:
        return None
    return shared_landmarker(settings.landmarks, resolve_device(settings.device))


def batches(plan: Plan, wanted: BatchSize) -> list[PlannedBatch]:
    """Cut a plan into batches. The cut depends on the plan alone, never on the workers; copies stay together.

    A clip is a batch of its own; a video's clips share a shard, where they become one video again.
    """
    pictures = sum(item.clip is None for item in plan.items)
    size = max(4, min(wanted.pictures, pictures // wanted.batches))
    cut: list[PlannedBatch] = []
    for part, items in enumerate(_shards(plan.items), plan.first_part):
        shard = shard_number(plan.epoch, part)
        stills = tuple(item for item in items if item.clip is None)
        cut += [PlannedBatch(shard, stills[start : start + size]) for start in range(0, len(stills), size)]
        cut += [PlannedBatch(shard, (item,)) for item in items if item.clip is not None]
    return cut


def _shards(items: tuple[PlannedItem, ...]) -> Iterator[list[PlannedItem]]:
    """Yield the items of each shard."""
    shard: list[PlannedItem] = []
    size = 0
    for item in items:
        same_video = bool(shard) and item.clip is not None and shard[-1].ref.key == item.ref.key
        if size >= SHARD_ITEMS and not same_video:
            yield shard
            shard, size = [], 0
        shard.append(item)
        size += items_of(item)
    if shard:
        yield shard


def _failed_rows(failed: tuple[int, Failure], labels: tuple[str, ...]) -> tuple[int, Tables]:
    shard, failure = failed
    return shard, failure_rows(failure, labels)


def build(pipeline: beam.Pipeline, planned: Sequence[PlannedBatch] | None, settings: Settings) -> None:
    """Join the steps of one epoch: planned batches go in, Parquet shards under `settings.root` come out.

    Where `planned` is null they are those that lie ready in this process, see `transforms.ready`.
    """
    chosen = settings.configuration
    detector, classifier = partial(load_detector, settings), partial(load_classifier, settings)
    landmarker = partial(load_landmarker, settings)
    # Where each picture is one face, none is too small.
    min_face_px = 0 if chosen.detector.name == "none" else chosen.min_face
    near = settings.known is not None
    keep_side_px = reduce_to(chosen.detect_size, fingerprints=near)

    spread = (
        pipeline
        | "Plan" >> (TakeReady() if planned is None else beam.Create(planned, reshuffle=False))
        | "Spread over workers" >> beam.Reshuffle().with_output_types(PlannedBatch)
    )
    decoded = spread | "Decode" >> Decode(
        chosen.max_bytes, chosen.max_pixels, keep_side_px, chosen.frames, settings.room, near
    )
    detected = decoded.batches | "Detect" >> Detect(detector, min_face_px)
    aligned = detected.batches | "Align" >> Align(classifier, landmarker, chosen.crops)
    inferred = aligned | "Infer" >> Infer(classifier, landmarker)

    failures = (
        (decoded.failed, detected.failed, inferred.failed)
        | "Failures" >> beam.Flatten()
        | "Failures as rows" >> beam.Map(_failed_rows, settings.labels).with_output_types(tuple[int, Tables])
    )
    (
        (inferred.rows, failures)
        | "Rows" >> beam.Flatten()
        | "Clean" >> Clean(settings.known)
        | "Validate" >> Validate(annotated(chosen.vocabulary))
        | "Write" >> Write(settings.root, wanted_tables(chosen.crops), settings.metadata)
    )


def wanted_tables(crops: bool) -> tuple[str, ...]:
    """Return the tables that are written."""
    return (*TABLES, CROPS) if crops else TABLES
