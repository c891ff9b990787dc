"""What the exports want to know of a data set: its rows, a shard at a time, the order of its labels, and more."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePosixPath
from typing import Any

import polars as pl

from pipelines.dataset import Dataset, Manifest
from schemas.vocabulary import label_order
from transforms.encoding import Landmarks, Part, Parts


class Shards:
    """The shards of a data set in order, re-iterable; of each, what is asked for is read."""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset

    def __iter__(self) -> Iterator[Part]:
        for manifest in self.dataset.manifests:
            files = {table: manifest.told["tables"].get(table, []) for table in ("images", "annotations")}
            for name in dict.fromkeys(PurePosixPath(file["path"]).name for some in files.values() for file in some):
                some = {table: [f for f in files[table] if PurePosixPath(f["path"]).name == name] for table in files}
                yield _Shard(self.dataset, manifest, some)


@dataclass(frozen=True)
class _Shard:
    dataset: Dataset
    manifest: Manifest
    files: dict[str, list[dict[str, Any]]]

    @cached_property
    def images(self) -> pl.DataFrame:
        return self._only("images").images

    @cached_property
    def annotations(self) -> pl.DataFrame:
        return self._only("annotations").annotations

    def _only(self, table: str) -> Part:
        some = {**self.manifest.told, "tables": {table: self.files[table]}}
        return self.dataset.part(Manifest(self.manifest.epoch, some))


class Content:
    """What the writers want to know of a data set."""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset
        self.parts: Parts = Shards(dataset)
        self.roots, self.info = dataset.roots, dataset.info
        self.expressions = label_order(dataset.labels)

    @cached_property
    def categories(self) -> tuple[str, ...]:
        """The labels in the order of their ids: as the manifests declare them, then others that there are."""
        manifests = self.dataset.manifests
        declared = [name for told in self.dataset.history for name in told.get("categories", self.expressions)]
        found = self.dataset.scan("annotations").select(pl.col("label").unique()).collect()["label"]
        return tuple(dict.fromkeys((*(declared if manifests else self.expressions), *sorted(found.drop_nulls()))))

    @property
    def has_expressions(self) -> bool:
        """Whether labels are expressions, or might be."""
        return not set(self.expressions).isdisjoint(self.categories)

    @cached_property
    def landmarks(self) -> Landmarks:
        """How many landmarks faces have; five where a model looked, whether it found any or not."""
        if self._has("landmarks_68"):
            return 68
        return 5 if self._is_ours or self._has("landmarks") else 0

    @cached_property
    def probabilities(self) -> tuple[str, ...]:
        """The labels that have probabilities."""
        return self.expressions if self._is_ours or self._has(*map("p_{}".format, self.expressions)) else ()

    @cached_property
    def has_shares(self) -> bool:
        """Whether boxes are known as shares of pictures whose size is not known."""
        return self._holds(pl.col("cx").is_not_null() & pl.col("bbox_x").is_null())

    @property
    def _is_ours(self) -> bool:
        """Whether any of it was labelled by models."""
        return not self.dataset.manifests or any("categories" not in told for told in self.dataset.history)

    def _has(self, *columns: str) -> bool:
        return self._holds(pl.any_horizontal(pl.col(name).is_not_null() for name in columns))

    def _holds(self, condition: pl.Expr) -> bool:
        """Tell whether any annotation meets a condition."""
        found = self.dataset.scan("annotations").filter(condition).select(pl.len()).collect(engine="streaming")
        return bool(found.item())
