"""What is committed is known the same however it was learnt: by commits, from the shards, from what was kept."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from pipelines import committed as job
from pipelines import contents
from pipelines.committed import ORPHAN, UNFINISHED, Committed, Records, hex_of, keys_of, names_of
from pipelines.dataset import Dataset
from pipelines.folding import fold
from schemas.errors import RunError
from schemas.layout import CONTENTS, NAMES
from schemas.records import Standing, image_id, item_key
from schemas.tables import Tables, schema
from tests.builders import picture, tables
from tests.pipelines.holding import commit

NAMES_OF_FILES = ("a.jpg", "b.jpg", "s/c.jpg", "d é.jpg")


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let even a small data set have its contents kept."""
    monkeypatch.setattr(contents, "BEHIND_ITEMS", -1)
    monkeypatch.setattr(contents, "BEHIND_PART", 10**9)
    monkeypatch.setattr(contents, "_GROUP_ROWS", 2)


def shown(name: str, content: int = 0, of: str | None = None, **others: Any) -> dict[str, Any]:
    """Return a picture of one of few contents; `of` names the one of which it is a copy."""
    sha256 = f"{content:064x}"
    copy = {"outcome": "duplicate", "duplicate_of": image_id(sha256, 0, of)} if of else {}
    told = {"sha256": sha256, "size_bytes": 1000 + content // 2, "item_key": item_key(0, name, content, "1")}
    return picture(name, **{"image_id": image_id(sha256, 0, name)} | told | copy | others)


def with_failures(given: Tables, *failed: tuple[str, int]) -> Tables:
    """Return the tables with failed files: their names and contents; the attempts are one more than these."""
    told = {"root": 0, "step": "decode"}
    rows = [
        {"item_key": item_key(0, name, content, "1"), "file_name": name, "attempts": content + 1} | told
        for name, content in failed
    ]
    return replace(given, failures=pa.Table.from_pylist(rows, schema=schema("failures", ())))


class Scanned:
    """What is committed as a scan of every shard tells it."""

    def __init__(self, dataset: Dataset) -> None:
        images, failures = dataset.scan("images").collect(), dataset.scan("failures").collect()
        known = [*failures.iter_rows(named=True), *images.iter_rows(named=True)]
        self.keys = {(row["root"], row["file_name"]): row["item_key"] for row in known}
        self.attempts = dict(failures.select("item_key", "attempts").iter_rows())
        stands = {row["video_id"] or row["image_id"] for row in images.iter_rows(named=True)}
        copies = images.filter(pl.col("duplicate_of").is_not_null()).select("item_key", "duplicate_of").iter_rows()
        self.orphans = {key for key, of in copies if of not in stands}
        self.sizes: set[int] = set()
        self.standing: dict[str, Standing] = {}
        for row in images.filter(pl.col("outcome") != "duplicate").iter_rows(named=True):
            stand = Standing(row["video_id"] or row["image_id"], row["width"], row["height"])
            self.standing.setdefault(row["sha256"], stand)
            self.sizes.add(row["size_bytes"])


def require_same(found: Committed, dataset: Dataset) -> None:
    """Compare all that can be asked."""
    wanted = Scanned(dataset)
    assert {name: found.key_of(*name) for name in wanted.keys} == wanted.keys
    assert len(found.records) == len(wanted.keys) and found.key_of(0, "never") is None
    assert {key: found.attempts(key) for key in wanted.keys.values()} == {
        key: wanted.attempts.get(key, 0) for key in wanted.keys.values()
    }
    every = found.records
    assert set(every.keys(np.flatnonzero(every.flags & ORPHAN))) == wanted.orphans
    assert found.contents_of([*range(990, 1010), 0, -1]) == (wanted.sizes, wanted.standing)
    unfinished = set(every.keys(np.flatnonzero(every.flags & UNFINISHED)))
    assert unfinished == set(found.unfinished) & set(wanted.keys.values())


@st.composite
def epochs(draw: st.DrawFn) -> list[dict[str, tuple[str, int]]]:
    """What a few epochs do with files: label them with a content, as a copy, as a part of a video, fail, take back."""
    what = st.tuples(st.sampled_from(["label", "label", "copy", "video", "fail", "gone"]), st.integers(0, 3))
    return draw(st.lists(st.dictionaries(st.sampled_from(NAMES_OF_FILES), what, min_size=1), min_size=1, max_size=5))


def do(out: Path, epoch: dict[str, tuple[str, int]]) -> None:
    """Commit an epoch as a planner would: what a file had before is taken back."""
    before = Scanned(Dataset(out)) if (out / "_manifests").exists() else None
    supersedes, rows, failed, unfinished = set(), [], [], {}
    standing = dict(before.standing) if before else {}
    for name, (kind, content) in epoch.items():
        old = before.keys.get((0, name)) if before else None
        key = item_key(0, name, content, "1")
        if old and not (kind == "video" and old == key):
            supersedes.add(old)
        if kind == "fail":
            failed.append((name, content))
        elif kind == "copy" and f"{content:064x}" in standing:
            rows.append(shown(name, content, outcome="duplicate", duplicate_of=standing[f"{content:064x}"].image_id))
        elif kind == "video":
            whole, frame = image_id(f"{content:064x}", 0, name), len(list((out / "_manifests").glob("*")))
            rows.append(shown(name, content, video_id=whole, image_id=image_id("", 0, name, frame), frame_index=frame))
            unfinished[key] = None if content == 3 else frame
        elif kind != "gone":
            rows.append(shown(name, content))
    made = with_failures(tables(*rows), *failed)
    commit(out, made, supersedes=sorted(supersedes), unfinished=unfinished, roots=[])


@pytest.mark.usefixtures("eager")
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example([{"a.jpg": ("label", 1)}, {"a.jpg": ("gone", 1), "b.jpg": ("label", 2)}], 0, 9)
@example([{"a.jpg": ("fail", 1)}, {"a.jpg": ("video", 1)}, {"a.jpg": ("label", 1)}], 0, 1)
@example([{"a.jpg": ("label", 1)}, {"b.jpg": ("copy", 1)}, {"b.jpg": ("video", 1)}, {"a.jpg": ("gone", 0)}], 9, 9)
@example([{"a.jpg": ("label", 1), "b.jpg": ("label", 2)}, {"s/c.jpg": ("label", 3)}, {"a.jpg": ("gone", 0)}], 9, 0)
@example([{"a.jpg": ("label", 0), "b.jpg": ("label", 0), "s/c.jpg": ("label", 1)}, {"d é.jpg": ("label", 1)}], 1, 0)
@example(
    [
        {"a.jpg": ("label", 0)},
        {"a.jpg": ("label", 1)},
        {"a.jpg": ("fail", 0), "b.jpg": ("copy", 1)},
        {"a.jpg": ("label", 1)},
    ],
    0,
    0,
)
@given(plan=epochs(), kept_after=st.integers(0, 5), again_after=st.integers(0, 5))
def test_all_ways_of_learning_agree(plan: list[dict[str, tuple[str, int]]], kept_after: int, again_after: int) -> None:
    """Commit by commit, from the shards at once, from what was kept at any time: as a scan of every shard tells."""
    with TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        do(out, plan[0])
        live = Committed(Dataset(out), keep_contents=True)
        for number, epoch in enumerate(plan):
            if number:
                do(out, epoch)
                manifest = Dataset(out).manifests[-1]
                live.dataset.add(manifest)
                live.add(manifest)
            require_same(live, Dataset(out))
            if number in (kept_after, again_after):
                Committed(Dataset(out), keep_contents=True).save()
                if number == again_after:
                    live.save()
        require_same(live, Dataset(out))
        require_same(Committed(Dataset(out), keep_contents=True), Dataset(out))


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A data set of three commits, of which a later one took something back."""
    out = tmp_path / "out"
    do(out, {"a.jpg": ("label", 1), "b.jpg": ("copy", 2), "s/c.jpg": ("fail", 0)})
    do(out, {"d é.jpg": ("copy", 1), "s/c.jpg": ("label", 3)})
    do(out, {"b.jpg": ("video", 0)})
    return out


def forget_shards(out: Path) -> None:
    """Make the shards unreadable."""
    for path in out.glob("*/*.parquet"):
        if path.parent.name != "_index":
            path.write_bytes(b"")


@pytest.mark.usefixtures("eager")
def test_what_is_kept_is_read_instead_of_the_shards(out: Path) -> None:
    """Names, and contents only when they are asked for; nothing is written where nothing was committed since."""
    first = Committed(Dataset(out), keep_contents=True)
    first.save()
    before = {path: path.stat().st_mtime_ns for path in (out / "_index").iterdir()}
    assert {path.relative_to(out).as_posix() for path in before} == {NAMES, CONTENTS}
    names = {name: first.key_of(0, name) for name in NAMES_OF_FILES}
    asked = first.contents_of(range(900, 1100))
    copies = first.copied(names.values())  # type: ignore[arg-type]
    forget_shards(out)
    second = Committed(Dataset(out), keep_contents=True)
    assert {name: second.key_of(0, name) for name in NAMES_OF_FILES} == names and None not in names.values()
    assert second.contents_of(range(900, 1100)) == asked and len(asked[1]) == 3
    assert second.copied(names.values()) == copies != {}  # type: ignore[arg-type]
    second.save()
    assert {path: path.stat().st_mtime_ns for path in (out / "_index").iterdir()} == before


def test_contents_are_not_touched_where_nothing_is_asked(out: Path) -> None:
    """No candidate, no question, no reading."""
    Committed(Dataset(out), keep_contents=True).save()
    forget_shards(out)
    found = Committed(Dataset(out), keep_contents=True)
    assert found.contents_of([]) == (set(), {}) and found.contents.recent is None
    assert Committed(Dataset(out), keep_contents=False).contents_of([1000]) == (set(), {})


def _folded(out: Path) -> None:
    dataset = Dataset(out)
    fold(dataset, dataset.manifests[:2], keep_s=0)


def _foreign(out: Path) -> None:
    other = out.with_name("other")
    do(other, {"x.jpg": ("label", 1), "a.jpg": ("label", 2)})
    Committed(Dataset(other), keep_contents=True).save()
    for path in (NAMES, CONTENTS):
        shutil.copy(other / path, out / path)


def _restored(out: Path) -> None:
    for path in [*out.glob("_manifests/*3.json"), *out.glob("*/00000003-*")]:
        path.unlink()
    do(out, {"b.jpg": ("label", 3), "a.jpg": ("label", 2)})


def _damaged(at: float) -> Callable[[Path], None]:
    def damage(out: Path) -> None:
        for path in (out / NAMES, out / CONTENTS):
            data = bytearray(path.read_bytes())
            data[int(at * len(data))] ^= 0x55
            path.write_bytes(data)

    return damage


def _cut(out: Path) -> None:
    for path in (out / NAMES, out / CONTENTS):
        path.write_bytes(path.read_bytes()[:-100])


def _emptied(out: Path) -> None:
    for path in (out / NAMES, out / CONTENTS):
        path.write_bytes(b"")


def _huge(out: Path) -> None:
    with (out / NAMES).open("r+b") as file:
        file.truncate(1 << 40)


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize(
    "spoil",
    [_folded, _foreign, _restored, _cut, _emptied, _huge, *(_damaged(at / 16) for at in range(16))],
)
def test_what_does_not_fit_is_not_used(out: Path, spoil: Callable[[Path], None]) -> None:
    """Folded commits, another data set's, one put back from a copy, damage anywhere: the shards are read."""
    Committed(Dataset(out), keep_contents=True).save()
    spoil(out)
    found = Committed(Dataset(out), keep_contents=True)
    require_same(found, Dataset(out))
    found.save()
    require_same(Committed(Dataset(out), keep_contents=True), Dataset(out))


@pytest.mark.usefixtures("eager")
def test_contents_that_change_under_a_reader_are_learnt_from_the_shards(out: Path) -> None:
    """A dry run reads while a run writes."""
    Committed(Dataset(out), keep_contents=True).save()
    reader = Committed(Dataset(out), keep_contents=True)
    wanted = reader.contents_of(range(900, 1100))
    do(out, {"a.jpg": ("label", 2)})
    Committed(Dataset(out), keep_contents=True).save()
    assert reader.contents_of(range(900, 1100)) == wanted


def test_few_commits_are_not_worth_a_file_of_contents(out: Path) -> None:
    """The shards behind it are read instead."""
    found = Committed(Dataset(out), keep_contents=True)
    found.save()
    assert (out / NAMES).exists() and not (out / CONTENTS).exists()
    require_same(Committed(Dataset(out), keep_contents=True), Dataset(out))


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), unique=True),
    st.lists(st.tuples(*[st.integers(0, 3)] * 2)),
)
def test_names_are_told_apart_by_both_halves(known: list[tuple[int, int]], asked: list[tuple[int, int]]) -> None:
    """Records are found, by name and by key, whatever halves they share; merging and leaving out keep the rest."""

    def records(some: list[tuple[int, int]]) -> Records:
        halves = np.array(sorted(some), np.uint64).reshape(-1, 2).T
        roots = np.arange(len(some), dtype=np.int32)
        rest = (roots, np.zeros(len(some), np.uint16), np.zeros(len(some), np.uint8), np.zeros(len(some), np.bool_))
        return Records(halves[0], halves[1], halves[0], halves[1], *rest)

    def names(of: Records) -> list[tuple[int, int]]:
        return list(zip(of.name_a.tolist(), of.name_b.tolist(), strict=True))

    wanted = np.array(asked, np.uint64).reshape(-1, 2).T
    all_of_them = records(known[::2]).merged(records(known[1::2]))
    assert sorted(names(all_of_them)) == sorted(known)
    told = [names(all_of_them)[at] if at >= 0 else None for at in all_of_them.find(wanted)]
    assert told == [one if one in known else None for one in asked]
    at = all_of_them.with_keys(wanted)
    assert {names(all_of_them)[one] for one in at} == set(asked) & set(known)
    assert set(names(all_of_them.without(at))) == set(known) - set(asked)


def test_keys_survive_being_numbers() -> None:
    """Also where they begin with zeros; what is no key is told."""
    keys = [item_key(0, str(number), 1, "1") for number in range(100)] + ["0" * 31 + "1", "1" + "0" * 31]
    assert hex_of(keys_of(keys)) == keys
    for wrong in ("zz" * 16, "00", ""):
        with pytest.raises(RunError, match="item key"):
            keys_of([wrong])


def test_names_are_known_as_they_are_written() -> None:
    """A name that is no UTF-8 is written with escapes, and found by either."""
    odd = b"\xe9.jpg".decode("utf-8", "surrogateescape")
    names = names_of([0, 0, 1], [odd, "\\xe9.jpg", odd])
    assert (names[:, 0] == names[:, 1]).all() and (names[:, 0] != names[:, 2]).any()


@pytest.fixture
def portions(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let rows be learnt in the smallest portions."""
    monkeypatch.setattr(job, "_LEARN_ITEMS", 1)
    yield


@pytest.mark.usefixtures("portions")
def test_portions_make_no_difference(out: Path) -> None:
    """Many shards are learnt some at a time."""
    require_same(Committed(Dataset(out), keep_contents=True), Dataset(out))


def test_what_is_to_be_done_again_is_not_settled(out: Path) -> None:
    """A video of which frames are left; what failed, where it is tried again; a copy without its picture."""
    do(out, {"a.jpg": ("gone", 0), "new.jpg": ("fail", 1), "b.jpg": ("video", 0)})
    found = Committed(Dataset(out), keep_contents=False)
    names = ("b.jpg", "d é.jpg", "new.jpg", "s/c.jpg")
    at = found.records.find(names_of([0] * 4, names))
    assert found.is_settled(at, retry_failed=False).tolist() == [False, False, True, True]
    assert found.is_settled(at, retry_failed=True).tolist() == [False, False, False, True]
