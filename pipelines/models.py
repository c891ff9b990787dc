"""The models: `python -m pipelines.models list | pull | check`.

list tells what there is: accuracy, weaknesses, cost, licence, and whether the weights are on this machine.
pull fetches weights that are missing. check loads models and holds them to their golden outputs.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from textwrap import fill
from typing import TYPE_CHECKING

from pipelines import options as shared
from pipelines.logs import configure, run_command
from schemas.errors import RunError, UsageError

if TYPE_CHECKING:
    from transforms.models.record import ModelRecord


def parser() -> shared.Parser:
    """Return the parser of this job."""
    made = shared.Parser(prog="python -m pipelines.models", description=__doc__)
    jobs = made.add_subparsers(dest="job", metavar="list|pull|check", parser_class=argparse.ArgumentParser)
    jobs.required = True
    for job, what in (
        ("list", "tell what models there are"),
        ("pull", "fetch the weights that are not on this machine"),
        ("check", "load models and hold them to their golden outputs"),
    ):
        one = jobs.add_parser(job, help=what, description=what, allow_abbrev=False, exit_on_error=False)
        one.add_argument(
            "names", nargs="*", metavar="NAME", help="names of models, or paths of TOML records (default: all)"
        )
        if job == "check":
            shared.add_shared(one, "device")
    return made


def main(argv: Sequence[str]) -> int:
    """Run the job; return its exit code."""
    configure("text")
    try:
        options = parser().parse_args(argv)
    except argparse.ArgumentError as error:
        raise UsageError(f"{error} (see --help)") from None
    from transforms.models.record import builtin_names

    names = options.names or list(builtin_names())
    match options.job:
        case "list":
            print("\n\n".join(_told(name) for name in names))
            return 0
        case "pull":
            return _each(names, _pull)
        case _:
            return _each(names, lambda name: _check(name, options.device))


def _each(names: Sequence[str], do: Callable[[str], str]) -> int:
    """Do one thing for each model, telling all results; 1 where any of them failed."""
    code = 0
    for name in names:
        try:
            print(f"{name}: {do(name)}")
        except (UsageError, RunError) as error:
            print(f"{name}: {error}", file=sys.stderr)
            code = 1
    return code


def _told(name: str) -> str:
    from transforms.models.record import load_record

    record = load_record(name)
    lines = [f"{record.name} ({record.kind}): {record.title}"]
    if record.labels:
        lines.append(f"  labels: {', '.join(record.labels)}")
    if record.members:
        lines.append(f"  members: {', '.join(member.name for member in record.members)}")
    texts = (f"{what}: {getattr(record, what)}" for what in ("accuracy", "weaknesses", "cost"))
    lines += [fill(text, 110, initial_indent="  ", subsequent_indent="    ") for text in texts]
    lines += [f"  weights: {_weights_told(part)}" for part in record.parts]
    return "\n".join(lines)


def _weights_told(record: "ModelRecord") -> str:
    from transforms.models.weights import WeightsMissing, find

    assert record.weights is not None  # a part is what has weights
    try:
        where = f"at {find(record)}"
    except WeightsMissing:
        where = "not on this machine (see pull)"
    return f"{record.weights.file}, sha256 {record.weights.sha256[:12]}, licence {record.weights.licence}, {where}"


def _pull(name: str) -> str:
    from transforms.models.record import load_record
    from transforms.models.weights import pull

    places = [str(pull(part)) for part in load_record(name).parts]
    return f"at {', '.join(places)}" if places else "has no weights"


def _check(name: str, device: str) -> str:
    from transforms.models.record import load_record
    from transforms.models.registry import shared_classifier, shared_detector, shared_landmarker
    from transforms.models.runtime import resolve_device

    record = load_record(name)
    where = resolve_device(device)
    match record.kind:
        case "detector":
            shared_detector(name, where)
        case "classifier":
            shared_classifier(name, where)
        case _:
            shared_landmarker(name, where)
    if record.golden is None and (not record.members or any(member.golden is None for member in record.members)):
        return "loads; its record names no golden outputs, so its preprocessing was not checked"
    return "loads, and gives its golden outputs"


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:]))
