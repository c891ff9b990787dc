"""Spellings that differ in form are one; a misspelling is near, and no word of its own."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.aliases import ALIASES, CODES
from schemas.vocabulary import EXPRESSIONS
from tests.transforms.slips import one_edit
from transforms.words import cost, fold, foreign, is_rare, is_word, joined, misspells, near, reach, unaccented

LETTERS = st.text("abcegiknpsyz", max_size=12)


@pytest.mark.parametrize(
    ("text", "folded"),
    [
        ("HAPPY", "happy"),
        ("ｈａｐｐｙ", "happy"),  # wide letters
        ("\u202ehappy\u200f", "happy"),  # marks of direction
        ("ha\u00adppy\ufeff", "happy"),  # a soft hyphen, a byte order mark
        ("traffic_light", "traffic light"),
        ("traffic - light", "traffic light"),
        ("traffic\u3000light\n", "traffic light"),
        ("traffic\x00light", "traffic light"),
        ("STRASSE", "strasse"),
        ("Straße", "strasse"),
        ("“happy”,", "happy"),
        ("['happy']", "happy"),
        ("bat_(animal)", "bat (animal)"),
        ("-1.5", "-1.5"),  # without letters, signs mean something
        ("1/2", "1/2"),
        (" ", ""),
        ("_", "_"),
        ("", ""),
    ],
)
def test_form_is_taken_away(text: str, folded: str) -> None:
    """Unicode, case, white space, separators, quotes."""
    assert fold(text) == folded


@given(st.text())
def test_what_is_folded_stays(text: str) -> None:
    """Folding twice changes nothing."""
    assert fold(fold(text)) == fold(text)


def test_words_are_joined_but_numbers_are_not() -> None:
    """`12 3` is not `1 23`."""
    assert joined("hot dog stand") == "hotdogstand"
    assert joined("12 3") == "12 3"


def test_accents_go_and_other_marks_stay() -> None:
    """A kana with a mark is another letter; a dotless i has no mark, but is one to those who cannot type it."""
    assert unaccented("überraşcht łódź") == "uberrascht lodz"
    assert unaccented("kızgın") == "kizgin"
    assert unaccented("が분노") == "が분노"


@given(LETTERS, LETTERS)
def test_a_cost_is_the_same_both_ways(word: str, name: str) -> None:
    """And nothing only where nothing differs."""
    assert cost(word, name) == cost(name, word) >= 0
    assert (cost(word, name) == 0) == (word == name)


def test_what_is_not_heard_costs_half() -> None:
    """Doubled letters, s for z, y for i; a letter in a wrong place one and a half."""
    assert cost("catt", "cat") == cost("surprize", "surprise") == cost("happi", "happy") == 0.5
    assert cost("suprise", "surprise") == cost("netural", "neutral") == 1.0
    assert cost("nuteral", "neutral") == 1.5
    assert cost("haplpy", "happy") == 1.0  # a letter between doubled ones is one edit, however it sounds


@given(LETTERS, LETTERS)
def test_no_more_than_a_quarter_of_the_letters_may_be_wrong(word: str, name: str) -> None:
    """Words of up to two letters must be right."""
    assert reach(word, name) <= max(len(word), len(name)) / 4
    if min(len(word), len(name)) < 3:
        assert reach(word, name) == 0


@pytest.mark.parametrize(
    ("word", "name"),
    [
        ("catt", "cat"),
        ("saad", "sad"),
        ("suprise", "surprise"),
        ("surprize", "surprise"),  # a word, but one that nobody uses
        ("happyness", "happiness"),
        ("comtempt", "contempt"),
        ("nagry", "angry"),  # the first two letters swapped
        ("ngry", "angry"),  # the first is missing
        ("xsadness", "sadness"),
        ("afaird", "afraid"),
        ("suprisd", "surprise"),
        ("trcuk", "truck"),
    ],
)
def test_slips_are_misspellings(word: str, name: str) -> None:
    """One that is heard or two that are not, in words that are long enough."""
    assert misspells(word, name) is not None


@pytest.mark.parametrize(
    ("word", "name"),
    [
        ("bear", "fear"),  # words of their own
        ("hungry", "angry"),
        ("content", "contempt"),
        ("bull", "ball"),
        ("racket", "jacket"),
        ("noseband", "nosebag"),  # rare ones too
        ("feer", "fear"),
        ("hangry", "angry"),  # the first letter makes another word
        ("misc", "disc"),
        ("packsack", "backpack"),
        ("cpu", "cup"),  # three letters
        ("suv", "sun"),
        ("sda", "sad"),
        ("ad", "sad"),
        ("hpapyy", "happy"),  # too much
        ("nonneutral", "neutral"),
    ],
)
def test_other_words_are_no_misspellings(word: str, name: str) -> None:
    """However near they are."""
    assert misspells(word, name) is None


@pytest.mark.parametrize("name", ["cat", "sad", "fear", "happy", "surprise", "contempt", "refrigerator"])
def test_every_slip_that_counts_is_found_among_many(name: str) -> None:
    """The search over sounds misses no misspelling of a single edit."""
    slips = [word for word in one_edit(name) if misspells(word, name) is not None]
    found = near(slips, ["other", name, "thing"])
    assert slips
    assert all(name in found[word] for word in slips)


def test_what_is_near_comes_in_the_order_of_the_names() -> None:
    """Whatever the length; and a text that is too long has nothing near."""
    assert near(["boot"], ["root", "boots", "elephant", "boat", "book"]) == {"boot": ["root", "boots", "boat", "book"]}
    assert near(["x" * 65], ["x" * 65]) == {}
    assert near([], ["a"]) == near(["a"], []) == {}


def test_the_word_list_knows_words_and_how_rare_they_are() -> None:
    """What nobody says in a film is rare."""
    assert is_word("bull")
    assert not is_word("suprise")
    assert is_rare("catt")
    assert not is_rare("cat")
    assert is_rare("suprise")


def test_words_of_other_languages_are_known() -> None:
    """Those of none are not, and nothing is asked for nothing."""
    assert foreign(["haus", "fröhlich", "suprise", "verwachting"]) == {"haus", "fröhlich", "verwachting"}
    assert foreign([]) == set()


def test_aliases_are_told_as_they_are_looked_up() -> None:
    """Each folded, of an expression, and no expression itself but in its own language."""
    assert [alias for alias in ALIASES if fold(alias) != alias] == []
    assert set(ALIASES.values()) == set(EXPRESSIONS)
    assert set(ALIASES).isdisjoint(EXPRESSIONS)


def test_codes_are_numbers_or_folded_letters() -> None:
    """And stand for an expression, or for what is none."""
    for codes in CODES.values():
        assert all(code.isdecimal() or fold(code) == code for code in codes)
        assert len(set(codes.values()) & set(EXPRESSIONS)) >= 7
    none = {meaning for codes in CODES.values() for meaning in codes.values()} - set(EXPRESSIONS)
    assert none == {"unknown", "not a face", "none", "uncertain", "no face", "calm"}
    assert none.isdisjoint(ALIASES)
