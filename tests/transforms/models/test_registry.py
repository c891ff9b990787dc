"""One model a process, and a package that loads nothing it does not need."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from transforms.models import registry
from transforms.models.record import ModelRecord
from transforms.models.registry import shared_classifier, shared_detector, shared_landmarker
from transforms.models.runtime import CPU

ROOT = Path(__file__).resolve().parents[3]


def test_threads_that_ask_at_once_get_one_model() -> None:
    """Loaded once; other arguments are another model."""
    found: list[object] = []
    threads = [threading.Thread(target=lambda: found.append(shared_classifier("expression8", CPU))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4 and len({id(each) for each in found}) == 1
    assert shared_classifier("expression8", CPU, tta="flip") is not found[0]
    assert shared_detector("none", CPU) is shared_detector("none", CPU)
    registry._models.clear()


def test_a_landmarker_is_loaded_once(model: Callable[[str], ModelRecord]) -> None:
    """As the others are."""
    model("landmarks68")
    assert shared_landmarker("landmarks68", CPU) is shared_landmarker("landmarks68", CPU)
    registry._models.clear()


def test_the_models_need_neither_beam_nor_what_builds_graphs() -> None:
    """Importing all of it loads numpy, OpenCV and ONNX Runtime, and the default classifier runs with them alone."""
    code = """
import sys
for name in ("onnx", "h5py", "joblib", "lz4", "mtcnn", "apache_beam", "tensorflow", "PIL", "skimage", "pyarrow"):
    sys.modules[name] = None
from transforms.models import classifiers, crops, detectors, landmarks68, pose, quality, registry, runtime
assert classifiers.load_classifier("expression8", runtime.CPU).labels
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_nothing_is_reported_to_the_runtimes_publisher(tmp_path: Path) -> None:
    """ONNX Runtime would make a device id and a queue of events in the user's cache as soon as it is imported."""
    code = """
from transforms.models import classifiers, runtime
classifiers.load_classifier("expression8", runtime.resolve_device("auto"))
"""
    environment = {name: value for name, value in os.environ.items() if name not in ("CI", "ORT_DISABLE_TELEMETRY")}
    environment |= {"XDG_CACHE_HOME": str(tmp_path), "HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert list(tmp_path.iterdir()) == []
