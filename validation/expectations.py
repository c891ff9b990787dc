"""The expectations: one class a rule. Importing this module loads Great Expectations, which takes seconds.

Each looks at a whole frame of `validation.frames` at once and names the rows that break its rule. None needs a metric
of Great Expectations: their graph costs more than the arithmetic.
"""

from typing import Any, ClassVar

import numpy as np
import pandas as pd
from great_expectations.expectations.expectation import BatchExpectation
from numpy.typing import NDArray

from schemas.reasons import Outcome, Rule
from validation.frames import BOX, NORMALISED

TOLERANCE_PX = 0.01
"""Boxes are float32: at 65,535 px, the widest picture that JPEG knows, x + w is rounded by up to 0.008 px."""

SUM_TOLERANCE = 1e-3
"""How far probabilities may sum from 1. A softmax in float32, averaged and rounded, stays within 1e-6; 1e-3 also lets
those of other tools pass that were written with three or four decimals."""

TIE_TOLERANCE = 1e-6
"""Two probabilities nearer than this are a tie: the label may be either. float32 knows 1 to within 6e-8."""

Mask = NDArray[np.bool_]
Fault = tuple[Mask, str, str]
"""Rows that are wrong, the field that is, and what is wrong with it."""


class RowExpectation(BatchExpectation):  # type: ignore[misc,unused-ignore]
    """Rows of a frame must hold to `rule`. A subclass says in `faults` which do not; a row's first fault counts."""

    rule: ClassVar[Rule]

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
                "unexpected_index_list": rows.tolist(),
                "details": [faults[at][1:] for at in first[rows]],
            },
        }


class ExpectImageIdentity(RowExpectation):
    """Hold every picture to an id and a content hash of 64 hex digits; ids are unique."""

    rule = Rule.IMAGE_IDENTITY

    def faults(self, frame: pd.DataFrame) -> list[Fault]:
        judged = _not_held_back(frame)
        return [
            (judged & ~_hex64(frame["image_id"]), "image_id", "expected 64 hex digits"),
            (judged & ~_hex64(frame["sha256"]), "sha256", "expected 64 hex digits"),
            (judged & frame["image_id"].duplicated().to_numpy(), "image_id", "an earlier picture has this id"),
        ]


class ExpectImageSize(RowExpectation):
    """Hold every picture to a positive width and height."""

    rule = Rule.IMAGE_SIZE

    def faults(self, frame: pd.DataFrame) -> list[Fault]:
        # A comparison with NaN, that is null, is false.
        positive = (frame["width"].to_numpy() > 0) & (frame["height"].to_numpy() > 0)
        return [(_not_held_back(frame) & ~positive, "size", "width and height must be positive")]


class ExpectImageOutcome(RowExpectation):
    """Hold outcomes to the known ones, and to what stands in the other table."""

    rule = Rule.IMAGE_OUTCOME

    def faults(self, frame: pd.DataFrame) -> list[Fault]:
        outcome, found = frame["outcome"], frame["found"].to_numpy()
        known = outcome.isin([o.value for o in Outcome if o != Outcome.FAILED]).to_numpy()
        labelled = (outcome == Outcome.LABELLED.value).to_numpy(bool)
        duplicate = (outcome == Outcome.DUPLICATE.value).to_numpy(bool)
        stands = outcome.isin([Outcome.LABELLED.value, Outcome.NO_FACE.value]).to_numpy()
        names_another = frame["duplicate_of"].notna().to_numpy()
        return [
            (~known, "outcome", "expected labelled, no_face, duplicate or quarantined"),
            (frame["annotations"].to_numpy() != found, "annotations", "the table has another number of annotations"),
            (labelled & (found == 0), "outcome", "labelled, but without an annotation"),
            (~labelled & (found > 0), "outcome", "not labelled, but with annotations"),
            (duplicate & ~names_another, "duplicate_of", "a duplicate must name the picture that stands"),
            (stands & names_another, "duplicate_of", "named by a picture that is no duplicate"),
        ]


class ExpectReference(RowExpectation):
    """Hold every annotation to a picture of its shard."""

    rule = Rule.REFERENCE_NO_IMAGE

    def faults(self, frame: pd.DataFrame) -> list[Fault]:
        return [(~frame["known"].to_numpy(), "image_id", "no picture of the shard has this id")]


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
    """Hold cx, cy, w, h (0..1) to what the box in pixels says."""

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
        nothing_due = np.isnan(box).all(axis=1) | np.isnan(size).any(axis=1)
        return [
            (computable & empty, "normalised", "missing"),
            (computable & differs, "normalised", "differs from the box in pixels"),
            (nothing_due & ~empty, "normalised", "there is no box, or no size, to compute it from"),
        ]


class ExpectVocabulary(RowExpectation):
    """Hold labels to the vocabulary."""

    rule = Rule.LABEL_VOCABULARY
    vocabulary: tuple[str, ...]

    def faults(self, frame: pd.DataFrame) -> list[Fault]:
        return [(~frame["label"].isin(self.vocabulary).to_numpy(), "label", "not in the vocabulary")]


class ExpectProbabilities(RowExpectation):
    """Hold probabilities to 0..1 and to the sum 1, and a model's label to the largest. Null: unknown to the model."""

    rule = Rule.LABEL_PROBABILITIES
    vocabulary: tuple[str, ...]

    def faults(self, frame: pd.DataFrame) -> list[Fault]:
        chances = frame[[f"p_{label}" for label in self.vocabulary]].to_numpy()
        null = np.isnan(chances)
        given, model = ~null.all(axis=1), (frame["origin"] == "model").to_numpy(bool)
        largest = np.max(chances, axis=1, initial=0.0, where=~null)
        position = pd.Index(self.vocabulary).get_indexer(pd.Index(frame["label"]))  # -1 where the label has no column
        own = np.where(position < 0, np.nan, chances[np.arange(len(frame)), position])
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
        null, model = np.isnan(confidence), (origin == "model").to_numpy(bool)
        person = (origin == "person").to_numpy(bool)
        return [
            (model & null, "confidence", "a model's label has none"),
            (~null & ~((confidence >= 0) & (confidence <= 1)), "confidence", "not a number in 0..1"),
            (~person & (confidence == 1), "confidence", "1 is reserved for what a person confirmed"),
        ]


def images_expectations() -> list[RowExpectation]:
    """Return what `images` must hold to."""
    return [ExpectImageIdentity(), ExpectImageSize(), ExpectImageOutcome()]


def annotations_expectations(vocabulary: tuple[str, ...]) -> list[RowExpectation]:
    """Return what `annotations` must hold to; `vocabulary` is the labels in the order of the p_ columns."""
    return [
        ExpectReference(),
        ExpectBoxInside(),
        ExpectBoxNormalised(),
        ExpectVocabulary(vocabulary=vocabulary),
        ExpectProbabilities(vocabulary=vocabulary),
        ExpectConfidence(),
    ]


def _not_held_back(frame: pd.DataFrame) -> Mask:
    """Rows that are quarantined have been judged; only their outcome is looked at again."""
    return np.asarray(frame["outcome"] != Outcome.QUARANTINED.value, bool)


def _hex64(column: pd.Series) -> Mask:
    return np.asarray(column.astype("string").str.fullmatch("[0-9a-f]{64}").fillna(False), bool)
