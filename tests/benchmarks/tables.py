"""What was measured of a kind of input, told in tables, in plain values, and in bars."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import onnx

from tests.benchmarks import floor, stopwatch
from tests.benchmarks.chart import Bar
from tests.benchmarks.contestants import CORES, Contestant
from tests.benchmarks.kinds import OWN_SIZE, SMALL, Kind
from tests.benchmarks.report import Table, percentiles, spread
from tests.benchmarks.stages import LIBRARY, STEPS

LEAST_OF_BARE = 0.85
LEAST_OF_OPENCV = 1.5

SIZES = {"vga": "640x480", "hd": "1920x1080", "video": "1080p h264", "crops": "48x48 crops", "photos": "640..1920 px"}

_ONE_BY_ONE = ("decode", "detect", "align")
"""The steps that take one item at a time."""


@dataclass(frozen=True)
class Floors:
    """What the floors are worked out from: the peak, and the graph that is run in each row of the parts."""

    peak: floor.Peak
    graphs: dict[str, onnx.ModelProto]

    def products(self, kind: Kind) -> dict[str, float]:
        """Return the nets' multiply-adds an item, by row."""
        watched = kind.bare_watched
        given = {row: watched.inputs_of(row) for row in self.graphs}
        return {
            row: floor.multiply_adds_of(self.graphs[row], shapes) / watched.items
            for row, shapes in given.items()
            if shapes
        }

    def ms(self, kind: Kind) -> dict[str, float]:
        """Return the floor's milliseconds an item, by the row of the parts that stands on it."""
        nets = {row: 1000 * products / self.peak.best for row, products in self.products(kind).items()}
        return {stopwatch.DECODE: kind.stages.cpu_ms(LIBRARY), **nets}


def of_kind(kind: Kind, floors: Floors) -> list[Table]:
    """Return all tables of one kind of input."""
    ratios = Table(
        f"{kind.name}: ratios",
        ("what", "of medians", "by round: median (range)", "of CPU time", "target"),
        _ratios(kind),
    )
    return [_speed(kind), ratios, _latency(kind), _steps(kind), _parts(kind, floors)]


def _speed(kind: Kind) -> Table:
    few = [each for each in kind.contestants if each.items < kind.items]
    return Table(
        f"{kind.name}: speed on all cores",
        ("contestant", f"{kind.unit}s/s: median (range)", f"CPU ms/{kind.unit}", "cores busy", f"faces/{kind.unit}"),
        [
            (
                each.name,
                spread(each.rates),
                spread(each.cpu_ms, 2),
                spread(each.busy, 2),
                f"{each.faces / each.items:.2f}" if each.faces else "",
            )
            for each in kind.contestants
        ],
        [
            kind.told,
            *([f"FaceDetectorYN: {few[0].items} of them"] if few else []),
            "where fewer cores were busy than there are, others used the machine, or work waited",
            f"what every run costs: one over a single {kind.unit}, all loaded, takes {spread(kind.least_seconds, 2)} s",
        ],
    )


def _ratios(kind: Kind) -> list[tuple[str, ...]]:
    whole, bare, *others = kind.contestants
    theirs = [each for each in others if each.name in (OWN_SIZE, SMALL)]
    return [
        _ratio(whole, bare, LEAST_OF_BARE),
        *_steady(kind),
        *(_ratio(whole, each, LEAST_OF_OPENCV if each.name == OWN_SIZE else None) for each in theirs),
        *(_ratio(bare, each, None) for each in theirs),
    ]


def _ratio(one: Contestant, other: Contestant, target: float | None) -> tuple[str, ...]:
    by_round = [a / b for a, b in zip(one.rates, other.rates, strict=True)]
    names = f"{one.name.split(' (')[0]} / {other.name.split(' (')[0]}"
    by_cpu = statistics.median(other.cpu_ms) / statistics.median(one.cpu_ms)
    wanted = "" if target is None else f">= {target}"
    return names, f"{one.rate / other.rate:.2f}", spread(by_round, 2), f"{by_cpu:.2f}", wanted


def _steady(kind: Kind) -> list[tuple[str, ...]]:
    """Compare the pipeline without what a run over one item takes, as a much longer run would be, to the bare loop.

    Empty where that is most of the run: then nothing can be told of a longer one.
    """
    whole, bare = kind.contestants[:2]
    seconds = [kind.items / rate - least for rate, least in zip(whole.rates, kind.least_seconds, strict=True)]
    if min(seconds) < max(kind.least_seconds):
        return []
    rates = [(kind.items - 1) / each for each in seconds]
    by_round = [rate / other for rate, other in zip(rates, bare.rates, strict=True)]
    name = f"pipeline beyond its first {kind.unit} / bare loop"
    return [(name, f"{statistics.median(rates) / bare.rate:.2f}", spread(by_round, 2), "", "")]


def _latency(kind: Kind) -> Table:
    rows = [(name, *percentiles(ms)) for name, ms in _bare_ms(kind).items()]
    notes = [f"{len(kind.alone_seconds)} and {len(kind.bare.seconds)} {kind.unit}s, from the bytes to the labels"]
    return Table(f"{kind.name}: one {kind.unit} in the bare loop, ms", ("", "p50", "p90", "p99"), rows, notes)


def _bare_ms(kind: Kind) -> dict[str, list[float]]:
    told = {"one thread": kind.alone_seconds, "all cores busy": kind.bare.seconds}
    return {name: [1000 * each for each in seconds] for name, seconds in told.items()}


def _steps(kind: Kind) -> Table:
    stages = kind.stages
    together = [sum(laps) for laps in zip(*(stages.wall_ms(step) for step in STEPS), strict=True)]
    whole = statistics.median(together)
    rows = []
    for step in STEPS:
        wall = stages.wall_ms(step)
        share = f"{100 * statistics.median(wall) / whole:.1f} %"
        each = percentiles(stages.each_ms(step), (50, 99), 2) if step in _ONE_BY_ONE else ("", "")
        rows.append((step, spread(wall, 3), f"{stages.cpu_ms(step):.3f}", share, *each))
    cpu = sum(stages.cpu_ms(step) for step in STEPS)
    rows.append(("together", spread(together, 3), f"{cpu:.3f}", "100 %", "", ""))
    rows.append((LIBRARY, spread(stages.wall_ms(LIBRARY), 3), f"{stages.cpu_ms(LIBRARY):.3f}", "", "", ""))
    return Table(
        f"{kind.name}: step by step, one thread",
        ("step", f"ms/{kind.unit}: median (range)", "CPU ms", "share", "p50 ms", "p99 ms"),
        rows,
        [
            f"{stages.items} {kind.unit}s with {stages.faces} faces, batch by batch through each step's own function, "
            f"then as one shard; {1000 / whole:.0f} {kind.unit}s/s on one core",
            "decode: with reading, header and hash; rows, clean, validate and write: from probabilities to the shard's "
            "Parquet files, with a cost for each shard, which in a run is up to 50,000 items",
        ],
    )


def _parts(kind: Kind, floors: Floors) -> Table:
    under, bare, whole = floors.ms(kind), kind.bare_watched.ms(), kind.whole_watched.ms()
    names = [row for row in (*stopwatch.PARTS, stopwatch.REST) if row in bare or row in whole]
    sums = [sum(told.values()) for told in (under, bare, whole)]
    gap = sums[1] - sums[0]
    rows = []
    for row in names:
        over = bare.get(row, 0.0) - under.get(row, 0.0)
        told = (f"{over:.3f}", f"{100 * over / gap:.0f} %") if row in bare else ("", "")
        rows.append((row, _ms(under.get(row)), _ms(bare.get(row)), *told, _ms(whole.get(row))))
    rows.append(("together", _ms(sums[0]), _ms(sums[1]), f"{gap:.3f}", "100 %", _ms(sums[2])))
    idle = 1000 * CORES * kind.whole_watched.wall / kind.items - sums[2]
    rows.append(("cores that waited, or worked for others", "", "", "", "", _ms(idle)))
    nets = ", ".join(f"{row} {each / 1e6:.0f} million" for row, each in floors.products(kind).items())
    return Table(
        f"{kind.name}: where the processor's time goes, CPU ms/{kind.unit}",
        ("part", "floor", "bare loop, one thread", "over the floor", "share", "pipeline, all cores"),
        rows,
        [
            f"the floor is {100 * sums[0] / sums[1]:.0f} % of the bare loop's time in one thread, "
            f"{100 * sums[0] / sums[2]:.0f} % of the pipeline's",
            f"floor: decoding by the library alone, and the multiply-adds of the nets ({nets} a {kind.unit}) at "
            f"{floors.peak.best / 1e9:.1f} thousand million a second, the most that one thread of this machine did",
            "each part without the parts inside it; all else: of the bare loop reading and Python, of the pipeline "
            "Beam's workers, the threads of libraries, and Python; the pipeline's was measured in a turn of its own",
        ],
    )


def _ms(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def of_peak(peak: floor.Peak) -> Table:
    """Return how fast one thread multiplies and adds."""
    return Table(
        "Peak of one thread, float32",
        ("what", "thousand million multiply-adds/s: median (range)"),
        [(name, spread([rate / 1e9 for rate in rates])) for name, rates in peak.rates.items()],
        [
            f"matrices of {floor.SIDE}x{floor.SIDE}; {floor.CHANNELS} to {floor.CHANNELS} channels of "
            f"{floor.PLANE}x{floor.PLANE}; by the processor's time, the best of several runs in each round"
        ],
    )


def figures(kind: Kind, floors: Floors) -> dict[str, Any]:
    """Return all figures of one kind of input as plain values."""
    return {
        "told": kind.told,
        "items": kind.items,
        "contestants": [
            {
                "name": each.name,
                "items": each.items,
                "faces": each.faces,
                "rates": each.rates,
                "cpu_ms": each.cpu_ms,
                "cores_busy": each.busy,
            }
            for each in kind.contestants
        ],
        "ratios": _ratios(kind),
        "run_of_one_seconds": kind.least_seconds,
        "bare_ms": {
            name: dict(zip(("p50", "p90", "p99"), percentiles(ms, digits=3), strict=True))
            for name, ms in _bare_ms(kind).items()
        },
        "steps_wall_ms": {step: kind.stages.wall_ms(step) for step in (*STEPS, LIBRARY)},
        "steps_cpu_ms": {step: kind.stages.cpu_ms(step) for step in (*STEPS, LIBRARY)},
        "multiply_adds": floors.products(kind),
        "parts_cpu_ms": {
            "floor": floors.ms(kind),
            "bare loop, one thread": kind.bare_watched.ms(),
            "pipeline": kind.whole_watched.ms(),
        },
    }


def bars(kinds: Sequence[Kind]) -> tuple[list[Bar], list[str]]:
    """Return the rates as bars; those of crops, many times as fast, as a note."""
    rows, notes = [], ["FaceDetectorYN only detects"]
    for kind in kinds:
        told = [(each.name.split(" (")[0], each.rate) for each in kind.contestants[:-1]]
        if kind.unit == "crop":
            notes.append(f"{SIZES[kind.name]}: " + ", ".join(f"{name} {rate:.0f}/s" for name, rate in told))
        else:
            rows += [Bar(f"{SIZES[kind.name]}: {name}", rate, name == "pipeline") for name, rate in told]
    return rows, notes
