"""Figures of agreement are those of scikit-learn and of the papers, and their intervals hold what they claim."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.spatial.distance import jensenshannon

from tests.extras import extra
from validation.agreement import OVERALL, Labelled, Voted, agreement, jensen_shannon, majority, plurality
from validation.resampling import MOST_UNITS, Block, Sums, counted

LABELS = ("angry", "fear", "happy", "neutral")


def faces(
    truth: Any, predicted: Any, confidence: Any = None, picture: Any = None, labels: tuple[str, ...] = LABELS
) -> Labelled:
    """Return faces, each on a picture of its own and surely labelled unless it is said otherwise."""
    truth, predicted = np.asarray(truth, int), np.asarray(predicted, int)
    sure = np.ones(len(truth)) if confidence is None else np.asarray(confidence, float)
    return Labelled(labels, np.arange(len(truth)) if picture is None else np.asarray(picture), truth, predicted, sure)


def judged(given_: Labelled, voted: Voted | None = None) -> dict[str, Any]:
    """Return the figures of a data set that can say every label."""
    return agreement(given_, voted, given_.labels)


def value(told: dict[str, Any], name: str) -> float:
    """Return one of the overall figures."""
    found: float = told["overall"][name]["value"]
    return found


@st.composite
def some_faces(draw: st.DrawFn) -> Labelled:
    """Draw up to 60 faces of 1 to 20 pictures, some without a label, some missed, some without a confidence."""
    count = draw(st.integers(1, 60))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    picture = np.unique(random.integers(0, draw(st.integers(1, 20)), count), return_inverse=True)[1]
    truth, predicted = (random.integers(-1, len(LABELS), count) for _ in range(2))
    confidence = np.where(random.random(count) < 0.1, np.nan, random.random(count))
    return faces(truth, predicted, confidence, picture)


# Against the reference


@pytest.mark.parametrize("seed", range(5))
def test_accuracy_f1_and_confusion_are_those_of_scikit_learn(seed: int) -> None:
    """Over the covered faces; macro-F1 over the classes that the truth holds."""
    metrics = extra("sklearn.metrics")
    random = np.random.default_rng(seed)
    truth, said = random.integers(0, 3, 200), random.integers(0, 4, 200)  # nothing is neutral in truth
    told = judged(faces(truth, said))
    assert value(told, "accuracy") == pytest.approx(metrics.accuracy_score(truth, said), abs=1e-6)
    f1 = metrics.f1_score(truth, said, labels=[0, 1, 2], average="macro")
    assert value(told, "macro_f1") == pytest.approx(f1, abs=1e-6)
    expected = metrics.precision_recall_fscore_support(truth, said, labels=range(4), zero_division=0)
    for at, one in enumerate(told["per_class"]):
        names = ("precision", "recall", "f1", "support")
        assert [one[name] or 0 for name in names] == pytest.approx([column[at] for column in expected], abs=1e-6)
    assert told["confusion"]["labels"] == list(LABELS)
    assert told["confusion"]["counts"] == metrics.confusion_matrix(truth, said, labels=range(4)).tolist()


def test_missed_faces_are_wrong_only_where_it_is_said() -> None:
    """Two of three covered are right, two of four in all; one face has no label of the truth, but is covered."""
    told = judged(faces([0, 0, 1, 1, -1], [0, 1, 1, -1, 2]))
    assert value(told, "accuracy") == pytest.approx(2 / 3, abs=1e-6)
    assert value(told, "accuracy_counting_missed") == 0.5
    assert value(told, "coverage") == 0.8
    assert told["missed"] == 1
    assert told["confusion"] == {"labels": ["angry", "fear"], "counts": [[1, 1], [0, 1]], "missed": [0, 1]}
    # angry: 1 right of 2, said once; fear: 1 right of 1, said twice, and another one missed
    assert value(told, "macro_f1") == pytest.approx((2 / 3 + 2 / 3) / 2, abs=1e-6)
    assert value(told, "macro_f1_counting_missed") == pytest.approx((2 / 3 + 2 / 4) / 2, abs=1e-6)
    assert [(one["support"], one["missed"]) for one in told["per_class"]] == [(2, 0), (1, 1)]


def test_classes_that_only_one_side_knows_are_named() -> None:
    """Faces of a class that the data set cannot say are wrong; one that the truth has not is not judged."""
    told = agreement(faces([3, 0], [0, 0]), None, LABELS[:3])
    assert value(told, "accuracy") == 0.5
    assert value(told, "macro_f1") == pytest.approx((2 / 3 + 0) / 2, abs=1e-6)
    assert told["classes"] == {"unknown_to_data_set": ["neutral"], "not_in_truth": ["fear", "happy"]}
    assert [(one["label"], one["precision"], one["recall"]) for one in told["per_class"]] == [
        ("angry", 0.5, 1.0),
        ("neutral", None, 0.0),
    ]


def test_what_cannot_be_computed_is_null() -> None:
    """A truth of boxes alone has a coverage and nothing else; JSON has no NaN."""
    told = judged(faces([-1, -1], [2, -1], [np.nan, np.nan]))
    assert {name: value(told, name) for name in OVERALL} == dict.fromkeys(OVERALL) | {"coverage": 0.5}
    assert told["per_class"] == [] and told["confusion"] == {"labels": [], "counts": [], "missed": []}
    assert {one["count"] for one in told["reliability"]} == {0}
    assert told["votes"] is None


# Calibration


def test_calibration_error_is_the_mean_distance_over_fifteen_bins() -> None:
    """By hand: .95 and .99 are of the last bin, 1/15 is still of the first, faces without a confidence of none."""
    confidence = [0.95, 0.99, 1 / 15, 0.5, np.nan]
    told = judged(faces([0, 0, 0, 0, 0], [0, 1, 1, 0, 1], confidence))
    last = abs(1 - (0.95 + 0.99))
    assert value(told, "ece") == pytest.approx((last + 1 / 15 + 0.5) / 4, abs=1e-6)
    assert [one["count"] for one in told["reliability"]] == [1, *[0] * 6, 1, *[0] * 6, 2]
    assert told["reliability"][14] == {
        "low": pytest.approx(14 / 15, abs=1e-6),
        "high": 1.0,
        "count": 2,
        "confidence": 0.97,
        "accuracy": 0.5,
    }


def test_a_calibrated_sample_has_a_small_error_and_an_overconfident_one_a_large() -> None:
    """Right as often as the confidence says, and .2 less often."""
    random = np.random.default_rng(0)
    confidence = random.uniform(0.2, 1.0, 20_000)
    for less, low, high in ((0.0, 0.0, 0.02), (0.2, 0.18, 0.22)):
        right = random.random(20_000) < confidence - less
        ece = judged(faces(np.zeros(20_000), np.where(right, 0, 1), confidence))["overall"]["ece"]
        assert low <= ece["value"] <= high


# What always holds


@settings(max_examples=12, deadline=None)
@given(some_faces())
def test_figures_are_shares_and_lie_in_their_intervals(given_: Labelled) -> None:
    """Every figure that there is."""
    told = judged(given_)
    recalls = [(one["recall"], one["recall_low"], one["recall_high"]) for one in told["per_class"]]
    for middle, low, high in [*recalls, *((one["value"], one["low"], one["high"]) for one in told["overall"].values())]:
        assert (middle, low, high) == (None, None, None) or 0 <= low <= middle <= high <= 1
    assert sum(map(sum, told["confusion"]["counts"])) == ((given_.truth >= 0) & (given_.predicted >= 0)).sum()


@settings(max_examples=12, deadline=None)
@given(some_faces(), st.integers(0, 2**32))
def test_the_order_of_the_faces_changes_nothing(given_: Labelled, seed: int) -> None:
    """Neither a figure nor an interval."""
    order = np.random.default_rng(seed).permutation(len(given_.truth))
    shuffled = Labelled(
        LABELS, *(each[order] for each in (given_.picture, given_.truth, given_.predicted, given_.confidence))
    )
    assert judged(shuffled) == judged(given_)


@settings(max_examples=12, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=50))
def test_perfect_labels_have_perfect_figures(truth: list[int]) -> None:
    """Whatever the classes; sure of it too."""
    told = judged(faces(truth, truth))
    assert {name: value(told, name) for name in OVERALL} == dict.fromkeys(OVERALL, 1.0) | {"ece": 0.0}
    assert all(one["precision"] == one["recall"] == one["f1"] == 1 for one in told["per_class"])


# Intervals


@pytest.mark.parametrize("pictures", [2_000, 3 * MOST_UNITS + 7])
def test_an_interval_is_as_wide_as_theory_says(pictures: int) -> None:
    """1.96 standard errors to each side, also where there are more pictures than are drawn."""
    right = np.random.default_rng(1).random(pictures) < 0.8
    told = judged(faces(np.zeros(pictures), np.where(right, 0, 1)))["overall"]["accuracy"]
    half = 1.96 * np.sqrt(0.8 * 0.2 / pictures)
    assert (told["high"] - told["low"]) / 2 == pytest.approx(half, rel=0.12)


def test_faces_of_one_picture_count_as_one() -> None:
    """Nine faces of one fate on each picture make the interval three times as wide as nine pictures would."""
    right = np.repeat(np.random.default_rng(2).random(300) < 0.7, 9)
    said = np.where(right, 0, 1)
    alone = judged(faces(np.zeros(2_700), said))["overall"]["accuracy"]
    together = judged(faces(np.zeros(2_700), said, picture=np.repeat(np.arange(300), 9)))["overall"]["accuracy"]
    assert together["value"] == alone["value"]
    assert (together["high"] - together["low"]) / (alone["high"] - alone["low"]) == pytest.approx(3, rel=0.15)


def test_an_interval_holds_its_figure_though_every_resample_lies_to_one_side() -> None:
    """The distance of a sum from 0, where it is 0; and its negative."""
    picture = np.arange(10_000)
    sums = Sums(10_000, {"one": Block((1,), picture, picture * 0, np.where(picture % 2, 1.0, -1.0))})
    above, below = sums.bootstrap(lambda given_: np.array([abs(given_["one"][0]), -abs(given_["one"][0])]))
    assert above.value == above.low == 0 < above.high
    assert below.value == below.high == 0 > below.low


def test_sums_add_amounts_to_their_cells_over_all_pictures() -> None:
    """In C order, however many pictures are drawn together."""
    picture = np.arange(MOST_UNITS * 2)
    cell = picture % 6
    sums = Sums(len(picture), {"one": counted((2, 3), picture, cell), "two": Block((1,), picture, cell * 0, cell / 2)})
    assert sums.total()["one"].tolist() == np.bincount(cell).reshape(2, 3).tolist()
    assert sums.total()["two"].tolist() == [cell.sum() / 2]


# Votes


def published_majority(votes: list[int]) -> int:
    """Return what FER+'s published code makes of ten votes: the last two are for unknown and for no face."""
    kept = [0 if vote < 1 + np.finfo(float).eps else vote for vote in votes]
    found = int(np.argmax(kept)) if max(kept) > 0.5 * sum(kept) else len(votes) - 2
    return found if found < len(votes) - 2 else -1


@given(st.lists(st.lists(st.integers(0, 10), min_size=10, max_size=10), min_size=1, max_size=20))
def test_the_majority_is_that_of_the_published_code(rows: list[list[int]]) -> None:
    """For counts of votes."""
    rows.append([10, *[0] * 9])  # else rows of single votes could be shares
    votes = np.array(rows, float)
    assert majority(votes[:, :8], votes[:, 8:]).tolist() == [published_majority(row) for row in rows]


def test_shares_of_votes_have_a_majority_too() -> None:
    """No share is dropped as a single vote."""
    votes = np.array([[0.6, 0.4, 0.0], [0.5, 0.25, 0.25]])
    assert majority(votes, np.zeros((2, 0))).tolist() == [0, -1]


def test_the_plurality_is_alone_at_the_top() -> None:
    """Not shared, and not a dismissal."""
    votes, dismissals = np.array([[4, 3, 3], [4, 4, 2], [4, 1, 0], [4, 1, 0]]), np.array([[0], [0], [5], [4]])
    assert plurality(votes.astype(float), dismissals.astype(float)).tolist() == [0, -1, -1, -1]


@given(st.integers(0, 2**32))
def test_the_divergence_is_that_of_scipy_squared(seed: int) -> None:
    """SciPy gives the distance, its root; rows need not sum to 1."""
    p, q = np.random.default_rng(seed).integers(0, 5, (2, 4, 6)).astype(float)
    p[:, 0] += 1
    q[:, 5] += 1
    assert jensen_shannon(p, q) == pytest.approx(jensenshannon(p, q, base=2, axis=1) ** 2, abs=1e-7)
    assert jensen_shannon(p, p) == pytest.approx(np.zeros(4), abs=1e-9)


def test_votes_are_judged_by_divergence_majority_and_plurality() -> None:
    """Each over the covered faces that have one; the divergence only where probabilities were told."""
    votes: NDArray[np.float64] = np.array([[10, 0, 0, 0], [5, 4, 0, 1], [0, 10, 0, 0], [0, 0, 10, 0]], float)
    chances = np.array([[1, 0, 0, 0], [0.5, 0.4, 0, 0.1], [0, 0, 0, 0], [0, 0, 1, 0]], float)
    voted = Voted(votes, np.zeros((4, 0)), chances)
    truth = majority(votes, voted.dismissals)
    assert truth.tolist() == [0, 0, 1, 2]  # the single vote is dropped: 5 of 9
    told = judged(faces(truth, [0, 1, 0, -1]), voted)["votes"]
    assert (told["jensen_shannon"]["value"], told["jensen_shannon"]["faces"]) == (0.0, 2)
    assert (told["majority"]["value"], told["majority"]["faces"]) == (pytest.approx(1 / 3, abs=1e-6), 3)
    assert (told["plurality"]["value"], told["plurality"]["faces"]) == (pytest.approx(1 / 3, abs=1e-6), 3)
