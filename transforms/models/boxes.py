"""Boxes: of those that overlap the best, in a fixed order; and any net that gives boxes and scores."""

from collections.abc import Sequence
from typing import Any, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from schemas.errors import UsageError
from schemas.records import Faces
from transforms.models.prepare import prepared
from transforms.models.record import ModelRecord
from transforms.models.runtime import Net


def suppressed(faces: Faces, threshold: float, nms: float) -> Faces:
    """Return the best of each group of overlapping faces, best first, in an order that depends on nothing else."""
    # Also false for what is not a number.
    sound = np.asarray((np.abs(faces.boxes) < 1e6).all(axis=1))
    if not sound.all():
        faces = faces.take(sound)
    if len(faces) > 1:
        # Whole pixels, as OpenCV's own decoder does it.
        faces = faces.take(best(faces.boxes.astype(np.int32), faces.scores, threshold, nms))
    return in_order(faces)


def best(boxes: NDArray[Any], scores: NDArray[np.float32], threshold: float, overlap: float) -> NDArray[np.intp]:
    """Return which of `boxes` (n, 4) x, y, width, height stay: of those over `overlap` (IoU) the best scored."""
    # OpenCV's stubs ask for lists, whose making would cost more than the suppression.
    kept = cv2.dnn.NMSBoxes(cast(Any, boxes), cast(Any, scores), threshold, overlap)
    return np.asarray(kept, np.intp).reshape(-1)


def in_order(faces: Faces) -> Faces:
    """Return the faces best score first; of equal scores the upper, then the left one."""
    if len(faces) < 2:
        return faces
    return faces.take(np.lexsort((faces.boxes[:, 0], faces.boxes[:, 1], -faces.scores)))


class BoxNet:
    """Finds faces with a person's own net: `boxes` x1, y1, x2, y2 in input pixels, `scores`, maybe `landmarks`."""

    def __init__(self, record: ModelRecord, net: Net, threshold: float) -> None:
        assert record.detection is not None  # a detector with weights has thresholds
        missing = set(record.outputs.values()) - set(net.outputs)
        if missing:
            raise UsageError(
                f"{record.path}: outputs: expected names of {', '.join(net.outputs)}, got {', '.join(sorted(missing))}"
            )
        self._net = net
        self._record = record
        self._threshold = threshold
        size = record.input.size
        self.fixed = (size, size) if size else None

    def __call__(self, pictures: Sequence[NDArray[np.uint8]]) -> list[Faces]:
        """Return the faces of each picture (h, w, 3), in its pixels."""
        return [self._one(picture) for picture in pictures]

    def _one(self, picture: NDArray[np.uint8]) -> Faces:
        rows = picture[None]
        if self.fixed:
            rows = np.zeros((1, *self.fixed, 3), np.uint8)
            rows[0, : picture.shape[0], : picture.shape[1]] = picture
        names = list(self._record.outputs)
        found = self._net.run(prepared(rows, self._record.input), [self._record.outputs[name] for name in names])
        outputs = dict(zip(names, found, strict=True))
        corners = self._shaped(outputs["boxes"], "boxes", 4)
        scores = self._shaped(outputs["scores"], "scores", 1)[:, 0]
        landmarks = np.full((len(corners), 5, 2), np.nan, np.float32)
        if "landmarks" in outputs:
            landmarks = self._shaped(outputs["landmarks"], "landmarks", 10).reshape(-1, 5, 2)
        if not len(corners) == len(scores) == len(landmarks):
            raise UsageError(f"{self._record.path}: outputs: expected as many boxes as scores and landmarks")
        boxes = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)
        kept = (scores >= self._threshold) & (boxes[:, 2:] > 0).all(axis=1)
        assert self._record.detection is not None
        return suppressed(Faces(boxes, landmarks, scores).take(kept), self._threshold, self._record.detection.nms)

    def _shaped(self, values: NDArray[np.float32], name: str, width: int) -> NDArray[np.float32]:
        """Return (n, width) for one picture's output of any shape that holds it."""
        if values.size % width or (width > 1 and values.ndim < 2):
            raise UsageError(
                f"{self._record.path}: outputs.{name}: expected shape (n, {width}) or (1, n, {width}),"
                f" got {values.shape}"
            )
        return np.asarray(values, np.float32).reshape(-1, width)
