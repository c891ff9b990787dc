"""Bytes in and out: limits, odd files, atomic and exclusive writes."""

# ruff: noqa: PTH208

import errno
import hashlib
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import ItemError, RunError
from transforms import storage
from transforms.storage import TEMP_PREFIX, create_exclusive, printable, read_bytes, sha256_of, write_atomic


def refused(uri: str, limit: int = 100) -> ItemError:
    with pytest.raises(ItemError) as caught:
        read_bytes(uri, limit)
    return caught.value


@pytest.mark.parametrize("size", [0, 1, 99, 100])
def test_a_file_up_to_the_limit_is_read_whole(tmp_path: Path, size: int) -> None:
    data = os.urandom(size)
    (tmp_path / "a").write_bytes(data)
    assert read_bytes(str(tmp_path / "a"), 100) == data
    assert sha256_of(str(tmp_path / "a")) == hashlib.sha256(data).hexdigest()


def test_a_file_over_the_limit_is_refused_with_the_option_that_helps(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(101))
    error = refused(str(tmp_path / "a"))
    assert error.error == "too_large"
    assert "--max-bytes" in str(error)


def test_a_file_that_lies_about_its_size_is_still_limited() -> None:
    """Files of /proc say 0 bytes and hold more."""
    if not Path("/proc/self/maps").exists():
        pytest.skip("no /proc here")
    assert len(read_bytes("/proc/self/status", 1 << 20)) > 0
    assert refused("/proc/self/maps", 10).error == "too_large"


def test_a_pipe_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    error = refused(str(tmp_path / "pipe"))
    assert error.error == "unreadable"
    assert "a pipe" in str(error)


def test_folders_devices_and_sockets_are_no_files(tmp_path: Path) -> None:
    assert refused(str(tmp_path)).error == "unreadable"
    assert refused("/dev/zero").error == "unreadable"
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(tmp_path / "s"))
    assert refused(str(tmp_path / "s")).error == "unreadable"
    server.close()


def test_what_is_missing_is_not_found(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("nowhere")
    (tmp_path / "file").touch()
    for name in ("missing", "file/below", "a\0b"):
        assert refused(str(tmp_path / name)).error == "not_found"
    assert "points at nothing" in str(refused(str(tmp_path / "link")))


def test_names_that_are_not_utf8_work_and_can_be_printed(tmp_path: Path) -> None:
    name = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.jpg")
    write_atomic(name, b"x")
    assert read_bytes(name, 1) == b"x"
    assert create_exclusive(name, b"y") is False
    assert sorted(os.listdir(tmp_path)) == ["caf\udce9.jpg"]
    str(refused(name, 0)).encode("utf-8")
    assert printable("caf\udce9") == "caf\\xe9"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_closed_file_is_unreadable(tmp_path: Path) -> None:
    (tmp_path / "a").touch(mode=0)
    assert refused(str(tmp_path / "a")).error == "unreadable"


def test_writing_replaces_and_leaves_nothing_beside(tmp_path: Path) -> None:
    path = str(tmp_path / "new" / "folder" / "a")
    write_atomic(path, b"one")
    write_atomic(path, b"two")
    assert read_bytes(path, 10) == b"two"
    assert os.listdir(tmp_path / "new" / "folder") == ["a"]


def test_a_written_file_is_as_open_to_others_as_the_umask_says(tmp_path: Path) -> None:
    (tmp_path / "ordinary").touch()
    write_atomic(str(tmp_path / "a"), b"")
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "ordinary").stat().st_mode


def test_only_the_first_commit_of_a_name_is_taken(tmp_path: Path) -> None:
    path = str(tmp_path / "a")
    assert create_exclusive(path, b"one") is True
    assert create_exclusive(path, b"two") is False
    assert read_bytes(path, 10) == b"one"
    assert os.listdir(tmp_path) == ["a"]


def test_of_many_committers_one_wins_and_its_bytes_stand(tmp_path: Path) -> None:
    path = str(tmp_path / "a")
    won: list[int] = []
    threads = [
        threading.Thread(target=lambda i=i: won.append(i) if create_exclusive(path, b"%d" % i) else None)
        for i in range(16)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert read_bytes(path, 10) == b"%d" % won[0]


def test_a_killed_writer_leaves_the_old_bytes(tmp_path: Path) -> None:
    """The process ends between the temporary file and its name; what it left is not listed."""
    path = str(tmp_path / "a")
    write_atomic(path, b"old")
    code = "import os, sys; from transforms import storage; storage.os.replace = lambda *_: os._exit(9)\n"
    code += "storage.write_atomic(sys.argv[1], b'new')"
    root = Path(__file__).resolve().parents[2]
    assert subprocess.run([sys.executable, "-c", code, path], cwd=root, check=False).returncode == 9
    assert read_bytes(path, 10) == b"old"
    left, name = sorted(os.listdir(tmp_path))
    assert left.startswith(TEMP_PREFIX) and name == "a"


@pytest.mark.parametrize(
    ("code", "advice"),
    [(errno.ENOSPC, "disk is full"), (errno.EACCES, "permission denied"), (errno.EROFS, "read-only")],
)
@pytest.mark.parametrize("write", [write_atomic, create_exclusive])
def test_a_write_that_fails_says_what_why_and_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: object, code: int, advice: str
) -> None:
    def fail(_fd: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(storage.os, "fsync", fail)
    with pytest.raises(RunError) as caught:
        write(str(tmp_path / "a"), b"x")  # type: ignore[operator]
    assert str(tmp_path / "a") in str(caught.value)
    assert advice in str(caught.value)
    assert "unharmed" in str(caught.value)
    assert os.listdir(tmp_path) == []


def test_a_file_where_a_folder_should_be_is_explained(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match="Cannot write"):
        write_atomic(str(tmp_path / "file" / "a"), b"")


def test_a_file_system_without_hard_links_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_src: str, _dst: str) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(storage.os, "link", fail)
    with pytest.raises(RunError, match="no hard links"):
        create_exclusive(str(tmp_path / "a"), b"")
    assert os.listdir(tmp_path) == []


def test_a_link_whose_answer_was_lost_counts_as_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.link

    def twice(src: str, dst: str) -> None:
        real(src, dst)
        real(src, dst)

    monkeypatch.setattr(storage.os, "link", twice)
    assert create_exclusive(str(tmp_path / "a"), b"x") is True


@given(st.binary(max_size=300), st.integers(0, 300))
def test_a_file_comes_back_whole_or_not_at_all(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, limit: int
) -> None:
    path = str(tmp_path_factory.getbasetemp() / "property")
    write_atomic(path, data)
    if len(data) > limit:
        assert refused(path, limit).error == "too_large"
    else:
        assert read_bytes(path, limit) == data
