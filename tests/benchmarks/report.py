"""How a measurement is told: the machine, the versions, the tables; printed, and written as a dated file.

Needs the standard library alone, so that `bench_gpu` can use it.
"""

import json
import math
import os
import platform
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
RESULTS = Path(__file__).resolve().parent / "results"

PACKAGES = (
    "apache-beam",
    "great-expectations",
    "onnxruntime-gpu",
    "onnxruntime",
    "opencv-python-headless",
    "av",
    "numpy",
    "polars",
    "pyarrow",
    "pandas",
)


@dataclass(frozen=True)
class Table:
    """One table of a report, with what must be known to read it."""

    title: str
    header: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    notes: Sequence[str] = ()

    def lines(self) -> list[str]:
        """Return the table as lines of Markdown that also read well on a terminal."""
        widths = [max(map(len, column)) for column in zip(self.header, *self.rows, strict=True)]
        told = [_row(row, widths) for row in (self.header, *self.rows)]
        rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
        return [f"## {self.title}", "", told[0], rule, *told[1:], "", *(f"- {note}" for note in self.notes)]


def _row(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, *others = zip(cells, widths, strict=True)
    return "| " + " | ".join([first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)]) + " |"


def spread(values: Sequence[float], digits: int = 1) -> str:
    """Return the median and the range of repeated measurements.

    >>> spread([3.0, 1.0, 2.0])
    '2.0 (1.0-3.0)'
    """
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f}-{max(values):.{digits}f})"


def percentiles(values: Sequence[float], at: Sequence[int] = (50, 90, 99), digits: int = 1) -> tuple[str, ...]:
    """Return the smallest of `values` below which, or at which, each share of them lies, `at` in percent.

    >>> percentiles([4.0, 1.0, 3.0, 2.0], at=(50, 75, 99))
    ('2.0', '3.0', '4.0')
    """
    ranked = sorted(values)
    return tuple(f"{ranked[max(0, math.ceil(len(ranked) * share / 100) - 1)]:.{digits}f}" for share in at)


def machine() -> list[str]:
    """Return what must be known of the machine, one fact a line."""
    load = "/".join(f"{value:.2f}" for value in os.getloadavg()) if hasattr(os, "getloadavg") else "unknown"
    return [
        f"date: {time.strftime('%Y-%m-%d %H:%M %Z')}",
        f"machine: {_processor()}, {os.cpu_count()} cores, {_memory()}, {platform.system()} {platform.release()}",
        f"load average at the start: {load}",
        f"code: {_commit()}",
    ]


def versions(packages: Iterable[str]) -> str:
    """Return Python's version and those of the installed ones of `packages`."""
    told = [f"Python {platform.python_version()}"]
    for package in packages:
        try:
            told.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    return "versions: " + ", ".join(told)


def command(module: str) -> str:
    """Return the command line that this process was started with."""
    return "command: " + shlex.join(["python", *module.split(), *sys.argv[1:]])


def tell(what: str, facts: Sequence[str], tables: Sequence[Table], write: bool) -> None:
    """Print the report; with `write`, put it also into results/<date>-<what>.md."""
    blocks = [[f"# {what}", ""], [f"- {fact}" for fact in facts], *(["", *table.lines()] for table in tables)]
    text = "\n".join(line for block in blocks for line in block).rstrip() + "\n"
    print(text, flush=True)
    if write:
        RESULTS.mkdir(exist_ok=True)
        path = RESULTS / f"{time.strftime('%Y-%m-%d')}-{what}.md"
        path.write_text(text)
        print(f"written: {path}")


def keep(what: str, figures: Any) -> None:
    """Put all figures into results/<date>-<what>.json."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{time.strftime('%Y-%m-%d')}-{what}.json"
    path.write_text(json.dumps(figures, indent=1) + "\n")
    print(f"written: {path}")


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    named = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.machine()


def _memory() -> str:
    try:
        return f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB"
    except (ValueError, OSError, AttributeError):
        return "memory unknown"


def _commit() -> str:
    told = []
    for words in (["rev-parse", "--short", "HEAD"], ["status", "--porcelain"]):
        try:
            done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True)
        except (OSError, subprocess.CalledProcessError):
            return "unknown commit"
        told.append(done.stdout.strip())
    return f"commit {told[0]}" + (" with changes" if told[1] else "")
