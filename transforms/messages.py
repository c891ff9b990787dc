"""From a message to the items that it means: a picture, a short video, or a reference to a file or an object.

The contract is told in schemas/README.md. Nothing is raised here: a message that means no picture is an item that says
why. What a message names is only ever looked up in the roots that the user allowed.
"""

# Paths as texts: realpath is what shows whether a name stays within its root.
# ruff: noqa: PTH112, PTH117

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import unquote, unquote_plus, urlsplit

from schemas.errors import ItemError, UsageError
from schemas.messages import CONTENT_TYPE, CONTRACT_VERSION, FRAME_INDEX, SOURCE_ID, TIMESTAMP_MS, VERSION_HEADER
from schemas.reasons import Rule
from schemas.records import Repair, Sent
from transforms.buckets.names import SCHEMES, is_remote, real, split, why_not_a_key
from transforms.storage import HELD, printable

EARLIEST_MS = 631_152_000_000
"""1990: what lies before is a time in seconds, or none."""

LATEST_AHEAD_MS = 86_400_000
"""A day: how far a producer's clock may be before its broker's."""

MOST_JSON_BYTES = 1 << 20
_MOST_TEXT = 1000
_MOST_NAMED = 1000
_MOST_FRAMES = 2**31 - 1


@dataclass(frozen=True)
class Record:
    """One record of a topic as the broker has it; `timestamp_ms` is null where it has none."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int | None
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]

    @property
    def name(self) -> str:
        """Where the record stands: topic/partition/offset."""
        return f"{self.topic}/{self.partition}/{self.offset}"


@dataclass(frozen=True)
class Arrival:
    """One item of a message.

    `name` is where the message stands, with a number where it means several. `uri` opens the picture, `size` is in
    bytes, -1 where only reading tells. `pts` names one frame of a video in its stream's time base, null for all that
    the file holds.
    """

    name: str
    uri: str
    size: int
    timestamp_ms: int | None
    pts: int | None
    sent: Sent


@dataclass(frozen=True)
class AllowedRoots:
    """The folders and buckets in which references are followed."""

    folders: tuple[str, ...]
    prefixes: tuple[str, ...]

    @staticmethod
    def of(named: Sequence[str]) -> "AllowedRoots":
        """Return the roots that `--allow-uri` names; raise `UsageError` for one that is none."""
        folders: list[str] = []
        prefixes: list[str] = []
        for name in named:
            path = _local(name)
            if path is None and is_remote(name):
                _, key = split(name)
                if why := why_not_a_key(key):
                    raise UsageError(f"--allow-uri {printable(name)}: expected a folder of a bucket, but {why}")
                prefixes.append(real(name) + "/")
            elif path is None:
                kinds = ", ".join(f"{scheme}://" for scheme in SCHEMES)
                raise UsageError(f"--allow-uri {printable(name)}: expected a folder, or a uri of {kinds}")
            elif not os.path.isdir(path):
                raise UsageError(f"--allow-uri {printable(name)}: expected a folder that is there, or a bucket's uri")
            else:
                folders.append(os.path.realpath(path))
        return AllowedRoots(tuple(folders), tuple(prefixes))

    def resolve(self, uri: str) -> str:
        """Return what opens `uri`; raise ItemError "not_allowed" where it lies in none of the roots."""
        path = _local(uri)
        if path is None:
            # Keys stand as they are: "%2e%2e" and "?" are letters of a name.
            if uri.startswith(self.prefixes) and is_remote(uri) and not why_not_a_key(split(uri)[1]):
                return uri
        elif os.path.isabs(path) and "\0" not in path:
            real = os.path.realpath(path)
            if any(real.startswith(folder.rstrip(os.sep) + os.sep) for folder in self.folders):
                return real
        raise ItemError("not_allowed", f"{_short(uri)} lies in no root that --allow-uri names: it was not looked at")


def _local(uri: str) -> str | None:
    """Return the path of a name without a scheme, or of a file: uri; null for another."""
    if uri.startswith("file:"):
        split = urlsplit(uri)
        return unquote(split.path) if split.netloc in ("", "localhost") else None
    return uri if "://" not in uri else None


def arrivals(record: Record, allowed: AllowedRoots) -> list[Arrival]:
    """Return what the message means, at least one item; an item whose `sent.error` is not empty has no picture."""
    headers = _headers(record)
    try:
        kind = _kind(record, headers)
        if kind == "json":
            named = _named(_parsed(record.value or b""), headers, record)
            return list(_references(record, headers, named, allowed))
        return [_arrival(record, record.name, headers, HELD + record.name, len(record.value or b""), None)]
    except ItemError as error:
        return [_refused(record, record.name, headers, error)]


def held(record: Record) -> tuple[str, bytes]:
    """Return the name under which a message's bytes are read, and the bytes."""
    return HELD + record.name, record.value or b""


def _headers(record: Record) -> dict[str, str]:
    """Return the headers as texts, names in small letters; the last of several counts, as with HTTP."""
    return {name.lower(): (value or b"").decode("utf-8", "backslashreplace") for name, value in record.headers}


def _kind(record: Record, headers: Mapping[str, str]) -> str:
    """Return "json" or "picture"; raise ItemError for what is neither."""
    version = headers.get(VERSION_HEADER, CONTRACT_VERSION)
    if version != CONTRACT_VERSION:
        raise ItemError(
            "unknown_version",
            f"expected version {CONTRACT_VERSION} of the contract, the message says {_short(version)}",
        )
    if record.value is None:
        raise ItemError("tombstone", "expected a picture, found a message without a value (a tombstone)")
    if not record.value:
        raise ItemError("empty", "expected a picture, found an empty message")
    told = headers.get(CONTENT_TYPE, "").split(";")[0].strip().lower()
    if told == "application/json" or told.endswith("+json") or "ce_specversion" in headers:
        return "json"
    if told in ("", "application/octet-stream"):
        return "json" if record.value.lstrip()[:1] == b"{" else "picture"
    if told.startswith(("image/", "video/")):
        return "picture"
    raise ItemError(
        "content_type", f"expected a picture, a video or a reference, the message says that it is {_short(told)}"
    )


def _parsed(value: bytes) -> dict[str, Any]:
    if len(value) > MOST_JSON_BYTES:
        raise ItemError("bad_reference", f"expected a small JSON, found one of {len(value):,} bytes")
    try:
        told = json.loads(value)
    except (ValueError, RecursionError) as error:
        raise ItemError("bad_reference", f"expected a picture or a reference, found no whole JSON: {error}") from None
    if not isinstance(told, dict):
        raise ItemError("bad_reference", "expected a JSON object with a uri")
    return told


def _named(told: dict[str, Any], headers: Mapping[str, str], record: Record) -> list[dict[str, Any]]:
    """Return the references that a JSON means, as our own contract writes them."""
    if "Records" in told:
        return _of_bucket(told["Records"])
    if "specversion" in told:
        return [_of_event(told, told.get("data"))]
    if "ce_specversion" in headers:
        return [_of_event({name[3:]: text for name, text in headers.items() if name.startswith("ce_")}, told)]
    if "uri" not in told:
        raise ItemError(
            "bad_reference", 'expected a JSON with "uri", an S3 event or a CloudEvent, found none of the three'
        )
    version = str(told.get("version", CONTRACT_VERSION))
    if version != CONTRACT_VERSION:
        raise ItemError(
            "unknown_version", f"expected version {CONTRACT_VERSION} of the contract, found {_short(version)}"
        )
    return [told]


def _of_bucket(records: Any) -> list[dict[str, Any]]:
    """Return the uploads of an S3 event. Source: the event message structure of S3's user guide."""
    if not isinstance(records, list) or not 0 < len(records) <= _MOST_NAMED:
        raise ItemError("bad_reference", f'expected an S3 event with 1 to {_MOST_NAMED} "Records"')
    named = []
    for record in records:
        try:
            event, place = str(record["eventName"]), record["s3"]
            uri = f"s3://{place['bucket']['name']}/{unquote_plus(place['object']['key'])}"
        except (KeyError, TypeError) as error:
            raise ItemError("bad_reference", f"expected an S3 event, but {error} is missing in it") from None
        if "ObjectCreated" not in event:
            named.append({"uri": uri, "refused": f"expected an upload, the event is {_short(event)}"})
        else:
            named.append({"uri": uri})
    return named


def _of_event(event: Mapping[str, Any], data: Any) -> dict[str, Any]:
    """Return what a CloudEvent names. Source: the events of Google Cloud Storage and Azure Blob Storage."""
    if not isinstance(data, dict):
        raise ItemError("bad_reference", 'expected a CloudEvent with "data" that names an object')
    kind = str(event.get("type", ""))
    if "uri" in data:
        return data
    if isinstance(data.get("bucket"), str) and isinstance(data.get("name"), str):
        named = {"uri": f"gs://{data['bucket']}/{data['name']}"}
    elif isinstance(data.get("url"), str) and ".blob." in urlsplit(data["url"]).netloc:
        named = {"uri": "az://" + unquote(urlsplit(data["url"]).path).lstrip("/")}
    else:
        raise ItemError("bad_reference", f"expected a CloudEvent that names an object, found {_short(kind)}")
    uploaded = kind.endswith((".finalized", "BlobCreated")) or not kind
    return named if uploaded else named | {"refused": f"expected an upload, the event is {_short(kind)}"}


def _references(
    record: Record, headers: Mapping[str, str], named: Sequence[dict[str, Any]], allowed: AllowedRoots
) -> Iterator[Arrival]:
    for number, reference in enumerate(named):
        name = record.name if len(named) == 1 else f"{record.name}/{number}"
        said = dict(headers)
        for header, field in ((SOURCE_ID, "source_id"), (TIMESTAMP_MS, "timestamp_ms"), (FRAME_INDEX, "frame_index")):
            if reference.get(field) is not None:
                said[header] = str(reference[field])
        try:
            if "refused" in reference:
                raise ItemError("not_an_upload", reference["refused"])
            if not isinstance(reference["uri"], str):
                raise ItemError("bad_reference", '"uri" must be a text')
            span, pts = _span(reference.get("range")), _whole(reference.get("pts"), "pts")
            opens = allowed.resolve(reference["uri"])
            arrival = _arrival(record, name, said, opens, -1, pts)
            yield replace(arrival, sent=replace(arrival.sent, span=span))
        except ItemError as error:
            yield _refused(record, name, said, error, uri=str(reference["uri"]))


def _span(told: Any) -> tuple[int, int] | None:
    if told is None:
        return None
    offset, length = (
        (_whole(told.get("offset"), "offset"), _whole(told.get("length"), "length"))
        if isinstance(told, dict)
        else (None, None)
    )
    if offset is None or not length or offset < 0 or length < 0:
        raise ItemError("bad_reference", 'expected "range": {"offset": N, "length": M} in bytes')
    return offset, length


def _whole(told: Any, what: str) -> int | None:
    if told is None or (isinstance(told, int) and not isinstance(told, bool) and abs(told) < 2**62):
        return told
    raise ItemError("bad_reference", f'expected a whole number for "{what}"')


def _arrival(record: Record, name: str, headers: Mapping[str, str], uri: str, size: int, pts: int | None) -> Arrival:
    timestamp_ms, repairs = _time(headers.get(TIMESTAMP_MS), record.timestamp_ms)
    frame, more = _frame_index(headers.get(FRAME_INDEX))
    source = headers.get(SOURCE_ID)
    if source is not None and len(source) > _MOST_TEXT:
        more += (Repair("source_id", _cut(source), None, Rule.MESSAGE_HEADER),)
        source = None
    return Arrival(name, uri, size, timestamp_ms, pts, Sent(source or None, frame, None, repairs + more, "", ""))


def _refused(
    record: Record, name: str, headers: Mapping[str, str], error: ItemError, uri: str | None = None
) -> Arrival:
    arrival = _arrival(record, name, headers, uri or HELD + record.name, len(record.value or b""), None)
    return replace(arrival, sent=replace(arrival.sent, error=error.error, message=str(error)))


def _time(told: str | None, of_record: int | None) -> tuple[int | None, tuple[Repair, ...]]:
    """Return the picture's time: the header's, else the record's; what is absurd or missing is told."""
    sane = of_record if of_record is not None and of_record >= EARLIEST_MS else None
    if told is None:
        return sane, () if sane is not None else (Repair("timestamp_ms", None, None, Rule.MESSAGE_TIMESTAMP),)
    try:
        stamp = int(told) if len(told) <= 20 else 0
    except ValueError:
        stamp = 0
    if EARLIEST_MS <= stamp <= (sane or 2**53) + LATEST_AHEAD_MS:
        return stamp, ()
    return sane, (Repair("timestamp_ms", _cut(told), None if sane is None else str(sane), Rule.MESSAGE_TIMESTAMP),)


def _frame_index(told: str | None) -> tuple[int | None, tuple[Repair, ...]]:
    if told is None:
        return None, ()
    if told.isascii() and told.isdigit() and len(told) <= 10 and int(told) <= _MOST_FRAMES:
        return int(told), ()
    return None, (Repair("frame_index", _cut(told), None, Rule.MESSAGE_HEADER),)


def _short(text: str) -> str:
    return repr(_cut(text))


def _cut(text: str) -> str:
    shown = printable(text)
    return shown if len(shown) <= 80 else shown[:77] + "..."
