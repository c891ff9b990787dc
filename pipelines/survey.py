"""What the label files say and which pictures they mean, staged in parts on disk before anything is decided.

    take_in    label files -> raw rows            (readers, one file after the other)
    list_pictures                                 (names only)
    enrol      raw rows and files -> who is who   (per part)
    look       files -> size, content, looks      (Beam, on all cores)

A part holds all that is said of its pictures. The cut into parts depends on the inputs alone, never on what is
committed, so that a run that was killed goes on with the same shards.
"""

import hashlib
import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import apache_beam as beam
import polars as pl

from pipelines.roots import Roots, relative_to
from schemas.errors import UsageError
from schemas.raw import Facts, Source
from transforms.buckets.names import folder_of, is_remote
from transforms.look import LOOKED, Limits, Look, Sight, Sights
from transforms.places import place, sizes
from transforms.readers.forms import read
from transforms.readers.rows import Options
from transforms.roster import FILES, LABELS, PICTURES, STAGED, identities, roster
from transforms.source import Listing, real_name
from transforms.staging import Staging, part_of, staged, staged_path
from transforms.storage import printable, state_of

PART_BYTES: dict[str, int] = dict.fromkeys(("csv", "yolo", "parquet"), 5 * 2**18)
"""Bytes of label files a part, where a label has few: about 40,000 labels, 250 MB while two parts are cleaned."""

PART_BYTES_OF_OTHERS = 5 * 2**20
"""Those of wordy formats: about 20,000 pictures and 34,000 labels of a COCO file."""

PART_PICTURES = 50_000
"""Pictures of a part."""

MOST_PARTS = 1_000
"""Files that are open at once while rows are parted."""

_LOOK_TOGETHER = 64
_ASKED_BY_NAME = 20  # files of one folder of a bucket: to ask for more, its listing is sooner read

ENROLLED: dict[str, pl.DataType] = {
    **PICTURES,
    **{name: kind for name, kind in FILES.items() if name != "file_name"},
    **{name: kind for name, kind in LOOKED.items() if name not in ("file", "frames")},
    "frame_known": pl.Boolean(),  # whether the video has a frame of this number; null for a picture
    "image_id": pl.String(),
    "item_key": pl.String(),
    "video_id": pl.String(),
    "attempts": pl.Int32(),  # epochs that will have ended with it failed, if it fails
    "stands": pl.String(),  # the id of the picture of which it is a copy; null for one that stands itself
    "stands_rule": pl.String(),
    "stands_mirrored": pl.Boolean(),
    "stands_width": pl.Int32(),
    "stands_height": pl.Int32(),
    "known_key": pl.String(),  # what is committed under its name: item, picture, what sources said
    "known_id": pl.String(),
    "known_inputs": pl.List(pl.String()),
    "known_attempts": pl.Int32(),  # null for what did not fail
}
"""Pictures with all that is known of them; sizes are the file's, else as declared."""

_LABELS: dict[str, pl.DataType] = {
    "picture": pl.UInt32(),
    **LABELS,
    "seen": pl.String(),  # the label that the model sees, where it doubts this one; else null
    "seen_chance": pl.Float32(),
    "given_chance": pl.Float32(),
}


@dataclass
class Survey:
    """The staged inputs of the data set whose real name is `home`.

    `named` are the inputs as a person named them, `facts` what each source declares, `broken` the numbers of sources
    that could not be read; `items` counts the pictures, once they are settled.
    """

    home: str
    folder: Path
    parts: int
    sources: list[Source]
    named: frozenset[str] = frozenset()
    facts: list[Facts] = field(default_factory=list)
    broken: list[int] = field(default_factory=list)
    items: int = 0

    def labels(self, part: int) -> pl.DataFrame:
        """Return a part's label rows: LABELS and the number of their picture."""
        return staged(self.folder, "labels", part, _LABELS)

    def pictures(self, part: int) -> pl.DataFrame:
        """Return a part's pictures: the columns of ENROLLED."""
        return staged(self.folder, "pictures", part, ENROLLED)

    def replace(self, part: int, labels: pl.DataFrame, pictures: pl.DataFrame) -> None:
        """Stage a part anew."""
        for kind, shape, rows in (("labels", _LABELS, labels), ("pictures", ENROLLED, pictures)):
            staged_path(self.folder, kind, part).unlink(missing_ok=True)
            with Staging(self.folder, kind, shape, 1) as staging:
                staging.put(part, rows)


def mark_of(source: Source, home: str) -> str:
    """Return what recognises a source however it is named: where it is, seen from the data set."""
    seen = relative_to(real_name(source.files[0] if len(source.files) == 1 else source.where), home)
    return hashlib.sha256(f"{source.form}\n{seen}".encode("utf-8", "surrogateescape")).hexdigest()[:12]


def parts_of(sources: Sequence[Source], pictures: int) -> int:
    """Return into how many parts the inputs are cut."""
    parts = sum(_size(source) / PART_BYTES.get(source.form, PART_BYTES_OF_OTHERS) for source in sources)
    return max(1, min(MOST_PARTS, max(math.ceil(parts), -(-pictures // PART_PICTURES))))


def _size(source: Source) -> int:
    """Return how many bytes of labels a source has; pictures in folders named by label have none."""
    if source.form == "folders":
        return 0
    if not is_remote(source.where):
        return sum(Path(file).stat().st_size for file in source.files)
    wanted: dict[str, list[str]] = {}
    for file in source.files:
        wanted.setdefault(folder_of(file), []).append(file)
    total = 0
    for folder, files in wanted.items():
        if len(files) < _ASKED_BY_NAME:
            total += sum(state.size for state in map(state_of, files) if state)
        else:
            known = sizes(place(folder))
            total += sum(known.get(file.rpartition("/")[2], 0) for file in files)
    return total


def take_in(survey: Survey, options: Options, stopped: Callable[[], bool]) -> None:
    """Read every source into raw rows.

    Raises UsageError for a file that a person named and that cannot be read; one that was found in a folder is a
    failure of its source, and nothing of it counts.
    """
    with Staging(survey.folder, "raw", STAGED, survey.parts) as staging:
        for number, source in enumerate(survey.sources):
            facts = Facts()
            survey.facts.append(facts)
            try:
                for rows in read(source, facts, options):
                    staging.add(rows.with_columns(pl.lit(number, pl.Int32).alias("source")), "picture")
                    if stopped():
                        return
            except UsageError as error:
                if source.name in survey.named:
                    raise
                survey.broken.append(number)
                facts.failures[:] = [(name, "unreadable", str(error)) for name in source.names]


def list_pictures(survey: Survey, listing: Listing, roots: Roots) -> None:
    """Stage the names of the pictures that are at hand."""
    with Staging(survey.folder, "files", FILES, survey.parts) as staging:
        for rows in _chunks(_files(listing, roots), 10_000):
            frame = pl.DataFrame(rows, schema=FILES, orient="row")
            staging.add(frame, "file_name")


def _files(listing: Listing, roots: Roots) -> Iterator[tuple[object, ...]]:
    for file in listing.files:
        root, name = roots.place(file.root, file.file_name)
        yield root.number, name, file.uri, file.size, file.mtime_ns


def _chunks(rows: Iterator[tuple[object, ...]], size: int) -> Iterator[list[tuple[object, ...]]]:
    held: list[tuple[object, ...]] = []
    for row in rows:
        held.append(row)
        if len(held) == size:
            yield held
            held = []
    if held:
        yield held


def enrol(survey: Survey, roots: Roots, *, expected: bool, whole: bool) -> Iterator[Sights]:
    """Find out for each part which pictures its rows speak of, and yield those that must be looked at.

    `expected` says that every picture should be at hand, `whole` that files of which nothing is said count too.
    """
    marks = [mark_of(source, survey.home) for source in survey.sources]
    places = [roots.find(source.where) for source in survey.sources]
    for part in range(survey.parts):
        raw = staged(survey.folder, "raw", part, STAGED).filter(~pl.col("source").is_in(survey.broken))
        files = staged(survey.folder, "files", part, FILES)
        staged_path(survey.folder, "raw", part).unlink(missing_ok=True)
        pictures, labels = roster(raw, files, marks, expected=expected, whole=whole, homes=places)
        undoubted = [pl.lit(None, kind).alias(name) for name, kind in _LABELS.items() if name not in labels.columns]
        labels = labels.with_columns(undoubted)
        undoubted = [pl.lit(None, kind).alias(name) for name, kind in _LABELS.items() if name not in labels.columns]
        labels = labels.with_columns(undoubted)
        for kind, shape, rows in (("labels", _LABELS, labels), ("roster", PICTURES, pictures)):
            with Staging(survey.folder, kind, shape, 1) as staging:
                staging.put(part, rows)
        wanted = pictures["at"].drop_nulls().unique(maintain_order=True)
        uris = files["uri"].gather(wanted).to_list() if len(wanted) else []
        sights = [Sight(number, uri) for number, uri in zip(wanted.to_list(), uris, strict=True)]
        for start in range(0, len(sights), _LOOK_TOGETHER):
            yield Sights(part, tuple(sights[start : start + _LOOK_TOGETHER]))


def _keep(grouped: tuple[int, Iterable[pl.DataFrame]], folder: str) -> int:
    part, frames = grouped
    with Staging(Path(folder), "looked", LOOKED, 1) as staging:
        staging.put(part, pl.concat(frames).sort("file"))
    return part


def build_look(
    pipeline: beam.Pipeline, sights: Sequence[Sights], folder: Path, limits: Limits, fingerprints: bool
) -> None:
    """Join the steps of the look: files go in, one staged frame a part comes out."""
    (
        pipeline
        | "Pictures" >> beam.Create(sights, reshuffle=False)
        | "Spread over workers" >> beam.Reshuffle().with_output_types(Sights)
        | "See" >> Look(limits, fingerprints)
        | "Keep" >> beam.Map(partial(_keep, folder=os.fspath(folder)))
    )


def settle_all(survey: Survey, root: int) -> None:
    """Stage the pictures with what was seen of them, and their identities; `root` is that of absent ones."""
    failed = _failed(survey, root)
    for part in range(survey.parts):
        theirs = [part_of(name, survey.parts) == part for name in failed["name"]]
        pictures = pl.concat([_settled(survey, part, root), failed.filter(pl.Series(theirs, dtype=pl.Boolean))])
        survey.items += pictures.height
        with Staging(survey.folder, "pictures", ENROLLED, 1) as staging:
            staging.put(part, pictures)


def _settled(survey: Survey, part: int, root: int) -> pl.DataFrame:
    pictures = staged(survey.folder, "roster", part, PICTURES)
    files = staged(survey.folder, "files", part, FILES)
    looked = staged(survey.folder, "looked", part, LOOKED)
    at_hand = files.drop("file_name").with_row_index("at")
    joined = pictures.join(at_hand, on="at", how="left", maintain_order="left").join(
        looked.rename({"file": "at"}), on="at", how="left", maintain_order="left"
    )
    is_frame = pl.col("frame").is_not_null()
    count = pl.col("frames").list.len()
    joined = joined.with_columns(
        pl.col("root").fill_null(root),
        pl.coalesce("width", "declared_width").alias("width"),
        pl.coalesce("height", "declared_height").alias("height"),
        frame_known=pl.when(is_frame & pl.col("frames").is_not_null()).then(pl.col("frame") < count),
        pts_ms=pl.coalesce(pl.col("frames").list.get(pl.col("frame"), null_on_oob=True), "pts_ms"),
    )
    return _enrolled(identities(joined))


def _failed(survey: Survey, root: int) -> pl.DataFrame:
    """Return the label files that could not be read as items of their own, which have failed."""
    rows = []
    for source, facts in zip(survey.sources, survey.facts, strict=True):
        paths = dict(zip(source.names, source.files, strict=True))
        for name, error, message in facts.failures:
            file = paths.get(name, source.files[0])
            state = state_of(file)
            rows.append(
                {
                    "name": printable(file.replace(os.sep, "/")),
                    "root": root,
                    "uri": file,
                    "size_bytes": state.size if state else None,
                    "mtime_ns": state.mtime_ns if state else None,
                    "error": error,
                    "message": message,
                }
            )
    shape = {name: kind for name, kind in ENROLLED.items() if name not in ("image_id", "item_key", "video_id")}
    failed = pl.DataFrame(rows, schema=shape).unique("name", keep="first", maintain_order=True)
    return _enrolled(identities(failed.with_columns(told=pl.lit(True), inputs=pl.lit([], pl.List(pl.String)))))


def _enrolled(pictures: pl.DataFrame) -> pl.DataFrame:
    known = pictures.with_columns(attempts=pl.lit(1))
    return known.select(
        (pl.col(name) if name in known.columns else pl.lit(None)).cast(kind).alias(name)
        for name, kind in ENROLLED.items()
    )


def require_rows(survey: Survey) -> None:
    """Raise UsageError where nothing at all could be read."""
    if any(
        (survey.folder / f"{kind}-{part:04d}.arrow").exists()
        for kind in ("raw", "files")
        for part in range(survey.parts)
    ):
        return
    told = [f"{name}: {message}" for facts in survey.facts for name, _, message in facts.failures]
    raise UsageError(f"No label was found: {'; '.join(told[:3]) or 'the inputs are empty'}")
