"""Files are called by their pictures, whatever these are called, and no two alike."""

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.builders import Parts, picture, tables
from transforms.encoding import sized
from transforms.folders import Folder
from transforms.names import file_names, unique_names

ROOTS = {0: "in/monday", 1: "in/tuesday"}


def named(*pictures: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the stems and extensions of some pictures, which are in two parts."""
    parts = Parts(tables(*pictures[:1]), tables(*pictures[1:]))
    names = file_names(parts, ROOTS)
    frames = [names.of(sized(part.images)).select("stem", "picture") for part in parts]
    return [(stem, picture.removeprefix(stem)) for frame in frames for stem, picture in frame.iter_rows()]


def stems(*names: str) -> list[str]:
    """Return the stems of pictures of one root."""
    return [stem for stem, _ in named(*(picture(name) for name in names))]


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("a/b.jpg", "a/b"),  # what is plain stays plain
        ("ünï 开心/b c.JPG", "ünï 开心/b c"),
        ("../../etc/passwd", ".%2E/.%2E/etc/passwd"),
        ("/etc/passwd", "etc/passwd"),
        ("a/./b//c.png", "a/%2E/b/c"),
        ("a\\xff.jpg", "a%5Cxff"),  # bytes that are no UTF-8 are shown so
        ("C:\\x?.jpg", "C%3A%5Cx%3F"),
        ("line\nbreak\u2028.jpg", "line%0Abreak%2028"),  # one name a line in lists
        ("#1.jpg", "%231"),  # a comment in some lists
        (" a/b /.c", "%20a/b%20/.c"),  # Windows and lists drop blanks at the ends
        ("con/NUL.tar.gz", "con_/NUL_.tar"),  # Windows keeps them
        ("v1.0/a.b.jpeg", "v1.0/a.b"),
        ("noextension", "noextension"),
        (".jpg", ".jpg"),
        ("s3://bucket/a.jpg", "s3/bucket/a"),
    ],
)
def test_names_become_paths_that_any_file_system_takes(name: str, stem: str) -> None:
    """Below the folder they are put in, and still to be recognised."""
    assert stems(name) == [stem]


def test_frames_are_numbered_under_their_video() -> None:
    """As in COCO."""
    frame = picture("clips/v.mp4", video_id="v", frame_index=7)
    assert named(frame) == [("clips/v.mp4/000007", ".jpg")]


@pytest.mark.parametrize(
    "names",
    [
        ("a.jpg", "a.png"),  # the extension is dropped
        ("a.jpg", "A.JPEG"),  # the same on Windows and macOS
        ("\u00e9.jpg", "e\u0301.jpg"),  # the same on macOS
        ("a?.jpg", "a%3F.jpg"),  # the same when they are made plain
    ],
)
def test_names_that_would_be_one_file_all_get_an_id(names: tuple[str, str]) -> None:
    """Neither is taken for the other; one that stands alone is left alone."""
    rows = [picture(name) for name in (*names, "b.jpg")]
    told = [stem for stem, _ in named(*rows)]
    assert told[2] == "b"
    for stem, row in zip(told[:2], rows, strict=False):
        assert stem.endswith("-" + row["image_id"][:16])


def test_a_name_that_is_a_folder_to_another_gets_an_id() -> None:
    """A list of labels cannot be a folder too, nor can a picture."""
    told = named(picture("a.jpg"), picture("a.txt/b.jpg"), picture("c.jpg"), picture("c.JPG/d.jpg", root=1))
    assert [stem for stem, _ in told][1::2] == ["a.txt/b", "c.JPG/d"]
    assert told[0][0].startswith("a-")
    assert told[2][0].startswith("c-")


def test_a_picture_beside_a_folder_of_its_name_is_left_alone() -> None:
    """Its files have an end, the folder has none; so it is no different where the picture has none either."""
    assert stems("a.jpg", "a/b.jpg") == ["a", "a/b"]
    assert [stem[:2] for stem in stems("c", "d/b.jpg", "C/d.jpg")] == ["c-", "d/", "C/"]


def test_names_may_be_wanted_to_the_letter() -> None:
    """In records, which are no files; those that repeat get their root's name all the same."""
    rows = [picture("s3://b/a\\b"), picture("/a"), picture("a"), picture("a", root=1)]
    parts = Parts(tables(*rows))
    [part] = parts
    told = part.images.select(name=unique_names(parts, ROOTS, as_told=True))["name"].to_list()
    assert told == ["s3://b/a\\b", "/a", "monday/a", "tuesday/a"]


def test_same_named_pictures_get_their_roots_name() -> None:
    """As in COCO."""
    told = named(picture("a.jpg"), picture("a.jpg", root=1))
    assert [stem for stem, _ in told] == ["monday/a", "tuesday/a"]


@pytest.mark.parametrize("name", ["x" * 300 + ".jpg", "é" * 120 + ".jpg", "d/" * 600 + "a.jpg", "//"])
def test_names_too_long_for_a_file_system_become_ids(name: str) -> None:
    """Bytes count, not letters."""
    row = picture(name)
    assert named(row)[0][0] == row["image_id"][:16]


_piece = st.one_of(
    st.sampled_from(
        ["a", "A", "b.jpg", "a.txt", "a.xml", "a.png", "..", ".", "", "con", "é", "e\u0301", "x" * 240, "a "]
    ),
    st.text(st.sampled_from("aB.\\/:*?\0\n\x85\u2028 #=-%é开"), max_size=6),
)
_names = st.lists(st.lists(_piece, min_size=1, max_size=4).map("/".join), min_size=1, max_size=8, unique=True)


@settings(max_examples=60, deadline=None)
@given(_names, st.lists(st.integers(0, 1), min_size=8, max_size=8))
def test_every_file_is_made_below_the_folder_and_none_twice(names: Sequence[str], roots: Sequence[int]) -> None:
    """Labels and pictures of any names, written to a real file system."""
    rows = [picture(name, root=root) for name, root in zip(names, roots, strict=False)]
    with tempfile.TemporaryDirectory() as place:
        folder = Folder(place)
        for stem, extension in named(*rows):
            folder.write(f"labels/{stem}.txt", b"")
            folder.write(f"images/{stem}{extension}", b"")
        made = [path.relative_to(place) for path in _files(Path(place))]
    assert len(made) == 2 * len(rows)
    assert len({str(path).casefold() for path in made}) == len(made)
    assert all("\n" not in str(path) and "\\" not in str(path) for path in made)


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file())
