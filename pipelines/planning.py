"""Plan: which listed files are new, changed or to be tried again, cut into epochs of a fixed number of items."""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import polars as pl

from pipelines.dataset import Dataset, Manifest
from schemas.errors import ItemError
from schemas.reasons import Outcome
from schemas.records import ImageRef, PlannedItem, Standing, item_key
from transforms.batch import planned_item
from transforms.source import InputFile
from transforms.storage import printable, sha256_of


@dataclass(frozen=True)
class Root:
    """An input root as the data set knows it.

    `marks` recognise it however it is named: hashes of its absolute path and of its path relative to the data set, so
    that either may be moved, or both together. The paths themselves are not kept.
    """

    number: int
    name: str
    marks: tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """Exactly what one epoch covers, and under which configuration."""

    epoch: int
    configuration: dict[str, Any]
    roots: tuple[Root, ...]
    items: tuple[PlannedItem, ...]
    supersedes: tuple[str, ...]

    @property
    def size(self) -> int:
        """How many items the plan covers, copies included."""
        return sum(len(item.refs()) for item in self.items)

    def to_json(self) -> bytes:
        """Return the plan as the JSON file that makes it durable."""
        return json.dumps(asdict(self), separators=(",", ":")).encode("ascii")

    @staticmethod
    def from_json(data: bytes) -> "Plan":
        """Return the plan that `to_json` wrote."""
        told = json.loads(data)
        return Plan(
            epoch=told["epoch"],
            configuration=told["configuration"],
            roots=tuple(Root(root["number"], root["name"], tuple(root["marks"])) for root in told["roots"]),
            items=tuple(planned_item(item) for item in told["items"]),
            supersedes=tuple(told["supersedes"]),
        )


class Committed:
    """What the data set already holds, compactly: about 200 bytes a file, and as much for the copies' index.

    `names` maps (root, file_name) to the item's key, `failed` the keys of failed items to their attempts, `standing`
    the content of each picture to the row that stands for it, `sizes` are those pictures' file sizes in bytes.
    """

    def __init__(self, dataset: Dataset, keep_contents: bool) -> None:
        self.keep_contents = keep_contents
        self.names: dict[bytes, bytes] = {}
        self.failed: dict[bytes, int] = {}
        self.standing: dict[bytes, Standing] = {}
        self.sizes: set[int] = set()
        self._learn(dataset.scan("images"), dataset.scan("failures"))

    def add(self, dataset: Dataset, manifest: Manifest) -> None:
        """Take in one more commit; one that took rows back makes us read everything again."""
        if manifest.told["supersedes"]:
            for known in (self.names, self.failed, self.standing, self.sizes):
                known.clear()
            self._learn(dataset.scan("images"), dataset.scan("failures"))
        else:
            fresh = Dataset.of(dataset.path, [manifest])
            self._learn(fresh.scan("images"), fresh.scan("failures"))

    def key_of(self, root: int, file_name: str) -> str | None:
        """Return the key under which a file of this name is committed, or None."""
        key = self.names.get(_name(root, file_name))
        return None if key is None else key.hex()

    def attempts(self, key: str) -> int:
        """Return how many committed epochs ended with this item failed; 0 for one that did not fail."""
        return self.failed.get(bytes.fromhex(key), 0)

    def _learn(self, images: pl.LazyFrame, failures: pl.LazyFrame) -> None:
        columns = ["root", "file_name", "item_key"]
        for root, file_name, key, attempts in failures.select([*columns, "attempts"]).collect().iter_rows():
            self.names[_name(root, file_name)] = bytes.fromhex(key)
            self.failed[bytes.fromhex(key)] = attempts
        for root, file_name, key in images.select(columns).collect().iter_rows():
            self.names[_name(root, file_name)] = bytes.fromhex(key)
        if not self.keep_contents:
            return
        standing = images.filter(
            (pl.col("outcome").cast(pl.String) != Outcome.DUPLICATE) & pl.col("video_id").is_null()
        )
        wanted = standing.select("sha256", "image_id", "width", "height", "size_bytes").collect()
        for sha256, image, width, height, size in wanted.iter_rows():
            self.standing.setdefault(bytes.fromhex(sha256), Standing(image, width, height))
            self.sizes.add(size)


def _name(root: int, file_name: str) -> bytes:
    return hashlib.blake2b(f"{root}\n{printable(file_name)}".encode(), digest_size=16).digest()


class Roots:
    """Numbers the input roots of a data set, in the order in which they were first seen."""

    def __init__(self, dataset: Dataset) -> None:
        self.home = dataset.path
        told = [root for manifest in dataset.manifests for root in manifest.told["roots"]]
        self.known = [Root(root["number"], root["name"], tuple(root["marks"])) for root in told]

    def number(self, named: str) -> Root:
        """Return the root that the user named, a known one or the next."""
        absolute = os.path.realpath(named)
        relative = os.path.relpath(absolute, os.path.realpath(self.home))
        marks = tuple(
            hashlib.sha256(path.encode("utf-8", "surrogateescape")).hexdigest()[:24] for path in (absolute, relative)
        )
        for root in self.known:
            if set(marks) & set(root.marks):
                return root
        root = Root(len(self.known), printable(Path(absolute).name), marks)
        self.known.append(root)
        return root


@dataclass(frozen=True)
class _Candidate:
    ref: ImageRef
    supersedes: tuple[str, ...]


class Planner:
    """Turns a listing into plans, one at a time, against what is committed by then."""

    def __init__(
        self,
        dataset: Dataset,
        files: Iterable[InputFile],
        configuration: dict[str, Any],
        *,
        epoch_items: int,
        retry_failed: bool,
    ) -> None:
        self.dataset = dataset
        self.configuration = configuration
        self.epoch_items = epoch_items
        self.retry_failed = retry_failed
        self.find_copies = configuration["duplicates"] == "exact"
        self.committed = Committed(dataset, self.find_copies)
        self.roots = Roots(dataset)
        self.announced = len(self.roots.known)
        self.candidates = self._candidates(files)

    def next(self, epoch: int) -> Plan | None:
        """Return the plan of the next epoch, or None when nothing is left to do."""
        chosen = list(islice(self.candidates, self.epoch_items))
        if not chosen:
            return None
        refs = [ImageRef(**{**asdict(one.ref), "number": number}) for number, one in enumerate(chosen)]
        supersedes = sorted({key for one in chosen for key in one.supersedes})
        fresh = tuple(self.roots.known[self.announced :])
        self.announced = len(self.roots.known)
        return Plan(epoch, self.configuration, fresh, tuple(self._items(refs, set(supersedes))), tuple(supersedes))

    def adopt(self, plan: Plan) -> None:
        """Take over the roots of a plan that an earlier run left unfinished; call it before `next`."""
        self.roots.known += plan.roots
        self.announced = len(self.roots.known)

    def _candidates(self, files: Iterable[InputFile]) -> Iterator[_Candidate]:
        numbers: dict[str, int] = {}
        for file in files:
            if file.root not in numbers:
                numbers[file.root] = self.roots.number(file.root).number
            root = numbers[file.root]
            key = item_key(root, file.file_name, file.size, str(file.mtime_ns))
            before = self.committed.key_of(root, file.file_name)
            attempts = self.committed.attempts(before) if before else 0
            if before == key and not (attempts and self.retry_failed):
                continue
            ref = ImageRef(
                0, key, root, file.uri, file.file_name, file.size, file.mtime_ns, attempts if before == key else 0
            )
            yield _Candidate(ref, (before,) if before else ())
            if before and before != key:
                yield from self._orphans(before)

    def _items(self, refs: list[ImageRef], superseded: set[str]) -> list[PlannedItem]:
        """Return one item for each distinct content; its exact copies ride along, the first in listing order stands."""
        contents = self._contents(refs) if self.find_copies else {}
        items: dict[str | int, list[ImageRef]] = {}
        for ref in refs:
            items.setdefault(contents.get(ref.number, ref.number), []).append(ref)
        planned = []
        for content, (first, *copies) in items.items():
            stands = self.committed.standing.get(bytes.fromhex(content)) if isinstance(content, str) else None
            if stands is not None and self._is_standing(stands, superseded):
                planned += [PlannedItem(ref, str(content), (), stands) for ref in (first, *copies)]
            else:
                planned.append(PlannedItem(first, content if isinstance(content, str) else "", tuple(copies), None))
        return planned

    def _contents(self, refs: list[ImageRef]) -> dict[int, str]:
        """Return the sha256 of those files that may be copies: equal bytes have equal sizes, so few must be read."""
        sizes = Counter(ref.size for ref in refs)
        alike = [ref for ref in refs if sizes[ref.size] > 1 or ref.size in self.committed.sizes]
        with ThreadPoolExecutor(8) as pool:
            hashes = pool.map(self._content, alike)
            return {ref.number: found for ref, found in zip(alike, hashes, strict=True) if found}

    def _content(self, ref: ImageRef) -> str:
        if not 0 < ref.size <= self.configuration["max_bytes"]:
            return ""
        try:
            return sha256_of(ref.uri)
        except ItemError:
            return ""  # decode will say why

    def _is_standing(self, stands: Standing, superseded: set[str]) -> bool:
        """Tell whether a committed picture still stands when this plan is committed."""
        if not superseded:
            return True
        row = self.dataset.scan("images").filter(pl.col("image_id") == stands.image_id).select("item_key").collect()
        return row.height > 0 and row.item(0, 0) not in superseded

    def _orphans(self, changed: str) -> Iterator[_Candidate]:
        """Yield the committed copies of a picture whose file has changed: one of them must stand now."""
        images = self.dataset.scan("images")
        stood = images.filter(pl.col("item_key") == changed).select("image_id").collect()["image_id"].to_list()
        if not stood:
            return
        copies = images.filter(pl.col("duplicate_of").is_in(stood)).collect()
        for row in copies.iter_rows(named=True):
            mtime_ns = self._mtime_ns(row["source_uri"])
            key = item_key(row["root"], row["file_name"], row["size_bytes"], str(mtime_ns))
            if mtime_ns is not None and key == row["item_key"]:
                ref = ImageRef(0, key, row["root"], row["source_uri"], row["file_name"], row["size_bytes"], mtime_ns, 0)
                yield _Candidate(ref, (key,))

    @staticmethod
    def _mtime_ns(uri: str) -> int | None:
        try:
            return Path(uri).stat().st_mtime_ns
        except OSError:
            return None


def pending(dataset: Dataset) -> Plan | None:
    """Return the plan that a killed run left uncommitted, or None."""
    plans = sorted((dataset.path / "_plans").glob("[0-9]*.json"))
    last = dataset.manifests[-1].epoch if dataset.manifests else 0
    if plans and int(plans[-1].stem) > last:
        return Plan.from_json(plans[-1].read_bytes())
    return None
