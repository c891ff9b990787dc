"""Find the one name of many that a text is a misspelling of, if there is exactly one."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from transforms.words import FARTHEST, cost, foreign, is_word, joined, misspells, near, unaccented

MARGIN = 0.5
"""The second nearest name must cost so much more than the nearest, half an edit. Else either may be meant."""

JOINED_LETTERS = 8
JOINED_COST = 1.0
"""Words written together or apart are compared as one from this length on, up to this cost: `traficlight`."""

MOST_NEAREST = 5

Words = tuple[str, ...]


@dataclass(frozen=True)
class Spelling:
    """What a text may be a misspelling of: the one name with its cost, where there is one, and all that are near.

    `letters` are those of the shorter of the text and the form of the name.
    """

    name: str | None
    cost: float
    letters: int
    nearest: tuple[str, ...]


@dataclass(frozen=True)
class _Text:
    """A folded text, its words, and all of it without accents and spaces."""

    folded: str
    words: Words
    plain: str

    @staticmethod
    def of(folded: str) -> "_Text":
        return _Text(folded, tuple(folded.split(" ")), unaccented(joined(folded)))


@dataclass(frozen=True)
class _Meant:
    """A form that the text may be a misspelling of; `pairs` are the words that differ, with those they stand for."""

    name: str
    form: _Text
    spent: float
    pairs: tuple[tuple[str, str], ...]


def spellings(texts: Sequence[str], forms: Mapping[str, str]) -> dict[str, Spelling]:
    """Return for each folded text that is near a form what it may mean. `forms` are folded, each with its name.

    Words are compared one by one: a word of its own, or one that stands in any form, is never a misspelling. A text is
    one of a name only if no form of another name is about as near.
    """
    by_plain: dict[str, list[_Text]] = defaultdict(list)
    for form in map(_Text.of, forms):
        by_plain[form.plain].append(form)
    known = frozenset(word for alike in by_plain.values() for form in alike for word in form.words)
    asked = [_Text.of(text) for text in texts]
    close = near(sorted({text.plain for text in asked}), list(by_plain))
    found: dict[str, Spelling] = {}
    meant: dict[str, _Meant] = {}
    for text in asked:
        if text.plain in close:
            candidates = [form for plain in close[text.plain] for form in by_plain[plain]]
            found[text.folded], best = _nearest(text, candidates, forms, known)
            if best is not None:
                meant[text.folded] = best
    for folded in _of_other_languages(meant):
        found[folded] = Spelling(None, 0.0, 0, found[folded].nearest)
    return found


def _nearest(
    text: _Text, candidates: Sequence[_Text], forms: Mapping[str, str], known: frozenset[str]
) -> tuple[Spelling, _Meant | None]:
    """Return what the text may mean among the candidates, and the form that decides it."""
    costs: dict[str, float] = {}
    for form in candidates:
        name = forms[form.folded]
        costs[name] = min(cost(text.plain, form.plain), costs.get(name, FARTHEST))
    told = sorted((name for name in costs if 3 * costs[name] <= len(text.plain)), key=lambda name: (costs[name], name))
    nearest = tuple(told[:MOST_NEAREST])
    reached = [one for form in candidates if (one := _meant(text, form, forms[form.folded], known)) is not None]
    best = min(reached, key=lambda one: (one.spent, one.form.folded), default=None)
    if best is None or any(costs[name] < best.spent + MARGIN for name in costs if name != best.name):
        return Spelling(None, 0.0, 0, nearest), None
    return Spelling(best.name, best.spent, min(len(text.plain), len(best.form.plain)), nearest), best


def _meant(text: _Text, form: _Text, name: str, known: frozenset[str]) -> _Meant | None:
    """Return the form with what it costs to write the text for it; None where the text is no misspelling of it."""
    if len(text.words) != len(form.words):
        return _meant_joined(text, form, name, known)
    pairs = tuple((word, other) for word, other in zip(text.words, form.words, strict=True) if word != other)
    spent = 0.0
    for word, other in pairs:
        each = _cost_of_word(word, other)
        if each is None or _is_fixed(word, known):
            return None
        spent += each
    return _Meant(name, form, spent, pairs) if spent <= FARTHEST else None


def _meant_joined(text: _Text, form: _Text, name: str, known: frozenset[str]) -> _Meant | None:
    """The same for words that are written together or apart: each true word of the text must stand in the form."""
    if min(len(text.plain), len(form.plain)) < JOINED_LETTERS:
        return None
    spent = cost(text.plain, form.plain)
    true = [word for word in text.words if _is_fixed(word, known) or is_word(unaccented(word))]
    if spent > JOINED_COST or len(true) == len(text.words) or any(unaccented(word) not in form.plain for word in true):
        return None
    return _Meant(name, form, spent, ())


def _cost_of_word(word: str, other: str) -> float | None:
    plain, meant = unaccented(word), unaccented(other)
    if plain == meant:
        return None if is_word(word) else 0.0
    return misspells(plain, meant)


def _of_other_languages(meant: Mapping[str, _Meant]) -> list[str]:
    """Return the texts with a word of another language where the name is not English either: `haus` is no `maus`."""
    asked = {text: [word for word, other in one.pairs if not is_word(unaccented(other))] for text, one in meant.items()}
    known = foreign({word for words in asked.values() for word in words})
    return [text for text, words in asked.items() if not known.isdisjoint(words)]


def _is_fixed(word: str, known: frozenset[str]) -> bool:
    """Return whether the word must stand as it is: it is one of the forms' words, or has more than letters."""
    return word in known or not unaccented(word).strip("()").replace("'", "").isalpha()
