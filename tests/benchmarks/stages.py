"""Each step of the flow by its own function, one after the other over the same items, in one thread."""

import hashlib
import itertools
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from pipelines.engine import Engine
from pipelines.flow import wanted_tables
from schemas.records import Clip, ImageRef, PlannedItem, item_key
from schemas.tables import Tables
from schemas.vocabulary import label_order
from tests.benchmarks.contestants import DETECT_SIZE, frames_of
from transforms.align import align
from transforms.batch import Decoded
from transforms.clean import clean_shard
from transforms.decode import CPU_ROOM, reduce_to
from transforms.detect import find_faces
from transforms.infer import classify
from transforms.pictures import MAX_PIXELS, decode, probe
from transforms.rows import batch_rows
from transforms.sampling import ALL
from transforms.storage import read_bytes
from transforms.validate import judge_shard
from transforms.video import kind_of, read_clip
from transforms.video_index import clips, index_of
from transforms.write import write_shard
from validation.terms import annotated

LIBRARY = "decode by the library alone"
STEPS = ("decode", "detect", "align", "infer", "rows", "clean", "validate", "write")

_BATCH = 64


@dataclass
class Lap:
    """Seconds by step of one lap over all items, by the clock and by the processor; `each` by item in order."""

    wall: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    cpu: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    each: dict[str, list[float]] = field(default_factory=dict)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Count the block's time to a step."""
        cpu, wall = time.thread_time(), time.perf_counter()
        yield
        wall, cpu = time.perf_counter() - wall, time.thread_time() - cpu
        self.wall[name] += wall
        self.cpu[name] += cpu
        self.each.setdefault(name, []).append(wall)

    def items(self, name: str, items: Iterable[Any]) -> Generator[Any, None, None]:
        """Yield `items`; count the time that making them takes to a step."""
        making, end = iter(items), object()
        while True:
            with self.step(name):
                item = next(making, end)
            if item is end:
                self.each[name].pop()
                return
            yield item


class Stages:
    """Laps over the same files; `clip` says that these are videos."""

    def __init__(self, engine: Engine, files: Sequence[Path], clip: bool) -> None:
        self.engine = engine
        self.planned = [item for number, path in enumerate(files) for item in _planned(number, path, clip)]
        self.laps: list[Lap] = []
        self.items = self.faces = 0

    def lap(self) -> None:
        """Take all items through all steps, batch by batch as the pipeline does."""
        lap, parts = Lap(), list[Tables]()
        self.items = self.faces = 0
        for batch in _batches(itertools.chain.from_iterable(self._decoded(lap, item) for item in self.planned)):
            found = []
            for picture in batch:
                with lap.step("detect"):
                    found += find_faces(self.engine.detector, [picture], self.engine.min_face)
            aligned = []
            for detected in found:
                with lap.step("align"):
                    aligned.append(align(detected, self.engine.classifier, None, False))
            with lap.step("infer"):
                probabilities = classify(self.engine.classifier, aligned)
            with lap.step("rows"):
                none = [None] * len(aligned)
                parts.append(batch_rows(aligned, probabilities, none, (), self.engine.classifier))
            self.items += len(batch)
            self.faces += sum(len(picture.faces) for picture in aligned)
        self._shard(lap, parts)
        for item in self.planned:
            self._by_library(lap, item)
        self.laps.append(lap)

    def _decoded(self, lap: Lap, item: PlannedItem) -> Iterator[Decoded]:
        if item.clip is not None:
            for frame in lap.items("decode", read_clip(item.ref.uri, item.clip, wanted=ALL, max_pixels=MAX_PIXELS)):
                height, width = frame.rgb.shape[:2]
                yield Decoded(item, frame.moment, item.sha256, width, height, frame.rgb, 1.0)
            return
        with lap.step("decode"):
            data = read_bytes(item.ref.uri, item.ref.size)
            header = probe(data)
            sha256 = hashlib.sha256(data).hexdigest()
            picture = decode(data, reduce_to=reduce_to(DETECT_SIZE), header=header)
            decoded = Decoded(item, None, sha256, picture.width, picture.height, picture.rgb, picture.scale)
        yield decoded

    def _shard(self, lap: Lap, parts: list[Tables]) -> None:
        labels = label_order(tuple(self.engine.classifier.labels))
        with lap.step("clean"):
            shard = clean_shard((0, parts))
        with lap.step("validate"):
            judged = judge_shard(shard, annotated(labels), None)
        with tempfile.TemporaryDirectory(prefix="labelstream-bench-") as root:
            wanted = wanted_tables(crops=False)
            for folder in (*wanted, "_tmp"):
                (Path(root) / folder).mkdir()
            with lap.step("write"):
                write_shard(judged, root, wanted, {"labels": labels})

    @staticmethod
    def _by_library(lap: Lap, item: PlannedItem) -> None:
        """Decode as OpenCV and PyAV do when they are simply asked: the floor."""
        path = Path(item.ref.uri)
        if item.clip is None:
            data = np.fromfile(path, np.uint8)
            with lap.step(LIBRARY):
                cv2.imdecode(data, cv2.IMREAD_COLOR)
        elif item.clip.frames[0] == 0:  # the whole file, once
            for _ in lap.items(LIBRARY, frames_of(path)):
                pass

    def cpu_ms(self, step: str) -> float:
        """Return the processor's milliseconds an item, the median of the laps."""
        return 1000 * statistics.median(lap.cpu[step] for lap in self.laps) / self.items

    def wall_ms(self, step: str) -> list[float]:
        """Return the milliseconds an item of each lap."""
        return [1000 * lap.wall[step] / self.items for lap in self.laps]

    def each_ms(self, step: str) -> list[float]:
        """Return the milliseconds of each item in all laps, of the steps that take one item at a time."""
        return [1000 * seconds for lap in self.laps for seconds in lap.each[step]]


def _batches(pictures: Iterator[Decoded]) -> Iterator[list[Decoded]]:
    """Yield the pictures in batches of at most `_BATCH`, or of as many bytes as a batch of the pipeline has."""
    held: list[Decoded] = []
    for picture in pictures:
        if held and (len(held) == _BATCH or sum(one.rgb.nbytes for one in (*held, picture)) > CPU_ROOM.batch_bytes):
            yield held
            held = []
        held.append(picture)
    if held:
        yield held


def _planned(number: int, path: Path, clip: bool) -> Iterator[PlannedItem]:
    state = path.stat()
    key = item_key(0, path.name, state.st_size, str(state.st_mtime_ns))
    ref = ImageRef(number, key, 0, str(path), path.name, state.st_size, state.st_mtime_ns, 0)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest() if clip else ""
    for each in _clips(path) if clip else [None]:
        yield PlannedItem(ref, sha256, (), None, each)


def _clips(path: Path) -> list[Clip | None]:
    return list(clips(index_of(str(path), kind_of(str(path)), MAX_PIXELS), ALL))
