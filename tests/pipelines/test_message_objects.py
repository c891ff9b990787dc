"""Messages that name objects of a bucket, through a real broker, a real store and a whole run."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from pipelines.dataset import Dataset
from tests.brokers import Broker
from tests.buckets import S3
from tests.pipelines.conftest import outcomes
from tests.stored import Stored, new_bucket
from tests.streams import picture
from transforms.kafka import clients
from transforms.kafka.access import read_access


@pytest.fixture
def bucket(s3: S3, monkeypatch: pytest.MonkeyPatch) -> Stored:
    return new_bucket(s3, monkeypatch)


def send(broker: Broker, topic: str, *messages: dict[str, Any]) -> None:
    broker.create_topic(topic, 1)
    producer = clients.producer(broker.address, read_access(None))
    for message in messages:
        producer.send(topic, value=json.dumps(message).encode(), partition=0).get(10)
    clients.drop(producer)


def annotate(broker: Broker, topic: str, out: Path, *allowed: str) -> subprocess.CompletedProcess[str]:
    words = [
        *(sys.executable, "-m", "pipelines.annotate", "--detector", "none", "--classifier", "mini-xception"),
        *("--input", f"kafka://{broker.address}/{topic}", "--output", str(out), "--until-caught-up"),
        *(word for uri in allowed for word in ("--allow-uri", uri)),
    ]
    env = {**os.environ, "LABELSTREAM_STORE_PATIENCE": "3"}
    return subprocess.run(words, capture_output=True, text=True, timeout=180, check=False, env=env)


def test_objects_below_an_allowed_prefix_are_read(bucket: Stored, broker: Broker, tmp_path: Path) -> None:
    """Whole or in part; what is not there, and what is elsewhere, is a failure of that message alone."""
    odd = "2026/a b%20+#?*[é].jpg"
    bucket.put(odd, picture(1))
    bucket.put("2026/pack.bin", b"#" * 100 + picture(2) + b"#" * 50)
    bucket.put("2026-secret/a.jpg", picture(3))
    event = {"s3": {"bucket": {"name": bucket.name}, "object": {"key": "2026/pack.bin"}}, "eventName": "ObjectRemoved"}
    send(
        broker,
        "objects",
        {"uri": f"{bucket.uri}/{odd}"},
        {"uri": f"{bucket.uri}/2026/pack.bin", "range": {"offset": 100, "length": len(picture(2))}},
        {"uri": f"{bucket.uri}/2026/gone.jpg"},
        {"uri": f"{bucket.uri}/2026-secret/a.jpg"},
        {"uri": f"{bucket.uri}/2026/../2026-secret/a.jpg"},
        {"uri": f"{bucket.uri}/2026/pack.bin", "range": {"offset": 100, "length": 10**6}},
        {"Records": [event]},
    )
    done = annotate(broker, "objects", tmp_path / "out", f"{bucket.uri}/2026")
    assert done.returncode == 0, done.stderr
    failed = {2: "not_found", 3: "not_allowed", 4: "not_allowed", 5: "truncated", 6: "not_an_upload"}
    assert outcomes(tmp_path / "out") == {
        **{f"objects/0/{offset}": "labelled" for offset in (0, 1)},
        **{f"objects/0/{offset}": f"failed: {error}" for offset, error in failed.items()},
    }
    images = Dataset(tmp_path / "out").scan("images").filter(pl.col("file_name") == "objects/0/0").collect()
    assert images["source_uri"].to_list() == [f"{bucket.uri}/{odd}"]


def test_a_store_in_trouble_ends_the_epoch(bucket: Stored, broker: Broker, tmp_path: Path) -> None:
    """It is no failure of the message, which is done once the store is mended."""
    send(broker, "trouble", {"uri": "s3://in-none/a.jpg"})
    done = annotate(broker, "trouble", tmp_path / "out", "s3://in-none")
    assert done.returncode == 1, done.stderr
    assert "there is no bucket s3://in-none" in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists() or Dataset(tmp_path / "out").manifests == []
