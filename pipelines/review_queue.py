"""What waits for a person, told to a topic: a message for each annotation, of which a decision can be written.

Names are those of the review files of `pipelines.clean --needs-review` where those have one; see schemas/review-1.json.
"""

import json
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl

from pipelines.dataset import Dataset, Manifest
from pipelines.outbox import Letter
from schemas.messages import CONTENT_TYPE, CONTRACT_VERSION, VERSION_HEADER
from schemas.reasons import REVIEW, Rule, meanings
from schemas.tables import probability_columns
from transforms.edits import box_of, box_text
from transforms.kafka.address import is_kafka
from validation.frames import NORMALISED

REVIEW_TOPIC = "review"
"""Under what the topic stands in what an epoch publishes."""

REVIEW_BELOW = "review_below"
"""Under what the least confidence stands there that needs no person, as text. It is no topic."""

LOW_CONFIDENCE = "low_confidence"
"""The reason that is no rule."""

_HEADERS = ((CONTENT_TYPE, b"application/json"), (VERSION_HEADER, CONTRACT_VERSION.encode()))
_MOST_DETAIL = 1000
_MOST_CANDIDATES = 100

Row = Mapping[str, Any]


def topics_of(publishes: Mapping[str, str]) -> dict[str, str]:
    """Return the topics to which an epoch is told, by their purpose."""
    return {purpose: topic for purpose, topic in publishes.items() if purpose != REVIEW_BELOW}


def of_epoch(dataset: Dataset, manifest: Manifest, publishes: Mapping[str, str]) -> Iterator[Letter]:
    """Yield what waits in a commit, also what its model is less sure of than `publishes` says.

    It follows from the commit's own rows, whatever has been done to the data set since.
    """
    below = float(publishes.get(REVIEW_BELOW, 0))
    rows = Dataset.of(dataset.path, [manifest])
    yield from _letters(dataset, publishes[REVIEW_TOPIC], pl.concat([_held(rows), _unsure(rows, below)]), rows)


def of_ids(dataset: Dataset, manifests: list[Manifest], ids: Collection[str], topic: str) -> Iterator[Letter]:
    """Yield which of some annotations wait, by the rows of these commits alone."""
    rows = Dataset.of(dataset.path, manifests)
    yield from _letters(dataset, topic, _held(rows).filter(pl.col("id").is_in(list(ids))), rows)


def short(letter: Letter) -> Letter:
    """Return a letter that is too large for its topic without what may be long."""
    told = json.loads(letter.value or b"{}")
    return replace(letter, value=_json(told | {"source_uri": None, "candidates": [], "reason": told["reason"][:100]}))


def _held(rows: Dataset) -> pl.DataFrame:
    """Return the annotations that rules hold back for a person: id, image_id, row, why, candidates."""
    down = rows.scan("quarantine").filter(pl.col("kind") == "image").select(image_id="id")
    mine = (pl.col("kind") == "annotation") & pl.col("rule").is_in(REVIEW) & pl.col("held").is_not_null()
    return (
        rows.scan("quarantine")
        .filter(mine)
        .join(down, on="image_id", how="anti", maintain_order="left")
        .group_by("id", maintain_order=True)
        .agg(
            pl.col("image_id").first(),
            row=pl.col("held").first(),
            why=pl.struct("rule", detail=pl.col("detail").fill_null("")),
            candidates=pl.col("candidates").list.explode(keep_nulls=False).drop_nulls(),
        )
        .collect()
    )


def _unsure(rows: Dataset, below: float) -> pl.DataFrame:
    """Return the annotations of which the model is less sure than `below`, as `_held` does."""
    columns = pl.struct(pl.exclude("landmarks", "landmarks_68"))
    told = pl.format("the model's confidence {} is below {}", pl.col("confidence"), pl.lit(str(below)))
    return (
        rows.scan("annotations")
        .filter(pl.col("label").is_not_null() & (pl.col("confidence").cast(pl.Float64) < below))
        .select(
            "image_id",
            id="annotation_id",
            row=columns.struct.json_encode(),
            why=pl.concat_list(pl.struct(rule=pl.lit(LOW_CONFIDENCE), detail=told)),
            candidates=pl.lit([], dtype=pl.List(pl.String)),
        )
        .select("id", "image_id", "row", "why", "candidates")
        .collect()
    )


def _letters(dataset: Dataset, topic: str, waiting: pl.DataFrame, rows: Dataset) -> Iterator[Letter]:
    if not waiting.height:
        return
    streams = {number for number, name in dataset.roots.items() if is_kafka(name)}
    pictures = (
        rows.scan("images")
        .filter(pl.col("duplicate_of").is_null() & pl.col("image_id").is_in(waiting["image_id"].implode()))
        .select("image_id", "root", "file_name", "frame_index", "source_uri", "source_id", "timestamp_ms")
        .with_row_index("place")
        .collect()
    )
    columns = probability_columns(rows.labels)
    found = waiting.join(pictures, on="image_id").sort("place", "id")
    for each in found.iter_rows(named=True):
        told = _told(each, json.loads(each["row"]), columns, from_stream=each["root"] in streams)
        yield Letter(topic, each["id"].encode(), _json(told), _HEADERS)


def _told(found: Row, row: Row, columns: Sequence[str], *, from_stream: bool) -> dict[str, Any]:
    """Return the message about one annotation; `row` is what its table has of it."""
    sure = {column.removeprefix("p_"): _number(row[column]) for column in columns if row.get(column) is not None}
    ranked = sorted(sure, key=lambda label: -sure[label])
    named = list(dict.fromkeys(found["candidates"]))[:_MOST_CANDIDATES]
    shares = [_number(row.get(name)) for name in NORMALISED]
    return {
        "id": found["id"],
        "image_id": found["image_id"],
        "picture": found["file_name"],
        "frame": found["frame_index"],
        "source_uri": found["source_uri"],
        "source": _source(found, from_stream=from_stream),
        "timestamp_ms": found["timestamp_ms"],
        "box": json.loads(box_text(box_of(dict(row))) or "null"),
        "bbox": None if None in shares else shares,
        "label": row.get("label"),
        "confidence": _number(row.get("confidence")),
        "candidates": named or ranked,
        "probabilities": [{"label": label, "probability": sure[label]} for label in ranked],
        "reason": "; ".join(f"{why['rule']}: {why['detail']}"[:_MOST_DETAIL] for why in found["why"]),
        "why": [{"rule": why["rule"], "meaning": _meaning(why["rule"])} for why in found["why"]],
    }


def _source(found: Row, *, from_stream: bool) -> dict[str, Any]:
    """Return where the message stands, as results do; kcat -t TOPIC -p PARTITION -o OFFSET -c 1 shows it."""
    topic, partition, offset = found["file_name"].split("/")[:3] if from_stream else (None, None, None)
    place = {"topic": topic, "partition": partition and int(partition), "offset": offset and int(offset)}
    return place | {"id": found["source_id"]}


def _number(value: float | None) -> Any:
    """Return a float32 with the digits that it needs."""
    return None if value is None or not math.isfinite(value) else float(str(np.float32(value)))


def _meaning(rule: str) -> str:
    if rule == LOW_CONFIDENCE:
        return "The model is less sure than --review-below asks for."
    return meanings()[Rule(rule)]


def _json(told: Mapping[str, Any]) -> bytes:
    return json.dumps(told, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "backslashreplace")
