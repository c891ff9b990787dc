"""What whole processes take, as a person starts them: peak memory, and the time to the first commit."""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.benchmarks import composed, inputs
from tests.benchmarks.kinds import Size, say
from tests.benchmarks.report import ROOT, Table, spread

MOST_GROWTH_MB = 300
MOST_START_S = 8.0
MOST_HELP_S = 1.0

Measured = tuple[list[Table], dict[str, Any]]
"""Tables for people, and all figures as plain values."""


def whole_process(words: Sequence[str], out: Path | None = None) -> tuple[float, float]:
    """Run a command to its end; return its seconds and its peak memory in MB, children included.

    `out` is its data set, where it would leave the details of an error.
    """
    with tempfile.TemporaryDirectory(prefix="labelstream-bench-") as folder, tempfile.TemporaryFile() as said:
        told = Path(folder) / "told.json"
        alone = [sys.executable, str(Path(__file__).with_name("alone.py")), str(told), *words]
        subprocess.run(alone, cwd=ROOT, stdout=said, stderr=subprocess.STDOUT, check=True)
        took: dict[str, Any] = json.loads(told.read_bytes())
        if took["code"]:
            said.seek(0)
            text = said.read().decode(errors="replace")[-2000:]
            for details in out.glob("_tmp/last-error.txt") if out else ():  # the folder goes with this process
                text += details.read_text(errors="replace")[-8000:]
            raise SystemExit(f"{' '.join(words)} ended with {took['code']}:\n{text}")
    return took["seconds"], took["peak_mb"]


def annotate_words(folder: Path, out: Path) -> list[str]:
    """Return the words of a whole run, as a person types them."""
    return ["-m", "pipelines.annotate", "--runner=DirectRunner", f"--input={folder}", f"--output={out}", "--device=cpu"]


def memory(size: Size) -> Measured:
    """Measure how the peak of memory grows with the number of pictures, and with the length of a video."""
    _, clips = composed.clips(size.clips, size.frames)
    clip = sorted(clips.iterdir())[0]
    tables, figures = [], {}
    for what, two in (
        ("pictures", [inputs.variants(count, 320, 640) for count in (size.few_pictures, size.many_pictures)]),
        ("video", [composed.repeated(clip, times) for times in (1, size.times_long)]),
    ):
        rows, peaks = [], []
        for told, folder in two:
            say(f"memory: {told}")
            with tempfile.TemporaryDirectory(prefix="labelstream-bench-") as out:
                seconds, peak = whole_process(annotate_words(folder, Path(out) / "out"), Path(out) / "out")
            peaks.append(peak)
            rows.append((told, f"{peak:.0f}", f"{seconds:.1f}"))
        growth = peaks[1] - peaks[0]
        rows.append((f"growth (target < {MOST_GROWTH_MB})", f"{growth:.0f}", ""))
        tables.append(Table(f"Peak resident memory of whole processes, {what}", (what, "MB", "seconds"), rows))
        figures[what] = {"peaks_mb": peaks, "growth_mb": growth}
    return tables, figures


def start(size: Size) -> Measured:
    """Measure what one picture takes from command to committed manifest, and what `--help` takes."""
    _, many = inputs.variants(size.few_pictures, 320, 640)
    runs: list[float] = []
    helps: list[float] = []
    say("start-up")
    with tempfile.TemporaryDirectory(prefix="labelstream-bench-") as name:
        (Path(name) / "in").mkdir()
        (Path(name) / "in" / "one.jpg").write_bytes(next(iter(sorted(many.iterdir()))).read_bytes())
        for turn in range(size.starts):
            words = annotate_words(Path(name) / "in", Path(name) / f"out-{turn}")
            runs.append(until_committed(words, Path(name) / f"out-{turn}"))
            helps.append(whole_process(["-m", "pipelines.annotate", "--help"])[0])
    counted = [each[1:] or each for each in (runs, helps)]
    rows = [
        ("one picture, to its manifest", spread(counted[0], 2), f"< {MOST_START_S:g}"),
        ("--help, to its end", spread(counted[1], 2), f"< {MOST_HELP_S:g}"),
    ]
    notes = [
        f"{len(counted[0])} processes each, after one that warms the disk's cache; graphs built before are in the cache"
    ]
    table = Table("Start-up", ("command", "seconds: median (range)", "target"), rows, notes)
    return [table], {"one_picture_seconds": counted[0], "help_seconds": counted[1]}


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
