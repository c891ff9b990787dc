"""Labels are repaired where nothing else can be meant, and go to review where something can."""

import csv
import random
from collections import Counter
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.aliases import ALIASES
from schemas.reasons import Rule
from schemas.vocabulary import EXPRESSIONS
from tests.transforms.slips import one_edit, slips
from transforms.codes import Codes, declared_codes
from transforms.judged import CHANGES, REJECTS
from transforms.labels import Repair, confidence, frequent, judge, repair
from transforms.vocabularies import Vocabulary, expressions, from_names
from transforms.words import fold, is_word

SHORT = {
    "happiness": "happy",
    "sadness": "sad",
    "anger": "angry",
    "surprise": "surprise",
    "fear": "fear",
    "disgust": "disgust",
    "neutral": "neutral",
    "contempt": "contempt",
}

# The 80 categories of COCO (Lin et al. 2014).
_COCO = (
    "person, bicycle, car, motorcycle, airplane, bus, train, truck, boat, traffic light, fire hydrant, stop sign, "
    "parking meter, bench, bird, cat, dog, horse, sheep, cow, elephant, bear, zebra, giraffe, backpack, umbrella, "
    "handbag, tie, suitcase, frisbee, skis, snowboard, sports ball, kite, baseball bat, baseball glove, skateboard, "
    "surfboard, tennis racket, bottle, wine glass, cup, fork, knife, spoon, bowl, banana, apple, sandwich, orange, "
    "broccoli, carrot, hot dog, pizza, donut, cake, chair, couch, potted plant, bed, dining table, toilet, tv, laptop, "
    "mouse, remote, keyboard, cell phone, microwave, oven, toaster, sink, refrigerator, book, clock, vase, scissors, "
    "teddy bear, hair drier, toothbrush"
)
COCO = _COCO.split(", ")

# Real category names that pyspellchecker does not know as words: of LVIS, ImageNet, Objects365 and others.
_STRANGERS = (
    "activewear atomiser beachball birdfeeder bobber bowtie breechclout cervid clayware crabmeat crouton dishsoap "
    "dishwashing doorhandle eclair eyepatch facemask frypan gameboard gasmask golosh handbasin headwear jambon "
    "jewellery lambchop landrover longue motorcoach packsack paraquet parasail pegleg pinecone plyers pufferfish "
    "pyjamas railcar razorblade seafowl sheesha shisha strawman subwoofer wastebin webcam abaya apso bedlington "
    "bluetick bolete bouvier bullmastiff carbonara clownfish consomme dandie dobermann gyromitra ibizan indri "
    "kingsnake komondor leonberger malinois mau otterhound patas pickelhaube pinscher sealyham shoji snoek vizsla "
    "whiptail baozi hami hoverboard skiboard suv cpu gpu usb atm rbc wbc tzu segway misc hangry"
)
STRANGERS = _STRANGERS.split()


def one(label: str | None, vocabulary: Vocabulary | None = None, codes: Codes | None = None) -> Repair:
    """Repair one label, with the expressions where nothing else is said."""
    return repair([label], vocabulary or expressions(), codes)[0]


def names(*given: str) -> Vocabulary:
    """Return the names as a vocabulary."""
    return from_names(given)


def share_right(right: dict[str, str], vocabulary: Vocabulary) -> float:
    """Return the share of labels that become what they were slips of; fail where one becomes something else."""
    found = dict(zip(right, repair(list(right), vocabulary, None), strict=True))
    assert {label: each.label for label, each in found.items() if each.label not in (None, right[label])} == {}
    return sum(found[label].label == name for label, name in right.items()) / len(right)


# Real labels


def variants(shared: Path) -> list[dict[str, str]]:
    """Return the spellings of expressions that were found in public data sets."""
    with (shared / "data/label_variants.csv").open(encoding="utf-8", newline="") as file:
        return [row for row in csv.DictReader(file) if row["domain"] == "emotion"]


def pairs(shared: Path) -> list[tuple[str, str]]:
    """Return pairs of real categories that are spelt alike."""
    with (shared / "data/label_negative_pairs.csv").open(encoding="utf-8", newline="") as file:
        return [(row["label_a"], row["label_b"]) for row in csv.DictReader(file)]


def test_spellings_of_public_data_sets_are_repaired(shared: Path) -> None:
    """All of them, but for abbreviations."""
    rows = variants(shared)
    wanted = {
        row["raw"]: SHORT[row["canonical"]]
        for row in rows
        if row["canonical"] in SHORT and not row["kind"].startswith("code")
    }
    assert len(wanted) == 35
    assert share_right(wanted, expressions()) == 1.0
    others = [row["raw"] for row in rows if row["raw"] not in wanted]
    assert sorted(others) == ["AF", "AN", "NF", "angry/disgust", "bordom", "neu"]
    assert {found.rule for found in repair(others, expressions(), None)} == {Rule.LABEL_NEEDS_REVIEW}


def test_real_names_that_are_merely_alike_stay(shared: Path) -> None:
    """Both where both are known, and where one is known the other is not taken for it."""
    alike = pairs(shared)
    both = sorted({name for pair in alike for name in pair})
    assert [found for found in repair(both, names(*both), None) if found.rule is not None] == []
    for known, other in ((0, 1), (1, 0)):
        firsts = {pair[known] for pair in alike}
        others = sorted({pair[other] for pair in alike} - firsts)
        assert len(others) > 50
        assert [found.label for found in repair(others, names(*sorted(firsts)), None) if found.label] == []


# Form, aliases, codes


@pytest.mark.parametrize(
    ("label", "name", "rule"),
    [
        ("happy", "happy", None),
        ("Happy", "happy", Rule.LABEL_CANONICAL),
        (" happy\n", "happy", Rule.LABEL_CANONICAL),
        ("\u202ehappy", "happy", Rule.LABEL_CANONICAL),
        ("ｈａｐｐｙ", "happy", Rule.LABEL_CANONICAL),
        ("'happy'", "happy", Rule.LABEL_CANONICAL),
        ("HAPPINESS", "happy", Rule.LABEL_ALIAS),
        ("joy", "happy", Rule.LABEL_ALIAS),
        ("高兴", "happy", Rule.LABEL_ALIAS),
        ("pleasant_surprise", "surprise", Rule.LABEL_ALIAS),
        ("pleasantSurprise", "surprise", Rule.LABEL_ALIAS),
        ("Überraschung", "surprise", Rule.LABEL_ALIAS),
        ("Uberraschung", "surprise", Rule.LABEL_SPELLING),  # a mark is missing
        ("KIZGIN", "angry", Rule.LABEL_SPELLING),  # as Turkish is not written
        ("행복", "happy", Rule.LABEL_ALIAS),  # taken apart
        ("happy/joy", "happy", Rule.LABEL_ALIAS),
        ("anger, angry", "angry", Rule.LABEL_ALIAS),
        ("surprises", "surprise", Rule.LABEL_SPELLING),
    ],
)
def test_what_a_label_says_is_put_in_canonical_form(label: str, name: str, rule: Rule | None) -> None:
    """Where nothing was guessed, it is certain."""
    found = one(label)
    assert (found.label, found.rule) == (name, rule)
    assert (found.confidence == 1.0) == (rule != Rule.LABEL_SPELLING)
    assert found.candidates == ()


def test_the_vocabulary_says_how_a_name_is_spelt() -> None:
    """Whatever its form is."""
    traffic = Vocabulary(("Traffic Light", "tv_monitor"), {"stop light": "Traffic Light"})
    for label in ("traffic_light", "TRAFFIC-LIGHT", "trafficlight", "TrafficLight", "traffic  light"):
        assert one(label, traffic) == Repair("Traffic Light", Rule.LABEL_CANONICAL, 1.0)
    assert one("StopLight", traffic) == Repair("Traffic Light", Rule.LABEL_ALIAS, 1.0)
    assert one("tvmonitor", traffic).label == "tv_monitor"
    assert one("tv monitor 2", traffic).label is None


def test_codes_count_only_where_they_are_known() -> None:
    """A number stands for what the data set says, and else for nothing."""
    assert one("3", codes=declared_codes("fer2013")) == Repair("happy", Rule.LABEL_CODE, 1.0, (), "3 in fer2013")
    assert one("3.0", codes=declared_codes("affectnet")).label == "surprise"
    assert one("03", codes=declared_codes("rafdb")).label == "disgust"
    assert one("AF", codes=declared_codes("kdef")).label == "fear"
    assert one("AN", codes=declared_codes("jaffe")).label == "angry"
    assert one("happy", codes=declared_codes("fer2013")).rule is None
    for label in ("0", "3", "3.0", "-1", "12345"):
        assert one(label).rule == Rule.LABEL_NEEDS_REVIEW
    assert one("7", codes=declared_codes("fer2013")).label is None
    assert one("0", codes=declared_codes("rafdb")).detail == "a number, and rafdb has no such number"


def test_a_code_for_no_expression_becomes_none() -> None:
    """Nor for one that the vocabulary does not have."""
    for code, name in (("NF", "ferplus"), ("9", "ferplus"), ("8", "affectnet"), ("10", "affectnet"), ("2", "ravdess")):
        assert one(code, codes=declared_codes(name)).label is None
    assert one("NF", codes=declared_codes("ferplus")).detail.startswith("stands for 'not a face' in ferplus")
    assert one("7", names("happy", "sad"), declared_codes("affectnet")).label is None


def test_codes_are_told_in_the_words_of_the_vocabulary() -> None:
    """Also where a legend or a person uses other words for the expressions."""
    assert one("3", names("Happiness", "Sadness"), declared_codes("fer2013")).label == "Happiness"
    assert one("0", codes=Codes("legend", {"0": "Anger"})).label == "angry"
    assert one("3", names("joy", "happiness"), declared_codes("fer2013")).candidates == ("happiness", "joy")


def test_a_number_that_is_a_name_is_a_name() -> None:
    """Whatever codes there are."""
    assert one("3", names("3", "4"), declared_codes("fer2013")) == Repair("3", None, 1.0)


# Misspellings


def test_misspelt_expressions_are_repaired() -> None:
    """Slips of the eight names and their English aliases: nine of ten that are no word of their own, none wrongly."""
    draw = random.Random(1)
    forms = {name: name for name in EXPRESSIONS} | {
        alias: name for alias, name in ALIASES.items() if is_word(alias) and len(alias) > 3
    }
    drawn = {slip: name for form, name in forms.items() for slip in slips(form, 25, draw)}
    right = {slip: name for slip, name in drawn.items() if fold(slip) not in ALIASES and not is_word(slip)}
    assert len(right) > 500
    assert share_right(right, expressions()) > 0.94


def test_misspelt_categories_are_repaired() -> None:
    """The same for the names of COCO."""
    draw = random.Random(2)
    drawn = {slip: name for name in COCO if len(name) > 3 for slip in slips(name, 15, draw)}
    right = {slip: name for slip, name in drawn.items() if not all(map(is_word, slip.split())) and slip not in COCO}
    assert len(right) > 500
    assert share_right(right, names(*COCO)) > 0.9


def test_no_slip_makes_another_expression() -> None:
    """Every single edit of every name is repaired to it, or goes to review."""
    right = {slip: name for name in EXPRESSIONS for slip in one_edit(name)}
    assert share_right(right, expressions()) > 0.6  # all edits: also of the first letter, and of three letters


def test_strangers_are_not_taken_for_what_they_resemble() -> None:
    """Real names that no word list has, against 80 categories and the expressions."""
    taken = [found.label for found in repair(STRANGERS, names(*COCO), None) if found.label]
    assert taken == []
    assert [found.label for found in repair(STRANGERS, expressions(), None) if found.label] == []


def test_no_english_word_is_taken_for_an_expression() -> None:
    """Unless it is one: a plural, or a spelling that nobody uses."""
    near = sorted({word for name in EXPRESSIONS for word in one_edit(name) if is_word(word) and word not in ALIASES})
    taken = {word: found.label for word, found in zip(near, repair(near, expressions(), None), strict=True)}
    assert len(near) > 60
    assert {word for word, label in taken.items() if label} == {
        "disgusts",
        "fears",
        "neutrals",
        "surprises",
        "surprize",
    }


@pytest.mark.parametrize(
    ("label", "vocabulary", "name"),
    [
        ("catt", names("cat", "dog", "person"), "cat"),
        ("cats", names("cat", "dog", "person"), "cat"),
        ("bat", names("cat", "dog", "person"), None),
        ("car", names("cat", "dog", "person"), None),
        ("hot dogg", names("hot dog", "dog"), "hot dog"),
        ("traffic lights", names("traffic light"), "traffic light"),
        ("platelet", names("RBC", "WBC", "Platelets"), "Platelets"),
        ("rbbc", names("RBC", "WBC", "Platelets"), "RBC"),
        ("cherries", names("cherry"), "cherry"),
        ("glasses", names("glass"), None),
        ("glass", names("glasses"), None),
        ("shorts", names("short"), None),
        ("aple", names("apple", "maple"), "apple"),
    ],
)
def test_names_of_objects(label: str, vocabulary: Vocabulary, name: str | None) -> None:
    """Misspellings and plurals; but a word of its own is another thing."""
    assert one(label, vocabulary).label == name


def test_a_misspelling_is_the_surer_the_longer_the_word() -> None:
    """And never certain."""
    assert one("catt", names("cat")).confidence == confidence(0.5, 3) == 0.969
    assert one("fesr").confidence == 0.844
    assert one("suprise").confidence == 0.983
    assert one("cats", names("cat")).confidence == 0.95
    assert max(confidence(0.5, letters) for letters in range(3, 64)) == 0.99


# Review


@pytest.mark.parametrize(
    ("label", "candidates", "detail"),
    [
        (None, (), "no label is told"),
        ("", (), "no label is told"),
        (" \t\u200b", (), "no label is told"),
        ("angry/disgust", ("angry", "disgust"), "several labels in one"),
        ("anger|disgusted", ("angry", "disgust"), "several labels in one"),
        ("happy & surprised", ("happy", "surprise"), "several labels in one"),
        ("Happily Surprised", ("happy", "surprise"), "several labels in one"),
        ("sad and angry", ("sad", "angry"), "several labels in one"),
        ("['sad', 'fear']", ("sad", "fear"), "several labels in one"),
        (
            "sad-angry-fear-happy-disgust-neutral",
            ("sad", "angry", "fear", "happy", "disgust"),  # not more than five
            "several labels in one",
        ),
        ("not_happy", ("happy",), "a label is only a part of it"),
        ("sad/crying", ("sad",), "a label is only a part of it"),
        ("label: happy", ("happy",), "a label is only a part of it"),
        ("angry_2", ("angry",), "a label is only a part of it"),
        ("OAF_Fear", ("fear",), "a label is only a part of it"),
        ("neu", ("neutral",), "an abbreviation, and nothing says what it stands for"),
        ("3", (), "a number, and nothing says what it stands for"),
        ("bear", ("fear",), "a word of its own"),
        ("boredom", (), "a word of its own"),
        ("unhappy", ("happy",), "a word of its own"),
        ("happy1", ("happy",), "like a label, but not clearly one"),
        ("hangry", ("angry",), "like a label, but not clearly one"),
        ("sda", ("sad",), "like a label, but not clearly one"),
        ("bordom", (), "in no vocabulary"),
        ("😊", (), "in no vocabulary"),
        ("x" * 1001, (), "longer than 1,000 characters"),
    ],
)
def test_what_must_not_be_guessed_goes_to_review(label: str | None, candidates: tuple[str, ...], detail: str) -> None:
    """With what it may have meant, and why nobody can know."""
    assert one(label) == Repair(None, Rule.LABEL_NEEDS_REVIEW, 0.0, candidates, detail)


def test_what_is_no_expression_becomes_none() -> None:
    """However near it is."""
    labels = (
        "mad bad dad had dear tear feat hungry angle angel ranger danger bored excited calm confused sleepy unknown "
        "not_a_face nf none other uncertain nan null n/a content contest context digest discuss neutron natural neural "
        "said sand fearless un-happy nonneutral joyless smile crying pain love hate"
    )
    assert [found.label for found in repair(labels.split(), expressions(), None) if found.label] == []


# Properties


WORDS = st.sampled_from([*COCO, "Cat", "hot_dog", "angry/disgust", "3", "ünï", "person 1", "日本", "c++", " cat"])
LABELS = st.one_of(
    WORDS,
    st.text(max_size=30),
    st.builds(lambda name, at, letter: name[:at] + letter + name[at:], WORDS, st.integers(0, 12), st.text(max_size=1)),
    st.builds(lambda name, at: name[:at] + name[at + 1 :], WORDS, st.integers(0, 12)),
    st.none(),
)


@settings(deadline=None)
@given(st.lists(WORDS, max_size=12), st.lists(LABELS, max_size=12))
def test_a_repaired_label_stays(known: list[str], labels: list[str | None]) -> None:
    """It is a name of the vocabulary, and a name always means itself."""
    vocabulary = from_names(known)
    first = repair(labels, vocabulary, None)
    became = [found.label for found in first if found.label is not None]
    assert set(became) <= set(vocabulary.names)
    for found in repair([*became, *vocabulary.names], vocabulary, None):
        assert found.rule is None
    for label, found in zip(labels, first, strict=True):
        assert (found.rule is None) == (label in vocabulary.names)
        assert (found.label is None) == (found.rule == Rule.LABEL_NEEDS_REVIEW)
        assert set(found.candidates) <= set(vocabulary.names)
        assert 0 <= found.confidence <= 1


@settings(deadline=None)
@given(st.lists(LABELS, max_size=12), st.randoms())
def test_each_label_is_repaired_for_itself(labels: list[str | None], draw: random.Random) -> None:
    """Whatever stands beside it, in whatever order."""
    alone = [one(label, names(*COCO)) for label in labels]
    assert repair(labels, names(*COCO), None) == alone
    order = draw.sample(range(len(labels)), len(labels))
    assert repair([labels[index] for index in order], names(*COCO), None) == [alone[index] for index in order]


def test_hostile_labels_harm_nobody() -> None:
    """Surrogates, controls, towers of marks, letters that become eighteen, brackets without end."""
    hostile = ["\ud800happy", "ha\x00ppy", "\ufdfa" * 900, "a" + "\u0301" * 900, "[(" * 400, "/" * 900, "a " * 400]
    hostile += ["x" * 100_000 + str(number) for number in range(50)]
    found = repair(hostile, expressions(), None)
    assert {each.label for each in found} <= {None, "happy"}
    assert all(len(each.detail) < 100 for each in found)


def test_many_labels_against_many_names() -> None:
    """10,000 against 2,000: what was spelt wrong comes back, if it lacks no first letter."""
    draw = random.Random(3)
    known = ["".join(draw.choices("bdfglmnoprtuvw", k=12)) for _ in range(2_000)]
    labels = {name[:at] + "x" + name[at:]: name for name in known for at in range(1, 11, 2)}
    found = repair(list(labels), names(*known), None)
    assert len(labels) == 10_000
    assert [each.label for each in found] == list(labels.values())


# Rows


def rows(*labels: str | None, **columns: list[object]) -> pl.DataFrame:
    """Return rows with these labels, numbered from 10."""
    numbers = pl.Series(range(10, 10 + len(labels)), dtype=pl.UInt32)
    return pl.DataFrame({"n": numbers, "label": pl.Series(labels, dtype=pl.String), **columns})


def judged_of(frame: pl.DataFrame) -> "tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]":
    """Judge the rows with the expressions."""
    labels = frame["label"].unique().to_list()
    judged = judge(frame, dict(zip(labels, repair(labels, expressions(), None), strict=True)))
    return judged.rows, judged.changes, judged.rejects


def test_rows_get_their_labels() -> None:
    """In their order; what changed and what is held back is written down, and nothing vanishes."""
    given = rows("happy", "JOY", "angry/disgust", None, "suprise", rule=[None, "a", "b", "c", None])
    kept, changes, rejects = judged_of(given)
    assert kept.rows() == [(10, "happy", None), (11, "happy", "a"), (14, "surprise", None)]
    assert kept.schema == given.schema
    assert changes.schema == pl.Schema(CHANGES)
    assert changes.rows() == [
        (11, "label", "JOY", "happy", "label.alias", 1.0),
        (14, "label", "suprise", "surprise", "label.spelling", pytest.approx(0.983)),
    ]
    assert rejects.schema == pl.Schema(REJECTS)
    assert rejects.rows() == [
        (12, "label.needs_review", "label", "angry/disgust", ["angry", "disgust"], "several labels in one"),
        (13, "label.needs_review", "label", None, [], "no label is told"),
    ]


def test_rows_that_are_no_label_pass() -> None:
    """They say that a picture is there; a row without a word on it is a label."""
    kept, changes, rejects = judged_of(rows(None, None, "sad", None, is_label=[False, True, True, None]))
    assert kept["n"].to_list() == [10, 12]
    assert rejects["n"].to_list() == [11, 13]
    assert changes.is_empty()


def test_no_rows_are_judged() -> None:
    """With the columns that they have."""
    kept, changes, rejects = judged_of(rows())
    assert kept.columns == ["n", "label"]
    assert changes.is_empty()
    assert rejects.is_empty()


# Names where none are declared


@pytest.mark.parametrize(
    ("counts", "found"),
    [
        ({"dog": 40, "cat": 60}, ("cat", "dog")),  # the most frequent first
        ({"cat": 600, "dog": 394, "gnu": 6}, ("cat", "dog")),  # under a hundredth
        ({"cat": 600, "dog": 390, "gnu": 10}, ("cat", "dog", "gnu")),
        ({"Cat": 50, "cat": 30, "CAT ": 30}, ("Cat",)),  # spellings count together, the commonest is the name
        ({"cat": 900, "catt": 20, "dog": 80}, ("cat", "dog")),  # a misspelling is no name
        ({"cat": 100, "catt": 20, "dog": 80}, ("cat", "dog", "catt")),  # unless it is too frequent for one
        ({"cat": 900, "cats": 20}, ("cat",)),
        ({"ball": 900, "bull": 20}, ("ball", "bull")),  # a word of its own
        ({"angry": 50, "disgust": 40, "angry/disgust": 10}, ("angry", "disgust")),  # several are none
        ({"salt and pepper": 50, "sugar": 50}, ("salt and pepper", "sugar")),
        ({"": 90, " ": 5, "cat": 5}, ("cat",)),
        ({"3": 50, "4": 50}, ("3", "4")),
        ({}, ()),
    ],
)
def test_what_many_rows_carry_is_a_name(counts: dict[str, int], found: tuple[str, ...]) -> None:
    """But not a slip of another name, or several in one."""
    assert frequent(counts) == found
    assert frequent(dict(reversed(counts.items()))) == found


@given(st.dictionaries(st.text(max_size=4), st.integers(1, 1000), max_size=20))
@settings(deadline=None)
def test_a_frequent_name_is_a_label(counts: dict[str, int]) -> None:
    """As it stands there; no two of them are alike in form."""
    found = frequent(counts)
    assert set(found) <= set(counts)
    assert max(Counter(map(fold, found)).values(), default=1) == 1
