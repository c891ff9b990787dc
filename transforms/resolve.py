"""Which file a label file means by a picture's name: by the whole name, by its end, by its stem; never by a guess."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from urllib.parse import unquote

from transforms.staging import stem

MOST_TOLD = 3
"""Candidates that are named where a name fits several files."""


@dataclass(frozen=True)
class Match:
    """The number of the file that a name means, or null and why not."""

    file: int | None
    why: str


class Files:
    """The names of pictures, relative to their roots with slashes forward, to look names up in."""

    def __init__(self, names: Sequence[str], roots: Sequence[int] | None = None) -> None:
        """`roots` are the numbers of the roots that the names are relative to; they tell whose files they are."""
        self._roots = roots
        self._parts = [_parts(name) for name in names]
        self._names = names
        self._by_stem: dict[str, list[int]] = defaultdict(list)
        for number, name in enumerate(names):
            self._by_stem[stem(name)].append(number)

    def find(self, told: str, home: tuple[int, str] | None = None) -> Match:
        """Return the file that `told` means; `home` is where the label file is: a root, and the folder in it.

        Of the files of its stem, one that is spelt alike to the letter, extension included, counts before others, then
        one at home, then that whose path shares most folders with it from the end. Two that count alike are no match.
        """
        candidates = self._by_stem.get(stem(told), [])
        if not candidates and "%" in told:
            told = unquote(told)
            candidates = self._by_stem.get(stem(told), [])
        if not candidates:
            return Match(None, "no picture of this name is there")
        wanted = _parts(told)
        fits = {number: self._likeness(number, wanted, home) for number in candidates}
        best = max(fits.values())
        alike = [number for number, fit in fits.items() if fit == best]
        if len(alike) > 1:
            listed = ", ".join(self._names[number] for number in alike[:MOST_TOLD])
            return Match(None, f"{len(alike)} pictures fit this name: {listed}")
        return Match(alike[0], "")

    def _is_at(self, number: int, home: tuple[int, str]) -> bool:
        root, folder = home
        inside = not folder or self._names[number].startswith(f"{folder}/")
        return self._roots is not None and self._roots[number] == root and inside

    def _likeness(
        self, number: int, wanted: tuple[str, ...], home: tuple[int, str] | None
    ) -> tuple[bool, bool, bool, int, bool]:
        """Return how well a file fits: base name to the letter, but for case, at home, folders shared, whole name."""
        own = self._parts[number]
        exact = own[-1] == wanted[-1]
        folded = own[-1].casefold() == wanted[-1].casefold()
        at_home = home is not None and self._is_at(number, home)
        return exact, folded, at_home, _shared(own[:-1], wanted[:-1]), own == wanted


def unify(names: Iterable[str]) -> dict[str, str]:
    """Return for each name of a picture that is not at hand the one under which it is kept.

    A name without an extension (YOLO) is the one with an extension (VOC), where there is exactly one in its folder.
    """
    listed = sorted(set(names))
    full: dict[str, list[str]] = defaultdict(list)
    for name in listed:
        if _bare(name) != name:
            full[_bare(name)].append(name)
    return {name: full[name][0] if len(full.get(name, ())) == 1 else name for name in listed}


def _bare(name: str) -> str:
    folder, slash, base = name.rpartition("/")
    short, dot, extension = base.rpartition(".")
    is_named = bool(short) and 2 <= len(extension) <= 5 and extension.isalnum() and not extension.isdecimal()
    return f"{folder}{slash}{short}" if dot and is_named else name


def _parts(name: str) -> tuple[str, ...]:
    kept = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".")]
    return tuple(kept) or (name,)


def _shared(one: Sequence[str], other: Sequence[str]) -> int:
    count = 0
    for a, b in zip(reversed(one), reversed(other), strict=False):
        if a.casefold() != b.casefold():
            break
        count += 1
    return count
