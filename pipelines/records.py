"""Model records in a bucket: `--classifier s3://models/mine.toml` is fetched with the files that it names."""

import hashlib
import tempfile
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from schemas.errors import ItemError, UsageError
from transforms.buckets.names import folder_of, is_remote, join
from transforms.places import Prefix, sizes
from transforms.storage import read_bytes

_MOST_RECORD_BYTES = 1 << 20
_MOST_FILE_BYTES = 4 << 30


def at_hand(record: str) -> str:
    """Return the name of a model, or the path of its record on this machine; one in a bucket is fetched first.

    Raises UsageError where the record cannot be read, and RunError where the store does not answer.
    """
    return _fetched(record) if is_remote(record) else record


@cache
def _fetched(uri: str) -> str:
    if not uri.endswith(".toml"):
        raise UsageError(f"{uri}: expected the uri of a .toml record")
    try:
        data = read_bytes(uri, _MOST_RECORD_BYTES)
        told = tomllib.loads(data.decode())
        folder = Path(_own_folder().name) / hashlib.sha256(uri.encode()).hexdigest()[:16]
        folder.mkdir()
        beside = sizes(Prefix(folder_of(uri)))
        for name in sorted(set(_texts(told)) & beside.keys()):
            (folder / name).write_bytes(read_bytes(join(folder_of(uri), name), _MOST_FILE_BYTES))
    except ItemError as error:
        raise UsageError(f"{uri}: expected a model record: {error}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{uri}: expected a model record in TOML: {error}") from None
    except OSError as error:
        raise UsageError(f"{uri}: cannot be fetched with its files: {error.strerror}") from None
    path = folder / uri.rpartition("/")[2]
    path.write_bytes(data)
    return str(path)


def _texts(told: Any) -> Iterator[str]:
    """Yield every text in a record: names of files are among them."""
    if isinstance(told, str):
        yield told
    elif isinstance(told, dict | list):
        for each in told.values() if isinstance(told, dict) else told:
            yield from _texts(each)


@cache
def _own_folder() -> "tempfile.TemporaryDirectory[str]":
    return tempfile.TemporaryDirectory(prefix="labelstream-models-", ignore_cleanup_errors=True)
