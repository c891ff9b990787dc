"""Exports of many files: a folder that appears whole or not at all."""

# Folders of a million files are written here, and a million pathlib objects are slow.
# ruff: noqa: PTH102, PTH103, PTH104, PTH112, PTH118, PTH120, PTH123, PTH208

import contextlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

from schemas.errors import RunError, UsageError
from transforms.buckets.names import is_remote
from transforms.storage import TEMP_PREFIX, printable

MARK = ".labelstream-export.json"
"""What an export leaves in its folder: its kind and what it wrote, so that a later one may take its place."""

_MOST_BYTES = 1 << 16


@dataclass
class Folder:
    """A folder that is being filled. Names in it are relative, with forward slashes."""

    path: str
    _made: set[str] = field(default_factory=set)

    def place(self, name: str) -> str:
        """Return where `name` is to be written, its folder made. Raises RunError for a name that leads out of here."""
        parts = name.split("/")
        if any(part in ("", ".", "..") or "\0" in part or "\\" in part for part in parts):
            raise RunError(f"{printable(name)!r} is no name within a folder: this is a fault of the data set")
        parent = "/".join(parts[:-1])
        if parent not in self._made:
            os.makedirs(os.path.join(self.path, *parts[:-1]), exist_ok=True)
            self._made.add(parent)
        return os.path.join(self.path, *parts)

    def create(self, name: str) -> BinaryIO:
        """Open a new file; nothing that is there is written over."""
        try:
            return open(self.place(name), "xb")
        except FileExistsError:
            raise RunError(f"two pictures would have the one file {printable(name)}: rename one of them") from None

    def write(self, name: str, data: bytes) -> None:
        """Write a new file."""
        with self.create(name) as file:
            file.write(data)


@contextlib.contextmanager
def building(path: str, *, kind: str) -> Iterator[Folder]:
    """Give a folder to fill, which takes the place of `path` when the block ends without an error.

    `path` may be missing, empty, or an export of the same `kind`; anything else is refused with UsageError, because
    what is in it would be lost. The files are on the disk before the folder is there; what a killed process leaves has
    a name beside `path` that begins with `TEMP_PREFIX`. Raises RunError for what cannot be written.
    """
    if is_remote(path):
        raise UsageError(
            f"--output {printable(path)}: a folder of many files appears whole or not at all, which no bucket can do: "
            "export to a folder on this machine, and copy that"
        )
    target = os.path.realpath(path)
    _require_replaceable(path, target, kind)
    with _writing(path):
        parent = os.path.dirname(target)
        os.makedirs(parent, exist_ok=True)
        fresh, old = (os.path.join(parent, TEMP_PREFIX + secrets.token_hex(8)) for _ in range(2))
        os.mkdir(fresh)
        try:
            folder = Folder(fresh)
            yield folder
            folder.write(MARK, json.dumps({"kind": kind, "holds": sorted(os.listdir(fresh))}).encode())
            if hasattr(os, "sync"):
                os.sync()  # one for all files: a call for each would take longer than writing them
            _exchange(fresh, target, old)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)


def _exchange(fresh: str, target: str, old: str) -> None:
    if not os.path.isdir(target):
        os.rename(fresh, target)
        return
    os.rename(target, old)
    try:
        os.rename(fresh, target)
    except OSError:
        os.rename(old, target)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _require_replaceable(path: str, target: str, kind: str) -> None:
    named = f"--output {printable(path)}"
    if not os.path.lexists(target):
        return
    if not os.path.isdir(target):
        raise UsageError(f"{named}: expected a folder, found a file")
    held, earlier = _told(os.path.join(target, MARK))
    strangers = set(os.listdir(target)) - held
    if strangers:
        raise UsageError(
            f"{named} holds {printable(min(strangers))!r}, which no export wrote and which would be lost: "
            "expected a new folder, an empty one, or an earlier export"
        )
    if held and earlier != kind:
        raise UsageError(f"{named} holds another export ({printable(earlier)}): expected another folder for {kind}")


def _told(mark: str) -> tuple[set[str], str]:
    """Return what an earlier export says that it wrote, and its kind; nothing if there was none."""
    try:
        with open(mark, "rb") as file:
            told = json.loads(file.read(_MOST_BYTES))
        return {MARK, *map(str, told["holds"])}, str(told["kind"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return set(), ""


@contextlib.contextmanager
def _writing(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        where = f" ({printable(str(error.filename))})" if error.filename else ""
        raise RunError(f"Cannot write {printable(path)}{where}: {error.strerror or error}.") from error
