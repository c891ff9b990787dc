"""Recipes: any options in a TOML file, so that a run can be repeated. The command line wins.

input = ["clips/", "photos/"]
fps = 5
crops = true

[beam]
direct_num_workers = 2
"""

import argparse
import difflib
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from typing import Any

import tomli_w

from schemas.errors import UsageError
from transforms.places import place
from transforms.storage import printable

OPTION = "--recipe"
_MOST_BYTES = 1 << 20
_BEAM = "beam"
_NOT_OF_A_RECIPE = frozenset({"help", "recipe", "dry-run"})
_ONE_OF = (frozenset({"fps", "keyframes"}),)
"""Options of which one excludes the other: one on the command line takes the place of all of them in the recipe."""


def with_recipe(parser: argparse.ArgumentParser, argv: Sequence[str]) -> list[str]:
    """Return the command line with the recipe that it names put in front of it; raise UsageError for a wrong one."""
    path = _named(argv)
    if path is None:
        return list(argv)
    known = _options(parser)
    given = {name for word in argv if word.startswith("--") and (name := word[2:].split("=")[0]) in known}
    given |= {name for group in _ONE_OF if group & given for name in group}
    words: list[str] = []
    for name, value in _read(path).items():
        option = name.replace("_", "-")
        if name == _BEAM:
            words += _beam_words(path, value, argv)
        elif option not in known:
            near = difflib.get_close_matches(option, known, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise UsageError(f"{OPTION} {printable(path)}: there is no option {name!r}{hint}")
        elif option not in given:
            words += _words(path, known[option], value)
    return [*words, *argv]


def _named(argv: Sequence[str]) -> str | None:
    finder = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    finder.add_argument(OPTION)
    try:
        found: str | None = finder.parse_known_args(list(argv))[0].recipe
    except argparse.ArgumentError as error:
        raise UsageError(str(error)) from None
    return found


def _options(parser: argparse.ArgumentParser) -> dict[str, argparse.Action]:
    """Return the options that a recipe may hold, by their names without dashes."""
    named = {word[2:]: action for action in parser._actions for word in action.option_strings if word.startswith("--")}
    return {name: action for name, action in named.items() if name not in _NOT_OF_A_RECIPE}


def _read(path: str) -> dict[str, Any]:
    try:
        with place(path).open("rb") as stream:
            data = stream.read(_MOST_BYTES + 1)
        if len(data) > _MOST_BYTES:
            raise UsageError(f"{OPTION} {printable(path)}: expected a short text, got over {_MOST_BYTES:,} bytes")
        return tomllib.loads(data.decode("utf-8"))
    except OSError as error:
        raise UsageError(f"{OPTION} {printable(path)}: cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{OPTION} {printable(path)}: expected options in TOML: {error}") from None


def _words(path: str, action: argparse.Action, value: object) -> list[str]:
    option = action.option_strings[-1]
    if isinstance(action, argparse._StoreTrueAction):
        if not isinstance(value, bool):
            raise UsageError(f"{OPTION} {printable(path)}: {option[2:]}: expected true or false, got {value!r}")
        return [option] if value else []
    values = value if isinstance(value, list) and isinstance(action, argparse._AppendAction) else [value]
    return [f"{option}={_text(path, option, each)}" for each in values]


def _text(path: str, option: str, value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise UsageError(f"{OPTION} {printable(path)}: {option[2:]}: expected a text or a number, got {value!r}")
    return str(value)


def _beam_words(path: str, table: object, argv: Sequence[str]) -> list[str]:
    if not isinstance(table, Mapping):
        raise UsageError(f"{OPTION} {printable(path)}: expected a table [{_BEAM}], got {table!r}")
    given = {word.split("=")[0] for word in argv}
    words: list[str] = []
    for name, value in table.items():
        option = f"--{name}"
        if option in given:
            continue
        if value is True:
            words.append(option)
        elif value is not False:
            values = value if isinstance(value, list) else [value]
            words += [f"{option}={_text(path, option, each)}" for each in values]
    return words


def effective(parser: argparse.ArgumentParser, options: argparse.Namespace, beam_arguments: Iterable[str]) -> bytes:
    """Return the options of a run as a recipe that repeats it, defaults included."""
    told: dict[str, Any] = {}
    for name, action in _options(parser).items():
        value = getattr(options, action.dest)
        if value not in (None, False, []):
            told[name] = _plain(value)
    if beam := _beam_table(beam_arguments):
        told[_BEAM] = beam
    return tomli_w.dumps(told).encode()


def _plain(value: object) -> object:
    if isinstance(value, list):
        return [_plain(each) for each in value]
    if isinstance(value, Fraction):
        return str(value)
    return printable(value) if isinstance(value, str) else value


def _beam_table(arguments: Iterable[str]) -> dict[str, Any]:
    """Return Beam's options by name: `--name=value`, `--name value`, and flags."""
    table: dict[str, Any] = {}
    name = ""
    for word in arguments:
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            table[name] = value if equals else True
        elif name:
            table[name] = word
    return table
