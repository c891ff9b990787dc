"""What numbers and abbreviations stand for: told by a person, or proven by what a source shows. Never guessed."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from schemas.aliases import CODES
from schemas.errors import UsageError
from schemas.raw import Facts, Source
from transforms.words import fold

LEAST_RAFDB_ROWS = 100
"""So many rows of RAF-DB's compound set without a number above 7, if they were drawn at random: once in 10^25."""

_CODE = re.compile(r"(\d{1,3})(?:\.0*)?")
_MOST_CHARS = 20


@dataclass(frozen=True)
class Codes:
    """What numbers (without leading zeros) and folded abbreviations stand for, and who says so."""

    name: str
    meanings: Mapping[str, str]


def declared_codes(name: str) -> Codes:
    """Return the codes of a data set by its name. Raises UsageError."""
    if name not in CODES:
        raise UsageError(f"--codes {name!r}: expected one of {', '.join(CODES)}")
    return Codes(name, CODES[name])


def prove_codes(
    source: Source,
    facts: Facts,
    counts: Mapping[str | None, int],
    columns: Sequence[str] = (),
    legend: Mapping[str, str] | None = None,
) -> Codes | None:
    """Return the codes that a source proves to use; None where nothing but the range of its numbers speaks for any.

    All its labels must be numbers that the codes know, and one of these must hold:
    - `legend`, a list of classes that came with the source, names each of them;
    - the header `columns` has `emotion`, `pixels` and `Usage`: that is fer2013.csv;
    - it has `subDirectory_filePath`, `expression`, `valence` and `arousal`: AffectNet's lists;
    - the file is called `list_patition_label.txt`, and 1 to 7 all occur, in many rows: RAF-DB's basic set. Its
      compound set has the same file name and 11 classes; 1,725 of its 3,954 rows have a number above 7.
    """
    numbers = {number_of(label) for label in counts if label is not None and label.strip()}
    if facts.categories is not None or not numbers:
        return None
    if legend is not None:
        meanings = {number: name for key, name in legend.items() if (number := number_of(key)) is not None}
        return Codes("legend", meanings) if numbers <= set(meanings) else None
    header = {fold(column) for column in columns}
    files = {name.replace("\\", "/").rpartition("/")[2] for name in source.names}
    if {"emotion", "pixels", "usage"} <= header:
        name = "fer2013"
    elif {"subdirectory filepath", "expression", "valence", "arousal"} <= header:
        name = "affectnet"
    elif files == {"list_patition_label.txt"} and _is_rafdb(numbers, sum(counts.values())):
        name = "rafdb"
    else:
        return None
    return Codes(name, CODES[name]) if numbers <= set(CODES[name]) else None


def _is_rafdb(numbers: Collection[str | None], rows: int) -> bool:
    return set(numbers) == set(CODES["rafdb"]) and rows >= LEAST_RAFDB_ROWS


def number_of(label: str) -> str | None:
    """Return a code without leading zeros or decimals; None for other text.

    >>> number_of("03"), number_of("3.0"), number_of("3.5")
    ('3', '3', None)
    """
    found = _CODE.fullmatch(fold(label[:_MOST_CHARS]))
    return str(int(found[1])) if found else None
