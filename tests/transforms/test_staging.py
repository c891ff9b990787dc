"""Rows of one picture come into one part, whatever file says them; what was put comes back."""

from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from transforms.staging import Staging, part_of, staged, stem

SHAPE = {"picture": pl.String(), "row": pl.Int64()}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("train/Photo 1.JPG", "photo 1"),
        ("photo 1", "photo 1"),  # YOLO names pictures by their stem
        ("a.b.png", "a.b"),
        ("img.2019", "img.2019"),  # digits are no extension
        ("img.2019.jpg", "img.2019"),
        ("C:\\data\\x.bmp", "x"),
        (".jpg", ".jpg"),  # nothing would be left
        ("e\u0301.png", "\u00e9"),  # two ways to write one letter
    ],
)
def test_names_of_one_picture_have_one_stem(name: str, expected: str) -> None:
    """Folders, case, extension and Unicode form do not count."""
    assert stem(name) == expected


@given(st.text(st.characters(exclude_characters="/\\.", exclude_categories=["Cs"]), min_size=1), st.integers(1, 64))
def test_a_picture_has_one_part(base: str, parts: int) -> None:
    """With a folder, with an extension, in capitals of it: it stays in its part, and the part exists."""
    part = part_of(base, parts)
    assert 0 <= part < parts
    assert part_of(f"folder/{base}", parts) == part_of(f"{base}.jpg", parts) == part_of(f"{base}.PNG", parts) == part


def test_the_cut_is_the_same_everywhere() -> None:
    """A number that is known in advance: plans of a killed run must mean the same parts in the next one."""
    assert [part_of(name, 97) for name in ("a.jpg", "b.jpg", "\u00e9.png")] == [80, 63, 13]


@pytest.mark.parametrize("parts", [1, 3])
def test_what_was_added_comes_back_in_order(tmp_path: Path, parts: int) -> None:
    """Each row once, those of a part in the order in which they came."""
    rows = [(f"{number % 7}.jpg", number) for number in range(100)]
    with Staging(tmp_path, "raw", SHAPE, parts) as staging:
        for start in range(0, 100, 30):
            staging.add(pl.DataFrame(rows[start : start + 30], schema=SHAPE, orient="row"), "picture")
    parted = [staged(tmp_path, "raw", part, SHAPE).rows() for part in range(parts)]
    assert sorted(row for part in parted for row in part) == sorted(rows)
    assert all(part == sorted(part, key=lambda row: row[1]) for part in parted)
    assert all(part_of(name, parts) == number for number, part in enumerate(parted) for name, _ in part)


def test_a_part_without_rows_is_empty(tmp_path: Path) -> None:
    """Nothing was written for it, and that is no error."""
    assert staged(tmp_path, "raw", 5, SHAPE).schema == pl.Schema(SHAPE)
