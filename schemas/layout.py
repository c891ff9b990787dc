"""Where things are in a data set."""

import re
from collections.abc import Iterable

from schemas.errors import RunError

PLANS, MANIFESTS, TEMPORARY, EXPORTS, REPORT = "_plans", "_manifests", "_tmp", "exports", "report"

RECIPE = f"{REPORT}/recipe.toml"
"""The options of the last run, as a recipe that repeats it."""

STREAM = "stream"
"""What plans of topics are called in their files, and under what manifests tell of them."""

STREAM_START = f"{PLANS}/stream-start.json"
"""Where a data set keeps the offsets at which it begins: `latest` must mean the same after a kill."""

INDEX = "_index"
"""The folder of what is learnt from the shards and kept to be learnt no more: it may be deleted when nothing runs."""

NAMES, CONTENTS = f"{INDEX}/names.arrow", f"{INDEX}/contents.parquet"
"""Which files are committed, and which pictures have which content."""

SHARD_NAME = re.compile(r"(?P<first>\d{8})-(?:(?P<last>\d{8})-)?\d{4,}\.parquet")
"""What a shard's file is called: its epoch, or the first and the last of those that it was folded from; its number."""

_EPOCHS_NAME = re.compile(r"(?P<first>\d+)(?:-(?P<last>\d+))?\.json")


MOST_SHARDS = 10_000
"""Shards of one epoch at most."""

_ANEW = 1_000


def part_behind(part: int) -> int:
    """Return the first number for the shards of an epoch that is planned anew after one that wrote this one.

    >>> part_behind(3)
    1000
    """
    return (part // _ANEW + 1) * _ANEW


def shard_number(epoch: int, part: int) -> int:
    """Return the number of an epoch's shard among those of all epochs."""
    return epoch * MOST_SHARDS + part


def shard_path(table: str, shard: int) -> str:
    """Return a shard's path, relative to the data set."""
    epoch, part = divmod(shard, MOST_SHARDS)
    return f"{table}/{epoch:08d}-{part:04d}.parquet"


def folded_shard_path(table: str, first: int, last: int, shard: int) -> str:
    """Return the path of a shard with rows of several epochs, relative to the data set."""
    return f"{table}/{first:08d}-{last:08d}-{shard:04d}.parquet"


def report_path(shard: int) -> str:
    """Return where the writer of a shard tells the supervisor what it wrote, relative to the data set."""
    epoch, part = divmod(shard, MOST_SHARDS)
    return f"{TEMPORARY}/{epoch:08d}-{part:04d}.json"


def epoch_file(folder: str, epoch: int) -> str:
    """Return the path of an epoch's plan or manifest, relative to the data set."""
    return f"{folder}/{epoch:08d}.json"


def folded_manifest(first: int, last: int) -> str:
    """Return the path of the manifest that stands for those of several epochs, relative to the data set."""
    return f"{MANIFESTS}/{first:08d}-{last:08d}.json"


def epochs_of(name: str, pattern: re.Pattern[str] = _EPOCHS_NAME) -> tuple[int, int] | None:
    """Return the first and the last epoch that a file is about by its name; None where it is named otherwise."""
    found = pattern.fullmatch(name)
    return (int(found["first"]), int(found["last"] or found["first"])) if found else None


def standing_manifests(names: Iterable[str]) -> list[str]:
    """Return the names of the manifests that count, in order: a folded one hides those of the epochs that it covers.

    Raises RunError where two share some epochs only.
    """
    spans = ((span, name) for name in names if (span := epochs_of(name)))
    standing: list[str] = []
    covered = -1
    for (first, last), name in sorted(spans, key=lambda one: (one[0][0], -one[0][1])):
        if last <= covered:
            continue
        if first <= covered:
            raise RunError(f"the manifests {standing[-1]} and {name} overlap: restore them from a copy of the data set")
        standing.append(name)
        covered = last
    return standing
