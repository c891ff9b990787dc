"""What a data set holds already, by name: a few dozen bytes a file, asked for thousands of files at once.

It is learnt from the committed shards and kept in `_index/names.arrow`, so that the next run reads only shards of
commits behind that. The file is a cache: where it does not fit, or is damaged, the shards tell all.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from pipelines.contents import DAMAGED, Contents, covered, stamp
from pipelines.dataset import Dataset, Manifest
from schemas.errors import RunError
from schemas.layout import NAMES
from schemas.records import Standing
from transforms.storage import printable, read_bytes, replacing

Pairs = NDArray[np.uint64]
"""(2, n): hashes of 128 bits, in halves."""

ORPHAN, COPY, UNFINISHED = np.uint8(1), np.uint8(2), np.uint8(4)
"""What a file may be: a copy whose picture has gone; a copy; a video of which frames are still to be planned."""

_COLUMNS = {
    "name_a": np.uint64,
    "name_b": np.uint64,
    "key_a": np.uint64,
    "key_b": np.uint64,
    "root": np.int32,
    "attempts": np.uint16,
    "flags": np.uint8,
}

_SCHEMA = pa.schema([(name, pa.from_numpy_dtype(kind)) for name, kind in _COLUMNS.items()])

_KEY_DIGITS = 32

_BYTES = 64
"""More than a file has in the index."""

_LEARN_ITEMS = 100_000
"""Items of which the rows are read at once."""


def names_of(roots: Iterable[int], file_names: Iterable[str]) -> Pairs:
    """Return the hashes by which files are found, of the numbers of their roots and their names in them."""
    return _pairs(
        b"".join(
            hashlib.blake2b(f"{root}\n{name if name.isascii() else printable(name)}".encode(), digest_size=16).digest()
            for root, name in zip(roots, file_names, strict=True)
        )
    )


def keys_of(keys: Iterable[str]) -> Pairs:
    """Return item keys as numbers; raise `RunError` for one that is none."""
    every = list(keys)
    try:
        if any(len(key) != _KEY_DIGITS for key in every):
            raise ValueError("another length")
        return _pairs(bytes.fromhex("".join(every)))
    except (TypeError, ValueError) as error:
        raise RunError(
            f"an item key of the data set is no {_KEY_DIGITS} hex digits ({error}): restore it from a copy"
        ) from None


def _pairs(digests: bytes) -> Pairs:
    return np.ascontiguousarray(np.frombuffer(digests, "<u8").reshape(-1, 2).T).astype(np.uint64, copy=False)


def hex_of(keys: Pairs) -> list[str]:
    """Return item keys as they are written."""
    text = np.ascontiguousarray(keys.T).astype("<u8").tobytes().hex()
    return [text[at : at + _KEY_DIGITS] for at in range(0, len(text), _KEY_DIGITS)]


def chained(before: str, manifest: Manifest) -> str:
    """Return the digest of all commits up to this one; `before` is that of those before, '' for the first."""
    told = json.dumps([before, manifest.first, manifest.epoch, manifest.told], sort_keys=True)
    return hashlib.sha256(told.encode()).hexdigest()


@dataclass(frozen=True)
class Records:
    """A record for each committed file, sorted by `name_a`; `seen` tells which were listed in this run."""

    name_a: NDArray[np.uint64]
    name_b: NDArray[np.uint64]
    key_a: NDArray[np.uint64]
    key_b: NDArray[np.uint64]
    root: NDArray[np.int32]
    attempts: NDArray[np.uint16]
    flags: NDArray[np.uint8]
    seen: NDArray[np.bool_]

    @staticmethod
    def none() -> "Records":
        """Return no records."""
        empty: list[NDArray[Any]] = [np.empty(0, kind) for kind in (*_COLUMNS.values(), np.bool_)]
        return Records(*empty)

    def __len__(self) -> int:
        return len(self.root)

    def find(self, names: Pairs) -> NDArray[np.intp]:
        """Return where the records of these names are, -1 for a name that is not there."""
        found = np.full(names.shape[1], -1, np.intp)
        at = np.empty_like(found)
        open_ = np.argsort(names[0])  # neighbours are looked for one after the other, which spares the memory
        at[open_] = np.searchsorted(self.name_a, names[0][open_])
        while len(open_):
            open_ = open_[at[open_] < len(self)]
            open_ = open_[self.name_a[at[open_]] == names[0, open_]]
            is_it = self.name_b[at[open_]] == names[1, open_]
            found[open_[is_it]] = at[open_[is_it]]
            open_ = open_[~is_it]  # another name begins with the same half
            at[open_] += 1
        return found

    def with_keys(self, keys: Pairs) -> NDArray[np.intp]:
        """Return where the records with any of these keys are."""
        wanted = set(zip(keys[0].tolist(), keys[1].tolist(), strict=True))
        some = np.flatnonzero(np.isin(self.key_a, keys[0]))
        pairs = zip(self.key_a[some].tolist(), self.key_b[some].tolist(), strict=True)
        return some[np.fromiter((pair in wanted for pair in pairs), np.bool_, len(some))]

    def keys(self, at: NDArray[np.intp]) -> list[str]:
        """Return the keys of the records at these places."""
        return hex_of(np.stack([self.key_a[at], self.key_b[at]]))

    def without(self, at: NDArray[np.intp]) -> "Records":
        """Return the records but those at these places."""
        return Records(*(np.delete(getattr(self, field.name), at) for field in fields(self))) if len(at) else self

    def merged(self, more: "Records") -> "Records":
        """Return these records and `more`, whose names none of these has."""
        at = np.searchsorted(self.name_a, more.name_a)
        every = (field.name for field in fields(self))
        return Records(*(np.insert(getattr(self, name), at, getattr(more, name)) for name in every))


class Committed:
    """Which files a data set holds, under which keys, and what became of them.

    `unfinished` maps the keys of videos of which frames are still to be planned to the last PTS that is committed.
    `changes` counts the commits that were taken in: what was asked before another may be otherwise.
    """

    def __init__(self, dataset: Dataset, keep_contents: bool) -> None:
        """`keep_contents` says whether exact copies are looked for."""
        self.dataset = dataset
        self.keep_contents = keep_contents
        self.unfinished: dict[str, int] = {}
        self.changes = 0
        self.chain: list[str] = []
        for manifest in dataset.manifests:
            self._chain(manifest)
        self.contents = Contents(dataset, self.chain)
        self.records, self.saved = _read(dataset, self.chain)
        self._catch_up()

    def add(self, manifest: Manifest) -> None:
        """Take in one more commit, which the data set has taken in."""
        superseded = manifest.told["supersedes"]
        self.changes += 1
        failed = self.records.with_keys(keys_of(superseded))
        only_failures = int((self.records.attempts[failed] > 0).sum()) == len(set(superseded))
        self._chain(manifest)
        self.contents.add(manifest)
        self._learn([manifest], seen=True)
        self._mark_unfinished()
        # A picture that failed meanwhile may stand again: its copies are orphans no more.
        if not only_failures or (self.records.flags & ORPHAN).any():
            self._mark_orphans()

    def look(self, names: Pairs, keys: Pairs) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
        """Return where the records of listed files are, -1 for none, and whether they have these keys.

        They count as seen from now on.
        """
        at = self.records.find(names)
        known = at >= 0
        self.records.seen[at[known]] = True
        same = known.copy()
        same[known] = (self.records.key_a[at[known]] == keys[0, known]) & (
            self.records.key_b[at[known]] == keys[1, known]
        )
        return at, same

    def is_settled(self, at: NDArray[np.intp], retry_failed: bool) -> NDArray[np.bool_]:
        """Tell of which records nothing is to be done as long as their files stay as they are."""
        open_ = (self.records.flags[at] & (ORPHAN | UNFINISHED)) > 0
        return ~open_ & (self.records.attempts[at] == 0) if retry_failed else ~open_

    def told(self, place: int) -> tuple[str | None, int]:
        """Return the key and the attempts of the record at a place; null and 0 for -1."""
        if place < 0:
            return None, 0
        return self.records.keys(np.array([place]))[0], int(self.records.attempts[place])

    def key_of(self, root: int, file_name: str) -> str | None:
        """Return the key under which a file of this name is committed, or None."""
        return self.told(int(self.records.find(names_of([root], [file_name]))[0]))[0]

    def attempts(self, key: str) -> int:
        """Return how many committed epochs ended with this item failed; 0 for one that did not fail."""
        return int(self.records.attempts[self.records.with_keys(keys_of([key]))].max(initial=0))

    def contents_of(self, sizes: Iterable[int]) -> tuple[set[int], dict[str, Standing]]:
        """Return which of these sizes in bytes some standing picture has, and what stands for the contents of them."""
        if not self.keep_contents:
            return set(), {}
        wanted = {size for size in sizes if size > 0}
        rows = self.contents.find(
            "size_bytes", wanted, ["size_bytes", "sha256", "stands", "width", "height", "is_copy"]
        )
        rows = rows.filter(~pl.col("is_copy")).unique("sha256", keep="first", maintain_order=True)
        columns = rows.select("sha256", "stands", "width", "height").iter_rows()
        return set(rows["size_bytes"]), {sha256: Standing(*told) for sha256, *told in columns}

    def pictures_of(self, keys: Iterable[str]) -> set[str]:
        """Return the ids of the pictures that stand under `keys`, of items that did not fail."""
        return set(self._pictures(keys)["stands"])

    def copied(self, keys: Iterable[str]) -> dict[str, list[str]]:
        """Return which of these items stand for copies, with the pictures' ids."""
        if not (self.records.flags & COPY).any():
            return {}
        pictures = self._pictures(keys)
        copies = self.contents.find("duplicate_of", set(pictures["stands"]), ["duplicate_of"])
        having = pictures.filter(pl.col("stands").is_in(set(copies["duplicate_of"])))
        return dict(having.group_by("item_key").agg("stands").iter_rows())

    def unseen(self, roots: Iterable[int]) -> list[str]:
        """Return the keys of the files in these roots that were not listed."""
        mine = np.isin(self.records.root, np.fromiter(roots, np.int32))
        return self.records.keys(np.flatnonzero(mine & ~self.records.seen))

    def save(self) -> None:
        """Keep what was learnt for the next run, where something was committed since it was kept."""
        if self.saved == len(self.chain):
            return
        _write(self.dataset, self.records, self.chain)
        self.saved = len(self.chain)
        self.contents.save()

    def _pictures(self, keys: Iterable[str]) -> pl.DataFrame:
        wanted = set(keys)
        if wanted:
            at = self.records.with_keys(keys_of(wanted))
            wanted -= set(self.records.keys(at[self.records.attempts[at] > 0]))
        return self.contents.find("item_key", wanted, ["item_key", "stands"])

    def _chain(self, manifest: Manifest) -> None:
        self.chain.append(chained(self.chain[-1] if self.chain else "", manifest))
        for key in manifest.told["supersedes"]:
            self.unfinished.pop(key, None)
        for key, pts in manifest.told.get("unfinished", {}).items():
            if pts is None:
                self.unfinished.pop(key, None)
            else:
                self.unfinished[key] = pts

    def _catch_up(self) -> None:
        """Learn what was committed behind the index."""
        behind = self.dataset.manifests[self.saved :]
        self._learn(behind, seen=False)
        self._mark_unfinished()
        if behind:
            self._mark_orphans()

    def _learn(self, manifests: list[Manifest], *, seen: bool) -> None:
        """Take in the rows of some commits, and what these took back."""
        superseded = {key for manifest in manifests for key in manifest.told["supersedes"]}
        if superseded:
            self.records = self.records.without(self.records.with_keys(keys_of(superseded)))
        for some in _portions(manifests):
            more = _records(self.dataset, some, seen)
            old = self.records.find(np.stack([more.name_a, more.name_b]))
            again, at = old >= 0, old[old >= 0]
            same = again.copy()
            same[again] = (self.records.key_a[at] == more.key_a[again]) & (self.records.key_b[at] == more.key_b[again])
            at = old[same]  # of a video some frames were committed before
            more.attempts[same] = np.where(more.attempts[same], more.attempts[same], self.records.attempts[at])
            more.flags[same] |= self.records.flags[at]
            self.records = self.records.without(old[again]).merged(more)

    def _mark_unfinished(self) -> None:
        self.records.flags[:] &= ~UNFINISHED
        if self.unfinished:
            self.records.flags[self.records.with_keys(keys_of(self.unfinished))] |= UNFINISHED

    def _mark_orphans(self) -> None:
        self.records.flags[:] &= ~ORPHAN
        copies = np.flatnonzero(self.records.flags & COPY)
        if not len(copies):
            return
        rows = self.contents.find("item_key", self.records.keys(copies), ["item_key", "duplicate_of"]).drop_nulls()
        standing = self.contents.find("stands", set(rows["duplicate_of"]), ["stands"])["stands"]
        orphans = rows.filter(~pl.col("duplicate_of").is_in(standing.implode()))["item_key"]
        self.records.flags[self.records.with_keys(keys_of(orphans))] |= ORPHAN


def _portions(manifests: Sequence[Manifest]) -> Iterator[list[Manifest]]:
    """Yield the commits in order, some at a time, of which the rows are not too many to be held."""
    some: list[Manifest] = []
    items = 0
    for manifest in manifests:
        some.append(manifest)
        items += manifest.told.get("items", 0)
        if items >= _LEARN_ITEMS:
            yield some
            some, items = [], 0
    if some:
        yield some


def _records(dataset: Dataset, manifests: list[Manifest], seen: bool) -> Records:
    """Return the records of what some commits hold, of one name the last."""
    columns = ["root", "file_name", "item_key"]
    is_copy = pl.col("duplicate_of").is_not_null().alias("is_copy")
    failures = dataset._scan("failures", manifests).select(*columns, "attempts").collect()
    images = dataset._scan("images", manifests).select(*columns, is_copy).unique(maintain_order=True).collect()
    rows = pl.concat([failures, images], how="diagonal")
    keys = keys_of(rows["item_key"])
    names = names_of(rows["root"], rows["file_name"])
    halves = {"name_a": names[0], "name_b": names[1], "key_a": keys[0], "key_b": keys[1]}
    of_key = ["key_a", "key_b"]
    told = pl.DataFrame(halves | {"root": rows["root"], "attempts": rows["attempts"], "is_copy": rows["is_copy"]})
    told = told.with_columns(
        pl.col("attempts").drop_nulls().last().over(of_key).fill_null(0),
        pl.col("is_copy").fill_null(False).any().over(of_key),
    )
    told = told.unique(["name_a", "name_b"], keep="last").sort("name_a")
    flags = np.where(told["is_copy"].to_numpy(), COPY, np.uint8(0))
    arrays = [told[name].to_numpy() for name in (*halves, "root")]
    attempts = told["attempts"].clip(0, 65_535).to_numpy().astype(np.uint16)
    return Records(*[*arrays, attempts, flags, np.full(len(flags), seen)])


def _read(dataset: Dataset, chain: Sequence[str]) -> tuple[Records, int]:
    """Return the records that were kept, and how many commits they cover; none where nothing kept fits."""
    items = sum(manifest.told.get("items", 0) for manifest in dataset.manifests)
    try:
        data = read_bytes(str(dataset.path / NAMES), (1 << 16) + _BYTES * items)
        with pa.ipc.open_file(pa.BufferReader(data)) as reader:
            told, batch = reader.schema, reader.get_batch(0)
        batch.validate()  # the buffers are as long as they must be
        commits = covered(told, _SCHEMA, chain)
        columns = {name: _numbers(batch[name], kind) for name, kind in _COLUMNS.items()}
        if not commits or told.metadata[b"sha256"] != _checksum(columns):
            return Records.none(), 0
    except DAMAGED:
        return Records.none(), 0
    return Records(**columns | {"flags": columns["flags"].copy(), "seen": np.zeros(batch.num_rows, np.bool_)}), commits


def _numbers(column: pa.Array, kind: Any) -> NDArray[Any]:
    """Return a column's own memory. pyarrow would load pandas for it, which is 50 MB."""
    if column.null_count:
        raise ValueError("a value is missing")
    at = column.offset * np.dtype(kind).itemsize
    return np.frombuffer(column.buffers()[1], kind, count=len(column), offset=at)


def _write(dataset: Dataset, records: Records, chain: Sequence[str]) -> None:
    columns = {name: getattr(records, name) for name in _COLUMNS}
    batch = pa.record_batch(columns, schema=_SCHEMA.with_metadata(stamp(chain) | {b"sha256": _checksum(columns)}))
    with replacing(str(dataset.path / NAMES)) as file, pa.ipc.new_file(file, batch.schema) as writer:
        writer.write_batch(batch)


def _checksum(columns: Mapping[str, NDArray[Any]]) -> bytes:
    digest = hashlib.sha256()
    for column in columns.values():
        digest.update(np.ascontiguousarray(column).data)
    return digest.hexdigest().encode()
