"""Bring labels to a vocabulary: what differs in form, what another word or a code stands for, what is misspelled.

What could be something else is never guessed: it goes to review, with the names that it may have meant. Everything
works on the distinct labels of a source; rows are only joined to what became of their label.
"""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from schemas.aliases import ALIASES
from schemas.reasons import Rule
from transforms.codes import Codes, number_of
from transforms.judged import Judged
from transforms.spelling import Spelling, spellings
from transforms.vocabularies import Vocabulary, from_names
from transforms.words import fold, is_word, joined

MOST_CHARS = 1_000
"""A longer label is text of another kind, and is not looked at: NFKC makes 18 letters of one."""

MOST_CANDIDATES = 5

OTHER_NUMBER_CONFIDENCE = 0.95
"""Of the singular for the plural, or the plural for the singular. Of 22 public lists of classes only ImageNet's has
both of one word (sunglass, sunglasses)."""

_THINGS = (
    "arms blinds braces brains cloths clothes clippers customs goods glasses greens heels irons jeans means news pants "
    "scales shorts spectacles specs spirits stairs tights times trunks waters woods works"
)
OWN_PLURALS = frozenset(_THINGS.split())
"""Plurals that are things of their own: glasses are not more than one glass."""

FREQUENT_SHARE = 0.01
"""A label of at least so many of the rows is a name, where a source declares none."""

MISSPELLED_SHARE = 0.1
"""But not where it looks like a misspelling of one that is at least ten times as frequent."""

_BETWEEN = re.compile(r"[/\\,;:=|&+\u3001\n]|\s(?:and|or|und|oder|et|ou|y|e|o)\s", re.IGNORECASE)
"""What stands between two labels rather than in one."""

_NUMBER = re.compile(r"[+-]?\d+(?:[.,]\d*)?")
_ABBREVIATION = 3

_BECAME: dict[str, pl.DataType] = {
    "after": pl.String(),
    "rule": pl.String(),
    "confidence": pl.Float32(),
    "candidates": pl.List(pl.String()),
    "detail": pl.String(),
}


@dataclass(frozen=True)
class Repair:
    """What becomes of a raw label. Without a rule it is canonical already, byte for byte; without a label, to review.

    `confidence` is 1 where nothing was guessed, and 0 without a label.
    """

    label: str | None
    rule: Rule | None
    confidence: float
    candidates: tuple[str, ...] = ()
    detail: str = ""


def repair(raw: Sequence[str | None], vocabulary: Vocabulary, codes: Codes | None) -> list[Repair]:
    """Return what becomes of each raw label; of each for itself, whatever stands beside it.

    A name of the vocabulary is never changed, whatever else it looks like.
    """
    known = _Known(vocabulary)
    settled: dict[str | None, Repair] = {}
    open_: dict[str, str] = {}
    for label in dict.fromkeys(raw):
        folded = fold(label[:MOST_CHARS]) if label is not None else ""
        found = _without_guess(label, folded, known, codes)
        if found is not None:
            settled[label] = found
        elif label is not None:
            open_[label] = folded
    meant = spellings(sorted(set(open_.values())), known.forms)
    for label, folded in open_.items():
        settled[label] = _guessed(folded, meant.get(folded, _NOTHING), known)
    return [settled[label] for label in raw]


def judge(rows: pl.DataFrame, repairs: Mapping[str | None, Repair]) -> Judged:
    """Put the repaired labels into `rows` (with `n`, `label` and whatever else); hold back those without one.

    `repairs` has every label that occurs. Rows that are no label (`is_label` false) pass as they are.
    """
    is_label = pl.col("is_label").fill_null(True) if "is_label" in rows.columns else pl.lit(True)
    told = rows.select("n", pl.col("label").alias("before"), is_label.alias("is_label"))
    occurring = told.filter("is_label")["before"].unique()
    became = _table([repairs[label] for label in occurring], occurring)
    told = told.join(became, on="before", how="left", nulls_equal=True, maintain_order="left")
    stays = ~pl.col("is_label") | pl.col("after").is_not_null()
    label = told.select(pl.when("is_label").then("after").otherwise("before").alias("label")).to_series()
    kept = rows.with_columns(label).filter(told.select(stays).to_series())
    named = told.filter("is_label").with_columns(field=pl.lit("label"), value="before")
    changed = pl.col("after").is_not_null() & pl.col("rule").is_not_null()
    return Judged.of(kept, [named.filter(changed)], [named.filter(~stays)])


def frequent(counts: Mapping[str, int], share: float = FREQUENT_SHARE) -> tuple[str, ...]:
    """Return what at least `share` of the rows carry, the most frequent first: the names where none are declared.

    Spellings that differ in form only count together, and the commonest is the name. No name is what looks like a
    misspelling or the other number of a name ten times as frequent, nor what is put together of other names.
    """
    spelt: dict[str, dict[str, int]] = defaultdict(dict)
    for label, count in counts.items():
        spelt[fold(label[:MOST_CHARS])][label] = count
    rows = {folded: sum(labels.values()) for folded, labels in spelt.items() if folded}
    least = share * sum(counts.values())
    commonest = sorted((folded for folded in rows if rows[folded] >= least), key=lambda each: (-rows[each], each))
    names = {folded: min(spelt[folded], key=lambda label: (-spelt[folded][label], label)) for folded in commonest}
    return tuple(names[folded] for folded in commonest if not _is_derived(folded, names, rows))


def _is_derived(folded: str, names: Mapping[str, str], rows: Mapping[str, int]) -> bool:
    """Return whether a frequent label is a slip of a far more frequent one, or several others in one."""
    commoner = from_names(names[other] for other in names if rows[folded] <= MISSPELLED_SHARE * rows[other])
    others = _Known(from_names(names[other] for other in names if other != folded))
    several = _several(names[folded], others)
    slip = repair([names[folded]], commoner, None)[0].rule == Rule.LABEL_SPELLING
    return slip or (several is not None and len(several.candidates) > 1)


class _Known:
    """A vocabulary by all that it may be asked for.

    `forms`: each folded form with its name; `apart`: the same without spaces, with all names that it may be;
    `beginnings`: what an abbreviation may stand for.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.names = frozenset(vocabulary.names)
        self.own = {fold(name): name for name in reversed(vocabulary.names)}
        self.forms = {**vocabulary.aliases, **self.own}
        self.apart: dict[str, set[str]] = defaultdict(set)
        self.beginnings: dict[str, set[str]] = defaultdict(set)
        for form, name in self.forms.items():
            self.apart[joined(form)].add(name)
            for letters in range(1, _ABBREVIATION + 1):
                self.beginnings[form[:letters]].add(name)

    def named(self, folded: str) -> str | None:
        """Return the name that a folded text is a form of, written apart or together."""
        if folded in self.forms:
            return self.forms[folded]
        names = self.apart.get(joined(folded), set())
        return next(iter(names)) if len(names) == 1 else None


_NOTHING = Spelling(None, 0.0, 0, ())


def _without_guess(label: str | None, folded: str, known: _Known, codes: Codes | None) -> Repair | None:
    """Return what becomes of a label where nothing must be guessed; None where it is open."""
    if label in known.names:
        return Repair(label, None, 1.0)
    if label is None or not folded:
        return _to_review("no label is told")
    if len(label) > MOST_CHARS:
        return _to_review(f"longer than {MOST_CHARS:,} characters")
    if (name := known.named(folded)) is not None:
        in_form = joined(fold(name)) == joined(folded)
        return Repair(name, Rule.LABEL_CANONICAL if in_form else Rule.LABEL_ALIAS, 1.0)
    return _decoded(folded, known, codes) or _several(label, known) or _of_other_number(folded, known)


def _decoded(folded: str, known: _Known, codes: Codes | None) -> Repair | None:
    """Return what becomes of a code; None for other text. Without codes a number says nothing."""
    code = number_of(folded) or folded
    if codes is not None and code in codes.meanings:
        meaning = fold(codes.meanings[code])
        same = (meaning, *(alias for alias, name in ALIASES.items() if name == meaning))
        names = {name for form in same if (name := known.named(form)) is not None}
        if len(names) == 1:
            return Repair(names.pop(), Rule.LABEL_CODE, 1.0, detail=f"{code} in {codes.name}")
        return _to_review(f"stands for {meaning!r} in {codes.name}, which is in no vocabulary", sorted(names))
    if _NUMBER.fullmatch(folded):
        told = "nothing says what it stands for" if codes is None else f"{codes.name} has no such number"
        return _to_review(f"a number, and {told}")
    return None


def _several(label: str, known: _Known) -> Repair | None:
    """Return what becomes of a label with signs or words between its parts, at least one of which is a name."""
    split = _BETWEEN.split(unicodedata.normalize("NFKC", label))
    if len(split) < 2:
        return None
    parts = [folded for part in split if (folded := fold(part.strip("[](){}<> ")))]
    named = [known.named(part) for part in parts]
    names = tuple(dict.fromkeys(name for name in named if name is not None))
    if len(parts) < 2 or not names:
        return None
    if len(names) == 1 and None not in named:
        return Repair(names[0], Rule.LABEL_ALIAS, 1.0, detail="the same label more than once")
    return _to_review("several labels in one" if len(names) > 1 else "a label is only a part of it", names)


def _of_other_number(folded: str, known: _Known) -> Repair | None:
    """Return the name of which the text is the English singular or plural, if it is one name."""
    head, space, last = folded.rpartition(" ")
    others = [head + space + other for other in _other_numbers(last)]
    names = {known.forms[other] for other in others if other in known.forms}
    if len(names) != 1:
        return None
    return Repair(names.pop(), Rule.LABEL_SPELLING, OTHER_NUMBER_CONFIDENCE, detail="its singular or plural")


def _other_numbers(word: str) -> set[str]:
    """Return the regular plural of a word, and what it may be the plural of.

    >>> sorted(_other_numbers("cherries")), _other_numbers("glasses"), _other_numbers("box")
    (['cherrie', 'cherrieses', 'cherry'], set(), {'boxes'})
    """
    if word in OWN_PLURALS or not (word.isascii() and word.isalpha()):
        return set()
    singulars = {word[:-1], word[:-2], word[:-3] + "y"}
    return {other for other in singulars if len(other) > 2 and _plural(other) == word} | {_plural(word)} - OWN_PLURALS


def _plural(word: str) -> str:
    if word.endswith("y") and word[-2:-1] not in tuple("aeiou"):
        return word[:-1] + "ies"
    return word + ("es" if word.endswith(("s", "x", "z", "ch", "sh")) else "s")


def _guessed(folded: str, spelling: Spelling, known: _Known) -> Repair:
    """Return the name that the text is a misspelling of, if there is one; else what it may have meant."""
    if spelling.name is not None:
        return Repair(
            spelling.name, Rule.LABEL_SPELLING, confidence(spelling.cost, spelling.letters), detail="misspelt"
        )
    words = folded.split(" ")
    parts = tuple(dict.fromkeys(known.forms[word] for word in words if word in known.forms))
    begun = sorted(known.beginnings.get(folded, ()))
    if len(parts) > 1:
        detail = "several labels in one"
    elif parts:
        detail = "a label is only a part of it"
    elif all(map(is_word, words)):
        detail = "a word of its own"
    elif begun:
        detail = "an abbreviation, and nothing says what it stands for"
    else:
        detail = "like a label, but not clearly one" if spelling.nearest else "in no vocabulary"
    return _to_review(detail, (*parts, *begun, *spelling.nearest))


def confidence(cost: float, letters: int) -> float:
    """Return how sure it is that a misspelling means the name, by what it costs and the letters of the shorter.

    Fitted to the share that was right where misspellings of Open Images' names met as many strangers, English words
    that the word list was made to forget: .996 at a tenth of the letters, .98 at .15, .95 at a fifth, .86 at a
    quarter. The word list knows 19 of 20 strangers, so that in truth it is higher.

    >>> confidence(0.5, 3), confidence(1, 8), confidence(1, 4)
    (0.969, 0.99, 0.844)
    """
    return round(min(1 - 40 * (cost / letters) ** 4, 0.99), 3)


def _to_review(detail: str, candidates: Iterable[str] = ()) -> Repair:
    return Repair(None, Rule.LABEL_NEEDS_REVIEW, 0.0, tuple(dict.fromkeys(candidates))[:MOST_CANDIDATES], detail)


def _table(found: Sequence[Repair], labels: pl.Series) -> pl.DataFrame:
    """Return the repairs of the labels as columns named as `Judged` has them."""
    rows = [(each.label, each.rule, each.confidence, list(each.candidates), each.detail) for each in found]
    return pl.DataFrame(rows, _BECAME, orient="row").insert_column(0, labels)
