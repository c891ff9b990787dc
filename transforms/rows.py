"""From what the models found to the small rows of the tables, and from many batches' rows to one shard's."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from schemas.reasons import Outcome
from schemas.records import Failure, ImageRef, PlannedItem, Standing, image_id
from schemas.tables import CROPS, TABLES, Tables, schema
from schemas.vocabulary import MAX_MODEL_CONFIDENCE
from transforms.batch import Aligned
from transforms.models.classifiers import Classifier
from transforms.models.quality import quality
from transforms.storage import printable

ITEM = "item"
"""A column of unfinished rows only: the item's number in its plan, by which a shard is sorted."""

_Rows = dict[str, list[dict[str, Any]]]


def batch_rows(
    pictures: Sequence[Aligned],
    probabilities: Sequence[NDArray[np.float32]],
    known_copies: Sequence[PlannedItem],
    classifier: Classifier,
) -> Tables:
    """Return the unfinished rows of one batch: box columns 0..1 are null and outcomes provisional until clean."""
    rows: _Rows = {name: [] for name in (*TABLES, CROPS)}
    for picture, chances in zip(pictures, probabilities, strict=True):
        _picture_rows(rows, picture, chances, classifier)
    for item in known_copies:
        assert item.stands is not None
        rows["images"].append(_copy_row(item.ref, item.sha256, item.stands))
    return _tables(rows, classifier.labels)


def failure_rows(failure: Failure, labels: Sequence[str]) -> Tables:
    """Return the row of one failed item."""
    ref = failure.ref
    row = {
        ITEM: ref.number,
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
    return Tables(**{name: _in_order([getattr(part, name) for part in listed]) for name in (*TABLES, CROPS)})


def _in_order(parts: list[pa.Table]) -> pa.Table:
    table = pa.concat_tables(parts).unify_dictionaries()
    # A stable sort keeps the faces of one picture in their rank.
    order = np.argsort(table[ITEM].to_numpy(), kind="stable")
    return table.take(pa.array(order)).drop_columns([ITEM])


def _picture_rows(rows: _Rows, picture: Aligned, chances: NDArray[np.float32], classifier: Classifier) -> None:
    ref = picture.item.ref
    identity = image_id(picture.sha256, ref.root, ref.file_name)
    rows["images"].append(
        _image_row(ref, identity, picture.sha256)
        | {
            "width": picture.width,
            "height": picture.height,
            "outcome": Outcome.LABELLED if len(picture.faces) else Outcome.NO_FACE,
            "annotations": len(picture.faces),
            "small_faces": picture.small,
        }
    )
    stands = Standing(identity, picture.width, picture.height)
    rows["images"] += [_copy_row(copy, picture.sha256, stands) for copy in picture.item.copies]
    brightness, contrast, sharpness = quality(picture.crops)
    for rank in range(len(picture.faces)):
        annotation = f"{identity}-{rank}"
        own = {ITEM: ref.number, "annotation_id": annotation, "image_id": identity, "item_key": ref.key}
        x, y, w, h = picture.faces.boxes[rank].tolist()
        best = int(chances[rank].argmax())
        landmarks = picture.faces.landmarks[rank].reshape(10)
        score = float(picture.faces.scores[rank])
        rows["annotations"].append(
            own
            | {
                "rank": rank,
                "origin": "model",
                "bbox_x": x,
                "bbox_y": y,
                "bbox_w": w,
                "bbox_h": h,
                "detection_score": None if np.isnan(score) else score,
                "landmarks": None if np.isnan(landmarks).any() else landmarks.tolist(),
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


def _image_row(ref: ImageRef, identity: str, sha256: str) -> dict[str, Any]:
    return {
        ITEM: ref.number,
        "image_id": identity,
        "item_key": ref.key,
        "root": ref.root,
        "file_name": printable(ref.file_name),
        "source_uri": printable(ref.uri),
        "sha256": sha256,
        "size_bytes": ref.size,
        "timestamp_ms": None if ref.mtime_ns is None else ref.mtime_ns // 1_000_000,
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
    return Tables(**{name: _table(rows[name], schema(name, labels)) for name in (*TABLES, CROPS)})


def _table(rows: list[dict[str, Any]], finished: pa.Schema) -> pa.Table:
    return pa.Table.from_pylist(rows, schema=finished.insert(0, pa.field(ITEM, pa.int32())))
