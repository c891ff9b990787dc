"""Plans: what is new is planned once, copies ride along, roots are known by any name."""

import json
from pathlib import Path

import pytest

from pipelines.dataset import Dataset
from pipelines.flow import CPU_BATCHES, batches
from pipelines.planning import Plan, Planner
from pipelines.roots import Roots
from transforms.source import list_inputs

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
