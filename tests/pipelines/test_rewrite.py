"""Committed items are written again with all that is theirs, once, and whatever happens in between."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest

from pipelines import rewrite as job
from pipelines.committed import Committed
from pipelines.dataset import Dataset, Manifest
from pipelines.epochs import one_writer
from pipelines.planning import Plan, Planner, pending, take_up
from pipelines.rewrite import RewritePlan, chunks, read_tables, rewrite, rewriting, unfinished_videos
from schemas.errors import RunError, UsageError
from schemas.layout import PLANS, epoch_file
from schemas.reasons import Rule
from schemas.tables import CROPS, TABLES, Tables, schema
from tests.builders import face, picture, tables
from tests.pipelines.holding import commit
from tests.transforms.messes import Mess, label
from transforms import ledger, stopping

ROOT = Path(__file__).parents[2]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Where the data set is."""
    return tmp_path / "out"


def misspelt(*names: str) -> Tables:
    """Return tables of pictures with one repaired label each."""
    made = Mess(*(picture(name, label("catt")) for name in names))
    for identity in made.ids():
        made.change(identity, Rule.LABEL_SPELLING, label="cat")
    return made.tables()


def undone(dataset: Dataset, keys: Sequence[str] | None = None) -> list[dict[str, int]]:
    """Undo the repairs of the items of these keys, or of all; return what each commit did."""

    def change(some: Tables) -> Any:
        back = ledger.undo(some, Rule.LABEL_SPELLING)
        return (back.tables, back.counts) if any(back.counts.values()) else None

    keys = keys or dataset.scan("images").select("item_key").collect()["item_key"].to_list()
    with rewriting(dataset):
        return [dict(told) for told in rewrite(dataset, keys, change, {"undo": "label.spelling"}, lambda: None)]


def rows(dataset: Dataset, table: str) -> list[dict[str, Any]]:
    """Return the rows of a table, in an order that does not depend on the commits."""
    return sorted(dataset.scan(table).collect().to_dicts(), key=lambda row: json.dumps(row, default=str))


def keys_of(*names: str) -> list[str]:
    """Return the keys that the builders give to pictures of these names."""
    return [picture(name)["item_key"] for name in names]


def test_an_item_is_written_again_and_the_rest_is_left(out: Path) -> None:
    """Its old rows are superseded; what was committed of others is neither read anew nor written."""
    dataset = Dataset(commit(out, misspelt("a.jpg", "b.jpg", "c.jpg")))
    before = {table: rows(dataset, table) for table in TABLES}
    [did] = undone(dataset, keys_of("b.jpg"))
    assert did["values"] == 1
    told = dataset.manifests[-1].told
    assert (told["supersedes"], told["items"], told["epoch"]) == (keys_of("b.jpg"), 1, 2)
    assert told["rewrite"] == {"undo": "label.spelling", **did}
    names = {row["item_key"]: row["label"] for row in rows(Dataset(out), "annotations")}
    assert names == dict(zip(keys_of("a.jpg", "b.jpg", "c.jpg"), ["cat", "catt", "cat"], strict=True))
    assert rows(dataset, "images") == before["images"]
    assert len(rows(dataset, "changes")) == 2


def test_nothing_to_change_is_no_commit(out: Path) -> None:
    """A second time there is nothing left."""
    dataset = Dataset(commit(out, misspelt("a.jpg")))
    assert undone(dataset) and not undone(dataset)
    assert len(Dataset(out).manifests) == 2 and not list((out / "_tmp").glob("*.json"))


def test_every_row_of_an_item_comes_along(out: Path) -> None:
    """Failures with their attempts, what is held back, crops, pictures without a label."""
    shard = misspelt("a.jpg")
    own = {name: shard.annotations[name][0].as_py() for name in ("annotation_id", "image_id", "item_key")}
    failure = {"item_key": "f" * 32, "root": 0, "file_name": "f.jpg", "step": "look", "error": "gone", "attempts": 3}
    shard = replace(
        shard,
        crops=pa.Table.from_pylist([own | {"crop": b"jpeg"}], schema=schema(CROPS, ())),
        failures=pa.Table.from_pylist([failure], schema=schema("failures", ())),
        quarantine=pa.Table.from_pylist(
            [{"kind": "annotation", "id": "f-0", "item_key": "f" * 32, "rule": "reference.unreadable"}],
            schema=schema("quarantine", ()),
        ),
    )
    dataset = Dataset(commit(out, shard))
    before = {table: rows(dataset, table) for table in (*TABLES, CROPS)}
    undone(dataset, [*keys_of("a.jpg"), "f" * 32])
    after = {table: rows(dataset, table) for table in (*TABLES, CROPS)}
    assert dataset.manifests[-1].told["outcomes"]["failed"] == 1
    for table in ("images", "failures", "quarantine", CROPS):
        assert after[table] == before[table]
    assert Committed(dataset, keep_contents=False).attempts("f" * 32) == 3


def test_a_rewritten_item_is_still_committed(out: Path) -> None:
    """A later run knows it by the same name and key."""
    dataset = Dataset(commit(out, misspelt("a.jpg", "b.jpg")))
    undone(dataset, keys_of("a.jpg"))
    committed = Committed(Dataset(out), keep_contents=True)
    assert [committed.key_of(0, name) for name in ("a.jpg", "b.jpg")] == keys_of("a.jpg", "b.jpg")


def test_a_video_goes_on_where_it_was(out: Path) -> None:
    """The manifest repeats behind which frame the next run begins; frames of several commits become one item's."""
    frames = [picture("v.mp4", label("catt"), frame_index=at, image_id=f"{at:064d}") for at in range(4)]
    for part in (frames[:2], frames[2:]):
        made = Mess(*part)
        for identity in made.ids():
            made.change(identity, Rule.LABEL_SPELLING, label="cat")
        commit(out, made.tables(), unfinished={keys_of("v.mp4")[0]: 7 if part[0] is frames[0] else 9, "x": None})
    dataset = Dataset(out)
    undone(dataset)
    [key] = keys_of("v.mp4")
    assert unfinished_videos(dataset.manifests) == {key: 9}
    assert Committed(dataset, keep_contents=False).unfinished == {key: 9}
    assert [row["frame_index"] for row in rows(dataset, "images")] == [0, 1, 2, 3]
    assert dataset.manifests[-1].told["items"] == 4
    commit(out, tables(picture("v.mp4", frame_index=4, image_id=f"{4:064d}")), unfinished={key: None})
    assert len(rows(Dataset(out), "images")) == 5 and not unfinished_videos(Dataset(out).manifests)


def test_a_video_that_was_taken_back_does_not_go_on() -> None:
    """What supersedes it says of itself whether there is more."""
    begun = Manifest(1, {"supersedes": [], "unfinished": {"k": 5, "l": 6}})
    assert unfinished_videos([begun, Manifest(2, {"supersedes": ["k"]})]) == {"l": 6}
    assert unfinished_videos([begun, Manifest(2, {"supersedes": ["k"], "unfinished": {"k": 9}})]) == {"l": 6, "k": 9}


def test_what_stands_on_anothers_picture_is_written_with_it(out: Path) -> None:
    """Two commits, one label moved from the second's picture to the first's: both items, in one chunk."""
    made = Mess(picture("a.jpg", label("cat")), picture("b.jpg", label("catt")), picture("c.jpg", label("catt")))
    first, copy, _ = (row["image_id"] for row in made.images)
    made.change(f"{copy}-0", Rule.LABEL_SPELLING, label="cat")
    made.merge(copy, first, Rule.DUPLICATE_NEAR)
    whole = made.tables()
    for names in (["a.jpg"], ["b.jpg", "c.jpg"]):
        mine = pa.array(keys_of(*names))
        commit(out, replace(whole, **{n: t.filter(pa.compute.is_in(t["item_key"], mine)) for n, t in whole.named()}))
    dataset = Dataset(out)
    [chunk] = chunks(dataset, keys_of("b.jpg"))
    assert set(chunk.keys) == set(keys_of("a.jpg", "b.jpg")) and len(chunk.manifests) == 2
    undone(dataset, keys_of("b.jpg"))
    assert sorted(dataset.manifests[-1].told["supersedes"]) == sorted(keys_of("a.jpg", "b.jpg"))
    assert {row["file_name"]: row["annotations"] for row in rows(dataset, "images")}["a.jpg"] == 2


def test_chunks_do_not_change_the_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Few items at a time, in several commits, or all at once: the same rows."""
    names = [f"{at}.jpg" for at in range(9)]
    want = Dataset(commit(tmp_path / "whole", misspelt(*names)))
    undone(want)
    for part in (names[:4], names[4:]):
        commit(tmp_path / "parts", misspelt(*part))
    dataset = Dataset(tmp_path / "parts")
    monkeypatch.setattr(job, "CHUNK_ITEMS", 3)
    assert [did["values"] for did in undone(dataset)] == [3, 3, 3]
    assert len(dataset.manifests) == 5
    for table in TABLES:
        assert rows(dataset, table) == rows(want, table)


def test_the_manifest_is_that_of_the_last_commit(out: Path) -> None:
    """Configuration, models, labels and categories; new labels of the code are no matter of a rewrite."""
    told = {"configuration": {"a": 1}, "configuration_hash": "h", "models": {"m": 1}, "labels": ["happy"]}
    dataset = Dataset(commit(out, misspelt("a.jpg"), **told, categories=["dog", "cat"]))
    undone(dataset)
    last = dataset.manifests[-1].told
    assert {name: last[name] for name in told} == told
    assert last["categories"] == ["dog", "cat"] and last["roots"] == []
    footer = pa.parquet.read_schema(dataset.files("images")[-1]).metadata[b"labelstream"]
    assert json.loads(footer)["configuration_hash"] == "abc"


def test_rows_of_two_models_keep_their_columns(out: Path) -> None:
    """Probabilities of either stand in one file, null where the other model does not know the label."""
    for name, extra in (("a.jpg", "calm"), ("b.jpg", "bored")):
        row = picture(name, face(label=extra) | {f"p_{extra}": 0.9})
        commit(
            out,
            tables(row, labels=("happy", "sad", "angry", "disgust", "fear", "surprise", "neutral", extra)),
            labels=[extra],
        )
    dataset = Dataset(out)
    [chunk] = chunks(dataset, keys_of("a.jpg", "b.jpg"))
    found = read_tables(dataset, chunk).annotations
    assert found.schema == schema("annotations", dataset.labels)
    assert [found[f"p_{name}"].to_pylist() for name in ("calm", "bored")] == [
        [pytest.approx(0.9), None],
        [None, pytest.approx(0.9)],
    ]


# ---- what may happen in between


def test_a_plan_of_another_run_is_forgotten(out: Path) -> None:
    """What a killed run planned, or wrote, was never visible; and a plan of ours is none of theirs."""
    dataset = Dataset(commit(out, misspelt("a.jpg")))
    shard = out / "images" / "00000009-0000.parquet"
    shard.write_bytes(b"half")
    left = out / epoch_file(PLANS, 2)
    left.write_bytes(Plan(2, {}, (), (), ()).to_json())
    assert pending(dataset) is not None
    undone(dataset)
    assert json.loads(left.read_bytes())["kind"] == "rewrite" and not shard.exists()
    left.rename(out / epoch_file(PLANS, 3))
    assert pending(dataset) is None
    planner = Planner(dataset, [], {"duplicates": "keep"}, epoch_items=1, retry_failed=False)
    assert take_up(dataset, planner) is None and not (out / epoch_file(PLANS, 3)).exists()


def test_rows_that_were_not_written_are_never_committed(out: Path) -> None:
    """A shard with fewer rows than were planned is refused."""
    dataset = Dataset(commit(out, misspelt("a.jpg", "b.jpg")))
    shards = {table: dataset.files(table) for table in TABLES}
    plan = RewritePlan(2, {}, (), misspelt("a.jpg"), {"rewrite": {}})
    with pytest.raises(RunError, match="was to write 1 rows of images and has 2: nothing of it was committed"):
        plan.require_whole({}, shards)
    assert replace(plan, tables=misspelt("a.jpg", "b.jpg")).require_whole({}, shards) == {"rewrite": {}}


def test_one_writer_at_a_time(out: Path) -> None:
    """A data set that a run holds is refused; an empty one too."""
    commit(out, misspelt("a.jpg"))
    with one_writer(out):
        done = subprocess.run([sys.executable, "-c", _SCRIPT, str(out)], capture_output=True, text=True, cwd=ROOT)
    assert "in use by another run" in done.stderr
    (out / "_manifests" / "00000001.json").unlink()
    with pytest.raises(UsageError, match="holds nothing yet"), rewriting(Dataset(out)):
        pass


def test_what_others_committed_meanwhile_is_seen(out: Path) -> None:
    """A reader that was opened before sees the data set as it is when it is held."""
    dataset = Dataset(commit(out, misspelt("a.jpg")))
    assert len(dataset.manifests) == 1
    commit(out, misspelt("b.jpg"))
    undone(dataset, keys_of("b.jpg"))
    assert [manifest.epoch for manifest in dataset.manifests] == [1, 2, 3]
    assert {row["label"] for row in rows(dataset, "annotations") if row["item_key"] in keys_of("b.jpg")} == {"catt"}


def test_a_request_to_stop_leaves_what_is_committed(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next time goes on from there."""
    dataset = Dataset(commit(out, misspelt(*(f"{at}.jpg" for at in range(4)))))
    monkeypatch.setattr(job, "CHUNK_ITEMS", 1)
    keys = dataset.scan("images").select("item_key").collect()["item_key"].to_list()

    def change(some: Tables) -> Any:
        back = ledger.undo(some, Rule.LABEL_SPELLING)
        return (back.tables, back.counts)

    with rewriting(dataset):
        for _ in rewrite(dataset, keys, change, {"undo": "label.spelling"}, lambda: None):
            os.kill(os.getpid(), signal.SIGTERM)
    assert stopping.stop_requested()
    stopping.reset()
    assert [row["label"] for row in rows(dataset, "annotations")].count("catt") == 1
    undone(dataset)
    assert {row["label"] for row in rows(Dataset(out), "annotations")} == {"catt"}


_SCRIPT = """
import sys
from pathlib import Path
from pipelines import review, rewrite
from pipelines.dataset import Dataset, Manifest
from pipelines.logs import run_command

rewrite.CHUNK_ITEMS = 2
sys.exit(run_command(lambda argv: review.undo(Dataset(argv[0]), "label.spelling") and 0, sys.argv[1:]))
"""


def test_killed_and_run_again_ends_in_the_same_rows(tmp_path: Path) -> None:
    """Killed between and within its commits, at each of which readers see every item exactly once."""
    names = [f"{at:02d}.jpg" for at in range(24)]
    want = Dataset(commit(tmp_path / "whole", misspelt(*names)))
    undone(want)
    out = commit(tmp_path / "out", misspelt(*names))
    for commits in (2, 7):
        running = subprocess.Popen([sys.executable, "-c", _SCRIPT, str(out)], cwd=ROOT)
        while len(list((out / "_manifests").iterdir())) < commits and running.poll() is None:
            time.sleep(0.001)
        running.kill()
        running.wait()
        seen = Dataset(out).scan("images").collect()
        assert sorted(seen["file_name"]) == names
        assert Dataset(out).scan("annotations").select(pl.len()).collect().item() == len(names)
    subprocess.run([sys.executable, "-c", _SCRIPT, str(out)], check=True, cwd=ROOT)
    for table in TABLES:
        assert rows(Dataset(out), table) == rows(want, table)
    assert len(Dataset(out).files("images")) == len(list((out / "images").glob("*.parquet")))
