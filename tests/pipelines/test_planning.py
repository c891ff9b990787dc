"""Plans: what is new is planned once, copies ride along, roots are known by any name."""

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines import planning
from pipelines.dataset import Dataset, Manifest
from pipelines.flow import CPU_BATCHES, batches
from pipelines.planning import Plan, Planner
from pipelines.roots import Roots
from schemas.records import image_id
from schemas.tables import schema
from tests.builders import picture, tables
from tests.pipelines.holding import commit
from transforms.source import UNREADABLE, InputFile, list_inputs

CONFIGURATION = {"duplicates": "exact", "max_bytes": 10**6, "max_pixels": 10**6, "frames": "all"}


@pytest.fixture
def home(tmp_path: Path) -> Dataset:
    """An empty data set."""
    (tmp_path / "out" / "_manifests").mkdir(parents=True)
    return Dataset(tmp_path / "out")


def planner(home: Dataset, *inputs: Path, epoch_items: int = 100, **configuration: object) -> Planner:
    files = list_inputs([str(each) for each in inputs], exclude=str(home.path)).files
    return Planner(home, files, CONFIGURATION | configuration, epoch_items=epoch_items, retry_failed=False)


def write(folder: Path, **contents: bytes) -> Path:
    folder.mkdir(exist_ok=True)
    for name, content in contents.items():
        (folder / f"{name}.jpg").write_bytes(content)
    return folder


def test_a_plan_survives_its_file(home: Dataset, tmp_path: Path) -> None:
    """What is written is what is read, odd names included."""
    folder = write(tmp_path / "in", a=b"1", b=b"1", c=b"22")
    Path(folder, b"\xe9.jpg".decode("utf-8", "surrogateescape")).write_bytes(b"333")
    plan = planner(home, folder).next(1)
    assert plan is not None
    assert Plan.of(json.loads(plan.to_json())) == plan


def test_copies_ride_with_the_first_in_order(home: Dataset, tmp_path: Path) -> None:
    """Equal bytes are one item with copies; equal sizes alone are not."""
    plan = planner(home, write(tmp_path / "in", a=b"11", b=b"22", c=b"11", d=b"11")).next(1)
    assert plan is not None
    told = [(item.ref.file_name, [copy.file_name for copy in item.copies]) for item in plan.items]
    assert told == [("a.jpg", ["c.jpg", "d.jpg"]), ("b.jpg", [])]
    assert plan.pictures == 4
    assert plan.items[1].sha256  # it was read to be compared; the first of a size that stands alone is not
    kept = planner(home, tmp_path / "in", duplicates="keep").next(1)
    assert kept is not None and len(kept.items) == 4 and not any(item.sha256 for item in kept.items)


def test_epochs_are_cut_in_listing_order(home: Dataset, tmp_path: Path) -> None:
    """Every file is in one plan, plans are full but the last, numbers count from 0 in each."""
    folder = write(tmp_path / "in", **{f"p{number:02d}": bytes([number]) * (number + 1) for number in range(25)})
    mine = planner(home, folder, epoch_items=10)
    plans = []
    while (plan := mine.next(len(plans) + 1)) is not None:
        plans.append(plan)
    assert [plan.pictures for plan in plans] == [10, 10, 5]
    names = [ref.file_name for plan in plans for item in plan.items for ref in item.refs()]
    assert names == sorted(names) and len(set(names)) == 25
    assert all([item.ref.number for item in plan.items] == list(range(len(plan.items))) for plan in plans)
    assert [len(plan.roots) for plan in plans] == [1, 0, 0]


def test_batches_cover_a_plan_whatever_the_workers(home: Dataset, tmp_path: Path) -> None:
    """Every item once, in order, small batches for a small plan."""
    folder = write(tmp_path / "in", **{f"p{number:02d}": bytes([number]) * (number + 1) for number in range(40)})
    plan = planner(home, folder).next(1)
    assert plan is not None
    cut = batches(plan, CPU_BATCHES)
    assert [item for batch in cut for item in batch.items] == list(plan.items)
    assert max(len(batch.items) for batch in cut) == 4


def test_roots_are_known_by_any_name(home: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Relative, absolute, through a link: one root; another folder of the same name is another."""
    write(tmp_path / "in", a=b"1")
    write(tmp_path / "other", a=b"1")
    (tmp_path / "other" / "in").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "in")
    monkeypatch.chdir(tmp_path)
    roots = Roots(home)
    names = ["in", str(tmp_path / "in"), "./in/", "link"]
    assert {roots.place(name, "a.jpg")[0].number for name in names} == {0}
    assert roots.place("other/in", "a.jpg")[0].number == 1


def test_a_folder_in_or_around_a_known_one_is_a_part_of_it(home: Dataset, tmp_path: Path) -> None:
    """However the inputs are cut, a file has one root and one name."""
    write(tmp_path / "in", a=b"1")
    write(tmp_path / "in" / "sub", b=b"2")
    inner, outer = Roots(home), Roots(home)
    assert outer.place(str(tmp_path / "in"), "sub/b.jpg") == (outer.known[0], "sub/b.jpg")
    assert outer.place(str(tmp_path / "in" / "sub"), "b.jpg") == (outer.known[0], "sub/b.jpg")
    assert inner.place(str(tmp_path / "in" / "sub"), "b.jpg") == (inner.known[0], "b.jpg")
    assert inner.place(str(tmp_path / "in"), "sub/b.jpg") == (inner.known[0], "b.jpg")
    assert inner.place(str(tmp_path / "in"), "a.jpg") == (inner.known[1], "a.jpg")


def test_a_missing_line_of_a_list_is_an_item(home: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is planned, so that it fails with its reason rather than vanish."""
    write(tmp_path / "in", a=b"1")
    (tmp_path / "list.txt").write_text("in/a.jpg\nin/gone.jpg\n")
    monkeypatch.chdir(tmp_path)
    plan = planner(home, Path("@list.txt")).next(1)
    assert plan is not None
    assert sorted(item.ref.file_name for item in plan.items) == ["in/a.jpg", "in/gone.jpg"]


def test_chunks_make_no_difference(home: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many files are looked up at once, plans are the same bytes; a root is told where its first file is."""
    inputs = [write(tmp_path / f"in{number}", a=b"1" * number, b=b"2", c=b"3" * number) for number in range(1, 5)]
    told = {}
    for files in (1, 2, 3, 4096):
        monkeypatch.setattr(planning, "_CHUNK_FILES", files)
        mine = planner(home, *inputs, epoch_items=2)
        plans = [plan.to_json() for epoch in range(1, 20) if (plan := mine.next(epoch))]
        told[files] = plans
    assert len(told[1]) == 6 and told[1] == told[2] == told[3] == told[4096]
    assert [[root["number"] for root in json.loads(plan)["roots"]] for plan in told[1]] == [[0], [1], [], [2], [3], []]


def commit_plan(home: Dataset, plan: Plan, failed: Sequence[str] = (), **told: Any) -> Manifest:
    """Commit what a plan covers without looking at any picture."""
    contents: dict[int, str] = {}
    rows = []
    for item in plan.items:
        for ref in item.refs():
            stands = item.stands.image_id if item.stands else contents.get(item.ref.number)
            sha256 = hashlib.sha256(Path(ref.uri).read_bytes()).hexdigest()
            copy = {"outcome": "duplicate", "duplicate_of": stands} if stands else {}
            contents.setdefault(item.ref.number, image_id(sha256, ref.root, ref.file_name))
            own = {"item_key": ref.key, "source_uri": ref.uri, "sha256": sha256, "size_bytes": ref.size}
            identity = image_id(sha256, ref.root, ref.file_name)
            rows.append(picture(ref.file_name, root=ref.root, image_id=identity, **own, **copy))
    bad = [row for row in rows if row["file_name"] in failed]
    shard = tables(*(row for row in rows if row not in bad))
    failures = [{name: row[name] for name in ("item_key", "root", "file_name", "source_uri")} for row in bad]
    failures = [row | {"step": "decode", "error": "truncated", "attempts": 1} for row in failures]
    shard = replace(shard, failures=pa.Table.from_pylist(failures, schema=schema("failures", ())))
    roots = [asdict(root) for root in plan.roots]
    commit(home.path, shard, roots=roots, supersedes=list(plan.supersedes), **told)  # type: ignore[arg-type]
    manifest = Dataset(home.path).manifests[-1]
    home.add(manifest)
    return manifest


def done(home: Dataset, *inputs: Path, **options: Any) -> list[Plan]:
    """Plan and commit until nothing is left; what was learnt is kept."""
    mine = planner(home, *inputs, **options)
    plans: list[Plan] = []
    while (plan := mine.next(len(home.manifests) + 1)) is not None:
        plans.append(plan)
        mine.add(commit_plan(home, plan))
    mine.save()
    return plans


def names(plans: Sequence[Plan]) -> list[list[str]]:
    """Return the names of what plans cover."""
    return [[ref.file_name for item in plan.items for ref in item.refs()] for plan in plans]


def test_only_what_is_new_is_planned(home: Dataset, tmp_path: Path) -> None:
    """New and changed files; what changed takes its old rows back; what is kept of the first run is enough for that."""
    folder = write(tmp_path / "in", a=b"1", b=b"22", c=b"333")
    assert names(done(home, folder)) == [["a.jpg", "b.jpg", "c.jpg"]] and done(Dataset(home.path), folder) == []
    write(folder, b=b"2222", d=b"55555")
    before = Dataset(home.path).scan("images").filter(file_name="b.jpg").collect()["item_key"]
    for path in (home.path / "images").glob("*"):
        path.rename(path.with_suffix(".away"))
    with pytest.raises(FileNotFoundError):
        Dataset(home.path).scan("images").collect()
    plan = planner(Dataset(home.path), folder, duplicates="keep")
    listed = [one.ref.file_name for group in plan.candidates for one in group]
    assert listed == ["b.jpg", "d.jpg"]
    for path in (home.path / "images").glob("*"):
        path.rename(path.with_suffix(".parquet"))
    [second] = done(Dataset(home.path), folder)
    assert names([second]) == [["b.jpg", "d.jpg"]] and list(second.supersedes) == before.to_list()


def test_a_commit_counts_within_a_chunk(home: Dataset, tmp_path: Path) -> None:
    """A copy whose picture has changed under it is planned in the same run, in the epoch after that."""
    folder = write(tmp_path / "in", a=b"11", b=b"11")
    done(home, folder)
    write(folder, a=b"222")
    for path in (home.path / "images").glob("*"):
        rows = pq.read_table(str(path))
        column = rows.column_names.index("source_uri")
        pq.write_table(rows.set_column(column, "source_uri", [["elsewhere.jpg"] * rows.num_rows]), str(path))
    assert names(done(Dataset(home.path), folder, epoch_items=1)) == [["a.jpg"], ["b.jpg"]]


def test_copies_of_what_changed_are_planned_with_it(home: Dataset, tmp_path: Path) -> None:
    """One of them stands now; a copy of other bytes is left alone."""
    folder = write(tmp_path / "in", a=b"11", b=b"11", c=b"333", d=b"333")
    done(home, folder)
    write(folder, a=b"222")
    [plan] = done(Dataset(home.path), folder)
    assert names([plan]) == [["a.jpg", "b.jpg"]] and len(plan.supersedes) == 2
    assert done(Dataset(home.path), folder) == []


def test_a_copy_of_what_is_committed_is_known_by_size_and_content(home: Dataset, tmp_path: Path) -> None:
    """The first in order stands for it, from the index as from the shards."""
    folder = write(tmp_path / "in", a=b"11", b=b"22")
    done(home, folder)
    write(folder, c=b"22", d=b"33", e=b"4444")
    [plan] = done(Dataset(home.path), folder)
    stands = {item.ref.file_name: item.stands.image_id if item.stands else None for item in plan.items}
    assert stands == {"c.jpg": image_id(hashlib.sha256(b"22").hexdigest(), 0, "b.jpg"), "d.jpg": None, "e.jpg": None}
    assert [bool(item.sha256) for item in plan.items] == [True, True, False]


def test_a_failed_file_is_tried_again_on_demand(home: Dataset, tmp_path: Path) -> None:
    """With its attempts counted; else it is left as long as it does not change."""
    folder = write(tmp_path / "in", a=b"1", b=b"22")
    mine = planner(home, folder)
    plan = mine.next(1)
    assert plan is not None
    mine.add(commit_plan(home, plan, failed=["b.jpg"]))
    mine.save()
    assert done(Dataset(home.path), folder) == []
    again = Planner(
        Dataset(home.path), list_inputs([str(folder)], None).files, CONFIGURATION, epoch_items=9, retry_failed=True
    ).next(2)
    assert again is not None and [(item.ref.file_name, item.ref.attempts) for item in again.items] == [("b.jpg", 1)]


def test_what_fails_again_is_not_tried_twice_in_a_run(home: Dataset, tmp_path: Path) -> None:
    """Though many files are looked up at once, and after each commit again."""
    folder = write(tmp_path / "in", a=b"1", b=b"22")
    plans = []
    for retry_failed in (False, True):
        files = list_inputs([str(folder)], None).files
        mine = Planner(home, files, CONFIGURATION, epoch_items=1, retry_failed=retry_failed)
        for _ in range(4):
            if (plan := mine.next(len(home.manifests) + 1)) is not None:
                plans.append(plan)
                mine.add(commit_plan(home, plan, failed=["a.jpg", "b.jpg"]))
    assert names(plans) == [["a.jpg"], ["b.jpg"]] * 2


def test_an_etag_decides_where_there_is_one(home: Dataset) -> None:
    """Another time is no other content, another etag is; the plan carries it."""

    def listed(mtime_ns: int, etag: str) -> Planner:
        files = [InputFile(0, "in", "in/a.jpg", "a.jpg", -1, mtime_ns, etag)]
        return Planner(Dataset(home.path), files, CONFIGURATION, epoch_items=9, retry_failed=False)

    plan = listed(1, "x").next(1)
    assert plan is not None and plan.items[0].ref.etag == "x" and Plan.of(json.loads(plan.to_json())) == plan
    key = plan.items[0].ref.key
    commit(home.path, tables(picture("a.jpg", item_key=key)), roots=[asdict(plan.roots[0])])  # type: ignore[arg-type]
    assert listed(2, "x").next(2) is None
    changed = listed(1, "y").next(2)
    assert changed is not None and changed.supersedes == (key,)


def missing(home: Dataset, *inputs: Path, whole: Sequence[Path] | None = None, **options: Any) -> list[str] | None:
    """Return what a planner that did all there is tells to be missing."""
    files = list_inputs([str(each) for each in inputs], exclude=str(home.path)).files
    roots = [str(each) for each in (inputs if whole is None else whole)]
    mine = Planner(
        Dataset(home.path), files, CONFIGURATION, epoch_items=100, retry_failed=False, whole=roots, **options
    )
    while mine.next(99) is not None:
        pass
    found = mine.missing()
    return None if found is None else [f"{row['root']}:{row['file_name']}" for row in found.to_dicts()]


def test_a_deleted_file_is_missing(home: Dataset, tmp_path: Path) -> None:
    """Where its folder was listed whole and to its end; and as long as its rows stand."""
    folder = write(tmp_path / "in", a=b"1", b=b"22", c=b"333")
    write(folder / "s", d=b"4444")
    done(home, folder)
    assert missing(home, folder) == []
    (folder / "b.jpg").unlink()
    (folder / "s" / "d.jpg").unlink()
    assert missing(home, folder) == missing(home, folder) == ["0:b.jpg", "0:s/d.jpg"]
    assert missing(home, folder / "s", whole=[folder / "s"]) == ["0:s/d.jpg"]
    assert missing(home, folder / "a.jpg", whole=[]) == []
    write(folder, e=b"55555", f=b"666666")
    assert missing(home, folder, limit=1) is None and missing(home, folder) == ["0:b.jpg", "0:s/d.jpg"]


def test_what_moved_or_changed_is_not_missing(home: Dataset, tmp_path: Path) -> None:
    """A file counts where it was: under a root around, in one named before, after the whole was moved."""
    folder = write(tmp_path / "in", a=b"1")
    write(folder / "s", d=b"4444", e=b"55555")
    done(home, folder / "s")
    done(Dataset(home.path), folder)
    write(folder, a=b"11")
    assert missing(home, folder) == [] == missing(home, folder / "s")
    (folder / "s" / "d.jpg").unlink()
    assert missing(home, folder) == ["0:d.jpg"] == missing(home, folder / "s")
    moved = tmp_path / "moved"
    moved.mkdir()
    folder.rename(moved / "in")
    home.path.rename(moved / "out")  # type: ignore[arg-type]
    here = Dataset(moved / "out")
    assert planner(here, moved / "in" / "s").next(9) is None
    assert missing(here, moved / "in" / "s") == ["0:d.jpg"]


def test_what_a_listing_passes_over_is_not_missing(home: Dataset, tmp_path: Path) -> None:
    """A hidden file that was named itself is there, whether its folder's listing tells of it or not."""
    folder = write(tmp_path / "in", a=b"1")
    (folder / ".b.jpg").write_bytes(b"22")
    done(home, folder, folder / ".b.jpg")
    assert names([plan for plan in [planner(Dataset(home.path), folder).next(2)] if plan]) == []
    assert Dataset(home.path).scan("images").collect().height == 2 and missing(home, folder) == []


def test_a_closed_folder_is_not_deleted(home: Dataset, tmp_path: Path) -> None:
    """Nothing below what could not be opened is told to be missing; what only begins like it is."""
    folder = write(tmp_path / "in", a=b"1")
    write(folder / "s", b=b"22")
    write(folder / "s2", c=b"333")
    done(home, folder)
    closed = InputFile(0, str(folder), f"{folder}/s", "s", UNREADABLE, None)
    found = {}
    for name in ("s", "."):
        files = [closed._replace(file_name=name)]
        mine = Planner(Dataset(home.path), files, CONFIGURATION, epoch_items=9, retry_failed=False, whole=[str(folder)])
        assert mine.missing() is None and mine.next(2) is not None and mine.next(3) is None
        told = mine.missing()
        assert told is not None
        found[name] = told["file_name"].to_list()
    assert found == {"s": ["a.jpg", "s2/c.jpg"], ".": []}


def test_a_plan_holds_as_long_as_its_files_do(home: Dataset, tmp_path: Path) -> None:
    """Size, time and etag; what is not there may be planned, and must stay away."""
    folder = write(tmp_path / "in", a=b"1", b=b"22")
    (folder / "gone.jpg").symlink_to("nowhere")
    plan = planner(home, folder).next(1)
    assert plan is not None and planning.still_holds(plan)
    other = replace(plan.items[0], ref=replace(plan.items[0].ref, etag="x"))
    assert not planning.still_holds(replace(plan, items=(other,)))
    os.utime(folder / "b.jpg", ns=(1, 1))
    assert not planning.still_holds(plan)
