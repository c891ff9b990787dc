"""A data set, local or in a bucket: its manifests are the truth; readers take the files from them, never from a glob.

>>> Dataset("out").scan("annotations").group_by("label").len().collect()  # doctest: +SKIP
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import Any

import polars as pl
import pyarrow as pa

from schemas.errors import RunError, UsageError
from schemas.layout import MANIFESTS, TEMPORARY
from schemas.tables import CROPS, TABLES, schema
from transforms.manifests import read_standing
from transforms.places import Place, Prefix, place, sizes
from transforms.shards import scan_shards, shard_schema


@dataclass(frozen=True)
class Manifest:
    """One commit, or several that were folded into one. `epoch` is the last.

    `told` is its JSON: tables' files, counts, what it supersedes, the configuration; of several that of the last, with
    what adds up added up.
    """

    epoch: int
    told: Mapping[str, Any]

    @property
    def is_folded(self) -> bool:
        """Whether it stands for several commits, without the rows that were taken back by then."""
        return "folded" in self.told

    @property
    def first(self) -> int:
        """The first epoch that it covers."""
        return int(self.told["folded"]["first"]) if self.is_folded else self.epoch

    @property
    def history(self) -> Sequence[Mapping[str, Any]]:
        """What its commits said of the code that made them (version, models, labels ...), each kind once."""
        return self.told["folded"]["history"] if self.is_folded else (self.told,)

    def paths(self, table: str) -> list[str]:
        """Return the table's files, relative to the data set."""
        return [file["path"] for file in self.told["tables"].get(table, [])]


@dataclass(frozen=True)
class Part:
    """The rows of one commit that no later one has taken back."""

    images: pl.DataFrame
    annotations: pl.DataFrame


def is_dataset(path: str | Place) -> bool:
    """Tell whether `path` is a data set, if only a begun one. Raises RunError where a store does not answer."""
    folder = place(path)
    return (folder / MANIFESTS).is_dir() or (isinstance(folder, Prefix) and (folder / TEMPORARY / "lock").is_file())


def read_json(path: Place) -> dict[str, Any]:
    """Return the JSON of a plan or manifest; raise `RunError` where it cannot be read."""
    try:
        return dict(json.loads(path.read_bytes()))
    except (OSError, ValueError, TypeError) as error:
        raise RunError(f"{path} cannot be read ({error}): restore it from a copy of the data set") from None


class Dataset:
    """A reader of what is committed: `files()` for any Parquet reader, `scan()` for polars."""

    def __init__(self, path: str | Place) -> None:
        """Open the data set at `path`, a folder or a uri; raise `UsageError` where there is none."""
        self.path = place(path)
        if not is_dataset(self.path):
            raise UsageError(f"{self.path} is no data set: expected one that `pipelines.annotate --output` made")

    @staticmethod
    def of(path: Place, manifests: list[Manifest]) -> "Dataset":
        """Return a reader of some of a data set's commits."""
        some = Dataset(path)
        some.__dict__["manifests"] = manifests
        return some

    @cached_property
    def manifests(self) -> list[Manifest]:
        """The commits in order."""
        return [Manifest(epoch, told) for epoch, told in read_standing(self.path, read_json)]

    @property
    def history(self) -> Iterator[Mapping[str, Any]]:
        """What the commits said of the code that made them, in order; each kind at least once."""
        return (told for manifest in self.manifests for told in manifest.history)

    def refresh(self) -> None:
        """Take in what was committed and folded by others since this reader was opened."""
        for known in ("manifests", "taken_back"):
            self.__dict__.pop(known, None)

    def add(self, manifest: Manifest) -> None:
        """Take in a commit that was made after this reader was opened."""
        self.manifests.append(manifest)
        self.__dict__.pop("taken_back", None)

    def fold(self, manifest: Manifest) -> None:
        """Take in a manifest that stands for several of those at hand from now on."""
        at = [number for number, one in enumerate(self.manifests) if manifest.first <= one.epoch <= manifest.epoch]
        self.manifests[at[0] : at[-1] + 1] = [manifest]
        self.__dict__.pop("taken_back", None)

    def verify(self) -> None:
        """Raise `RunError` where a committed file is missing or has another size than its manifest says."""
        found: dict[str, dict[str, int]] = {}
        for manifest in self.manifests:
            for file in (file for files in manifest.told["tables"].values() for file in files):
                folder, _, name = file["path"].rpartition("/")
                if folder not in found:
                    found[folder] = sizes(self.path / folder)
                size = found[folder].get(name)
                if size != file["size"]:
                    what = "is missing" if size is None else f"has {size:,} bytes instead of {file['size']:,}"
                    raise RunError(f"{self.path / file['path']} {what}: restore it from a copy of the data set")

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
        named = [label for told in self.history for label in told["labels"]]
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
        wanted = pl.Schema(schema(table, self.labels))
        if not epochs:
            return _strings(pl.DataFrame(schema=wanted).lazy())
        frame = pl.concat(_strings(_read(paths, wanted)) for paths in _alike(table, manifests, self.path))
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


def _alike(table: str, manifests: list[Manifest], root: Place) -> Iterator[list[str]]:
    """Yield the table's files in order, those of one version of the landmarks' type together."""
    for _, group in groupby(manifests, _has_fixed_landmarks):
        paths = [str(root / path) for manifest in group for path in manifest.paths(table)]
        if paths:
            yield paths


def _has_fixed_landmarks(manifest: Manifest) -> bool:
    return not manifest.is_folded and manifest.told["version"].startswith(_FIXED_LANDMARKS)


_FIXED_LANDMARKS = ("0.1.", "0.2.")
"""The versions that wrote landmarks as lists of a fixed length."""


def _read(paths: list[str], wanted: pl.Schema) -> pl.LazyFrame:
    """Return the files' rows with the columns `wanted`: null where a file, made otherwise or earlier, has them not."""
    old = {
        field.name: pl.Array(pl.Float32, field.type.list_size)
        for field in shard_schema(paths[0])
        if pa.types.is_fixed_size_list(field.type)
    }
    rows = scan_shards(
        paths,
        "_path",
        schema=pl.Schema({**wanted, **old}),
        missing_columns="insert",
        extra_columns="ignore",
    )
    return rows.with_columns(pl.col(name).arr.to_list() for name in old)


def _strings(frame: pl.LazyFrame) -> pl.LazyFrame:
    return frame.with_columns(pl.col(pl.Categorical, pl.Enum).cast(pl.String))


def to_arrow(rows: pl.DataFrame, wanted: pa.Schema) -> pa.Table:
    """Return rows, as `Dataset.scan` gives them, with the columns and types of `wanted`."""
    columns = []
    for field in wanted:
        if pa.types.is_dictionary(field.type):
            texts = rows[field.name].cast(pl.String).to_arrow().cast(pa.string())
            columns.append(texts.dictionary_encode().cast(field.type))
        else:
            columns.append(rows[field.name].to_arrow().cast(field.type))
    return pa.table(columns, schema=wanted)
