"""What a whole data set is asked at the end of a run: balance, rates, drift, and that no two rows contradict.

    result = judge_dataset(images, annotations, quarantine, previous, vocabulary)

The tables are reduced to one row of figures, and each figure is held to its bounds by a stock expectation. Nothing is
changed or stopped by it: a person reads what does not hold.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import polars as pl

from schemas.reasons import Outcome, Rule
from validation.agreement import jensen_shannon
from validation.suites import Expected, ask, context

VERSION = "1"
"""Changes when an expectation does."""

NAME = "dataset"

ENOUGH = 1_000
"""So many labels are needed on both sides before drift is judged: of fewer, two samples of one population may differ by
more than the bound by chance (1,000 of 8 labels: 0.05)."""

SIDES = (1 / 64, 1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2)
"""The classes of a box's side, as a share of its picture's (the root of w * h), end at these."""

OUTLIER = 3.5 * 1.4826
"""A box is an outlier of its label whose log area is so many median deviations off the median (Iglewicz and Hoaglin
1993: 3.5, in deviations that are made comparable to the standard one)."""

_COUNT, _SHARE, _NUMBER = ",.0f", ".1%", ".2f"


@dataclass(frozen=True)
class Bound:
    """What a figure is held to, and how it is written. `rule` is what it proves or doubts; `says` is for a person."""

    figure: str
    rule: Rule
    says: str
    least: float | None = None
    most: float | None = None
    form: str = _SHARE
    severity: Literal["critical", "warning", "info"] = "warning"

    @property
    def limit(self) -> str:
        """What is expected, as a text."""
        if self.least is not None:
            return f"at least {self.least:{self.form}}"
        return f"at most {self.most:{self.form}}"


def _none(figure: str, rule: Rule, says: str, severity: Literal["critical", "info"] = "critical") -> Bound:
    return Bound(figure, rule, says, most=0, form=_COUNT, severity=severity)


BOUNDS = (
    # These must hold, whatever the data: the rules and the shards' suites saw to it, but none of them sees all shards.
    _none("repeated_images", Rule.IMAGE_IDENTITY, "pictures whose id another one has"),
    _none("repeated_annotations", Rule.REFERENCE_DUPLICATE_ID, "labels whose id another one has"),
    _none("zero_ids", Rule.REFERENCE_ZERO_ID, "ids that are 0, empty or missing"),
    _none("lost_labels", Rule.REFERENCE_NO_IMAGE, "labels of a picture that is not there"),
    _none("lost_duplicates", Rule.DUPLICATE_NEAR, "duplicates of a picture that does not stand"),
    _none("strange_labels", Rule.LABEL_VOCABULARY, "labels that are not in the vocabulary"),
    # Google's Machine Learning Crash Course calls less than 1 % of the data an extreme imbalance, and over 20 % for
    # the rarer of two classes at most a mild one.
    Bound("rarest_label", Rule.LABEL_VOCABULARY, "share of the rarest label", least=0.01),
    Bound("commonest_label", Rule.LABEL_VOCABULARY, "share of the commonest label", most=0.8),
    # Pielou's evenness. The bound is ours: 8 labels of which one has 75 % and the others share the rest have 0.5.
    Bound("evenness", Rule.LABEL_VOCABULARY, "evenness of the labels (1: all alike)", least=0.5, form=_NUMBER),
    _none("unused_labels", Rule.LABEL_VOCABULARY, "labels of the vocabulary that nothing has", "info"),
    # The bounds of the rates are ours: beyond them a person should look at what was collected, or at a rule.
    Bound("duplicate_rate", Rule.DUPLICATE_NEAR, "share of duplicates among the pictures", most=0.3),
    Bound("unlabelled_rate", Rule.IMAGE_OUTCOME, "share of pictures that stand without a label", most=0.5),
    Bound("quarantine_rate", Rule.LABEL_NEEDS_REVIEW, "share of labels that are held back", most=0.1),
    Bound("quarantined_pictures", Rule.IMAGE_OUTCOME, "share of pictures that are held back", most=0.1),
    Bound("outlier_rate", Rule.BBOX_OUTLIER, "share of boxes far larger or smaller than others of a label", most=0.05),
    # Jensen-Shannon distance in bits; 0.1 is what Evidently takes for drift where there are over 1,000 observations.
    Bound("label_drift", Rule.LABEL_VOCABULARY, "distance of new labels from those before", most=0.1, form=_NUMBER),
    Bound("area_drift", Rule.BBOX_OUTLIER, "distance of new boxes' sizes from those before", most=0.1, form=_NUMBER),
)


@dataclass(frozen=True)
class Counts:
    """What drift is measured by: how many labels of each name there are, and of each class of a box's side.

    The last class is of labels without a box, or of pictures of unknown size.
    """

    labels: Mapping[str, int]
    sides: tuple[int, ...]

    @staticmethod
    def of(told: Any) -> "Counts | None":
        """Return the counts of an earlier result, as `Result.told` has them; None where there are none."""
        try:
            given = told["meta"]["counts"]
            return Counts({str(name): int(n) for name, n in given["labels"].items()}, tuple(map(int, given["sides"])))
        except (LookupError, TypeError, ValueError, AttributeError):
            return None


@dataclass(frozen=True)
class Result:
    """What was found: `told` is the validation result in the JSON of Great Expectations, `lines` what a run prints."""

    told: dict[str, Any]
    lines: tuple[str, ...]


def judge_dataset(
    images: pl.LazyFrame,
    annotations: pl.LazyFrame,
    quarantine: pl.LazyFrame,
    previous: Counts | None,
    vocabulary: Sequence[str],
) -> Result:
    """Hold a data set to BOUNDS; `previous` are the counts of the result before, None for the first.

    A figure that there is nothing to compute of is left out. Raises RunError where an expectation cannot be evaluated.
    """
    pictures, labels = _slim(images, annotations)
    counts = _counts(labels)
    figures = {
        **_integrity(pictures, labels),
        **_balance(counts, vocabulary),
        **_rates(pictures, labels, quarantine),
        **_drift(counts, previous),
    }
    known = {name: float(value) for name, value in figures.items() if value is not None}
    bounds = [bound for bound in BOUNDS if bound.figure in known]
    return _result(known, bounds, {"labels": dict(counts.labels), "sides": list(counts.sides)})


def dataset_expectations(bounds: Sequence[Bound] = BOUNDS) -> list[Expected]:
    """Return the suite: of a table with one row and a column for each figure."""
    context()
    from great_expectations.expectations.core import ExpectColumnMaxToBeBetween

    return [
        Expected(
            bound.rule,
            ExpectColumnMaxToBeBetween(
                column=bound.figure,
                min_value=bound.least,
                max_value=bound.most,
                severity=bound.severity,
                description=f"{bound.says}: {bound.limit}",
                meta={"rule": bound.rule.value},
            ),
            bound.figure,
            by_row=False,
        )
        for bound in bounds
    ]


def _slim(images: pl.LazyFrame, annotations: pl.LazyFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the columns that are looked at, in 30 bytes a row.

    Ids are their hashes of 64 bits: of a million of them, two are alike by chance once in 30 million data sets.
    """
    ids = {name: pl.col(name).fill_null("") for name in ("image_id", "annotation_id")}
    zero = {name: (own == "") | (own == "0") for name, own in ids.items()}
    pictures = images.select(
        pl.col("outcome").cast(pl.String).cast(pl.Categorical),
        pl.col("image_id").hash(),
        pl.col("duplicate_of").hash(),
        zero=zero["image_id"],
    )
    labels = annotations.select(
        pl.col("label").cast(pl.String).fill_null("").cast(pl.Categorical),
        pl.col("annotation_id").hash(),
        pl.col("image_id").hash(),
        area=(pl.col("w") * pl.col("h")).fill_nan(None),
        zero=zero["annotation_id"],
    )
    one, other = (frame.collect(engine="streaming") for frame in (pictures, labels))
    return one, other


def _integrity(pictures: pl.DataFrame, labels: pl.DataFrame) -> dict[str, int]:
    duplicate = pl.col("outcome") == Outcome.DUPLICATE.value
    standing = pictures.filter(~duplicate)["image_id"]
    return {
        "repeated_images": pictures.height - pictures["image_id"].n_unique(),
        "repeated_annotations": labels.height - labels["annotation_id"].n_unique(),
        "zero_ids": sum(int(table["zero"].sum()) for table in (pictures, labels)),
        "lost_labels": labels.join(pictures, on="image_id", how="anti").height,
        "lost_duplicates": int((~pictures.filter(duplicate)["duplicate_of"].is_in(standing.implode())).sum()),
    }


def _counts(labels: pl.DataFrame) -> Counts:
    """Count labels by name, and by the class of their box's side, the last of which is for those that have none."""
    at = pl.sum_horizontal((pl.col("area") > end * end).cast(pl.UInt8) for end in SIDES)
    sides = labels.select(pl.when(pl.col("area").is_null()).then(len(SIDES) + 1).otherwise(at)).to_series()
    named = labels.group_by(pl.col("label").cast(pl.String)).len().sort("label")
    counted = np.bincount(sides.to_numpy(), minlength=len(SIDES) + 2)
    return Counts(dict(named.iter_rows()), tuple(counted.tolist()))


def _balance(counts: Counts, vocabulary: Sequence[str]) -> dict[str, float | None]:
    known = np.array([counts.labels.get(label, 0) for label in vocabulary], float)
    used, total = known[known > 0], known.sum()
    shares = used / total if total else used
    several = len(used) > 1
    return {
        "strange_labels": sum(counts.labels.values()) - total,
        "unused_labels": len(known) - len(used) if total else None,
        "rarest_label": shares.min() if several else None,
        "commonest_label": shares.max() if several else None,
        "evenness": -(shares * np.log(shares)).sum() / math.log(len(used)) if several else None,
    }


def _rates(pictures: pl.DataFrame, labels: pl.DataFrame, quarantine: pl.LazyFrame) -> dict[str, float | None]:
    of = dict(pictures.group_by(pl.col("outcome").cast(pl.String)).len().iter_rows())
    labelled, no_face = (of.get(each.value, 0) for each in (Outcome.LABELLED, Outcome.NO_FACE))
    of_labels = quarantine.filter(pl.col("kind").cast(pl.String) == "annotation")
    held = of_labels.select(pl.col("id").n_unique()).collect().item()
    return {
        "duplicate_rate": _share(of.get(Outcome.DUPLICATE.value, 0), pictures.height),
        "unlabelled_rate": _share(no_face, labelled + no_face),
        "quarantined_pictures": _share(of.get(Outcome.QUARANTINED.value, 0), pictures.height),
        "quarantine_rate": _share(held, held + labels.height),
        "outlier_rate": _outliers(labels),
    }


def _outliers(labels: pl.DataFrame) -> float | None:
    """Return the share of boxes whose area is far from the median of their label."""
    boxes = labels.filter(pl.col("area") > 0).select("label", log=pl.col("area").log())
    off = boxes.select("label", off=(pl.col("log") - pl.col("log").median().over("label")).abs())
    far = off.select((pl.col("off") > OUTLIER * pl.col("off").median().over("label")).sum())
    return _share(far.item(), boxes.height)


def _share(part: float, whole: float) -> float | None:
    return part / whole if whole else None


def _drift(counts: Counts, previous: Counts | None) -> dict[str, float | None]:
    """Return how far what is new is from what was there before.

    Where labels were only added, those are new. Where some went or changed, all are compared with all before.
    """
    if previous is None or len(previous.sides) != len(counts.sides):
        return {}
    names = sorted({*counts.labels, *previous.labels})
    now, before = (np.array([each.labels.get(name, 0) for name in names], float) for each in (counts, previous))
    sides, sides_before = np.array(counts.sides, float), np.array(previous.sides, float)
    if (now >= before).all() and (sides >= sides_before).all():
        now, sides = now - before, sides - sides_before
    if min(now.sum(), before.sum()) < ENOUGH:
        return {}
    pairs = {"label_drift": (now, before), "area_drift": (sides, sides_before)}
    return {name: float(jensen_shannon(p[None], q[None])[0]) ** 0.5 for name, (p, q) in pairs.items()}


def _result(figures: Mapping[str, float], bounds: Sequence[Bound], counts: Mapping[str, Any]) -> Result:
    import pandas as pd
    from great_expectations.core import ExpectationSuiteValidationResult

    expected = dataset_expectations(bounds)
    results = ask(
        pd.DataFrame({name: [value] for name, value in figures.items()}), expected, {"result_format": "BASIC"}
    )
    for result, one in zip(results, expected, strict=True):
        result.expectation_config = one.expectation.configuration
    good = sum(bool(result.success) for result in results)
    whole = ExpectationSuiteValidationResult(
        success=good == len(results),
        results=results,
        suite_name=NAME,
        statistics={
            "evaluated_expectations": len(results),
            "successful_expectations": good,
            "unsuccessful_expectations": len(results) - good,
            "success_percent": 100 * good / len(results) if results else None,
        },
        meta={"labelstream": VERSION, "counts": counts},
    )
    lines = [
        f"{bound.says}: {figures[bound.figure]:{bound.form}}, expected {bound.limit}"
        for bound, result in zip(bounds, results, strict=True)
        if not result.success
    ]
    return Result(json.loads(json.dumps(whole.to_json_dict())), tuple(lines))  # plain numbers, none of numpy
