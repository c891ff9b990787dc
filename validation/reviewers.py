"""How far people agree who gave labels to the same things: chance is taken out, by Cohen and by Krippendorff."""

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import permutations

Labels = Mapping[str, str]
"""What was said of one thing, by reviewer."""


def cohens_kappa(pairs: Sequence[tuple[str, str]]) -> float | None:
    """Return Cohen's kappa of two reviewers' labels of the same things; null where both always say one and the same.

    kappa = (o - e) / (1 - e): o is the share on which they agree, e the share on which they would by chance, each
    giving labels as often as here (Cohen 1960, A coefficient of agreement for nominal scales).

    >>> cohens_kappa([("cat", "cat"), ("cat", "dog"), ("dog", "dog"), ("dog", "dog")])
    0.5
    """
    count = len(pairs)
    first, second = (Counter(labels) for labels in zip(*pairs, strict=True))
    observed = sum(one == other for one, other in pairs) / count
    expected = sum(first[label] * second[label] for label in first) / count**2
    return None if expected == 1 else (observed - expected) / (1 - expected)


def krippendorffs_alpha(units: Sequence[Labels]) -> float | None:
    """Return Krippendorff's alpha of nominal labels by any number of reviewers, who need not all label all things.

    alpha = 1 - D / E: D is the share of pairs of labels of one thing that differ, each thing weighted by its labels, E
    the share among the pairs of all these labels. Things with one label tell nothing. Null where nothing is left, or
    only one label is ever given (Krippendorff 2011, Computing Krippendorff's alpha-reliability, section C).
    """
    told = [list(unit.values()) for unit in units if len(unit) > 1]
    given = Counter(label for labels in told for label in labels)
    total = sum(given.values())
    differ = sum(sum(a != b for a, b in permutations(labels, 2)) / (len(labels) - 1) for labels in told)
    possible = total**2 - sum(count**2 for count in given.values())
    return 1 - (total - 1) * differ / possible if possible else None
