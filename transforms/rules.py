"""The cleaning rules: pure functions from tables to tables. What a rule takes or changes is always written down.

    clean(tables) = settle(drop_double_detections(normalise_boxes(clip_boxes(tables))))

Rows keep their order: pictures as they came, annotations by picture and rank. Ids and ranks are never renumbered.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from schemas.reasons import Outcome, Rule
from schemas.tables import Tables
from validation.frames import BOX, NORMALISED, compact, floats, picture_of, sizes
from validation.suites import Finding

MIN_SIDE_PX = 1.0
"""A side under one pixel covers no pixel's area; COCO's readers refuse or round such boxes to nothing."""

OVERHANG_TOLERANCE_PX = 0.01
"""Less overhang than this is the rounding of float32 (0.008 px at 65,535 px, the widest JPEG), not a fault."""

SAME_FACE_OVERLAP = 0.7
"""Least intersection over the smaller box's area for two boxes of one face; see `drop_double_detections`."""

SAME_FACE_DISTANCE = 0.25
"""Largest distance of two faces' middles, in sides of the larger box (the root of its area), for one face."""

_RULE_VERSION = 1

Mask = NDArray[np.bool_]
Rows = NDArray[np.intp]


def clean(tables: Tables) -> Tables:
    """Return one shard's tables: boxes cut and normalised, double detections dropped, outcomes settled."""
    return settle(drop_double_detections(normalise_boxes(clip_boxes(tables))))


def clip_boxes(tables: Tables) -> Tables:
    """Cut boxes at their picture's edge (a row of `changes` each); hold back those of which nothing is left.

    A box without any coordinate is a label of the whole picture and stays. Of a picture of unknown size only the left
    and upper edge are known.
    """
    box, boxless = _boxes(tables)
    edges = np.nan_to_num(np.column_stack(sizes(tables, picture_of(tables))), nan=np.inf)
    cut, over = _cut(box, edges)
    # A comparison with NaN is false, so that what is no number counts as degenerate.
    degenerate = ~boxless & ~(np.isfinite(box).all(axis=1) & (cut[:, 2:] >= MIN_SIDE_PX).all(axis=1))
    changed = over & ~boxless & ~degenerate
    if changed.any():
        tables = _record_cuts(tables, np.flatnonzero(changed), box, cut)
        box = np.where(changed[:, None], cut, box)
        tables = replace(tables, annotations=_with_floats(tables.annotations, BOX, box))
    where = np.flatnonzero(degenerate)
    return _hold_annotations(tables, where, Rule.BBOX_DEGENERATE, lambda row: f"in a picture of {_size(edges[row])}")


def normalise_boxes(tables: Tables) -> Tables:
    """Fill cx, cy, w, h (0..1: the box's middle and size over the picture's); null without a box or a size."""
    box, _ = _boxes(tables)
    size = np.column_stack(sizes(tables, picture_of(tables)) * 2)
    middle = np.column_stack((box[:, :2] + box[:, 2:] / 2, box[:, 2:]))
    normalised = np.divide(middle, size, out=np.full_like(middle, np.nan), where=size > 0)
    return replace(tables, annotations=_with_floats(tables.annotations, NORMALISED, normalised))


def drop_double_detections(tables: Tables) -> Tables:
    """Of several boxes that a detector found on one face, keep that of the best score; hold back the others.

    A detector's own suppression compares intersection over union, and lets a box stand that lies inside another twice
    as wide (0.25). Two boxes are the same face when both hold:

    - their intersection is at least 0.7 of the smaller one (nested: 1; equal boxes shifted by a quarter: 0.75);
    - their faces' middles are at most a quarter of the larger box's side apart. The middle is the mean of the five
      landmarks, or of the box where one of the two has none.

    The second keeps two people apart. Cheek to cheek, or one behind another's shoulder, heads of one size stand half a
    side apart or more. A child's face in front of an adult's may lie wholly inside the adult's box, but then low or to
    the side of it: a face whose middle, that is its nose, were covered would not have been found.

    Scores that tie, or are missing, leave it to the rank. Only a model's boxes are compared: labels that people made
    or that were imported are claims of their own.
    """
    first, second = _pairs(picture_of(tables), _detected(tables))
    same = _same_face(tables, first, second)
    if not same.any():
        return tables
    stands = _suppress(first[same], second[same], _priority(tables))
    ids = tables.annotations["annotation_id"]
    return _hold_annotations(
        tables,
        np.array(sorted(stands), np.intp),
        Rule.DUPLICATE_ANNOTATION,
        lambda row: f"the same face as {ids[stands[row]].as_py()}, which scores better",
    )


def hold_back(tables: Tables, findings: Iterable[Finding]) -> Tables:
    """Move the rows with findings to `quarantine`, one row a finding, and settle what is left.

    A picture keeps its row in `images`, as quarantined; its annotations go with it, under the same rule.
    """
    held = list(findings)
    of_pictures = [finding for finding in held if finding.table == "images"]
    of_annotations = [finding for finding in held if finding.table == "annotations"]
    rows = [_picture_reject(tables, finding) for finding in of_pictures]
    rows += _annotation_rejects(tables, [(f.row, f.rule, f.field, f.value, f.detail) for f in of_annotations])
    rule_of = {finding.row: finding for finding in reversed(of_pictures)}  # the first of a picture's findings
    picture = picture_of(tables)
    dragged = np.flatnonzero(np.isin(picture, list(rule_of)))
    rows += _annotation_rejects(tables, [_dragged(int(row), rule_of[int(picture[row])]) for row in dragged])
    gone = np.zeros(tables.annotations.num_rows, bool)
    gone[[finding.row for finding in of_annotations]] = True
    gone[dragged] = True
    outcomes = tables.images["outcome"].to_pylist()
    for row in rule_of:
        outcomes[row] = Outcome.QUARANTINED.value
    tables = replace(
        tables,
        images=_with_column(tables.images, "outcome", outcomes),
        quarantine=_appended(tables.quarantine, rows),
    )
    return settle(_without(tables, gone))


def settle(tables: Tables) -> Tables:
    """Bring `outcome` and `annotations` of the pictures in line with the annotations that are left.

    labelled: at least one is left. quarantined: every one was held back, and not only as doubles. no_face: there was
    none. Duplicates are left alone; a picture that is quarantined stays so, because what was held back stays held back.
    """
    tables = _in_order(tables)
    n = tables.images.num_rows
    picture = picture_of(tables)
    left = np.bincount(picture[picture >= 0], minlength=n)
    before = np.array(tables.images["outcome"].to_pylist(), object)
    counts = np.array(tables.images["annotations"].to_pylist(), object)
    decided = [before == Outcome.DUPLICATE, before == Outcome.QUARANTINED, left > 0, _lost_labels(tables)]
    outcome = np.select(decided, [before, before, Outcome.LABELLED, Outcome.QUARANTINED], Outcome.NO_FACE)
    images = _with_column(tables.images, "outcome", outcome.tolist())
    images = _with_column(images, "annotations", np.where(decided[0], counts, left).tolist())
    standing = tables.annotations["annotation_id"].combine_chunks()
    return replace(tables, images=images, crops=tables.crops.filter(pc.is_in(tables.crops["annotation_id"], standing)))


def _boxes(tables: Tables) -> tuple[NDArray[np.float64], Mask]:
    """Return boxes (n, 4) in pixels, NaN for null and inf for what is no number; and which rows have no box at all."""
    box = np.column_stack([floats(tables.annotations[name]) for name in BOX])
    return box, np.asarray(np.isnan(box).all(axis=1))


def _cut(box: NDArray[np.float64], edges: NDArray[np.float64]) -> tuple[NDArray[np.float64], Mask]:
    """Return boxes (n, 4) cut to 0..`edges` (n, 2), as float32 can hold them; and which reached over an edge."""
    with np.errstate(invalid="ignore"):  # inf, that is "not a number", minus inf
        near, far = box[:, :2], box[:, :2] + box[:, 2:]
        overhang = np.maximum(-near, far - edges).max(axis=1)
        top_left, bottom_right = np.clip(near, 0, edges), np.clip(far, 0, edges)
        cut = np.column_stack((top_left, bottom_right - top_left)).astype(np.float32).astype(np.float64)
    over = np.asarray(overhang > OVERHANG_TOLERANCE_PX, bool)
    return np.where(over[:, None], cut, box), over


def _record_cuts(tables: Tables, rows: Rows, before: NDArray[np.float64], after: NDArray[np.float64]) -> Tables:
    changes = [
        about
        | {
            "field": "bbox",
            "before": compact(before[row], 9),
            "after": compact(after[row], 9),
            "rule": Rule.BBOX_CLIPPED.value,
            "rule_version": _RULE_VERSION,
        }
        for row, about in zip(rows, _about(tables, rows.tolist()), strict=True)
    ]
    return replace(tables, changes=_appended(tables.changes, changes))


def _size(edge: NDArray[np.float64]) -> str:
    return f"{edge[0]:.0f} x {edge[1]:.0f} px" if np.isfinite(edge).all() else "unknown size"


def _detected(tables: Tables) -> Mask:
    """Tell which annotations are boxes of a model."""
    box, _ = _boxes(tables)
    origin = tables.annotations["origin"].cast(pa.string())
    model = pc.fill_null(pc.equal(origin, "model"), False).to_numpy()
    return np.asarray(model & np.isfinite(box).all(axis=1))


def _pairs(picture: NDArray[np.int64], eligible: Mask) -> tuple[Rows, Rows]:
    """Return every pair of eligible rows that share a picture, as two arrays of rows."""
    rows = np.flatnonzero(eligible & (picture >= 0))
    rows = rows[np.argsort(picture[rows], kind="stable")]
    _, start, size = np.unique(picture[rows], return_index=True, return_counts=True)
    # Each row is paired with those after it in its picture.
    after = np.repeat(start + size, size) - np.arange(len(rows)) - 1
    first = np.repeat(np.arange(len(rows)), after)
    step = np.arange(len(first)) - np.repeat(np.cumsum(after) - after, after)
    return rows[first], rows[first + 1 + step]


def _same_face(tables: Tables, first: Rows, second: Rows) -> Mask:
    """Tell for each pair of rows whether their boxes are on the same face."""
    box, _ = _boxes(tables)
    a, b = box[first], box[second]
    overlap = np.minimum(a[:, :2] + a[:, 2:], b[:, :2] + b[:, 2:]) - np.maximum(a[:, :2], b[:, :2])
    shared = np.clip(overlap, 0, None).prod(axis=1)
    areas = np.column_stack((a[:, 2:].prod(axis=1), b[:, 2:].prod(axis=1)))
    faces = _landmark_means(tables.annotations["landmarks"])
    apart = faces[first] - faces[second]
    by_box = np.isnan(apart).any(axis=1)
    apart[by_box] = (a[:, :2] + a[:, 2:] / 2 - b[:, :2] - b[:, 2:] / 2)[by_box]
    near = np.hypot(*apart.T) <= SAME_FACE_DISTANCE * np.sqrt(areas.max(axis=1))
    return np.asarray(near & (shared >= SAME_FACE_OVERLAP * areas.min(axis=1)))


def _landmark_means(column: pa.ChunkedArray) -> NDArray[np.float64]:
    """Return the mean of each row's landmarks, (n, 2) in pixels; NaN where there are none."""
    means = np.full((len(column), 2), np.nan)
    given = column.is_valid().to_numpy()
    values = pc.list_flatten(column).cast(pa.float64()).to_numpy()  # leaves null rows out
    means[given] = values.reshape(-1, 5, 2).mean(axis=1)
    return means


def _priority(tables: Tables) -> NDArray[np.int64]:
    """Return each annotation's place in the order of preference: better score first, then lower rank."""
    score = floats(tables.annotations["detection_score"])
    score[~np.isfinite(score)] = -np.inf
    order = np.lexsort((_integers(tables.annotations["rank"]), -score))
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    return place


def _suppress(first: Rows, second: Rows, place: NDArray[np.int64]) -> dict[int, int]:
    """Return the rows to drop, each with the row that stands for it. Doubles are rare, so this may be a loop."""
    pairs = [(a, b) if place[a] < place[b] else (b, a) for a, b in zip(first.tolist(), second.tolist(), strict=True)]
    stands: dict[int, int] = {}
    # By the better one's place, so that whether it stands is known before it drops another.
    for better, worse in sorted(pairs, key=lambda pair: (place[pair[0]], place[pair[1]])):
        if better not in stands:
            stands.setdefault(worse, better)
    return stands


def _hold_annotations(tables: Tables, rows: Rows, rule: Rule, detail: Callable[[int], str]) -> Tables:
    """Move annotations to `quarantine` under one rule, with their box as the value."""
    if not rows.size:
        return tables
    box = tables.annotations.select(list(BOX)).take(pa.array(rows)).to_pylist()
    told = [
        (row, rule, "bbox", compact(list(its.values())), detail(row))
        for row, its in zip(rows.tolist(), box, strict=True)
    ]
    tables = replace(tables, quarantine=_appended(tables.quarantine, _annotation_rejects(tables, told)))
    return _without(tables, np.isin(np.arange(tables.annotations.num_rows), rows))


def _annotation_rejects(tables: Tables, told: Sequence[tuple[int, str, str, str, str]]) -> list[dict[str, Any]]:
    where = [row for row, *_ in told]
    return [
        about | {"rule": str(rule), "field": field, "value": value, "detail": detail, "held": held}
        for about, held, (_, rule, field, value, detail) in zip(
            _about(tables, where), held_rows(tables.annotations, where), told, strict=True
        )
    ]


def held_rows(annotations: pa.Table, rows: Sequence[int]) -> list[str]:
    """Return annotations as the JSON that `quarantine` keeps of them: columns that are null are left out."""
    return [
        json.dumps({name: value for name, value in row.items() if value is not None}, ensure_ascii=False)
        for row in annotations.take(pa.array(rows, pa.int64())).to_pylist()
    ]


def _about(tables: Tables, rows: Sequence[int]) -> list[dict[str, Any]]:
    """Return what identifies annotations in `quarantine` and in `changes`."""
    own = tables.annotations.select(["annotation_id", "image_id", "item_key"]).take(pa.array(rows, pa.int64()))
    picture = pa.array(picture_of(tables)[np.asarray(rows, np.intp)])
    # A null position takes a null: the name of a picture that is not there.
    names = tables.images["file_name"].take(pc.if_else(pc.less(picture, 0), None, picture))
    return [
        {"kind": "annotation", "id": row.pop("annotation_id"), **row, "file_name": name}
        for row, name in zip(own.to_pylist(), names.to_pylist(), strict=True)
    ]


def _picture_reject(tables: Tables, finding: Finding) -> dict[str, Any]:
    names = ("image_id", "item_key", "file_name")
    own = {name: tables.images[name][finding.row].as_py() for name in names}
    told = {"rule": str(finding.rule), "field": finding.field, "value": finding.value, "detail": finding.detail}
    return {"kind": "image", "id": own["image_id"], **own, **told}


def _dragged(row: int, finding: Finding) -> tuple[int, str, str, str, str]:
    return row, finding.rule, finding.field, finding.value, f"its picture was held back: {finding.detail}"


def _lost_labels(tables: Tables) -> Mask:
    """Tell which pictures had an annotation held back by another rule than that of doubles."""
    kind, rule = (tables.quarantine[name].cast(pa.string()) for name in ("kind", "rule"))
    lost = pc.and_(pc.equal(kind, "annotation"), pc.not_equal(rule, Rule.DUPLICATE_ANNOTATION.value))
    ids = tables.quarantine["image_id"].filter(lost).combine_chunks()
    return np.asarray(pc.is_in(tables.images["image_id"], value_set=ids).to_numpy(), bool)


def _in_order(tables: Tables) -> Tables:
    """Sort annotations by their picture's position, then rank; those without a picture last."""
    picture = picture_of(tables)
    order = np.lexsort((_integers(tables.annotations["rank"]), np.where(picture < 0, tables.images.num_rows, picture)))
    if (order == np.arange(len(order))).all():
        return tables
    return replace(tables, annotations=tables.annotations.take(pa.array(order)))


def _without(tables: Tables, gone: Mask) -> Tables:
    return replace(tables, annotations=tables.annotations.filter(pa.array(~gone)))


def _integers(column: pa.ChunkedArray) -> NDArray[np.int64]:
    return np.asarray(column.cast(pa.int64()).fill_null(0).to_numpy())


def _with_floats(table: pa.Table, names: Sequence[str], values: NDArray[np.float64]) -> pa.Table:
    """Replace columns by those of `values` (n, len(names)), NaN as null, inf (what was no number) as NaN."""
    for name, column in zip(names, values.T, strict=True):
        known = np.where(np.isinf(column), np.nan, column).astype(np.float32)
        table = _with_column(table, name, pa.array(known, mask=np.isnan(column)))
    return table


def _with_column(table: pa.Table, name: str, values: Any) -> pa.Table:
    """Replace a column; its type stays, and a dictionary is made anew, in the order of the rows."""
    field = table.schema.field(name)
    return table.set_column(table.schema.get_field_index(name), field, _typed(values, field.type))


def _typed(values: Any, kind: pa.DataType) -> Any:
    if not pa.types.is_dictionary(kind):
        return pa.array(values, kind)
    return pa.array(values, pa.string()).dictionary_encode()


def _appended(table: pa.Table, rows: list[dict[str, Any]]) -> pa.Table:
    """Return the table with rows after its own; every dictionary is made anew, in the order of the rows."""
    if not rows:
        return table
    grown = pa.concat_tables([table, pa.Table.from_pylist(rows, schema=table.schema)]).combine_chunks()
    for field in table.schema:
        if pa.types.is_dictionary(field.type):
            encoded = grown[field.name].cast(pa.string()).combine_chunks().dictionary_encode()
            grown = grown.set_column(grown.schema.get_field_index(field.name), field, encoded)
    return grown
