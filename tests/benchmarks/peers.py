"""Measure the pipeline beside other tools: `python -m tests.benchmarks.peers`.

Each contestant runs in an environment of its own, on the same files, in turns, with start-up excluded, and on all cores
in the way that is fastest for it. A tool that cannot be installed or started is told as such; the others go on.
"""

import argparse
import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any

import numpy as np

from tests.benchmarks import chart, inputs, report
from tests.benchmarks.report import ROOT, Table, spread
from transforms.models import weights
from transforms.models.record import load_record

CORES = os.cpu_count() or 1
HERE = Path(__file__).resolve().parent / "peers"
ENVIRONMENTS = ROOT / ".venv-peers"
DETECT_SIZE = 640
PACKAGES = ("apache-beam", "onnxruntime-gpu", "onnxruntime", "opencv-python-headless", "numpy", "polars", "pyarrow")
MOST_SILENCE_S = 900
"""A tool that says nothing for so long, in a turn or while it starts, is given up."""

LEAST_OF_FER = 6.0
LEAST_OF_MTCNN = 5.0

Settings = dict[str, Any]


class LeftOut(Exception):
    """A contestant cannot be measured; the text says why, in one line."""


@dataclass(frozen=True)
class Way:
    """How a contestant uses the cores; the files are dealt out to its processes in turns.

    `threads` call the tool at once in each process; `library_threads` is what OpenMP, TensorFlow and OpenCV are given,
    None what they take themselves.
    """

    processes: int = 1
    threads: int = 1
    library_threads: int | None = None

    def __str__(self) -> str:
        """Return the way in words."""
        if self == Way():
            return "as it comes: one process, the threads that its libraries take"
        processes = f"{self.processes} process{'es' if self.processes > 1 else ''}"
        calls = f", each called from {self.threads} threads" if self.threads > 1 else ""
        libraries = "" if self.library_threads is None else f", {self.library_threads} thread(s) in its libraries"
        return processes + calls + libraries


ONE_A_CORE = Way(processes=CORES, library_threads=1)
CALLED_BY_ALL = Way(threads=CORES, library_threads=1)
WAYS = (Way(), Way(library_threads=CORES), ONE_A_CORE, CALLED_BY_ALL)


@dataclass(frozen=True)
class Peer:
    """One contestant: `loader` and `settings` are the worker's; `environment` names its file of pins, None is ours.

    `alike`: it takes part in the comparison of MTCNNs under equal terms only.
    """

    key: str
    name: str
    loader: str
    environment: str | None
    way: Way
    settings: Settings = field(default_factory=dict)
    does: str = "detects"
    alike: bool = False

    @property
    def title(self) -> str:
        """The name in tables, with what it does in the measured time."""
        return f"{self.name}: {self.does}"


def contestants() -> list[Peer]:
    """Return all contestants, ours first.

    The ways are the fastest of those that `--ways` measures: pictures/s of 640..1920 px (with so many cores busy, for
    others used the 2 cores too), the best of two turns, on 2026-11-21:

                        as it comes   2 library threads   2 processes   2 threads call
        fer             7.1 (1.35)    9.5 (1.79)          9.6 (1.80)    unsafe: one interpreter
        facenet         5.1 (1.56)    3.2 (0.94)          6.5 (1.80)    3 % more CPU than 2 processes
        mtcnn           2.0 (0.82)    2.6 (1.12)          4.0 (1.67)    10 % more CPU than 2 processes
        opencv          11.7 (1.08)   11.7 (1.07)         19.0 (1.82)   21.0 (1.96)
        opencv-640      58.9 (1.71)   58.7 (1.67)         40.9 (1.12)   35.9 (1.01)

    The last line's differ by the cores that were free: per busy core they are 34..37, so it goes as its sister does.
    """
    yunet = load_record("yunet")
    assert yunet.detection is not None  # a detector with weights has thresholds
    detector = {"weights": str(weights.pull(yunet)), "threshold": yunet.detection.threshold, "nms": yunet.detection.nms}
    small = {"long_side": DETECT_SIZE}
    our_limits = {"threshold_pnet": 0.7, "threshold_rnet": 0.8, "threshold_onet": 0.9, "min_face_size": 20}
    everything = "detects, labels, writes"
    by_mtcnn = {"options": ["--detector=mtcnn"]}
    return [
        Peer("ours", "labelstream", "pipeline", None, Way(), does=everything),
        Peer("ours-mtcnn", "labelstream (mtcnn)", "pipeline", None, Way(), by_mtcnn, everything),
        Peer("our-mtcnn", "labelstream's mtcnn alone", "our-mtcnn", None, CALLED_BY_ALL),
        Peer("fer", "fer (Haar)", "fer-haar", "fer", ONE_A_CORE, does="detects, labels"),
        Peer("facenet", "facenet-pytorch MTCNN", "facenet", "facenet", ONE_A_CORE),
        Peer("mtcnn", "mtcnn package", "mtcnn-package", "mtcnn", ONE_A_CORE),
        Peer("opencv", "FaceDetectorYN, own size", "opencv", "opencv", CALLED_BY_ALL, detector),
        Peer("opencv-640", f"FaceDetectorYN, {DETECT_SIZE} px", "opencv", "opencv", CALLED_BY_ALL, detector | small),
        Peer("our-mtcnn-alike", "labelstream's mtcnn, alike", "our-mtcnn", None, CALLED_BY_ALL, small, alike=True),
        Peer(
            "mtcnn-alike", "mtcnn package, alike", "mtcnn-package", "mtcnn", ONE_A_CORE, small | our_limits, alike=True
        ),
    ]


def python_of(name: str, folder: Path) -> Path:
    """Return the Python of the environment `name`, made with its pins if it is not there or they have changed."""
    home, pins = folder / name, (HERE / f"{name}.txt").read_text()
    python, stamp = home / ("Scripts" if os.name == "nt" else "bin") / "python", home / "installed.txt"
    if stamp.is_file() and stamp.read_text() == pins:
        return python
    folder.mkdir(exist_ok=True)
    (folder / ".gitignore").write_text("*\n")
    shutil.rmtree(home, ignore_errors=True)
    print(f"installing {name} into {home}", file=sys.stderr)
    pip = [sys.executable, "-m", "pip", "--python", str(python), "--disable-pip-version-check"]
    for words in (
        [sys.executable, "-m", "venv", "--without-pip", str(home)],
        [*pip, "install", "--quiet", "--no-deps", "-r", str(HERE / f"{name}.txt")],
    ):
        done = subprocess.run(words, capture_output=True, text=True)
        if done.returncode:
            raise LeftOut(f"cannot be installed: {last_line(done.stderr)}")
    stamp.write_text(pins)
    return python


def last_line(text: str) -> str:
    """Return the last line that says something.

    >>> last_line("Traceback\\n  ...\\nImportError: no module named x\\n\\n")
    'ImportError: no module named x'
    """
    lines = [" ".join(line.split()) for line in text.splitlines() if line.strip()]
    return lines[-1][:200].replace("|", "/") if lines else "nothing was said"


class Worker:
    """A contestant's process; see peers/worker.py."""

    def __init__(self, python: Path, loader: str, settings: Settings) -> None:
        self._said: IO[str] = tempfile.TemporaryFile("w+")  # noqa: SIM115 # closed with the process
        # Ours needs the repository; another tool must not find packages that are not its own.
        path = str(ROOT) if python == Path(sys.executable) else ""
        self._running = subprocess.Popen(
            [str(python), str(HERE / "worker.py"), loader, json.dumps(settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            text=True,
            env={**os.environ, "PYTHONPATH": path},
        )

    def ask(self, message: dict[str, Any]) -> None:
        """Send a message; a process that is gone is noticed by `answer`."""
        assert self._running.stdin is not None
        try:
            self._running.stdin.write(json.dumps(message) + "\n")
            self._running.stdin.flush()
        except BrokenPipeError:
            return

    def answer(self) -> dict[str, Any]:
        """Return the next message; raises LeftOut where none comes."""
        assert self._running.stdout is not None
        watch = threading.Timer(MOST_SILENCE_S, self._running.kill)
        watch.start()
        line = self._running.stdout.readline()
        watch.cancel()
        if not line:
            code = self._running.wait()
            self._said.seek(0)
            raise LeftOut(f"ended with {code}: {last_line(self._said.read())}")
        told: dict[str, Any] = json.loads(line)
        return told

    def close(self) -> None:
        """End the process."""
        assert self._running.stdin is not None and self._running.stdout is not None
        with self._said, self._running:
            try:
                self._running.communicate(timeout=20)
            except subprocess.TimeoutExpired:
                self._running.kill()


@dataclass
class Contestant:
    """A peer's processes and what was measured of them; `reason` says why it was left out."""

    peer: Peer
    workers: list[Worker] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)
    reason: str = ""
    rates: list[float] = field(default_factory=list)
    cpu_ms: list[float] = field(default_factory=list)
    busy: list[float] = field(default_factory=list)
    each_ms: list[float] = field(default_factory=list)
    faces: int = 0
    pictures: int = 0
    peak_mb: float = 0.0

    def start(self, environments: Path) -> None:
        """Start the processes, one after the other so that none is short of memory or cores; wait for their models."""
        peer = self.peer
        settings = {**peer.settings, "library_threads": peer.way.library_threads}
        if peer.loader != "pipeline":
            settings["threads"] = peer.way.threads
        with self._left_out():
            python = python_of(peer.environment, environments) if peer.environment else Path(sys.executable)
            for _ in range(peer.way.processes):
                self.workers.append(Worker(python, peer.loader, settings))
                self.versions = self.workers[-1].answer()["ready"]

    def turn(self, files: Sequence[Path], kept: bool = True) -> None:
        """Do the work once; the time is that from the word to the last answer."""
        if not self.workers:
            return
        with self._left_out():
            for number, worker in enumerate(self.workers):
                worker.ask({"files": [str(path) for path in files[number :: len(self.workers)]]})
            for worker in self.workers:
                worker.answer()
            started = time.perf_counter()
            for worker in self.workers:
                worker.ask({"go": True})
            told = [worker.answer() for worker in self.workers]
            seconds = time.perf_counter() - started
            if kept:
                self._keep(told, seconds)

    def _keep(self, told: Sequence[dict[str, Any]], seconds: float) -> None:
        cpu = sum(each["cpu_seconds"] for each in told)
        self.pictures = sum(each["pictures"] for each in told)
        self.faces = sum(each["faces"] for each in told)
        self.peak_mb = sum(each["peak_mb"] for each in told)
        self.each_ms += [ms for each in told for ms in each["ms"]]
        self.rates.append(self.pictures / seconds)
        self.cpu_ms.append(1000 * cpu / self.pictures)
        self.busy.append(cpu / seconds)

    @contextlib.contextmanager
    def _left_out(self) -> Iterator[None]:
        """Keep why it cannot go on, and let the others go on."""
        try:
            yield
        except LeftOut as error:
            self.reason = str(error)
            print(f"{self.peer.title}: {self.reason}", file=sys.stderr)
            self.close()

    def close(self) -> None:
        """End all processes."""
        for worker in self.workers:
            worker.close()
        self.workers.clear()

    @property
    def measured(self) -> bool:
        """Whether it took part to the end."""
        return bool(self.rates) and not self.reason

    @property
    def rate(self) -> float:
        """Pictures a second: the median of all turns."""
        return statistics.median(self.rates)

    def row(self) -> tuple[str, ...]:
        """Return its line of the table."""
        if not self.measured:
            return (self.peer.title, "not measured", *[""] * 6)
        p50, p99 = (f"{np.percentile(self.each_ms, at):.0f}" if self.each_ms else "" for at in (50, 99))
        faces = f"{self.faces / self.pictures:.2f}"
        spreads = (spread(self.rates), spread(self.cpu_ms), spread(self.busy, 2))
        return (self.peer.title, *spreads, p50, p99, faces, f"{self.peak_mb:.0f}")


def ratio(one: Contestant, other: Contestant, target: float | None = None) -> tuple[str, ...]:
    """Return how many times as fast `one` is, as a line of the table."""
    names = f"{one.peer.name} / {other.peer.name}"
    wanted = "" if target is None else f">= {target:g}"
    if not (one.measured and other.measured):
        return (names, "not measured", "", "", wanted)
    by_round = [a / b for a, b in zip(one.rates, other.rates, strict=True)]
    by_cpu = statistics.median(other.cpu_ms) / statistics.median(one.cpu_ms)
    return (names, f"{one.rate / other.rate:.2f}", spread(by_round, 2), f"{by_cpu:.2f}", wanted)


def ratios(by_key: dict[str, Contestant]) -> list[tuple[str, ...]]:
    """Return the comparisons that are of interest, as far as their contestants were asked for."""
    wanted: list[tuple[str, str, float | None]] = [
        ("ours", "fer", LEAST_OF_FER),
        ("our-mtcnn-alike", "mtcnn-alike", LEAST_OF_MTCNN),
        ("our-mtcnn", "mtcnn", None),
        ("our-mtcnn", "facenet", None),
        *(("ours", key, None) for key in ("facenet", "mtcnn", "opencv", "opencv-640")),
        ("ours-mtcnn", "fer", None),
    ]
    return [ratio(by_key[one], by_key[other], target) for one, other, target in wanted if {one, other} <= by_key.keys()]


def compete(peers: Sequence[Peer], files: Sequence[Path], rounds: int, environments: Path) -> list[Contestant]:
    """Let the peers do the work in turns; return what was measured."""
    running = [Contestant(peer) for peer in peers]
    try:
        for each in running:
            each.start(environments)
            each.turn(files[: 2 * CORES], kept=False)
        for number in range(rounds):
            for each in running:
                each.turn(files)
                if each.measured:
                    print(f"round {number + 1}: {each.peer.title}: {each.rates[-1]:.1f} pictures/s", file=sys.stderr)
    finally:
        for each in running:
            each.close()
    return running


HEADER = (
    "contestant",
    "pictures/s: median (range)",
    "CPU ms/picture",
    "cores busy",
    "p50 ms",
    "p99 ms",
    "faces/picture",
    "peak MB",
)


def contest(peers: Sequence[Peer], told: str, files: Sequence[Path], options: argparse.Namespace) -> None:
    """Compare the contestants; print the table and the ratios."""
    facts = report.machine()
    done = compete(peers, files, options.rounds, options.environments)
    first, alike = ([each for each in done if each.peer.alike == wanted] for wanted in (False, True))
    ways = [(each.peer.key, each.peer.name, str(each.peer.way)) for each in done]
    tables = [
        Table(
            f"Speed from files, {options.rounds} rounds in turns",
            HEADER,
            [each.row() for each in first],
            [
                "settings are each tool's own defaults; labelstream's time also holds planning, validation, Parquet "
                "and exports, with a fixed cost of about a second of CPU a run",
                "labelstream (mtcnn) is a run with --detector mtcnn",
                f"labelstream finds faces at {DETECT_SIZE} px; the others look at the whole picture, but for the one "
                f"at {DETECT_SIZE} px",
                "p50 and p99 are of one picture while all cores are busy; peak memory is that of all its processes",
                "where fewer cores were busy than there are, others used the machine, or work waited",
                *_reasons(first),
            ],
        ),
        Table(
            "MTCNN alike",
            HEADER,
            [each.row() for each in alike],
            [
                f"the same pictures in memory, decoded and brought to {DETECT_SIZE} px before the clock; smallest "
                "face 20 px, thresholds .7, .8, .9, levels shrunk by .709 in both",
                *_reasons(alike),
            ],
        ),
        Table(
            "Ratios",
            ("what", "of medians", "by round: median (range)", "of CPU time", "target"),
            ratios({each.peer.key: each for each in done}),
        ),
        Table("How each used the cores", ("--only", "contestant", "way"), ways),
    ]
    facts += [
        report.versions(PACKAGES),
        *_environments(done),
        report.command("-m tests.benchmarks.peers"),
        f"pictures: {told}",
        f"warm-up: each contestant once on {2 * CORES} pictures; its model is loaded by then",
    ]
    report.tell("peers", facts, [table for table in tables if table.rows], options.write)
    if options.write and (rows := _bars(first)):
        told = f"{len(files)} pictures, median of {options.rounds} rounds in turns, {time.strftime('%Y-%m-%d')}"
        chart.draw(report.RESULTS / "peers.svg", f"Pictures a second on {CORES} cores, no GPU", rows, [told])


def _bars(done: Sequence[Contestant]) -> list[chart.Bar]:
    measured = sorted((each for each in done if each.measured), key=lambda each: -each.rate)
    return [chart.Bar(each.peer.title, each.rate, ours=each.peer.environment is None) for each in measured]


def _environments(done: Sequence[Contestant]) -> list[str]:
    told = {each.peer.environment: each.versions for each in done if each.peer.environment and each.versions}
    return [
        f"environment {name}: " + ", ".join(f"{package} {version}" for package, version in versions.items())
        for name, versions in told.items()
    ]


def _reasons(done: Sequence[Contestant]) -> list[str]:
    return [f"{each.peer.title}: {each.reason}" for each in done if each.reason]


def compare_ways(peers: Sequence[Peer], told: str, files: Sequence[Path], options: argparse.Namespace) -> None:
    """Measure each tool in each way of using the cores; print the table."""
    facts = report.machine()
    tried = [
        replace(peer, way=way)
        for peer in peers
        if peer.loader != "pipeline"
        for way in WAYS
        # fer has one TensorFlow Lite interpreter a process, which two threads must not use at once.
        if (peer.loader, way) != ("fer-haar", CALLED_BY_ALL)
    ]
    rows = []
    for peer in tried:
        (done,) = compete([peer], files, options.rounds, options.environments)
        rows.append((str(peer.way), *done.row()))
    facts += [report.command("-m tests.benchmarks.peers"), f"pictures: {told}"]
    report.tell("ways", facts, [Table("Ways to use the cores", ("way", *HEADER), rows)], False)


def main() -> None:
    """Read the command line; measure."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.peers", description=__doc__.split("\n\n")[0])
    parser.add_argument("--input", type=Path, metavar="DIR", help="JPEG and PNG pictures to use instead of made ones")
    parser.add_argument("--pictures", type=int, default=240, help="distinct pictures, at most (default 240)")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each contestant (default 3)")
    parser.add_argument("--only", metavar="NAME,...", help="only these contestants; a wrong name lists them")
    parser.add_argument("--ways", action="store_true", help="measure each tool in each way of using the cores instead")
    parser.add_argument("--environments", type=Path, default=ENVIRONMENTS, metavar="DIR", help="default: .venv-peers")
    parser.add_argument("--write", action="store_true", help="also write results/<date>-peers.md and results/peers.svg")
    options = parser.parse_args()
    near = ROOT.parent / "shared" / "models"
    if near.is_dir():
        os.environ.setdefault("LABELSTREAM_MODELS", str(near))
    if options.write and (options.only or options.ways):
        parser.error("--write keeps whole comparisons: leave out --only and --ways")
    peers = contestants()
    chosen = options.only.split(",") if options.only else [peer.key for peer in peers]
    if unknown := set(chosen) - {peer.key for peer in peers}:
        parser.error(f"--only {','.join(sorted(unknown))}: expected some of {', '.join(peer.key for peer in peers)}")
    peers = [peer for peer in peers if peer.key in chosen]
    if options.input:
        told, files = inputs.given(options.input, options.pictures)
    else:
        told, folder = inputs.variants(options.pictures, DETECT_SIZE, 1920)
        files = sorted(folder.iterdir())
    (compare_ways if options.ways else contest)(peers, told, files, options)


if __name__ == "__main__":
    main()
