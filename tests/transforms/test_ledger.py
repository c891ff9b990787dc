"""The ledger read backwards: a rule goes, what it did goes with it, and the rest stands."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.reasons import RECORDED, Outcome, Rule
from schemas.tables import Tables
from tests.builders import column, face, picture, tables
from tests.transforms.messes import Mess, held_under, label, messes, state
from transforms.edits import box_text, read_box
from transforms.ledger import undo
from transforms.rules import clean


def boxes(of: Tables) -> list[list[float]]:
    """Return the boxes that stand, rounded."""
    rows = zip(*(column(of, "annotations", name) for name in ("bbox_x", "bbox_y", "bbox_w", "bbox_h")), strict=True)
    return [[round(value, 3) for value in row] for row in rows]


def mess(*labels: dict) -> tuple[Mess, str]:
    """Return one picture with labels, and the id of the first."""
    made = Mess(picture("a.jpg", *labels))
    return made, made.ids()[0]


# ---- values


def test_a_changed_label_is_again_what_it_was() -> None:
    """The change goes out of the ledger, and nothing else is touched."""
    made, one = mess(label("catt"), label("dgo"))
    two = made.ids()[1]
    made.change(one, Rule.LABEL_SPELLING, label="cat")
    made.change(two, Rule.LABEL_ALIAS, label="dog")
    undone = undo(made.tables(), Rule.LABEL_SPELLING)
    assert column(undone.tables, "annotations", "label") == ["catt", "dog"]
    assert [row["rule"] for row in undone.tables.changes.to_pylist()] == ["label.alias"]
    assert undone.counts == {"values": 1, "fallen": 0, "annotations": 0, "pictures": 0, "released": 0, "words": 0}


def test_what_was_built_on_a_change_falls_with_it() -> None:
    """A box that was turned and then cut is, without the turn, as it came; it is told that the cut fell."""
    made, one = mess(label(box=(30, 40, -10, 20)))
    made.change(one, Rule.BBOX_CORNERS, bbox=(20, 40, 10, 20))
    made.change(one, Rule.BBOX_CLIPPED, bbox=(20, 40, 5, 20))
    undone = undo(made.tables(), Rule.BBOX_CORNERS)
    assert boxes(undone.tables) == [[30, 40, -10, 20]]
    assert (undone.values, undone.fallen, undone.tables.changes.num_rows) == (1, 1, 0)
    assert column(undone.tables, "annotations", "cx") == [None]  # a side of -10 px has no share
    late = undo(made.tables(), Rule.BBOX_CLIPPED)
    assert boxes(late.tables) == [[20, 40, 10, 20]] and late.fallen == 0
    assert column(late.tables, "annotations", "w") == [pytest.approx(10 / 640)]


def test_a_box_in_its_own_convention_has_no_shares() -> None:
    """Percent are no pixels: cx, cy, w, h are null rather than wrong."""
    made, one = mess(label(box=(5.0, 5.0, 10.0, 10.0)))
    made.change(one, Rule.BBOX_CONVENTION, bbox=(32.0, 24.0, 64.0, 48.0))
    undone = undo(made.tables(), Rule.BBOX_CONVENTION)
    assert boxes(undone.tables) == [[5, 5, 10, 10]]
    assert column(undone.tables, "annotations", "cx") == [None]


def test_a_value_of_a_row_in_quarantine_comes_back_there() -> None:
    """What is held back by one rule is still subject to the undo of another, and comes back with the value."""
    made, one = mess(label("catt"))
    made.change(one, Rule.LABEL_SPELLING, label="cat")
    made.hold(one, Rule.BBOX_OUTLIER)
    undone = undo(made.tables(), Rule.LABEL_SPELLING)
    assert held_under(undone.tables) == {one: ["bbox.outlier"]}
    assert column(undo(undone.tables, Rule.BBOX_OUTLIER).tables, "annotations", "label") == ["catt"]


def test_a_confidence_that_was_put_below_1_is_1_again() -> None:
    """It comes back as a number."""
    made, one = mess(label())
    made.annotations[one]["confidence"] = 1.0
    made.change(one, Rule.LABEL_CONFIDENCE, confidence=0.5)
    assert column(undo(made.tables(), Rule.LABEL_CONFIDENCE).tables, "annotations", "confidence") == [1.0]


# ---- what was held back


def test_what_was_held_back_stands_again_as_it_was_held() -> None:
    """Each column is as before, and the picture is labelled again."""
    before = tables(picture("a.jpg", face((0, 0, 50, 50), score=0.9), face((2, 2, 50, 50), "sad", score=0.5)))
    held = clean(before)
    assert column(held, "quarantine", "rule") == ["duplicate.annotation"]
    undone = undo(held, Rule.DUPLICATE_ANNOTATION)
    want = clean(replace(before, annotations=before.annotations.slice(0, 1))).annotations.to_pylist()
    assert undone.tables.annotations.to_pylist()[0] == want[0]
    again = undone.tables.annotations.to_pylist()[1]
    assert again | {"cx": None, "cy": None, "w": None, "h": None} == before.annotations.to_pylist()[1]
    assert column(undone.tables, "images", "annotations") == [2] and undone.annotations == 1


def test_what_another_rule_holds_too_stays() -> None:
    """Only the rows of the rule that goes are gone; the second undo frees it, in either order."""
    made, one = mess(label())
    made.hold(one, Rule.LABEL_NEEDS_REVIEW, Rule.BBOX_OUTLIER)
    for first, second in ((Rule.LABEL_NEEDS_REVIEW, Rule.BBOX_OUTLIER), (Rule.BBOX_OUTLIER, Rule.LABEL_NEEDS_REVIEW)):
        half = undo(made.tables(), first)
        assert held_under(half.tables) == {one: [second]} and (half.annotations, half.released) == (0, 1)
        assert column(undo(half.tables, second).tables, "annotations", "annotation_id") == [one]


def test_a_picture_that_lost_all_is_labelled_again() -> None:
    """Outcomes and counts are settled."""
    made, one = mess(label())
    made.hold(one, Rule.LABEL_NEEDS_REVIEW)
    assert column(made.tables(), "images", "outcome") == [Outcome.QUARANTINED]
    undone = undo(made.tables(), Rule.LABEL_NEEDS_REVIEW).tables
    assert column(undone, "images", "outcome") == [Outcome.LABELLED]
    assert column(undone, "images", "annotations") == [1]


def test_a_held_picture_comes_back_with_its_labels() -> None:
    """But not with those that are held for themselves, and not before the last rule that holds it has gone."""
    made, one = mess(label("cat"), label("dog"))
    two = made.ids()[1]
    made.hold(two, Rule.LABEL_NEEDS_REVIEW)
    made.hold_picture(made.images[0]["image_id"], Rule.IMAGE_SIZE)
    undone = undo(made.tables(), Rule.IMAGE_SIZE)
    assert column(undone.tables, "annotations", "annotation_id") == [one]
    assert column(undone.tables, "images", "outcome") == [Outcome.LABELLED]
    assert (undone.pictures, undone.annotations) == (1, 1)


def test_what_would_stand_on_a_held_picture_waits_with_it() -> None:
    """Its quarantine goes over to the rule that holds the picture, so that it comes back with that."""
    made, one = mess(label("cat"))
    image = made.images[0]["image_id"]
    made.hold(one, Rule.LABEL_NEEDS_REVIEW)
    made.hold_picture(image, Rule.IMAGE_SIZE)
    half = undo(made.tables(), Rule.LABEL_NEEDS_REVIEW)
    assert held_under(half.tables) == {one: ["image.size"], image: ["image.size"]}
    assert state(undo(half.tables, Rule.IMAGE_SIZE).tables).keys() == {one}


def test_what_has_no_picture_stays() -> None:
    """A picture that cannot be opened has no row: its labels cannot stand, and the data set is as it was."""
    made, one = mess(label("cat"))
    made.hold(one, Rule.REFERENCE_UNREADABLE)
    made.images.clear()
    whole = made.tables()
    undone = undo(whole, Rule.REFERENCE_UNREADABLE)
    assert undone.tables is whole and undone.left == 1 and not any(undone.counts.values())


# ---- copies


def merged(rule: Rule, *, mirrored: bool = False) -> tuple[Mess, str, str, str]:
    """Return two pictures of one thing, the second twice as large and a copy of the first; the ids of all."""
    made = Mess(
        picture("a.jpg", label("cat", (10, 10, 20, 20)), width=100, height=100),
        picture("b.jpg", label("cat", (-8, 10, 50, 40)), width=200, height=200),
    )
    first, copy = (row["image_id"] for row in made.images)
    moved = f"{copy}-0"
    made.change(moved, Rule.BBOX_CLIPPED, bbox=(0, 10, 42, 40))
    made.merge(copy, first, rule, mirrored=mirrored)
    return made, first, copy, moved


def test_a_copy_stands_again_with_its_labels() -> None:
    """They go back to it, in its pixels."""
    made, first, copy, _ = merged(Rule.DUPLICATE_NEAR)
    whole = made.tables()
    assert column(whole, "images", "outcome") == [Outcome.LABELLED, Outcome.DUPLICATE]
    assert boxes(whole)[1] == [0, 5, 21, 20]
    undone = undo(whole, Rule.DUPLICATE_NEAR)
    assert boxes(undone.tables) == [[10, 10, 20, 20], [0, 10, 42, 40]]
    assert column(undone.tables, "annotations", "image_id") == [first, copy]
    assert column(undone.tables, "images", "duplicate_of") == [None, None]
    assert column(undone.tables, "images", "outcome") == [Outcome.LABELLED] * 2
    assert column(undone.tables, "images", "annotations") == [1, 1]
    assert (undone.pictures, undone.fallen) == (1, 0)
    assert column(undone.tables, "annotations", "w")[1] == pytest.approx(42 / 200)


@pytest.mark.parametrize(("mirrored", "there"), [(False, [-4, 5, 25, 20]), (True, [79, 5, 25, 20])])
def test_a_box_is_carried_over_anew(mirrored: bool, there: list[float]) -> None:
    """Without the cut it stands on the other picture as it would have uncut, also in a mirror image; then goes back."""
    made, *_ = merged(Rule.DUPLICATE_NEAR, mirrored=mirrored)
    uncut = undo(made.tables(), Rule.BBOX_CLIPPED)
    assert boxes(uncut.tables)[1] == there
    assert boxes(undo(uncut.tables, Rule.DUPLICATE_NEAR).tables)[1] == [-8, 10, 50, 40]


def test_a_box_in_its_own_convention_is_not_carried_over() -> None:
    """Its numbers are no pixels of either picture: they stand as they came, and stay so when the pictures part."""
    made = Mess(
        picture("a.jpg", width=100, height=100), picture("b.jpg", label(box=(5, 5, 10, 10)), width=200, height=200)
    )
    first, copy = (row["image_id"] for row in made.images)
    made.change(f"{copy}-0", Rule.BBOX_CONVENTION, bbox=(10, 10, 20, 20))
    made.merge(copy, first, Rule.DUPLICATE_NEAR)
    raw = undo(made.tables(), Rule.BBOX_CONVENTION)
    assert boxes(raw.tables) == boxes(undo(raw.tables, Rule.DUPLICATE_NEAR).tables) == [[5, 5, 10, 10]]
    assert column(raw.tables, "annotations", "image_id") == [first]


def test_a_label_that_would_stand_on_a_copy_waits_with_it() -> None:
    """It was held before its picture was found to be a copy: it comes back with the picture, not on it."""
    made = Mess(picture("a.jpg", label("cat")), picture("b.jpg", label("catt")))
    first, copy = (row["image_id"] for row in made.images)
    made.hold(f"{copy}-0", Rule.LABEL_NEEDS_REVIEW)
    made.merge(copy, first, Rule.DUPLICATE_EXACT)
    half = undo(made.tables(), Rule.LABEL_NEEDS_REVIEW)
    assert held_under(half.tables) == {f"{copy}-0": ["duplicate.exact"]}
    assert column(half.tables, "images", "outcome") == [Outcome.LABELLED, Outcome.DUPLICATE]
    whole = undo(half.tables, Rule.DUPLICATE_EXACT)
    assert column(whole.tables, "annotations", "image_id") == [first, copy]


def test_judgements_between_pictures_end_when_they_part() -> None:
    """A conflict of a label with one on the copy is none any more; one among a picture's own labels stays."""
    made = Mess(
        picture("a.jpg", label("cat"), label("dog", (300, 300, 50, 50)), label("bird", (300, 300, 50, 50))),
        picture("b.jpg", label("dog"), label("cat", (300, 20, 50, 50))),
    )
    first, copy = (row["image_id"] for row in made.images)
    made.merge(copy, first, Rule.DUPLICATE_EXACT)
    for identity in (f"{first}-0", f"{first}-1", f"{first}-2", f"{copy}-0"):
        made.hold(identity, Rule.LABEL_CONFLICT)
    undone = undo(made.tables(), Rule.DUPLICATE_EXACT)
    assert held_under(undone.tables) == {f"{first}-1": ["label.conflict"], f"{first}-2": ["label.conflict"]}
    assert state(undone.tables).keys() == {f"{first}-0", f"{copy}-0", f"{copy}-1"}
    assert column(undone.tables, "images", "annotations") == [1, 2]


def test_a_double_on_a_copy_is_its_own_label_again() -> None:
    """Else the copy would stand without the label that it came with."""
    made = Mess(picture("a.jpg", label("cat")), picture("b.jpg", label("cat")))
    first, copy = (row["image_id"] for row in made.images)
    made.merge(copy, first, Rule.DUPLICATE_EXACT)
    made.hold(f"{copy}-0", Rule.DUPLICATE_ANNOTATION)
    undone = undo(made.tables(), Rule.DUPLICATE_EXACT)
    assert column(undone.tables, "annotations", "image_id") == [first, copy]
    assert undone.tables.quarantine.num_rows == 0


def test_what_is_held_goes_back_to_its_picture_too() -> None:
    """It stays held, but as a label of the picture that it came with."""
    made, _, copy, moved = merged(Rule.DUPLICATE_NEAR)
    made.hold(moved, Rule.BBOX_OUTLIER)
    undone = undo(made.tables(), Rule.DUPLICATE_NEAR).tables
    [row] = undone.quarantine.to_pylist()
    assert (row["image_id"], row["file_name"]) == (copy, "b.jpg")
    assert column(undone, "images", "outcome") == [Outcome.LABELLED, Outcome.QUARANTINED]
    assert boxes(undo(undone, Rule.BBOX_OUTLIER).tables)[1] == [0, 10, 42, 40]


def test_a_picture_that_is_held_back_stays_so_when_a_copy_parts() -> None:
    """Even if no label of its own was ever there."""
    made = Mess(picture("a.jpg"), picture("b.jpg", label("cat")))
    first, copy = (row["image_id"] for row in made.images)
    made.merge(copy, first, Rule.DUPLICATE_EXACT)
    made.hold_picture(first, Rule.IMAGE_SIZE)
    undone = undo(made.tables(), Rule.DUPLICATE_EXACT).tables
    assert column(undone, "images", "outcome") == [Outcome.QUARANTINED] * 2
    assert column(undo(undone, Rule.IMAGE_SIZE).tables, "images", "outcome") == [Outcome.NO_FACE, Outcome.LABELLED]


def test_a_chain_of_copies_comes_apart_where_it_is_cut() -> None:
    """Of a copy of a copy only the second step is taken back, or both."""
    made = Mess(
        *(
            picture(name, label("cat", (10, 10, 20, 20)), width=w, height=100)
            for name, w in (("a", 100), ("b", 200), ("c", 200))
        )
    )
    a, b, c = (row["image_id"] for row in made.images)
    made.merge(c, b, Rule.DUPLICATE_EXACT)
    made.merge(b, a, Rule.DUPLICATE_NEAR)
    made.changes.append(
        {"kind": "image", "id": c, "image_id": c, "item_key": made.images[2]["item_key"], "field": "duplicate_of"}
        | {"before": b, "after": a, "rule": "duplicate.near"}
    )
    made.images[2]["duplicate_of"] = a
    near = undo(made.tables(), Rule.DUPLICATE_NEAR).tables
    assert column(near, "images", "duplicate_of") == [None, None, b]
    assert [row[0] for row in state(near).values()] == [a, b, b]
    exact = undo(made.tables(), Rule.DUPLICATE_EXACT).tables
    assert column(exact, "images", "duplicate_of") == [None, a, None]
    assert {key: row[0] for key, row in state(exact).items()} == {f"{a}-0": a, f"{b}-0": a, f"{c}-0": c}
    assert state(exact)[f"{c}-0"][4:8] == [10, 10, 20, 20]


# ---- what only records


def test_what_only_records_takes_nothing_back() -> None:
    """The recorded rows stay where they are."""
    made, _ = mess(label())
    image = made.images[0]["image_id"]
    for rule in RECORDED:
        made.changes.append({"kind": "image", "id": image, "field": "size", "before": "[1,2]", "rule": rule.value})
    whole = made.tables()
    assert all(undo(whole, rule).tables is whole for rule in RECORDED)


def test_what_no_rule_changes_is_only_recorded() -> None:
    """A row on a value that is none of ours stays in the ledger, beside one that goes."""
    made, one = mess(label("catt"))
    made.change(one, Rule.LABEL_SPELLING, label="cat")
    made.changes.append(made.changes[0] | {"field": "file", "before": "a", "after": "b"})
    assert column(undo(made.tables(), Rule.LABEL_SPELLING).tables, "changes", "field") == ["file"]


def test_a_copy_that_was_never_labelled_stays_one() -> None:
    """Where labels come from a model, exact copies have none of their own, and no row in the ledger."""
    whole = clean(tables(picture("a.jpg", face()), picture("b.jpg", outcome="duplicate", duplicate_of="x" * 64)))
    assert undo(whole, Rule.DUPLICATE_EXACT).tables is whole


def test_crops_of_what_stands_are_kept() -> None:
    """An undo loses no picture of a face."""
    whole = tables(picture("a.jpg", face((-5, 0, 50, 50))))
    own = {name: column(whole, "annotations", name)[0] for name in ("annotation_id", "image_id", "item_key")}
    crops = whole.crops.schema.empty_table().from_pylist([own | {"crop": b"jpeg"}], schema=whole.crops.schema)
    whole = clean(replace(whole, crops=crops))
    assert column(undo(whole, Rule.BBOX_CLIPPED).tables, "crops", "crop") == [b"jpeg"]


# ---- properties


@settings(max_examples=60, deadline=None)
@given(messes(), st.randoms(use_true_random=False))
def test_undoing_all_rules_in_any_order_restores_what_came(drawn: tuple, chance) -> None:
    """Labels, boxes, confidences, pictures and outcomes; nothing is left in quarantine nor in the ledger."""
    made, before = drawn
    now = made.tables()
    rules = list(Rule)
    chance.shuffle(rules)
    for rule in rules:
        now = undo(now, rule).tables
    want, found = state(before), state(now)
    for identity, row in want.items():
        assert [found[identity][at] for at in range(8)] == row[:8]
    assert found.keys() == want.keys()
    assert column(now, "images", "outcome") == column(before, "images", "outcome")
    assert column(now, "images", "annotations") == column(before, "images", "annotations")
    assert now.quarantine.num_rows == now.changes.num_rows == 0


@settings(max_examples=40, deadline=None)
@given(messes(), st.sampled_from(sorted(Rule)))
def test_undone_twice_is_undone_once(drawn: tuple, rule: Rule) -> None:
    """And the undo of a rule that did nothing is the identity."""
    whole = drawn[0].tables()
    once = undo(whole, rule).tables
    assert undo(once, rule).tables is once
    did = {row["rule"] for row in (*whole.changes.to_pylist(), *whole.quarantine.to_pylist())}
    assert rule in did or once is whole


@settings(max_examples=40, deadline=None)
@given(messes(), st.sampled_from(sorted(Rule)))
def test_nothing_vanishes_and_all_that_stands_has_a_picture(drawn: tuple, rule: Rule) -> None:
    """Each label stands or is held, never both; it stands on a picture that stands; counts agree."""
    made, before = drawn
    now = undo(made.tables(), rule).tables
    standing = column(now, "annotations", "annotation_id")
    held = {row["id"] for row in now.quarantine.to_pylist() if row["kind"] == "annotation"}
    assert sorted([*standing, *held]) == sorted(state(before))
    found = dict.fromkeys(column(now, "images", "image_id"), 0)
    for image in column(now, "annotations", "image_id"):
        found[image] += 1
    for row in now.images.to_pylist():
        if row["outcome"] != Outcome.DUPLICATE:
            assert row["annotations"] == found[row["image_id"]]
        assert (found[row["image_id"]] > 0) == (row["outcome"] == Outcome.LABELLED)


@settings(deadline=None)
@given(st.tuples(*[st.floats(width=32)] * 4))
def test_a_box_reads_back(box: tuple[float, ...]) -> None:
    """Its text has digits enough for float32, and holds what is no number too."""
    told = read_box(box_text(box))
    assert np.array_equal(np.float32(told), np.float32(box), equal_nan=True) or np.isnan(box).all()
