"""Which pictures of a run are copies of which: equal bytes, or alike to the eye; what is committed stands first."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pipelines.dataset import Dataset
from pipelines.survey import Survey
from schemas.reasons import Duplicates, Outcome, Rule
from transforms.fingerprint import FINGERPRINT_BYTES
from transforms.likeness import differences
from transforms.near import Index, IndexUnusable, groups
from transforms.places import scratch_of
from transforms.staging import part_of, typed

Standing = Callable[[int], pl.DataFrame]
"""Gives for a part the committed pictures (item_key, image_id) that stand for new copies in it."""

_PICTURES: dict[str, pl.DataType] = {
    "part": pl.Int32(),  # where the picture's rows are staged; null for a committed one
    "home": pl.Int32(),  # where those of its copies must be, to become one with it
    "picture": pl.UInt32(),
    "image_id": pl.String(),
    "item_key": pl.String(),
    "sha256": pl.String(),
    "fingerprint": pl.Binary(),
    "width": pl.Int32(),
    "height": pl.Int32(),
    "size_bytes": pl.Int64(),
}

_MARKS = ("stands", "stands_rule", "stands_mirrored", "stands_width", "stands_height")


@dataclass
class _Found:
    """Of each picture of a list, the position of the one that stands for it among `new`, or among `committed`; -1."""

    new: NDArray[np.int64]
    committed: NDArray[np.int64]


def find_twins(dataset: Dataset, survey: Survey, mode: str, *, mirrored: bool) -> Standing:
    """Mark the copies among the survey's pictures, and bring their rows into the part of the one that stands.

    Of new pictures that of most pixels stands, then the larger file, then the earlier one; a committed one stands
    before all. `mirrored` says that a mirror image is a copy too. Frames of videos are never compared.
    """
    none = pl.DataFrame(schema={"item_key": pl.String, "image_id": pl.String})
    new = _new(survey)
    if mode == Duplicates.KEEP or not new.height:
        return lambda _: none
    committed = _committed(dataset, survey.parts)
    asked = new.filter(~pl.col("image_id").is_in(committed["image_id"].implode()))
    found = _exact(asked, committed)
    if mode == Duplicates.NEAR:
        _near(dataset, asked, committed, found, mirrored)
    copies = _copies(asked, committed, found)
    if copies.height:
        _move(survey, copies)
    old = copies.filter("is_committed").select("home", item_key="stands_key", image_id="stands")
    return lambda part: old.filter(pl.col("home") == part).select("item_key", "image_id").unique(maintain_order=True)


def _new(survey: Survey) -> pl.DataFrame:
    """Return the run's pictures that could be seen, the best first."""
    frames = []
    for part in range(survey.parts):
        seen = survey.pictures(part).filter(
            pl.col("sha256").is_not_null() & pl.col("frame").is_null() & pl.col("error").is_null()
        )
        number = pl.lit(part, pl.Int32)
        frames.append(typed(seen.with_columns(part=number, home=number), _PICTURES))
    pixels = pl.col("width").cast(pl.Int64) * pl.col("height")
    return pl.concat(frames).sort(pixels, "size_bytes", descending=True, maintain_order=True)


def _committed(dataset: Dataset, parts: int) -> pl.DataFrame:
    """Return the committed pictures that stand, in the order of their commits."""
    if not dataset.manifests:
        return pl.DataFrame(schema=_PICTURES)
    images = dataset.scan("images").filter(
        pl.col("sha256").is_not_null()
        & pl.col("frame_index").is_null()
        & (pl.col("outcome") != Outcome.DUPLICATE.value)
    )
    rows = images.select(
        "file_name", *(name for name in _PICTURES if name not in ("part", "home", "picture"))
    ).collect()
    homes = pl.Series([part_of(name, parts) for name in rows["file_name"]], dtype=pl.Int32)
    empty = {"part": pl.lit(None), "picture": pl.lit(None)}
    return typed(rows.with_columns(**empty, home=homes), _PICTURES)


def _exact(asked: pl.DataFrame, committed: pl.DataFrame) -> _Found:
    """Return what stands for files of equal bytes."""
    old = committed.select("sha256", old=pl.int_range(pl.len(), dtype=pl.Int64)).unique("sha256", keep="first")
    first = asked.select("sha256", first=pl.int_range(pl.len(), dtype=pl.Int64)).unique("sha256", keep="first")
    told = asked.select("sha256").join(old, on="sha256", how="left", maintain_order="left")
    told = told.join(first, on="sha256", how="left", maintain_order="left")
    known = told["old"].fill_null(-1).to_numpy()
    own = np.arange(asked.height)
    leader = told["first"].to_numpy()
    return _Found(np.where((known < 0) & (leader != own), leader, -1), known.copy())


def _near(dataset: Dataset, asked: pl.DataFrame, committed: pl.DataFrame, found: _Found, mirrored: bool) -> None:
    """Let those that stand so far stand also for what is alike to the eye."""
    has_print = asked["fingerprint"].is_not_null().to_numpy()
    open_ = np.flatnonzero((found.new < 0) & (found.committed < 0) & has_print)
    old = np.flatnonzero(committed["fingerprint"].is_not_null().to_numpy())
    known = _index(dataset, _matrix(committed["fingerprint"].gather(old))) if len(old) else None
    alike = groups(
        _matrix(asked["fingerprint"].gather(open_)), known=known, mirror=mirrored, order=np.arange(len(open_))
    )
    in_old = alike.known >= 0
    found.committed[open_[in_old]] = old[alike.known[in_old]]
    led = ~in_old & (alike.first != np.arange(len(open_)))
    found.new[open_[led]] = open_[alike.first[led]]
    # An exact copy of a picture that is itself a copy points to the one that stands in the end.
    followers = np.flatnonzero(found.new >= 0)
    leaders = found.new[followers]
    found.committed[followers] = np.maximum(found.committed[followers], found.committed[leaders])
    found.new[followers] = np.where(found.new[leaders] >= 0, found.new[leaders], leaders)
    found.new[found.committed >= 0] = -1


def _index(dataset: Dataset, prints: NDArray[np.uint8]) -> Index:
    """Return the index of the committed pictures; it is kept, and made anew where the commits have changed."""
    path = scratch_of(dataset.path) / f"near-{dataset.manifests[-1].epoch:08d}.index"
    try:
        index = Index.open(str(path))
        if len(index) == len(prints):
            return index
    except IndexUnusable:
        pass
    for stale in path.parent.glob("near-*.index"):
        stale.unlink()
    index = Index.of(prints)
    index.save(str(path))
    return index


def _matrix(fingerprints: pl.Series) -> NDArray[np.uint8]:
    return np.frombuffer(b"".join(fingerprints.to_list()), np.uint8).reshape(-1, FINGERPRINT_BYTES)


def _copies(asked: pl.DataFrame, committed: pl.DataFrame, found: _Found) -> pl.DataFrame:
    """Return the copies: where they are staged, where they must be, and what stands for them."""
    every = pl.concat([asked, committed])
    target = np.where(found.committed >= 0, found.committed + asked.height, found.new)
    at = np.flatnonzero(target >= 0)
    own, theirs = asked[at], every[target[at]]
    exact = (own["sha256"] == theirs["sha256"]).to_numpy()
    flipped = np.zeros(len(at), np.bool_)
    near = np.flatnonzero(~exact)
    if len(near):
        pairs = (_matrix(frame["fingerprint"].gather(near)) for frame in (own, theirs))
        flipped[near] = differences(*pairs) > 1  # so it is the mirror image that is alike
    return pl.DataFrame(
        {
            "part": own["part"],
            "picture": own["picture"],
            "home": theirs["home"],
            "is_committed": theirs["part"].is_null(),
            "stands": theirs["image_id"],
            "stands_key": theirs["item_key"],
            "stands_rule": np.where(exact, Rule.DUPLICATE_EXACT.value, Rule.DUPLICATE_NEAR.value).tolist(),
            "stands_mirrored": flipped,
            "stands_width": theirs["width"],
            "stands_height": theirs["height"],
        },
        schema_overrides={"stands_rule": pl.String},
    )


def _move(survey: Survey, copies: pl.DataFrame) -> None:
    """Mark the copies in the staged pictures, and bring pictures and labels of those elsewhere to their home."""
    arrivals: dict[int, list[tuple[pl.DataFrame, pl.DataFrame]]] = {}
    marks = copies.select("part", "picture", "home", *_MARKS)
    for (part,), own in marks.partition_by("part", as_dict=True, include_key=False).items():
        pictures, labels = survey.pictures(int(part)), survey.labels(int(part))
        marked = pictures.drop(_MARKS).join(own, on="picture", how="left", maintain_order="left")
        leaving = marked.filter(pl.col("home") != part)
        for (home,), moved in leaving.partition_by("home", as_dict=True, include_key=False).items():
            said = labels.filter(pl.col("picture").is_in(moved["picture"].implode()))
            arrivals.setdefault(int(home), []).append((moved.select(pictures.columns), said))
        gone = pl.col("picture").is_in(leaving["picture"].implode())
        survey.replace(int(part), labels.filter(~gone), marked.filter(~gone).select(pictures.columns))
    for home, groups_ in arrivals.items():
        pictures, labels = survey.pictures(home), survey.labels(home)
        for moved, said in groups_:
            # Pictures of two parts have the same numbers.
            start = int(pictures["picture"].max()) + 1 if pictures.height else 0  # type: ignore[arg-type]
            numbers = dict(zip(moved["picture"].to_list(), range(start, start + moved.height), strict=True))
            renumbered = pl.col("picture").replace_strict(numbers, return_dtype=pl.UInt32)
            pictures = pl.concat([pictures, moved.with_columns(renumbered)])
            labels = pl.concat([labels, said.with_columns(renumbered)])
        survey.replace(home, labels, pictures)
