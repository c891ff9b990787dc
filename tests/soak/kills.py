"""Kill the pipeline at random moments, over and over: `python -m tests.soak.kills` (about ten minutes).

Kills (SIGKILL) fall evenly between a process's start and the end of a whole run; stops (SIGTERM) are strewn among them.
After each one a reader looks at what is committed. A data set that is done is compared, byte by byte, with that of a
run that was left alone, and the next lap begins with a new one.
"""

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import polars as pl

from pipelines.dataset import Dataset, is_dataset
from pipelines.samples import compose, scenes, walk, write_film
from schemas.reasons import Outcome
from schemas.tables import TABLES
from tests.benchmarks import inputs, report
from tests.benchmarks.report import ROOT, Table, spread

SHARED = ROOT.parent / "shared"
MADE = 1_767_225_600
"""File time of all inputs, seconds: rows hold it, and two runs must agree."""
STOP_EVERY = 5
"""After so many kills comes one request to stop."""
_STATE_NOTE = "a kill in a start-up counts under what the run before it had left, most often an unfinished epoch"
PACKAGES = ("apache-beam", "onnxruntime-gpu", "onnxruntime", "opencv-python-headless", "polars", "pyarrow")


class Broken(Exception):
    """The data set is not what a reader may expect; the text says in which way."""


@dataclass
class Figures:
    """What happened."""

    kills: Counter[str] = field(default_factory=Counter)
    kill_seconds: list[float] = field(default_factory=list)
    stops: Counter[str] = field(default_factory=Counter)
    stop_seconds: list[float] = field(default_factory=list)
    looks: int = 0
    laps: int = 0
    replayed: int = 0


def make_inputs(folder: Path, pictures: int) -> int:
    """Fill `folder` with good, broken and duplicate pictures; return how many files there are."""
    folder.mkdir()
    _, variants = inputs.variants(pictures, 320, 640)
    good = sorted(variants.iterdir())
    for number, path in enumerate(good):
        shutil.copyfile(path, folder / f"{number:04d}.jpg")
        if number % 10 == 0:  # one copy in the same epoch, and one in a much later one
            shutil.copyfile(path, folder / f"{number:04d}-copy.jpg")
            shutil.copyfile(path, folder / f"{(number + pictures // 2) % pictures:04d}-far-copy.jpg")
        if number % 15 == 7:
            data = path.read_bytes()
            cut = {0: b"", 1: data[: len(data) // 2], 2: b"no picture at all"}[number % 3]
            (folder / f"{number:04d}-broken.jpg").write_bytes(cut)
    for scene in [*scenes(), compose("small.png", (320, 240), [(60, 40, 0.5)], 1)]:
        cv2.imwrite(str(folder / scene.name), scene.rgb[:, :, ::-1])
    _make_films(folder)
    for source in (*SHARED.glob("data/images/*/*"), *SHARED.glob("data/broken/image/*")):
        target = folder / source.parent.name / source.name
        target.parent.mkdir(exist_ok=True)
        shutil.copyfile(source, target)
    files = [path for path in folder.rglob("*") if path.is_file()]
    for path in files:
        os.utime(path, (MADE, MADE))
    return len(files)


def _make_films(folder: Path) -> None:
    """Write a film that takes several epochs, a copy of it, and a broken one."""
    film = write_film(folder / "0100-film.mp4", walk(120), 24)
    shutil.copyfile(film, folder / "0200-film-copy.mp4")
    data = bytearray(write_film(folder / "0150-broken.mp4", walk(60), 24).read_bytes())
    middle = len(data) // 2
    data[middle : middle + 2000] = bytes(2000)
    (folder / "0150-broken.mp4").write_bytes(data)


class Soak:
    """One run of the soak test, in a folder of its own."""

    def __init__(self, work: Path, kills: int, epoch_items: int, seed: int) -> None:
        self.work = work
        self.epoch_items = epoch_items
        self.chance = random.Random(seed)
        self.figures = Figures()
        self.plain: dict[str, str] = {}
        self.whole_s = 0.0
        self.seen: dict[str, bytes] = {}
        # One moment from each of as many equal parts of a whole run, in any order.
        self.moments = [(number + self.chance.random()) / kills for number in range(kills)]
        self.chance.shuffle(self.moments)

    def begin(self, out: Path) -> "subprocess.Popen[bytes]":
        """Start a run into `out`."""
        words = ["-m", "pipelines.annotate", "--runner=DirectRunner", "--device=cpu", "--max-failure-rate=1"]
        words += [f"--input={self.work / 'in'}", f"--output={out}", f"--epoch-items={self.epoch_items}"]
        with (self.work / "said.txt").open("wb") as said:
            return subprocess.Popen([sys.executable, *words], cwd=ROOT, stdout=said, stderr=subprocess.STDOUT)

    def undisturbed(self) -> None:
        """Do the run that all others are compared with, twice: the second time is that of a warm machine."""
        for name in ("warm-up", "plain"):
            started = time.monotonic()
            self.ended_well(self.begin(self.work / name).wait())
            self.whole_s = time.monotonic() - started
        self.look(self.work / "plain")
        self.seen.clear()
        self.plain = fingerprints(self.work / "plain")

    def ended_well(self, code: int) -> None:
        """Raise `Broken` unless a run that was not killed ended with 0 and without a traceback."""
        said = (self.work / "said.txt").read_text(errors="replace")
        if code or "Traceback" in said:
            raise Broken(f"a run ended with {code} and said:\n{said[-2000:]}")

    def go(self) -> None:
        """Kill until all moments are used up, then let the last data set be finished."""
        turn = 0
        while self.moments:
            stop = turn % (STOP_EVERY + 1) == STOP_EVERY
            moment = self.chance.random() if stop else self.moments[-1]
            disturbed = self.disturb(moment * self.whole_s, signal.SIGTERM if stop else signal.SIGKILL)
            if disturbed and not stop:
                self.moments.pop()
                told = f"{sum(self.figures.kills.values())} kills, {len(self.moments)} to come"
                print(f"{told}, {self.figures.laps} laps, last at {moment:.0%} of a run", file=sys.stderr)
            if not disturbed:
                self.finish_lap()
            turn += 1
        if (self.work / "out").exists():
            self.ended_well(self.begin(self.work / "out").wait())
            self.finish_lap()

    def disturb(self, seconds: float, number: signal.Signals) -> bool:
        """Start or resume the run, send the signal after `seconds`, look; tell whether it was still running by then."""
        out = self.work / "out"
        self.figures.replayed += state(out).startswith("in an epoch")
        running = self.begin(out)
        try:
            self.ended_well(running.wait(seconds))
        except subprocess.TimeoutExpired:
            asked = time.monotonic()
            running.send_signal(number)
            code = running.wait()
            self.note(number, code, seconds, time.monotonic() - asked)
            self.look(out)
            return True
        self.look(out)
        return False

    def note(self, number: signal.Signals, code: int, seconds: float, took: float) -> None:
        """Keep how one disturbance went."""
        if number == signal.SIGKILL:
            self.figures.kills[state(self.work / "out")] += 1
            self.figures.kill_seconds.append(seconds)
            return
        if code == -signal.SIGTERM:
            self.figures.stops["before the run had begun to write"] += 1
            return
        self.ended_well(code)
        self.figures.stops["while it ran"] += 1
        self.figures.stop_seconds.append(took)

    def look(self, out: Path) -> None:
        """Read what is committed, as a stranger would; raise `Broken` where it contradicts itself."""
        self.figures.looks += 1
        if not is_dataset(out):
            return
        require_whole(Dataset(out))
        for path in sorted((out / "_manifests").glob("[0-9]*.json")):
            data = path.read_bytes()
            if self.seen.setdefault(path.name, data) != data:
                raise Broken(f"{path.name} has changed after its commit")
        if lost := [name for name in self.seen if not (out / "_manifests" / name).exists()]:
            raise Broken(f"committed epochs are gone: {', '.join(lost)}")

    def finish_lap(self) -> None:
        """Compare a finished data set with the undisturbed one, and put it away."""
        found = fingerprints(self.work / "out")
        if found != self.plain:
            differ = sorted(
                name for name in found.keys() | self.plain.keys() if found.get(name) != self.plain.get(name)
            )
            raise Broken(f"other bytes than the undisturbed run: {', '.join(differ[:10])}")
        if left := leftovers(Dataset(self.work / "out")):
            raise Broken(f"left behind: {', '.join(left[:10])}")
        self.figures.laps += 1
        self.seen.clear()
        shutil.rmtree(self.work / "out")


def state(out: Path) -> str:
    """Return what a run was doing when it was killed, told from what it left."""
    if not is_dataset(out):
        return "before the output was touched"
    plans, manifests = (len(list((out / name).glob("[0-9]*.json"))) for name in ("_plans", "_manifests"))
    if plans > manifests:
        written = list((out / "_tmp").glob("[0-9]*.json")) or list((out / "images").glob(f"{plans:08d}-*.parquet"))
        return "in an epoch, shards written" if written else "in an epoch, no shard yet"
    if not plans:
        return "before the first plan"
    return "between plans, or in exports and summary"


def require_whole(dataset: Dataset) -> None:
    """Raise `Broken` unless the tables hold what the manifests say, and each face its picture."""
    for manifest in dataset.manifests:
        for table, files in manifest.told["tables"].items():
            for file in files:
                data = (dataset.path / file["path"]).read_bytes()
                if len(data) != file["size"] or hashlib.sha256(data).hexdigest() != file["sha256"]:
                    raise Broken(f"{table}: {file['path']} is not what manifest {manifest.epoch} lists")
    rows = {table: dataset.scan(table).collect() for table in TABLES}
    for table, frame in rows.items():
        listed = sum(file["rows"] for manifest in dataset.manifests for file in manifest.told["tables"].get(table, []))
        if frame.height != listed:
            raise Broken(f"{table}: {frame.height} rows, the manifests say {listed}")
    images, annotations = rows["images"], rows["annotations"]
    if images["image_id"].n_unique() != images.height:
        raise Broken("a picture is there twice")
    orphans = annotations.filter(~pl.col("image_id").is_in(images["image_id"].implode()))
    if orphans.height:
        raise Broken(f"{orphans.height} annotations without their picture")
    if annotations.height != images["annotations"].sum():
        raise Broken(f"{annotations.height} annotations, the pictures say {images['annotations'].sum()}")
    told: Counter[str] = Counter()
    for manifest in dataset.manifests:
        told.update(manifest.told["outcomes"])
    found = Counter(images["outcome"].to_list()) + Counter({str(Outcome.FAILED): rows["failures"].height})
    if +told != +found:
        raise Broken(f"outcomes: {dict(found)}, the manifests say {dict(told)}")
    items = sum(manifest.told["items"] for manifest in dataset.manifests)
    if images.height + rows["failures"].height != items:
        raise Broken(f"{images.height} pictures and {rows['failures'].height} failures for {items} items")
    for path in (dataset.path / "exports").rglob("*.json"):
        json.loads(path.read_bytes())
    for path in (dataset.path / "exports").rglob("*.jsonl"):
        for line in path.read_bytes().splitlines():
            json.loads(line)


def fingerprints(out: Path) -> dict[str, str]:
    """Return what must not depend on kills: shards and exports by sha256, manifests and summary without their times."""
    dataset = Dataset(out)
    files = [Path(path) for table in TABLES for path in dataset.files(table)]
    files += [path for path in (out / "exports").rglob("*") if path.is_file()]
    found = {str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    for manifest in dataset.manifests:
        told = {
            key: value
            for key, value in manifest.told.items()
            if key not in ("seconds", "committed_at", "roots", "writer")
        }
        found[f"manifest {manifest.epoch}"] = json.dumps(told, sort_keys=True)
    summary = json.loads((out / "report" / "summary.json").read_bytes())
    for name in ("this_run", "steps"):
        summary.pop(name, None)
    found["summary"] = json.dumps(summary, sort_keys=True)
    return found


def leftovers(dataset: Dataset) -> list[str]:
    """Return files that a finished run should have taken away."""
    listed = {Path(path) for table in TABLES for path in dataset.files(table)}
    shards = {path for table in TABLES for path in (dataset.path / table).rglob("*") if path.is_file()}
    temporary = {path for path in (dataset.path / "_tmp").iterdir() if path.name != "lock"}
    hidden = {path for path in dataset.path.rglob(".*") if path.is_file()}
    return sorted(str(path.relative_to(dataset.path)) for path in (shards - listed) | temporary | hidden)


def tell(soak: Soak, options: argparse.Namespace, facts: list[str], files: int, seconds: float) -> None:
    """Print the figures, and write them if asked to."""
    figures = soak.figures
    kills = [(where, str(count)) for where, count in figures.kills.most_common()]
    quarters = Counter(min(int(4 * at / soak.whole_s), 3) for at in figures.kill_seconds)
    stops = [(where, str(count)) for where, count in figures.stops.most_common()]
    seconds_of = spread(figures.stop_seconds, 2) if figures.stop_seconds else "no stop while it ran"
    tables = [
        Table(
            "Result",
            ("what", "count"),
            [
                ("kills (SIGKILL)", str(sum(figures.kills.values()))),
                ("stops (SIGTERM)", str(sum(figures.stops.values()))),
                ("runs that began with a killed run's plan", str(figures.replayed)),
                ("looks of a reader: all agreed with the manifests", str(figures.looks)),
                ("finished data sets: all equal to the undisturbed one, byte by byte", str(figures.laps)),
            ],
        ),
        Table("Where the kills fell", ("the killed run was", "kills"), kills, [_STATE_NOTE]),
        Table(
            "When the kills fell",
            ("part of a whole run", "kills"),
            [(f"{25 * part}-{25 * part + 25} %", str(quarters[part])) for part in range(4)],
            [f"a whole run takes {soak.whole_s:.1f} s from command to end"],
        ),
        Table(
            "Where the stops fell",
            ("the stopped run was", "stops"),
            stops,
            [f"seconds from SIGTERM to the end, exit code 0: {seconds_of}"],
        ),
    ]
    facts += [
        report.versions(PACKAGES),
        report.command("-m tests.soak.kills"),
        f"input: {files} files, good, broken and duplicate; epochs of {options.epoch_items}; seed {options.seed}",
        f"took {seconds / 60:.1f} minutes",
    ]
    report.tell("kills", facts, tables, options.write)


def main() -> int:
    """Read the command line, kill; return 1 where a data set was harmed."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak.kills", description=__doc__.split("\n\n")[0])
    parser.add_argument("--kills", type=int, default=100, help="how many kill -9 (default 100)")
    parser.add_argument("--pictures", type=int, default=150, help="good pictures in the input (default 150)")
    parser.add_argument("--epoch-items", type=int, default=25, help="as in pipelines.annotate (default 25)")
    parser.add_argument("--seed", type=int, default=7, help="of the moments (default 7)")
    parser.add_argument("--write", action="store_true", help="also write tests/benchmarks/results/<date>-kills.md")
    options = parser.parse_args()
    if (SHARED / "models").is_dir():
        os.environ.setdefault("LABELSTREAM_MODELS", str(SHARED / "models"))
    facts, started = report.machine(), time.monotonic()
    work = Path(tempfile.mkdtemp(prefix="labelstream-kills-"))
    files = make_inputs(work / "in", options.pictures)
    soak = Soak(work, options.kills, options.epoch_items, options.seed)
    try:
        soak.undisturbed()
        soak.go()
    except Broken as error:
        print(f"error: {error}\nthe data sets are kept in {work}", file=sys.stderr)
        return 1
    tell(soak, options, facts, files, time.monotonic() - started)
    shutil.rmtree(work)
    return 0


if __name__ == "__main__":
    sys.exit(main())
