"""What people decide of annotations, and how their words are laid over what the rules made.

A decision is a reviewer's whole word on one annotation: a label and a box, or a rejection. What a person does not
correct is accepted as it was shown. All words are kept in `changes`, a few rows each; what stands follows from them:

- a word stands that more than half of the annotation's reviewers share: the same label, and boxes that overlap by half
  (intersection over union of 0.5, by which PASCAL VOC takes two boxes for one object). Of those the latest stands;
- where no word is shared so, as between two reviewers that differ, the annotation is held back under
  `person.disagreement`, as it was before anybody spoke, with all their labels as candidates;
- where a rejection stands it is held back under `person.rejected`, also as it was.

So people's words are a layer of their own: `lift` takes it off, `lay` puts it back, and nothing that is done to the
rows in between changes what a person decided.
"""

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

import pyarrow.compute as pc

from schemas.reasons import Rule
from schemas.tables import Tables
from transforms.edits import (
    Box,
    Row,
    appended,
    box_of,
    box_text,
    held_as,
    is_one_of,
    overlap,
    read_box,
    resettled,
    with_box,
    without,
)
from transforms.rules import MIN_SIDE_PX, OVERHANG_TOLERANCE_PX

SAME_BOX = 0.5
"""The least intersection over union of two people's boxes for one object (Everingham et al. 2010, PASCAL VOC)."""

PEOPLE = frozenset({Rule.PERSON_DECISION, Rule.PERSON_REJECTED, Rule.PERSON_DISAGREEMENT})
"""The rules by which people's words stand in the tables."""

HELD = "held"
"""The field of a change that took an annotation out of quarantine: `before` are the rows that held it, as JSON."""

GIVEN_BEFORE = "already given"
"""How the refusal of a decision begins that changes nothing."""

_RULE_VERSION = 1


class Verdict(StrEnum):
    """The words for a decision in a review file."""

    ACCEPT = "accept"
    """The label and the box are right."""
    RELABEL = "relabel"
    """The box is right, the label is `new_label`."""
    REBOX = "rebox"
    """The label is right, the box is `new_box`."""
    BOTH = "both"
    """The label is `new_label`, the box is `new_box`."""
    REJECT = "reject"
    """This is nothing that should be labelled."""


@dataclass(frozen=True)
class Decision:
    """A line of a review file that holds a decision.

    `label` and `box` are what was shown to the reviewer; null where the line has them no more, and then what stands is
    meant.
    """

    line: int
    id: str
    verdict: Verdict
    label: str | None
    box: Box | None
    new_label: str | None
    new_box: Box | None
    reviewer: str
    decided_at: datetime
    comment: str | None


@dataclass(frozen=True)
class Refusal:
    """A line of a review file that was not taken, and why."""

    line: int
    reason: str


@dataclass(frozen=True)
class Word:
    """What one reviewer said of one annotation. Without a label it is rejected, and the box means nothing."""

    annotation: str
    reviewer: str
    decided_at: datetime | None
    label: str | None
    box: Box | None
    comment: str | None

    def shares(self, other: "Word") -> bool:
        """Tell whether both say the same."""
        if self.label is None or other.label is None:
            return self.label is other.label
        return self.label == other.label and overlap(self.box, other.box) >= SAME_BOX


@dataclass(frozen=True)
class Applied:
    """The tables with what was decided, the lines that were not taken, and how many were, by verdict."""

    tables: Tables
    refusals: tuple[Refusal, ...]
    taken: Mapping[str, int]


Canonical = Callable[[str], str | None]
"""Gives the vocabulary's name for a label, folded or not; null where it has none."""


def apply(tables: Tables, decisions: Sequence[Decision], canonical: Canonical) -> Applied:
    """Return the tables with the decisions laid over them, in their order; those that cannot stand are refused."""
    bare, words = lift(tables)
    said = {(word.annotation, word.reviewer): word for word in words}
    about = _About(tables, {decision.id for decision in decisions})
    refusals, taken = [], dict.fromkeys(map(str, Verdict), 0)
    for decision in decisions:
        word = _word(decision, about, said, canonical)
        if isinstance(word, str):
            refusals.append(Refusal(decision.line, word))
            continue
        said[word.annotation, word.reviewer] = word
        taken[decision.verdict] += 1
    if not sum(taken.values()):
        return Applied(tables, tuple(refusals), taken)
    return Applied(lay(bare, said.values()), tuple(refusals), taken)


def lift(tables: Tables) -> tuple[Tables, list[Word]]:
    """Return the tables as they would be had nobody decided anything, and the words in the order of their coming."""
    is_spoken = is_one_of(tables.changes["rule"], PEOPLE)
    spoken = tables.changes.filter(is_spoken).to_pylist()
    if not spoken:
        return tables, []
    before: dict[str, dict[str, str | None]] = {}
    for row in spoken:
        before.setdefault(row["id"], {}).setdefault(row["field"], row["before"])
    tables = replace(tables, changes=tables.changes.filter(pc.invert(is_spoken)))
    taken = _Taken(tables, before)
    annotations, held = [], []
    for identity, values in before.items():
        row = _unspoken(taken.rows[identity], values, taken)
        own = [each for each in taken.held[identity] if each["rule"] not in PEOPLE]
        own += [taken.about(row) | each for each in json.loads(values.get(HELD) or "[]")]
        held += [each | {"held": taken.held_as(row)} for each in own]
        annotations += [] if own else [row]
    return taken.put_back(annotations, held, []), words_of(spoken)


def lay(tables: Tables, words: Iterable[Word]) -> Tables:
    """Return the tables with people's words laid over them."""
    by_annotation: dict[str, list[Word]] = {}
    for word in words:
        by_annotation.setdefault(word.annotation, []).append(word)
    if not by_annotation:
        return tables
    taken = _Taken(tables, by_annotation)
    annotations, held, changes = [], [], []
    for identity, said in by_annotation.items():
        row, about = taken.rows[identity], taken.about(taken.rows[identity])
        changes += [about | change for word in said for change in _told(word, row, taken.held[identity])]
        standing = _standing(said)
        if standing is None:
            held.append(about | _disagreement(said, row) | {"held": taken.held_as(row)})
        elif standing.label is None:
            held.append(about | _rejection(standing, row) | {"held": taken.held_as(row)})
        else:
            annotations.append(_decided(row, standing, taken))
    return taken.put_back(annotations, held, changes)


def words_of(changes: Iterable[Row]) -> list[Word]:
    """Return the words that rows of `changes` tell, in their order; rows of other rules are passed over."""
    fields: dict[tuple[str, str], dict[str, Row]] = {}
    for row in changes:
        if row["rule"] in PEOPLE:
            fields.setdefault((row["id"], row["reviewer"]), {})[row["field"]] = row
    nothing: Row = {"after": None}
    return [
        Word(
            annotation=identity,
            reviewer=reviewer,
            decided_at=own["label"]["decided_at"],
            label=own["label"]["after"],
            box=read_box(own.get("bbox", nothing)["after"]),
            comment=own.get("comment", nothing)["after"],
        )
        for (identity, reviewer), own in fields.items()
    ]


class _About:
    """What stands of the annotations that are decided on, and of their pictures."""

    def __init__(self, tables: Tables, ids: set[str]) -> None:
        self.rows = _standing_rows(tables, ids) | _held_rows(tables, ids)
        held = tables.quarantine.filter(is_one_of(tables.quarantine["kind"], ["image"])).to_pylist()
        self.down = {row["id"]: f"it is held back by {row['rule']}" for row in held}
        names = ["image_id", "duplicate_of", "width", "height"]
        images = tables.images.filter(
            is_one_of(tables.images["image_id"], {row["image_id"] for row in self.rows.values()})
        )
        self.sizes: dict[str, tuple[int | None, int | None]] = {}
        for image, standing, width, height in zip(*(images[name].to_pylist() for name in names), strict=True):
            self.sizes[image] = (width, height)
            if standing is not None:
                self.down[image] = f"it is a copy of {standing}, whose labels count"


def _word(decision: Decision, about: _About, said: Mapping[tuple[str, str], Word], canonical: Canonical) -> Word | str:
    """Return what a decision says, or why it is refused."""
    row = about.rows.get(decision.id)
    if row is None:
        return f"no annotation has the id {decision.id!r}, or no copy of it was kept"
    picture = row["image_id"]
    if picture not in about.sizes:
        return "its picture is not in the data set"
    if picture in about.down:
        return f"its picture does not stand: {about.down[picture]}"
    label = box = None
    if decision.verdict is not Verdict.REJECT:
        fresh = decision.verdict in (Verdict.RELABEL, Verdict.BOTH)
        named = decision.new_label if fresh else decision.label if decision.label is not None else row.get("label")
        label = None if named is None else canonical(named)
        if label is None:
            told = "there is no label" if named is None else f"the label {named!r} is not in the vocabulary"
            return f"{told}: relabel it with one that is"
        if decision.verdict in (Verdict.REBOX, Verdict.BOTH):
            box = decision.new_box
        else:
            box = decision.box if decision.box is not None else box_of(row)
        wrong = _fault(box, about.sizes[picture])
        if wrong:
            return wrong
    word = Word(decision.id, decision.reviewer, decision.decided_at, label, box, decision.comment)
    earlier = said.get((decision.id, decision.reviewer))
    if earlier is None:
        return word
    if (earlier.label, box_text(earlier.box)) == (label, box_text(box)):
        return f"{GIVEN_BEFORE} by {decision.reviewer}"
    return (
        f"{decision.reviewer} has decided otherwise before ({_summary(earlier)}), and a decision is final: "
        f"{Rule.PERSON_DECISION} can be undone"
    )


def _fault(box: Box | None, size: tuple[int | None, int | None]) -> str | None:
    """Return what is wrong with a box in a picture of `size`, null where it is fine."""
    if box is None:
        return None
    told = f"the box {box_text(box)} (x, y, width, height in pixels)"
    if not all(map(math.isfinite, box)) or min(box[2:]) < MIN_SIDE_PX:
        return f"{told} is none: expected four numbers, and sides of at least {MIN_SIDE_PX:g} px"
    x, y, w, h = box
    width, height = (math.inf if side is None else side for side in size)
    if max(-x, -y, x + w - width, y + h - height) > OVERHANG_TOLERANCE_PX:
        return f"{told} reaches out of its picture of {width} x {height} px"
    return None


def _told(word: Word, row: Row, held: Sequence[Row]) -> list[Row]:
    """Return the rows of `changes` that keep a word: what stood without anybody's, and what the reviewer said."""
    told: dict[str, tuple[str | None, str | None]] = {"label": (row.get("label"), word.label)}
    if word.label is not None:
        confidence = row.get("confidence")
        told["bbox"] = (box_text(box_of(row)), box_text(word.box))
        told["confidence"] = (None if confidence is None else str(confidence), "1.0")
        told["origin"] = (row.get("origin"), "person")
    if held:
        names = ("kind", "rule", "field", "value", "candidates", "detail")
        told[HELD] = (json.dumps([{name: each[name] for name in names} for each in held], ensure_ascii=False), None)
    if word.comment:
        told["comment"] = (None, word.comment)
    rule = Rule.PERSON_REJECTED if word.label is None else Rule.PERSON_DECISION
    common = {"rule": rule.value, "rule_version": _RULE_VERSION, "confidence": 1.0}
    who = {"reviewer": word.reviewer, "decided_at": word.decided_at}
    return [
        common | who | {"field": field, "before": before, "after": after}
        for field, (before, after) in told.items()
        if field == "label" or before is not None or after is not None
    ]


def _standing(words: Sequence[Word]) -> Word | None:
    """Return the latest word that more than half of all share; null where none is."""
    shared = (word for word in reversed(words) if 2 * sum(word.shares(other) for other in words) > len(words))
    return next(shared, None)


def _decided(row: Row, word: Word, taken: "_Taken") -> Row:
    row = row | {"label": word.label, "origin": "person", "confidence": 1.0}
    if box_text(box_of(row)) == box_text(word.box):
        return row
    return with_box(row, word.box, taken.size(row))


def _unspoken(row: Row, values: Mapping[str, str | None], taken: "_Taken") -> Row:
    """Return an annotation's row as it was before people spoke; `values` are the fields' earlier ones, as text."""
    confidence = values.get("confidence")
    row = row | {"label": values["label"]}
    if "origin" in values:
        row |= {"origin": values["origin"], "confidence": None if confidence is None else float(confidence)}
    if "bbox" in values and values["bbox"] != box_text(box_of(row)):
        row = with_box(row, read_box(values["bbox"]), taken.size(row))
    return row


def _disagreement(words: Sequence[Word], row: Row) -> Row:
    labels = list(dict.fromkeys(word.label for word in words if word.label is not None))
    by_box = len(labels) == 1 and all(word.label for word in words)
    return {
        "rule": Rule.PERSON_DISAGREEMENT.value,
        "field": "bbox" if by_box else "label",
        "value": box_text(box_of(row)) if by_box else row.get("label"),
        "candidates": labels,
        "detail": "; ".join(f"{word.reviewer}: {_summary(word)}" for word in words),
    }


def _rejection(word: Word, row: Row) -> Row:
    comment = f": {word.comment}" if word.comment else ""
    return {
        "rule": Rule.PERSON_REJECTED.value,
        "field": "label",
        "value": row.get("label"),
        "candidates": None,
        "detail": f"rejected by {word.reviewer}{comment}",
    }


def _summary(word: Word) -> str:
    if word.label is None:
        return "reject"
    return word.label if word.box is None else f"{word.label} {box_text(word.box)}"


class _Taken:
    """Annotations taken out of the tables, wherever they stood: their rows, and the rows that held them back."""

    def __init__(self, tables: Tables, ids: Iterable[str]) -> None:
        wanted = set(ids)
        standing, held = _standing_rows(tables, wanted), _held_rows(tables, wanted)
        self.rows = standing | held
        self.held: dict[str, list[Row]] = {identity: [] for identity in wanted}
        of_annotations = is_one_of(tables.quarantine["kind"], ["annotation"])
        mine = pc.and_(of_annotations, is_one_of(tables.quarantine["id"], wanted))
        for row in tables.quarantine.filter(mine).to_pylist():
            self.held[row["id"]].append(row)
        self.tables = replace(
            tables,
            annotations=without(tables.annotations, "annotation_id", standing),
            quarantine=tables.quarantine.filter(pc.invert(mine)),
        )
        names = ("image_id", "file_name", "width", "height")
        columns = (tables.images[name].to_pylist() for name in names)
        pictures = {row["image_id"] for row in self.rows.values()}
        self.pictures = {image: rest for image, *rest in zip(*columns, strict=True) if image in pictures}

    def about(self, row: Row) -> Row:
        """Return what identifies an annotation in `quarantine` and in `changes`."""
        name, *_ = self.pictures.get(row["image_id"], (None,))
        own = {"image_id": row["image_id"], "item_key": row["item_key"], "file_name": name}
        return {"kind": "annotation", "id": row["annotation_id"], **own}

    def held_as(self, row: Row) -> str:
        """Return an annotation's row as `quarantine` keeps it."""
        return held_as(row, self.tables.annotations.column_names)

    def size(self, row: Row) -> tuple[int | None, int | None]:
        """Return the size of an annotation's picture in pixels, null where it is not known."""
        _, width, height = self.pictures.get(row["image_id"], (None, None, None))
        return width, height

    def put_back(self, annotations: Sequence[Row], held: Sequence[Row], changes: Sequence[Row]) -> Tables:
        """Return the tables with these rows in place of what was taken out, settled."""
        tables = replace(
            self.tables,
            annotations=appended(self.tables.annotations, annotations),
            quarantine=appended(self.tables.quarantine, held),
            changes=appended(self.tables.changes, changes),
        )
        return resettled(tables, set(self.pictures))


def _standing_rows(tables: Tables, ids: set[str]) -> dict[str, Row]:
    rows = tables.annotations.filter(is_one_of(tables.annotations["annotation_id"], ids)).to_pylist()
    return {row["annotation_id"]: row for row in rows}


def _held_rows(tables: Tables, ids: set[str]) -> dict[str, Row]:
    """Return the annotations in quarantine, as they were held; rows of the first versions kept no copy of theirs."""
    quarantine = tables.quarantine.filter(is_one_of(tables.quarantine["id"], ids))
    columns = (quarantine[name].to_pylist() for name in ("kind", "id", "held"))
    return {
        identity: json.loads(held)
        for kind, identity, held in zip(*columns, strict=True)
        if kind == "annotation" and held is not None
    }
