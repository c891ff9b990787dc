"""Objects by uri: read them whole or in parts, write, create, list and remove them.

Errors are those of `faults.fault`: an OSError about one object, or `Away`. Requests that may be repeated are repeated
until the store's patience ends.
"""

import errno
import io
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, BinaryIO, NamedTuple

import obstore
from obstore import exceptions as told

from transforms.buckets.faults import Away, fault, status_of
from transforms.buckets.names import Bucket, join, split, why_not_a_key
from transforms.buckets.stores import FIRST_ANSWER_S, PATIENCE_S, store_of

_FIRST_PART = 256 << 10
_LARGEST_PART = 8 << 20
_UPLOAD_PART = 16 << 20
_BEHIND_THE_END = re.compile(r"Generic \w+ error: Wanted range starting at ")
_OF_THE_CLIENT = (told.BaseError, FileNotFoundError, FileExistsError, PermissionError, ValueError)


class Entry(NamedTuple):  # made by the million: a dataclass takes three times as long
    """One listed object; `key` is its whole name in the bucket, `size` in bytes."""

    key: str
    size: int
    mtime_ns: int
    etag: str | None


def head(uri: str) -> Entry:
    """Return what is known of an object without reading it."""
    for attempt in _attempts(uri, "read"):
        with attempt as (bucket, key):
            return _entry(obstore.head(store_of(bucket), key))
    raise AssertionError


def read(uri: str, span: tuple[int, int] | None, refuse: Callable[[int], None]) -> bytes:
    """Return an object's bytes, or those from an offset on for a length, fewer where it ends before.

    `refuse` is called with the object's size before its bytes are fetched, and may raise.
    """
    for attempt in _attempts(uri, "read"):
        with attempt as (bucket, key):
            if span is not None:
                return _part(bucket, key, *span)
            got = obstore.get(store_of(bucket), key)
            refuse(got.meta["size"])
            return got.bytes().to_bytes()
    raise AssertionError


def blocks(uri: str) -> Iterator[bytes]:
    """Yield an object's bytes in parts, always of the same content."""
    at, size = 0, -1
    options: Any = {}
    for attempt in _attempts(uri, "read"):
        with attempt as (bucket, key):
            if at == size:
                return
            if at:
                options |= {"range": {"offset": at}}
            got = obstore.get(store_of(bucket), key, options=options)
            size, etag = got.meta["size"], got.meta["e_tag"]
            options = {"if_match": etag} if etag else {}
            for block in got.stream(min_chunk_size=1 << 20):
                at += len(block)
                yield bytes(block)


def open_object(uri: str) -> BinaryIO:
    """Return a file over an object that fetches what is read of it, always of the same content."""
    return io.BufferedReader(_Ranges(uri), _FIRST_PART)


class _Ranges(io.RawIOBase):
    """An object as a file. Reads in order fetch larger and larger parts; a jump starts with a small one."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self.entry = head(uri)
        self._at = 0
        self._part = memoryview(b"")
        self._begins = 0
        self._size = _FIRST_PART

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self.entry.size}[whence]
        if base + offset < 0:
            raise ValueError(f"negative position {base + offset}")
        self._at = base + offset
        return self._at

    def readinto(self, buffer: Any) -> int:
        into = memoryview(buffer).cast("B")
        if self._at >= self.entry.size or not into:
            return 0
        if not self._begins <= self._at < self._begins + len(self._part):
            self._fetch(len(into))
        start = self._at - self._begins
        count = min(len(into), len(self._part) - start)
        into[:count] = self._part[start : start + count]
        self._at += count
        return count

    def _fetch(self, wanted: int) -> None:
        goes_on = self._at == self._begins + len(self._part)
        self._size = min(2 * self._size, _LARGEST_PART) if goes_on else _FIRST_PART
        size = min(max(self._size, wanted), self.entry.size - self._at)
        options: Any = {"range": (self._at, self._at + size)}
        if self.entry.etag is not None:
            options["if_match"] = self.entry.etag
        for attempt in _attempts(self.uri, "read"):
            with attempt as (bucket, key):
                self._part = memoryview(obstore.get(store_of(bucket), key, options=options).bytes())
        self._begins = self._at
        if not self._part:
            raise OSError(errno.EIO, "the object ended before its size", self.uri)


def put(uri: str, data: bytes) -> None:
    """Write an object whole; another of the same name is replaced at once."""
    for attempt in _attempts(uri, "write"):
        with attempt as (bucket, key):
            obstore.put(store_of(bucket), key, data, use_multipart=False)


def put_file(uri: str, file: BinaryIO) -> None:
    """Write an object from a file at hand, in parts where it is large."""
    for attempt in _attempts(uri, "write"):
        with attempt as (bucket, key):
            file.seek(0)
            obstore.put(store_of(bucket), key, file, chunk_size=_UPLOAD_PART, max_concurrency=4)


def create(uri: str, data: bytes) -> bool:
    """Write an object unless one of this name is there; say whether this call has written it.

    An answer may be lost, and a request that was repeated refused because of itself: so whatever is not a plain success
    is settled by reading what is there now. `data` must tell its writer, where writers must be told apart.
    """
    for attempt in _attempts(uri, "write"):
        with attempt as (bucket, key):
            try:
                obstore.put(store_of(bucket), key, data, mode="create", use_multipart=False)
                return True
            except told.BaseError:
                found = marked(uri)
                if found is None:
                    raise
                return found.data == data
    raise AssertionError


@dataclass(frozen=True)
class Marked:
    """An object's bytes, and the mark by which exactly this content of it can be replaced."""

    data: bytes
    mark: str | None


def marked(uri: str, most: int | None = None) -> Marked | None:
    """Return an object's bytes and mark, of one answer; None where there is none, b'' for more bytes than `most`."""
    try:
        for attempt in _attempts(uri, "read"):
            with attempt as (bucket, key):
                got = obstore.get(store_of(bucket), key)
                is_wanted = most is None or got.meta["size"] <= most
                return Marked(got.bytes().to_bytes() if is_wanted else b"", _mark(bucket, got.meta))
    except FileNotFoundError:
        return None
    raise AssertionError


def replace(uri: str, data: bytes, mark: str) -> str | None:
    """Write an object if the one that is there has this mark; return the new mark, None where it is another.

    As for `create`, what is not a plain success is settled by reading; `data` must tell its writer.
    """
    for attempt in _attempts(uri, "write"):
        with attempt as (bucket, key):
            try:
                swap: Any = {"version" if bucket.scheme == "gs" else "e_tag": mark}
                return _mark(bucket, obstore.put(store_of(bucket), key, data, mode=swap, use_multipart=False))
            except (told.BaseError, FileNotFoundError):
                found = marked(uri)
                if found is None:
                    return None
                if found.data == data:
                    return found.mark
                if found.mark != mark:
                    return None
                raise
    raise AssertionError


def _mark(bucket: Bucket, meta: Any) -> str | None:
    """Return what a store tells contents apart by when one is to be replaced: Google's has generations for it."""
    told_by_store: str | None = meta["version" if bucket.scheme == "gs" else "e_tag"]
    return told_by_store


def remove(uri: str) -> None:
    """Remove an object; one that is not there is no error."""
    for attempt in _attempts(uri, "write"):
        with attempt as (bucket, key):
            try:
                obstore.delete(store_of(bucket), key)
            except FileNotFoundError as error:
                if "NoSuchBucket" in str(error):
                    raise


def walk(folder: str, after: str = "") -> Iterator[list[Entry]]:
    """Yield the objects below `folder` page by page, in the order of their names as UTF-8.

    `after` is a key behind which to begin. A page whose answer was cut short is asked for again.
    """
    bucket, prefix = split(folder)
    key = prefix.strip("/")
    pages, end = None, None
    while True:
        for attempt in _attempts(folder, "list"):
            with attempt:
                if pages is None:
                    offset = after if end is None else behind(folder, end)
                    pages = store_of(bucket).list(f"{key}/" if key else None, offset=offset or None, chunk_size=1000)
                try:
                    page = next(pages, None)
                except Exception:  # a listing that has failed cannot be gone on with, whatever it was
                    pages = None
                    raise
        if page is None:
            return
        if page:
            entries = [_entry(each) for each in page]
            end = entries[-1]
            yield entries


def behind(folder: str, end: Entry) -> str:
    """Return the key behind which a listing of `folder` goes on that came to `end`.

    A marker, an empty object called `name/`, is listed without its slash; names that sort between the two came before.
    """
    return end.key if end.size or why_not_a_key(end.key) or is_object(folder, end) else f"{end.key}/"


def is_object(folder: str, entry: Entry) -> bool:
    """Say whether an empty entry is what its name says, and not the marker `name/`; both may be there."""
    try:
        there = head(uri_of(folder, entry.key))
    except OSError as error:
        return error.errno != errno.ENOENT
    return (there.size, there.etag) == (entry.size, entry.etag)


def level(folder: str) -> tuple[list[Entry], list[str]]:
    """Return the objects directly in `folder`, and the keys of the folders in it."""
    bucket, prefix = split(folder)
    key = prefix.strip("/")
    for attempt in _attempts(folder, "list"):
        with attempt:
            found = store_of(bucket).list_with_delimiter(f"{key}/" if key else None)
    own = [_entry(each) for each in found["objects"]]
    return [each for each in own if each.key != key], [str(one) for one in found["common_prefixes"]]


def is_there(folder: str) -> bool:
    """Tell whether anything lies below `folder`; raise `Away` where its bucket cannot be listed."""
    return next(walk(folder), None) is not None


def require_bucket(uri: str) -> None:
    """Raise `Away`, or an OSError, where the bucket cannot be listed, sooner than patience ends.

    A store that answers, if only that it is busy, is waited for.
    """
    try:
        for attempt in _attempts(uri, "list", FIRST_ANSWER_S):
            with attempt as (bucket, key):
                next(store_of(bucket, FIRST_ANSWER_S).list(f"{key.rstrip('/')}/" if key else None), None)
    except Away as error:
        if not (error.may_pass and error.is_answer):
            raise


def uri_of(near: str, key: str) -> str:
    """Return the uri of a key in the bucket of the uri `near`."""
    return join(str(split(near)[0]), key)


@contextmanager
def _asking(uri: str, doing: str) -> Iterator[tuple[Bucket, str]]:
    """Turn what the client library raises inside into an error as `faults.fault` says."""
    bucket, key = split(uri)
    if why := why_not_a_key(key):
        raise OSError(errno.EINVAL, f"no object of such a name is read or written: {why}", uri)
    try:
        yield bucket, key
    except _OF_THE_CLIENT as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # of a request within this one
        raise fault(error, uri, bucket, doing) from None


class _Attempt:
    """One try of a request. What may pass is kept to itself, unless patience has ended."""

    def __init__(self, uri: str, doing: str, until: float) -> None:
        self.asking = _asking(uri, doing)
        self.until = until
        self.failed = False

    def __enter__(self) -> tuple[Bucket, str]:
        return self.asking.__enter__()

    def __exit__(self, *raised: Any) -> bool:
        try:
            self.asking.__exit__(*raised)
        except Away as error:
            self.failed = error.may_pass and time.monotonic() < self.until
            if not self.failed:
                raise
        return self.failed


def _attempts(uri: str, doing: str, patience_s: float | None = None) -> Iterator[_Attempt]:
    """Yield tries until one has not failed, or patience ends; most requests are repeated by the client itself."""
    until = time.monotonic() + (PATIENCE_S if patience_s is None else patience_s)
    pause = 0.1
    while True:
        attempt = _Attempt(uri, doing, until)
        yield attempt
        if not attempt.failed:
            return
        time.sleep(pause)
        pause = min(2 * pause, 5.0)


def _part(bucket: Bucket, key: str, offset: int, length: int) -> bytes:
    try:
        return obstore.get_range(store_of(bucket), key, start=offset, length=length).to_bytes()
    except told.BaseError as error:
        if status_of(error) == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE or _BEHIND_THE_END.match(str(error)):
            return b""
        raise


def _entry(meta: Any) -> Entry:
    moment = meta["last_modified"]
    ns = int(moment.timestamp()) * 1_000_000_000 + moment.microsecond * 1000
    return Entry(meta["path"], meta["size"], ns, meta["e_tag"] or None)
