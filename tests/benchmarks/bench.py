"""Measure the pipeline against the bare loop, OpenCV's own detector and the floor: `python -m tests.benchmarks.bench`.

All contestants see the same files in the same run, in turns, on all cores, with start-up excluded. The pipeline's time
is everything from the listing to the report's page: planning, Beam, validation, Parquet, the commit and the summary.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipelines.dataset import Dataset
from pipelines.export import export_all
from schemas.errors import UsageError
from tests.benchmarks import chart, floor, processes, report, stopwatch, tables
from tests.benchmarks.contestants import CORES, run_here
from tests.benchmarks.kinds import FULL, MAKERS, QUICK, Kind, Size, say
from tests.benchmarks.report import PACKAGES, ROOT, Table, spread
from tests.benchmarks.tables import Floors
from transforms.models.record import load_record

WHOLE_PROCESSES = {"memory": processes.memory, "start": processes.start}
NAMES = (*MAKERS, *WHOLE_PROCESSES)
DEFAULT = tuple(name for name in NAMES if name != "photos")


def speed(names: Sequence[str], size: Size, rounds: int) -> tuple[list[Kind], Floors]:
    """Measure the kinds of input in turns."""
    nets = {stopwatch.DETECTOR_NET: "yunet", stopwatch.CLASSIFIER_NET: "expression8"}
    floors = Floors(floor.Peak(), {row: floor.graph_of(load_record(name)) for row, name in nets.items()})
    kinds = []
    for name in names:
        say(f"{name}: inputs, warm-up")
        kinds.append(MAKERS[name](size))
        kinds[-1].warm_up()
    for number in range(rounds):
        say(f"round {number + 1} of {rounds}")
        floors.peak.lap(size.peaks)
        for kind in kinds:
            kind.turn()
    for kind in kinds:
        say(f"{kind.name}: parts of the pipeline")
        kind.watch()
    return kinds, floors


def exports(kind: Kind, rounds: int) -> Table:
    """Return what the exports cost that a run writes unless told not to; they are not in the pipeline's time."""
    with tempfile.TemporaryDirectory(prefix="labelstream-bench-") as folder:
        out = Path(folder) / "out"
        run_here(kind.files[0].parent, out, kind.options)
        seconds = []
        for _ in range(rounds):
            started = time.perf_counter()
            export_all(Dataset(out), "expression")
            seconds.append(time.perf_counter() - started)
    title = f"Exports of {kind.items} {kind.unit}s (COCO and JSON lines)"
    return Table(title, ("", "seconds: median (range)"), [("all", spread(seconds, 3))])


def measure(names: Sequence[str], size: Size, rounds: int, write: bool) -> None:
    """Measure all that is named; tell it, and with `write` keep it."""
    started = time.monotonic()
    facts = report.machine()
    told: list[Table] = []
    figures: dict[str, Any] = {}
    kinds: list[Kind] = []
    if chosen := [name for name in MAKERS if name in names]:
        kinds, floors = speed(chosen, size, rounds)
        told += [table for kind in kinds for table in tables.of_kind(kind, floors)]
        told += [tables.of_peak(floors.peak), exports(kinds[0], rounds)]
        figures = {kind.name: tables.figures(kind, floors) for kind in kinds} | {"peak": floors.peak.rates}
    for name, measured in WHOLE_PROCESSES.items():
        if name in names:
            more, figures[name] = measured(size)
            told += more
    facts += [
        report.versions(PACKAGES),
        report.command("-m tests.benchmarks.bench"),
        f"rounds: {rounds}; in each, each contestant has one turn on each kind of input",
        "warm-up: each contestant once on a few files; models, Beam and Great Expectations are loaded by then",
        "batches: pipeline up to 64 pictures or 32 MB a batch; detector 1 picture a run, classifier 8 crops a run; "
        f"{CORES} threads, cv2.setNumThreads(1)",
        f"took {(time.monotonic() - started) / 60:.1f} minutes",
    ]
    report.tell("bench", facts, told, write)
    if write:
        report.keep("bench", {"facts": facts, **figures})
        rows, notes = tables.bars(kinds)
        notes.append(f"median of {rounds} rounds in turns, {time.strftime('%Y-%m-%d')}")
        chart.draw(report.RESULTS / "bench.svg", f"Pictures a second on {CORES} cores, no GPU", rows, notes)


def main() -> int:
    """Read the command line; measure; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.bench", description=__doc__.split("\n\n")[0])
    parser.add_argument(
        "--only",
        metavar="NAME,...",
        default=",".join(DEFAULT),
        help="some of %(default)s, photos (default: all but photos, which are real ones where there are any)",
    )
    parser.add_argument("--quick", action="store_true", help="a few of each, to see that it runs; no figures to keep")
    parser.add_argument("--rounds", type=int, metavar="N", help="turns of each contestant (default 3, quick 1)")
    parser.add_argument("--write", action="store_true", help="write results/<date>-bench.md and .json, and bench.svg")
    options = parser.parse_args()
    names = options.only.split(",")
    if unknown := set(names) - set(NAMES):
        parser.error(f"--only {','.join(sorted(unknown))}: expected some of {', '.join(NAMES)}")
    if options.write and (options.quick or not set(DEFAULT) <= set(names)):
        parser.error("--write keeps whole measurements: leave out --quick and --only")
    near = ROOT.parent / "shared" / "models"
    if near.is_dir():
        os.environ.setdefault("LABELSTREAM_MODELS", str(near))
    try:
        measure(names, QUICK if options.quick else FULL, options.rounds or (1 if options.quick else 3), options.write)
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
