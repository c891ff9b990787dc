"""Epochs that take committed items back and write them changed: the undo of a rule, the decisions of people.

What belongs together is written together: an item with all its rows, and with it the items whose labels stand on one of
its pictures. A rewritten item keeps its key. The manifest supersedes that key, so that readers see only its new rows.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from typing import Any, Self

import numpy as np
import polars as pl
from scipy.sparse import coo_array  # type: ignore[import-untyped,unused-ignore]
from scipy.sparse.csgraph import connected_components  # type: ignore[import-untyped,unused-ignore]

from pipelines import epochs
from pipelines.dataset import Dataset, Manifest, to_arrow
from pipelines.memory import give_back
from pipelines.roots import Root
from schemas.errors import RunError, UsageError
from schemas.layout import part_behind, shard_number
from schemas.tables import CROPS, TABLES, Tables, schema
from transforms.places import Place
from transforms.shards import scan_shards, shard_rows, shard_schema
from transforms.stopping import stop_on_signals

KIND = "rewrite"
"""What plans of this kind are called in their files."""

CHUNK_ITEMS = 50_000
"""About so many items are held in memory, written and committed together."""

Change = Callable[[Tables], tuple[Tables, Mapping[str, int]] | None]
"""Changes the tables of some items and counts what it did; null where there was nothing to do."""


@dataclass(frozen=True)
class RewritePlan:
    """Which items an epoch writes again, and as what. `told` is what its manifest says of it.

    The rows are not in the plan's file: one that a killed run left is forgotten, for nothing of it was visible.
    """

    epoch: int
    configuration: dict[str, Any]
    supersedes: tuple[str, ...]
    tables: Tables
    told: Mapping[str, Any]
    roots: tuple[Root, ...] = ()
    first_part: int = 0

    def behind(self, part: int) -> Self:
        """Return the same plan with other shards than those up to this number."""
        return replace(self, first_part=part_behind(part))

    def to_json(self) -> bytes:
        """Return the plan as the JSON file that makes it durable."""
        told = {"kind": KIND, "epoch": self.epoch, "configuration": self.configuration, "supersedes": self.supersedes}
        return json.dumps(told, separators=(",", ":")).encode()

    def owns(self, part: int) -> bool:
        """Tell whether the epoch's shard of this number is this plan's."""
        return part >= self.first_part

    def require_whole(self, outcomes: Mapping[str, int], shards: Mapping[str, list[str]]) -> dict[str, Any]:
        """Raise `RunError` where a row was not written; return what was done, and what the manifests before said."""
        for name in TABLES:
            found = sum(map(shard_rows, shards[name]))
            due = getattr(self.tables, name).num_rows
            if found != due:
                raise RunError(
                    f"epoch {self.epoch} was to write {due} rows of {name} and has {found}: nothing of it was "
                    "committed; run again, and report this as a defect if it stays"
                )
        return dict(self.told)


@dataclass(frozen=True)
class Chunk:
    """Items that are written again together, by key, and the commits in which their rows are."""

    keys: tuple[str, ...]
    manifests: tuple[Manifest, ...]


class RewritePlanner:
    """Turns chunks of items into plans. A chunk in which nothing changes is passed over."""

    def __init__(self, dataset: Dataset, chunks: Iterator[Chunk], change: Change, what: Mapping[str, str]) -> None:
        self.dataset, self.chunks, self.change, self.what = dataset, chunks, change, what
        self.unfinished = unfinished_videos(dataset.manifests)

    def next(self, epoch: int) -> RewritePlan | None:
        """Return the plan of the next epoch, or None when nothing is left to do."""
        for chunk in self.chunks:
            changed = self.change(read_tables(self.dataset, chunk))
            if changed is not None:
                tables, counts = changed
                configuration = self.dataset.manifests[-1].told["configuration"]
                return RewritePlan(epoch, configuration, chunk.keys, tables, self._told(chunk, counts))
        return None

    def add(self, manifest: Manifest) -> None:
        """Take in a commit: no item is in two chunks."""

    def _told(self, chunk: Chunk, counts: Mapping[str, int]) -> dict[str, Any]:
        """Return what the manifest says beside the usual: what was done, and what it must repeat of earlier ones."""
        unfinished = {key: self.unfinished[key] for key in chunk.keys if key in self.unfinished}
        last = self.dataset.manifests[-1].told
        told = {"rewrite": {**self.what, **counts}, "unfinished": unfinished}
        return told | ({"categories": last["categories"]} if "categories" in last else {})


@contextmanager
def rewriting(dataset: Dataset) -> Iterator[None]:
    """Hold the data set, as it is by now, for those who rewrite it; a request to stop ends the rewriting cleanly."""
    with epochs.one_writer(dataset.path):
        dataset.refresh()
        if not dataset.manifests:
            raise UsageError(f"{dataset.path} holds nothing yet: label or clean something first")
        dataset.verify()
        epochs.forget_plan(dataset)  # what it covered was never visible, and is planned anew
        epochs.collect_garbage(dataset)
        with stop_on_signals():
            yield


def rewrite(
    dataset: Dataset, keys: Sequence[str], change: Change, what: Mapping[str, str], watch: epochs.Watch
) -> Iterator[Mapping[str, int]]:
    """Write the items of these keys again, changed; yield what was done with each commit. Hold `rewriting` around it.

    `what` names the job for the manifests. Stopped or killed and done again, it goes on where it was: what is changed
    already is no change.
    """
    planner = RewritePlanner(dataset, chunks(dataset, keys), change, what)
    for manifest in epochs.run_epochs(dataset, planner, writer(dataset), identity_of(dataset), watch):
        give_back()
        told = manifest.told["rewrite"]
        yield {name: count for name, count in told.items() if name not in what}


def identity_of(dataset: Dataset) -> epochs.Identity:
    """Return what the manifests of rewritten items say of the code that made them: what the last one said."""
    told = dataset.manifests[-1].told
    return epochs.Identity(version("labelstream"), tuple(told["labels"]), told["models"], told["configuration_hash"])


def writer(dataset: Dataset) -> Callable[[RewritePlan], None]:
    """Return what runs the plans of rewritten items."""
    return partial(_write, dataset.path, _footer(dataset.path, dataset.manifests[-1]))


def chunks(dataset: Dataset, keys: Sequence[str]) -> Iterator[Chunk]:
    """Cut items, and those that must be written with them, into chunks, in the order of their commits."""
    found = _located(dataset, _together(dataset, keys))
    places = found.group_by("item_key", maintain_order=True).agg(
        pl.col("group").first(), pl.col("rows").sum(), pl.col("epoch").unique()
    )
    groups = places.group_by("group", maintain_order=True).agg(pl.col("rows").sum())
    number = pl.col("rows").cum_sum().shift(1, fill_value=0) // CHUNK_ITEMS
    cut = places.join(groups.select("group", number.alias("chunk")), on="group", maintain_order="left")
    for chunk in cut.partition_by("chunk", maintain_order=True):
        spread = set(chunk["epoch"].explode())
        manifests = tuple(manifest for manifest in dataset.manifests if manifest.epoch in spread)
        yield Chunk(tuple(chunk["item_key"]), manifests)


def read_tables(dataset: Dataset, chunk: Chunk) -> Tables:
    """Return all rows of a chunk's items, in the order of their commits."""
    mine = pl.col("item_key").is_in(chunk.keys)  # as a filter, which goes down into the files
    tables = {}
    for name in (*TABLES, CROPS):
        rows = dataset._scan(name, list(chunk.manifests)).filter(mine).collect()
        tables[name] = to_arrow(rows, schema(name, dataset.labels))
    return Tables(**tables)


def unfinished_videos(manifests: Sequence[Manifest]) -> dict[str, int]:
    """Return the keys of the videos of which frames are still to be labelled, with the last PTS that is committed."""
    left: dict[str, int] = {}
    for manifest in manifests:
        told = manifest.told.get("unfinished", {})
        for key in (*manifest.told["supersedes"], *told):
            left.pop(key, None)
        left |= {key: pts for key, pts in told.items() if pts is not None}
    return left


def _together(dataset: Dataset, keys: Sequence[str]) -> pl.DataFrame:
    """Return the items (item_key, group) with all that are tied to them: one group is written together.

    A copy whose labels stand on another picture ties its item to that picture's.
    """
    wanted = pl.DataFrame({"item_key": keys}, schema={"item_key": pl.String}).unique(maintain_order=True)
    moved = pl.col("field").is_in(["image_id", "duplicate_of"]) & pl.col("after").is_not_null()
    moves = dataset.scan("changes").filter(moved).select("item_key", image_id="after").unique().collect()
    standing = dataset.scan("images").filter(pl.col("image_id").is_in(moves["image_id"].implode()))
    others = standing.select("image_id", other="item_key").collect()
    tied = moves.join(others, on="image_id").select("item_key", "other").unique()
    nodes = pl.DataFrame({"item_key": pl.concat([tied["item_key"], tied["other"]]).unique(maintain_order=True)})
    places = nodes.with_row_index("node")
    ends = [
        tied.select(item_key=end).join(places, on="item_key", maintain_order="left")["node"].to_numpy()
        for end in ("item_key", "other")
    ]
    graph = coo_array((np.ones(tied.height, np.int8), tuple(ends)), shape=(nodes.height, nodes.height))
    groups = nodes.with_columns(group=pl.Series(connected_components(graph, directed=False)[1], dtype=pl.Int64))
    concerned = groups.join(wanted, on="item_key", how="semi")["group"].unique()
    alone = wanted.join(nodes, on="item_key", how="anti", maintain_order="left")
    return pl.concat(
        [
            alone.with_columns(group=pl.int_range(pl.len(), dtype=pl.Int64) + nodes.height),
            groups.filter(pl.col("group").is_in(concerned.implode())),
        ]
    )


def _located(dataset: Dataset, items: pl.DataFrame) -> pl.DataFrame:
    """Return where the items' rows are, in the order of the commits: item_key, group, epoch, and rows of items."""
    # An item may have nothing but a row that is held back. One scan a table, not one a commit: streams have thousands.
    rows = pl.concat([_keys_of(dataset, table, items) for table in ("images", "failures", "quarantine")])
    taken = pl.DataFrame(
        {"item_key": list(dataset.taken_back), "taken": list(dataset.taken_back.values())},
        {"item_key": pl.String, "taken": pl.Int64},
    )
    return (
        rows.join(taken, on="item_key", how="left", maintain_order="left")
        .filter(pl.col("taken").is_null() | (pl.col("epoch") >= pl.col("taken")))
        .join(items, on="item_key", maintain_order="left")
        .sort("epoch", maintain_order=True)
        .group_by("item_key", "group", "epoch", maintain_order=True)
        .agg(pl.col("rows").sum())
    )


def _keys_of(dataset: Dataset, table: str, items: pl.DataFrame) -> pl.DataFrame:
    """Return the rows that are of these items: item_key, epoch, and 1 for an item's own; also those taken back."""
    epochs_of = {str(dataset.path / path): each.epoch for each in dataset.manifests for path in each.paths(table)}
    known = pl.LazyFrame(
        {"_path": list(epochs_of), "epoch": list(epochs_of.values())}, {"_path": pl.String, "epoch": pl.Int64}
    )
    keys = (
        scan_shards(list(epochs_of), "_path", schema={"item_key": pl.String()}, extra_columns="ignore")
        if epochs_of
        else pl.LazyFrame(schema={"item_key": pl.String, "_path": pl.String})
    )
    return (
        keys.join(items.lazy(), on="item_key", how="semi", maintain_order="left")
        .join(known, on="_path", maintain_order="left")
        .select("item_key", "epoch", rows=pl.lit(int(table != "quarantine"), pl.Int64))
        .collect()
    )


def _footer(root: Place, manifest: Manifest) -> dict[str, Any]:
    """Return what the shards of a commit say of themselves."""
    told = (shard_schema(root / path).metadata or {} for path in manifest.paths("images")[:1])
    found = [json.loads(footer[b"labelstream"]) for footer in told if b"labelstream" in footer]
    return {name: value for footer in found for name, value in footer.items() if name != "schema_version"}


def _write(root: Place, metadata: Mapping[str, Any], plan: RewritePlan) -> None:
    from transforms.write import write_shard  # imports Beam, which takes a second

    wanted = (*TABLES, CROPS) if plan.tables.crops.num_rows else TABLES
    write_shard((shard_number(plan.epoch, plan.first_part), plan.tables, []), str(root), wanted, metadata)
