"""One model a process, however many threads ask for it."""

import threading
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any

from transforms.models import weights
from transforms.models.classifiers import Classifier, load_classifier
from transforms.models.detectors import Detector, load_detector
from transforms.models.landmarks68 import Landmarker, load_landmarker
from transforms.models.record import load_record
from transforms.models.runtime import Device

_lock = threading.Lock()
# Strong references: a model that went away with its last user would be loaded again for each bundle of work.
_models: dict[Hashable, Any] = {}


def shared_detector(
    name_or_path: str | Path,
    device: Device,
    *,
    detect_size: int | None = 640,
    threshold: float | None = None,
    second_look: bool = True,
) -> Detector:
    """Return `load_detector` of the same arguments, loaded once."""
    key = ("detector", str(name_or_path), device, detect_size, threshold, second_look)
    load = lambda: load_detector(  # noqa: E731 # two lines below it is used, once
        name_or_path, device, detect_size=detect_size, threshold=threshold, second_look=second_look
    )
    detector: Detector = _once(key, load)
    return detector


def shared_classifier(name_or_path: str | Path, device: Device, *, tta: str = "none") -> Classifier:
    """Return `load_classifier` of the same arguments, loaded once."""
    key = ("classifier", str(name_or_path), device, tta)
    classifier: Classifier = _once(key, lambda: load_classifier(name_or_path, device, tta=tta))
    return classifier


def shared_landmarker(name_or_path: str | Path, device: Device) -> Landmarker:
    """Return `load_landmarker` of the same arguments, loaded once."""
    landmarker: Landmarker = _once(
        ("landmarks", str(name_or_path), device), lambda: load_landmarker(name_or_path, device)
    )
    return landmarker


def _once(key: Hashable, load: Callable[[], Any]) -> Any:
    # One lock for all: two threads that load two models at once would share the same cores anyway.
    with _lock:
        if key not in _models:
            _models[key] = load()
        return _models[key]


def default_detector() -> str:
    """Return "yunet", or "mtcnn" where yunet's weights are not on this machine and cannot be fetched."""
    try:
        weights.pull(load_record("yunet"))
    except weights.WeightsMissing:
        return "mtcnn"
    return "yunet"
