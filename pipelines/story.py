"""The story of one item: when it was planned and committed, what became of it, and what stood in its place before."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from pipelines.dataset import Dataset, Manifest
from pipelines.state import VERSION, Place, Status, committed_at, offsets_of, refs_of, stamp, started
from schemas.errors import UsageError
from schemas.layout import PLANS, SHARD_NAME, STREAM, epoch_file, epochs_of
from schemas.reasons import Outcome
from schemas.tables import schema
from transforms.shards import scan_shards
from transforms.storage import printable

MOST_ROWS = 1000
"""Rows of one item, of a long video's frames, that are told."""

_MOST_NAMES = 1_000_000
_MESSAGE = re.compile(r"(?P<topic>[A-Za-z0-9._-]{1,249})/(?P<partition>\d{1,9})/(?P<offset>\d{1,18})(/\d+)?")


_IMAGE = (
    *("image_id", "item_key", "root", "file_name", "source_uri", "sha256", "width", "height", "source_id"),
    *("timestamp_ms", "video_id", "frame_index", "pts_ms", "outcome", "duplicate_of"),
)
_FAILURE = ("item_key", "root", "file_name", "source_uri", "step", "error", "message", "attempts")
_LABEL = (
    *("image_id", "item_key", "rank", "label", "confidence", "origin", "bbox_x", "bbox_y", "bbox_w", "bbox_h"),
    *("detection_score", "model", "source"),
)
_CHANGE = (
    *("image_id", "item_key", "kind", "id", "field", "before", "after", "rule", "confidence", "reviewer"),
    "decided_at",
)
_HELD = ("image_id", "item_key", "file_name", "kind", "id", "rule", "field", "value", "candidates", "detail")


def every_row(dataset: Dataset, table: str, columns: Sequence[str], where: pl.Expr) -> pl.DataFrame:
    """Return rows of a table, those too that a later commit took back.

    `_epoch` is the commit that lists a row, `_first` and `_last` the epochs that its file is of.
    """
    listed = {str(dataset.path / path): one.epoch for one in dataset.manifests for path in one.paths(table)}
    known = pl.Schema(schema(table, dataset.labels))
    wanted = pl.Schema({name: known[name] for name in columns})
    extra = {"_epoch": pl.Int64(), "_first": pl.Int64(), "_last": pl.Int64()}
    if not listed:
        return pl.DataFrame(schema={**wanted, **extra})
    rows = scan_shards(
        list(listed), "_path", schema=wanted, missing_columns="insert", extra_columns="ignore"
    ).with_columns(pl.col(pl.Categorical, pl.Enum).cast(pl.String))
    found = rows.filter(where).collect()
    spans = [epochs_of(path.rpartition("/")[2], SHARD_NAME) or (listed[path],) * 2 for path in found["_path"]]
    epochs = pl.DataFrame(
        [(listed[path], *span) for path, span in zip(found["_path"], spans, strict=True)], extra, orient="row"
    )
    return pl.concat([found.drop("_path"), epochs], how="horizontal")


def story(status: Status, name: str) -> dict[str, Any]:
    """Return the story of an item as JSON values; raise UsageError, with the nearest names, where there is none."""
    dataset = status.dataset
    rows = _rows_of(dataset, name)
    planned = [ref for ref in refs_of(status.plan) if _is_called(ref["file_name"], ref["uri"], ref["key"], name)]
    message = _MESSAGE.fullmatch(name) if status.stream is not None else None
    told: dict[str, Any] = {"version": VERSION, "item": printable(name), "rows": [], "rows_left_off": 0}
    if planned:
        assert status.plan is not None
        told |= {"state": "in progress", "epoch": status.plan.epoch, "since": stamp(status.plan.since)}
    elif any(row["stands"] for row in rows):
        told["state"] = "failed" if all("error" in row for row in rows if row["stands"]) else "done"
    elif message is not None and not rows:
        told |= _of_message((message["topic"], int(message["partition"])), int(message["offset"]), status)
    elif (left := _pending(status, name)) is not None:
        told |= {"state": "pending", **left}
    elif rows:
        told["state"] = "superseded"
    if "state" not in told:
        raise UsageError(f"{printable(str(dataset.path))} has no item {printable(name)!r}{_near(status, name)}")
    return told | {"rows": _whole_rows(status, rows[:MOST_ROWS]), "rows_left_off": max(0, len(rows) - MOST_ROWS)}


def _is_called(file_name: str, uri: str, key: str, name: str) -> bool:
    return name in (file_name, uri) or (_is_prefix(name) and key.startswith(name))


def _is_prefix(name: str) -> bool:
    """Tell whether a name may be the beginning of an item's key or id."""
    return re.fullmatch(r"[0-9a-f]{8,64}", name) is not None


def _rows_of(dataset: Dataset, name: str) -> list[dict[str, Any]]:
    """Return the rows of the items of this name in all their versions, those that stand last."""
    shown = printable(name)
    own = pl.col("file_name") == shown
    if _MESSAGE.fullmatch(shown):
        own |= pl.col("file_name").str.starts_with(shown + "/") & pl.col("file_name").str.contains(r"/\d+/\d+/\d+$")
    uri, key = pl.col("source_uri") == shown, pl.col("item_key").str.starts_with(shown)
    ids = pl.col("image_id").str.starts_with(shown) | (pl.col("video_id") == shown)
    hexed = _is_prefix(shown)
    images = every_row(dataset, "images", _IMAGE, own | uri | key | ids if hexed else own | uri)
    failures = every_row(dataset, "failures", _FAILURE, own | uri | key if hexed else own | uri)
    if hexed and images.height:  # what stood under the same name before, with other bytes
        names = images.select("root", "file_name", "frame_index").unique()
        older = every_row(dataset, "images", _IMAGE, pl.col("file_name").is_in(names["file_name"].implode()))
        images = older.join(names, on=["root", "file_name", "frame_index"], how="semi", nulls_equal=True)
    held = pl.DataFrame(schema={"item_key": pl.String})
    if not images.height and not failures.height:
        held = every_row(dataset, "quarantine", _HELD, own | (key if hexed else pl.lit(value=False)))
        held = held.unique(["item_key", "_epoch"], maintain_order=True).with_columns(outcome=pl.lit("held back"))
        held = held.select("item_key", "image_id", "file_name", "outcome", "_epoch", "_first", "_last")
    rows = [row for frame in (images, failures, held) for row in frame.iter_rows(named=True)]
    taken = dataset.taken_back
    for row in rows:
        row["stands"] = row["_epoch"] >= taken.get(row["item_key"], 0)
    return sorted(rows, key=lambda row: (row["stands"], row["_epoch"], row["file_name"], row.get("frame_index") or 0))


def _whole_rows(status: Status, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows with what belongs to each: labels, rules, copies, times, and whether Kafka has the result."""
    if not rows:
        return []
    dataset = status.dataset
    keys = pl.col("item_key").is_in(list({row["item_key"] for row in rows}))
    mine = {
        "labels": _grouped(every_row(dataset, "annotations", _LABEL, keys).sort("_epoch", "rank")),
        "changes": _grouped(every_row(dataset, "changes", _CHANGE, keys)),
        "held": _grouped(every_row(dataset, "quarantine", _HELD, keys)),
    }
    ids = {row.get("image_id"): row.get("video_id") for row in rows}
    wanted = [each for each in {*ids, *ids.values()} if each]
    copies = dataset.scan("images").filter(pl.col("duplicate_of").is_in(wanted))
    copied: dict[str, list[str]] = {}
    for of, file_name in copies.select("duplicate_of", "file_name").head(MOST_ROWS).collect().iter_rows():
        copied.setdefault(of, []).append(file_name)
    return [_whole_row(status, row, mine, copied) for row in rows]


def _grouped(rows: pl.DataFrame) -> dict[tuple[Any, ...], list[dict[str, Any]]]:
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in rows.iter_rows(named=True):
        groups.setdefault((row["item_key"], row["_epoch"], row["image_id"]), []).append(row)
    return groups


_INNER = {"item_key", "image_id", "root", "file_name", "_epoch", "_first", "_last"}


def _whole_row(
    status: Status,
    row: Mapping[str, Any],
    mine: Mapping[str, Mapping[tuple[Any, ...], list[dict[str, Any]]]],
    copied: Mapping[str, list[str]],
) -> dict[str, Any]:
    commit = next(one for one in status.dataset.manifests if one.epoch == row["_epoch"])
    at = (row["item_key"], row["_epoch"], row.get("image_id"))
    told = {name: value for name, value in row.items() if not name.startswith("_")}
    if "error" in row:
        told["outcome"] = str(Outcome.FAILED)
    told["epochs"] = [row["_first"], row["_last"]]
    told["planned_at"] = _planned_at(status.dataset, row["_first"]) if row["_first"] == row["_last"] else None
    told["committed_at"] = stamp(committed_at(commit))
    for name in ("labels", "changes", "held"):
        rows = [*mine[name].get(at, ()), *(mine[name].get((*at[:2], None), ()) if at[2] is not None else ())]
        told[name] = [_plain(each) for each in rows]
    told["duplicates"] = copied.get(row.get("video_id") or row.get("image_id") or "", [])
    told["result_in_kafka"] = _is_published(status, commit, row["_first"])
    return told


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row of labels, changes or quarantine as JSON values; the box as one list."""
    told = {name: value for name, value in row.items() if name not in _INNER}
    if "bbox_x" in told:
        box = [told.pop(name) for name in ("bbox_x", "bbox_y", "bbox_w", "bbox_h")]
        told["box"] = None if None in box else box
    if told.get("decided_at") is not None:
        told["decided_at"] = told["decided_at"].isoformat()
    return {name: None if isinstance(value, float) and value != value else value for name, value in told.items()}


def _planned_at(dataset: Dataset, epoch: int) -> str | None:
    try:
        return stamp((dataset.path / epoch_file(PLANS, epoch)).stat().st_mtime)
    except OSError:
        return None


def _is_published(status: Status, commit: Manifest, epoch: int) -> bool | None:
    asked = "results" in commit.told.get(STREAM, {}).get("publishes", {})
    published = status.stream.published if status.stream else None
    return None if published is None or not asked else epoch <= published


def _of_message(place: Place, offset: int, status: Status) -> dict[str, Any]:
    """Return what became of a message that is in no table; nothing for one of a topic that is not read."""
    stream = status.stream
    assert stream is not None
    partition = next((one for one in stream.partitions if (one.topic, one.partition) == place), None)
    if partition is None:
        return {}
    if offset < partition.next:
        gaps = [gap for one in status.dataset.manifests for gap in one.told.get(STREAM, {}).get("gaps", ())]
        start = offsets_of((started(status.dataset) or {}).get("next", {})).get(place, 0)
        if any((gap["topic"], gap["partition"]) == place and gap["start"] <= offset < gap["until"] for gap in gaps):
            return {"state": "lost", "why": "the broker had deleted it before it was read"}
        if offset < start:
            return {"state": "not read", "why": f"the data set begins with offset {start}"}
        return {"state": "no message", "why": "no message has this offset: it is of a transaction, or was compacted"}
    if offset < partition.planned:
        assert status.plan is not None
        return {"state": "in progress", "epoch": status.plan.epoch, "since": stamp(status.plan.since)}
    if partition.end is None:
        return {"state": "not read", "why": f"whether it is there is unknown: {stream.why}"}
    if offset < partition.planned + partition.losing:
        return {"state": "lost", "why": "the broker has deleted it before it was read"}
    return {"state": "pending", "offsets_before": offset - partition.planned} if offset < partition.end else {}


def _pending(status: Status, name: str) -> dict[str, Any] | None:
    if status.files_pending is None:
        return None
    shown = printable(name)
    found = status.files_pending.filter((pl.col("file_name") == shown) | (pl.col("uri") == shown))
    return {"uri": found["uri"][0], "size_bytes": found["size"][0]} if found.height else None


def _near(status: Status, name: str) -> str:
    """Return the names most like this one, as the end of a sentence."""
    from rapidfuzz import fuzz, process

    if status.stream is not None and (found := _MESSAGE.fullmatch(name)):
        for one in status.stream.partitions:
            if (one.topic, one.partition) == (found["topic"], int(found["partition"])):
                return f": the topic's partition has the offsets up to {(one.end or one.next) - 1}"
    tables = [status.dataset.scan(table).select("file_name") for table in ("images", "failures")]
    names = pl.concat(tables).unique(maintain_order=True).head(_MOST_NAMES).collect()["file_name"]
    if status.files_pending is not None:
        names = pl.concat([names, status.files_pending["file_name"].head(_MOST_NAMES)])
    near = [each[0] for each in process.extract(printable(name), names.to_list(), scorer=fuzz.WRatio, limit=3)]
    return f"; the nearest are {', '.join(near)}" if near else ""
