"""Agreement of people: the figures of the papers, and of another implementation."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.extras import extra
from validation.reviewers import cohens_kappa, krippendorffs_alpha

_ = None

MISSING = {
    "A": (1, 2, 3, 3, 2, 1, 4, 1, 2, _, _, _),
    "B": (1, 2, 3, 3, 2, 2, 4, 1, 2, 5, _, 3),
    "C": (_, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, _),
    "D": (1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, _),
}
BINARY = {"Meg": "0100000000", "Owen": "1110010100"}
NOMINAL = {"Ben": "aabbdcccedda", "Gerry": "babbbccceddd"}


def units(by_reviewer: dict[str, Any]) -> list[dict[str, str]]:
    """Return what each reviewer said of each thing, thing by thing."""
    return [
        {name: str(label) for name, label in zip(by_reviewer, labels, strict=True) if label is not None}
        for labels in zip(*by_reviewer.values(), strict=True)
    ]


@pytest.mark.parametrize(("table", "alpha"), [(BINARY, 0.095), (NOMINAL, 0.692), (MISSING, 0.743)])
def test_alpha_is_that_of_the_paper(table: dict[str, Any], alpha: float) -> None:
    """Krippendorff 2011, sections A, B and C: two observers, more labels, and four of whom some are silent."""
    assert krippendorffs_alpha(units(table)) == pytest.approx(alpha, abs=0.0005)


def test_kappa_of_known_tables() -> None:
    """50 grants read by two: 20 yes, 15 no, 5 and 10 apart: 0.4 (0.7 observed, 0.5 by chance)."""
    pairs = [("y", "y")] * 20 + [("y", "n")] * 5 + [("n", "y")] * 10 + [("n", "n")] * 15
    assert cohens_kappa(pairs) == pytest.approx(0.4)


def test_nothing_to_compare_is_null() -> None:
    """One label all over leaves no room for chance, one judgement a thing nothing to compare."""
    assert cohens_kappa([("a", "a"), ("a", "a")]) is None
    assert krippendorffs_alpha([{"x": "a", "y": "a"}]) is None
    assert krippendorffs_alpha([{"x": "a"}, {"y": "b"}]) is None
    assert krippendorffs_alpha([]) is None


@settings(deadline=None)
@given(st.lists(st.tuples(*[st.sampled_from("abc")] * 2), min_size=2, max_size=12))
def test_kappa_is_that_of_scikit_learn(pairs: list[tuple[str, str]]) -> None:
    """On any labels."""
    metrics = extra("sklearn.metrics")
    kappa = cohens_kappa(pairs)
    if kappa is not None:
        assert kappa == pytest.approx(metrics.cohen_kappa_score(*zip(*pairs, strict=True)))


@settings(deadline=None)
@given(st.lists(st.tuples(*[st.sampled_from("abc")] * 2), min_size=2, max_size=12))
def test_perfect_agreement_is_1(pairs: list[tuple[str, str]]) -> None:
    """And less is less."""
    alpha = krippendorffs_alpha([{"x": one, "y": other} for one, other in pairs])
    assert alpha is None or (alpha == 1) == all(one == other for one, other in pairs)
