"""Measure the detector and the classifier on this machine's GPU, with the CPU beside it: `make bench-gpu`.

Needs numpy, OpenCV and ONNX Runtime (the GPU build) alone, nothing installed from this repository:

    python tests/benchmarks/bench_gpu.py --device cuda --write

Golden outputs are checked on the device before anything is measured. Weights are found as everywhere: in
LABELSTREAM_MODELS, in the user's cache, or fetched. Exit code 2 where there is no GPU, unless --device cpu.

So far this has run with --device cpu only: its first dated file in results/ from a GPU is the first claim about one.
"""

import argparse
import contextlib
import dataclasses
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # started as a file, from a machine with no install

try:
    import cv2
    import numpy as np
    import onnxruntime as ort
    from numpy.typing import NDArray
except ModuleNotFoundError as error:
    print(f"error: {error}: python -m pip install numpy opencv-python-headless onnxruntime-gpu", file=sys.stderr)
    sys.exit(2)

from schemas.errors import RunError, UsageError
from schemas.records import Faces
from tests.benchmarks import report
from tests.benchmarks.report import ROOT, Table, spread
from transforms.models import graphs, weights
from transforms.models.classifiers import Classifier, load_classifier
from transforms.models.detectors import Detector, load_detector
from transforms.models.prepare import is_scaled
from transforms.models.record import InputContract, load_record
from transforms.models.runtime import DEVICES, Device, Net, resolve_device

SIZES = ((640, 480), (640, 360))
PICTURE_BATCHES = (1, 8, 32, 64)
CROP_BATCHES = (8, 64, 256, 1024)
TOGETHER_PICTURES = 128
MIN_FACE_PX = 20
PACKAGES = ("onnxruntime-gpu", "onnxruntime", "opencv-python-headless", "opencv-python", "numpy")

Pixels = NDArray[np.uint8]


def main() -> int:
    """Read the command line, measure; return the exit code."""
    parser = argparse.ArgumentParser(prog="python tests/benchmarks/bench_gpu.py", description=__doc__.split("\n\n")[0])
    parser.add_argument(
        "--device", default="auto", choices=DEVICES, help="auto: CUDA, and an error where there is none"
    )
    parser.add_argument("--rounds", type=int, default=3, help="turns of each measurement (default 3)")
    parser.add_argument("--seconds", type=float, default=1.0, help="least time of a measurement (default 1)")
    parser.add_argument("--write", action="store_true", help="also write tests/benchmarks/results/<date>-<what>.md")
    options = parser.parse_args()
    near = ROOT.parent / "shared" / "models"
    if near.is_dir():
        os.environ.setdefault("LABELSTREAM_MODELS", str(near))
    try:
        measure(options)
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except RunError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def measure(options: argparse.Namespace) -> None:
    """Check the golden outputs on the device, measure, tell."""
    named = "cuda" if options.device == "auto" else options.device  # a silent CPU would be a wrong figure
    try:
        devices = [resolve_device(named)]
    except UsageError as error:
        why = str(error).split("; use ")[0]
        raise UsageError(f"{why}. This measures a GPU; --device cpu measures the CPU alone") from None
    facts = report.machine()
    if named != "cpu":
        devices.append(resolve_device("cpu"))
    if find_spec("onnx") is None:
        replace_builders()
    cv2.setNumThreads(1)
    with told("golden outputs"):
        for device in devices:
            load_detector("yunet", device)
            load_classifier("expression8", device)
    bench = Bench(devices, options.rounds, options.seconds)
    tables = [*(bench.detectors(*size) for size in SIZES), bench.classifiers(), *(bench.both(*size) for size in SIZES)]
    facts += [
        f"GPU: {gpu()}",
        report.versions(PACKAGES),
        f"ONNX Runtime's providers: {', '.join(ort.get_available_providers())}",
        report.command("tests/benchmarks/bench_gpu.py"),
        f"golden outputs: checked on {' and '.join(device.name for device in devices)} before measuring",
        f"warm-up: one run of each shape; {options.rounds} rounds of {options.seconds:g} s or more, devices in turns",
        "pictures: the golden picture, 192x192 with one face, pasted onto canvases; nothing is read or decoded",
    ]
    report.tell(f"models-{named}", facts, tables, options.write)


class Bench:
    """The measurements on all devices, in turns."""

    def __init__(self, devices: Sequence[Device], rounds: int, seconds: float) -> None:
        self.devices = devices
        self.rounds = rounds
        self.seconds = seconds

    def detectors(self, width: int, height: int) -> Table:
        """Return pictures a second by batch: the net's runs alone, and with the CPU's part before and after it."""
        rows = []
        for batch in PICTURE_BATCHES:
            pictures = [canvas(width, height, number) for number in range(batch)]
            lanes: dict[str, Callable[[], int]] = {}
            for device in self.devices:
                sized = dataclasses.replace(device, pictures=batch)
                lanes[f"{device.name} net"] = self._net_alone(sized, pictures)
                lanes[f"{device.name} detector"] = lanes_of(load_detector("yunet", sized), pictures)
            rows.append((str(batch), *self._turns(lanes)))
        header = ("batch", *(f"{device.name} {part}" for device in self.devices for part in ("net", "detector")))
        notes = ["pictures/s: median (range); one thread; uint8 pixels go over to the device in each run"]
        return Table(f"Detector (yunet) at {width}x{height}", header, rows, notes)

    def classifiers(self) -> Table:
        """Return crops a second by batch."""
        crops = golden_crops()
        rows = []
        for batch in CROP_BATCHES:
            many = np.resize(crops, (batch, *crops.shape[1:]))
            lanes: dict[str, Callable[[], int]] = {}
            for device in self.devices:
                lanes[device.name] = crops_lane(load_classifier("expression8", _with_crops(device, batch)), many)
            rows.append((str(batch), *self._turns(lanes)))
        header = ("batch", *(device.name for device in self.devices))
        return Table("Classifier (expression8)", header, rows, ["crops/s: median (range); one thread"])

    def both(self, width: int, height: int) -> Table:
        """Return pictures a second of detector, crops and classifier together, with each device's own batches."""
        pictures = [canvas(width, height, number) for number in range(TOGETHER_PICTURES)]
        rows = []
        found = 0
        for threads in sorted({1, os.cpu_count() or 1}):
            lanes: dict[str, Callable[[], int]] = {}
            for device in self.devices:
                detector, classifier = load_detector("yunet", device), load_classifier("expression8", device)
                found = sum(label(detector, classifier, pictures))
                # On a CPU the batches change nothing; on a GPU each thread brings as many as a run takes.
                size = min(max(device.pictures, 8), TOGETHER_PICTURES // threads or 1)
                parts = [pictures[at : at + size] for at in range(0, len(pictures), size)]
                lanes[device.name] = together(detector, classifier, parts, threads)
            rows.append((str(threads), *self._turns(lanes)))
        pasted = sum(1 + number % _columns(width) for number in range(TOGETHER_PICTURES))
        batches = "; ".join(f"{each.name}: {each.pictures} pictures, {each.crops} crops a run" for each in self.devices)
        notes = [f"pictures/s: median (range); {batches}", f"{found} faces found of {pasted} pasted"]
        title = f"Detector, crops and classifier together at {width}x{height}"
        return Table(title, ("threads", *(device.name for device in self.devices)), rows, notes)

    def _net_alone(self, device: Device, pictures: Sequence[Pixels]) -> Callable[[], int]:
        record = load_record("yunet")
        path = weights.pull(record)
        graph = graphs.cached("yunet", record, lambda: graphs.yunet(path, record.input))
        net = Net(graph, device, device.pictures)
        height, width = (-(-side // 32) * 32 for side in pictures[0].shape[:2])
        rows = np.zeros((len(pictures), height, width, 3), np.uint8)
        for row, picture in zip(rows, pictures, strict=True):
            row[: picture.shape[0], : picture.shape[1]] = picture[:, :, ::-1]

        def run() -> int:
            net.run(rows, net.outputs)
            return len(rows)

        return run

    def _turns(self, lanes: dict[str, Callable[[], int]]) -> list[str]:
        """Return each lane's rate; the lanes take turns, so that none has the machine's best minute."""
        rates: dict[str, list[float]] = {name: [] for name in lanes}
        for work in lanes.values():
            work()
        for _ in range(self.rounds):
            for name, work in lanes.items():
                rates[name].append(rate(work, self.seconds))
        print({name: f"{statistics.median(values):.0f}/s" for name, values in rates.items()}, file=sys.stderr)
        return [spread(values, 0) for values in rates.values()]


def _with_crops(device: Device, crops: int) -> Device:
    return dataclasses.replace(device, crops=crops)


def rate(work: Callable[[], int], seconds: float) -> float:
    """Return items a second of `work`, which says how many it did, over at least `seconds`."""
    done = 0
    started = time.perf_counter()
    while (took := time.perf_counter() - started) < seconds or not done:
        done += work()
    return done / took


def lanes_of(detector: Detector, pictures: Sequence[Pixels]) -> Callable[[], int]:
    """Return the detector's work on the pictures."""
    return lambda: len(detector.detect(pictures))


def crops_lane(classifier: Classifier, crops: Pixels) -> Callable[[], int]:
    """Return the classifier's work on the crops."""
    return lambda: len(classifier.classify(crops))


def together(
    detector: Detector, classifier: Classifier, parts: Sequence[Sequence[Pixels]], threads: int
) -> Callable[[], int]:
    """Return the whole work on all parts, in as many threads; the nets are shared."""
    pool = ThreadPoolExecutor(threads)

    def run() -> int:
        return sum(len(done) for done in pool.map(lambda part: label(detector, classifier, part), parts))

    return run


def label(detector: Detector, classifier: Classifier, pictures: Sequence[Pixels]) -> list[int]:
    """Return how many faces of each picture were labelled."""
    found: list[Faces] = [faces.at_least(MIN_FACE_PX) for faces in detector.detect(pictures)]
    crops = [classifier.crop(rgb, faces) for rgb, faces in zip(pictures, found, strict=True)]
    classifier.classify(np.concatenate(crops))
    return [len(faces) for faces in found]


def golden(name: str) -> dict[str, NDArray[Any]]:
    """Return the stored golden arrays of a record."""
    record = load_record(name)
    assert record.golden is not None  # the built-in records have one
    with np.load(record.golden, allow_pickle=False) as stored:
        return dict(stored)


def golden_crops() -> Pixels:
    """Return the stored crops of the classifier."""
    return np.asarray(golden("expression8")["crops"], np.uint8)


def canvas(width: int, height: int, number: int) -> Pixels:
    """Return a picture (height, width, 3) RGB with 1 to 3 golden faces, another one for each `number`."""
    face = golden("yunet")["picture"]
    chance = np.random.default_rng(number)
    picture = np.full((height, width, 3), chance.integers(90, 200, 3), np.uint8)
    columns = _columns(width)
    for column in range(1 + number % columns):
        left = column * width // columns + int(chance.integers(0, width // columns - face.shape[1] + 1))
        top = int(chance.integers(0, height - face.shape[0] + 1))
        picture[top : top + face.shape[0], left : left + face.shape[1]] = face
    return picture


def _columns(width: int) -> int:
    return width // int(golden("yunet")["picture"].shape[1])


@contextlib.contextmanager
def told(what: str) -> Iterator[None]:
    """Say how long something took."""
    started = time.perf_counter()
    yield
    print(f"{what}: good, {time.perf_counter() - started:.1f} s", file=sys.stderr)


def gpu() -> str:
    """Return the GPU's name, memory and driver, as its own tool says."""
    words = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    try:
        return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip().replace("\n", "; ")
    except (OSError, subprocess.CalledProcessError):
        return "none seen"


# --- The detector's graph without `onnx` ------------------------------------------------------------------------------
# YuNet's published graph takes float (n, 3, H, W); ours begins with a Cast and a Transpose. Two nodes and one input are
# put into the file as protocol-buffer fields; the golden outputs then say whether it is the right net.

_GRAPH, _NODE, _INPUT = 7, 1, 11
_UINT8, _FLOAT, _INT, _INTS = 2, 1, 2, 7


def replace_builders() -> None:
    """Build the detector's graph here, and keep it out of the user's cache."""
    graphs.cached = lambda name, record, build: build()
    graphs.yunet = yunet_graph


def yunet_graph(path: Path, contract: InputContract) -> bytes:
    """Return the published YuNet with uint8 pixels (n, H, W, 3) as its input, as `graphs.yunet` makes it."""
    if is_scaled(contract):
        raise UsageError("the record scales its pixels: install onnx")
    model = path.read_bytes()
    return b"".join(
        field(number, _graph(body)) if number == _GRAPH and body is not None else raw
        for number, body, raw in fields(model)
    )


def _graph(graph: bytes) -> bytes:
    parts = list(fields(graph))
    old = next(body for number, body, _ in parts if number == _INPUT and body is not None)
    name = next(body for number, body, _ in fields(old) if number == 1 and body is not None)
    cast = _node(b"pixels", b"pixels_float", b"Cast", _attribute(b"to", 3, [_FLOAT], _INT))
    turn = _node(b"pixels_float", name, b"Transpose", _attribute(b"perm", 8, [0, 3, 1, 2], _INTS))
    shape = b"".join(field(1, dim) for dim in (field(2, b"n"), field(2, b"h"), field(2, b"w"), b"\x08\x03"))
    kind = field(1, b"\x08" + bytes([_UINT8]) + field(2, shape))
    pixels = field(_INPUT, field(1, b"pixels") + field(2, kind))
    kept = b"".join(raw for number, _, raw in parts if number != _INPUT)
    return field(_NODE, cast) + field(_NODE, turn) + kept + pixels


def _node(source: bytes, target: bytes, kind: bytes, attribute: bytes) -> bytes:
    return field(1, source) + field(2, target) + field(4, kind) + field(5, attribute)


def _attribute(name: bytes, values_field: int, values: Sequence[int], kind: int) -> bytes:
    told = b"".join(varint(values_field << 3) + varint(value) for value in values)
    return field(1, name) + told + varint(20 << 3) + varint(kind)


def field(number: int, body: bytes) -> bytes:
    """Return a length-delimited field of a protocol buffer."""
    return varint(number << 3 | 2) + varint(len(body)) + body


def varint(value: int) -> bytes:
    """Return a number as protocol buffers write it.

    >>> varint(300).hex()
    'ac02'
    """
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def fields(message: bytes) -> Iterator[tuple[int, bytes | None, bytes]]:
    """Yield each field's number, its body where it is length-delimited, and all its bytes."""
    at = 0
    while at < len(message):
        start = at
        key, at = _read_varint(message, at)
        body = None
        if key & 7 == 2:
            size, at = _read_varint(message, at)
            body = message[at : at + size]
            at += size
        elif key & 7 == 0:
            _, at = _read_varint(message, at)
        else:
            at += 8 if key & 7 == 1 else 4
        yield key >> 3, body, message[start:at]


def _read_varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at


if __name__ == "__main__":
    sys.exit(main())
