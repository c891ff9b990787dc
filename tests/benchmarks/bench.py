"""Measure the pipeline against the bare loop and OpenCV's own detector: `python -m tests.benchmarks.bench`.

All contestants see the same files in the same run, in turns, on all cores, with start-up excluded. The pipeline's time
is everything from the listing to the last manifest and the summary: planning, Beam, validation, Parquet.
"""

import argparse
import contextlib
import io
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pipelines import annotate
from pipelines.dataset import Dataset
from pipelines.engine import Engine
from pipelines.export import export_all
from schemas.records import Faces
from tests.benchmarks import inputs, report
from tests.benchmarks.report import ROOT, Table, spread
from transforms.decode import reduce_to
from transforms.models import weights
from transforms.models.record import load_record
from transforms.pictures import decode

CORES = os.cpu_count() or 1
DETECT_SIZE = 640
PACKAGES = (
    "apache-beam",
    "great-expectations",
    "onnxruntime-gpu",
    "onnxruntime",
    "opencv-python-headless",
    "numpy",
    "polars",
    "pyarrow",
    "pandas",
)

MOST_GROWTH_MB = 300
MOST_START_S = 8.0
MOST_HELP_S = 1.0
LEAST_OF_BARE = 0.85
LEAST_OF_OPENCV = 1.5


@dataclass
class Contestant:
    """One way to do the work; `work` does it for all files and returns the faces found."""

    name: str
    work: Callable[[Sequence[Path]], int]
    rates: list[float] = field(default_factory=list)
    cpu_ms: list[float] = field(default_factory=list)
    busy: list[float] = field(default_factory=list)
    faces: int = 0

    def turn(self, files: Sequence[Path]) -> None:
        """Do the work once; keep how many pictures a second it was, and what it cost the processor.

        On a machine that others use too, the processor's own seconds are the steadier figure.
        """
        cpu, started = time.process_time(), time.perf_counter()
        self.faces = self.work(files)
        seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
        self.rates.append(len(files) / seconds)
        self.cpu_ms.append(1000 * cpu / len(files))
        self.busy.append(cpu / seconds)

    @property
    def rate(self) -> float:
        """Pictures a second: the median of all turns."""
        return statistics.median(self.rates)


def spread_over_cores(one: Callable[[Path], int]) -> Callable[[Sequence[Path]], int]:
    """Return a contestant's work: `one` for each file, in as many threads as there are cores."""

    def work(files: Sequence[Path]) -> int:
        cv2.setNumThreads(1)
        with ThreadPoolExecutor(CORES) as pool:
            return sum(pool.map(one, files))

    return work


class Pipeline:
    """`pipelines.annotate` in this process, each time into a fresh data set."""

    def __init__(self, options: Sequence[str]) -> None:
        self.options = options
        self.told: dict[str, Any] = {}
        self.export_seconds: list[float] = []

    def __call__(self, files: Sequence[Path]) -> int:
        with tempfile.TemporaryDirectory(prefix="labelstream-bench-") as folder:
            told = run_here(files, Path(folder) / "out", self.options)
        if told["items"] != len(files) or told["outcomes"]["failed"]:
            raise SystemExit(f"the pipeline did not label all {len(files)} pictures: {told}")
        self.told = told
        return int(told["annotations"])


def run_here(files: Sequence[Path], out: Path, options: Sequence[str]) -> dict[str, Any]:
    """Run annotate on `files`, all of one folder; return its summary."""
    named = ["--runner=DirectRunner", "--device=cpu", f"--input={files[0].parent}", f"--output={out}", "--no-export"]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        code = annotate.main([*named, *options])
    if code:
        raise SystemExit(f"pipelines.annotate ended with exit code {code}")
    told: dict[str, Any] = json.loads((out / "report" / "summary.json").read_bytes())
    return told


class BareLoop:
    """`Engine` over files that are decoded as the pipeline decodes them; keeps each picture's seconds."""

    def __init__(self) -> None:
        self.engine = Engine(device="cpu", detect_size=DETECT_SIZE)
        self.seconds: list[float] = []

    def one(self, path: Path) -> int:
        """Label one file; return its faces."""
        started = time.perf_counter()
        (labelled,) = self.engine.annotate([decode(path.read_bytes(), reduce_to=reduce_to(DETECT_SIZE)).rgb])
        self.seconds.append(time.perf_counter() - started)
        return len(labelled.faces)


class OpenCv:
    """`cv2.FaceDetectorYN`, one object a thread, with the pipeline's own weights and threshold."""

    def __init__(self, long_side: int | None) -> None:
        self.long_side = long_side
        self.record = load_record("yunet")
        self.path = str(weights.pull(self.record))
        self.own = threading.local()

    def one(self, path: Path) -> int:
        """Detect the faces of one file; return their number."""
        picture = np.asarray(cv2.imread(str(path)), np.uint8)
        if self.long_side and max(picture.shape) > self.long_side:
            scale = self.long_side / max(picture.shape)
            picture = np.asarray(cv2.resize(picture, None, fx=scale, fy=scale), np.uint8)
        size = (picture.shape[1], picture.shape[0])
        if not hasattr(self.own, "detector"):
            assert self.record.detection is not None
            limits = (self.record.detection.threshold, self.record.detection.nms)
            self.own.detector = cv2.FaceDetectorYN.create(self.path, "", size, *limits)
        self.own.detector.setInputSize(size)
        _, faces = self.own.detector.detect(picture)
        return 0 if faces is None else len(faces)


def decode_one(path: Path) -> int:
    """Read and decode one file; no faces."""
    decode(path.read_bytes(), reduce_to=reduce_to(DETECT_SIZE))
    return 0


def speed(options: argparse.Namespace) -> None:
    """Compare the contestants in turns; print the ratios."""
    facts = report.machine()
    told, folder = inputs.variants(options.pictures, DETECT_SIZE, 1920)
    files = sorted(folder.iterdir())
    pipeline, bare = Pipeline([f"--epoch-items={options.epoch_items}"]), BareLoop()
    contestants = [
        Contestant("pipeline (to the last manifest)", pipeline),
        Contestant("bare loop (Engine)", spread_over_cores(bare.one)),
        Contestant("FaceDetectorYN, own size, detects only", spread_over_cores(OpenCv(None).one)),
        Contestant(f"FaceDetectorYN, {DETECT_SIZE} px, detects only", spread_over_cores(OpenCv(DETECT_SIZE).one)),
        Contestant("decode alone", spread_over_cores(decode_one)),
    ]
    _warm_up(contestants, files)
    bare.seconds.clear()
    for turn in range(options.rounds):
        for contestant in contestants:
            contestant.turn(files)
            print(f"round {turn + 1}: {contestant.name}: {contestant.rates[-1]:.1f} pictures/s", file=sys.stderr)
    first, second, own_size, small, _ = contestants
    rows = [
        (each.name, spread(each.rates), spread(each.cpu_ms), spread(each.busy, 2), f"{each.faces / len(files):.2f}")
        for each in contestants
    ]
    ratios = [
        _ratio(first, second, LEAST_OF_BARE),
        _ratio(first, own_size, LEAST_OF_OPENCV),
        _ratio(first, small, None),
        _ratio(second, own_size, None),
    ]
    milliseconds = np.array(bare.seconds) * 1000
    per_picture = [f"{np.percentile(milliseconds, at):.1f}" for at in (50, 90, 99)]
    report.tell(
        "bench",
        [
            *facts,
            report.versions(PACKAGES),
            report.command("-m tests.benchmarks.bench"),
            f"pictures: {told}",
            "warm-up: each contestant once on a few pictures; models, Beam and Great Expectations are loaded by then",
            f"batches: pipeline up to 64 pictures a batch, epochs of {options.epoch_items}; detector 1 picture a run, "
            f"classifier 8 crops a run; {CORES} threads, cv2.setNumThreads(1)",
        ],
        [
            Table(
                f"Speed, {options.rounds} rounds in turns",
                ("contestant", "pictures/s: median (range)", "CPU ms/picture", "cores busy", "faces/picture"),
                rows,
                ["where fewer cores were busy than there are, others used the machine, or work waited"],
            ),
            Table("Ratios", ("what", "of medians", "by round: median (range)", "of CPU time", "target"), ratios),
            Table("Bare loop, one picture, all cores busy", ("", "p50", "p90", "p99"), [("ms", *per_picture)]),
            *_stages(bare.engine, options.rounds),
            _export(files, options.rounds),
        ],
        options.write,
    )


def _warm_up(contestants: Sequence[Contestant], files: Sequence[Path]) -> None:
    with tempfile.TemporaryDirectory(prefix="labelstream-bench-") as name:
        few = []
        for number in range(2 * CORES):
            few.append(Path(name) / f"{number}.jpg")
            few[-1].write_bytes(files[number].read_bytes())
        for contestant in contestants:
            contestant.work(few)


def _ratio(one: Contestant, other: Contestant, target: float | None) -> tuple[str, ...]:
    by_round = [a / b for a, b in zip(one.rates, other.rates, strict=True)]
    names = f"{one.name.split(' (')[0]} / {other.name.split(' (')[0]}"
    by_cpu = statistics.median(other.cpu_ms) / statistics.median(one.cpu_ms)
    wanted = "" if target is None else f">= {target}"
    return names, f"{one.rate / other.rate:.2f}", spread(by_round, 2), f"{by_cpu:.2f}", wanted


def _stages(engine: Engine, rounds: int) -> list[Table]:
    """Return the floor's parts: each step alone, one thread, in milliseconds a picture."""
    _, originals = inputs.sources()
    tables = []
    for name, width, height in (("640x480", 640, 480), ("1920x1080", 1920, 1080)):
        files = [inputs.encoded(inputs.framed(original, width, height)) for original in originals[:40]]
        laps = [_stage_laps(engine, files) for _ in range(rounds)]
        faces = laps[0][1]
        steps = {step: [timed[step] for timed, _ in laps] for step in laps[0][0]}
        total = [sum(timed.values()) for timed, _ in laps]
        rows = [(step, spread(values, 2)) for step, values in steps.items()]
        rows.append(("together", spread(total, 2)))
        notes = [
            f"{len(files)} pictures, {faces / len(files):.2f} faces a picture; the floor of one core is "
            f"{1000 / statistics.median(total):.0f} pictures/s"
        ]
        tables.append(Table(f"Step by step at {name}, one thread", ("step", "ms/picture: median (range)"), rows, notes))
    return tables


def _stage_laps(engine: Engine, files: Sequence[bytes]) -> tuple[dict[str, float], int]:
    """Return milliseconds a picture by step, and the faces found."""
    timed: dict[str, float] = {}

    def lap(step: str, work: Callable[[], Any]) -> Any:
        started = time.perf_counter()
        done = work()
        timed[step] = (time.perf_counter() - started) * 1000 / len(files)
        return done

    def detect(pictures: Sequence[NDArray[np.uint8]]) -> list[Faces]:
        return [faces.at_least(engine.min_face) for picture in pictures for faces in engine.detector.detect([picture])]

    def align(pictures: Sequence[NDArray[np.uint8]], found: Sequence[Faces]) -> list[NDArray[np.uint8]]:
        return [engine.classifier.crop(rgb, faces) for rgb, faces in zip(pictures, found, strict=True)]

    pictures = lap("decode", lambda: [decode(data, reduce_to=reduce_to(DETECT_SIZE)).rgb for data in files])
    found = lap("detect", lambda: detect(pictures))
    crops = lap("align", lambda: align(pictures, found))
    pooled = np.concatenate(crops)
    lap("infer", lambda: engine.classifier.classify(pooled))
    return timed, len(pooled)


def _export(files: Sequence[Path], rounds: int) -> Table:
    """Return what the exports cost that a run writes unless told not to; they are not in the pipeline's time above."""
    with tempfile.TemporaryDirectory(prefix="labelstream-bench-") as folder:
        out = Path(folder) / "out"
        run_here(files, out, [])
        seconds = []
        for _ in range(rounds):
            started = time.perf_counter()
            export_all(Dataset(out), "expression")
            seconds.append(time.perf_counter() - started)
    return Table("Exports (COCO and JSON lines)", ("", "seconds: median (range)"), [("all", spread(seconds, 3))])


def whole_process(words: Sequence[str], out: Path | None = None) -> tuple[float, float]:
    """Run a command to its end; return its seconds and its peak memory in MB, children included.

    `out` is its data set, where it would leave the details of an error.
    """
    started = time.perf_counter()
    with tempfile.TemporaryFile() as said:
        running = subprocess.Popen([sys.executable, *words], cwd=ROOT, stdout=said, stderr=subprocess.STDOUT)
        _, status, used = os.wait4(running.pid, 0)
        running.returncode = os.waitstatus_to_exitcode(status)
        if running.returncode:
            said.seek(0)
            told = said.read().decode(errors="replace")[-2000:]
            for details in out.glob("_tmp/last-error.txt") if out else ():  # the folder goes with this process
                told += details.read_text(errors="replace")[-8000:]
            raise SystemExit(f"{' '.join(words)} ended with {running.returncode}:\n{told}")
    return time.perf_counter() - started, peak_mb(used)


def peak_mb(used: resource.struct_rusage) -> float:
    """Return the peak resident memory in MB; the kernel counts in KiB, on macOS in bytes."""
    return used.ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6


def annotate_words(folder: Path, out: Path) -> list[str]:
    """Return the words of a whole run, as a person types them."""
    return ["-m", "pipelines.annotate", "--runner=DirectRunner", f"--input={folder}", f"--output={out}", "--device=cpu"]


def memory(options: argparse.Namespace) -> None:
    """Measure how the peak of memory grows with the number of pictures."""
    facts = report.machine()
    rows, peaks = [], []
    for count in (100, options.memory_pictures):
        told, folder = inputs.variants(count, 320, 640)
        with tempfile.TemporaryDirectory(prefix="labelstream-bench-") as out:
            seconds, peak = whole_process(annotate_words(folder, Path(out) / "out"), Path(out) / "out")
        peaks.append(peak)
        rows.append((told, f"{peak:.0f}", f"{seconds:.1f}"))
    growth = peaks[1] - peaks[0]
    rows.append((f"growth (target < {MOST_GROWTH_MB})", f"{growth:.0f}", ""))
    table = Table("Peak resident memory of whole processes", ("pictures", "MB", "seconds"), rows)
    facts += [report.versions(PACKAGES), report.command("-m tests.benchmarks.bench")]
    report.tell("memory", facts, [table], options.write)


def start(options: argparse.Namespace) -> None:
    """Measure what one picture takes from command to committed manifest, and what `--help` takes."""
    facts = report.machine()
    _, many = inputs.variants(100, 320, 640)
    runs: list[float] = []
    helps: list[float] = []
    with tempfile.TemporaryDirectory(prefix="labelstream-bench-") as name:
        (Path(name) / "in").mkdir()
        (Path(name) / "in" / "one.jpg").write_bytes(next(iter(sorted(many.iterdir()))).read_bytes())
        for turn in range(6):
            words = annotate_words(Path(name) / "in", Path(name) / f"out-{turn}")
            runs.append(until_committed(words, Path(name) / f"out-{turn}"))
            helps.append(whole_process(["-m", "pipelines.annotate", "--help"])[0])
    rows = [
        ("one picture, to its manifest", spread(runs[1:], 2), f"< {MOST_START_S:g}"),
        ("--help, to its end", spread(helps[1:], 2), f"< {MOST_HELP_S:g}"),
    ]
    notes = ["five processes each, after one that warms the disk's cache; graphs built before are in the cache"]
    table = Table("Start-up", ("command", "seconds: median (range)", "target"), rows, notes)
    facts += [report.versions(PACKAGES), report.command("-m tests.benchmarks.bench")]
    report.tell("start", facts, [table], options.write)


def until_committed(words: Sequence[str], out: Path) -> float:
    """Run a command; return the seconds until its first manifest is there."""
    started = time.perf_counter()
    running = subprocess.Popen([sys.executable, *words], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not list((out / "_manifests").glob("[0-9]*.json")):
        if running.poll() is not None:
            raise SystemExit(f"{' '.join(words)} ended with {running.returncode} and no manifest")
        time.sleep(0.005)
    seconds = time.perf_counter() - started
    if running.wait():
        raise SystemExit(f"{' '.join(words)} ended with {running.returncode}")
    return seconds


def main() -> None:
    """Read the command line; measure."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.bench", description=__doc__.split("\n\n")[0])
    parser.add_argument("--pictures", type=int, default=1000, help="distinct pictures (default 1000)")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each contestant (default 3)")
    parser.add_argument("--epoch-items", type=int, default=2000, help="as in pipelines.annotate (default 2000)")
    parser.add_argument("--memory", action="store_true", help="measure memory instead, with whole processes")
    parser.add_argument("--memory-pictures", type=int, default=10_000, help="the larger input (default 10000)")
    parser.add_argument("--start", action="store_true", help="measure start-up instead, with whole processes")
    parser.add_argument("--write", action="store_true", help="also write tests/benchmarks/results/<date>-<what>.md")
    options = parser.parse_args()
    near = ROOT.parent / "shared" / "models"
    if near.is_dir():
        os.environ.setdefault("LABELSTREAM_MODELS", str(near))
    if options.memory:
        memory(options)
    if options.start:
        start(options)
    if not options.memory and not options.start:
        speed(options)


if __name__ == "__main__":
    main()
