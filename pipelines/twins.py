"""Which pictures of a run are copies of which: equal bytes, or alike to the eye; what is committed stands first."""

from collections.abc import Callable

import numpy as np
import polars as pl
from numpy.typing import NDArray
from transforms.fingerprint import FINGERPRINT_BYTES
from transforms.near import leaders

from pipelines.dataset import Dataset
from pipelines.survey import Survey
from schemas.reasons import Duplicates, Outcome, Rule
from transforms.staging import part_of

Standing = Callable[[int], pl.DataFrame]
"""Gives for a part the committed pictures (item_key, image_id) that stand for new copies in it."""

_COLUMNS: dict[str, pl.DataType] = {
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


def find_twins(dataset: Dataset, survey: Survey, mode: str, *, mirrored: bool) -> Standing:
    """Mark the copies among the survey's pictures, and bring their rows into the part of the one that stands.

    Of new pictures that of most pixels stands, then the larger file, then the earlier one. `mirrored` says that a
    mirror image is a copy too. Frames of videos are never compared.
    """
    none = pl.DataFrame(schema={"item_key": pl.String, "image_id": pl.String})
    new = _new(survey)
    if mode == Duplicates.KEEP or not new.height:
        return lambda _: none
    every = pl.concat([_committed(dataset, new, survey.parts), _ranked(new)])
    found = _exact(every)
    if mode == Duplicates.NEAR:
        found = _near(every, found, mirrored)
    copies = found.filter(pl.col("stands_at").is_not_null() & pl.col("part").is_not_null())
    if copies.height:
        _move(survey, copies)
    committed = copies.filter(pl.col("stands_part").is_null()).select(
        "stands_home", item_key="stands_key", image_id="stands"
    )
    return lambda part: (
        committed.filter(pl.col("stands_home") == part).select("item_key", "image_id").unique(maintain_order=True)
    )


def _new(survey: Survey) -> pl.DataFrame:
    """Return the run's pictures that could be seen."""
    frames = []
    for part in range(survey.parts):
        seen = survey.pictures(part).filter(
            pl.col("sha256").is_not_null() & pl.col("frame").is_null() & pl.col("error").is_null()
        )
        number = pl.lit(part, pl.Int32)
        frames.append(seen.with_columns(part=number, home=number).select(*_COLUMNS).cast(dict(_COLUMNS)))
    return pl.concat(frames)


def _ranked(new: pl.DataFrame) -> pl.DataFrame:
    pixels = pl.col("width").cast(pl.Int64) * pl.col("height")
    order = [pixels, pl.col("size_bytes")]
    return new.sort(order, descending=True, maintain_order=True)


def _committed(dataset: Dataset, new: pl.DataFrame, parts: int) -> pl.DataFrame:
    """Return the committed pictures that stand; one that is listed again is the run's, but stands as committed."""
    if not dataset.manifests:
        return pl.DataFrame(schema=_COLUMNS)
    images = dataset.scan("images").filter(
        pl.col("sha256").is_not_null()
        & pl.col("frame_index").is_null()
        & (pl.col("outcome") != Outcome.DUPLICATE.value)
        & ~pl.col("image_id").is_in(new["image_id"].implode())
    )
    rows = images.select("file_name", *(name for name in _COLUMNS if name not in ("part", "home", "picture"))).collect()
    homes = pl.Series([part_of(name, parts) for name in rows["file_name"]], dtype=pl.Int32)
    empty = (pl.lit(None).alias("part"), pl.lit(None).alias("picture"))
    return rows.with_columns(*empty, home=homes).select(*_COLUMNS).cast(dict(_COLUMNS))


def _exact(every: pl.DataFrame) -> pl.DataFrame:
    """Return the rows with the position of the one that stands for each, null for those that stand themselves."""
    numbered = every.with_row_index("at")
    first = pl.col("at").first().over("sha256")
    return _pointing(numbered, numbered.select(first).to_series(), Rule.DUPLICATE_EXACT, pl.lit(False))


def _near(every: pl.DataFrame, exact: pl.DataFrame, mirrored: bool) -> pl.DataFrame:
    """Return the rows with those that stand also for what is alike to the eye."""
    seen = exact.filter(pl.col("stands_at").is_null() & pl.col("fingerprint").is_not_null())
    prints = _matrix(seen["fingerprint"])
    known = int(seen["part"].is_null().sum())  # they come first
    leader, turned = leaders(prints, known=known, mirrored=mirrored)
    positions = seen["at"].to_numpy()
    alike = pl.DataFrame(
        {
            "at": seen["at"],
            "near_at": pl.Series(positions[leader], dtype=pl.UInt32),
            "turned": pl.Series(turned, dtype=pl.Boolean),
        }
    ).filter(pl.col("at") != pl.col("near_at"))
    near = exact.join(alike, on="at", how="left", maintain_order="left")
    # An exact copy of a picture that is itself a copy points to the one that stands in the end.
    through = exact.select("at", "stands_at").join(
        alike.rename({"at": "stands_at", "near_at": "end", "turned": "end_turned"}), on="stands_at", how="inner"
    )
    near = near.join(through.select("at", "end", "end_turned"), on="at", how="left", maintain_order="left")
    target = pl.coalesce("near_at", "end", "stands_at", "at")
    is_near = pl.col("near_at").is_not_null() | pl.col("end").is_not_null()
    rule = pl.when(is_near).then(pl.lit(Rule.DUPLICATE_NEAR.value)).otherwise(pl.lit(Rule.DUPLICATE_EXACT.value))
    pointed = near.select(target.alias("target")).to_series()
    flips = pl.coalesce("turned", "end_turned", pl.lit(False))
    marked = near.with_columns(_rule=rule, _flip=flips)
    return _pointing(marked.select("at", *_COLUMNS), pointed, marked["_rule"], marked["_flip"])


def _pointing(
    rows: pl.DataFrame, target: pl.Series, rule: "Rule | pl.Series", flip: "pl.Expr | pl.Series"
) -> pl.DataFrame:
    """Return the rows (with `at`) with what is known of the one that `target` names, null for the row itself."""
    told = rows.select(
        stands_at="at",
        stands_part="part",
        stands_home="home",
        stands="image_id",
        stands_key="item_key",
        stands_width="width",
        stands_height="height",
    )
    own = rows["at"] == target
    pointed = rows.with_columns(
        stands_at=target.set(own, None),
        stands_rule=pl.lit(rule.value) if isinstance(rule, Rule) else rule,
        stands_mirrored=flip,
    )
    return pointed.join(told, on="stands_at", how="left", maintain_order="left")


def _matrix(fingerprints: pl.Series) -> NDArray[np.uint8]:
    joined = b"".join(fingerprints.to_list())
    return np.frombuffer(joined, np.uint8).reshape(-1, FINGERPRINT_BYTES)


def _move(survey: Survey, copies: pl.DataFrame) -> None:
    """Mark the copies in the staged pictures, and bring pictures and labels of those elsewhere to their home."""
    names = ["stands", "stands_rule", "stands_mirrored", "stands_width", "stands_height"]
    marks = copies.select("part", "picture", "stands_home", *names)
    arrivals: dict[int, list[tuple[pl.DataFrame, pl.DataFrame]]] = {}
    for (part,), own in marks.partition_by("part", as_dict=True).items():
        pictures, labels = survey.pictures(int(part)), survey.labels(int(part))
        marked = pictures.drop(names).join(own.drop("part"), on="picture", how="left", maintain_order="left")
        leaving = pl.col("stands_home").is_not_null() & (pl.col("stands_home") != part)
        gone = marked.filter(leaving)
        theirs = pl.col("picture").is_in(gone["picture"].implode())
        for (home,), moved in gone.partition_by("stands_home", as_dict=True).items():
            said = labels.filter(pl.col("picture").is_in(moved["picture"].implode()))
            arrivals.setdefault(int(home), []).append((moved.select(pictures.columns), said))
        survey.replace(int(part), labels.filter(~theirs), marked.filter(~leaving).select(pictures.columns))
    for home, groups in arrivals.items():
        pictures, labels = survey.pictures(home), survey.labels(home)
        for moved, said in groups:
            # Pictures of two parts have the same numbers.
            start = int(pictures["picture"].max() or 0) + 1 if pictures.height else 0  # type: ignore[arg-type]
            numbers = dict(zip(moved["picture"], range(start, start + moved.height), strict=True))
            renumbered = pl.col("picture").replace_strict(numbers, return_dtype=pl.UInt32)
            pictures = pl.concat([pictures, moved.with_columns(renumbered)])
            labels = pl.concat([labels, said.with_columns(renumbered)])
        survey.replace(home, labels, pictures)
