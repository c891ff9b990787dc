"""A million labels: read, cleaned, validated, written and exported, with where the time goes and the peak of memory.

python -m tests.benchmarks.clean_million [--images 600000] [--annotations 1000000] [--write]
"""

import argparse
import json
import os
import platform
import random
import resource
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

RESULTS = Path(__file__).parent / "results"
_NAMES = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral", "contempt", "Happyness", "suprise ")
_WEIGHTS = (10, 5, 5, 30, 10, 8, 30, 1, 0.5, 0.5)
_SIZES = ((640, 480), (1920, 1080), (800, 600))


def write_coco(path: Path, images: int, annotations: int) -> None:
    """Write a COCO file with a misspelt and an untidy category, and one box in a thousand over the edge."""
    rng = random.Random(5)
    sizes = [rng.choice(_SIZES) for _ in range(images)]
    with path.open("w", encoding="utf-8") as out:
        out.write('{"info":{},"licenses":[],"images":[')
        for number, (width, height) in enumerate(sizes, 1):
            name = f"part{number // 1000:03d}/{number:08d}.jpg"
            row = f'{{"id":{number},"width":{width},"height":{height},"file_name":"{name}"}}'
            out.write(row if number == 1 else "," + row)
        out.write('],"annotations":[')
        for number in range(1, annotations + 1):
            image = number if number <= images else rng.randrange(1, images + 1)
            width, height = sizes[image - 1]
            w, h = round(rng.uniform(20, 200), 2), round(rng.uniform(20, 240), 2)
            x, y = round(rng.uniform(0, width - w), 2), round(rng.uniform(0, height - h), 2)
            if number % 1000 == 0:
                x = round(width - w / 2 - 1, 2)
            category = rng.choices(range(1, len(_NAMES) + 1), _WEIGHTS)[0]
            row = (
                f'{{"id":{number},"image_id":{image},"category_id":{category},"bbox":[{x},{y},{w},{h}],'
                f'"area":{round(w * h, 2)},"iscrowd":0}}'
            )
            out.write(row if number == 1 else "," + row)
        categories = [{"id": number, "name": name} for number, name in enumerate(_NAMES, 1)]
        out.write(f'],"categories":{json.dumps(categories)}}}')


def main() -> None:
    """Make the file, clean it, and tell the split of the time."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=600_000)
    parser.add_argument("--annotations", type=int, default=1_000_000)
    parser.add_argument("--write", action="store_true", help="write the figures into results/")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="labelstream-million-") as folder:
        source, out = Path(folder) / "labels.json", Path(folder) / "out"
        write_coco(source, options.images, options.annotations)
        size = source.stat().st_size
        started = time.monotonic()
        command = [sys.executable, "-m", "pipelines.clean", "--input", str(source), "--output", str(out)]
        done = subprocess.run(command, capture_output=True, text=True)
        seconds = time.monotonic() - started
        if done.returncode:
            sys.exit(done.stderr)
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        told = json.loads((out / "report" / "summary.json").read_bytes())
    lines = [
        f"# {options.annotations:,} labels of {options.images:,} pictures through `pipelines.clean`",
        "",
        f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores ({platform.machine()}), Python "
        f"{platform.python_version()}; a COCO file of {size / 2**20:.0f} MB; load at the end {os.getloadavg()[0]:.1f}",
        "",
        f"- by the clock {seconds:.1f} s, CPU {used.ru_utime + used.ru_stime:.1f} s, "
        f"peak {used.ru_maxrss / 1024:.0f} MB",
        f"- {told['annotations']:,} labels stand; rules: {told['rules']}",
        "",
        "| step | seconds (those that run side by side count in full) |",
        "|---|---|",
        *(f"| {step} | {each:.1f} |" for step, each in told["steps"].items()),
    ]
    text = "\n".join(lines) + "\n"
    print(text)
    if options.write:
        (RESULTS / f"{datetime.now(UTC):%Y-%m-%d}-clean-million.md").write_text(text)


if __name__ == "__main__":
    main()
