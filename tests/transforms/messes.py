"""A hand-made cleaning: the tables of imported labels, and rules that change and hold back what a test names.

It keeps the ledger as the real rules do, without their judgement.
"""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pyarrow as pa
from hypothesis import strategies as st

from schemas.reasons import Rule
from schemas.tables import Tables
from tests.builders import face, picture, tables
from transforms.edits import Box, Row, box_of, box_text, held_as, read_box, resettled, with_box

NAMES = ("cat", "dog", "bird")

Size = tuple[int, int]


def label(name: str | None = "cat", box: Any = (10, 20, 100, 120), **others: Any) -> Row:
    """Return an imported label for a box, or for the whole picture."""
    row = face((None,) * 4 if box is None else box, name, None, None, **{"origin": "import", "model": None} | others)
    kept = {name: value for name, value in row.items() if not name.startswith("p_")}
    return kept | {"landmarks": None, "brightness": None, "contrast": None, "sharpness": None, "source": "in.json"}


class Mess:
    """Labels that rules work on; `tables()` is what they made of them."""

    def __init__(self, *pictures: Row) -> None:
        made = tables(*pictures)
        self.empty = made
        self.images = made.images.to_pylist()
        self.annotations: dict[str, Row] = {
            row["annotation_id"]: self._shares(row) for row in made.annotations.to_pylist()
        }
        self.held: dict[str, Row] = {}
        self.quarantine: list[Row] = []
        self.changes: list[Row] = []

    def tables(self) -> Tables:
        """Return the tables, settled."""
        rows = {
            "images": self.images,
            "annotations": list(self.annotations.values()),
            "quarantine": [
                row
                | (
                    {"held": held_as(self.held[row["id"]], self.empty.annotations.column_names)}
                    if row["id"] in self.held
                    else {}
                )
                for row in self.quarantine
            ],
            "changes": self.changes,
        }
        made = {name: pa.Table.from_pylist(own, schema=getattr(self.empty, name).schema) for name, own in rows.items()}
        return resettled(replace(self.empty, **made), {row["image_id"] for row in self.images})

    def ids(self) -> list[str]:
        """Return the ids of the labels, in the order in which they were given."""
        return sorted(
            {*self.annotations, *self.held}, key=lambda identity: (self._own(identity)["file_name"], identity)
        )

    def change(self, identity: str, rule: Rule, **value: Any) -> None:
        """Let a rule change the label, the confidence or the box of what stands; a label is changed once at most."""
        [(field, after)] = value.items()
        row = self.annotations[identity]
        before = box_text(box_of(row)) if field == "bbox" else row[field]
        self._note(identity, field, before, box_text(after) if field == "bbox" else after, rule)
        made = with_box(row, after, self._size(row)) if field == "bbox" else row | {field: after}
        self.annotations[identity] = made

    def hold(self, identity: str, *rules: Rule, candidates: list[str] | None = None) -> None:
        """Let rules hold a label back."""
        row = self.annotations.pop(identity)
        self.held[identity] = row
        about = {"kind": "annotation", "id": identity, "image_id": row["image_id"], "item_key": row["item_key"]}
        why = {"field": "label", "value": row["label"], "candidates": candidates, "detail": "because"}
        name = self._picture(row["image_id"])["file_name"]
        self.quarantine += [about | why | {"rule": rule.value, "file_name": name} for rule in rules]

    def hold_picture(self, image: str, rule: Rule) -> None:
        """Let a rule hold a picture back, and with it all that stands on it."""
        own = self._picture(image)
        about = {"kind": "image", "id": image, "image_id": image, "item_key": own["item_key"]}
        self.quarantine.append(about | {"rule": rule.value, "file_name": own["file_name"], "detail": "because"})
        for identity in [identity for identity, row in self.annotations.items() if row["image_id"] == image]:
            self.hold(identity, rule)

    def merge(self, copy: str, standing: str, rule: Rule, *, mirrored: bool = False) -> None:
        """Let a picture be a copy of another, which gets the labels that stand on it."""
        source, target = self._picture(copy), self._picture(standing)
        about = {"kind": "image", "id": copy, "image_id": copy, "item_key": source["item_key"]}
        moved = {"field": "duplicate_of", "before": None, "after": standing, "rule": rule.value}
        self.changes.append(about | moved | {"file_name": source["file_name"], "rule_version": 1})
        source["duplicate_of"] = standing
        for identity, row in list(self.annotations.items()):
            if row["image_id"] != copy:
                continue
            box = box_of(row)
            if box is not None and rule is Rule.DUPLICATE_NEAR:
                there = _carried(
                    box, (source["width"], source["height"]), (target["width"], target["height"]), mirrored
                )
                if box_text(there) != box_text(box):
                    self._note(identity, "bbox", box_text(box), box_text(there), rule)
                row = with_box(row, there, (target["width"], target["height"]))
            self._note(identity, "image_id", copy, standing, rule)
            self.annotations[identity] = row | {"image_id": standing}

    def stands(self, image: str) -> bool:
        """Tell whether labels can stand on a picture."""
        held = any(row["kind"] == "image" and row["id"] == image for row in self.quarantine)
        return self._picture(image)["duplicate_of"] is None and not held

    def _note(self, identity: str, field: str, before: Any, after: Any, rule: Rule) -> None:
        row = self.annotations[identity]
        about = {"kind": "annotation", "id": identity, "image_id": row["image_id"], "item_key": row["item_key"]}
        texts = {"before": None if before is None else str(before), "after": None if after is None else str(after)}
        about |= {"file_name": self._own(identity)["file_name"]}
        self.changes.append(about | texts | {"field": field, "rule": rule.value, "rule_version": 1, "confidence": 1.0})

    def _own(self, identity: str) -> Row:
        return self._picture(identity.rpartition("-")[0])

    def _picture(self, image: str) -> Row:
        return next(row for row in self.images if row["image_id"] == image)

    def _size(self, row: Row) -> Size:
        own = self._picture(row["image_id"])
        return own["width"], own["height"]

    def _shares(self, row: Row) -> Row:
        return with_box(row, box_of(row), self._size(row))


def _carried(box: Box, size: Size, to: Size, mirrored: bool) -> Box:
    """Return a box of a picture as one of a copy of it that has another size."""
    across, down = to[0] / size[0], to[1] / size[1]
    x, y, w, h = box
    left = size[0] - x - w if mirrored else x
    told = read_box(box_text((left * across, y * down, w * across, h * down)))
    assert told is not None
    return told


def state(of: Tables) -> dict[str, Any]:
    """Return what stands of each label: its picture, label, confidence, origin, box and the box's shares."""
    names = ("image_id", "label", "confidence", "origin", "bbox_x", "bbox_y", "bbox_w", "bbox_h", "cx", "cy", "w", "h")
    return {row["annotation_id"]: [row[name] for name in names] for row in of.annotations.to_pylist()}


def held_under(of: Tables) -> dict[str, list[str]]:
    """Return the rules that hold each row back."""
    found: dict[str, list[str]] = {}
    for row in of.quarantine.to_pylist():
        found.setdefault(row["id"], []).append(row["rule"])
    return found


_LABEL_RULES = (Rule.LABEL_CANONICAL, Rule.LABEL_ALIAS, Rule.LABEL_SPELLING)
_BOX_RULES = (Rule.BBOX_CORNERS, Rule.BBOX_CLIPPED)
_HOLDING = (Rule.LABEL_NEEDS_REVIEW, Rule.BBOX_OUTLIER, Rule.BBOX_DEGENERATE, Rule.REFERENCE_NO_IMAGE)
_PAIRWISE = (Rule.DUPLICATE_ANNOTATION, Rule.LABEL_CONFLICT)

_side = st.integers(1, 60).map(float)
boxes = st.one_of(st.none(), st.tuples(_side, _side, _side, _side))


@st.composite
def messes(draw: st.DrawFn) -> tuple[Mess, Tables]:
    """Draw a mess, worked over by some rules; and the tables as they were before."""
    sizes = st.sampled_from([(120, 120), (240, 240), (60, 180)])
    rows = []
    for name in ("a.jpg", "b.jpg", "c.jpg")[: draw(st.integers(1, 3))]:
        labels = draw(st.lists(st.tuples(st.sampled_from([*NAMES, "catt", None]), boxes), max_size=3))
        width, height = draw(sizes)
        rows.append(picture(name, *(label(*each) for each in labels), width=width, height=height))
    mess = Mess(*rows)
    before = mess.tables()
    for _ in range(draw(st.integers(0, 8))):
        draw(st.sampled_from([_rename, _reshape, _hold, _merge, _hold_picture, _part]))(draw, mess)
    return mess, before


_Draw = Callable[[st.SearchStrategy[Any]], Any]


def _rename(draw: _Draw, mess: Mess) -> None:
    named = {row["id"] for row in mess.changes if row["field"] == "label"}
    if free := [identity for identity in sorted(mess.annotations) if identity not in named]:
        mess.change(
            draw(st.sampled_from(free)), draw(st.sampled_from(_LABEL_RULES)), label=draw(st.sampled_from(NAMES))
        )


def _reshape(draw: _Draw, mess: Mess) -> None:
    boxed = [identity for identity, row in sorted(mess.annotations.items()) if box_of(row) is not None]
    if not boxed:
        return
    identity = draw(st.sampled_from(boxed))
    first = not any(row["id"] == identity and row["field"] == "bbox" for row in mess.changes)
    rule = Rule.BBOX_CONVENTION if first and draw(st.booleans()) else draw(st.sampled_from(_BOX_RULES))
    mess.change(identity, rule, bbox=draw(boxes.filter(bool)))


def _hold(draw: _Draw, mess: Mess) -> None:
    if mess.annotations:
        rules = draw(st.lists(st.sampled_from(_HOLDING), min_size=1, max_size=2, unique=True))
        mess.hold(draw(st.sampled_from(sorted(mess.annotations))), *rules)


def _merge(draw: _Draw, mess: Mess) -> None:
    targets = {row["duplicate_of"] for row in mess.images}
    free = [row["image_id"] for row in mess.images if mess.stands(row["image_id"])]
    copies = [image for image in free if image not in targets]
    if copies and len(free) > 1:
        copy = draw(st.sampled_from(copies))
        standing = draw(st.sampled_from([image for image in free if image != copy]))
        rule = draw(st.sampled_from([Rule.DUPLICATE_EXACT, Rule.DUPLICATE_NEAR]))
        mess.merge(copy, standing, rule, mirrored=draw(st.booleans()))


def _hold_picture(draw: _Draw, mess: Mess) -> None:
    targets = {row["duplicate_of"] for row in mess.images}
    free = [row["image_id"] for row in mess.images if mess.stands(row["image_id"]) and row["image_id"] not in targets]
    if free:
        mess.hold_picture(draw(st.sampled_from(free)), draw(st.sampled_from([Rule.IMAGE_SIZE, Rule.IMAGE_IDENTITY])))


def _part(draw: _Draw, mess: Mess) -> None:
    if mess.annotations:
        mess.hold(draw(st.sampled_from(sorted(mess.annotations))), draw(st.sampled_from(_PAIRWISE)))


def plain(of: Tables) -> dict[str, list[str]]:
    """Return the rows of all tables as texts without their order, to be compared."""
    return {
        name: sorted(json.dumps(row, default=str, sort_keys=True) for row in table.to_pylist())
        for name, table in of.named()
    }
