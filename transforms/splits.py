"""Splits for training, validation and test: each picture on one side, with what must not be parted from it.

Pictures are kept together that are copies of one another, exact or near (`duplicate_of`), that are frames of one video,
and, if asked for, that come from one source or folder. Such a group is known by the first of its members in the data
set, and a hash of that one and of the seed decides its side. So the sides are the same on every machine, and pictures
that are added later move none that was there, unless one of them is a copy of pictures of two groups: then the later
group follows the earlier one.

Stratified, the groups of each label are dealt out by their shares in the order of their hashes; a group of several
labels counts for the rarest. Shares are then met within one group a label, but pictures that are added may move others.
"""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from itertools import accumulate
from typing import Literal

import polars as pl

from schemas.errors import UsageError
from transforms.encoding import Part, Parts, shown

By = Literal["source_id", "folder"]
"""What else is kept together: the pictures of a source, or those of a folder."""

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,99}")
"""What a split may be called; without an underscore, because Datumaro takes what is behind one for a class."""

_TOLERANCE = 1e-6
_HASHES = 2.0**64
_HEADS = {"node": pl.String(), "head": pl.String()}
_DEALT = {"group": pl.UInt64(), "side": pl.UInt32()}


def read_shares(text: str) -> dict[str, float]:
    """Return the shares of splits by their names, in order. Raises UsageError.

    >>> read_shares("train=.8,val=.2")
    {'train': 0.8, 'val': 0.2}
    """
    pairs = [part.partition("=") for part in text.split(",")]
    names = [name.strip() for name, _, _ in pairs]
    shares = [_number(value) for _, _, value in pairs]
    if not all(NAME.fullmatch(name) for name in names):
        raise UsageError(
            f"--split: expected names of letters, digits, dots and dashes, as in train=.8,val=.2; got {text!r}"
        )
    if len({name.lower() for name in names}) < len(names):
        raise UsageError(f"--split: expected each name once; got {text!r}")
    if not all(0 < share <= 1 for share in shares) or abs(math.fsum(shares) - 1) > _TOLERANCE:
        raise UsageError(f"--split: expected shares above 0 that sum to 1, as in train=.8,val=.1,test=.1; got {text!r}")
    return dict(zip(names, shares, strict=True))


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


@dataclass(frozen=True)
class Sides:
    """Which side each picture is on.

    `ends` are the shares of `names` summed up. `heads` has the group of each node that is in one with others, by
    `_node`; `dealt` the number of the side of each group where it is stratified, by the group's hash.
    """

    names: tuple[str, ...]
    ends: tuple[float, ...] = (1.0,)
    seed: int = 0
    by: By | None = None
    heads: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=_HEADS))
    dealt: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=_DEALT))

    @staticmethod
    def one(name: str) -> "Sides":
        """Return a single side."""
        return Sides((name,))

    @staticmethod
    def of_shares(
        parts: Parts, shares: Mapping[str, float], *, seed: int = 0, by: By | None = None, stratify: bool = False
    ) -> "Sides":
        """Return the sides of a data set's pictures. `shares` must sum to 1."""
        sides = Sides(tuple(shares), tuple(accumulate(shares.values())), seed, by, _heads(parts, by))
        return replace(sides, dealt=_dealt(_groups(parts, sides), sides)) if stratify else sides

    def of(self, pictures: pl.DataFrame) -> pl.Series:
        """Return the name of each picture's side."""
        if len(self.names) == 1:
            return pl.Series([self.names[0]] * pictures.height, dtype=pl.String)
        hashed = pl.DataFrame({"group": self.hashes(pictures)})
        told = hashed.join(self.dealt, on="group", how="left", maintain_order="left")
        numbers = told.select(pl.coalesce("side", self.side(pl.col("group").cast(pl.Float64) / _HASHES)))
        return pl.Series(self.names).gather(numbers.to_series())

    def hashes(self, pictures: pl.DataFrame) -> pl.Series:
        """Return a number for each picture that those of its group share, in 0.._HASHES."""
        nodes = pictures.select(node=_node(self.by)).join(self.heads, on="node", how="left", maintain_order="left")
        names = nodes.select(pl.coalesce("head", "node")).to_series()
        return pl.Series([_hash(self.seed, name) for name in names], dtype=pl.UInt64)

    def side(self, place: pl.Expr) -> pl.Expr:
        """Return an expression: the number of the side in whose share a place in 0..1 lies."""
        return pl.sum_horizontal((place >= end).cast(pl.UInt32) for end in self.ends[:-1])


def parted(parts: Parts, sides: Sides) -> dict[str, Parts]:
    """Return the parts of each side; together they have each picture once."""
    known: dict[int, pl.Series] = {}
    return {name: _Side(parts, sides, name, known) for name in sides.names}


@dataclass(frozen=True)
class _Side:
    """The parts of one side; `known` has the sides of the pictures of each part that any of them has read."""

    parts: Parts
    sides: Sides
    name: str
    known: dict[int, pl.Series]

    def __iter__(self) -> Iterator["_Some"]:
        for number, part in enumerate(self.parts):
            images = part.images
            if number not in self.known:
                self.known[number] = self.sides.of(images).cast(pl.Enum(self.sides.names))
            yield _Some(images.filter(self.known[number] == self.name), part)


@dataclass(frozen=True)
class _Some:
    """Some pictures of a part; annotations of others may come with theirs."""

    images: pl.DataFrame
    part: Part

    @property
    def annotations(self) -> pl.DataFrame:
        return self.part.annotations


def _hash(seed: int, name: str) -> int:
    return int.from_bytes(blake2b(f"{seed}\n{name}".encode(), digest_size=8).digest(), "big")


def _node(by: By | None) -> pl.Expr:
    """Return an expression: what a picture is kept together by at least; itself where there is nothing else."""
    folder = pl.col("file_name").str.extract("^(.*)/").fill_null("")
    wider = {
        "folder": [pl.format("folder\n{}/{}", "root", folder)],
        "source_id": ["source\n" + pl.col("source_id")],
        None: [],
    }
    return pl.coalesce(*wider[by], "video_id", "image_id")


def _heads(parts: Parts, by: By | None) -> pl.DataFrame:
    """Return each node that is in a group with others, and the group's first node in the data set."""
    originals = pl.concat(
        [part.images["duplicate_of"].drop_nulls().unique() for part in parts] or [pl.Series(dtype=pl.String)]
    )
    groups = _Groups()
    for part in parts:
        for one, other in _links(part.images, originals, by).iter_rows():
            groups.join(one, other)
    return pl.DataFrame(list(groups.heads()), schema=_HEADS, orient="row")


def _links(images: pl.DataFrame, originals: pl.Series, by: By | None) -> pl.DataFrame:
    """Return pairs of nodes that are in one group, in the order of the pictures; a node with itself where it comes."""
    others = [
        pl.when(pl.col("node") != pl.col("image_id")).then("node"),
        "video_id",
        pl.when(pl.col("image_id").is_in(originals.implode())).then("image_id"),
        pl.col("duplicate_of"),
    ]
    nodes = images.with_columns(node=_node(by)).select("node", other=pl.concat_list(others))
    return nodes.explode("other").drop_nulls().unique(maintain_order=True)


class _Groups:
    """Names joined into groups, each known by the first that came."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._above: list[int] = []  # by number: an earlier one of the group, itself where it is the first

    def join(self, one: str, other: str) -> None:
        """Take two names for one group's."""
        low, high = sorted((self._head(self._number(one)), self._head(self._number(other))))
        self._above[high] = low

    def heads(self) -> Iterator[tuple[str, str]]:
        """Return each name but the first of its group, with that one."""
        names = list(self._numbers)
        return ((name, names[head]) for i, name in enumerate(names) if (head := self._head(i)) != i)

    def _number(self, name: str) -> int:
        number = self._numbers.setdefault(name, len(self._above))
        if number == len(self._above):
            self._above.append(number)
        return number

    def _head(self, number: int) -> int:
        while (above := self._above[number]) != number:
            self._above[number] = number = self._above[above]
        return number


def _groups(parts: Parts, sides: Sides) -> pl.DataFrame:
    """Return the groups with the number of their `pictures` and their rarest `label`, null where they have none."""
    sizes = [pl.DataFrame(schema={"group": pl.UInt64(), "pictures": pl.UInt32()})]
    labels = [pl.DataFrame(schema={"group": pl.UInt64(), "label": pl.String(), "count": pl.UInt32()})]
    for part in parts:
        pictures = shown(part.images)
        own = pictures.select("image_id", group=sides.hashes(pictures))
        sizes.append(own.group_by("group").agg(pictures=pl.len().cast(pl.UInt32)))
        found = part.annotations.select("image_id", "label").join(own, on="image_id", how="inner")
        labels.append(found.drop_nulls().group_by("group", "label").agg(count=pl.len().cast(pl.UInt32)))
    counts = pl.concat(labels).with_columns(total=pl.col("count").sum().over("label"))
    rarest = counts.sort("total", "label").unique("group", keep="first").select("group", "label")
    whole = pl.concat(sizes).group_by("group").agg(pl.col("pictures").sum())
    return whole.join(rarest, on="group", how="left")


def _dealt(groups: pl.DataFrame, sides: Sides) -> pl.DataFrame:
    """Return the side of each group: those of a label lie evenly on a circle, which each of the sides has its share of.

    Where the circle begins depends on the label, so that labels of a few groups do not all go to the first side.
    """
    labels = groups["label"].unique().to_list()
    begins = pl.DataFrame(
        {"label": labels, "begin": [_hash(sides.seed, f"label\n{label}") / _HASHES for label in labels]},
        schema={"label": pl.String(), "begin": pl.Float64()},
    )
    pictures = pl.col("pictures").cast(pl.Float64)
    place = (pictures.cum_sum() - pictures / 2) / pictures.sum()
    placed = (
        groups.join(begins, on="label", how="left", nulls_equal=True)
        .sort("label", "group")
        .with_columns(place=place.over("label") + pl.col("begin"))
    )
    return placed.select("group", side=sides.side(pl.col("place") % 1.0))
