"""Suspect labels: the model looks at every labelled face, and confident learning says which labels are doubtful."""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import apache_beam as beam
import numpy as np
import polars as pl

from pipelines.deciding import Ruling
from pipelines.survey import Survey
from transforms.conventions import to_pixels
from transforms.look import Limits
from transforms.models.classifiers import Classifier
from transforms.models.detectors import Detector
from transforms.models.registry import shared_classifier, shared_detector
from transforms.models.runtime import resolve_device
from transforms.second_opinion import OPINIONS, ClaimBatch, Claims, SecondOpinion
from transforms.staging import Staging, staged
from validation.suspects import positions, suspects

_TOGETHER = 32
"""Pictures of which the crops are classified together."""


@dataclass(frozen=True)
class Judge:
    """The models that give the second opinion: names or paths of records."""

    device: str
    detector: str
    classifier: str

    def load_detector(self) -> Detector:
        """Return this process's detector."""
        return shared_detector(self.detector, resolve_device(self.device), detect_size=640, threshold=None)

    def load_classifier(self) -> Classifier:
        """Return this process's classifier."""
        return shared_classifier(self.classifier, resolve_device(self.device), tta="none")


def claims(survey: Survey, ruling: Ruling, known: Sequence[str]) -> Iterator[ClaimBatch]:
    """Yield the labels that the model can judge, by picture: those that it knows, of pictures that are at hand."""
    for part in range(survey.parts):
        for batch in _batches(_judged(survey, ruling, known, part)):
            yield ClaimBatch(part, batch)


def _judged(survey: Survey, ruling: Ruling, known: Sequence[str], part: int) -> pl.DataFrame:
    """Return row, uri, label and x, y, w, h of a part's labels that can be judged."""
    seen = pl.col("uri").is_not_null() & pl.col("error").is_null() & pl.col("frame").is_null()
    pictures = survey.pictures(part).filter(seen).select("picture", "uri", "width", "height")
    labels = survey.labels(part).drop("row", "width", "height").with_row_index("row").join(pictures, on="picture")
    frames = [
        pl.DataFrame(
            schema={"row": pl.UInt32, "uri": pl.String, "label": pl.String, **dict.fromkeys("xywh", pl.Float64)}
        )
    ]
    for (source,), rows in labels.partition_by("source", as_dict=True).items():
        word = ruling.decided.sources[int(source)]
        names = {label: found.label for label, found in word.repairs.items()}
        meant = rows.with_columns(pl.col("label").replace_strict(names, default=None, return_dtype=pl.String))
        frames.append(to_pixels(meant, word.convention).select("row", "uri", "label", *"xywh"))
    return pl.concat(frames).filter(pl.col("label").is_in(known)).sort("row")


def _batches(rows: pl.DataFrame) -> Iterator[tuple[Claims, ...]]:
    grouped = rows.group_by("uri", maintain_order=True).agg(
        "row", box=pl.when(pl.col("x").is_not_null()).then(pl.concat_list("x", "y", "w", "h"))
    )
    pictures = [
        Claims(uri, tuple(own), tuple(None if box is None else tuple(box) for box in boxes))
        for uri, own, boxes in grouped.iter_rows()
    ]
    for start in range(0, len(pictures), _TOGETHER):
        yield tuple(pictures[start : start + _TOGETHER])


def _keep(grouped: tuple[int, Iterable[pl.DataFrame]], folder: str) -> int:
    part, frames = grouped
    with Staging(Path(folder), "opinions", OPINIONS, 1) as staging:
        staging.put(part, pl.concat(frames).sort("row"))
    return part


def build_opinions(
    pipeline: beam.Pipeline, asked: Sequence[ClaimBatch], folder: Path, judge: Judge, limits: Limits
) -> None:
    """Join the steps of the second opinion: labelled pictures go in, one staged frame a part comes out."""
    (
        pipeline
        | "Claims" >> beam.Create(asked, reshuffle=False)
        | "Spread over workers" >> beam.Reshuffle().with_output_types(ClaimBatch)
        | "Second opinion" >> SecondOpinion(judge.load_detector, judge.load_classifier, limits)
        | "Keep" >> beam.Map(partial(_keep, folder=os.fspath(folder)))
    )


def mark_suspects(survey: Survey, ruling: Ruling, labels: Sequence[str]) -> int:
    """Mark the rows that are probably wrong by the opinions on all; `labels` are the classifier's. Return how many."""
    frames = []
    for part in range(survey.parts):
        told = _judged(survey, ruling, labels, part).select("row", "label")
        opinions = staged(survey.folder, "opinions", part, OPINIONS).join(told, on="row")
        frames.append(opinions.with_columns(part=pl.lit(part, pl.UInt32)))
    every = pl.concat(frames)
    if not every.height:
        return 0
    chances = np.array(every["chances"].to_list(), np.float32)
    given = positions(every["label"].to_list(), labels)
    found = suspects(given, chances)
    doubted = (
        every[found.rows]
        .select("part", "row")
        .with_columns(
            seen=pl.Series([labels[at] for at in found.seen], dtype=pl.String),
            seen_chance=pl.Series(chances[found.rows, found.seen], dtype=pl.Float32),
            given_chance=pl.Series(chances[found.rows, given[found.rows]], dtype=pl.Float32),
        )
    )
    for (part,), own in doubted.partition_by("part", as_dict=True, include_key=False).items():
        told = survey.labels(int(part)).drop("seen", "seen_chance", "given_chance").with_row_index("_at")
        marked = told.join(own.rename({"row": "_at"}), on="_at", how="left", maintain_order="left").drop("_at")
        survey.replace(int(part), marked, survey.pictures(int(part)))
    return doubted.height
