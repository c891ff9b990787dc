"""Rows on their way from label files to shards: parted by picture and kept on disk, so that memory stays flat.

All that is said of a picture comes into one part, whatever file says it and however the picture is written there: the
part is told by the name without its folders and its extension.
"""

import re
import unicodedata
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType

import polars as pl
import pyarrow as pa

_COMPRESSION = "lz4"


def stem(name: str) -> str:
    """Return a picture's name without folders and extension, as names that mean the same file have in common.

    >>> stem("train/Photo 1.JPG"), stem("photo 1"), stem("a.b.png")
    ('photo 1', 'photo 1', 'a.b')
    """
    base = unicodedata.normalize("NFC", name.replace("\\", "/").rstrip("/").rpartition("/")[2]).casefold()
    return _EXTENSION.sub("", base) or base


_EXTENSION = re.compile(r"\.(?!\d+$)[a-z0-9]{2,5}$")
"""Digits alone are no extension: `img.2019` is a name."""


def part_of(name: str, parts: int) -> int:
    """Return the part of a picture of this name: the same on every machine and in every version."""
    return zlib.crc32(stem(name).encode("utf-8", "surrogateescape")) % parts


class Staging:
    """Frames of one kind, appended in any number of pieces, parted by the picture's name. A context manager."""

    def __init__(self, folder: Path, kind: str, shape: Mapping[str, pl.DataType], parts: int) -> None:
        """Keep files `<kind>-<part>.arrow` in `folder`; frames have the columns `shape`, one of them `by`."""
        self.folder, self.kind, self.parts = folder, kind, parts
        self._empty = pl.DataFrame(schema=dict(shape))
        self._schema = self._empty.to_arrow().schema
        self._writers: dict[int, pa.ipc.RecordBatchStreamWriter] = {}
        self._known: dict[str, int] = {}

    def __enter__(self) -> "Staging":
        self.folder.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for writer in self._writers.values():
            writer.close()

    def add(self, frame: pl.DataFrame, by: str) -> None:
        """Append rows, each to the part of the picture that column `by` names."""
        for part, rows in self._parted(frame, by):
            self.put(part, rows)

    def put(self, part: int, rows: pl.DataFrame) -> None:
        """Append rows to a part."""
        if part not in self._writers:
            options = pa.ipc.IpcWriteOptions(compression=_COMPRESSION)
            self._writers[part] = pa.ipc.new_stream(str(self.path(part)), self._schema, options=options)
        self._writers[part].write_table(rows.select(self._empty.columns).to_arrow().cast(self._schema))

    def _parted(self, frame: pl.DataFrame, by: str) -> Iterator[tuple[int, pl.DataFrame]]:
        if self.parts == 1:
            yield 0, frame
            return
        names = frame[by].unique()
        numbers = pl.Series([part_of(name, self.parts) for name in names], dtype=pl.UInt32)
        where = frame.select(pl.col(by).replace_strict(names, numbers, return_dtype=pl.UInt32)).to_series()
        numbered = frame.with_columns(where.alias("_part"))
        for (part,), rows in numbered.partition_by("_part", as_dict=True, include_key=False).items():
            yield int(part), rows

    def path(self, part: int) -> Path:
        """Return the file of a part; it is there only if rows came."""
        return staged_path(self.folder, self.kind, part)


def staged_path(folder: Path, kind: str, part: int) -> Path:
    """Return where the rows of one kind and part are kept."""
    return folder / f"{kind}-{part:04d}.arrow"


def staged(folder: Path, kind: str, part: int, shape: Mapping[str, pl.DataType]) -> pl.DataFrame:
    """Return the rows of one kind and part, in the order in which they came."""
    path = staged_path(folder, kind, part)
    if not path.exists():
        return pl.DataFrame(schema=dict(shape))
    with pa.ipc.open_stream(str(path)) as stream:
        frame = pl.from_arrow(stream.read_all())
    assert isinstance(frame, pl.DataFrame)
    return frame


def typed(frame: pl.DataFrame, shape: Mapping[str, pl.DataType]) -> pl.DataFrame:
    """Return the columns `shape`, each as it says."""
    return frame.select(pl.col(name).cast(kind) for name, kind in shape.items())
