"""A number stands for a label only if a person or the data set says so."""

from collections.abc import Sequence

import pytest

from schemas.aliases import CODES
from schemas.errors import UsageError
from schemas.raw import Facts, Source
from transforms.codes import Codes, declared_codes, number_of, prove_codes

FER2013 = ("emotion", " pixels", " Usage")
AFFECTNET = (
    "subDirectory_filePath",
    "face_x",
    "face_y",
    "face_width",
    "face_height",
    "facial_landmarks",
    "expression",
    "valence",
    "arousal",
)
RAFDB = "RAF-DB/basic/EmoLabel/list_patition_label.txt"


def proven(
    labels: Sequence[str | None],
    columns: Sequence[str] = (),
    file: str = "labels.csv",
    legend: dict[str, str] | None = None,
    facts: Facts | None = None,
) -> str | None:
    """Return the name of the codes that 100 rows with these labels prove."""
    source = Source("csv", file, ".", (file,), (file,))
    counts = dict.fromkeys(labels, 100 // max(len(labels), 1) + 1)
    found = prove_codes(source, facts or Facts(), counts, columns, legend)
    return found.name if found else None


def test_codes_are_declared_by_name() -> None:
    """The same number stands for what each data set says."""
    assert declared_codes("fer2013").meanings["3"] == "happy"
    assert declared_codes("rafdb").meanings["1"] == "surprise"  # counted from 1
    assert "0" not in declared_codes("rafdb").meanings
    assert declared_codes("ferplus").meanings["nf"] == "not a face"
    with pytest.raises(UsageError, match=r"--codes 'fer': expected one of fer2013, ferplus, affectnet, rafdb"):
        declared_codes("fer")


def test_a_header_proves() -> None:
    """That of FER2013 and of AffectNet, however it is spelt."""
    assert proven("0123456", FER2013) == "fer2013"
    assert proven(["0", "6", "6.0", " 3", None, ""], FER2013) == "fer2013"
    assert proven(["0", "7", "10"], AFFECTNET) == "affectnet"


def test_a_list_of_raf_db_proves_by_its_name_and_all_its_numbers() -> None:
    """The compound set has the same name and more numbers."""
    assert proven("1234567", file=RAFDB) == "rafdb"
    assert proven("1234567", file=RAFDB.replace("/", "\\")) == "rafdb"
    assert proven("123456", file=RAFDB) is None
    assert proven([*"1234567", "8"], file=RAFDB) is None
    assert proven("1234567", file="label.txt") is None
    few = Source("csv", RAFDB, ".", (RAFDB,), (RAFDB,))
    assert prove_codes(few, Facts(), dict.fromkeys("1234567", 14)) is None


def test_a_legend_proves_if_it_names_every_number() -> None:
    """One that counts from another number is not meant."""
    legend = {"0": "Anger", "1": "Joy", "02": "Fear"}
    found = prove_codes(Source("csv", "a", ".", ("a",), ("a",)), Facts(), {"0": 5, "2": 1}, legend=legend)
    assert found == Codes("legend", {"0": "Anger", "1": "Joy", "2": "Fear"})
    assert proven("123", legend=legend) is None
    assert proven("123", FER2013, legend=legend) is None  # what contradicts itself proves nothing


@pytest.mark.parametrize(
    ("labels", "columns"),
    [
        ("0123456", ()),  # the range fits several
        ("0123456", ("image", "emotion")),
        ("0123456", ("emotion", "pixels")),
        ("01234567", FER2013),  # more than it has
        (["0", "happy"], FER2013),  # not only numbers
        (["0.5"], FER2013),
        (["-1"], FER2013),
        ([], FER2013),
        ([None, " "], FER2013),
        (["11"], AFFECTNET),
    ],
)
def test_nothing_else_proves(labels: Sequence[str | None], columns: Sequence[str]) -> None:
    """Never the range of the numbers alone."""
    assert proven(labels, columns) is None


def test_a_source_that_declares_its_names_means_them() -> None:
    """Whatever its header says."""
    assert proven("0123456", FER2013, facts=Facts(categories=tuple("0123456"))) is None


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("3", "3"),
        ("03", "3"),
        ("3.0", "3"),
        ("3.", "3"),
        ("'3'", "3"),
        ("３", "3"),
        ("٣", "3"),
        ("3.5", None),
        ("-3", None),
        ("1e3", None),
        ("1234", None),
        ("", None),
        ("9" * 100_000, None),
    ],
)
def test_numbers_are_read_as_programs_write_them(text: str, number: str | None) -> None:
    """Also where a table made decimals of them; never as less than they are."""
    assert number_of(text) == number


def test_every_data_set_has_its_own_order() -> None:
    """No two of them agree, so that none can be told from the other by a row."""
    assert len({tuple(sorted(codes.items())) for codes in CODES.values()}) == len(CODES)
