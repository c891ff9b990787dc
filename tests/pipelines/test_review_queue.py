"""What waits for a person goes to a topic, and people's decisions come back from one; kcat is the witness."""

import hashlib
import json
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jsonschema
import polars as pl
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import schemas
from pipelines import compact, produce
from pipelines.dataset import Dataset
from pipelines.decided import KIND, Refused, decision_of
from pipelines.logs import run_command
from pipelines.outbox import Letter
from pipelines.review_queue import LOW_CONFIDENCE, of_ids, short
from schemas.messages import DEAD_ERROR, DEAD_MESSAGE, DEAD_SOURCE
from schemas.reasons import Rule
from schemas.records import image_id
from tests import builders
from tests.brokers import Broker
from tests.pipelines.holding import commit
from tests.streams import ROOT, Job, Nursery, Stream, World, kcat, picture, wait_until
from tests.transforms.messes import Mess, label
from transforms.decisions import Decision
from transforms.kafka.access import Access
from transforms.kafka.clients import producer
from transforms.messages import Record

BELOW = 0.6
WHEN = "2026-01-31T12:00:00+00:00"


@pytest.fixture(scope="module")
def world(broker: Broker) -> Iterator[World]:
    """The broker of all tests, and a process that bears runs fast."""
    folder = Path(tempfile.mkdtemp(prefix="labelstream-review-"))
    made = World(broker, Nursery(folder), folder)
    yield made
    made.nursery.close()
    shutil.rmtree(folder, ignore_errors=True)


@dataclass
class Desk:
    """A stream with a queue for people, and a topic for what they decide."""

    stream: Stream
    queue: str
    decisions: str
    pictures: int

    @staticmethod
    def of(world: World, pictures: int) -> "Desk":
        """Return one whose topic holds so many pictures."""
        stream = world.stream(1)
        world.broker.produce(stream.topic, *map(picture, range(pictures)))
        decisions = world.broker.create_topic(stream.topic.replace("frames", "decisions"))
        return Desk(stream, stream.topic.replace("frames", "review"), decisions, pictures)

    @property
    def words(self) -> tuple[str, ...]:
        """The options of its runs."""
        at = f"kafka://{self.broker.address}"
        asked = ("--review-queue", f"{at}/{self.queue}", "--review-below", str(BELOW))
        return *asked, "--decisions", f"{at}/{self.decisions}", *self.stream.dead_letter(), "--epoch-seconds", "0.2"

    @property
    def broker(self) -> Broker:
        return self.stream.world.broker

    @property
    def first(self) -> str:
        """The id of the first picture's annotation."""
        content = hashlib.sha256(picture(0)).hexdigest()
        return f"{image_id(content, 0, f'{self.stream.topic}/0/0')}-0"

    def catch_up(self) -> str:
        """Run until all is done; return what the run said."""
        return self.stream.catch_up(*self.words)

    def started(self) -> Job:
        """Start a run that goes on; wait until it has done all and idles."""
        job = self.stream.start(*self.words)
        wait_until(lambda: self.stream.items == self.pictures, 60, "the pictures")
        return job

    def require_whole(self) -> None:
        """Check that nothing but what was decided was touched."""
        Dataset(self.stream.out).verify()
        assert sorted(self._rows("images")["file_name"]) == sorted(self.stream.arrived())
        assert len(self.stream.told()) == self.pictures

    def send(self, *decisions: dict[str, Any] | bytes | None) -> None:
        """Send decisions as a person's tool would, and what is none."""
        sender = producer(self.broker.address, Access())
        for each in decisions:
            value = json.dumps(each).encode() if isinstance(each, dict) else each
            key = each["id"].encode() if isinstance(each, dict) else b"none"
            sender.send(self.decisions, value, key=key).get(timeout=30)
        sender.close(timeout=5)

    def waiting(self, rule: str = LOW_CONFIDENCE) -> list[dict[str, Any]]:
        """Return what the queue holds for this reason."""
        told = [json.loads(line) for line in kcat(self.broker, self.queue, "%s\n").splitlines()]
        return [each for each in told if each["why"][0]["rule"] == rule]

    def refused(self) -> list[dict[str, str]]:
        """Return the headers of the dead letters, in order."""
        lines = kcat(self.broker, self.stream.dead, "%h\n").decode().splitlines()
        pairs = ([each.partition("=") for each in line.split(",labelstream-")] for line in lines)
        return [{f"labelstream-{name.removeprefix('labelstream-')}": text for name, _, text in own} for own in pairs]

    def labels(self) -> dict[str, str]:
        """Return the labels that stand, by the annotation's id."""
        return dict(self._rows("annotations").select("annotation_id", "label").iter_rows())

    def said(self) -> list[tuple[str, str, str, datetime]]:
        """Return what people said: id, label, who and when."""
        rows = self._rows("changes").filter((pl.col("rule") == Rule.PERSON_DECISION) & (pl.col("field") == "label"))
        return list(rows.select("id", "after", "reviewer", "decided_at").iter_rows())

    def batches(self) -> list[dict[str, Any]]:
        """Return what the manifests say of decisions, in order."""
        return [each.told[KIND] for each in Dataset(self.stream.out).manifests if KIND in each.told]

    def _rows(self, table: str) -> pl.DataFrame:
        return Dataset(self.stream.out).scan(table).collect()


def decided(letter: dict[str, Any], word: str, reviewer: str = "anna", **more: Any) -> dict[str, Any]:
    """Return a message of the queue as a person's tool sends it back."""
    return letter | {"decision": word, "reviewer": reviewer, "decided_at": WHEN} | more


def other(name: str) -> str:
    """Return another label."""
    return "happy" if name != "happy" else "sad"


def schema(name: str) -> dict[str, Any]:
    return dict(json.loads((Path(schemas.__file__).parent / f"{name}.json").read_bytes()))


def test_low_confidence_is_told_and_a_decision_comes_back_once(world: World) -> None:
    """Those below the bound and no others; a decision is a label and a change, however often it is sent and read."""
    desk = Desk.of(world, 12)
    job = desk.started()
    rows = desk._rows("annotations").join(desk._rows("images"), on="image_id").rows(named=True)
    low = {row["annotation_id"]: row for row in rows if row["confidence"] < BELOW}
    assert 0 < len(low) < len(rows)
    letters = wait_until(desk.waiting, 10, "the queue")
    assert sorted(letter["id"] for letter in letters) == sorted(low)
    assert sorted(kcat(desk.broker, desk.queue, "%k\n").decode().split()) == sorted(low)
    for letter in letters:
        jsonschema.validate(letter, schema("review-1"))
        row, ranked = low[letter["id"]], [each["probability"] for each in letter["probabilities"]]
        assert ranked == sorted(ranked, reverse=True) and letter["candidates"][0] == letter["label"] == row["label"]
        assert letter["confidence"] == pytest.approx(row["confidence"]) == pytest.approx(ranked[0])
        assert (letter["picture"], letter["why"][0]["rule"]) == (row["file_name"], "low_confidence")
        assert letter["source_uri"] == f"kafka://{row['file_name']}" and letter["timestamp_ms"] == row["timestamp_ms"]
    place = letters[0]["source"]
    words = ["kcat", "-b", desk.broker.address, "-C", "-q", "-t", place["topic"], "-p", str(place["partition"])]
    shown = subprocess.run([*words, "-o", str(place["offset"]), "-c", "1", "-f", "%s"], capture_output=True, timeout=30)
    assert shown.stdout == picture(place["offset"])

    first, second = letters[:2]
    fresh = other(first["label"])
    wanted = [decided(first, "relabel", new_label=fresh), decided(second, "accept", "bert")]
    for each in wanted:
        jsonschema.validate(each, schema("decision-1"))
    desk.send(*wanted, wanted[0])
    wait_until(lambda: len(desk.said()) == 2, 20, "two decisions")
    desk.send(wanted[1])
    wait_until(lambda: sum(batch["repeated"] for batch in desk.batches()) == 2, 20, "the repetitions")
    batches = len(desk.batches())
    job.signal(signal.SIGTERM)
    job.ended_well()
    desk.catch_up()
    when = datetime.fromisoformat(WHEN).astimezone(UTC)
    expected = [(first["id"], fresh, "anna", when), (second["id"], second["label"], "bert", when)]
    assert sorted(desk.said()) == sorted(expected) and desk.labels()[first["id"]] == fresh
    assert len(desk.batches()) == batches and not desk.refused()
    assert len(desk.stream.told()) == 12 and len(desk.waiting()) == len(letters)
    desk.require_whole()


def test_bad_decisions_are_told_and_stop_nothing(world: World) -> None:
    """Each is a dead letter with the reason, once; what comes too early comes back by a replay."""
    desk = Desk.of(world, 4)
    job = desk.started()
    identity, named = next(iter(desk.labels().items()))
    good = {"id": identity, "decision": "relabel", "new_label": other(named), "reviewer": "anna"}
    early = good | {"id": "f" * 64 + "-0"}
    contradicts = good | {"new_label": other(other(named))}
    bad = [b"no json", b"[1]", good | {"new_label": "rose"}, early, {"id": identity, "reviewer": "a"}, contradicts]
    desk.send(*bad[:5], None, good, bad[5], good | {"reviewer": ""}, good | {"decision": "rebox", "new_label": None})
    wait_until(lambda: sum(batch["refused"] for batch in desk.batches()) == 8, 20, "the batches")
    wait_until(lambda: len(desk.refused()) == 8, 20, "the dead letters")
    assert desk.labels()[identity] == other(named) and len(desk.said()) == 1
    told = {int(each[DEAD_SOURCE].split("/")[2]): each for each in desk.refused()}
    errors = {offset: each[DEAD_ERROR] for offset, each in told.items()}
    malformed = dict.fromkeys((0, 1, 4, 8, 9), "bad_decision")
    assert errors == malformed | {2: "refused_decision", 3: "unknown_annotation", 7: "refused_decision"}
    assert "'rose' is not in the vocabulary" in told[2][DEAD_MESSAGE] and "final" in told[7][DEAD_MESSAGE]
    values = kcat(desk.broker, desk.stream.dead, "%s\n").splitlines()
    assert b"no json" in values and json.dumps(early).encode() in values

    at = f"kafka://{desk.broker.address}"
    words = ["--replay", f"{at}/{desk.stream.dead}", "--to", f"{at}/{desk.decisions}", "--error", "unknown_annotation"]
    assert run_command(produce.main, words) == 0
    wait_until(lambda: len(desk.refused()) == 9, 20, "the one that came back")
    assert [each[DEAD_ERROR] for each in desk.refused()].count("unknown_annotation") == 2
    job.signal(signal.SIGTERM)
    job.ended_well()


def test_two_who_differ_wait_for_a_third(world: World) -> None:
    """Their annotation is in the queue again, with all that they said; the third word is the last."""
    desk = Desk.of(world, 2)
    job = desk.started()
    identity, named = next(iter(desk.labels().items()))
    desk.send({"id": identity, "decision": "relabel", "new_label": other(named), "reviewer": "anna"})
    wait_until(lambda: desk.labels().get(identity) == other(named), 20, "a decision")
    desk.send({"id": identity, "decision": "accept", "reviewer": "bert", "label": named})
    [letter] = wait_until(lambda: desk.waiting(Rule.PERSON_DISAGREEMENT), 20, "the disagreement")
    jsonschema.validate(letter, schema("review-1"))
    assert letter["id"] == identity
    assert set(letter["candidates"]) == {named, other(named)} and identity not in desk.labels()
    desk.send(decided(letter, "accept", "carla", label=named))
    wait_until(lambda: desk.labels().get(identity) == named, 20, "the third")
    job.signal(signal.SIGTERM)
    job.ended_well()
    desk.require_whole()


CRASHES = """
import json, os, sys
import great_expectations, pandas
from pipelines import annotate, continuous, decided, epochs, export, flow, labelling, outbox, report, runners
from pipelines.logs import run_command

def killed(*_):
    os._exit(9)

def take(self, whole=decided.Decisions.take):
    epochs._commit = killed
    return whole(self)

MOMENTS = {
    "rows": (decided.Decisions, "take", take),
    "manifest": (decided, "letters", killed),
    "letters": (outbox.Outbox, "_send", killed),
}
for moment, words in json.loads(sys.argv[1]).items():
    if os.fork() == 0:
        setattr(*MOMENTS[moment])
        os._exit(run_command(annotate.main, words))
    assert os.waitstatus_to_exitcode(os.wait()[1]) == 9, moment
"""
"""Runs that are killed: with the rows of a batch written, with its manifest too, or before a first transaction."""


@pytest.fixture(scope="module")
def killed(world: World) -> dict[str, Desk]:
    """What such runs left, by the moment of their death."""
    desks = {moment: Desk.of(world, 3) for moment in ("rows", "manifest", "letters")}
    words = {}
    for moment, desk in desks.items():
        desk.send({"id": desk.first, "decision": "relabel", "new_label": "disgust", "reviewer": "anna"}, b"no json")
        at, stream = f"kafka://{desk.broker.address}", desk.stream
        named = ["--input", f"{at}/{stream.topic}", "--output", str(stream.out), "--results", f"{at}/{stream.labels}"]
        words[moment] = [*named, "--detector", "none", "--device", "cpu", "--until-caught-up", "--no-export"]
        words[moment] += desk.words
    subprocess.run([sys.executable, "-c", CRASHES, json.dumps(words)], cwd=ROOT, check=True, timeout=120)
    return desks


@pytest.mark.parametrize("moment", ["rows", "manifest"])
def test_a_killed_run_lays_each_decision_once(moment: str, killed: dict[str, Desk]) -> None:
    """Killed with all rows written, or with the manifest but before Kafka was told: laid once, told once."""
    desk = killed[moment]
    assert len(desk.batches()) == (moment == "manifest") and not desk.refused()
    desk.catch_up()
    assert [each[:3] for each in desk.said()] == [(desk.first, "disgust", "anna")]
    assert len(desk.batches()) == 1 and len(desk.refused()) == 1
    desk.require_whole()


def test_what_a_killed_run_owed_is_told_as_it_would_have(killed: dict[str, Desk]) -> None:
    """By the bound that held then, not by that of the next run; and once."""
    desk = killed["letters"]
    confidence = dict(desk._rows("annotations").select("annotation_id", "confidence").iter_rows())
    assert len(confidence) == desk.pictures and not desk.batches()
    desk.stream.catch_up(*desk.words, "--review-below", "0.999")
    low = [identity for identity, sure in confidence.items() if sure < BELOW]
    assert 0 < len(low) < desk.pictures and sorted(letter["id"] for letter in desk.waiting()) == sorted(low)
    assert [each[:3] for each in desk.said()] == [(desk.first, "disgust", "anna")]
    desk.require_whole()


def test_a_compaction_does_not_forget_what_was_decided(world: World) -> None:
    """Up to where the topic was read is in the folded manifest; nothing is laid or told again."""
    desk = Desk.of(world, 3)
    desk.send({"id": desk.first, "decision": "relabel", "new_label": "disgust", "reviewer": "anna"}, b"no json")
    desk.catch_up()
    world.broker.produce(desk.stream.topic, picture(3), picture(4))
    desk.stream.catch_up(*desk.words, "--epoch-items", "1")
    assert run_command(compact.main, ["--dataset", str(desk.stream.out), "--everything"]) == 0
    manifests = Dataset(desk.stream.out).manifests
    assert [each.is_folded for each in manifests] == [True, False] and KIND in manifests[0].told
    desk.catch_up()
    [batch] = desk.batches()
    assert (batch["taken"], batch["refused"], len(desk.refused())) == ({"relabel": 1}, 1, 1)
    assert desk.labels()[desk.first] == "disgust" and len(desk.stream.told()) == 5


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--review-below", "0.5"], "--review-below needs --review-queue"),
        (["--decisions", "kafka://{at}/{topic}"], "cannot be both --input and --decisions"),
        (["--decisions", "kafka://{at}/labels-x", "--results", "kafka://{at}/labels-x"], "both read and written"),
        (["--decisions", "kafka://127.0.0.1:1/d"], "expected a topic on"),
    ],
)
def test_options_that_make_no_sense_are_refused(words: list[str], told: str, world: World) -> None:
    """Before anything is done."""
    stream = world.stream(1)
    filled = [word.format(at=world.broker.address, topic=stream.topic) for word in words]
    assert told in stream.start("--until-caught-up", *filled, results=False).ended_well(code=2)


def test_what_rules_hold_back_waits_once_with_all_reasons(tmp_path: Path) -> None:
    """Fields are those of a review file; what could not stand does not wait; a file is no message."""
    made = Mess(
        builders.picture("a.jpg", label("bull"), label("cat", (200, 20, 50, 50))),
        builders.picture("b.jpg", label("dog")),
    )
    (a, second), b = made.ids()[:2], made.ids()[2]
    made.hold(a, Rule.LABEL_NEEDS_REVIEW, Rule.BBOX_OUTLIER, candidates=["ball", "bill"])
    made.hold(second, Rule.BBOX_OUTSIDE)
    made.hold(b, Rule.LABEL_SUSPECT)
    dataset = Dataset(commit(tmp_path / "out", made.tables()))
    letters = list(of_ids(dataset, dataset.manifests, [a, second], "review"))
    assert [letter.key for letter in letters] == [a.encode()]
    told = json.loads(letters[0].value or b"")
    jsonschema.validate(told, schema("review-1"))
    assert (told["label"], told["candidates"], told["source"]["topic"]) == ("bull", ["ball", "bill"], None)
    assert told["reason"] == "label.needs_review: because; bbox.outlier: because"
    assert [why["rule"] for why in told["why"]] == ["label.needs_review", "bbox.outlier"]
    assert json.loads(short(Letter("t", None, letters[0].value, ())).value or b"")["id"] == a


def the(value: bytes | None, **headers: str) -> Record:
    said = tuple((name.replace("_", "-"), text.encode()) for name, text in headers.items())
    return Record("decisions", 0, 7, 1_790_000_000_000, None, value, said)


@given(value=st.none() | st.binary(max_size=100))
@example(value=b"[" * 100_000)
@example(value=b'{"id": ' + b"9" * 5000 + b"}")
@example(value=b'{"id": "a", "decision": "rebox", "new_box": [1e999, NaN, 1, 1], "reviewer": "\\ud800"}')
def test_any_bytes_are_a_decision_or_a_reason(value: bytes | None) -> None:
    """Whatever a topic holds; a reason is a line that harms no terminal, and fits into a header."""
    found = decision_of(0, the(value))
    assert found is None if value is None else isinstance(found, Decision | Refused)
    if isinstance(found, Refused):
        assert found.message.isprintable() and len(found.message.encode()) < 5000


MEMBERS = st.fixed_dictionaries(
    {"id": st.sampled_from(["a", "b"])},
    optional={
        "decision": st.sampled_from(["accept", "relabel", "rebox", "both", "reject", "maybe"]),
        "new_label": st.sampled_from([None, "sad"]),
        "new_box": st.sampled_from([None, [1, 2, 3, 4.5], [1, 2], "here"]),
        "reviewer": st.sampled_from(["anna", "x" * 201]),
        "decided_at": st.sampled_from([None, WHEN]),
    },
)


@given(told=MEMBERS)
def test_the_schema_says_what_the_reader_takes(told: dict[str, Any]) -> None:
    """Other programs write decisions by it."""
    valid = jsonschema.Draft202012Validator(schema("decision-1")).is_valid(told)
    found = decision_of(0, the(json.dumps(told).encode()))
    assert isinstance(found, Decision) == valid


def test_a_message_says_when_it_was_decided() -> None:
    """Its own time counts, else the record's; another version of the contract is not guessed at."""
    value = b'{"id": "a", "decision": "reject", "reviewer": "anna"}'
    found = decision_of(3, the(value))
    assert isinstance(found, Decision) and found.decided_at == datetime.fromtimestamp(1_790_000_000, UTC)
    assert found.line == 3
    refused = decision_of(0, the(value, labelstream_version="2"))
    assert isinstance(refused, Refused) and refused.error == "unknown_version"
