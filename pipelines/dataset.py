"""A data set on disk: its manifests are the truth; readers take the list of files from them, never from a glob.

>>> Dataset("out").scan("annotations").group_by("label").len().collect()  # doctest: +SKIP
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl

from schemas.errors import RunError, UsageError
from schemas.layout import MANIFESTS
from schemas.tables import CROPS, TABLES, schema


@dataclass(frozen=True)
class Manifest:
    """One commit. `told` is its JSON: tables' files, counts, what it supersedes, the configuration."""

    epoch: int
    told: Mapping[str, Any]

    def paths(self, table: str) -> list[str]:
        """Return the table's files, relative to the data set."""
        return [file["path"] for file in self.told["tables"].get(table, [])]


@dataclass(frozen=True)
class Part:
    """The rows of one commit that no later one has taken back."""

    images: pl.DataFrame
    annotations: pl.DataFrame


def is_dataset(path: str | Path) -> bool:
    """Tell whether `path` is a data set, if only a begun one."""
    return (Path(path) / MANIFESTS).is_dir()


def read_json(path: Path) -> dict[str, Any]:
    """Return the JSON of a plan or manifest; raise `RunError` where it cannot be read."""
    try:
        return dict(json.loads(path.read_bytes()))
    except (OSError, ValueError, TypeError) as error:
        raise RunError(f"{path} cannot be read ({error}): restore it from a copy of the data set") from None


class Dataset:
    """A reader of what is committed: `files()` for any Parquet reader, `scan()` for polars."""

    def __init__(self, path: str | Path) -> None:
        """Open the data set at `path`; raise `UsageError` where there is none."""
        self.path = Path(path)
        if not is_dataset(self.path):
            raise UsageError(f"{self.path} is no data set: expected a folder that `pipelines.annotate --output` made")

    @staticmethod
    def of(path: Path, manifests: list[Manifest]) -> "Dataset":
        """Return a reader of some of a data set's commits."""
        some = Dataset(path)
        some.__dict__["manifests"] = manifests
        return some

    @cached_property
    def manifests(self) -> list[Manifest]:
        """The commits in order."""
        folder = self.path / MANIFESTS
        names = sorted(folder.glob("[0-9]*.json")) if folder.is_dir() else []
        return [Manifest(int(name.stem), read_json(name)) for name in names]

    def add(self, manifest: Manifest) -> None:
        """Take in a commit that was made after this reader was opened."""
        self.manifests.append(manifest)
        self.__dict__.pop("taken_back", None)

    def verify(self) -> None:
        """Raise `RunError` where a committed file is missing or has another size than its manifest says."""
        for manifest in self.manifests:
            for file in (file for files in manifest.told["tables"].values() for file in files):
                path = self.path / file["path"]
                size = path.stat().st_size if path.is_file() else None
                if size != file["size"]:
                    what = "is missing" if size is None else f"has {size:,} bytes instead of {file['size']:,}"
                    raise RunError(f"{path} {what}: restore it from a copy of the data set")

    def files(self, table: str) -> list[str]:
        """Return the paths of the table's committed Parquet files, in order."""
        return [str(self.path / path) for manifest in self.manifests for path in manifest.paths(self._known(table))]

    def scan(self, table: str) -> pl.LazyFrame:
        """Return a lazy frame over what is committed and not superseded; dictionary columns come as strings."""
        return self._scan(self._known(table), self.manifests)

    def parts(self) -> "Parts":
        """Return the commits in order, each with its pictures and annotations; can be iterated more than once."""
        return Parts(self)

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels of the data set's classifiers, in the order in which they were first used."""
        named = [label for manifest in self.manifests for label in manifest.told["labels"]]
        return tuple(dict.fromkeys(named))

    @property
    def roots(self) -> dict[int, str]:
        """The names of the input roots by their number."""
        return {root["number"]: root["name"] for manifest in self.manifests for root in manifest.told["roots"]}

    @property
    def info(self) -> dict[str, Any]:
        """What made the data set: version, configuration hash and models of its last commit."""
        told = self.manifests[-1].told if self.manifests else {}
        return {key: told[key] for key in ("version", "configuration_hash", "models") if key in told}

    @cached_property
    def taken_back(self) -> dict[str, int]:
        """The item keys whose rows a later manifest took back, with the epoch of the last one that did."""
        return {key: manifest.epoch for manifest in self.manifests for key in manifest.told["supersedes"]}

    def part(self, manifest: Manifest) -> Part:
        """Return the standing rows of one commit."""
        images, annotations = (self._scan(table, [manifest]).collect() for table in ("images", "annotations"))
        return Part(images, annotations)

    def _known(self, table: str) -> str:
        if table not in (*TABLES, CROPS):
            raise UsageError(f"no table {table!r}: expected one of {', '.join((*TABLES, CROPS))}")
        return table

    def _scan(self, table: str, manifests: list[Manifest]) -> pl.LazyFrame:
        epochs = {str(self.path / path): manifest.epoch for manifest in manifests for path in manifest.paths(table)}
        empty = pl.DataFrame(schema(table, self.labels).empty_table())
        if not epochs:
            return _strings(empty.lazy())
        # Another configuration may know other labels: their columns are null where they were not known.
        rows = pl.scan_parquet(
            list(epochs), schema=empty.schema, missing_columns="insert", include_file_paths="_path", glob=False
        )
        frame = _strings(rows)
        if not self.taken_back:
            return frame.drop("_path")
        committed = pl.LazyFrame({"_path": list(epochs), "_epoch": list(epochs.values())})
        taken = pl.LazyFrame({"item_key": list(self.taken_back), "_taken": list(self.taken_back.values())})
        return (
            frame.join(committed, on="_path", how="left", maintain_order="left")
            .join(taken, on="item_key", how="left", maintain_order="left")
            .filter(pl.col("_taken").is_null() | (pl.col("_epoch") >= pl.col("_taken")))
            .drop("_path", "_epoch", "_taken")
        )


class Parts:
    """The commits of a data set, re-iterable and held one at a time."""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset

    def __iter__(self) -> Iterator[Part]:
        return (self.dataset.part(manifest) for manifest in self.dataset.manifests)


def _strings(frame: pl.LazyFrame) -> pl.LazyFrame:
    return frame.with_columns(pl.col(pl.Categorical, pl.Enum).cast(pl.String))
