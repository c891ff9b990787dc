"""Fold commits that follow each other into one: few large shards and one manifest, the same rows in the same order.

A folded manifest is named by the first and the last epoch that it covers, and hides their manifests from the moment in
which it is there. Rows that were taken back are left out. Shards that are large already, and stand whole, are not
written again. What is no longer listed stays for a while, for readers that were opened before.
"""

import hashlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from pathlib import PurePosixPath
from typing import Any

import polars as pl

from pipelines.dataset import Dataset, Manifest, to_arrow
from schemas.errors import RunError
from schemas.layout import MANIFESTS, PLANS, SHARD_NAME, epochs_of, folded_manifest, folded_shard_path
from schemas.tables import CROPS, ROW_GROUP_ROWS, TABLES, parquet_bytes, schema
from transforms.places import Place
from transforms.shards import scan_shards, shard_schema, write_shard_file
from transforms.storage import create_exclusive
from validation.suites import merged

SHARD_ROWS = ROW_GROUP_ROWS
"""Most rows of a table in a shard that is written here: one row group."""

SHARD_BYTES = 256 << 20
"""Most bytes of all its tables, where there are crops."""

_TAKEN = {"item_key": pl.String(), "epoch": pl.Int64()}

_FOLDED = ("tables", "rewrite", "folded", "stream", "decisions")
"""What a folded manifest says otherwise than the last of its own."""

_KINDS = ("version", "configuration", "configuration_hash", "models", "labels", "categories")
"""What a manifest says of the code that made it."""


@dataclass(frozen=True)
class Shard:
    """The files of one shard, one or more a table, and the commit that lists them."""

    manifest: Manifest
    files: Mapping[str, Sequence[Mapping[str, Any]]]

    def only(self, table: str) -> Manifest:
        """Return the commit as if it had this table of this shard alone."""
        return Manifest(self.manifest.epoch, {**self.manifest.told, "tables": {table: self.files.get(table, [])}})

    @cached_property
    def fill(self) -> float:
        """How full it is, 1 being as large as is wanted."""
        rows: int = max(sum(file["rows"] for file in files) for files in self.files.values())
        size: int = sum(file["size"] for files in self.files.values() for file in files)
        return max(rows / SHARD_ROWS, size / SHARD_BYTES)


def shards_of(manifest: Manifest) -> Iterator[Shard]:
    """Yield a commit's shards in order: the files of one name belong together."""
    tables = manifest.told["tables"]
    for name in dict.fromkeys(PurePosixPath(file["path"]).name for files in tables.values() for file in files):
        mine = {table: [f for f in files if PurePosixPath(f["path"]).name == name] for table, files in tables.items()}
        yield Shard(manifest, {table: files for table, files in mine.items() if files})


def even_parts(fills: Sequence[float]) -> list[int]:
    """Return, for shards that are so full, the number of the new shard into which each goes.

    As few new ones as can be, alike in size: no small rest is left that would have to be written again.

    >>> even_parts([0.4, 0.4, 0.4, 0.4])
    [0, 0, 1, 1]
    """
    total = sum(fills)
    parts = max(1, int(-(-total // 1)))
    before = 0.0
    numbers = []
    for fill in fills:
        numbers.append(min(int((before + fill / 2) * parts / total), parts - 1) if total else 0)
        before += fill
    return numbers


def fold(dataset: Dataset, run: Sequence[Manifest], keep_s: float) -> Manifest:
    """Make one commit of several that follow each other, and let the data set have it; the caller holds the lock.

    What it replaces may be deleted after `keep_s` seconds. Killed at any moment, the old or the new commits stand.
    Raises RunError.
    """
    first, last = run[0].first, run[-1].epoch
    try:
        told = _added_up(run, is_oldest=run[0] is dataset.manifests[0])
        tables = _Rewriting(dataset, first, last, run).tables()
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        where = f"{dataset.path / MANIFESTS}, epochs {first} to {last}"
        raise RunError(f"{where}: no manifests of a data set ({error!r}): restore them from a copy") from None
    until = [one.told["folded"]["keep_until"] for one in run if one.is_folded]
    told["folded"] = {
        "first": first,
        "keep_until": max([int(time.time() + keep_s), *until]),
        "history": _history(run),
    }
    encoded = json.dumps(told | {"tables": tables}, separators=(",", ":")).encode()
    if not create_exclusive(str(dataset.path / folded_manifest(first, last)), encoded):
        raise RunError(f"epochs {first} to {last} of {dataset.path} were folded by another run meanwhile: start again")
    manifest = Manifest(last, json.loads(encoded))
    dataset.fold(manifest)
    return manifest


def clear_away(dataset: Dataset) -> None:
    """Remove the manifests and plans that folded ones stand for, and their shards when their time is over.

    The caller holds the lock.
    """
    folded = [manifest for manifest in dataset.manifests if manifest.is_folded]
    for folder in (MANIFESTS, PLANS) if folded else ():
        for path in (dataset.path / folder).glob("[0-9]*.json"):
            span = epochs_of(path.name)
            if span and (by := _covering(folded, span)) and span != (by.first, by.epoch):
                path.unlink()
    for path, by in unlisted(dataset):
        if by is not None and by.told["folded"]["keep_until"] <= time.time():
            path.unlink()


def unlisted(dataset: Dataset) -> Iterator[tuple[Place, Manifest | None]]:
    """Yield the shards that no manifest lists, each with the folded manifest that replaced it, if one did."""
    folded = [manifest for manifest in dataset.manifests if manifest.is_folded]
    for table in (*TABLES, CROPS):
        listed = {path.rpartition("/")[2] for path in dataset.files(table)}
        for path in (dataset.path / table).glob("*.parquet"):
            span = epochs_of(path.name, SHARD_NAME)
            if span is not None and path.name not in listed:
                yield path, _covering(folded, span)


def _covering(folded: Sequence[Manifest], span: tuple[int, int]) -> Manifest | None:
    return next((one for one in folded if one.first <= span[0] and span[1] <= one.epoch), None)


class _Rewriting:
    """Makes the tables' files of a folded commit."""

    def __init__(self, dataset: Dataset, first: int, last: int, run: Sequence[Manifest]) -> None:
        self.dataset, self.first, self.last, self.run = dataset, first, last, run
        self.labels = Dataset.of(dataset.path, list(run)).labels
        back = dataset.taken_back
        self.taken = pl.DataFrame({"item_key": list(back), "epoch": list(back.values())}, _TAKEN)
        self.written = 0

    def tables(self) -> dict[str, list[dict[str, Any]]]:
        """Return the files that the folded manifest lists, once they are written."""
        tables: dict[str, list[dict[str, Any]]] = {}
        shards = [shard for manifest in self.run for shard in shards_of(manifest)]
        for is_large, group in groupby(shards, lambda shard: shard.fill >= 1 / 2):
            for some in ([one] for one in group) if is_large else self._parts(list(group)):
                files = some[0].files if len(some) == 1 and self._stays(some[0]) else self._written(some)
                for table, listed in files.items():
                    tables.setdefault(table, []).extend(map(dict, listed))
        return tables

    def _parts(self, shards: list[Shard]) -> Iterator[list[Shard]]:
        numbers = even_parts([shard.fill for shard in shards])
        for _, part in groupby(zip(numbers, shards, strict=True), lambda pair: pair[0]):
            yield [shard for _, shard in part]

    def _stays(self, shard: Shard) -> bool:
        """Tell whether a shard need not be written again: made as today, and none of its rows was taken back."""
        labels = Dataset.of(self.dataset.path, [shard.manifest]).labels
        for table, files in shard.files.items():
            wanted = schema(table, labels)
            if any(not shard_schema(self.dataset.path / file["path"]).equals(wanted) for file in files):
                return False
        later = self.taken.filter(pl.col("epoch") > shard.manifest.epoch)
        return not any(self._holds(files, later) for files in shard.files.values())

    def _holds(self, files: Sequence[Mapping[str, Any]], taken: pl.DataFrame) -> bool:
        paths = [self.dataset.path / file["path"] for file in files]
        keys = scan_shards(paths).select("item_key")
        return bool(taken.height) and bool(keys.join(taken.lazy(), on="item_key", how="semi").collect().height)

    def _written(self, shards: Sequence[Shard]) -> dict[str, list[dict[str, Any]]]:
        """Write the rows of some shards as one; a table at a time is in memory."""
        metadata = self._metadata(shards)
        files = {}
        for table in (*TABLES, CROPS):
            mine = [shard for shard in shards if table in shard.files]
            if not mine:
                continue
            wanted = schema(table, self.labels)
            self._require_known(mine, table, set(wanted.names))
            rows = self.dataset._scan(table, [shard.only(table) for shard in mine]).collect()
            path = folded_shard_path(table, self.first, self.last, self.written)
            data = parquet_bytes(to_arrow(rows, wanted), metadata)
            write_shard_file(str(self.dataset.path / path), data)
            sha256 = hashlib.sha256(data).hexdigest()
            files[table] = [{"path": path, "rows": rows.height, "size": len(data), "sha256": sha256}]
        self.written += 1
        return files

    def _require_known(self, shards: Sequence[Shard], table: str, columns: set[str]) -> None:
        for shard in shards:
            for file in shard.files[table]:
                strange = set(shard_schema(self.dataset.path / file["path"]).names) - columns
                if strange:
                    raise RunError(
                        f"{self.dataset.path / file['path']} has columns that this version does not know "
                        f"({', '.join(sorted(strange))}): compact with the version that wrote it"
                    )

    def _metadata(self, shards: Sequence[Shard]) -> dict[str, Any]:
        """Return what the shards' footers say of themselves: the last word, and all labels."""
        told: dict[str, Any] = {}
        labels: list[str] = []
        for shard in shards:
            path = next(file["path"] for files in shard.files.values() for file in files)
            footer = (shard_schema(self.dataset.path / path).metadata or {}).get(b"labelstream", b"{}")
            told |= json.loads(footer)
            labels += told.get("labels", [])
        told.pop("schema_version", None)
        return told | ({"labels": list(dict.fromkeys(labels))} if labels else {})


def _added_up(run: Sequence[Manifest], is_oldest: bool) -> dict[str, Any]:
    """Return what the manifests of a run say together: the last one's word, and the sum of what adds up.

    Of keys that were taken back, and of videos that came to their end, nothing must be told where no commit is older.
    """
    every = [manifest.told for manifest in run]
    told = {name: value for name, value in every[-1].items() if name not in _FOLDED}
    told["roots"] = [root for each in every for root in each["roots"]]
    told["supersedes"] = [] if is_oldest else sorted({key for each in every for key in each["supersedes"]})
    if "outcomes" in told:
        names = dict.fromkeys(name for each in every for name in each["outcomes"])
        told["outcomes"] = {name: sum(each["outcomes"].get(name, 0) for each in every) for name in names}
    for name in ("items", "seconds"):
        if name in told:
            told[name] = round(sum(each.get(name, 0) for each in every), 3)
    if any("validation" in each for each in every):
        told["validation"] = merged(result for each in every for result in each.get("validation") or ())
    if any("unfinished" in each for each in every):
        told["unfinished"] = _unfinished(every, is_oldest)
    if any("sources" in each for each in every):
        told["sources"] = _sources(source for each in every for source in each.get("sources") or ())
    streams = [each["stream"] for each in every if "stream" in each]
    if streams:
        told["stream"] = streams[-1] | {"gaps": [gap for each in streams for gap in each.get("gaps", ())]}
    batches = [each["decisions"] for each in every if "decisions" in each]
    if batches:
        told["decisions"] = _decisions(batches)
    return told


def _decisions(batches: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return up to where decisions were read, and how many there were; which they were has been told."""
    counts = {name: sum(each[name] for each in batches) for name in ("repeated", "refused")}
    verdicts = dict.fromkeys(name for each in batches for name in each["taken"])
    taken = {name: sum(each["taken"].get(name, 0) for each in batches) for name in verdicts}
    return {**batches[-1], **counts, "taken": taken, "refusals": [], "ids": []}


def _unfinished(every: Sequence[Mapping[str, Any]], is_oldest: bool) -> dict[str, int | None]:
    left: dict[str, int | None] = {}
    for each in every:
        for key in each["supersedes"]:
            left.pop(key, None)
        left |= each.get("unfinished", {})
    return {key: pts for key, pts in left.items() if pts is not None} if is_oldest else left


def _sources(every: Iterator[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return what was told of each source of labels, in order, without saying the same of one again."""
    last: dict[Any, Mapping[str, Any]] = {}
    told = []
    for source in every:
        if last.get(source.get("mark")) != source:
            told.append(source)
            last[source.get("mark")] = source
    return told


def _history(run: Sequence[Manifest]) -> list[dict[str, Any]]:
    kinds: dict[str, dict[str, Any]] = {}
    for manifest in run:
        for told in manifest.history:
            kind = {name: told[name] for name in _KINDS if name in told}
            kinds.setdefault(json.dumps(kind, sort_keys=True), kind)
    return list(kinds.values())
