"""A bucket against a folder: the same pictures labelled from either, and a night over a million listed objects.

python -m tests.benchmarks.buckets [--pictures 1000] [--rounds 3] [--objects 1000000] [--write]

The bucket is on this machine, so its server shares the cores with the run; a proxy adds 20 ms to every request. The
million objects are hard links of one: what a listing costs does not depend on what is in them.
"""

import argparse
import json
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from tests.benchmarks.inputs import variants
from tests.benchmarks.planning_million import CHANGED, DELETED, NEW, name_of, peak_mb, write_dataset
from tests.buckets import S3
from tests.fault_proxy import FaultProxy

RESULTS = Path(__file__).parent / "results"
DELAY_MS = 20
_SHARDS = 20
_LINKS = 50_000  # ext4 has at most 65,000 to a file
_CONFIGURATION = {"duplicates": "exact", "max_bytes": 10**9, "max_pixels": 10**9, "frames": "all"}


@contextmanager
def _using(env: dict[str, str]) -> Iterator[None]:
    from transforms.buckets.stores import forget_stores

    before = dict(os.environ)
    os.environ.update(env)
    forget_stores()
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def upload(folder: Path, uri: str) -> None:
    """Write a folder's files below `uri`."""
    from transforms.storage import write_atomic

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda path: write_atomic(f"{uri}/{path.name}", path.read_bytes()), folder.iterdir()))


def label(source: str, output: str, env: dict[str, str]) -> tuple[float, float]:
    """Label the pictures of `source`; return the seconds by the clock and of the run's own processors."""
    command = [sys.executable, "-m", "pipelines.annotate", "--runner=DirectRunner", "--input", source]
    began, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([*command, "--output", output], capture_output=True, text=True, env={**os.environ, **env})
    seconds, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        sys.exit(done.stderr)
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def speed(pictures: int, rounds: int) -> list[str]:
    """Return lines about labelling from a folder, a bucket, and one that answers late, in turns."""
    told, folder = variants(pictures, 400, 1280)
    took: dict[str, list[tuple[float, float]]] = {}
    with S3() as s3, FaultProxy(s3.port, DELAY_MS) as slow, tempfile.TemporaryDirectory() as scratch:
        s3.make_bucket("raw")
        s3.make_bucket("out")
        with _using(s3.env):
            upload(folder, "s3://raw/in")
        late = s3.env | {"AWS_ENDPOINT_URL": slow.address}
        for number in range(rounds):
            for name, source, output, env in (
                ("folder to folder", str(folder), f"{scratch}/{number}a", {}),
                ("bucket to folder", "s3://raw/in/", f"{scratch}/{number}b", s3.env),
                ("bucket to bucket", "s3://raw/in/", f"s3://out/{number}c", s3.env),
                (f"bucket + {DELAY_MS} ms to folder", "s3://raw/in/", f"{scratch}/{number}d", late),
                (f"bucket + {DELAY_MS} ms to bucket", "s3://raw/in/", f"s3://out/{number}e", late),
            ):
                took.setdefault(name, []).append(label(source, output, env))
    floor = statistics.median(wall for wall, _ in took["folder to folder"])
    lines = [f"{told}; start-up included; {rounds} rounds in turns, medians.", ""]
    lines += ["| | seconds | processor seconds of the run | speed, of folder to folder |", "|---|---|---|---|"]
    for name, each in took.items():
        wall, cpu = (statistics.median(one[at] for one in each) for at in (0, 1))
        lines.append(f"| {name} | {wall:.1f} | {cpu:.1f} | {floor / wall:.2f} |")
    return lines


def fill(s3: S3, objects: int) -> tuple[int, str]:
    """Make a bucket of so many objects, links to a few that are alike; return their size and etag."""
    from transforms.buckets.objects import head
    from transforms.storage import write_atomic

    s3.make_bucket("million")
    with _using(s3.env):
        for number in range(0, objects, _LINKS):
            write_atomic(f"s3://million/{name_of(number)}", b"picture" * 1000)
        entry = head(f"s3://million/{name_of(0)}")
    root = next(path for path in s3.folder.rglob("million") if path.is_dir())
    made = set()
    for number in (number for number in range(objects) if number % _LINKS):
        path = root / name_of(number)
        if path.parent not in made:
            path.parent.mkdir(parents=True, exist_ok=True)
            made.add(path.parent)
        os.link(root / name_of(number - number % _LINKS), path)
    return entry.size, entry.etag or ""


def disturb(objects: int) -> None:
    """Add, change and delete a few objects."""
    from transforms.buckets.objects import remove
    from transforms.storage import write_atomic

    for at in range(NEW):
        write_atomic("s3://million/" + name_of(objects // NEW * at).replace("_DSC", "_NEW"), f"new {at}".encode())
    for at in range(CHANGED):
        write_atomic("s3://million/" + name_of(objects // CHANGED * at), f"changed {at}".encode())
    for at in range(DELETED):
        remove("s3://million/" + name_of(objects // DELETED * at + 17))


def plan(out: Path, keep: bool) -> None:
    """Plan one night and print what it took, as JSON."""
    from pipelines.dataset import Dataset
    from pipelines.memory import pass_over, share_heaps
    from pipelines.planning import Planner
    from transforms.source import list_inputs

    share_heaps()  # both as the job does
    pass_over()
    base, began = peak_mb(), time.monotonic()
    listing = list_inputs(["s3://million/"], exclude=None)
    planner = Planner(
        Dataset(out), listing.files, _CONFIGURATION, epoch_items=2000, retry_failed=False, whole=listing.whole
    )
    found = planner.next(len(planner.dataset.manifests) + 1)
    assert found is not None and planner.next(0) is None
    missing = planner.missing()
    seconds, peak = time.monotonic() - began, peak_mb()
    assert missing is not None and missing.height == DELETED, missing
    assert (found.pictures, len(found.supersedes)) == (NEW + CHANGED, CHANGED), (found.pictures, found.supersedes)
    if keep:
        planner.save()
    used = time.process_time()
    print(json.dumps({"seconds": seconds, "cpu": used, "base": base, "peak": peak}))


def listed_only() -> None:
    """List the million and print what it took, as JSON."""
    from transforms.source import list_inputs

    base, began = peak_mb(), time.monotonic()
    count = sum(1 for _ in list_inputs(["s3://million/"], exclude=None).files)
    figures = {"seconds": time.monotonic() - began, "cpu": time.process_time(), "base": base, "peak": peak_mb()}
    print(json.dumps(figures | {"count": count}))


def million(objects: int) -> list[str]:
    """Return lines about a night over so many listed objects."""
    with S3() as s3, tempfile.TemporaryDirectory(prefix="labelstream-million-") as folder:
        size, etag = fill(s3, objects)
        out = Path(folder) / "out"
        write_dataset(out, "s3://million", objects, _SHARDS, lambda number: (size, etag))
        with _using(s3.env):
            disturb(objects)
            command = [sys.executable, "-m", "tests.benchmarks.buckets"]
            told = {}
            for name, words in (
                ("the listing alone", ["--listed"]),
                ("a night, nothing kept", ["--plan", str(out), "--keep"]),
                ("a night", ["--plan", str(out)]),
            ):
                done = subprocess.run([*command, *words], capture_output=True, text=True)
                if done.returncode:
                    sys.exit(done.stderr)
                told[name] = json.loads(done.stdout)
        shutil.rmtree(s3.folder, ignore_errors=True)
    lines = [f"{objects:,} objects; {NEW} new, {CHANGED} changed, {DELETED} deleted. The server shares the cores.", ""]
    lines += ["| | seconds | processor seconds of the run | MB before | MB at the peak |", "|---|---|---|---|---|"]
    for name, each in told.items():
        lines.append(
            f"| {name} | {each['seconds']:.1f} | {each['cpu']:.1f} | {each['base']:.0f} | {each['peak']:.0f} |"
        )
    return lines


def main() -> None:
    """Measure both and tell."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--objects", type=int, default=1_000_000)
    parser.add_argument("--write", action="store_true", help="write the figures into results/")
    parser.add_argument("--plan", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--keep", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--listed", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.plan is not None:
        plan(options.plan, options.keep)
        return
    if options.listed:
        listed_only()
        return
    lines = [
        "# Buckets",
        "",
        f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores ({platform.machine()}), Python "
        f"{platform.python_version()}, versitygw on this machine",
    ]
    if options.rounds:
        lines += ["", "## A bucket against a folder", "", *speed(options.pictures, options.rounds)]
    if options.objects:
        lines += ["", "## A night over many objects", "", *million(options.objects)]
    text = "\n".join([*lines, "", f"Load at the end {os.getloadavg()[0]:.1f}."]) + "\n"
    print(text)
    if options.write:
        (RESULTS / f"{datetime.now(UTC):%Y-%m-%d}-buckets.md").write_text(text)


if __name__ == "__main__":
    main()
