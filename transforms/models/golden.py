"""Is what was loaded what the record promises? The whole way, from picture to numbers, against stored outputs.

A wrong preprocessing costs 2 to 30 points of accuracy and raises no error, so it is looked for each time. The expected
numbers come from the frameworks the nets were trained in, not from our graphs. An npz holds
- for a classifier: `picture` (H, W, 3) uint8 RGB, `boxes` (n, 4), `landmarks` (n, 5, 2); the `crops` that come of them,
  (n, S, S) gray or (n, S, S, 3) RGB; `labels` (k,), and `probabilities` (n, k) of those crops, columns as `labels`;
- for landmarks: the same but `labels` and `probabilities`, and `points` (n, k, 2) of those crops, in 0..1 of a crop;
- for a detector: `picture`, `boxes`, `landmarks`, `scores`, and `pixels`, how far a coordinate may be off on a CPU.
Crops and probabilities are compared one after the other: another build of OpenCV rounds single pixels otherwise, which
a net in doubt answers with some hundredths, while a wrong contract moves most pixels.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from schemas.errors import RunError, UsageError
from schemas.records import Faces
from transforms.models.crops import crop_faces
from transforms.models.record import ModelRecord
from transforms.models.runtime import Device

CROP_GAP = 0.25
"""Mean difference of a crop's values of 0..255. Single roundings give less than .1; the mildest wrong contract, CUBIC
for LINEAR, 1.5 in the worst of the built-in crops."""
SCORE_GAP = 0.02
"""How far a detector's score may be off; the coordinates are the sharper check."""


def check_classifier(
    record: ModelRecord, classify: Callable[[NDArray[np.uint8]], NDArray[np.float32]], device: Device
) -> None:
    """Raise RunError where crop, colour, resize, scale, net and label order do not give the golden probabilities."""
    stored = _load(record, ("picture", "boxes", "landmarks", "crops", "labels", "probabilities"))
    if stored is None:
        return
    _check_crops(record, stored)
    labels = [str(label) for label in stored["labels"]]
    if sorted(labels) != sorted(record.labels):
        raise _mismatch(record, f"the labels {', '.join(sorted(labels))}", ", ".join(sorted(record.labels)))
    expected = stored["probabilities"][:, [labels.index(label) for label in record.labels]]
    _compare(record, "probabilities", expected, classify(stored["crops"]), device.tolerance)


def check_landmarks(
    record: ModelRecord, find: Callable[[NDArray[np.uint8]], NDArray[np.float32]], device: Device
) -> None:
    """Raise RunError where crop, colour, scale and net do not give the golden points."""
    stored = _load(record, ("picture", "boxes", "landmarks", "crops", "points"))
    if stored is None:
        return
    _check_crops(record, stored)
    _compare(record, "points in parts of the crop", stored["points"], find(stored["crops"]), device.tolerance)


def check_detector(
    record: ModelRecord, detect: Callable[[Sequence[NDArray[np.uint8]]], list[Faces]], device: Device
) -> None:
    """Raise RunError where the golden picture's faces are not found where they are."""
    stored = _load(record, ("picture", "boxes", "landmarks", "scores", "pixels"))
    if stored is None:
        return
    (faces,) = detect([stored["picture"]])
    if len(faces) != len(stored["boxes"]):
        raise _mismatch(record, f"{len(stored['boxes'])} face(s)", f"{len(faces)}")
    # A GPU computes with fewer bits; half a pixel there is as good as a hundredth here.
    pixels = float(stored["pixels"]) if device.name == "cpu" else max(1.0, float(stored["pixels"]))
    _compare(record, "boxes in pixels", stored["boxes"], faces.boxes, pixels)
    _compare(record, "landmarks in pixels", stored["landmarks"], faces.landmarks, pixels)
    _compare(record, "scores", stored["scores"], faces.scores, SCORE_GAP)


def _check_crops(record: ModelRecord, stored: dict[str, NDArray[Any]]) -> None:
    assert record.crop is not None  # only a detector's record has none
    boxes = np.asarray(stored["boxes"], np.float32)
    faces = Faces(boxes, np.asarray(stored["landmarks"], np.float32), np.ones(len(boxes), np.float32))
    found = crop_faces(stored["picture"], faces, record.crop, record.input)
    if found.shape != stored["crops"].shape:
        raise _mismatch(record, f"crops of shape {stored['crops'].shape}", str(found.shape))
    gaps = np.abs(found.astype(np.int16) - stored["crops"]).reshape(len(found), -1).mean(axis=1)
    if gaps.max() > CROP_GAP:
        raise _mismatch(
            record,
            f"crops that differ by at most {CROP_GAP:g} gray values on average",
            f"{gaps.max():.2f} in crop {gaps.argmax()}",
        )


def _load(record: ModelRecord, needed: Sequence[str]) -> dict[str, NDArray[Any]] | None:
    if record.golden is None:
        return None
    try:
        with np.load(record.golden, allow_pickle=False) as stored:
            arrays = dict(stored)
    except (OSError, ValueError, EOFError) as error:
        raise UsageError(
            f"{record.path}: golden: expected an npz file, cannot read {record.golden}: {error}"
        ) from error
    for name in needed:
        if name not in arrays:
            raise UsageError(f"{record.golden}: expected an array {name!r}, it is not there")
    return arrays


def _compare(
    record: ModelRecord, what: str, expected: NDArray[Any], found: NDArray[np.float32], tolerance: float
) -> None:
    if expected.shape != found.shape:
        raise _mismatch(record, f"{what} of shape {expected.shape}", str(found.shape))
    gap = np.abs(expected.astype(np.float64) - found)
    # Not a number on both sides is agreement; on one side it is the worst gap there is.
    gap = np.where(np.isnan(expected) & np.isnan(found), 0.0, np.where(np.isnan(gap), np.inf, gap))
    if gap.size and gap.max() > tolerance:
        worst = np.unravel_index(gap.argmax(), gap.shape)
        where = f"{what}[{', '.join(str(i) for i in worst)}]"
        raise _mismatch(record, f"{where} = {expected[worst]:.4f} (within {tolerance:g})", f"{found[worst]:.4f}")


def _mismatch(record: ModelRecord, expected: str, got: str) -> RunError:
    return RunError(
        f"model {record.name!r} does not give its golden outputs: expected {expected}, got {got}. Its record"
        f" ({record.path}), its weights or its built graph is not what it was checked with: compare crop, colour,"
        " interpolation, scale, mean, std and label order"
    )
