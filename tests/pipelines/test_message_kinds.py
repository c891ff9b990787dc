"""Every kind of message that the contract knows, through a real broker and a whole run, to rows and results."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from pipelines.dataset import Dataset
from tests.brokers import Broker
from tests.streams import kcat, picture
from tests.videos import B_FRAMES, encode
from transforms.kafka import clients
from transforms.kafka.access import read_access
from transforms.video import read_frames

NOW = 1_790_000_000_000
TOPIC = "kinds"

Headers = dict[str, str]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a picture, a file with a picture in it, and videos."""
    folder = tmp_path_factory.mktemp("kinds")
    (folder / "a.jpg").write_bytes(picture(1))
    (folder / "pack.bin").write_bytes(b"#" * 100 + picture(2) + b"#" * 50)
    encode(folder / "segment.ts", options=B_FRAMES)
    encode(folder / "clip.mp4")
    return folder


def messages(files: Path) -> list[tuple[bytes | None, Headers]]:
    span = {"offset": 100, "length": len(picture(2))}
    clip = str(files / "clip.mp4")
    pts = [frame.moment.pts for frame in read_frames(clip, max_pixels=10**9)]

    def reference(**told: Any) -> bytes:
        return json.dumps(told).encode()

    stamp = {"timestamp-ms": str(NOW)}
    return [
        (picture(0), {}),
        (picture(0), {"content-type": "image/jpeg", "source-id": "gate", "frame-index": "7", **stamp}),
        ((files / "segment.ts").read_bytes(), {"content-type": "video/mp2t", "source-id": "tape", **stamp}),
        ((files / "clip.mp4").read_bytes(), stamp),
        (reference(uri=str(files / "a.jpg"), source_id="disk", timestamp_ms=NOW), {}),
        (reference(uri=f"file://{files}/pack.bin", range=span), {"content-type": "application/json"}),
        (reference(uri=clip), stamp),
        (reference(uri=clip, pts=pts[3]), stamp),
        (reference(uri=clip, pts=pts[3] + 1), {}),
        (reference(uri=clip, range=span), {}),
        (reference(uri=str(files / "gone.jpg")), {}),
        (reference(uri=str(files / "pack.bin"), range={"offset": 0, "length": 10**6}), {}),
        (picture(0), {"timestamp-ms": "12"}),
        (None, {}),
    ]


@pytest.fixture(scope="module")
def made(broker: Broker, files: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    """Return the data set of one run over one message of each kind, and what kcat reads of its results."""
    broker.create_topic(TOPIC, 1)
    producer = clients.producer(broker.address, read_access(None))
    for value, headers in messages(files):
        told = [(name, text.encode()) for name, text in headers.items()]
        producer.send(TOPIC, value=value, key=b"key", headers=told, partition=0).get(10)
    clients.drop(producer)
    out = tmp_path_factory.mktemp("made") / "out"
    at = f"kafka://{broker.address}/{TOPIC}"
    words = [
        *(sys.executable, "-m", "pipelines.annotate", "--detector", "none", "--classifier", "mini-xception"),
        *("--input", at, "--output", str(out), "--results", f"{at}-labels", "--allow-uri", str(files)),
        "--until-caught-up",
    ]
    done = subprocess.run(words, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr
    return out, [json.loads(line) for line in kcat(broker, f"{TOPIC}-labels", "%s\n").splitlines()]


def rows(out: Path, offset: int) -> list[dict[str, Any]]:
    images = Dataset(out).scan("images").filter(pl.col("file_name") == f"{TOPIC}/0/{offset}")
    return images.collect().to_dicts()


def test_pictures_are_rows(made: tuple[Path, list[dict[str, Any]]]) -> None:
    """With the source, frame and time that headers tell; the same bytes twice are no duplicates."""
    [bare], [told], [odd] = (rows(made[0], offset) for offset in (0, 1, 12))
    assert bare["outcome"] == told["outcome"] == odd["outcome"] == "labelled"
    assert (bare["source_id"], bare["frame_index"]) == (None, None)
    assert (told["source_id"], told["frame_index"], told["timestamp_ms"]) == ("gate", 7, NOW)
    assert told["video_id"] is None
    assert bare["sha256"] == told["sha256"] and bare["image_id"] != told["image_id"]
    changes = Dataset(made[0]).scan("changes").filter(pl.col("rule") == "message.timestamp").collect().to_dicts()
    assert [(change["image_id"], change["before"]) for change in changes] == [(odd["image_id"], "12")]


@pytest.mark.parametrize(("offset", "name"), [(2, "segment.ts"), (3, "clip.mp4"), (6, "clip.mp4")])
def test_videos_are_their_frames(offset: int, name: str, made: tuple[Path, list[dict[str, Any]]], files: Path) -> None:
    """As the value or by reference; the first frame has the message's time, and each has its own result."""
    frames = list(read_frames(str(files / name), max_pixels=10**9))
    found = sorted(rows(made[0], offset), key=lambda row: row["frame_index"])
    assert [row["pts_ms"] for row in found] == [frame.moment.pts_ms for frame in frames]
    after = [row["pts_ms"] - found[0]["pts_ms"] for row in found]
    assert [row["timestamp_ms"] - NOW for row in found] == pytest.approx(after, abs=1)
    assert {row["source_id"] for row in found} == {"tape" if offset == 2 else None}
    told = [each for each in made[1] if each["file_name"] == f"{TOPIC}/0/{offset}"]
    assert sorted(each["image_id"] for each in told) == sorted(row["image_id"] for row in found)


def test_references_are_what_they_name(made: tuple[Path, list[dict[str, Any]]], files: Path) -> None:
    """A file, bytes of a file, one frame of a video."""
    [whole], [part], [frame] = (rows(made[0], offset) for offset in (4, 5, 7))
    [plain] = rows(made[0], 0)
    assert (whole["source_uri"], whole["source_id"], whole["timestamp_ms"]) == (str(files / "a.jpg"), "disk", NOW)
    assert (part["width"], part["height"]) == (plain["width"], plain["height"])
    assert (frame["frame_index"], frame["timestamp_ms"]) == (3, pytest.approx(NOW, abs=1))


def test_what_cannot_be_read_fails_by_name(made: tuple[Path, list[dict[str, Any]]]) -> None:
    """In the failures and in the results alike."""
    expected = {8: "no_such_frame", 9: "unsupported", 10: "not_found", 11: "truncated", 13: "tombstone"}
    failures = Dataset(made[0]).scan("failures").select("file_name", "error").collect().rows()
    assert dict(failures) == {f"{TOPIC}/0/{offset}": error for offset, error in expected.items()}
    told = {each["source"]["offset"]: each["error"] for each in made[1] if each["outcome"] == "failed"}
    assert told == expected
