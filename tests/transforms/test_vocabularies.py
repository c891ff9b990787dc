"""A vocabulary says which labels may stand, and what else they are called."""

import os
from pathlib import Path

import pytest

from schemas.errors import UsageError
from schemas.vocabulary import EXPRESSIONS
from transforms import vocabularies as module
from transforms.vocabularies import Vocabulary, expressions, from_names, read_vocabulary


def read(folder: Path, text: str | bytes) -> Vocabulary:
    """Write a file and read it."""
    path = folder / "labels.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_vocabulary(str(path))


def test_the_expressions_are_the_canonical_ones() -> None:
    """In their order, with aliases in a dozen languages."""
    found = expressions()
    assert found.names == EXPRESSIONS
    assert {found.aliases[word] for word in ("happiness", "joy", "高兴", "glücklich", "mutlu", "행복")} == {"happy"}
    assert {found.aliases[word] for word in ("anger", "wütend", "colère", "ira", "怒り", "злость")} == {"angry"}


def test_a_file_has_names_and_aliases(tmp_path: Path) -> None:
    """In its order; an alias is looked up by its form."""
    found = read(
        tmp_path,
        '[[labels]]\nname = "Traffic light"\naliases = ["Stop_Light", "traffic LIGHT"]\n[[labels]]\nname = "cat"\n',
    )
    assert found == Vocabulary(("Traffic light", "cat"), {"stop light": "Traffic light"})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"expected at least one table \[\[labels\]\] with a name"),
        ("labels = 3", r"expected at least one table"),
        ("labels = []", r"expected at least one table"),
        ('labels = ["cat"]', r"label 1: expected a table \[\[labels\]\] with a name"),
        ('[[label]]\nname = "cat"', r"unknown key 'label': expected labels"),
        ('[[labels]]\nname = "cat"\nalias = ["kitty"]', r"label 1: unknown key 'alias': expected name and aliases"),
        ('[[labels]]\naliases = ["cat"]', r"label 1: name: expected a text"),
        ("[[labels]]\nname = 3", r"label 1: name: expected a text"),
        ('[[labels]]\nname = " "', r"label 1: name: expected a text"),
        ('[[labels]]\nname = " cat"', r"label 1: name: expected a text"),
        ('[[labels]]\nname = "c\\u0007at"', r"label 1: name: .*no control characters"),
        (f'[[labels]]\nname = "{"x" * 201}"', r"label 1: name: expected at most 200 characters"),
        ('[[labels]]\nname = "cat"\n[[labels]]\nname = "cat"', r"label 2: 'cat' is there already, as 'cat'"),
        (
            '[[labels]]\nname = "hot_dog"\n[[labels]]\nname = "Hot dog"',
            r"label 2: 'Hot dog' is there already, as 'hot_",
        ),
        ('[[labels]]\nname = "cat"\naliases = "kitty"', r"aliases of 'cat': expected a list of texts"),
        ('[[labels]]\nname = "cat"\naliases = [3]', r"aliases of 'cat': expected a text"),
        (
            '[[labels]]\nname = "cat"\naliases = ["pet"]\n[[labels]]\nname = "dog"\naliases = ["Pet"]',
            r"'Pet' is an alias of 'dog', but stands for 'cat' already",
        ),
        (
            '[[labels]]\nname = "cat"\naliases = ["DOG"]\n[[labels]]\nname = "dog"',
            r"'DOG' is an alias of 'cat', but stands for 'dog' already",
        ),
        ("[[labels", r"expected TOML: "),
        ("a = " + "[" * 100_000, r"expected TOML: "),
        (b"\xff", r"expected TOML: "),
        ("a = " + "9" * 10_000, r"expected TOML: "),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, text: str | bytes, message: str) -> None:
    """With the label's number or its name."""
    with pytest.raises(UsageError, match=rf"^--vocabulary .*labels\.toml: {message}"):
        read(tmp_path, text)


def test_a_file_that_is_none_or_too_large_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before it is read."""
    with pytest.raises(UsageError, match=r"^--vocabulary .*nothing\.toml is not there"):
        read_vocabulary(str(tmp_path / "nothing.toml"))
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UsageError, match=r"^--vocabulary .*pipe is .*, not a file"):
        read_vocabulary(str(tmp_path / "pipe"))
    monkeypatch.setattr(module, "MOST_FILE_BYTES", 10)
    with pytest.raises(UsageError, match=r"labels\.toml: expected at most 10 bytes$"):
        read(tmp_path, '[[labels]]\nname = "cat"')


def test_labels_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that one file cannot take all memory."""
    monkeypatch.setattr(module, "MOST_NAMES", 1)
    with pytest.raises(UsageError, match="expected at most 1 labels, got 2"):
        read(tmp_path, '[[labels]]\nname = "cat"\n[[labels]]\nname = "dog"')


def test_names_of_a_source_may_be_spelt_twice() -> None:
    """The first spelling stands for both; what has no text is no name."""
    assert from_names(["Cat", "dog", "cat ", "", " ", "CAT"]).names == ("Cat", "dog")
