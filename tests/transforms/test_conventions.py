"""A source's convention is told by all its boxes together, or asked for; it is never guessed."""

import contextlib
import csv
import json
import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from schemas.errors import UsageError
from schemas.raw import Facts
from transforms.conventions import (
    CONVENTIONS,
    XYWH_PIXELS,
    Asked,
    Convention,
    Evidence,
    decide,
    read_convention,
    to_pixels,
)

COCO = Facts(corners="xywh", unit="pixels")
VOC = Facts(corners="xyxy", unit="pixels")
UNDECLARED = Facts()
KAGGLE = "data/annotations/datumaro/kaggle_dataset/image_csv_det"


def rows(boxes: list[tuple[float | None, ...]], width: int | None = 640, height: int | None = 480) -> pl.DataFrame:
    """Return boxes as they came, in pictures of one size."""
    numbers = pl.DataFrame(boxes, {name: pl.Float64() for name in "abcd"}, orient="row")
    return numbers.with_columns(width=pl.lit(width, pl.Int32), height=pl.lit(height, pl.Int32))


def told(*chunks: pl.DataFrame) -> Evidence:
    """Return what the chunks tell."""
    evidence = Evidence()
    for chunk in chunks:
        evidence.add(chunk)
    return evidence


def counted(evidence: Evidence) -> tuple[object, ...]:
    """Return evidence as something that can be compared."""
    return (
        evidence.boxes.tolist(),
        evidence.reaching.tolist(),
        evidence.examples,
        evidence.at_origin,
        evidence.hundreds,
    )


def boxes_of(file: Path) -> list[tuple[float, ...]]:
    """Return the boxes of one of the three CSV files, whatever stands around the numbers."""
    with file.open(newline="") as lines:
        return [
            tuple(float(found) for found in re.findall(r"[\d.]+", ",".join(line[2:])))
            for line in list(csv.reader(lines))[1:]
        ]


# ---- what is drawn at random


def drawn(seed: int, number: int, sides: tuple[float, float], widths: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Draw true boxes x, y, w, h (4, n) in shares, spread over their pictures, and the pictures' sizes (2, n)."""
    random = np.random.default_rng(seed)
    wide = random.choice(widths, number).astype(float)
    size = np.array([wide, (wide * random.choice([0.75, 1, 1.5], number)).round()])
    side = np.exp(random.uniform(*np.log(sides), number))
    slender = np.exp(random.normal(0, 0.4, number))
    across, down = np.clip([side * slender, side / slender], 1.5 / size, 1)
    corner = random.uniform(0, 1, (2, number)) * (1 - np.array([across, down]))
    return np.concatenate((corner, [across, down])), size


def spoilt(seed: int, true: np.ndarray, share: float) -> np.ndarray:
    """Return boxes of which a share has a fault: no width, over an edge, swapped corners, twice the size."""
    random = np.random.default_rng(seed)
    x, y, w, h = true.copy()
    fault = np.where(random.random(len(x)) < share, random.integers(0, 5, len(x)), -1)
    w[fault == 0] = 0
    x[fault == 1] += 0.3
    y[fault == 2] -= 0.3
    x[fault == 3] += w[fault == 3]
    w[fault == 3] *= -1
    w[fault == 4] *= 2
    return np.array([x, y, w, h])


def written(true: np.ndarray, size: np.ndarray, convention: Convention, known: bool = True) -> pl.DataFrame:
    """Return true boxes as a tool writes them in a convention."""
    side = {"pixels": size, "unit": np.ones((2, 1)), "percent": np.full((2, 1), 100.0)}[convention.unit]
    near, span = true[:2] * side, true[2:] * side
    first, second = {
        "xywh": (near, span),
        "xyxy": (near, near + span),
        "cxcywh": (near + span / 2, span),
    }[convention.corners]
    decimals = {"pixels": 1, "unit": 6, "percent": 2}[convention.unit]
    columns = dict(zip("abcd", np.round(np.concatenate((first, second)), decimals), strict=True))
    width, height = (pl.Series(its) if known else pl.lit(None, pl.Float64) for its in size)
    return pl.DataFrame(columns).with_columns(width=width, height=height)


# ---- real files


def test_the_csv_that_fits_two_ways_stops_the_job(shared: Path) -> None:
    """ann3.csv has one column of four numbers: corners, or a corner and a size. Only a person knows."""
    boxes = boxes_of(shared / KAGGLE / "ann3.csv")
    size = Image.open(shared / KAGGLE / "images/1.jpg").size
    with pytest.raises(UsageError) as stopped:
        decide(told(rows(boxes, *size)), UNDECLARED, None, "ann3.csv")
    message = str(stopped.value)
    assert message.startswith("ann3.csv: nothing says how its boxes are written")
    assert "xywh-pixels (6 of 6)" in message
    assert "xyxy-pixels (6 of 6)" in message
    assert "[1, 2, 3, 3] in a picture of 15 x 10 px is as xywh-pixels x 1, y 2, w 3, h 3; as xyxy-pixels" in message
    assert "--bbox-format xywh or --bbox-format xyxy" in message


def test_the_three_csv_files_of_the_same_boxes_give_the_same_pixels(shared: Path) -> None:
    """Two by their headers, one by a person's word; the unit is told by the boxes."""
    asked = {"ann.csv": None, "ann2.csv": None, "ann3.csv": read_convention("xyxy")}
    facts = {"ann.csv": Facts(corners="xyxy"), "ann2.csv": Facts(corners="xywh"), "ann3.csv": UNDECLARED}
    pixels = []
    for name in asked:
        raw = rows(boxes_of(shared / KAGGLE / name), 15, 10)
        pixels.append(
            to_pixels(raw, decide(told(raw), facts[name], asked[name], name)).select("x", "y", "w", "h").rows()
        )
    assert pixels[0] == pixels[1] == pixels[2]
    assert pixels[0][3] == (0, 2, 2, 2)


def test_a_coco_file_with_the_wrong_pictures_keeps_its_convention(shared: Path) -> None:
    """Three of four boxes leave their pictures, but in every other convention more do."""
    file = shared / "data/annotations/croissant_coco2014_mini/data/instances_train2014.json"
    content = json.loads(file.read_text())
    sizes = {image["id"]: (image["width"], image["height"]) for image in content["images"]}
    chunks = [rows([tuple(its["bbox"])], *sizes[its["image_id"]]) for its in content["annotations"]]
    chunks += [rows([tuple(its["bbox"])], 3, 2) for its in content["annotations"]]
    assert len(chunks) == 8
    assert decide(told(*chunks[:4]), COCO, None, "coco.json") == XYWH_PIXELS
    assert decide(told(*chunks[4:]), COCO, None, "coco.json") == XYWH_PIXELS


def test_boxes_of_voc_files_tell_their_convention(shared: Path) -> None:
    """1,098 real boxes, two of them of no size, say without any declaration that they are corners in pixels."""
    evidence = Evidence()
    for file in sorted((shared / "data/annotations/bccd_voc").rglob("*.xml")):
        root = ElementTree.parse(file).getroot()
        corners = ("xmin", "ymin", "xmax", "ymax")
        boxes = [tuple(float(box.findtext(name) or "nan") for name in corners) for box in root.iter("bndbox")]
        evidence.add(rows(boxes, int(root.findtext("size/width") or 0), int(root.findtext("size/height") or 0)))
    assert evidence.total == 1098
    assert evidence.inside(Convention("xyxy", "pixels")) == 1096
    for facts in (VOC, Facts(corners="xyxy"), UNDECLARED):
        assert decide(evidence, facts, None, "voc/") == Convention("xyxy", "pixels")


# ---- what the boxes tell


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**32),
    st.integers(30, 400),
    st.sampled_from([(0.02, 0.1), (0.05, 0.4), (0.2, 0.9), (0.01, 0.9)]),
    st.sampled_from([[640], [48], [1920, 640, 300], [64, 96, 128], [224]]),
    st.sampled_from([0.0, 0.01, 0.03, 0.05]),
    st.booleans(),
)
def test_the_right_convention_is_found_or_asked_for(
    seed: int, number: int, sides: tuple[float, float], widths: list[int], faulty: float, known: bool
) -> None:
    """Never a wrong one: for random boxes that are spread over their pictures, of which up to 5 % are faulty."""
    true, size = drawn(seed, number, sides, widths)
    told_boxes = spoilt(seed, true, faulty)
    for convention in CONVENTIONS:
        evidence = told(written(told_boxes, size, convention, known))
        for facts in (UNDECLARED, Facts(corners=convention.corners), Facts(unit=convention.unit)):
            with contextlib.suppress(UsageError):
                assert decide(evidence, facts, None, "source") == convention
        assert decide(evidence, Facts(convention.corners, convention.unit), None, "source") == convention


@pytest.mark.parametrize("convention", CONVENTIONS, ids=str)
@pytest.mark.parametrize("seed", range(5))
def test_the_right_convention_is_found_of_many_boxes(convention: Convention, seed: int) -> None:
    """500 boxes of natural sizes in large pictures, 2 % of them faulty, leave nothing to ask."""
    true, size = drawn(seed, 500, (0.05, 0.6), [640, 1920])
    evidence = told(written(spoilt(seed, true, 0.02), size, convention))
    assert decide(evidence, UNDECLARED, None, "source") == convention


def test_small_boxes_do_not_tell_a_corner_from_a_middle() -> None:
    """They lie inside either way but for a few at the edge, no more than a source may have faults: it is asked."""
    true, size = drawn(3, 2000, (0.02, 0.03), [640])
    with pytest.raises(UsageError, match=r"--bbox-format (xywh|cxcywh) or --bbox-format (xywh|cxcywh)\."):
        decide(told(written(true, size, XYWH_PIXELS)), UNDECLARED, None, "points.csv")


@pytest.mark.parametrize("convention", CONVENTIONS, ids=str)
def test_one_box_never_tells_its_corners(convention: Convention) -> None:
    """One box that fits a single convention may as well be a faulty one of another."""
    true, size = np.array([[0.6], [0.7], [0.3], [0.2]]), np.array([[640.0], [480.0]])
    with pytest.raises(UsageError, match=r"source: nothing says how its boxes are written"):
        decide(told(written(true, size, convention)), UNDECLARED, None, "source")


@pytest.mark.parametrize("convention", CONVENTIONS, ids=str)
def test_one_box_tells_its_unit(convention: Convention) -> None:
    """Numbers below 1, or above 100, leave no doubt; hundredths in a picture of 640 px do."""
    true, size = np.array([[0.4], [0.4], [0.5], [0.5]]), np.array([[640.0], [480.0]])
    evidence = told(written(true, size, convention))
    if convention.unit == "percent":
        with pytest.raises(UsageError, match=r"--bbox-format \w+-pixels"):
            decide(evidence, Facts(corners=convention.corners), None, "source")
    else:
        assert decide(evidence, Facts(corners=convention.corners), None, "source") == convention
        assert decide(evidence, UNDECLARED, Asked(convention.corners), "source") == convention


def test_without_sizes_only_signs_and_ranges_tell() -> None:
    """Second numbers that are smaller are no corners; larger ones may be corners or sizes. Shares are small."""
    true, size = drawn(1, 200, (0.1, 0.3), [640])
    for corners in ("xyxy", "cxcywh"):
        with pytest.raises(UsageError, match="picture of unknown size"):
            decide(told(written(true, size, Convention(corners, "pixels"), known=False)), UNDECLARED, None, "source")
    for convention in (XYWH_PIXELS, Convention("xyxy", "unit")):
        assert decide(told(written(true, size, convention, known=False)), UNDECLARED, None, "source") == convention


def test_swapped_corners_do_not_make_corners_sizes() -> None:
    """Without sizes every box of positive numbers may be a corner and a size: 5 % of swapped ones prove nothing."""
    true, size = drawn(2, 4000, (0.1, 0.3), [640])
    raw = written(true, size, Convention("xyxy", "pixels"), known=False)
    swapped = pl.concat(
        [raw.head(200).select(a="c", b="d", c="a", d="b", width="width", height="height"), raw.tail(-200)]
    )
    with pytest.raises(UsageError):
        decide(told(swapped), UNDECLARED, None, "source")


def test_boxes_that_no_convention_explains_are_asked_about() -> None:
    """Where most leave their pictures, the pictures may be the wrong ones."""
    true, size = drawn(4, 100, (0.1, 0.4), [640])
    evidence = told(written(true, size, XYWH_PIXELS).with_columns(pl.col("width", "height") / 4))
    with pytest.raises(UsageError, match=r"no way keeps them inside .* Are these its pictures\?"):
        decide(evidence, UNDECLARED, None, "source")


def test_boxes_that_speak_both_ways_are_asked_about() -> None:
    """More for one than a source has faults, but nearly as many for the other: perhaps two tools wrote the file."""
    either = [(10.0 + at, 20.0, 300.0, 200.0) for at in range(71)]
    corners, sizes = [(400.0, 300.0, 500.0, 350.0)] * 20, [(300.0, 300.0, 100.0, 100.0)] * 9
    with pytest.raises(UsageError, match=r"more than one way .* xyxy-pixels \(91 of 100\), xywh-pixels \(80 of 100\)"):
        decide(told(rows(either + corners + sizes)), UNDECLARED, None, "merged.csv")
    assert decide(told(rows(either + corners)), UNDECLARED, None, "one.csv") == Convention("xyxy", "pixels")


def test_a_unit_that_explains_too_few_boxes_is_asked_about() -> None:
    """Corners are declared, but most lie outside in pixels, shares and percent alike."""
    boxes = [(100.0, 100.0, 300.0, 200.0)] * 2 + [(900.0, 100.0, 950.0, 200.0)] * 3
    with pytest.raises(UsageError, match=r"at best as xyxy-pixels \(2 of 5\)"):
        decide(told(rows(boxes)), Facts(corners="xyxy"), None, "boxes.csv")
    assert decide(told(rows(boxes[:4])), Facts(corners="xyxy"), None, "boxes.csv") == Convention("xyxy", "pixels")


def test_boxes_of_a_fraction_of_a_pixel_are_not_percent() -> None:
    """Small numbers in a small picture are pixels."""
    assert decide(told(rows([(2, 2, 4, 5)], 15, 10)), Facts(corners="xyxy"), None, "icons.csv").unit == "pixels"


def test_a_little_over_the_edge_is_inside() -> None:
    """Half a hundredth of the side, a pixel at least: rounding, and counting from 1, tell nothing."""
    shares = told(rows([(0.5, 0.5, 1.004, 1.0), (0.5, 0.5, 1.006, 1.0), (-0.004, 0.5, 1.0, 1.0)]))
    assert shares.inside(Convention("xyxy", "unit")) == 2
    large = told(rows([(9, 9, 643, 480), (9, 9, 644, 480), (-3, 9, 640, 482), (-4, 9, 640, 480)]))
    assert large.inside(Convention("xyxy", "pixels")) == 2
    small = told(rows([(9, 9, 16, 11), (9, 9, 16.1, 10), (-1, 9, 15, 10)], 15, 10))
    assert small.inside(Convention("xyxy", "pixels")) == 2


@pytest.mark.parametrize(
    ("boxes", "size"),
    [
        ([], (640, 480)),
        ([(None,) * 4, (None,) * 4], (640, 480)),  # labels of whole pictures
        ([(float("nan"), 1, 2, 3)], (640, 480)),
    ],
)
def test_where_there_is_no_box_nothing_is_asked(boxes: list[tuple[float | None, ...]], size: tuple[int, int]) -> None:
    """All conventions say the same of nothing."""
    assert decide(told(rows(boxes, *size)), UNDECLARED, None, "source") == XYWH_PIXELS
    assert decide(told(rows(boxes, *size)), VOC, None, "source") == Convention("xyxy", "pixels")


def test_where_all_ways_give_the_same_pixels_nothing_is_asked() -> None:
    """In a picture of 100 x 100 a percent is a pixel; of a box at 0, 0 the far corner is its size."""
    hundred = told(rows([(10, 20, 50, 60), (5, 5, 30, 90), (70, 10, 80, 40)], 100, 100))
    assert decide(hundred, Facts(corners="xyxy"), None, "source") == Convention("xyxy", "pixels")
    whole = told(rows([(0, 0, 640, 480)] * 4))
    assert decide(whole, UNDECLARED, None, "source") == XYWH_PIXELS
    with pytest.raises(UsageError):
        decide(told(rows([(0, 0, 640, 480)] * 4 + [(0, 1, 600, 400)])), UNDECLARED, None, "source")


# ---- declarations and a person's word


def test_a_coco_file_that_holds_corners_stops_the_job() -> None:
    """As declared, most boxes leave their pictures; as corners none does. Both are named."""
    true, size = drawn(5, 300, (0.1, 0.4), [640])
    evidence = told(written(spoilt(5, true, 0.02), size, Convention("xyxy", "pixels")))
    with pytest.raises(UsageError) as stopped:
        decide(evidence, COCO, None, "instances.json")
    message = str(stopped.value)
    assert message.startswith("instances.json: its format says that boxes are xywh-pixels, but so read only ")
    assert "nearly all do: xyxy-pixels (29" in message
    assert message.endswith("Say which it is: --bbox-format xywh or --bbox-format xyxy.")
    assert decide(evidence, COCO, Asked("xyxy"), "instances.json") == Convention("xyxy", "pixels")
    assert decide(evidence, COCO, Asked("xywh", "pixels"), "instances.json") == XYWH_PIXELS


def test_a_coco_file_that_holds_shares_stops_the_job() -> None:
    """Boxes of less than a pixel are none."""
    true, size = drawn(6, 100, (0.1, 0.4), [640])
    with pytest.raises(UsageError, match=r"xywh-pixels, but so read only 0 of 100 .* xywh-unit \(100 of 100\)"):
        decide(told(written(true, size, Convention("xywh", "unit"))), COCO, None, "instances.json")


@pytest.mark.parametrize("faulty", [0.05, 0.3])
def test_faults_do_not_refute_a_declaration(faulty: float) -> None:
    """A source may be as faulty as it likes, as long as no other convention explains it."""
    true, size = drawn(7, 300, (0.1, 0.4), [640])
    for convention in CONVENTIONS:
        evidence = told(written(spoilt(7, true, faulty), size, convention))
        assert decide(evidence, Facts(convention.corners, convention.unit), None, "source") == convention


def test_pictures_of_another_size_do_not_refute_a_declaration() -> None:
    """Where four fifths lie inside as corners, the rest nowhere: that is no explanation either."""
    corners = [(400.0 + at, 300.0, 500.0, 350.0) for at in range(80)]
    nowhere = [(900.0 + at, 300.0, 950.0, 350.0) for at in range(20)]
    assert decide(told(rows(corners + nowhere)), COCO, None, "coco.json") == XYWH_PIXELS
    with pytest.raises(UsageError, match=r"xyxy-pixels \(80 of 85\)"):
        decide(told(rows(corners + nowhere[:5])), COCO, None, "coco.json")


def test_few_boxes_do_not_refute_a_declaration() -> None:
    """Two boxes of a COCO file that leave their pictures are two faulty boxes."""
    assert decide(told(rows([(400, 300, 500, 350), (500, 200, 600, 470)])), COCO, None, "coco.json") == XYWH_PIXELS


def test_of_several_sources_a_persons_word_is_for_those_that_do_not_tell() -> None:
    """One flag for a CSV must not turn a sound COCO file beside it; one that declares falsely is meant."""
    true, size = drawn(8, 300, (0.1, 0.4), [640])
    asked, corners = Asked("xyxy"), Convention("xyxy", "pixels")
    sound, false = told(written(true, size, XYWH_PIXELS)), told(written(true, size, corners))
    assert decide(sound, COCO, asked, "coco.json", alone=False) == XYWH_PIXELS
    assert decide(told(rows([(10, 10, 50, 60)])), COCO, asked, "coco.json", alone=False) == XYWH_PIXELS
    assert decide(false, COCO, asked, "coco.json", alone=False) == corners
    assert decide(false, UNDECLARED, asked, "boxes.csv", alone=False) == corners
    assert decide(told(rows([(10, 10, 50, 60)])), COCO, asked, "coco.json") == corners


def test_a_persons_word_stands_against_the_boxes() -> None:
    """Who names both the corners and the unit is not asked again."""
    true, size = drawn(8, 300, (0.1, 0.4), [640])
    evidence = told(written(true, size, XYWH_PIXELS))
    assert decide(evidence, VOC, Asked("cxcywh", "pixels"), "source") == Convention("cxcywh", "pixels")


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        ("xyxy", Asked("xyxy")),
        ("cxcywh", Asked("cxcywh")),
        (" XYWH-Pixels ", Asked("xywh", "pixels")),
        ("cxcywh-unit", Asked("cxcywh", "unit")),
        ("xywh-percent", Asked("xywh", "percent")),
    ],
)
def test_a_convention_is_named_by_corners_and_unit(text: str, asked: Asked) -> None:
    """The unit may be left to the boxes."""
    assert read_convention(text) == asked


@pytest.mark.parametrize("text", ["", "yolo", "xyxy-", "xyxy-cm", "unit", "xyxy-pixels-unit"])
def test_an_unknown_convention_is_refused(text: str) -> None:
    """The message says what there is."""
    with pytest.raises(UsageError, match=f"--bbox-format: expected xyxy, xywh, cxcywh.*got {text!r}"):
        read_convention(text)


# ---- counting


_number = st.one_of(
    st.floats(-50, 700),
    st.floats(0, 1),
    st.sampled_from([0.0, 1.0, 100.0, 1e9, 1e308, -1e308, float("nan"), float("inf")]),
    st.none(),
)
_side = st.sampled_from([None, 0, 1, 100, 480, 640])
_chunk = st.lists(st.tuples(_number, _number, _number, _number, _side, _side), max_size=12).map(
    lambda drawn_rows: pl.DataFrame(
        drawn_rows, {**{n: pl.Float64() for n in "abcd"}, "width": pl.Int32(), "height": pl.Int32()}, orient="row"
    )
)


@settings(max_examples=80, deadline=None)
@given(_chunk, _chunk, _chunk)
def test_evidence_does_not_depend_on_how_it_was_gathered(
    one: pl.DataFrame, two: pl.DataFrame, three: pl.DataFrame
) -> None:
    """Merging is associative and commutative, and chunks may be cut anywhere; hostile numbers are no exception."""
    a, b, c = told(one), told(two), told(three)
    expected = counted(told(one, two, three))
    assert counted(told(pl.concat([one, two, three]))) == expected
    assert counted(a.merge(b).merge(c)) == expected
    assert counted(a.merge(b.merge(c))) == expected
    assert counted(c.merge(a).merge(b)) == expected


@settings(max_examples=40, deadline=None)
@given(_chunk)
def test_hostile_numbers_end_in_a_convention_or_a_question(chunk: pl.DataFrame) -> None:
    """Whatever stands in a file, nothing else comes of it."""
    for facts in (UNDECLARED, COCO, Facts(corners="xyxy"), Facts(unit="percent")):
        try:
            assert decide(told(chunk), facts, None, "source") in CONVENTIONS
        except UsageError as stopped:
            assert "--bbox-format" in str(stopped)


# ---- to pixels


@pytest.mark.parametrize("convention", CONVENTIONS, ids=str)
def test_every_convention_leads_to_the_same_pixels(convention: Convention) -> None:
    """What is written is read back, to what its decimals hold."""
    true, size = drawn(9, 50, (0.1, 0.4), [640])
    read = to_pixels(written(true, size, convention), convention).select("x", "y", "w", "h").to_numpy().T
    expected = true * np.concatenate((size, size))
    assert np.abs(read - expected).max() < {"pixels": 0.11, "unit": 0.001, "percent": 0.1}[convention.unit]


def test_arithmetic_leaves_no_dust() -> None:
    """A tenth and two tenths are three tenths; numbers that need no arithmetic are not touched at all."""
    dust = rows([(0.1, 0.2, 0.4, 0.9)], None, None)
    assert to_pixels(dust, Convention("xyxy", "pixels")).select("w", "h").row(0) == (0.3, 0.7)
    exact = rows([(0.1 + 0.2, 1 / 3, 1e-9, 7.0)])
    assert to_pixels(exact, XYWH_PIXELS).select("x", "y", "w", "h").row(0) == (0.1 + 0.2, 1 / 3, 1e-9, 7.0)


@pytest.mark.parametrize("size", [(None, None), (0, 480), (640, -1), (None, 480)])
def test_shares_of_an_unknown_size_are_null(size: tuple[int | None, int | None]) -> None:
    """Pixels need no size, shares do."""
    raw = rows([(0.1, 0.1, 0.5, 0.5)], *size)
    for convention in CONVENTIONS:
        read = to_pixels(raw, convention).select("x", "y", "w", "h").row(0)
        assert (None in read) == (convention.unit != "pixels")
        assert (read == (None,) * 4) == (convention.unit != "pixels")
