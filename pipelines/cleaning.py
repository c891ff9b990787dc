"""Plans of `pipelines.clean`: which parts of the survey an epoch covers, and which committed rows it writes again.

What is committed is recognised picture by picture: by its name, its file, and what each source says of it. A picture of
which a source says something new is done again with all that was committed of it; its old rows are superseded.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import polars as pl
import pyarrow.parquet as pq

from pipelines.dataset import Dataset, Manifest
from pipelines.roots import Root
from pipelines.survey import Survey, mark_of
from schemas.errors import RunError
from schemas.layout import part_behind
from schemas.tables import TABLES, Tables, schema
from transforms.decisions import PEOPLE
from transforms.staging import Staging, staged, typed
from transforms.tidy import shaped

KIND = "clean"
"""What the plans of this job are called in their files."""

_KNOWN: dict[str, pl.DataType] = {
    "root": pl.Int32(),
    "name": pl.String(),
    "frame": pl.Int32(),
    "known_key": pl.String(),
    "known_id": pl.String(),
    "known_inputs": pl.List(pl.String()),
    "known_attempts": pl.Int32(),  # null for what did not fail
}

_CARRY: dict[str, pl.DataType] = {
    "old_key": pl.String(),
    "new_key": pl.String(),
    "old_id": pl.String(),
    "new_id": pl.String(),
    "replaced": pl.List(pl.String()),  # marks of the sources whose labels are not carried, because they came anew
}


@dataclass(frozen=True)
class CleanPlan:
    """Exactly what one epoch covers: parts of the survey, as many items, and the committed items that it replaces."""

    epoch: int
    configuration: dict[str, Any]
    roots: tuple[Root, ...]
    supersedes: tuple[str, ...]
    parts: tuple[int, ...]
    items: int
    sources: tuple[dict[str, Any], ...]
    categories: tuple[str, ...]
    first_part: int = 0

    def behind(self, part: int) -> Self:
        """Return the same plan with other shards than those up to this number."""
        return replace(self, first_part=part_behind(part))

    def to_json(self) -> bytes:
        """Return the plan as the JSON file that makes it durable."""
        told = {"kind": KIND, "epoch": self.epoch, "configuration": self.configuration, "parts": self.parts}
        return json.dumps(told | {"items": self.items}, separators=(",", ":")).encode()

    def owns(self, part: int) -> bool:
        """Tell whether the epoch's shard of this number is this plan's."""
        return part >= self.first_part

    def require_whole(self, outcomes: Mapping[str, int], shards: Mapping[str, list[str]]) -> dict[str, Any]:
        """Raise `RunError` unless each planned item is in one table; return what was decided of the sources."""
        found = sum(outcomes.values())
        if found != self.items:
            raise RunError(
                f"epoch {self.epoch} planned {self.items} items and has {found} ({dict(outcomes)}): nothing of it was "
                "committed; run again, and report this as a defect if it stays"
            )
        return {"kind": KIND, "sources": self.sources, "categories": self.categories}


@dataclass(frozen=True)
class Prepared:
    """A part that is ready: how many items it has, and the keys of the committed ones that it replaces."""

    part: int
    items: int
    supersedes: tuple[str, ...]


class CleanPlanner:
    """Turns the parts of a survey into plans; what is committed already is left out."""

    def __init__(
        self,
        dataset: Dataset,
        survey: Survey,
        prepared: Iterator[Prepared],
        configuration: dict[str, Any],
        *,
        epoch_items: int,
        roots: Sequence[Root],
        sources: Sequence[dict[str, Any]],
        categories: Sequence[str],
    ) -> None:
        """`roots` are those that the data set does not know yet."""
        self.dataset, self.survey, self.prepared = dataset, survey, prepared
        self.configuration, self.epoch_items = configuration, epoch_items
        self.roots = tuple(roots)
        self.sources, self.categories = tuple(sources), tuple(categories)

    def next(self, epoch: int) -> CleanPlan | None:
        """Return the plan of the next epoch, or None when nothing is left to do."""
        chosen: list[Prepared] = []
        items = 0
        while items < self.epoch_items and (part := next(self.prepared, None)):
            if part.items:
                chosen.append(part)
                items += part.items
        if not chosen:
            return None
        supersedes = sorted({key for part in chosen for key in part.supersedes})
        roots, self.roots = self.roots, ()
        return CleanPlan(
            epoch,
            self.configuration,
            roots,
            tuple(supersedes),
            tuple(part.part for part in chosen),
            items,
            self.sources,
            self.categories,
        )

    def add(self, manifest: Manifest) -> None:
        """Take in a commit: what is prepared does not depend on it."""


def learn_committed(dataset: Dataset, survey: Survey) -> None:
    """Note beside each staged picture what is committed under its name."""
    if not dataset.manifests:
        return
    named = {"root": "root", "file_name": "name", "item_key": "known_key"}
    images = dataset.scan("images").select(
        *(pl.col(column).alias(name) for column, name in named.items()),
        frame="frame_index",
        known_id="image_id",
        known_inputs="inputs",
    )
    failures = dataset.scan("failures").select(
        *(pl.col(column).alias(name) for column, name in named.items()), known_attempts="attempts"
    )
    with Staging(survey.folder, "known", _KNOWN, survey.parts) as staging:
        for lazy in (images, failures):
            rows = lazy.collect()
            missing = (pl.lit(None).alias(name) for name in _KNOWN if name not in rows.columns)
            staging.add(typed(rows.with_columns(missing), _KNOWN), "name")
    own = ["root", "name", "frame"]
    for part in range(survey.parts):
        known = staged(survey.folder, "known", part, _KNOWN).unique(own, keep="last", maintain_order=True)
        pictures = survey.pictures(part).drop(name for name in _KNOWN if name not in own)
        told = pictures.join(known, on=own, how="left", maintain_order="left", nulls_equal=True)
        survey.replace(part, survey.labels(part), told)


def prepare(dataset: Dataset, survey: Survey, part: int, standing: pl.DataFrame, *, retry_failed: bool) -> Prepared:
    """Leave out what is done, and fetch the committed rows that must be written again.

    `standing` (item_key, image_id) are committed pictures that stand for new copies in this part.
    """
    pictures = survey.pictures(part)
    if not standing.height and pictures["known_key"].null_count() == pictures.height:
        return Prepared(part, pictures.height, ())
    labels = survey.labels(part)
    news = pl.col("inputs").list.set_difference(pl.col("known_inputs").fill_null([])).list.len() > 0
    failed = pl.col("known_attempts").is_not_null()
    same = pl.col("known_key") == pl.col("item_key")
    done = same.fill_null(False) & pl.when(failed).then(pl.lit(not retry_failed)).otherwise(~news)
    todo = pictures.filter(~done)
    again = todo.filter(pl.col("known_key").is_not_null())
    carry = again.filter(pl.col("known_attempts").is_null()).select(
        old_key="known_key",
        new_key="item_key",
        old_id="known_id",
        new_id="image_id",
        replaced=_marks(pl.col("inputs").list.set_difference("known_inputs")),
    )
    # One whose copies are all done needs no second writing.
    needed = pl.col("image_id").is_in(todo["stands"].implode())
    fixed = standing.filter(needed & ~pl.col("item_key").is_in(again["known_key"].implode())).select(
        old_key="item_key",
        new_key="item_key",
        old_id="image_id",
        new_id="image_id",
        replaced=pl.lit([], pl.List(pl.String)),
    )
    carry = pl.concat([typed(carry, _CARRY), typed(fixed, _CARRY)])
    if carry.height:
        guests = _guests(dataset, carry)
        fixed = pl.concat([typed(fixed, _CARRY), guests])
        write_carried(survey.folder, part, _carried(dataset, pl.concat([carry, guests])))
    unchanged = again.filter(pl.col("known_attempts").is_null()).select(
        "picture", mark=_marks(pl.col("inputs").list.set_intersection("known_inputs"))
    )
    marks = {number: mark_of(source, survey.home) for number, source in enumerate(survey.sources)}
    left = (
        labels.filter(pl.col("picture").is_in(todo["picture"].implode()))
        .with_columns(mark=pl.col("source").replace_strict(marks, return_dtype=pl.String))
        .join(unchanged.explode("mark").drop_nulls(), on=["picture", "mark"], how="anti")
        .drop("mark")
    )
    merged = [_merged(new, old) for new, old in todo.select("inputs", "known_inputs").iter_rows()]
    tried = pl.when(same).then("known_attempts").fill_null(0)
    kept = todo.with_columns(pl.Series("inputs", merged, pl.List(pl.String)), attempts=tried + 1)
    survey.replace(part, left, kept)
    supersedes = {*again["known_key"].to_list(), *fixed["old_key"].to_list()}
    return Prepared(part, kept.height + fixed.height, tuple(sorted(supersedes)))


def _merged(new: list[str], old: list[str] | None) -> list[str]:
    """Return what is known of a picture's sources: what they say now, and what the others said before."""
    if not old:
        return new
    named = {each.rpartition(":")[0] for each in new}
    return sorted({*new, *(each for each in old if each.rpartition(":")[0] not in named)})


def _guests(dataset: Dataset, carry: pl.DataFrame) -> pl.DataFrame:
    """Return the other items, copies of those in `carry`, whose annotations were given to these."""
    annotations = dataset.scan("annotations").filter(
        pl.col("image_id").is_in(carry["old_id"].implode()) & ~pl.col("item_key").is_in(carry["old_key"].implode())
    )
    keys = annotations.select("item_key").unique().collect()
    images = dataset.scan("images").filter(pl.col("item_key").is_in(keys["item_key"].implode())).collect()
    guests = images.select(
        old_key="item_key",
        new_key="item_key",
        old_id="image_id",
        new_id="image_id",
        replaced=pl.lit([], pl.List(pl.String)),
    )
    return typed(guests, _CARRY)


def _marks(inputs: pl.Expr) -> pl.Expr:
    return inputs.list.eval(pl.element().str.replace(r":\d+$", ""))


def _carried(dataset: Dataset, carry: pl.DataFrame) -> Tables:
    """Return the committed rows of the items in `carry`, under their new keys and ids, without what is replaced."""
    keys = carry["old_key"].implode()
    rekeyed = dict(carry.select("old_key", "new_key").iter_rows())
    renamed = dict(carry.filter(pl.col("old_id") != pl.col("new_id")).select("old_id", "new_id").iter_rows())
    named = pl.DataFrame(
        [
            (source["mark"], source["name"])
            for manifest in dataset.manifests
            for source in manifest.told.get("sources", [])
        ],
        schema={"mark": pl.String, "source": pl.String},
        orient="row",
    ).unique()
    marked = carry.select(item_key="old_key", mark="replaced").explode("mark").drop_nulls()
    replaced = marked.join(named, on="mark").select("item_key", "source")
    tables: dict[str, pl.DataFrame] = {}
    for name in TABLES:
        rows = dataset.scan(name).filter(pl.col("item_key").is_in(keys)).collect()
        tables[name] = rows
    annotations = tables["annotations"]
    gone = (
        annotations.join(replaced, on=["item_key", "source"], how="semi")
        .filter(pl.col("origin") != "person")["annotation_id"]
        .to_list()
    )
    held = tables["quarantine"].filter(pl.col("held").is_not_null())
    sources = held.select("id", "item_key", source=pl.col("held").str.json_path_match("$.source"))
    gone += sources.join(replaced, on=["item_key", "source"], how="semi")["id"].to_list()
    spoken = tables["changes"].filter(pl.col("rule").is_in(PEOPLE))["id"].to_list()
    gone = sorted(set(gone) - set(spoken))  # a person's word outlives what its source says now
    tables["annotations"] = annotations.filter(~pl.col("annotation_id").is_in(gone))
    for name in ("quarantine", "changes"):
        tables[name] = tables[name].filter(~pl.col("id").is_in(gone))
    made = {}
    for name, rows in tables.items():
        rows = rows.with_columns(pl.col("item_key").replace(rekeyed))
        ids = [column for column in ("image_id", "duplicate_of") if column in rows.columns]
        made[name] = shaped(name, rows.with_columns(pl.col(ids).replace(renamed)))
    return Tables(**made, crops=schema("crops", ()).empty_table())


def write_carried(folder: Path, part: int, tables: Tables) -> None:
    """Keep a part's carried rows beside the staged ones."""
    for name in TABLES:
        pq.write_table(getattr(tables, name), folder / f"carried-{part:04d}-{name}.parquet")


def read_carried(folder: Path, part: int) -> Tables | None:
    """Return a part's carried rows, None where there are none."""
    paths = {name: folder / f"carried-{part:04d}-{name}.parquet" for name in TABLES}
    if not paths[TABLES[0]].exists():
        return None
    tables = {name: pq.read_table(path).cast(schema(name, ())) for name, path in paths.items()}
    return Tables(**tables, crops=schema("crops", ()).empty_table())
