"""Disturb runs whose input and output are in buckets: `python -m tests.soak.buckets` (about half an hour).

Each scenario compares what is committed with what a run has made that was left alone, byte by byte. Runs are processes
of their own, forked from one that has loaded the job's modules and used no store.
"""

import argparse
import functools
import json
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Self

import cv2
import polars as pl

from pipelines.dataset import Dataset, is_dataset
from pipelines.samples import compose
from schemas.tables import TABLES
from tests.benchmarks import report
from tests.benchmarks.report import Table
from tests.buckets import S3
from tests.fault_proxy import FaultProxy
from tests.soak.kills import PACKAGES, Broken, require_whole
from transforms.buckets import objects
from transforms.buckets.stores import forget_stores
from transforms.storage import sha256_of

Figures = dict[str, object]

QUICK = ("--detector=none", "--classifier=mini-xception")
IN, OUT = "photos", "made"
PICTURES = rf"^GET /{IN}/in/"
WRITES = rf"^PUT /{OUT}/"
LISTS = "^GET .*list-type"
COMMITS = rf"^PUT /{OUT}/.*/_manifests/"
RENEW_S, LAPSE_S = 0.5, 3.0
"""How often the runs' locks are renewed and how long they stand here, in seconds."""

_LOADED = ("annotate", "labelling", "epochs", "export", "report", "summary", "flow", "progress", "metrics")


def _annotate(argv: Sequence[str], env: Mapping[str, str], said: str) -> None:
    """Be a process that runs the job."""
    to = os.open(said, os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
    os.dup2(to, 1)
    os.dup2(to, 2)
    os.environ.update(env)
    from pipelines import annotate, lease
    from pipelines.logs import run_command

    lease.RENEW_S, lease.LAPSE_S = RENEW_S, LAPSE_S
    sys.exit(run_command(annotate.main, argv))


@dataclass(frozen=True)
class Running:
    """A run under way."""

    process: BaseProcess
    log: Path
    secret: str

    @property
    def pid(self) -> int:
        assert self.process.pid
        return self.process.pid

    def end(self, *codes: int, said: str = "") -> str:
        """Wait for its end, which is one of these exit codes; return what it said."""
        self.process.join(240)
        text = self.log.read_text(errors="replace")
        if self.process.exitcode not in codes or said not in text:
            raise Broken(f"a run ended with {self.process.exitcode} instead of {codes}, {said!r}:\n{text[-3000:]}")
        if "Traceback" in text or "panicked" in text or self.secret in text:
            raise Broken(f"a run told a traceback or a secret:\n{text[-3000:]}")
        return text

    def kill(self) -> bool:
        """End it at once; return whether it was still running."""
        was_alive = self.process.is_alive()
        self.process.kill()
        self.process.join()
        return was_alive


class World:
    """A server with pictures in a bucket, and what a run makes of them that nobody disturbs."""

    def __init__(self, pictures: int = 12, epoch_items: int = 4, patience_s: int = 60) -> None:
        self.epoch_items = epoch_items
        self.folder = Path(tempfile.mkdtemp(prefix="labelstream-soak-"))
        self.server = S3()
        self.names = [f"{number:03d}.jpg" for number in range(pictures)]
        self.outs = 0
        self.plain: dict[str, str] = {}
        self.whole_s = 0.0
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload([f"pipelines.{name}" for name in _LOADED] + ["onnxruntime"])
        os.environ["LABELSTREAM_STORE_PATIENCE"] = str(patience_s)  # of the runs: this process has read it already

    def __enter__(self) -> Self:
        self.server.start()
        for name in (IN, OUT):
            self.server.make_bucket(name)
        os.environ.update(self.server.env)
        forget_stores()
        for number, name in enumerate(self.names):
            self.store(name, number)
        self.store("copy.jpg", 1)
        objects.put(f"{self.source}/broken.jpg", b"\xff\xd8\xff\xe0 cut")
        self.begin("warm-up").end(0)
        started = time.monotonic()
        self.begin("plain").end(0)
        self.whole_s = time.monotonic() - started
        self.plain = fingerprints(self.uri("plain"))
        return self

    def __exit__(self, *_: object) -> None:
        self.server.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def source(self) -> str:
        return f"s3://{IN}/in"

    @property
    def items(self) -> int:
        return len(self.names) + 2

    def uri(self, out: str) -> str:
        return f"s3://{OUT}/{out}"

    def new(self) -> str:
        """Return a name for an output that is not there yet."""
        self.outs += 1
        return f"out-{self.outs}"

    def store(self, name: str, number: int) -> None:
        """Put a picture of this number into the bucket."""
        scene = compose(name, (320, 240), [(20 + 9 * (number % 20), 60, 0.6)], number % 3)
        encoded = cv2.imencode(".jpg", scene.rgb[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 60 + number // 60])[1]
        objects.put(f"{self.source}/{name}", encoded.tobytes())

    def begin(self, out: str, *options: str, proxy: FaultProxy | None = None, source: str = "") -> Running:
        """Start a run into `out`."""
        env = self.server.env | ({"AWS_ENDPOINT_URL": proxy.address} if proxy else {})
        words = ["--runner=DirectRunner", *QUICK, f"--epoch-items={self.epoch_items}", "--max-failure-rate=1"]
        words += [f"--input={source or self.source}", f"--output={self.uri(out)}", *options]
        log = self.folder / f"{out}-{time.monotonic_ns()}.txt"
        process = self._context.Process(target=_annotate, args=(words, env, str(log)), daemon=True)
        process.start()
        return Running(process, log, self.server.env["AWS_SECRET_ACCESS_KEY"])

    def look(self, out: str) -> None:
        """Read what is committed, as a stranger would."""
        if is_dataset(self.uri(out)):
            dataset = Dataset(self.uri(out))
            dataset.verify()
            require_whole(dataset)

    def require_plain(self, out: str) -> None:
        """Raise `Broken` unless the data set is whole, and byte by byte that of the run that was left alone."""
        self.look(out)
        found = fingerprints(self.uri(out))
        if differ := [name for name in found.keys() | self.plain.keys() if found.get(name) != self.plain.get(name)]:
            raise Broken(f"{out}: other bytes than the undisturbed run: {', '.join(sorted(differ)[:10])}")


def fingerprints(out: str) -> dict[str, str]:
    """Return what no disturbance may change: files by sha256, manifests and summary without their times."""
    dataset = Dataset(out)
    files = [path for table in TABLES for path in dataset.files(table)]
    files += [str(path) for path in (dataset.path / "exports").rglob("*")]
    with ThreadPoolExecutor(8) as pool:
        found = dict(zip([path.removeprefix(out) for path in files], pool.map(sha256_of, files), strict=True))
    for manifest in dataset.manifests:
        changing = ("seconds", "committed_at", "roots", "writer")
        told = {key: value for key, value in manifest.told.items() if key not in changing}
        found[f"manifest {manifest.epoch}"] = json.dumps(told, sort_keys=True)
    summary = json.loads((dataset.path / "report" / "summary.json").read_bytes())
    for changing in ("this_run", "steps"):
        summary.pop(changing)
    found["summary"] = json.dumps(summary, sort_keys=True)
    return found


# ---- two at once


def race(world: World, *, rounds: int, is_begun: bool) -> Figures:
    """Start two runs together; one does the work, the other is refused, or finds it done."""
    ends: Counter[str] = Counter()
    for _ in range(rounds):
        out = world.new()
        if is_begun:
            world.begin(out, f"--limit={world.epoch_items}").end(0)
        running = [world.begin(out) for _ in range(2)]
        said = [one.end(0, 1, 2) for one in running]
        codes = [one.process.exitcode for one in running]
        ends[" and ".join(map(str, sorted(map(str, codes))))] += 1
        for code, text in zip(codes, said, strict=True):
            if {2: "is in use by another run", 1: "another run", 0: ""}[code or 0] not in text:
                raise Broken(f"a run that lost ended with {code}:\n{text[-2000:]}")
        if 0 not in codes:
            raise Broken("none of two runs did the work:\n" + "\n".join(text[-1500:] for text in said))
        if is_begun:
            world.look(out)
            require_items(world, out)
        else:
            world.require_plain(out)
    return {"rounds": rounds, **{f"exit codes {codes}": count for codes, count in ends.items()}}


def require_items(world: World, out: str) -> None:
    """Raise `Broken` unless each picture is there once."""
    dataset = Dataset(world.uri(out))
    found = sum(dataset.scan(table).collect().height for table in ("images", "failures"))
    keys = pl.concat(dataset.scan(table).select("item_key") for table in ("images", "failures")).collect()["item_key"]
    if found != world.items or keys.n_unique() != found:
        raise Broken(f"{out}: {found} items, {keys.n_unique()} keys instead of {world.items}")


ZOMBIES = {
    "reading": PICTURES,
    "writing": rf"^PUT /{OUT}/.*/annotations/00000002",
    "reporting": rf"^PUT /{OUT}/.*/_tmp/00000002",
    "committing": rf"{COMMITS}00000002",
}
"""Where a run is stopped, as the request that it has sent by then: the store gets it when the run wakes."""


def zombie(world: World, *, moment: str, is_changed: bool) -> Figures:
    """Stop a run in the middle, let another take over and finish, wake the first: nothing of it is seen."""
    out, source = world.new(), world.source
    wakes, stopped = threading.Event(), threading.Event()
    if is_changed:
        source = f"s3://{IN}/{out}"
        for page in objects.walk(world.source):
            for entry in page:
                data = objects.read(objects.uri_of(source, entry.key), None, lambda size: None)
                objects.put(f"{source}/{entry.key.rpartition('/')[2]}", data)
    with FaultProxy(world.server.port) as proxy:
        first = world.begin(out, proxy=proxy, source=source)

        def stop() -> None:
            os.kill(first.pid, signal.SIGSTOP)
            stopped.set()
            wakes.wait(120)

        match = ZOMBIES[moment].replace(f"/{IN}/in/", f"/{IN}/")
        proxy.before(stop, match, nth=world.epoch_items + 3 if moment == "reading" else 1)
        try:
            if not stopped.wait(60):
                raise Broken(f"no request {match} came:\n{first.log.read_text()[-2000:]}")
            if is_changed:
                other = objects.read(f"{world.source}/{world.names[0]}", None, lambda size: None) + b"\0"
                objects.put(f"{source}/{world.names[world.epoch_items]}", other)
            second = world.begin(out, source=source).end(0)
            before = fingerprints(world.uri(out))
            os.kill(first.pid, signal.SIGCONT)
            wakes.set()
            said = first.end(1)
        finally:
            wakes.set()
            first.kill()  # one that is stopped never ends by itself
    if "another run" not in said:
        raise Broken(f"a run that was shut out said:\n{said[-2000:]}")
    if fingerprints(world.uri(out)) != before:
        raise Broken(f"a run that was shut out at {moment} has changed the data set")
    if not is_changed:
        world.require_plain(out)
    else:
        world.look(out)
        require_items(world, out)
        again = world.new()
        world.begin(again, source=source).end(0)
        require_same_rows(world.uri(out), world.uri(again))
    waited = "waiting" in second
    shards = {path.rpartition("/")[2] for path in Dataset(world.uri(out)).files("images")}
    return {"the second waited for a sign of life": waited, "shards": ", ".join(sorted(shards)), "said": _last(said)}


def require_same_rows(one: str, other: str) -> None:
    """Raise `Broken` unless two data sets have the same rows in the same order."""
    for table in TABLES:
        left, right = (Dataset(out).scan(table).collect() for out in (one, other))
        if not left.equals(right):
            raise Broken(f"{table}: {one} has other rows than {other}")


def _last(said: str) -> str:
    return said.strip().splitlines()[-1]


# ---- kills


def kills(world: World, *, count: int, seed: int = 7) -> Figures:
    """Kill runs at moments spread evenly over a whole one, look, and go on until it is done."""
    chance = random.Random(seed)
    moments = [(number + chance.random()) / count for number in range(count)]
    chance.shuffle(moments)
    killed = finished = 0
    out = world.new()
    while moments:
        running = world.begin(out)
        running.process.join(moments[-1] * world.whole_s)
        if running.kill():
            moments.pop()
            killed += 1
            world.look(out)
        else:
            running.end(0)
            world.require_plain(out)
            finished += 1
            out = world.new()
    world.begin(out).end(0)
    world.require_plain(out)
    return {"kills": killed, "data sets": finished + 1}


def server_kills(world: World, *, count: int) -> Figures:
    """Kill the server over and over while a run goes on."""
    out = world.new()
    with FaultProxy(world.server.port, delay_ms=10) as proxy:
        running = world.begin(out, proxy=proxy)
        done = 0
        while done < count and running.process.is_alive():
            asked = len(proxy.log)
            while len(proxy.log) < asked + 12 and running.process.is_alive():
                time.sleep(0.02)
            world.server.kill()
            time.sleep(0.7)
            world.server.start()
            done += 1
        running.end(0)
        requests = len(proxy.log)
    world.require_plain(out)
    return {"kills of the server": done, "requests": requests}


def gone(world: World) -> Figures:
    """Kill the server for longer than a run has patience, in the middle of one: the next run goes on."""
    out = world.new()
    with FaultProxy(world.server.port) as proxy:
        proxy.before(world.server.kill, COMMITS, nth=2)
        started = time.monotonic()
        said = world.begin(out, proxy=proxy).end(1, said="the store does not answer")
    took = time.monotonic() - started
    world.server.start()
    world.look(out)
    world.begin(out).end(0)
    world.require_plain(out)
    return {"exit after": f"{took:.0f} s", "said": _last(said)}


# ---- faults of the network and of the store


def _steady(*rules: tuple[object, str, int]) -> Callable[[FaultProxy], None]:
    def apply(proxy: FaultProxy) -> None:
        for kind, match, every in rules:
            proxy.fault(kind, match, every=every)  # type: ignore[arg-type]

    return apply


def _slow(proxy: FaultProxy) -> None:
    proxy.delay_ms = 80


FAULTS: dict[str, Callable[[FaultProxy], object]] = {
    "503-3s": lambda proxy: proxy.fault(503, seconds=3),
    "503-60s": lambda proxy: proxy.fault(503, seconds=60),
    "429": _steady((429, "", 3)),
    "500-twice": lambda proxy: [proxy.fault(500, match, count=2) for match in (PICTURES, WRITES, LISTS)],
    "reset-pictures": _steady(("reset", PICTURES, 2)),
    "reset-writes": _steady(("reset", WRITES, 3)),
    "reset-lists": _steady(("reset", LISTS, 2)),
    "lost-pictures": _steady(("lost", PICTURES, 2)),
    "lost-writes": _steady(("lost", WRITES, 2)),
    "lost-commits": _steady(("lost", rf"{COMMITS}|^PUT .*/_plans/", 1)),
    "lost-renewals": _steady(("lost", r"^PUT .*/lock", 1)),
    "lost-deletes": _steady(("lost", "^(DELETE|POST)", 2)),
    "truncate-pictures": _steady(("truncate", PICTURES, 2)),
    "truncate-lists": _steady(("truncate", LISTS, 2)),
    "truncate-shards": _steady(("truncate", rf"^GET /{OUT}/.*parquet", 2)),
    "hang-picture": lambda proxy: proxy.fault("hang", PICTURES, count=1),
    "hang-write": lambda proxy: proxy.fault("hang", rf"{WRITES}.*/images/", count=1),
    "hang-list": lambda proxy: proxy.fault("hang", LISTS, count=1),
    "slow": _slow,
    "mixed": _steady(
        *(("lost", WRITES, 4), ("reset", "", 9), (503, "", 7), ("truncate", "^GET ", 5), ("lost", "^GET ", 11))
    ),
}


def fault(world: World, *, name: str) -> Figures:
    """Let a run go through what passes: nobody sees it in the data set."""
    out = world.new()
    with FaultProxy(world.server.port) as proxy:
        FAULTS[name](proxy)
        started = time.monotonic()
        world.begin(out, proxy=proxy).end(0)
        struck = Counter(str(request.fault) for request in proxy.log if request.fault)
    if not struck and name != "slow":
        raise Broken(f"{name} did not strike")
    world.require_plain(out)
    took = f"{time.monotonic() - started:.1f} s, undisturbed {world.whole_s:.1f} s"
    return {"requests": len(proxy.log), "faults": dict(struck), "run": took}


REFUSALS = {
    "expired": (403, "ExpiredToken", "have expired: renew them"),
    "clock": (403, "RequestTimeTooSkewed", "clock is wrong: set the time"),
    "revoked": (403, "InvalidAccessKeyId", "does not know these credentials"),
    "forbidden": (403, "AccessDenied", "no permission to"),
    "full": (507, "InsufficientCapacity", "the store is full"),
}


def refusal(world: World, *, name: str) -> Figures:
    """Refuse everything from the second commit on: exit 1 with a clear word, and the next run goes on."""
    status, code, said = REFUSALS[name]
    out = world.new()
    with FaultProxy(world.server.port) as proxy:
        proxy.before(lambda: proxy.fault(status, code=code), rf"^PUT /{OUT}/.*/annotations/00000002")
        text = world.begin(out, proxy=proxy).end(1, said=said)
    kept = len(Dataset(world.uri(out)).manifests)
    if kept != 1:
        raise Broken(f"{kept} epochs are committed instead of 1")
    world.look(out)
    world.begin(out).end(0)
    world.require_plain(out)
    return {"said": _last(text)}


def bucket_removed(world: World) -> Figures:
    """Take the output's bucket away in the middle, and bring it back."""
    out = world.new()
    data = world.server.folder / "data"
    with FaultProxy(world.server.port) as proxy:
        proxy.before(lambda: (data / OUT).rename(data / "away"), COMMITS, nth=2)
        text = world.begin(out, proxy=proxy).end(1, said=f"there is no bucket s3://{OUT}")
    (data / "away").rename(data / OUT)
    world.look(out)
    world.begin(out).end(0)
    world.require_plain(out)
    return {"said": _last(text)}


def changed_meanwhile(world: World, *, how: str) -> Figures:
    """Delete or replace a picture between its listing and its reading: one failure, or what is there by now."""
    out = world.new()
    source = f"s3://{IN}/{out}"
    for number, name in enumerate(world.names):
        objects.put(f"{source}/{name}", sample(world, number))
    victim = f"{source}/{world.names[5]}"
    calls: dict[str, Callable[[], None]] = {
        "deleted": lambda: objects.remove(victim),
        "replaced": lambda: objects.put(victim, sample(world, 0) + b"\0"),
    }
    with FaultProxy(world.server.port) as proxy:
        proxy.before(calls[how], rf"^GET /{IN}/{out}/{world.names[5]}")
        world.begin(out, proxy=proxy, source=source).end(0)
    first = _row_of(world, out, world.names[5])
    if how == "replaced":
        world.begin(out, "--retry-failed", source=source).end(0)
        row = _row_of(world, out, world.names[5])
        if row != sha256_of(victim):
            raise Broken(f"{victim} has been replaced, and its row says {row}")
    elif first != "failed: not_found":
        raise Broken(f"{victim} was deleted, and its row says {first}")
    return {"row after the first run": first}


def sample(world: World, number: int) -> bytes:
    return objects.read(f"{world.source}/{world.names[number]}", None, lambda size: None)


def _row_of(world: World, out: str, name: str) -> str:
    """Return the sha256 of the picture's row, or how it failed."""
    dataset = Dataset(world.uri(out))
    dataset.verify()
    images = dataset.scan("images").filter(pl.col("file_name") == name).select("sha256").collect()
    failures = dataset.scan("failures").filter(pl.col("file_name") == name).collect()
    if images.height + failures.height != 1:
        raise Broken(f"{name} has {images.height} rows and {failures.height} failures")
    return str(images["sha256"][0] if images.height else f"failed: {failures['error'][0]}")


def commit_races(world: World, *, rounds: int) -> Figures:
    """Let four threads race for each commit, and for each swap, while every third answer is lost."""
    from tests.transforms.buckets.test_objects import disturb, race_create, race_replace

    with FaultProxy(world.server.port) as proxy:
        os.environ["AWS_ENDPOINT_URL"] = proxy.address
        forget_stores()
        disturb(proxy)
        try:
            race_create(world.uri(world.new()), rounds)
            race_replace(world.uri(world.new()), rounds)
        finally:
            os.environ.update(world.server.env)
            forget_stores()
        return {"rounds of each": rounds, "faults": dict(Counter(str(one.fault) for one in proxy.log if one.fault))}


# ---- the command


def plan(options: argparse.Namespace) -> dict[str, Callable[[World], Figures]]:
    """Return what is done, in order, by its name."""
    part = functools.partial
    named: dict[str, Callable[[World], Figures]] = {
        "race-new": part(race, rounds=options.rounds, is_begun=False),
        "race-begun": part(race, rounds=options.rounds, is_begun=True),
        "race-commits": part(commit_races, rounds=options.rounds),
        "kills": part(kills, count=options.kills),
        "server-kills": part(server_kills, count=5),
        "server-gone": gone,
        "bucket-removed": bucket_removed,
    }
    for moment in ZOMBIES:
        for is_changed in (False, True):
            name = f"zombie-{moment}{'-changed' if is_changed else ''}"
            named[name] = part(zombie, moment=moment, is_changed=is_changed)
    named |= {f"fault-{name}": part(fault, name=name) for name in FAULTS}
    named |= {f"refused-{name}": part(refusal, name=name) for name in REFUSALS}
    return named | {f"picture-{how}": part(changed_meanwhile, how=how) for how in ("deleted", "replaced")}


def main() -> int:
    """Read the command line, disturb; return 1 where something was lost, doubled or not as it should be."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak.buckets", description=__doc__.split("\n\n")[0])
    parser.add_argument(
        "--only", action="append", metavar="NAME", help="a scenario, or how its name begins; repeatable"
    )
    parser.add_argument("--rounds", type=int, default=50, help="of two writers that race (default 50)")
    parser.add_argument("--kills", type=int, default=30, help="kill -9 of the pipeline (default 30)")
    parser.add_argument("--pictures", type=int, default=30, help="(default 30)")
    parser.add_argument("--write", action="store_true", help="also write tests/benchmarks/results/<date>-buckets.md")
    parser.add_argument("--list", action="store_true", help="say which scenarios there are")
    options = parser.parse_args()
    chosen = {
        name: run for name, run in plan(options).items() if not options.only or name.startswith(tuple(options.only))
    }
    if options.list:
        print(*chosen, sep="\n")
        return 0
    facts = report.machine()
    tables, broken = [], 0
    with World(options.pictures, epoch_items=6) as world:
        for name, run in chosen.items():
            started = time.monotonic()
            try:
                figures = run(world)
            except Broken as error:
                broken += 1
                figures = {"BROKEN": " ".join(str(error).split())[:2000]}
                print(f"{name}: {error}", file=sys.stderr)
            figures["took"] = f"{time.monotonic() - started:.0f} s"
            rows = [(what, str(figure)) for what, figure in figures.items()]
            tables.append(Table(name, ("what", "figure"), rows))
            print(*tables[-1].lines(), sep="\n", flush=True)
    facts += [report.versions(PACKAGES), report.command("-m tests.soak.buckets"), "store: versitygw"]
    report.tell("buckets", facts, tables, options.write)
    return int(broken > 0)


if __name__ == "__main__":
    sys.exit(main())
