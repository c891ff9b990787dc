"""Confident learning finds planted errors and leaves honest labels alone."""

import numpy as np
import pytest
from numpy.typing import NDArray

from validation.suspects import LEAST_OF_A_LABEL, LEAST_ROWS, positions, suspects

CLASSES = 8


def opinions(
    rows: int, wrong: float, classes: int = CLASSES, seed: int = 1
) -> tuple[NDArray[np.intp], NDArray[np.float32], NDArray[np.bool_]]:
    """Return given labels, a fair model's probabilities, and which labels were planted wrong."""
    rng = np.random.default_rng(seed)
    true = rng.integers(0, classes, rows)
    chances = rng.dirichlet(np.full(CLASSES, 0.3), rows) * 0.5
    chances[np.arange(rows), true] += 0.5
    planted = rng.random(rows) < wrong
    other = (true + 1 + rng.integers(0, classes - 1, rows)) % classes
    return np.where(planted, other, true), chances.astype(np.float32), planted


@pytest.mark.parametrize("wrong", [0.03, 0.1, 0.25])
def test_planted_errors_are_found(wrong: float) -> None:
    """Of what is held back at least .95 is wrong, and at least .6 of what is wrong is held back."""
    given, chances, planted = opinions(4000, wrong)
    found = suspects(given, chances)
    hits = planted[found.rows].sum()
    assert hits / len(found.rows) >= 0.95
    assert hits / planted.sum() >= 0.6
    assert (found.seen == chances[found.rows].argmax(axis=1)).all()


def test_labels_that_the_model_shares_are_never_doubted() -> None:
    """Nothing is held back whose label is what the model sees."""
    given, chances, _ = opinions(2000, 0.0)
    assert len(suspects(chances.argmax(axis=1), chances).rows) == 0
    assert (chances[suspects(given, chances).rows].argmax(axis=1) != given[suspects(given, chances).rows]).all()


def test_labels_that_are_not_in_use_do_not_matter() -> None:
    """A data set of three labels is judged among these."""
    given, chances, planted = opinions(2000, 0.1, classes=3)
    found = suspects(given, chances)
    assert planted[found.rows].mean() >= 0.95


def test_few_rows_are_not_judged() -> None:
    """Too few labels in all, or of one label, say nothing."""
    given, chances, _ = opinions(LEAST_ROWS - 1, 0.3)
    assert len(suspects(given, chances).rows) == 0
    given, chances, _ = opinions(400, 0.0, classes=2)
    given[: LEAST_OF_A_LABEL - 1] = 7
    assert 7 not in given[suspects(given, chances).rows]


def test_unknown_labels_have_no_position() -> None:
    """A label that the model does not know is not asked about."""
    assert positions(["b", None, "z", "a"], ["a", "b"]).tolist() == [1, -1, -1, 0]
