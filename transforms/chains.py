"""The chains of `changes`: what each value was, and what it is again when one rule is taken out.

The changes of one value of one row are a chain: the first `before` is what came, each later one what the rule before it
had made. To take a rule out is to return to what stood before it. What later rules made of the value falls with it, but
for a box that was carried over to the picture which stands for a copy: that is carried over anew.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import pyarrow as pa

from schemas.reasons import Rule
from transforms.edits import Box, box_text, read_box

COPIES = frozenset({Rule.DUPLICATE_EXACT, Rule.DUPLICATE_NEAR})
"""The rules that give the annotations of one picture to another."""

VALUES = frozenset(
    {
        *(("annotation", field) for field in ("label", "bbox", "confidence", "image_id")),
        ("image", "duplicate_of"),
    }
)
"""What rules change. Other rows of `changes` only record."""

Size = tuple[int | None, int | None]
Key = tuple[str, str, str]
"""A value: the kind and the id of its row, and its field."""


class Change(NamedTuple):
    """A row of `changes`."""

    kind: str
    id: str
    field: str
    before: str | None
    after: str | None
    rule: str


@dataclass(frozen=True)
class Frames:
    """One box in two pictures that show the same, the second perhaps as a mirror does."""

    source: Box
    target: Box
    mirrored: bool

    def carry(self, box: Box) -> Box:
        """Return a box of the first picture as one of the second."""
        (x, y, w, h), (to_x, to_y, to_w, to_h) = self.source, self.target
        across, down = to_w / w if w else 1.0, to_h / h if h else 1.0
        left = x + w - box[0] - box[2] if self.mirrored else box[0] - x
        return to_x + left * across, to_y + (box[1] - y) * down, box[2] * across, box[3] * down


@dataclass(frozen=True)
class Back:
    """What the chains give back when a rule is taken out.

    `annotations` are the values that stand again, by id and field, `copies` those of `duplicate_of`, by picture. `gone`
    are the rows that go, by position, with their rules; `anew` are rows with another `before` and `after`. `raw` are
    the annotations whose box is in its source's own convention again, `ways` how boxes went back to their own pictures,
    `parted` the pictures that were copies and those that stood for them.
    """

    annotations: Mapping[str, Mapping[str, str | None]]
    copies: Mapping[str, str | None]
    gone: Mapping[int, str]
    anew: Mapping[int, tuple[str | None, str | None]]
    raw: frozenset[str]
    ways: Mapping[str, Frames]
    parted: frozenset[str]


def read_changes(table: pa.Table) -> list[Change]:
    """Return the rows of `changes`."""
    return list(map(Change._make, zip(*(table[name].to_pylist() for name in Change._fields), strict=True)))


def backwards(changes: Sequence[Change], rule: str, sizes: Mapping[str, Size]) -> Back:
    """Take a rule out of all chains. `sizes` are those of pictures, by id."""
    hops = {(change.id, change.rule): change for change in changes if _is_move(change)}
    first, parting = _first(changes, rule)
    values: dict[Key, str | None] = {}
    gone: dict[int, str] = {}
    anew: dict[int, tuple[str | None, str | None]] = {}
    raw: set[str] = set()
    ways: dict[str, Frames] = {}
    for at, change in enumerate(changes):
        key = change[:3]
        if at < first.get(key, len(changes)):
            continue
        hop = hops.get((change.id, change.rule)) if change.field == "bbox" else None
        frames = None if hop is None else _frames(change, hop, sizes)
        if frames is not None and (change.id, change.rule) not in parting:
            after = values[key] if change.id in raw else _carried(values[key], frames)
            anew[at] = values[key], after
            values[key] = after
            continue
        gone[at] = change.rule
        values.setdefault(key, change.before)
        if frames is not None:
            ways[change.id] = Frames(frames.target, read_box(values[key]) or frames.source, frames.mirrored)
        if change.rule == Rule.BBOX_CONVENTION:
            raw.add(change.id)
    annotations: dict[str, dict[str, str | None]] = {}
    for (kind, row, field), before in values.items():
        if kind == "annotation":
            annotations.setdefault(row, {})[field] = before
    copies = {row: before for (kind, row, _), before in values.items() if kind == "image"}
    return Back(annotations, copies, gone, anew, frozenset(raw), ways, _parted(changes, gone))


def _first(changes: Sequence[Change], rule: str) -> tuple[dict[Key, int], set[tuple[str, str]]]:
    """Return where each chain is cut, and the moves to another picture, by annotation and rule, that are behind a cut.

    The box goes back with the annotation: its chain is cut where it was carried over, if not before.
    """
    first: dict[Key, int] = {}
    for at, change in enumerate(changes):
        if change.rule == rule and (change.kind, change.field) in VALUES:
            first.setdefault(change[:3], at)
    parting = {
        (change.id, change.rule)
        for at, change in enumerate(changes)
        if _is_move(change) and at >= first.get(change[:3], len(changes))
    }
    for at, change in enumerate(changes):
        if change.field == "bbox" and (change.id, change.rule) in parting:
            first[change[:3]] = min(at, first.get(change[:3], at))
    return first, parting


def _is_move(change: Change) -> bool:
    return change.field == "image_id" and change.rule in COPIES


def _frames(change: Change, hop: Change, sizes: Mapping[str, Size]) -> Frames | None:
    """Return a box before and after it was carried over to another picture; null for one that is none.

    Where it should be without a mirror tells whether there was one.
    """
    source, target = read_box(change.before), read_box(change.after)
    if source is None or target is None:
        return None
    width, to_width = (sizes.get(picture or "", (None, None))[0] for picture in (hop.before, hop.after))
    if not width or not to_width:
        return Frames(source, target, mirrored=False)
    straight, flipped = (left * to_width / width for left in (source[0], width - source[0] - source[2]))
    return Frames(source, target, mirrored=abs(target[0] - flipped) < abs(target[0] - straight))


def _carried(text: str | None, frames: Frames) -> str | None:
    box = read_box(text)
    return None if box is None else box_text(frames.carry(box))


def _parted(changes: Sequence[Change], gone: Mapping[int, str]) -> frozenset[str]:
    moves = (changes[at] for at in gone if changes[at].field in ("image_id", "duplicate_of"))
    sides = (side for move in moves for side in (move.id, move.before, move.after))
    return frozenset(side for side in sides if side is not None)
