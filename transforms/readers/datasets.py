"""A data set of ours: what its manifests list and no later one took back."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

import polars as pl

from schemas.errors import ItemError, UsageError
from schemas.layout import MANIFESTS
from schemas.raw import CHUNK_ROWS, RAW, Facts, Source
from schemas.reasons import Outcome
from transforms.encoding import given, json_of
from transforms.manifests import read_standing
from transforms.places import Place, place
from transforms.readers.rows import Options, json_object
from transforms.shards import scan_shards
from transforms.storage import printable, read_bytes

MAX_MANIFEST_BYTES = 256 * 2**20
"""Largest manifest that is read: it lists the keys that it takes back, 100 bytes each."""

_IMAGES: dict[str, pl.DataType] = {
    **{name: pl.String() for name in ("image_id", "item_key", "file_name", "source_uri", "outcome")},
    **{name: pl.Int32() for name in ("width", "height", "frame_index")},
    "pts_ms": pl.Float64(),
    "row": pl.Int64(),
}
_ANNOTATIONS: dict[str, pl.DataType] = {
    **{name: pl.String() for name in ("image_id", "item_key", "label", "attributes")},
    **{name: pl.Float64() for name in ("bbox_x", "bbox_y", "bbox_w", "bbox_h")},
    "confidence": pl.Float32(),
    **{name: pl.String() for name in ("annotation_id", "origin", "model")},
    "detection_score": pl.Float32(),
    "landmarks": pl.List(pl.Float32()),
    "row": pl.Int64(),
}
_KEPT = ("annotation_id", "origin", "model", "detection_score", "landmarks")
"""The columns of annotations that go to attributes."""

_RENAMED = {"bbox_x": "a", "bbox_y": "b", "bbox_w": "c", "bbox_h": "d", "frame_index": "frame"}


def is_one(head: bytes, name: str) -> bool:
    """Say whether this is Parquet; a data set is its whole folder, see `is_dataset`."""
    return head.startswith(b"PAR1")


def is_dataset(folder: str) -> bool:
    """Say whether a folder is a data set of ours."""
    return (place(folder) / MANIFESTS).is_dir()


def source_of(folder: str, name: str) -> Source:
    """Return the data set in `folder` as a source; its files are those of its annotations and images."""
    names = [
        path for _, told in _manifests(folder) for table in ("annotations", "images") for path in _paths(told, table)
    ]
    return Source("parquet", name, folder, tuple(str(place(folder) / path) for path in names), tuple(names))


def read(source: Source, facts: Facts, options: Options) -> Iterator[pl.DataFrame]:
    """Return a row an annotation that stands, and one for each picture in which none was found.

    Duplicates and quarantined pictures have no labels of their own, and no rows. Pictures are named relative to their
    input; where the data set has several inputs, as the user named them, because names may repeat.
    """
    facts.corners, facts.unit = "xywh", "pixels"
    manifests = _manifests(source.where)
    taken = {key: epoch for epoch, told in manifests for key in told.get("supersedes", ())}
    roots = {root["number"] for _, told in manifests for root in told.get("roots", ())}
    name = "source_uri" if len(roots) > 1 else "file_name"
    for epoch, told in manifests:
        back = pl.Series([key for key, last in taken.items() if last > epoch], dtype=pl.String)
        for shard in _shards(told):
            tables = {path: _standing(_table(source, path, _IMAGES), back) for path in shard["images"]}
            pictures = pl.concat([pl.DataFrame(schema=_IMAGES), *tables.values()]).with_columns(picture=pl.col(name))
            for path in shard["annotations"]:
                rows = _standing(_table(source, path, _ANNOTATIONS), back)
                rows = rows.join(pictures.drop("row", "item_key"), on="image_id", maintain_order="left")
                yield from _shaped(rows.with_columns(is_label=True, attributes=_attributes()), path)
            for path, images in tables.items():
                empty = images.filter(pl.col("outcome") == Outcome.NO_FACE.value)
                yield from _shaped(empty.with_columns(is_label=False, picture=pl.col(name)), path)


def _shards(told: Mapping[str, Any]) -> Iterator[Mapping[str, Sequence[str]]]:
    """Yield the files of each shard, in order: an annotation stands in the shard of its picture."""
    paths = {table: _paths(told, table) for table in ("images", "annotations")}
    for name in dict.fromkeys(PurePosixPath(path).name for some in paths.values() for path in some):
        yield {table: [path for path in some if PurePosixPath(path).name == name] for table, some in paths.items()}


def _attributes() -> pl.Expr:
    """Return what our tables have and raw rows have not, and what was kept before, as one JSON object."""
    own = [pl.when(pl.col(name).is_not_null()).then(_members(json_of(**{name: pl.col(name)}))) for name in _KEPT]
    told = pl.col("attributes")
    clashes = told.str.contains(rf'"({"|".join(_KEPT)})"') | ~told.str.contains(r"(?s)^\{.*\}$")
    before = pl.when(clashes).then(told.map_elements(_given, return_dtype=pl.String)).otherwise(told)
    before = _members(before)
    return "{" + pl.concat_str(*own, pl.when(before != "").then(before), separator=",", ignore_nulls=True) + "}"


def _members(told: pl.Expr) -> pl.Expr:
    """Return a JSON object's members without its braces."""
    return told.str.strip_prefix("{").str.strip_suffix("}")


def _given(told: str) -> str:
    return json_object(given(told, _KEPT)) or "{}"


def _shaped(rows: pl.DataFrame, path: str) -> Iterator[pl.DataFrame]:
    named = rows.rename(_RENAMED, strict=False).with_columns(file=pl.lit(path))
    shaped = named.select(
        (pl.col(name) if name in named.columns else pl.lit(None)).cast(kind).alias(name) for name, kind in RAW.items()
    )
    yield from shaped.iter_slices(CHUNK_ROWS)


def _manifests(folder: str) -> list[tuple[int, Mapping[str, Any]]]:
    """Return each commit's epoch and what it tells, in order. Raises UsageError."""
    return read_standing(folder, _manifest)


def _manifest(path: Place) -> Mapping[str, Any]:
    try:
        return dict(json.loads(read_bytes(str(path), MAX_MANIFEST_BYTES)))
    except (ItemError, ValueError, TypeError) as error:
        raise UsageError(
            f"{printable(str(path))} is no manifest of a data set ({error}): restore it from a copy."
        ) from None


def _paths(told: Mapping[str, Any], table: str) -> list[str]:
    """Return a table's files, relative to the data set. Raises UsageError for one outside of it."""
    try:
        paths = [str(file["path"]) for file in told["tables"].get(table, ())]
    except (KeyError, TypeError, AttributeError):
        raise UsageError(f"A manifest lists no files of {table}: restore it from a copy of the data set.") from None
    for path in paths:
        if PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts:
            raise UsageError(f"A manifest lists {printable(path)}, which lies outside of its data set.")
    return paths


def _table(source: Source, path: str, wanted: Mapping[str, pl.DataType]) -> pl.DataFrame:
    """Return one file's columns, null where it was made without, and `row`, the number of each row."""
    file = str(place(source.where) / path)
    try:
        rows = scan_shards([file])
        known = rows.collect_schema()
        columns = (pl.col(name) if name in known else pl.lit(None).alias(name) for name in wanted if name != "row")
        lists = [name for name, kind in known.items() if name in wanted and isinstance(kind, pl.Array)]  # before 0.3
        return (
            rows.select(columns)
            .with_row_index("row")
            .with_columns(pl.col(lists).arr.to_list())
            .cast(pl.Schema(wanted))
            .select(*wanted)
            .collect()
        )
    except (OSError, pl.exceptions.PolarsError) as error:
        reason = str(error).partition("\n")[0][:200]
        raise UsageError(f"{printable(file)} cannot be read ({reason}): restore it from a copy.") from None


def _standing(rows: pl.DataFrame, back: pl.Series) -> pl.DataFrame:
    return rows.filter(~pl.col("item_key").is_in(back.implode())) if len(back) else rows
