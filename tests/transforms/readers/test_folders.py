"""Folders that are named by labels label the pictures in them."""

from pathlib import Path

import pytest

from schemas.raw import Source
from tests.transforms.readers.given import put, source_of
from tests.transforms.readers.reading import read, said
from transforms.readers import folders


def test_the_nearest_folder_is_the_label(tmp_path: Path) -> None:
    """Splits are none; where no other folder is left, the picture is there without a label."""
    names = ("happy/a.jpg", "train/sad/b.jpg", "Test/x/ fear /c.jpg", "happy/val/d.jpg", "test/e.jpg", "f.jpg")
    given = Source("folders", "in", "in", names, names)
    rows, facts = read(given, tmp_path)
    assert said(rows, "is_label", "attributes") == [
        ("happy/a.jpg", "happy", *[None] * 4, True, None),
        ("train/sad/b.jpg", "sad", *[None] * 4, True, '{"split":"train"}'),
        ("Test/x/ fear /c.jpg", " fear ", *[None] * 4, True, '{"split":"Test"}'),
        ("happy/val/d.jpg", "happy", *[None] * 4, True, '{"split":"val"}'),
        ("test/e.jpg", None, *[None] * 4, False, '{"split":"test"}'),
        ("f.jpg", None, *[None] * 4, False, None),
    ]
    assert rows["file"].to_list() == rows["picture"].to_list()
    assert facts.categories == (" fear ", "happy", "sad")


def test_pictures_are_not_opened(tmp_path: Path) -> None:
    """Names are enough."""
    rows, facts = read(source_of("folders", put(tmp_path / "in", happy__a_jpg=b"no picture")), tmp_path)
    assert rows["picture"].to_list() == ["happy/a.jpg"]
    assert facts.failures == []


def test_real_pictures(shared: Path, tmp_path: Path) -> None:
    """Each gets the folder that it lies in."""
    folder = shared / "data" / "images"
    rows, facts = read(source_of("folders", folder), tmp_path)
    expected = [path.parent.name for path in sorted(folder.glob("**/*")) if path.is_file()]
    assert rows["label"].to_list() == expected
    assert facts.categories == tuple(sorted(set(expected)))


@pytest.mark.parametrize(
    ("head", "name", "is_one"),
    [
        (b"\xff\xd8\xff\xe0", "happy/a.txt", True),
        (b"\x89PNG\r\n\x1a\n", "happy/a", True),
        (b"\x1a\x45\xdf\xa3", "happy/a.mkv", True),
        (b"\xff\xd8\xff\xe0", "a.jpg", False),  # in no folder
        (b"happy", "happy/a.jpg", False),
        (b"<svg>", "happy/a.svg", False),
        (b"%PDF-", "happy/a.pdf", False),
        (b"", "happy/a.jpg", False),
    ],
)
def test_pictures_are_told_by_their_content(head: bytes, name: str, is_one: bool) -> None:
    """And they must lie in a folder."""
    assert folders.is_one(head, name) == is_one
