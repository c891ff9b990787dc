"""The expectations: stock ones of Great Expectations, and a class for each rule that has none. Importing takes seconds.

Each class looks at a whole frame of `validation.frames` at once and names the rows that break its rule. None needs a
metric of Great Expectations: their graph costs more than the arithmetic.

Another project that uses Great Expectations needs nothing but the import, which registers the classes, and then reads
the suites that lie beside this file:

    import validation.expectations
    context.suites.add(gx.ExpectationSuite(**json.loads(path.read_bytes())))

They are for the frames that `validation.frames.frames_of` makes of a data set's tables.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from great_expectations.expectations.core import (
    ExpectColumnValuesToBeInSet,
    ExpectColumnValuesToBeUnique,
    ExpectColumnValuesToNotBeNull,
)
from great_expectations.expectations.expectation import BatchExpectation, Expectation
from numpy.typing import NDArray

from schemas.reasons import Duplicates, Outcome, Rule
from schemas.tables import probability_columns
from validation.frames import BOX, NORMALISED
from validation.terms import MAX_ASPECT, MIN_SIDE_PX, SAME_BOX, SAME_THING, Terms

TOLERANCE_PX = 0.01
"""Boxes are float32: at 65,535 px, the widest picture that JPEG knows, x + w is rounded by up to 0.008 px."""

SUM_TOLERANCE = 1e-3
"""How far probabilities may sum from 1. A softmax in float32, averaged and rounded, stays within 1e-6; 1e-3 also lets
those of other tools pass that were written with three or four decimals."""

TIE_TOLERANCE = 1e-6
"""Two probabilities nearer than this are a tie: the label may be either. float32 knows 1 to within 6e-8."""

_GOLDEN = 1.618
"""Boxes are put in order by x + 1.618 y: rows and columns of boxes, as grids have them, do not fall together."""

_HEAP = 64
"""So many boxes that go are worth a pass over all others, to be rid of them."""

_IOU_TOLERANCE = 1e-3
"""So much the rounding of coordinates to float32 may add to an intersection over union, of small boxes far out."""

Mask = NDArray[np.bool_]
Rows = NDArray[np.intp]
Fault = tuple[Mask, str, str]
"""Rows that are wrong, the field that is, and what is wrong with it."""


class RowExpectation(BatchExpectation):  # type: ignore[misc,unused-ignore]
    """Rows of a frame must hold to `rule`. A subclass says in `faults` which do not; a row's first fault counts."""

    rule: ClassVar[Rule]

    def __init__(self, **given: Any) -> None:
        told = {"meta": {"rule": self.rule.value}, "description": (type(self).__doc__ or "").partition("\n")[0]}
        super().__init__(**told | given)

    def faults(self, frame: pd.DataFrame) -> list[Fault]:
        """Return the faults, most telling first."""
        raise NotImplementedError

    def _validate(
        self, metrics: dict[str, Any], runtime_configuration: dict[str, Any] | None = None, execution_engine: Any = None
    ) -> dict[str, Any]:
        frame = execution_engine.batch_manager.active_batch_data.dataframe
        faults = self.faults(frame)
        # The position of a row's first fault; rows without one get the number after the last.
        first = np.argmax(np.vstack([*(mask for mask, _, _ in faults), np.ones(len(frame), bool)]), axis=0)
        rows = np.flatnonzero(first < len(faults))
        return {
            "success": not rows.size,
            "result": {
                "element_count": len(frame),
                "unexpected_count": int(rows.size),
                "unexpected_percent": 100 * rows.size / max(1, len(frame)),
                "unexpected_index_list": rows.tolist(),
                "details": [faults[at][1:] for at in first[rows]],
            },
        }


class ExpectImageIdentity(RowExpectation):
    """Hold every picture to an id of 64 hex digits that is unique, and to a content hash of 64.

    Where not all `files` are at hand, a picture without one has no hash.
    """

    rule = Rule.IMAGE_IDENTITY
    files: bool = True

    def faults(self, frame: pd.DataFrame) -> list[Fault]:
        judged = _not_held_back(frame)
        due = judged & (self.files | frame["sha256"].notna().to_numpy(bool))
        return [
            (judged & ~_hex64(frame["image_id"]), "image_id", "expected 64 hex digits"),
            (due & ~_hex64(frame["sha256"]), "sha256", "expected 64 hex digits"),
            (judged & frame["image_id"].duplicated().to_numpy(), "image_id", "an earlier picture has this id"),
        ]


class ExpectImageSize(RowExpectation):
    """Hold every picture to a positive width and height.

    Where not all `files` are at hand, a picture without one may have neither.
    """

    rule = Rule.IMAGE_SIZE
    files: bool = True

    def faults(self, frame: pd.DataFrame) -> list[Fault]:
        size = frame[["width", "height"]].to_numpy()
        unknown = np.isnan(size).all(axis=1) & frame["sha256"].isna().to_numpy(bool) & (not self.files)
        # A comparison with NaN, that is null, is false.
        wrong = _not_held_back(frame) & ~unknown & ~(size > 0).all(axis=1)
        return [(wrong, "size", "width and height must be positive")]


class ExpectImageOutcome(RowExpectation):
    """Hold outcomes to the known ones, and to what stands in the other table."""

    rule = Rule.IMAGE_OUTCOME

    def faults(self, frame: pd.DataFrame) -> list[Fault]:
        outcome, found = frame["outcome"], frame["found"].to_numpy()
        known = outcome.isin([o.value for o in Outcome if o != Outcome.FAILED]).to_numpy()
        labelled, duplicate = (_is(outcome, each.value) for each in (Outcome.LABELLED, Outcome.DUPLICATE))
        stands = _stands(frame)
        names_another = frame["duplicate_of"].notna().to_numpy()
        return [
            (~known, "outcome", "expected labelled, no_face, duplicate or quarantined"),
            (frame["annotations"].to_numpy() != found, "annotations", "the table has another number of annotations"),
            (labelled & (found == 0), "outcome", "labelled, but without an annotation"),
            (~labelled & (found > 0), "outcome", "not labelled, but with annotations"),
            (duplicate & ~names_another, "duplicate_of", "a duplicate must name the picture that stands"),
            (stands & names_another, "duplicate_of", "named by a picture that is no duplicate"),
        ]


class ExpectCopyOfAnother(RowExpectation):
    """Hold duplicates to another picture that is none itself."""

    rule = Rule.IMAGE_OUTCOME

    def faults(self, frame: pd.DataFrame) -> list[Fault]:
        duplicate = _is(frame["outcome"], Outcome.DUPLICATE.value)
        own, other = frame["image_id"], frame["duplicate_of"]
        chained = other.isin(own[duplicate]).to_numpy(bool)
        return [
            (duplicate & _is(own, other), "duplicate_of", "a duplicate of itself"),
            (duplicate & chained, "duplicate_of", "names a picture that is a duplicate itself"),
        ]


class ExpectOneOfEachContent(RowExpectation):
    """Hold pictures that stand to contents that differ. Frames of a video share that of their file."""

    rule = Rule.DUPLICATE_EXACT

    def faults(self, frame: pd.DataFrame) -> list[Fault]:
        looked_at = _stands(frame) & frame["sha256"].notna().to_numpy(bool) & frame["video_id"].isna().to_numpy(bool)
        again = np.zeros(len(frame), bool)
        again[looked_at] = frame["sha256"][looked_at].duplicated().to_numpy()
        return [(again, "sha256", "an earlier picture has the same content, and both stand")]


class ExpectFrame(RowExpectation):
    """Hold frames to a number and a time that a video can have, and to a video."""

    rule = Rule.REFERENCE_FRAME

    def faults(self, frame: pd.DataFrame) -> list[Fault]:
        judged, number, time = _not_held_back(frame), frame["frame_index"].to_numpy(), frame["pts_ms"].to_numpy()
        return [
            (judged & (number < 0), "frame_index", "frames are counted from 0"),
            (judged & ~np.isnan(number) & frame["video_id"].isna().to_numpy(bool), "video_id", "a frame of no video"),
            (judged & (time == np.inf), "pts_ms", "not a number"),
        ]


class ExpectReference(RowExpectation):
    """Hold every annotation to a picture of its shard."""

    rule = Rule.REFERENCE_NO_IMAGE

    def faults(self, frame: pd.DataFrame) -> list[Fault]:
        return [(frame["picture"].to_numpy() < 0, "image_id", "no picture of the shard has this id")]


class ExpectBoxInside(RowExpectation):
    """Hold boxes to their picture. No box at all is a label of the whole picture."""

    rule = Rule.BBOX_INSIDE

    def faults(self, frame: pd.DataFrame) -> list[Fault]:
        box = frame[list(BOX)].to_numpy()
        x, y, w, h = box.T
        with np.errstate(invalid="ignore"):  # inf, that is "not a number", minus inf
            right, bottom = x + w - frame["image_width"].to_numpy(), y + h - frame["image_height"].to_numpy()
            outside = (np.minimum(x, y) < -TOLERANCE_PX) | (right > TOLERANCE_PX) | (bottom > TOLERANCE_PX)
        boxless = np.isnan(box).all(axis=1)
        return [
            (~boxless & ~np.isfinite(box).all(axis=1), "bbox", "a coordinate is not a number"),
            (~boxless & ~((w > 0) & (h > 0)), "bbox", "width and height must be positive"),
            (outside, "bbox", "reaches over the picture's edge"),
        ]


class ExpectBoxNormalised(RowExpectation):
    """Hold cx, cy, w, h (0..1) to what the box in pixels says; without the picture's size they may stand alone."""

    rule = Rule.BBOX_NORMALISED

    def faults(self, frame: pd.DataFrame) -> list[Fault]:
        box, told = frame[list(BOX)].to_numpy(), frame[list(NORMALISED)].to_numpy()
        size = frame[["image_width", "image_height"] * 2].to_numpy()
        with np.errstate(invalid="ignore"):
            due = np.column_stack((box[:, :2] + box[:, 2:] / 2, box[:, 2:]))
            differs = ~(np.abs(told * size - due) <= TOLERANCE_PX).all(axis=1)
        empty = np.isnan(told).all(axis=1)
        # Without a box or a size there is nothing to compute; a box that is no number has a rule of its own.
        computable = np.isfinite(box).all(axis=1) & np.isfinite(size).all(axis=1)
        nothing_due = np.isnan(box).all(axis=1) != np.isnan(size).any(axis=1)
        middle, half = told[:, :2], told[:, 2:] / 2
        inside = (half > 0) & (middle - half >= -SUM_TOLERANCE) & (middle + half <= 1 + SUM_TOLERANCE)
        return [
            (computable & empty, "normalised", "missing"),
            (computable & differs, "normalised", "differs from the box in pixels"),
            (nothing_due & ~empty, "normalised", "there is no box, or no size, to compute it from"),
            (~computable & ~nothing_due & ~empty & ~inside.all(axis=1), "normalised", "not a box inside 0..1"),
        ]


class ExpectBoxSides(RowExpectation):
    """Hold boxes to sides that are long enough, in pixels; a person's word is final."""

    rule = Rule.BBOX_DEGENERATE
    least: float = MIN_SIDE_PX

    def faults(self, frame: pd.DataFrame) -> list[Fault]:
        short = frame[["bbox_w", "bbox_h"]].min(axis=1).to_numpy() < self.least - TOLERANCE_PX
        return [(short & ~_is(frame["origin"], "person"), "bbox", f"a side is under {self.least:g} px")]


class ExpectBoxAspect(RowExpectation):
    """Hold boxes to shapes that are not absurdly long; a person's word is final."""

    rule = Rule.BBOX_ASPECT
    most: float = MAX_ASPECT

    def faults(self, frame: pd.DataFrame) -> list[Fault]:
        sides = frame[["bbox_w", "bbox_h"]].to_numpy()
        with np.errstate(invalid="ignore"):
            oblong = sides.max(axis=1) > self.most * (1 + 1e-4) * sides.min(axis=1)
        return [(oblong & ~_is(frame["origin"], "person"), "bbox", f"one side is over {self.most:g} times the other")]


class _PairExpectation(RowExpectation):
    """No two labels of a picture may be of one box, or both of the whole picture.

    A person's word is final: what two people gave is no pair.
    """

    def pairs(self, frame: pd.DataFrame, looked_at: Mask, least: float, *, alike: bool) -> tuple[Rows, Rows]:
        """Return the rows of pairs, the earlier first, of one label where `alike`, else of two.

        Boxes are one whose intersection over union is at least `least`, but for what rounding adds. Where many are one
        another's pairs, a few are told that name all but one of them.
        """
        picture, label = frame["picture"].to_numpy(), np.asarray(pd.Categorical(frame["label"]).codes)
        box, shares = frame[list(BOX)].to_numpy(), frame[list(NORMALISED)].to_numpy()
        # Of a picture of unknown size there may be only the shares. They are no pixels: such boxes are a heap apart.
        only_shares = np.isnan(box).all(axis=1) & ~np.isnan(shares).all(axis=1)
        box = np.where(only_shares[:, None], np.hstack((shares[:, :2] - shares[:, 2:] / 2, shares[:, 2:])), box)
        about = _Labels(2 * picture + only_shares, label, _is(frame["origin"], "person"), box, alike)
        whole = _of_the_whole(about, looked_at & np.isnan(box).all(axis=1))
        boxes = _overlapping(about, looked_at & np.isfinite(box).all(axis=1), min(1.0, least + _IOU_TOLERANCE))
        return np.concatenate((whole[0], boxes[0])), np.concatenate((whole[1], boxes[1]))


class ExpectNoDoubles(_PairExpectation):
    """Hold each thing of a picture to one annotation. A label of the whole picture stands once too.

    Two boxes of one label whose intersection over union is at least `same_thing` are of one thing.
    """

    rule = Rule.DUPLICATE_ANNOTATION
    same_thing: float = SAME_THING

    def faults(self, frame: pd.DataFrame) -> list[Fault]:
        earlier, later = self.pairs(frame, frame["picture"].to_numpy() >= 0, self.same_thing, alike=True)
        wrong = np.zeros(len(frame), bool)
        wrong[_going(earlier, later, _is(frame["origin"], "person"))] = True
        return [(wrong, "bbox", "another annotation of the picture says the same")]


class ExpectOneLabel(_PairExpectation):
    """Hold each box of a picture to one label, and the whole picture to one.

    Boxes are one whose intersection over union is at least `same_box`. `exclusive` are the sources whose labels exclude
    each other; null for all.
    """

    rule = Rule.LABEL_CONFLICT
    same_box: float = SAME_BOX
    exclusive: tuple[str, ...] | None = None

    def faults(self, frame: pd.DataFrame) -> list[Fault]:
        looked_at = frame["picture"].to_numpy() >= 0
        if self.exclusive is not None:
            looked_at &= frame["source"].isin(self.exclusive).to_numpy(bool)
        wrong = np.zeros(len(frame), bool)
        for side in self.pairs(frame, looked_at, self.same_box, alike=False):
            wrong[side] = True
        return [(wrong & ~_is(frame["origin"], "person"), "label", "the same box has another label too")]


class ExpectProbabilities(RowExpectation):
    """Hold probabilities to 0..1 and to the sum 1, and a model's label to the largest. Null: unknown to the model."""

    rule = Rule.LABEL_PROBABILITIES
    labels: tuple[str, ...]

    def faults(self, frame: pd.DataFrame) -> list[Fault]:
        chances = frame[[f"p_{label}" for label in self.labels]].to_numpy()
        null = np.isnan(chances)
        given, model = ~null.all(axis=1), _is(frame["origin"], "model")
        largest = np.max(chances, axis=1, initial=0.0, where=~null)
        label = pd.Categorical(frame["label"])
        column = np.append(pd.Index(self.labels).get_indexer(label.categories), -1)[label.codes]  # -1: it has none
        own = np.where(column < 0, np.nan, chances[np.arange(len(frame)), column])
        return [
            (model & ~given, "probabilities", "a model's label has none"),
            (~(null | ((chances >= 0) & (chances <= 1))).all(axis=1), "probabilities", "not all are numbers in 0..1"),
            (given & (np.abs(np.nansum(chances, axis=1) - 1) > SUM_TOLERANCE), "probabilities", "they do not sum to 1"),
            (model & ~(own >= largest - TIE_TOLERANCE), "label", "another label's probability is larger"),
        ]


class ExpectConfidence(RowExpectation):
    """Hold confidences to 0..1. 1 is reserved for what a person confirmed; a model always gives one."""

    rule = Rule.LABEL_CONFIDENCE

    def faults(self, frame: pd.DataFrame) -> list[Fault]:
        confidence, origin = frame["confidence"].to_numpy(), frame["origin"]
        null = np.isnan(confidence)
        model, person, told = (_is(origin, each) for each in ("model", "person", "import"))
        return [
            (~(model | person | told), "origin", "expected model, import or person"),
            (model & null, "confidence", "a model's label has none"),
            (~null & ~((confidence >= 0) & (confidence <= 1)), "confidence", "not a number in 0..1"),
            (~person & (confidence == 1), "confidence", "1 is reserved for what a person confirmed"),
        ]


OF_IMAGES = (
    ExpectImageIdentity,
    ExpectImageSize,
    ExpectImageOutcome,
    ExpectCopyOfAnother,
    ExpectFrame,
    ExpectOneOfEachContent,
)
OF_ANNOTATIONS = (
    ExpectReference,
    ExpectBoxInside,
    ExpectBoxNormalised,
    ExpectProbabilities,
    ExpectConfidence,
    ExpectBoxSides,
    ExpectBoxAspect,
    ExpectNoDoubles,
    ExpectOneLabel,
)
"""The classes of this module, by the table that they look at."""


def images_expectations(terms: Terms) -> list[Expectation]:
    """Return what `images` must hold to."""
    each = [ExpectImageIdentity(files=terms.files), ExpectImageSize(files=terms.files), ExpectImageOutcome()]
    if terms.suite == "annotate":
        return each
    each += [ExpectCopyOfAnother(), ExpectFrame()]
    return each if terms.duplicates is Duplicates.KEEP else [*each, ExpectOneOfEachContent()]


def annotations_expectations(terms: Terms) -> list[Expectation]:
    """Return what `annotations` must hold to."""
    labels = tuple(name.removeprefix("p_") for name in probability_columns(terms.labels))
    outside = _stock(Rule.LABEL_VOCABULARY, "Every label is one of the vocabulary.", "not in the vocabulary")
    each = [
        ExpectReference(),
        ExpectBoxInside(),
        ExpectBoxNormalised(),
        ExpectColumnValuesToBeInSet(column="label", value_set=list(terms.vocabulary), **outside),
        ExpectColumnValuesToNotBeNull(column="label", **outside),
        ExpectProbabilities(labels=labels),
        ExpectConfidence(),
    ]
    if terms.suite == "annotate":
        return each
    named = _stock(Rule.REFERENCE_DUPLICATE_ID, "Every annotation has an id of its own.", "missing, or another has it")
    return [
        *each,
        ExpectColumnValuesToBeUnique(column="annotation_id", **named),
        ExpectColumnValuesToNotBeNull(column="annotation_id", **named),
        ExpectBoxSides(),
        ExpectBoxAspect(most=terms.max_aspect),
        ExpectNoDoubles(same_thing=terms.same_thing),
        ExpectOneLabel(same_box=terms.same_box, exclusive=terms.exclusive),
    ]


def _stock(rule: Rule, says: str, fault: str) -> dict[str, Any]:
    """Return what a stock expectation is told beside its arguments; `fault` is what a row that breaks it is told."""
    return {"meta": {"rule": rule.value, "fault": fault}, "description": says}


@dataclass(frozen=True)
class _Labels:
    """What is compared of labels, one element a row; pairs are of one label where `alike`, else of two."""

    picture: Rows
    label: NDArray[np.int_]
    person: Mask
    box: NDArray[np.float64]
    alike: bool

    def fit(self, first: Rows, second: Rows) -> Mask:
        """Tell which may be pairs by all but their boxes."""
        same = (self.label[first] == self.label[second]) == self.alike
        return np.asarray(same & ~(self.person[first] & self.person[second]))


def _going(earlier: Rows, later: Rows, person: Mask) -> Rows:
    """Return the row of each pair that goes: the later one, but where that is a person's."""
    return np.where(person[later], earlier, later)


def _of_the_whole(about: _Labels, looked_at: Mask) -> tuple[Rows, Rows]:
    """Return pairs of labels of the whole picture."""
    rows = np.flatnonzero(looked_at)
    # People's labels first: each that is none is next to one of theirs, or to one that is next to one.
    rows = rows[np.lexsort((rows, ~about.person[rows], about.label[rows], about.picture[rows]))]
    first, second = rows[:-1], rows[1:]
    found = (about.picture[first] == about.picture[second]) & about.fit(first, second)
    return np.minimum(first, second)[found], np.maximum(first, second)[found]


def _overlapping(about: _Labels, looked_at: Mask, least: float) -> tuple[Rows, Rows]:
    """Return pairs of boxes of a picture whose intersection over union is at least `least`.

    Such boxes are near each other: their left edges differ by at most (1 - least) / least of a width, their upper ones
    by as much of a height. So in the order of x + 1.618 y a box is compared only with those that follow closely.
    """
    x, y, w, h = about.box.T
    place, reach = x + _GOLDEN * y, (1 - least) / least * (w + _GOLDEN * h)
    rows = np.flatnonzero(looked_at)
    rows = rows[np.lexsort((place[rows], about.picture[rows]))]
    found: list[tuple[Rows, Rows]] = [(rows[:0], rows[:0])]
    stays, gone = np.ones(len(place), bool), 0
    at, step = np.arange(len(rows) - 1), 1
    while at.size:
        first, second = rows[at], rows[at + step]
        near = (about.picture[first] == about.picture[second]) & (place[second] - place[first] <= reach[first])
        near &= stays[first]
        at, first, second = at[near], first[near], second[near]
        fits = about.fit(first, second)
        first, second = first[fits], second[fits]
        same = _iou(about.box[first], about.box[second]) >= least
        earlier, later = np.minimum(first, second)[same], np.maximum(first, second)[same]
        found.append((earlier, later))
        going = _going(earlier, later, about.person)
        gone += len(np.unique(going[stays[going]]))
        stays[going] = False
        step += 1
        at = at[at + step < len(rows)]
        if gone > max(len(at), _HEAP):  # those that are left need not be compared with all of a heap
            kept = stays[rows]
            at = np.cumsum(kept)[at[kept[at]]] - 1
            rows, gone, step = rows[kept], 0, 1
            at = at[at + step < len(rows)]
    return np.concatenate([earlier for earlier, _ in found]), np.concatenate([later for _, later in found])


def _iou(one: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    sides = np.minimum(one[:, :2] + one[:, 2:], other[:, :2] + other[:, 2:]) - np.maximum(one[:, :2], other[:, :2])
    shared = np.clip(sides, 0, None).prod(axis=1)
    union = one[:, 2:].prod(axis=1) + other[:, 2:].prod(axis=1) - shared
    return np.asarray(np.divide(shared, union, out=np.zeros_like(shared), where=union > 0))


def _is(column: pd.Series, value: "str | pd.Series") -> Mask:
    return np.asarray((column == value).fillna(False), bool)


def _not_held_back(frame: pd.DataFrame) -> Mask:
    """Rows that are quarantined have been judged; only their outcome is looked at again."""
    return ~_is(frame["outcome"], Outcome.QUARANTINED.value)


def _stands(frame: pd.DataFrame) -> Mask:
    return np.asarray(frame["outcome"].isin([Outcome.LABELLED.value, Outcome.NO_FACE.value]), bool)


def _hex64(column: pd.Series) -> Mask:
    texts = pa.array(column, pa.string(), from_pandas=True)
    return np.asarray(pc.fill_null(pc.match_substring_regex(texts, r"\A[0-9a-f]{64}\z"), False))
