"""Topics into a data set in a bucket, exactly once, whatever dies on the way."""

import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import pytest

from pipelines.dataset import Dataset
from tests.buckets import S3
from tests.streams import Stream, World, require_equal, wait_until
from transforms.places import Place, place


@dataclass
class There:
    """A world whose streams go into a bucket of its own."""

    world: World
    bucket: str
    secret: str

    def stream(self) -> Stream:
        """Return a new topic, with a data set in the bucket; a `Prefix` does what streams ask of a path."""
        made = self.world.stream()
        made.out = cast(Path, place(f"s3://{self.bucket}/{made.out.name}"))
        return made


@pytest.fixture(scope="module")
def there(s3: S3) -> Iterator[There]:
    """A broker that may be killed, and runs that start fast and find the store by their environment."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in s3.env.items():
            patch.setenv(name, value)
        made = There(World.begin(), s3.make_bucket("streams"), s3.env["AWS_SECRET_ACCESS_KEY"])
        yield made
        made.world.end()


@pytest.fixture(autouse=True)
def _in_use(s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in s3.env.items():
        monkeypatch.setenv(name, value)


def files(stream: Stream) -> dict[str, bytes]:
    """Return what is in the data set."""
    where = cast(Place, stream.out)
    return {str(path): path.read_bytes() for path in where.rglob("*")}


def test_messages_are_committed_into_a_bucket_once(there: There) -> None:
    """With their results; a run that has caught up commits nothing, and the next goes on where it ended."""
    stream = there.stream()
    stream.feed(60).fed()
    said = stream.catch_up("--epoch-items=25")
    assert stream.require_exactly_once() == 60
    epochs = stream.manifests
    assert epochs >= 3
    before = files(stream)
    said += stream.catch_up("--epoch-items=25")
    changed = {name for name, data in files(stream).items() if before.get(name) != data}
    assert stream.manifests == epochs and not any("/images/" in name for name in changed)
    stream.feed(20, first=1000).fed()
    said += stream.catch_up("--epoch-items=25")
    assert stream.require_exactly_once() == 80
    for text in (said.encode(), *files(stream).values()):
        assert there.secret.encode() not in text


def test_killed_runs_lose_and_double_nothing(there: There) -> None:
    """At any moment, over and over; the lock of a run that died on this machine is waited for by nobody."""
    stream = there.stream()
    feed = stream.feed(200, rate=60.0)
    left: list[bool] = []
    for number in range(4):
        job = stream.start("--epoch-items=40", "--epoch-seconds=0.3")
        plans = stream.plans
        wait_until(lambda at=plans: stream.plans > at, 60, "a new plan")
        time.sleep(0.05 * number)
        job.kill()
        left.append(stream.plans > stream.manifests)
        assert "Traceback" not in job.said() and "sign of life" not in job.said()
    feed.fed()
    stream.catch_up("--epoch-items=100")
    assert any(left)
    assert stream.require_exactly_once() == 200


def test_a_run_compacts_what_it_commits(there: There) -> None:
    """Every so many epochs; messages and results are there once all the same."""
    stream = there.stream()
    stream.feed(60).fed()
    stream.catch_up("--epoch-items=5", "--compact-every=11")
    manifests = Dataset(stream.out).manifests
    assert any(manifest.is_folded for manifest in manifests)
    assert stream.manifests >= 12 > len(manifests)
    assert stream.require_exactly_once() == 60
    plain = there.world.stream()
    plain.topic, plain.labels = stream.topic, "unused"
    plain.catch_up("--epoch-items=1000", results=False)
    require_equal(stream.out, plain.out)


def test_a_zombie_in_a_bucket_is_shut_out(there: There) -> None:
    """A run that hung while another took over ends with exit 1, and harms nothing."""
    stream = there.stream()
    stream.feed(100, batch=100).fed()
    words = ("--epoch-items=10", "--epoch-seconds=0.2")
    job = stream.start(*words)
    wait_until(lambda: stream.manifests >= 1, 60, "the first epoch")
    job.signal(signal.SIGSTOP)
    stream.start(*words, "--take-over", "--until-caught-up").ended_well(120)
    job.signal(signal.SIGCONT)
    assert "taken over" in job.ended_well(60, code=1)
    assert stream.require_exactly_once() == 100
