"""Plans from topics: what has arrived is cut into epochs by count, bytes and time, for as long as the run lasts.

The manifests are the truth for offsets; the broker is never asked where we were. See DECISIONS.md.
"""

import fnmatch
import json
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar

from kafka.errors import KafkaError

from pipelines.dataset import Dataset, Manifest, read_json
from pipelines.logs import log
from pipelines.planning import left_behind
from pipelines.roots import Roots
from pipelines.stream_plan import Care, Gap, Ranges, StreamPlan, offsets_of, plan_of, told_offsets
from schemas.errors import RunError, UsageError
from schemas.layout import PLANS, STREAM, STREAM_START, epoch_file
from transforms.kafka import clients
from transforms.kafka.access import Access
from transforms.kafka.address import Address, is_glob
from transforms.kafka.clients import BrokerAway
from transforms.kafka.reader import Extent, Lost, Offsets, Place, Reader
from transforms.messages import AllowedRoots, Record
from transforms.places import Place as Folder
from transforms.stopping import stop_requested, wait_for_stop
from transforms.storage import create_exclusive, write_atomic

T = TypeVar("T")

TRIES = 3
"""How often an epoch may break before it is taken apart."""

LOOK_SECONDS = 5.0
"""How often new partitions and topics, and the lag, are looked for."""

TELL_SECONDS = 60.0
"""How often it is said that a broker is away."""

_TRUSTED_SECONDS = 1.0
"""How long a topic is taken for the one that it was."""

_GONE_SECONDS = 60.0
"""How long a topic may be unknown to its broker, as after the broker's start, before it is taken for deleted."""

_IDLE_MS = 500
_MORE_MS = 20
_AT_ONCE = 500
_MEAN_BYTES = 1 << 17


@dataclass(frozen=True)
class Limits:
    """When an epoch closes: at so many messages, so many bytes, or when its first message has waited so long."""

    messages: int
    size_bytes: int
    seconds: float


@dataclass(frozen=True)
class Beginning:
    """Where a new data set begins: "earliest", "latest", or a time in ms since 1970."""

    at: str | int


class Observer(Protocol):
    """Hears how the stream stands."""

    def lag(self, lag: Mapping[Place, int]) -> None:
        """Take in how many offsets of each partition are not yet read."""

    def broker(self, *, answers: bool) -> None:
        """Take in whether the broker answers."""

    def gap(self, gap: Gap) -> None:
        """Take in that the broker deleted what was not yet read."""

    def closed(self, ranges: Ranges, records: Sequence[Record]) -> None:
        """Take in an epoch that is about to run."""

    def alive(self) -> None:
        """Take in that the loop turns."""


class StreamPlanner:
    """Turns what arrives into plans, one at a time; at most one epoch's messages are in memory."""

    def __init__(
        self,
        dataset: Dataset,
        configuration: dict[str, Any],
        *,
        sources: Sequence[Address],
        access: Access,
        allowed: AllowedRoots,
        limits: Limits,
        beginning: Beginning | None,
        publishes: dict[str, str],
        until_caught_up: bool,
        observer: Observer,
        require_ours: Callable[[], None],
    ) -> None:
        """`beginning` is null where nobody said: a data set goes on where it was, a new one begins with the earliest.

        `require_ours` raises RunError where another run has taken the data set over. Raises UsageError, where
        `beginning` contradicts what is committed, and RunError.
        """
        self.dataset = dataset
        self.configuration = configuration
        self.servers = sources[0].servers
        self.topics_wanted = [topic for source in sources for topic in source.topics]
        self.allowed = allowed
        self.limits = limits
        self.publishes = publishes
        self.observer = observer
        self.require_ours = require_ours
        self.interrupted: Callable[[], bool] = lambda: False
        self.admin = clients.admin(self.servers, access)
        self.reader = Reader(self.servers, access)
        self.roots = Roots(dataset)
        self.announced = len(self.roots.known)
        self.care: Care | None = None
        self.gaps: list[Gap] = []
        self.recent: dict[str, Record] = {}
        self.topics: dict[str, str] = {}
        self.at: Offsets = {}
        self.looked_at = self.trusted_at = self.closed_at = time.monotonic()
        self.run_seconds = 0.0
        if beginning is not None and last_ranges(dataset) is not None:
            raise UsageError(
                f"{dataset.path} knows where it was: leave --from away, or name another --output to begin anew"
            )
        self.goal: Offsets | None = None
        self._patiently(lambda: self._begin(beginning, until_caught_up))

    def close(self) -> None:
        """Let the broker go."""
        self.reader.close()
        self.admin.close()

    # ------------------------------------------------------------------------------------------- where it begins

    def _begin(self, beginning: Beginning | None, until_caught_up: bool) -> None:
        """Find where every partition goes on: by the last manifest, else by where the data set once began."""
        cluster = str(self.admin.describe_cluster()["cluster_id"])
        self.root = self.roots.of_stream(f"kafka://{self.servers}", cluster)
        now = self._partitions(clients.require_topics(self.admin, self._names()))
        last = last_ranges(self.dataset)
        if last is None:
            told = self._started(now, beginning or Beginning("earliest"))
        else:
            told = (last.topics, last.next)
            self.care = last.care
        self._require_same_topics(told[0])
        known = {place: offset for place, offset in told[1].items() if place[0] in self.topics}
        self.at = {place: known.get(place, 0) for place in now}
        self.gaps = []
        extent = self._extent()
        self._require_there(extent)
        self.reader.go_to(self.at)
        self.goal = extent.ends if until_caught_up else None

    def _started(self, places: Sequence[Place], beginning: Beginning) -> tuple[dict[str, str], Offsets]:
        """Return the topics and offsets with which the data set began; begin it if it is new."""
        path = self.dataset.path / STREAM_START
        if not path.exists():
            if beginning.at == "earliest":
                offsets = self.reader.extent(places).begins
            elif beginning.at == "latest":
                offsets = self.reader.extent(places).ends
            else:
                offsets = self.reader.at_time(places, int(beginning.at))
            new = {"id": secrets.token_hex(8), "topics": self.topics, "next": told_offsets(offsets)}
            create_exclusive(str(path), json.dumps(new).encode())
        elif beginning.at != "earliest":
            log.warning("--from is not looked at: where this data set begins was decided by an earlier run")
        began = read_json(path)
        return dict(began["topics"]), offsets_of(began["next"])

    def _names(self) -> list[str]:
        """Return the topics that are meant now; a pattern may match none yet."""
        patterns = [topic for topic in self.topics_wanted if is_glob(topic)]
        there = sorted(self.admin.list_topics()) if patterns else []
        matched = [name for name in there if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)]
        named = [topic for topic in self.topics_wanted if not is_glob(topic)]
        return list(dict.fromkeys(named + [name for name in matched if not name.startswith("__")]))

    def _partitions(self, topics: dict[str, str]) -> list[Place]:
        self.topics = topics
        described = self.admin.describe_topics(list(topics)) if topics else []
        return sorted((each["name"], part["partition_index"]) for each in described for part in each["partitions"])

    def _require_same_topics(self, before: Mapping[str, str]) -> None:
        for topic, known in before.items():
            if self.topics.get(topic, known) != known:
                raise RunError(
                    f"the topic {topic} was deleted and made anew since the last epoch: its offsets mean other "
                    "messages now. What is committed stands. To read the new topic, name another --output"
                )

    def _require_still_same(self) -> None:
        """Ask only for the topics: offsets are asked for behind a fetch that waits, which takes ten times as long."""
        before, self.topics = self.topics, clients.require_topics(self.admin, self._names())
        self._require_same_topics(before)

    def _require_there(self, extent: Extent) -> None:
        """Pass over what the broker has deleted, and count it; refuse to go on where its log ends before us."""
        for place, offset in sorted(self.at.items()):
            begins, ends = extent.begins[place], extent.ends[place]
            if offset > ends:
                raise RunError(
                    f"{place[0]}, partition {place[1]}, ends at offset {ends}, but was read up to {offset}: the broker "
                    "has lost records, or is another one. What is committed stands. To read what it has, name another "
                    "--output"
                )
            if offset < begins:
                self._tell_gap(Gap(*place, offset, begins))
                self.at[place] = begins

    def _tell_gap(self, gap: Gap) -> None:
        self.gaps.append(gap)
        self.observer.gap(gap)
        log.warning(
            "LOST: %s, partition %d: the broker deleted the offsets %d to %d before they were read (%d messages at "
            "most): read faster, or keep messages longer (retention.ms)",
            gap.topic,
            gap.partition,
            gap.start,
            gap.until - 1,
            gap.until - gap.start,
        )

    # ------------------------------------------------------------------------------------------- what comes next

    def next(self, epoch: int) -> StreamPlan | None:
        """Return the plan of what has arrived; wait for something.

        None when caught up, if so asked, when stopped, and where nothing is here and `interrupted` says that there is
        something else to do.
        """
        self.recent = {}
        records: list[Record] = []
        size = 0
        began, waited_since = time.monotonic(), self.closed_at
        while not stop_requested():
            self.observer.alive()
            if not records and time.monotonic() - self.looked_at > LOOK_SECONDS:
                self._look()
            most = min(self._most() - len(records), _AT_ONCE, max(1, (self.limits.size_bytes - size) // _MEAN_BYTES))
            now = time.monotonic()
            # One that was due before it began, because the last run took long, takes what has piled up meanwhile.
            left = max(waited_since + self.limits.seconds - self.run_seconds, began) - now
            got = self._poll(max(_MORE_MS, min(int(left * 1000), _IDLE_MS)) if records else _IDLE_MS, most)
            if got and not records and time.monotonic() - now > _MORE_MS / 1000:
                waited_since = time.monotonic()  # it did not wait: nothing was there before
            records += got
            if not records and self.interrupted():
                return None
            size += sum(len(record.value or b"") for record in got)
            if records and self._is_full(len(records), size, left, came=bool(got)):
                break
            if self.goal is not None and all(self.reader.positions[at] >= end for at, end in self.goal.items()):
                break
        if stop_requested() or not records:
            return None
        if time.monotonic() - self.trusted_at > _TRUSTED_SECONDS:
            self._patiently(self._require_still_same)  # what was read may have been of a topic made anew
            self.trusted_at = time.monotonic()
        return None if stop_requested() else self._plan(epoch, records)

    def _most(self) -> int:
        return self.limits.messages if self.care is None else min(self.limits.messages, self.care.most)

    def _is_full(self, messages: int, size: int, left: float, *, came: bool) -> bool:
        """Tell whether the epoch closes. One that is due still takes what is there already, for a short while."""
        if messages >= self._most() or size >= self.limits.size_bytes:
            return True
        return left <= 0 and (not came or left < -max(0.05, self.limits.seconds / 10))

    def _plan(self, epoch: int, records: list[Record]) -> StreamPlan:
        ends = self.reader.positions
        moved = [place for place, end in ends.items() if end > self.at[place]]
        care = self.care
        if care is not None and all(ends[place] >= until for place, until in care.until.items() if place in ends):
            care = None
        ranges = Ranges(
            servers=self.servers,
            topics=self.topics,
            starts={place: self.at[place] for place in moved},
            ends={place: ends[place] for place in moved},
            next=ends,
            gaps=tuple(self.gaps),
            publishes=self.publishes,
            care=care,
            attempt=1,
            cut=0,
            poison="",
        )
        self.closed_at = time.monotonic()
        return self._planned(epoch, ranges, records)

    def _planned(self, epoch: int, ranges: Ranges, records: list[Record]) -> StreamPlan:
        fresh = tuple(self.roots.known[self.announced :])
        self.observer.closed(ranges, records)
        self.recent = {record.name: record for record in records}
        return plan_of(epoch, self.configuration, self.root, fresh, ranges, records, self.allowed)

    def add(self, manifest: Manifest) -> None:
        """Take in a commit."""
        if STREAM not in manifest.told:
            return
        ranges = Ranges.of(manifest.told[STREAM])
        self.announced = len(self.roots.known)
        self.at |= ranges.next
        self.care = ranges.care
        self.gaps = []
        self.run_seconds = time.monotonic() - self.closed_at

    def _poll(self, wait_ms: int, most: int) -> list[Record]:
        try:
            return self.reader.poll(wait_ms, most)
        except BrokerAway:
            self._look()
        except Lost as lost:
            self._look()  # a topic made anew is told apart
            positions = self.reader.positions
            for place, offset in positions.items():
                if offset < lost.begins[place]:
                    self._tell_gap(Gap(*place, offset, lost.begins[place]))
            self.reader.go_to({place: max(offset, lost.begins[place]) for place, offset in positions.items()})
        except RunError:
            self._look()  # likewise
            raise
        return []

    def _look(self) -> None:
        """Look for new partitions, topics made anew, how far behind we are, and whether another run took over."""
        self.require_ours()
        extent = self._patiently(self._describe)
        if extent is not None:
            fresh = [place for place in extent.begins if place not in self.at]
            positions = self.reader.positions
            if fresh:
                for topic, partition in fresh:
                    log.info("new partition: %s, %d", topic, partition)
                for place in fresh:
                    self.at[place] = extent.begins[place]
                    if extent.begins[place] > 0:
                        self._tell_gap(Gap(*place, 0, extent.begins[place]))
                positions |= {place: self.at[place] for place in fresh}
                self.reader.go_to(positions)
            self.observer.lag({place: max(0, end - positions[place]) for place, end in extent.ends.items()})
        self.looked_at = time.monotonic()

    def _describe(self) -> Extent:
        before = self.topics
        places = self._partitions(clients.require_topics(self.admin, self._names()))
        self._require_same_topics(before)
        return self.reader.extent(places)

    def _extent(self) -> Extent:
        return self.reader.extent(self.at)

    def _patiently(self, ask: Callable[[], T]) -> T | None:
        """Return what the broker answers; wait for it, with a word a minute, until it does. None on a stop."""
        gone_since, told_at, pause = time.monotonic(), 0.0, 0.25
        while not stop_requested():
            try:
                answer = ask()
            except BrokerAway as error:
                why, gone_since = str(error), time.monotonic()
            except KafkaError as error:
                why, gone_since = f"it does not answer ({type(error).__name__})", time.monotonic()
            except UsageError as error:
                # Just after its start a broker may not know its topics yet.
                if time.monotonic() - gone_since > _GONE_SECONDS:
                    raise RunError(str(error)) from None
                why = str(error)
            else:
                if told_at:
                    log.info("Kafka at %s answers again", self.servers)
                self.observer.broker(answers=True)
                return answer
            self.observer.broker(answers=False)
            if time.monotonic() - told_at > TELL_SECONDS:
                log.warning("waiting for Kafka at %s: %s", self.servers, why)
                told_at = time.monotonic()
            wait_for_stop(pause)
            pause = min(2 * pause, 5.0)
        return None

    def message(self, place: str) -> Record | None:
        """Return the message at topic/partition/offset, of the last epoch or read again; null where it is gone."""
        if place not in self.recent:
            topic, partition, offset = place.split("/")
            at, start = (topic, int(partition)), int(offset)
            found = self._patiently(lambda: self._read_range({at: start}, {at: start + 1})) or []
            self.recent |= {record.name: record for record in found}
            self.reader.go_to(self.at)
        return self.recent.get(place)

    # ------------------------------------------------------------------------------------ what an earlier run left

    def take_up(self) -> StreamPlan | None:
        """Return the plan that a killed run left, to be done again; null where there is none.

        One of another job or configuration, or whose messages have gone meanwhile, is forgotten: nobody has seen
        anything of it.
        """
        path = left_behind(self.dataset)
        if path is None:
            return None
        told = read_json(path)
        plan = None
        if told.get("kind") == STREAM and told["configuration"] == self.configuration:
            ranges = replace(Ranges.of(told[STREAM]), publishes=self.publishes)
            if all(self.topics.get(place[0]) == ranges.topics.get(place[0]) for place in ranges.starts):
                self.roots.learn(told["roots"][len(self.roots.known) - self.announced :])
                plan = self._again(int(told["epoch"]), ranges, "the process died")
        if plan is None:
            self._forget(path)
        return plan

    def broke(self, epoch: int, why: str) -> StreamPlan | None:
        """Return the plan with which to go on after an epoch broke: the same again, or a part of it."""
        path = self.dataset.path / epoch_file(PLANS, epoch)
        plan = self._again(epoch, Ranges.of(read_json(path)[STREAM]), why)
        if plan is None:
            self._forget(path)
        return plan

    def _forget(self, path: Folder) -> None:
        """Remove a plan whose messages are not to be had again; on a request to stop it stays."""
        if not stop_requested():
            path.unlink()
            self.reader.go_to(self.at)

    def _again(self, epoch: int, ranges: Ranges, why: str) -> StreamPlan | None:
        records = self._patiently(lambda: self._read_range(ranges.starts, ranges.ends))
        if records is None or stop_requested():
            return None
        ranges = apart(ranges, records, why)
        chosen = [each for each in records if each.offset < ranges.ends.get((each.topic, each.partition), 0)]
        if ranges.poison:
            log.error("a message broke the run %d times and becomes a failure: %s", TRIES, chosen[0].name)
        elif len(chosen) < len(records):
            log.warning("epoch %d broke again: trying %d of its %d messages", epoch, len(chosen), len(records))
        plan = self._planned(epoch, ranges, chosen)
        write_atomic(str(self.dataset.path / epoch_file(PLANS, epoch)), plan.to_json())
        self.reader.go_to(self.at | ranges.next)
        self.at |= {place: offset for place, offset in ranges.next.items() if place not in self.at}
        self.closed_at = time.monotonic()
        return plan

    def _read_range(self, starts: Offsets, ends: Offsets) -> list[Record] | None:
        """Return the records of a range; null where the broker has deleted some of it."""
        try:
            begins = self.reader.extent(starts).begins
            if any(begins[place] > start for place, start in starts.items()):
                return None
            return list(self.reader.read(starts, ends))
        except Lost:
            return None


def apart(ranges: Ranges, records: Sequence[Record], why: str) -> Ranges:
    """Return what is tried next of an epoch that broke, or that a dead process left.

    The same, up to `TRIES` times; then its first half, and the half of that, until the message that breaks it stands
    alone and is given up.
    """
    tries = TRIES if ranges.care is None or len(records) == 1 else 1
    if ranges.attempt < tries or not records:
        return replace(ranges, attempt=ranges.attempt + 1)
    if len(records) == 1:
        why = f"the run broke {ranges.attempt} times while it worked on this message ({why})"
        return replace(ranges, cut=ranges.cut + 1, poison=why)
    first = records[: len(records) // 2]
    ends = dict(ranges.starts)
    for record in first:
        ends[record.topic, record.partition] = record.offset + 1
    until = ranges.ends if ranges.care is None else ranges.care.until | ranges.ends
    return replace(
        ranges,
        starts={place: start for place, start in ranges.starts.items() if ends[place] > start},
        ends={place: end for place, end in ends.items() if end > ranges.starts[place]},
        next=ranges.next | ends,
        care=Care(max(1, len(first)), until),
        attempt=1,
        cut=ranges.cut + 1,
    )


def stream_id(dataset: Dataset) -> str:
    """Return the name by which a broker knows this data set; it is made with the data set's beginning."""
    return str(read_json(dataset.path / STREAM_START)["id"])


def last_ranges(dataset: Dataset) -> Ranges | None:
    """Return the ranges of the last commit of a stream; null where there is none."""
    told = (manifest.told[STREAM] for manifest in reversed(dataset.manifests) if STREAM in manifest.told)
    last = next(told, None)
    return None if last is None else Ranges.of(last)
