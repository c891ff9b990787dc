"""Many small commits become few large ones; rows, their order, exports and what comes after stay as without."""

import csv
import json
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines import clean, compact, epochs, folding, review
from pipelines.compact import ALIKE, next_run
from pipelines.content import Content
from pipelines.dataset import Dataset, read_json
from pipelines.export import Wanted, _limit, export
from pipelines.folding import even_parts
from pipelines.known import KnownPictures
from pipelines.logs import run_command
from pipelines.planning import Plan
from pipelines.report import write_report
from pipelines.rewrite import unfinished_videos
from pipelines.summary import Run, summarise
from schemas.layout import MANIFESTS, PLANS, epoch_file, folded_manifest
from schemas.raw import Facts
from schemas.reasons import Rule
from schemas.tables import CROPS, TABLES, Tables
from tests.builders import face, picture, tables
from tests.pipelines.conftest import add_picture, outcomes, run
from tests.pipelines.holding import commit
from tests.pipelines.test_videos import film
from tests.transforms.messes import Mess, label
from transforms.fingerprint import FINGERPRINT_BYTES
from transforms.manifests import read_standing
from transforms.readers import datasets
from transforms.readers.rows import Options
from transforms.storage import create_exclusive

ROOT = Path(__file__).parents[2]


def compacted(out: Path, *, grace_minutes: int = 0, everything: bool = True) -> Dataset:
    """Compact a data set as the job does; return it as it is found anew, which is as the compacting run has it."""
    dataset = Dataset(out)
    with epochs.one_writer(out):
        compact.compact(dataset, grace_minutes=grace_minutes, everything=everything)
    again = Dataset(out)
    assert again.manifests == dataset.manifests
    again.verify()
    return again


def fed(out: Path, count: int, **told: Any) -> Path:
    """Commit so many times two pictures."""
    for at in range(count):
        commit(out, tables(*(picture(f"{at:03d}-{number}.jpg", face()) for number in range(2))), **told)
    return out


def stored(dataset: Dataset, names: Sequence[str] = TABLES) -> dict[str, list[dict[str, Any]]]:
    """Return all rows that stand, in their order."""
    return {name: dataset.scan(name).collect().to_dicts() for name in names}


def exported(dataset: Dataset, folder: Path) -> dict[str, bytes]:
    """Return exports, each one file."""
    for form in ("coco", "jsonl", "cvat"):
        export(dataset, Wanted(form), folder / form)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def page(dataset: Dataset) -> str:
    """Return the report of a data set."""
    (dataset.path / "report").mkdir(exist_ok=True)
    told = summarise(dataset, Run(0.0), 0, "abc") | {"steps": {}}
    told["this_run"]["seconds"] = 1.0
    write_report(dataset, told)
    return (dataset.path / "report" / "index.html").read_text()


def names(out: Path, folder: str) -> list[str]:
    return sorted(path.name for path in (out / folder).iterdir())


@pytest.fixture(scope="module")
def annotated(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Pictures, one of them broken and one a copy, and their data set of four commits."""
    pictures, out = tmp_path_factory.mktemp("in"), tmp_path_factory.mktemp("out") / "set"
    for number in range(6):
        add_picture(pictures, f"{number:02d}.jpg", background=number % 3, left=20 + 30 * number)
    (pictures / "03 broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 cut")
    shutil.copy(pictures / "02.jpg", pictures / "04 copy.jpg")
    assert run(out, pictures, options=["--epoch-items", "2", "--crops"]) == 0
    return pictures, out


@pytest.fixture
def out(annotated: tuple[Path, Path], tmp_path: Path) -> Path:
    """A data set of the test's own with these pictures."""
    return Path(shutil.copytree(annotated[1], tmp_path / "out"))


# ---- the same data set


def test_rows_and_exports_stay(out: Path, tmp_path: Path) -> None:
    """All tables in their order, crops too, exports byte for byte; one shard a table, and the newest commit's."""
    every = (*TABLES, CROPS)
    before = Dataset(out)
    rows, exports = stored(before, every), exported(before, tmp_path / "before")
    assert len(before.manifests) == 4 and len(rows["images"]) == 7 and len(rows[CROPS]) == 6
    after = compacted(out)
    assert stored(after, every) == rows and exported(after, tmp_path / "after") == exports
    assert [len(after.files(table)) for table in every] == [2] * 6
    assert [len(names(out, folder)) for folder in (*every, MANIFESTS, PLANS)] == [2] * 7 + [1]


def test_shards_are_written_as_a_run_writes_them(out: Path) -> None:
    """Columns, types, encodings, and what the footer tells."""
    [old, *_], [new, _] = (Dataset(out).files("annotations"), compacted(out, grace_minutes=1).files("annotations"))
    assert old != new
    ours, theirs = pq.ParquetFile(new), pq.ParquetFile(old)
    assert ours.schema_arrow.equals(theirs.schema_arrow, check_metadata=True)
    for at in range(ours.metadata.num_columns):
        one, other = (file.metadata.row_group(0).column(at) for file in (ours, theirs))
        assert (one.compression, set(one.encodings)) == (other.compression, set(other.encodings))


def test_runs_go_on_behind_it(annotated: tuple[Path, Path], tmp_path: Path) -> None:
    """Nothing is done twice; what failed is tried again, a changed picture done again, its copy stands up."""
    pictures = annotated[0]  # no other test reads them
    plain, folded = (Path(shutil.copytree(annotated[1], tmp_path / name)) for name in ("plain", "folded"))
    compacted(folded)
    add_picture(pictures, "02.jpg", background=1, left=300)
    options = ["--crops", "--max-failure-rate", "1", "--no-export", "--retry-failed"]
    seen = []
    for each in (plain, folded):
        assert run(each, pictures, options=options) == 0
        dataset = Dataset(each)
        assert dataset.scan("failures").collect()["attempts"].to_list() == [2]
        seen.append((dataset.manifests[-1].epoch, stored(dataset), outcomes(each)))
    assert seen[0] == seen[1]
    assert seen[0][2]["04 copy.jpg"] == "labelled" and len(seen[0][2]) == 8
    assert stored(compacted(folded)) == seen[0][1]
    assert sum(pl.read_parquet(path).height for path in Dataset(folded).files("images")) == 7  # in the files too


def test_a_video_goes_on_behind_it(tmp_path: Path) -> None:
    """One that was labelled in part, over a compaction."""
    clip, out = film(tmp_path / "clip.mp4", 24), tmp_path / "out"
    assert run(out, clip, options=["--epoch-items", "5", "--limit", "14", "--no-export"]) == 0
    before = unfinished_videos(Dataset(out).manifests)
    assert before and unfinished_videos(compacted(out).manifests) == before
    assert run(out, clip, options=["--epoch-items", "5", "--no-export"]) == 0
    frames = compacted(out).scan("images").collect()["frame_index"].to_list()
    assert frames == list(range(24))
    assert unfinished_videos(Dataset(out).manifests) == {}


def mess(at: int) -> Mess:
    """Return a repaired label, and one that waits for a person."""
    made = Mess(picture(f"{at}-a.jpg", label("catt")), picture(f"{at}-b.jpg", label("bull")))
    a, b = (row["image_id"] for row in made.images)
    made.change(f"{a}-0", Rule.LABEL_SPELLING, label="cat")
    made.hold(f"{b}-0", Rule.LABEL_NEEDS_REVIEW, candidates=["ball", "bill"])
    return made


def decided(dataset: Dataset, path: Path) -> tuple[list[str], bool]:
    """Let a person reject each label that waits."""
    review.write_review(dataset, str(path))
    rows = [row | {"decision": "reject"} for row in csv.DictReader(path.read_text("utf-8-sig").splitlines())]
    with path.open("w", encoding="utf-8-sig", newline="") as out:
        table = csv.DictWriter(out, rows[0].keys())
        table.writeheader()
        table.writerows(rows)
    return review.decide(dataset, str(path), "anna")


def test_rules_are_explained_undone_and_decided_behind_it(tmp_path: Path) -> None:
    """As they are without."""
    asks: list[Callable[[Dataset], Any]] = [
        lambda dataset: review.explain(dataset, "label.spelling"),
        lambda dataset: review.undo(dataset, "label.spelling"),
        lambda dataset: decided(dataset, dataset.path / "review.csv"),
        lambda dataset: review.undo(dataset, "person.decision"),
        lambda dataset: review.explain(dataset, "label.needs_review"),
    ]
    seen = []
    for folds in (False, True):
        out = tmp_path / f"out{folds}"
        for at in range(3):
            commit(out, mess(at).tables())
        told = [ask(compacted(out) if folds else Dataset(out)) for ask in asks]
        seen.append((told, unordered(Dataset(out))))
    assert seen[0] == seen[1]
    assert seen[0][0][1] == (["label.spelling: 3 values are again what they were before"], True)


def unordered(dataset: Dataset) -> dict[str, list[str]]:
    """Return all rows that stand but for the time of a decision, in an order that does not depend on the commits."""
    rows = stored(dataset)
    return {name: sorted(str(row | {"decided_at": None}) for row in each) for name, each in rows.items()}


def test_labels_are_added_to_pictures_behind_it(tmp_path: Path) -> None:
    """What earlier sources said of them is carried on."""

    def add(out: Path, name: str, rows: str) -> None:
        (tmp_path / name).write_text(f"image,label\n{rows}\n")
        options = ["--runner=DirectRunner", "--output", str(out), "--no-export"]
        assert run_command(clean.main, [*options, "--input", str(tmp_path / name)]) == 0

    plain, folded = (tmp_path / name for name in ("plain", "folded"))
    add(plain, "a.csv", "1.jpg,happy\n2.jpg,sad")
    add(plain, "b.csv", "1.jpg,happy\n3.jpg,joy")
    dataset = Dataset(shutil.copytree(plain, folded))
    folding.fold(dataset, dataset.manifests, 0)
    folding.clear_away(dataset)
    for out in (plain, folded):
        add(out, "d.csv", "1.jpg,sad\n2.jpg,sad\n5.jpg,angry")
    assert unordered(Dataset(folded)) == unordered(Dataset(plain))
    assert len(stored(Dataset(folded))["images"]) == 4


def test_it_is_read_as_a_source_of_labels(tmp_path: Path) -> None:
    """By the job that cleans labels: the same rows, named as they were."""
    out = fed(tmp_path / "out", 3)
    commit(out, tables(picture("000-1.jpg")), supersedes=[picture("000-1.jpg")["item_key"]])
    commit(out, tables(picture("last.jpg", face())))
    before = _as_source(out, tmp_path)
    compacted(out)
    assert _as_source(out, tmp_path) == before and len(before) == 7


def _as_source(out: Path, scratch: Path) -> list[str]:
    rows = pl.concat(datasets.read(datasets.source_of(str(out), "out"), Facts(), Options({}, scratch)))
    return sorted(map(str, rows.drop("file", "row").to_dicts()))


def test_what_manifests_tell_is_told_on(tmp_path: Path) -> None:
    """Roots, labels, categories, sources, suites, offsets: the report and the exports' heads are as before."""
    suite = {"suite": "s", "table": "images", "version": "1", "evaluated": 3, "successful": 2}
    told: list[dict[str, Any]] = [
        {"categories": ["cat"], "sources": [{"mark": "m", "name": "a.csv", "form": "csv"}], "configuration_hash": "a"},
        {"validation": [suite | {"rows": 2, "failed": {"e": 1}}], "stream": {"next": 5, "gaps": [{"start": 1}]}},
        {"sources": [{"mark": "m", "name": "b.csv", "form": "csv"}, {"mark": "n", "name": "c.csv", "form": "csv"}]},
        {"labels": ["sad", "odd"], "stream": {"next": 7, "gaps": []}, "configuration": {"max_bytes": 9}},
        {"validation": [suite | {"rows": 5, "failed": {"e": 2, "f": 0}}], "labels": ["happy"]},
        {"stream": {"next": 9, "gaps": [{"start": 7}]}, "sources": [{"mark": "m", "name": "a.csv", "form": "csv"}]},
    ]
    out = tmp_path / "out"
    for at, each in enumerate(told):
        commit(out, mess(at).tables(), **each)
    commit(out, mess(7).tables(), stream={"next": 10, "gaps": []})
    expected = [_heads(Dataset(out)), page(Dataset(out))]
    after = compacted(out)
    assert [_heads(after), page(after)] == expected
    [folded, _] = after.manifests
    assert folded.told["stream"] == {"next": 9, "gaps": [{"start": 1}, {"start": 7}]}
    assert [source["name"] for source in folded.told["sources"]] == ["a.csv", "b.csv", "c.csv", "a.csv"]
    assert folded.told["items"] == 12 and len(folded.history) == 4


def _heads(dataset: Dataset) -> list[Any]:
    content = Content(dataset)
    limit = _limit(dataset, "max_bytes")
    return [dataset.labels, dataset.roots, dataset.info, content.categories, content.landmarks, limit]


# ---- taking back


def commit_at(out: Path, epoch: int, made: Tables, supersedes: Sequence[str] = (), **told: Any) -> None:
    """Commit under this number, whatever was folded before."""
    spare = commit(out.with_name(f"{out.name}-spare"), made)
    manifest = json.loads((spare / MANIFESTS / "00000001.json").read_bytes())
    for table, [file] in manifest["tables"].items():
        (out / table).mkdir(parents=True, exist_ok=True)
        shutil.move(spare / file["path"], out / table / f"{epoch:08d}-0000.parquet")
        file["path"] = f"{table}/{epoch:08d}-0000.parquet"
    for folder in (MANIFESTS, PLANS):
        (out / folder).mkdir(exist_ok=True)
    manifest |= {"epoch": epoch, "supersedes": list(supersedes), **told}
    assert create_exclusive(str(out / epoch_file(MANIFESTS, epoch)), json.dumps(manifest).encode())
    shutil.rmtree(spare)


@settings(max_examples=6, deadline=None)
@given(st.data())
def test_what_was_taken_back_stays_so_however_it_is_folded(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Keys are committed again, now and later; any runs of commits are folded in between."""
    plain, out = (tmp_path_factory.mktemp(name) for name in ("plain", "out"))
    keys = keys_of(4)
    for epoch in range(1, data.draw(st.integers(3, 6))):
        chosen = sorted(data.draw(st.sets(st.integers(0, 3), min_size=1)))
        made = tables(*(picture(f"{name}.jpg", face(confidence=epoch / 10)) for name in chosen))
        taken = [keys[name] for name in chosen]
        unfinished = dict.fromkeys(taken) | ({taken[0]: epoch} if data.draw(st.booleans()) else {})
        for each in (plain, out):
            commit_at(each, epoch, made, taken, unfinished=unfinished)
        dataset = Dataset(out)
        start = data.draw(st.integers(0, len(dataset.manifests)))
        some = dataset.manifests[start : data.draw(st.integers(start, len(dataset.manifests)))]
        if len(some) > 1:
            folding.fold(dataset, some, 0)
            folding.clear_away(dataset)
        assert stored(Dataset(out)) == stored(Dataset(plain)) == stored(dataset)
        assert unfinished_videos(Dataset(out).manifests) == unfinished_videos(Dataset(plain).manifests)
    oldest = Dataset(out).manifests[0]
    assert not (oldest.is_folded and oldest.told["supersedes"])  # nothing is older that they could take back


def test_what_is_taken_back_is_told_while_it_is_there(tmp_path: Path) -> None:
    """As long as an older commit has such rows, and no longer; so where a video goes on."""
    out = tmp_path / "out"
    keys = keys_of(3)
    commit(out, tables(*(picture(f"{at}.jpg", face()) for at in range(3))), unfinished={keys[0]: 5, keys[1]: 6})
    commit(out, tables(picture("1.jpg")), supersedes=[keys[1]], unfinished={keys[2]: 7})
    commit(out, tables(picture("2.jpg")), supersedes=[keys[2]], unfinished={keys[0]: None})
    commit(out, tables(picture("last.jpg")))
    dataset = Dataset(out)
    rows = stored(dataset)
    assert unfinished_videos(dataset.manifests) == {}
    later = folding.fold(dataset, dataset.manifests[1:3], 0)
    assert later.told["supersedes"] == sorted(keys[1:]) and later.told["unfinished"] == {keys[0]: None}
    assert stored(Dataset(out)) == stored(dataset) == rows and unfinished_videos(dataset.manifests) == {}
    every = folding.fold(dataset, dataset.manifests[:2], 0)
    assert (every.told["supersedes"], every.told["unfinished"], every.first, every.epoch) == ([], {}, 1, 3)
    assert stored(Dataset(out)) == stored(dataset) == rows and dataset.taken_back == {}


def keys_of(count: int) -> list[str]:
    return [picture(f"{name}.jpg")["item_key"] for name in range(count)]


def test_large_shards_are_not_written_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until a row of theirs is taken back, in a commit that is folded or not; then theirs alone."""
    monkeypatch.setattr(folding, "SHARD_ROWS", 5)
    out = fed(tmp_path / "out", 9)
    large = compacted(out).files("images")[:-1]
    assert len(large) == 4  # of eight commits of two pictures
    commit_at(out, 10, tables(picture("new.jpg", face()), picture("other.jpg", face())))
    commit_at(out, 11, tables(picture("last.jpg")))
    assert compacted(out).files("images")[:4] == large
    commit_at(out, 12, tables(picture("002-0.jpg")), [picture("002-0.jpg")["item_key"]])
    rows = stored(Dataset(out))
    after = compacted(out)
    assert after.files("images")[0] == large[0] and after.files("images")[2:4] == large[2:]
    assert pl.read_parquet(after.files("images")[1]).height == 3 and stored(after) == rows


def test_pictures_known_before_are_known_behind_it(tmp_path: Path) -> None:
    """Each once, also those of commits that were folded before they were learned."""
    out = tmp_path / "out"
    printed = [tables(picture(f"{at}.jpg", face(), fingerprint=bytes([at] * FINGERPRINT_BYTES))) for at in range(6)]
    for made in printed[:3]:
        commit(out, made)
    dataset = Dataset(out)
    known = KnownPictures(dataset)
    known.write(Plan(4, {}, (), (), ()))
    for made in printed[3:]:
        commit(out, made)
    dataset.refresh()
    compact.compact(dataset, grace_minutes=0, everything=True)
    known.write(Plan(7, {}, (), (), ()))
    assert len(known.known.ids) == 6


# ---- which are merged


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 5000), max_size=200), st.integers(2, 6))
def test_few_are_left(sizes: list[int], alike: int) -> None:
    """Whatever their sizes: in their order, and fewer than `alike` of each power of it."""
    left: list[list[int]] = []
    levels = 1
    while alike**levels <= max(sum(sizes), 1):
        levels += 1
    for number in range(len(sizes)):
        left.append([number])
        while chosen := next_run([sum(sizes[at] for at in one) for one in left], alike):
            left[chosen] = [[at for one in left[chosen] for at in one]]
        assert len(left) <= (alike - 1) * levels
    assert [at for one in left for at in one] == list(range(len(sizes)))


def test_each_row_is_written_a_few_times() -> None:
    """A thousand commits of the same size, one by one: as many times as there are powers."""
    left: list[int] = []
    written = 0
    for _ in range(ALIKE**3):
        left.append(20)
        while chosen := next_run(left):
            written += sum(left[chosen])
            left[chosen] = [sum(left[chosen])]
    assert left == [20_000] and written == 3 * 20_000


@given(st.lists(st.floats(0, 0.5, exclude_max=True), min_size=1, max_size=60))
def test_new_shards_are_alike(fills: list[float]) -> None:
    """In order, none left out, none overfull."""
    numbers = even_parts(fills)
    assert numbers == sorted(numbers)
    assert sorted(set(numbers)) == list(range(numbers[-1] + 1))
    parts = [sum(fill for fill, number in zip(fills, numbers, strict=True) if number == each) for each in set(numbers)]
    assert max(parts) <= 1.5 + 1e-9
    assert len(parts) <= sum(fills) + 1


# ---- whatever happens meanwhile


_KILLED = """
import os, signal, sys
from pathlib import Path
from pipelines import compact, folding
from pipelines.dataset import Dataset

moment, at = sys.argv[1], int(sys.argv[2])
count = 0

def killing(call):
    def then_die(*arguments, **named):
        global count
        count += 1
        if count == at:
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*arguments, **named)
    return then_die

if moment == "unlink":
    Path.unlink = killing(Path.unlink)
else:
    setattr(folding, moment, killing(getattr(folding, moment)))
compact.compact(Dataset(sys.argv[3]), grace_minutes=0, everything=True)
"""


@pytest.mark.parametrize(
    ("moment", "at"), [("write_shard_file", 4), ("create_exclusive", 1), ("unlink", 1), ("unlink", 3), ("unlink", 16)]
)
def test_killed_at_any_moment_nothing_is_lost_or_doubled(moment: str, at: int, tmp_path: Path) -> None:
    """Between two shards, before and behind the commit, among the old manifests, among the old shards."""
    out = fed(tmp_path / "out", 6)
    rows = stored(Dataset(out))
    done = subprocess.run([sys.executable, "-c", _KILLED, moment, str(at), str(out)], cwd=ROOT, capture_output=True)
    assert done.returncode == -signal.SIGKILL
    assert stored(Dataset(out)) == rows
    assert len(Dataset(out).manifests) == (6 if moment in ("write_shard_file", "create_exclusive") else 2)
    assert stored(compacted(out)) == rows
    epochs.collect_garbage(Dataset(out))
    assert [len(names(out, folder)) for folder in (*TABLES, MANIFESTS)] == [2] * 6
    commit_at(out, 7, tables(picture("new.jpg")))
    assert len(stored(compacted(out))["images"]) == 13


def test_readers_that_were_there_before_go_on(tmp_path: Path) -> None:
    """For the time of grace; what a killed run left is deleted at once, and in the end the rest."""
    out = fed(tmp_path / "out", 5)
    reader = Dataset(out)
    files = reader.files("images")
    killed = out / "images" / "00000006-0000.parquet"
    shutil.copy(files[0], killed)
    dataset = compacted(out, grace_minutes=60)
    epochs.collect_garbage(dataset)
    assert not killed.exists() and len(stored(reader)["images"]) == 10
    assert set(dataset.files("images")).isdisjoint(files[:-1])
    [manifest] = (path for path in (out / MANIFESTS).iterdir() if "-" in path.name)
    told = json.loads(manifest.read_bytes())
    assert 3500 < told["folded"]["keep_until"] - time.time() <= 3600
    told["folded"]["keep_until"] -= 3601
    manifest.write_text(json.dumps(told))
    epochs.collect_garbage(Dataset(out))
    assert names(out, "images") == ["00000001-00000004-0000.parquet", "00000005-0000.parquet"]


def test_readers_meanwhile_see_each_row_once(tmp_path: Path) -> None:
    """While commits come and are folded without pause."""
    out = fed(tmp_path / "out", 3)
    over = threading.Event()
    seen: list[int] = []
    errors: list[Exception] = []

    def look() -> None:
        while not over.is_set():
            try:
                dataset = Dataset(out)
                epochs_ = [(one.first, one.epoch) for one in dataset.manifests]
                assert epochs_[0][0] == 1 and all(a[1] + 1 == b[0] for a, b in pairwise(epochs_))
                names_ = dataset.scan("images").collect()["file_name"]
                assert names_.is_unique().all() and len(names_) == 2 * epochs_[-1][1]
                seen.append(len(names_))
            except Exception as error:  # noqa: BLE001  the test's own thread tells it
                errors.append(error)

    readers = [threading.Thread(target=look) for _ in range(2)]
    for reader in readers:
        reader.start()
    for epoch in range(4, 16):
        commit_at(out, epoch, tables(picture(f"{epoch:03d}-0.jpg", face()), picture(f"{epoch:03d}-1.jpg")))
        if epoch % 2 == 0:
            compact.compact(Dataset(out), grace_minutes=1, everything=True)
    over.set()
    for reader in readers:
        reader.join()
    assert not errors
    assert len(seen) > 3


def test_a_listing_that_was_overtaken_is_made_anew(tmp_path: Path) -> None:
    """Commits were folded while the first of them was read, and what was listed of the rest is gone."""
    out = fed(tmp_path / "out", 4)
    calls: list[str] = []

    def read(path: Path) -> str:
        calls.append(path.name)
        if len(calls) == 1:
            compacted(out)
            return "too old"
        return str(read_json(path)["epoch"])

    assert read_standing(out, read) == [(3, "3"), (4, "4")]
    assert calls[:2] == ["00000001.json", "00000002.json"]


# ---- the job


def job(*argv: str) -> int:
    return run_command(compact.main, argv)


def test_the_job_says_what_it_did(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Commits, files, rows, size; and that there was nothing to do."""
    out = fed(tmp_path / "out", 12)
    assert job("--dataset", str(out)) == 0
    told = capsys.readouterr()
    assert f"{out}: 2 commits in 10 files, 48 rows, 0.0 MB; 0 rows left out, " in told.out
    assert "before: 12 commits in 60 files, 48 rows" in told.err and "stay for 60 minutes" in told.err
    assert job("--dataset", str(out)) == 0
    assert "nothing to do: 2 commits" in capsys.readouterr().out
    commit_at(out, 13, tables(picture("13.jpg")))
    assert job("--dataset", str(out)) == 0
    assert "10 of about the same size are merged, --everything merges all" in capsys.readouterr().out
    assert job("--dataset", str(out), "--everything", "--log-format", "json") == 0
    assert json.loads(capsys.readouterr().err.splitlines()[0])["message"].startswith("before: 3 commits")


def test_misuse_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One that is in use, one that is none, one of which a file is gone, one that a newer version wrote."""
    assert job("--dataset", str(tmp_path / "none")) == 2
    assert job("--dataset", str(tmp_path), "--grace-minutes", "-1") == 2
    out = fed(tmp_path / "out", 4)
    with epochs.one_writer(out):
        held = [sys.executable, "-m", "pipelines.compact", "--dataset", str(out)]
        done = subprocess.run(held, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2 and "in use by another run" in done.stderr
    path = Path(Dataset(out).files("images")[1])
    newer = pl.read_parquet(path).with_columns(odd=pl.lit(1))
    newer.write_parquet(path)
    manifest = out / epoch_file(MANIFESTS, 2)
    told = json.loads(manifest.read_bytes())
    told["tables"]["images"][0]["size"] = path.stat().st_size
    manifest.write_text(json.dumps(told))
    capsys.readouterr()
    assert job("--dataset", str(out), "--everything") == 1
    assert "has columns that this version does not know (odd)" in capsys.readouterr().err
    path.unlink()
    assert job("--dataset", str(out), "--everything") == 1
    assert "is missing" in capsys.readouterr().err
    (out / folded_manifest(2, 3)).write_text("{}")
    (out / folded_manifest(3, 4)).write_text("{}")
    assert job("--dataset", str(out)) == 1
    assert "overlap" in capsys.readouterr().err
