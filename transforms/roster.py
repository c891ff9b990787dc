"""The roster of a part: which pictures its raw rows speak of, and which rows speak of which."""

import hashlib
from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from schemas.raw import RAW
from schemas.records import image_id, item_key
from transforms.resolve import Files, Match, unify

STAGED: dict[str, pl.DataType] = {**RAW, "source": pl.Int32()}
"""Raw rows with the number of their source."""

FILES: dict[str, pl.DataType] = {
    "root": pl.Int32(),  # the number of the input root in the data set
    "file_name": pl.String(),  # relative to it
    "uri": pl.String(),
    "size_bytes": pl.Int64(),
    "mtime_ns": pl.Int64(),
}
"""The pictures that are at hand."""

PICTURES: dict[str, pl.DataType] = {
    "picture": pl.UInt32(),  # its number in its part
    "name": pl.String(),  # its file_name: of the file, else as the label files have it
    "frame": pl.Int32(),
    "at": pl.UInt32(),  # the number of its file among FILES; null where none is at hand
    "why": pl.String(),  # why none is, where one should be
    "told": pl.Boolean(),  # whether a label file speaks of it
    "declared_width": pl.Int32(),
    "declared_height": pl.Int32(),
    "pts_ms": pl.Float64(),
    "inputs": pl.List(pl.String()),  # what each source says of it, as source:digest
}

LABELS: dict[str, pl.DataType] = {
    name: kind for name, kind in STAGED.items() if name not in ("picture", "is_label", "pts_ms")
}
"""What is kept of a label row beside the number of its picture."""

_PRIME = np.uint64(0x9E3779B97F4A7C15)
_HASHED = [name for name in RAW if name not in ("file", "row", "picture")]
"""Columns that tell whether what a source says of a picture has changed; where in the file it stands does not."""


def roster(
    raw: pl.DataFrame,
    files: pl.DataFrame,
    sources: Sequence[str],
    *,
    expected: bool,
    whole: bool,
    homes: Sequence[tuple[int, str]] = (),
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return PICTURES in the order in which they are first spoken of, and the label rows with their `picture`.

    `sources` are the names of sources by number. `expected` says that every picture should be at hand, `whole` that
    the files are all to be listed, also those of which nothing is said; these come last. `homes` are where the sources
    themselves are: the number of a root, and the folder in it.
    """
    named = raw.select("picture", "source").unique(maintain_order=True)
    known = _match(named, files, homes, expected)
    own = ["picture", "source"]
    rows = raw.with_columns(_hash=_row_hashes(raw)).join(known, on=own, how="left", maintain_order="left")
    keys = ["at", "name", "frame"]
    said = rows.group_by([*keys, "source"], maintain_order=True).agg(pl.col("_hash").sum())
    inputs = said.with_columns(
        input=pl.col("source").replace_strict(dict(enumerate(sources)), return_dtype=pl.String)
        + ":"
        + pl.col("_hash").cast(pl.String)
    )
    pictures = rows.group_by(keys, maintain_order=True).agg(
        pl.col("why").first(),
        pl.lit(True).alias("told"),
        pl.col("width").drop_nulls().first().alias("declared_width"),
        pl.col("height").drop_nulls().first().alias("declared_height"),
        pl.col("pts_ms").drop_nulls().first(),
    )
    if len(sources) == 1:
        inputs = inputs.select(*keys, pl.concat_list("input").alias("inputs"))
    else:
        inputs = inputs.group_by(keys, maintain_order=True).agg(pl.col("input").sort().alias("inputs"))
    pictures = pictures.join(inputs, on=keys, how="left", maintain_order="left", nulls_equal=True)
    if whole:
        pictures = pl.concat([pictures, _unspoken(pictures, files)], how="diagonal_relaxed")
    pictures = pictures.with_row_index("picture").select(pl.col(name).cast(kind) for name, kind in PICTURES.items())
    labels = (
        rows.filter("is_label")
        .drop("picture")
        .join(pictures.select("picture", *keys), on=keys, how="left", maintain_order="left", nulls_equal=True)
    )
    return pictures, labels.select("picture", *LABELS)


def _match(named: pl.DataFrame, files: pl.DataFrame, homes: Sequence[tuple[int, str]], expected: bool) -> pl.DataFrame:
    """Return for each source's name of a picture its file's number, the name that is kept, and why there is no file."""
    names = named["picture"].to_list()
    if files.height:
        index = Files(files["file_name"].to_list(), files["root"].to_list())
        sources = named["source"].to_list()
        found = [
            index.find(name, homes[source] if homes else None) for name, source in zip(names, sources, strict=True)
        ]
    else:
        found = [Match(None, "no picture of this name is there")] * len(names)
    kept = named["picture"]
    if any(match.file is None for match in found) and not _all_extended(kept):
        same = unify(name for name, match in zip(names, found, strict=True) if match.file is None)
        kept = pl.Series([same.get(name, name) for name in names], dtype=pl.String)
    numbers = pl.Series([match.file for match in found], dtype=pl.UInt32)
    why = [match.why if match.file is None and expected else None for match in found]
    own = files["file_name"].gather(numbers).fill_null(kept) if files.height else kept
    return named.with_columns(at=numbers, name=own, why=pl.Series(why, dtype=pl.String))


def _all_extended(named: pl.Series) -> bool:
    return bool(named.str.contains(r"\.[A-Za-z0-9]{2,5}$").all())


def _unspoken(pictures: pl.DataFrame, files: pl.DataFrame) -> pl.DataFrame:
    """Return the files of which no label file speaks, as pictures."""
    numbered = files.select(pl.col("file_name").alias("name")).with_row_index("at")
    rest = numbered.join(pictures.select("at").drop_nulls(), on="at", how="anti", maintain_order="left")
    return rest.with_columns(told=pl.lit(False), inputs=pl.lit([], dtype=pl.List(pl.String)))


def _row_hashes(raw: pl.DataFrame) -> pl.Series:
    """Return 64 bits a row that differ where the rows do; their sum tells sets of rows apart."""
    mixed = np.zeros(raw.height, np.uint64)
    with np.errstate(over="ignore"):
        for name in _HASHED:
            mixed = (mixed ^ _bits(raw[name])) * _PRIME
            mixed ^= mixed >> np.uint64(29)
    return pl.Series(mixed, dtype=pl.UInt64)


def _bits(column: pl.Series) -> NDArray[np.uint64]:
    if column.null_count() == len(column):
        return np.zeros(len(column), np.uint64)
    if column.dtype == pl.String:
        distinct = column.unique()
        digests = [
            0 if text is None else int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")
            for text in distinct
        ]
        table = pl.DataFrame({"text": distinct, "digest": pl.Series(digests, dtype=pl.UInt64)})
        joined = column.to_frame("text").join(table, on="text", how="left", maintain_order="left", nulls_equal=True)
        return np.asarray(joined["digest"].to_numpy(), np.uint64)
    nothing = column.is_null().to_numpy()
    plain = column.cast(pl.Float64).fill_null(0.0).to_numpy().view(np.uint64)
    return np.where(nothing, np.uint64(1), plain)


def identities(pictures: pl.DataFrame) -> pl.DataFrame:
    """Return the pictures with `image_id`, `item_key` and, for frames, `video_id`.

    Columns needed beside PICTURES: `root`, `sha256`, `size_bytes`, `mtime_ns`, null where no file is at hand.
    """
    ids, keys, videos = [], [], []
    columns = pictures.select("root", "name", "frame", "sha256", "size_bytes", "mtime_ns")
    for root, name, frame, sha256, size, mtime in columns.iter_rows():
        ids.append(image_id(sha256 or "", root, name, frame))
        keys.append(item_key(root, name if frame is None else f"{name}\n{frame}", size or 0, str(mtime)))
        videos.append(None if frame is None else image_id(sha256 or "", root, name))
    return pictures.with_columns(
        pl.Series("image_id", ids, pl.String),
        pl.Series("item_key", keys, pl.String),
        pl.Series("video_id", videos, pl.String),
    )
