"""The Arrow schemas of the tables, and how they are written as Parquet.

Null means "not computed", never -1. Boxes are absolute pixels after EXIF orientation, origin top-left.
`item_key` recognises the planned file that a row came from: a later manifest takes rows back by it.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from schemas.vocabulary import label_order

SCHEMA_VERSION = "3"
"""Changes with every change of a table or of what a value means."""

ROW_GROUP_ROWS = 100_000
"""Rows of a Parquet row group: within the 50k-130k that readers like best."""

_DICTIONARY = pa.dictionary(pa.int32(), pa.string())

_IMAGES = [
    ("image_id", pa.string()),
    ("item_key", pa.string()),
    ("root", pa.int32()),
    ("file_name", pa.string()),
    ("source_uri", pa.string()),
    ("sha256", pa.string()),
    ("size_bytes", pa.int64()),
    ("width", pa.int32()),
    ("height", pa.int32()),
    ("source_id", pa.string()),
    ("timestamp_ms", pa.int64()),
    ("video_id", pa.string()),
    ("frame_index", pa.int32()),
    ("pts_ms", pa.float64()),
    ("outcome", _DICTIONARY),
    ("duplicate_of", pa.string()),
    ("annotations", pa.int32()),
    ("small_faces", pa.int32()),  # found, but under --min-face
    ("fingerprint", pa.binary()),  # what near duplicates are found by, see transforms.fingerprint
    ("inputs", pa.list_(pa.string())),  # what each source of labels said of it, as source:digest
]

_ANNOTATIONS = [
    ("annotation_id", pa.string()),
    ("image_id", pa.string()),
    ("item_key", pa.string()),
    ("rank", pa.int32()),
    ("origin", _DICTIONARY),
    ("bbox_x", pa.float32()),
    ("bbox_y", pa.float32()),
    ("bbox_w", pa.float32()),
    ("bbox_h", pa.float32()),
    ("cx", pa.float32()),
    ("cy", pa.float32()),
    ("w", pa.float32()),
    ("h", pa.float32()),
    ("detection_score", pa.float32()),
    # 5 x 2 and 68 x 2: x then y. Of no fixed length, because pyarrow 25 writes lists of a fixed length with nulls among
    # them, but cannot read them.
    ("landmarks", pa.list_(pa.float32())),
    ("landmarks_68", pa.list_(pa.float32())),
    ("face_scale", pa.float32()),  # distance of the eyes, in pixels
    ("face_rotation", pa.float32()),  # in the picture's plane, degrees, clockwise
    ("yaw", pa.float32()),
    ("pitch", pa.float32()),
    ("roll", pa.float32()),
    ("label", _DICTIONARY),
    ("confidence", pa.float32()),
    ("brightness", pa.float32()),
    ("contrast", pa.float32()),
    ("sharpness", pa.float32()),
    ("model", _DICTIONARY),
    ("attributes", pa.string()),
    ("source", _DICTIONARY),  # the label file, or folder of them, that it came from; null for a model's
]

_QUARANTINE = [
    ("kind", _DICTIONARY),
    ("id", pa.string()),
    ("image_id", pa.string()),
    ("item_key", pa.string()),
    ("file_name", pa.string()),
    ("rule", _DICTIONARY),
    ("field", pa.string()),
    ("value", pa.string()),
    ("candidates", pa.list_(pa.string())),
    ("detail", pa.string()),
    ("held", pa.string()),  # the annotation's row as it stood, as JSON of its columns that are not null
]

_FAILURES = [
    ("item_key", pa.string()),
    ("root", pa.int32()),
    ("source_uri", pa.string()),
    ("file_name", pa.string()),
    ("step", _DICTIONARY),
    ("error", pa.string()),
    ("message", pa.string()),
    ("attempts", pa.int32()),
]

_CHANGES = [
    ("kind", _DICTIONARY),
    ("id", pa.string()),
    ("image_id", pa.string()),
    ("item_key", pa.string()),
    ("file_name", pa.string()),
    ("field", pa.string()),
    ("before", pa.string()),
    ("after", pa.string()),
    ("rule", _DICTIONARY),
    ("rule_version", pa.int32()),
    ("confidence", pa.float32()),
    ("reviewer", pa.string()),  # who decided, and when; null where a rule did
    ("decided_at", pa.timestamp("us", "UTC")),
]

_CROPS = [
    ("annotation_id", pa.string()),
    ("image_id", pa.string()),
    ("item_key", pa.string()),
    ("crop", pa.binary()),  # a JPEG file
]

TABLES = ("images", "annotations", "quarantine", "failures", "changes")
"""The five tables of every data set."""

CROPS = "crops"
"""The sixth, only where crops were asked for."""


def probability_columns(labels: Sequence[str]) -> tuple[str, ...]:
    """Return the names of the probability columns: the canonical labels, then the model's own extra ones."""
    return tuple(f"p_{label}" for label in label_order(tuple(labels)))


def schema(table: str, labels: Sequence[str]) -> pa.Schema:
    """Return the Arrow schema of `table` for a classifier that knows `labels`."""
    columns = {
        "images": _IMAGES,
        "annotations": _ANNOTATIONS,
        "quarantine": _QUARANTINE,
        "failures": _FAILURES,
        "changes": _CHANGES,
        CROPS: _CROPS,
    }[table]
    if table != "annotations":
        return pa.schema(columns)
    at = [name for name, _ in columns].index("confidence") + 1
    probabilities = [(name, pa.float32()) for name in probability_columns(labels)]
    return pa.schema(columns[:at] + probabilities + columns[at:])


@dataclass(frozen=True)
class Tables:
    """The small rows of one batch or one shard, one Arrow table each; columns as `schema()` gives them."""

    images: pa.Table
    annotations: pa.Table
    quarantine: pa.Table
    failures: pa.Table
    changes: pa.Table
    crops: pa.Table

    def named(self) -> list[tuple[str, pa.Table]]:
        """Return (name, table) pairs in a fixed order."""
        return [(name, getattr(self, name)) for name in (*TABLES, CROPS)]


def parquet_bytes(table: pa.Table, metadata: Mapping[str, Any]) -> bytes:
    """Return `table` as a Parquet file: zstd, floats byte-split, strings and integers delta-encoded.

    `metadata` goes to the footer as JSON under "labelstream"; it must not hold a time of the run, because equal input
    must give equal bytes.
    """
    footer = json.dumps({"schema_version": SCHEMA_VERSION, **metadata}, sort_keys=True, separators=(",", ":"))
    table = _in_order_of_appearance(table).replace_schema_metadata({"labelstream": footer})
    encodings, dictionaries = {}, []
    for field in table.schema:
        if pa.types.is_dictionary(field.type):
            dictionaries.append(field.name)
        elif pa.types.is_floating(field.type):
            encodings[field.name] = "BYTE_STREAM_SPLIT"
        elif pa.types.is_integer(field.type):
            encodings[field.name] = "DELTA_BINARY_PACKED"
        elif pa.types.is_string(field.type):
            encodings[field.name] = "DELTA_BYTE_ARRAY"
    sink = BytesIO()
    pq.write_table(
        table,
        sink,
        compression="zstd",
        use_dictionary=dictionaries,
        column_encoding=encodings,
        row_group_size=ROW_GROUP_ROWS,
        data_page_version="2.0",
    )
    return sink.getvalue()


def _in_order_of_appearance(table: pa.Table) -> pa.Table:
    """Encode dictionary columns anew: their values' order must not tell in which order the rows once arrived."""
    for at, field in enumerate(table.schema):
        if pa.types.is_dictionary(field.type):
            values = table[field.name].combine_chunks().cast(field.type.value_type)
            table = table.set_column(at, field, values.dictionary_encode().cast(field.type))
    return table
