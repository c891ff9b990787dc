"""The ways to label pictures, frames or crops that are compared, each on all cores."""

import contextlib
import io
import json
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter

from pipelines import annotate
from pipelines.engine import Engine
from tests.benchmarks.inputs import Pixels
from transforms.decode import reduce_to
from transforms.models import weights
from transforms.models.record import load_record
from transforms.pictures import decode

CORES = os.cpu_count() or 1
DETECT_SIZE = 640

Work = Callable[[Sequence[Path]], int]
"""Does all files; returns the faces found."""


@dataclass
class Contestant:
    """One way to do the work, and what it was seen to take; `items` are the pictures or frames of `files`."""

    name: str
    work: Work
    files: Sequence[Path]
    items: int
    rates: list[float] = field(default_factory=list)
    cpu_ms: list[float] = field(default_factory=list)
    busy: list[float] = field(default_factory=list)
    faces: int = 0

    def turn(self) -> None:
        """Do the work once; keep how many items a second it was, and what it cost the processor.

        On a machine that others use too, the processor's own seconds are the steadier figure.
        """
        cpu, started = time.process_time(), time.perf_counter()
        self.faces = self.work(self.files)
        seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
        self.rates.append(self.items / seconds)
        self.cpu_ms.append(1000 * cpu / self.items)
        self.busy.append(cpu / seconds)

    @property
    def rate(self) -> float:
        """Items a second: the median of all turns."""
        return statistics.median(self.rates)


def spread_over_cores(one: Callable[[Path], int], threads: int = CORES) -> Work:
    """Return a contestant's work: `one` for each file, in as many threads as there are cores."""

    def work(files: Sequence[Path]) -> int:
        cv2.setNumThreads(1)
        with ThreadPoolExecutor(threads) as pool:
            return sum(pool.map(one, files))

    return work


class Pipeline:
    """`pipelines.annotate` in this process, each time into a fresh data set; all files are of one folder.

    Where `items` is given, another number is an error.
    """

    def __init__(self, options: Sequence[str], items: int | None = None) -> None:
        self.options = options
        self.items = items

    def __call__(self, files: Sequence[Path]) -> int:
        with tempfile.TemporaryDirectory(prefix="labelstream-bench-") as folder:
            told = run_here(files[0].parent, Path(folder) / "out", self.options)
        if told["outcomes"]["failed"] or self.items not in (None, told["items"]):
            raise SystemExit(f"the pipeline did not label all {self.items} items: {told}")
        return int(told["annotations"])


def run_here(folder: Path, out: Path, options: Sequence[str]) -> dict[str, Any]:
    """Run annotate on a folder; return its summary."""
    named = ["--runner=DirectRunner", "--device=cpu", f"--input={folder}", f"--output={out}", "--no-export"]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        code = annotate.main([*named, *options])
    if code:
        raise SystemExit(f"pipelines.annotate ended with exit code {code}")
    told: dict[str, Any] = json.loads((out / "report" / "summary.json").read_bytes())
    return told


class BareLoop:
    """`Engine` over files; keeps the seconds of each picture or frame, from its bytes to its labels."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.seconds: list[float] = []

    def one(self, path: Path) -> int:
        """Label a picture's file; return its faces."""
        started = time.perf_counter()
        faces = self._faces(picture(path.read_bytes()))
        self.seconds.append(time.perf_counter() - started)
        return faces

    def clip(self, path: Path) -> int:
        """Label each frame of a clip; return their faces."""
        faces = 0
        reformatter, frames = VideoReformatter(), frames_of(path)
        while True:
            started = time.perf_counter()
            frame = next(frames, None)
            if frame is None:
                return faces
            faces += self._faces(to_rgb(reformatter, frame))
            self.seconds.append(time.perf_counter() - started)

    def _faces(self, rgb: Pixels) -> int:
        (labelled,) = self.engine.annotate([rgb])
        return len(labelled.faces)


def picture(data: bytes) -> Pixels:
    """Return a picture's pixels as the pipeline has them."""
    return decode(data, reduce_to=reduce_to(DETECT_SIZE)).rgb


def frames_of(path: Path) -> Iterator[VideoFrame]:
    """Yield a clip's frames as PyAV decodes them in one thread, not yet RGB."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        yield from container.decode(stream)


def to_rgb(reformatter: VideoReformatter, frame: VideoFrame) -> Pixels:
    """Return a frame's pixels as PyAV converts them when it is simply asked."""
    return np.asarray(reformatter.reformat(frame, format="rgb24", threads=1).to_ndarray(), np.uint8)


def decode_one(path: Path) -> int:
    """Read and decode a picture's file; no faces."""
    picture(path.read_bytes())
    return 0


def decode_clip(path: Path) -> int:
    """Read and decode a clip, and bring its frames to RGB; no faces."""
    reformatter = VideoReformatter()
    for frame in frames_of(path):
        to_rgb(reformatter, frame)
    return 0


class OpenCv:
    """`cv2.FaceDetectorYN`, one object a thread, with the pipeline's own weights and threshold."""

    def __init__(self, long_side: int | None) -> None:
        self.long_side = long_side
        self.record = load_record("yunet")
        self.path = str(weights.pull(self.record))
        self.own = threading.local()

    def one(self, path: Path) -> int:
        """Detect the faces of one file; return their number."""
        pixels = np.asarray(cv2.imread(str(path)), np.uint8)
        if self.long_side and max(pixels.shape) > self.long_side:
            scale = self.long_side / max(pixels.shape)
            pixels = np.asarray(cv2.resize(pixels, None, fx=scale, fy=scale), np.uint8)
        size = (pixels.shape[1], pixels.shape[0])
        if not hasattr(self.own, "detector"):
            assert self.record.detection is not None
            limits = (self.record.detection.threshold, self.record.detection.nms)
            self.own.detector = cv2.FaceDetectorYN.create(self.path, "", size, *limits)
        self.own.detector.setInputSize(size)
        _, faces = self.own.detector.detect(pixels)
        return 0 if faces is None else len(faces)
