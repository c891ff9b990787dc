"""The pictures that a data set holds, by content: asked for few of them, never held whole.

What is asked is found in a file sorted by size, `_index/contents.parquet`, of which only some row groups are read, and
in the shards of commits behind it. The file is a cache: where it does not fit, or is damaged, the shards tell all.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.dataset import Dataset, Manifest
from schemas.errors import ItemError
from schemas.layout import CONTENTS
from schemas.reasons import Outcome
from transforms.storage import opened, replacing

_SCHEMA = pa.schema(
    [
        ("size_bytes", pa.int64()),
        ("sha256", pa.string()),
        ("stands", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("item_key", pa.string()),
        ("is_copy", pa.bool_()),
        ("duplicate_of", pa.string()),
    ]
)

_NONE = pl.DataFrame(schema=pl.Schema(_SCHEMA))

_GROUP_ROWS = 16_384

_FORMAT = b"1"

DAMAGED = (ItemError, OSError, ValueError, KeyError, pa.ArrowException)
"""What reading a cache raises where it is not there, or is none."""

BEHIND_ITEMS, BEHIND_PART, BEHIND_COMMITS = 10_000, 8, 200
"""The file is written anew when these many items, and one in so many, are not in it; or so many commits."""


class Contents:
    """The standing pictures, and videos, of a data set: a row for each, and for each of its exact copies.

    `chain` tells the commits apart: the digest of all up to each, see `committed.chained`. It grows with `add`.
    """

    def __init__(self, dataset: Dataset, chain: Sequence[str]) -> None:
        self.dataset = dataset
        self.chain = chain
        self.uri = str(dataset.path / CONTENTS)
        self.covered = 0  # commits that the file covers
        self.taken: set[str] = set()  # keys that commits behind it took back
        self.recent: pl.DataFrame | None = None  # the rows of those commits; null before the first question

    def find(self, column: str, wanted: Collection[Any], columns: Sequence[str]) -> pl.DataFrame:
        """Return the rows with one of the values `wanted` in `column`; of one size in the order of the commits."""
        if not wanted:
            return _NONE.select(columns)
        values = sorted(wanted)
        recent = self._opened().filter(pl.col(column).is_in(values)).select(columns)
        try:
            found = [self._found(*group, column, values, columns) for group in self._groups()]
        except DAMAGED:
            self._open(None)
            return self.find(column, wanted, columns)
        return pl.concat([*found, recent])

    def add(self, manifest: Manifest) -> None:
        """Take in a commit that the data set has taken in, and `chain`."""
        if self.recent is None:
            return
        back = manifest.told["supersedes"]
        self.taken.update(back)
        self.recent = pl.concat(
            [self.recent.filter(~pl.col("item_key").is_in(back)), _rows(self.dataset, [manifest])], rechunk=False
        )

    def save(self) -> None:
        """Write the file anew if much is not in it."""
        self._opened()
        items = [one.told.get("items", 0) for one in self.dataset.manifests]
        behind = items[self.covered :]
        if sum(behind) <= BEHIND_ITEMS + sum(items) // BEHIND_PART and len(behind) <= BEHIND_COMMITS:
            return
        try:
            self._write()
        except DAMAGED:
            self._open(None)
            self._write()
        self.recent = None

    def _opened(self) -> pl.DataFrame:
        """Return the rows of the commits behind the file."""
        if self.recent is None:
            try:
                with opened(self.uri) as file:
                    self._open(pq.ParquetFile(file).schema_arrow)
            except DAMAGED:
                self._open(None)
        assert self.recent is not None
        return self.recent

    def _open(self, told: pa.Schema | None) -> None:
        """Learn from the shards what the file of this schema does not cover; null for no file."""
        self.covered = covered(told, _SCHEMA, self.chain) if told is not None else 0
        behind = self.dataset.manifests[self.covered :]
        self.taken = {key for manifest in behind for key in manifest.told["supersedes"]}
        self.recent = _rows(self.dataset, behind)

    def _groups(self) -> Iterator[tuple[pq.ParquetFile, int]]:
        """Yield the row groups of the file in order, as long as it covers what it did when it was opened."""
        if not self.covered:
            return
        with opened(self.uri) as file:
            parquet = pq.ParquetFile(file, page_checksum_verification=True)
            if covered(parquet.schema_arrow, _SCHEMA, self.chain) != self.covered:
                raise ValueError("another run has written it anew")
            yield from ((parquet, number) for number in range(parquet.num_row_groups))

    def _found(
        self, parquet: pq.ParquetFile, group: int, column: str, values: list[Any], columns: Sequence[str]
    ) -> pl.DataFrame:
        """Return the wanted rows of one row group; as little as can be is read of it."""
        about = parquet.metadata.row_group(group).column(_SCHEMA.get_field_index(column)).statistics
        if about is not None and column == "size_bytes" and about.has_min_max:
            some = bisect_left(values, about.min) < bisect_right(values, about.max)
        else:
            some = about is None or about.null_count < parquet.metadata.row_group(group).num_rows
        if not some or not (mask := self._mask(parquet, group, column, values)).any():
            return _NONE.select(columns)
        # Not filtered by polars, whose strings would keep all of the row group in memory.
        rows = parquet.read_row_group(group, [*columns]).filter(mask.to_arrow())
        return pl.DataFrame(pl.from_arrow(rows)).select(columns)

    def _mask(self, parquet: pq.ParquetFile, group: int, column: str, values: list[Any]) -> pl.Series:
        mask = self._read(parquet, group, [column])[column].is_in(values).fill_null(False)
        if self.taken and mask.any():
            mask &= ~self._read(parquet, group, ["item_key"])["item_key"].is_in(self.taken)
        return mask

    def _read(self, parquet: pq.ParquetFile, group: int, columns: Sequence[str]) -> pl.DataFrame:
        if not 0 < parquet.metadata.row_group(group).num_rows <= _GROUP_ROWS:
            raise ValueError("a row group of another size than this version writes them")
        return pl.DataFrame(pl.from_arrow(parquet.read_row_group(group, list(columns))))

    def _write(self) -> None:
        stamped = _SCHEMA.with_metadata(stamp(self.chain))
        how = {"compression": "zstd", "use_dictionary": False, "write_page_checksum": True}
        with replacing(self.uri) as file, pq.ParquetWriter(file, stamped, **how) as writer:
            for rows in _cut(self._merged(), _GROUP_ROWS):
                writer.write_table(rows.to_arrow().cast(_SCHEMA), row_group_size=_GROUP_ROWS)

    def _merged(self) -> Iterator[pl.DataFrame]:
        """Yield all rows sorted by size, of one size in the order of commits; one row group is in memory at a time."""
        recent = self._opened().sort("size_bytes", maintain_order=True)
        done = 0
        for parquet, group in self._groups():
            rows = self._read(parquet, group, _SCHEMA.names)
            upto = int(recent["size_bytes"].search_sorted(rows["size_bytes"][-1], side="left"))
            rows = rows.filter(~pl.col("item_key").is_in(self.taken))
            yield pl.concat([rows, recent[done:upto]]).sort("size_bytes", maintain_order=True)
            done = upto
        yield recent[done:]


def stamp(chain: Sequence[str]) -> dict[bytes, bytes]:
    """Return what a cache that covers all these commits says of itself."""
    return {b"format": _FORMAT, b"commits": str(len(chain)).encode(), b"chain": chain[-1].encode()}


def covered(told: pa.Schema, wanted: pa.Schema, chain: Sequence[str]) -> int:
    """Return how many of the commits a cache of this schema covers; 0 where it fits no beginning of them."""
    metadata: Mapping[bytes, bytes] = told.metadata or {}
    commits = metadata.get(b"commits", b"")
    if metadata.get(b"format") != _FORMAT or not told.equals(wanted) or not commits.isdigit():
        return 0
    number = int(commits)
    return number if 0 < number <= len(chain) and metadata.get(b"chain") == chain[number - 1].encode() else 0


def _rows(dataset: Dataset, manifests: list[Manifest]) -> pl.DataFrame:
    """Return the rows of some commits that stand, in order."""
    stands = pl.coalesce("video_id", "image_id").alias("stands")
    is_copy = (pl.col("outcome") == Outcome.DUPLICATE).fill_null(False).alias("is_copy")
    columns = [stands if name == "stands" else is_copy if name == "is_copy" else pl.col(name) for name in _SCHEMA.names]
    rows = dataset._scan("images", manifests).select(columns).with_columns(pl.col("size_bytes").fill_null(-1))
    alike = ["item_key", "sha256", "stands", "duplicate_of", "is_copy"]
    return rows.unique(alike, keep="first", maintain_order=True).collect()


def _cut(frames: Iterator[pl.DataFrame], rows: int) -> Iterator[pl.DataFrame]:
    """Yield the frames' rows in frames of so many; the last has fewer."""
    held: list[pl.DataFrame] = []
    for frame in frames:
        held.append(frame)
        while sum(map(len, held)) >= rows:
            all_of_them = pl.concat(held)
            yield all_of_them[:rows]
            held = [all_of_them[rows:]]
    if any(map(len, held)):
        yield pl.concat(held)
