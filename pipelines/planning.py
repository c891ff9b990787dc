"""Plan: which listed files are new, changed or to be tried again, cut into epochs of a fixed number of items."""

# Paths as texts: realpath and relpath are what recognises a root, and there is no Path for that.
# ruff: noqa: PTH118, PTH119, PTH120

import hashlib
import json
import os
import stat
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import polars as pl

from pipelines.dataset import Dataset, Manifest, read_json
from schemas.errors import ItemError
from schemas.layout import PLANS
from schemas.reasons import Duplicates, Outcome
from schemas.records import ImageRef, PlannedItem, Standing, item_key
from transforms.batch import planned_item
from transforms.source import UNREADABLE, InputFile
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
    def of(told: Mapping[str, Any]) -> "Plan":
        """Return the plan that `to_json` told."""
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
    `orphaned` are the keys of duplicates whose picture has gone.
    """

    def __init__(self, dataset: Dataset, keep_contents: bool) -> None:
        self.dataset = dataset
        self.keep_contents = keep_contents
        self.names: dict[bytes, bytes] = {}
        self.failed: dict[bytes, int] = {}
        self.standing: dict[bytes, Standing] = {}
        self.sizes: set[int] = set()
        self.orphaned: set[bytes] = set()
        self._learn_all()

    def add(self, manifest: Manifest) -> None:
        """Take in one more commit; one that took pictures back makes us read everything again."""
        superseded = [bytes.fromhex(key) for key in manifest.told["supersedes"]]
        if all(key in self.failed for key in superseded):
            for key in superseded:
                del self.failed[key]
            self._learn(Dataset.of(self.dataset.path, [manifest]))
        else:
            for known in (self.names, self.failed, self.standing, self.sizes, self.orphaned):
                known.clear()
            self._learn_all()

    def key_of(self, root: int, file_name: str) -> str | None:
        """Return the key under which a file of this name is committed, or None."""
        key = self.names.get(_name(root, file_name))
        return None if key is None else key.hex()

    def attempts(self, key: str) -> int:
        """Return how many committed epochs ended with this item failed; 0 for one that did not fail."""
        return self.failed.get(bytes.fromhex(key), 0)

    def pictures_of(self, keys: Iterable[str]) -> set[str]:
        """Return the ids of the pictures that stand under `keys`."""
        wanted = [key for key in keys if not self.attempts(key)]
        if not wanted:
            return set()
        mine = self.dataset.scan("images").filter(pl.col("item_key").is_in(wanted)).select("image_id")
        return set(mine.collect()["image_id"])

    def _learn_all(self) -> None:
        self._learn(self.dataset)
        images = self.dataset.scan("images").select("item_key", "image_id", "duplicate_of")
        copies = images.filter(pl.col("duplicate_of").is_not_null())
        orphans = copies.join(images, left_on="duplicate_of", right_on="image_id", how="anti").collect()
        self.orphaned.update(map(bytes.fromhex, orphans["item_key"]))

    def _learn(self, dataset: Dataset) -> None:
        images, failures = dataset.scan("images"), dataset.scan("failures")
        columns = ["root", "file_name", "item_key"]
        for root, file_name, key, attempts in failures.select([*columns, "attempts"]).collect().iter_rows():
            self.names[_name(root, file_name)] = bytes.fromhex(key)
            self.failed[bytes.fromhex(key)] = attempts
        for root, file_name, key in images.select(columns).collect().iter_rows():
            self.names[_name(root, file_name)] = bytes.fromhex(key)
        if not self.keep_contents:
            return
        standing = images.filter((pl.col("outcome") != Outcome.DUPLICATE) & pl.col("video_id").is_null())
        wanted = standing.select("sha256", "image_id", "width", "height", "size_bytes").collect()
        for sha256, image, width, height, size in wanted.iter_rows():
            self.standing.setdefault(bytes.fromhex(sha256), Standing(image, width, height))
            self.sizes.add(size)


def _name(root: int, file_name: str) -> bytes:
    return hashlib.blake2b(f"{root}\n{printable(file_name)}".encode(), digest_size=16).digest()


class Roots:
    """Numbers the input roots of a data set, in the order in which they were first seen."""

    def __init__(self, dataset: Dataset) -> None:
        self.home = os.path.realpath(dataset.path)
        self.known: list[Root] = []
        self.at: dict[str, Root] = {}  # by the mark of the absolute path
        self.places: dict[tuple[str, str], tuple[Root, str]] = {}
        self.learn(root for manifest in dataset.manifests for root in manifest.told["roots"])

    def learn(self, told: Iterable[Mapping[str, Any]]) -> None:
        """Take in roots that a plan or a manifest tells of."""
        for root in told:
            self._add(Root(root["number"], root["name"], tuple(root["marks"])))

    def place(self, named: str, file_name: str) -> tuple[Root, str]:
        """Return the root of a file that was listed under the root `named`, and the file's name in it.

        A folder in or around one that the data set knows is a part of that one: a file has one name however the inputs
        are cut.
        """
        folder, base = os.path.split(file_name)
        if (named, folder) not in self.places:
            self.places[named, folder] = self._place(os.path.realpath(named), folder)
        root, inner = self.places[named, folder]
        return root, f"{inner}/{base}" if inner else base

    def former(self, root: Root) -> list[Root]:
        """Return roots that stood at the same place relative to the data set: `root` before both were moved."""
        return [other for other in self.known if other.marks[1] == root.marks[1] and other is not root]

    def _place(self, top: str, folder: str) -> tuple[Root, str]:
        path = os.path.join(top, folder) if folder else top
        around = [(self.at[_mark(part)], part) for part in _upwards(path) if _mark(part) in self.at]
        if not around:
            number = len(self.known)
            relative = os.path.relpath(top, self.home)
            self._add(Root(number, printable(os.path.basename(top)), (_mark(top), _mark(relative))))
            around = [(self.known[number], top)]
        root, where = min(around, key=lambda found: found[0].number)
        inner = os.path.relpath(path, where)
        return root, "" if inner == "." else inner.replace(os.sep, "/")

    def _add(self, root: Root) -> None:
        self.known.append(root)
        self.at.setdefault(root.marks[0], root)


def _mark(path: str) -> str:
    return hashlib.sha256(path.encode("utf-8", "surrogateescape")).hexdigest()[:24]


def _upwards(path: str) -> Iterator[str]:
    """Yield the folder and all that it lies in."""
    yield path
    while (above := os.path.dirname(path)) != path:
        path = above
        yield path


@dataclass(frozen=True)
class _Candidate:
    ref: ImageRef
    supersedes: str | None  # the key of the item whose rows it replaces


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
        self.find_copies = configuration["duplicates"] == Duplicates.EXACT
        self.committed = Committed(dataset, self.find_copies)
        self.roots = Roots(dataset)
        self.announced = len(self.roots.known)
        self.candidates = self._candidates(files)

    def next(self, epoch: int) -> Plan | None:
        """Return the plan of the next epoch, or None when nothing is left to do."""
        chosen: list[_Candidate] = []
        for group in self.candidates:
            chosen += group
            if len(chosen) >= self.epoch_items:
                break
        if not chosen:
            return None
        refs = [ImageRef(**{**asdict(one.ref), "number": number}) for number, one in enumerate(chosen)]
        supersedes = sorted({one.supersedes for one in chosen if one.supersedes})
        fresh = tuple(self.roots.known[self.announced :])
        self.announced = len(self.roots.known)
        gone = self.committed.pictures_of(supersedes)
        return Plan(epoch, self.configuration, fresh, tuple(self._items(refs, gone)), tuple(supersedes))

    def adopt(self, plan: Plan) -> None:
        """Take over the roots of a plan that an earlier run left unfinished; call it before `next`."""
        self.roots.learn(map(asdict, plan.roots))
        self.announced = len(self.roots.known)

    def _candidates(self, files: Iterable[InputFile]) -> Iterator[list[_Candidate]]:
        """Yield what must be planned, in groups that must not be parted."""
        for file in files:
            root, file_name = self.roots.place(file.root, file.file_name)
            for known in (root, *self.roots.former(root)):
                key = item_key(known.number, file_name, file.size, str(file.mtime_ns))
                before = self.committed.key_of(known.number, file_name)
                if before == key:
                    break
            else:
                known, before = root, self.committed.key_of(root.number, file_name)
                key = item_key(root.number, file_name, file.size, str(file.mtime_ns))
            attempts = self.committed.attempts(key)
            if before == key and not (attempts and self.retry_failed) and not self._is_orphan(key):
                continue
            ref = ImageRef(0, key, known.number, file.uri, file_name, file.size, file.mtime_ns, attempts)
            group = [_Candidate(ref, before)]
            if before and before != key:
                group += self._copies_of(before)
            yield group

    def _is_orphan(self, key: str) -> bool:
        return bytes.fromhex(key) in self.committed.orphaned

    def _items(self, refs: list[ImageRef], gone: set[str]) -> list[PlannedItem]:
        """Return one item for each distinct content; its exact copies ride along, the first in listing order stands.

        `gone` are the pictures that this plan takes back: they stand for nothing any more.
        """
        contents = self._contents(refs) if self.find_copies else {}
        items: dict[str | int, list[ImageRef]] = {}
        for ref in refs:
            items.setdefault(contents.get(ref.number, ref.number), []).append(ref)
        planned = []
        for content, (first, *copies) in items.items():
            sha256 = content if isinstance(content, str) else ""
            stands = self.committed.standing.get(bytes.fromhex(sha256)) if sha256 else None
            if stands is not None and stands.image_id not in gone:
                planned += [PlannedItem(ref, sha256, (), stands) for ref in (first, *copies)]
            else:
                planned.append(PlannedItem(first, sha256, tuple(copies), None))
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

    def _copies_of(self, changed: str) -> Iterator[_Candidate]:
        """Yield the committed copies of a picture whose file has changed: one of them must stand now.

        A copy that cannot be found from here is taken up when it is listed again (see `Committed.orphaned`).
        """
        stood = self.committed.pictures_of([changed])
        copies = self.dataset.scan("images").filter(pl.col("duplicate_of").is_in(list(stood))).collect()
        for row in copies.iter_rows(named=True):
            size, mtime_ns = file_state(row["source_uri"])
            if item_key(row["root"], row["file_name"], size, str(mtime_ns)) == row["item_key"]:
                ref = ImageRef(0, row["item_key"], row["root"], row["source_uri"], row["file_name"], size, mtime_ns, 0)
                yield _Candidate(ref, row["item_key"])


def file_state(uri: str) -> tuple[int, int | None]:
    """Return a file's size in bytes and its time in ns, as a listing gives them."""
    try:
        state = Path(uri).stat()
    except (OSError, ValueError):
        return UNREADABLE, None
    return (state.st_size, state.st_mtime_ns) if stat.S_ISREG(state.st_mode) else (UNREADABLE, None)


def still_holds(plan: Plan) -> bool:
    """Tell whether every file of an unfinished plan is as it was planned, seen from here.

    If not (a file changed, or another working folder gives relative names another meaning), what the plan covers is
    planned anew: nothing of it was ever visible.
    """
    refs = (ref for item in plan.items for ref in item.refs())
    return all(file_state(ref.uri) == (ref.size, ref.mtime_ns) for ref in refs)


def pending(dataset: Dataset) -> Plan | None:
    """Return the plan that a killed run left uncommitted, or None."""
    plans = sorted((dataset.path / PLANS).glob("[0-9]*.json"))
    last = dataset.manifests[-1].epoch if dataset.manifests else 0
    if plans and int(plans[-1].stem) > last:
        return Plan.of(read_json(plans[-1]))
    return None
