"""How far a data set is: what is committed, in progress, and left, read without touching anything.

No lock is taken and nothing is written, so a run, or a compaction, that works on the data set notices nothing.
"""

import calendar
import fnmatch
import os
import platform
import re
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import polars as pl

from pipelines.dataset import Dataset, Manifest, read_json
from pipelines.lease import LAPSE_S
from schemas.errors import RunError, UsageError
from schemas.layout import PLANS, RECIPE, STREAM, STREAM_START, TEMPORARY, epoch_file, epochs_of
from schemas.reasons import Outcome
from transforms.kafka.address import Address, is_glob, is_kafka
from transforms.places import Place as Folder
from transforms.places import Prefix, place
from transforms.storage import printable

T = TypeVar("T")
Place = tuple[str, int]
Offsets = dict[Place, int]

VERSION = 1
"""Changes where a name of the JSON, or what it means, does."""

COMMITS = 20
"""So many of the last commits tell the rate."""

_TRIES = 5
_MOST_RECIPE_BYTES = 1 << 20


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


def holder(output: Folder) -> Holder:
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
    if isinstance(output, Prefix):
        # Its holder renews it; the store's clock and this one may differ by a few seconds.
        alive = abs(time.time() - state.st_mtime) < 2 * LAPSE_S
        return Holder(alive, process if alive else None, host if alive else None, None)
    assert isinstance(state, os.stat_result)
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


def snapshot(path: Folder) -> tuple[Dataset, InProgress | None]:
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


def _names(folder: Folder) -> list[str]:
    if isinstance(folder, Prefix):
        return [each.name for each in folder.iterdir()]
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
    at = len(manifests) - _recent(manifests, times, since or 0.0)
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


def _recent(manifests: Sequence[Manifest], times: Sequence[float | None], since: float) -> int:
    """Return how many of the last commits tell the rate: those since then, and not folded ones; at least the last."""
    count = 0
    for one, moment in zip(reversed(manifests), reversed(times), strict=True):
        if count == COMMITS or moment is None or (count and (one.is_folded or moment < since)):
            break
        count += 1
    return count


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

    from pipelines.outbox import LEDGER, last_published
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
        published = last_published(reader, stream_id) if stream_id and LEDGER in there else None
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


def stream_of(
    dataset: Dataset, plan: InProgress | None, inputs: Sequence[str], access: Any
) -> tuple[Stream | None, list[str]]:
    """Return how the topics stand, and notes for a person; null for a data set of files."""
    last = next((one.told[STREAM] for one in reversed(dataset.manifests) if STREAM in one.told), None)
    planned = plan.told[STREAM] if plan is not None and plan.kind == STREAM else None
    start = started(dataset)
    told = last or planned
    addresses = [Address.parse(uri, "--input") for uri in inputs if is_kafka(uri)]
    if told is None and start is None and not addresses:
        return None, []
    from pipelines.review_queue import topics_of  # loads the client library

    servers = addresses[0].servers if addresses else str((told or {}).get("servers", ""))
    patterns = tuple(topic for address in addresses for topic in address.topics)
    known = dict((told or start or {}).get("topics", {}))
    nexts = offsets_of((last or start or {}).get("next", {}))
    ahead = nexts | (offsets_of(planned["next"]) if planned else {})
    results = topics_of((last or planned or {}).get("publishes", {}))
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
    if told is None and start is None and found is not None:
        nexts = ahead = found.begins  # nothing is begun: nothing is lost either
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


def started(dataset: Dataset) -> dict[str, Any] | None:
    path = dataset.path / STREAM_START
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
    import numpy as np

    from pipelines.committed import Committed
    from pipelines.planning import chunks
    from pipelines.roots import Roots
    from transforms.source import list_inputs

    committed = Committed(dataset, keep_contents=False)
    planned = {ref["key"] for ref in refs_of(plan)}
    left: list[tuple[str, str, int]] = []
    for chunk in chunks(list_inputs(inputs, exclude=str(dataset.path)).files, Roots(dataset)):
        at, done = committed.look(*chunk.hashes)
        done[done] = committed.is_settled(at[done], retry_failed=False)
        if planned:
            done |= np.fromiter((key in planned for key in chunk.keys), np.bool_, len(done))
        for number in np.flatnonzero(np.bincount(chunk.owners, weights=done) == 0):
            file = chunk.files[number]
            left.append((printable(chunk.file_names[number]), printable(file.uri), file.size))
    rows = (dataset.scan(table).select(pl.len()).collect().item() for table in ("images", "failures"))
    columns = {"file_name": pl.String(), "uri": pl.String(), "size": pl.Int64()}
    return pl.DataFrame(left, columns, orient="row"), sum(rows) / len(committed.records) if committed.records else 1.0


def files_of(dataset: Dataset, plan: InProgress | None, inputs: Sequence[str], named: bool) -> tuple[Files | None, Any]:
    """Return what is left of folders, with the files and the items that each has; null for a data set of topics.

    Inputs that a user `named` must be there; those of the last run may be named from another folder.
    """
    folders = tuple(uri for uri in inputs if not is_kafka(uri))
    if inputs and not folders:
        return None, None
    if not inputs and (started(dataset) or next_offsets(dataset.manifests)):
        return None, None
    if dataset.manifests and dataset.manifests[-1].told.get("configuration", {}).get("job") == "clean":
        return Files(folders, None, None, "run clean again: it tells what of its label files is new"), None
    if not folders:
        return Files((), None, None, "no run has told its inputs: name --input"), None
    try:
        if not named and any(uri.startswith("@") and not place(uri[1:]).is_file() for uri in folders):
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


def look(path: Folder, named: Sequence[str], access: Any) -> Status:
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
    began = offsets_of((started(dataset) or {}).get("next", {}))
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
