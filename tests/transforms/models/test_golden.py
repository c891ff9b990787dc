"""A contract broken in any way is caught when the model is loaded."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from schemas.errors import RunError, UsageError
from transforms.models import golden, weights
from transforms.models.classifiers import load_classifier
from transforms.models.detectors import load_detector
from transforms.models.landmarks68 import load_landmarker
from transforms.models.record import RECORDS, ModelRecord
from transforms.models.runtime import CPU

Model = Callable[[str], ModelRecord]

# (model, what to replace, by what): each costs points of accuracy and would raise no error by itself.
BROKEN = [
    ("expression8", '"area"', '"linear"'),
    ("expression8", '"area"', '"nearest"'),
    ("expression8", '"area"', '"cubic"'),
    ("expression8", "scale = 1.0", "scale = 1.2"),
    ("expression8", "scale = 1.0", "scale = 1.02"),
    ("expression8", "size = 48", "size = 48\nscale = 0.0039"),
    ("expression8", "size = 48", "size = 48\nmean = [127.5]"),
    ("expression8", "size = 48", "size = 48\nstd = [2]"),
    ("expression8", '["neutral", "happy"', '["happy", "neutral"'),
    ("expression8", '"fear", "contempt"', '"contempt", "fear"'),
    ("expression8", '"contempt"]', '"scorn"]'),
    (
        "expression8",
        'kind = "square"',
        'kind = "similarity"\ntemplate = [0.3, 0.4, 0.7, 0.4, 0.5, 0.6, 0.35, 0.8, 0.65, 0.8]',
    ),
    ("mini-xception", '"linear"', '"area"'),
    ("mini-xception", '"linear"', '"cubic"'),
    ("mini-xception", "mean = [1.0]", "mean = [0.0]"),
    ("mini-xception", "scale = 0.0078", "scale = 0.0039"),
    ("mini-xception", '"disgust", "fear"', '"fear", "disgust"'),
    ("big-xception-54", '"linear"', '"area"'),
    ("big-xception-54", "mean = [1.0]", "mean = [0.0]"),
    ("big-xception-54", '"sad", "surprise"', '"surprise", "sad"'),
    ("landmarks68", '"rgb"', '"bgr"'),
    ("landmarks68", "scale = 0.0039", "scale = 0.0078"),
    ("landmarks68", "mean = [0.481498039215686, 0.458827450980392, 0.409011764705882]", "mean = [0.5]"),
    ("landmarks68", "mean = [0.481498039215686, 0.458827450980392", "mean = [0.458827450980392, 0.481498039215686"),
    ("landmarks68", '"NHWC"', '"NHWC"\nstd = [1.1]'),
    ("landmarks68", '"linear"', '"cubic"'),
    ("landmarks68", '"linear"', '"nearest"'),
    ("landmarks68", "0.356, 0.660", "0.366, 0.660"),
    ("landmarks68", "scale = 1.1", "scale = 1.0"),
    (
        "landmarks68",
        'kind = "similarity"\nscale = 1.1 # where a face has no landmarks\ntemplate',
        'kind = "square"\nscale = 1.1\n#',
    ),
    ("yunet", '"bgr"', '"rgb"'),
    ("yunet", "threshold = 0.6", "threshold = 0.99"),
    ("mtcnn", '"rgb"', '"bgr"'),
    ("mtcnn", "mean = [0.99609375]", "mean = [0.0]"),
    ("mtcnn", "scale = 0.0078125", "scale = 0.00392"),
]


def own(record: ModelRecord, folder: Path, old: str = "", new: str = "") -> Path:
    """Copy the record into `folder` with its weights and golden data, and `old` replaced by `new`."""
    text = record.path.read_text()
    assert old in text
    found = weights.find(record)
    if found.is_file():
        shutil.copy(found, folder)
    assert record.golden is not None
    shutil.copy(record.golden, folder)
    path = folder / record.path.name
    path.write_text(text.replace(old, new, 1))
    return path


def load(path: Path, kind: str) -> None:
    if kind == "detector":
        load_detector(path, CPU)
    elif kind == "landmarks":
        load_landmarker(path, CPU)
    else:
        load_classifier(path, CPU)


@pytest.mark.parametrize(("name", "old", "new"), BROKEN)
def test_a_broken_contract_is_caught(name: str, old: str, new: str, model: Model, tmp_path: Path) -> None:
    """Colour, interpolation, scale, crop, label order: each is found, and the record is named."""
    record = model(name)
    with pytest.raises(RunError, match=f"model '{name}' does not give its golden outputs: expected .*, got"):
        load(own(record, tmp_path, old, new), record.kind)


@pytest.mark.parametrize(
    "name", ["expression8", "mini-xception", "mini-xception-107", "big-xception-54", "yunet", "mtcnn", "landmarks68"]
)
def test_an_unbroken_copy_passes(name: str, model: Model, tmp_path: Path) -> None:
    """A record works from any folder."""
    record = model(name)
    load(own(record, tmp_path), record.kind)


def test_other_weights_are_never_loaded(model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four bytes of the file differ: the sha256 tells."""
    monkeypatch.setenv("LABELSTREAM_MODELS", str(tmp_path))
    path = own(model("expression8"), tmp_path)
    with (tmp_path / "expression8_v1.onnx").open("r+b") as stream:
        stream.seek(1_000_000)
        stream.write(b"\0\0\0\0")
    with pytest.raises(UsageError, match="another file: its sha256 is"):
        load_classifier(path, CPU)


def test_a_colour_picture_taken_for_bgr_is_caught(model: Model) -> None:
    """The golden crops tell RGB from BGR also for a gray net."""
    record = model("expression8")
    stored = golden._load(record, ())
    assert stored is not None
    golden._check_crops(record, stored)
    with pytest.raises(RunError, match="gray values on average"):
        golden._check_crops(record, {**stored, "picture": np.ascontiguousarray(stored["picture"][..., ::-1])})


def test_golden_data_that_cannot_be_read_is_named(model: Model, tmp_path: Path) -> None:
    """Missing, not an npz, or without an array."""
    path = own(model("expression8"), tmp_path)
    file = tmp_path / "expression8.npz"
    with np.load(RECORDS / "expression8.npz") as stored:
        np.savez(file, **{name: stored[name] for name in stored if name != "crops"})
    with pytest.raises(UsageError, match="expected an array 'crops'"):
        load_classifier(path, CPU)
    file.write_bytes(b"x")
    with pytest.raises(UsageError, match="expected an npz file"):
        load_classifier(path, CPU)
    file.unlink()
    with pytest.raises(UsageError, match="golden: expected an npz file"):
        load_classifier(path, CPU)
