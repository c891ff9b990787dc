"""People's words: what stands after one, after two that agree or differ, and after a third; and what they outlast."""

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.reasons import Outcome, Rule
from schemas.tables import Tables
from tests.builders import column, face, picture, tables
from tests.transforms.messes import NAMES, Mess, boxes, held_under, label, messes, plain, state
from transforms.decisions import PEOPLE, Applied, Decision, Verdict, apply, lay, lift
from transforms.edits import Box, box_of
from transforms.ledger import undo

NOW = datetime(2025, 1, 31, 12, tzinfo=UTC)
BOX = (10.0, 20.0, 100.0, 120.0)


def canonical(name: str) -> str | None:
    """Fold a name into the vocabulary of the tests."""
    folded = name.strip().lower()
    return folded if folded in NAMES else None


def decision(identity: str, verdict: str = "accept", reviewer: str = "anna", line: int = 2, **others: Any) -> Decision:
    """Return a decision as it is read from a line that shows what stands."""
    rest = {"label": None, "box": None, "new_label": None, "new_box": None, "comment": None, "decided_at": NOW}
    return Decision(line=line, id=identity, verdict=Verdict(verdict), reviewer=reviewer, **(rest | others))


def decided(on: Tables | Mess, *decisions: Decision) -> Applied:
    """Apply decisions with the vocabulary of the tests."""
    return apply(on.tables() if isinstance(on, Mess) else on, decisions, canonical)


def waiting(*names: str | None) -> tuple[Mess, list[str]]:
    """Return one picture with labels that wait for a person, and their ids."""
    made = Mess(picture("a.jpg", *(label(name) for name in names)))
    ids = made.ids()
    for identity in ids:
        made.hold(identity, Rule.LABEL_NEEDS_REVIEW, candidates=["cat", "dog"])
    return made, ids


# ---- one word


def test_a_persons_label_stands_with_certainty() -> None:
    """Origin person, confidence 1; what was there before stays in the ledger, with who and when."""
    whole = tables(picture("a.jpg", face(BOX, "happy", 0.75)))
    identity = column(whole, "annotations", "annotation_id")[0]
    done = decided(whole, decision(identity, "relabel", new_label=" Cat", comment="clearly"))
    [row] = done.tables.annotations.to_pylist()
    assert (row["label"], row["origin"], row["confidence"]) == ("cat", "person", 1.0)
    assert row["p_happy"] == 0.75 and row["model"] is not None
    told = {row["field"]: (row["before"], row["after"]) for row in done.tables.changes.to_pylist()}
    assert told == {
        "label": ("happy", "cat"),
        "bbox": ("[10.0, 20.0, 100.0, 120.0]", "[10.0, 20.0, 100.0, 120.0]"),
        "confidence": ("0.75", "1.0"),
        "origin": ("model", "person"),
        "comment": (None, "clearly"),
    }
    assert {(row["rule"], row["reviewer"], row["decided_at"]) for row in done.tables.changes.to_pylist()} == {
        ("person.decision", "anna", NOW)
    }
    assert done.taken["relabel"] == 1 and not done.refusals


def test_a_persons_box_stands_with_its_shares() -> None:
    """Also where the label was of the whole picture."""
    made = Mess(picture("a.jpg", label("cat"), label("dog", None)))
    one, two = made.ids()
    box = (64.0, 48.0, 64.0, 48.0)
    done = decided(made, decision(one, "rebox", new_box=box), decision(two, "both", new_box=box, new_label="bird"))
    for row in done.tables.annotations.to_pylist():
        assert box_of(row) == box and row["cx"] == pytest.approx(0.15) and row["h"] == pytest.approx(0.1)
    assert column(done.tables, "annotations", "label") == ["cat", "bird"]


def test_what_waited_stands() -> None:
    """It leaves quarantine, whatever held it there, and its picture is labelled."""
    made = Mess(picture("a.jpg", label("bull")))
    [one] = made.ids()
    made.hold(one, Rule.LABEL_NEEDS_REVIEW, Rule.BBOX_OUTLIER)
    done = decided(made, decision(one, "relabel", new_label="cat")).tables
    assert done.quarantine.num_rows == 0
    assert column(done, "annotations", "label") == ["cat"]
    assert column(done, "images", "outcome") == [Outcome.LABELLED]


def test_a_rejected_label_is_kept_in_quarantine() -> None:
    """As it was, with who rejected it."""
    made = Mess(picture("a.jpg", label("cat")))
    [one] = made.ids()
    before = made.tables()
    done = decided(made, decision(one, "reject", comment="a drawing")).tables
    [row] = done.quarantine.to_pylist()
    assert (row["rule"], row["detail"]) == ("person.rejected", "rejected by anna: a drawing")
    held = json.loads(row["held"])
    assert held == {name: value for name, value in before.annotations.to_pylist()[0].items() if value is not None}
    assert column(done, "images", "outcome") == [Outcome.QUARANTINED]


def test_accepted_is_what_was_shown() -> None:
    """Another reviewer may have changed the label since the file was written: the line's own counts."""
    made, [one] = waiting("cat")
    first = decided(made, decision(one, "relabel", new_label="dog")).tables
    second = decided(first, decision(one, "accept", "ben", label="cat", box=BOX)).tables
    assert held_under(second) == {one: ["person.disagreement"]}
    assert held_under(decided(first, decision(one, "accept", "ben")).tables) == {}
    moved = decided(made, decision(one, "rebox", new_box=(200.0, 200.0, 50.0, 50.0))).tables
    assert held_under(decided(moved, decision(one, "accept", "ben", box=BOX)).tables) == {one: ["person.disagreement"]}


# ---- several words


def test_two_who_differ_put_it_back() -> None:
    """Both labels are candidates; the row is as it was before either spoke."""
    made, [one] = waiting("cat")
    done = decided(made, decision(one, "relabel", "anna", new_label="dog"), decision(one, "accept", "ben")).tables
    [row] = done.quarantine.to_pylist()
    assert (row["rule"], row["candidates"]) == ("person.disagreement", ["dog", "cat"])
    assert row["detail"].startswith("anna: dog [") and "ben: cat [" in row["detail"]
    assert json.loads(row["held"])["origin"] == "import"
    assert done.annotations.num_rows == 0


@pytest.mark.parametrize(
    ("words", "stands"),
    [
        (["cat", "cat"], "cat"),
        (["cat", "dog"], None),
        (["cat", "dog", "dog"], "dog"),
        (["cat", "dog", "bird"], None),
        (["cat", "dog", "bird", "dog"], None),  # a half is no majority
        (["cat", "dog", "bird", "dog", "dog"], "dog"),
        ([None, None], "rejected"),
        (["cat", None], None),
        (["cat", None, None], "rejected"),
        (["cat", None, "cat"], "cat"),
    ],
)
def test_a_strict_majority_settles_it(words: Sequence[str | None], stands: str | None) -> None:
    """In one file or in one for each reviewer."""
    made, [one] = waiting("cat")
    given_ = [
        decision(one, "reject" if word is None else "relabel", f"r{at}", new_label=word)
        for at, word in enumerate(words)
    ]
    together = decided(made, *given_).tables
    apart = made.tables()
    for each in given_:
        apart = decided(apart, each).tables
    assert plain(together) == plain(apart)
    rule = {None: ["person.disagreement"], "rejected": ["person.rejected"]}.get(stands, [])
    assert held_under(together).get(one, []) == rule
    assert column(together, "annotations", "label") == ([] if rule else [stands])


def test_boxes_that_overlap_by_half_agree() -> None:
    """The later one stands; those that overlap less are a disagreement, about the box."""
    made, [one] = waiting("cat")
    near, far = (15.0, 20.0, 100.0, 120.0), (200.0, 200.0, 50.0, 50.0)
    done = decided(made, decision(one), decision(one, "rebox", "ben", new_box=near)).tables
    assert [box_of(row) for row in done.annotations.to_pylist()] == [near]
    done = decided(made, decision(one), decision(one, "rebox", "ben", new_box=far)).tables
    [row] = done.quarantine.to_pylist()
    assert (row["rule"], row["field"], row["candidates"]) == ("person.disagreement", "bbox", ["cat"])


# ---- refusals


@pytest.mark.parametrize(
    ("given_", "why"),
    [
        ({"identity": "x-0"}, "no annotation has the id 'x-0'"),
        ({"verdict": "relabel", "new_label": "catt"}, "'catt' is not in the vocabulary"),
        ({"label": "bull"}, "'bull' is not in the vocabulary: relabel"),
        ({"verdict": "rebox", "new_box": (600.0, 10.0, 50.0, 50.0)}, "reaches out of its picture of 640 x 480 px"),
        ({"verdict": "rebox", "new_box": (-1.0, 10.0, 50.0, 50.0)}, "reaches out"),
        ({"verdict": "rebox", "new_box": (10.0, 10.0, 0.5, 50.0)}, "at least 1 px"),
        ({"verdict": "rebox", "new_box": (float("nan"), 10.0, 50.0, 50.0)}, "expected four numbers"),
        ({"verdict": "rebox", "new_box": (1e300, 10.0, 50.0, 50.0)}, "reaches out"),
    ],
)
def test_what_cannot_stand_is_refused(given_: dict[str, Any], why: str) -> None:
    """With its line and the reason; the rest is applied."""
    made, [one, two] = waiting("cat", "cat")
    wrong = decision(**({"identity": one, "line": 7} | given_))
    done = decided(made, wrong, decision(two, line=8))
    [refusal] = done.refusals
    assert refusal.line == 7 and why in refusal.reason
    assert column(done.tables, "annotations", "annotation_id") == [two]


def test_a_label_that_is_not_there_cannot_be_accepted() -> None:
    """Nor can a box that is none."""
    made, [one, two] = waiting(None, "cat")
    made.held[two] |= {"bbox_w": 0.0}
    done = decided(made, decision(one), decision(two))
    unnamed, flat = (refusal.reason for refusal in done.refusals)
    assert unnamed.startswith("there is no label: relabel") and "is none: expected four numbers" in flat


def test_a_decision_is_given_once() -> None:
    """A repetition is refused and changes nothing; another word of the same reviewer is refused too."""
    made, [one] = waiting("cat")
    done = decided(made, decision(one), decision(one, line=3), decision(one, "reject", line=4))
    assert [refusal.line for refusal in done.refusals] == [3, 4]
    assert done.refusals[0].reason == "already given by anna"
    assert done.refusals[1].reason.startswith("anna has decided otherwise before (cat [")
    again = decided(done.tables, decision(one))
    assert again.tables is done.tables and [refusal.reason for refusal in again.refusals] == ["already given by anna"]


def test_what_stands_on_no_picture_is_refused() -> None:
    """A label on a copy, or on a picture that is held back itself, could not stand."""
    made = Mess(*(picture(name, label("cat")) for name in ("a.jpg", "b.jpg", "c.jpg")))
    first, copy, broken = (row["image_id"] for row in made.images)
    made.hold(f"{copy}-0", Rule.LABEL_NEEDS_REVIEW)
    made.merge(copy, first, Rule.DUPLICATE_EXACT)
    made.hold_picture(broken, Rule.IMAGE_SIZE)
    whole = made.tables()
    done = decided(whole, decision(f"{copy}-0"), decision(f"{broken}-0"))
    assert [refusal.reason.split(": ")[1][:22] for refusal in done.refusals] == [
        "it is a copy of " + first[:6],
        "it is held back by ima",
    ]
    assert done.tables is whole


def test_a_row_without_a_copy_of_itself_is_refused() -> None:
    """The first versions did not keep what they held back."""
    made, [one] = waiting("cat")
    made.held.clear()
    assert "no copy of it was kept" in decided(made, decision(one)).refusals[0].reason


# ---- what words outlast


def test_no_rule_takes_back_what_a_person_decided() -> None:
    """Under the person's word the label goes back; when the word goes, it is that which stands again."""
    made = Mess(picture("a.jpg", label("catt", (-10, 0, 50, 50))))
    [one] = made.ids()
    made.change(one, Rule.LABEL_SPELLING, label="cat")
    made.change(one, Rule.BBOX_CLIPPED, bbox=(0, 0, 40, 50))
    now = decided(made, decision(one)).tables
    for rule in (Rule.LABEL_SPELLING, Rule.BBOX_CLIPPED):
        now = undo(now, rule).tables
    assert [row[1:4] for row in state(now).values()] == [["cat", 1.0, "person"]]
    assert box_of(now.annotations.to_pylist()[0]) == (0, 0, 40, 50)
    back = undo(now, Rule.PERSON_DECISION)
    assert [row[1:8] for row in state(back.tables).values()] == [["catt", None, "import", -10, 0, 50, 50]]
    assert back.words == 1 and back.tables.changes.num_rows == 0


def test_without_the_word_it_waits_again() -> None:
    """It goes back to quarantine, with its candidates; if the rule that held it was undone meanwhile, it stands."""
    made, [one] = waiting("bull")
    before = made.tables()
    done = decided(made, decision(one, "relabel", new_label="cat")).tables
    assert plain(undo(done, Rule.PERSON_DECISION).tables) == plain(before)
    freed = undo(done, Rule.LABEL_NEEDS_REVIEW).tables
    assert column(freed, "annotations", "label") == ["cat"]
    assert column(undo(freed, Rule.PERSON_DECISION).tables, "annotations", "label") == ["bull"]


def test_the_rules_of_people_are_undone_one_by_one() -> None:
    """Without rejections a label stands; without a disagreement nobody has spoken there."""
    made, [one, two] = waiting("cat", "cat")
    done = decided(
        made,
        decision(one),
        decision(one, "reject", "ben"),
        decision(one, "reject", "eve"),
        decision(two),
        decision(two, "reject", "ben"),
    ).tables
    assert held_under(done) == {one: ["person.rejected"], two: ["person.disagreement"]}
    assert column(undo(done, Rule.PERSON_REJECTED).tables, "annotations", "annotation_id") == [one, two]
    assert held_under(undo(done, Rule.PERSON_DECISION).tables) == {one: ["person.rejected"], two: ["person.rejected"]}
    assert held_under(undo(done, Rule.PERSON_DISAGREEMENT).tables) == {
        one: ["person.rejected"],
        two: ["label.needs_review"],
    }


def test_a_word_goes_back_with_its_picture() -> None:
    """It was said of a box on the picture that stood for a copy: on the copy it is said of the same thing there."""
    made = Mess(
        picture("a.jpg", width=100, height=100), picture("b.jpg", label("cat", (20, 20, 40, 40)), width=200, height=200)
    )
    first, copy = (row["image_id"] for row in made.images)
    made.merge(copy, first, Rule.DUPLICATE_NEAR)
    for verdict, box, want in (
        ("accept", None, (20, 20, 40, 40)),
        ("rebox", (12.0, 10.0, 20.0, 18.0), (24, 20, 40, 36)),
    ):
        done = decided(made, decision(f"{copy}-0", verdict, new_box=box)).tables
        [row] = undo(done, Rule.DUPLICATE_NEAR).tables.annotations.to_pylist()
        assert (row["image_id"], row["origin"], box_of(row)) == (copy, "person", want)


def test_crops_of_what_stands_are_kept() -> None:
    """Laying words over rows loses no picture of a face."""
    whole = tables(picture("a.jpg", face(BOX), face((300, 20, 50, 50))))
    rows = [
        {name: row[name] for name in ("annotation_id", "image_id", "item_key")} | {"crop": bytes([at])}
        for at, row in enumerate(whole.annotations.to_pylist())
    ]
    whole = replace(whole, crops=whole.crops.from_pylist(rows, schema=whole.crops.schema))
    one, two = column(whole, "annotations", "annotation_id")
    names = {"relabel": "cat", "reject": None}
    done = decided(whole, *(decision(i, v, new_label=names[v]) for i, v in ((one, "relabel"), (two, "reject")))).tables
    assert column(done, "crops", "annotation_id") == [one]


# ---- properties


@st.composite
def judged(draw: st.DrawFn) -> tuple[Tables, Tables, Tables]:
    """Draw a mess: as it came, worked over by rules, and then judged by up to three people."""
    made, before = draw(messes())
    ids = made.ids()
    decisions = []
    for line in range(draw(st.integers(0, 6)) if ids else 0):
        verdict = draw(st.sampled_from(Verdict))
        box: Box = draw(boxes.filter(bool))
        decisions.append(
            decision(
                draw(st.sampled_from(ids)),
                verdict,
                draw(st.sampled_from(["anna", "ben", "eve"])),
                line,
                new_label=draw(st.sampled_from(NAMES)),
                new_box=box,
            )
        )
    whole = made.tables()
    return before, whole, decided(whole, *decisions).tables


@settings(max_examples=60, deadline=None)
@given(judged())
def test_words_lie_over_the_rows(drawn: tuple[Tables, Tables, Tables]) -> None:
    """Taken off, they leave the rows as they were; laid again, as they are."""
    _, whole, spoken = drawn
    bare, words = lift(spoken)
    if words:
        assert state(bare) == state(whole)
        assert held_under(bare) == held_under(whole)
        assert plain(lay(bare, words)) == plain(spoken)


@settings(max_examples=60, deadline=None)
@given(judged(), st.randoms(use_true_random=False))
def test_undoing_all_rules_in_any_order_restores_what_came(drawn: tuple[Tables, Tables, Tables], chance: Any) -> None:
    """Also what people have said of it."""
    before, _, now = drawn
    rules = list(Rule)
    chance.shuffle(rules)
    for rule in rules:
        once = undo(now, rule).tables
        assert undo(once, rule).tables is once
        now = once
    found = state(now)
    assert {key: row[:8] for key, row in state(before).items()} == {key: row[:8] for key, row in found.items()}
    assert now.quarantine.num_rows == now.changes.num_rows == 0
    assert column(now, "images", "outcome") == column(before, "images", "outcome")


@settings(max_examples=60, deadline=None)
@given(judged(), st.sampled_from(sorted(set(Rule) - PEOPLE)))
def test_a_decided_label_outlasts_every_other_rule(drawn: tuple[Tables, Tables, Tables], rule: Rule) -> None:
    """Label, confidence and origin; the box too, unless its picture parted from the one that stood for it."""
    _, _, spoken = drawn
    after = state(undo(spoken, rule).tables)
    for identity, row in state(spoken).items():
        if row[3] == "person":
            assert after[identity][1:4] == row[1:4]
            assert after[identity][0] != row[0] or after[identity] == row


@settings(max_examples=40, deadline=None)
@given(judged())
def test_nobodys_word_is_lost(drawn: tuple[Tables, Tables, Tables]) -> None:
    """Each label stands or is held, never both, and counts agree."""
    before, _, now = drawn
    standing = column(now, "annotations", "annotation_id")
    held = {row["id"] for row in now.quarantine.to_pylist() if row["kind"] == "annotation"}
    assert sorted([*standing, *held]) == sorted(state(before))
    for row in now.images.to_pylist():
        count = column(now, "annotations", "image_id").count(row["image_id"])
        assert (count > 0) == (row["outcome"] == Outcome.LABELLED)
        assert row["outcome"] == Outcome.DUPLICATE or row["annotations"] == count
