"""Which labels are probably wrong, by confident learning: where the model is sure of another label than was given.

cleanlab estimates how often each label stands where another is meant, and takes as many of each as that says, those
first that the model finds least likely (Northcutt et al. 2021, "Confident Learning", prune by noise rate). The model
has not seen the labels that it judges, so nothing has to be held out.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LEAST_ROWS = 50
"""Of fewer labels the estimate says nothing."""

LEAST_OF_A_LABEL = 5
"""A label that so few rows have is not judged: what the model usually says of it is not known."""


@dataclass(frozen=True)
class Suspects:
    """Rows whose label is probably wrong, (n,) positions, most doubtful first; and what the model sees instead."""

    rows: NDArray[np.intp]
    seen: NDArray[np.intp]


def suspects(given: NDArray[np.intp], probabilities: NDArray[np.float32]) -> Suspects:
    """Return the rows of `given`, (n,) columns of `probabilities` (n, k), that are probably wrong."""
    none = Suspects(np.zeros(0, np.intp), np.zeros(0, np.intp))
    judged = np.flatnonzero(np.bincount(given, minlength=probabilities.shape[1])[given] >= LEAST_OF_A_LABEL)
    classes = np.unique(given[judged])
    if len(judged) < LEAST_ROWS or len(classes) < 2:
        return none
    # Among the labels that are in use: of another one nothing can be learnt.
    chances = probabilities[np.ix_(judged, classes)].astype(np.float64)
    chances /= np.maximum(chances.sum(axis=1, keepdims=True), 1e-12)
    labels = np.searchsorted(classes, given[judged])
    from cleanlab.filter import find_label_issues  # two seconds, and only where it is asked for

    found = find_label_issues(
        labels,
        chances,
        filter_by="prune_by_noise_rate",
        return_indices_ranked_by="normalized_margin",
        min_examples_per_class=LEAST_OF_A_LABEL,
        n_jobs=1,
    )
    found = np.asarray(found, np.intp)
    rows = judged[found]
    seen = probabilities[rows].argmax(axis=1)
    other = seen != given[rows]
    return Suspects(rows[other], seen[other].astype(np.intp))


def positions(labels: Sequence[str | None], known: Sequence[str]) -> NDArray[np.intp]:
    """Return each label's position among `known`, -1 for another or none."""
    at = {label: number for number, label in enumerate(known)}
    return np.array([at.get(label, -1) if label is not None else -1 for label in labels], np.intp)
