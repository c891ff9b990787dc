"""Make few large files of the many small ones of a data set that is fed for long: `--dataset out/`.

Rows, their order and every export stay as they are. Readers notice nothing: files that are replaced stay for a while.
Killed at any moment and run again, it goes on. Commits of about the same size are merged ten at a time, so that no row
is written often, and few manifests are left however many commits there were.
"""

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby
from math import log

from pipelines.dataset import Dataset, Manifest
from pipelines.folding import clear_away, fold
from pipelines.logs import configure, run_command
from pipelines.logs import log as logged
from pipelines.memory import give_back
from pipelines.options import DEFAULT_OUTPUT, Parser, add_shared, whole

ALIKE = 10
"""So many commits of about the same size are merged; one is about as large as another of less than ten times it."""

MOST_AT_ONCE = 1000
"""Commits that are folded in one go: a kill loses no more than that."""

GRACE_MINUTES = 60
"""How long files that were replaced stay, for readers that know no others."""


@dataclass(frozen=True)
class Extent:
    """How much a data set holds."""

    commits: int
    files: int
    rows: int
    bytes: int

    @staticmethod
    def of(dataset: Dataset) -> "Extent":
        """Return what the manifests list."""
        files = [file for one in dataset.manifests for listed in one.told["tables"].values() for file in listed]
        rows, sizes = (sum(file[name] for file in files) for name in ("rows", "size"))
        return Extent(len(dataset.manifests), len(files), rows, sizes)

    def __str__(self) -> str:
        return f"{self.commits:,} commits in {self.files:,} files, {self.rows:,} rows, {self.bytes / 1e6:,.1f} MB"


@dataclass(frozen=True)
class Compacted:
    """What a compaction did, in how many seconds."""

    before: Extent
    after: Extent
    seconds: float


def next_run(rows: Sequence[int], alike: int = ALIKE) -> slice | None:
    """Return which commits, of so many rows each from the oldest on, should be folded next; None where none should.

    A commit counts as large as the largest of those behind it. So sizes only fall, and `alike` of a kind are neighbours
    however small and large ones came: what is left is less than `alike` for each power of it.

    >>> next_run([500, 50, 40, 60, 5], alike=3)
    slice(1, 4, None)
    """
    levels = [int(log(max(count, 1)) / log(alike) + 1e-9) for count in rows]
    falling = list(accumulate(reversed(levels), max))[::-1]
    stop = len(falling)
    for _, group in groupby(reversed(falling)):
        start = stop - len(list(group))
        if stop - start >= alike:
            return slice(start, min(stop, start + MOST_AT_ONCE))
        stop = start
    return None


def compact(dataset: Dataset, *, grace_minutes: int = GRACE_MINUTES, everything: bool = False) -> Compacted | None:
    """Fold what there is to fold; return what was done, None where nothing was. The caller holds the lock.

    The newest commit that is told to Kafka is left alone, and what came after it: it may have to be told again, alone.
    Without one it is the newest. `everything` folds all others into one,
    which leaves out every row that was taken back. Call it between epochs. Raises RunError.
    """
    started = time.monotonic()
    before = Extent.of(dataset)
    while run := _next(dataset.manifests[: _newest_told(dataset.manifests)], everything):
        fold(dataset, run, grace_minutes * 60)
        give_back()
    clear_away(dataset)
    after = Extent.of(dataset)
    return None if after == before else Compacted(before, after, time.monotonic() - started)


def _newest_told(manifests: Sequence[Manifest]) -> int:
    told = (at for at in reversed(range(len(manifests))) if {"stream", "decisions"} & manifests[at].told.keys())
    return next(told, max(0, len(manifests) - 1))


def _next(settled: Sequence[Manifest], everything: bool) -> Sequence[Manifest]:
    if everything:
        return settled[:MOST_AT_ONCE] if len(settled) > 1 else ()
    chosen = next_run([_rows(manifest) for manifest in settled])
    return settled[chosen] if chosen else ()


def _rows(manifest: Manifest) -> int:
    return sum(file["rows"] for files in manifest.told["tables"].values() for file in files)


def main(argv: Sequence[str]) -> int:
    """Run the job; return the exit code."""
    from pipelines import epochs

    options = _parser().parse_args(argv)
    configure(options.log_format)
    dataset = Dataset(options.dataset)
    with epochs.one_writer(dataset.path) as hold:
        dataset.refresh()
        dataset.verify()
        epochs.collect_garbage(dataset)
        if options.collect_garbage:
            found = epochs.collect_old_garbage(dataset, hold)
            print(
                f"{options.dataset}: {found.files:,} left files, {found.bytes / 1e6:,.1f} MB, and "
                f"{found.uploads:,} dead uploads removed"
            )
            return 0
        done = compact(dataset, grace_minutes=options.grace_minutes, everything=options.everything)
    if done is None:
        print(f"{options.dataset}: nothing to do: {Extent.of(dataset)}{_hint(dataset, options.everything)}")
        return 0
    logged.info("before: %s", done.before)
    print(
        f"{options.dataset}: {done.after}; {done.before.rows - done.after.rows:,} rows left out, {done.seconds:.1f} s"
    )
    if options.grace_minutes:
        logged.info("replaced files stay for %d minutes, and are deleted by a later run", options.grace_minutes)
    return 0


def _hint(dataset: Dataset, everything: bool) -> str:
    if everything or len(dataset.manifests) <= 2:
        return ""
    return f"; {ALIKE} of about the same size are merged, --everything merges all"


def _parser() -> Parser:
    parser = Parser(prog="python -m pipelines.compact", description=__doc__)
    parser.add_argument("--dataset", default=DEFAULT_OUTPUT, metavar="DIR", help="data set that annotate or clean made")
    parser.add_argument(
        "--grace-minutes",
        type=whole(0, 10**6),
        default=GRACE_MINUTES,
        metavar="N",
        help="how long files that are replaced stay, for readers that were opened before",
    )
    parser.add_argument(
        "--everything", action="store_true", help="merge all commits but the newest, however large they are"
    )
    parser.add_argument(
        "--collect-garbage",
        action="store_true",
        help="only remove what killed runs have left in a bucket, and nobody has written to for a day",
    )
    add_shared(parser, "log-format")
    return parser


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:]))
