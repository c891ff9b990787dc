"""A folder of an export is there whole or not at all, and never takes the place of anything else."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from schemas.errors import RunError, UsageError
from transforms.folders import MARK, building
from transforms.storage import TEMP_PREFIX


def make(path: Path, *names: str, kind: str = "yolo") -> None:
    """Make an export of some files."""
    with building(str(path), kind=kind) as folder:
        for name in names:
            folder.write(name, name.encode())


def names(path: Path) -> list[str]:
    """Return the files in a folder, the mark left out."""
    return sorted(p.relative_to(path).as_posix() for p in path.rglob("*") if p.is_file() and p.name != MARK)


def beside(path: Path) -> list[str]:
    """Return what stands in a folder."""
    return sorted(p.name for p in path.iterdir())


def test_a_folder_appears_when_it_is_complete(tmp_path: Path) -> None:
    """Until then nothing has its name; nothing is left beside it."""
    with building(str(tmp_path / "new" / "out"), kind="yolo") as folder:
        folder.write("a/b/c.txt", b"1")
        assert not (tmp_path / "new" / "out").exists()
    assert names(tmp_path / "new" / "out") == ["a/b/c.txt"]
    assert beside(tmp_path / "new") == ["out"]


def test_an_error_leaves_what_was_there(tmp_path: Path) -> None:
    """The earlier export, and no rest of the new one."""
    make(tmp_path / "out", "old.txt")
    with pytest.raises(KeyError), building(str(tmp_path / "out"), kind="yolo") as folder:
        folder.write("new.txt", b"1")
        raise KeyError
    assert names(tmp_path / "out") == ["old.txt"]
    assert beside(tmp_path) == ["out"]


def test_a_killed_export_leaves_nothing_that_looks_complete(tmp_path: Path) -> None:
    """Only a folder whose name says that it may be deleted."""
    script = (
        "import os, signal, sys\n"
        "from transforms.folders import building\n"
        "with building(sys.argv[1], kind='yolo') as folder:\n"
        "    folder.write('a.txt', b'1')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    made = subprocess.run([sys.executable, "-c", script, str(tmp_path / "out")], check=False)
    assert made.returncode == -signal.SIGKILL
    [left] = beside(tmp_path)
    assert left.startswith(TEMP_PREFIX)


def test_an_earlier_export_is_replaced_whole(tmp_path: Path) -> None:
    """No file of it stays."""
    make(tmp_path / "out", "a.txt", "deep/b.txt")
    make(tmp_path / "out", "c.txt")
    assert names(tmp_path / "out") == ["c.txt"]
    assert beside(tmp_path) == ["out"]


def test_an_empty_folder_and_a_link_to_one_are_filled(tmp_path: Path) -> None:
    """The link stays a link."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    make(tmp_path / "link", "a.txt")
    assert (tmp_path / "link").is_symlink()
    assert names(tmp_path / "real") == ["a.txt"]


def test_what_no_export_wrote_is_never_lost(tmp_path: Path) -> None:
    """A folder of photos, and photos put into an export."""
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(b"1")
    with pytest.raises(UsageError, match=r"'a\.jpg', which no export wrote"):
        make(tmp_path / "photos", "b.txt")
    make(tmp_path / "out", "labels/a.txt")
    (tmp_path / "out" / "images").mkdir()
    with pytest.raises(UsageError, match="'images', which no export wrote"):
        make(tmp_path / "out", "labels/b.txt")
    assert names(tmp_path / "photos") == ["a.jpg"]
    assert names(tmp_path / "out") == ["labels/a.txt"]


def test_another_kind_of_export_is_not_replaced(tmp_path: Path) -> None:
    """Nor a file."""
    make(tmp_path / "out", "a.txt", kind="coco train")
    with pytest.raises(UsageError, match=r"another export \(coco train\)"):
        make(tmp_path / "out", "a.txt", kind="coco val")
    (tmp_path / "file").write_bytes(b"1")
    with pytest.raises(UsageError, match="expected a folder, found a file"):
        make(tmp_path / "file", "a.txt")


@pytest.mark.parametrize("mark", [b"", b"[]", b"{}", b'{"holds": 3, "kind": "yolo"}', b"[" * 60_000, b"\xff"])
def test_a_mark_that_says_nothing_is_none(tmp_path: Path, mark: bytes) -> None:
    """Whatever is in it."""
    (tmp_path / MARK).write_bytes(mark)
    (tmp_path / "a.txt").write_bytes(b"1")
    with pytest.raises(UsageError, match="which no export wrote"):
        make(tmp_path, "b.txt")


@pytest.mark.parametrize("name", ["../a", "/a", "a/../../b", "a//b", "", ".", "a\\b", "a\0b"])
def test_a_name_that_leads_out_is_refused(tmp_path: Path, name: str) -> None:
    """The last guard: names are made plain before."""
    with pytest.raises(RunError, match="no name within a folder"):
        make(tmp_path / "out", name)
    assert beside(tmp_path) == []


def test_no_file_is_written_twice(tmp_path: Path) -> None:
    """Labels of one picture in place of another's would be worse than no export."""
    with pytest.raises(RunError, match=r"two pictures would have the one file a\.txt"):
        make(tmp_path / "out", "a.txt", "a.txt")


def test_what_cannot_be_written_is_told_in_one_line(tmp_path: Path) -> None:
    """A part of the path is a file."""
    (tmp_path / "file").write_bytes(b"1")
    with pytest.raises(RunError, match=r"^Cannot write .*file/out.*$"):
        make(tmp_path / "file" / "out", "a.txt")


def test_the_mark_tells_what_was_written(tmp_path: Path) -> None:
    """At the top only: a million names would be a file of their own."""
    make(tmp_path / "out", "labels/a.txt", "labels/b.txt", "data.yaml")
    assert json.loads((tmp_path / "out" / MARK).read_bytes()) == {"kind": "yolo", "holds": ["data.yaml", "labels"]}
