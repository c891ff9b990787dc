"""Parquet files of a data set, local or in a bucket: written once, read by any reader that wants a file.

What is read from a bucket is fetched whole, once a process, into a temporary folder: a run reads most tables several
times, and the library that reads Parquet must not need credentials of its own.
"""

import hashlib
import tempfile
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from schemas.errors import RunError
from transforms.buckets import objects
from transforms.buckets.names import is_remote
from transforms.storage import create_exclusive, write_atomic

_FETCHES = 8
"""Files that are fetched at the same time."""

_lock = threading.Lock()
_fetched: dict[str, Path] = {}
_folder: tempfile.TemporaryDirectory[str] | None = None


def scan_shards(paths: Sequence[Any], include_file_paths: str | None = None, **options: Any) -> pl.LazyFrame:
    """Return a lazy frame over files of one table, in order; `options` are those of `polars.scan_parquet`.

    Raises RunError where one cannot be fetched.
    """
    names = [str(path) for path in paths]
    local = local_copies(names)
    rows = pl.scan_parquet(local, include_file_paths=include_file_paths, glob=False, **options)
    if include_file_paths is None or local == names:
        return rows
    return rows.with_columns(pl.col(include_file_paths).replace_strict(local, names, return_dtype=pl.String))


def shard_schema(path: Any) -> pa.Schema:
    """Return the schema of a file, with what its footer says. Raises RunError, and what pyarrow raises."""
    return pq.read_schema(local_copies([str(path)])[0])


def shard_rows(path: Any) -> int:
    """Return how many rows a file has."""
    return int(pq.read_metadata(local_copies([str(path)])[0]).num_rows)


def local_copies(names: Sequence[str]) -> list[str]:
    """Return the names under which the files can be opened here; those in a bucket are fetched."""
    if not any(map(is_remote, names)):
        return list(names)
    with ThreadPoolExecutor(_FETCHES) as pool:
        return list(pool.map(_local_copy, names))


def write_shard_file(path: str, data: bytes) -> None:
    """Put a shard's file where it belongs. A replay of the same plan writes the same bytes.

    In a bucket, where no lock holds off a run that was taken for dead, another content is never written over. Raises
    RunError.
    """
    if not is_remote(path):
        write_atomic(path, data)
        return
    with _lock:
        _fetched.pop(path, None)
    if not create_exclusive(path, data):
        raise RunError(
            f"{path} was written by another run with other content: two runs work on this data set. What is committed "
            "is unharmed; stop one, and run again"
        )


def _local_copy(name: str) -> str:
    if not is_remote(name):
        return name
    with _lock:
        found = _fetched.get(name)
    if found is None:
        found = _fetch(name)
        with _lock:
            _fetched[name] = found
    return str(found)


def _fetch(name: str) -> Path:
    place = _own_folder() / f"{hashlib.sha256(name.encode()).hexdigest()[:24]}.parquet"
    temporary = place.with_suffix(f".{threading.get_ident()}")
    try:
        with temporary.open("wb") as file:
            for block in objects.blocks(name):
                file.write(block)
        temporary.replace(place)
    except FileNotFoundError:
        raise RunError(f"{name} is missing: restore it from a copy of the data set") from None
    except OSError as error:
        raise RunError(f"{name} cannot be fetched into {place.parent}: {error.strerror}") from None
    return place


def _own_folder() -> Path:
    global _folder
    with _lock:
        if _folder is None:
            _folder = tempfile.TemporaryDirectory(prefix="labelstream-shards-", ignore_cleanup_errors=True)
        return Path(_folder.name)
