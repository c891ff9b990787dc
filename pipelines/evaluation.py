"""Hold a data set's labels against the truth: which face is which, then the figures of evaluation.json."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from pipelines.dataset import Dataset
from schemas.errors import UsageError
from schemas.reasons import Outcome
from schemas.vocabulary import label_order
from transforms.pairing import pair_faces, pair_names, pair_pictures
from transforms.storage import printable
from transforms.truth import Language, Truth, read_truth
from transforms.truth_forms import BOX, DISMISSALS, VOTES, Form, with_prefix
from validation.agreement import Labelled, Voted, agreement, majority
from validation.detection import Boxes, detection, recall_by_size
from validation.resampling import Floats, Ints

_FRAME = r"/\d{6,}\.jpg$"
"""What is behind a video's name in a frame's."""

REASONS = {
    None: "not in the data set",
    str(Outcome.FAILED): "failed",
    str(Outcome.QUARANTINED): "quarantined",
    str(Outcome.NO_FACE): "no face found",
    str(Outcome.LABELLED): "no label at this place",
}
"""Why a face was missed, by its picture's outcome."""

DEFINITIONS = {
    "accuracy": "share of right labels among covered faces: labelled both in the truth and by the data set",
    "accuracy_counting_missed": "the same among all faces with a label of the truth; a missed one is wrong",
    "macro_f1": "mean F1 of the classes that the truth of the covered faces holds",
    "macro_f1_counting_missed": "the same over all faces with a label of the truth; a missed one is not found",
    "coverage": "share of the truth's faces that have a label",
    "ece": "mean distance of confidence and accuracy over 15 bins of equal width, weighted by faces",
    "interval": "95 %, 1,000 resamples of whole pictures, fixed seed",
    "ap": "COCO, one class, 100 boxes a picture, IoU .5 to .95 (ap50: .5)",
    "recall_by_size": "by the longer side of the truth's box",
    "jensen_shannon": "mean divergence of votes and probabilities in bits, 0 to 1",
    "majority": "accuracy where more than half agree, single votes dropped (FER+)",
    "plurality": "accuracy where one label has the most votes",
}


@dataclass(frozen=True)
class Question:
    """What is held against what: where the truth is and how it is read.

    `least_iou` pairs boxes. `skip_absent` leaves out pictures that the data set does not hold; else they are missed.
    """

    truth: str
    form: Form | None
    codes: str | None
    columns: Mapping[str, str]
    least_iou: float
    skip_absent: bool


@dataclass(frozen=True)
class Evaluation:
    """`told` is evaluation.json. `missed` has a row a face: `file`, `pts_ms`, `x`, `y`, `w`, `h`, `label`, `reason`."""

    told: dict[str, Any]
    missed: pl.DataFrame


def evaluate(dataset: Dataset, question: Question) -> Evaluation:
    """Return how well the data set's labels agree with the truth. Raises UsageError and RunError."""
    said = dataset.scan("annotations").select(pl.col("label").unique()).collect()["label"].drop_nulls().sort()
    known = tuple(dict.fromkeys((*dataset.labels, *said)))
    labels = label_order(known)
    truth = read_truth(question.truth, question.form, Language(labels, question.codes), question.columns)
    _check_understood(truth, question)
    pictures = _placed(dataset, truth)
    absent = pictures.filter(pl.col("outcome").is_null()).height
    if absent == pictures.height:
        raise UsageError(_nothing_in_common(dataset, truth))
    if question.skip_absent:
        pictures = pictures.filter(pl.col("outcome").is_not_null())
    predictions = _predictions(dataset, pictures, labels if truth.voted else ())
    pictures = pictures.drop("image_id", "width", "height")
    faces = _faces(truth, pictures, predictions, question.least_iou, labels)
    counting = faces.filter("counts")
    if counting.is_empty():
        raise UsageError(f"--truth: no face of {printable(question.truth)} is on a picture of the data set")
    missed = counting.filter(pl.col("prediction").is_null())
    told = {
        **agreement(_labelled(counting, labels), _voted(counting, labels) if truth.voted else None, known),
        "boxes": _boxes(truth, faces, pictures, predictions),
        "unknown_labels": truth.unknown_labels,
        "truth": {
            "path": printable(question.truth),
            "format": truth.form,
            "pictures": pictures.height,
            "faces": counting.height,
            "absent_pictures": absent,
            "absent_are": "left out" if question.skip_absent else "missed",
            "crowded_pictures": _crowded(counting, predictions),
            "left_out": truth.left_out,
            "iou": question.least_iou,
        },
        "dataset": dataset.info,
        "definitions": DEFINITIONS,
    }
    reason = pl.col("outcome").replace_strict(list(REASONS), list(REASONS.values()), return_dtype=pl.String)
    return Evaluation(
        told, missed.select(pl.col("name").alias("file"), "pts_ms", *BOX, "label", reason.alias("reason"))
    )


def _check_understood(truth: Truth, question: Question) -> None:
    if not truth.faces["counts"].any():
        unknown = ", ".join(f"{label!r} {count:,} times" for label, count in list(truth.unknown_labels.items())[:5])
        numbers = any(label.strip().isdecimal() for label in truth.unknown_labels) and question.codes is None
        raise UsageError(
            f"--truth: {printable(question.truth)} names no face whose label is known"
            + (f"; it says {unknown}" if unknown else "")
            + (". If the numbers are codes, say which with --codes" if numbers else "")
        )


def _nothing_in_common(dataset: Dataset, truth: Truth) -> str:
    wanted = ", ".join(map(repr, truth.pictures["name"].head(2)))
    named = dataset.scan("images").select("file_name").head(2).collect()["file_name"]
    there = ", ".join(map(repr, named)) or "no pictures"
    return f"--truth: none of its pictures is in the data set: it names {wanted}; the data set has {there}"


def _placed(dataset: Dataset, truth: Truth) -> pl.DataFrame:
    """Return the truth's pictures with `outcome`, `image_id`, its number `item`, `width`, `height`; null for no image.

    A duplicate has those of the picture that stands for it; a frame of a video that failed has failed.
    """
    images = dataset.scan("images")
    names = images.select("file_name", "source_uri", "frame_index", "pts_ms").collect().with_row_index("item")
    pairs = pair_pictures(truth.pictures, names)
    del names  # of a million pictures they are 100 MB
    is_copy = pl.col("outcome") == Outcome.DUPLICATE
    standing = pl.when(is_copy).then("duplicate_of").otherwise("image_id")
    found = images.select(image_id=standing).with_row_index("item").join(pairs.lazy(), on="item").drop("item")
    outcomes = images.filter(~is_copy).select("image_id", "outcome", "width", "height")
    placed = truth.pictures.join(found.join(outcomes, on="image_id").collect(), on="picture", how="left")
    # Numbered by their first picture: image ids are long.
    first = pl.col("picture").min().over("image_id")
    return _with_failures(
        placed.sort("picture").with_columns(item=pl.when(pl.col("image_id").is_not_null()).then(first)), dataset
    )


def _with_failures(placed: pl.DataFrame, dataset: Dataset) -> pl.DataFrame:
    failures = dataset.scan("failures").select("file_name", "source_uri").unique().collect().sort("source_uri")
    lost = placed.filter(pl.col("outcome").is_null()).with_columns(video=pl.col("name").str.replace(_FRAME, ""))
    if failures.is_empty() or lost.is_empty():
        return placed
    failed = []
    for name in ("name", "video"):
        named = lost.select(pl.col(name).alias("name")).unique().sort("name").with_row_index("picture")
        hit = pair_names(named, failures.with_row_index("item")).join(named, on="picture")["name"]
        failed.append(lost.filter(pl.col(name).is_in(hit.implode()))["picture"])
    has_failed = pl.col("picture").is_in(pl.concat(failed).implode())
    return placed.with_columns(outcome=pl.when(has_failed).then(pl.lit(str(Outcome.FAILED))).otherwise("outcome"))


def _predictions(dataset: Dataset, pictures: pl.DataFrame, voted: Sequence[str]) -> pl.DataFrame:
    """Return the labels of these pictures: `item`, box, `label`, `confidence`, `score`, probabilities of `voted`.

    A label without a box is one of the whole picture.
    """
    labelled = pictures.filter(pl.col("outcome") == Outcome.LABELLED)
    wanted = labelled.select("image_id", "item", "width", "height").unique("item")
    annotations = dataset.scan("annotations").filter(pl.col("label").is_not_null())
    there = set(annotations.collect_schema().names())
    whole = {"x": pl.lit(0.0), "y": pl.lit(0.0), "w": pl.col("width"), "h": pl.col("height")}
    chances = [pl.col(f"p_{label}") if f"p_{label}" in there else pl.lit(None).alias(f"p_{label}") for label in voted]
    return (
        annotations.join(wanted.lazy(), on="image_id")
        .sort("item", "rank")
        .select(
            "item",
            *(pl.col(f"bbox_{side}").cast(pl.Float64).fill_null(other).alias(side) for side, other in whole.items()),
            "label",
            pl.col("confidence").cast(pl.Float64).fill_null(np.nan),
            pl.col("detection_score").cast(pl.Float64).fill_nan(None).fill_null(1.0).alias("score"),
            *(chance.cast(pl.Float64).fill_null(0.0) for chance in chances),
        )
        .collect()
        .with_row_index("prediction")
    )


def _faces(
    truth: Truth, pictures: pl.DataFrame, predictions: pl.DataFrame, least_iou: float, labels: Sequence[str]
) -> pl.DataFrame:
    """Return the truth's faces on these pictures with what was said of them, null where nothing was.

    Where people voted, `label` is their majority.
    """
    faces = truth.faces.join(pictures, on="picture", maintain_order="left").with_row_index("face")
    places = predictions.select("prediction", "item", *BOX)
    pairs = pair_faces(faces.filter(pl.col("item").is_not_null()), places, least_iou)
    said = predictions.drop("item", *BOX, "score").rename({"label": "said"})
    faces = faces.join(pairs, on="face", how="left", maintain_order="left")
    faces = faces.join(said, on="prediction", how="left", maintain_order="left")
    if not truth.voted:
        return faces
    agreed = majority(_votes(faces, labels), _dismissals(faces))
    return faces.with_columns(label=pl.Series([labels[at] if at >= 0 else None for at in agreed], dtype=pl.String))


def _labelled(faces: pl.DataFrame, labels: tuple[str, ...]) -> Labelled:
    # Copies of one picture are one picture to the resampling: they say nothing new.
    own = pl.coalesce("item", "picture")
    return Labelled(
        labels,
        faces.select(own.rank("dense") - 1).to_series().cast(pl.Int64).to_numpy(),
        _positions(faces["label"], labels),
        _positions(faces["said"], labels),
        faces["confidence"].fill_null(np.nan).to_numpy(),
    )


def _positions(names: pl.Series, labels: Sequence[str]) -> Ints:
    at = {label: number for number, label in enumerate(labels)}
    found: Ints = names.replace_strict(at, default=-1, return_dtype=pl.Int64).fill_null(-1).to_numpy()
    return found


def _voted(faces: pl.DataFrame, labels: Sequence[str]) -> Voted:
    chances = faces.select(pl.col(f"p_{label}").fill_null(0.0) for label in labels).to_numpy()
    return Voted(_votes(faces, labels), _dismissals(faces), chances)


def _votes(faces: pl.DataFrame, labels: Sequence[str]) -> Floats:
    """Return the votes (n, labels); nobody could vote for a label that the truth has no column for."""
    columns = [VOTES + label for label in labels]
    there = set(faces.columns)
    return faces.select(pl.col(name) if name in there else pl.lit(0.0).alias(name) for name in columns).to_numpy()


def _dismissals(faces: pl.DataFrame) -> Floats:
    return faces.select(with_prefix(faces, DISMISSALS)).to_numpy().reshape(faces.height, -1)


def _crowded(faces: pl.DataFrame, predictions: pl.DataFrame) -> int:
    """Return how many pictures with one label for the whole have several faces, of which the largest is taken."""
    several = predictions.filter(pl.col("item").is_duplicated())["item"].unique()
    whole = faces.filter(pl.col("x").is_null() & pl.col("item").is_in(several.implode()))
    return whole["picture"].n_unique()


def _boxes(
    truth: Truth, faces: pl.DataFrame, pictures: pl.DataFrame, predictions: pl.DataFrame
) -> dict[str, Any] | None:
    """Return the figures of detection; null where the truth has no boxes.

    They are of the pictures on which the truth has boxes; in COCO also of those on which it has nothing.
    """
    placed = faces.filter(pl.col("x").is_not_null())
    if not placed["counts"].any():
        return None
    looked_at = pl.col("picture").is_in(placed["picture"].implode())
    if truth.form == "coco":
        looked_at |= ~pl.col("picture").is_in(truth.faces["picture"].implode())
    numbered = pictures.filter(looked_at).select("picture", "item").with_row_index("number")
    boxes = predictions.select("prediction", "item", *BOX, "score")
    theirs = placed.select("picture", "face", *BOX, "counts").join(numbered, on="picture").sort("number", "face")
    ours = boxes.join(numbered, on="item").sort("number", "prediction")
    counting = placed.filter("counts")
    longer = counting.select(pl.max_horizontal("w", "h")).to_series().to_numpy()
    return {
        **detection(_as_boxes(theirs, "counts"), _as_boxes(ours, "score"), numbered.height),
        "recall_by_size": recall_by_size(longer, counting["prediction"].is_not_null().cast(pl.Int64).to_numpy()),
    }


def _as_boxes(rows: pl.DataFrame, mark: str) -> Boxes:
    number = rows["number"].cast(pl.Int64).to_numpy()
    return Boxes(number, rows.select(BOX).to_numpy(), rows[mark].cast(pl.Float64).to_numpy())
