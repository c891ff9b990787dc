"""A name means the file that it fits best; where two fit alike it means none."""

import pytest

from transforms.resolve import Files, unify

FILES = Files(
    ["a.jpg", "train/1.jpg", "val/1.jpg", "x/b.png", "x/b.jpg", "deep/er/c.JPG", "sp ace.jpg", "img.2019.jpg"]
)


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ("a.jpg", 0),
        ("./a.jpg", 0),
        ("C:\\old\\place\\a.jpg", 0),  # another machine's path
        ("a", 0),
        ("A.JPG", 0),
        ("a.png", 0),  # converted since: the only one of its name
        ("train/1.jpg", 1),
        ("images/val/1.jpg", 2),
        ("b.png", 3),
        ("b.jpg", 4),
        ("er/c", 5),
        ("/data/deep/er/c.jpg", 5),
        ("sp%20ace.jpg", 6),  # as in the links of Label Studio
        ("img.2019", 7),
    ],
)
def test_a_name_means_the_file_that_fits(told: str, expected: int) -> None:
    """By folders from the end, the base name to the letter first."""
    assert FILES.find(told).file == expected


@pytest.mark.parametrize(
    ("told", "why"), [("1.jpg", "2 pictures fit"), ("b", "2 pictures fit"), ("z.jpg", "no picture")]
)
def test_what_fits_none_or_several_means_none(told: str, why: str) -> None:
    """A guess would put a label on another picture."""
    match = FILES.find(told)
    assert match.file is None
    assert why in match.why


def test_of_several_the_one_beside_the_labels_is_meant() -> None:
    """Two inputs may each have a picture of this name; a label file elsewhere means the one that it spells whole."""
    files = Files(["a.jpg", "x/a.jpg", "y/a.jpg"], [0, 1, 1])
    homes = ((0, ""), (1, "x"), (1, ""), (2, ""), None)
    assert [files.find("a.jpg", home).file for home in homes] == [0, 1, None, 0, 0]


def test_names_without_extension_are_those_with_one() -> None:
    """YOLO says `a`, VOC says `a.jpg`; two candidates, or another folder, leave it as it is."""
    assert unify(["a", "a.jpg", "b", "b.jpg", "b.png", "x/a", "v1.5"]) == {
        "a": "a.jpg",
        "a.jpg": "a.jpg",
        "b": "b",
        "b.jpg": "b.jpg",
        "b.png": "b.png",
        "x/a": "x/a",
        "v1.5": "v1.5",
    }
