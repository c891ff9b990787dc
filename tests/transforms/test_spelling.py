"""Of many names, a text is a misspelling of exactly one, or of none."""

import pytest

from transforms.spelling import spellings


def meant(text: str, *names: str) -> str | None:
    """Return the name that the text is a misspelling of."""
    found = spellings([text], {name: name for name in names}).get(text)
    return found.name if found else None


@pytest.mark.parametrize(
    ("text", "names", "name"),
    [
        ("catt", ("cat", "dog", "person"), "cat"),
        ("persn", ("cat", "dog", "person"), "person"),
        ("bat", ("cat", "dog", "person"), None),  # a word of its own
        ("trafic light", ("traffic light", "street light"), "traffic light"),
        ("trafic lihgt", ("traffic light", "street light"), "traffic light"),
        ("traficlight", ("traffic light", "street light"), "traffic light"),
        ("sun glases", ("sunglasses", "wine glass"), "sunglasses"),
        ("trafclight", ("traffic light", "street light"), None),
        ("trafic lihgt sgin", ("traffic light sign",), None),
        ("teabaag", ("tea bag",), None),  # too short to tell where its words end
        ("base ball bar", ("baseball bat",), None),
        ("wheelchair", ("wheel chairs",), None),
        ("gizmoz box lad", ("gizmozbox lid",), None),
        ("gizmoz box", ("gizmozbbox",), "gizmozbbox"),
        ("street light", ("traffic light",), None),
        ("basebal base", ("baseball bat",), None),
        ("basebal bat", ("baseball bat", "baseball base"), "baseball bat"),
        ("tea bag", ("beanbag",), None),
        ("beanbag", ("tea bag",), None),
        ("mane", ("mango", "mandarin"), None),
        ("booat", ("boat", "boot"), "boat"),
        ("batlle", ("battle", "bottle"), "battle"),
        ("bxttle", ("battle", "bottle"), None),  # as near to one as to the other
        ("person2", ("person1",), None),  # digits are never slips
        ("happ1", ("happy",), None),
        ("happy😊", ("happy",), None),
        ("wutend", ("wütend", "traurig"), "wütend"),
        ("uberaschung", ("überraschung",), "überraschung"),
        ("kante", ("kanne",), None),  # a word of another language
        ("kannne", ("kanne",), "kanne"),
        ("rose", ("rosé",), None),
        ("ad", ("add",), None),
    ],
)
def test_the_one_that_is_meant(text: str, names: tuple[str, ...], name: str | None) -> None:
    """Word by word, and only where no other name is about as near."""
    assert meant(text, *names) == name


def test_a_word_of_one_name_is_no_misspelling_of_anothers() -> None:
    """Even if no word list has it."""
    assert meant("gizmoo cable", "gizmos cable", "red lamp") == "gizmos cable"
    assert meant("gizmoo cable", "gizmos cable", "gizmoo lamp") is None


def test_two_forms_of_one_name_do_not_stand_against_each_other() -> None:
    """Only those of two names do."""
    found = spellings(["angerr"], {"anger": "angry", "angry": "angry"})["angerr"]
    assert (found.name, found.cost, found.letters) == ("angry", 0.5, 5)
    assert spellings(["angern"], {"anger": "angry", "angers": "angry"})["angern"].name == "angry"
    assert spellings(["angern"], {"anger": "angry", "angers": "rage"})["angern"].name is None


def test_what_is_near_is_told_nearest_first() -> None:
    """Also where it is too far, or could be several; at most five."""
    assert spellings(["bool"], {name: name for name in ("boot", "book", "cool", "elephant")})["bool"].nearest == (
        "book",
        "boot",
        "cool",
    )
    names = [f"boo{letter}" for letter in "abcdefgh"]
    assert len(spellings(["boo"], {name: name for name in names})["boo"].nearest) == 5
    assert spellings(["elephant"], {"cat": "cat"}) == {}


def test_nothing_is_near_nothing() -> None:
    """No texts, or no names."""
    assert spellings([], {"cat": "cat"}) == spellings(["cat"], {}) == {}
