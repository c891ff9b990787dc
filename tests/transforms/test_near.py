"""Copies are found among many, whatever the order; what is found does not depend on how it is stored."""

import hashlib
import itertools
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from schemas.errors import RunError
from tests.transforms.near_pairs import CHANGES, Pixels, cropped, distinct, encoded, fingerprints, picture, resized
from transforms import near
from transforms.fingerprint import FINGERPRINT_BYTES, mirrored
from transforms.likeness import differences
from transforms.near import Index, IndexUnusable, groups

Bytes = NDArray[np.uint8]


@pytest.fixture(scope="module")
def different(shared: Path) -> dict[str, Pixels]:
    """Return pictures that all show something else."""
    return distinct(shared)


@pytest.fixture(scope="module")
def originals(different: dict[str, Pixels]) -> Bytes:
    """Return their fingerprints."""
    return fingerprints(*different.values())


@pytest.fixture(scope="module")
def copies(different: dict[str, Pixels]) -> dict[str, Bytes]:
    """Return the fingerprints of their copies, by what was changed."""
    return {name: fingerprints(*map(change, different.values())) for name, change in CHANGES.items()}


def many(seed: int, count: int) -> Bytes:
    """Return fingerprints of no picture, with near copies among them: some steps differ by one."""
    rng = np.random.default_rng(seed)
    made = rng.integers(0, 256, (count, FINGERPRINT_BYTES), dtype=np.uint8)
    made[:, :3] = rng.integers(50, 70, 3)
    for place in range(count // 3, count):
        made[place] = made[rng.integers(0, count // 3)]
        made[place, rng.integers(3, FINGERPRINT_BYTES, rng.integers(0, 40))] ^= 1
    return np.asarray(rng.permutation(made))


# ---------------------------------------------------------------------------------------------------------- finding


@pytest.fixture(scope="module")
def answers(originals: Bytes, copies: dict[str, Bytes]) -> dict[str, list[list[int]]]:
    """Return what is found for each copy, by what was changed."""
    index = Index.of(originals)
    return {name: [index.search(one.tobytes()).tolist() for one in asked] for name, asked in copies.items()}


def test_copies_are_found_and_nothing_else(answers: dict[str, list[list[int]]]) -> None:
    """Recall at least .95 and precision at least .99, over all pairs of an original and a copy."""
    found = sum(len(places) for asked in answers.values() for places in asked)
    wanted = sum(len(asked) for asked in answers.values())
    right = sum(place in places for asked in answers.values() for place, places in enumerate(asked))
    assert wanted > 1000
    assert right / wanted >= 0.95
    assert right / found >= 0.99


@pytest.mark.parametrize("change", CHANGES)
def test_every_change_is_found_mostly(answers: dict[str, list[list[int]]], change: str) -> None:
    """None is left to the others."""
    found = [place in places for place, places in enumerate(answers[change])]
    assert sum(found) / len(found) >= 0.9


def test_no_two_different_pictures_are_the_same(originals: Bytes) -> None:
    """Not one of three thousand pairs, though people, light and frame recur."""
    assert len(originals) > 75
    assert np.array_equal(groups(originals).first, np.arange(len(originals)))


def test_the_nearest_comes_first(different: dict[str, Pixels]) -> None:
    """A copy that was changed less is told first."""
    rgb = different["face_recognition__obama3.jpg"]
    index = Index.of(fingerprints(cropped(rgb, 0.05, 0.05, 0.05, 0.05), encoded(rgb, "JPEG", 90), 255 - rgb))
    assert index.search(fingerprints(rgb).tobytes()).tolist() == [1, 0]


def suggested(one: Bytes, other: Bytes) -> bool:
    """Say whether hashes suggest a pair, bit by bit."""

    def bits(hashed: NDArray[np.uint64]) -> list[list[int]]:
        return [[int(hashed[0, window]) >> bit & 1 for bit in range(64)] for window in range(hashed.shape[1])]

    def differing(a: list[int], b: list[int]) -> set[int]:
        return {bit for bit in range(64) if a[bit] != b[bit]}

    a, b = bits(near._hashes(one[None])), bits(near._hashes(other[None]))
    words = [set(range(16 * word, 16 * word + 16)) for word in range(4)] + [set(range(k, 64, 4)) for k in range(4)]
    if len(differing(a[0], b[0])) > 20:
        return False
    windows = [differing(a[0], window) for window in b] + [differing(window, b[0]) for window in a]
    return any(len(bits) <= 8 and any(not bits & word for word in words) for bits in windows)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32))
def test_search_finds_what_looking_at_every_pair_finds(seed: int) -> None:
    """The passes over all hashes leave nothing out, and add nothing."""
    made = many(seed, 40)
    index, asked = Index.of(made), made[0]
    hinted = [place for place in range(len(made)) if suggested(asked, made[place])]
    assert index.suggested(asked[None]).tolist() == hinted
    apart = differences(np.tile(asked, (len(made), 1)), made)
    assert sorted(index.search(asked.tobytes())) == [place for place in hinted if apart[place] <= 1]


def test_own_hashes_that_are_far_apart_are_passed_over(different: dict[str, Pixels], originals: Bytes) -> None:
    """One pass over them leaves few whose windows are looked at; a crop may be cut too far for it."""
    index = Index.of(originals)
    crops = fingerprints(*(cropped(rgb, 0.085, 0.085, 0.085, 0.085) for rgb in different.values()))
    apart = np.bitwise_count(near._hashes(originals)[:, 0] ^ near._hashes(crops)[:, 0])
    hinted = np.array([suggested(one, other) for one, other in zip(originals, crops, strict=True)])
    found = [place in index.suggested(one[None]) for place, one in enumerate(crops)]
    assert hinted.tolist() == found
    assert 0.5 < hinted.mean() < 1
    assert 20 < apart[~hinted].max() < 40


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32))
def test_many_at_once_find_what_each_finds_alone(seed: int) -> None:
    """The join of words is another way to the same pairs: among themselves, and with what is known."""
    made = many(seed, 120)
    new, known = Index.of(made[:70]), Index.of(made[70:])
    alone = [(place, other) for place in range(70) for other in known.suggested(made[place : place + 1])]
    joined = near._split(near._suggested(new, known, among=False))
    assert list(zip(*map(list, joined), strict=True)) == alone
    among = [(place, other) for place in range(70) for other in new.suggested(made[place : place + 1]) if other < place]
    joined = near._split(near._suggested(new, new, among=True))
    assert list(zip(*map(list, joined), strict=True)) == among
    assert len(alone) > 10
    assert len(among) > 10


def test_parts_that_are_looked_at_at_once_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is bounded by them, the answer is not."""
    made = many(1, 500)
    index = Index.of(made)
    whole = near._suggested(index, index, among=True), index.search(made[0].tobytes())
    for size in (1, 7, 100):
        for name in ("_AT_ONCE", "_CACHED", "_COMPARED_AT_ONCE"):
            monkeypatch.setattr(near, name, size)
        assert np.array_equal(near._suggested(index, index, among=True), whole[0])
        assert np.array_equal(index.search(made[0].tobytes()), whole[1])


# ---------------------------------------------------------------------------------------------------------- grouping


def test_copies_stand_behind_the_best(originals: Bytes, copies: dict[str, Bytes]) -> None:
    """What comes first in the order stands for the others."""
    asked = np.concatenate([originals, *copies.values()])
    found = groups(asked, order=np.arange(len(asked)))
    place = np.tile(np.arange(len(originals)), 1 + len(copies))
    copied = found.first != np.arange(len(asked))
    assert copied[: len(originals)].sum() == 0
    assert (found.first == place).mean() >= 0.95
    assert (found.first == place)[copied].mean() >= 0.99
    assert (found.known == -1).all()


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**32))
def test_the_order_of_the_list_does_not_matter(seed: int) -> None:
    """Groups are of the pictures, not of their places."""
    made = np.unique(many(seed, 90), axis=0)
    shuffled = np.random.default_rng(seed).permutation(len(made))
    here, there = groups(made), groups(made[shuffled])
    assert np.array_equal(shuffled[there.first], here.first[shuffled])


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**32), st.booleans())
def test_each_shows_what_the_one_shows_that_stands_for_it(seed: int, mirror: bool) -> None:
    """And that one stands for itself."""
    made = many(seed, 90)
    made[::5] = mirrored(made[::5])
    found = groups(made, mirror=mirror)
    assert np.array_equal(found.first[found.first], found.first)
    assert len(set(found.first)) < len(made)
    apart = differences(made, made[found.first])
    if mirror:
        apart = np.minimum(apart, differences(mirrored(made), made[found.first]))
    assert (apart <= 1).all()


def test_no_chain_leads_to_a_picture_unlike_the_first(different: dict[str, Pixels]) -> None:
    """Of three, each a crop of the one before, the third shows too little of the first."""
    first = different["human__stock-group-1.jpg"]
    second = cropped(first, 0.045, 0.045, 0.045, 0.045)
    third = cropped(second, 0.08, 0.08, 0.08, 0.08)
    asked = fingerprints(first, second, third)
    assert [bool(differences(asked[[a]], asked[[b]])[0] <= 1) for a, b in ((0, 1), (1, 2), (0, 2))] == [
        True,
        True,
        False,
    ]
    assert groups(asked, order=np.array([0, 1, 2])).first.tolist() == [0, 0, 2]
    assert groups(asked, order=np.array([1, 0, 2])).first.tolist() == [1, 1, 1]


def test_what_is_known_stands_and_new_ones_point_at_it(different: dict[str, Pixels]) -> None:
    """The committed picture stands even if the new one is better; a known one stands for no other."""
    one, other, third = list(different.values())[:3]
    known = Index.of(fingerprints(other, resized(one, 0.5)))
    found = groups(fingerprints(one, third, encoded(one, "JPEG", 60), encoded(third, "JPEG", 60)), known=known,
                   order=np.arange(4))  # fmt: skip
    assert found.known.tolist() == [1, -1, 1, -1]
    assert found.first.tolist() == [0, 1, 2, 1]


def test_the_first_that_is_known_is_told(different: dict[str, Pixels]) -> None:
    """Of several, always the same one."""
    one = next(iter(different.values()))
    known = Index.of(fingerprints(resized(one, 0.4), one, resized(one, 0.8)))
    assert groups(fingerprints(one), known=known).known.tolist() == [0]


def test_mirrored_pictures_are_the_same_only_if_asked_for(different: dict[str, Pixels]) -> None:
    """A mirrored face has other labels for its sides."""
    rgb = different["human__stock-group-1.jpg"]
    turned = np.ascontiguousarray(encoded(cropped(rgb, 0, 0.03, 0.04, 0), "JPEG", 60)[:, ::-1])
    asked, index = fingerprints(rgb, turned), Index.of(fingerprints(rgb))
    assert groups(asked).first.tolist() == [0, 1]
    assert groups(asked, mirror=True, order=np.array([0, 1])).first.tolist() == [0, 0]
    assert groups(asked[1:], known=index).known.tolist() == [-1]
    assert groups(asked[1:], known=index, mirror=True).known.tolist() == [0]
    assert index.search(asked[1].tobytes()).tolist() == []
    assert index.search(asked[1].tobytes(), mirror=True).tolist() == [0]


def test_frames_of_one_video_stay_apart(different: dict[str, Pixels]) -> None:
    """Unless the caller numbers them as others."""
    one = fingerprints(next(iter(different.values())))
    asked, order = np.repeat(one, 5, axis=0), np.arange(5)
    found = groups(asked, order=order, apart=np.array([7, 7, 8, -1, -1]))
    assert found.first.tolist() == [0, 1, 0, 0, 0]
    assert groups(asked, order=order).first.tolist() == [0] * 5


def test_a_crowd_is_cut_short(monkeypatch: pytest.MonkeyPatch, originals: Bytes, copies: dict[str, Bytes]) -> None:
    """Where too many are alike, each is compared with the best of them, and the best stands."""
    monkeypatch.setattr(near, "_MOST_ALIKE", 3)
    monkeypatch.setattr(near, "_MOST_SUGGESTED", 2)
    asked = np.concatenate([originals[:1], *(one[:1] for one in copies.values())] * 20)
    assert (groups(asked, order=np.arange(len(asked))).first == 0).mean() > 0.95


def test_nothing_and_one_have_no_copies(originals: Bytes) -> None:
    """An empty run, and a data set's first picture."""
    nothing, one = originals[:0], originals[:1]
    assert groups(nothing).first.shape == groups(nothing, known=Index.of(one), mirror=True).known.shape == (0,)
    assert groups(one, known=Index.of(nothing)).known.tolist() == [-1]
    assert Index.of(nothing).search(one.tobytes()).tolist() == []


# ------------------------------------------------------------------------------------------------------- on the disk


def test_what_is_stored_answers_alike(tmp_path: Path, originals: Bytes, copies: dict[str, Bytes]) -> None:
    """From the file, without reading it whole; with more behind it as if it had been built at once."""
    path = str(tmp_path / "index")
    first = Index.of(originals[:60])
    first.save(path)
    stored = Index.open(path)
    assert isinstance(stored.own.base, np.memmap)
    both = stored.add(originals[60:])
    both.save(path)
    whole, again = Index.of(originals), Index.open(path)
    asked = copies["cropped unevenly"]
    for index in (both, again):
        assert len(index) == len(originals)
        for one in asked:
            assert np.array_equal(index.search(one.tobytes()), whole.search(one.tobytes()))
        assert np.array_equal(groups(asked, known=index).known, groups(asked, known=whole).known)


def test_the_same_index_is_the_same_file(tmp_path: Path, originals: Bytes) -> None:
    """Nothing in it says when it was made."""
    Index.of(originals).save(str(tmp_path / "a"))
    Index.of(originals[:9]).add(originals[9:]).save(str(tmp_path / "b"))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_an_empty_index_can_be_stored(tmp_path: Path) -> None:
    """A data set whose pictures are all plain has one."""
    Index.of(np.empty((0, FINGERPRINT_BYTES), np.uint8)).save(str(tmp_path / "index"))
    assert len(Index.open(str(tmp_path / "index"))) == 0


def test_damage_anywhere_is_refused(tmp_path: Path, originals: Bytes) -> None:
    """A wrong answer would lose pictures, so it is built again."""
    path = tmp_path / "index"
    Index.of(originals[:20]).save(str(path))
    whole = path.read_bytes()
    places = (0, 17, 21, 25, 33, 64, 64 + 8 * 20, len(whole) // 2, len(whole) - 1)
    damaged = [whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :] for place in places]
    for data in (
        *damaged,
        whole[:-1],
        whole + b"\0",
        whole[:64],
        whole[:63],
        b"",
        b"\x93NUMPY" + bytes(200),
        b"id,name\n",
    ):
        path.write_bytes(data)
        with pytest.raises(IndexUnusable, match="index"):
            Index.open(str(path))
    path.write_bytes(whole)
    assert len(Index.open(str(path))) == 20


def test_another_version_is_told(tmp_path: Path, originals: Bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fingerprints of two versions are not comparable."""
    path = str(tmp_path / "index")
    Index.of(originals[:3]).save(path)
    monkeypatch.setattr(near, "VERSION", 99)
    with pytest.raises(IndexUnusable, match=r"version 1\.1, expected 1\.99: build it again"):
        Index.open(path)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    """Missing, a folder, a pipe: none is waited for."""
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "missing", tmp_path, tmp_path / "pipe"):
        with pytest.raises(IndexUnusable) as caught:
            Index.open(str(path))
        assert isinstance(caught.value, RunError)


def test_hashes_are_known() -> None:
    """Stored hashes stay comparable: if this fails, the format's number must go up."""
    made = (np.arange(50 * FINGERPRINT_BYTES).reshape(50, -1) * 7919 // 32 % 256).astype(np.uint8)
    # Only the uncropped ones: the others are sums, whose last bits may depend on the machine.
    assert hashlib.sha256(near._hashes(made)[:, 0].tobytes()).hexdigest()[:16] == "fb240623460af69f"


def test_words_are_all_of_a_hash() -> None:
    """Each half of the eight words holds every bit once."""
    hashes = np.uint64(1) << np.arange(64, dtype=np.uint64)
    for words in (range(4), range(4, 8)):
        held = np.stack([near._word(hashes, word) for word in words])
        assert (np.bitwise_count(held).sum(axis=0) == 1).all()
        assert len({(int(row), int(held[row, bit])) for bit, row in enumerate(held.argmax(axis=0))}) == 64


def test_pictures_from_another_container_are_the_same(shared: Path) -> None:
    """One face in seven formats and nine orientations, and one person's name in different sizes."""
    folder = shared / "data/images"
    kept = ("hopper.", "hopper_gray", "hopper_16bit.", "hopper_idat", "hopper_orientation")
    face = [path for path in sorted((folder / "formats").iterdir()) if any(name in path.name for name in kept)]
    sizes = sorted((folder / "face").glob("face_recognition__obama-*p.jpg"))
    asked = fingerprints(*(picture(path) for path in itertools.chain(face, sizes)))
    found = groups(asked, order=np.arange(len(asked))).first.tolist()
    assert found == [0] * len(face) + [len(face)] * len(sizes)
    assert (len(face), len(sizes)) == (19, 4)
