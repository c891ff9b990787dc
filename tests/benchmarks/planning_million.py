"""A nightly run over a million committed files: what it costs to plan the few new ones, with the peak of memory.

python -m tests.benchmarks.planning_million [--files 1000000] [--shards 20] [--write]
"""

import argparse
import hashlib
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from pipelines.dataset import Dataset, to_arrow
from schemas.layout import CONTENTS, INDEX, MANIFESTS, NAMES, PLANS, TEMPORARY, epoch_file, shard_number, shard_path
from schemas.records import image_id, item_key
from schemas.tables import TABLES, parquet_bytes, schema
from transforms.source import InputFile

RESULTS = Path(__file__).parent / "results"
NEW, CHANGED, DELETED = 100, 10, 5
_CONFIGURATION = {"duplicates": "exact", "max_bytes": 10**9, "max_pixels": 10**9, "frames": "all"}
_TIME_NS = 1_700_000_000_000_000_000


def name_of(number: int) -> str:
    """Return the name of a file, as cameras and cloud drives give them."""
    return f"{2015 + number // 100_000}/{number // 1000:05d}/IMG_{number:08d}_DSC.jpg"


def size_of(number: int) -> int:
    """Return the size of a file in bytes: a few have the same."""
    return 40_000 + number * 7919 % 3_000_017


def listed(root: Path, files: int) -> Iterator[InputFile]:
    """Yield the listing of the next night: some are new, some changed, some gone."""
    changed = {files // CHANGED * at for at in range(CHANGED)}
    gone = {files // DELETED * at + 17 for at in range(DELETED)}
    new = {files // NEW * at + 5 for at in range(NEW)}
    for number in range(files):
        name = name_of(number)
        if number not in gone:
            mtime = _TIME_NS + number + (number in changed)
            yield InputFile(0, str(root), f"{root}/{name}", name, size_of(number), mtime)
        if number in new:
            name = name.replace("_DSC", "_NEW")
            yield InputFile(0, str(root), f"{root}/{name}", name, size_of(number + 1), _TIME_NS)


State = Callable[[int], tuple[int, str]]
"""Tells the size in bytes of a file, by its number, and its version."""


def state_of(number: int) -> tuple[int, str]:
    """Return the state of a file as `listed` has it."""
    return size_of(number), str(_TIME_NS + number)


def write_dataset(out: Path, root: str, files: int, shards: int, state: State = state_of) -> None:
    """Write what a data set of so many pictures holds, each shard a commit of its own."""
    from pipelines.roots import Roots

    for folder in (MANIFESTS, PLANS, TEMPORARY):
        (out / folder).mkdir(parents=True)
    known, _ = Roots(Dataset(out)).place(root, "a.jpg")
    for part in range(shards):
        numbers = range(files * part // shards, files * (part + 1) // shards)
        names = [name_of(number) for number in numbers]
        contents = [hashlib.sha256(name.encode()).hexdigest() for name in names]
        states = [state(number) for number in numbers]
        keys = [item_key(0, name, *told) for name, told in zip(names, states, strict=True)]
        images = pl.DataFrame(
            {
                "image_id": [image_id(*told) for told in zip(contents, [0] * len(names), names, strict=True)],
                "item_key": keys,
                "file_name": names,
                "source_uri": [f"{root}/{name}" for name in names],
                "sha256": contents,
                "size_bytes": [size for size, _ in states],
            }
        ).with_columns(root=pl.lit(0), width=pl.lit(1920), height=pl.lit(1080), outcome=pl.lit("no_face"))
        tables = {}
        for table in TABLES:
            wanted = pl.Schema(schema(table, ()))
            none = pl.DataFrame(schema=wanted)
            rows = pl.concat([none.cast({pl.Categorical: pl.String}), images], how="diagonal_relaxed")
            data = parquet_bytes(to_arrow(rows if table == "images" else none, schema(table, ())), {"labels": []})
            path = shard_path(table, shard_number(part + 1, 0))
            (out / path).parent.mkdir(exist_ok=True)
            (out / path).write_bytes(data)
            rows_written = len(images) if table == "images" else 0
            tables[table] = [{"path": path, "rows": rows_written, "size": len(data), "sha256": "0" * 64}]
        told = {
            "epoch": part + 1,
            "version": "1.0.0",
            "configuration": _CONFIGURATION,
            "labels": [],
            "roots": [] if part else [{"number": 0, "name": known.name, "marks": known.marks}],
            "items": len(images),
            "outcomes": {"no_face": len(images)},
            "supersedes": [],
            "tables": tables,
        }
        (out / epoch_file(MANIFESTS, part + 1)).write_text(json.dumps(told))


def peak_mb() -> float:
    """Return the peak of this process's memory so far."""
    return next(int(row.split()[1]) for row in Path("/proc/self/status").open() if row.startswith("VmHWM")) / 1024


def measure(out: Path, root: Path, files: int) -> None:
    """Plan one night and print what it took, as JSON; what is learnt is kept."""
    from pipelines.planning import Planner

    base, started, used = peak_mb(), time.perf_counter(), time.process_time()
    listing = sum(1 for _ in listed(root, files))
    drained, drained_cpu, began = time.perf_counter() - started, time.process_time() - used, time.perf_counter()
    planner = Planner(
        Dataset(out), listed(root, files), _CONFIGURATION, epoch_items=2000, retry_failed=False, whole=[str(root)]
    )
    opened = time.perf_counter() - began
    began, used = time.perf_counter(), time.process_time()
    plan = planner.next(len(planner.dataset.manifests) + 1)
    passed, cpu = time.perf_counter() - began - drained, time.process_time() - used - drained_cpu
    planned = peak_mb()
    began = time.perf_counter()
    assert planner.next(0) is None and plan is not None
    missing = planner.missing()
    told = time.perf_counter() - began
    began = time.perf_counter()
    planner.save()
    saved = time.perf_counter() - began
    assert missing is not None and missing.height == DELETED
    assert (plan.pictures, len(plan.supersedes), listing) == (NEW + CHANGED, CHANGED, files + NEW - DELETED)
    figures = {
        "open": opened,
        "pass": passed,
        "cpu": cpu,
        "missing": told,
        "save": saved,
        "base": base,
        "planned": planned,
    }
    print(json.dumps(figures | {"peak": peak_mb(), "drained": drained}))


def main() -> None:
    """Make the data set, plan one night without what is kept and one with it, and tell both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=1_000_000)
    parser.add_argument("--shards", type=int, default=20)
    parser.add_argument("--write", action="store_true", help="write the figures into results/")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure is not None:
        measure(options.measure / "out", options.measure / "in", options.files)
        return
    with tempfile.TemporaryDirectory(prefix="labelstream-million-") as folder:
        home = Path(folder)
        (home / "in").mkdir()
        write_dataset(home / "out", str(home / "in"), options.files, options.shards)
        command = [sys.executable, "-m", "tests.benchmarks.planning_million", "--files", str(options.files)]
        nights = []
        for night in ("from the shards", "from what is kept"):
            done = subprocess.run([*command, "--measure", folder], capture_output=True, text=True)
            if done.returncode:
                sys.exit(done.stderr)
            nights.append((night, json.loads(done.stdout)))
        sizes = ", ".join(f"{path} {(home / 'out' / path).stat().st_size / 2**20:.0f} MB" for path in (NAMES, CONTENTS))
    lines = [
        f"# Planning a night: {options.files:,} committed files, {NEW} new, {CHANGED} changed, {DELETED} deleted",
        "",
        f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores ({platform.machine()}), Python "
        f"{platform.python_version()}; {options.shards} shards; load at the end {os.getloadavg()[0]:.1f}. Seconds, and "
        f"peak MB of the process; the listing itself is not in them. `{INDEX}/`: {sizes}",
        "",
        "| learnt | open | plan | plan, CPU | missing | keep | MB before | MB planned | MB in all |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for night, told in nights:
        seconds = " | ".join(f"{told[name]:.2f}" for name in ("open", "pass", "cpu", "missing", "save"))
        memory = " | ".join(f"{told[name]:.0f}" for name in ("base", "planned", "peak"))
        lines.append(f"| {night} | {seconds} | {memory} |")
    text = "\n".join(lines) + "\n"
    print(text)
    if options.write:
        (RESULTS / f"{datetime.now(UTC):%Y-%m-%d}-planning-million.md").write_text(text)


if __name__ == "__main__":
    main()
