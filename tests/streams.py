"""Streams for tests: pictures that are told apart, a feed that survives its broker, runs that start fast, the truth.

The truth about a topic is what kcat, a reader that is not ours, finds in it with `read_committed`.
"""

import hashlib
import itertools
import json
import os
import random
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Self

import cv2
import numpy as np
import polars as pl
from kafka.errors import KafkaError

from pipelines.dataset import Dataset, is_dataset
from pipelines.outbox import LEDGER
from pipelines.samples import scenes
from schemas.errors import RunError
from tests.brokers import Broker
from tests.soak.kills import Broken, require_whole
from transforms.kafka import clients
from transforms.kafka.access import Access

ROOT = Path(__file__).resolve().parents[1]
SIDE_PX = 48
QUIET_EXIT_S = 60.0
"""How long a run may take to end by itself before a test gives up, on a busy machine."""


@cache
def _bases() -> list[np.ndarray]:
    size = (SIDE_PX, SIDE_PX)
    return [cv2.resize(scene.rgb[:, :, ::-1], size, interpolation=cv2.INTER_AREA) for scene in scenes()]


def picture(number: int) -> bytes:
    """Return a small JPEG with the number on it: another number is another sha256."""
    drawn = _bases()[number % len(_bases())].copy()
    cv2.putText(drawn, f"{number:07d}", (1, 44), cv2.FONT_HERSHEY_PLAIN, 0.6, (255, 255, 255))
    drawn[0, :24] = [[255 * (number >> bit & 1)] * 3 for bit in range(24)]
    return cv2.imencode(".jpg", drawn, [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes()


def wait_until(found: Callable[[], Any], seconds: float, what: str) -> Any:
    """Return what `found` returns as soon as it is true; raise `Broken` after so many seconds."""
    deadline = time.monotonic() + seconds
    while not (result := found()):
        if time.monotonic() > deadline:
            raise Broken(f"waited {seconds:.0f} s in vain for {what}")
        time.sleep(0.05)
    return result


# ---------------------------------------------------------------------------------------------------------- the feed


class Feed(threading.Thread):
    """Sends numbered pictures to a topic in transactions, some of which it aborts; goes on when the broker is back.

    A commit that was not answered is not counted: how many messages there are only the topic knows.
    """

    def __init__(
        self,
        broker: Broker,
        topic: str,
        messages: int,
        *,
        partitions: Sequence[int] = (0, 1),
        rate: float = 1e9,
        batch: int = 10,
        abort_every: int = 7,
        sources: int = 3,
        first: int = 0,
        send: Callable[[int], bytes] = picture,
    ) -> None:
        """`abort_every` 0 aborts nothing; `rate` is in messages a second."""
        super().__init__(daemon=True)
        self.broker, self.topic, self.messages, self.partitions = broker, topic, messages, partitions
        self.rate, self.batch, self.abort_every, self.sources = rate, batch, abort_every, sources
        self.numbers = itertools.count(first)
        self.send = send
        self.committed = self.aborted = self.troubles = 0
        self.enough = threading.Event()

    def run(self) -> None:
        """Send until enough messages are committed."""
        producer, turn, started = None, 0, time.monotonic()
        while self.committed < self.messages and not self.enough.is_set():
            try:
                producer = producer or self._producer()
                turn += 1
                aborts = bool(self.abort_every) and turn % self.abort_every == 0
                size = min(self.batch, self.messages - self.committed)
                self._transaction(producer, size, aborts)
            except (KafkaError, RunError):
                self.troubles += 1
                if producer is not None:
                    clients.drop(producer)
                producer = None
                time.sleep(0.2)
                continue
            self.committed, self.aborted = self.committed + size * (not aborts), self.aborted + size * aborts
            due = (self.committed + self.aborted) / self.rate - (time.monotonic() - started)
            self.enough.wait(max(0.0, due))
        if producer is not None:
            clients.drop(producer)

    def _producer(self) -> Any:
        made = clients.producer(self.broker.address, Access(), transactional_id=f"feed-{self.topic}")
        clients.within(20, made.init_transactions)
        return made

    def _transaction(self, producer: Any, size: int, aborts: bool) -> None:
        producer.begin_transaction()
        sent = []
        for number in itertools.islice(self.numbers, size):
            headers = [("content-type", b"image/jpeg"), ("source-id", b"camera-%d" % (number % self.sources))]
            headers.append(("timestamp-ms", b"%d" % (time.time() * 1000)))
            partition = self.partitions[number % len(self.partitions)]
            sent.append(producer.send(self.topic, self.send(number), partition=partition, headers=headers))
        producer.flush(5)
        for future in sent:
            future.get(timeout=5)
        clients.within(20, producer.abort_transaction if aborts else producer.commit_transaction)

    def fed(self, seconds: float = 120.0) -> Self:
        """Wait for its end."""
        self.join(seconds)
        if self.is_alive() or not (self.enough.is_set() or self.committed >= self.messages):
            raise Broken(f"the feed sent {self.committed} of {self.messages} messages in {seconds:.0f} s")
        return self


# ----------------------------------------------------------------------------------------------------------- the runs


class Job:
    """A running pipeline: a process that the nursery bore."""

    def __init__(self, pid: int, said: Path, ended: Path) -> None:
        self.pid, self._said, self._ended = pid, said, ended
        self.began = time.monotonic()

    def poll(self) -> int | None:
        """Return the exit code, minus the signal that ended it; None while it runs."""
        return int(self._ended.read_text()) if self._ended.exists() else None

    def wait(self, seconds: float = QUIET_EXIT_S) -> int:
        """Return the exit code; raise `Broken`, with what it said, where it runs on."""
        try:
            wait_until(lambda: self.poll() is not None, seconds, "the end of a run")
        except Broken as error:
            self.kill()
            raise Broken(f"{error}; it said:\n{self.said()}") from None
        code = self.poll()
        assert code is not None
        return code

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal, if it still runs."""
        if self.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        """End it at once, as a power cut does."""
        self.signal(signal.SIGKILL)
        wait_until(lambda: self.poll() is not None, 10, "the end of a killed run")

    def said(self) -> str:
        """Return what it wrote on stdout and stderr so far."""
        return self._said.read_text(errors="replace")

    def ended_well(self, seconds: float = QUIET_EXIT_S, code: int = 0) -> str:
        """Raise `Broken` unless it ends by itself with `code` and no traceback; return what it said."""
        found = self.wait(seconds)
        if found != code or "Traceback" in self.said():
            raise Broken(f"expected exit {code}, got {found}; it said:\n{self.said()[-3000:]}")
        return self.said()


class Nursery:
    """A process that has loaded everything and forks: a run starts in a tenth of the time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.numbers = itertools.count(1)
        self.jobs: list[Job] = []
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.streams"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
        )

    def start(self, *words: str, breaks: tuple[str, str] | None = None) -> Job:
        """Start annotate with these words; `breaks` is a sha256 and what happens to the run that decodes it."""
        number = next(self.numbers)
        said, ended = self.folder / f"{number:03d}.said", self.folder / f"{number:03d}.ended"
        request = {"words": words, "said": str(said), "ended": str(ended), "breaks": breaks}
        assert self.process.stdin and self.process.stdout
        print(json.dumps(request), file=self.process.stdin, flush=True)
        job = Job(int(self.process.stdout.readline()), said, ended)
        self.jobs.append(job)
        return job

    def close(self) -> None:
        """End it and every run that is left."""
        for job in self.jobs:
            if job.poll() is None:
                job.kill()
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait(10)


def _nursery() -> None:
    """Fork a run for every line of stdin; write how each ended. No thread may be there before a fork."""
    import great_expectations  # noqa: F401
    import pandas  # noqa: F401

    from pipelines import annotate, continuous, export, flow, labelling, report, runners  # noqa: F401
    from pipelines.logs import run_command

    children: dict[int, str] = {}
    while True:
        while children and (found := os.waitpid(-1, os.WNOHANG))[0]:
            ended = children.pop(found[0])
            Path(ended + "-").write_text(str(os.waitstatus_to_exitcode(found[1])))
            Path(ended + "-").rename(ended)
        if not select.select([sys.stdin], [], [], 0.02)[0]:
            continue
        line = sys.stdin.buffer.raw.readline()  # type: ignore[attr-defined]  # nothing may stay behind in a buffer
        if not line:
            return
        request = json.loads(line)
        pid = os.fork()
        if pid == 0:
            said = os.open(request["said"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            nothing = os.open(os.devnull, os.O_RDONLY)
            for old, new in ((nothing, 0), (said, 1), (said, 2)):
                os.dup2(old, new)
            if request["breaks"]:
                _break(*request["breaks"])
            code = run_command(annotate.main, request["words"])
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
        children[pid] = request["ended"]
        print(pid, flush=True)


def _break(sha256: str, how: str) -> None:
    """Let the decoder end the process, or raise, where it meets these bytes."""
    from transforms import decode

    whole = decode.decode

    def breaking(data: bytes, **more: Any) -> Any:
        if hashlib.sha256(data).hexdigest() == sha256:
            if how == "exit":
                os._exit(9)
            raise {"MemoryError": MemoryError, "ValueError": ValueError}[how]("this picture breaks the run")
        return whole(data, **more)

    decode.decode = breaking


@dataclass
class World:
    """A broker of one's own, and what is needed to run pipelines on it."""

    broker: Broker
    nursery: Nursery
    folder: Path
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    @staticmethod
    def begin() -> "World":
        """Start a broker that cleans its logs fast, and a nursery."""
        folder = Path(tempfile.mkdtemp(prefix="labelstream-streams-"))
        nursery = Nursery(folder)
        settings = {"log_cleaner_backoff_ms": "200", "log_retention_check_interval_ms": "500"}
        return World(Broker(**settings).start(), nursery, folder)

    def end(self, keep: bool = False) -> None:
        """Stop everything; the data sets go unless they are kept."""
        self.nursery.close()
        self.broker.stop()
        if not keep:
            shutil.rmtree(self.folder, ignore_errors=True)

    def stream(self, partitions: int = 2, **configs: str) -> "Stream":
        """Return a new topic, with the names of an output and of the topics for what is told."""
        number = next(self.numbers)
        topic = self.broker.create_topic(f"frames-{number}", partitions, **configs)
        return Stream(self, topic, self.folder / f"out-{number}", f"labels-{number}", f"dead-{number}")


@dataclass
class Stream:
    """A topic, the data set that is made of it, and the topics for its results and its dead letters."""

    world: World
    topic: str
    out: Path
    labels: str
    dead: str

    def feed(self, messages: int, **more: Any) -> Feed:
        """Return a feed of the topic, which has begun."""
        feed = Feed(self.world.broker, self.topic, messages, **more)
        feed.start()
        return feed

    def start(
        self, *more: str, results: bool = True, breaks: tuple[str, str] | None = None, pattern: str | None = None
    ) -> Job:
        """Start a run, of the topic or of those that match a pattern."""
        at = f"kafka://{self.world.broker.address}"
        words = [
            "--input",
            f"{at}/{pattern or self.topic}",
            "--output",
            str(self.out),
            "--detector",
            "none",
            "--no-export",
        ]
        words += ["--device", "cpu", *(["--results", f"{at}/{self.labels}"] if results else []), *more]
        return self.world.nursery.start(*words, breaks=breaks)

    def dead_letter(self) -> tuple[str, str]:
        """Return the option that asks for dead letters."""
        return "--dead-letter", f"kafka://{self.world.broker.address}/{self.dead}"

    def catch_up(self, *more: str, results: bool = True, seconds: float = QUIET_EXIT_S) -> str:
        """Run until all is done; return what the run said."""
        return self.start("--until-caught-up", *more, results=results).ended_well(seconds)

    @property
    def plans(self) -> int:
        """The number of the last plan, 0 for none."""
        return _last(self.out / "_plans")

    @property
    def manifests(self) -> int:
        """The number of the last manifest, 0 for none."""
        return _last(self.out / "_manifests")

    @property
    def items(self) -> int:
        """How many items are committed."""
        return sum(each.told["items"] for each in Dataset(self.out).manifests) if is_dataset(self.out) else 0

    def marker(self) -> int:
        """Return the last epoch whose results are in Kafka."""
        key = json.loads((self.out / "_plans" / "stream-start.json").read_bytes())["id"]
        told = [line.split(" ", 1) for line in kcat(self.world.broker, LEDGER, "%k %s\n").decode().splitlines()]
        return max((json.loads(value)["epoch"] for name, value in told if name == key), default=0)

    def arrived(self) -> list[str]:
        """Return the places of all committed messages of the topic."""
        return kcat(self.world.broker, self.topic, "%t/%p/%o\n").decode().splitlines()

    def told(self) -> list[dict[str, Any]]:
        """Return all committed results."""
        return [json.loads(line) for line in kcat(self.world.broker, self.labels, "%s\n").splitlines()]

    def require_exactly_once(self, *, results: bool = True, arrived: Sequence[str] | None = None) -> int:
        """Raise `Broken` unless every message is one item, and one result; return how many messages there are.

        `arrived` are the places of the messages, where the topic no longer has them.
        """
        expected = self.arrived() if arrived is None else list(arrived)
        dataset = Dataset(self.out)
        require_whole(dataset)
        names = [dataset.scan(table).select("file_name").collect()["file_name"] for table in ("images", "failures")]
        _require_same(expected, pl.concat(names).to_list(), "the data set")
        if results:
            told = self.told()
            _require_same(expected, [each["file_name"] for each in told], "the results topic")
            rows = labelled(self.out)
            for each in told:
                row = rows[each["file_name"]]
                if (each["image_id"], each["outcome"], len(each["labels"])) != (row[0], row[1], len(row[2])):
                    raise Broken(f"the result of {each['file_name']} is not what its rows say: {each} against {row}")
        return len(expected)


def _last(folder: Path) -> int:
    names = (path.name for path in folder.glob("[0-9]*.json"))
    return max((int(name[:8]) for name in names), default=0)


def _require_same(expected: Sequence[str], found: Sequence[str], where: str) -> None:
    counted = Counter(found)
    lost = sorted(set(expected) - counted.keys())
    doubled = sorted(name for name, count in counted.items() if count > 1)
    strange = sorted(counted.keys() - set(expected))
    if lost or doubled or strange:
        raise Broken(
            f"{where}: of {len(expected)} messages {len(lost)} lost {lost[:5]}, {len(doubled)} doubled {doubled[:5]}, "
            f"{len(strange)} that are no messages {strange[:5]}"
        )


def kcat(broker: Broker, topic: str, shape: str) -> bytes:
    """Return all committed messages of a topic, printed in a shape of kcat's, by a reader that is not ours."""
    words = ["kcat", "-b", broker.address, "-C", "-t", topic, "-o", "beginning", "-e", "-q", "-f", shape]
    done = subprocess.run([*words, "-X", "isolation.level=read_committed"], capture_output=True, timeout=120)
    if done.returncode:
        raise Broken(f"kcat: {done.stderr.decode(errors='replace')[-500:]}")
    return done.stdout


def labelled(out: Path) -> dict[str, tuple[str | None, str, list[tuple[str, float]]]]:
    """Return each item's id, outcome and labels with their confidence, by the place of its message."""
    dataset = Dataset(out)
    labels: dict[str, list[tuple[str, float]]] = {}
    for image_id, label, confidence in (
        dataset.scan("annotations").select("image_id", "label", "confidence").collect().iter_rows()
    ):
        labels.setdefault(image_id, []).append((label, confidence))
    rows: dict[str, tuple[str | None, str, list[tuple[str, float]]]] = {}
    for name, image_id, outcome in dataset.scan("images").select("file_name", "image_id", "outcome").collect().rows():
        rows[name] = (image_id, outcome, labels.get(image_id, []))
    for (name,) in dataset.scan("failures").select("file_name").collect().rows():
        rows[name] = (None, "failed", [])
    return rows


def require_equal(disturbed: Path, undisturbed: Path) -> None:
    """Raise `Broken` unless two data sets say the same of every message; batches of another size round otherwise."""
    ours, others = labelled(disturbed), labelled(undisturbed)
    for name in ours.keys() | others.keys():
        one, other = ours.get(name), others.get(name)
        if one is None or other is None or one[:2] != other[:2] or not _alike(one[2], other[2]):
            raise Broken(f"{name}: {one} in the disturbed run, {other} in the other")


def _alike(ours: list[tuple[str, float]], others: list[tuple[str, float]]) -> bool:
    if len(ours) != len(others):
        return False
    pairs = zip(sorted(ours), sorted(others), strict=True)
    return all(one[0] == other[0] and abs(one[1] - other[1]) < 1e-4 for one, other in pairs)


def moments(kinds: dict[str, int], seed: int) -> list[str]:
    """Return the names of what is done, each so often, in any order."""
    chosen = [name for name, count in kinds.items() for _ in range(count)]
    random.Random(seed).shuffle(chosen)
    return chosen


if __name__ == "__main__":
    _nursery()
