"""Folders that are local or in a bucket, behind the part of pathlib that data sets need.

place("out") / "images"             a pathlib.Path
place("s3://b/out") / "images"      a Prefix
"""

import fnmatch
import io
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from schemas.layout import TEMPORARY
from transforms.buckets import objects
from transforms.buckets.names import folder_of, is_remote, join, real, split


@dataclass(frozen=True)
class Stat:
    """What is known of an object: size in bytes, time in seconds and in ns."""

    st_size: int
    st_mtime_ns: int

    @property
    def st_mtime(self) -> float:
        """The time in seconds."""
        return self.st_mtime_ns / 1e9


@dataclass(frozen=True, order=True)
class Prefix:
    """A name in a bucket: that of an object, or the beginning of the names of those below it.

    Methods do what those of `pathlib.Path` do, and raise OSErrors as they; folders are there as soon as something is in
    them.
    """

    uri: str

    def __str__(self) -> str:
        return self.uri

    def __truediv__(self, name: str) -> "Prefix":
        return Prefix(join(self.uri, str(name)))

    @property
    def name(self) -> str:
        """The last part."""
        return self.uri.rstrip("/").rpartition("/")[2]

    @property
    def stem(self) -> str:
        """The last part without its extension."""
        return PurePosixPath(self.name).stem

    @property
    def parent(self) -> "Prefix":
        """The folder in which it lies."""
        return Prefix(folder_of(self.uri))

    def resolve(self) -> "Prefix":
        """Return the one way to write it."""
        return Prefix(real(self.uri))

    def mkdir(self, parents: bool = False, exist_ok: bool = False) -> None:
        """Do nothing: there are no empty folders."""

    def is_file(self) -> bool:
        """Tell whether there is an object of this name."""
        if not split(self.uri)[1].strip("/"):
            return False  # a whole bucket
        try:
            objects.head(self.uri)
        except FileNotFoundError:
            return False
        return True

    def is_dir(self) -> bool:
        """Tell whether something lies below."""
        return objects.is_there(self.uri)

    def exists(self) -> bool:
        """Tell whether there is an object of this name, or something below."""
        return self.is_file() or self.is_dir()

    def stat(self) -> Stat:
        """Return size and time of the object."""
        entry = objects.head(self.uri)
        return Stat(entry.size, entry.mtime_ns)

    def iterdir(self) -> Iterator["Prefix"]:
        """Yield what lies directly below, in the order of the names."""
        entries, folders = objects.level(self.uri)
        names = [each.key for each in entries] + [each.rstrip("/") for each in folders]
        yield from (Prefix(objects.uri_of(self.uri, name)) for name in sorted(names))

    def glob(self, pattern: str) -> Iterator["Prefix"]:
        """Yield what lies directly below and is named so."""
        return (each for each in self.iterdir() if fnmatch.fnmatchcase(each.name, pattern))

    def rglob(self, pattern: str) -> Iterator["Prefix"]:
        """Yield the objects anywhere below whose last part is named so."""
        found = (Prefix(objects.uri_of(self.uri, entry.key)) for page in objects.walk(self.uri) for entry in page)
        return (each for each in found if fnmatch.fnmatchcase(each.name, pattern))

    def behind(self, name: str) -> Iterator["Prefix"]:
        """Yield the objects below whose names come behind this one, in order."""
        after = split(str(self / name))[1]
        return (Prefix(objects.uri_of(self.uri, entry.key)) for page in objects.walk(self.uri, after) for entry in page)

    def read_bytes(self) -> bytes:
        """Return the object's bytes."""
        return objects.read(self.uri, None, lambda size: None)

    def read_text(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        """Return the object's text."""
        return self.read_bytes().decode(encoding, errors)

    def write_text(self, text: str, encoding: str = "utf-8") -> None:
        """Write the object."""
        objects.put(self.uri, text.encode(encoding))

    def open(self, mode: str = "rb") -> BinaryIO:
        """Open the object for reading."""
        if mode != "rb":
            raise io.UnsupportedOperation(mode)
        return objects.open_object(self.uri)

    def unlink(self, missing_ok: bool = False) -> None:
        """Remove the object."""
        objects.remove(self.uri)


Place = Path | Prefix

_scratch: tempfile.TemporaryDirectory[str] | None = None


def scratch_of(dataset: Place) -> Path:
    """Return a folder on this machine for what is made of a data set on the way: its own, or one of this process."""
    global _scratch
    if not isinstance(dataset, Prefix):
        return dataset / TEMPORARY
    if _scratch is None:
        _scratch = tempfile.TemporaryDirectory(prefix="labelstream-", ignore_cleanup_errors=True)
    return Path(_scratch.name)


def sizes(folder: Place) -> dict[str, int]:
    """Return the sizes in bytes of the files directly in a folder, by name; nothing where there is none."""
    if isinstance(folder, Prefix):
        entries, _ = objects.level(folder.uri)
        return {entry.key.rpartition("/")[2]: entry.size for entry in entries}
    try:
        with os.scandir(folder) as found:
            return {entry.name: entry.stat().st_size for entry in found if entry.is_file()}
    except FileNotFoundError:
        return {}


def place(name: str | Place) -> Place:
    """Return the folder or file of this name."""
    if isinstance(name, str):
        return Prefix(real(name)) if is_remote(name) else Path(name)
    return name
