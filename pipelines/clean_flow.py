"""The data flow of `pipelines.clean`: read `build()` from top to bottom."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apache_beam as beam

from pipelines.cleaning import CleanPlan, read_carried
from pipelines.survey import Survey
from schemas.layout import shard_number
from schemas.tables import TABLES, Tables
from transforms.clock import clocked
from transforms.tidy import Decided, tidy
from transforms.validate import Validate
from transforms.write import Write
from validation.own import Own
from validation.terms import Terms


@dataclass(frozen=True)
class Settings:
    """What the steps need to know.

    `root` is the data set, `survey` the staged inputs, `decided` and `terms` what they are brought and held to, `own` a
    person's own expectations; `metadata` is what the shards' footers say.
    """

    root: str
    survey: Survey
    decided: Decided
    terms: Terms
    own: Own | None
    metadata: Mapping[str, Any]


def tidy_part(numbered: tuple[int, int], settings: Settings) -> tuple[int, Tables]:
    """Return a shard's tables from the part that is staged for it."""
    shard, part = numbered
    survey = settings.survey
    with clocked("clean"):
        carried = read_carried(Path(survey.folder), part)
        return shard, tidy(survey.labels(part), survey.pictures(part), settings.decided, carried)


def build(pipeline: beam.Pipeline, plan: CleanPlan, settings: Settings) -> None:
    """Join the steps of one epoch: the parts that `plan` covers go in, Parquet shards come out."""
    parts = [(shard_number(plan.epoch, number), part) for number, part in enumerate(plan.parts, plan.first_part)]
    (
        pipeline
        | "Plan" >> beam.Create(parts, reshuffle=False)
        | "Spread over workers" >> beam.Reshuffle().with_output_types(tuple[int, int])
        | "Clean" >> beam.Map(tidy_part, settings).with_output_types(tuple[int, Tables])
        | "Validate" >> Validate(settings.terms, settings.own)
        | "Write" >> Write(settings.root, TABLES, settings.metadata)
    )
