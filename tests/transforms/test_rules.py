"""Cleaning writes down what it changes, loses nothing, and settles where each picture ends."""

import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings

from schemas.reasons import Rule
from schemas.tables import Tables
from tests.builders import LABELS, column, face, picture, spread, tables, with_values
from tests.strategies import HEIGHT, WIDTH, shards
from transforms.rules import clean, clip_boxes, drop_double_detections, hold_back, normalise_boxes, settle
from validation.suites import Finding, check

NAN, INF = float("nan"), float("inf")


def boxes(of: Tables) -> list[list[float]]:
    """Return the boxes that are left, rounded."""
    rows = zip(*(column(of, "annotations", name) for name in ("bbox_x", "bbox_y", "bbox_w", "bbox_h")), strict=True)
    return [[round(value, 3) if value is not None else value for value in row] for row in rows]


def equal(one: Tables, other: Tables) -> bool:
    """Tell whether two sets of tables hold the same, dictionaries and all."""
    return all(a.equals(b) for (_, a), (_, b) in zip(one.named(), other.named(), strict=True))


# ---- clip_boxes


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ((-10, 20, 100, 120), [0, 20, 90, 120]),  # left
        ((10, -20, 100, 120), [10, 0, 100, 100]),  # top
        ((600, 400, 100, 120), [600, 400, 40, 80]),  # right and bottom
        ((-5, -5, 2000, 2000), [0, 0, 640, 480]),  # all around
    ],
)
def test_a_box_over_the_edge_is_cut_and_the_change_recorded(before: tuple, after: list) -> None:
    """The change says what stood there, what stands there, by which rule, and where."""
    cut = clip_boxes(tables(picture("a.jpg", face(before))))
    assert boxes(cut) == [after]
    [change] = cut.changes.to_pylist()
    assert json.loads(change.pop("before")) == list(before)
    assert json.loads(change.pop("after")) == after
    assert change == {
        "kind": "annotation",
        "id": column(cut, "annotations", "annotation_id")[0],
        "image_id": column(cut, "images", "image_id")[0],
        "item_key": column(cut, "images", "item_key")[0],
        "file_name": "a.jpg",
        "field": "bbox",
        "rule": "bbox.clipped",
        "rule_version": 1,
        "confidence": None,
        "reviewer": None,
        "decided_at": None,
    }


def test_a_box_inside_is_not_touched() -> None:
    """Neither is one that reaches over by the rounding of float32."""
    inside = tables(picture("a.jpg", face((0, 0, 640, 480)), face((540, 20, 100.005, 10))))
    assert equal(clip_boxes(inside), inside)


@pytest.mark.parametrize(
    ("box", "told"),
    [
        ((NAN, 1, 20, 30), '["nan",1.0,20.0,30.0]'),
        ((1, 1, INF, 30), '[1.0,1.0,"inf",30.0]'),
        ((1, None, 20, 30), "[1.0,null,20.0,30.0]"),  # a part of a box is no box
        ((700, 10, 50, 50), "[700.0,10.0,50.0,50.0]"),  # outside
        ((639.5, 10, 50, 50), "[639.5,10.0,50.0,50.0]"),  # half a pixel is left
        ((10, 10, 0.9, 50), "[10.0,10.0,0.9,50.0]"),
        ((10, 10, -50, 50), "[10.0,10.0,-50.0,50.0]"),
    ],
)
def test_a_box_of_which_nothing_is_left_is_held_back(box: tuple, told: str) -> None:
    """Its row goes to the quarantine with the box as it came; there is no row of changes for it."""
    cut = clip_boxes(tables(picture("a.jpg", face(box), face())))
    [row] = cut.quarantine.to_pylist()
    assert (row["kind"], row["rule"], row["field"], row["value"]) == ("annotation", "bbox.degenerate", "bbox", told)
    assert row["file_name"] == "a.jpg"
    assert column(cut, "annotations", "rank") == [1]
    assert cut.changes.num_rows == 0


def test_a_box_of_exactly_one_pixel_stays() -> None:
    """The limit itself is allowed."""
    assert boxes(clip_boxes(tables(picture("a.jpg", face((639, 10, 50, 50)))))) == [[639, 10, 1, 50]]


def test_a_label_of_the_whole_picture_has_no_box_to_cut() -> None:
    """Four nulls are no fault, and are not filled."""
    whole = clean(tables(picture("a.jpg", face((None,) * 4))))
    assert boxes(whole) == [[None] * 4]
    assert column(whole, "annotations", "cx") == [None]
    assert column(whole, "images", "outcome") == ["labelled"]


def test_of_a_picture_of_unknown_size_only_the_near_edges_are_known() -> None:
    """Nothing is cut at an edge that nobody knows, and nothing is normalised by it."""
    unknown = clean(tables(picture("a.jpg", face((-10, 20, 9000, 120)), width=None, height=None)))
    assert boxes(unknown) == [[0, 20, 8990, 120]]
    assert column(unknown, "annotations", "w") == [None]


# ---- normalise_boxes


def test_normalised_columns_are_the_middle_and_size_over_the_picture() -> None:
    """cx, cy, w, h as YOLO and the JSON lines have them."""
    done = normalise_boxes(tables(picture("a.jpg", face((64, 48, 128, 96)))))
    values = [column(done, "annotations", name)[0] for name in ("cx", "cy", "w", "h")]
    assert values == pytest.approx([0.2, 0.2, 0.2, 0.2])
    assert done.annotations.schema.field("cx").type == pa.float32()


# ---- drop_double_detections

SAME = [
    ((100, 100, 200, 200), (150, 150, 100, 100)),  # nested, twice as wide: what a detector's suppression lets stand
    ((100, 100, 200, 200), (130, 110, 180, 190)),  # nearly the same
    ((100, 100, 200, 200), (140, 100, 200, 200)),  # shifted by a fifth
]
TWO = [
    ((100, 100, 200, 200), (210, 100, 200, 200)),  # cheek to cheek, boxes overlapping by half
    ((100, 100, 200, 200), (300, 100, 200, 200)),  # touching
    ((100, 100, 200, 200), (195, 195, 100, 100)),  # a child in front: inside the box, but low and to the side
    ((100, 100, 200, 200), (160, 100, 200, 200)),  # shifted by 0.3 of the side: in doubt, both stand
]


@pytest.mark.parametrize("landmarks", [True, False])
@pytest.mark.parametrize(("one", "other"), SAME)
def test_of_two_boxes_on_one_face_the_better_score_stands(one: tuple, other: tuple, landmarks: bool) -> None:
    """Whatever their order; the other goes to the quarantine, which names the one that stands."""
    points = {} if landmarks else {"landmarks": [None] * 10}
    for scores in ((0.7, 0.9), (0.9, 0.7)):
        double = tables(picture("a.jpg", face(one, score=scores[0], **points), face(other, score=scores[1], **points)))
        best = scores.index(0.9)
        dropped = drop_double_detections(double)
        assert boxes(dropped) == [list((one, other)[best])]
        [row] = dropped.quarantine.to_pylist()
        assert (row["rule"], row["field"]) == ("duplicate.annotation", "bbox")
        assert json.loads(row["value"]) == list((one, other)[1 - best])
        assert column(dropped, "annotations", "annotation_id")[0] in row["detail"]


@pytest.mark.parametrize("landmarks", [True, False])
@pytest.mark.parametrize(("one", "other"), TWO)
def test_two_people_whose_heads_touch_both_stand(one: tuple, other: tuple, landmarks: bool) -> None:
    """A person that is lost is worse than a box that is doubled."""
    points = {} if landmarks else {"landmarks": [None] * 10}
    two = tables(picture("a.jpg", face(one, **points), face(other, **points)))
    assert equal(drop_double_detections(two), two)


def test_landmarks_tell_a_face_in_front_from_a_nested_box() -> None:
    """The boxes' middles agree, the noses do not: two people."""
    high = spread(150, 120, 100, 60)
    two = tables(picture("a.jpg", face((100, 100, 200, 200), landmarks=high), face((150, 150, 100, 150))))
    assert drop_double_detections(two).annotations.num_rows == 2


def test_scores_that_tie_or_are_missing_leave_it_to_the_rank() -> None:
    """The order must not depend on chance."""
    for scores in ((0.8, 0.8), (None, None), (0.1, None)):
        double = tables(picture("a.jpg", face(SAME[0][0], score=scores[0]), face(SAME[0][1], score=scores[1])))
        assert column(drop_double_detections(double), "annotations", "rank") == [0]


def test_a_box_that_is_itself_dropped_drops_no_other() -> None:
    """In a chain a-b-c, where only neighbours are the same, a drops b, and c stands."""
    chain = [face((100 + 45 * i, 100, 200, 200), score=0.9 - i / 10) for i in range(3)]
    assert column(drop_double_detections(tables(picture("a.jpg", *chain))), "annotations", "rank") == [0, 2]


def test_only_boxes_of_one_picture_and_of_a_model_are_compared() -> None:
    """What people labelled, or what came in, are claims of their own."""
    apart = tables(
        picture("a.jpg", face()),
        picture("b.jpg", face()),
        picture("c.jpg", face(), face(origin="person"), face(origin="import"), face((None,) * 4)),
    )
    assert equal(drop_double_detections(apart), apart)


# ---- hold_back and settle


def finding(table: str, row: int, rule: Rule = Rule.LABEL_CONFIDENCE) -> Finding:
    """Return a finding whose texts do not matter."""
    return Finding(table, row, rule, "some field", "some value", "some detail")  # type: ignore[arg-type]


def test_an_annotation_with_a_finding_goes_to_quarantine() -> None:
    """One row a finding; its picture keeps the others, and is quarantined when none is left."""
    given_ = tables(picture("a.jpg", face(), face((300, 20, 90, 90))), picture("b.jpg", face()), picture("c.jpg"))
    rows = [finding("annotations", 2), finding("annotations", 0), finding("annotations", 0, Rule.BBOX_INSIDE)]
    held = hold_back(given_, rows)
    assert column(held, "quarantine", "rule") == ["label.confidence", "label.confidence", "bbox.inside"]
    assert column(held, "quarantine", "file_name") == ["b.jpg", "a.jpg", "a.jpg"]
    row = held.quarantine.to_pylist()[0]
    gone = json.loads(row.pop("held"))
    assert gone["annotation_id"] == row["id"]
    assert gone["label"] == "happy"
    assert row | {"id": 0, "image_id": 0, "item_key": 0} == {
        "kind": "annotation",
        "id": 0,
        "image_id": 0,
        "item_key": 0,
        "file_name": "b.jpg",
        "rule": "label.confidence",
        "field": "some field",
        "value": "some value",
        "candidates": None,
        "detail": "some detail",
    }
    assert column(held, "images", "outcome") == ["labelled", "quarantined", "no_face"]
    assert column(held, "images", "annotations") == [1, 0, 0]
    assert column(held, "annotations", "rank") == [1]


def test_a_picture_with_a_finding_is_held_back_with_its_annotations() -> None:
    """Its row stays, as quarantined; its annotations follow under the same rule."""
    two = tables(picture("a.jpg", face()), picture("b.jpg", face()))
    held = hold_back(two, [finding("images", 0, Rule.IMAGE_SIZE)])
    assert column(held, "images", "outcome") == ["quarantined", "labelled"]
    assert column(held, "images", "annotations") == [0, 1]
    assert column(held, "quarantine", "kind") == ["image", "annotation"]
    assert column(held, "quarantine", "rule") == ["image.size"] * 2
    assert column(held, "quarantine", "file_name") == ["a.jpg"] * 2
    assert column(held, "annotations", "image_id") == column(held, "images", "image_id")[1:]


def test_an_annotation_without_its_picture_can_be_held_back() -> None:
    """Then the quarantine has no file name to tell."""
    two = tables(picture("a.jpg", face(), face((300, 20, 90, 90))))
    orphan = clean(with_values(two, "annotations", 0, image_id="f" * 64))
    findings = [found for found in check(orphan, LABELS) if found.rule == Rule.REFERENCE_NO_IMAGE]
    held = hold_back(orphan, findings)
    assert column(held, "quarantine", "file_name") == [None]
    assert column(held, "annotations", "rank") == [1]


def test_a_crop_goes_with_its_annotation() -> None:
    """No picture of a face outlives its row."""
    given_ = tables(picture("a.jpg", face(), face((300, 20, 90, 90))))
    ids = column(given_, "annotations", "annotation_id")
    crops = [{"annotation_id": name, "image_id": "", "item_key": "", "crop": b""} for name in ids]
    given_ = replace(given_, crops=pa.Table.from_pylist(crops, schema=given_.crops.schema))
    assert column(hold_back(given_, [finding("annotations", 0)]), "crops", "annotation_id") == ids[1:]


def test_outcomes_follow_from_what_is_left() -> None:
    """Doubles alone never quarantine a picture; duplicates are left alone; quarantined stays so."""
    settled = clean(
        tables(
            picture("labelled.jpg", face(), outcome="no_face", annotations=7),
            picture("empty.jpg", outcome="labelled", annotations=3),
            picture("lost.jpg", face((NAN, 1, 2, 3))),
            picture("double.jpg", face(), face()),
            picture("copy.jpg", outcome="duplicate", duplicate_of="0" * 64, annotations=None),
            picture("held.jpg", outcome="quarantined"),
        )
    )
    assert column(settled, "images", "outcome") == [
        "labelled",
        "no_face",
        "quarantined",
        "labelled",
        "duplicate",
        "quarantined",
    ]
    assert column(settled, "images", "annotations") == [1, 0, 0, 1, None, 0]


def test_a_double_that_was_dropped_is_no_lost_label() -> None:
    """The face was labelled once; what became of that label decides."""
    one = tables(picture("a.jpg"))
    for rule, outcome in (("duplicate.annotation", "no_face"), ("label.suspect", "quarantined")):
        row = {"kind": "annotation", "image_id": column(one, "images", "image_id")[0], "rule": rule}
        held = replace(one, quarantine=pa.Table.from_pylist([row], schema=one.quarantine.schema))
        assert column(settle(held), "images", "outcome") == [outcome]


def test_annotations_stand_in_the_order_of_pictures_then_rank() -> None:
    """Whatever order they came in; pictures keep theirs."""
    given_ = tables(picture("b.jpg", face(), face((300, 20, 90, 90))), picture("a.jpg", face()))
    mixed = replace(given_, annotations=given_.annotations.take(pa.array([2, 1, 0])))
    assert settle(mixed).annotations.equals(given_.annotations)
    assert column(settle(mixed), "images", "file_name") == ["b.jpg", "a.jpg"]


def test_empty_tables_stay_empty() -> None:
    """A shard may hold failures only."""
    assert equal(clean(tables()), tables())
    assert equal(hold_back(tables(), []), tables())


# ---- properties


@settings(max_examples=150, deadline=None)
@given(shards())
def test_clean_leaves_boxes_inside_and_every_row_somewhere(shard: Tables) -> None:
    """After cleaning the suites find nothing, no annotation is lost, and cleaning again changes nothing."""
    cleaned = clean(shard)
    x, y, w, h = (
        np.array([v for v in column(cleaned, "annotations", name) if v is not None])
        for name in ("bbox_x", "bbox_y", "bbox_w", "bbox_h")
    )
    assert (x >= -0.01).all() and (y >= -0.01).all() and (w >= 1).all() and (h >= 1).all()
    assert (x + w <= WIDTH + 0.01).all() and (y + h <= HEIGHT + 0.01).all()
    left, held = (column(cleaned, "annotations", "annotation_id"), column(cleaned, "quarantine", "id"))
    assert sorted(left + held) == sorted(column(shard, "annotations", "annotation_id"))
    assert check(cleaned, LABELS) == []
    assert equal(clean(cleaned), cleaned)
    assert equal(settle(cleaned), cleaned)
    for (_, before), (_, after) in zip(shard.named(), cleaned.named(), strict=True):
        assert before.schema == after.schema


@settings(max_examples=50, deadline=None)
@given(shards())
def test_cleaning_a_shard_is_cleaning_its_pictures(shard: Tables) -> None:
    """No picture's rows depend on what stands beside them, so neither do they on the size of shards."""
    whole = clean(shard)
    for row, name in enumerate(column(shard, "images", "image_id")):
        own = [i for i, other in enumerate(column(shard, "annotations", "image_id")) if other == name]
        alone = clean(
            replace(
                shard,
                images=shard.images.slice(row, 1),
                annotations=shard.annotations.take(pa.array(own, pa.int64())),
            )
        )
        kept = [r for r in whole.annotations.to_pylist() if r["image_id"] == name]
        assert repr(alone.annotations.to_pylist()) == repr(kept)
        assert alone.images.to_pylist() == whole.images.slice(row, 1).to_pylist()
