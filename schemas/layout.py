"""Where things are in a data set."""

import re

PLANS, MANIFESTS, TEMPORARY, EXPORTS, REPORT = "_plans", "_manifests", "_tmp", "exports", "report"

RECIPE = f"{REPORT}/recipe.toml"
"""The options of the last run, as a recipe that repeats it."""

SHARD_NAME = re.compile(r"\d{8}-\d{4}\.parquet")
"""What a shard's file is called: its epoch and its number."""


def shard_path(table: str, epoch: int, shard: int) -> str:
    """Return a shard's path, relative to the data set."""
    return f"{table}/{epoch:08d}-{shard:04d}.parquet"


def report_path(epoch: int, shard: int) -> str:
    """Return where the writer of a shard tells the supervisor what it wrote, relative to the data set."""
    return f"{TEMPORARY}/{epoch:08d}-{shard:04d}.json"


def epoch_file(folder: str, epoch: int) -> str:
    """Return the path of an epoch's plan or manifest, relative to the data set."""
    return f"{folder}/{epoch:08d}.json"
