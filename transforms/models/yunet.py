"""YuNet: anchors decoded at once, the same faces as cv2.FaceDetectorYN."""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from schemas.errors import UsageError
from schemas.records import Faces
from transforms.models.boxes import suppressed
from transforms.models.record import ModelRecord
from transforms.models.runtime import Net

STRIDES = (8, 16, 32)
"""Pixels between the anchors of the three levels; sides must be multiples of the largest."""
_OUTPUTS = tuple(f"{kind}_{stride}" for stride in STRIDES for kind in ("cls", "obj", "bbox", "kps"))


class Yunet:
    """Finds faces in RGB pictures with a net of YuNet's outputs."""

    def __init__(self, record: ModelRecord, net: Net, threshold: float) -> None:
        assert record.detection is not None  # a detector with weights has thresholds
        missing = set(_OUTPUTS) - set(net.outputs)
        if missing:
            raise UsageError(f"{record.path}: family: 'yunet' needs a net with outputs {', '.join(sorted(missing))}")
        self._net = net
        self._threshold = threshold
        self._nms = record.detection.nms
        self._bgr = record.input.colour == "bgr"
        height, width = net.input_shape[1:3]
        self.fixed = (height, width) if isinstance(height, int) and isinstance(width, int) else None

    def __call__(self, pictures: Sequence[NDArray[np.uint8]]) -> list[Faces]:
        """Return the faces of each picture (h, w, 3), in its pixels."""
        groups: dict[tuple[int, int], list[int]] = {}
        for number, picture in enumerate(pictures):
            groups.setdefault(self._canvas_size(picture), []).append(number)
        found: dict[int, Faces] = {}
        # Only pictures of one canvas share a run: a larger canvas than its own moves the boxes of faces at the edge.
        for size, numbers in groups.items():
            found.update(zip(numbers, self._together([pictures[number] for number in numbers], size), strict=True))
        return [found[number] for number in range(len(pictures))]

    def _together(self, pictures: Sequence[NDArray[np.uint8]], size: tuple[int, int]) -> list[Faces]:
        rows = self._canvas(pictures, size)
        outputs = dict(zip(_OUTPUTS, self._net.run(rows, _OUTPUTS), strict=True))
        return [self._decode({name: each[i] for name, each in outputs.items()}, size[1]) for i in range(len(rows))]

    def _canvas_size(self, picture: NDArray[np.uint8]) -> tuple[int, int]:
        """Return height and width: the next multiples of 32, or what the net takes."""
        last = STRIDES[-1]
        return self.fixed or (-(-picture.shape[0] // last) * last, -(-picture.shape[1] // last) * last)

    def _canvas(self, pictures: Sequence[NDArray[np.uint8]], size: tuple[int, int]) -> NDArray[np.uint8]:
        """Return each picture on a canvas (n, H, W, 3) in the net's colour order, black at the right and below."""
        rows = np.zeros((len(pictures), *size, 3), np.uint8)
        for row, picture in zip(rows, pictures, strict=True):
            part = row[: picture.shape[0], : picture.shape[1]]
            if self._bgr:
                cv2.cvtColor(picture, cv2.COLOR_RGB2BGR, dst=part)
            else:
                part[:] = picture
        return rows

    def _decode(self, outputs: dict[str, NDArray[np.float32]], width: int) -> Faces:
        """Return the faces of one picture's outputs, each (anchors, values); `width` is the canvas's."""
        kept = [self._level(outputs, stride, width // stride) for stride in STRIDES]
        boxes, landmarks, scores = (np.concatenate(parts) for parts in zip(*kept, strict=True))
        return suppressed(Faces(boxes, landmarks, scores), self._threshold, self._nms)

    def _level(
        self, outputs: dict[str, NDArray[np.float32]], stride: int, columns: int
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
        # The threshold first: of thousands of anchors a few survive, and only those are decoded.
        squared = outputs[f"cls_{stride}"][:, 0] * outputs[f"obj_{stride}"][:, 0]
        which = np.flatnonzero(squared >= self._threshold**2)
        cell = np.stack([which % columns, which // columns], axis=1).astype(np.float32)
        box = outputs[f"bbox_{stride}"][which]
        centre = (cell + box[:, :2]) * stride
        size = np.exp(box[:, 2:]) * stride
        points = (outputs[f"kps_{stride}"][which].reshape(-1, 5, 2) + cell[:, None]) * stride
        return np.concatenate([centre - size / 2, size], axis=1), points, np.sqrt(squared[which])
