"""Boxes come out inside their pictures or are held back, and what was done to each can be followed and taken back."""

import json
import math
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.reasons import Rule
from transforms.boxes import any_box_text, aspect, box_text, clip, from_source, judge_boxes, normalise, swap_corners
from transforms.conventions import CONVENTIONS, XYWH_PIXELS, Convention
from transforms.judged import CHANGES, REJECTS, Judged

NAN, INF = float("nan"), float("inf")
XYXY = Convention("xyxy", "pixels")
YOLO = Convention("cxcywh", "unit")
Box = tuple[float | None, ...]


def raw(*boxes: Box, width: int | None = 640, height: int | None = 480) -> pl.DataFrame:
    """Return rows as a reader gives them, in pictures of one size."""
    return _rows("abcd", boxes, width, height)


def pixels(*boxes: Box, width: int | None = 640, height: int | None = 480) -> pl.DataFrame:
    """Return rows with boxes in pixels."""
    return _rows("xywh", boxes, width, height)


def _rows(names: str, boxes: tuple[Box, ...], width: int | None, height: int | None) -> pl.DataFrame:
    numbers = pl.DataFrame(list(boxes), {name: pl.Float64() for name in names}, orient="row")
    size = {"width": pl.lit(width, pl.Int32), "height": pl.lit(height, pl.Int32)}
    return numbers.with_columns(label=pl.lit("cat"), **size).with_row_index("n")


def boxes(of: Judged | pl.DataFrame) -> list[Box]:
    """Return the boxes that stand."""
    return (of.rows if isinstance(of, Judged) else of).select("x", "y", "w", "h").rows()


def told(of: Judged) -> list[tuple[int, str, str]]:
    """Return who was rejected, by which rule, with which value."""
    return of.rejects.select("n", "rule", "value").rows()


# ---- the box as it came


@pytest.mark.parametrize(
    ("convention", "box", "expected"),
    [
        (XYWH_PIXELS, (10, 20, 100, 50), (10, 20, 100, 50)),
        (XYXY, (10, 20, 110, 70), (10, 20, 100, 50)),
        (Convention("cxcywh", "pixels"), (60, 45, 100, 50), (10, 20, 100, 50)),
        (YOLO, (0.5, 0.5, 0.2, 0.1), (256, 216, 128, 48)),
        (Convention("xyxy", "percent"), (10, 10, 60, 35), (64, 48, 320, 120)),
    ],
)
def test_a_box_of_any_convention_becomes_pixels(convention: Convention, box: Box, expected: Box) -> None:
    """The numbers as they came are written down, except where they are already what the tables hold."""
    judged = from_source(raw(box), convention, "a.csv")
    assert boxes(judged) == [expected]
    assert "a" not in judged.rows.columns
    assert judged.rows["label"].to_list() == ["cat"]
    if convention == XYWH_PIXELS:
        assert not judged.changes.height
        return
    [change] = judged.changes.rows(named=True)
    assert json.loads(change.pop("before")) == list(box)
    assert json.loads(change.pop("after")) == list(expected)
    assert change == {"n": 0, "field": "bbox", "rule": "bbox.convention", "confidence": 1.0}


def test_a_label_of_the_whole_picture_passes_every_rule() -> None:
    """Four nulls are no box and no fault."""
    judged = judge_boxes(raw((None,) * 4, width=None), YOLO, "a.csv")
    assert boxes(judged) == [(None,) * 4]
    assert judged.rows.select("cx", "cy", "nw", "nh").row(0) == (None,) * 4
    assert not judged.changes.height
    assert not judged.rejects.height


@pytest.mark.parametrize(
    ("box", "value"),
    [
        ((NAN, 1, 20, 30), '["nan",1.0,20.0,30.0]'),
        ((1, 1, INF, 30), '[1.0,1.0,"inf",30.0]'),
        ((1, -INF, 1, 30), '[1.0,"-inf",1.0,30.0]'),
        ((1, None, 20, 30), "[1.0,null,20.0,30.0]"),
        ((1e9, 1, 20, 30), "[1000000000.0,1.0,20.0,30.0]"),
        ((1, 1, 1e308, 1e308), "[1.0,1.0,1e+308,1e+308]"),
    ],
)
def test_what_is_no_box_is_held_back_as_it_came(box: Box, value: str) -> None:
    """Not a number, half a box, or a coordinate that no picture has."""
    for convention in (XYWH_PIXELS, XYXY):
        judged = judge_boxes(raw(box, (1, 1, 20, 30)), convention, "a.csv")
        assert told(judged) == [(0, "bbox.degenerate", value)]
        assert judged.rows["n"].to_list() == [1]


@pytest.mark.parametrize("size", [(None, None), (0, 480), (-1, -1)])
def test_a_share_of_an_unknown_size_is_held_back(size: tuple[int | None, int | None]) -> None:
    """Pixels need no size; for shares the reason names the source and what it has."""
    judged = from_source(raw((0.5, 0.5, 0.2, 0.2), width=size[0], height=size[1]), YOLO, "yolo/")
    assert told(judged) == [(0, "bbox.convention", "[0.5,0.5,0.2,0.2]")]
    assert judged.rejects["detail"][0].startswith("yolo/ has shares of the picture's sides (cxcywh-unit)")
    assert boxes(from_source(raw((5, 5, 20, 20), width=size[0], height=size[1]), XYXY, "voc/")) == [(5, 5, 15, 15)]


# ---- corners


@pytest.mark.parametrize(
    ("convention", "box"),
    [
        (XYXY, (110, 70, 10, 20)),  # both corners
        (XYXY, (110, 20, 10, 70)),  # left and right alone
        (XYWH_PIXELS, (110, 70, -100, -50)),
        (Convention("cxcywh", "pixels"), (60, 45, -100, 50)),
    ],
)
def test_swapped_corners_are_put_right(convention: Convention, box: Box) -> None:
    """The same box, told from its other corner."""
    judged = judge_boxes(raw(box), convention, "a.csv")
    assert boxes(judged) == [(10, 20, 100, 50)]
    assert judged.changes["rule"].to_list()[-1] == "bbox.corners"


def test_straight_corners_are_left_alone() -> None:
    """Also where there is no box."""
    rows = pixels((10, 20, 100, 50), (None,) * 4)
    judged = swap_corners(rows)
    assert judged.rows.equals(rows)
    assert not judged.changes.height


# ---- the picture's edge


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ((-10, 20, 100, 120), (0, 20, 90, 120)),  # left
        ((10, -20, 100, 120), (10, 0, 100, 100)),  # top
        ((600, 400, 50, 100), (600, 400, 40, 80)),  # right and bottom
        ((10, 10, 630.4, 20), (10, 10, 630, 20)),  # less than a pixel
        ((-100, -100, 840, 680), (0, 0, 640, 480)),  # all around
    ],
)
def test_a_box_over_the_edge_is_cut_there(before: Box, after: Box) -> None:
    """What stood there and what stands there is written down."""
    judged = clip(pixels(before))
    assert boxes(judged) == [after]
    [change] = judged.changes.rows(named=True)
    assert json.loads(change["before"]) == list(before)
    assert json.loads(change["after"]) == list(after)
    assert change["rule"] == "bbox.clipped"


def test_a_box_at_the_edge_is_left_alone() -> None:
    """Also where only float32 makes it reach over, by less than what is validated."""
    rows = pixels((0, 0, 640, 480), (540.1, 20, 99.904, 10), (10, 20, 30, 40), (None,) * 4)
    judged = clip(rows)
    assert judged.rows.equals(rows)
    assert not judged.changes.height


@pytest.mark.parametrize(
    ("box", "rule"),
    [
        ((700, 10, 50, 50), "bbox.outside"),  # wholly
        ((-30, -30, 50, 50), "bbox.outside"),  # 16 % is left
        ((600, 10, 81, 50), "bbox.outside"),  # just under half
        ((1, 1, 0, 0), "bbox.degenerate"),
        ((1, 1, 0.5, 50), "bbox.degenerate"),
        ((700, 10, 0.5, 50), "bbox.degenerate"),  # too small to lie anywhere
        ((639.2, 10, 1.5, 50), "bbox.degenerate"),  # of which under a pixel is left
    ],
)
def test_a_box_of_which_too_little_is_left_is_held_back(box: Box, rule: str) -> None:
    """The one is no box, the other lies elsewhere."""
    judged = clip(pixels(box, (10, 10, 20, 20)))
    assert [(n, told_rule) for n, told_rule, _ in told(judged)] == [(0, rule)]
    assert json.loads(judged.rejects["value"][0]) == list(box)
    assert "640 x 480 px" in judged.rejects["detail"][0]
    assert judged.rows["n"].to_list() == [1]


def test_half_a_box_inside_is_enough() -> None:
    """The limit itself is allowed, as is a side of one pixel, or of what decimals made of one."""
    stands = [(600, 10, 40, 50), (639, 10, 1, 50), (10, 10, 0.995, 50)]
    assert boxes(clip(pixels((600, 10, 80, 50), *stands[1:]))) == stands


def test_of_a_picture_of_unknown_size_only_the_near_edges_are_known() -> None:
    """Nothing is cut at an edge that nobody knows."""
    judged = judge_boxes(raw((-10, 20, 9000, 120), (-90, 20, 100, 120), width=None, height=None), XYWH_PIXELS, "a.csv")
    assert boxes(judged) == [(0, 20, 8990, 120)]
    assert told(judged) == [(1, "bbox.outside", "[-90.0,20.0,100.0,120.0]")]
    assert judged.rejects["detail"][0] == "10.0 % of it lies inside its picture of unknown size"
    assert judged.rows["cx"].to_list() == [None]


@pytest.mark.parametrize("side", [640, 65_535, 1_000_003, 9_999_991])
def test_a_cut_box_lies_inside_as_float32(side: int) -> None:
    """In the largest pictures too, where float32 knows no hundredths of a pixel."""
    near = np.random.default_rng(0).uniform(0, side, 200)
    judged = clip(pixels(*((x, 0, side, 10) for x in near if x < side / 2), width=side))
    stored = judged.rows.select(pl.col("x", "w").cast(pl.Float32).cast(pl.Float64))
    assert judged.rows.select("x", "w").equals(stored)
    assert (stored["x"] + stored["w"]).max() <= side


def test_a_box_that_float32_pushes_over_the_edge_is_cut() -> None:
    """A hundredth of a pixel over the edge is let pass, but not what rounding adds to it."""
    side = 65_535
    near = np.random.default_rng(0).uniform(0, side - 10, 300)
    judged = clip(pixels(*((x, 0.0, side - x + 0.0099, 10.0) for x in near.tolist()), width=side))
    x, w = (judged.rows[name].to_numpy().astype(np.float32).astype(float) for name in ("x", "w"))
    assert (x + w).max() <= side + 0.01
    assert 0 < judged.changes.height < 300


# ---- shape and normalised columns


def test_an_absurdly_long_box_is_held_back() -> None:
    """A hundred to one is allowed, more is not; in both directions."""
    judged = aspect(pixels((0, 0, 600, 6), (0, 0, 4, 400), (0, 0, 606, 6), (0, 0, 4, 404), (None,) * 4))
    assert judged.rows["n"].to_list() == [0, 1, 4]
    assert [(n, rule) for n, rule, _ in told(judged)] == [(2, "bbox.aspect"), (3, "bbox.aspect")]
    assert judged.rejects["detail"][0] == "one side is 101.0 times the other; more than 100 is absurd"


def test_normalised_columns_are_the_middle_and_size_over_the_picture() -> None:
    """As YOLO and the JSON lines have them."""
    rows = normalise(pixels((64, 48, 128, 96)))
    assert rows.select("cx", "cy", "nw", "nh").row(0) == pytest.approx((0.2, 0.2, 0.2, 0.2))
    assert normalise(pixels((64, 48, 128, 96), height=0))["cx"].to_list() == [None]


def test_shares_survive_the_way_through_pixels() -> None:
    """What came as cxcywh 0..1 is told again as it came, to what float32 holds."""
    shares = np.random.default_rng(1).uniform(0.25, 0.5, (300, 4)).round(6)
    judged = judge_boxes(raw(*map(tuple, shares.tolist()), width=1921, height=1079), YOLO, "a.jsonl")
    again = judged.rows.select(pl.col("cx", "cy", "nw", "nh")).to_numpy()
    assert np.abs(again - shares).max() < 1e-8


# ---- all in order


_coordinate = st.one_of(
    st.floats(-700, 1400),
    st.floats(-0.5, 1.5),
    st.sampled_from([0.0, 1.0, 100.0, 480.0, 640.0, 640.004, 1e9, 1e-300, -1e308, NAN, INF]),
)
_box = st.one_of(
    st.tuples(_coordinate, _coordinate, _coordinate, _coordinate),
    st.just((None,) * 4),
    st.tuples(st.none(), _coordinate, _coordinate, _coordinate),
)
_size = st.sampled_from([(640, 480), (97, 61), (65_535, 65_535), (None, None), (0, 5)])


@settings(max_examples=100, deadline=None)
@given(st.lists(_box, max_size=8), _size, st.sampled_from(CONVENTIONS))
def test_nothing_is_lost_and_everything_can_be_followed(
    drawn: list[Box], size: tuple[int | None, int | None], convention: Convention
) -> None:
    """Each box stands or is held back once; its changes lead from what came to what stands, text by text."""
    came = raw(*drawn, width=size[0], height=size[1])
    judged = judge_boxes(came, convention, "source")
    assert sorted(judged.rows["n"].to_list() + judged.rejects["n"].to_list()) == list(range(len(drawn)))
    assert judged.rows["n"].is_sorted()
    assert judged.changes.schema == pl.Schema(CHANGES)
    assert judged.rejects.schema == pl.Schema(REJECTS)
    ends = dict(judged.rejects.select("n", "value").rows())
    ends |= dict(judged.rows.filter(pl.col("x").is_not_null()).select("n", box_text("x", "y", "w", "h")).rows())
    for n, box in enumerate(drawn):
        if box == (None,) * 4:
            assert n in judged.rows["n"]
            continue
        text = came.select(any_box_text("a", "b", "c", "d")).to_series()[n]
        assert _same(json.loads(text), box)
        for before, after in judged.changes.filter(pl.col("n") == n).select("before", "after").rows():
            assert before == text
            text = after
        assert text == ends[n]


@settings(max_examples=100, deadline=None)
@given(st.lists(_box, max_size=8), _size, st.sampled_from(CONVENTIONS))
def test_what_stands_is_sound_and_stays_as_it_is(
    drawn: list[Box], size: tuple[int | None, int | None], convention: Convention
) -> None:
    """Inside its picture as float32, of at least a pixel; judged again, as the tables hold it, nothing changes."""
    judged = judge_boxes(raw(*drawn, width=size[0], height=size[1]), convention, "source")
    stored = judged.rows.with_columns(pl.col("x", "y", "w", "h").cast(pl.Float32).cast(pl.Float64))
    standing = stored.filter(pl.col("x").is_not_null())
    x, y, w, h = (standing[name].to_numpy() for name in "xywh")
    assert (np.minimum(x, y) >= -0.01).all()
    assert (np.minimum(w, h) > 0.98).all()
    if size == (65_535, 65_535) or (size[0] or 0) > 1:
        assert (x + w - size[0] <= 0.01).all()
        assert (y + h - size[1] <= 0.01).all()
        due = np.column_stack(((x + w / 2) / size[0], (y + h / 2) / size[1]))
        stored_middle = standing.select(pl.col("cx", "cy").cast(pl.Float32).cast(pl.Float64)).to_numpy()
        assert (np.abs(stored_middle - due) * np.array(size) <= 0.01).all()
    for rows in (judged.rows, stored):
        again = rows.drop("cx", "cy", "nw", "nh").rename(dict(zip("xywh", "abcd", strict=True)))
        second = judge_boxes(again, XYWH_PIXELS, "tables")
        assert not second.changes.height
        assert not second.rejects.height
        assert boxes(second) == boxes(rows)


def _same(one: list[float | str | None], other: Box) -> bool:
    """Tell whether texts of numbers mean the same, bit by bit."""
    return all(
        a == b or (isinstance(a, str) and b is not None and not math.isfinite(b) and a == str(b))
        for a, b in zip(one, other, strict=True)
    )


@settings(max_examples=200, deadline=None)
@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=4, max_size=4))
def test_a_box_reads_back_from_its_text_to_the_same_numbers(numbers: list[float]) -> None:
    """JSON that any reader takes, bit by bit."""
    text = pixels(tuple(numbers)).select(box_text("x", "y", "w", "h")).item()
    assert [number.hex() for number in json.loads(text, parse_int=float)] == [number.hex() for number in numbers]


def test_frames_in_many_pieces_are_judged_like_whole_ones() -> None:
    """Rows that were gathered, and of which some were filtered away, are in pieces, some of them empty."""
    drawn = [(-10, 20, 100, 120), (700, 10, 50, 50), (110, 70, -100, -50), (1, 1, 0, 0), (0, 0, 4, 404), (NAN, 1, 2, 3)]
    drawn += [(10, 10, 50, 60), (20, 20, 70, 80)]
    whole = raw(*drawn)
    pieces = pl.concat([whole[[row]] for row in range(whole.height)], rechunk=False)
    some = ([True] * 8, [False, True] * 4, [True, False] * 4, [False] * 6 + [True] * 2, [False] * 7 + [True])
    for kept in map(pl.Series, some):
        for convention in (XYWH_PIXELS, XYXY):
            one = judge_boxes(whole.filter(kept), convention, "a.csv")
            other = judge_boxes(pieces.filter(kept), convention, "a.csv")
            assert one.rows.equals(other.rows)
            assert one.changes.equals(other.changes)
            assert one.rejects.equals(other.rejects)


def test_the_same_boxes_in_two_formats_give_the_same_boxes() -> None:
    """VOC's corners in whole pixels, and YOLO's shares with six decimals, to a hundredth of a pixel."""
    random = np.random.default_rng(2)
    near = random.integers(0, 300, (200, 2))
    far = near + random.integers(2, 180, (200, 2))
    middle, span, size = (near + far) / 2, far - near, np.array([640, 480])
    voc = judge_boxes(raw(*map(tuple, np.hstack([near, far]).astype(float).tolist())), XYXY, "voc/")
    yolo = judge_boxes(raw(*map(tuple, np.hstack([middle / size, span / size]).round(6).tolist())), YOLO, "yolo/")
    assert voc.rows.height == yolo.rows.height == 200
    assert np.abs(np.array(boxes(voc)) - np.array(boxes(yolo))).max() < 0.01


# ---- real files


def test_the_two_boxes_of_no_size_in_bccd_are_found(shared: Path) -> None:
    """Of 1,098 real boxes these two are held back, and nothing else is changed but their convention."""
    corners = ("xmin", "ymin", "xmax", "ymax")
    found = [
        (*(float(box.findtext(name) or "nan") for name in corners),)
        for file in sorted((shared / "data/annotations/bccd_voc").rglob("*.xml"))
        for box in ElementTree.parse(file).getroot().iter("bndbox")
    ]
    judged = judge_boxes(raw(*found), XYXY, "bccd_voc/")
    assert len(found) == 1098
    assert [(rule, value) for _, rule, value in told(judged)] == [
        ("bbox.degenerate", "[504.0,337.0,0.0,0.0]"),
        ("bbox.degenerate", "[181.0,329.0,0.0,0.0]"),
    ]
    assert set(judged.changes["rule"]) == {"bbox.convention"}


def test_boxes_of_other_pictures_are_found_outside(shared: Path) -> None:
    """A COCO file whose pictures were mixed up: two boxes lie elsewhere, one reaches over by a tenth."""
    file = shared / "data/annotations/croissant_coco2014_mini/data/instances_train2014.json"
    content = json.loads(file.read_text())
    sizes = {image["id"]: (image["width"], image["height"]) for image in content["images"]}
    chunks = [
        raw(tuple(its["bbox"]), width=sizes[its["image_id"]][0], height=sizes[its["image_id"]][1])
        for its in content["annotations"]
    ]
    judged = judge_boxes(pl.concat(chunks).with_columns(n=pl.int_range(4, dtype=pl.UInt32)), XYWH_PIXELS, "coco.json")
    assert [(n, rule) for n, rule, _ in told(judged)] == [(1, "bbox.outside"), (3, "bbox.outside")]
    assert judged.changes.select("n", "rule").rows() == [(2, Rule.BBOX_CLIPPED.value)]
