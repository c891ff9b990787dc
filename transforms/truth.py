"""Read what people say of pictures: a table, folders named by label, or COCO. No label is ever guessed.

A face of the truth is a label, votes, or only a box. What cannot be used is left out and counted, by reason.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from schemas.aliases import ALIASES, CODES
from schemas.errors import ItemError, UsageError
from transforms.codes import number_of
from transforms.storage import printable
from transforms.truth_forms import (
    BOX,
    DISMISSALS,
    VOTES,
    Form,
    form_of,
    read_coco,
    read_folders,
    read_table,
    with_prefix,
)
from transforms.words import fold

MAX_FACES = 10_000
"""Most faces of one picture: pairing them grows with their square. The largest crowd of WIDER FACE has 1,968."""

MOST_PARTS = 64
"""Parts of a path that are compared, from its end."""

MOST_UNKNOWN = 100
"""Unknown labels that are told one by one, most frequent first."""

MOST_CHARS = 100
"""Characters of an unknown label that are told."""


@dataclass(frozen=True)
class Truth:
    """What people say.

    `pictures`: `picture` (numbered from 0 by name), `name` (slashes forward, without a leading one; of a frame whose
    number is told `<video>/<number>.jpg`), `pts_ms` (of a frame that is told by its time).
    `faces`: `picture`, `label` (null where none is told), `counts` (false for a region that is no face to find: a
    crowd, or a label that is not known), `x`, `y`, `w`, `h` in pixels (null where there is no box), and where people
    voted a column of VOTES for each label, one of DISMISSALS for each way to vote for none; in picture order.
    """

    form: Form
    pictures: pl.DataFrame
    faces: pl.DataFrame
    unknown_labels: Mapping[str, int]
    left_out: Mapping[str, int]

    @property
    def voted(self) -> tuple[str, ...]:
        """The labels that were voted on; none where the truth is one label a face."""
        return tuple(name.removeprefix(VOTES) for name in with_prefix(self.faces, VOTES))


@dataclass(frozen=True)
class Language:
    """How labels are understood: the labels that are known, and what numbers stand for, if they may stand at all."""

    labels: tuple[str, ...]
    codes: str | None

    def canonical(self, text: str) -> str | None:
        """Return the label that `text` names, or None.

        >>> Language(("happy", "sad"), None).canonical(" Happiness")
        'happy'
        """
        own = {fold(label): label for label in self.labels}
        folded = fold(text)
        if self.codes is not None and (number := number_of(folded)) is not None:
            folded = CODES[self.codes].get(number, "")
        return own.get(folded) or own.get(ALIASES.get(folded, ""))


def read_truth(where: str, form: Form | None, language: Language, columns: Mapping[str, str]) -> Truth:
    """Return what people say at `where`; its form is told by its content unless it is given.

    `columns` says where a table holds what: a name of its header, or a number from 1. Raises UsageError.
    """
    left_out: Counter[str] = Counter()
    try:
        form = form or form_of(where)
        if columns and form != "csv":
            raise UsageError(f"--columns is for tables: {printable(where)} is read as {form}")
        match form:
            case "csv":
                raw = read_table(where, language.canonical, columns)
            case "folders":
                raw = read_folders(where, language.canonical)
            case "coco":
                raw = read_coco(where, left_out)
    except ItemError as error:
        raise UsageError(f"--truth: {error}") from None
    return _settled(form, raw, language, left_out)


def comparable(name: str) -> pl.Expr:
    """Return an expression: the path in column `name` as paths are compared, part by part from its end.

    Its last 64 parts, slashes forward, in composed Unicode (macOS decomposes); no `.` parts, none that are empty.
    """
    slashed = pl.col(name).str.normalize("NFC").str.replace_all("\\", "/", literal=True)
    plain = slashed.str.replace_all(r"(^|/)(\./+)+", "${1}").str.replace_all(r"/+", "/").str.strip_chars("/")
    too_deep = plain.str.count_matches("/", literal=True) >= MOST_PARTS
    return pl.when(too_deep).then(plain.str.split("/").list.tail(MOST_PARTS).list.join("/")).otherwise(plain)


def frame_name(name: str) -> pl.Expr:
    """Return an expression: how a frame is called in exports, by its video's `name` and its `frame_index`."""
    return pl.col(name) + "/" + pl.col("frame_index").cast(pl.String).str.zfill(6) + ".jpg"


def _settled(form: Form, raw: pl.DataFrame, language: Language, left_out: Counter[str]) -> Truth:
    """Return the truth: labels understood, rows that say the same joined, those that contradict each other left out."""
    raw = raw.with_columns(name=comparable("name"))
    rows = raw.filter(pl.col("name").fill_null("") != "")
    left_out["rows without a file name"] += raw.height - rows.height
    of_frame = pl.col("frame_index").is_not_null()
    rows = rows.with_columns(
        name=pl.when(of_frame).then(frame_name("name")).otherwise("name"), pts_ms=pl.when(~of_frame).then("pts_ms")
    )
    pictures = rows.select("name", "pts_ms").unique().sort("name", "pts_ms").with_row_index("picture")
    rows = rows.join(pictures, on=["name", "pts_ms"], nulls_equal=True).drop("name", "pts_ms", "frame_index")
    rows = _with_boxes(rows, left_out)
    rows, unknown = _understood(rows, language)
    rows = _of_faces(rows, left_out)
    if form == "coco":
        del left_out["rows without a label"]  # they are the pictures in which nothing is named
    faces = _agreed(rows, left_out)
    largest = faces.group_by("picture").len()["len"].max()
    if isinstance(largest, int) and largest > MAX_FACES:
        raise UsageError(f"--truth: one picture has {largest:,} faces, the limit is {MAX_FACES:,}")
    return Truth(form, pictures, faces, unknown, {reason: count for reason, count in left_out.items() if count})


def _with_boxes(rows: pl.DataFrame, left_out: Counter[str]) -> pl.DataFrame:
    """Return the rows without those whose box has no extent, and a column `boxed`. Raises UsageError for shares."""
    rows = rows.with_columns(boxed=pl.any_horizontal(pl.col(*BOX).is_not_null()))
    sides = [pl.col(side).is_finite().fill_null(False) for side in BOX]
    kept = rows.filter(~pl.col("boxed") | (pl.all_horizontal(sides) & (pl.col("w") > 0) & (pl.col("h") > 0)))
    left_out["boxes without an extent"] += rows.height - kept.height
    longest = kept.select(pl.max_horizontal(pl.col("w", "h").max())).item()
    if longest is not None and longest <= 1:
        raise UsageError("--truth: no box is longer than 1: expected pixels, these look like shares of the picture")
    return kept


def _understood(rows: pl.DataFrame, language: Language) -> tuple[pl.DataFrame, dict[str, int]]:
    """Return the rows with canonical labels and a column `counts`; and how often each unknown label stands there."""
    said = rows["label"].unique().drop_nulls()
    known = pl.Series("known", [language.canonical(label) for label in said], dtype=pl.String)
    label = pl.col("label").replace_strict(said, known, default=None, return_dtype=pl.String)
    is_crowd = pl.col("crowd").fill_null(False)
    is_unknown = pl.col("label").is_not_null() & label.is_null() & ~is_crowd
    unknown = (
        rows.filter(is_unknown)
        .group_by(pl.col("label").str.head(MOST_CHARS))
        .len()
        .sort(-pl.col("len").cast(pl.Int64), "label")
    )
    counted = dict(unknown.head(MOST_UNKNOWN).iter_rows())
    if unknown.height > MOST_UNKNOWN:
        counted["(others)"] = int(unknown["len"].sum()) - sum(counted.values())
    understood = rows.with_columns(
        label=pl.when(~is_crowd).then(label), counts=~is_crowd & ~is_unknown, unknown=is_unknown
    )
    return understood.drop("crowd"), counted


def _of_faces(rows: pl.DataFrame, left_out: Counter[str]) -> pl.DataFrame:
    """Return the rows that tell of a face: those with a box, a label that is known, or votes for an expression."""
    votes, dismissals = (with_prefix(rows, prefix) for prefix in (VOTES, DISMISSALS))
    if not votes:
        silent = ~pl.col("boxed") & pl.col("label").is_null()
        left_out["rows without a label"] += rows.filter(silent & ~pl.col("unknown")).height
        return rows.filter(~silent)
    voted = [pl.col(name).fill_null(0.0) for name in (*votes, *dismissals)]
    valid = rows.with_columns(voted).filter(pl.all_horizontal((vote >= 0) & vote.is_finite() for vote in voted))
    left_out["votes that are no counts"] += rows.height - valid.height
    for_expressions, all_votes = pl.sum_horizontal(votes), pl.sum_horizontal(*votes, *dismissals)
    kept = valid.filter((for_expressions > 0) & (2 * for_expressions >= all_votes))
    left_out["faces that most votes find without an expression, or no face"] += valid.height - kept.height
    return kept


def _agreed(rows: pl.DataFrame, left_out: Counter[str]) -> pl.DataFrame:
    """Return one row a face, in picture order: of several for one place, what they agree on."""
    votes = [*with_prefix(rows, VOTES), *with_prefix(rows, DISMISSALS)]
    told = pl.col("label").drop_nulls()
    kinds = pl.struct(votes).n_unique() if votes else told.n_unique()
    firsts = pl.col("boxed", *votes).first()
    faces = rows.group_by("picture", *BOX).agg(
        told.first(), pl.col("counts").any(), firsts, pl.len(), kinds.alias("kinds")
    )
    split = pl.col("kinds") > 1
    contradicted, agreed = faces.filter(split), faces.filter(~split)
    left_out["rows that contradict each other"] += int(contradicted["len"].sum())
    left_out["rows that repeat another"] += int(agreed["len"].sum()) - agreed.height
    # The place of a face that people label differently is still known.
    unlabelled = contradicted.filter("boxed").with_columns(pl.lit(None, pl.String).alias("label"))
    kept = pl.concat([agreed, unlabelled if not votes else unlabelled.clear()])
    return kept.sort("picture", *BOX).select("picture", "label", "counts", *BOX, *votes)
