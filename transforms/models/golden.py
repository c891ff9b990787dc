"""Is what was loaded what the record promises? The whole way, from picture to numbers, against stored outputs.

A wrong preprocessing costs 2 to 30 points of accuracy and raises no error, so it is looked for each time. The expected
numbers come from the frameworks the nets were trained in, not from our graphs. An npz holds
- for a classifier: `picture` (H, W, 3) uint8 RGB, `boxes` (n, 4), `landmarks` (n, 5, 2), `labels` (k,), and
  `probabilities` (n, k) with its columns in the order of `labels`;
- for a detector: `picture`, `boxes`, `landmarks`, `scores`, and `pixels`, how far a coordinate may be off.
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


def check_classifier(
    record: ModelRecord, classify: Callable[[NDArray[np.uint8]], NDArray[np.float32]], device: Device
) -> None:
    """Raise RunError where crop, colour, resize, scale, net and label order do not give the golden probabilities."""
    stored = _load(record, ("picture", "boxes", "landmarks", "labels", "probabilities"))
    if stored is None:
        return
    assert record.crop is not None  # a classifier's record always has one
    boxes = np.asarray(stored["boxes"], np.float32)
    faces = Faces(boxes, np.asarray(stored["landmarks"], np.float32), np.ones(len(boxes), np.float32))
    found = classify(crop_faces(stored["picture"], faces, record.crop, record.input))
    labels = [str(label) for label in stored["labels"]]
    if sorted(labels) != sorted(record.labels):
        raise _mismatch(record, f"labels {', '.join(sorted(labels))}", ", ".join(sorted(record.labels)))
    expected = stored["probabilities"][:, [labels.index(label) for label in record.labels]]
    _compare(record, "probabilities", expected, found, device.tolerance)


def check_detector(record: ModelRecord, detect: Callable[[Sequence[NDArray[np.uint8]]], list[Faces]]) -> None:
    """Raise RunError where the golden picture's faces are not found where they are."""
    stored = _load(record, ("picture", "boxes", "landmarks", "scores", "pixels"))
    if stored is None:
        return
    (faces,) = detect([stored["picture"]])
    if len(faces) != len(stored["boxes"]):
        raise _mismatch(record, f"{len(stored['boxes'])} face(s)", f"{len(faces)}")
    pixels = float(stored["pixels"])
    _compare(record, "boxes in pixels", stored["boxes"], faces.boxes, pixels)
    _compare(record, "landmarks in pixels", stored["landmarks"], faces.landmarks, pixels)
    _compare(record, "scores", stored["scores"], faces.scores, 0.02)


def check_net(record: ModelRecord, name: str, run: Callable[[NDArray[Any], Sequence[str]], list[NDArray[np.float32]]],
              device: Device) -> None:
    """Raise RunError where one net of several does not give its golden outputs: `<name>.pixels`, `<name>.<output>`."""
    stored = _load(record, (f"{name}.pixels",))
    if stored is None:
        return
    outputs = [key.split(".")[1] for key in stored if key.startswith(f"{name}.") and key != f"{name}.pixels"]
    for output, found in zip(outputs, run(stored[f"{name}.pixels"], outputs), strict=True):
        _compare(record, f"{name} {output}", stored[f"{name}.{output}"], found, device.tolerance)


def _load(record: ModelRecord, needed: Sequence[str]) -> dict[str, NDArray[Any]] | None:
    if record.golden is None:
        return None
    try:
        with np.load(record.golden, allow_pickle=False) as stored:
            arrays = dict(stored)
    except (OSError, ValueError, EOFError) as error:
        raise UsageError(f"{record.path}: golden: expected an npz file, cannot read {record.golden}: {error}") from error
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
