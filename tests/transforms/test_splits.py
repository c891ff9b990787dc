"""Splits part no group, meet their shares, and are the same wherever and whenever they are made."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from schemas.errors import UsageError
from tests.builders import Parts, picture, tables
from tests.transforms.things import thing
from transforms.encoding import shown
from transforms.splits import Sides, parted, read_shares

SHARES = {"train": 0.8, "val": 0.1, "test": 0.1}


def parts(*rows: dict[str, Any], at: int | None = None) -> Parts:
    """Return pictures in two parts, cut at one of them."""
    cut = len(rows) // 2 if at is None else at
    return Parts(tables(*rows[:cut]), tables(*rows[cut:]))


def sides(given_: Parts, **options: Any) -> dict[str, str]:
    """Return the side of each picture by its name."""
    made = Sides.of_shares(given_, SHARES, **options)
    return {
        name: side for part in given_ for name, side in zip(part.images["file_name"], made.of(part.images), strict=True)
    }


def many(count: int, **others: Any) -> list[dict[str, Any]]:
    """Return pictures that have nothing to do with each other."""
    return [picture(f"{i:05}.jpg", thing(), **others) for i in range(count)]


# ---- shares


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("train=.8,val=.2", {"train": 0.8, "val": 0.2}),
        (" a.b-1 = 0.25 , b=0.75", {"a.b-1": 0.25, "b": 0.75}),
        ("all=1", {"all": 1.0}),
        ("a=.1,b=.2,c=.7", {"a": 0.1, "b": 0.2, "c": 0.7}),  # in floats they are not quite 1
    ],
)
def test_shares_are_read_by_their_names(text: str, told: dict[str, float]) -> None:
    """In order."""
    assert list(read_shares(text).items()) == list(told.items())


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("train=.8,val=.1", "sum to 1"),
        ("train=.8,val=.3", "sum to 1"),
        ("train=1,val=0", "above 0"),
        ("train=1.5,val=-.5", "above 0"),
        ("train=nan,val=.5", "above 0"),
        ("train=80%,val=20%", "above 0"),
        ("train=.5,val", "above 0"),
        ("train=.5,train=.5", "each name once"),
        ("train=.5,Train=.5", "each name once"),  # one file on some systems
        ("../a=.5,b=.5", "letters, digits"),
        ("a_b=.5,b=.5", "letters, digits"),
        ("=1", "letters, digits"),
    ],
)
def test_shares_that_make_no_sense_are_refused(text: str, told: str) -> None:
    """With what was expected and what came."""
    with pytest.raises(UsageError, match=told) as raised:
        read_shares(text)
    assert repr(text) in str(raised.value)


# ---- sides


def test_the_shares_are_met() -> None:
    """Within what chance allows: three standard deviations of 5,000 pictures."""
    counts = Counter(sides(parts(*many(5000))).values())
    for name, share in SHARES.items():
        assert abs(counts[name] - 5000 * share) < 3 * (5000 * share * (1 - share)) ** 0.5


def test_sides_are_the_same_wherever_they_are_made() -> None:
    """However the data set is cut; these hashes must never change. Another seed gives others."""
    rows = many(40)
    told = sides(parts(*rows))
    assert told == sides(parts(*rows, at=3)) == sides(parts(*rows[::-1]))
    assert told != sides(parts(*rows), seed=1)
    assert [i for i, side in enumerate(told.values()) if side != "train"] == [1, 2, 7, 13, 14, 15, 23]


def test_one_side_has_all() -> None:
    """Without a hash."""
    [part, _] = parts(*many(4))
    assert Sides.one("all").of(part.images).to_list() == ["all"] * 2


_rows = st.lists(
    st.tuples(
        st.integers(0, 3),  # folder
        st.one_of(st.none(), st.integers(0, 3)),  # video
        st.one_of(st.none(), st.integers(0, 40)),  # copy of
        st.one_of(st.none(), st.integers(0, 2)),  # source
    ),
    max_size=40,
)


def drawn(rows: Sequence[tuple[int, int | None, int | None, int | None]]) -> list[dict[str, Any]]:
    """Return pictures as they were drawn; a copy may be of what is not there, of a frame, or of a whole video."""
    made: list[dict[str, Any]] = []
    for i, (folder, video, copy, source) in enumerate(rows):
        of = None
        if copy is not None and copy != i:
            of = made[copy]["image_id"] if copy < len(made) else f"video {copy % 4}" if copy % 2 else "f" * 64
        made.append(
            picture(
                f"{folder}/{i}.jpg",
                thing(label=f"label {i % 3}"),
                video_id=None if video is None else f"video {video}",
                frame_index=None if video is None else i,
                source_id=None if source is None else f"source {source}",
                duplicate_of=of,
                outcome="duplicate" if of and i % 2 else "labelled",
            )
        )
    return made


@settings(max_examples=150, deadline=None)
@given(_rows, st.sampled_from([None, "folder", "source_id"]), st.booleans(), st.integers(0, 40), st.integers(0, 9))
def test_nothing_that_belongs_together_is_parted(rows: Any, by: Any, stratify: bool, at: int, seed: int) -> None:
    """Copies with what they are copies of, frames of one video, and what was asked for."""
    given_ = drawn(rows)
    told = sides(parts(*given_, at=at), by=by, stratify=stratify, seed=seed)
    known = {row["image_id"]: told[row["file_name"]] for row in given_}
    videos: dict[Any, set[str]] = {}
    for row in given_:
        side = told[row["file_name"]]
        assert known.get(row["duplicate_of"], side) == side
        keys = {"video": row["video_id"], "folder": row["file_name"][0], "source_id": row["source_id"]}
        together = ("video", by) if by else ("video",)
        for key in together:
            if keys[key] is not None:
                videos.setdefault((key, keys[key]), set()).add(side)
        if str(row["duplicate_of"]).startswith("video"):
            videos.setdefault(("video", row["duplicate_of"]), set()).add(side)
    assert all(len(found) == 1 for found in videos.values())


@settings(max_examples=200, deadline=None)
@given(_rows, st.integers(0, 40), st.sampled_from([None, "folder", "source_id"]))
@example([(0, 0, None, None), (0, None, None, None), (0, None, None, None), (0, 0, 2, None)], 1, None)
def test_pictures_that_are_added_move_none_that_was_there(rows: Any, before: int, by: Any) -> None:
    """Whatever they are copies or frames of, unless one of them joins two groups: then the later one follows."""
    given_ = drawn(rows)
    first = sides(parts(*given_[:before]), by=by)
    later = sides(parts(*given_), by=by)
    joined = _joined(given_, before, by)
    assert {name: later[name] for name in first if name not in joined} == {
        name: side for name, side in first.items() if name not in joined
    }


def _joined(rows: list[dict[str, Any]], before: int, by: Any) -> set[str]:
    """Return the names of the first pictures that are not in the first group of theirs any more, found slowly."""

    def groups(some: list[dict[str, Any]]) -> list[set[int]]:
        found: list[set[int]] = []
        keys: list[set[Any]] = []
        for i, row in enumerate(some):
            own = {row["image_id"], row["video_id"], row["duplicate_of"]} - {None}
            own |= {("folder", row["file_name"][0])} if by == "folder" else set()
            own |= {("source", row["source_id"])} if by == "source_id" and row["source_id"] else set()
            touched = [at for at, theirs in enumerate(keys) if own & theirs]
            members, united = {i}, own
            for at in reversed(touched):
                members |= found.pop(at)
                united |= keys.pop(at)
            found.append(members)
            keys.append(united)
        return found

    old, new = groups(rows[:before]), groups(rows)
    moved: set[int] = set()
    for group in new:
        parts_ = sorted((part for part in old if part <= group), key=min)
        for part in parts_[1:]:
            moved |= part
    return {rows[i]["file_name"] for i in moved}


def test_a_later_copy_follows_the_picture_that_was_there() -> None:
    """Also where it is found through frames of a video."""
    rows = many(30)
    told = sides(parts(*rows))
    copies = [
        picture(f"copy {i}", duplicate_of=row["image_id"], video_id=f"v{i}", frame_index=0)
        for i, row in enumerate(rows)
    ]
    frames = [picture(f"frame {i}", video_id=f"v{i}", frame_index=1) for i in range(30)]
    later = sides(parts(*rows, *copies, *frames))
    for i, row in enumerate(rows):
        assert later[row["file_name"]] == later[f"copy {i}"] == later[f"frame {i}"] == told[row["file_name"]]


# ---- stratified


def test_each_label_is_dealt_out_by_its_shares() -> None:
    """Within one group, also rare ones, and the whole as well."""
    labels = ["common"] * 700 + ["rare"] * 50 + ["odd"] * 7
    rows = [picture(f"{i}.jpg", thing(label=label), thing((9, 9, 9, 9), "common")) for i, label in enumerate(labels)]
    rows += [picture(f"none {i}.jpg") for i in range(200)]
    told = sides(parts(*rows), stratify=True)
    for label, count in (*Counter(labels).items(), ("none", 200)):
        names = (
            [f"none {i}.jpg" for i in range(200)]
            if label == "none"
            else [f"{i}.jpg" for i, own in enumerate(labels) if own == label]
        )
        found = Counter(told[name] for name in names)
        assert all(abs(found[name] - count * share) <= 1 for name, share in SHARES.items()), (label, found)


def test_rare_labels_do_not_all_go_to_the_first_side() -> None:
    """Where each has one picture, the sides have their shares of them."""
    rows = [picture(f"{i}.jpg", thing(label=f"label {i}")) for i in range(1000)]
    counts = Counter(sides(parts(*rows), stratify=True).values())
    assert all(
        abs(counts[name] - 1000 * share) < 3 * (1000 * share * (1 - share)) ** 0.5 for name, share in SHARES.items()
    )


def test_stratified_groups_have_the_side_of_their_rarest_label() -> None:
    """A large one counts as many pictures as it has."""
    film = [
        picture(f"film/{i}", thing(label="rare" if i == 3 else "common"), video_id="v", frame_index=i)
        for i in range(50)
    ]
    told = sides(parts(*film, *many(450)), stratify=True)
    assert len({told[row["file_name"]] for row in film}) == 1


# ---- parts


def test_the_parts_of_the_sides_are_the_data_set() -> None:
    """Each picture once, in order, with its labels, however often they are read."""
    given_ = parts(*many(50), picture("copy.jpg", outcome="duplicate", duplicate_of="f" * 64))
    made = parted(given_, Sides.of_shares(given_, SHARES, stratify=True))
    for _ in range(2):
        names = {
            side: [name for part in some for name in shown(part.images)["file_name"]] for side, some in made.items()
        }
        assert sorted(name for some in names.values() for name in some) == [f"{i:05}.jpg" for i in range(50)]
        assert all(some == sorted(some) and some for some in names.values())


@pytest.mark.parametrize("stratify", [True, False])
def test_nothing_can_be_parted(stratify: bool) -> None:
    """No parts, or none with pictures."""
    for given_ in (Parts(), Parts(tables())):
        made = parted(given_, Sides.of_shares(given_, SHARES, stratify=stratify))
        assert [part.images.height for some in made.values() for part in some] in ([], [0] * 3)
