"""Near copies: one picture stands for each, nothing of the others is lost, and each mark is written down."""

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pipelines.samples import portrait, scenes
from schemas.errors import RunError
from schemas.tables import Tables
from tests.builders import column, face, picture, tables
from transforms.fingerprint import fingerprint
from transforms.near_copies import Known, mark_near_copies

NOBODY = Known.of([], [])


@cache
def looks(subject: int, side: int = 256) -> bytes:
    """Return the fingerprint of one of four unlike pictures, scaled to a square of `side` pixels."""
    rgb = [portrait(), np.ascontiguousarray(np.rot90(portrait())), _noise(1), _noise(2)][subject]
    made = fingerprint(np.asarray(cv2.resize(rgb, (side, side), interpolation=cv2.INTER_AREA), np.uint8))
    assert made is not None
    return made


def _noise(seed: int) -> NDArray[np.uint8]:
    coarse = np.random.default_rng(seed).integers(0, 255, (12, 12, 3), np.uint8)
    return np.asarray(cv2.resize(coarse, (512, 512), interpolation=cv2.INTER_CUBIC), np.uint8)


def still(name: str, subject: int, side: int = 256, faces: int = 1, **others: object) -> dict[str, object]:
    """Return a square picture of a subject, with faces."""
    boxes = (face((10 + 60 * rank, 20, 50, 50)) for rank in range(faces))
    return picture(name, *boxes, width=side, height=side, fingerprint=looks(subject, side), **others)


def copy_of(name: str, stands: dict[str, object]) -> dict[str, object]:
    """Return an exact copy."""
    told = {"sha256": stands["sha256"], "width": stands["width"], "height": stands["height"]}
    return picture(name, outcome="duplicate", duplicate_of=stands["image_id"], **told)


def standing(of: Tables) -> dict[str, str]:
    """Return the names of duplicates, each with that of the picture that stands for it, or its id if it is not here."""
    names = dict(zip(column(of, "images", "image_id"), column(of, "images", "file_name"), strict=True))
    pairs = zip(column(of, "images", "file_name"), column(of, "images", "duplicate_of"), strict=True)
    return {name: names.get(leader, leader) for name, leader in pairs if leader is not None}


def test_most_pixels_then_the_larger_file_then_the_first_stands() -> None:
    """Whatever the order of the rows."""
    small, large = still("small", 0, 200, size_bytes=9000), still("large", 0, 400, size_bytes=10)
    assert standing(mark_near_copies(tables(small, large), NOBODY)) == {"small": "large"}
    light, heavy = still("light", 0, size_bytes=10), still("heavy", 0, size_bytes=11)
    assert standing(mark_near_copies(tables(light, heavy), NOBODY)) == {"light": "heavy"}
    assert standing(mark_near_copies(tables(still("b", 0), still("a", 0), still("c", 1)), NOBODY)) == {"a": "b"}


def test_a_committed_picture_stands_before_a_better_one() -> None:
    """What is committed is never taken back for a copy of it."""
    old = picture("old")["image_id"]
    known = Known.of([looks(1, 100), looks(0, 100)], [picture("other")["image_id"], old])
    found = mark_near_copies(tables(still("huge", 0, 500), still("small", 0), still("c", 2)), known)
    assert standing(found) == {"huge": old, "small": old}
    assert column(found, "images", "outcome") == ["duplicate", "duplicate", "labelled"]


def test_what_is_taken_is_written_down_and_can_stand_again() -> None:
    """The label is held whole, and the mark is a change."""
    given_ = tables(still("small", 0, 200, faces=2), still("large", 0, 400))
    found = mark_near_copies(given_, NOBODY)
    small, large = column(given_, "images", "image_id")
    assert column(found, "images", "annotations") == [0, 1]
    assert column(found, "annotations", "image_id") == [large]
    (change,) = found.changes.to_pylist()
    told = {"kind": "image", "id": small, "image_id": small, "item_key": column(given_, "images", "item_key")[0]}
    told |= {"file_name": "small", "field": "duplicate_of", "before": None, "after": large, "confidence": 1.0}
    told |= {"rule": "duplicate.near", "rule_version": 1, "reviewer": None, "decided_at": None}
    assert change == told
    held = found.quarantine.to_pylist()
    rows = given_.annotations.to_pylist()[:2]
    assert [json.loads(row["held"]) for row in held] == [
        {name: value for name, value in row.items() if value is not None} for row in rows
    ]
    assert {(row["kind"], row["image_id"], row["file_name"], row["rule"], row["value"]) for row in held} == {
        ("annotation", small, "small", "duplicate.near", large)
    }


def test_an_exact_copy_follows_the_picture_that_it_copies() -> None:
    """It names the one that stands in the end, and the ledger knows what it named before."""
    small = still("small", 0, 200)
    found = mark_near_copies(tables(small, copy_of("again", small), still("large", 0, 400)), NOBODY)
    assert standing(found) == {"small": "large", "again": "large"}
    large = column(found, "images", "image_id")[2]
    ledger = zip(*(column(found, "changes", name) for name in ("file_name", "before", "after")), strict=True)
    assert list(ledger) == [("small", None, large), ("again", small["image_id"], large)]


def test_pictures_without_a_fingerprint_are_not_compared() -> None:
    """Frames, pictures that show nothing, and what was committed without them."""
    given_ = tables(picture("a", face()), picture("b", face()))
    assert mark_near_copies(given_, Known.of([looks(0)], ["ab" * 32])) is given_


@st.composite
def shards(draw: st.DrawFn) -> Iterator[Tables]:
    """Give a shard of pictures of four subjects in several sizes, some with exact copies."""
    rows = []
    for number in range(draw(st.integers(0, 8))):
        own = still(
            f"{number}", draw(st.integers(0, 3)), draw(st.sampled_from([128, 256, 400])), draw(st.integers(0, 2))
        )
        rows.append(own)
        rows += [copy_of(f"{number}-{again}", own) for again in range(draw(st.integers(0, 1)))]
    return tables(*rows)  # type: ignore[return-value]


@settings(max_examples=30, deadline=None)
@given(shards(), st.sets(st.integers(0, 3), max_size=2))
def test_nothing_is_lost_and_no_chain_is_left(given_: Tables, committed: set[int]) -> None:
    """Each duplicate names a picture that stands, each subject stands once, and each label is in one place."""
    ids = {picture(f"old {subject}")["image_id"]: subject for subject in committed}
    found = mark_near_copies(given_, Known.of([looks(subject, 300) for subject in ids.values()], list(ids)))
    rows = found.images.to_pylist()
    stand = {row["image_id"]: row for row in rows if row["duplicate_of"] is None}
    assert all((row["outcome"] == "duplicate") == (row["duplicate_of"] is not None) for row in rows)
    assert all(row["duplicate_of"] in stand or row["duplicate_of"] in ids for row in rows if row["duplicate_of"])
    subjects = [
        next(n for n in range(4) if row["fingerprint"] in map(looks, [n] * 3, [128, 256, 400]))
        for row in stand.values()
    ]
    assert len(set(subjects)) == len(subjects)
    assert not set(subjects) & committed
    labels = [*column(found, "annotations", "annotation_id"), *column(found, "quarantine", "id")]
    assert sorted(labels) == sorted(column(given_, "annotations", "annotation_id"))
    assert set(column(found, "annotations", "image_id")) <= set(stand)


def test_known_pictures_come_back_from_their_file(tmp_path: Path) -> None:
    """None, some, and those that are left when one goes."""
    path = str(tmp_path / "known")
    ids = [picture(scene.name)["image_id"] for scene in scenes()[:3]]
    NOBODY.save(path)
    assert len(Known.open(path)) == 0
    Known.open(path).add([looks(0), looks(1), looks(2)], ids).save(path)
    back = Known.open(path)
    assert [back.id_at(place) for place in range(len(back))] == ids
    left = back.without([ids[1], "ab" * 32])
    assert [left.id_at(place) for place in range(len(left))] == [ids[0], ids[2]]
    assert [bytes(row) for row in left.index.fingerprints] == [looks(0), looks(2)]


@pytest.mark.parametrize("content", [None, b"short"])
def test_ids_that_do_not_fit_their_index_are_an_error(tmp_path: Path, content: bytes | None) -> None:
    """Never another picture's name."""
    Known.of([looks(0)], ["ab" * 32]).save(str(tmp_path / "known"))
    (beside,) = tmp_path.glob("*.ids")
    beside.unlink()
    if content is not None:
        beside.write_bytes(content)
    with pytest.raises(RunError, match="run again"):
        Known.open(str(tmp_path / "known"))
