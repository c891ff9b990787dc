"""Tidy: from one shard's raw labels and pictures to the rows of the tables. Every rule's word is written down.

    labels, boxes    each of its own, on all rows
    references       rows without a picture that could be looked at
    duplicates       the labels of a copy go to the picture that stands
    doubles          one label for one thing; two that exclude each other go to review
    outliers         what no other box of its label looks like goes to review

Rows are numbered by `n` inside the shard; a row that is held back keeps what the rules made of it until then.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from schemas.reasons import RECORDED, Outcome, Rule
from schemas.tables import TABLES, Tables, schema
from schemas.vocabulary import MAX_MODEL_CONFIDENCE
from transforms.boxes import judge_boxes
from transforms.conventions import XYWH_PIXELS, Convention
from transforms.doubles import drop_doubles, hold_conflicts
from transforms.judged import CHANGES, REJECTS, Judged
from transforms.labels import Repair, judge
from transforms.outliers import judge_outliers
from transforms.rules import held_rows, settle

_RULE_VERSION = 1
_BOX = {"x": "bbox_x", "y": "bbox_y", "w": "bbox_w", "h": "bbox_h"}
_MIDDLE = {"cx": "cx", "cy": "cy", "nw": "w", "nh": "h"}
_SIZE = ("width", "height")


@dataclass(frozen=True)
class SourceWord:
    """What was decided of one source: its name, its boxes' convention, and what its labels stand for.

    `exclusive` says that a picture, or a box, has one label only. `person` says that a confidence of 1 is a person's
    word there.
    """

    name: str
    convention: Convention
    repairs: Mapping[str | None, Repair]
    exclusive: bool
    person: bool


@dataclass(frozen=True)
class Decided:
    """What was decided of all sources before the first shard is made."""

    sources: Sequence[SourceWord]
    limits: pl.DataFrame


def tidy(labels: pl.DataFrame, pictures: pl.DataFrame, decided: Decided, carried: Tables | None) -> Tables:
    """Return one shard's tables.

    `pictures` has the columns of `transforms.roster.PICTURES` and of LOOKED, ids, and `stands`, `stands_rule`: the
    picture of which it is a copy, and by which rule. `carried` are committed rows of the same items, and of pictures
    that stand for new copies: they are written again, with what comes to them.
    """
    rows = _numbered(labels, pictures, decided, carried)
    about = rows.select("n", "annotation_id", "image_id", "item_key", "name")
    course = _Course(rows)
    course.together(_judge_labels(rows, decided), _judge_boxes(rows, decided), _references(rows))
    course.then(_confidences(course.rows, decided))
    course.then(_suspected(course.rows))
    course.then(_onto_standing(course.rows))
    course.bring_along(_onto_standing(course.gone))
    if carried is not None:
        old = _carried_rows(carried)
        about = pl.concat([about, old.select(about.columns)])
        course.take_in(old)
        carried = replace(carried, annotations=carried.annotations.slice(0, 0))
    course.then(_doubles(course.rows))
    course.then(judge_outliers(course.rows, decided.limits, picture="owner"))
    tables = _tables(course, about, pictures)
    return settle(tables if carried is None else _joined(tables, carried))


class _Course:
    """Rows on their way through the rules: what stands, what was changed, what was held back and as what."""

    def __init__(self, rows: pl.DataFrame) -> None:
        self.rows = rows
        self.gone = rows.clear()
        self.changes = pl.DataFrame(schema=CHANGES)
        self.rejects = pl.DataFrame(schema=REJECTS)

    def then(self, judged: Judged) -> None:
        """Take the word of a rule that was applied to `rows`."""
        self._hold(self.rows.join(judged.rows.select("n"), on="n", how="anti"))
        self.rows = judged.rows
        self._note(judged)

    def together(self, labels: Judged, boxes: Judged, others: Judged) -> None:
        """Take the words of three that looked at the same rows: a row stands if each lets it stand.

        One that is held back for its label has its box in order, and the other way round: so it can come back.
        """
        box = boxes.rows.select("n", *_BOX, *_MIDDLE, "unsized", *_SIZE)
        last = boxes.changes.filter(pl.col("field") == "bbox").unique("n", keep="last").select("n", "after")
        raw = self.rows.join(boxes.rows.select("n"), on="n", how="anti").join(last, on="n", how="left")
        numbers = pl.col("after").str.json_decode(pl.List(pl.Float64))
        refused = raw.select(
            "n",
            *(
                pl.coalesce(numbers.list.get(at, null_on_oob=True), pl.col(own)).alias(name)
                for at, (name, own) in enumerate(zip(_BOX, "abcd", strict=True))
            ),
            *(pl.lit(None, pl.Float64).alias(name) for name in _MIDDLE),
            pl.lit(False).alias("unsized"),
            *_SIZE,
        )
        meant = labels.rows.select("n", pl.col("label").alias("meant"))
        rows = (
            self.rows.drop(_SIZE)
            .join(pl.concat([box, refused]), on="n", how="left", maintain_order="left")
            .join(meant, on="n", how="left", maintain_order="left")
            .with_columns(pl.coalesce("meant", "label").alias("label"))
            .drop("meant", "a", "b", "c", "d")
        )
        for judged in (labels, boxes, others):
            self._note(judged)
        self.gone = rows.clear()
        self.rows = rows
        fine = rows.join(self.rejects.select("n"), on="n", how="anti", maintain_order="left")
        self._hold(rows.join(self.rejects.select("n").unique(), on="n", how="semi", maintain_order="left"))
        self.rows = fine

    def bring_along(self, judged: Judged) -> None:
        """Take what a rule changed in rows that are held back already; what it would hold back stays as it is."""
        self.gone = pl.concat(
            [judged.rows, self.gone.join(judged.rows.select("n"), on="n", how="anti")], how="diagonal_relaxed"
        )
        self.changes = pl.concat([self.changes, judged.changes])

    def take_in(self, rows: pl.DataFrame) -> None:
        """Let committed rows take part in what follows."""
        self.rows = pl.concat([self.rows, rows], how="diagonal_relaxed")

    def _hold(self, rows: pl.DataFrame) -> None:
        self.gone = pl.concat([self.gone, rows], how="diagonal_relaxed")

    def _note(self, judged: Judged) -> None:
        self.changes = pl.concat([self.changes, judged.changes])
        self.rejects = pl.concat([self.rejects, judged.rejects])


def _numbered(labels: pl.DataFrame, pictures: pl.DataFrame, decided: Decided, carried: Tables | None) -> pl.DataFrame:
    """Return the label rows with their number, their picture and the ids that they keep for ever."""
    own = pictures.select(
        "picture",
        "image_id",
        "item_key",
        "name",
        "width",
        "height",
        "error",
        "message",
        "why",
        "frame_known",
        *("stands", "stands_rule", "stands_mirrored", "stands_width", "stands_height"),
    )
    told = labels.drop("width", "height").join(own, on="picture", how="left", maintain_order="left")
    start = 0
    rank = pl.int_range(pl.len()).over("picture")
    if carried is not None:
        start = carried.annotations.num_rows
        told = told.join(_last_ranks(carried), on="image_id", how="left", maintain_order="left")
        rank = rank + pl.col("last_rank").fill_null(-1) + 1
    names = {number: source.name for number, source in enumerate(decided.sources)}
    exclusive = {number: source.exclusive for number, source in enumerate(decided.sources)}
    return (
        told.with_row_index("n", start)
        .with_columns(
            rank.cast(pl.Int32).alias("rank"),
            owner=pl.col("image_id"),
            source_name=pl.col("source").replace_strict(names, return_dtype=pl.String),
            exclusive=pl.col("source").replace_strict(exclusive, return_dtype=pl.Boolean),
        )
        .with_columns(annotation_id=pl.concat_str("image_id", pl.lit("-"), "rank"))
    )


def _last_ranks(carried: Tables) -> pl.DataFrame:
    """Return the highest rank that the ids of each picture's annotations have, also of those that are held back."""
    tables = [carried.annotations.select(["annotation_id"]), carried.quarantine.select(["id"])]
    ids = pl.concat([pl.Series("id", table.column(0).combine_chunks()) for table in tables]).drop_nulls()
    cut = ids.to_frame().select(
        image_id=pl.col("id").str.extract(r"^(.+)-\d+$"), rank=pl.col("id").str.extract(r"-(\d+)$").cast(pl.Int64)
    )
    return cut.drop_nulls().group_by("image_id").agg(last_rank=pl.col("rank").max())


def _judge_labels(rows: pl.DataFrame, decided: Decided) -> Judged:
    parts = rows.partition_by("source", as_dict=True, maintain_order=True)
    return _together([judge(part, decided.sources[int(key[0])].repairs) for key, part in parts.items()], rows)


_VIRTUAL_PX = 65_536
"""The size that a picture of unknown size is given where boxes are shares of it: a power of two changes no number."""


def _judge_boxes(rows: pl.DataFrame, decided: Decided) -> Judged:
    """Judge the boxes of all sources of one convention at once: they may be many small ones."""
    numbers: dict[Convention, list[int]] = {}
    for number, source in enumerate(decided.sources):
        numbers.setdefault(source.convention, []).append(number)
    parts = []
    for convention, own in numbers.items():
        part = rows.filter(pl.col("source").is_in(own))
        if part.height:
            name = decided.sources[own[0]].name if len(own) == 1 else "the source"
            parts.append(judge_boxes(_sized(part, convention), convention, name))
    return _together(parts or [judge_boxes(_sized(rows, XYWH_PIXELS), XYWH_PIXELS, "")], rows)


def _sized(rows: pl.DataFrame, convention: Convention) -> pl.DataFrame:
    """Give pictures of unknown size one where a box can be judged by it all the same; `unsized` marks them."""
    unknown = pl.col("width").is_null() | pl.col("height").is_null()
    unsized = unknown & pl.lit(convention.unit != "pixels")
    return rows.with_columns(
        *(pl.when(unsized).then(_VIRTUAL_PX).otherwise(side).alias(side) for side in ("width", "height")),
        unsized=unsized,
    )


def _together(judged: Sequence[Judged], rows: pl.DataFrame) -> Judged:
    if not judged:
        return Judged.of(rows)
    return Judged(
        pl.concat([each.rows for each in judged]).sort("n"),
        pl.concat([each.changes for each in judged]),
        pl.concat([each.rejects for each in judged]),
    )


def _references(rows: pl.DataFrame) -> Judged:
    """Hold back rows whose picture is not there, cannot be read, or has no such frame; record faulty ids."""
    told = pl.col("rule")
    recorded = told.is_in([rule.value for rule in RECORDED])
    why = (
        pl.when(pl.col("error").is_not_null())
        .then(pl.struct(rule=pl.lit(Rule.REFERENCE_UNREADABLE.value), detail=pl.col("message")))
        .when(pl.col("why").is_not_null())
        .then(pl.struct(rule=pl.lit(Rule.REFERENCE_NO_IMAGE.value), detail=pl.col("why")))
        .when(~pl.col("frame_known"))
        .then(
            pl.struct(
                rule=pl.lit(Rule.REFERENCE_FRAME.value),
                detail=pl.format("the video has no frame {}", pl.col("frame")),
            )
        )
        .when(told.is_not_null() & ~recorded)
        .then(pl.struct(rule=told, detail=pl.col("detail")))
    )
    found = rows.with_columns(found=why)
    held = found.filter(pl.col("found").is_not_null()).select(
        "n",
        pl.col("found").struct.field("rule"),
        pl.lit("image_id").alias("field"),
        pl.col("name").alias("value"),
        pl.col("found").struct.field("detail"),
    )
    noted = rows.filter(recorded).select("n", pl.lit("id").alias("field"), "rule", pl.lit(1.0).alias("confidence"))
    return Judged.of(found.filter(pl.col("found").is_null()).drop("found"), [noted], [held])


def _confidences(rows: pl.DataFrame, decided: Decided) -> Judged:
    """Say whose word each row is. 1 is a person's; where a format does not mean that by it, it is put below."""
    people = [number for number, source in enumerate(decided.sources) if source.person]
    certain = pl.col("confidence") == 1
    persons = certain & pl.col("source").is_in(people)
    capped = rows.filter(certain & ~persons).select(
        "n",
        pl.lit("confidence").alias("field"),
        pl.lit("1.0").alias("before"),
        pl.lit(str(MAX_MODEL_CONFIDENCE)).alias("after"),
        pl.lit(Rule.LABEL_CONFIDENCE.value).alias("rule"),
        pl.lit(1.0).alias("confidence"),
    )
    said = rows.with_columns(
        origin=pl.when(persons).then(pl.lit("person")).otherwise(pl.lit("import")),
        confidence=pl.when(certain & ~persons).then(pl.lit(MAX_MODEL_CONFIDENCE)).otherwise(pl.col("confidence")),
    )
    return Judged.of(said, [capped])


def _suspected(rows: pl.DataFrame) -> Judged:
    """Hold back labels that the model doubts; what a person confirmed is not doubted."""
    doubted = rows.filter((pl.col("origin") != "person") & pl.col("seen").is_not_null())
    if not doubted.height:
        return Judged.of(rows)
    held = doubted.select(
        "n",
        rule=pl.lit(Rule.LABEL_SUSPECT.value),
        field=pl.lit("label"),
        value="label",
        candidates=pl.concat_list("seen", "label"),
        detail=pl.format(
            "the model sees {} ({}) rather than {} ({})",
            "seen",
            pl.col("seen_chance").round(2),
            "label",
            pl.col("given_chance").round(2),
        ),
    )
    return Judged.of(rows.join(held, on="n", how="anti", maintain_order="left"), rejects=[held])


_SAME_SHAPE = 0.03
"""How far the sides of a copy may differ in proportion for its boxes to be carried over by scaling alone."""


def _onto_standing(rows: pl.DataFrame) -> Judged:
    """Give the labels of copies to the pictures that stand, boxes scaled and mirrored with them."""
    copied = pl.col("stands").is_not_null()
    if not rows.select(copied.any()).item():
        return Judged.of(rows)
    boxed = pl.col("x").is_not_null()
    across, down = pl.col("stands_width") / pl.col("width"), pl.col("stands_height") / pl.col("height")
    fits = ((across / down - 1).abs() <= _SAME_SHAPE).fill_null(False)
    cut = copied & boxed & ~fits
    moved = copied & ~cut
    left = pl.when("stands_mirrored").then(pl.col("width") - pl.col("x") - pl.col("w")).otherwise("x")
    target = {"x": left * across, "y": pl.col("y") * down, "w": pl.col("w") * across, "h": pl.col("h") * down}
    mirrored = pl.when("stands_mirrored").then(1 - pl.col("cx")).otherwise("cx")
    changed = rows.with_columns(
        *(pl.when(moved & boxed).then(value).otherwise(name).alias(name) for name, value in target.items()),
        pl.when(moved & boxed).then(mirrored).otherwise("cx").alias("cx"),
        owner=pl.when(moved).then("stands").otherwise("owner"),
    )
    before, after = (_texts(frame, moved & boxed) for frame in (rows, changed))
    resized = before.join(after, on="n", suffix="_after").filter(pl.col("box") != pl.col("box_after"))
    whose = rows.filter(moved).select("n", "image_id", "stands", pl.col("stands_rule").alias("rule"))
    rule = whose.select("n", "rule")
    notes = [
        resized.join(rule, on="n").select(
            "n", "rule", field=pl.lit("bbox"), before="box", after="box_after", confidence=pl.lit(1.0)
        ),
        whose.select("n", "rule", field=pl.lit("image_id"), before="image_id", after="stands", confidence=pl.lit(1.0)),
    ]
    held = rows.filter(cut).select(
        "n",
        pl.col("stands_rule").alias("rule"),
        field=pl.lit("bbox"),
        value=_text_of("x", "y", "w", "h"),
        detail=pl.format("its picture is a cut copy of {}: the box cannot be carried over", pl.col("stands")),
    )
    return Judged.of(changed.filter(~cut), notes, [held])


def _carried_rows(carried: Tables) -> pl.DataFrame:
    """Return committed annotations as rows on their way; they come first, and stand before equal new ones."""
    annotations, images = (pl.DataFrame(table) for table in (carried.annotations, carried.images))
    names = images.select("item_key", pl.col("file_name").alias("name")).unique("item_key")
    sizes = images.select("image_id", "width", "height")
    told = annotations.with_columns(pl.col(pl.Categorical, pl.Enum).cast(pl.String))
    numbers = [pl.col(column).cast(pl.Float64).alias(name) for name, column in (_BOX | _MIDDLE).items()]
    return (
        told.join(names, on="item_key", how="left")
        .join(sizes, on="image_id", how="left")
        .select(
            *("annotation_id", "image_id", "item_key", "name", "rank", "origin", "label", "confidence", "attributes"),
            *_SIZE,
            *numbers,
            owner="image_id",
            source_name="source",
            exclusive=pl.lit(True),
            unsized=pl.col("bbox_x").is_null() & pl.col("cx").is_not_null(),
        )
        .with_columns(
            pl.when("unsized").then(value * _VIRTUAL_PX).otherwise(name).alias(name)
            for name, value in {
                "x": pl.col("cx") - pl.col("nw") / 2,
                "y": pl.col("cy") - pl.col("nh") / 2,
                "w": pl.col("nw"),
                "h": pl.col("nh"),
            }.items()
        )
        .with_row_index("n")
    )


def _doubles(rows: pl.DataFrame) -> Judged:
    """Drop doubles, hold back contradictions; what a person said stands against what others say of the same thing."""
    judged = drop_doubles(rows, picture="owner")
    excluding = judged.rows.filter("exclusive")
    conflicts = hold_conflicts(excluding, picture="owner").rejects
    persons = judged.rows.filter(pl.col("origin") == "person")
    held = conflicts.join(persons, on="n", how="anti")
    return judged.then(Judged.of(judged.rows.join(held, on="n", how="anti", maintain_order="left"), rejects=[held]))


def _texts(rows: pl.DataFrame, which: pl.Expr) -> pl.DataFrame:
    # polars 2.1 panics where a text is formatted from a frame with an empty chunk.
    return rows.filter(which).rechunk().select("n", box=_text_of("x", "y", "w", "h"))


def _text_of(*columns: str) -> pl.Expr:
    """Return numbers as a JSON list that reads back to the same numbers."""
    return pl.format("[{}]", pl.concat_str(columns, separator=","))


def _tables(course: _Course, about: pl.DataFrame, pictures: pl.DataFrame) -> Tables:
    """Return the rows of the five tables; outcomes are settled by the caller."""
    whose = about.rename({"annotation_id": "id", "name": "file_name"}).with_columns(kind=pl.lit("annotation"))
    standing = _annotations(course.rows)
    gone = _annotations(course.gone)
    held = held_rows(shaped("annotations", gone), range(gone.height))
    kept_as = gone.select(pl.col("annotation_id").alias("id")).with_columns(held=pl.Series(held, dtype=pl.String))
    owners = pl.concat([frame.select("annotation_id", "image_id") for frame in (standing, gone)])
    now = whose.drop("image_id").join(owners.rename({"annotation_id": "id"}), on="id", how="left")
    quarantine = (
        _with_ids(course.rejects, about).join(now, on="n", how="left").join(kept_as, on="id", how="left").sort("n")
    )
    changes = course.changes.join(now, on="n", how="left").sort("n", maintain_order=True)
    changes = _without_virtual(changes, pl.concat([course.rows, course.gone], how="diagonal_relaxed"))
    changes = changes.with_columns(rule_version=pl.lit(_RULE_VERSION, pl.Int32))
    seen = pictures.filter(pl.col("error").is_null())
    return Tables(
        images=shaped("images", _images(seen)),
        annotations=shaped("annotations", _in_order(standing, seen)),
        quarantine=shaped("quarantine", quarantine),
        failures=shaped("failures", _failures(pictures.filter(pl.col("error").is_not_null()))),
        changes=shaped("changes", pl.concat([_of_pictures(seen), changes], how="diagonal_relaxed")),
        crops=schema("crops", ()).empty_table(),
    )


def _with_ids(rejects: pl.DataFrame, about: pl.DataFrame) -> pl.DataFrame:
    """Name other rows in `detail` by their id: outside the shard their number means nothing."""
    other = pl.col("detail").str.extract(r"\brow (\d+)").cast(pl.UInt32)
    ids = about.select(pl.col("n").alias("other"), pl.col("annotation_id").alias("other_id"))
    named = rejects.with_columns(other=other).join(ids, on="other", how="left", maintain_order="left")
    told = pl.col("detail").str.replace(r"\brow \d+", pl.col("other_id"))
    return named.with_columns(detail=pl.coalesce(told, "detail")).drop("other", "other_id")


def _without_virtual(changes: pl.DataFrame, rows: pl.DataFrame) -> pl.DataFrame:
    """Tell what became of boxes in pictures of unknown size as shares of the picture: `after` has no pixels there."""
    unsized = rows.filter(pl.col("unsized").fill_null(False) & pl.col("x").is_not_null())
    if not unsized.height:
        return changes
    now = unsized.select("n", normalised=_text_of(*_MIDDLE))
    told = changes.join(now, on="n", how="left", maintain_order="left")
    boxed = (pl.col("field") == "bbox") & pl.col("normalised").is_not_null()
    first = boxed & (pl.col("field").cum_count().over("n", "field") == 1)
    kept = told.filter(~boxed | first).with_columns(
        after=pl.when(boxed).then("normalised").otherwise("after"),
        field=pl.when(boxed).then(pl.lit("normalised")).otherwise("field"),
    )
    return kept.filter((pl.col("field") != "normalised") | (pl.col("before") != pl.col("after"))).drop("normalised")


def _annotations(rows: pl.DataFrame) -> pl.DataFrame:
    sized = ~pl.col("unsized").fill_null(False)
    return rows.select(
        "annotation_id",
        pl.col("owner").alias("image_id"),
        "item_key",
        "rank",
        "origin",
        *(pl.when(sized).then(name).alias(column) for name, column in _BOX.items()),
        *(pl.col(name).alias(column) for name, column in _MIDDLE.items()),
        "label",
        "confidence",
        "attributes",
        pl.col("source_name").alias("source"),
    )


def _in_order(annotations: pl.DataFrame, pictures: pl.DataFrame) -> pl.DataFrame:
    order = pictures.select("image_id").with_row_index("_at")
    return annotations.join(order, on="image_id", how="left").sort("_at", "rank", nulls_last=True).drop("_at")


def _images(pictures: pl.DataFrame) -> pl.DataFrame:
    duplicate = pl.col("stands").is_not_null()
    return pictures.select(
        "image_id",
        "item_key",
        "root",
        pl.col("name").alias("file_name"),
        pl.col("uri").alias("source_uri"),
        "sha256",
        "size_bytes",
        "width",
        "height",
        "video_id",
        pl.col("frame").alias("frame_index"),
        "pts_ms",
        pl.when(duplicate)
        .then(pl.lit(Outcome.DUPLICATE.value))
        .otherwise(pl.lit(Outcome.NO_FACE.value))
        .alias("outcome"),
        pl.col("stands").alias("duplicate_of"),
        pl.lit(0).alias("annotations"),
        "fingerprint",
        "inputs",
    )


def _failures(pictures: pl.DataFrame) -> pl.DataFrame:
    return pictures.select(
        "item_key",
        "root",
        pl.col("uri").alias("source_uri"),
        pl.col("name").alias("file_name"),
        pl.when(pl.col("picture").is_null()).then(pl.lit("read")).otherwise(pl.lit("look")).alias("step"),
        "error",
        "message",
        "attempts",
    )


def _of_pictures(pictures: pl.DataFrame) -> pl.DataFrame:
    """Return what was found of pictures themselves: copies, other sizes than declared, no word in any label file."""
    size, declared = (
        pl.format("[{},{}]", width, height)
        for width, height in (("width", "height"), ("declared_width", "declared_height"))
    )
    own: list[str | pl.Expr] = [
        "item_key",
        pl.col("name").alias("file_name"),
        pl.col("image_id").alias("id"),
        "image_id",
    ]
    fixed = {"kind": pl.lit("image"), "rule_version": pl.lit(_RULE_VERSION, pl.Int32), "confidence": pl.lit(1.0)}
    copies = pictures.filter(pl.col("stands").is_not_null()).select(
        *own, field=pl.lit("duplicate_of"), after="stands", rule="stands_rule", **fixed
    )
    differs = (pl.col("width") != pl.col("declared_width")) | (pl.col("height") != pl.col("declared_height"))
    sizes = pictures.filter(differs).select(
        *own,
        field=pl.lit("size"),
        before=declared,
        after=size,
        rule=pl.lit(Rule.IMAGE_DECLARED_SIZE.value),
        **fixed,
    )
    silent = pictures.filter(~pl.col("told")).select(
        *own, field=pl.lit("labels"), rule=pl.lit(Rule.REFERENCE_NO_ENTRY.value), **fixed
    )
    return pl.concat([copies, sizes, silent], how="diagonal_relaxed")


def shaped(table: str, rows: pl.DataFrame) -> pa.Table:
    """Return rows as the Arrow table of that name; columns that they have not are null."""
    wanted = schema(table, ())
    columns = []
    for field in wanted:
        if field.name not in rows.columns:
            columns.append(pa.nulls(rows.height, field.type))
        elif pa.types.is_dictionary(field.type):
            texts = rows[field.name].cast(pl.String).to_arrow().cast(pa.string())
            columns.append(texts.dictionary_encode().cast(field.type))
        else:
            columns.append(rows[field.name].to_arrow().cast(field.type))
    return pa.table(columns, schema=wanted)


def _joined(new: Tables, carried: Tables) -> Tables:
    """Return new rows and carried ones as one shard's, the carried first; of a picture itself only what is new."""
    again = pc.is_in(carried.images["item_key"], new.images["item_key"].combine_chunks())
    told = pc.is_in(carried.changes["item_key"], new.images["item_key"].combine_chunks())
    of_picture = pc.equal(carried.changes["kind"].cast(pa.string()), "image")
    old = replace(
        carried,
        images=carried.images.filter(pc.invert(again)),
        changes=carried.changes.filter(pc.invert(pc.and_(told, of_picture))),
    )
    parts = {name: [getattr(old, name), getattr(new, name)] for name in TABLES}
    tables = {name: pa.concat_tables(part).unify_dictionaries().combine_chunks() for name, part in parts.items()}
    return replace(new, **tables)
