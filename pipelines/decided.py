"""People's decisions that come as messages: laid over the data set between two epochs of a stream, each once.

A message is what a line of a review file is (schemas/decision-1.json). A batch is an epoch that writes items again;
its manifest says up to where the topic was read, so what was decided and where we are become visible together. A batch
in which nothing could be laid is an epoch without rows. What cannot be taken is told and passed over.
"""

import json
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

import polars as pl
from kafka.errors import KafkaError

from pipelines import epochs, review_queue
from pipelines.dataset import Dataset, Manifest
from pipelines.letters import dead_letters
from pipelines.logs import log
from pipelines.memory import give_back
from pipelines.outbox import Letter
from pipelines.review import canonical_of, keys_of, places_of
from pipelines.review_queue import REVIEW_TOPIC
from pipelines.rewrite import Chunk, RewritePlan, RewritePlanner, chunks, identity_of, read_tables, writer
from schemas.errors import RunError, UsageError
from schemas.messages import CONTRACT_VERSION, VERSION_HEADER
from schemas.tables import Tables
from transforms.decisions import GIVEN_BEFORE, Decision, Verdict, apply
from transforms.kafka import clients
from transforms.kafka.access import Access
from transforms.kafka.reader import POLL_MS, Lost, Offsets, Reader
from transforms.messages import Record
from transforms.review_files import MOST_LINE_CHARS, decision_in
from transforms.stopping import stop_requested, wait_for_stop
from transforms.storage import printable

KIND = "decisions"
"""Under what manifests tell of a batch."""

DEAD_TOPIC = "dead_letter"
"""Under what the topic for what was refused stands in what a batch publishes."""

MOST_MESSAGES = 500
"""Of a batch."""

MOST_BYTES = 4 << 20
"""Of a batch's messages, about."""

EVERY_SECONDS = 2.0
"""The least time between two batches."""

LOOK_SECONDS = 30.0
"""How often new partitions are looked for."""

_SHARE = 0.1  # of the time, at most, goes into batches: each reads the whole data set's ids
_RETRY_SECONDS = 5.0
_TELL_SECONDS = 60.0
_MOST_TOLD = 20
_MOST_REASON = 500
_STEP = "decide"
_WORDS = ", ".join(Verdict)


@dataclass(frozen=True)
class Refused:
    """A message that was not taken, as `failures` tells of items; `file_name` is topic/partition/offset."""

    file_name: str
    error: str
    message: str
    step: str = _STEP

    @staticmethod
    def of(record: Record, error: str, reason: str) -> "Refused":
        """Return a refusal with its reason as one line of bounded length."""
        line = "".join(char if char.isprintable() else repr(char)[1:-1] for char in printable(reason[:_MOST_REASON]))
        return Refused(record.name, error, line)


def decision_of(number: int, record: Record) -> Decision | Refused | None:
    """Return the decision that a message is, its line being `number`; null where it has no value (a tombstone)."""
    if record.value is None:
        return None
    if len(record.value) > MOST_LINE_CHARS:
        return Refused.of(record, "too_large", f"expected a small JSON, found one of {len(record.value):,} bytes")
    said = {name.lower(): value.decode("utf-8", "replace") for name, value in record.headers}.get(VERSION_HEADER)
    if said not in (None, CONTRACT_VERSION):
        return Refused.of(record, "unknown_version", f"expected version {CONTRACT_VERSION}, the message says {said!r}")
    now = datetime.now(UTC) if record.timestamp_ms is None else datetime.fromtimestamp(record.timestamp_ms / 1000, UTC)
    try:
        told = json.loads(record.value)
        read = decision_in(number, told, None, now) if isinstance(told, dict) and "id" in told else ""
    except (ValueError, RecursionError) as error:
        return Refused.of(record, "bad_decision", f"expected a JSON object: {error}")
    if isinstance(read, Decision):
        return read
    if read is None:
        return Refused.of(record, "bad_decision", f"expected a decision ({_WORDS}), found none")
    return Refused.of(record, "bad_decision", read or "expected a JSON object with an id")


class Decisions:
    """What has come on a topic of decisions. Everything is called by the thread that runs the stream."""

    def __init__(
        self,
        dataset: Dataset,
        topic: str,
        *,
        servers: str,
        access: Access,
        admin: Any,
        publishes: Mapping[str, str],
        until_caught_up: bool,
        require_ours: Callable[[], None],
    ) -> None:
        """`publishes` names the topics for what is refused and for what waits again.

        Raises UsageError where the topic is not there, and RunError.
        """
        self.dataset, self.topic, self.admin = dataset, topic, admin
        self.publishes = {purpose: publishes[purpose] for purpose in (DEAD_TOPIC, REVIEW_TOPIC) if purpose in publishes}
        self.require_ours = require_ours
        self.identity = clients.require_topics(admin, [topic])[topic]
        self.reader = Reader(servers, access)
        self.records: list[Record] = []
        self.settled = _settled(dataset, topic, self.identity)
        self.at: Offsets = {}
        self.next_at = self.retry_at = self.looked_at = 0.0
        self.told_at = -_TELL_SECONDS
        self._place()
        self.goal = self.reader.extent(self.at).ends if until_caught_up else None

    def close(self) -> None:
        """Let the broker go."""
        self.reader.close()

    def due(self) -> bool:
        """Tell whether a batch should be laid now; it asks the broker, and waits for nothing."""
        self._fetch(0)
        return self._wanted() and time.monotonic() >= self.next_at

    def left(self) -> bool:
        """Tell whether there is something to lay before the run ends; wait for what was there at its start."""
        while self.goal is not None and not self.records and _is_behind(self.at, self.goal) and not stop_requested():
            self._fetch(POLL_MS)
        return self._wanted()

    def take(self) -> Manifest | None:
        """Lay what has come over the data set; return the manifest that says so, null where a stop came first."""
        started = time.monotonic()
        batch = _Batch(self.dataset, self.records)
        first = self.dataset.manifests[-1].epoch + 1
        planner = _Planner(self.dataset, batch, partial(self._told, batch, first))
        run, identity = writer(self.dataset), identity_of(self.dataset)
        done = list(
            epochs.run_epochs(self.dataset, planner, run, identity, lambda: None, require_ours=self.require_ours)
        )
        if not done or KIND not in done[-1].told:
            return None
        batch.log()
        self.settled, self.records = dict(self.at), []
        seconds = time.monotonic() - started
        self.next_at = time.monotonic() + max(EVERY_SECONDS, seconds / _SHARE)
        give_back()
        return done[-1]

    def _told(self, batch: "_Batch", first: int) -> Mapping[str, Any]:
        """Return what the manifest says of a batch that has been laid."""
        told = {
            "topic": self.topic,
            "id": self.identity,
            "next": {str(partition): offset for (_, partition), offset in sorted(self.at.items())},
            "first": first,
            "taken": dict(batch.taken),
            "repeated": batch.repeated,
            "refused": len(batch.refused),
            "publishes": self.publishes,
        }
        told |= {"refusals": [asdict(each) for each in batch.refused]} if DEAD_TOPIC in self.publishes else {}
        return {KIND: told | ({"ids": batch.ids} if REVIEW_TOPIC in self.publishes else {})}

    def _wanted(self) -> bool:
        if not self.records or not self.dataset.manifests:
            return False
        return self.goal is None or _is_behind(self.settled, self.goal)

    def _fetch(self, wait_ms: int) -> None:
        """Take in what has come, if it fits into a batch. A broker that is away is waited for by the stream."""
        room = MOST_MESSAGES - len(self.records)
        size = sum(len(record.value or b"") for record in self.records)
        if room <= 0 or size >= MOST_BYTES:
            return
        if time.monotonic() < self.retry_at:
            wait_for_stop(wait_ms / 1000)
            return
        try:
            if time.monotonic() - self.looked_at > LOOK_SECONDS:
                self._look()
            found, at = self.reader.poll(wait_ms, room), self.reader.positions
        except Lost:
            self.looked_at = 0.0
        except (KafkaError, RunError, UsageError) as error:
            # Of a person's word there is no hurry: whatever it is, the stream goes on.
            self.looked_at, self.retry_at = 0.0, time.monotonic() + _RETRY_SECONDS
            if time.monotonic() - self.told_at > _TELL_SECONDS:
                log.warning("decisions wait for the topic %s: %s", self.topic, error)
                self.told_at = time.monotonic()
        else:
            self.records += found
            self.at |= at

    def _look(self) -> None:
        """Go on where we were, also with partitions that are new; begin anew with a topic that was made anew."""
        identity = clients.require_topics(self.admin, [self.topic])[self.topic]
        if identity != self.identity:
            log.warning("the topic %s was made anew: its decisions are read from its beginning", self.topic)
            self.identity, self.at, self.settled = identity, {}, {}
        self._place()

    def _place(self) -> None:
        described = self.admin.describe_topics([self.topic])
        places = [(self.topic, each["partition_index"]) for topic in described for each in topic["partitions"]]
        extent = self.reader.extent(places)
        for place in places:
            begin, end = extent.begins[place], extent.ends[place]
            before = self.at.get(place, self.settled.get(place, begin))
            if not begin <= before <= end:
                # Read again, a decision that was taken is no change.
                log.warning("%s, partition %d: offset %d is gone, going on at %d", *place, before, begin)
            self.at[place] = before if begin <= before <= end else begin
        self.reader.go_to(self.at)
        self.looked_at = time.monotonic()


def letters(dataset: Dataset, manifest: Manifest, message: Callable[[str], Record | None]) -> Iterator[Letter]:
    """Yield what a batch tells Kafka: what was refused, as it came, and what waits again because people differ.

    `message` finds one by its place.
    """
    told = manifest.told[KIND]
    publishes = told["publishes"]
    if DEAD_TOPIC in publishes and told["refusals"]:
        yield from dead_letters(pl.DataFrame(told["refusals"]), publishes[DEAD_TOPIC], message)
    if REVIEW_TOPIC in publishes and told["ids"]:
        own = [each for each in dataset.manifests if told["first"] <= each.epoch <= manifest.epoch]
        yield from review_queue.of_ids(dataset, own, told["ids"], publishes[REVIEW_TOPIC])


class _Batch:
    """The messages of a batch, and what became of them."""

    def __init__(self, dataset: Dataset, records: Sequence[Record]) -> None:
        self.records, self.canonical = records, canonical_of(dataset)
        self.taken: Counter[str] = Counter()
        self.repeated = 0
        read = [decision_of(number, record) for number, record in enumerate(records)]
        self.refused = [each for each in read if isinstance(each, Refused)]
        decisions = [each for each in read if isinstance(each, Decision)]
        places = places_of(dataset, [decision.id for decision in decisions])
        self.known: dict[str, list[Decision]] = defaultdict(list)
        for decision in decisions:
            if decision.id in places:
                self.known[places[decision.id]].append(decision)
            else:
                reason = f"no annotation has the id {decision.id!r}: not yet, or not in this data set"
                self.refused.append(Refused.of(records[decision.line], "unknown_annotation", reason))

    @property
    def ids(self) -> list[str]:
        """The annotations that were decided on."""
        return list(dict.fromkeys(decision.id for decisions in self.known.values() for decision in decisions))

    def change(self, tables: Tables) -> tuple[Tables, Mapping[str, int]] | None:
        """Lay the decisions over the tables of some items; null where nothing changes."""
        mine = [decision for key in keys_of(tables) for decision in self.known.get(key, ())]
        applied = apply(tables, sorted(mine, key=lambda decision: decision.line), self.canonical)
        for refusal in applied.refusals:
            if refusal.reason.startswith(GIVEN_BEFORE):
                self.repeated += 1
            else:
                self.refused.append(Refused.of(self.records[refusal.line], "refused_decision", refusal.reason))
        taken = {verdict: count for verdict, count in applied.taken.items() if count}
        self.taken.update(taken)
        return (applied.tables, taken) if taken else None

    def log(self) -> None:
        """Tell what became of them."""
        for each in self.refused[:_MOST_TOLD]:
            log.warning("a decision was refused: %s: %s", each.file_name, each.message)
        told = ", ".join(f"{count} {verdict}" for verdict, count in self.taken.items())
        log.info(
            "%d decisions taken%s, %d given before, %d refused",
            self.taken.total(),
            f" ({told})" if told else "",
            self.repeated,
            len(self.refused),
        )


class _Planner(RewritePlanner):
    """Makes the plans of one batch; the last, which may have no rows, says what became of all."""

    def __init__(self, dataset: Dataset, batch: _Batch, say: Callable[[], Mapping[str, Any]]) -> None:
        super().__init__(dataset, chunks(dataset, list(batch.known)), batch.change, {KIND: "topic"})
        self.say = say
        self.ahead: RewritePlan | None = None
        self.done = False

    def next(self, epoch: int) -> RewritePlan | None:
        """Return the plan of the next epoch, or None when the batch is laid."""
        if self.done:
            return None
        plan = self.ahead or super().next(epoch)
        self.ahead = super().next(epoch) if plan else None  # no item is in two chunks: it may be read before
        self.done = self.ahead is None
        plan = replace(plan or self._empty(), epoch=epoch)
        return replace(plan, told={**plan.told, **self.say()}) if self.done else plan

    def _empty(self) -> RewritePlan:
        nothing = Chunk((), ())
        tables = read_tables(self.dataset, nothing)
        return RewritePlan(0, self.dataset.manifests[-1].told["configuration"], (), tables, self._told(nothing, {}))


def _settled(dataset: Dataset, topic: str, identity: str) -> Offsets:
    """Return up to where the topic was read, by the last manifest that tells of it."""
    told = (each.told[KIND] for each in reversed(dataset.manifests) if KIND in each.told)
    found = next((each for each in told if each["id"] == identity), None)
    return {} if found is None else {(topic, int(number)): offset for number, offset in found["next"].items()}


def _is_behind(at: Offsets, goal: Offsets) -> bool:
    return any(at.get(place, 0) < end for place, end in goal.items())
