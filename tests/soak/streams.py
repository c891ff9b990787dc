"""Disturb runs that label topics, in every way that is known: `python -m tests.soak.streams` (about an hour).

Each scenario works on topics of its own, with real brokers and processes, and ends with the same question: is every
committed message in the data set exactly once, and in the results exactly once for a reader that is not ours?
tests/pipelines/test_continuous.py runs the same scenarios in small.
"""

import argparse
import functools
import hashlib
import json
import os
import random
import re
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from kafka import TopicPartition

from deploy.kafka.broker import jars
from pipelines.dataset import Dataset, is_dataset
from schemas.layout import PLANS, STREAM, epoch_file
from tests.benchmarks import report
from tests.benchmarks.report import Table
from tests.soak.kills import Broken
from tests.streams import Job, Stream, World, moments, picture, require_equal, wait_until
from transforms.kafka import clients
from transforms.kafka.access import Access
from transforms.kafka.reader import Reader
from transforms.messages import Record

PACKAGES = ("kafka-python", "apache-beam", "onnxruntime-gpu", "onnxruntime", "opencv-python-headless", "polars")
NAMED_TAKE_OVER = "taken over"
_CLIENT_WORDS = ("kafka.", "Traceback", "Exception ignored", "socket", "KafkaConnection")
"""What the client library's own lines hold."""

_WAITS = ("waiting for Kafka", "results wait for Kafka")
"""How our own lines about an outage begin."""

_TOLD_S = 45.0
"""An outage of so many seconds must have been told: the client waits half a minute before it gives a question up."""

Figures = dict[str, str]


# ------------------------------------------------------------------------------------------------------------- kills


def kills(
    world: World,
    *,
    messages: int,
    pipeline_kills: int,
    broker_kills: int,
    rate: float,
    longest_s: float,
    results: bool,
    seed: int = 7,
) -> Figures:
    """Kill the run and its broker while messages come; compare with a run that nobody disturbed."""
    stream, chance = world.stream(), random.Random(seed)
    feed = stream.feed(messages, rate=rate, batch=20)
    fell: Counter[str] = Counter()
    by_itself: Counter[str] = Counter()
    job: Job | None = None
    for kind in moments({"pipeline": pipeline_kills, "broker": broker_kills}, seed):
        job = job if job is not None and job.poll() is None else _begin(stream, results=results)
        time.sleep(chance.uniform(0.2, longest_s))
        if kind == "broker":
            world.broker.kill()
            time.sleep(chance.uniform(0.0, 1.0))
            world.broker.restart()
            if (code := job.poll()) is not None:
                by_itself[f"exit {code}: {job.said().strip().splitlines()[-1][:120]}"] += 1
            continue
        if (code := job.poll()) is not None:
            raise Broken(f"a run that nobody killed ended with {code}:\n{job.said()[-3000:]}")
        job.kill()
        fell[_state(stream, results)] += 1
        if "Traceback" in job.said():
            raise Broken(job.said()[-3000:])
    feed.fed(120 + 2 * messages / min(rate, 1000))
    if job is not None:
        job.kill()
    stream.catch_up("--epoch-items=200", results=results, seconds=600)
    count = stream.require_exactly_once(results=results)
    undisturbed = Stream(world, stream.topic, stream.out.with_name(stream.out.name + "-plain"), "unused", "unused")
    undisturbed.catch_up("--epoch-items=2000", results=False, seconds=600)
    require_equal(stream.out, undisturbed.out)
    if by_itself:
        raise Broken(f"runs that ended while the broker was away: {dict(by_itself)}")
    return {
        "messages": f"{count} committed, {feed.aborted} aborted",
        "kill -9 of the pipeline": str(pipeline_kills),
        "kill -9 of the broker": str(broker_kills),
        "the killed run was": ", ".join(f"{where} {times}" for where, times in fell.most_common()),
        "epochs": str(stream.manifests),
        "lost, doubled, other than undisturbed": "0, 0, 0",
    }


def _begin(stream: Stream, *more: str, results: bool) -> Job:
    return stream.start("--epoch-items=200", "--epoch-seconds=0.3", *more, results=results)


def _state(stream: Stream, results: bool) -> str:
    """Return where a kill fell, told from what it left."""
    if not stream.plans:
        return "before its first epoch"
    if stream.plans > stream.manifests:
        return "in an epoch"
    if results and is_dataset(stream.out) and stream.marker() < stream.manifests:
        return "between manifest and transaction"
    return "waiting"


# ----------------------------------------------------------------------------------------------------------- zombies


def zombie(world: World, *, moment: str, wakes: str, messages: int, epoch_items: int, died_before: int = 0) -> Figures:
    """Stop a run in an epoch or between manifest and transaction, let another take over, wake the first.

    `moment` is "epoch" or "owed"; the first one wakes "after" or "while" its successor works. So many runs died
    before it in the same epoch.
    """
    stream = world.stream()
    stream.feed(messages, batch=100).fed()
    words = (f"--epoch-items={epoch_items}", "--epoch-seconds=0.2")
    for attempt in range(1, died_before + 1):
        job = stream.start(*words)
        _caught(stream, job, moment, attempt)
        job.kill()
    job = stream.start(*words)
    tries = _caught(stream, job, moment, died_before + 1)
    at = stream.manifests
    successor = stream.start(*words, "--take-over", "--until-caught-up")
    if wakes == "after":
        successor.ended_well(180)
    else:
        wait_until(lambda: stream.manifests > at, 120, "the successor's first epoch")
    job.signal(signal.SIGCONT)
    said = job.ended_well(90, code=1)
    successor.ended_well(180)
    if NAMED_TAKE_OVER not in said:
        raise Broken(f"the zombie did not say that it was taken over:\n{said}")
    count = stream.require_exactly_once()
    return {
        "messages": str(count),
        "tries to hit the moment": str(tries),
        "the zombie said": said.splitlines()[-1].split(" (")[0].replace(str(stream.out), "OUT"),
    }


def _caught(stream: Stream, job: Job, moment: str, attempt: int, seconds: float = 120.0) -> int:
    """Stop (SIGSTOP) the run at the moment, in an epoch before it has written a shard; return how many tries it took.

    Of an epoch that was tried before, this is the `attempt`.
    """
    deadline, tries, seen = time.monotonic() + seconds, 0, 0
    while time.monotonic() < deadline:
        if (code := job.poll()) is not None:
            raise Broken(f"the run ended with {code} before it was caught:\n{job.said()}")
        if moment == "epoch" and not _is_tried(stream, attempt):
            continue
        if moment == "owed" and stream.manifests in (0, seen):
            continue
        job.signal(signal.SIGSTOP)
        time.sleep(0.05)
        tries, seen = tries + 1, stream.manifests
        if moment == "epoch":
            shards = list((stream.out / "images").glob(f"{stream.plans:08d}-*"))
            caught = _is_tried(stream, attempt) and not shards
        else:
            caught = stream.plans == seen > stream.marker()
        if caught:
            return tries
        job.signal(signal.SIGCONT)
        time.sleep(random.uniform(0.0, 0.02))
    raise Broken(f"in {seconds:.0f} s the run was never caught in the moment {moment!r} ({tries} tries)")


def _is_tried(stream: Stream, attempt: int) -> bool:
    """Tell whether the last plan is not committed, and tried for the `attempt`th time."""
    number = stream.plans
    if number == stream.manifests:
        return False
    told = json.loads((stream.out / epoch_file(PLANS, number)).read_bytes())
    return bool(told[STREAM]["attempt"] == attempt)


# ---------------------------------------------------------------------------------------------- what topics may hold


def growth(world: World, *, messages: int) -> Figures:
    """Add partitions while a run reads."""
    stream = world.stream(2)
    job = stream.start("--epoch-seconds=0.2")
    stream.feed(messages, batch=50).fed()
    wait_until(lambda: stream.items == messages, 90, "the messages of two partitions")
    with clients.admin(world.broker.address, Access()) as admin:
        admin.create_partitions({stream.topic: 4})
    grown = time.monotonic()
    stream.feed(messages, batch=50, first=messages * 2, partitions=(0, 1, 2, 3)).fed()
    wait_until(lambda: stream.items == 2 * messages, 90, "the messages of the new partitions")
    took = time.monotonic() - grown
    job.signal(signal.SIGTERM)
    job.ended_well()
    return {"messages": str(stream.require_exactly_once()), "seconds until all of the new were done": f"{took:.1f}"}


def compacted(world: World, *, keys: int, versions: int) -> Figures:
    """Read a topic whose broker has cleaned it, with aborted transactions and tombstones between."""
    stream = world.stream(
        1, cleanup_policy="compact", segment_ms="100", min_cleanable_dirty_ratio="0.001", delete_retention_ms="600000"
    )
    producer = clients.producer(world.broker.address, Access(), transactional_id=f"compact-{stream.topic}")
    producer.init_transactions()
    number = 0
    for version in range(versions):
        for aborts in (False, True) if version % 2 else (False,):
            producer.begin_transaction()
            for key in range(keys):
                number += 1
                value = None if version == versions - 1 and key % 10 == 0 else picture(number)
                producer.send(stream.topic, value, key=b"key-%d" % key)
            producer.flush(30)
            (producer.abort_transaction if aborts else producer.commit_transaction)()
        time.sleep(0.15)
    time.sleep(0.3)
    # A log is cleaned up to its last segment only: one more message closes that.
    producer.begin_transaction()
    producer.send(stream.topic, picture(number + 1), key=b"last")
    producer.commit_transaction()
    producer.close(timeout=5)
    most = keys + 2
    wait_until(lambda: len(stream.arrived()) <= most, 60, f"the cleaner (at most {most} of {number} messages stay)")
    before = stream.arrived()
    stream.catch_up("--epoch-items=20")
    if before != stream.arrived():
        raise Broken("the cleaner went on while the run read: nothing can be said")
    return {"sent": str(number), "left by the cleaner, each once": str(stream.require_exactly_once())}


def poison(world: World, *, messages: int, every: int) -> Figures:
    """Send what is no picture among pictures, and one of 5 MB: each failure has its reason and comes back whole."""
    stream = world.stream(2, max_message_bytes=str(10 << 20))
    noise = np.random.default_rng(1).integers(0, 255, (1320, 1320, 3), np.uint8)
    large = cv2.imencode(".png", noise)[1].tobytes()
    picture_type = ("content-type", b"image/jpeg")
    kinds: list[tuple[str, bytes | None, list[tuple[str, bytes]]]] = [
        ("corrupt", picture(0)[:200], [picture_type]),
        ("content_type", b"hello", [("content-type", b"text/plain")]),
        ("tombstone", None, []),
        ("empty", b"", [picture_type]),
        ("not_allowed", b'{"uri": "/etc/passwd"}', [("content-type", b"application/json")]),
        ("bad_reference", b"{no json", []),
        ("unknown_version", picture(1), [picture_type, ("labelstream-version", b"99")]),
    ]
    producer = clients.producer(world.broker.address, Access())
    expected: dict[str, tuple[str, bytes | None, bytes]] = {}
    futures: list[tuple[Any, str, bytes | None, bytes]] = []
    for number in range(messages):
        key = b"key-%d" % number
        if number % every == every - 1:
            error, value, headers = kinds[number // every % len(kinds)]
        else:
            error, value, headers = "", large if number == messages // 2 else picture(number + 2), [picture_type]
        sent = producer.send(stream.topic, value, key=key, partition=number % 2, headers=headers)
        futures.append((sent, error, value, key))
    for sent, error, value, key in futures:
        at = sent.get(timeout=60)
        if error:
            expected[f"{at.topic}/{at.partition}/{at.offset}"] = (error, value, key)
    producer.close(timeout=10)
    stream.catch_up("--epoch-items=150", *stream.dead_letter())
    count = stream.require_exactly_once()
    failures = Dataset(stream.out).scan("failures").select("file_name", "error").collect().rows()
    wrong = [(name, error) for name, error in failures if name not in expected]
    if wrong or len(failures) != len(expected):
        raise Broken(f"{len(failures)} failures, {len(expected)} expected; of good messages: {wrong[:5]}")
    _require_letters(stream, expected, dict(failures))
    found = Counter(error for _, error in failures)
    return {
        "messages": f"{count}, one of {len(large):,} bytes",
        "dead letters, each with reason and original": ", ".join(f"{name} {times}" for name, times in found.items()),
    }


def _require_letters(
    stream: Stream, expected: dict[str, tuple[str, bytes | None, bytes]], failures: dict[str, str]
) -> None:
    letters: dict[str, Record] = {}
    for letter in _records(stream.world, stream.dead):
        headers = dict(letter.headers)
        place = headers["labelstream-source"].decode()
        if place in letters:
            raise Broken(f"two dead letters of {place}")
        letters[place] = letter
    if letters.keys() != expected.keys():
        raise Broken(f"dead letters of {sorted(letters.keys() ^ expected.keys())[:5]} are missing or too many")
    for place, (error, value, key) in expected.items():
        letter, headers = letters[place], dict(letters[place].headers)
        found = (headers["labelstream-error"].decode(), letter.value, letter.key)
        if found != (failures[place], value, key):
            raise Broken(f"the dead letter of {place} ({error}): {str(found)[:300]}")
        if not _is_meant(error, failures[place]):
            raise Broken(f"{place}: expected the error {error}, found {failures[place]}")
        if not headers["labelstream-message"] or not headers["labelstream-step"]:
            raise Broken(f"the dead letter of {place} has no reason: {headers}")


def _is_meant(error: str, found: str) -> bool:
    # What a cut picture is called depends on where it was cut.
    return found in {"corrupt": ("corrupt", "truncated", "undecodable"), "bad_reference": ("bad_reference",)}.get(
        error, (error,)
    )


def _records(world: World, topic: str) -> list[Record]:
    reader = Reader(world.broker.address, Access())
    try:
        count = reader._consumer.partitions_for_topic(topic) or {0}
        extent = reader.extent([(topic, number) for number in count])
        return list(reader.read(extent.begins, extent.ends))
    finally:
        reader.close()


def retention(world: World, *, messages: int) -> Figures:
    """Let the broker delete what was not yet read: it is counted and told, the rest is done."""
    stream = world.stream(2)
    stream.feed(messages, batch=50, abort_every=0).fed()
    stream.catch_up()
    before = stream.arrived()
    stream.feed(messages, batch=50, abort_every=0, first=10 * messages).fed()
    ends = _ends(stream)
    read = Dataset(stream.out).manifests[-1].told[STREAM]["next"][stream.topic]
    cut = {at: (int(read[str(at.partition)]) + end) // 2 for at, end in ends.items()}
    with clients.admin(world.broker.address, Access()) as admin:
        admin.delete_records(cut)
    left = stream.arrived()
    said = stream.catch_up()
    if said.count("LOST") != 2 or "retention" not in said:
        raise Broken(f"the gap was not told:\n{said}")
    gaps = [gap for each in Dataset(stream.out).manifests for gap in each.told[STREAM]["gaps"]]
    found = {(gap["partition"], gap["start"], gap["until"]) for gap in gaps}
    expected = {(at.partition, int(read[str(at.partition)]), offset) for at, offset in cut.items()}
    if found != expected or len(gaps) != len(expected):
        raise Broken(f"the manifests tell the gaps {gaps}, expected {expected}")
    stream.require_exactly_once(arrived=list(dict.fromkeys(before + left)))
    again = stream.catch_up()
    if "LOST" in again:
        raise Broken(f"a gap was told twice:\n{again}")
    return {"messages": f"{2 * messages}", "offsets deleted unread": str(sum(end - start for _, start, end in found))}


def _ends(stream: Stream) -> dict[TopicPartition, int]:
    reader = Reader(stream.world.broker.address, Access())
    try:
        ends = reader.extent([(stream.topic, 0), (stream.topic, 1)]).ends
        return {TopicPartition(*place): end for place, end in ends.items()}
    finally:
        reader.close()


def recreated(world: World, *, messages: int, running: bool) -> Figures:
    """Delete the topic and make it anew, while a run reads or between two: the run stops and says why."""
    stream = world.stream(2)
    stream.feed(messages, batch=50).fed()
    job = stream.start("--epoch-seconds=0.2", *([] if running else ["--until-caught-up"]))
    wait_until(lambda: stream.items == messages, 90, "the messages of the first topic")
    if not running:
        job.ended_well()
    with clients.admin(world.broker.address, Access()) as admin:
        admin.delete_topics([stream.topic])
        wait_until(lambda: stream.topic not in admin.list_topics(), 30, "the deletion of a topic")
    world.broker.create_topic(stream.topic, 2)
    stream.feed(messages * 2, batch=50, first=10 * messages).fed()
    if not running:
        job = stream.start("--until-caught-up")
    said = job.ended_well(120, code=1)
    if "made anew" not in said:
        raise Broken(f"it did not say why it stopped:\n{said}")
    if stream.items != messages:
        raise Broken(f"{stream.items} items are committed of the first topic's {messages}")
    return {"said": said.strip().splitlines()[-1]}


# --------------------------------------------------------------------------------------- what breaks a run, and stops


def killer(world: World, *, how: str, messages: int, epoch_items: int) -> Figures:
    """Send a message that ends the process, or breaks the step, that decodes it: it alone becomes a failure."""
    stream = world.stream(2)
    target = messages // 2 + 1
    stream.feed(messages, batch=20, abort_every=0).fed()
    sha256 = hashlib.sha256(picture(target)).hexdigest()
    started, restarts = time.monotonic(), 0
    while True:
        job = stream.start("--until-caught-up", f"--epoch-items={epoch_items}", breaks=(sha256, how))
        code = job.wait(120)
        if code == 0:
            break
        if code != 9 or how != "exit":
            raise Broken(f"the run ended with {code}:\n{job.said()[-3000:]}")
        restarts += 1
        if restarts > 40:
            raise Broken(f"after {restarts} restarts it still breaks:\n{job.said()[-3000:]}")
    if "Traceback" in job.said():
        raise Broken(f"a traceback was shown:\n{job.said()[-3000:]}")
    count = stream.require_exactly_once()
    failures = Dataset(stream.out).scan("failures").select("file_name", "error").collect().rows()
    place = next(record.name for record in _records(world, stream.topic) if record.value == picture(target))
    if failures != [(place, "broke_the_run")]:
        raise Broken(f"expected {place} to fail with broke_the_run, found {failures}")
    outcomes = Counter(Dataset(stream.out).scan("images").select("outcome").collect()["outcome"].to_list())
    took = f"{time.monotonic() - started:.0f}"
    told = ", ".join(f"{name} {times}" for name, times in outcomes.items())
    return {"messages": f"{count} ({told}, failed 1)", "restarts": str(restarts), "seconds": took}


def stops(world: World, *, times: int, rate: float, seed: int = 11) -> Figures:
    """Ask a run under load to stop, over and over."""
    stream, chance = world.stream(), random.Random(seed)
    feed = stream.feed(10**9, rate=rate, batch=20)
    took: list[float] = []
    try:
        for _ in range(times):
            job, at = _begin(stream, results=True), stream.manifests
            wait_until(lambda at=at: stream.manifests > at, 120, "the first epoch of a run")
            time.sleep(chance.uniform(0.0, 2.0))
            asked = time.monotonic()
            job.signal(signal.SIGTERM)
            said = job.ended_well()
            took.append(time.monotonic() - asked)
            if "stopped on request" not in said:
                raise Broken(f"it did not say that it stopped:\n{said}")
    finally:
        feed.enough.set()
    feed.fed()
    stream.catch_up(seconds=300)
    count = stream.require_exactly_once()
    return {
        "stops (SIGTERM)": str(times),
        "exit code": "0, each time",
        "seconds to exit": report.spread(took, 2),
        "messages": str(count),
    }


def outage(world: World, *, seconds: float, sending: bool) -> Figures:
    """Take the broker away for a while: the run waits, says so once a minute, and goes on.

    It waits for messages then, of all topics that match a pattern, or is `sending` results.
    """
    stream = world.stream()
    job = stream.start("--epoch-seconds=0.2", "--epoch-items=20", pattern=None if sending else f"[f]{stream.topic[1:]}")
    messages = 400 if sending else 100
    stream.feed(messages, batch=20).fed()
    wait_until(lambda: stream.items >= (40 if sending else 100), 90, "the messages before the outage")
    if not sending:
        wait_until(lambda: stream.marker() == stream.manifests, 30, "the results before the outage")
    said_before = len(job.said())
    world.broker.kill()
    time.sleep(seconds)
    world.broker.restart()
    back, during = time.monotonic(), job.said()[said_before:]
    stream.feed(100, batch=20, first=1000).fed()
    wait_until(lambda: job.poll() is not None or stream.items == messages + 100, 180, "the messages after the outage")
    took = time.monotonic() - back
    job.signal(signal.SIGTERM)
    said = job.ended_well()[said_before:]
    lines = [line for line in during.splitlines() if line and " committed: " not in line]
    others = [line for line in said.splitlines() if not line.startswith(_WAITS)]
    strange = [line for line in others if any(word in line for word in _CLIENT_WORDS)]
    if strange or not all(line.startswith(_WAITS) for line in lines):
        raise Broken(f"lines that nobody expects in an outage: {strange or lines}")
    if not (seconds > _TOLD_S) <= len(lines) <= 1 + seconds / 60:
        raise Broken(f"{len(lines)} lines in an outage of {seconds:.0f} s: {lines}")
    stream.catch_up()
    stream.require_exactly_once()
    return {
        "outage": f"{seconds:.0f} s",
        "log lines": f"{len(lines)}: {' / '.join(lines)}",
        "seconds from the broker's start until 100 new messages were done": f"{took:.1f}",
    }


def stopped_in_outage(world: World, *, waiting: bool) -> Figures:
    """Ask a run to stop while its broker is away; it waits for messages then, or has results to send."""
    stream = world.stream()
    job = stream.start("--epoch-seconds=0.2", "--epoch-items=20")
    stream.feed(100 if waiting else 400, batch=20).fed()
    wait_until(lambda: stream.items >= (100 if waiting else 40), 90, "the messages before the outage")
    if waiting:
        wait_until(lambda: stream.marker() == stream.manifests, 30, "the results before the outage")
    world.broker.kill()
    time.sleep(7.0)
    asked = time.monotonic()
    job.signal(signal.SIGTERM)
    job.ended_well(120)
    took = time.monotonic() - asked
    world.broker.restart()
    stream.catch_up()
    return {"messages": str(stream.require_exactly_once()), "seconds to exit": f"{took:.1f}"}


def idle(world: World, *, seconds: float, most: float = 0.03) -> Figures:
    """Let a run wait for messages: it takes next to no CPU and writes no file."""
    stream = world.stream()
    job = stream.start("--epoch-seconds=0.2")
    stream.feed(100, batch=20).fed()
    wait_until(lambda: stream.items == 100, 90, "the messages before the quiet")
    wait_until(lambda: stream.marker() == stream.manifests, 30, "the last results")
    time.sleep(3.0)  # Great Expectations and the heaps settle
    files, before, since = _mtimes(stream.out), _cpu_seconds(job.pid), time.monotonic()
    time.sleep(seconds)
    share = (_cpu_seconds(job.pid) - before) / (time.monotonic() - since)
    touched = [name for name, mtime in _mtimes(stream.out).items() if files.get(name) != mtime]
    job.signal(signal.SIGTERM)
    job.ended_well()
    if touched or share > most:
        raise Broken(f"idle for {seconds:.0f} s: {share:.1%} of a core, files written: {touched[:5]}")
    return {"idle": f"{seconds:.0f} s", "CPU": f"{share:.2%} of a core", "files written": "0"}


def _mtimes(out: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in [out, *out.rglob("*")]}


def _cpu_seconds(pid: int) -> float:
    told = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(told[11]) + int(told[12])) / os.sysconf("SC_CLK_TCK")


# ------------------------------------------------------------------------------------------------------------ steady


@dataclass
class Watched:
    """What was seen of a steady run: moments in seconds since 1970, memory in MB, lag in messages."""

    memory: list[tuple[float, float]] = field(default_factory=list)
    lag: list[int] = field(default_factory=list)
    shown_ms: list[float] = field(default_factory=list)


def batch_rate(world: World, *, messages: int) -> float:
    """Return how many messages a second a run does that has them all before it, without its start."""
    stream = world.stream()
    stream.feed(messages, batch=100, abort_every=0).fed()
    stream.catch_up("--epoch-items=500", seconds=300)
    manifests = Dataset(stream.out).manifests[1:]
    return sum(each.told["items"] for each in manifests) / sum(each.told["seconds"] for each in manifests)


def steady(world: World, *, minutes: float, rate: float, epoch_seconds: float, sources: int) -> Figures:
    """Feed a run at one rate; tell its memory, its lag, and how long a message takes to be committed and told."""
    stream = world.stream()
    job = stream.start(f"--epoch-seconds={epoch_seconds}")
    # Its first epochs load models and libraries: they are no part of what is measured.
    stream.feed(40, batch=20, abort_every=0, first=10**7 // 2).fed()
    wait_until(lambda: stream.items == 40, 120, "the first messages")
    began_ms = time.time() * 1000
    feed = stream.feed(10**9, rate=rate, batch=max(1, min(20, round(rate / 10))), abort_every=0, sources=sources)
    watched, reader = Watched(), Reader(world.broker.address, Access())
    hears = _hear(stream, watched, began_ms)
    until = time.monotonic() + 60 * minutes
    try:
        while time.monotonic() < until and job.poll() is None:
            watched.memory.append((time.time(), _rss_mb(job.pid)))
            told = Dataset(stream.out).manifests[-1].told[STREAM]["next"][stream.topic]
            ends = reader.extent([(stream.topic, 0), (stream.topic, 1)]).ends
            watched.lag.append(sum(end - told[str(place[1])] for place, end in ends.items()))
            time.sleep(min(5.0, minutes * 2))
    finally:
        feed.enough.set()
        reader.close()
    feed.fed()
    wait_until(lambda: stream.items == feed.committed + 40, 120, "the last messages")
    wait_until(lambda: stream.marker() == stream.manifests, 60, "the last results")
    time.sleep(0.5)
    hears.kill()
    job.signal(signal.SIGTERM)
    job.ended_well()
    stream.require_exactly_once()
    committed = _committed_ms(stream, began_ms)
    half = watched.memory[len(watched.memory) // 2 :]
    ids = Dataset(stream.out).scan("images").select("source_id").collect()["source_id"].n_unique()
    return {
        "epochs of": f"{epoch_seconds:g} s",
        "minutes": f"{minutes:g}",
        "messages": f"{feed.committed} from {ids} sources",
        "messages/s": f"{rate:.0f} asked, {feed.committed / (60 * minutes):.1f} sent",
        "epochs": str(stream.manifests),
        "to the manifest, ms (p50, p99)": ", ".join(report.percentiles(committed, (50, 99), 0)),
        "to the results topic, ms (p50, p99)": ", ".join(report.percentiles(watched.shown_ms, (50, 99), 0)),
        "lag, messages (median, most)": f"{statistics.median(watched.lag):.0f}, {max(watched.lag)}",
        "lag, least squares": f"{_slope(list(enumerate(map(float, watched.lag)))):+.2f} messages a look",
        "memory, MB (first, last)": f"{watched.memory[0][1]:.0f}, {watched.memory[-1][1]:.0f}",
        "memory, MB/h, second half": f"{3600 * _slope(half):+.0f}",
    }


def _hear(stream: Stream, watched: Watched, since_ms: float) -> "subprocess.Popen[bytes]":
    """Let kcat read the results as they become visible, and keep how old their messages are then."""
    words = ["kcat", "-b", stream.world.broker.address, "-C", "-t", stream.labels, "-o", "end", "-q", "-u"]
    more = ["-X", "isolation.level=read_committed", "-X", "fetch.wait.max.ms=5", "-f", "%s\n"]
    process = subprocess.Popen([*words, *more], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)

    def listen() -> None:
        assert process.stdout
        for line in process.stdout:
            now, stamp = time.time() * 1000, json.loads(line)["timestamp_ms"]
            if stamp >= since_ms:
                watched.shown_ms.append(now - stamp)

    threading.Thread(target=listen, daemon=True).start()
    return process


def _committed_ms(stream: Stream, since_ms: float) -> list[float]:
    """Return, for each picture, the ms from its message's own time until its manifest was there."""
    dataset, taken = Dataset(stream.out), []
    for manifest in dataset.manifests:
        path = stream.out / "_manifests" / f"{manifest.epoch:08d}.json"
        done = path.stat().st_mtime_ns / 1e6
        stamps = Dataset.of(stream.out, [manifest]).scan("images").select("timestamp_ms").collect()["timestamp_ms"]
        taken += [done - stamp for stamp in stamps if stamp >= since_ms]
    return taken


def _rss_mb(pid: int) -> float:
    told = Path(f"/proc/{pid}/status").read_text().split("VmRSS:")[1].split()[0]
    return int(told) / 1024


def _slope(points: Sequence[tuple[float, float]]) -> float:
    """Return the slope of the line through the points, by least squares."""
    if len(points) < 2:
        return 0.0
    at, of = np.array(points).T
    return float(np.polyfit(at - at[0], of, 1)[0])


# -------------------------------------------------------------------------------------------------------- the command


def plan(options: argparse.Namespace) -> dict[str, Callable[[World], Figures]]:
    """Return what is done, in order, by its name."""
    killed = {
        "messages": options.messages,
        "pipeline_kills": options.kills,
        "broker_kills": options.broker_kills,
        "rate": options.rate,
        "longest_s": 8.0,
    }
    named: dict[str, Callable[[World], Figures]] = {
        "kills": functools.partial(kills, results=False, **killed),
        "kills-results": functools.partial(kills, results=True, **killed),
    }
    for moment in ("epoch", "owed"):
        for wakes in ("after", "while"):
            more = {"moment": moment, "wakes": wakes, "messages": 600, "epoch_items": 20}
            named[f"zombie-{moment}-{wakes}"] = functools.partial(zombie, **more)
    named["zombie-third-try"] = functools.partial(
        zombie, moment="epoch", wakes="after", messages=200, epoch_items=50, died_before=2
    )
    named |= {
        "growth": functools.partial(growth, messages=500),
        "compacted": functools.partial(compacted, keys=100, versions=6),
        "poison": functools.partial(poison, messages=5000, every=100),
        "retention": functools.partial(retention, messages=1000),
        "recreated-between": functools.partial(recreated, messages=200, running=False),
        "recreated-running": functools.partial(recreated, messages=200, running=True),
        "killer-exit": functools.partial(killer, how="exit", messages=300, epoch_items=100),
        "killer-MemoryError": functools.partial(killer, how="MemoryError", messages=300, epoch_items=100),
        "killer-ValueError": functools.partial(killer, how="ValueError", messages=300, epoch_items=100),
        "stops": functools.partial(stops, times=8, rate=options.rate),
        "outage-waiting": functools.partial(outage, seconds=60, sending=False),
        "outage-sending": functools.partial(outage, seconds=60, sending=True),
        "stopped-in-outage-waiting": functools.partial(stopped_in_outage, waiting=True),
        "stopped-in-outage-sending": functools.partial(stopped_in_outage, waiting=False),
        "idle": functools.partial(idle, seconds=60),
        "steady-5": lambda world: steady(
            world,
            minutes=options.steady,
            rate=options.steady_rate or batch_rate(world, messages=3000) / 2,
            epoch_seconds=5,
            sources=5000,
        ),
        "steady-0.2": functools.partial(steady, minutes=options.steady, rate=10, epoch_seconds=0.2, sources=5000),
    }
    return named


def main() -> int:
    """Read the command line, disturb; return 1 where something was lost, doubled or not as it should be."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak.streams", description=__doc__.split("\n\n")[0])
    parser.add_argument(
        "--only", action="append", metavar="NAME", help="a scenario, or how its name begins; repeatable"
    )
    parser.add_argument("--messages", type=int, default=20_000, help="of the kill test (default 20000)")
    parser.add_argument("--kills", type=int, default=30, help="kill -9 of the pipeline (default 30)")
    parser.add_argument("--broker-kills", type=int, default=5, help="kill -9 of the broker (default 5)")
    parser.add_argument("--rate", type=float, default=100, help="messages a second under load (default 100)")
    parser.add_argument("--steady", type=float, default=60, metavar="MINUTES", help="of each steady run (default 60)")
    parser.add_argument(
        "--steady-rate", type=float, metavar="N", help="messages a second (default: half of what it can)"
    )
    parser.add_argument("--write", action="store_true", help="also write tests/benchmarks/results/<date>-streams.md")
    parser.add_argument("--list", action="store_true", help="say which scenarios there are")
    options = parser.parse_args()
    chosen = {
        name: run for name, run in plan(options).items() if not options.only or name.startswith(tuple(options.only))
    }
    if options.list:
        print(*chosen, sep="\n")
        return 0
    facts = report.machine()
    tables, broken, world = [], 0, World.begin()
    for name, run in chosen.items():
        started, harmed = time.monotonic(), False
        try:
            figures = run(world)
        except Broken as error:
            harmed = True
            figures = {"BROKEN": " ".join(str(error).split())[:2000]}
            print(f"{name}: {error}\nthe data sets are kept in {world.folder}", file=sys.stderr)
        if harmed:
            world.end(keep=True)
            world = World.begin()
        broken += harmed
        figures["took"] = f"{time.monotonic() - started:.0f} s"
        tables.append(Table(name, ("what", "figure"), list(figures.items())))
        print(*tables[-1].lines(), sep="\n", flush=True)
    world.end()
    facts += [report.versions(PACKAGES), report.command("-m tests.soak.streams"), _kafka()]
    report.tell("streams", facts, tables, options.write)
    return int(broken > 0)


def _kafka() -> str:
    told = subprocess.run(["kcat", "-V"], capture_output=True, text=True).stdout
    versions = re.findall(r"Version ([\d.]+)|librdkafka ([\d.]+)", told)
    reader = " with librdkafka ".join(one or other for one, other in versions)
    return f"broker: Apache Kafka {jars().parent.name.removeprefix('kafka-')}; reader of the results: kcat {reader}"


if __name__ == "__main__":
    sys.exit(main())
