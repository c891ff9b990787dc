"""From what the models found to the small rows of the tables, and from many batches' rows to one shard's."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from schemas.reasons import Outcome
from schemas.records import Failure, ImageRef, Moment, PlannedItem, Repair, Standing, image_id
from schemas.tables import CROPS, TABLES, Tables, schema
from schemas.vocabulary import MAX_MODEL_CONFIDENCE
from transforms.batch import Aligned
from transforms.models.classifiers import Classifier
from transforms.models.pose import face_geometry, head_pose
from transforms.models.quality import quality
from transforms.storage import printable

ITEM = "item"
"""A column of unfinished rows only, by which a shard is sorted: the item's number in its plan, then the frame's."""

REST = "rest"
"""A column of unfinished failures only: whether what stands behind it in the same video is lost with it."""

_FRAMES = 2**32
"""More than there are frames in a video."""

_Rows = dict[str, list[dict[str, Any]]]


def batch_rows(
    pictures: Sequence[Aligned],
    probabilities: Sequence[NDArray[np.float32]],
    points: Sequence[NDArray[np.float32] | None],
    known_copies: Sequence[PlannedItem],
    classifier: Classifier,
) -> Tables:
    """Return the unfinished rows of one batch: box columns 0..1 are null and outcomes provisional until clean.

    `probabilities` are (n, k) for each picture, `points` (n, 68, 2) or None.
    """
    rows: _Rows = {name: [] for name in (*TABLES, CROPS)}
    for picture, chances, places in zip(pictures, probabilities, points, strict=True):
        _picture_rows(rows, picture, chances, places, classifier)
    for item in known_copies:
        assert item.stands is not None
        rows["images"].append(_copy_row(item.ref, item.sha256, item.stands))
    return _tables(rows, classifier.labels)


def failure_rows(failure: Failure, labels: Sequence[str]) -> Tables:
    """Return the row of one failed item."""
    ref = failure.ref
    row = {
        # Before the frame of its number, which it stands for.
        ITEM: _place(ref, failure.frame or 0) - failure.rest,
        REST: failure.rest,
        "item_key": ref.key,
        "root": ref.root,
        "source_uri": printable(ref.uri),
        "file_name": printable(ref.file_name),
        "step": failure.step,
        "error": failure.error,
        "message": printable(failure.message),
        "attempts": ref.attempts + 1,
    }
    return _tables({name: [row] if name == "failures" else [] for name in (*TABLES, CROPS)}, labels)


def gather(parts: Iterable[Tables]) -> Tables:
    """Return one shard's rows in plan order, whatever order the parts arrived in."""
    listed = list(parts)
    tables = {name: _in_order([getattr(part, name) for part in listed]) for name in (*TABLES, CROPS)}
    tables["failures"], broken = _one_failure_a_video(tables["failures"])
    for key, place in broken.items():
        tables = {name: _until(table, key, place) for name, table in tables.items()}
    return Tables(**{name: table.drop_columns([ITEM]) for name, table in tables.items()})


def _in_order(parts: list[pa.Table]) -> pa.Table:
    table = pa.concat_tables(parts).unify_dictionaries()
    # A stable sort keeps the faces of one picture in their rank.
    order = np.argsort(table[ITEM].to_numpy(), kind="stable")
    return table.take(pa.array(order))


def _one_failure_a_video(failures: pa.Table) -> tuple[pa.Table, dict[str, int]]:
    """Keep one failure of decoding of each item, the one where it ends if there is one; return also these places.

    A video that breaks is its good frames and one failed item, into however many clips it was cut.
    """
    rows = failures.select(["item_key", "step", ITEM, REST]).to_pylist()
    kept: dict[str, int] = {}
    broken: dict[str, int] = {}
    for number, row in enumerate(rows):
        key = row["item_key"]
        if row["step"] == "decode" and (key not in kept or (row[REST] and key not in broken)):
            kept[key] = number
        if row[REST]:
            broken.setdefault(key, row[ITEM])
    mask = [row["step"] != "decode" or kept[row["item_key"]] == number for number, row in enumerate(rows)]
    return failures.filter(pa.array(mask, pa.bool_())).drop_columns([REST]), broken


def _until(table: pa.Table, key: str, place: int) -> pa.Table:
    """Return the table without the rows of an item that stand behind `place`, where it broke."""
    behind = pc.and_(pc.equal(table["item_key"], key), pc.greater(table[ITEM], place))
    return table.filter(pc.invert(behind))


def _place(ref: ImageRef, frame: int) -> int:
    return ref.number * _FRAMES + frame


def _picture_rows(
    rows: _Rows,
    picture: Aligned,
    chances: NDArray[np.float32],
    points: NDArray[np.float32] | None,
    classifier: Classifier,
) -> None:
    ref = picture.item.ref
    moment = picture.moment
    place = _place(ref, moment.frame if moment else 0)
    identity = image_id(picture.sha256, ref.root, ref.file_name, moment.pts if moment else None)
    rows["images"].append(
        _image_row(ref, identity, picture.sha256)
        | (_frame_columns(ref, picture.sha256, moment) if moment else {})
        | {
            "width": picture.width,
            "height": picture.height,
            "outcome": Outcome.LABELLED if len(picture.faces) else Outcome.NO_FACE,
            "annotations": len(picture.faces),
            "small_faces": picture.small,
            "fingerprint": picture.fingerprint,
        }
    )
    rows["changes"] += [_repair_row(ref, identity, repair) for repair in (ref.sent.repairs if ref.sent else ())]
    stands = Standing(identity, picture.width, picture.height)
    rows["images"] += [_copy_row(copy, picture.sha256, stands) for copy in picture.item.copies]
    brightness, contrast, sharpness = quality(picture.crops)
    scale, rotation = face_geometry(picture.faces.landmarks)
    pose = None if points is None else head_pose(points, (picture.width, picture.height))
    for rank in range(len(picture.faces)):
        annotation = f"{identity}-{rank}"
        own = {ITEM: place, "annotation_id": annotation, "image_id": identity, "item_key": ref.key}
        x, y, w, h = picture.faces.boxes[rank].tolist()
        best = int(chances[rank].argmax())
        landmarks = picture.faces.landmarks[rank].reshape(10)
        rows["annotations"].append(
            own
            | {
                "rank": rank,
                "origin": "model",
                "bbox_x": x,
                "bbox_y": y,
                "bbox_w": w,
                "bbox_h": h,
                "detection_score": _known(picture.faces.scores[rank]),
                "landmarks": None if np.isnan(landmarks).any() else landmarks.tolist(),
                "landmarks_68": None if points is None else points[rank].reshape(136).tolist(),
                "face_scale": _known(scale[rank]),
                "face_rotation": _known(rotation[rank]),
                **({} if pose is None else dict(zip(("yaw", "pitch", "roll"), map(_known, pose[rank]), strict=True))),
                "label": classifier.labels[best],
                "confidence": min(float(chances[rank, best]), MAX_MODEL_CONFIDENCE),
                "brightness": float(brightness[rank]),
                "contrast": float(contrast[rank]),
                "sharpness": float(sharpness[rank]),
                "model": f"{classifier.record.name}@{classifier.sha256[:12]}",
            }
            | {f"p_{name}": float(p) for name, p in zip(classifier.labels, chances[rank], strict=True)}
        )
        if picture.keepsakes:
            rows[CROPS].append(own | {"crop": picture.keepsakes[rank]})


def _known(value: np.floating[Any]) -> float | None:
    """Return the number, None where it is not one: null means "not computed"."""
    return None if np.isnan(value) else float(value)


def _frame_columns(ref: ImageRef, sha256: str, moment: Moment) -> dict[str, Any]:
    """Return what a frame has beyond a picture; the file's time is taken for that of PTS 0."""
    return {
        ITEM: _place(ref, moment.frame),
        "video_id": image_id(sha256, ref.root, ref.file_name),
        "frame_index": moment.frame,
        "pts_ms": moment.pts_ms,
        "timestamp_ms": None if ref.mtime_ns is None else ref.mtime_ns // 1_000_000 + round(moment.pts_ms),
    }


def _image_row(ref: ImageRef, identity: str, sha256: str) -> dict[str, Any]:
    return {
        ITEM: _place(ref, 0),
        "image_id": identity,
        "item_key": ref.key,
        "root": ref.root,
        "file_name": printable(ref.file_name),
        "source_uri": printable(ref.uri),
        "sha256": sha256,
        "size_bytes": ref.size,
        "timestamp_ms": None if ref.mtime_ns is None else ref.mtime_ns // 1_000_000,
        **({"source_id": ref.sent.source_id, "frame_index": ref.sent.frame_index} if ref.sent else {}),
    }


def _repair_row(ref: ImageRef, identity: str, repair: Repair) -> dict[str, Any]:
    return {
        ITEM: _place(ref, 0),
        "kind": "image",
        "id": identity,
        "image_id": identity,
        "item_key": ref.key,
        "file_name": printable(ref.file_name),
        "field": repair.field,
        "before": repair.before,
        "after": repair.after,
        "rule": repair.rule,
        "rule_version": 1,
    }


def _copy_row(ref: ImageRef, sha256: str, stands: Standing) -> dict[str, Any]:
    return _image_row(ref, image_id(sha256, ref.root, ref.file_name), sha256) | {
        "width": stands.width,
        "height": stands.height,
        "outcome": Outcome.DUPLICATE,
        "duplicate_of": stands.image_id,
        "annotations": 0,
        "small_faces": 0,
    }


def _tables(rows: _Rows, labels: Sequence[str]) -> Tables:
    return Tables(**{name: _table(name, rows[name], labels) for name in (*TABLES, CROPS)})


def _table(name: str, rows: list[dict[str, Any]], labels: Sequence[str]) -> pa.Table:
    unfinished = schema(name, labels).insert(0, pa.field(ITEM, pa.int64()))
    if name == "failures":
        unfinished = unfinished.insert(1, pa.field(REST, pa.bool_()))
    return pa.Table.from_pylist(rows, schema=unfinished)
