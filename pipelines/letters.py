"""What an epoch tells Kafka, made of its own rows: a record for every item, and dead letters of those that failed."""

from collections.abc import Callable, Iterator, Mapping

import polars as pl

from pipelines.dataset import Dataset, Manifest
from pipelines.outbox import Letter
from schemas.messages import (
    CONTENT_TYPE,
    CONTRACT_VERSION,
    DEAD_ERROR,
    DEAD_MESSAGE,
    DEAD_SOURCE,
    DEAD_STEP,
    VERSION_HEADER,
)
from transforms.encoding import json_of
from transforms.jsonl import is_tellable, records
from transforms.messages import Record

_HEADERS = ((CONTENT_TYPE, b"application/json"), (VERSION_HEADER, CONTRACT_VERSION.encode()))


def results(dataset: Dataset, manifest: Manifest, topic: str) -> Iterator[Letter]:
    """Yield one record for every item of a commit, in order; those that failed have no labels and say why."""
    part = Dataset.of(dataset.path, [manifest]).part(manifest)  # also what a person has decided of since
    picture = {name: pl.col(name) for name in ("image_id", "file_name", "timestamp_ms", "outcome", "frame_index")}
    told = records(
        part.images,
        part.annotations.filter(is_tellable()),
        picture | {"pts_ms": pl.col("pts_ms"), "source": _source(pl.col("source_id")), "_key": pl.col("source_id")},
        has_frame=True,
    )
    yield from _letters(told, topic)
    failures = failed(dataset, manifest).select(
        image_id=pl.lit(None, pl.String),
        file_name="file_name",
        timestamp_ms=pl.lit(None, pl.Int64),
        outcome=pl.lit("failed"),
        error="error",
        message="message",
        source=_source(pl.lit(None, pl.String)),
        _key=pl.lit(None, pl.String),
        labels=pl.lit([], dtype=told.schema["labels"]),
    )
    yield from _letters(failures, topic)


def failed(dataset: Dataset, manifest: Manifest) -> pl.DataFrame:
    """Return the failures of a commit, in order."""
    return Dataset.of(dataset.path, [manifest]).scan("failures").collect()


def dead_letters(failures: pl.DataFrame, topic: str, message: Callable[[str], Record | None]) -> Iterator[Letter]:
    """Yield each failed message as it came, with headers that say why; `message` finds one by its place.

    One that the broker has deleted meanwhile is told without its value.
    """
    for row in failures.unique("file_name", maintain_order=True).iter_rows(named=True):
        place = "/".join(row["file_name"].split("/")[:3])
        record = message(place)
        why = {DEAD_ERROR: row["error"], DEAD_STEP: row["step"], DEAD_MESSAGE: row["message"], DEAD_SOURCE: place}
        headers = tuple((name, text.encode()) for name, text in why.items())
        if record is None:
            yield Letter(topic, place.encode(), None, headers)
        else:
            own = tuple((name, value) for name, value in record.headers if name not in why)
            yield Letter(topic, record.key, record.value, own + headers)


def _letters(told: pl.DataFrame, topic: str) -> Iterator[Letter]:
    if not told.height:
        return
    columns: Mapping[str, pl.Expr] = {name: pl.col(name) for name in told.columns if name != "_key"}
    texts = told.select(json_of(**columns)).to_series()
    for key, text in zip(told["_key"], texts, strict=True):
        yield Letter(topic, None if key is None else key.encode(), text.encode(), _HEADERS)


def _source(source_id: pl.Expr) -> pl.Expr:
    """Return where a message stood; its file name is topic/partition/offset."""
    parts = pl.col("file_name").str.split("/")
    return pl.struct(
        topic=parts.list.get(0),
        partition=parts.list.get(1).cast(pl.Int32),
        offset=parts.list.get(2).cast(pl.Int64),
        id=source_id,
    )
