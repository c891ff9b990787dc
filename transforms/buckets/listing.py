"""What lies below a folder of a bucket, object by object: without the markers of folders, and with odd names too.

The client library fails a whole page of a listing for one name that it cannot address (control characters; empty, '.'
or '..' parts). On S3 such a page is asked for again through botocore, so that one odd name stops nothing.
"""

import errno
from collections import deque
from collections.abc import Generator, Iterator
from datetime import datetime
from operator import itemgetter
from typing import Any

from schemas.errors import UsageError
from transforms.ahead import Ahead
from transforms.buckets import objects
from transforms.buckets.faults import Away
from transforms.buckets.names import Bucket, split, why_not_a_key
from transforms.buckets.objects import Entry
from transforms.buckets.stores import s3_client

_ENTRIES_AHEAD = 2000
"""Names of a folder that are asked for while others are worked on."""

_FOLDERS_AT_ONCE = 6

_FEW_FOLDERS = 16
"""A folder with fewer folders than these is looked into further, to have enough to ask for at once."""

_DEEPEST = 6


def is_odd(entry: Entry) -> bool:
    """Say whether no object of this name can be read."""
    return bool(why_not_a_key(entry.key))


def require_listing(folder: str) -> None:
    """Raise UsageError where the input's bucket is not there or not ours, sooner than patience ends.

    Raises `Away` where another try, later, may go well, and OSError where listing is not permitted.
    """
    try:
        objects.require_bucket(folder)
    except Away as error:
        if error.may_pass:
            raise
        raise UsageError(f"No input found: {error}.") from None
    except OSError as error:
        if error.errno != errno.EINVAL or why_not_a_key(split(folder)[1]):
            raise  # else an odd name below it


def objects_below(folder: str) -> Iterator[Entry]:
    """Yield the objects below `folder` in the order of their names as UTF-8.

    Raises `Away`, and OSError where listing is not permitted; UsageError for an odd name in a store that is not S3.
    """
    held: Entry | None = None
    for page in _pages(folder):
        for entry in page:
            if held is not None and not _is_marker(folder, held, entry):
                yield held
            held = entry
    if held is not None and not _is_marker(folder, held, None):
        yield held


def _is_marker(folder: str, entry: Entry, following: Entry | None) -> bool:
    """Say whether this is an empty object `name/` that stands for a folder: listed without the slash, never read."""
    if entry.size:
        return False
    if entry.key == split(folder)[1].strip("/"):
        return True
    if is_odd(entry):
        return False
    if following is not None and following.key.startswith(f"{entry.key}/"):
        return True
    if any(letter.isalpha() for letter in entry.key.rpartition("/")[2].partition(".")[2]):
        return False  # a file's extension
    return not objects.is_object(folder, entry)


def _behind(folder: str, end: Entry | None) -> str:
    return "" if end is None else objects.behind(folder, end)


def _pages(folder: str) -> Iterator[list[Entry]]:
    """Yield the pages of a folder in order, while the next ones are asked for: several at once where it has folders."""
    running: deque[list[list[Entry]] | Ahead[list[Entry]]] = deque()
    most = 1  # who looks for a first name only does not want the rest
    try:
        for part in _parts(folder, 0):
            running.append([part] if isinstance(part, list) else Ahead(_in_turn(part), len, _ENTRIES_AHEAD))
            if len(running) == most:
                yield from running.popleft()
                most = _FOLDERS_AT_ONCE
        while running:
            yield from running.popleft()
    finally:
        for each in running:
            if isinstance(each, Ahead):
                each.close()


def _parts(folder: str, depth: int) -> Iterator[str | list[Entry]]:
    """Yield what a folder consists of, in order: the uris of folders, to be listed whole, and entries between these.

    Of a store that is not S3, and of a folder that is large and flat, that is the folder itself.
    """
    bucket, _ = split(folder)
    if bucket.scheme != "s3" or depth == _DEEPEST:
        yield folder
        return
    page = _level(bucket, folder)
    entries = [_entry(told) for told in page.get("Contents", ())]
    below = [told["Prefix"] for told in page.get("CommonPrefixes", ())]
    is_flat = page["IsTruncated"] or not (below or entries)
    if is_flat or any(why_not_a_key(name) for name in (*below, *(entry.key for entry in entries))):
        yield folder
        return
    named: list[tuple[str, Entry | None]] = [(name, None) for name in below]
    named += [(told["Key"], entry) for told, entry in zip(page.get("Contents", ()), entries, strict=True)]
    held: list[Entry] = []
    for name, entry in sorted(named, key=itemgetter(0)):
        if entry is not None:
            held.append(entry)
            continue
        if held:
            yield held
            held = []
        inner = objects.uri_of(folder, name.rstrip("/"))
        yield from _parts(inner, depth + 1) if len(below) < _FEW_FOLDERS else (inner,)
    if held:
        yield held


def _level(bucket: Bucket, folder: str) -> Any:
    """Return the first page of what lies directly in a folder, as botocore tells it; one of a flat folder in trouble."""
    from botocore.exceptions import BotoCoreError, ClientError

    prefix = split(folder)[1].strip("/")
    try:
        return s3_client().list_objects_v2(Bucket=bucket.name, Prefix=f"{prefix}/" if prefix else "", Delimiter="/")
    except (BotoCoreError, ClientError, ValueError):
        return {"IsTruncated": True}  # the other client tells what is wrong


def _in_turn(folder: str) -> Generator[list[Entry], None, None]:
    """Yield the pages of a folder one after the other."""
    end: Entry | None = None
    while True:
        try:
            for page in objects.walk(folder, _behind(folder, end)):
                if page:
                    yield page
                    end = page[-1]
            return
        except OSError as error:
            if error.errno != errno.EINVAL or why_not_a_key(split(folder)[1]):
                raise
            told = str(error.__context__).partition("\n\n")[0]
        bucket, _ = split(folder)
        if bucket.scheme != "s3":
            raise UsageError(
                f"{folder}: an object below it has a name that cannot be read here ({' '.join(told.split())}): "
                "rename it, or name other folders"
            )
        for page in _odd_pages(bucket, folder, _behind(folder, end)):
            yield page
            end = page[-1]
            if not is_odd(end):
                break
        else:
            return


def _odd_pages(bucket: Bucket, folder: str, after: str) -> Iterator[list[Entry]]:
    """Yield the pages behind the key `after` as botocore lists them. Raises `Away`."""
    from botocore.exceptions import BotoCoreError, ClientError

    prefix = split(folder)[1].strip("/")
    request = {"Bucket": bucket.name, "Prefix": f"{prefix}/" if prefix else "", "StartAfter": after}
    try:
        for page in s3_client().get_paginator("list_objects_v2").paginate(**request):
            if entries := [_entry(told) for told in page.get("Contents", ())]:
                yield entries
    except (BotoCoreError, ClientError, ValueError) as error:
        raise Away(f"cannot list {folder}: {error}", may_pass=True) from None


def _entry(told: Any) -> Entry:
    moment: datetime = told["LastModified"]
    ns = int(moment.timestamp()) * 1_000_000_000 + moment.microsecond * 1000
    return Entry(told["Key"].removesuffix("/"), told["Size"], ns, told.get("ETag") or None)
