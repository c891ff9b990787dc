"""What a message means: every kind of value, header and reference ends as an item, or as one that says why not."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

import schemas
from schemas.errors import ItemError, UsageError
from transforms.messages import EARLIEST_MS, AllowedRoots, Arrival, Record, arrivals

NOW = 1_790_000_000_000
JPEG = b"\xff\xd8\xff\xe0 not whole, but that is for decode to say"
NONE = AllowedRoots((), ())


def record(value: bytes | None, timestamp_ms: int | None = NOW, **headers: str) -> Record:
    told = tuple((name.replace("_", "-"), text.encode()) for name, text in headers.items())
    return Record("frames", 1, 42, timestamp_ms, b"key", value, told)


def the(record: Record, allowed: AllowedRoots = NONE) -> Arrival:
    [arrival] = arrivals(record, allowed)
    return arrival


def refused(value: bytes | None, allowed: AllowedRoots = NONE, **headers: str) -> str:
    return the(record(value, **headers), allowed).sent.error


def of_json(**told: Any) -> bytes:
    return json.dumps(told).encode()


def test_bytes_of_a_picture_need_no_header() -> None:
    """The message is the picture; its time is the record's, its name where it stands."""
    arrival = the(record(JPEG))
    assert (arrival.name, arrival.uri, arrival.size) == ("frames/1/42", "kafka://frames/1/42", len(JPEG))
    assert (arrival.timestamp_ms, arrival.sent.error, arrival.sent.source_id) == (NOW, "", None)
    assert arrival.sent.repairs == ()


def test_headers_tell_source_time_and_frame() -> None:
    """What the producer says wins over what the broker knows."""
    headers = (("source-id", b"gate 3"), ("timestamp-ms", str(NOW - 5).encode()), ("Frame-Index", b"7"))
    arrival = the(Record("frames", 1, 42, NOW, None, JPEG, headers))
    assert (arrival.sent.source_id, arrival.timestamp_ms, arrival.sent.frame_index) == ("gate 3", NOW - 5, 7)


@pytest.mark.parametrize(
    ("value", "headers", "error"),
    [
        (None, {}, "tombstone"),
        (b"", {}, "empty"),
        (JPEG, {"labelstream_version": "2"}, "unknown_version"),
        (JPEG, {"content_type": "audio/wav"}, "content_type"),
        (JPEG, {"content_type": "text/plain; charset=utf-8"}, "content_type"),
        (b"{", {}, "bad_reference"),
        (b"[1]", {"content_type": "application/json"}, "bad_reference"),
        (b"[" * 100_000, {"content_type": "application/json"}, "bad_reference"),
        (b" " * (1 << 21) + b"{}", {}, "bad_reference"),
        (of_json(path="/a.jpg"), {}, "bad_reference"),
        (of_json(uri=3), {}, "bad_reference"),
        (of_json(uri="/a.jpg", version="2"), {}, "unknown_version"),
        (of_json(uri="/a.jpg", range=[0, 5]), {}, "bad_reference"),
        (of_json(uri="/a.jpg", range={"offset": -1, "length": 5}), {}, "bad_reference"),
        (of_json(uri="/a.jpg", range={"offset": True, "length": 5}), {}, "bad_reference"),
        (of_json(uri="/a.jpg", pts="7"), {}, "bad_reference"),
        (of_json(uri="/a.jpg"), {}, "not_allowed"),
        (of_json(Records=[]), {}, "bad_reference"),
        (of_json(Records=[{"eventName": "ObjectCreated:Put"}]), {}, "bad_reference"),
        (of_json(specversion="1.0", type="t", data=[]), {}, "bad_reference"),
        (of_json(Service="Amazon S3", Event="s3:TestEvent"), {}, "bad_reference"),
    ],
)
def test_what_means_no_picture_is_an_item_that_says_why(
    value: bytes | None, headers: dict[str, str], error: str
) -> None:
    """Nothing crashes, and nothing vanishes."""
    arrival = the(record(value, **headers))
    assert (arrival.sent.error, arrival.name) == (error, "frames/1/42")
    assert arrival.sent.message


@pytest.mark.parametrize("told", ["", "soon", "12", "1790000000", "-5", "9" * 400, str(NOW + 100 * 86_400_000), "1e12"])
def test_an_absurd_time_is_replaced_by_the_record_s(told: str) -> None:
    """And the change is told, with what stood there before."""
    arrival = the(Record("frames", 1, 42, NOW, None, JPEG, (("timestamp-ms", told.encode()),)))
    [repair] = arrival.sent.repairs
    assert arrival.timestamp_ms == NOW
    assert (repair.rule, repair.field, repair.after) == ("message.timestamp", "timestamp_ms", str(NOW))
    assert repair.before is not None
    assert len(repair.before) < 100


def test_a_message_without_any_time_has_none() -> None:
    """A record without a time, or with that of 1970, tells nothing."""
    for timestamp_ms in (None, 0, EARLIEST_MS - 1):
        arrival = the(record(JPEG, timestamp_ms))
        assert arrival.timestamp_ms is None
        assert [repair.rule for repair in arrival.sent.repairs] == ["message.timestamp"]


def test_headers_that_cannot_be_read_are_told(tmp_path: Path) -> None:
    """A wrong frame number or an endless source id costs the header, not the picture."""
    headers = (("frame-index", b"-1"), ("source-id", b"x" * 5000))
    arrival = the(Record("frames", 1, 42, NOW, None, JPEG, headers))
    assert (arrival.sent.frame_index, arrival.sent.source_id, arrival.sent.error) == (None, None, "")
    assert [repair.rule for repair in arrival.sent.repairs] == ["message.header"] * 2


def test_references_are_followed_inside_the_allowed_folders_alone(tmp_path: Path) -> None:
    """Not beside them, not above them, not through a link out of them, and not by a name that begins alike."""
    inside = tmp_path / "in"
    inside.mkdir()
    (tmp_path / "in side").mkdir()
    (inside / "a.jpg").write_bytes(JPEG)
    (tmp_path / "secret").write_bytes(JPEG)
    (inside / "link").symlink_to(tmp_path / "secret")
    allowed = AllowedRoots.of([str(inside)])
    for uri in (f"{inside}/a.jpg", f"file://{inside}/a.jpg", f"{inside}/x/../a.jpg"):
        arrival = the(record(of_json(uri=uri)), allowed)
        assert (arrival.sent.error, arrival.uri) == ("", str(inside / "a.jpg"))
    for uri in (
        *(f"{tmp_path}/secret", f"{inside}/../secret", f"{inside}/link", f"{inside} side/a.jpg", "a.jpg", str(inside)),
        *(
            "file://elsewhere/etc/passwd",
            "s3://bucket/a.jpg",
            f"{inside}/a\0.jpg",
            "http://host/a.jpg",
            "kafka://x/0/1",
        ),
    ):
        assert refused(of_json(uri=uri), allowed) == "not_allowed", uri


def test_objects_are_followed_inside_the_allowed_buckets_alone() -> None:
    """A prefix ends at a slash, and no step leads out of it."""
    allowed = AllowedRoots.of(["s3://raw/2026"])
    assert allowed.resolve("s3://raw/2026/a b.jpg") == "s3://raw/2026/a b.jpg"
    for plain in ("s3://raw/2026/%2e%2e/b.jpg", "s3://raw/2026/..a/b?c#d.jpg", "s3://raw/2026/x?/y.jpg"):
        assert allowed.resolve(plain) == plain  # letters of a name
    for uri in (
        *("s3://raw/2026-secret/a.jpg", "s3://raw2/2026/a.jpg", "gs://raw/2026/a.jpg", "S3://raw/2026/a.jpg"),
        *("s3://raw/2026", "s3://raw//2026/a.jpg", "s3://raw/2026/../b.jpg", "s3://raw/2026/./b.jpg"),
        *(
            "s3://raw/2026//b.jpg",
            "s3://raw/2026/x?/../../b.jpg",
            "s3://raw/2026/#/../../b.jpg",
            "s3://raw/2026/a\n.jpg",
        ),
    ):
        with pytest.raises(ItemError, match="no root"):
            allowed.resolve(uri)
    assert AllowedRoots.of(["s3://raw/2026/", "s3://raw"]).prefixes == ("s3://raw/2026/", "s3://raw/")


def test_a_root_that_is_not_there_is_misuse(tmp_path: Path) -> None:
    """A typing mistake must not turn every reference into a failure."""
    with pytest.raises(UsageError, match="folder that is there"):
        AllowedRoots.of([str(tmp_path / "nowhere")])
    for wrong in ("http://host/a", "s3://", "s3://b_*d!/a", "s3://raw/2026/../b", "s3://raw//2026"):
        with pytest.raises(UsageError, match="expected"):
            AllowedRoots.of([wrong])


def test_an_upload_to_a_bucket_is_a_reference() -> None:
    """S3's event, with its names in their own encoding; each object is an item."""
    events = [
        {"eventName": "ObjectCreated:Put", "s3": {"bucket": {"name": "raw"}, "object": {"key": "a+b%C3%A9.jpg"}}},
        {"eventName": "s3:ObjectCreated:Put", "s3": {"bucket": {"name": "raw"}, "object": {"key": "c.jpg"}}},
        {"eventName": "ObjectRemoved:Delete", "s3": {"bucket": {"name": "raw"}, "object": {"key": "d.jpg"}}},
    ]
    found = arrivals(record(of_json(Records=events)), AllowedRoots.of(["s3://raw"]))
    assert [(each.name, each.uri, each.sent.error) for each in found] == [
        ("frames/1/42/0", "s3://raw/a bé.jpg", ""),
        ("frames/1/42/1", "s3://raw/c.jpg", ""),
        ("frames/1/42/2", "s3://raw/d.jpg", "not_an_upload"),
    ]


def test_cloud_events_are_references() -> None:
    """As one JSON, and as data with headers."""
    allowed = AllowedRoots.of(["gs://raw", "az://raw"])
    google = {"specversion": "1.0", "type": "google.cloud.storage.object.v1.finalized"}
    data = {"bucket": "raw", "name": "a b.jpg"}
    assert the(record(of_json(**google, data=data)), allowed).uri == "gs://raw/a b.jpg"
    assert the(record(of_json(**data), ce_specversion="1.0", ce_type=google["type"]), allowed).sent.error
    headers = (("ce_specversion", b"1.0"), ("ce_type", google["type"].encode()))
    assert the(Record("frames", 1, 42, NOW, None, of_json(**data), headers), allowed).uri == "gs://raw/a b.jpg"
    azure = {"url": "https://account.blob.core.windows.net/raw/a%20b.jpg"}
    event = of_json(specversion="1.0", type="Microsoft.Storage.BlobCreated", data=azure)
    assert the(record(event), allowed).uri == "az://raw/a b.jpg"
    gone = of_json(specversion="1.0", type="google.cloud.storage.object.v1.deleted", data=data)
    assert refused(gone, allowed) == "not_an_upload"


def test_what_a_reference_says_wins_over_headers(tmp_path: Path) -> None:
    """It was written by who knows the file; headers may come from a relay."""
    (tmp_path / "a.bin").write_bytes(JPEG)
    value = of_json(
        uri=str(tmp_path / "a.bin"),
        range={"offset": 3, "length": 5},
        source_id="cam",
        timestamp_ms=NOW - 9,
        frame_index=4,
        pts=-7,
    )
    arrival = the(record(value, source_id="relay"), AllowedRoots.of([str(tmp_path)]))
    assert (arrival.sent.source_id, arrival.timestamp_ms, arrival.sent.frame_index) == ("cam", NOW - 9, 4)
    assert (arrival.sent.span, arrival.pts, arrival.size) == ((3, 5), -7, -1)
    jsonschema.validate(json.loads(value), _schema("reference-1"))


def test_the_schema_refuses_what_the_reader_refuses() -> None:
    """The JSON Schema is the contract in words that other programs read."""
    for told in ({}, {"uri": 3}, {"uri": "a", "range": [1, 2]}, {"uri": "a", "pts": "1"}, {"uri": "a", "version": "2"}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(told, _schema("reference-1"))


@given(value=st.none() | st.binary(max_size=200), headers=st.dictionaries(st.text(max_size=20), st.binary(max_size=40)))
def test_any_bytes_end_as_items(value: bytes | None, headers: dict[str, bytes]) -> None:
    """Whatever a topic holds: at least one item, nothing raised, nothing looked at outside."""
    found = arrivals(Record("t", 0, 0, None, None, value, tuple(headers.items())), NONE)
    assert found
    assert all(each.name.startswith("t/0/0") and each.uri for each in found)


def _schema(name: str) -> dict[str, Any]:
    return dict(json.loads((Path(schemas.__file__).parent / f"{name}.json").read_bytes()))
