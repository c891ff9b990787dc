"""The one table of options that jobs share, and how a command line is read.

What is left over after our own options goes to Beam; what Beam does not know either is an error, because Beam itself
would drop it with a warning.
"""

import argparse
import difflib
from collections.abc import Callable, Sequence
from datetime import datetime
from fractions import Fraction
from typing import Any

from schemas.errors import UsageError

DEFAULT_OUTPUT = "./labelstream-out"


class RawHelp(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Help that shows defaults where there are any, and keeps the lines of examples."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        if action.default in (None, False, argparse.SUPPRESS) or action.default == []:
            return action.help
        return super()._get_help_string(action)


class Parser(argparse.ArgumentParser):
    """An argument parser that takes no abbreviations, shows defaults, and raises instead of exiting."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(allow_abbrev=False, formatter_class=RawHelp, **kwargs)

    def error(self, message: str) -> Any:
        """Raise `UsageError`: one message, one exit code, whoever found the mistake."""
        raise UsageError(f"{message} (see --help)")


def whole(least: int, most: int = 2**62) -> Callable[[str], int]:
    """Return a type for argparse: a whole number in `least`..`most`; k, m and g multiply by 1000s."""

    def read(text: str) -> int:
        factor = {"k": 10**3, "m": 10**6, "g": 10**9}.get(text[-1:].lower(), 1)
        try:
            number = int(text if factor == 1 else text[:-1]) * factor
        except ValueError:
            raise argparse.ArgumentTypeError(f"expected a whole number, got {text!r}") from None
        if not least <= number <= most:
            above = "" if most == 2**62 else f" and at most {most}"
            raise argparse.ArgumentTypeError(f"expected a whole number of at least {least}{above}, got {text}")
        return number

    return read


def share(text: str) -> float:
    """Read a number in 0..1, for argparse."""
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0.0 <= number <= 1.0:
        raise argparse.ArgumentTypeError(f"expected a number from 0 to 1, got {text!r}")
    return number


def fps(text: str) -> Fraction:
    """Read frames a second, for argparse."""
    from transforms.sampling import read_fps

    try:
        return read_fps(text)
    except UsageError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def seconds(text: str) -> float:
    """Read a time span in seconds, above 0, for argparse."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number <= 86_400:
        raise argparse.ArgumentTypeError(f"expected seconds, above 0 and at most a day, got {text!r}")
    return number


def beginning(text: str) -> str | int:
    """Read where a stream begins, for argparse: earliest, latest, or a time, which is returned in ms since 1970."""
    if text in ("earliest", "latest"):
        return text
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"expected earliest, latest or a time as 2026-01-31T12:00:00Z, got {text!r}"
        ) from None
    return round((moment if moment.tzinfo else moment.astimezone()).timestamp() * 1000)


def detect_size(text: str) -> int | None:
    """Read `--detect-size`: a long side in pixels, or `full`."""
    return None if text == "full" else whole(32, 65_535)(text)


_SHARED: dict[str, dict[str, Any]] = {
    "input": {
        "action": "append",
        "default": [],
        "metavar": "WHERE",
        "help": "a folder (read recursively), a file, a glob in quotes, or @list.txt with one of these a line; "
        "repeatable. Without it the built-in samples are labelled",
    },
    "output": {
        "default": DEFAULT_OUTPUT,
        "metavar": "FOLDER",
        "help": "the data set: a new folder, or one made before",
    },
    "runner": {
        "default": "DirectRunner",
        "metavar": "NAME",
        "help": "DirectRunner runs on this machine; any other name goes to Beam, with Beam's own options beside it",
    },
    "device": {
        "default": "auto",
        "choices": ["auto", "cpu", "cuda", "tensorrt"],
        "help": "where the models run; a device that is named and missing is an error, auto takes what is there",
    },
    "epoch-items": {
        "type": whole(1, 1_000_000),
        "default": 2000,
        "metavar": "N",
        "help": "items planned, run and committed together: what a killed run must do again at most",
    },
    "max-bytes": {
        "type": whole(1),
        "default": 256 * 2**20,
        "metavar": "N",
        "help": "largest picture file that is read, in bytes; a larger one is a failed item. Videos are read in parts",
    },
    "max-pixels": {
        "type": whole(1),
        "default": 64_000_000,
        "metavar": "N",
        "help": "largest picture or frame that is decoded, in pixels, told from its header; a larger one fails",
    },
    "max-failure-rate": {
        "type": share,
        "metavar": "SHARE",
        "help": "exit with 1 when more than this share (0..1) of a run's new items failed",
    },
    "log-format": {"default": "text", "choices": ["text", "json"], "help": "how lines on stderr are written"},
    "no-export": {"action": "store_true", "help": "do not rebuild exports/ at the end of the run"},
}


def add_shared(parser: argparse._ActionsContainer, *names: str) -> None:
    """Add the shared options `names`, each spelt and explained alike in every job."""
    for name in names:
        parser.add_argument(f"--{name}", **_SHARED[name])


def read(parser: argparse.ArgumentParser, argv: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """Return our own options and Beam's; anything that neither knows raises `UsageError` with the nearest name."""
    options, left = parser.parse_known_args(argv)
    if left:
        _refuse_unknown(parser, left)
    return options, left


def _refuse_unknown(parser: argparse.ArgumentParser, left: Sequence[str]) -> None:
    stray = [word for word in left if not word.startswith("-")]
    if not left[0].startswith("-"):
        raise UsageError(f"unexpected argument {stray[0]!r}: inputs are given as --input {stray[0]} (see --help)")
    from apache_beam.options.pipeline_options import PipelineOptions  # costs a second: only where something is left

    beams = argparse.ArgumentParser(allow_abbrev=False, add_help=False, exit_on_error=False)
    for group in PipelineOptions.__subclasses__():
        try:
            group._add_argparse_args(beams)
        except argparse.ArgumentError:
            continue  # two groups of Beam's own claim one name; the first stands
    try:
        _, unknown = beams.parse_known_args(list(left))
    except argparse.ArgumentError as error:
        raise UsageError(f"{error} (an option of Beam)") from None
    if unknown:
        name = unknown[0].split("=")[0]
        ours = [option for action in parser._actions for option in action.option_strings]
        near = difflib.get_close_matches(name, ours, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise UsageError(f"unknown option {name}{hint} (see --help)")
