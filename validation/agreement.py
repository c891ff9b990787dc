"""How far labels agree with the truth: pure arithmetic on arrays.

- *accuracy*: the share of right labels among the covered faces: those with a label of the truth and one of ours;
- *macro-F1*: the mean F1 of the classes that the truth of the covered faces holds; one that is never said has F1 0;
- *... counting missed*: the same over all faces with a label of the truth, where one that was missed is wrong;
- *coverage*: the share of the truth's faces, with a label or only a box, that were not missed;
- *ECE*: the expected calibration error: over 15 bins of equal width, ](i - 1)/15, i/15], the mean distance between the
  confidence and the accuracy of a bin, weighted by its faces (Guo et al. 2017, arXiv:1706.04599).

Where people voted, the label of the truth is FER+'s majority.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from validation.resampling import Block, Blocks, Floats, Interval, Ints, Sums, counted, told

BINS = 15
"""Bins of the calibration error, as in the paper."""

OVERALL = ("accuracy", "accuracy_counting_missed", "macro_f1", "macro_f1_counting_missed", "coverage", "ece")
_VOTES = ("jensen_shannon", "majority", "plurality")


@dataclass(frozen=True)
class Labelled:
    """Faces of the truth and what was said of them, one an entry of each array (n,).

    `picture` numbers their pictures from 0. `truth` and `predicted` are positions in `labels`; -1 in `truth` where the
    truth tells no label, in `predicted` where the face was missed. `confidence` is in 0..1, NaN where there is none.
    """

    labels: tuple[str, ...]
    picture: Ints
    truth: Ints
    predicted: Ints
    confidence: Floats


@dataclass(frozen=True)
class Voted:
    """What people voted on the same faces: `votes` (n, labels), and `dismissals` (n, any), for no expression.

    `chances` (n, labels) are the probabilities that were told; their sum is 0 where none were.
    """

    votes: Floats
    dismissals: Floats
    chances: Floats


def agreement(faces: Labelled, voted: Voted | None, known: Sequence[str]) -> dict[str, Any]:
    """Return what evaluation.json holds of labels. `known` are the labels that the data set can say.

    Rows of the confusion are the truth, columns what was said; labels that neither names are left out.
    """
    labels = faces.labels
    sums = Sums(int(faces.picture.max()) + 1, _blocks(faces, voted))
    intervals = sums.bootstrap(_figures)
    total = sums.total()
    counts, missed = total["confusion"], total["missed"]
    support = counts.sum(axis=1)
    named = [at for at in range(len(labels)) if support[at] + counts[:, at].sum() + missed[at]]
    recalls = intervals[len(OVERALL) + len(_VOTES) :]
    in_truth = {labels[at] for at in named if support[at] + missed[at]}
    return {
        "overall": {name: interval.told() for name, interval in zip(OVERALL, intervals, strict=False)},
        "per_class": [_told_class(labels[at], at, counts, missed, recalls[at]) for at in named],
        "confusion": {
            "labels": [labels[at] for at in named],
            "counts": counts[np.ix_(named, named)].astype(int).tolist(),
            "missed": missed[named].astype(int).tolist(),
        },
        "reliability": _told_bins(total["bins"]),
        "votes": None if voted is None else _told_votes(intervals[len(OVERALL) :], total["votes"]),
        "missed": int(total["covered"][0]),
        "classes": {
            "unknown_to_data_set": [label for label in labels if label in in_truth and label not in known],
            "not_in_truth": [label for label in known if label not in in_truth],
        },
    }


def majority(votes: Floats, dismissals: Floats) -> Ints:
    """Return the positions of the labels (n,) that FER+ takes for its majority; -1 where there is none.

    A vote that nobody shares is dropped; then the label needs more than half of what is left, dismissals included
    (Barsoum et al. 2016, arXiv:1608.01041, and its published code). Votes that are shares of 1 are all kept.
    """
    together = np.hstack([votes, dismissals])
    are_counts = together.max(initial=0.0) > 1
    kept = np.where(together > 1, together, 0.0) if are_counts else together
    most = kept[:, : votes.shape[1]].argmax(axis=1)
    return np.where(2 * kept[np.arange(len(kept)), most] > kept.sum(axis=1), most, -1)


def plurality(votes: Floats, dismissals: Floats) -> Ints:
    """Return the positions of the labels (n,) with the most votes of all; -1 where several have, or a dismissal has."""
    together = np.hstack([votes, dismissals])
    most = together.argmax(axis=1)
    is_alone = (together == together.max(axis=1, keepdims=True)).sum(axis=1) == 1
    return np.where(is_alone & (most < votes.shape[1]), most, -1)


def jensen_shannon(p: Floats, q: Floats) -> Floats:
    """Return the Jensen-Shannon divergence (n,) of distributions (n, k) in bits: 0 where equal, 1 where disjoint.

    Rows need not sum to 1; NaN where one sums to 0.

    >>> jensen_shannon(np.array([[1.0, 0.0]]), np.array([[0.0, 2.0]]))
    array([1.])
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        p, q = (given / given.sum(axis=1, keepdims=True) for given in (p, q))
    return np.maximum(_entropy((p + q) / 2) - (_entropy(p) + _entropy(q)) / 2, 0.0)


def _entropy(p: Floats) -> Floats:
    logs = np.log2(p, out=np.zeros_like(p), where=p > 0)
    bits: Floats = -(p * logs).sum(axis=1)
    return bits


def _blocks(faces: Labelled, voted: Voted | None) -> dict[str, Block]:
    labels = len(faces.labels)
    is_covered, is_labelled = faces.predicted >= 0, faces.truth >= 0
    both, lost = is_covered & is_labelled, ~is_covered & is_labelled
    sure = both & ~np.isnan(faces.confidence)
    confidence, right = faces.confidence[sure], (faces.truth == faces.predicted)[sure].astype(float)
    place = 3 * np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
    blocks = {
        "covered": counted((2,), faces.picture, is_covered.astype(int)),
        "confusion": counted((labels, labels), faces.picture[both], (faces.truth * labels + faces.predicted)[both]),
        "missed": counted((labels,), faces.picture[lost], faces.truth[lost]),
        "bins": _columns((BINS, 3), faces.picture[sure], place, [np.ones(len(place)), confidence, right]),
    }
    return blocks | {"votes": _vote_block(faces, voted)}


def _vote_block(faces: Labelled, voted: Voted | None) -> Block:
    """Return pairs of an amount and how many faces it comes from: divergence, right by majority, right by plurality."""
    nobody = np.zeros(0, int)
    if voted is None:
        return counted((len(_VOTES), 2), nobody, nobody)
    is_covered = faces.predicted >= 0
    divergence = jensen_shannon(voted.votes, voted.chances)
    labels = (faces.truth, plurality(voted.votes, voted.dismissals))
    rows = [
        (is_covered & ~np.isnan(divergence), divergence),
        *((is_covered & (label >= 0), (label == faces.predicted).astype(float)) for label in labels),
    ]
    picture = np.concatenate([faces.picture[which] for which, _ in rows])
    cell = np.concatenate([np.full(which.sum(), 2 * at) for at, (which, _) in enumerate(rows)])
    amount = np.concatenate([amount[which] for which, amount in rows])
    return _columns((len(_VOTES), 2), picture, cell, [amount, np.ones(len(amount))])


def _columns(shape: tuple[int, ...], picture: Ints, cell: Ints, amounts: Sequence[Floats]) -> Block:
    """Return a block in which each face adds several amounts, from `cell` on."""
    cells = np.concatenate([cell + at for at in range(len(amounts))])
    return Block(shape, np.tile(picture, len(amounts)), cells, np.concatenate(amounts))


def _figures(sums: Blocks) -> Floats:
    """Return the figures of OVERALL, then those of votes, then each label's recall."""
    counts, missed, covered = sums["confusion"], sums["missed"], sums["covered"]
    right, support = np.diag(counts), counts.sum(axis=1)
    said = counts.sum(axis=0)
    count, confidence, hits = sums["bins"].T
    with np.errstate(divide="ignore", invalid="ignore"):
        overall = [
            right.sum() / support.sum(),
            right.sum() / (support + missed).sum(),
            _macro_f1(right, support, said),
            _macro_f1(right, support + missed, said),
            covered[1] / covered.sum(),
            np.abs(hits - confidence).sum() / count.sum(),
        ]
        votes = sums["votes"][:, 0] / sums["votes"][:, 1]
        return np.concatenate([overall, votes, right / support])


def _macro_f1(right: Floats, support: Floats, said: Floats) -> float:
    held = support > 0
    return float((2 * right[held] / (support + said)[held]).mean()) if held.any() else np.nan


def _told_class(label: str, at: int, counts: Floats, missed: Floats, recall: Interval) -> dict[str, Any]:
    """Return a line of `per_class`; null is a share of nothing."""
    right, support, said = counts[at, at], counts[at].sum(), counts[:, at].sum()
    return {
        "label": label,
        "support": int(support),
        "missed": int(missed[at]),
        "precision": told(right / said) if said else None,
        "recall": told(recall.value),
        "recall_low": told(recall.low),
        "recall_high": told(recall.high),
        "f1": told(2 * right / (support + said)) if support + said else None,
    }


def _told_bins(bins: Floats) -> list[dict[str, Any]]:
    return [
        {
            "low": told(at / BINS),
            "high": told((at + 1) / BINS),
            "count": int(count),
            "confidence": told(confidence / count) if count else None,
            "accuracy": told(right / count) if count else None,
        }
        for at, (count, confidence, right) in enumerate(bins)
    ]


def _told_votes(intervals: Sequence[Interval], sums: Floats) -> dict[str, Any]:
    return {
        name: interval.told() | {"faces": int(faces)}
        for name, interval, faces in zip(_VOTES, intervals, sums[:, 1], strict=False)
    }
