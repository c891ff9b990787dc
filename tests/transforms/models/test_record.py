"""A model's record: every field is read, and every mistake is named."""

import re
from pathlib import Path

import pytest

from schemas.errors import UsageError
from schemas.vocabulary import EXPRESSIONS
from transforms.models.record import RECORDS, builtin_names, load_record

GOOD = (RECORDS / "expression8.toml").read_text()


@pytest.mark.parametrize("name", builtin_names())
def test_a_built_in_record_tells_what_a_person_wants_to_know(name: str) -> None:
    """Accuracy, cost and weaknesses are there; labels are canonical names; what has weights has golden outputs."""
    record = load_record(name)
    assert record.name == name and record.title and record.accuracy and record.cost and record.weaknesses
    assert set(record.labels) <= set(EXPRESSIONS)
    if record.weights is not None:
        assert record.weights.licence and record.golden is not None and record.golden.is_file()


def test_names_are_listed_by_kind() -> None:
    """Detectors, classifiers and landmarks are told apart."""
    assert builtin_names("classifier") == (
        "big-xception-54",
        "expression8",
        "mini-xception",
        "mini-xception-107",
        "xception-ensemble",
    )
    assert builtin_names("landmarks") == ("landmarks68",)
    assert builtin_names("detector") == ("mtcnn", "none", "yunet")


# The sha256 of each contract as data sets have it in their configuration.
CONTRACTS = {
    "expression8": "db663f089331af03b9a6d078c316a4702f8158eef3b4690ad0602e86a695d196",
    "mini-xception": "b428921ffb603fecbac9ada5541ec6230734040c55454b610f593ab5aa55cf5b",
    "mtcnn": "7ac317c97dfcebc4bc6c3f524ee58dca1a94152ad5ee95400f8cf41136e1807d",
    "none": "8ab465cd5f5be6d9849b5de0b6a18eed8333c2b53a8d28dc127b0321934b7eb6",
    "yunet": "85da0a51e092b661e7d1449de0485a366d9460ee5c48e80cd2f52451c64aff9e",
}


@pytest.mark.parametrize("name", CONTRACTS)
def test_a_contracts_sha256_never_changes_by_itself(name: str) -> None:
    """Data sets are pinned to it: a new field that is not used may not change it."""
    assert load_record(name).contract_sha256 == CONTRACTS[name]


def test_a_persons_own_record_is_a_path(tmp_path: Path) -> None:
    """Paths in it are relative to its folder."""
    path = tmp_path / "mine.toml"
    path.write_text(GOOD)
    assert load_record(path).golden == tmp_path / "expression8.npz"
    assert load_record(str(path)).path == path


# (what to replace, by what, the field and the expectation that the error must name)
MISTAKES = [
    (
        'kind = "classifier"',
        'kind = "clasifier"',
        "kind: expected one of detector, classifier, landmarks, got 'clasifier'",
    ),
    ('family = "onnx"', "", "family: expected one of onnx, mini_xception, big_xception, ensemble, got nothing"),
    ("size = 48", 'size = "48"', r"input.size: expected a whole number from 8 to 1024, got '48'"),
    ("size = 48", "size = 4", "input.size: expected a whole number from 8 to 1024, got 4"),
    ("size = 48", "size = 48\nsice = 3", "input.sice: expected no such field, got 3"),
    ('colour = "gray"', 'colour = "grey"', "input.colour: expected one of gray, rgb, bgr, got 'grey'"),
    ('"area"', '"bicubic"', "input.interpolation: expected one of linear, area, nearest, cubic, got 'bicubic'"),
    ("size = 48", "size = 48\nmean = [1, 2]", r"input.mean: expected a list of 1 number\(s\), got \[1, 2\]"),
    ("size = 48", "size = 48\nstd = [0]", "input.std: expected numbers that are not 0"),
    ('dtype = "float32"', 'dtype = "uint8"\nscale = 0.5', "input.dtype: expected float32 where scale"),
    ("c4bfb940", "c4bfb94", "weights.sha256: expected a sha256 of 64 hex digits"),
    ('"expression8_v1.onnx"', '"../x.onnx"', "weights.file: expected a file inside the record's folder"),
    ('golden = "', 'golden = "/etc/', "golden: expected a file inside the record's folder"),
    ('"happy", ', '"neutral", ', "labels: expected a list of at least two different texts"),
    ('kind = "square"', 'kind = "similarity"', "crop.template: expected a list of 10 number"),
    ("[outputs]", "[softmax]", r"outputs: expected a table \[outputs\], got nothing"),
    ("[crop]", "[crop", "expected a model record in TOML"),
    ('licence = "Apache-2.0"', 'licence = ""', "weights.licence: expected a text that is not empty"),
    (
        "[input]",
        '[[weights.sources]]\nkind = "url"\nwhere = "http://x/y"\n[input]',
        r"weights.sources\[0\].where: expected an https:// address",
    ),
]


@pytest.mark.parametrize(("old", "new", "expected"), MISTAKES)
def test_a_mistake_is_named_with_file_field_and_expectation(old: str, new: str, expected: str, tmp_path: Path) -> None:
    """The person who wrote the record can mend it from the text alone."""
    assert old in GOOD
    path = tmp_path / "mine.toml"
    path.write_text(GOOD.replace(old, new, 1))
    with pytest.raises(UsageError, match=re.escape(str(path)) + ".*" + expected):
        load_record(path)


def test_an_unknown_name_lists_the_known_ones() -> None:
    """So does a missing file."""
    with pytest.raises(UsageError, match=r"no model 'yunett': expected one of big-xception-54, expression8, .*yunet"):
        load_record("yunett")
    with pytest.raises(UsageError, match="cannot read it"):
        load_record("nowhere.toml")


def test_records_hold_nothing_that_is_not_ours() -> None:
    """Published weights are fetched, never shipped."""
    assert [path.name for path in RECORDS.iterdir() if path.suffix == ".onnx"] == ["expression8_v1.onnx"]
    assert not list(RECORDS.glob("*.hdf5"))
