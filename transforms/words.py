"""How words are alike: one form for spellings that differ in form only, and what a misspelling costs.

Nothing here knows of labels or vocabularies; `transforms.labels` decides what a likeness is good for.
"""

import gzip
import json
import re
import unicodedata
from collections.abc import Collection, Sequence
from functools import cache, lru_cache
from importlib.resources import files

import numpy as np
from rapidfuzz import process
from rapidfuzz.distance import OSA

LANGUAGES = ("de", "es", "fr", "it", "nl", "pt", "ru")
"""Languages beside English whose words are asked: those of pyspellchecker that are near a language of the aliases."""

RARE = 50
"""pyspellchecker counts words in film subtitles, drops those below 50, and then adds what word lists have beside
them with a count of 50. These are words too, but not what is meant where they sound like a common one: `catt`."""

MOST_CHARS = 64
"""Longer texts are no misspelling: no name of COCO, LVIS, Open Images, Objects365 or ImageNet has more than 36."""

FARTHEST = 2.0
"""No misspelling costs more, however long the word. Three, from twelve letters on, would find .4 % more of them."""

_REMEMBERED = 100_000
"""Words, and pairs of words, of which the answer is kept: about 20 MB."""

_PART = 500
"""Words compared at a time: with 10,000 names 5 MB."""

_INVISIBLE = re.compile("[\u00ad\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff]")
"""Soft hyphens, marks of direction, of no width and of variants: nobody sees them."""

_BLANKS = re.compile("[\\s\x00-\x1f\x7f-\x9f]+")
_SEPARATORS = re.compile("[ _\\-./\\\\\u00b7\u2010-\u2015\u2043\u2212\u30fb]+")
_AROUND = " ,;:!?\"'`\u00b4\u2018\u2019\u201a\u201c\u201d\u201e\u00ab\u00bb"
_BRACKETS = {"(": ")", "[": "]", "{": "}", "<": ">"}
_GAP = re.compile(r"(?<!\d) (?!\d)")
_ACCENTS = re.compile("[\u0300-\u036f]")
_WHOLE = str.maketrans({"ı": "i", "ø": "o", "ł": "l", "đ": "d", "æ": "ae", "œ": "oe", "\u2019": "'"})
"""Letters that Unicode does not take apart."""

_SOFT_C = re.compile("c(?=[eiy])")
_DOUBLED = re.compile(r"(.)\1+")


def fold(text: str) -> str:
    """Return the text in the form in which spellings are compared: NFKC, case, white space, separators, quotes.

    Without any letter it is a number or a sign, in which separators mean something: they stay.

    >>> fold(" Baseball_Bat "), fold("['happy']"), fold("-1.5")
    ('baseball bat', 'happy', '-1.5')
    """
    seen = _INVISIBLE.sub("", unicodedata.normalize("NFKC", text))
    folded = _BLANKS.sub(" ", unicodedata.normalize("NFKC", seen.casefold()))
    if any(map(str.isalpha, folded)):
        folded = _SEPARATORS.sub(" ", folded)
    inner = folded.strip().strip(_AROUND)
    while len(inner) > 2 and _BRACKETS.get(inner[0]) == inner[-1]:
        inner = inner[1:-1].strip(_AROUND)
    return inner or folded.strip()


def joined(folded: str) -> str:
    """Return a folded text without spaces, but for those beside a digit.

    >>> joined("traffic light"), joined("route 6 6")
    ('trafficlight', 'route 6 6')
    """
    return _GAP.sub("", folded)


def unaccented(folded: str) -> str:
    """Return a folded text with letters in place of accented ones.

    >>> unaccented("wütend"), unaccented("が")
    ('wutend', 'が')
    """
    if folded.isascii():
        return folded
    apart = unicodedata.normalize("NFKD", folded.translate(_WHOLE))
    return unicodedata.normalize("NFC", _ACCENTS.sub("", apart))


@lru_cache(_REMEMBERED)
def sound(word: str) -> str:
    """Return the word with one letter for those that sound alike, and one for doubled ones.

    >>> sound("catt"), sound("surprize") == sound("surprice")
    ('kat', True)
    """
    hard = _SOFT_C.sub("s", word.replace("ph", "f").replace("ck", "k")).replace("c", "k").replace("q", "k")
    return _DOUBLED.sub(r"\1", hard.replace("z", "s").replace("y", "i"))


@lru_cache(_REMEMBERED)
def cost(word: str, name: str) -> float:
    """Return what it costs to write `word` for `name`.

    An edit (a letter more, less or other, or two neighbours swapped) costs 1, one that is not heard a half, and a
    letter in the wrong place one and a half.

    >>> cost("suprise", "surprise"), cost("catt", "cat"), cost("hapines", "happiness"), cost("nuteral", "neutral")
    (1.0, 0.5, 1.0, 1.5)
    """
    edits = OSA.distance(word, name)
    heard = (edits + min(edits, OSA.distance(sound(word), sound(name)))) / 2
    return min(heard, 1.5) if edits == 2 and sorted(word) == sorted(name) else heard


def reach(word: str, name: str) -> float:
    """Return the most that `word` may cost to be taken for a misspelling of `name`: a quarter of the letters.

    Those of the shorter, or from seven on of the longer. Of three letters only a doubled one may be missing or too
    many: else `cpu` would be a cup, and `suv` the sun. A quarter is where as many words that the list does not know
    begin to be taken as misspellings are found (see `transforms.labels.confidence`): a single letter put into a name of
    three is right in .55 of such cases, one in a name of four in .86.
    """
    shorter, longer = sorted((len(word), len(name)))
    return min((shorter if shorter < 7 else longer) / 4, FARTHEST) if shorter > 2 else 0.0


def misspells(word: str, name: str) -> float | None:
    """Return the cost if `word` may be a misspelling of `name`; None if it is too far, or a word of its own.

    >>> misspells("feer", "fear"), misspells("bear", "fear"), misspells("happyness", "happiness")
    (None, None, 0.5)
    """
    spent = cost(word, name)
    if spent > reach(word, name) or not _begins_like(word, name, spent):
        return None
    return spent if not is_word(word) or (spent == 0.5 and is_rare(word) and not is_rare(name)) else None


def near(words: Sequence[str], names: Sequence[str]) -> dict[str, list[str]]:
    """Return for each of `words` those of `names` that it may be a misspelling of, in their order; most have none."""
    heard = [sound(name) for name in names]
    lengths = np.array([len(each) for each in heard], dtype=np.int64)
    groups: dict[int, list[str]] = {}
    for word in words:
        if len(word) <= MOST_CHARS:
            groups.setdefault(len(sound(word)), []).append(word)
    found: dict[str, list[str]] = {}
    for length, group in groups.items():
        close = np.flatnonzero(abs(lengths - length) <= FARTHEST)
        choices = [heard[index] for index in close]
        for start in range(0, len(group), _PART) if choices else ():
            part = group[start : start + _PART]
            edits = process.cdist([sound(word) for word in part], choices, scorer=OSA.distance, dtype=np.uint8)
            for row, column in zip(*np.nonzero(edits <= FARTHEST), strict=True):
                found.setdefault(part[row], []).append(names[close[column]])
    return found


def is_word(word: str) -> bool:
    """Return whether `word`, folded, is an English word, however rare."""
    return word in _english()


def is_rare(word: str) -> bool:
    """Return whether `word` is not an English word that people use in films."""
    return _english().get(word, 0) <= RARE


def foreign(words: Collection[str]) -> set[str]:
    """Return those of `words` that are words of one of LANGUAGES (0.5 s, and 75 MB for a moment)."""
    found: set[str] = set()
    for language in LANGUAGES if words else ():
        found |= set(words).intersection(_word_list(language).decode().split('"')[1::2])
    return found


def _begins_like(word: str, name: str, spent: float) -> bool:
    """Return whether the first letters agree, as far as they must.

    Other first letters make other words (hangry, packsack, misc for disc), seldom misspellings. The first may be left
    out or swapped with the second; in a word of seven letters a single edit may be anywhere.
    """
    return word[0] in name[:2] or (spent <= 1 and len(word) >= 7)


@cache
def _english() -> dict[str, int]:
    """Return English words with their counts (0.1 s, 20 MB, once)."""
    counts: dict[str, int] = json.loads(_word_list("en"))
    return counts


def _word_list(language: str) -> bytes:
    """Return the words of a language with their counts, as JSON. The package's own reader takes four times as long."""
    return gzip.decompress((files("spellchecker") / "resources" / f"{language}.json.gz").read_bytes())
