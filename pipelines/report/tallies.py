"""What rules did to the labels of a cleaned data set: counts, and a few examples of a million rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from pipelines.dataset import Dataset
from schemas.reasons import RECORDED, REVIEW, Outcome, Rule

RULES_SHOWN, KINDS_SHOWN = 40, 5
"""Rules of which examples are shown, and kinds of changes, or of values held back, of each."""

GROUPS_SHOWN, COPIES_SHOWN = 5, 4
"""Groups of duplicates that are named, the largest ones, and copies of each."""

COPIES = frozenset({Rule.DUPLICATE_EXACT, Rule.DUPLICATE_NEAR})
"""The rules that are about whole pictures: they move labels, and change none."""

MOST_CHARS = 400
"""Of a text in an example: what is shown of it is less, and what is longer need not be read."""

PEOPLE = frozenset({Rule.PERSON_DECISION, Rule.PERSON_REJECTED, Rule.PERSON_DISAGREEMENT})
"""The rules by which people's words stand in the tables."""

_JUDGED = ("label", "bbox")
"""Of the fields that a person's decision is kept in, those that a person looks at."""


@dataclass(frozen=True)
class Kind:
    """What happened to `rows` rows alike, and the first of them: for changes `before`, `after`, else `value`, ..."""

    rows: int
    example: Mapping[str, Any]


@dataclass(frozen=True)
class Doing:
    """What one rule did: to how many rows, and its most frequent kinds."""

    rule: str
    rows: int
    kinds: tuple[Kind, ...]


@dataclass(frozen=True)
class Group:
    """Pictures that are one: the one that stands, the first of its copies, and how many copies there are."""

    standing: str
    copies: tuple[str, ...]
    count: int


@dataclass(frozen=True)
class Tallies:
    """Everything that the page says of what was changed and held back.

    `changed` and `held` have the rules that did most first; the rules that have no examples stand in the counts only.
    `waiting` counts labels, by rule and, of those that a review file gets, together. `sizes` counts groups of
    duplicates by the number of their pictures, `copies` the copies by rule.
    """

    changes: Mapping[str, int]
    quarantine: Mapping[str, int]
    changed: tuple[Doing, ...]
    held: tuple[Doing, ...]
    held_labels: int
    waiting: int
    sizes: Mapping[int, int]
    groups: tuple[Group, ...]
    copies: Mapping[str, int]
    labels_by_source: Mapping[str, int]


def tally(dataset: Dataset) -> Tallies:
    """Return the tallies of a data set."""
    changes = dataset.scan("changes").filter(
        ~pl.col("rule").is_in(COPIES), ~pl.col("rule").is_in(PEOPLE) | pl.col("field").is_in(_JUDGED)
    )
    quarantine = dataset.scan("quarantine")
    changed, counts = _doings(changes, ("field", "before", "after"), ("file_name",), RECORDED, last=True)
    held, back = _doings(quarantine, ("field", "value"), ("file_name", "candidates", "detail"), REVIEW, last=False)
    images = dataset.scan("images")
    sizes, groups = _groups(images)
    return Tallies(
        changes=counts,
        quarantine=back,
        changed=changed,
        held=held,
        held_labels=quarantine.filter(pl.col("kind") == "annotation")
        .select(pl.col("id").hash().n_unique())
        .collect()
        .item(),
        waiting=_waiting(quarantine, images) if any(rule in REVIEW for rule in back) else 0,
        sizes=sizes,
        groups=groups,
        copies=_copies(dataset),
        labels_by_source=dict(dataset.scan("annotations").group_by("source").len().drop_nulls().collect().iter_rows()),
    )


def _doings(
    rows: pl.LazyFrame, alike: Sequence[str], more: Sequence[str], apart: frozenset[Rule], *, last: bool
) -> tuple[tuple[Doing, ...], dict[str, int]]:
    """Return what each rule did to rows, most first, the rules of `apart` before or after all others; and all counts.

    Rows are alike that have the same rule and values. They are counted by a hash, and only the texts that are shown are
    read: boxes are nearly all different.
    """
    numbered = rows.with_row_index("at")
    keys = numbered.select("at", "rule", key=pl.struct(alike).hash()).collect()
    counts = keys.group_by("rule").len().drop_nulls("rule")
    rank = pl.col("rule").is_in(apart)
    order = counts.sort(rank if last else ~rank, -pl.col("len").cast(pl.Int64), "rule").rows()
    shown = [rule for rule, _ in order[:RULES_SHOWN]]
    kinds = (
        keys.filter(pl.col("rule").is_in(shown))
        .group_by("rule", "key")
        .agg(pl.len(), pl.col("at").min())
        .group_by("rule")
        .agg(pl.col("at", "len").top_k_by(["len", "at"], KINDS_SHOWN, reverse=[False, True]))
        .explode("at", "len")
        .sort("rule", "len", "at", descending=[False, True, False])
    )
    texts = [pl.col(name).str.slice(0, MOST_CHARS) for name in (*alike, *more) if name != "candidates"]
    lists = [pl.col("candidates").list.head(KINDS_SHOWN + 1)] if "candidates" in more else []
    found = numbered.filter(pl.col("at").is_in(kinds["at"].implode())).select("at", *texts, *lists).collect()
    examples = {row.pop("at"): row for row in found.to_dicts()}
    own: dict[str, list[Kind]] = {rule: [] for rule in shown}
    for rule, at, count in kinds.select("rule", "at", "len").iter_rows():
        own[rule].append(Kind(count, examples[at]))
    return tuple(Doing(rule, count, tuple(own[rule])) for rule, count in order[:RULES_SHOWN]), dict(order)


def _waiting(quarantine: pl.LazyFrame, images: pl.LazyFrame) -> int:
    """Return how many labels a review file would have, see `pipelines.review.waiting`."""
    down = quarantine.filter(pl.col("kind") == "image").select(image_id="id")
    standing = images.filter(pl.col("duplicate_of").is_null()).select("image_id")
    asked = quarantine.filter(
        pl.col("kind") == "annotation", pl.col("rule").is_in(REVIEW), pl.col("held").is_not_null()
    ).select("id", "image_id")
    there = asked.join(standing, on="image_id", how="semi").join(down, on="image_id", how="anti")
    count: int = there.select(pl.col("id").hash().n_unique()).collect().item()
    return count


def _groups(images: pl.LazyFrame) -> tuple[dict[int, int], tuple[Group, ...]]:
    copies = images.filter(pl.col("duplicate_of").is_not_null())
    groups = copies.group_by("duplicate_of").len().sort("len", "duplicate_of", descending=[True, False]).collect()
    sizes = dict(groups.group_by(pl.col("len") + 1).len("groups").sort("len").iter_rows())
    largest = groups.head(GROUPS_SHOWN)
    among = largest["duplicate_of"].implode()
    named = copies.filter(pl.col("duplicate_of").is_in(among)).select("duplicate_of", "file_name").collect()
    # What stands is a picture, or a video, whose frames all have its name.
    standing = images.filter(pl.col("image_id").is_in(among) | pl.col("video_id").is_in(among))
    names: dict[str, str] = {}
    for image, video, name in standing.select("image_id", "video_id", "file_name").collect().iter_rows():
        names[image] = name
        names.setdefault(video, name)
    own = named.sort("file_name").group_by("duplicate_of").agg(pl.col("file_name").head(COPIES_SHOWN))
    copied = dict(own.iter_rows())
    return sizes, tuple(
        Group(names.get(stands) or stands, tuple(name or "" for name in copied[stands]), count)
        for stands, count in largest.iter_rows()
    )


def _copies(dataset: Dataset) -> dict[str, int]:
    """Return how many pictures each rule found to be copies; those that no change tells of have the same bytes."""
    told = dataset.scan("changes").filter(pl.col("field") == "duplicate_of").group_by("rule").len().collect()
    found: dict[str, int] = dict(told.sort("rule").iter_rows())
    copies = dataset.scan("images").filter(pl.col("outcome") == Outcome.DUPLICATE)
    silent = copies.select(pl.len()).collect().item() - sum(found.values())
    if silent > 0:
        found[Rule.DUPLICATE_EXACT] = found.get(Rule.DUPLICATE_EXACT, 0) + silent
    return found
