"""Vocabularies: the names that labels may have, with their aliases; the expressions, or those of a person."""

import tomllib
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from schemas.aliases import ALIASES
from schemas.errors import ItemError, UsageError
from schemas.vocabulary import EXPRESSIONS
from transforms.storage import printable, read_bytes
from transforms.words import fold

MOST_NAMES = 100_000
MOST_NAME_CHARS = 200
MOST_FILE_BYTES = 16 << 20


@dataclass(frozen=True)
class Vocabulary:
    """The names that labels may have, and for each folded alias the name that it stands for.

    No two names are alike once folded: `from_names` and `read_vocabulary` see to it.
    """

    names: tuple[str, ...]
    aliases: Mapping[str, str]


def expressions() -> Vocabulary:
    """Return the eight expressions with their aliases."""
    return Vocabulary(EXPRESSIONS, ALIASES)


def from_names(names: Iterable[str]) -> Vocabulary:
    """Return the names as a vocabulary. Of those that differ in form only, the first stands for all."""
    firsts: dict[str, str] = {}
    for name in names:
        firsts.setdefault(fold(name), name)
    return Vocabulary(tuple(name for folded, name in firsts.items() if folded), {})


def read_vocabulary(path: str) -> Vocabulary:
    """Read a vocabulary in TOML: tables `[[labels]]` with `name` and, where there are any, `aliases`.

    Raises UsageError.
    """
    where = f"--vocabulary {printable(path)}"
    try:
        table = tomllib.loads(read_bytes(path, MOST_FILE_BYTES).decode())
    except ItemError as error:
        if error.error == "too_large":
            raise UsageError(f"{where}: expected at most {MOST_FILE_BYTES:,} bytes") from None
        raise UsageError(f"--vocabulary {error}") from None
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{where}: expected TOML: {error}") from None
    _only(table, ("labels",), where)
    labels = table.get("labels")
    if not isinstance(labels, list) or not labels:
        raise UsageError(f"{where}: expected at least one table [[labels]] with a name")
    if len(labels) > MOST_NAMES:
        raise UsageError(f"{where}: expected at most {MOST_NAMES:,} labels, got {len(labels):,}")
    return _vocabulary(labels, where)


def _vocabulary(labels: Sequence[object], where: str) -> Vocabulary:
    """Return the vocabulary. All names are looked at before the first alias, which may not be another's name."""
    names: dict[str, str] = {}
    told: list[tuple[str, object]] = []
    for number, label in enumerate(labels, 1):
        place = f"{where}: label {number}"
        if not isinstance(label, dict):
            raise UsageError(f"{place}: expected a table [[labels]] with a name")
        _only(label, ("name", "aliases"), place)
        name = _text(label.get("name"), f"{place}: name")
        if (other := names.setdefault(fold(name), name)) != name or len(names) < number:
            raise UsageError(f"{place}: {name!r} is there already, as {other!r}: names must differ in more than form")
        told.append((name, label.get("aliases", [])))
    return Vocabulary(tuple(names.values()), _aliases(told, names, where))


def _aliases(told: Iterable[tuple[str, object]], names: Mapping[str, str], where: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, aliases in told:
        if not isinstance(aliases, list):
            raise UsageError(f"{where}: aliases of {name!r}: expected a list of texts")
        for alias in aliases:
            folded = fold(_text(alias, f"{where}: aliases of {name!r}"))
            if (other := names.get(folded, found.setdefault(folded, name))) != name:
                raise UsageError(f"{where}: {alias!r} is an alias of {name!r}, but stands for {other!r} already")
    return {alias: name for alias, name in found.items() if alias not in names}


def _text(value: object, where: str) -> str:
    """Return the value if it is a name: visible text of one line."""
    if not isinstance(value, str) or not fold(value) or value != value.strip():
        raise UsageError(f"{where}: expected a text that neither is empty nor begins or ends with white space")
    if len(value) > MOST_NAME_CHARS or any(unicodedata.category(char) == "Cc" for char in value):
        raise UsageError(f"{where}: expected at most {MOST_NAME_CHARS} characters and no control characters")
    return value


def _only(table: Mapping[str, Any], keys: Sequence[str], where: str) -> None:
    if unknown := sorted(set(table) - set(keys)):
        raise UsageError(f"{where}: unknown key {unknown[0][:50]!r}: expected {' and '.join(keys)}")
