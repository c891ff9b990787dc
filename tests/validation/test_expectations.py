"""What cleaned rows are held to: each rule's expectation names the rows that break it, and no others."""

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.reasons import Duplicates, Rule
from schemas.tables import Tables
from schemas.vocabulary import EXPRESSIONS
from tests.builders import LABELS, face, picture, tables, with_values
from transforms.rules import normalise_boxes
from validation.suites import judge, warm_up
from validation.terms import SAME_THING, Terms, cleaned

WORDS = ("cat", "dog", "person")
TERMS = cleaned(WORDS)
FIRST = (10, 20, 100, 120)
NO_BOX = (None,) * 4
NO_FILE: dict[str, Any] = {"sha256": None, "size_bytes": None, "width": None, "height": None}
WITHOUT = dict.fromkeys(f"p_{name}" for name in LABELS)


def label(box: Sequence[float | None] = FIRST, name: str = "cat", origin: str = "import", **others: Any) -> dict:
    """Return a label that came from elsewhere."""
    told = {"confidence": 1.0 if origin == "person" else None} | others
    confidence = told.pop("confidence")
    nothing = {"detection_score": None, "landmarks": None, "model": None, **WITHOUT}
    return face(box, name, **nothing) | {"origin": origin, "confidence": confidence, **told}


def cleaned_tables(*pictures: dict) -> Tables:
    """Return tables with cx, cy, w, h filled in."""
    return normalise_boxes(tables(*pictures))


def valid() -> Tables:
    """Return what is unusual and right: 0 boxes, 1 two people's word, 2 no file, 3 a copy, 4 and 5 frames, 6 no label.

    The annotations: 0 and 1 on picture 0, 2 and 3 on 1, 4 and 5 on 2, 6 on 4.
    """
    stands = picture("a.jpg", label(), label((300, 20, 90, 90), "dog", confidence=0.5))
    frame = {"sha256": "5" * 64, "video_id": "film.mp4"}
    return cleaned_tables(
        stands,
        picture("b.jpg", label(NO_BOX), label((5, 5, 500, 2), "dog", "person")),
        picture("gone.jpg", label(NO_BOX, "person"), label((0, 0, 9_000, 8_000)), **NO_FILE),
        picture("copy.jpg", outcome="duplicate", duplicate_of=stands["image_id"]),
        picture("film.mp4#0", label(), frame_index=0, pts_ms=0.0, **frame),
        picture("film.mp4#1", frame_index=1, pts_ms=40.0, **frame),
        picture("empty.jpg"),
    )


def found(rows: Tables, terms: Terms = TERMS) -> set[tuple[str, int, Rule | str]]:
    """Return the table, row and rule of each finding."""
    return {(each.table, each.row, each.rule) for each in judge(rows, terms).findings}


def test_what_came_from_elsewhere_passes() -> None:
    """Labels without a confidence, without a box, of a picture that is not at hand, and a person's."""
    assert found(valid()) == set()


IMAGES: list[tuple[int, dict, Rule]] = [
    (0, {"sha256": "5"}, Rule.IMAGE_IDENTITY),
    (2, {"image_id": "7"}, Rule.IMAGE_IDENTITY),  # not only a broken id: its labels lose their picture
    (0, {"width": None, "height": None}, Rule.IMAGE_SIZE),  # it is at hand, so its size is known
    (0, {"width": -1}, Rule.IMAGE_SIZE),
    (2, {"width": 640}, Rule.IMAGE_SIZE),  # of a declared size, both sides
    (2, {"width": 0, "height": 0}, Rule.IMAGE_SIZE),
    (6, {"outcome": "labelled"}, Rule.IMAGE_OUTCOME),
    (3, {"duplicate_of": None}, Rule.IMAGE_OUTCOME),
    (6, {"outcome": "empty"}, Rule.IMAGE_OUTCOME),
    (5, {"frame_index": -1}, Rule.REFERENCE_FRAME),
    (5, {"video_id": None, "sha256": "6" * 64}, Rule.REFERENCE_FRAME),
    (5, {"pts_ms": float("nan")}, Rule.REFERENCE_FRAME),
]


@pytest.mark.parametrize(("row", "values", "rule"), IMAGES)
def test_a_picture_that_breaks_a_rule_is_named(row: int, values: dict, rule: Rule) -> None:
    """One broken value gives a finding of its rule, and no other picture has one."""
    named = {each for each in found(with_values(valid(), "images", row, **values)) if each[0] == "images"}
    assert ("images", row, rule) in named
    assert {at for _, at, _ in named} == {row}


SHARES = {"cx": 0.5, "cy": 0.5, "w": 0.1, "h": 0.1}
ANNOTATIONS: list[tuple[int, dict, Rule]] = [
    (0, {"label": "catt"}, Rule.LABEL_VOCABULARY),
    (0, {"label": "happy"}, Rule.LABEL_VOCABULARY),  # one of the classifier's, not of the vocabulary
    (0, {"label": None}, Rule.LABEL_VOCABULARY),
    (0, {"confidence": 1.0}, Rule.LABEL_CONFIDENCE),
    (0, {"origin": "somebody"}, Rule.LABEL_CONFIDENCE),
    (0, {"bbox_x": 600.0}, Rule.BBOX_INSIDE),
    (5, {"bbox_x": -1.0}, Rule.BBOX_INSIDE),  # the left edge is known though the size is not
    (0, {"bbox_w": None}, Rule.BBOX_INSIDE),
    (2, SHARES, Rule.BBOX_NORMALISED),  # of a picture of known size
    (5, SHARES, Rule.BBOX_NORMALISED),  # of one of unknown size, and a box in pixels too
    (4, SHARES | {"cx": 0.96}, Rule.BBOX_NORMALISED),
    (4, SHARES | {"h": 0.0}, Rule.BBOX_NORMALISED),
    (4, SHARES | {"w": None}, Rule.BBOX_NORMALISED),
    (0, {"bbox_w": 0.9}, Rule.BBOX_DEGENERATE),
    (0, {"bbox_w": 400.0, "bbox_h": 3.9}, Rule.BBOX_ASPECT),
    (0, {"image_id": "0" * 64}, Rule.REFERENCE_NO_IMAGE),
    (0, {"annotation_id": None}, Rule.REFERENCE_DUPLICATE_ID),
]


@pytest.mark.parametrize(("row", "values", "rule"), ANNOTATIONS)
def test_an_annotation_that_breaks_a_rule_is_named(row: int, values: dict, rule: Rule) -> None:
    """One broken value gives a finding of its rule; of the annotations, no other one has one."""
    named = {each for each in found(with_values(valid(), "annotations", row, **values)) if each[0] == "annotations"}
    assert ("annotations", row, rule) in named
    assert {at for _, at, _ in named} == {row}


def test_a_box_may_be_known_in_shares_alone() -> None:
    """Where the size of its picture is not: YOLO's label files without the pictures. Doubles are found there too."""
    box = {"bbox_x": None, "bbox_y": None, "bbox_w": None, "bbox_h": None, **SHARES}
    one, near = label(NO_BOX) | box, label(NO_BOX) | box | {"cx": 0.502}
    whole = one | {"cx": 0.5, "cy": 0.5, "w": 1.0, "h": 1.0}
    for labels, named in (
        ([whole, label((0, 0, 1, 1))], {}),  # pixels are no shares
        ([one | {"w": 0.4}, one | {"w": 0.34, "cx": 0.47}], {1: Rule.DUPLICATE_ANNOTATION}),  # one corner, 0.85
        ([one, label(NO_BOX), label((0, 0, 1, 1))], {}),
        ([one, near], {1: Rule.DUPLICATE_ANNOTATION}),
        ([one, near | {"label": "dog"}], dict.fromkeys((0, 1), Rule.LABEL_CONFLICT)),
        ([one, near | {"label": "dog", "cy": 0.53}], {}),
    ):
        rows = tables(picture("a.jpg", *labels, **NO_FILE))
        assert found(rows) == {("annotations", row, rule) for row, rule in named.items()}


def test_two_annotations_of_one_id_are_both_named() -> None:
    """Which of them another table means cannot be told."""
    rows = valid()
    same = rows.annotations["annotation_id"][0].as_py()
    named = found(with_values(rows, "annotations", 6, annotation_id=same))
    assert named == {("annotations", row, Rule.REFERENCE_DUPLICATE_ID) for row in (0, 6)}


def test_pictures_that_must_be_at_hand_have_a_file() -> None:
    """Where all files are there, a picture without one breaks both rules, as in an annotated data set."""
    named = found(valid(), cleaned(WORDS, files=True))
    assert named == {("images", 2, Rule.IMAGE_IDENTITY), ("images", 2, Rule.IMAGE_SIZE)}


def test_a_copy_names_another_picture_that_stands() -> None:
    """Neither itself, nor a copy."""
    one, two = picture("a.jpg", outcome="duplicate"), picture("b.jpg", outcome="duplicate")
    chain = cleaned_tables(picture("c.jpg"), one | {"duplicate_of": two["image_id"]}, two | {"duplicate_of": "0" * 64})
    assert found(chain) == {("images", 1, Rule.IMAGE_OUTCOME)}
    itself = judge(cleaned_tables(one | {"duplicate_of": one["image_id"]}), TERMS).findings
    assert [(each.row, each.rule, each.detail) for each in itself] == [(0, Rule.IMAGE_OUTCOME, "a duplicate of itself")]


def test_two_pictures_of_one_content_do_not_both_stand() -> None:
    """Unless all are kept; a copy of it, and one that is held back, do not stand."""
    same = {"sha256": "3" * 64}
    twice = cleaned_tables(
        picture("a.jpg", **same),
        picture("b.jpg", **same),
        picture("c.jpg", outcome="quarantined", **same),
        picture("d.jpg", outcome="duplicate", duplicate_of="0" * 64, **same),
    )
    assert found(twice) == {("images", 1, Rule.DUPLICATE_EXACT)}
    assert found(twice, cleaned(WORDS, duplicates=Duplicates.KEEP)) == set()


NEAR = (12, 20, 100, 120)  # over 0.96 of FIRST
HALF = (30, 20, 100, 120)  # under 0.7
DOUBLES: list[tuple[list[dict], dict[int, Rule]]] = [
    ([label(), label()], {1: Rule.DUPLICATE_ANNOTATION}),
    ([label(), label(NEAR)], {1: Rule.DUPLICATE_ANNOTATION}),
    ([label(), label(HALF)], {}),
    ([label(), label(NEAR, origin="person")], {0: Rule.DUPLICATE_ANNOTATION}),
    ([label(origin="person"), label(NEAR, origin="person")], {}),
    ([label(), label(NEAR, "dog")], {0: Rule.LABEL_CONFLICT, 1: Rule.LABEL_CONFLICT}),
    ([label(), label((25, 20, 100, 120), "dog")], {}),  # 0.74: a thing in front of another
    ([label(origin="person"), label(NEAR, "dog")], {1: Rule.LABEL_CONFLICT}),
    ([label(NO_BOX), label(NO_BOX)], {1: Rule.DUPLICATE_ANNOTATION}),
    ([label(NO_BOX), label(NO_BOX, origin="person"), label(NO_BOX)], dict.fromkeys((0, 2), Rule.DUPLICATE_ANNOTATION)),
    ([label(NO_BOX), label(NO_BOX), label(NO_BOX, origin="person")], dict.fromkeys((0, 1), Rule.DUPLICATE_ANNOTATION)),
    ([label(NO_BOX), label(NO_BOX, "dog")], {0: Rule.LABEL_CONFLICT, 1: Rule.LABEL_CONFLICT}),
    ([label(NO_BOX), label(NEAR)], {}),
]


@pytest.mark.parametrize(("labels", "named"), DOUBLES)
def test_labels_of_one_thing_are_named(labels: list[dict], named: dict[int, Rule]) -> None:
    """Doubles but for one, contradictions all; what a person said stays. Other pictures do not matter."""
    rows = cleaned_tables(picture("a.jpg", *labels), picture("b.jpg", label(), label(NO_BOX, "person")))
    assert found(rows) == {("annotations", row, rule) for row, rule in named.items()}


def test_labels_contradict_each_other_only_where_they_exclude_each_other() -> None:
    """In a source whose boxes may have several labels, two labels of a box are no fault."""
    rows = cleaned_tables(
        picture("a.jpg", label(source="one"), label(NEAR, "dog", source="one")),
        picture("b.jpg", label(source="two"), label(NEAR, "dog", source="two")),
        picture("c.jpg", label(source="one"), label(NEAR, "dog", source="two")),
    )
    expected = {("annotations", row, Rule.LABEL_CONFLICT) for row in (0, 1)}
    assert found(rows, cleaned(WORDS, exclusive=("one",))) == expected


def overlap(one: Any, other: Any) -> float:
    """Return the intersection over union, the plain way."""
    (ax, ay, aw, ah), (bx, by, bw, bh) = one, other
    wide, high = min(ax + aw, bx + bw) - max(ax, bx), min(ay + ah, by + bh) - max(ay, by)
    shared = max(0.0, wide) * max(0.0, high)
    return shared / (aw * ah + bw * bh - shared)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.integers(2, 12), st.floats(0.2, 1.5))
def test_what_is_left_has_no_doubles_and_what_is_named_was_one(seed: int, boxes: int, spread: float) -> None:
    """Compared with all pairs: no two that stand say the same, unless both are people's."""
    random = np.random.default_rng(seed)
    things = np.array([[100, 100, 80, 60], [140, 100, 40, 90]])[random.integers(0, 2, boxes)]
    shift = spread * random.uniform(-0.12, 0.12, (boxes, 4)) * np.tile(things[:, 2:], 2)
    each = (things + shift).round(2).astype(np.float32)
    names, origins = random.choice(WORDS[:2], boxes), random.choice(["import", "person"], boxes, p=(0.8, 0.2))
    about = list(zip(each.astype(float).tolist(), names.tolist(), origins.tolist(), strict=True))
    rows = cleaned_tables(picture("a.jpg", *(label(*one) for one in about)))
    doubles = {row for _, row, rule in found(rows) if rule == Rule.DUPLICATE_ANNOTATION}

    def alike(one: int, other: int, least: float) -> bool:
        return names[one] == names[other] and overlap(about[one][0], about[other][0]) >= least

    for row in doubles:
        assert origins[row] == "import"
        assert any(alike(row, other, SAME_THING) for other in range(boxes) if other != row)
    left = sorted(set(range(boxes)) - doubles)
    for one in left:
        for other in left[left.index(one) + 1 :]:
            both = origins[one] == origins[other] == "person"
            assert both or not alike(one, other, SAME_THING + 2e-3)


def test_a_heap_of_boxes_is_judged_in_seconds() -> None:
    """25,000 times one box under two labels, and others in a grid: the cost does not grow with the square."""
    warm_up()
    heap = [label((10, 10, 30, 30), WORDS[number % 2]) for number in range(25_000)]
    grid = [label((number % 100 * 3, number // 100 * 4, 2, 2)) for number in range(10_000)]
    rows = cleaned_tables(picture("a.jpg", *heap), picture("b.jpg", *grid))
    started = time.process_time()
    named = found(rows)
    assert time.process_time() - started < 3
    assert {row for _, row, _ in named} == set(range(25_000))


def test_a_box_behind_a_heap_is_compared_too() -> None:
    """The first is much like those of the heap and like the last, which are not much like each other."""
    first, heap, last = (label((x, y, 100, 100)) for x, y in ((0, 0), (10, 0), (0, 10)))
    rows = cleaned_tables(picture("a.jpg", *[heap] * 200), picture("b.jpg", first, *[heap] * 200, last))
    assert {row for _, row, _ in found(rows)} == set(range(402)) - {0, 200}


def test_the_labels_of_a_classifier_are_not_the_vocabulary() -> None:
    """A cleaned data set has p_ columns that are empty, and labels that no classifier knows."""
    assert found(cleaned_tables(picture("a.jpg", label(name="happy"))), cleaned(EXPRESSIONS, LABELS)) == set()
    chances = label(name="cat") | {"p_happy": 0.9, "p_sad": 0.3}
    assert found(cleaned_tables(picture("a.jpg", chances))) == {("annotations", 0, Rule.LABEL_PROBABILITIES)}
