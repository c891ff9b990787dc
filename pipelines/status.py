"""How far a data set is: `python -m pipelines.status --dataset out/`, for topics and for folders, whether a run works or not.

It only reads: no lock, nothing written, no run disturbed, at any time. `--item NAME` tells the story of one item.
"""

import argparse
import calendar
import fnmatch
import json
import os
import platform
import re
import sys
import time
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import polars as pl

from pipelines.dataset import Dataset, Manifest, read_json
from pipelines.logs import run_command
from pipelines.options import DEFAULT_OUTPUT, Parser, seconds
from schemas.errors import RunError, UsageError
from schemas.layout import PLANS, RECIPE, SHARD_NAME, TEMPORARY, epoch_file, epochs_of
from schemas.reasons import Outcome
from schemas.records import item_key
from schemas.tables import schema
from transforms.kafka.address import Address, is_glob, is_kafka
from transforms.storage import printable

T = TypeVar("T")
Place = tuple[str, int]
Offsets = dict[Place, int]

VERSION = 1
"""Changes where a name of the JSON, or what it means, does."""

COMMITS = 20
"""So many of the last commits tell the rate."""

STREAM = "stream"
_START = f"{PLANS}/stream-start.json"
# Both as in pipelines.stream_plan and pipelines.streaming, which load Beam: that would take longer than all else here.

_TRIES = 5
_MOST_ROWS = 1000
_MOST_SHOWN = 20
_MOST_NAMES = 1_000_000
_MOST_RECIPE_BYTES = 1 << 20
_LOOK_BACK = 64
_MESSAGE = re.compile(r"(?P<topic>[A-Za-z0-9._-]{1,249})/(?P<partition>\d{1,9})/(?P<offset>\d{1,18})(/\d+)?")

EPILOG = """\
examples:
  python -m pipelines.status --dataset out/
  python -m pipelines.status --dataset out/ --watch 5
  python -m pipelines.status --dataset out/ --json | jq .pending
  python -m pipelines.status --dataset out/ --item frames/0/1234
  python -m pipelines.status --dataset out/ --item holiday/017.jpg

exit codes: 0 told, also where Kafka is away; 1 the data set cannot be read; 2 misuse, or no such item.
The names of the JSON are explained in schemas/README.md."""


# ------------------------------------------------------------------------------------------------------ what is told


@dataclass(frozen=True)
class Holder:
    """Who works on the data set. `alive` is null where another machine wrote the lock last: only that one can tell."""

    alive: bool | None
    process: int | None
    host: str | None
    since: float | None


@dataclass(frozen=True)
class InProgress:
    """A plan that is not committed: a run works on it, or the next one begins with it.

    `items` is null for a stream, whose plan tells `offsets`; `attempt` only a stream counts.
    """

    epoch: int
    kind: str
    since: float
    attempt: int | None
    items: int | None
    offsets: int | None
    told: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True)
class Pace:
    """Rates a second over the last `commits`, by the time of their commits; null where no time passed."""

    commits: int
    items: float | None
    offsets: float | None
    last_hour_items: int


@dataclass(frozen=True)
class Partition:
    """One partition: `next` is the first offset that is not committed, `planned` the first that is in no plan.

    `end` and `lag` are null while the broker is away. `lost` counts what was deleted before it was read, `losing` what
    is deleted already, but not yet passed over.
    """

    topic: str
    partition: int
    next: int
    planned: int
    end: int | None
    lag: int | None
    lost: int
    losing: int


@dataclass(frozen=True)
class Stream:
    """The topics of a data set. `answers` says whether the broker does, else `why` not.

    `published` is the last epoch whose results are in Kafka, null where nobody asked for any or the broker is away;
    `owed` counts the epochs behind it.
    """

    servers: str
    topics: tuple[str, ...]
    answers: bool
    why: str
    partitions: tuple[Partition, ...]
    lost: int
    results: Mapping[str, str]
    published: int | None
    owed: int | None


@dataclass(frozen=True)
class Files:
    """Files of the inputs that the data set has not, and no plan; `count` is null where they cannot be listed."""

    inputs: tuple[str, ...]
    count: int | None
    size_bytes: int | None
    why: str


# ---------------------------------------------------------------------------------------------------- who works on it


def holder(output: Path) -> Holder:
    """Return who holds the data set's lock, without touching it: a lock of ours, however short, could stop a start.

    The kernel's list of locks tells; where there is none, whether the process that wrote the lock file is there.
    """
    path = output / TEMPORARY / "lock"
    try:
        state, told = path.stat(), path.read_text(errors="replace")[:1000]
    except OSError:
        return Holder(False, None, None, None)
    found = re.match(r"process (\d{1,10}), on ([^,\n]*)", told)
    if found is None:
        return Holder(False, None, None, None)
    process, host = int(found[1]), found[2]
    if host != platform.node():
        return Holder(None, process, host, state.st_mtime)
    alive = _is_locked(state, process)
    return Holder(alive, process if alive else None, host if alive else None, state.st_mtime if alive else None)


def _is_locked(state: os.stat_result, process: int) -> bool:
    try:
        lines = Path("/proc/locks").read_text().splitlines()
    except OSError:
        return _is_there(process)
    device = f"{os.major(state.st_dev):02x}:{os.minor(state.st_dev):02x}"
    for words in map(str.split, lines):
        if "FLOCK" in words and "WRITE" in words and (at := words.index("WRITE")) + 2 < len(words):
            where, _, inode = words[at + 2].rpartition(":")
            # A file of stacked file systems may be told with another device than the one that it is found on.
            if inode == str(state.st_ino) and (where == device or words[at + 1] == str(process)):
                return True
    return False


def _is_there(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


# ----------------------------------------------------------------------------------------------- what is in progress


def snapshot(path: Path) -> tuple[Dataset, InProgress | None]:
    """Return the data set as it is at one moment, and the plan that follows it."""
    # The plan's name first: it is behind what is committed, or by then a part of it.
    planned = max((span[0] for name in _names(path / PLANS) if (span := epochs_of(name))), default=0)
    dataset = Dataset(path)
    last = dataset.manifests[-1].epoch if dataset.manifests else 0
    if planned <= last:
        return dataset, None
    file = path / epoch_file(PLANS, planned)
    try:
        since, told = file.stat().st_mtime, read_json(file)
    except (OSError, RunError):
        if file.exists():
            raise
        return dataset, None  # it was given up meanwhile
    return dataset, in_progress(planned, since, told)


def _names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)  # noqa: PTH208  a hundred thousand names
    except FileNotFoundError:
        return []


def in_progress(epoch: int, since: float, told: Mapping[str, Any]) -> InProgress:
    """Return what a plan's file tells."""
    kind = str(told.get("kind", "files"))
    if kind == STREAM:
        starts, ends = (offsets_of(told[STREAM][name]) for name in ("starts", "ends"))
        offsets = sum(end - starts[place] for place, end in ends.items())
        return InProgress(epoch, kind, since, int(told[STREAM]["attempt"]), None, offsets, told)
    items = told.get("items")
    count = items if isinstance(items, int) else sum(map(_items_of, items)) if items is not None else None
    return InProgress(epoch, kind, since, None, count, None, told)


def _items_of(item: Mapping[str, Any]) -> int:
    return 1 + len(item["copies"]) if item["clip"] is None else max(1, len(item["clip"]["pts"]))


def refs_of(plan: InProgress | None) -> Iterator[Mapping[str, Any]]:
    """Yield the references of a plan of files."""
    items = plan.told.get("items") if plan is not None else None
    for item in items if isinstance(items, list) else ():
        yield item["ref"]
        yield from item["copies"]


def offsets_of(told: Mapping[str, Mapping[str, int]]) -> Offsets:
    """Return offsets as a manifest tells them: by topic, then by the number of the partition."""
    return {(topic, int(number)): offset for topic, numbers in told.items() for number, offset in numbers.items()}


# --------------------------------------------------------------------------------------------------- what is committed


def counts(dataset: Dataset) -> dict[str, Any]:
    """Return how many items are where, failures by error and rows that are held back by rule."""
    outcomes = dict.fromkeys(map(str, Outcome), 0) | _tally(dataset, "images", "outcome")
    errors = _tally(dataset, "failures", "error")
    outcomes[Outcome.FAILED] = sum(errors.values())
    held = _tally(dataset, "quarantine", "rule")
    return {
        "items": sum(outcomes.values()),
        "outcomes": outcomes,
        "failures": errors,
        "quarantine": {"items": outcomes[Outcome.QUARANTINED], "rows": sum(held.values()), "rules": held},
    }


def _tally(dataset: Dataset, table: str, column: str) -> dict[str, int]:
    return dict(dataset.scan(table).group_by(column).len().sort(column).collect().iter_rows())


def committed_at(manifest: Manifest) -> float | None:
    """Return when a commit was made, in seconds since 1970; null for one that does not tell."""
    told = manifest.told.get("committed_at")
    return None if told is None else float(calendar.timegm(time.strptime(told, "%Y-%m-%dT%H:%M:%SZ")))


def next_offsets(manifests: Sequence[Manifest]) -> Offsets | None:
    """Return where the partitions go on behind these commits; null where none is of a stream."""
    told = next((one.told[STREAM] for one in reversed(manifests) if STREAM in one.told), None)
    return None if told is None else offsets_of(told["next"])


def pace(manifests: Sequence[Manifest], began: Offsets, since: float | None, now: float) -> Pace:
    """Return the rates of the last commits; `since` is when a run that works now began, `began` a stream's start.

    A commit that was folded of many counts only where no other is newer, because it tells one time for all.
    """
    times = [committed_at(one) for one in manifests]
    at = len(manifests)
    while at > 0 and len(manifests) - at < COMMITS and times[at - 1] is not None:
        at -= 1
        if at < len(manifests) - 1 and (manifests[at].is_folded or (since and (times[at] or 0) < since)):
            at += 1
            break
    recent = manifests[at:]
    if not recent:
        return Pace(0, None, None, 0)
    worked = sum(one.told.get("seconds", 0.0) for one in recent)
    start = times[at - 1] if at else None
    if start is None:
        start = (times[at] or 0.0) - manifests[at].told.get("seconds", 0.0)
    if since is not None and since <= (times[at] or 0.0):
        start = max(start, since)
    # Times are whole seconds; what was worked is never longer than what passed.
    passed = max((times[-1] or 0.0) - start, worked)
    items = sum(one.told.get("items", 0) for one in recent)
    before, after = next_offsets(manifests[:at]) or began, next_offsets(manifests)
    read = None if after is None else sum(max(0, end - before.get(place, end)) for place, end in after.items())
    hour = sum(_share(manifests, times, number, now - 3600) for number in range(len(manifests)))
    if passed <= 0:
        return Pace(len(recent), None, None, round(hour))
    return Pace(len(recent), items / passed, None if read is None else read / passed, round(hour))


def _share(manifests: Sequence[Manifest], times: Sequence[float | None], number: int, since: float) -> float:
    """Return how many of a commit's items are younger than `since`; of a folded one, by its share of time."""
    end, items = times[number], float(manifests[number].told.get("items", 0))
    if end is None or end < since:
        return 0.0
    start = times[number - 1] if number else None
    if not manifests[number].is_folded or start is None or start >= since:
        return items
    return items * (end - since) / (end - start)


# ------------------------------------------------------------------------------------------- what is left of topics


@dataclass(frozen=True)
class Broker:
    """What a broker says of the topics of a data set; `notes` are for a person.

    `published` is the last epoch that its ledger has, null where it has none.
    """

    begins: Offsets
    ends: Offsets
    published: int | None
    notes: tuple[str, ...]


def ask(address: Address, known: Mapping[str, str], stream_id: str | None, access: Any) -> Broker:
    """Ask the broker, without a producer and without a group; raise RunError or UsageError where it cannot be asked.

    `known` are the ids of topics by which one made anew is told.
    """
    from kafka.errors import KafkaError

    from pipelines.outbox import LEDGER
    from transforms.kafka import clients
    from transforms.kafka.reader import ANSWER_MS, Reader

    clients.require_broker(address.servers, access)
    admin = reader = None
    try:
        admin = clients.admin(address.servers, access, request_timeout_ms=ANSWER_MS)
        reader = Reader(address.servers, access)
        there = set(admin.list_topics())
        named = {name for name in there if any(_means(topic, name) for topic in address.topics)}
        wanted = sorted((set(known) | named) & there)
        described = admin.describe_topics(wanted) if wanted else []
        notes = [f"the topic {name} is not there any more" for name in known if name not in there]
        notes += [
            f"the topic {one['name']} was deleted and made anew: a run refuses to go on"
            for one in described
            if known.get(one["name"], one["topic_id"]) != one["topic_id"]
        ]
        extent = reader.extent(
            (one["name"], part["partition_index"]) for one in described for part in one["partitions"]
        )
        published = _last_published(reader, (LEDGER, 0), stream_id) if stream_id and LEDGER in there else None
        return Broker(extent.begins, extent.ends, published, tuple(notes))
    except KafkaError as error:
        raise RunError(f"Kafka does not answer ({type(error).__name__})") from None
    finally:
        for client in (admin, reader):
            if client is not None:
                client.close()


def _means(wanted: str, topic: str) -> bool:
    """Tell whether a topic is one that an input names; those of Kafka itself are in no pattern."""
    return wanted == topic or (is_glob(wanted) and not topic.startswith("__") and fnmatch.fnmatchcase(topic, wanted))


def _last_published(reader: Any, at: Place, stream_id: str) -> int | None:
    """Return the last epoch under this data set's key in the ledger, read backwards; null for none."""
    extent = reader.extent([at])
    begin, end, window = extent.begins[at], extent.ends[at], _LOOK_BACK
    while True:
        start = max(begin, end - window)
        mine = [one for one in reader.read({at: start}, {at: end}) if one.key == stream_id.encode() and one.value]
        if mine:
            return int(json.loads(mine[-1].value)["epoch"])
        if start == begin:
            return None
        window *= 16


def stream_of(
    dataset: Dataset, plan: InProgress | None, inputs: Sequence[str], access: Any
) -> tuple[Stream | None, list[str]]:
    """Return how the topics stand, and notes for a person; null for a data set of files."""
    last = next((one.told[STREAM] for one in reversed(dataset.manifests) if STREAM in one.told), None)
    planned = plan.told[STREAM] if plan is not None and plan.kind == STREAM else None
    start = _started(dataset)
    told = last or planned
    addresses = [Address.parse(uri, "--input") for uri in inputs if is_kafka(uri)]
    if told is None and start is None and not addresses:
        return None, []
    servers = addresses[0].servers if addresses else str((told or {}).get("servers", ""))
    patterns = tuple(topic for address in addresses for topic in address.topics)
    known = dict((told or start or {}).get("topics", {}))
    nexts = offsets_of((last or start or {}).get("next", {}))
    ahead = nexts | (offsets_of(planned["next"]) if planned else {})
    results = dict((last or planned or {}).get("publishes", {}))
    gaps = [gap for one in dataset.manifests for gap in one.told.get(STREAM, {}).get("gaps", ())]
    lost: dict[Place, int] = {}
    for gap in gaps:
        at = (gap["topic"], gap["partition"])
        lost[at] = lost.get(at, 0) + gap["until"] - gap["start"]
    stream_id = str(start["id"]) if start else None
    if not servers:
        found, why = None, "no server is told yet: name --input kafka://host:port/topic"
    else:
        try:
            found, why = ask(Address(servers, patterns), known, stream_id, access), ""
        except (RunError, UsageError) as error:
            found, why = None, str(error)
    places = sorted({*ahead, *(found.ends if found else ())})
    partitions = tuple(_partition(place, nexts, ahead, lost.get(place, 0), found) for place in places)
    topics = tuple(sorted({*known, *(place[0] for place in places)}))
    publishing = [one.epoch for one in dataset.manifests if one.told.get(STREAM, {}).get("publishes")]
    published = (found.published or 0) if found and results else None
    owed = None if published is None else sum(epoch > published for epoch in publishing)
    stream = Stream(servers, topics, found is not None, why, partitions, sum(lost.values()), results, published, owed)
    return stream, list(found.notes) if found else []


def _partition(place: Place, nexts: Offsets, ahead: Offsets, lost: int, found: Broker | None) -> Partition:
    begin = found.begins.get(place) if found else None
    end = found.ends.get(place) if found else None
    at = nexts.get(place, 0)
    planned = ahead.get(place, at)
    losing = max(0, (begin or 0) - planned)
    lag = None if end is None else max(0, end - planned - losing)
    return Partition(*place, at, planned, end, lag, lost, losing)


def _started(dataset: Dataset) -> dict[str, Any] | None:
    path = dataset.path / _START
    return read_json(path) if path.exists() else None


# -------------------------------------------------------------------------------------------- what is left of files


def last_inputs(dataset: Dataset) -> list[str]:
    """Return the inputs of the last run, by its recipe; none where there is no recipe or it names none."""
    try:
        with (dataset.path / RECIPE).open("rb") as stream:
            told = tomllib.loads(stream.read(_MOST_RECIPE_BYTES).decode())
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        raise RunError(f"{dataset.path / RECIPE} cannot be read ({error}): name --input") from None
    inputs = told.get("input", [])
    return [str(each) for each in inputs] if isinstance(inputs, list) else [str(inputs)]


def files_left(dataset: Dataset, plan: InProgress | None, inputs: Sequence[str]) -> tuple[pl.DataFrame, float]:
    """Return the files that no commit and no plan has (file_name, uri, size), and how many items a file has.

    Names, sizes and times decide, as for a planner; nothing is opened. Raises UsageError.
    """
    from pipelines.roots import Roots
    from transforms.source import list_inputs

    roots = Roots(dataset)
    names: list[tuple[int, str, str, int]] = []
    keys: list[tuple[int, str]] = []
    for number, file in enumerate(list_inputs(inputs, exclude=str(dataset.path)).files):
        root, file_name = roots.place(file.root, file.file_name)
        names.append((number, printable(file_name), printable(file.uri), file.size))
        for known in (root, *roots.former(root)):
            keys.append((number, item_key(known.number, file_name, file.size, str(file.mtime_ns))))
    done, items = _done(dataset)
    planned = pl.DataFrame({"item_key": [ref["key"] for ref in refs_of(plan)]}, {"item_key": pl.String})
    known_files = pl.DataFrame(keys, {"number": pl.Int64, "item_key": pl.String}, orient="row").join(
        pl.concat([done, planned]), on="item_key", how="semi"
    )
    columns = {"number": pl.Int64(), "file_name": pl.String(), "uri": pl.String(), "size": pl.Int64()}
    left = pl.DataFrame(names, columns, orient="row").join(known_files, on="number", how="anti", maintain_order="left")
    return left.drop("number"), items / done.height if done.height else 1.0


def _done(dataset: Dataset) -> tuple[pl.DataFrame, int]:
    """Return the keys of the files with which a planner is done, and how many items they are.

    A copy of a picture that has gone is not, nor is a video of which frames are still to be planned.
    """
    images = dataset.scan("images").select("item_key", "duplicate_of", pl.coalesce("video_id", "image_id").alias("id"))
    copies = images.filter(pl.col("duplicate_of").is_not_null())
    orphans = copies.join(images, left_on="duplicate_of", right_on="id", how="anti").select("item_key").collect()
    every = pl.concat([images.select("item_key"), dataset.scan("failures").select("item_key")]).collect()
    unfinished: list[str] = []
    if any(pts is not None for one in dataset.manifests for pts in one.told.get("unfinished", {}).values()):
        from pipelines.rewrite import unfinished_videos  # loads Beam

        unfinished = list(unfinished_videos(dataset.manifests))
    again = pl.concat([orphans, pl.DataFrame({"item_key": unfinished}, {"item_key": pl.String})])
    return every.unique().join(again, on="item_key", how="anti"), every.height


def files_of(dataset: Dataset, plan: InProgress | None, inputs: Sequence[str], named: bool) -> tuple[Files | None, Any]:
    """Return what is left of folders, with the files and the items that each has; null for a data set of topics.

    Inputs that a user `named` must be there; those of the last run may be named from another folder.
    """
    folders = tuple(uri for uri in inputs if not is_kafka(uri))
    if inputs and not folders:
        return None, None
    if not inputs and (_started(dataset) or next_offsets(dataset.manifests)):
        return None, None
    if dataset.manifests and dataset.manifests[-1].told.get("configuration", {}).get("job") == "clean":
        return Files(folders, None, None, "run clean again: it tells what of its label files is new"), None
    if not folders:
        return Files((), None, None, "no run has told its inputs: name --input"), None
    try:
        if not named and any(uri.startswith("@") and not Path(uri[1:]).is_file() for uri in folders):
            raise UsageError("a list that is no file can be read once only")
        left = files_left(dataset, plan, folders)
    except UsageError as error:
        if named:
            raise
        return Files(folders, None, None, f"{error} Name --input, or start in the folder where the run was"), None
    return Files(folders, left[0].height, int(left[0]["size"].clip(0).sum()), ""), left


# --------------------------------------------------------------------------------------------------------- all of it


@dataclass(frozen=True)
class Status:
    """How far a data set is; `files_pending` are the files that are left, null where they were not listed."""

    dataset: Dataset
    now: float
    run: Holder
    plan: InProgress | None
    counts: Mapping[str, Any]
    pace: Pace
    stream: Stream | None
    files: Files | None
    files_pending: pl.DataFrame | None
    items_a_file: float
    notes: tuple[str, ...]

    @property
    def lag(self) -> int | None:
        """Offsets that are in no plan; null for a data set of files, and while the broker is away."""
        if self.stream is None or not self.stream.answers:
            return None
        return sum(partition.lag or 0 for partition in self.stream.partitions)

    @property
    def seconds_left(self) -> float | None:
        """How long what is pending and in progress takes at the last rate; null where no run works on it."""
        if not self.run.alive:
            return None
        if self.lag is not None:
            left, rate = self.lag + ((self.plan.offsets or 0) if self.plan else 0), self.pace.offsets
        elif self.files is not None and self.files.count is not None:
            left = round(self.files.count * self.items_a_file) + ((self.plan.items or 0) if self.plan else 0)
            rate = self.pace.items
        else:
            return None
        return 0.0 if not left else left / rate if rate else None

    def told(self) -> dict[str, Any]:
        """Return it as JSON values."""
        plan, stream, last = self.plan, self.stream, self.dataset.manifests[-1:]
        moment = committed_at(last[0]) if last else None
        return {
            "version": VERSION,
            "dataset": printable(str(self.dataset.path)),
            "now": stamp(self.now),
            "run": asdict(self.run) | {"since": stamp(self.run.since)},
            "epoch": last[0].epoch if last else None,
            "committed_at": stamp(moment),
            "age_seconds": None if moment is None else round(max(0.0, self.now - moment), 3),
            **self.counts,
            "in_progress": None
            if plan is None
            else {
                "epoch": plan.epoch,
                "kind": plan.kind,
                "since": stamp(plan.since),
                "age_seconds": round(max(0.0, self.now - plan.since), 3),
                "attempt": plan.attempt,
                "items": plan.items,
                "offsets": plan.offsets,
            },
            "pending": {
                "offsets": self.lag,
                "files": self.files.count if self.files else None,
                "bytes": self.files.size_bytes if self.files else None,
                "why_unknown": (self.files.why if self.files else stream.why if stream else "") or None,
                "seconds_left": _rounded(self.seconds_left),
            },
            "rate": {
                "commits": self.pace.commits,
                "items_per_second": _rounded(self.pace.items),
                "offsets_per_second": _rounded(self.pace.offsets),
                "last_hour_items": self.pace.last_hour_items,
                "last_hour_items_per_second": _rounded(self.pace.last_hour_items / 3600),
            },
            "stream": None
            if stream is None
            else {
                "servers": stream.servers,
                "topics": list(stream.topics),
                "answers": stream.answers,
                "why": stream.why or None,
                "lost": stream.lost,
                "partitions": [asdict(partition) for partition in stream.partitions],
            },
            "results": None
            if stream is None or not stream.results
            else {"topics": dict(stream.results), "epoch": stream.published, "epochs_owed": stream.owed},
            "notes": list(self.notes),
        }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


def stamp(moment: float | None) -> str | None:
    """Return a time as 2026-01-31T12:00:00Z; null for none."""
    return None if moment is None else time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(moment))


def look(path: Path, named: Sequence[str], access: Any) -> Status:
    """Return how far the data set is; `named` are inputs that take the place of the last run's. Raises UsageError."""
    run = holder(path)
    dataset, plan = snapshot(path)
    counted = counts(dataset)
    notes: list[str] = []
    inputs = list(named)
    if not inputs:
        try:
            inputs = last_inputs(dataset)
        except RunError as error:
            notes.append(str(error))
    stream, told = stream_of(dataset, plan, inputs, access)
    files, left = files_of(dataset, plan, inputs, bool(named))
    began = offsets_of((_started(dataset) or {}).get("next", {}))
    now = time.time()
    rates = pace(dataset.manifests, began, run.since if run.alive else None, now)
    if stream and stream.published is not None and dataset.manifests and stream.published > dataset.manifests[-1].epoch:
        notes.append(f"Kafka has the results of epoch {stream.published}, the data set has it not: an older copy?")
    if run.alive is None and run.host:
        notes.append(f"{run.host} wrote the lock last: whether its process {run.process} lives can only be seen there")
    pending, items_a_file = left or (None, 1.0)
    return Status(dataset, now, run, plan, counted, rates, stream, files, pending, items_a_file, (*notes, *told))


def steadily(do: Callable[[], T]) -> T:
    """Do something with a data set, again where files that it read were replaced meanwhile; raise RunError."""
    for left in reversed(range(_TRIES)):
        try:
            return do()
        except (OSError, pl.exceptions.PolarsError) as error:
            if not left:
                raise RunError(
                    f"the data set cannot be read ({type(error).__name__}: {str(error)[:300]}): if it stays, restore "
                    "it from a copy"
                ) from None
        except (KeyError, TypeError, AttributeError, ValueError, IndexError) as error:
            raise RunError(f"no plans and manifests of a data set ({error!r}): restore it from a copy") from None
        time.sleep(0.05)
    raise AssertionError


# ------------------------------------------------------------------------------------------------ one item's story

_IMAGE = (
    *("image_id", "item_key", "root", "file_name", "source_uri", "sha256", "width", "height", "source_id"),
    *("timestamp_ms", "video_id", "frame_index", "pts_ms", "outcome", "duplicate_of"),
)
_FAILURE = ("item_key", "root", "file_name", "source_uri", "step", "error", "message", "attempts")
_LABEL = (
    *("image_id", "item_key", "rank", "label", "confidence", "origin", "bbox_x", "bbox_y", "bbox_w", "bbox_h"),
    *("detection_score", "model", "source"),
)
_CHANGE = (
    *("image_id", "item_key", "kind", "id", "field", "before", "after", "rule", "confidence", "reviewer"),
    "decided_at",
)
_HELD = ("image_id", "item_key", "file_name", "kind", "id", "rule", "field", "value", "candidates", "detail")


def every_row(dataset: Dataset, table: str, columns: Sequence[str], where: pl.Expr) -> pl.DataFrame:
    """Return rows of a table, those too that a later commit took back.

    `_epoch` is the commit that lists a row, `_first` and `_last` the epochs that its file is of.
    """
    listed = {str(dataset.path / path): one.epoch for one in dataset.manifests for path in one.paths(table)}
    known = pl.Schema(schema(table, dataset.labels))
    wanted = pl.Schema({name: known[name] for name in columns})
    extra = {"_epoch": pl.Int64(), "_first": pl.Int64(), "_last": pl.Int64()}
    if not listed:
        return pl.DataFrame(schema={**wanted, **extra})
    rows = pl.scan_parquet(
        list(listed),
        schema=wanted,
        missing_columns="insert",
        extra_columns="ignore",
        include_file_paths="_path",
        glob=False,
    ).with_columns(pl.col(pl.Categorical, pl.Enum).cast(pl.String))
    found = rows.filter(where).collect()
    spans = [epochs_of(Path(path).name, SHARD_NAME) or (listed[path],) * 2 for path in found["_path"]]
    epochs = pl.DataFrame(
        [(listed[path], *span) for path, span in zip(found["_path"], spans, strict=True)], extra, orient="row"
    )
    return pl.concat([found.drop("_path"), epochs], how="horizontal")


def story(status: Status, name: str) -> dict[str, Any]:
    """Return the story of an item as JSON values; raise UsageError, with the nearest names, where there is none."""
    dataset = status.dataset
    rows = _rows_of(dataset, name)
    planned = [ref for ref in refs_of(status.plan) if _is_called(ref["file_name"], ref["uri"], ref["key"], name)]
    message = _MESSAGE.fullmatch(name) if status.stream is not None else None
    told: dict[str, Any] = {"version": VERSION, "item": printable(name), "rows": [], "rows_left_off": 0}
    if planned:
        assert status.plan is not None
        told |= {"state": "in progress", "epoch": status.plan.epoch, "since": stamp(status.plan.since)}
    elif any(row["stands"] for row in rows):
        told["state"] = "failed" if all("error" in row for row in rows if row["stands"]) else "done"
    elif message is not None and not rows:
        told |= _of_message((message["topic"], int(message["partition"])), int(message["offset"]), status)
    elif (left := _pending(status, name)) is not None:
        told |= {"state": "pending", **left}
    elif rows:
        told["state"] = "superseded"
    if "state" not in told:
        raise UsageError(f"{printable(str(dataset.path))} has no item {printable(name)!r}{_near(status, name)}")
    return told | {"rows": _whole_rows(status, rows[:_MOST_ROWS]), "rows_left_off": max(0, len(rows) - _MOST_ROWS)}


def _is_called(file_name: str, uri: str, key: str, name: str) -> bool:
    return name in (file_name, uri) or (_is_prefix(name) and key.startswith(name))


def _is_prefix(name: str) -> bool:
    """Tell whether a name may be the beginning of an item's key or id."""
    return re.fullmatch(r"[0-9a-f]{8,64}", name) is not None


def _rows_of(dataset: Dataset, name: str) -> list[dict[str, Any]]:
    """Return the rows of the items of this name in all their versions, those that stand last."""
    shown = printable(name)
    own = pl.col("file_name") == shown
    if _MESSAGE.fullmatch(shown):
        own |= pl.col("file_name").str.starts_with(shown + "/") & pl.col("file_name").str.contains(r"/\d+/\d+/\d+$")
    uri, key = pl.col("source_uri") == shown, pl.col("item_key").str.starts_with(shown)
    ids = pl.col("image_id").str.starts_with(shown) | (pl.col("video_id") == shown)
    hexed = _is_prefix(shown)
    images = every_row(dataset, "images", _IMAGE, own | uri | key | ids if hexed else own | uri)
    failures = every_row(dataset, "failures", _FAILURE, own | uri | key if hexed else own | uri)
    if hexed and images.height:  # what stood under the same name before, with other bytes
        names = images.select("root", "file_name", "frame_index").unique()
        older = every_row(dataset, "images", _IMAGE, pl.col("file_name").is_in(names["file_name"].implode()))
        images = older.join(names, on=["root", "file_name", "frame_index"], how="semi", nulls_equal=True)
    held = pl.DataFrame(schema={"item_key": pl.String})
    if not images.height and not failures.height:
        held = every_row(dataset, "quarantine", _HELD, own | (key if hexed else pl.lit(value=False)))
        held = held.unique(["item_key", "_epoch"], maintain_order=True).with_columns(outcome=pl.lit("held back"))
        held = held.select("item_key", "image_id", "file_name", "outcome", "_epoch", "_first", "_last")
    rows = [row for frame in (images, failures, held) for row in frame.iter_rows(named=True)]
    taken = dataset.taken_back
    for row in rows:
        row["stands"] = row["_epoch"] >= taken.get(row["item_key"], 0)
    return sorted(rows, key=lambda row: (row["stands"], row["_epoch"], row["file_name"], row.get("frame_index") or 0))


def _whole_rows(status: Status, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows with what belongs to each: labels, rules, copies, times, and whether Kafka has the result."""
    if not rows:
        return []
    dataset = status.dataset
    keys = pl.col("item_key").is_in(list({row["item_key"] for row in rows}))
    mine = {
        "labels": _grouped(every_row(dataset, "annotations", _LABEL, keys).sort("_epoch", "rank")),
        "changes": _grouped(every_row(dataset, "changes", _CHANGE, keys)),
        "held": _grouped(every_row(dataset, "quarantine", _HELD, keys)),
    }
    ids = {row.get("image_id"): row.get("video_id") for row in rows}
    wanted = [each for each in {*ids, *ids.values()} if each]
    copies = dataset.scan("images").filter(pl.col("duplicate_of").is_in(wanted))
    copied: dict[str, list[str]] = {}
    for of, file_name in copies.select("duplicate_of", "file_name").head(_MOST_ROWS).collect().iter_rows():
        copied.setdefault(of, []).append(file_name)
    return [_whole_row(status, row, mine, copied) for row in rows]


def _grouped(rows: pl.DataFrame) -> dict[tuple[Any, ...], list[dict[str, Any]]]:
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in rows.iter_rows(named=True):
        groups.setdefault((row["item_key"], row["_epoch"], row["image_id"]), []).append(row)
    return groups


_INNER = {"item_key", "image_id", "root", "file_name", "_epoch", "_first", "_last"}


def _whole_row(
    status: Status,
    row: Mapping[str, Any],
    mine: Mapping[str, Mapping[tuple[Any, ...], list[dict[str, Any]]]],
    copied: Mapping[str, list[str]],
) -> dict[str, Any]:
    commit = next(one for one in status.dataset.manifests if one.epoch == row["_epoch"])
    at = (row["item_key"], row["_epoch"], row.get("image_id"))
    told = {name: value for name, value in row.items() if not name.startswith("_")}
    if "error" in row:
        told["outcome"] = str(Outcome.FAILED)
    told["epochs"] = [row["_first"], row["_last"]]
    told["planned_at"] = _planned_at(status.dataset, row["_first"]) if row["_first"] == row["_last"] else None
    told["committed_at"] = stamp(committed_at(commit))
    for name in ("labels", "changes", "held"):
        rows = [*mine[name].get(at, ()), *(mine[name].get((*at[:2], None), ()) if at[2] is not None else ())]
        told[name] = [_plain(each) for each in rows]
    told["duplicates"] = copied.get(row.get("video_id") or row.get("image_id") or "", [])
    told["result_in_kafka"] = _is_published(status, commit, row["_first"])
    return told


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row of labels, changes or quarantine as JSON values; the box as one list."""
    told = {name: value for name, value in row.items() if name not in _INNER}
    if "bbox_x" in told:
        box = [told.pop(name) for name in ("bbox_x", "bbox_y", "bbox_w", "bbox_h")]
        told["box"] = None if None in box else box
    if told.get("decided_at") is not None:
        told["decided_at"] = told["decided_at"].isoformat()
    return {name: None if isinstance(value, float) and value != value else value for name, value in told.items()}


def _planned_at(dataset: Dataset, epoch: int) -> str | None:
    try:
        return stamp((dataset.path / epoch_file(PLANS, epoch)).stat().st_mtime)
    except OSError:
        return None


def _is_published(status: Status, commit: Manifest, epoch: int) -> bool | None:
    asked = "results" in commit.told.get(STREAM, {}).get("publishes", {})
    published = status.stream.published if status.stream else None
    return None if published is None or not asked else epoch <= published


def _of_message(place: Place, offset: int, status: Status) -> dict[str, Any]:
    """Return what became of a message that is in no table; nothing for one of a topic that is not read."""
    stream = status.stream
    assert stream is not None
    partition = next((one for one in stream.partitions if (one.topic, one.partition) == place), None)
    if partition is None:
        return {}
    if offset < partition.next:
        gaps = [gap for one in status.dataset.manifests for gap in one.told.get(STREAM, {}).get("gaps", ())]
        start = offsets_of((_started(status.dataset) or {}).get("next", {})).get(place, 0)
        if any((gap["topic"], gap["partition"]) == place and gap["start"] <= offset < gap["until"] for gap in gaps):
            return {"state": "lost", "why": "the broker had deleted it before it was read"}
        if offset < start:
            return {"state": "not read", "why": f"the data set begins with offset {start}"}
        return {"state": "no message", "why": "no message has this offset: it is of a transaction, or was compacted"}
    if offset < partition.planned:
        assert status.plan is not None
        return {"state": "in progress", "epoch": status.plan.epoch, "since": stamp(status.plan.since)}
    if partition.end is None:
        return {"state": "not read", "why": f"whether it is there is unknown: {stream.why}"}
    if offset < partition.planned + partition.losing:
        return {"state": "lost", "why": "the broker has deleted it before it was read"}
    return {"state": "pending", "offsets_before": offset - partition.planned} if offset < partition.end else {}


def _pending(status: Status, name: str) -> dict[str, Any] | None:
    if status.files_pending is None:
        return None
    shown = printable(name)
    found = status.files_pending.filter((pl.col("file_name") == shown) | (pl.col("uri") == shown))
    return {"uri": found["uri"][0], "size_bytes": found["size"][0]} if found.height else None


def _near(status: Status, name: str) -> str:
    """Return the names most like this one, as the end of a sentence."""
    from rapidfuzz import fuzz, process

    if status.stream is not None and (found := _MESSAGE.fullmatch(name)):
        for one in status.stream.partitions:
            if (one.topic, one.partition) == (found["topic"], int(found["partition"])):
                return f": the topic's partition has the offsets up to {(one.end or one.next) - 1}"
    tables = [status.dataset.scan(table).select("file_name") for table in ("images", "failures")]
    names = pl.concat(tables).unique(maintain_order=True).head(_MOST_NAMES).collect()["file_name"]
    if status.files_pending is not None:
        names = pl.concat([names, status.files_pending["file_name"].head(_MOST_NAMES)])
    near = [each[0] for each in process.extract(printable(name), names.to_list(), scorer=fuzz.WRatio, limit=3)]
    return f"; the nearest are {', '.join(near)}" if near else ""


# ------------------------------------------------------------------------------------------------------- for a person


def lines(told: Mapping[str, Any]) -> Iterator[str]:
    """Yield a status as text."""
    outcomes, pending, rate, stream = told["outcomes"], told["pending"], told["rate"], told["stream"]
    head = f"{told['items']:,} items in epochs up to {told['epoch']}" if told["epoch"] else "nothing is committed yet"
    yield f"{told['dataset']}: {head}"
    yield _line("run", _run_text(told["run"]))
    yield _line(
        "done", ", ".join(f"{outcomes[each]:,} {each.replace('_', ' ')}" for each in outcomes if each != "failed")
    )
    yield _line("failed", _with_kinds(outcomes["failed"], told["failures"]))
    yield _line("held back", _with_kinds(told["quarantine"]["rows"], told["quarantine"]["rules"], "rows"))
    yield _line("in progress", _plan_text(told["in_progress"], told["run"]["alive"]))
    yield _line("pending", _pending_text(pending, stream))
    if told["committed_at"]:
        yield _line("last commit", f"{told['committed_at']}, {duration(told['age_seconds'])} ago")
    if rate["items_per_second"] is not None:
        over = "the last commit" if rate["commits"] == 1 else f"the last {rate['commits']} commits"
        hour = f"{rate['last_hour_items']:,} items in the last hour"
        yield _line("rate", f"{rate['items_per_second']:,.1f} items/s over {over}; {hour}")
    if pending["seconds_left"] is not None:
        yield _line("time left", f"about {duration(pending['seconds_left'])}")
    if stream is not None:
        yield _line(
            "lost", f"{stream['lost']:,} offsets, deleted before they were read" if stream["lost"] else "nothing"
        )
    if told["results"] is not None:
        yield _line("results", _results_text(told["results"], told["epoch"]))
    if stream is not None and stream["partitions"]:
        yield from _partition_lines(stream["partitions"])
    yield from (_line("note", note) for note in told["notes"])


def _line(what: str, text: str) -> str:
    return f"  {what:12} {text}"


def _run_text(run: Mapping[str, Any]) -> str:
    if run["alive"]:
        return f"process {run['process']} on {run['host']} works on it since {run['since']}"
    return "none works on it" if run["alive"] is False else f"perhaps process {run['process']} on {run['host']}"


def _with_kinds(count: int, kinds: Mapping[str, int], unit: str = "") -> str:
    most = sorted(kinds.items(), key=lambda pair: -pair[1])[:_MOST_SHOWN]
    return f"{count:,} {unit}".strip() + (f" ({', '.join(f'{kind} {n:,}' for kind, n in most)})" if most else "")


def _plan_text(plan: Mapping[str, Any] | None, alive: bool | None) -> str:
    if plan is None:
        return "nothing"
    what = f"{plan['offsets']:,} offsets" if plan["offsets"] is not None else f"{plan['items'] or 0:,} items"
    tries = f", attempt {plan['attempt']}" if (plan["attempt"] or 1) > 1 else ""
    left = "; left by a run that ended, the next one begins with it" if alive is False else ""
    return f"epoch {plan['epoch']}: {what}, since {duration(plan['age_seconds'])}{tries}{left}"


def _pending_text(pending: Mapping[str, Any], stream: Mapping[str, Any] | None) -> str:
    known = []
    if pending["offsets"] is not None:
        known.append(f"{pending['offsets']:,} offsets")
    if pending["files"] is not None:
        known.append(f"{pending['files']:,} files, {pending['bytes'] / 1e6:,.1f} MB")
    if stream is not None and not stream["answers"]:
        known.append(f"unknown of the topics, Kafka is away: {stream['why']}")
    elif pending["why_unknown"]:
        known.append(f"unknown: {pending['why_unknown']}")
    return "; ".join(known) or "nothing"


def _results_text(results: Mapping[str, Any], last: int | None) -> str:
    where = ", ".join(f"{purpose.replace('_', ' ')} in {topic}" for purpose, topic in results["topics"].items())
    if results["epoch"] is None:
        return f"{where}: up to which epoch only Kafka knows"
    owed = f"; {results['epochs_owed']} epochs are owed" if results["epochs_owed"] else ", all"
    return f"{where}: up to epoch {results['epoch']} of {last or 0}{owed}"


def _partition_lines(partitions: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    shown = sorted(partitions, key=lambda one: -(one["lag"] or 0))[:_MOST_SHOWN]
    rows = [("topic", "partition", "committed", "planned", "end", "lag", "lost")]
    for one in sorted(shown, key=lambda one: (one["topic"], one["partition"])):
        numbers = (one["partition"], one["next"], one["planned"], one["end"], one["lag"], one["lost"] + one["losing"])
        rows.append((one["topic"], *("?" if number is None else f"{number:,}" for number in numbers)))
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    for row in rows:
        cells = (text.rjust(width) for text, width in zip(row[1:], widths[1:], strict=True))
        yield f"  {row[0].ljust(widths[0])}  " + "  ".join(cells)
    if len(partitions) > len(shown):
        yield f"  ... and {len(partitions) - len(shown)} partitions with less lag"


def story_lines(told: Mapping[str, Any]) -> Iterator[str]:
    """Yield an item's story as text."""
    rows = told["rows"]
    why = {
        name: told[name] for name in ("why", "epoch", "since", "offsets_before", "uri", "size_bytes") if name in told
    }
    yield f"{told['item']}: {told['state']}" + "".join(f", {name.replace('_', ' ')} {v}" for name, v in why.items())
    videos = len({row["file_name"] for row in rows if row.get("video_id")}) if len(rows) > _MOST_SHOWN else 0
    if videos:
        kinds: dict[str, int] = {}
        for row in rows:
            kinds[row["outcome"]] = kinds.get(row["outcome"], 0) + 1
        yield f"  {len(rows) + told['rows_left_off']:,} rows: " + ", ".join(f"{n:,} {k}" for k, n in kinds.items())
    for row in rows[:_MOST_SHOWN]:
        yield from _row_lines(row)
    if len(rows) > _MOST_SHOWN:
        yield f"  ... and {len(rows) - _MOST_SHOWN + told['rows_left_off']:,} more rows: --json tells them"


def _row_lines(row: Mapping[str, Any]) -> Iterator[str]:
    first, last = row["epochs"]
    epoch = f"epoch {first}" if first == last else f"one of the epochs {first} to {last}"
    planned = f"planned {row['planned_at']}, " if row["planned_at"] else ""
    state = "" if row["stands"] else "  (superseded by a later epoch)"
    yield f"  {epoch}: {row['outcome'].replace('_', ' ')}; {planned}committed {row['committed_at']}{state}"
    place = f", frame {row['frame_index']}" if row.get("frame_index") is not None else ""
    size = f", {row['width']} x {row['height']}" if row.get("width") else ""
    yield f"    {row['file_name']}{place}{size}; item {row['item_key']}"
    if row.get("image_id"):
        yield f"    image {row['image_id']}"
    if row.get("duplicate_of"):
        yield f"    duplicate of {row['duplicate_of']}"
    if "error" in row:
        yield f"    {row['step']}: {row['error']} (attempt {row['attempts']}): {row['message']}"
    for label in row["labels"]:
        box = "the whole picture" if label["box"] is None else " x ".join(f"{value:.0f}" for value in label["box"][2:])
        where = "" if label["box"] is None else f" at {label['box'][0]:.0f}, {label['box'][1]:.0f}"
        sure = "" if label["confidence"] is None else f" {label['confidence']:.3f}"
        yield f"    label {label['label']}{sure} ({label['origin']}), {box}{where}"
    for change in row["changes"]:
        yield f"    {change['rule']}: {change['field']} {change['before']!r} -> {change['after']!r}"
    for held in row["held"]:
        yield f"    held back by {held['rule']}: {held['field']} {held['value']!r} {held['detail'] or ''}".rstrip()
    if row["duplicates"]:
        more = f" and {len(row['duplicates']) - 5} more" if len(row["duplicates"]) > 5 else ""
        yield f"    copies: {', '.join(row['duplicates'][:5])}{more}"
    if row["result_in_kafka"] is not None and row["stands"]:
        yield "    its result is in Kafka" if row["result_in_kafka"] else "    its result is not in Kafka yet"


def duration(span: float) -> str:
    """Return a time span for a person.

    >>> duration(4000)
    '1 h 06 min'
    """
    if span < 90:
        return f"{span:.0f} s"
    minutes = round(span / 60)
    if minutes < 90:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes < 48 * 60 else f"{minutes // 1440} days"


# ------------------------------------------------------------------------------------------------------------ the job


def main(argv: Sequence[str]) -> int:
    """Run the job; return the exit code."""
    options = _parser().parse_args(argv)
    named, path = list(options.input), Path(options.dataset)
    if any(map(is_kafka, named)) and not all(map(is_kafka, named)):
        raise UsageError("--input: topics and files cannot be the inputs of one run; ask for them one by one")
    if len({Address.parse(uri, "--input").servers for uri in named if is_kafka(uri)}) > 1:
        raise UsageError("--input: expected topics of one cluster, got several")
    while True:
        access = _access(options.kafka_config, named, path)
        print(_text(options, path, named, access), flush=True)
        if options.watch is None:
            return 0
        try:
            time.sleep(options.watch)
        except KeyboardInterrupt:
            return 0


def _text(options: argparse.Namespace, path: Path, named: Sequence[str], access: Any) -> str:
    def told() -> dict[str, Any]:
        status = look(path, named, access)
        return status.told() if options.item is None else story(status, options.item)

    found = steadily(told)
    if options.json:
        return json.dumps(found, ensure_ascii=False, allow_nan=False, indent=None if options.watch else 2)
    text = "\n".join(lines(found) if options.item is None else story_lines(found))
    if options.watch is None:
        return text
    return f"\x1b[H\x1b[2J{text}" if sys.stdout.isatty() else f"{text}\n"


def _access(config: str | None, named: Sequence[str], path: Path) -> Any:
    """Return what opens Kafka; the client library is loaded only for a data set of topics."""
    inputs = named
    if not inputs and not (path / _START).exists():
        inputs = last_inputs(Dataset(path)) if (path / RECIPE).exists() else ()
        if not any(map(is_kafka, inputs)) and config is None:
            return None
    from transforms.kafka.access import read_access

    return read_access(config)


def _parser() -> Parser:
    parser = Parser(prog="python -m pipelines.status", description=__doc__, epilog=EPILOG)
    parser.add_argument("--dataset", default=DEFAULT_OUTPUT, metavar="DIR", help="data set that annotate or clean made")
    parser.add_argument(
        "--item",
        metavar="NAME",
        help=(
            "tell the story of one item: its file name, uri, topic/partition/offset, image_id, or at least the first 8 "
            "digits of its item_key"
        ),
    )
    parser.add_argument("--json", action="store_true", help="one JSON object; with --watch one a line")
    parser.add_argument("--watch", type=seconds, metavar="SECONDS", help="tell it again and again, until Ctrl-C")
    parser.add_argument(
        "--input",
        action="append",
        default=[],
        metavar="WHERE",
        help="what a run would read, in place of the last run's inputs: as for annotate; repeatable",
    )
    parser.add_argument(
        "--kafka-config",
        metavar="FILE",
        help="security.protocol, sasl.username, ... one a line (default: the file that LABELSTREAM_KAFKA_CONFIG names)",
    )
    return parser


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:]))
