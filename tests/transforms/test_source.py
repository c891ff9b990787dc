"""What the user named, and which files that is."""

# ruff: noqa: PTH102, PTH116, PTH123, PTH211

import os
import subprocess
from pathlib import Path

import pytest

from schemas.errors import ItemError, UsageError
from transforms.source import UNREADABLE, InputFile, list_inputs
from transforms.storage import read_bytes


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def make(*names: str) -> None:
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(name.encode("utf-8", "surrogateescape"))


def files(*inputs: str, exclude: str | None = None) -> list[InputFile]:
    return list(list_inputs(inputs, exclude).files)


def names(*inputs: str, exclude: str | None = None) -> list[str]:
    return [file.file_name for file in files(*inputs, exclude=exclude)]


def skipped(*inputs: str) -> int:
    listing = list_inputs(inputs, None)
    list(listing.files)
    return listing.skipped


def test_a_folder_is_taken_whole_in_the_order_of_its_file_names(here: Path) -> None:
    """The order is that of the whole names' code points: "-" before "." before "/" before letters, capitals first."""
    make("d/b.jpg", "d/a/x.jpg", "d/a.jpg", "d/a-b/y.jpg", "d/Z.jpg", "d/é.jpg", "d/a/b/c.jpg", "d/10.jpg", "d/9.jpg")
    found = names("d")
    assert found == sorted(found)
    assert len(found) == 9
    assert found[:3] == ["10.jpg", "9.jpg", "Z.jpg"]


def test_a_file_is_known_by_size_time_and_the_name_the_user_gave(here: Path) -> None:
    make("d/a/x.jpg")
    [file] = files("./d/")
    status = os.stat("d/a/x.jpg")
    assert file == InputFile(0, "./d/", "./d/a/x.jpg", "a/x.jpg", status.st_size, status.st_mtime_ns)


@pytest.mark.parametrize("again", ["d", "./d", "d/", "d/../d", "{here}/d"])
def test_one_folder_by_several_names_is_one_root_and_listed_once(here: Path, again: str) -> None:
    make("d/x.jpg")
    listing = list_inputs(["d", again.format(here=here)], None)
    assert [file.root_index for file in listing.files] == [0]
    assert listing.roots == ["d"]


def test_overlapping_inputs_list_a_file_once_under_its_first_name(here: Path) -> None:
    make("d/a/x.jpg", "d/a/y.jpg", "d/z.jpg")
    assert names("d/a/y.jpg", "d") == ["y.jpg", "a/x.jpg", "z.jpg"]
    assert names("d/a", "d") == ["x.jpg", "y.jpg", "z.jpg"]
    assert names("d", "d/a", "d/a/x.jpg", "d/*/y.jpg", "d/z.jpg") == ["a/x.jpg", "a/y.jpg", "z.jpg"]
    assert names("d/**/*.jpg", "d/a/*") == ["a/x.jpg", "a/y.jpg", "z.jpg"]


def test_roots_are_numbered_as_they_are_first_named(here: Path) -> None:
    make("a/x.jpg", "b/x.jpg", "c/y.jpg")
    listing = list_inputs(["b", "a/*.jpg", "c/y.jpg", "a"], None)
    assert [(f.root_index, f.root, f.file_name) for f in listing.files] == [
        (0, "b", "x.jpg"),
        (1, "a", "x.jpg"),
        (2, "c", "y.jpg"),
    ]
    assert listing.roots == ["b", "a", "c"]


def test_hidden_files_and_plain_texts_of_folders_are_skipped_and_counted(here: Path) -> None:
    make(
        "d/x.jpg", "d/.hidden.jpg", "d/.git/a.jpg", "d/notes.TXT", "d/a.json", "d/Thumbs.db", "d/noextension", "d/x.svg"
    )
    assert names("d") == ["noextension", "x.jpg", "x.svg"]
    assert skipped("d") == 5
    assert skipped("d/*") == 5


def test_a_folder_with_a_text_extension_is_a_folder(here: Path) -> None:
    make("d/photos.csv/x.jpg")
    assert names("d") == ["photos.csv/x.jpg"]


def test_what_is_named_directly_is_an_item_whatever_it_is_called(here: Path) -> None:
    make(".hidden.jpg", "notes.txt", "d/.git/a.jpg", "d/b.txt")
    assert names(".hidden.jpg", "notes.txt", "d/.git") == [".hidden.jpg", "notes.txt", "a.jpg"]
    assert names("d", "d/b.txt") == ["b.txt"]


@pytest.mark.parametrize(
    ("glob", "expected"),
    [
        ("d/*.jpg", ["x.jpg"]),
        ("d/?.jpg", ["x.jpg"]),
        ("d/*/[xy].jpg", ["a/x.jpg", "a/y.jpg"]),
        ("d/**/x.jpg", ["a/b/x.jpg", "a/x.jpg", "x.jpg"]),
        ("d/**", ["a/b/x.jpg", "a/x.jpg", "a/y.jpg", "x.jpg"]),
        ("d/a*", ["a/b/x.jpg", "a/x.jpg", "a/y.jpg"]),  # a folder that matches is taken whole, as the shell does
        ("./d/*/b/*.jpg", ["a/b/x.jpg"]),
        ("d/**/b/**/*.jpg", ["a/b/x.jpg"]),
        ("d/.h*/x.jpg", [".h/x.jpg"]),  # the dot is written
        ("*/x.jpg", ["d/x.jpg"]),
    ],
)
def test_globs(here: Path, glob: str, expected: list[str]) -> None:
    make("d/x.jpg", "d/a/x.jpg", "d/a/y.jpg", "d/a/b/x.jpg", "d/.h/x.jpg")
    assert names(glob) == expected
    assert names(str(here / glob)) == expected


def test_the_root_of_a_glob_is_the_folder_before_the_first_wildcard(here: Path) -> None:
    make("d/a/x.jpg")
    assert [(f.root, f.uri, f.file_name) for f in files("d/a/*.jpg", "d/*/x.jpg")] == [("d/a", "d/a/x.jpg", "x.jpg")]


def test_a_file_whose_name_looks_like_a_glob_is_that_file(here: Path) -> None:
    make("d/x[1].jpg", "d/x1.jpg", "d/*.jpg")
    assert names("d/x[1].jpg", "d/*.jpg") == ["x[1].jpg", "*.jpg"]


def test_links_are_followed_and_loops_end(here: Path) -> None:
    make("d/a/x.jpg", "elsewhere/y.jpg")
    os.symlink("..", "d/a/loop")
    os.symlink(".", "d/self")
    os.symlink("../elsewhere", "d/other")
    os.symlink("../../elsewhere/y.jpg", "d/a/link.jpg")
    assert names("d") == ["a/link.jpg", "a/x.jpg", "other/y.jpg"]
    assert names("d/**/*.jpg") == ["a/link.jpg", "a/x.jpg", "other/y.jpg"]


def test_a_link_to_a_file_is_an_item_of_its_own(here: Path) -> None:
    make("d/x.jpg")
    os.symlink("x.jpg", "d/y.jpg")
    assert names("d", "d/y.jpg") == ["x.jpg", "y.jpg"]


def test_what_cannot_be_read_is_an_item_that_fails(here: Path) -> None:
    make("d/x.jpg")
    os.symlink("nowhere", "d/broken.jpg")
    os.symlink("circle", "d/circle")
    os.mkfifo("d/pipe")
    found = files("d", "d/broken.jpg")
    assert [(f.file_name, f.size == UNREADABLE) for f in found] == [
        ("broken.jpg", True),
        ("circle", True),
        ("pipe", True),
        ("x.jpg", False),
    ]
    for file in found[:3]:
        assert file.mtime_ns is None
        with pytest.raises(ItemError):
            read_bytes(file.uri, 100)


def test_a_closed_folder_is_an_item_that_fails(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make("d/closed/x.jpg", "d/y.jpg")
    real = os.scandir

    def scandir(path: str) -> object:
        if path.endswith("closed"):
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    assert [(f.file_name, f.uri, f.size) for f in files("d")] == [
        ("closed", "d/closed", UNREADABLE),
        ("y.jpg", "d/y.jpg", 7),
    ]
    with pytest.raises(UsageError, match="cannot be read: Permission denied"):
        files("d/closed")


def test_the_output_folder_is_never_read(here: Path) -> None:
    make("d/x.jpg", "d/out/y.jpg", "d/outer/z.jpg")
    os.symlink("out", "d/link")
    assert names("d", exclude="d/out") == ["outer/z.jpg", "x.jpg"]
    assert names("d/**/*.jpg", exclude=str(here / "d" / "out")) == ["outer/z.jpg", "x.jpg"]
    assert names("d", exclude="not/there/yet") != []
    for inside in ("d/out", "d/out/y.jpg", "d/out/*.jpg", "d/link"):
        with pytest.raises(UsageError, match="output folder"):
            files(inside, exclude="d/out")


def test_an_output_folder_made_while_listing_is_not_read_either(here: Path) -> None:
    make("d/a.jpg", "d/b/x.jpg")
    listing = list_inputs(["d"], "d/b/out")
    first = next(listing.files)
    make("d/b/out/shard.jpg")
    assert [first.file_name, *(f.file_name for f in listing.files)] == ["a.jpg", "b/x.jpg"]


@pytest.mark.parametrize("missing", ["nothing", "nothing/x.jpg", "d/*.png", "none/*.jpg", "", "@no.txt", "a\0b"])
def test_an_input_that_is_not_there_is_said_at_once(here: Path, missing: str) -> None:
    make("d/x.jpg")
    with pytest.raises(UsageError, match="No input found"):
        list_inputs(["d", missing], None)


def test_no_input_and_other_storage_are_explained(here: Path) -> None:
    with pytest.raises(UsageError, match="--input"):
        list_inputs([], None)
    for uri in ("http://host/a", "S3://bucket/*.jpg", "kafka://host/topic"):
        with pytest.raises(UsageError, match="not supported by this version, only s3://"):
            list_inputs([uri], None)
    Path("list.txt").write_text("http://bucket/a.jpg\n")
    with pytest.raises(UsageError, match="not supported"):
        list_inputs(["@list.txt"], None)


def test_a_list_holds_files_folders_and_globs(here: Path) -> None:
    """Windows line ends, a byte order mark, blank lines and trailing spaces are tolerated."""
    make("a/x.jpg", "b/y.jpg", "b/.h.jpg", "c/z.jpg", "e/k.jpg")
    text = f"a//x.jpg\r\n\r\nb\r\nc/*.jpg  \r\n{here}/e/k.jpg\r\n"
    Path("list.txt").write_bytes(b"\xef\xbb\xbf" + text.encode())
    listing = list_inputs(["@list.txt"], None)
    assert [(f.root, f.uri, f.file_name) for f in listing.files] == [
        (".", "a//x.jpg", "a/x.jpg"),
        ("b", "b/y.jpg", "y.jpg"),
        ("c", "c/z.jpg", "z.jpg"),
        (f"{here}/e", f"{here}/e/k.jpg", "k.jpg"),
    ]
    assert listing.skipped == 1


def test_relative_lines_are_looked_up_in_the_working_folder_then_beside_the_list(here: Path) -> None:
    make("lists/x.jpg", "lists/both.jpg", "both.jpg", "lists/sub/y.jpg", "lists/g/1.jpg")
    Path("lists/list.txt").write_text("x.jpg\nboth.jpg\nsub\ng/*.jpg\n")
    assert [(f.root, f.uri, f.file_name) for f in files("@lists/list.txt")] == [
        ("lists", "lists/x.jpg", "x.jpg"),
        (".", "both.jpg", "both.jpg"),
        ("lists/sub", "lists/sub/y.jpg", "y.jpg"),
        ("lists/g", "lists/g/1.jpg", "1.jpg"),
    ]


def test_a_line_that_names_nothing_is_an_item_that_fails(here: Path) -> None:
    make("x.jpg")
    Path("list.txt").write_bytes(b"gone.jpg\nx.jpg\n*.png\n/no/where.jpg\ncaf\xe9.jpg\n")
    found = files("@list.txt")
    assert [f.file_name for f in found if f.size == UNREADABLE] == [
        "gone.jpg",
        "*.png",
        "where.jpg",
        "caf\udce9.jpg",
    ]
    with pytest.raises(ItemError, match=r"gone\.jpg is not there"):
        read_bytes(found[0].uri, 10)


def test_a_list_that_is_no_text_is_an_error(here: Path) -> None:
    """A picture named as a list, by mistake, would otherwise be a thousand odd names."""
    Path("list.txt").write_bytes(b"x.jpg\na\0b\n")
    with pytest.raises(UsageError, match="not a text"):
        list_inputs(["@list.txt"], None)


def test_an_empty_list_is_an_error_and_a_piped_list_is_read(here: Path) -> None:
    make("x.jpg", "y.jpg")
    Path("list.txt").write_text("\n \n")
    with pytest.raises(UsageError, match="has no lines"):
        list_inputs(["@list.txt"], None)
    reader, writer = os.pipe()
    os.write(writer, b"y.jpg\nx.jpg\n")
    os.close(writer)
    assert names(f"@/dev/fd/{reader}") == ["y.jpg", "x.jpg"]


def test_names_that_are_not_utf8_are_listed(here: Path) -> None:
    make("d/a.jpg")
    with open(b"d/caf\xe9.jpg", "wb"):
        pass
    assert names("d") == ["a.jpg", "caf\udce9.jpg"]
    assert read_bytes(files("d")[1].uri, 1) == b""


def test_deep_folders_do_not_exhaust_the_stack(here: Path) -> None:
    folder = "d"
    os.mkdir(folder)
    for _ in range(1100):
        folder += "/e"
        os.mkdir(folder)
    with open(folder + "/x.jpg", "wb"):
        pass
    try:
        assert len(names("d")) == 1
    finally:  # pytest's own cleaning would exhaust it
        subprocess.run(["rm", "-rf", "d"], check=True)


def test_the_same_listing_comes_out_again(shared: Path) -> None:
    """The real data: every file but the hidden and the texts, in one order."""
    root = shared / "data"
    found = [f.file_name for f in list_inputs([str(root)], str(root / "annotations")).files]
    assert found == sorted(found)
    assert sum(name.startswith("broken/") for name in found) == 39
    assert not any(name.startswith("annotations/") for name in found)
