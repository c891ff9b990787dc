"""The ledger read backwards: take back what one rule did, and let the rest stand.

    undone = undo(tables, "label.spelling")

What a rule changed is again what stood before it (see `transforms.chains`), and what it held back stands again as it
was held, with two reservations:

- a person's word stands, whatever it was said about; only the rules of people take it back;
- an annotation stands only where its picture does. If that is a copy, or held back itself, the annotation stays in
  quarantine under the rule that keeps the picture there, and comes back with it.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from schemas.reasons import Rule
from schemas.tables import Tables
from transforms.chains import Back, Frames, Size, backwards, read_changes
from transforms.decisions import HELD, PEOPLE, Word, lay, lift
from transforms.edits import (
    Row,
    appended,
    box_of,
    held_as,
    is_one_of,
    overlap,
    read_box,
    resettled,
    with_box,
    with_values,
)
from validation.frames import BOX

SAME_THING = 0.5
"""The least overlap of two boxes that a rule may have judged as doubles, or as a conflict."""

_PAIRWISE = frozenset({Rule.DUPLICATE_ANNOTATION, Rule.LABEL_CONFLICT})
"""The rules that hold an annotation back because of another one on the same picture."""


@dataclass(frozen=True)
class Undone:
    """The tables without what a rule did, and what that was.

    `values` are again as they were before, and `fallen` changes of later rules went with them. `annotations` and
    `pictures` stand again; `released` more rows of `quarantine` have gone, of what other rules hold still. `words` of
    people were taken back. `left` annotations stay held back, because there is no picture that they could stand on.
    """

    tables: Tables
    values: int = 0
    fallen: int = 0
    annotations: int = 0
    pictures: int = 0
    released: int = 0
    words: int = 0
    left: int = 0

    @property
    def counts(self) -> dict[str, int]:
        """What was taken back, by name."""
        names = ("values", "fallen", "annotations", "pictures", "released", "words")
        return {name: getattr(self, name) for name in names}


def undo(tables: Tables, rule: str) -> Undone:
    """Take back what the rule did. What it did not touch stays as it is; undone twice is undone once."""
    if not _is_concerned(tables, rule):
        return Undone(tables)
    bare, words = lift(tables)
    kept = _kept(tables, words, rule)
    undone, ways = _take_back(bare, rule)
    undone = replace(undone, words=len(words) - len(kept))
    if not any(undone.counts.values()):
        return replace(undone, tables=tables)
    return replace(undone, tables=lay(undone.tables, [_said_of(word, ways) for word in kept]))


def _is_concerned(tables: Tables, rule: str) -> bool:
    changes = tables.changes
    lifted = changes.filter(pc.and_(is_one_of(changes["rule"], PEOPLE), pc.equal(changes["field"], HELD)))
    hits = (
        is_one_of(changes["rule"], [rule]),
        is_one_of(tables.quarantine["rule"], [rule]),
        pc.match_substring(lifted["before"], json.dumps(rule, ensure_ascii=False)),
    )
    return any(pc.any(hit).as_py() for hit in hits)


def _kept(tables: Tables, words: Sequence[Word], rule: str) -> list[Word]:
    """Return the words that stay. To undo a disagreement is to take back all that was said of the annotation."""
    if rule == Rule.PERSON_DISAGREEMENT:
        held = tables.quarantine.filter(is_one_of(tables.quarantine["rule"], [rule]))
        disputed = set(held["id"].to_pylist())
        return [word for word in words if word.annotation not in disputed]
    if rule in PEOPLE:
        return [word for word in words if (word.label is None) != (rule == Rule.PERSON_REJECTED)]
    return list(words)


def _said_of(word: Word, ways: Mapping[str, Frames]) -> Word:
    """Return a word as it reads in the picture to which its annotation went back."""
    way = ways.get(word.annotation)
    return word if way is None or word.box is None else replace(word, box=way.carry(word.box))


def _take_back(tables: Tables, rule: str) -> tuple[Undone, Mapping[str, Frames]]:
    """Take a rule back where nobody has spoken; return also how boxes went back to their own pictures."""
    columns = (tables.images[name].to_pylist() for name in ("image_id", "width", "height"))
    sizes: dict[str, Size] = {image: (width, height) for image, width, height in zip(*columns, strict=True)}
    back = backwards(read_changes(tables.changes), rule, sizes)
    undone = _released(_restored(tables, back, sizes), rule, back.parted)
    own = sum(by == rule for by in back.gone.values())
    pictures = undone.pictures + len(back.copies)
    return replace(undone, values=own, fallen=len(back.gone) - own, pictures=pictures), back.ways


def _restored(tables: Tables, back: Back, sizes: Mapping[str, Size]) -> Tables:
    """Return the tables with the values that stand again, wherever their rows are, and without the changes of them."""
    columns = (tables.annotations[name].to_pylist() for name in ("annotation_id", "image_id"))
    annotations = {
        at: _values(identity, image, back, sizes)
        for at, (identity, image) in enumerate(zip(*columns, strict=True))
        if identity in back.annotations
    }
    images = {
        at: {"duplicate_of": back.copies[image]}
        for at, image in enumerate(tables.images["image_id"].to_pylist())
        if image in back.copies
    }
    anew = {at: {"before": before, "after": after} for at, (before, after) in back.anew.items()}
    gone = np.isin(np.arange(tables.changes.num_rows), list(back.gone))
    return replace(
        tables,
        images=_edited(tables.images, images),
        annotations=_edited(tables.annotations, annotations),
        quarantine=_edited(tables.quarantine, _held_anew(tables, back, sizes)),
        changes=_edited(tables.changes, anew).filter(pa.array(~gone)),
    )


def _edited(table: pa.Table, rows: Mapping[int, Row]) -> pa.Table:
    """Return the table with other values in some columns of rows, by position."""
    by_column: dict[str, dict[int, Any]] = {}
    for at, row in rows.items():
        for name, value in row.items():
            by_column.setdefault(name, {})[at] = value
    for name, values in by_column.items():
        table = with_values(table, name, values)
    return table


def _values(identity: str, image: str, back: Back, sizes: Mapping[str, Size]) -> Row:
    """Return the columns of an annotation of the picture `image` that are other than they were."""
    told = back.annotations[identity]
    values: Row = {name: told[name] for name in ("label", "image_id") if name in told}
    if "confidence" in told:
        values["confidence"] = None if told["confidence"] is None else float(told["confidence"])
    if "bbox" in told:
        size = (None, None) if identity in back.raw else sizes.get(values.get("image_id", image), (None, None))
        values |= with_box({}, read_box(told["bbox"]), size)
    return values


def _held_anew(tables: Tables, back: Back, sizes: Mapping[str, Size]) -> dict[int, Row]:
    """Return the columns of `quarantine` that are other than they were, by the row's position."""
    names = dict(zip(*(tables.images[name].to_pylist() for name in ("image_id", "file_name")), strict=True))
    columns = (tables.quarantine[name].to_pylist() for name in ("kind", "id", "held"))
    rows: dict[int, Row] = {}
    for at, (kind, identity, held) in enumerate(zip(*columns, strict=True)):
        if kind == "annotation" and held is not None and identity in back.annotations:
            row = json.loads(held)
            row |= _values(identity, row["image_id"], back, sizes)
            rows[at] = {"held": held_as(row, tables.annotations.column_names)}
            if "image_id" in back.annotations[identity]:
                rows[at] |= {"image_id": row["image_id"], "file_name": names.get(row["image_id"])}
    return rows


def _released(tables: Tables, rule: str, parted: frozenset[str]) -> Undone:
    """End what the rule holds back; a picture or an annotation that nothing else holds stands again."""
    rows = tables.quarantine.to_pylist()
    ended = {at for at, row in enumerate(rows) if row["rule"] == rule} | _without_reason(rows, tables, parted)
    if not ended and not parted:
        return Undone(tables)
    kept = [row for at, row in enumerate(rows) if at not in ended]
    still = {(row["kind"], row["id"]) for row in kept}
    loose = {(row["kind"], row["id"]): row for at, row in enumerate(rows) if at in ended}
    free = [row for key, row in loose.items() if key not in still]
    pictures = {row["id"] for row in free if row["kind"] == "image"}
    stay, annotations = _placed([row for row in free if row["kind"] == "annotation"], tables, kept)
    left = sum(row["rule"] == loose["annotation", row["id"]]["rule"] for row in stay)
    tables = replace(
        tables,
        annotations=appended(tables.annotations, annotations),
        quarantine=appended(tables.quarantine.slice(0, 0), kept + stay),
    )
    return Undone(
        resettled(tables, {*parted, *pictures, *(row["image_id"] for row in annotations)}),
        annotations=len(annotations),
        pictures=len(pictures),
        released=len(ended) - len(annotations) - len(pictures) - left,
        left=left,
    )


def _placed(free: Sequence[Row], tables: Tables, held: Sequence[Row]) -> tuple[list[Row], list[Row]]:
    """Return the rows of `quarantine` that must stay there, perhaps for another reason, and annotations that stand."""
    down = _down(tables, held)
    known = set(tables.images["image_id"].to_pylist())
    stay, annotations = [], []
    for row in free:
        if row["held"] is None or row["image_id"] not in known:
            stay.append(row)
        elif row["image_id"] in down:
            stay.append(row | down[row["image_id"]])
        else:
            annotations.append(json.loads(row["held"]))
    return stay, annotations


def _down(tables: Tables, held: Sequence[Row]) -> dict[str, Row]:
    """Return the pictures on which no annotation can stand, each with what `quarantine` says of one that is held so."""
    by = {change.id: change.rule for change in read_changes(tables.changes) if change.field == "duplicate_of"}
    columns = (tables.images[name].to_pylist() for name in ("image_id", "duplicate_of"))
    down = {
        image: _because(
            by.get(image, Rule.DUPLICATE_EXACT.value), "duplicate_of", standing, f"its picture is a copy of {standing}"
        )
        for image, standing in zip(*columns, strict=True)
        if standing is not None
    }
    return down | {
        row["id"]: _because(row["rule"], row["field"], row["value"], f"its picture was held back: {row['detail']}")
        for row in held
        if row["kind"] == "image"
    }


def _because(rule: str, field: str, value: str | None, detail: str) -> Row:
    return {"rule": rule, "field": field, "value": value, "candidates": None, "detail": detail}


def _without_reason(rows: Sequence[Row], tables: Tables, parted: frozenset[str]) -> set[int]:
    """Return the rows that were held because of another annotation, if that is on another picture now."""
    judged = {
        at: json.loads(row["held"])
        for at, row in enumerate(rows)
        if row["rule"] in _PAIRWISE and row["image_id"] in parted and row["held"] is not None
    }
    if not judged:
        return set()
    names = ["annotation_id", "image_id", "label", *BOX]
    standing = tables.annotations.filter(is_one_of(tables.annotations["image_id"], parted)).select(names).to_pylist()
    disputed = [row for at, row in judged.items() if rows[at]["rule"] == Rule.LABEL_CONFLICT]
    doubles, rivals = _by_picture(standing), _by_picture([*standing, *disputed])
    return {
        at
        for at, row in judged.items()
        if not (
            any(row.get("label") == other.get("label") for other in _beside(row, doubles))
            if rows[at]["rule"] == Rule.DUPLICATE_ANNOTATION
            else any(row.get("label") != other.get("label") for other in _beside(row, rivals))
        )
    }


def _by_picture(rows: Iterable[Row]) -> dict[str, list[Row]]:
    pictures: dict[str, list[Row]] = {}
    for row in rows:
        pictures.setdefault(row["image_id"], []).append(row)
    return pictures


def _beside(row: Row, others: Mapping[str, Sequence[Row]]) -> Iterator[Row]:
    """Yield the other annotations of the same thing on the same picture."""
    box = box_of(row)
    for other in others.get(row["image_id"], ()):
        if other["annotation_id"] != row["annotation_id"] and overlap(box, box_of(other)) >= SAME_THING:
            yield other
