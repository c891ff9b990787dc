"""Uris of object stores: `s3://bucket/key`, `gs://bucket/key`, `az://container/key`; keys stand unescaped."""

import re
from dataclasses import dataclass

from schemas.errors import UsageError

SCHEMES = {"s3": "S3", "gs": "Google Cloud Storage", "az": "Azure Blob Storage"}
"""The kinds of uri that are read and written, and what each is called."""

_REMOTE = re.compile(rf"({'|'.join(SCHEMES)})://")
_BUCKET = re.compile(r"[A-Za-z0-9$][A-Za-z0-9._-]{1,221}")
_CONTROL = re.compile(r"[\0-\x1f\x7f]")
_ODD = re.compile(r"[\0-\x1f\x7f]|(?:\A|/)\.{0,2}(?:/|\Z)")


@dataclass(frozen=True)
class Bucket:
    """One bucket, or container of Azure."""

    scheme: str
    name: str

    def __str__(self) -> str:
        return f"{self.scheme}://{self.name}"


def is_remote(uri: str) -> bool:
    """Tell whether `uri` names a place in an object store."""
    return _REMOTE.match(uri) is not None


def split(uri: str) -> tuple[Bucket, str]:
    """Return the bucket and the key, which is empty for the whole bucket. Raises UsageError.

    >>> split("s3://raw/2026/a b.jpg")[1]
    '2026/a b.jpg'
    """
    scheme, _, rest = uri.partition("://")
    bucket, _, key = rest.partition("/")
    if scheme not in SCHEMES or not _BUCKET.fullmatch(bucket):
        raise UsageError(f"{uri!r}: expected {scheme}://bucket/folder, with the bucket's name as it is in the store")
    return Bucket(scheme, bucket), key


def why_not_a_key(key: str) -> str:
    """Return why no object of this name can be read or written, '' where one can.

    Names with empty, '.' or '..' parts mean another place wherever a key becomes a path.
    """
    key = key.rstrip("/")
    if not key or not _ODD.search(key):
        return ""
    if _CONTROL.search(key):
        return "it has control characters"
    wrong = next(part for part in key.split("/") if part in ("", ".", ".."))
    return f"a part of it is {wrong!r}"


def join(folder: str, name: str) -> str:
    """Return the uri of `name`, with forward slashes, below the uri `folder`.

    >>> join("s3://raw/", "a.jpg")
    's3://raw/a.jpg'
    """
    return f"{folder.rstrip('/')}/{name}" if name else folder


def folder_of(uri: str) -> str:
    """Return the uri of the folder in which the object lies; that of a bucket is itself."""
    bucket, key = split(uri)
    above = key.rstrip("/").rpartition("/")[0]
    return join(str(bucket), above)


def real(uri: str) -> str:
    """Return the one way to write the uri of a folder: without a slash at the end."""
    bucket, key = split(uri)
    return join(str(bucket), key.strip("/"))
