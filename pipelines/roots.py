"""The input roots of a data set: how they are recognised, and what a file is called in them."""

# Paths as texts: realpath and relpath are what recognises a root, and there is no Path for that.
# ruff: noqa: PTH118, PTH119, PTH120

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pipelines.dataset import Dataset
from transforms.buckets.names import is_remote, split
from transforms.source import real_name
from transforms.storage import printable


@dataclass(frozen=True)
class Root:
    """An input root as the data set knows it.

    `marks` recognise it however it is named: hashes of its absolute path (of its uri) and of its path relative
    to the data set, so that either may be moved, or both together. The second is the first again where one of them is
    in a bucket and the other is not in the same. The paths themselves are not kept.
    """

    number: int
    name: str
    marks: tuple[str, ...]


class Roots:
    """Numbers the input roots of a data set, in the order in which they were first seen."""

    def __init__(self, dataset: Dataset) -> None:
        self.home = real_name(str(dataset.path))
        self.known: list[Root] = []
        self.at: dict[str, Root] = {}  # by the mark of the absolute path
        self.places: dict[tuple[str, str], tuple[Root, str]] = {}  # what is put before the names of a folder's files
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
        base = file_name.rpartition("/")[2]
        folder = file_name.removesuffix(base)
        if (named, folder) not in self.places:
            self.places[named, folder] = self._place(real_name(named), folder)
        root, before = self.places[named, folder]
        return root, before + base

    def of_stream(self, name: str, cluster: str) -> Root:
        """Return the root of all messages of one Kafka cluster, whatever its address is today."""
        mark = _mark(f"kafka://{cluster}")
        if mark not in self.at:
            self._add(Root(len(self.known), name, (mark, mark)))
        return self.at[mark]

    def find(self, folder: str) -> tuple[int, str]:
        """Return the number of the root that a folder is in, and its path in it; -1 where it is in none."""
        path = real_name(folder)
        for part in _upwards(path):
            if _mark(part) in self.at:
                return self.at[_mark(part)].number, _inside(path, part)
        return -1, ""

    def around(self, folder: str) -> tuple[int, str]:
        """Return the number of the root that files of a folder are in, and its path in it; -1 where none is known."""
        path = real_name(folder)
        found = self._around(path)
        return (found[0].number, _inside(path, found[1])) if found else (-1, "")

    def former(self, root: Root) -> list[Root]:
        """Return roots that stood at the same place relative to the data set: `root` before both were moved."""
        return [other for other in self.known if other.marks[1] == root.marks[1] and other is not root]

    def _place(self, top: str, folder: str) -> tuple[Root, str]:
        path = f"{top}/{folder}" if is_remote(top) else os.path.join(top, folder)
        found = self._around(path.removesuffix("/") or "/")
        if found is None:
            number = len(self.known)
            marks = (_mark(top), _mark(relative_to(top, self.home)))
            self._add(Root(number, printable(os.path.basename(top)), marks))
            found = self.known[number], top
        root, where = found
        if is_remote(top):
            return root, path[len(where) + 1 :]  # keys are no paths: "a//" is another than "a/"
        inner = _inside(path, where)
        return root, f"{inner}/" if inner else ""

    def _around(self, path: str) -> tuple[Root, str] | None:
        """Return the first of the known roots that a folder is in, and where that is."""
        around = [(self.at[_mark(part)], part) for part in _upwards(path) if _mark(part) in self.at]
        return min(around, key=lambda found: found[0].number, default=None)

    def _add(self, root: Root) -> None:
        self.known.append(root)
        self.at.setdefault(root.marks[0], root)


def _mark(path: str) -> str:
    return hashlib.sha256(path.encode("utf-8", "surrogateescape")).hexdigest()[:24]


def relative_to(top: str, home: str) -> str:
    """Return where `top` is, seen from `home`, both real names; of one in another bucket, or in none, its name."""
    if not is_remote(top) and not is_remote(home):
        return os.path.relpath(top, home)
    if is_remote(top) and is_remote(home) and split(top)[0] == split(home)[0]:
        # Never as of folders: what lies beside a data set in a bucket is not what lay beside it in its folder before.
        return f"://{os.path.relpath(f'/{split(top)[1]}', f'/{split(home)[1]}')}"
    return top


def _inside(path: str, folder: str) -> str:
    """Return a path below a folder, with forward slashes; '' for the folder itself."""
    inner = path[len(folder) + 1 :] if is_remote(path) else os.path.relpath(path, folder).replace(os.sep, "/")
    return "" if inner == "." else inner


def _upwards(path: str) -> Iterator[str]:
    """Yield the folder and all that it lies in, up to the bucket."""
    yield path
    bucket = str(split(path)[0]) if is_remote(path) else ""
    while path != bucket and (above := path.rpartition("/")[0] if bucket else os.path.dirname(path)) != path:
        path = above
        yield path
