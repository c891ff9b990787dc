"""Bytes in and out, by name: the one door to local files, to object stores (`s3://`, `gs://`, `az://`) and to messages.

Reading raises `ItemError`, because one file that cannot be read is one failed item. Writing raises `RunError`, because
a data set that cannot be written ends the run. Names are ordinary strings; bytes that are not UTF-8 travel in them as
surrogate escapes, as everywhere in Python.
"""

# Names are kept exactly as the user wrote them: pathlib drops "./" and a trailing slash.
# ruff: noqa: PTH101, PTH103, PTH105, PTH108, PTH114, PTH116, PTH118, PTH120, PTH123

import contextlib
import errno
import hashlib
import os
import secrets
import stat
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO
from typing import BinaryIO

from schemas.errors import ItemError, RunError
from schemas.records import version
from transforms.buckets import objects
from transforms.buckets.names import is_remote

TEMP_PREFIX = ".tmp-"
"""How the names of unfinished files begin. What a killed process left under such a name may be deleted."""

_BLOCK_BYTES = 1 << 20

# A FIFO, a terminal or a tape would block on open; O_NONBLOCK changes nothing for a regular file. Windows has no flag
# for it and needs one against newline translation.
_OPEN_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)


_WHAT_TO_DO = {
    errno.ENOSPC: "the disk is full (No space left on device): free some space",
    errno.EDQUOT: "the disk quota is used up: free some space",
    errno.EACCES: "permission denied: give this user the right to write there",
    errno.EPERM: "not permitted there: give this user the right to write there",
    errno.EROFS: "the file system is read-only: choose another --output",
    errno.ENOTDIR: "a part of this path is a file: choose another --output",
    errno.EISDIR: "a folder of this name is in the way: move it away",
    errno.ENAMETOOLONG: "the name is too long for this file system: choose a shorter --output",
    errno.EIO: "the device reported an error: check the disk or the network drive",
}


def printable(name: str) -> str:
    """Return `name` fit for a message: bytes that are not UTF-8 are shown as backslash escapes.

    >>> printable("a\\udcff.jpg")
    'a\\\\xff.jpg'
    """
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


HELD = "kafka://"
"""How the names of messages begin, whose bytes are there as long as their epoch runs."""

_held: dict[str, bytes] = {}


@contextlib.contextmanager
def holding(contents: Mapping[str, bytes]) -> Iterator[None]:
    """Let these names, of messages, be read like files, by this process and as long as the block lasts."""
    _held.update(contents)
    try:
        yield
    finally:
        for uri in contents:
            _held.pop(uri, None)


@dataclass(frozen=True, slots=True)
class State:
    """What tells one content of a file from the next: size in bytes, time in ns, and an object's etag."""

    size: int
    mtime_ns: int
    etag: str | None = None

    @property
    def version(self) -> str:
        """What changes whenever the content does; an object's time is told more exactly by a listing than alone."""
        return version(self.mtime_ns, self.etag)


def state_of(uri: str) -> State | None:
    """Return the state of a regular file or an object, as a listing tells it; None where there is none to be read."""
    try:
        if is_remote(uri):
            entry = objects.head(uri)
            return State(entry.size, entry.mtime_ns, entry.etag)
        status = os.stat(uri)
    except (OSError, ValueError):
        return None
    return State(status.st_size, status.st_mtime_ns) if stat.S_ISREG(status.st_mode) else None


def read_bytes(uri: str, limit: int, span: tuple[int, int] | None = None) -> bytes:
    """Return the whole file, or the bytes from an offset on for a length.

    Never more than `limit` + 1 bytes are read; a pipe or a device is not waited for. Raises ItemError: "not_found",
    "unreadable" (no permission, not a regular file, an I/O error), "too_large", "truncated" (shorter than the span).
    """
    if uri in _held:
        if len(_held[uri]) > limit:
            raise _too_large(uri, f"it has {len(_held[uri]):,} bytes", limit)
        return _held[uri]
    if span is not None:
        return _read_span(uri, limit, *span)
    if is_remote(uri):
        return _read_object(uri, limit)
    with _reading(uri) as (fd, size):
        if size > limit:
            raise _too_large(uri, f"it has {size:,} bytes", limit)
        # The file may grow while it is read, so the size is a hint and the limit is enforced on what came.
        parts: list[bytes] = []
        left = limit + 1
        while left > 0 and (part := os.read(fd, min(left, max(size, 1) + 1 if not parts else _BLOCK_BYTES))):
            parts.append(part)
            left -= len(part)
    if left <= 0:
        raise _too_large(uri, f"it has more than {limit:,} bytes", limit)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _read_object(uri: str, limit: int) -> bytes:
    def refuse(size: int) -> None:
        if size > limit:
            raise _too_large(uri, f"it has {size:,} bytes", limit)

    with _telling_of(uri):
        return objects.read(uri, None, refuse)


def _read_span(uri: str, limit: int, offset: int, length: int) -> bytes:
    if length > limit:
        raise _too_large(uri, f"{length:,} bytes of it are asked for", limit)
    if is_remote(uri):
        with _telling_of(uri):
            data = objects.read(uri, (offset, length), lambda size: None)
    else:
        with opened(uri) as file:
            file.seek(offset)
            data = b""
            while len(data) < length and (part := file.read(length - len(data))):
                data += part
    if len(data) < length:
        raise ItemError(
            "truncated", f"{printable(uri)} ends at byte {offset + len(data):,}, before {offset + length:,}"
        )
    return data


def read_head(uri: str, count: int) -> bytes:
    """Return the first bytes, `count` at most. Raises ItemError as `read_bytes`."""
    if is_remote(uri):
        with _telling_of(uri):
            return objects.read(uri, (0, count), lambda size: None)
    with opened(uri) as file:
        return file.read(count)


@contextlib.contextmanager
def opened(uri: str) -> Iterator[BinaryIO]:
    """Open a regular file, or an object, for reading in parts. Raises ItemError as `read_bytes`."""
    if uri in _held:
        yield BytesIO(_held[uri])
        return
    if is_remote(uri):
        with _telling_of(uri), objects.open_object(uri) as file:
            yield file
        return
    with _reading(uri) as (fd, _):
        file = open(os.dup(fd), "rb", buffering=0)  # noqa: SIM115  it is closed below
    with file:  # what goes wrong with its content is no matter of reading it
        yield file


def sha256_of(uri: str) -> str:
    """Return the sha256 of the file's bytes as 64 hex digits, in constant memory. Raises ItemError as `read_bytes`."""
    digest = hashlib.sha256()
    if uri in _held:
        return hashlib.sha256(_held[uri]).hexdigest()
    if is_remote(uri):
        with _telling_of(uri):
            for block in objects.blocks(uri):
                digest.update(block)
        return digest.hexdigest()
    with _reading(uri) as (fd, _):
        while part := os.read(fd, _BLOCK_BYTES):
            digest.update(part)
    return digest.hexdigest()


@contextlib.contextmanager
def replacing(path: str) -> Iterator[BinaryIO]:
    """Open a file that takes the place of `path` when it is complete: a reader sees the old one or the new one.

    The bytes and the name are on the disk when the block ends; after an error nothing has changed. Missing folders are
    made, as in an object store. Raises RunError.
    """
    if is_remote(path):
        with _writing(path), tempfile.TemporaryFile(prefix="labelstream-") as file:
            yield file
            file.flush()
            objects.put_file(path, file)
        return
    with _writing(path), _temporary(path) as file:
        yield file
        _sync(file)
        with contextlib.suppress(FileNotFoundError):  # who could read the old one can read the new one
            os.chmod(file.name, stat.S_IMODE(os.stat(path).st_mode))
        os.replace(file.name, path)
        _sync_folder(path)


def write_atomic(path: str, data: bytes) -> None:
    """Put `data` at `path`; see `replacing`."""
    if is_remote(path):
        with _writing(path):
            objects.put(path, data)
        return
    with replacing(path) as file:
        file.write(data)


def create_exclusive(path: str, data: bytes) -> bool:
    """Put `data` at `path` unless something is there; say whether it was put. This is the commit primitive.

    Of several callers exactly one gets True, and the file is never seen in part (a hard link gives a complete file its
    name, and fails if the name is taken; a store's answer that was lost is settled by reading, so callers that must be
    told apart put different bytes). Raises RunError, also on file systems without hard links.
    """
    if is_remote(path):
        with _writing(path):
            return objects.create(path, data)
    with _writing(path), _temporary(path) as file:
        file.write(data)
        _sync(file)
        try:
            os.link(file.name, path)
        except FileExistsError:
            # A network file system may repeat a link whose answer was lost, and then refuse its own repetition.
            if os.stat(file.name).st_nlink != 2:
                return False
        except OSError as error:
            if error.errno in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS):
                raise RunError(
                    f"Cannot commit {printable(path)}: this file system has no hard links, which make a commit "
                    "exclusive. Choose an --output on a local disk or on NFS."
                ) from error
            raise
        _sync_folder(path)
        return True


@contextlib.contextmanager
def _telling_of(uri: str) -> Iterator[None]:
    """Turn an OSError about one object into an ItemError; the store's own trouble ends the run."""
    try:
        yield
    except FileNotFoundError as error:
        raise ItemError("not_found", f"{printable(uri)} is not there: it was removed, or never was.") from error
    except OSError as error:
        if error.errno == errno.ESTALE:
            raise ItemError("changed", f"{printable(uri)} was replaced while it was read: run again.") from error
        raise ItemError("unreadable", f"{printable(uri)} cannot be read: {error.strerror}.") from error


@contextlib.contextmanager
def _reading(uri: str) -> Iterator[tuple[int, int]]:
    """Open a regular file; give its descriptor and its size. Every OSError inside becomes an ItemError."""
    fd = -1
    try:
        fd = os.open(uri, _OPEN_FLAGS)
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise ItemError("unreadable", f"{printable(uri)} is {_kind(status.st_mode)}, not a file.")
        yield fd, status.st_size
    except (FileNotFoundError, NotADirectoryError) as error:
        if uri.startswith(HELD):
            raise ItemError("not_found", f"{printable(uri)} was a message: its picture was not kept.") from error
        target = " (the link points at nothing)" if os.path.islink(uri) else ""
        raise ItemError("not_found", f"{printable(uri)} is not there{target}.") from error
    except OSError as error:
        raise ItemError("unreadable", f"{printable(uri)} cannot be read: {error.strerror}.") from error
    except ValueError as error:  # a name with a NUL, from a list
        raise ItemError("not_found", f"{printable(uri)!r} is not a file name: {error}.") from error
    finally:
        if fd >= 0:
            os.close(fd)


def _kind(mode: int) -> str:
    names = ((stat.S_ISDIR, "a folder"), (stat.S_ISFIFO, "a pipe"), (stat.S_ISSOCK, "a socket"))
    return next((name for is_kind, name in names if is_kind(mode)), "a device")


def _too_large(uri: str, what: str, limit: int) -> ItemError:
    return ItemError("too_large", f"{printable(uri)}: {what}, the limit is {limit:,}. Raise it with --max-bytes.")


@contextlib.contextmanager
def _writing(path: str) -> Iterator[None]:
    """Turn every OSError inside into a RunError that says what could not be written, why, and what to do."""
    try:
        yield
    except OSError as error:
        told = error.strerror or str(error)
        advice = told if is_remote(path) else _WHAT_TO_DO.get(error.errno or 0, told)
        raise RunError(f"Cannot write {printable(path)}: {advice}. What was committed is unharmed.") from error


@contextlib.contextmanager
def _temporary(path: str) -> Iterator[BinaryIO]:
    """Open a new file beside `path` under a temporary name, which is gone afterwards."""
    folder = os.path.dirname(path) or "."
    os.makedirs(folder, exist_ok=True)
    # Not tempfile: its files are private to this user, and others read the data set too, as the umask allows.
    temp = os.path.join(folder, TEMP_PREFIX + secrets.token_hex(8))
    try:
        with open(temp, "xb") as file:
            yield file
    finally:
        with contextlib.suppress(FileNotFoundError):  # os.replace took it
            os.unlink(temp)


def _sync(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _sync_folder(path: str) -> None:
    fd = os.open(os.path.dirname(path) or ".", os.O_RDONLY)
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some network file systems cannot sync a folder, and need not
            raise
    finally:
        os.close(fd)
