"""Several classifiers as one: the mean of their probabilities, by the labels' names."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from schemas.errors import RunError, UsageError
from schemas.records import Faces
from tests.transforms.models.stand_in import classifier, ensemble
from transforms.models.classifiers import load_classifier
from transforms.models.record import ModelRecord, load_record
from transforms.models.runtime import CPU

Model = Callable[[str], ModelRecord]
MEMBERS = ("mini-xception", "mini-xception-107", "big-xception-54")


def noise(*shape: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def test_the_built_in_ensemble_is_the_mean_of_what_keras_gives(
    model: Model, original: dict[str, NDArray[np.float32]]
) -> None:
    """To 1e-5, on faces and on noise; measured 6e-7."""
    model("xception-ensemble")
    found = load_classifier("xception-ensemble", CPU).classify(original["mini.pixels"].astype(np.uint8))
    expected = np.mean([original[f"{key}.probabilities"] for key in ("mini", "mini107", "big")], axis=0)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_the_built_in_ensemble_names_its_members() -> None:
    """Its contract is theirs, and so are its labels."""
    record = load_record("xception-ensemble")
    assert tuple(member.name for member in record.members) == MEMBERS and record.parts == record.members
    assert record.weights is None and record.labels == load_record("mini-xception").labels
    assert record.input == record.members[0].input and record.crop == record.members[0].crop
    assert len(record.sha256) == 64 and record.sha256 not in {member.sha256 for member in record.members}


def test_labels_are_matched_by_name(tmp_path: Path) -> None:
    """Members may have them in another order, and may lack some: who does not know a label gives it 0."""
    one = load_classifier(classifier(tmp_path, "one", ["happy", "sad", "angry"]), CPU)
    other = load_classifier(classifier(tmp_path, "other", ["angry", "calm", "happy"], scale="0.003"), CPU)
    both = load_classifier(ensemble(tmp_path, "one.toml", "other.toml"), CPU)
    crops = noise(5, 16, 16, 3)
    a, b = one.classify(crops), other.classify(crops)
    assert both.labels == ("happy", "sad", "angry", "calm")
    expected = np.stack([a[:, 0] + b[:, 2], a[:, 1], a[:, 2] + b[:, 0], b[:, 1]], axis=1) / 2
    np.testing.assert_allclose(both.classify(crops), expected, atol=1e-6)
    np.testing.assert_allclose(both.classify(crops).sum(axis=1), 1, atol=1e-6)


def test_an_ensemble_is_a_classifier_like_any_other(tmp_path: Path) -> None:
    """It cuts its members' crops, takes none as none, and averages with the mirror image."""
    classifier(tmp_path, "one", ["happy", "sad"])
    path = ensemble(tmp_path, "one.toml", "one.toml")
    single, both = load_classifier(tmp_path / "one.toml", CPU), load_classifier(path, CPU)
    faces = Faces(np.float32([[3, 4, 20, 30]]), np.full((1, 5, 2), np.nan, np.float32), np.ones(1, np.float32))
    crops = both.crop(noise(50, 60, 3), faces)
    np.testing.assert_array_equal(crops, single.crop(noise(50, 60, 3), faces))
    assert both.classify(crops[:0]).shape == (0, 2) and both.record.name == "both"
    mirrored = np.ascontiguousarray(crops[:, :, ::-1])
    flip = load_classifier(path, CPU, tta="flip")
    np.testing.assert_allclose(flip.classify(crops), (both.classify(crops) + both.classify(mirrored)) / 2, atol=1e-6)


def test_flip_works_for_the_built_in_ensemble(model: Model) -> None:
    """A crop and its mirror image get the same answer."""
    model("xception-ensemble")
    crops = noise(8, 64, 64)
    flip = load_classifier("xception-ensemble", CPU, tta="flip")
    np.testing.assert_array_equal(flip.classify(crops), flip.classify(np.ascontiguousarray(crops[:, :, ::-1])))


def test_an_ensemble_is_another_model_when_a_member_is(tmp_path: Path) -> None:
    """A member's weights or preprocessing change its identity; a text about a member does not, nor its place."""
    classifier(tmp_path, "one", ["happy", "sad"])
    two = classifier(tmp_path, "two", ["happy", "sad"])
    path = ensemble(tmp_path, "one.toml", "two.toml")
    before = load_record(path)
    two.write_text(two.read_text().replace('title = "stand-in"', 'title = "the second"'))
    assert load_record(path).sha256 == before.sha256
    assert load_record(path).contract_sha256 == before.contract_sha256
    two.write_text(two.read_text().replace("scale = 0.01", "scale = 0.02"))
    changed = load_record(path)
    assert changed.contract_sha256 != before.contract_sha256 and changed.sha256 == before.sha256
    two.write_text(re.sub('sha256 = ".*"', f'sha256 = "{"0" * 64}"', two.read_text()).replace("0.02", "0.01"))
    other = load_record(path)
    assert other.contract_sha256 != before.contract_sha256 and other.sha256 != before.sha256


# (another field of the second member, what the error must say)
OTHERS = [
    ({"size": "20"}, "16 px, colour, linear, kind 'square', scale 1.*20 px"),
    ({"colour": '"gray"'}, "16 px, colour.*16 px, gray"),
    ({"interpolation": '"area"'}, "linear, kind.*area, kind"),
    ({"kind": '"box"'}, "kind 'square'.*kind 'box'"),
]


@pytest.mark.parametrize(("changed", "expected"), OTHERS)
def test_members_that_take_other_crops_are_refused(changed: dict[str, str], expected: str, tmp_path: Path) -> None:
    """A face is cut once: the error names both and what they take."""
    classifier(tmp_path, "one", ["happy", "sad"])
    classifier(tmp_path, "two", ["happy", "sad"], **changed)
    with pytest.raises(UsageError, match=f"both.toml: members: expected classifiers that take the crops.*{expected}"):
        load_record(ensemble(tmp_path, "one.toml", "two.toml"))


def test_members_may_differ_in_all_that_comes_after_the_crop(tmp_path: Path) -> None:
    """Scale and colour order are each member's own: the crops are RGB for both."""
    classifier(tmp_path, "one", ["happy", "sad"])
    classifier(tmp_path, "two", ["happy", "sad"], colour='"bgr"', scale="0.5")
    crops = noise(3, 16, 16, 3)
    parts = [load_classifier(tmp_path / f"{name}.toml", CPU).classify(crops) for name in ("one", "two")]
    found = load_classifier(ensemble(tmp_path, "one.toml", "two.toml"), CPU).classify(crops)
    np.testing.assert_allclose(found, np.mean(parts, axis=0), atol=1e-6)


# (members, extra lines, what the error must say)
MISTAKES = [
    (["one.toml"], "", "members: expected a list of 2 to 16 classifiers"),
    (["one.toml"] * 17, "", "members: expected a list of 2 to 16 classifiers"),
    (["one.toml", "both.toml"], "", "members: expected classifiers that are no ensembles, got 'both.toml'"),
    (["one.toml", "yunet"], "", "members: expected classifiers that are no ensembles, got 'yunet'"),
    (["one.toml", "../one.toml"], "", "members: expected a file inside the record's folder"),
    (["one.toml", "nobody"], "", "no model 'nobody'"),
    (["one.toml", "nobody.toml"], "", "cannot read it"),
    (["one.toml", "one.toml"], 'labels = ["happy"]', "labels: expected no such field"),
    (["one.toml", "one.toml"], '[weights]\nfile = "x"', "weights: expected no such field"),
]


@pytest.mark.parametrize(("members", "extra", "expected"), MISTAKES)
def test_a_mistake_is_told(members: list[str], extra: str, expected: str, tmp_path: Path) -> None:
    """Too few, too many, itself, a detector, outside the folder, unknown, or what only one network has."""
    classifier(tmp_path, "one", ["happy", "sad"])
    with pytest.raises(UsageError, match=expected):
        load_record(ensemble(tmp_path, *members, extra=extra))


def test_golden_outputs_of_its_own_are_checked(tmp_path: Path) -> None:
    """The mean is held to them as a network's outputs are."""
    classifier(tmp_path, "one", ["happy", "sad"])
    path = ensemble(tmp_path, "one.toml", "one.toml", extra='golden = "both.npz"')
    picture, boxes = noise(40, 40, 3), np.float32([[0, 0, 16, 16]])
    crops = picture[None, :16, :16]
    found = load_classifier(tmp_path / "one.toml", CPU).classify(crops)
    stored = {
        "picture": picture,
        "boxes": boxes,
        "landmarks": np.full((1, 5, 2), np.nan, np.float32),
        "crops": crops,
        "labels": np.array(["happy", "sad"]),
    }
    np.savez(tmp_path / "both.npz", **stored, probabilities=found)
    load_classifier(path, CPU)
    np.savez(tmp_path / "both.npz", **stored, probabilities=found[:, ::-1])
    with pytest.raises(RunError, match="model 'both' does not give its golden outputs"):
        load_classifier(path, CPU)
