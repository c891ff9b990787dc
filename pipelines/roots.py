"""The input roots of a data set: how they are recognised, and what a file is called in them."""

# Paths as texts: realpath and relpath are what recognises a root, and there is no Path for that.
# ruff: noqa: PTH118, PTH119, PTH120

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pipelines.dataset import Dataset
from transforms.storage import printable


@dataclass(frozen=True)
class Root:
    """An input root as the data set knows it.

    `marks` recognise it however it is named: hashes of its absolute path and of its path relative to the data set, so
    that either may be moved, or both together. The paths themselves are not kept.
    """

    number: int
    name: str
    marks: tuple[str, ...]


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

    def of_stream(self, name: str, cluster: str) -> Root:
        """Return the root of all messages of one Kafka cluster, whatever its address is today."""
        mark = _mark(f"kafka://{cluster}")
        if mark not in self.at:
            self._add(Root(len(self.known), name, (mark, mark)))
        return self.at[mark]

    def find(self, folder: str) -> tuple[int, str]:
        """Return the number of the root that a folder is in, and its path in it; -1 where it is in none."""
        path = os.path.realpath(folder)
        for part in _upwards(path):
            if _mark(part) in self.at:
                inner = os.path.relpath(path, part)
                return self.at[_mark(part)].number, "" if inner == "." else inner.replace(os.sep, "/")
        return -1, ""

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
