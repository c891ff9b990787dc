"""Slips of the fingers, for tests of misspellings: all single edits of a word, or some drawn as people make them."""

import random
import string
from collections.abc import Iterator

_KEYS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
_ALIKE = (
    ("s", "c"),
    ("s", "z"),
    ("c", "k"),
    ("c", "s"),
    ("y", "i"),
    ("i", "y"),
    ("ea", "ee"),
    ("ai", "ei"),
    ("e", "a"),
    ("a", "e"),
    ("er", "ar"),
    ("ur", "ir"),
    ("ou", "u"),
    ("ph", "f"),
    ("f", "ph"),
    ("le", "el"),
)


def one_edit(word: str) -> list[str]:
    """Return all words that are one edit away: a letter more, less or other, or two neighbours swapped."""
    cuts = [(word[:cut], word[cut:]) for cut in range(len(word) + 1)]
    fewer = {head + tail[1:] for head, tail in cuts if tail}
    swapped = {head + tail[1] + tail[0] + tail[2:] for head, tail in cuts if len(tail) > 1}
    other = {head + letter + tail[1:] for head, tail in cuts if tail for letter in string.ascii_lowercase}
    more = {head + letter + tail for head, tail in cuts for letter in string.ascii_lowercase}
    return sorted((fewer | swapped | other | more) - {word})


def slips(word: str, count: int, draw: random.Random) -> Iterator[str]:
    """Draw misspellings of a word: one edit, now and then two in a long one; the first letter seldom.

    Of typing errors 80 % are single edits (Damerau 1964) and at most 8 % are in the first letter (Pollock, Zamora
    1984).
    """
    for _ in range(count):
        slip = _slip(word, draw)
        yield _slip(slip, draw) if len(word) >= 8 and draw.random() < 0.2 else slip


def _slip(word: str, draw: random.Random) -> str:
    at = draw.randrange(len(word)) if draw.random() < 0.08 or len(word) < 2 else draw.randrange(1, len(word))
    head, letter, tail = word[:at], word[at], word[at + 1 :]
    beside = draw.choice(_beside(letter))
    alike = [(old, new) for old, new in _ALIKE if old in word[1:]] or [(letter, beside)]
    old, new = draw.choice(alike)
    where = word.index(old, 1) if old in word[1:] else at
    return draw.choice(
        [
            head + tail,  # missed
            head + letter + letter + tail,  # held too long
            head + beside + tail,  # the key beside
            head + letter + beside + tail,  # and both keys
            head + tail[:1] + letter + tail[1:] if tail else word[:-2] + word[-1] + word[-2:-1],  # too early
            word[:where] + new + word[where + len(old) :],  # as it is heard
        ]
    )


def _beside(letter: str) -> str:
    for row in _KEYS:
        if letter in row:
            at = row.index(letter)
            return row[max(at - 1, 0) : at] + row[at + 1 : at + 2]
    return "e"
