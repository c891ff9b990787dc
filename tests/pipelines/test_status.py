"""How far data sets are, of folders and of topics, with and without a run at work."""

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pipelines import compact, epochs, state, status
from pipelines.dataset import Dataset
from pipelines.folding import fold
from pipelines.logs import run_command
from pipelines.outbox import LEDGER
from pipelines.planning import Planner
from pipelines.state import files_left, holder, look, pace, stamp
from pipelines.story import story
from schemas.layout import PLANS, RECIPE, STREAM, STREAM_START, TEMPORARY, epoch_file
from schemas.tables import Tables
from tests.brokers import Broker
from tests.builders import face, picture, tables
from tests.pipelines.conftest import add_picture, run
from tests.pipelines.holding import commit
from tests.pipelines.test_videos import film
from tests.streams import Feed, wait_until
from transforms.kafka import clients
from transforms.kafka.access import Access
from transforms.source import list_inputs

ROOT = Path(__file__).parents[2]


def told(capsys: pytest.CaptureFixture[str], out: Path, *words: object) -> Any:
    """Return what the job tells as JSON; it must succeed."""
    capsys.readouterr()
    assert job(out, "--json", *words) == 0
    text = capsys.readouterr().out
    return json.loads(text, parse_constant=pytest.fail)


def job(out: Path, *words: object) -> int:
    return run_command(status.main, ["--dataset", str(out), *map(str, words)])


def contents(out: Path) -> dict[str, tuple[int, int]]:
    """Return every file of a data set, with its size and time."""
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in out.rglob("*") if path.is_file()}


# ------------------------------------------------------------------------------------------------------------ folders


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with pictures, a copy, a broken one and a video, and its data set, which has the first six items."""
    home = tmp_path_factory.mktemp("begun")
    (home / "in").mkdir()
    add_picture(home / "in", "a.jpg")
    (home / "in" / "b broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 cut")
    shutil.copy(home / "in" / "a.jpg", home / "in" / "c copy.jpg")
    film(home / "in" / "d.mp4", 12)
    add_picture(home / "in", "e.jpg", left=40)
    add_picture(home / "in", "f.jpg", left=140)
    assert run(home / "out", home / "in", options=["--limit", "6", "--epoch-items", "3", "--no-export"]) == 0
    return home


@pytest.fixture
def home(begun: Path, tmp_path: Path) -> Path:
    """A copy of it, times included."""
    shutil.copytree(begun, tmp_path / "home")
    named = (tmp_path / "home" / "out" / RECIPE).read_text().replace(str(begun), str(tmp_path / "home"))
    (tmp_path / "home" / "out" / RECIPE).write_text(named)
    return tmp_path / "home"


def left(home: Path) -> list[str]:
    """Return the files that are left; a planner must say the same."""
    dataset, plan = state.snapshot(home / "out")
    found = files_left(dataset, plan, [str(home / "in")])[0]["file_name"].to_list()
    files = list_inputs([str(home / "in")], exclude=str(home / "out")).files
    configuration = dataset.manifests[-1].told["configuration"]
    planner = Planner(dataset, files, configuration, epoch_items=1000, retry_failed=False)
    planned = dict.fromkeys(one.ref.file_name for group in planner.candidates for one in group)
    assert found == list(planned)
    return found


def test_a_folder_is_counted(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Outcomes, failures by error, what the inputs hold beyond; the same numbers as the run's own summary."""
    found = told(capsys, home / "out")
    summary = json.loads((home / "out" / "report" / "summary.json").read_text())
    assert {name: found[name] for name in ("items", "outcomes")} == {
        name: summary[name] for name in ("items", "outcomes")
    }
    assert found["items"] == 6 and found["outcomes"]["duplicate"] == 1
    assert found["failures"] == summary["errors"] == {"truncated": 1}
    sizes = sum((home / "in" / name).stat().st_size for name in left(home))
    assert found["pending"] == {"offsets": None, "files": 3, "bytes": sizes, "why_unknown": None, "seconds_left": None}
    assert found["run"] == {"alive": False, "process": None, "host": None, "since": None}
    assert (found["in_progress"], found["stream"], found["results"]) == (None, None, None)
    assert found["epoch"] == 2 and found["rate"]["items_per_second"] > 0


def test_what_is_left_is_what_a_planner_would_plan(home: Path) -> None:
    """New, changed and orphaned files, and a video in the midst; not the failed one, nor what only moved."""
    assert left(home) == ["d.mp4", "e.jpg", "f.jpg"]
    os.utime(home / "in" / "a.jpg", ns=(1, 1))
    add_picture(home / "in", "g.jpg", left=300)
    assert left(home) == ["a.jpg", "d.mp4", "e.jpg", "f.jpg", "g.jpg"]
    moved = home.with_name("moved")
    home.rename(moved)
    assert "b broken.jpg" not in left(moved)
    assert run(moved / "out", moved / "in", options=["--no-export"]) == 0
    assert left(moved) == []


def test_a_copy_whose_picture_has_gone_is_left(tmp_path: Path) -> None:
    """It is labelled in its own right when it is listed again."""
    (tmp_path / "in").mkdir()
    first = add_picture(tmp_path / "in", "a.jpg")
    copy = Path(shutil.copy2(first, first.with_name("b.jpg")))
    assert run(tmp_path / "out", first.parent, options=["--no-export"]) == 0
    assert left(tmp_path) == []
    copy.rename(tmp_path / "b.jpg")
    add_picture(first.parent, "a.jpg", left=40)
    assert run(tmp_path / "out", first.parent, options=["--no-export"]) == 0
    (tmp_path / "b.jpg").rename(copy)
    assert left(tmp_path) == ["b.jpg"]


def test_it_only_reads(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No file is made, changed or removed, not even a folder; those of the inputs neither."""
    before = contents(home)
    told(capsys, home / "out")
    told(capsys, home / "out", "--item", "a.jpg")
    assert contents(home) == before


def test_inputs_that_are_not_found_are_no_error_unless_they_are_named(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The last run may have been started in another folder: the rest is told all the same."""
    (home / "in").rename(home / "elsewhere")
    found = told(capsys, home / "out")
    assert found["items"] == 6 and found["pending"]["files"] is None
    assert "is not there" in found["pending"]["why_unknown"]
    assert told(capsys, home / "out", "--input", home / "elsewhere" / "f.jpg")["pending"]["files"] == 1
    assert job(home / "out", "--input", home / "in") == 2


def test_a_plan_that_a_killed_run_left_is_in_progress(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its items are neither pending nor done, and a run that goes on finds it untouched."""
    dataset = Dataset(home / "out")
    files = list_inputs([str(home / "in" / "e.jpg")], exclude=None).files
    planner = Planner(dataset, files, dataset.manifests[-1].told["configuration"], epoch_items=9, retry_failed=False)
    plan = planner.next(3)
    assert plan is not None
    (home / "out" / epoch_file(PLANS, 3)).write_bytes(plan.to_json())
    found = told(capsys, home / "out")
    assert found["in_progress"]["epoch"] == 3 and found["in_progress"]["items"] == 1
    assert 0 <= found["in_progress"]["age_seconds"] < 60
    assert found["pending"]["files"] == 2
    assert told(capsys, home / "out", "--item", "e.jpg")["state"] == "in progress"
    assert told(capsys, home / "out", "--item", "f.jpg")["state"] == "pending"
    assert job(home / "out") == 0
    assert "left by a run that ended" in capsys.readouterr().out


def test_a_run_at_work_is_seen_and_not_disturbed(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its lock is seen while it is held and no longer; one that starts while a status looks is never refused."""
    with epochs.one_writer(home / "out"):
        found = told(capsys, home / "out")
        assert found["run"]["alive"] is True and found["run"]["process"] == os.getpid()
        assert found["pending"]["seconds_left"] > 0
    assert told(capsys, home / "out")["run"]["alive"] is False
    stop = threading.Event()

    def looking() -> None:
        while not stop.is_set():
            holder(home / "out")

    watcher = threading.Thread(target=looking)
    watcher.start()
    try:
        for _ in range(300):
            with epochs.one_writer(home / "out"):
                assert holder(home / "out").alive
    finally:
        stop.set()
        watcher.join()


def test_a_run_on_another_machine_is_not_guessed_at(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Only that machine can tell whether it lives."""
    (home / "out" / TEMPORARY / "lock").write_text("process 1, on elsewhere, run 00\n")
    found = told(capsys, home / "out")
    assert found["run"]["alive"] is None and found["run"]["host"] == "elsewhere"
    assert "elsewhere" in found["notes"][0] and found["pending"]["seconds_left"] is None


def test_it_reads_while_a_compaction_replaces_files(tmp_path: Path) -> None:
    """Nothing is missing or counted twice at any moment, though replaced files are deleted at once."""
    for at in range(40):
        commit(tmp_path, tables(picture(f"{at}-0.jpg", face()), picture(f"{at}-1.jpg")))
    failed: list[Exception] = []

    def folding() -> None:
        try:
            with epochs.one_writer(tmp_path):
                for first in range(0, 30, 3):
                    dataset = Dataset(tmp_path)
                    at = next(n for n, one in enumerate(dataset.manifests) if one.first == first + 1)
                    fold(dataset, dataset.manifests[at : at + 3], 0)
                    compact.clear_away(dataset)
        except Exception as error:  # noqa: BLE001  it is told below
            failed.append(error)

    worker = threading.Thread(target=folding)
    worker.start()
    looks = 0
    while worker.is_alive() or looks < 3:
        found = state.steadily(lambda: look(tmp_path, [], None).told())
        assert found["outcomes"]["labelled"] == found["outcomes"]["no_face"] == 40
        looks += 1
    assert not failed and len(Dataset(tmp_path).manifests) < 40


def test_a_video_that_is_begun_tells_its_frames(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its story is that of the frames that are done, a line each or a sum."""
    assert run(home / "out", home / "in", options=["--no-export"]) == 0
    found = told(capsys, home / "out", "--item", "d.mp4")
    assert found["state"] == "done"
    assert [row["frame_index"] for row in found["rows"]] == list(range(12))
    assert told(capsys, home / "out", "--item", found["rows"][5]["image_id"])["rows"][0]["frame_index"] == 5


def test_an_item_is_found_by_every_name_and_tells_its_labels(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """File name, uri, image_id and the beginning of the key lead to the same row, box and copies."""
    found = told(capsys, home / "out", "--item", "a.jpg")
    [row] = found["rows"]
    stored = Dataset(home / "out").scan("annotations").collect().to_dicts()[0]
    assert found["state"] == "done" and row["stands"] and row["epochs"] == [1, 1]
    assert row["labels"][0]["label"] == stored["label"]
    assert row["labels"][0]["box"] == pytest.approx([stored[f"bbox_{side}"] for side in "xywh"])
    assert row["duplicates"] == ["c copy.jpg"]
    assert row["planned_at"] <= row["committed_at"]
    for name in (row["source_uri"], row["image_id"], row["item_key"], row["item_key"][:8]):
        assert told(capsys, home / "out", "--item", name)["rows"] == [row]
    assert job(home / "out", "--item", "a.jpg") == 0
    text = capsys.readouterr().out
    assert text.startswith("a.jpg: done") and stored["label"] in text and "copies: c copy.jpg" in text


def test_an_unknown_item_is_misuse_and_the_nearest_are_named(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A beginning of a key that is too short is no name."""
    assert job(home / "out", "--item", "b brokn.jpg") == 2
    assert "the nearest are b broken.jpg" in capsys.readouterr().err
    key = told(capsys, home / "out", "--item", "a.jpg")["rows"][0]["item_key"]
    assert job(home / "out", "--item", key[:7]) == 2


def test_a_story_has_what_stood_before(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A failed file that was tried again and then put right: three rows, of which the last stands."""
    out, broken = tmp_path / "out", tmp_path / "in" / "a.jpg"
    broken.parent.mkdir()
    broken.write_bytes(b"\xff\xd8\xff\xe0 cut")
    for _ in range(2):
        assert run(out, broken.parent, options=["--no-export", "--retry-failed"]) == 1
    add_picture(broken.parent, "a.jpg")
    assert run(out, broken.parent, options=["--no-export"]) == 0
    found = told(capsys, out, "--item", "a.jpg")
    assert found["state"] == "done"
    assert [row["outcome"] for row in found["rows"]] == ["failed", "failed", "labelled"]
    assert [row["stands"] for row in found["rows"]] == [False, False, True]
    assert [row.get("attempts") for row in found["rows"]] == [1, 2, None]
    assert job(out, "--item", "a.jpg") == 0
    assert capsys.readouterr().out.count("(superseded by a later epoch)") == 2
    assert told(capsys, out, "--item", found["rows"][0]["item_key"])["state"] == "superseded"


def test_rules_are_counted_and_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What was held back and what was changed stand in the item's story, and the former in the counts."""
    shard = tables(picture("a.jpg", face()), picture("b.jpg", outcome="quarantined"))
    first, second = shard.images.to_pylist()
    own = {name: second[name] for name in ("image_id", "item_key", "file_name")}
    held = [{**own, "kind": "image", "id": own["image_id"], "rule": "image.size", "field": "width", "value": "0"}]
    own = {name: first[name] for name in ("image_id", "item_key", "file_name")}
    change = {**own, "kind": "annotation", "id": "x", "field": "label", "before": "hapy", "after": "happy"}
    commit(tmp_path, _with(shard, quarantine=held, changes=[change | {"rule": "label.spelling"}]))
    found = told(capsys, tmp_path)
    assert found["quarantine"] == {"items": 1, "rows": 1, "rules": {"image.size": 1}}
    assert told(capsys, tmp_path, "--item", "b.jpg")["rows"][0]["held"][0]["value"] == "0"
    assert told(capsys, tmp_path, "--item", "a.jpg")["rows"][0]["changes"][0]["after"] == "happy"
    assert job(tmp_path, "--item", "a.jpg") == 0
    assert "label.spelling: label 'hapy' -> 'happy'" in capsys.readouterr().out


def _with(shard: Tables, **rows: list[dict[str, Any]]) -> Tables:
    made = {name: pa.Table.from_pylist(each, schema=getattr(shard, name).schema) for name, each in rows.items()}
    return replace(shard, **made)


def test_damage_and_misuse_are_told_in_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No traceback: not a data set, a manifest that is none, a shard that is gone, inputs of two kinds."""
    assert job(tmp_path / "none") == 2
    out = commit(tmp_path / "out", tables(picture()))
    assert job(out, "--input", "kafka://host/topic", "--input", "in/") == 2
    [shard] = (out / "images").iterdir()
    shard.rename(out / "kept")
    assert job(out) == 1
    (out / "kept").rename(shard)
    assert job(out) == 0
    manifest = out / "_manifests" / "00000001.json"
    manifest.write_text(json.dumps({"tables": {"images": 7}}))
    assert job(out) == 1
    manifest.write_text("no json")
    assert job(out) == 1
    assert "Traceback" not in capsys.readouterr().err


def test_watching_goes_on_until_it_is_stopped(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With --json it is an object a line."""
    naps = iter([None, None])

    def nap(seconds: float) -> None:
        assert seconds == 0.5
        if next(naps, 0) == 0:
            raise KeyboardInterrupt

    monkeypatch.setattr(status.time, "sleep", nap)
    assert job(home / "out", "--watch", "0.5", "--json") == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 and all(json.loads(line)["items"] == 6 for line in lines)


# -------------------------------------------------------------------------------------------------------------- rates


def streamed(out: Path, moment: float, offset: int, seconds: float = 1.0) -> None:
    """Commit two items of a topic, at a time."""
    stream = {
        "servers": "127.0.0.1:1",
        "topics": {"t": "id"},
        "next": {"t": {"0": offset}},
        "gaps": [],
        "publishes": {},
    }
    at = len(list(out.glob("_manifests/*")))
    shard = tables(picture(f"t/0/{at}", face()), picture(f"t/0/{at}/1"))
    commit(out, shard, stream=stream, committed_at=stamp(moment), seconds=seconds)


def test_rates_are_those_of_the_last_commits(tmp_path: Path) -> None:
    """By the time between commits; a run that began later counts from then, a pause before it does not."""
    now = 1_800_000_000.0
    for moment, offset in ((now - 9000, 10), (now - 100, 12), (now - 50, 30), (now - 40, 36)):
        streamed(tmp_path, moment, offset)
    manifests = Dataset(tmp_path).manifests
    every = pace(manifests, {("t", 0): 4}, None, now)
    assert (every.commits, every.last_hour_items) == (4, 6)
    assert every.items == pytest.approx(8 / 8961) and every.offsets == pytest.approx(32 / 8961)
    this_run = pace(manifests, {}, now - 60, now)
    assert this_run.commits == 2
    assert this_run.items == pytest.approx(4 / 20) and this_run.offsets == pytest.approx(24 / 20)
    assert pace([], {}, None, now).items is None


def test_rates_stay_when_older_commits_are_folded(tmp_path: Path) -> None:
    """What was folded is one commit of one time: it is where the newer ones begin."""
    now = 1_800_000_000.0
    for number in range(6):
        streamed(tmp_path, now - 60 + 10 * number, 10 * (number + 1))
    dataset = Dataset(tmp_path)
    fold(dataset, dataset.manifests[1:4], 60)
    assert pace(Dataset(tmp_path).manifests, {}, None, now + 3600 - 45).last_hour_items == 6 / 2 + 4
    assert pace(Dataset(tmp_path).manifests, {}, None, now + 3600 - 15).last_hour_items == 2
    found = pace(Dataset(tmp_path).manifests, {}, None, now)
    assert (found.commits, found.last_hour_items) == (2, 12)
    assert found.items == pytest.approx(4 / 20) and found.offsets == pytest.approx(20 / 20)
    alone = pace(Dataset(tmp_path).manifests[:1], {}, None, now)
    assert alone.commits == 1 and alone.items is not None


def test_a_hundred_thousand_folded_epochs_are_quick(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Few files are read, and of them few columns: less than 2 s of processor time."""
    streamed(tmp_path, 1_800_000_000.0, 10)
    [one] = Dataset(tmp_path).manifests
    shard = tables(*(picture(f"t/0/{number}") for number in range(20_000)))
    for first in range(1, 100_001, 10_000):
        commit(tmp_path, shard, **{STREAM: one.told[STREAM]}, folded={"first": first, "keep_until": 0, "history": []})
        last = max((tmp_path / "_manifests").glob("????????.json"))
        last.rename(last.with_name(f"{first:08d}-{first + 9_999:08d}.json"))
    (tmp_path / "_manifests" / "00000001.json").unlink()
    began = time.process_time()
    found = told(capsys, tmp_path)
    assert time.process_time() - began < 2
    assert (found["epoch"], found["items"]) == (100_000, 200_000)


# ------------------------------------------------------------------------------------------------------------- topics


@pytest.fixture(scope="module")
def stream(broker: Broker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str, dict[str, Any]]]:
    """A data set of a topic, what was seen while its run was at work, and 20 more messages behind it."""
    topic = broker.create_topic(f"frames-{secrets.token_hex(5)}", 2)
    Feed(broker, topic, 20).run()
    out = tmp_path_factory.mktemp("stream") / "out"
    words = [sys.executable, "-m", "pipelines.annotate", "--input", f"kafka://{broker.address}/{topic}"]
    words += ["--results", f"kafka://{broker.address}/{topic}-labels", "--output", str(out), "--epoch-seconds", "0.5"]
    words += ["--detector", "none", "--device", "cpu", "--no-export", "--epoch-items", "10"]
    process = subprocess.Popen(words, cwd=ROOT, stderr=subprocess.PIPE)
    seen: dict[str, Any] = {}
    try:
        wait_until(lambda: (out / STREAM_START).exists(), 60, "the start of a run")

        def caught_up() -> bool:
            found = look(out, [], Access()).told()
            seen["planned"] = seen.get("planned") or found["in_progress"]
            seen["alive"] = found["run"]["alive"]
            seen["done"] = found
            return bool(found["items"] == 20 and found["results"] and found["results"]["epochs_owed"] == 0)

        wait_until(caught_up, 60, "all items")
    finally:
        process.send_signal(signal.SIGTERM)
        seen["said"] = process.communicate(timeout=30)[1].decode()
        seen["code"] = process.returncode
    Feed(broker, topic, 20, first=100, abort_every=0).run()
    yield out, topic, seen


Found = tuple[Path, str, dict[str, Any]]


def test_a_run_over_topics_is_followed_and_not_fenced(stream: Found) -> None:
    """Plans and commits are seen as they come; the run, its transactions too, notices nothing.

    What may be left at the end of a partition is the mark of a transaction.
    """
    _, topic, seen = stream
    assert seen["alive"] is True
    assert seen["planned"]["kind"] == "stream" and seen["planned"]["offsets"] > 0 and seen["planned"]["attempt"] == 1
    assert seen["code"] == 0 and "Traceback" not in seen["said"] and "taken over" not in seen["said"]
    done = seen["done"]
    assert done["pending"]["offsets"] <= 2 and done["results"]["topics"] == {"results": f"{topic}-labels"}
    assert done["results"]["epoch"] == done["epoch"] and done["rate"]["offsets_per_second"] > 0


def test_what_waits_in_kafka_is_pending(stream: Found, broker: Broker, capsys: pytest.CaptureFixture[str]) -> None:
    """By partition, up to the end of the last settled transaction."""
    out, topic, _ = stream
    found = told(capsys, out)
    partitions = found["stream"]["partitions"]
    assert [(one["topic"], one["partition"]) for one in partitions] == [(topic, 0), (topic, 1)]
    assert all(one["next"] == one["planned"] and one["lag"] == one["end"] - one["next"] > 0 for one in partitions)
    assert found["pending"]["offsets"] == sum(one["lag"] for one in partitions) >= 20
    assert found["items"] == 20 and found["run"]["alive"] is False and found["stream"]["lost"] == 0
    assert job(out) == 0
    assert f"{found['pending']['offsets']} offsets" in capsys.readouterr().out
    with clients.admin(broker.address, Access()) as admin:
        assert {LEDGER, topic, f"{topic}-labels"} <= set(admin.list_topics())


def test_a_message_tells_its_story(stream: Found, capsys: pytest.CaptureFixture[str]) -> None:
    """Done and sent, waiting, a mark of a transaction, or not there."""
    out, topic, _ = stream
    found = told(capsys, out, "--item", f"{topic}/0/0")
    assert found["state"] == "done"
    [row] = found["rows"]
    assert row["result_in_kafka"] is True and row["labels"][0]["box"] and row["source_id"].startswith("camera-")
    now = look(out, [], Access())
    last = now.dataset.scan("images").collect()["file_name"][-1]
    assert now.stream is not None and now.stream.published == now.dataset.manifests[-1].epoch
    assert story(now, last)["rows"][0]["result_in_kafka"] is True
    before = replace(now, stream=replace(now.stream, published=now.stream.published - 1))
    assert story(before, last)["rows"][0]["result_in_kafka"] is False
    one = told(capsys, out)["stream"]["partitions"][0]
    assert told(capsys, out, "--item", f"{topic}/0/{one['next'] - 1}")["state"] == "no message"
    waiting = told(capsys, out, "--item", f"{topic}/0/{one['next'] + 2}")
    assert (waiting["state"], waiting["offsets_before"]) == ("pending", 2)
    assert job(out, "--item", f"{topic}/0/{one['end']}") == 2
    assert f"up to {one['end'] - 1}" in capsys.readouterr().err
    assert job(out, "--item", f"{topic}/7/0") == 2


def test_without_its_broker_what_is_known_is_told(stream: Found, capsys: pytest.CaptureFixture[str]) -> None:
    """Why it cannot be asked, and no number that nobody knows."""
    out, topic, _ = stream
    found = told(capsys, out, "--input", f"kafka://127.0.0.1:1/{topic}")
    assert found["stream"]["answers"] is False and "127.0.0.1:1" in found["stream"]["why"]
    assert found["items"] == 20 and found["pending"]["offsets"] is None and found["results"]["epoch"] is None
    assert all(one["lag"] is None and one["next"] > 0 for one in found["stream"]["partitions"])
    far = told(capsys, out, "--input", f"kafka://127.0.0.1:1/{topic}", "--item", f"{topic}/0/9999")
    assert far["state"] == "not read" and "127.0.0.1:1" in far["why"]


def test_credentials_come_from_a_file(stream: Found, broker: Broker, capsys: pytest.CaptureFixture[str]) -> None:
    """With them the same is told; without them, why not."""
    out, topic, _ = stream
    closed = f"kafka://{broker.sasl_address}/{topic}"
    assert "TLS" in told(capsys, out, "--input", closed)["stream"]["why"]
    found = told(capsys, out, "--input", closed, "--kafka-config", broker.client_file)
    assert found["pending"]["offsets"] == told(capsys, out)["pending"]["offsets"]
    assert broker.password not in json.dumps(found)
    assert job(out, "--kafka-config", out / "none") == 2


def test_what_the_broker_deletes_before_it_is_read_is_lost(broker: Broker, tmp_path: Path) -> None:
    """What is deleted by now is told before a run passes over it, and topics that are gone or made anew too."""
    topic = broker.create_topic(f"lossy-{secrets.token_hex(5)}")
    broker.produce(topic, *(b"x" for _ in range(10)))
    with clients.admin(broker.address, Access()) as admin:
        from kafka import TopicPartition

        admin.delete_records({TopicPartition(topic, 0): 7})
    stream = {
        **{"servers": broker.address, "topics": {topic: "other", "gone": "id"}, "next": {topic: {"0": 4}}},
        **{"gaps": [{"topic": topic, "partition": 0, "start": 1, "until": 3}], "publishes": {}},
    }
    commit(tmp_path, tables(picture(f"{topic}/0/0", face())), stream=stream)
    found = look(tmp_path, [], Access())
    assert found.stream is not None
    [one] = found.stream.partitions
    assert (one.lost, one.losing, one.lag) == (2, 3, 3)
    assert [note.split(" was ")[0] for note in found.notes] == [
        "the topic gone is not there any more",
        f"the topic {topic}",
    ]
    assert state.files_of(found.dataset, None, [], named=False) == (None, None)
    assert [status_of(found, offset) for offset in (0, 1, 3, 5, 8)] == ["done", "lost", "no message", "lost", "pending"]


def status_of(found: state.Status, offset: int) -> str:
    [one] = found.stream.partitions if found.stream else []
    return str(story(found, f"{one.topic}/0/{offset}")["state"])
